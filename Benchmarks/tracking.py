"""Measures experiment tracking beside MLflow's own server, in one run and by one driver.

    python3 Benchmarks/tracking.py --bottega .build-release/release/bottega --mlflow .venv/bin/mlflow

Raw HTTP over kept-alive connections, so that neither is measured through a client library. Each server starts on an
empty folder; the runs that searches need are logged over HTTP here, and written into the other's database by SQL, which
logging them there would take minutes to do (--seed-by-http does it all the same). Prints medians over the rounds and
their ratios; `--only us` leaves the other server out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import random
import selectors
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from typing import Any

API = "/api/2.0/mlflow/"


class Connection:
    """One kept-alive connection, read by hand."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connect()

    def connect(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    @staticmethod
    def request(method: str, path: str, body: Any = None) -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content

    def send(self, request: bytes) -> None:
        self.socket.sendall(request)

    def receive(self) -> tuple[int, bytes] | None:
        """One portion; gives the answer when it is whole."""
        portion = self.socket.recv(1 << 20)
        if not portion:
            raise ConnectionError("the server closed the connection")
        self.buffer += portion
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = self.buffer[:end].lower()
        at = head.find(b"content-length:")
        if at < 0:
            raise ValueError(f"an answer without a length: {head!r}")
        length = int(head[at + 15 :].split(b"\r\n")[0])
        if len(self.buffer) < end + 4 + length:
            return None
        status, body = int(self.buffer[9:12]), self.buffer[end + 4 : end + 4 + length]
        self.buffer = self.buffer[end + 4 + length :]
        return status, body

    def exchange(self, request: bytes) -> bytes:
        try:
            self.send(request)
            answer = self.receive()
        except ConnectionError:  # the server closed it while it was idle
            self.connect()
            self.send(request)
            answer = self.receive()
        while answer is None:
            answer = self.receive()
        if answer[0] != 200:
            raise RuntimeError(f"{answer[0]}: {answer[1][:500]!r}")
        return answer[1]

    def call(self, path: str, body: Any, method: str = "POST") -> Any:
        return json.loads(self.exchange(self.request(method, path, body)))


def timed(connection: Connection, requests: Iterator[bytes], count: int) -> list[float]:
    times = []
    for _ in range(count):
        request = next(requests)
        start = time.perf_counter()
        connection.exchange(request)
        times.append(time.perf_counter() - start)
    return times


def together(port: int, sources: list[Iterator[bytes]], count: int) -> tuple[float, list[float]]:
    """`count` requests over one connection for each source; seconds in all, and of each."""
    selector = selectors.DefaultSelector()
    left, times = count, []
    start = time.perf_counter()
    for source in sources:
        connection = Connection(port)
        state = [source, 0.0]
        selector.register(connection.socket, selectors.EVENT_READ, (connection, state))
        state[1] = time.perf_counter()
        connection.send(next(source))
        left -= 1
    open_count = len(sources)
    while open_count:
        for key, _ in selector.select():
            connection, state = key.data
            answer = connection.receive()
            if answer is None:
                continue
            if answer[0] != 200:
                raise RuntimeError(f"{answer[0]}: {answer[1][:500]!r}")
            times.append(time.perf_counter() - state[1])
            if left > 0:
                left -= 1
                state[1] = time.perf_counter()
                connection.send(next(state[0]))
            else:
                selector.unregister(connection.socket)
                connection.socket.close()
                open_count -= 1
    return time.perf_counter() - start, times


class Server:
    def __init__(self, name: str, command: list[str], port: int, folder: pathlib.Path) -> None:
        self.name, self.port, self.folder = name, port, folder
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        start = time.perf_counter()
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=self.log, start_new_session=True, env=environment
        )
        while True:
            try:
                Connection(port).exchange(Connection.request("GET", "/health"))
                break
            except (OSError, ConnectionError):
                if self.process.poll() is not None or time.perf_counter() - start > 180:
                    raise SystemExit(f"{name} does not start; see {folder}/log") from None
                time.sleep(0.02)
        self.seconds_to_start = time.perf_counter() - start

    def memory(self) -> tuple[float, int]:
        """Mebibytes of all of its processes (PSS), and their number."""
        total, count = 0, 0
        group = os.getpgid(self.process.pid)
        for folder in pathlib.Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                if os.getpgid(int(folder.name)) != group:
                    continue
                text = (folder / "smaps_rollup").read_text()
            except (OSError, ProcessLookupError):
                continue
            total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
            count += 1
        return total / 1024, count

    def stop(self) -> None:
        os.killpg(os.getpgid(self.process.pid), signal.SIGTERM)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(os.getpgid(self.process.pid), signal.SIGKILL)
        self.log.close()


