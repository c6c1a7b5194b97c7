"""What an operator sees: health, metrics, commands that a script can read, and the monitor as a process of its own."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable

import mlflow
import pytest
import shop
from conftest import ROOT, Server

COMMANDS = [
    "up", "plan", "apply", "ingest", "dataset", "dataset build", "train", "model", "model register", "model promote",
    "model list", "model show", "model card", "deploy", "rollback", "predict", "label", "why", "replay", "monitor",
    "status", "doctor",
]  # fmt: skip


def test_health_says_yes(server: Server) -> None:
    assert server.request("GET", "/livez") == (200, "ok\n")
    assert server.request("GET", "/readyz") == (200, "ok\n")
    status = server.get("/api/v1/status")
    assert status["clock"] == "system" and status["now"].endswith("Z")


def test_metrics_are_clean(server: Server, tmp_path: pathlib.Path) -> None:
    server.cli("apply", str(shop.write_definitions(tmp_path / "definitions")))
    server.post("/sources/payments/events", {"payment": "m1", "paid_at": 1, "amount": 1})
    server.request("POST", "/predict/none", {})
    status, text = server.request("GET", "/metrics")
    assert status == 200 and "# TYPE" in text
    names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(names) == len(set(names)) and all(name.startswith("bottega_") for name in names)
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
    assert checked.returncode == 0 and checked.stderr == "", checked.stderr


def test_it_is_ready_soon_and_small(start_server: Callable[..., Server], capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    server = start_server(name="fresh")
    seconds = time.monotonic() - began
    assert server.process is not None
    memory = server.resident_mib()
    began = time.monotonic()
    assert server.stop() == 0
    stopped = time.monotonic() - began
    began = time.monotonic()
    server.start()
    again = time.monotonic() - began
    with capsys.disabled():
        print(
            f"\nready after {seconds * 1000:.0f} ms on an empty directory, {again * 1000:.0f} ms on a known one; "
            f"{memory:.0f} MB; stopped after {stopped * 1000:.0f} ms"
        )
    assert seconds < 20 and stopped < 10


def test_only_the_ready_line_is_on_standard_output(binary: str, tmp_path: pathlib.Path) -> None:
    process = subprocess.Popen(
        [binary, "up", "--data-dir", str(tmp_path / "d"), "--port", "0"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert re.fullmatch(r"ready http://127\.0\.0\.1:\d+\n", line)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=30)
    assert (process.returncode, rest, errors) == (0, "", "")


def test_every_command_helps(binary: str) -> None:
    for command in COMMANDS:
        shown = subprocess.run([binary, *command.split(), "--help"], capture_output=True, text=True)
        assert shown.returncode == 0 and "USAGE" in shown.stdout, command
        assert "OVERVIEW" in shown.stdout, f"'{command}' says what it is for"
    whole = subprocess.run([binary, "--help"], capture_output=True, text=True).stdout
    for command in COMMANDS:
        assert re.search(rf"^  {command.split()[0]}[ ,]", whole, re.MULTILINE), command
    assert "Exit codes" in whole
    version = subprocess.run([binary, "--version"], capture_output=True, text=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", version.stdout) and version.returncode == 0


def test_commands_answer_scripts_in_json(server: Server, tmp_path: pathlib.Path) -> None:
    folder = str(shop.write_definitions(tmp_path / "definitions"))
    rows = shop.write_csv(tmp_path / "orders.csv", shop.history(1, orders_per_day=3).orders)
    for arguments in (
        ["plan", folder], ["apply", folder], ["ingest", "orders", str(rows)], ["model", "list"], ["monitor", "loss"],
        ["status"],
    ):  # fmt: skip
        result = server.cli(*arguments, "--json")
        assert isinstance(json.loads(result.stdout), dict), arguments
        assert result.stderr == "", arguments
        told = server.cli(*arguments)
        assert told.stdout.strip() and not told.stdout.lstrip().startswith("{"), arguments
    refused = server.cli("model", "show", "loss", "5", "--json", check=False)
    assert refused.returncode == 4 and json.loads(refused.stdout)["error"]["code"] == "not_found"


KINDS = """
---
kind: FeatureService
name: price
request: [{name: price, type: number}]
views: [{view: paid, features: [mean_24h]}]
---
kind: TrainingSet
name: amount
service: price
spine: orders
label: {name: amount, source: outcomes, join: [order], column: loss, horizon: 12h}
---
kind: TrainingSet
name: lost
service: price
spine: orders
label: {name: lost, source: outcomes, join: [order], column: loss, greater_than: 10, horizon: 12h}
---
kind: Model
name: amount
service: price
training_set: amount
training: {command: [nothing]}
---
kind: Model
name: lost
service: price
training_set: lost
training: {command: [nothing]}
"""


def test_the_list_of_models_shows_what_each_kind_is_measured_by(
    start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    server = start_server("--clock", "manual")
    assert server.cli("model", "list").stdout == "no versions yet\n"
    (tmp_path / "definitions").mkdir()
    (tmp_path / "definitions" / "all.yaml").write_text(shop.DATA + KINDS)
    server.cli("apply", str(tmp_path / "definitions"))
    server.post("/api/v1/clock", {"now": shop.START + 12 * shop.DAY})
    rows = shop.history(12)
    for name in ("payments", "orders", "outcomes"):
        server.cli("ingest", name, str(shop.write_csv(tmp_path / f"{name}.csv", getattr(rows, name))))
    span = ["--from", shop.text(shop.START + 2 * shop.DAY), "--to", shop.text(shop.START + 11 * shop.DAY)]
    mlflow.set_tracking_uri(server.url)
    mlflow.set_experiment("kinds")
    metrics = {}
    for model, link in [("amount", "identity"), ("lost", "logistic")]:
        dataset = json.loads(server.cli("dataset", "build", model, *span, "--json").stdout)["dataset"]
        file = tmp_path / "model.linear.json"
        members = {"features": ["price", "paid__mean_24h"], "coefficients": [[0.01, 0.01]], "intercepts": [0.5]}
        file.write_text(json.dumps({"format": "bottega-linear/1", "link": link, "fill": [0, 0], **members}))
        with mlflow.start_run() as run:
            mlflow.log_artifact(str(file))
        told = server.cli("model", "register", model, "--run", run.info.run_id, "--dataset", dataset, "--json")
        metrics[model] = json.loads(told.stdout)["metrics"]["test"]
        kinds = {"amount": ["RMSE", "MAE"], "lost": ["AUC", "ECE"]}
        shown = [kinds[name] for name in ("lost", "amount") if name in metrics]
        header, *lines = (line.split() for line in server.cli("model", "list").stdout.splitlines())
        assert header == ["MODEL", "VERSION", "STAGE", *itertools.chain(*shown), "CREATED"]
        assert len(lines) == len(metrics)
        for line in lines:
            for column in kinds[line[0]]:
                value = metrics[line[0]][column.lower()]
                assert float(line[header.index(column)]) == pytest.approx(value, rel=1e-3)


def test_exit_codes_mean_something(server: Server, binary: str, tmp_path: pathlib.Path) -> None:
    def code(*arguments: str, url: str | None = None) -> int:
        environment = {**os.environ, "BOTTEGA_URL": url or server.url}
        return subprocess.run(
            [binary, *arguments], capture_output=True, text=True, env=environment, cwd=ROOT
        ).returncode

    assert code("status") == 0
    assert code("status", url="http://127.0.0.1:9") == 69
    assert code("status", url="no url at all") == 2
    assert code("status", "--verbose-please") == 64
    assert code("plan", str(tmp_path)) == 2
    assert code("model", "show", "nothing", "1") == 4
    assert code("rollback", "nothing", "--reason", "x") == 4
    nobody = subprocess.run([binary, "status", "--url", "http://127.0.0.1:9"], capture_output=True, text=True)
    assert nobody.stderr.strip().count("\n") == 0 and "bottega up" in nobody.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "compare", "a"], 64, "name two or more"),
        (["gc", "--dry-run", "--top=-1"], 64, "--top is a number of lines"),
        (["run", "list", "--order-by", "foo"], 2, "bottega: order_by: 'foo' is no attribute"),
        (["run", "list", "--filter", "foo = 'x'"], 2, "bottega: filter: 'foo' is no attribute"),
        (["deploy", "m", "1", "--traffic", "lots", "--reason", "x"], 2, "'lots' is no share; write 40% or 0.4"),
        (["deploy", "m", "1", "--traffic", "20%", "--reason", "x"], 4, "no such model is defined"),
        (["deploy", "variants", "d", "1=x", "--reason", "x"], 2, "'x' is no share; write 40% or 0.4"),
        (["deploy", "variants", "d", "x", "--reason", "x"], 2, "must be a version and its share"),
        (["replay", "nobody", "--count", "3"], 4, "no such model is registered"),
    ],
)
def test_a_mistake_is_answered_with_what_to_write(server: Server, words: list[str], code: int, said: str) -> None:
    done = server.cli(*words, check=False)
    assert done.returncode == code and said in done.stdout + done.stderr, (done.returncode, done.stdout, done.stderr)


def test_doctor_tries_every_part(server: Server, binary: str, tmp_path: pathlib.Path) -> None:
    healthy = subprocess.run(
        [binary, "doctor", "--data-dir", str(tmp_path / "d"), "--port", "0", "--json"], capture_output=True, text=True,
        cwd=ROOT,
    )  # fmt: skip
    checks = {entry["check"]: entry for entry in json.loads(healthy.stdout)}
    assert healthy.returncode == 0, healthy.stdout
    assert set(checks) == {"data directory", "duckdb", "python", "onnx", "port"}
    assert all(entry["ok"] for entry in checks.values())
    sick = subprocess.run(
        [binary, "doctor", "--data-dir", "/proc/no", "--port", server.url.rsplit(":", 1)[1], "--set",
         "duckdb.path=/bin/false", "--set", "python.path=/no/python", "--set", "onnx.library=/no/library"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert sick.returncode == 1
    lines = sick.stdout.strip().splitlines()
    assert len(lines) == 5 and all(line.startswith("FAULT") for line in lines), sick.stdout


def children(parent: int) -> list[int]:
    text = pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text()
    found = [int(number) for number in text.split()]
    if found:
        return found
    return [
        int(entry.name)
        for entry in pathlib.Path("/proc").iterdir()
        if entry.name.isdigit() and parent_of(int(entry.name)) == parent
    ]


def parent_of(process: int) -> int | None:
    try:
        found = re.search(r"PPid:\s+(\d+)", pathlib.Path(f"/proc/{process}/status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(found[1]) if found else None


def monitor_of(server: Server, other_than: int | None = None, seconds: float = 15) -> int:
    assert server.process is not None
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for child in children(server.process.pid):
            try:
                command = pathlib.Path(f"/proc/{child}/cmdline").read_bytes()
            except FileNotFoundError:
                continue
            if b"monitoring" in command and child != other_than:
                return child
        time.sleep(0.05)
    raise AssertionError("there is no monitor process")


def is_running(process: int) -> bool:
    try:
        return "\nState:\tZ" not in pathlib.Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def test_the_monitor_is_a_process_that_comes_back(start_server: Callable[..., Server]) -> None:
    server = start_server()
    server.wait_idle()
    first = monitor_of(server)
    assert server.process is not None and first != server.process.pid
    os.kill(first, signal.SIGKILL)
    second = monitor_of(server, other_than=first)
    assert second != first and not is_running(first)
    assert server.get("/api/v1/status")
    server.wait_idle()
    assert server.stop() == 0
    end = time.monotonic() + 30
    while is_running(second) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_running(second), "the monitor ends with the platform that started it"


def test_the_monitor_notices_that_its_platform_died(start_server: Callable[..., Server]) -> None:
    server = start_server()
    server.wait_idle()
    monitor = monitor_of(server)
    assert server.process is not None
    lost = server.process.pid
    server.kill()
    end = time.monotonic() + 30
    while is_running(monitor) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_running(monitor), "nobody is left behind"
    server.start()
    log = b"".join(p.read_bytes() for p in server.data_dir.joinpath("log").rglob("*") if p.is_file())
    assert b"monitor.platform.lost" in log and str(lost).encode() in log, "it said so in the log"


def test_logs_are_one_object_a_line(start_server: Callable[..., Server]) -> None:
    server = start_server("--log-level", "debug")
    server.get("/api/v1/status")
    server.stop()
    lines = [line for line in server.log_path.read_text().splitlines() if line]
    assert lines
    for line in lines:
        entry = json.loads(line)
        assert {"time", "level", "message"} <= set(entry), line


def test_an_older_clock_is_refused(start_server: Callable[..., Server]) -> None:
    server = start_server("--clock", "manual")
    server.post("/api/v1/clock", {"now": shop.START})
    assert server.request("POST", "/api/v1/clock", {"now": shop.START - 1})[0] == 409
    server.stop()
    server.start()
    assert server.get("/api/v1/status")["now"] == shop.text(shop.START), "the clock stands where it stood"
