"""Starts the built program for the tests that drive it from outside."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# How a training script begins that reads its rows: names of inputs, which of them are texts or numbers, the frame.
TRAINING_ROWS = """
import json
import os

import pyarrow.parquet as parquet

with open(os.environ["BOTTEGA_DATASET_MANIFEST"], encoding="utf-8") as file:
    manifest = json.load(file)
columns = [column for column in manifest["columns"] if column["role"] in ("request", "feature")]
names = [column["name"] for column in columns]
texts = [column["name"] for column in columns if column.get("categories")]
numbers = [name for name in names if name not in texts]
frame = parquet.read_table(os.environ["BOTTEGA_TRAIN"]).to_pandas()
"""


def free_port() -> str:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def lasting_port() -> str:
    """A free port below those that the system gives to connections: a server that was killed finds it free again."""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(max(1024, first - 10_000), first), 100):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return str(port)
    return free_port()


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Waits until something holds, and gives it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"it did not happen within {seconds} s")


class Server:
    """One `bottega up` on a directory of its own."""

    def __init__(self, data_dir: pathlib.Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.binary = os.environ["BOTTEGA_BINARY"]
        self.data_dir = data_dir
        self.arguments = arguments
        own = {key: value for key, value in os.environ.items() if key != "BOTTEGA_OPENLINEAGE_SPEC"}  # the tests' own
        self.environment = {**own, **(environment or {})}
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.log_path = data_dir.parent / f"{data_dir.name}.log"

    def start(self, timeout: float = 60) -> Server:
        command = [self.binary, "up", "--data-dir", str(self.data_dir), "--port", "0", *self.arguments]
        self.log = self.log_path.open("a")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=ROOT, env=self.environment
        )
        watchdog = threading.Timer(timeout, self.process.kill)
        watchdog.start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        while line and not line.startswith("ready "):
            line = self.process.stdout.readline()
        watchdog.cancel()
        if not line.startswith("ready "):
            pytest.fail(f"the server did not become ready:\n{self.log_path.read_text()[-4000:]}")
        self.url = line.split()[1]
        return self

    def stop(self) -> int:
        """Ends it as an operator would; gives the exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self.process = None
        self.log.close()
        return code

    def kill(self) -> None:
        """Ends it as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=60)
        self.process = None
        self.log.close()

    def resident_mib(self) -> float:
        """Memory that it holds, mapped pages included."""
        assert self.process is not None
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, raw: bytes | None = None
    ) -> tuple[int, Any]:
        """Sends one request; gives status and decoded answer, also for refusals."""
        data = raw if raw is not None else (None if body is None else json.dumps(body).encode())
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers or {})
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                text, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            text, status = error.read(), error.code
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text.decode(errors="replace")

    def post(self, path: str, body: Any = None, **more: Any) -> Any:
        """Sends a request that must succeed, and waits for the operation it starts, if any."""
        status, answer = self.request("POST", path, body, **more)
        assert status < 300, (status, answer)
        if isinstance(answer, dict) and "operation" in answer:
            return self.finished(answer["operation"])
        return answer

    def get(self, path: str) -> Any:
        status, answer = self.request("GET", path)
        assert status == 200, (status, answer)
        return answer

    def finished(self, operation: str, timeout: float = 300) -> Any:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            status = self.get(f"/api/v1/operations/{operation}")
            if status["state"] == "succeeded":
                return status["result"]
            assert status["state"] == "running", status
            time.sleep(0.02)
        raise AssertionError("the operation did not end in time")

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command against this server."""
        result = subprocess.run(
            [self.binary, *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=ROOT,
            env={**self.environment, "BOTTEGA_URL": self.url},
        )
        if check:
            assert result.returncode == 0, result.stdout + result.stderr
        return result

    def wait_idle(self, timeout: float = 120) -> None:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.get("/api/v1/status")["idle"]:
                return
            time.sleep(0.05)
        raise AssertionError("the platform did not become idle in time")


@pytest.fixture(scope="session", autouse=True)
def binary() -> str:
    path = os.environ.get("BOTTEGA_BINARY")
    if not path:
        pytest.skip("BOTTEGA_BINARY names the program under test; 'make e2e' sets it")
    os.environ["BOTTEGA_BINARY"] = str(pathlib.Path(path).resolve())
    return os.environ["BOTTEGA_BINARY"]


@pytest.fixture
def start_server(tmp_path: pathlib.Path, binary: str) -> Iterator[Callable[..., Server]]:
    """A function that starts servers and ends them after the test."""
    servers: list[Server] = []

    def start(*arguments: str, name: str = "data", environment: dict[str, str] | None = None) -> Server:
        server = Server(tmp_path / name, *arguments, environment=environment)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        if server.process is not None:
            server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, binary: str) -> Iterator[Server]:
    """One server for the tests of a module."""
    server = Server(tmp_path_factory.mktemp("server") / "data").start()
    yield server
    server.stop()


def run_python(script: str, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, timeout=timeout)


def trained_server(folder: pathlib.Path, *arguments: str) -> Server:
    """Starts a server with the shop's rows, a training set and a model in production."""
    import shop
    from bad_input import DAYS

    server = Server(folder / "data", "--clock", "manual", *arguments).start()
    server.definitions = shop.write_definitions(folder / "definitions")
    server.cli("apply", str(server.definitions))
    server.post("/api/v1/clock", {"now": shop.START + DAYS * shop.DAY})
    rows = shop.history(DAYS)
    for name in ("payments", "orders", "outcomes"):
        path = shop.write_csv(folder / f"{name}.csv", getattr(rows, name))
        server.cli("ingest", name, str(path))
    span = ["--from", shop.text(shop.START + 2 * shop.DAY), "--to", shop.text(shop.START + (DAYS - 1) * shop.DAY)]
    server.dataset = json.loads(server.cli("dataset", "build", "loss", *span, "--json").stdout)["dataset"]
    job = json.loads(server.cli("train", "loss", "--dataset", server.dataset, "--json").stdout)
    server.cli("model", "register", "loss", "--job", job["id"])
    for stage in ("staging", "canary", "production"):
        server.cli("model", "promote", "loss", "1", stage, "--reason", "for the tests")
    server.cli("deploy", "loss", "1", "--reason", "for the tests")
    server.run_id = job["run_id"]
    server.folder = folder
    return server


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, binary: str) -> Iterator[Server]:
    """A server with the shop's rows, a training set and a model in production."""
    server = trained_server(tmp_path_factory.mktemp("bad"))
    yield server
    assert server.get("/api/v1/status")["now"], "after all of this the server still answers"
    assert server.stop() == 0
