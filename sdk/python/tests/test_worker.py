"""The worker program by itself: what it loads, and what it says of models that it cannot load.

PyTorch and Keras are large: `BOTTEGA_TORCH_PYTHON` and `BOTTEGA_KERAS_PYTHON` name interpreters that have them and
mlflow; without them these models are not tested.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
from typing import Any

import cloudpickle
import joblib
import lightgbm
import mlflow.lightgbm
import mlflow.pyfunc
import mlflow.sklearn
import mlflow.utils.requirements_utils
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, Schema
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

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

    def send(self, kind: int, payload: bytes) -> None:
        self.channel.sendall(HEAD.pack(b"BTW1", kind, 1, len(payload)) + payload)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        self.send(2, struct.pack("<II", *rows.shape) + rows.astype("<f4").tobytes())
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


CHANNELS = ["app", "web"]
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file


def test_a_missing_text_is_none_whatever_is_beside_it(tmp_path: pathlib.Path) -> None:
    codes = np.array([0, 1, np.nan] * 20, dtype="<f4")
    texts = pd.Series([None if code != code else CHANNELS[int(code)] for code in codes], dtype=object)
    table = pd.DataFrame({"channel": texts, "price": np.arange(60.0)})
    columns = ColumnTransformer([("c", OneHotEncoder(), ["channel"])], remainder="passthrough")
    model = make_pipeline(columns, LogisticRegression()).fit(table, (codes != codes) | (table["price"] > 40))
    inputs = Schema([ColSpec("string", "channel", required=False), ColSpec("double", "price")])
    mlflow.sklearn.save_model(
        model,
        str(tmp_path / "sklearn"),
        signature=ModelSignature(inputs=inputs),
        pip_requirements=[],
        serialization_format="cloudpickle",
    )
    mlflow.pyfunc.save_model(
        str(tmp_path / "function"), python_model=AreNone(), signature=ModelSignature(inputs=inputs), pip_requirements=[]
    )
    rows = np.stack([codes, np.arange(60, dtype="<f4")], axis=1)
    for name, expected in (("sklearn", model.predict_proba(table)[:, 1]), ("function", (codes != codes).astype(float))):
        with Worker(tmp_path / name) as worker:
            worker.send(1, json.dumps({"categories": {"0": CHANNELS}}).encode())
            together = worker.predict(rows)[:, 0]
            alone = np.array([worker.predict(rows[place : place + 1])[0, 0] for place in range(len(rows))])
            missing = worker.predict(rows[codes != codes])[:, 0]
        assert np.array_equal(together, expected.astype("<f4")), name
        assert np.allclose(alone, together, rtol=1e-6) and np.allclose(missing, together[codes != codes], rtol=1e-6)


class AreNone(mlflow.pyfunc.PythonModel):
    """1 where the text is None, which a NaN is not."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> np.ndarray:
        return np.array([float(text is None) for text in model_input["channel"]])


class Says(mlflow.pyfunc.PythonModel):
    """Multiples of the first column, under names or without."""

    def __init__(self, factors: dict[str, float], named: bool, softmax: bool = False) -> None:
        self.factors, self.named, self.softmax = factors, named, softmax

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        values = np.stack([(model_input.iloc[:, 0].to_numpy() + 1) * by for by in self.factors.values()], axis=1)
        if self.softmax:
            values = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
        return pd.DataFrame(values, columns=list(self.factors)) if self.named else values


PAIR = {"prediction": 3.0, "stderr": 0.5}
QUANTILES = {"p10": 1.0, "p50": 10.0, "p90": 30.0}