def run_content(index: int, generator: random.Random) -> dict[str, Any]:
    return {
        "start": 10**12 + index,
        "name": f"s{index}",
        "tags": [("mlflow.user", f"u{index % 5}"), ("grp", f"g{index % 20}")],
        "metrics": [(f"m{k}", generator.random()) for k in range(10)],
        "params": [(f"p{k}", str((index * (k + 1)) % 97)) for k in range(10)],
    }


def seed_by_http(port: int, experiment: str, count: int) -> None:
    """Several connections, because what is seeded is not what is measured."""
    generator = random.Random(1)
    connections = [Connection(port) for _ in range(8)]
    for first in range(0, count, len(connections)):
        portion = [run_content(i, generator) for i in range(first, min(first + len(connections), count))]
        pairs = list(zip(connections, portion, strict=False))
        for connection, run in pairs:
            tags = [{"key": key, "value": value} for key, value in run["tags"]]
            body = {"experiment_id": experiment, "start_time": run["start"], "run_name": run["name"], "tags": tags}
            connection.send(Connection.request("POST", API + "runs/create", body))
        for connection, run in pairs:
            while (answer := connection.receive()) is None:
                pass
            run_id = json.loads(answer[1])["run"]["info"]["run_id"]
            metrics = [{"key": k, "value": v, "timestamp": run["start"], "step": 0} for k, v in run["metrics"]]
            params = [{"key": k, "value": v} for k, v in run["params"]]
            body = {"run_id": run_id, "metrics": metrics, "params": params}
            connection.send(Connection.request("POST", API + "runs/log-batch", body))
        for connection, _ in pairs:
            while (answer := connection.receive()) is None:
                pass
            assert answer[0] == 200, answer


def seed_by_sql(database: pathlib.Path, experiment: str, count: int) -> None:
    """The rows that MLflow's server writes for the same calls."""
    generator = random.Random(1)
    connection = sqlite3.connect(database, timeout=60)

    def insert(table: str, rows: list[dict[str, Any]]) -> None:
        names = list(rows[0])
        marks = ", ".join("?" * len(names))
        connection.executemany(
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", [tuple(row.values()) for row in rows]
        )

    runs, metrics, latest, params, tags = [], [], [], [], []
    for index in range(count):
        run, run_id = run_content(index, generator), uuid.uuid4().hex
        runs.append(
            {
                "run_uuid": run_id, "name": run["name"], "source_type": "UNKNOWN", "source_name": "",
                "entry_point_name": "", "user_id": "", "status": "RUNNING", "start_time": run["start"],
                "source_version": "", "lifecycle_stage": "active", "experiment_id": int(experiment),
                "artifact_uri": f"mlflow-artifacts:/{experiment}/{run_id}/artifacts",
            }
        )  # fmt: skip
        for key, value in run["metrics"]:
            row = {"key": key, "value": value, "timestamp": run["start"], "step": 0, "is_nan": False}
            metrics.append({**row, "run_uuid": run_id})
            latest.append({**row, "run_uuid": run_id})
        params += [{"key": key, "value": value, "run_uuid": run_id} for key, value in run["params"]]
        tags += [
            {"key": key, "value": value, "run_uuid": run_id}
            for key, value in [*run["tags"], ("mlflow.runName", run["name"])]
        ]
    for table, rows in {
        "runs": runs, "metrics": metrics, "latest_metrics": latest, "params": params, "tags": tags
    }.items():  # fmt: skip
        insert(table, rows)
    connection.commit()
    connection.close()


