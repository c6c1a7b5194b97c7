#!/usr/bin/env python3
"""What gathering rows gains for a Python model: a random forest in worker processes, with and without `batching`.

    worker_batching.py --bottega .build-release/release/bottega --python .venv/bin/python [--keep FOLDER] [--trees 100]

It trains a forest of scikit-learn on the 30 numbers of `body` (`serving.py`), deploys it with one worker process, and
loads `POST /predict/forest` with `wrk`, 32 connections, one row a request, for each setting of `batching` in turns.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess

from serving import Program, prepared

FOREST = """
import json, os
import mlflow, mlflow.sklearn, pyarrow.parquet as parquet
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from sklearn.ensemble import RandomForestClassifier

manifest = json.load(open(os.environ["BOTTEGA_DATASET_MANIFEST"]))
names = [c["name"] for c in manifest["columns"] if c["role"] in ("request", "feature")]
frame = parquet.read_table(os.environ["BOTTEGA_TRAIN"]).to_pandas()
forest = RandomForestClassifier(%d, max_depth=8, random_state=0)
forest.fit(frame[names].to_numpy(), frame[manifest["label"]].astype(int))
with mlflow.start_run():
    signature = ModelSignature(inputs=Schema([ColSpec(DataType.double, name, required=False) for name in names]))
    mlflow.sklearn.log_model(
        forest, name="model", signature=signature, pip_requirements=["scikit-learn"],
        serialization_format="cloudpickle")
"""
SETTINGS = ["", "batching: {size_max: 32}\n", "batching: {size_max: 64, wait_max: 2ms}\n"]
LOAD = """
local bodies = {}
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
local next = 0
function request()
  next = next % #bodies + 1
  return wrk.format("POST", "/predict/forest", {["Content-Type"] = "application/json"}, bodies[next])
end
function done(summary, latency, requests)
  io.write(string.format("rate %.0f p50_ms %.2f p99_ms %.2f bad %d\\n", summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, summary.errors.status))
end
"""


def fallbacks(program: Program) -> int:
    """Answers of the fallback since the start."""
    page = subprocess.run(["curl", "-s", f"{program.url}/metrics"], capture_output=True, text=True, check=True).stdout
    return sum(
        int(float(count))
        for count in re.findall(r'^bottega_prediction_fallbacks_total{[^}]*model="forest"[^}]*} (\S+)$', page, re.M)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bottega", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--keep")
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    with prepared(options, "batching-") as program:
        script = program.folder / "forest.lua"
        script.write_text(LOAD)
        bodies = program.bodies()["body"]
        one = "workers: {min: 1, max: 1, timeout: 10s}\n"
        mark = program.folder / f"forest-{options.trees}"
        if not mark.exists():
            program.define("forest", FOREST % options.trees, one)
            version = program.version("forest", program.dataset("body"), ["staging", "canary"])
            program.cli("deploy", "forest", version, "--reason", "benchmark")
            mark.touch()
        for _ in range(options.runs):
            for setting in SETTINGS:
                program.define("forest", FOREST % options.trees, one + setting)
                command = ["wrk", "-t1", "-c32", "-s", str(script), program.url]
                environment = os.environ | {"BODIES": str(bodies)}
                subprocess.run([*command, "-d2s"], env=environment, check=True, capture_output=True)  # warms up
                before = fallbacks(program)
                done = subprocess.run(
                    [*command, f"-d{options.seconds}s"], env=environment, check=True, capture_output=True, text=True
                )
                line = done.stdout.strip().splitlines()[-1]
                print(f"{setting.strip() or 'no batching'}: {line} fallbacks {fallbacks(program) - before}", flush=True)


if __name__ == "__main__":
    main()