@pytest.mark.parametrize(
    ("model", "outputs", "objective", "kept"),
    [
        (Says(PAIR, named=True), 1, "regression", [0]),
        (Says({"low": 0.25, "high": 0.75}, named=True), 2, "multi:regression", [0, 1]),
        (Says(QUANTILES, named=True), 3, "multi:regression", [0, 1, 2]),
        (Says(QUANTILES, named=False, softmax=True), 3, "multi:probability", [0, 1, 2]),
        (Says(PAIR, named=False, softmax=True), 1, "binary:probability", [1]),
        (Says({"prob_0": 0.2, "prob_1": 0.7}, named=True), 1, "binary:probability", [1]),
    ],
)
def test_several_outputs_are_probabilities_only_where_they_are(
    tmp_path: pathlib.Path, model: Says, outputs: int, objective: str, kept: list[int]
) -> None:
    inputs = Schema([ColSpec("double", "x")])
    signature = ModelSignature(inputs=inputs)
    mlflow.pyfunc.save_model(str(tmp_path / "m"), python_model=model, signature=signature, pip_requirements=[])
    rows = np.array([[0.5], [2]], dtype="<f4")
    with Worker(tmp_path / "m") as worker:
        assert (worker.hello["outputs"], worker.hello["objective"]) == (outputs, objective), worker.hello
        own = np.asarray(model.predict(None, pd.DataFrame({"x": rows[:, 0].astype(float)})))
        assert np.array_equal(worker.predict(rows), own[:, kept].astype("<f4"))


def test_two_targets_are_no_probability(tmp_path: pathlib.Path) -> None:
    target = 3 * ROWS[:, 0] + 1
    model = LinearRegression().fit(ROWS, np.stack([target, 100 * target], axis=1))
    joblib.dump(model, tmp_path / "model.joblib")
    with Worker(tmp_path) as worker:
        assert (worker.hello["outputs"], worker.hello["objective"]) == (2, "multi:regression"), worker.hello
        assert np.allclose(worker.predict(ROWS), model.predict(ROWS), rtol=1e-5)


def test_a_wrapper_of_lightgbm_with_a_category_is_refused_with_what_to_log(tmp_path: pathlib.Path) -> None:
    table = pd.DataFrame({"channel": pd.Categorical(CHANNELS * 25), "price": np.arange(50.0)})
    model = lightgbm.LGBMRegressor(n_estimators=2, verbose=-1).fit(table, np.arange(50.0))
    signature = ModelSignature(inputs=Schema([ColSpec("string", "channel"), ColSpec("double", "price")]))
    mlflow.lightgbm.save_model(model, str(tmp_path / "m"), signature=signature, pip_requirements=[])
    with Worker(tmp_path / "m") as worker:
        assert "it cannot predict a row of zeros" in worker.hello["error"], worker.hello
        assert "log model.booster_ in its place" in worker.hello["error"], worker.hello
    mlflow.lightgbm.save_model(model.booster_, str(tmp_path / "b"), signature=signature, pip_requirements=[])
    assert (tmp_path / "b" / "model.lgb").read_text().startswith("tree\n")


