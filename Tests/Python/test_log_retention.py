"""Old predictions are let go when a setting says so, nobody still reads them, and whoever asks is told."""

from __future__ import annotations

import datetime
import pathlib
import shutil
import time
from typing import Any

from bad_input import PREDICT
from conftest import Server

DAY = datetime.timedelta(days=1)


def collected(server: Server, **body: Any) -> dict[str, dict[str, Any]]:
    """What `bottega gc` says of the log's topics."""
    result = server.post("/api/v1/gc", body)
    return {entry["topic"]: entry for entry in result["log"]}


def predicted(server: Server, count: int) -> list[str]:
    answer = server.post("/predict/loss", {"instances": [PREDICT] * count})
    return [entry["prediction_id"] for entry in answer["predictions"]]


def advance(server: Server, span: datetime.timedelta) -> None:
    now = datetime.datetime.fromisoformat(server.get("/api/v1/status")["now"])
    server.post("/api/v1/clock", {"now": int((now + span).timestamp() * 1000)})


def test_old_predictions_go_once_nobody_needs_them(trained: Server, tmp_path: pathlib.Path) -> None:
    trained.wait_idle()
    data = tmp_path / "data"
    shutil.copytree(trained.data_dir, data)
    arguments = ("--clock", "manual", "--set", "predictions.retention=2d", "--set", "tables.interval=0")
    server = Server(data, *arguments, "--set", "monitor.enabled=false").start()
    try:
        old = predicted(server, 20)
        advance(server, 3 * DAY)
        new = predicted(server, 20)
        while server.get("/api/v1/status")["pending_predictions"] > 0:
            time.sleep(0.05)
        end = collected(server)["predictions"]["end"]  # also closes the file that old and new ones share
        advance(server, 3 * DAY)
        newest = predicted(server, 1)
        while server.get("/api/v1/status")["predictions"] <= end:
            time.sleep(0.05)
        said = collected(server, dry_run=True)["predictions"]
        assert said["retention"] == "2d" and said["records"] == 0 and said["start"] == 0
        assert len(said["held_by"]) == 1 and said["held_by"][0].startswith("monitor, which is at ")
        assert "monitor, which is at" in server.cli("gc").stdout
        assert server.get(f"/predictions/{old[0]}/why")["prediction_id"]
        server.stop()

        # With a monitor that catches up.
        server = Server(data, *arguments).start()
        deadline = time.monotonic() + 60
        while (said := collected(server, dry_run=True)["predictions"])["records"] == 0:
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
        assert said["records"] == end and said["held_by"] == []
        done = collected(server)["predictions"]
        assert (done["start"], done["records"], done["dropped_records"]) == (end, end, end)
        for gone in (old[0], new[0]):
            status, answer = server.request("GET", f"/predictions/{gone}/why")
            text = answer["error"]["message"]
            assert status == 404 and "were let go at" in text and "'predictions.retention: 2d'" in text
        server.kill()

        server.start()
        assert server.get(f"/predictions/{newest[0]}/why")["prediction_id"]
        answer = server.request("GET", f"/predictions/{old[0]}/why")[1]
        assert "were let go at" in answer["error"]["message"]
        assert collected(server, dry_run=True)["predictions"]["start"] == end
        [entry] = server.get("/api/v1/audit?subject=topic/predictions")["entries"]
        assert entry["action"] == "log.retained" and entry["after"]["records"] == end
    finally:
        server.kill()
