"""Networks of PyTorch and Keras, as MLflow logs them and as ONNX: registered, deployed, and predicting as themselves.

The libraries are large: `BOTTEGA_TORCH_PYTHON` and `BOTTEGA_KERAS_PYTHON` name interpreters that have one of them and
mlflow (and for Keras as ONNX tensorflow and tf2onnx); without them these models are not tested.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

import mlflow
import mlflow.onnx
import numpy as np
import onnx
import onnxruntime
import pytest
import shop
from conftest import Server
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

LIBRARY = next(pathlib.Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*"))
WORKERS = "fallback: {constant: 0.25}\nworkers: {min: 1, max: 2, memory: 64GiB, timeout: 60s, environment: %s}"

# Each is given the tracking server, the number of inputs and a folder; it logs its model several ways.
TORCH = """
import json, sys
import mlflow, mlflow.pytorch, numpy as np, torch
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

url, width, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
mlflow.set_tracking_uri(url)
mlflow.set_experiment("torch")
torch.manual_seed(1)


class Filled(torch.nn.Module):  # networks know no missing values: what stands for them belongs to the model
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(width, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1), torch.nn.Sigmoid())

    def forward(self, x):
        return self.layers(torch.where(torch.isnan(x), torch.zeros_like(x), x) * 0.01)


model = Filled().eval()
rows = np.load(folder + "/rows.npy")
expected = model(torch.from_numpy(rows)).detach().numpy()
np.save(folder + "/expected.npy", expected)
number = np.dtype("float32")
signature = ModelSignature(Schema([TensorSpec(number, (-1, width))]), Schema([TensorSpec(number, (-1, 1))]))
runs = {}
with mlflow.start_run() as run:
    NAME = {"name": "model"} if int(mlflow.__version__.split(".")[0]) >= 3 else {"artifact_path": "model"}
    mlflow.pytorch.log_model(model, signature=signature, pip_requirements=["torch"], **NAME)
    runs["python"] = run.info.run_id
torch.onnx.export(
    model, torch.from_numpy(rows[:1]), folder + "/model.onnx", input_names=["x"], output_names=["probability"],
    dynamic_axes={"x": {0: "rows"}, "probability": {0: "rows"}}, opset_version=13)
print(json.dumps(runs))
"""
KERAS = """
import importlib.util, json, os, sys
has_tensorflow = importlib.util.find_spec("tensorflow") is not None
os.environ["KERAS_BACKEND"] = "tensorflow" if has_tensorflow else "jax"
import keras, mlflow, numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

url, width, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
mlflow.set_tracking_uri(url)
mlflow.set_experiment("keras")
keras.utils.set_random_seed(1)
x = keras.Input((width,), name="x")
filled = keras.ops.where(keras.ops.isnan(x), 0.0, x)  # networks know no missing values
hidden = keras.layers.Dense(8, "relu")(keras.layers.Rescaling(0.01)(filled))
model = keras.Model(x, keras.layers.Dense(1, "sigmoid")(hidden))
model.compile(loss="binary_crossentropy")
rows = np.load(folder + "/rows.npy")
expected = model.predict(rows, verbose=0)
np.save(folder + "/expected.npy", expected)
number = np.dtype("float32")
signature = ModelSignature(Schema([TensorSpec(number, (-1, width))]), Schema([TensorSpec(number, (-1, 1))]))
runs = {}
flavors = {"python": "mlflow.keras"} | ({"tensorflow": "mlflow.tensorflow"} if has_tensorflow else {})
for kind, module in flavors.items():
    with mlflow.start_run() as run:
        flavor = __import__(module, fromlist=["log_model"])
        flavor.log_model(model, name="model", signature=signature, pip_requirements=["keras"])
        runs[kind] = run.info.run_id
if has_tensorflow:
    model.export(folder + "/model.onnx", format="onnx", verbose=False)
