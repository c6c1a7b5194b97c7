"""The worker program by itself: what it loads, and what it says of models that it cannot load.

PyTorch and Keras are large: `BOTTEGA_TORCH_PYTHON` and `BOTTEGA_KERAS_PYTHON` name interpreters that have them and
mlflow; without them these models are not tested.
"""

from __future__ import annotations

import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
from typing import Any

import joblib
import mlflow.sklearn
import numpy as np
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

PROGRAM = pathlib.Path(__file__).parents[1] / "src" / "bottega" / "worker.py"
HEAD = struct.Struct("<4sBxxxII")
ROWS = np.random.default_rng(3).normal(size=(50, 4)).astype("<f4")
LABELS = (ROWS[:, 0] + ROWS[:, 1] > 0).astype(int)

TORCH = """
import sys
import mlflow, numpy as np, torch
rows = np.load(sys.argv[1] + "/rows.npy")
torch.manual_seed(1)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1), torch.nn.Sigmoid())
expected = model(torch.from_numpy(rows)).detach().numpy()
mlflow.pytorch.save_model(
    model, sys.argv[1] + "/model", signature=mlflow.models.infer_signature(rows, expected), pip_requirements=["torch"])
np.save(sys.argv[1] + "/expected.npy", expected)
"""
KERAS = """
import os, sys
os.environ["KERAS_BACKEND"] = "jax"
import keras, mlflow.keras, numpy as np
rows = np.load(sys.argv[1] + "/rows.npy")
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3, "softmax")])
expected = model.predict(rows, verbose=0)
mlflow.keras.save_model(
    model, sys.argv[1] + "/model", signature=mlflow.models.infer_signature(rows, expected),
    pip_requirements=["keras"])
np.save(sys.argv[1] + "/expected.npy", expected)
"""


class Worker:
    """A worker process, as the server starts one."""

    def __init__(self, folder: pathlib.Path, interpreter: str = sys.executable) -> None:
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(120)
        options = json.dumps({"folder": str(folder), "memory": 0, "parent": os.getpid()})
        self.process = subprocess.Popen(
            [interpreter, "-I", "-u", str(PROGRAM), options],
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "OMP_NUM_THREADS": "1"},
        )
        theirs.close()
        _, payload = self.read()
        self.hello: dict[str, Any] = json.loads(payload)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self.process.kill()
        self.process.wait(60)

    def read(self) -> tuple[int, bytes]:
        def take(count: int) -> bytes:
            data = b""
            while len(data) < count:
                part = self.channel.recv(count - len(data))
                assert part, "the worker ended"
                data += part
            return data

        magic, kind, _, length = HEAD.unpack(take(HEAD.size))
        assert magic == b"BTW1"
        return kind, take(length)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        payload = struct.pack("<II", *rows.shape) + rows.astype("<f4").tobytes()
        self.channel.sendall(HEAD.pack(b"BTW1", 2, 1, len(payload)) + payload)
        kind, answer = self.read()
        assert kind == 17, answer
        return np.frombuffer(answer, "<f4", offset=8).reshape(struct.unpack_from("<II", answer))


def test_joblib_files_answer_as_the_object_itself(tmp_path: pathlib.Path) -> None:
    model = LogisticRegression().fit(ROWS, LABELS)
    joblib.dump(model, tmp_path / "model.joblib", compress=3)
    with Worker(tmp_path) as worker:
        assert (worker.hello["feature_count"], worker.hello["outputs"]) == (4, 1), worker.hello
        assert worker.hello["objective"] == "binary:probability"
        expected = model.predict_proba(ROWS.astype("float64"))[:, 1:].astype("<f4")
        assert np.array_equal(worker.predict(ROWS), expected)


def test_a_signature_of_one_tensor_is_enough(tmp_path: pathlib.Path) -> None:
    model = LogisticRegression().fit(ROWS, LABELS)
    signature = infer_signature(ROWS, model.predict(ROWS))
    mlflow.sklearn.save_model(
        model, str(tmp_path / "model"), signature=signature, pip_requirements=[], serialization_format="cloudpickle"
    )
    with Worker(tmp_path / "model") as worker:
        assert (worker.hello["features"], worker.hello["feature_count"]) == ([], 4), worker.hello
        assert np.allclose(worker.predict(ROWS), model.predict_proba(ROWS)[:, 1:], rtol=1e-6)


def test_a_missing_package_is_named_with_the_environment_that_lacks_it(tmp_path: pathlib.Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: model.pkl\n")
    (tmp_path / "requirements.txt").write_text("torch==9.9\nnumpy\n")
    (tmp_path / "model.pkl").write_bytes(b"cno_such_package_of_anyone\nModel\n.")
    with Worker(tmp_path) as worker:
        assert "no_such_package_of_anyone" in worker.hello["error"], worker.hello
        for part in (sys.executable, "torch==9.9", "environment"):
            assert part in worker.hello["error"], worker.hello


def saved(script: str, interpreter: str, folder: pathlib.Path) -> np.ndarray:
    """Has another interpreter save a model with mlflow; its own answers for the rows."""
    np.save(folder / "rows.npy", ROWS)
    subprocess.run([interpreter, "-c", script, str(folder)], check=True, timeout=300)
    return np.load(folder / "expected.npy")


@pytest.mark.skipif("BOTTEGA_TORCH_PYTHON" not in os.environ, reason="BOTTEGA_TORCH_PYTHON names no interpreter")
def test_pytorch_models_answer_as_themselves(tmp_path: pathlib.Path) -> None:
    interpreter = os.environ["BOTTEGA_TORCH_PYTHON"]
    expected = saved(TORCH, interpreter, tmp_path)
    with Worker(tmp_path / "model", interpreter) as worker:
        assert (worker.hello["feature_count"], worker.hello["outputs"]) == (4, 1), worker.hello
        assert np.allclose(worker.predict(ROWS), expected, rtol=1e-6)


@pytest.mark.skipif("BOTTEGA_KERAS_PYTHON" not in os.environ, reason="BOTTEGA_KERAS_PYTHON names no interpreter")
def test_keras_models_answer_as_themselves(tmp_path: pathlib.Path) -> None:
    interpreter = os.environ["BOTTEGA_KERAS_PYTHON"]
    expected = saved(KERAS, interpreter, tmp_path)
    with Worker(tmp_path / "model", interpreter) as worker:
        assert (worker.hello["feature_count"], worker.hello["outputs"]) == (4, 3), worker.hello
        assert np.allclose(worker.predict(ROWS), expected, rtol=1e-5)
