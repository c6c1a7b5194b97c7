#!/usr/bin/env python3
"""A thousand version swaps at full load: does anybody's request fail, and how soon is the other version seen?

    version_swaps.py --bottega .build-release/release/bottega --python .venv/bin/python [--swaps 1000] [--keep FOLDER]
        [--workers [--kill-every 3]]

It prepares the model `stored` of `serving.py`, registers it twice, loads `POST /predict/stored` with `wrk`, 64
connections, and deploys the two versions in turns as fast as the server answers. Counted are answers that are no 200 or
come from the fallback, and the time from the order to the first answer of the other version to a caller that asks all
the time. The last line is `drill`: the same through `bottega deploy drill`.

With `--workers` the versions are pickled scikit-learn models in two worker processes each, and every so many swaps one
of the processes, drawn by lot, is ended with `kill -9`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import pathlib
import random
import signal
import subprocess
import time
from typing import Any

from serving import Program, prepared

LOAD = """
local bodies = {}
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
local next, threads = 0, {}
function setup(thread) threads[#threads + 1] = thread end
function init(arguments) failures = 0 answers = 0 end
function request()
  next = next % #bodies + 1
  return wrk.format("POST", "/predict/" .. os.getenv("MODEL"), {["Content-Type"] = "application/json"}, bodies[next])
end
function response(status, headers, body)
  answers = answers + 1
  if status ~= 200 or body:find('"fallback":true', 1, true) then failures = failures + 1 end
end
function done(summary, latency, requests)
  local failures, answers = 0, 0
  for _, thread in ipairs(threads) do
    failures = failures + thread:get("failures")
    answers = answers + thread:get("answers")
  end
  local lost = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format("answers %d failures %d lost %d p99_ms %.2f\\n", answers, failures, lost,
    latency:percentile(99) / 1000))
end
"""


class Caller:
    """One connection that stays open."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def post(self, path: str, body: Any) -> Any:
        self.connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {text.decode()}")
        return json.loads(text)


PIPELINE = """
import json, os
import mlflow, mlflow.sklearn, pyarrow.parquet as parquet
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from sklearn.linear_model import LogisticRegression

manifest = json.load(open(os.environ["BOTTEGA_DATASET_MANIFEST"]))
names = [c["name"] for c in manifest["columns"] if c["role"] in ("request", "feature")]
frame = parquet.read_table(os.environ["BOTTEGA_TRAIN"]).to_pandas()
regression = LogisticRegression(max_iter=200).fit(frame[names].to_numpy(), frame[manifest["label"]].astype(int))
with mlflow.start_run():
    signature = ModelSignature(inputs=Schema([ColSpec(DataType.double, name, required=False) for name in names]))
    mlflow.sklearn.log_model(
        regression, name="model", signature=signature, pip_requirements=["scikit-learn"],
        serialization_format="cloudpickle")
"""
WORKERS = "workers: {min: 2, max: 2, timeout: 10s}\nbatching: {size_max: 32, wait_max: 1ms}\n"


def two_versions(program: Program, model: str) -> None:
    """Sees to two versions of the model in stages that may answer; the first is deployed."""
    mark = program.folder / f"second-{model}"
    if mark.exists():
        return
    if model == "stored":
        dataset = program.dataset(model)
    else:
        program.define(model, PIPELINE, WORKERS)
        dataset = program.dataset("body")
        first = program.version(model, dataset, ["staging", "canary"])
        program.cli("deploy", model, first, "--reason", "benchmark")
    program.version(model, dataset, ["staging", "canary"])
    mark.touch()


def workers(program: Program) -> list[int]:
    """Worker processes of the program."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or b"/python/worker-" not in (entry / "cmdline").read_bytes():
                continue
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if parent == program.process.pid:
            found.append(int(entry.name))
    return found


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def swap(program: Program, model: str, count: int, question: Any, kill_every: int) -> int:
    """Swaps so often, prints how long it took, and gives how many workers were ended meanwhile."""
    orders, asks = Caller(program.port), Caller(program.port)
    draw = random.Random(1)
    ordered: list[float] = []
    seen: list[float] = []
    killed = 0
    for index in range(count):
        version = 2 - index % 2
        if kill_every and index % kill_every == 0 and (alive := workers(program)):
            os.kill(draw.choice(alive), signal.SIGKILL)
            killed += 1
        begin = time.perf_counter()
        orders.post(f"/models/{model}/versions/{version}/deploy", {"reason": "swap"})
        answered = time.perf_counter()
        while asks.post(f"/predict/{model}", question)["model_version"] != version:
            if time.perf_counter() - answered > 10:
                raise SystemExit(f"swap {index}: version {version} is not seen after ten seconds")
        ordered.append((answered - begin) * 1000)
        seen.append((time.perf_counter() - begin) * 1000)
    for name, values in [("the order is answered", ordered), ("the other version is seen", seen)]:
        print(
            f"{name}: median {quantile(values, 0.5):.1f} ms, p99 {quantile(values, 0.99):.1f}, most {max(values):.1f}"
        )
    return killed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bottega", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--keep")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--workers", action="store_true")
    parser.add_argument("--kill-every", type=int, default=3)
    options = parser.parse_args()
    model = "pickled" if options.workers else "stored"
    with prepared(options, "swaps-") as program:
        two_versions(program, model)
        bodies = program.bodies()["body" if options.workers else "stored"]
        script = program.folder / "load.lua"
        script.write_text(LOAD)
        print(f"{program.url}, load {os.getloadavg()[0]:.1f}", flush=True)
        load = subprocess.Popen(
            ["wrk", "-t1", f"-c{options.connections}", "-d3600s", "-s", str(script), program.url],
            env=os.environ | {"BODIES": str(bodies), "MODEL": model},
            stdout=subprocess.PIPE,
            text=True,
        )
        begin = time.perf_counter()
        killed = 0
        try:
            question = json.loads(bodies.read_text().splitlines()[0])
            print("first, which starts what is not running yet:")
            swap(program, model, 2, question, 0)
            killed = swap(program, model, options.swaps, question, options.kill_every if options.workers else 0)
        finally:
            spent = time.perf_counter() - begin
            load.send_signal(signal.SIGINT)  # wrk sums up what it has
            out = load.communicate(timeout=60)[0]
        counted = f"{killed} workers killed; " if options.workers else ""
        print(f"{options.swaps} swaps in {spent:.1f} s; {counted}{out.strip().splitlines()[-1]}")
        drill = program.cli("deploy", "drill", model, "--seconds", "2")
        times = f"rollback {drill['rollback_ms']:.1f} ms, back {drill['return_ms']:.1f} ms"
        print(f"drill: {times}, fault {drill['fault']}")


if __name__ == "__main__":
    main()