def percentile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def measure_logging(server: Server, scale: float) -> dict[str, float]:
    connection = Connection(server.port)
    experiment = connection.call(API + "experiments/create", {"name": f"bench-{uuid.uuid4().hex}"})["experiment_id"]

    def new_run() -> str:
        body = {"experiment_id": experiment, "start_time": int(time.time() * 1000), "tags": []}
        return str(connection.call(API + "runs/create", body)["run"]["info"]["run_id"])

    def single(run: str) -> Iterator[bytes]:
        step = 0
        while True:
            step += 1
            body = {"run_id": run, "key": "loss", "value": random.random(), "timestamp": 10**12 + step, "step": step}
            yield Connection.request("POST", API + "runs/log-metric", body)

    def batches(run: str, count: int) -> Iterator[bytes]:
        step = 0
        while True:
            step += 1
            metrics = [
                {"key": f"m{k}", "value": random.random(), "timestamp": 10**12 + step, "step": step}
                for k in range(count)
            ]
            yield Connection.request("POST", API + "runs/log-batch", {"run_id": run, "metrics": metrics})

    found: dict[str, float] = {}
    run = new_run()
    timed(connection, single(run), 20)
    times = timed(connection, single(run), int(400 * scale))
    found["log_metric, 1 client: per second"] = len(times) / sum(times)
    found["log_metric, 1 client: p50 ms"] = percentile(times, 0.5) * 1e3
    found["log_metric, 1 client: p99 ms"] = percentile(times, 0.99) * 1e3
    wall, times = together(server.port, [single(new_run()) for _ in range(16)], int(800 * scale))
    found["log_metric, 16 clients: per second"] = len(times) / wall
    found["log_metric, 16 clients: p99 ms"] = percentile(times, 0.99) * 1e3
    for count, calls in [(100, int(40 * scale)), (1000, max(8, int(8 * scale)))]:
        ready = list(next_of(batches(new_run(), count), calls + 2))
        timed(connection, iter(ready[:2]), 2)
        times = timed(connection, iter(ready[2:]), calls)
        found[f"log_batch of {count}: metrics per second"] = len(times) * count / sum(times)
        found[f"log_batch of {count}: p50 ms"] = percentile(times, 0.5) * 1e3
    return found