def test_a_missing_package_is_named_with_the_environment_that_lacks_it(tmp_path: pathlib.Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: model.pkl\n")
    (tmp_path / "requirements.txt").write_text("torch==9.9\nnumpy\n")
    (tmp_path / "model.pkl").write_bytes(b"cno_such_package_of_anyone\nModel\n.")
    with Worker(tmp_path) as worker:
        assert "no_such_package_of_anyone" in worker.hello["error"], worker.hello
        for part in (sys.executable, "torch==9.9", "environment"):
            assert part in worker.hello["error"], worker.hello


def fresh_environment(folder: pathlib.Path) -> pathlib.Path:
    """An interpreter that sees all packages of this one, after those of a folder of its own."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    [packages] = (folder / "lib").glob("python*/site-packages")
    [others] = {path for path in sys.path if path.endswith("site-packages") and pathlib.Path(path, "sklearn").exists()}
    (packages / "others.pth").write_text(others + "\n")
    return packages


def saved_pipeline(folder: pathlib.Path, requirements: list[str]) -> pathlib.Path:
    mlflow.sklearn.save_model(
        LogisticRegression().fit(ROWS, LABELS),
        str(folder),
        signature=infer_signature(ROWS, LABELS),
        pip_requirements=requirements,
        serialization_format="cloudpickle",
    )
    return folder


def test_requirements_are_compared_as_mlflow_does(tmp_path: pathlib.Path) -> None:
    here = importlib.metadata.version
    lines = [
        f"numpy=={here('numpy')}",
        f"scikit_learn>={here('scikit-learn')},<99",
        "scikit-learn==0.24.2",
        "pandas<1",
        "mlflow[extras]>=1",
        "no-such-package-of-anyone",
        "no-such-package-of-anyone==1.0; python_version < '3'",
        "cloudpickle!=0.1,>=0",
        "joblib===0.1",
        "scipy==0.*",
    ]
    folder = saved_pipeline(tmp_path / "model", ["numpy"])
    (folder / "requirements.txt").write_text("# edited\n" + "".join(f"{line}  # why\n" for line in lines))
    expected = {
        line for line in lines if mlflow.utils.requirements_utils._check_requirement_satisfied(line) is not None
    }
    assert 0 < len(expected) < len(lines), expected
    with Worker(folder) as worker:
        told = worker.hello["differences"]
    assert {line.split(" is wanted, ")[0] for line in told} == expected, told
    assert f"scikit-learn==0.24.2 is wanted, {here('scikit-learn')} is there" in told
    assert "no-such-package-of-anyone is wanted, it is not installed" in told


def test_another_python_is_told_and_another_patch_of_it_is_not(tmp_path: pathlib.Path) -> None:
    folder = saved_pipeline(tmp_path / "model", ["numpy"])
    major, minor = sys.version_info[:2]
    for name in ("python_env.yaml", "conda.yaml"):
        path = folder / name
        text = path.read_text()
        here = ".".join(str(part) for part in sys.version_info[:3])
        assert here in text, text
        for version, count in ((f"{major}.{minor}.99", 0), (f"{major}.{minor + 1}.0", 1)):
            path.write_text(text.replace(here, version))
            with Worker(folder) as worker:
                assert len(worker.hello["differences"]) == count, worker.hello
        path.unlink()


def test_what_conda_installs_counts_where_nothing_else_does(tmp_path: pathlib.Path) -> None:
    folder = saved_pipeline(tmp_path / "model", ["scikit-learn==0.24.2", "numpy"])
    (folder / "requirements.txt").unlink()
    with Worker(folder) as worker:
        [told] = worker.hello["differences"]
    assert told.startswith("scikit-learn==0.24.2 is wanted, "), told


def test_without_packaging_exact_versions_are_compared(tmp_path: pathlib.Path) -> None:
    packages = fresh_environment(tmp_path / "venv")
    # A package of that name that is none hides the one there is.
    (packages / "packaging.py").write_text("")
    lines = [f"numpy=={importlib.metadata.version('numpy')}", "scikit-learn==0.24.2", "pandas<1"]
    folder = saved_pipeline(tmp_path / "model", lines)
    with Worker(folder, str(tmp_path / "venv/bin/python")) as worker:
        [told] = worker.hello["differences"]
    assert told.startswith("scikit-learn==0.24.2 is wanted, "), told


def test_a_long_list_of_differences_is_cut(tmp_path: pathlib.Path) -> None:
    folder = saved_pipeline(tmp_path / "model", ["numpy"])
    (folder / "requirements.txt").write_text("".join(f"no-such-package-{number}==1\n" for number in range(100)))
    with Worker(folder) as worker:
        assert len(worker.hello["differences"]) == 21, worker.hello
        assert worker.hello["differences"][-1] == "and 80 more"


def test_a_pickle_that_cannot_be_read_is_refused_with_the_versions_it_wanted(tmp_path: pathlib.Path) -> None:
    folder = saved_pipeline(tmp_path / "model", ["scikit-learn==0.24.2"])
    [pickled] = folder.glob("model.pkl")
    pickled.write_bytes(pickled.read_bytes()[:-40])
    with Worker(folder) as worker:
        assert "scikit-learn==0.24.2 is wanted" in worker.hello["error"], worker.hello


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
