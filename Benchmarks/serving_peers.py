"""Predictions over HTTP beside other servers of models: the same number of trees, features and connections, in turns.

    python3 Benchmarks/serving_peers.py --bottega .build-release/release/bottega --python .venv/bin/python \\
        --peers PEERS/bin/python --keep FOLDER [--seconds 6] [--rounds 3] [--only fastapi,mosec,triton]

PEERS is an environment with `xgboost-cpu`, `numpy`, `fastapi`, `uvicorn[standard]`, `mosec`, `bentoml`, `ray[serve]`;
Triton has one of its own, named by `--triton`: `requirements/triton.txt`, `xgboost-cpu` and `scipy<1.14`, with
`--no-deps`. It answers its protocol with binary tensors, gathers what waits and has two instances of the model, the
quickest that it has, and so do we in a row of our own; `triton-plain` is one instance that gathers nothing, as where
nothing else is said, `triton-sum` is that with a sum in the model's place, which leaves the server's own part, and
`triton-json` is the quick one asked in JSON, as the others are.
FOLDER is one that `serving.py --keep` has prepared. Everybody scores 100 trees of depth 6 on 30 features that come in
the body: named and checked here and by `fastapi_typed`, as a bare list elsewhere. Ours also chooses a variant, writes
inputs and answer to the log, and feeds the monitor; the others score. Load comes from `wrk`, one thread, 64
connections. Prints medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))
from triton_peer import Triton

MODEL = """
import sys
import numpy, xgboost
random = numpy.random.default_rng(7)
rows = random.normal(size=(50_000, 30)).astype("f4")
label = (rows[:, 0] * rows[:, 1] + rows[:, 2] + random.normal(size=len(rows)) > 0).astype(int)
settings = {"objective": "binary:logistic", "max_depth": 6}
xgboost.train(settings, xgboost.DMatrix(rows, label), 100).save_model(sys.argv[1])
"""
LOAD = """
import os, numpy as np, xgboost as xgb
def load():
    booster = xgb.Booster()
    booster.load_model(os.environ["MODEL"])
    booster.set_param({"nthread": 1})
    return booster
def score(booster, rows):
    return [float(value) for value in booster.inplace_predict(np.asarray(rows, dtype="f4"))]
"""
PROGRAMS = {
    "fastapi": """
from fastapi import FastAPI, Request
from peer_model import load, score
booster = load()
app = FastAPI()
@app.post("/predict")
async def predict(request: Request):
    return {"prediction": score(booster, [(await request.json())["features"]])[0]}
""",
    # Features by name and checked, as the framework's tutorial has it.
    "fastapi_typed": """
from fastapi import FastAPI
from peer_model import load, score
from pydantic import BaseModel, create_model
booster = load()
app = FastAPI()
Features = create_model("Features", **{f"x{place}": (float, ...) for place in range(30)})
class Question(BaseModel):
    features: Features
class Answer(BaseModel):
    prediction: float
@app.post("/predict")
async def predict(question: Question) -> Answer:
    return Answer(prediction=score(booster, [[value for _, value in question.features]])[0])
""",
    "mosec": """
from mosec import Server, Worker
from peer_model import load, score
class Scorer(Worker):
    def __init__(self):
        super().__init__()
        self.booster = load()
    def forward(self, data):
        return [{"prediction": value} for value in score(self.booster, [one["features"] for one in data])]
if __name__ == "__main__":
    server = Server()
    server.append_worker(Scorer, num=2, max_batch_size=32, max_wait_time=1)
    server.run()
""",
    "bentoml": """
import bentoml
from peer_model import load, score
@bentoml.service(workers=2)
class Service:
    def __init__(self):
        self.booster = load()
    @bentoml.api
    def predict(self, features: list[float]) -> float:
        return score(self.booster, [features])[0]
""",
    "ray": """
from ray import serve
from starlette.requests import Request
from peer_model import load, score
@serve.deployment(num_replicas=1, max_ongoing_requests=64)
class Scorer:
    def __init__(self):
        self.booster = load()
    async def __call__(self, request: Request):
        return {"prediction": score(self.booster, [(await request.json())["features"]])[0]}