print(json.dumps(runs))
"""


@pytest.fixture
def shopped(tmp_path_factory: pytest.TempPathFactory, binary: str) -> Iterator[Server]:
    """A server with the shop's rows and a training set; models are logged by the test, whose environment is its own."""
    folder = tmp_path_factory.mktemp("deep")
    server = Server(folder / "data", "--clock", "manual", environment={"BOTTEGA_ONNX_LIBRARY": str(LIBRARY)}).start()
    server.post("/api/v1/clock", {"now": shop.START + 12 * shop.DAY})
    server.definitions = shop.write_definitions(folder / "definitions", log_loss=1000)
    server.cli("apply", str(server.definitions))
    history = shop.history(12)
    for name in ("payments", "orders", "outcomes"):
        server.cli("ingest", name, str(shop.write_csv(folder / f"{name}.csv", getattr(history, name))))
    span = ["--from", shop.text(shop.START + 2 * shop.DAY), "--to", shop.text(shop.START + 11 * shop.DAY)]
    server.dataset = json.loads(server.cli("dataset", "build", "loss", *span, "--json").stdout)["dataset"]
    yield server
    assert server.stop() == 0


def logged_as_onnx(path: pathlib.Path, width: int) -> str:
    """A run with the model of a file and its signature."""
    number = np.dtype("float32")
    signature = ModelSignature(Schema([TensorSpec(number, (-1, width))]), Schema([TensorSpec(number, (-1, 1))]))
    with mlflow.start_run() as run:
        mlflow.onnx.log_model(
            onnx.load(path),
            name="model",
            signature=signature,
            pip_requirements=["onnxruntime"],
            save_as_external_data=False,
        )
    return run.info.run_id


def interpreter_of(library: str) -> Any:
    name = f"BOTTEGA_{library}_PYTHON"
    return pytest.param(
        os.environ.get(name),
        {"TORCH": TORCH, "KERAS": KERAS}[library],
        marks=pytest.mark.skipif(name not in os.environ, reason=f"{name} names no interpreter"),
        id=library.lower(),
    )


@pytest.mark.parametrize(("interpreter", "script"), [interpreter_of("TORCH"), interpreter_of("KERAS")])
def test_networks_answer_as_themselves(interpreter: str, script: str, shopped: Server, tmp_path: pathlib.Path) -> None:
    server = shopped
    model = server.definitions / "model.yaml"
    model.write_text(
        model.read_text().replace("fallback: {constant: 0.25}", WORKERS % interpreter).replace("50ms", "60s")
    )
    server.cli("apply", str(server.definitions))

    # What the requests say stands for what the store would, so that the rows are known here.
    random = np.random.default_rng(5)
    rows = random.uniform(0, 100, size=(12, 9)).astype(np.float32)
    rows[:, 0] = random.integers(0, 3, size=12)
    np.save(tmp_path / "rows.npy", rows)

    command = [interpreter, "-c", script, server.url, str(rows.shape[1]), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    runs = json.loads(done.stdout.strip().splitlines()[-1])
    mlflow.set_tracking_uri(server.url)
    mlflow.set_experiment("deep")
    if (tmp_path / "model.onnx").exists():
        runs["onnx"] = logged_as_onnx(tmp_path / "model.onnx", rows.shape[1])
    expected = np.load(tmp_path / "expected.npy")[:, 0]
    assert np.ptp(expected) > 1e-3, expected
    for kind, name in runs.items():
        server.cli("model", "register", "loss", "--run", name, "--dataset", server.dataset)
        version = server.get("/api/v1/models/loss")["versions"][-1]["version"]
        shown = json.loads(server.cli("model", "show", "loss", str(version), "--json").stdout)
        assert shown["format"] == ("onnx" if kind == "onnx" else "python"), shown
        for stage in ("staging", "canary"):
            server.cli("model", "promote", "loss", str(version), stage, "--reason", "for the test")
        server.cli("deploy", "loss", str(version), "--reason", "for the test")
        body = {"entities": {"customer": "c01"}, "features": {"channel": "app", "price": 1}}
        inputs = server.get(f"/predictions/{server.post('/predict/loss', body)['prediction_id']}/why")["inputs"]
        names = [entry["name"] for entry in inputs]
        assert names[:1] == ["channel"], names
        instances = []
        for row in rows:
            features = {"channel": shop.CHANNELS[int(row[0])], **dict(zip(names[1:], map(float, row[1:]), strict=True))}
            instances.append({"entities": {"customer": "c01"}, "features": features})
        answers = [server.post("/predict/loss", instance) for instance in instances]
        assert {(answer["model_version"], answer["fallback"]) for answer in answers} == {(version, False)}, answers
        assert np.allclose([answer["prediction"] for answer in answers], expected, rtol=1e-5), kind
        batch = server.post("/predict/loss", {"instances": instances})["predictions"]
        assert np.allclose([answer["prediction"] for answer in batch], expected, rtol=1e-5), kind
