#!/usr/bin/env python3
"""Online reads over HTTP: this platform beside Feast's Python feature server, in one run, answer by answer equal.

Makes a Feast repository with one view of 20 numbers for 1,000 entities, materializes it into Feast's SQLite online
store, converts it with `bottega.feast`, and asks both servers `/get-online-features` for one random entity and all
features: as fast as they can (`wrk`, closed loop), and at a stated rate (a pause before each request, drawn so that the
connections together offer that rate while answers are quick).

    python3 Benchmarks/feast_server.py --bottega .build-release/release/bottega --feast .venv-feast/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
FEATURES = [f"f{index}" for index in range(20)]
ENTITIES = 1000
REPOSITORY = """
from datetime import timedelta
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64
driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
source = FileSource(name="numbers_source", path="data/numbers.parquet", timestamp_field="event_timestamp")
numbers = FeatureView(
    name="numbers", entities=[driver], ttl=timedelta(days=30), source=source,
    schema=[Field(name="driver_id", dtype=Int64)] + [Field(name=f"f{index}", dtype=Float64) for index in range(20)])
"""
SETTINGS = """
project: bench
registry: data/registry.db
provider: local
online_store: {type: sqlite, path: data/online.db}
entity_key_serialization_version: 3
"""
DATA = """
import numpy, pandas
generator = numpy.random.default_rng(7)
now = pandas.Timestamp.now(tz="UTC").floor("s") - pandas.Timedelta(hours=1)
frame = pandas.DataFrame({"driver_id": range(1000), "event_timestamp": now})
for index in range(20):
    frame[f"f{index}"] = generator.normal(size=1000).round(6)
frame.to_parquet("data/numbers.parquet", index=False)
"""
MATERIALIZE = """
from datetime import datetime, timezone
from feast import FeatureStore
FeatureStore(".").materialize_incremental(end_date=datetime.now(timezone.utc))
"""
LUA = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local head, tail = '{"entities":{"driver_id":[', ']},"features":%s}'
function init(args) math.randomseed(os.time()) end
function request() return wrk.format(nil, "/get-online-features", nil, head .. math.random(0, 999) .. tail) end
%s
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def ask(url: str, entity: int) -> dict[str, object]:
    body = {"entities": {"driver_id": [entity]}, "features": [f"numbers:{name}" for name in FEATURES]}
    request = urllib.request.Request(
        url + "/get-online-features", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found = json.loads(answer.read())
    return {
        name: result["values"][0]
        for name, result in zip(found["metadata"]["feature_names"], found["results"], strict=True)
    }


def wait(url: str) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url + "/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"{url} does not answer")


def wrk(url: str, folder: pathlib.Path, seconds: int, connections: int, rate: float | None = None) -> dict[str, float]:
    """Requests a second, p50 and p99 in milliseconds, and how many answers were no 200."""
    pause = ""
    if rate:
        pause = f"function delay() return -math.log(1 - math.random()) * {1000 * connections / rate:.3f} end"
    script = folder / "request.lua"
    script.write_text(LUA % (json.dumps([f"numbers:{name}" for name in FEATURES]), pause))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def milliseconds(percentile: str) -> float:
        found = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s)", text)
        assert found, text
        return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]

    found = re.search(r"Requests/sec:\s+([\d.]+)", text)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    assert found, text
    return {
        "rate": float(found[1]),
        "p50": milliseconds("50"),
        "p99": milliseconds("99"),
        "refused": int(refused[1]) if refused else 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bottega", required=True, help="the program, a release build")
    parser.add_argument("--feast", required=True, help="a Python with feast")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, default=5000)
    given = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is missing; install it with the system's package manager")
    # Not resolved: a link to the interpreter is what makes an environment.
    python, bottega = os.path.abspath(given.feast), str(pathlib.Path(given.bottega).resolve())
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "sdk/python/src"), "FEAST_USAGE": "False"}
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        repository = folder / "repository"
        (repository / "data").mkdir(parents=True)
        (repository / "definitions.py").write_text(REPOSITORY)
        (repository / "feature_store.yaml").write_text(SETTINGS)
        for step in (["-c", DATA], ["-m", "feast.cli.cli", "apply"], ["-c", MATERIALIZE]):
            subprocess.run([python, *step], cwd=repository, env=environment, check=True, capture_output=True)
        definitions = folder / "definitions"
        subprocess.run(
            [python, "-m", "bottega.feast", str(repository), "--out", str(definitions)],
            env=environment,
            check=True,
            capture_output=True,
        )
        ours, theirs = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        try:
            log = (folder / "servers.log").open("wb")
            processes.append(
                subprocess.Popen(
                    [bottega, "up", "--data-dir", str(folder / "data"), "--port", ours.rsplit(":", 1)[1]],
                    stdout=log,
                    stderr=log,
                )
            )
            processes.append(
                subprocess.Popen(
                    [python, "-m", "feast.cli.cli", "serve", "-p", theirs.rsplit(":", 1)[1], "--no-access-log"],
                    cwd=repository,
                    env=environment,
                    stdout=log,
                    stderr=log,
                )
            )
            wait(ours)
            wait(theirs)
            subprocess.run([bottega, "apply", str(definitions)], env={**os.environ, "BOTTEGA_URL": ours}, check=True)
            request = urllib.request.Request(
                ours + "/materialize-incremental", b'{"end_ts":"2100-01-01"}', {"Content-Type": "application/json"}
            )
            urllib.request.urlopen(request, timeout=120).read()
            for entity in range(0, ENTITIES, 50):
                assert ask(ours, entity) == ask(theirs, entity), entity
            print(f"{ENTITIES // 50} entities x {len(FEATURES)} features: equal answers; load {os.getloadavg()[0]:.1f}")
            results = {}
            for name, url in (("feast", theirs), ("bottega", ours)):
                wrk(url, folder, 2, given.connections)
                results[name] = wrk(url, folder, given.seconds, given.connections)
                print(name, "as fast as it can:", results[name])
            print(f"throughput: {results['bottega']['rate'] / results['feast']['rate']:.1f} times Feast's")
            print(f"bottega at {given.rate:.0f}/s:", wrk(ours, folder, given.seconds, 64, given.rate))
            half = results["feast"]["rate"] / 2
            print(f"feast at {half:.0f}/s:", wrk(theirs, folder, given.seconds, 16, half))
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(timeout=60)


if __name__ == "__main__":
    main()
