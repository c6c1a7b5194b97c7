"""A thousand deployed models in one server: memory, time to look one up, and the p99 of a prediction, beside one model.

    python3 Benchmarks/many_models.py --bottega .build-release/release/bottega --python .venv/bin/python \\
        --open-loop ./open_loop --keep FOLDER [--models 1000] [--rate 2000] [--seconds 10]

FOLDER is one that `serving.py --keep` has prepared: the model `body` of it is registered and deployed again and again
under other names, from the same training job. Requests come at a fixed rate and go round all models; latencies count
from the scheduled moment (`open_loop.c`). The folder is copied, so it can be used again.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.request
from typing import Any

PER_MODEL = """---
kind: Model
name: body_%(number)d
service: body
training_set: body
training: {command: ["%(python)s", train.py], seed: 3, timeout: 10m}
---
kind: Deployment
name: body_%(number)d
model: body_%(number)d
sticky_by: [x0]
fallback: {constant: 0.5}
"""


def resident(process: int) -> float:
    """Own memory of a process in MiB, without what is mapped from files."""
    for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no RssAnon")


class Server:
    def __init__(self, binary: str, folder: pathlib.Path) -> None:
        command = [binary, "up", "--data-dir", str(folder / "data"), "--port", "0", "--set", "monitor.enabled=false"]
        start = time.perf_counter()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip().rsplit(" ", 1)[1]
        self.ready = time.perf_counter() - start

    def call(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def finished(self, started: Any) -> Any:
        """The result of an operation, or of what was done at once."""
        if "operation" not in started:
            return started
        while True:
            state = self.call(f"/api/v1/operations/{started['operation']}")
            if state["state"] not in ("running", "queued"):
                if state["state"] != "succeeded":
                    raise RuntimeError(json.dumps(state)[:500])
                return state["result"]
            time.sleep(0.005)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def load(options: argparse.Namespace, server: Server, bodies: pathlib.Path, folder: pathlib.Path, models: int) -> str:
    """Runs the driver over so many models; its line."""
    paths = folder / f"paths-{models}.txt"
    paths.write_text("".join(f"/predict/body_{number}\n" for number in range(models)))
    port = server.url.rsplit(":", 1)[1]
    command = [options.open_loop, port, f"@{paths}", str(bodies), str(options.rate), str(options.seconds), "64"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bottega", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--open-loop", required=True)
    parser.add_argument("--keep", required=True)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    kept = pathlib.Path(options.keep)
    with tempfile.TemporaryDirectory(prefix="many-") as place:
        folder = pathlib.Path(place)
        shutil.copytree(kept / "data", folder / "data")
        shutil.copytree(kept / "definitions", folder / "definitions")
        python = pathlib.Path(options.python).absolute()
        with (folder / "definitions" / "serving.yaml").open("a") as out:
            for number in range(options.models):
                out.write(PER_MODEL % {"number": number, "python": python})
        server = Server(options.bottega, folder)
        try:
            start = time.perf_counter()
            command = [options.bottega, "apply", str(folder / "definitions"), "--url", server.url, "--json"]
            subprocess.run(command, check=True, capture_output=True)
            print(f"applied {options.models} models and deployments in {time.perf_counter() - start:.1f} s", flush=True)
            job = next(job for job in server.call("/training-jobs")["jobs"] if job["model"] == "body")
            source = {"run_id": job["run_id"], "dataset": job["dataset"]}
            before = resident(server.process.pid)
            start = time.perf_counter()
            marks = {1, *(options.models * tenth // 10 for tenth in range(1, 11))}
            last = (0, start)
            for number in range(options.models):
                name = f"body_{number}"
                version = server.finished(server.call(f"/api/v1/models/{name}/versions", source))["version"]
                for stage in ("staging", "canary", "production"):
                    server.finished(
                        server.call(
                            f"/api/v1/models/{name}/versions/{version}/stage", {"stage": stage, "reason": "benchmark"}
                        )
                    )
                server.call(f"/models/{name}/versions/{version}/deploy", {"reason": "benchmark"})
                if number + 1 in marks:
                    used = resident(server.process.pid) - before
                    now = time.perf_counter()
                    print(
                        f"{number + 1} deployed after {now - start:.0f} s, the last ones in "
                        f"{(now - last[1]) / (number + 1 - last[0]) * 1000:.0f} ms each: {used:.0f} MiB more, "
                        f"{used / (number + 1) * 1024:.0f} KiB each",
                        flush=True,
                    )
                    last = (number + 1, now)
            for models in (1, options.models, 1, options.models):
                print(f"{models} models: {load(options, server, kept / 'body.ndjson', folder, models)}", flush=True)
            server.stop()
            server = Server(options.bottega, folder)
            print(f"started again: ready after {server.ready:.2f} s, {resident(server.process.pid):.0f} MiB")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
