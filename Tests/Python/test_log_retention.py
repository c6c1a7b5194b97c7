"""Old predictions are let go when a setting says so, nobody still reads them, and whoever asks is told."""

from __future__ import annotations

import datetime
import json
import pathlib
import shutil
from typing import Any

from bad_input import PREDICT
from conftest import Server, until

DAY = datetime.timedelta(days=1)


def collected(server: Server, **body: Any) -> dict[str, dict[str, Any]]:
    """What `bottega gc` says of the log's topics."""
    result = server.post("/api/v1/gc", body)
    return {entry["topic"]: entry for entry in result["log"]}


def predicted(server: Server, count: int) -> list[str]:
    answer = server.post("/predict/loss", {"instances": [PREDICT] * count})
    return [entry["prediction_id"] for entry in answer["predictions"]]


RETAINING = ("--clock", "manual", "--set", "predictions.retention=2d", "--set", "tables.interval=0")


def advance(server: Server, span: datetime.timedelta) -> None:
    now = datetime.datetime.fromisoformat(server.get("/api/v1/status")["now"])
    server.post("/api/v1/clock", {"now": int((now + span).timestamp() * 1000)})


def begun(trained: Server, data: pathlib.Path, *more: str) -> Server:
    """A server on a copy of what was trained, that keeps predictions for two days."""
    trained.wait_idle()
    shutil.copytree(trained.data_dir, data)
    return Server(data, *RETAINING, *more).start()


def test_old_predictions_go_once_nobody_needs_them(trained: Server, tmp_path: pathlib.Path) -> None:
    server = begun(trained, tmp_path / "data", "--set", "monitor.enabled=false")
    try:
        old = predicted(server, 20)
        advance(server, 3 * DAY)
        new = predicted(server, 20)
        until(lambda: server.get("/api/v1/status")["pending_predictions"] == 0)
        end = collected(server)["predictions"]["end"]  # also closes the file that old and new ones share
        advance(server, 3 * DAY)
        newest = predicted(server, 1)
        until(lambda: server.get("/api/v1/status")["predictions"] > end)
        said = collected(server, dry_run=True)["predictions"]
        assert said["retention"] == "2d" and said["records"] == 0 and said["start"] == 0
        assert len(said["held_by"]) == 1 and said["held_by"][0].startswith("monitor, which is at ")
        assert "monitor, which is at" in server.cli("gc").stdout
        assert server.get(f"/predictions/{old[0]}/why")["prediction_id"]
        server.stop()

        # With a monitor that catches up.
        server = Server(server.data_dir, *RETAINING).start()
        until(lambda: collected(server, dry_run=True)["predictions"]["records"] > 0)
        said = collected(server, dry_run=True)["predictions"]
        assert said["records"] == end and said["held_by"] == []
        done = collected(server)["predictions"]
        assert (done["start"], done["records"], done["dropped_records"]) == (end, end, end)
        for gone in (old[0], new[0]):
            status, answer = server.request("GET", f"/predictions/{gone}/why")
            text = answer["error"]["message"]
            assert status == 404 and "were let go at" in text and "'predictions.retention: 2d'" in text
        job = json.loads(server.cli("train", "loss", "--dataset", trained.dataset, "--seed", "3", "--json").stdout)
        server.cli("model", "register", "loss", "--job", job["id"])
        replay = ("shadow", "replay", "loss", "--version", "2", "--days")
        said_text = server.cli(*replay, "30", check=False).stdout
        assert "no records before " in said_text and "under 'predictions.retention: 2d'" in said_text, said_text
        report = server.get("/api/v1/models/loss/versions/2/shadow-replays")["replays"][-1]
        assert report["from"] < report["records_from"] <= report["to"]
        assert "no records before" in server.request("GET", f"/shadow-replays/{report['id']}")[1]
        assert "no records before" not in server.cli(*replay, "0.001", check=False).stdout
        server.kill()

        server.start()
        assert server.get(f"/predictions/{newest[0]}/why")["prediction_id"]
        answer = server.request("GET", f"/predictions/{old[0]}/why")[1]
        assert "were let go at" in answer["error"]["message"]
        assert collected(server, dry_run=True)["predictions"]["start"] == end
        # A topic that cannot be looked at is said to be so, and stops no other.
        (server.data_dir / "log" / "labels" / "consumers").mkdir(exist_ok=True)
        (server.data_dir / "log" / "labels" / "consumers" / "broken.0").write_bytes(b"no position")
        topics = collected(server, dry_run=True)
        assert "broken" in topics["labels"]["error"] and topics["predictions"]["start"] == end
        assert topics["labels"].get("start") is None and topics["labels"].get("records") is None, "nobody knows"
        assert "not looked at" in server.cli("gc", "--dry-run").stdout
        [entry] = server.get("/api/v1/audit?subject=topic/predictions")["entries"]
        assert entry["action"] == "log.retained" and entry["after"]["records"] == end
    finally:
        server.kill()


def test_damaged_old_records_stop_no_replay_of_newer_ones(trained: Server, tmp_path: pathlib.Path) -> None:
    server = begun(trained, tmp_path / "data", "--set", "monitor.enabled=false")
    try:
        predicted(server, 20)
        advance(server, 3 * DAY)
        until(lambda: server.get("/api/v1/status")["pending_predictions"] == 0)
        end = collected(server)["predictions"]["end"]  # new ones begin a file
        advance(server, 3 * DAY)
        predicted(server, 20)
        until(lambda: server.get("/api/v1/status")["predictions"] >= end + 20)
        assert server.stop() == 0
        oldest, *others = sorted((server.data_dir / "log" / "predictions" / "0").glob("*.log"))
        assert others
        content = bytearray(oldest.read_bytes())
        content[120] ^= 0xFF
        oldest.write_bytes(content)
        server.start()
        # They were read: all that stands against a replay is who answered.
        said = server.cli("shadow", "replay", "loss", "--version", "1", "--days", "0.01", check=False)
        assert "none of 20 predictions" in said.stderr and "answered by the version itself" in said.stderr, said.stderr
    finally:
        server.kill()