def next_of(source: Iterator[bytes], count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield next(source)


def measure_searches(server: Server, experiment: str, scale: float) -> dict[str, float]:
    connection = Connection(server.port)
    queries: dict[str, dict[str, Any]] = {
        "page of 100": {"max_results": 100},
        "page of 1,000": {"max_results": 1000},
        "metric filter": {"filter": "metrics.m1 > 0.9", "max_results": 100},
        "two filters, ordered": {
            "filter": "metrics.m1 > 0.5 and params.p1 = '10'", "order_by": ["metrics.m2 DESC"], "max_results": 100
        },
        "tag filter": {"filter": "tags.grp = 'g7'", "max_results": 100},
        "ordered by a metric": {"order_by": ["metrics.m3 DESC"], "max_results": 100},
        "param LIKE": {"filter": "params.p3 LIKE '%7'", "max_results": 100},
    }  # fmt: skip
    found = {}
    rows = {}
    for name, query in queries.items():
        request = Connection.request("POST", API + "runs/search", {**query, "experiment_ids": [experiment]})
        rows[name] = len(json.loads(connection.exchange(request)).get("runs", []))
        times = timed(connection, iter([request] * 100), max(5, int(10 * scale)))
        found[f"search_runs, {name}: p50 ms"] = percentile(times, 0.5) * 1e3
    print(f"  {server.name}: rows of each search {list(rows.values())}")
    return found


def measure_many(server: Server, count: int) -> None:
    """Two metrics and a tag over many runs, and a long history; of ours alone."""
    connection = Connection(server.port)
    experiment = connection.call(API + "experiments/create", {"name": f"many-{uuid.uuid4().hex}"})["experiment_id"]
    start = time.perf_counter()
    seed_by_http(server.port, experiment, count)
    print(f"  {count} runs with 10 metrics and 10 params logged in {time.perf_counter() - start:.0f} s")
    generator = random.Random(7)
    times = []
    for index in range(200):
        body = {
            "experiment_ids": [experiment],
            "filter": f"metrics.m1 > {generator.random():.3f} and metrics.m2 < {generator.random():.3f} "
            f"and tags.grp = 'g{index % 20}'",
            "order_by": [f"metrics.m{index % 10} {'DESC' if index % 2 else 'ASC'}"],
            "max_results": 100,
        }
        times += timed(connection, iter([Connection.request("POST", API + "runs/search", body)]), 1)
    print(
        f"  search over {count} runs, two metrics and a tag, ordered: p50 {percentile(times, 0.5) * 1e3:.1f} ms, "
        f"p99 {percentile(times, 0.99) * 1e3:.1f} ms"
    )


def measure_history(server: Server, count: int) -> None:
    connection = Connection(server.port)
    run = connection.call(API + "runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
    start = time.perf_counter()
    for first in range(0, count, 1000):
        metrics = [
            {"key": "loss", "value": random.random(), "timestamp": 10**12 + step, "step": step}
            for step in range(first, first + 1000)
        ]
        connection.exchange(Connection.request("POST", API + "runs/log-batch", {"run_id": run, "metrics": metrics}))
    print(f"  history of {count} points logged in {time.perf_counter() - start:.0f} s")
    time.sleep(3)
    path = f"{API}metrics/get-history-bulk-interval?run_ids={run}&metric_key=loss&max_results=2000"
    request = Connection.request("GET", path)
    points = len(json.loads(connection.exchange(request))["metrics"])
    times = timed(connection, iter([request] * 20), 20)
    print(f"  thinned out to {points} points: p50 {percentile(times, 0.5) * 1e3:.1f} ms, max {max(times) * 1e3:.1f} ms")


def arguments(doc: str | None, port: int) -> argparse.ArgumentParser:
    """What every comparison of the two servers can be told."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else "")
    parser.add_argument("--bottega", required=True)
    parser.add_argument("--mlflow", default=".venv/bin/mlflow")
    parser.add_argument("--only", choices=["us", "them"])
    parser.add_argument("--port", type=int, default=port)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of ours")
    return parser


@contextlib.contextmanager
def both(options: argparse.Namespace, prefix: str) -> Iterator[tuple[pathlib.Path, list[Server]]]:
    """The two servers on empty folders, or the one that was asked for; stopped and removed at the end."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=os.environ.get("BOTTEGA_BENCH_DIR")))
    servers: list[Server] = []
    try:
        for name, place in (("bottega", "us"), ("mlflow", "them")):
            if options.only not in (None, place):
                continue
            (folder / place).mkdir()
            port = options.port + len(servers)
            command = [options.bottega, "up", "--data-dir", f"{folder}/us/data", "--port", str(port)]
            command += [word for setting in options.set for word in ("--set", setting)]
            if place == "them":
                command = [
                    options.mlflow, "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port),
                    "--backend-store-uri", f"sqlite:///{folder}/them/mlflow.db",
                    "--artifacts-destination", f"{folder}/them/artifacts",
                ]  # fmt: skip
            servers.append(Server(name, command, port, folder / place))
        yield folder, servers
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = arguments(__doc__, 5790)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--many", type=int, default=100_000, help="runs of the large search; 0 leaves it out")
    parser.add_argument("--history", type=int, default=1_000_000, help="points of the long history; 0 leaves it out")
    parser.add_argument("--seed-by-http", action="store_true")
    options = parser.parse_args()
    with both(options, "bench-tracking-") as (folder, servers):
        results: dict[str, dict[str, list[float]]] = {}

        def add(server: Server, values: dict[str, float]) -> None:
            for name, value in values.items():
                results.setdefault(name, {}).setdefault(server.name, []).append(value)

        experiments = {}
        for server in servers:
            add(server, {"start: s": server.seconds_to_start})
            connection = Connection(server.port)
            experiments[server.name] = connection.call(API + "experiments/create", {"name": "search"})["experiment_id"]
            if server.name == "mlflow" and not options.seed_by_http:
                seed_by_sql(folder / "them/mlflow.db", experiments[server.name], options.runs)
            else:
                seed_by_http(server.port, experiments[server.name], options.runs)
            print(f"{server.name}: {options.runs} runs are there")
        time.sleep(3)
        for server in servers:
            memory, processes = server.memory()
            add(server, {f"memory with {options.runs} runs: MiB": memory, "processes": processes})
        for _ in range(options.rounds):
            for server in servers:
                scale = 10.0 if server.name == "bottega" else 1.0
                add(server, measure_logging(server, scale))
                add(server, measure_searches(server, experiments[server.name], scale))
        for name, by_server in results.items():
            middle = {server: statistics.median(values) for server, values in by_server.items()}
            line = f"{name:48s}" + "".join(f"{server} {value:12.2f}   " for server, value in middle.items())
            if len(middle) == 2:
                us, them = middle["bottega"], middle["mlflow"]
                line += f"ratio {us / them if 'per second' in name else them / us:9.1f}"
            print(line)
        if options.only != "them":
            if options.many:
                measure_many(servers[0], options.many)
            if options.history:
                measure_history(servers[0], options.history)


if __name__ == "__main__":
    main()