app = Scorer.bind()
""",
}


# Triton gathers what waits into one call, and two instances share the load.
TRITON_CONFIGURATION = """
name: "body"
backend: "python"
max_batch_size: 64
input [ { name: "features" data_type: TYPE_FP32 dims: [ 30 ] } ]
output [ { name: "prediction" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""
TRITON_GATHERING = """
instance_group [ { kind: KIND_CPU count: 2 } ]
dynamic_batching { }
"""
TRITONS = ["triton", "triton-plain", "triton-sum", "triton-json"]
TRITON_MODEL = """
import os
import numpy as np
import triton_python_backend_utils as backend
import xgboost as xgb

class TritonPythonModel:
    def initialize(self, args):
        self.booster = xgb.Booster()
        self.booster.load_model(os.environ["MODEL"])
        self.booster.set_param({"nthread": 1})

    def execute(self, requests):
        parts = [backend.get_input_tensor_by_name(request, "features").as_numpy() for request in requests]
        scores = self.booster.inplace_predict(np.concatenate(parts)).astype("f4").reshape(-1, 1)
        ends = np.cumsum([len(part) for part in parts])[:-1]
        return [backend.InferenceResponse([backend.Tensor("prediction", part)]) for part in np.split(scores, ends)]
"""
TRITON_SUM = """
import triton_python_backend_utils as backend

class TritonPythonModel:
    def execute(self, requests):
        parts = [backend.get_input_tensor_by_name(request, "features").as_numpy() for request in requests]
        return [backend.InferenceResponse([backend.Tensor("prediction", part.sum(1, keepdims=True))]) for part in parts]
"""


def binary_request(numbers: list[float]) -> tuple[bytes, dict[str, str]]:
    """One row as a binary tensor, and the header fields that go with it."""
    values = struct.pack("<30f", *numbers)
    tensor = {"name": "features", "shape": [1, 30], "datatype": "FP32"}
    head = json.dumps({
        "inputs": [{**tensor, "parameters": {"binary_data_size": len(values)}}],
        "outputs": [{"name": "prediction", "parameters": {"binary_data": True}}],
    }).encode()  # fmt: skip
    return head + values, {"Inference-Header-Content-Length": str(len(head))}


def json_request(numbers: list[float]) -> tuple[bytes, dict[str, str]]:
    """The same row in JSON."""
    tensor = {"name": "features", "shape": [1, 30], "datatype": "FP32", "data": numbers}
    return json.dumps({"inputs": [tensor]}).encode(), {"Content-Type": "application/json"}


class TritonPeer:
    """The real Triton with a Python backend."""

    def __init__(self, name: str, python: str, folder: pathlib.Path, model: pathlib.Path) -> None:
        place = pathlib.Path(tempfile.mkdtemp(dir=folder))
        version = place / "models" / "body" / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(TRITON_SUM if name == "triton-sum" else TRITON_MODEL)
        gathering = "" if name in ("triton-plain", "triton-sum") else TRITON_GATHERING
        (version.parent / "config.pbtxt").write_text(TRITON_CONFIGURATION + gathering)
        self.server = Triton(python, place, place / "models", str(free_port()), str(free_port()))
        self.server.environment |= {"MODEL": str(model), "OMP_NUM_THREADS": "1"}

    def start(self) -> str:
        self.server.start()
        return f"http://{self.server.url}/v2/models/body/infer"

    def stop(self) -> None:
        self.server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Peer:
    """Another server, in a process group of its own."""

    def __init__(self, name: str, python: str, folder: pathlib.Path, model: pathlib.Path) -> None:
        self.name, self.bin, self.folder = name, pathlib.Path(python).absolute().parent, folder
        self.environment = os.environ | {
            "MODEL": str(model),
            "PYTHONPATH": str(folder),
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "BENTOML_DO_NOT_TRACK": "true",
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def run(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.folder,
            env=self.environment,
            stdout=(self.folder / f"{self.name}.log").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def start(self) -> str:
        port = str(free_port())
        program = f"peer_{self.name}"
        path = "/predict"
        if self.name.startswith("fastapi"):
            words = ["uvicorn", f"{program}:app", "--workers", "2", "--port", port, "--log-level", "warning"]
        elif self.name == "mosec":
            words = ["python", f"{program}.py", "--port", port, "--path", str(self.folder / "sockets")]
            path = "/inference"
        elif self.name == "bentoml":
            words = ["bentoml", "serve", f"{program}:Service", "--port", port]
        else:
            self.run("ray", "start", "--head", "--num-cpus", "2", "--disable-usage-stats").wait(120)
            words = ["serve", "run", f"{program}:app"]
            port, path = "8000", "/"
        self.process = self.run(*words)
        return f"http://127.0.0.1:{port}{path}"

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)
        if self.name == "ray":
            self.run("ray", "stop", "--force").wait(60)


def ready(url: str, body: bytes, fields: dict[str, str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            request = urllib.request.Request(url, body, fields)
            with urllib.request.urlopen(request, timeout=5) as answer:
                answer.read()
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError) as problem:
            if time.monotonic() > end:
                raise SystemExit(f"{url} does not answer: {problem}") from problem
            time.sleep(0.3)


def wrk(
    url: str, body: bytes, fields: dict[str, str], folder: pathlib.Path, seconds: int
) -> tuple[float, float, float]:
    """Requests a second, and p50 and p99 in milliseconds."""
    script = folder / "load.lua"
    (folder / "load.body").write_bytes(body)
    lines = [f"wrk.headers['{name}']='{value}'" for name, value in fields.items()]
    lines += ["wrk.method='POST'", f"wrk.body=io.open('{folder / 'load.body'}', 'rb'):read('*a')"]
    script.write_text("\n".join(lines) + "\n")
    command = ["wrk", "-t1", "-c64", "--latency", "-s", str(script)]
    subprocess.run([*command, "-d2s", url], check=True, capture_output=True)
    text = subprocess.run([*command, f"-d{seconds}s", url], check=True, capture_output=True, text=True).stdout
    if wrong := re.search(r"Non-2xx.*|Socket errors.*", text):
        print(f"  {url}: {wrong.group()}", flush=True)
    found = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert found is not None, text

    def quantile(share: str) -> float:
        match = re.search(rf"\s{share}%\s+([\d.]+)(us|ms|s)", text)
        assert match is not None, text
        return float(match[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[match[2]]

    return float(found[1]), quantile("50"), quantile("99")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bottega", required=True)
    parser.add_argument("--python", required=True, help="what serving.py was prepared with")
    parser.add_argument("--peers", help="python of the environment with the other servers")
    parser.add_argument("--keep", required=True)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--triton", help="python of the environment with Triton")
    parser.add_argument("--only", default=",".join([*PROGRAMS, *TRITONS]))
    options = parser.parse_args()
    random.seed(3)
    numbers = [round(random.gauss(0, 1), 5) for _ in range(30)]
    theirs = json.dumps({"features": numbers}).encode()
    ours = json.dumps({"features": {f"x{place}": value for place, value in enumerate(numbers)}}).encode()
    plain = {"Content-Type": "application/json"}
    tensors, tensor_fields = binary_request(numbers)
    names = [name for name in options.only.split(",") if name]
    if set(TRITONS) & set(names) and not options.triton:
        parser.error("--triton names the Python of the environment with Triton")
    own_ways = {
        "bottega": ("/predict/body", ours, plain),
        "bottega, binary tensors": ("/v2/models/body/infer", tensors, tensor_fields),
        "bottega, JSON tensors": ("/v2/models/body/infer", *json_request(numbers)),
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in [*own_ways, *names]}
    with tempfile.TemporaryDirectory(prefix="peers-") as place:
        folder = pathlib.Path(place)
        model = folder / "m.ubj"
        subprocess.run([options.peers or options.triton, "-c", MODEL, str(model)], check=True)
        (folder / "peer_model.py").write_text(LOAD)
        for name, program in PROGRAMS.items():
            (folder / f"peer_{name}.py").write_text(program)
        for _ in range(options.rounds):
            command = [options.bottega, "up", "--data-dir", f"{options.keep}/data", "--port", "0"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            base = process.stdout.readline().strip().rsplit(" ", 1)[1]
            for name, (path, body, fields) in own_ways.items():
                ready(base + path, body, fields)
                found[name].append(wrk(base + path, body, fields, folder, options.seconds))
            process.terminate()
            process.wait(60)
            for name in names:
                if name in TRITONS:
                    peer: Peer | TritonPeer = TritonPeer(name, options.triton, folder, model)
                    body, fields = json_request(numbers) if name == "triton-json" else (tensors, tensor_fields)
                else:
                    peer, fields = Peer(name, options.peers, folder, model), plain
                    body = ours if name == "fastapi_typed" else theirs
                url = peer.start()
                try:
                    ready(url, body, fields)
                    found[name].append(wrk(url, body, fields, folder, options.seconds))
                finally:
                    peer.stop()
            print({name: round(values[-1][0]) for name, values in found.items()}, flush=True)
    own = statistics.median(value[0] for value in found["bottega"])
    print("| server | req/s | p50 | p99 | ours is |\n|---|---|---|---|---|")
    for name, values in found.items():
        rate, middle, tail = (statistics.median(value[part] for value in values) for part in range(3))
        print(f"| {name} | {rate:,.0f} | {middle:.1f} ms | {tail:.1f} ms | {own / rate:.1f} |")


if __name__ == "__main__":
    main()
