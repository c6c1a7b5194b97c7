#!/usr/bin/env python3
"""A thousand version swaps at full load: does anybody's request fail, and how soon is the other version seen?

    version_swaps.py --bottega .build-release/release/bottega --python .venv/bin/python [--swaps 1000] [--keep FOLDER]

It prepares the model `stored` of `serving.py`, registers it twice, loads `POST /predict/stored` with `wrk`, 64
connections, and deploys the two versions in turns as fast as the server answers. Counted are answers that are no 200 or
come from the fallback, and the time from the order to the first answer of the other version to a caller that asks all
the time. The last line is `drill`: the same through `bottega deploy drill`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import pathlib
import subprocess
import tempfile
import time
from typing import Any

from serving import Program

LOAD = """
local bodies = {}
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
local next, threads = 0, {}
function setup(thread) threads[#threads + 1] = thread end
function init(arguments) failures = 0 answers = 0 end
function request()
  next = next % #bodies + 1
  return wrk.format("POST", "/predict/stored", {["Content-Type"] = "application/json"}, bodies[next])
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


def second_version(program: Program) -> None:
    """Trains and registers the model once more, in a stage that may answer."""
    first = program.cli("model", "show", "stored", "1")
    job = program.cli("train", "stored", "--dataset", str(first["dataset"]))["id"]
    again = program.cli("model", "register", "stored", "--job", str(job))
    for stage in ["staging", "canary"]:
        program.cli("model", "promote", "stored", str(again["version"]), stage, "--reason", "benchmark")


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def swap(program: Program, count: int, question: Any) -> None:
    orders, asks = Caller(program.port), Caller(program.port)
    ordered: list[float] = []
    seen: list[float] = []
    for index in range(count):
        version = 2 - index % 2
        begin = time.perf_counter()
        orders.post(f"/models/stored/versions/{version}/deploy", {"reason": "swap"})
        answered = time.perf_counter()
        while asks.post("/predict/stored", question)["model_version"] != version:
            if time.perf_counter() - answered > 10:
                raise SystemExit(f"swap {index}: version {version} is not seen after ten seconds")
        ordered.append((answered - begin) * 1000)
        seen.append((time.perf_counter() - begin) * 1000)
    for name, values in [("the order is answered", ordered), ("the other version is seen", seen)]:
        print(
            f"{name}: median {quantile(values, 0.5):.1f} ms, p99 {quantile(values, 0.99):.1f}, most {max(values):.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bottega", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--keep")
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="swaps-") as temporary:
        folder = pathlib.Path(options.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        is_new = not (folder / "ready").exists()
        program = Program(options, folder)
        try:
            if is_new:
                program.prepare()
                (folder / "ready").touch()
            if not (folder / "second").exists():
                second_version(program)
                (folder / "second").touch()
            bodies = program.bodies()["stored"]
            script = folder / "load.lua"
            script.write_text(LOAD)
            print(f"{program.url}, load {os.getloadavg()[0]:.1f}", flush=True)
            load = subprocess.Popen(
                ["wrk", "-t1", f"-c{options.connections}", "-d3600s", "-s", str(script), program.url],
                env=os.environ | {"BODIES": str(bodies)},
                stdout=subprocess.PIPE,
                text=True,
            )
            begin = time.perf_counter()
            try:
                swap(program, options.swaps, json.loads(bodies.read_text().splitlines()[0]))
            finally:
                spent = time.perf_counter() - begin
                load.send_signal(2)  # wrk sums up what it has
                out = load.communicate(timeout=60)[0]
            print(f"{options.swaps} swaps in {spent:.1f} s; {out.strip().splitlines()[-1]}")
            drill = program.cli("deploy", "drill", "stored", "--seconds", "2")
            times = f"rollback {drill['rollback_ms']:.1f} ms, back {drill['return_ms']:.1f} ms"
            print(f"drill: {times}, fault {drill['fault']}")
        finally:
            program.stop()


if __name__ == "__main__":
    main()
