"""Servers that cannot start, stores that are spoiled, addresses that need a token, a full disk."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import stat
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
import shop
from bad_input import EVENT, PREDICT, assert_one_line, refused, refuses
from conftest import ROOT, Server


def up(binary: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binary, "up", *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_a_second_server_on_the_directory_is_refused(server: Server, binary: str) -> None:
    assert server.process is not None
    result = up(binary, "--data-dir", str(server.data_dir), "--port", "0")
    refuses(result, 1, str(server.data_dir), str(server.process.pid), "--data-dir")
    assert server.get("/api/v1/status")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["models"], "there is no command 'bottega models'; did you mean 'bottega model'?"),
        (["model", "lst"], "there is no command 'bottega model lst'; did you mean 'bottega model list'?"),
        (["gate"], "there is no command 'bottega gate'; did you mean 'bottega model gates'?"),
        (["promote"], "there is no command 'bottega promote'; did you mean 'bottega model promote'?"),
        (["deployments"], "there is no command 'bottega deployments'; did you mean 'bottega deploy'?"),
        (
            ["predictions"],
            "there is no command 'bottega predictions'; did you mean 'bottega predict' or 'bottega prediction-jobs'?",
        ),
        (
            ["explain"],
            "there is no command 'bottega explain'; did you mean 'bottega why ID --explain' or "
            "'bottega predict MODEL --explain' or 'bottega rollout explain MODEL'?",
        ),
        (
            ["experiments"],
            "there is no command 'bottega experiments'; did you mean 'bottega run list --experiment NAME'?",
        ),
        (["frobnicate"], "there is no command 'bottega frobnicate'; 'bottega --help' lists them"),
    ],
)
def test_a_command_that_there_is_not_is_named(binary: str, words: list[str], said: str) -> None:
    done = subprocess.run([binary, *words], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"bottega: {said}\n")


def test_a_port_in_use_is_named(server: Server, binary: str, tmp_path: pathlib.Path) -> None:
    port = server.url.rsplit(":", 1)[1]
    refuses(up(binary, "--data-dir", str(tmp_path / "other"), "--port", port), 1, port, "in use", "--port")


@pytest.mark.parametrize(
    ("arguments", "environment", "file", "words"),
    [
        ([], {}, "gatewy:\n  port: 1\n", ["config.yaml:1", "gatewy", "did you mean 'gateway'"]),
        ([], {}, "gateway:\n  prt: 1\n", ["config.yaml:2", "prt", "did you mean 'gateway.port'"]),
        ([], {}, "gateway: {port: many}\n", ["gateway.port", "many"]),
        ([], {}, "gateway: {port: 70000}\n", ["gateway.port", "65535"]),
        ([], {}, "gateway: [\n", ["config.yaml", "YAML"]),
        ([], {}, "- a\n", ["config.yaml:1"]),
        ([], {"BOTTEGA_GATEWAY_PORT": "many"}, None, ["gateway.port", "many"]),
        (["--clock", "sundial"], {}, None, ["clock.mode", "sundial"]),
        (["--log-level", "loud"], {}, None, ["log.level", "loud"]),
        (["--set", "gateway.prt=1"], {}, None, ["gateway.prt", "did you mean 'gateway.port'"]),
        (["--set", "jobs.slots=0"], {}, None, ["jobs.slots"]),
        (["--roles", "half"], {}, None, ["--roles"]),
        (["--set", "gateway.token=short"], {}, None, ["gateway.token", "16"]),
    ],
)
def test_a_wrong_configuration_stops_the_start(
    arguments: list[str], environment: dict[str, str], file: str | None, words: list[str], binary: str,
    tmp_path: pathlib.Path,
) -> None:  # fmt: skip
    if file is not None:
        (tmp_path / "config.yaml").write_text(file)
        arguments = [*arguments, "--config", str(tmp_path / "config.yaml")]
    data = tmp_path / "data"
    port = [] if any("port" in word for word in words) else ["--port", "0"]
    refuses(up(binary, "--data-dir", str(data), *port, *arguments, **environment), 2, *words)


def test_an_address_that_is_not_ours_is_named(binary: str, tmp_path: pathlib.Path) -> None:
    for host, code, word in (("nobody.invalid", 2, "--host"), ("192.0.2.1", 1, "cannot listen")):
        result = up(binary, "--data-dir", str(tmp_path / host), "--port", "0", "--host", host)
        assert result.returncode == code, result
        assert_one_line(result.stderr.splitlines()[-1], host, word)  # the line before says where the token is


def test_a_directory_that_cannot_be_used(binary: str, tmp_path: pathlib.Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    refuses(up(binary, "--data-dir", str(blocked / "data"), "--port", "0"), 1, str(blocked))
    refuses(up(binary, "--data-dir", "/proc/none", "--port", "0"), 1, "/proc/none")
    missing = str(tmp_path / "no.yaml")
    refuses(up(binary, "--data-dir", str(tmp_path / "d"), "--port", "0", "--config", missing), 2, "no.yaml")


def test_stores_that_were_spoiled_are_named(start_server: Callable[..., Server], binary: str) -> None:
    server = start_server()
    server.stop()
    database = server.data_dir / "metadata.sqlite"
    content = database.read_bytes()
    for extra in server.data_dir.glob("metadata.sqlite-*"):
        extra.unlink()
    database.write_bytes(b"this is no database, but long enough to be looked at" * 100)
    refuses(up(binary, "--data-dir", str(server.data_dir), "--port", "0"), 1, "metadata.sqlite")
    database.write_bytes(content)
    server.start()


# Who may speak


def test_another_address_needs_a_token(start_server: Callable[..., Server]) -> None:
    server = start_server("--host", "0.0.0.0")
    port = server.url.rsplit(":", 1)[1]
    server.url = f"http://127.0.0.1:{port}"
    refused(server.request("GET", "/api/v1/status"), 401, "token")
    refused(server.request("POST", "/predict/loss", PREDICT), 401, "token")
    status, answer = server.request("GET", "/api/2.0/mlflow/experiments/search")
    assert (status, answer["error_code"]) == (401, "UNAUTHENTICATED") and "token" in answer["message"]
    refused(server.request("GET", "/metrics"), 401, "token")
    assert server.request("GET", "/livez")[0] == 200
    [path] = server.data_dir.glob("admin-token")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert str(path) in server.log_path.read_text(), "the first start says where the token is"
    token = path.read_text().strip()
    assert len(token) >= 32 and token not in server.log_path.read_text()
    with_token = {"Authorization": f"Bearer {token}"}
    assert server.request("GET", "/api/v1/status", headers=with_token)[0] == 200
    assert server.request("GET", "/api/v1/status", headers={"Authorization": f"Bearer {token}x"})[0] == 401
    # A browser asks for a name and the token, and a page of another site has it change nothing.
    for accepted, challenge in (("text/html,*/*;q=0.8", 'Basic realm="bottega", charset="UTF-8"'), ("*/*", None)):
        wanted = urllib.request.Request(server.url + "/rollouts", headers={"Accept": accepted})
        with pytest.raises(urllib.error.HTTPError) as asked:
            urllib.request.urlopen(wanted, timeout=60)
        assert (asked.value.code, asked.value.headers["WWW-Authenticate"]) == (401, challenge)
        asked.value.close()
    signed_in = {"Authorization": "Basic " + base64.b64encode(f"ada:{token}".encode()).decode()}
    status, page = server.request("GET", "/rollouts", headers=signed_in)
    assert status == 200 and "<h1>Rollouts</h1>" in page
    change = ("POST", "/api/v1/gc", {"dry_run": True})
    elsewhere = {**signed_in, "Origin": "http://evil.example"}
    refused(server.request(*change, headers=elsewhere), 403, "another site")
    refused(server.request("POST", "/predict/loss", PREDICT, headers=elsewhere), 403, "another site")
    assert server.request(*change, headers={**signed_in, "Origin": server.url})[0] < 300
    assert server.request("POST", "/predict/loss", PREDICT, headers={**signed_in, "Origin": server.url})[0] == 404
    assert server.cli("status", check=False).returncode == 2
    server.environment["BOTTEGA_TOKEN"] = token
    assert server.cli("status").returncode == 0
    server.stop()
    server.start()
    server.url = f"http://127.0.0.1:{server.url.rsplit(':', 1)[1]}"
    assert server.request("GET", "/api/v1/status", headers=with_token)[0] == 200, "the token stays the same"


def test_training_works_where_a_token_is_needed(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    token = "a-token-of-the-operator"
    server = start_server("--host", "0.0.0.0", "--clock", "manual", environment={"BOTTEGA_GATEWAY_TOKEN": token})
    server.environment["BOTTEGA_TOKEN"] = token
    server.url = f"http://127.0.0.1:{server.url.rsplit(':', 1)[1]}"
    script = "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('reached', 1)\n"
    folder = shop.write_definitions(tmp_path / "definitions", timeout="30s", train=script)
    server.cli("apply", str(folder))
    rows = shop.history(5, orders_per_day=30)
    with_token = {"Authorization": f"Bearer {token}"}
    server.post("/api/v1/clock", {"now": shop.START + 6 * shop.DAY}, headers=with_token)
    for name in ("payments", "orders", "outcomes"):
        server.cli("ingest", name, str(shop.write_csv(tmp_path / f"{name}.csv", getattr(rows, name))))
    span = ["--from", shop.text(shop.START), "--to", shop.text(shop.START + 5 * shop.DAY)]
    dataset = json.loads(server.cli("dataset", "build", "loss", *span, "--json").stdout)["dataset"]
    job = json.loads(server.cli("train", "loss", "--dataset", dataset, "--json").stdout)
    _, run = server.request("GET", f"/api/2.0/mlflow/runs/get?run_id={job['run_id']}", headers=with_token)
    own = [metric["key"] for metric in run["run"]["data"]["metrics"] if not metric["key"].startswith("system/")]
    assert own == ["reached"]


def test_a_full_disk_refuses_and_recovers(tmp_path: pathlib.Path, binary: str) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(mount)], capture_output=True, text=True
    )
    if made.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {made.stderr.strip()}")
    server = Server(mount / "data")
    server.log_path = tmp_path / "server.log"
    try:
        server.start()
        server.cli("apply", str(shop.write_definitions(tmp_path / "definitions")))

        def push(start: int, count: int = 2000) -> tuple[int, Any]:
            rows = [EVENT | {"payment": f"disk{n}", "customer": "x" * 200} for n in range(start, start + count)]
            return server.request("POST", "/sources/payments/events", rows)

        acknowledged = 0
        filler = mount / "filler"
        status, answer = push(0)
        assert status == 200
        acknowledged += 2000
        free = os.statvfs(mount)
        with filler.open("wb") as file:
            file.write(bytes(max(0, free.f_bavail * free.f_frsize - (3 << 20))))
        for attempt in range(1, 40):
            status, answer = push(attempt * 10_000)
            if status != 200:
                break
            acknowledged += answer["accepted"]
        line = refused((status, answer), 503)
        assert "space" in line.lower() or "full" in line.lower(), line
        assert server.request("GET", "/livez")[0] == 200
        assert server.request("GET", "/api/v1/sources")[0] == 200
        filler.unlink()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            status, answer = push(9_000_000)
            if status == 200:
                break
            time.sleep(0.3)
        assert status == 200, answer
        acknowledged += answer["accepted"]
        server.kill()
        server.start()
        [source] = [s for s in server.get("/api/v1/sources")["sources"] if s["name"] == "payments"]
        assert source["rows"] >= acknowledged, "nothing acknowledged is lost"
        assert server.stop() == 0
    finally:
        if server.process is not None:
            server.kill()
        subprocess.run(["umount", "-l", str(mount)], check=False)


@pytest.mark.parametrize("content", [b"", b"\n", b"short"])
def test_a_kept_token_that_keeps_nobody_out_stops_the_start(
    content: bytes, binary: str, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "admin-token").write_bytes(content)
    result = up(binary, "--data-dir", str(tmp_path / "data"), "--port", "0", "--host", "0.0.0.0")
    refuses(result, 1, "admin-token", "16 characters", "remove it", "gateway.token")
