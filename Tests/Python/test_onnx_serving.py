"""A scikit-learn pipeline with texts, as ONNX: trained by a job, registered, gated, deployed, predicted, replayed."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import onnx
import onnxruntime
import pytest
import shop
from conftest import TRAINING_ROWS, Server

LIBRARY = next(pathlib.Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*"))

TRAIN = (
    TRAINING_ROWS
    + """
import mlflow
import mlflow.onnx
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

features = frame[names].copy()
features[numbers] = features[numbers].astype("float32")
pipeline = make_pipeline(
    ColumnTransformer(
        [("texts", OneHotEncoder(handle_unknown="ignore"), texts), ("numbers", SimpleImputer(), numbers)]
    ),
    GradientBoostingClassifier(n_estimators=40, max_depth=3, random_state=0),
)
pipeline.fit(features, frame[manifest["label"]].astype(int))
model = to_onnx(
    pipeline,
    initial_types=[(name, (StringTensorType if name in texts else FloatTensorType)([None, 1])) for name in names],
    options={"zipmap": False},
)
inputs = [ColSpec(DataType.string if name in texts else DataType.float, name, required=False) for name in names]
with mlflow.start_run():
    mlflow.onnx.log_model(
        model, name="model", signature=ModelSignature(inputs=Schema(inputs)), pip_requirements=["onnxruntime"],
        save_as_external_data=False,
    )
"""
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, binary: str):
    folder = tmp_path_factory.mktemp("onnx")
    server = Server(folder / "data", "--clock", "manual", environment={"BOTTEGA_ONNX_LIBRARY": str(LIBRARY)}).start()
    server.post("/api/v1/clock", {"now": shop.START + 27 * shop.DAY})
    server.cli("apply", str(shop.write_definitions(folder / "definitions", log_loss=0.7, train=TRAIN)))
    history = shop.history(27)
    for name in ("payments", "orders", "outcomes"):
        server.cli("ingest", name, str(shop.write_csv(folder / f"{name}.csv", getattr(history, name))))
    span = ["--from", shop.text(shop.START + 8 * shop.DAY), "--to", shop.text(shop.START + 26 * shop.DAY)]
    dataset = json.loads(server.cli("dataset", "build", "loss", *span, "--json").stdout)["dataset"]
    job = server.post("/training-jobs", {"model": "loss", "dataset": dataset})
    server.cli("model", "register", "loss", "--job", job["id"])
    yield server, dataset
    assert server.stop() == 0


def tensor(value: str | float | None) -> np.ndarray:
    if isinstance(value, str):
        return np.array([[value]], dtype=object)
    return np.array([[np.nan if value is None else value]], dtype=np.float32)


def test_a_pipeline_is_registered_promoted_and_served(served) -> None:
    server, _ = served
    shown = json.loads(server.cli("model", "show", "loss", "1", "--json").stdout)
    assert shown["format"] == "onnx", shown
    for stage in ("staging", "canary"):
        server.cli("model", "promote", "loss", "1", stage, "--reason", "for the test")
    server.cli("deploy", "loss", "1", "--reason", "for the test")
    [artifact] = [
        path for path in server.data_dir.joinpath("objects").rglob(f"*{shown['artifact'][2:]}*") if path.is_file()
    ]
    session = onnxruntime.InferenceSession(artifact.read_bytes(), providers=["CPUExecutionProvider"])
    for customer, channel, price in [("c01", "app", 10), ("c02", "web", 99.5), ("nobody", "shop", 40)]:
        answer = server.post(
            "/predict/loss", {"entities": {"customer": customer}, "features": {"channel": channel, "price": price}}
        )
        assert (answer["model_version"], answer["fallback"]) == (1, False), answer
        inputs = server.get(f"/predictions/{answer['prediction_id']}/why")["inputs"]
        feed = {entry["name"]: tensor(entry["value"]) for entry in inputs}
        [probabilities] = session.run(["probabilities"], feed)
        assert np.float32(answer["prediction"]) == probabilities[0, 1], (answer, inputs)
        replayed = server.post(f"/predictions/{answer['prediction_id']}/replay", {})
        assert (replayed["compared"], replayed["equal"]) == (1, 1), replayed
    assert list((server.data_dir / "onnx").glob("passed-*")), "what was tried is remembered"


def test_a_restart_serves_it_again(served) -> None:
    server, _ = served
    assert server.stop() == 0
    server.start()
    answer = server.post("/predict/loss", {"entities": {"customer": "c01"}, "features": {"channel": "app", "price": 1}})
    assert (answer["model_version"], answer["fallback"]) == (1, False), answer


def test_a_broken_file_is_refused_in_words_and_the_server_goes_on(served, tmp_path: pathlib.Path) -> None:
    import mlflow

    server, dataset = served
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"\x08\x08\x3a\x04\x0a\x02\x22\x00")
    mlflow.set_tracking_uri(server.url)
    mlflow.set_experiment("broken")
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(broken))
    done = server.cli("model", "register", "loss", "--run", run.info.run_id, "--dataset", dataset, check=False)
    assert done.returncode != 0 and "model.onnx" in done.stderr, done.stderr
    answer = server.post("/predict/loss", {"entities": {"customer": "c01"}, "features": {"channel": "app", "price": 1}})
    assert answer["fallback"] is False
    # Two values for each row are neither one prediction nor classes.
    width = len(server.get(f"/predictions/{answer['prediction_id']}/why")["inputs"])
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "values",
        [onnx.helper.make_tensor_value_info("x", kind, [None, width])],
        [onnx.helper.make_tensor_value_info("y", kind, [None, 2])],
        [onnx.helper.make_tensor("w", kind, [width, 2], [0.5] * (2 * width))],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    broken.write_bytes(model.SerializeToString())
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(broken))
    done = server.cli("model", "register", "loss", "--run", run.info.run_id, "--dataset", dataset, check=False)
    assert done.returncode == 2 and "2 values for each row" in done.stderr, done.stderr
    # A file by itself says what it takes: a signature beside it would say nothing more.
    constant = onnx.helper.make_graph(
        [
            onnx.helper.make_node("IsNaN", ["x"], ["is_missing"]),
            onnx.helper.make_node("Cast", ["is_missing"], ["missing"], to=kind),
            onnx.helper.make_node("MatMul", ["missing", "w"], ["m"]),
            onnx.helper.make_node("Sigmoid", ["m"], ["y"]),
        ],
        "half",
        [onnx.helper.make_tensor_value_info("x", kind, [None, width])],
        [onnx.helper.make_tensor_value_info("y", kind, [None, 1])],
        [onnx.helper.make_tensor("w", kind, [width, 1], [0.0] * width)],
    )
    model = onnx.helper.make_model(constant, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    broken.write_bytes(model.SerializeToString())
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(broken))
    made = json.loads(
        server.cli("model", "register", "loss", "--run", run.info.run_id, "--dataset", dataset, "--json").stdout
    )
    shown = server.get(f"/api/v1/models/loss/versions/{made['version']}")
    assert len(shown["signature"]["inputs"]) == width, shown
