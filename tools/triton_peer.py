"""The real Triton as a peer: started with a Python-backend model that has another server's inputs, outputs and answers.

It comes in the wheel `nvidia-pytriton` and runs on a processor alone. Nothing of that package's own Python is used.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from typing import Any

# Answers every row from a table; what is not in it is told from what makes it: the sum of the numbers that came.
MODEL = """
import json, pathlib
import numpy as np
import triton_python_backend_utils as backend

FOLDER = pathlib.Path(__file__).parent
TYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "BOOL": bool, "BYTES": object}


class TritonPythonModel:
    def initialize(self, args):
        self.answers = json.loads((FOLDER / "answers.json").read_text())
        self.outputs = json.loads((FOLDER / "outputs.json").read_text())

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        rows = max(len(values) for values in tensors.values())
        found = []
        for row in range(rows):
            key = [self.text(tensors[name][row]) for name in sorted(tensors)]
            found.append(self.answers.get("|".join(key), self.answers[""]))
        made = []
        for output in self.outputs:
            values = np.array([answer[output["name"]] for answer in found], dtype=TYPES[output["datatype"]])
            made.append(backend.Tensor(output["name"], values.reshape(rows, -1)))
        asked = set(request.requested_output_names())
        return backend.InferenceResponse(output_tensors=[tensor for tensor in made if tensor.name() in asked])

    def text(self, values):
        return ",".join(v.decode() if isinstance(v, bytes) else str(float(v)) for v in values)
"""


def row_key(row: dict[str, Any]) -> str:
    """What the model finds an answer by: the tensors of a row in the order of their names."""
    return "|".join(value if isinstance(value, str) else str(float(value)) for _, value in sorted(row.items()))


def configuration(known: dict[str, Any]) -> str:
    """The configuration file of a Python-backend model with the inputs and outputs of `known`, a `/config`."""
    lines = [f'name: "{known["name"]}"', 'backend: "python"', f"max_batch_size: {known['max_batch_size']}"]
    for kind in ("input", "output"):
        for tensor in known[kind]:
            dims = ", ".join(str(extent) for extent in tensor["dims"])
            optional = " optional: true" if tensor.get("optional") else ""
            head = f'name: "{tensor["name"]}" data_type: {tensor["data_type"]}'
            lines.append(f"{kind} [ {{ {head} dims: [ {dims} ]{optional} }} ]")
    lines.append("instance_group [ { kind: KIND_CPU count: 1 } ]")
    return "\n".join(lines) + "\n"


def repository(
    folder: pathlib.Path, known: dict[str, Any], metadata: dict[str, Any], answers: dict[str, dict[str, Any]]
) -> None:
    """Writes a model repository; `answers` are by `row_key`, that under the empty key stands for every other row."""
    model = folder / known["name"]
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(configuration(known))
    (model / "1" / "model.py").write_text(MODEL)
    (model / "1" / "answers.json").write_text(json.dumps(answers))
    (model / "1" / "outputs.json").write_text(json.dumps(metadata["outputs"]))


class Triton:
    """A running `tritonserver`."""

    def __init__(self, python: str, folder: pathlib.Path, models: pathlib.Path, http: str, grpc: str) -> None:
        packages = pathlib.Path(
            subprocess.run(
                [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                capture_output=True, text=True, check=True,
            ).stdout.strip()
        )  # fmt: skip
        self.home = packages / "pytriton" / "tritonserver"
        version = packages.parent.name.removeprefix("python")
        backend = folder / "backends" / "python"
        backend.mkdir(parents=True)
        # The stub, the process that runs a model, is one for each version of Python. The libraries are found beside the
        # files' own places, so these are links.
        for file in [*(self.home / "backends" / "python").iterdir(), *self.stubs(version)]:
            (backend / file.name).symlink_to(file)
        self.url, self.grpc = f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"
        self.log = folder / "triton.log"
        self.command = [
            str(self.home / "bin" / "tritonserver"), f"--model-repository={models}",
            f"--backend-directory={backend.parent}", "--model-control-mode=explicit", "--load-model=*",
            "--http-address=127.0.0.1", f"--http-port={http}", "--grpc-address=127.0.0.1", f"--grpc-port={grpc}",
            "--allow-metrics=false",
        ]  # fmt: skip
        libraries = [str(packages / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR") or ""]
        self.environment = {
            **os.environ, "PYTHONPATH": str(packages), "LD_LIBRARY_PATH": ":".join(libraries),
            "PATH": f"{pathlib.Path(python).parent}:{os.environ['PATH']}",
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def stubs(self, version: str) -> list[pathlib.Path]:
        folder = self.home / "python_backend_stubs" / version
        if not folder.is_dir():
            raise RuntimeError(f"{folder.parent} has no stub for Python {version}")
        return list(folder.iterdir())

    def start(self) -> Triton:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=self.environment, start_new_session=True
            )
        end = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://{self.url}/v2/health/ready", timeout=5).read()
                return self
            except (OSError, urllib.error.URLError) as problem:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.stop()
                    raise RuntimeError(self.log.read_text()[-4000:]) from problem
                time.sleep(0.1)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(ProcessLookupError):  # one that dies leaves its models' processes behind
            os.killpg(self.process.pid, signal.SIGKILL)
