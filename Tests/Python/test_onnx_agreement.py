"""Our ONNX models against `onnxruntime` itself: what converters and exporters write, predictions compared bit for bit.

Needs the built program in the environment variable BOTTEGA_BINARY, onnxruntime, onnx, skl2onnx and onnxmltools.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BINARY = os.environ.get("BOTTEGA_BINARY")
if not BINARY:
    pytest.skip("BOTTEGA_BINARY is not set", allow_module_level=True)

import lightgbm
import numpy as np
import onnx
import onnxmltools
import onnxruntime
import skl2onnx
import xgboost
from onnx import TensorProto, helper, numpy_helper
from onnxmltools.convert.common import data_types as tool_types
from skl2onnx.common.data_types import (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

LIBRARY = str(next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*")))
ROWS, FEATURES = 203, 6
CHANNELS = ["app", "shop", "web", "Öffentlich"]


def run(*arguments: Any, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [str(part) for part in (BINARY, *arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def ours(model: Path, rows: np.ndarray, categories: dict[int, list[str]] | None = None) -> np.ndarray:
    """Predictions of `bottega score-file`."""
    source, target = model.with_suffix(".rows"), model.with_suffix(".out")
    np.ascontiguousarray(rows, dtype="<f4").tofile(source)
    more = (
        ["--categories", json.dumps({str(place): texts for place, texts in categories.items()})] if categories else []
    )
    done = run("score-file", "--file", model, "--rows", source, "--output", target, "--library", LIBRARY, *more)
    assert done.returncode == 0, done.stderr
    return np.fromfile(target, "<f4")


def theirs(model: bytes, feed: dict[str, np.ndarray] | np.ndarray, output: str) -> np.ndarray:
    """What onnxruntime gives, as float32; of two probabilities the second."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    if not isinstance(feed, dict):
        feed = {session.get_inputs()[0].name: feed}
    [values] = session.run([output], feed)
    if isinstance(values, list):  # one map for each row
        values = np.array([[row[key] for key in sorted(row)] for row in values], dtype=np.float32)
    values = np.asarray(values).reshape(len(values), -1)
    if values.shape[1] == 2 and "prob" in output.lower():
        values = values[:, 1:]
    return values.astype("<f4").ravel()


def assert_same(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    assert found.shape == expected.shape, what
    different = np.flatnonzero(found.view("<u4") != expected.view("<u4"))
    assert different.size == 0, f"{what}: {different.size} differ: {found[different[:3]]}, {expected[different[:3]]}"


def assert_agrees(model: bytes, rows: np.ndarray, output: str, folder: Path, kind: Any = np.float32) -> None:
    path = folder / "model.onnx"
    path.write_bytes(model)
    for count in (len(rows), 1):
        assert_same(ours(path, rows[:count]), theirs(model, rows[:count].astype(kind), output), f"{count} rows")


def data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(600, FEATURES)).astype(np.float32)
    return rows, rows[:, 0] + rows[:, 1] * rows[:, 2] + 0.3 * random.normal(size=len(rows))


def classes(score: np.ndarray, count: int) -> np.ndarray:
    return np.digitize(score, np.quantile(score, np.arange(1, count) / count))


CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "forest": lambda: RandomForestClassifier(15, max_depth=6, random_state=1),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=15, random_state=1),
}
REGRESSORS: dict[str, Callable[[], Any]] = {
    "linear": lambda: make_pipeline(StandardScaler(), LinearRegression()),
    "forest": lambda: RandomForestRegressor(15, max_depth=6, random_state=1),
    "boosting": lambda: GradientBoostingRegressor(n_estimators=15, random_state=1),
}


@pytest.mark.parametrize("zipmap", [True, False], ids=["maps", "tensor"])
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_scikit_learn_classifiers_agree(name: str, count: int, zipmap: bool, tmp_path: Path) -> None:
    rows, score = data(count)
    fitted = CLASSIFIERS[name]().fit(rows, classes(score, count))
    initial = [("rows", FloatTensorType([None, FEATURES]))]
    model = skl2onnx.to_onnx(fitted, initial_types=initial, options={id(fitted): {"zipmap": zipmap}})
    names = [output.name for output in model.graph.output]
    assert_agrees(model.SerializeToString(), rows[:ROWS], names[1], tmp_path)


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, FloatTensorType) for name in REGRESSORS), ("linear", DoubleTensorType)]
)
def test_scikit_learn_regressors_agree(name: str, kind: Any, tmp_path: Path) -> None:
    rows, score = data(7)
    fitted = REGRESSORS[name]().fit(rows, score)
    model = skl2onnx.to_onnx(fitted, initial_types=[("rows", kind([None, FEATURES]))])
    element = np.float32 if kind is FloatTensorType else np.float64
    assert_agrees(model.SerializeToString(), rows[:ROWS], model.graph.output[0].name, tmp_path, element)


def test_columns_of_texts_and_numbers_agree(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    rows = np.stack(
        [
            random.integers(0, len(CHANNELS), 600),
            random.normal(size=600),
            random.integers(-5, 1000, 600),
            random.integers(0, 2, 600),
        ],
        axis=1,
    ).astype(np.float32)
    texts = np.array(CHANNELS)[rows[:, 0].astype(int)]
    target = (rows[:, 1] + (texts == "app") + rows[:, 2] / 500 + rows[:, 3] > 1.5).astype(int)
    import pandas

    frame = pandas.DataFrame({"channel": texts, "price": rows[:, 1], "seats": rows[:, 2], "late": rows[:, 3] > 0})
    frame["seats"] = frame["seats"].astype(np.int64)
    columns = ColumnTransformer(
        [
            ("texts", OneHotEncoder(handle_unknown="ignore"), ["channel"]),
            ("numbers", StandardScaler(), ["price"]),
            ("rest", "passthrough", ["seats"]),
        ]
    )
    fitted = make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(frame[["channel", "price", "seats"]], target)
    initial = [
        ("channel", StringTensorType([None, 1])),
        ("price", FloatTensorType([None, 1])),
        ("seats", Int64TensorType([None, 1])),
    ]
    model = skl2onnx.to_onnx(fitted, initial_types=initial, options={"zipmap": False}).SerializeToString()
    part, texts = rows[:ROWS, :3].copy(), texts[:ROWS].copy()
    part[5, 0], texts[5] = np.nan, ""  # a missing category is the empty text
    feed = {
        "channel": texts.reshape(-1, 1).astype(object),
        "price": part[:, 1:2],
        "seats": part[:, 2:3].astype(np.int64),
    }
    path = tmp_path / "model.onnx"
    path.write_bytes(model)
    found = ours(path, part, {0: CHANNELS})
    assert_same(found, theirs(model, feed, "probabilities"), "columns")
    assert len(set(found.tolist())) > 50
    # Without their texts, with a code that is none, or with a missing whole number there is an answer in words.
    for change, wanted in [((0, 0, 9.0), "no category's code"), ((0, 2, np.nan), "'seats' is missing")]:
        bad = part.copy()
        bad[change[0], change[1]] = change[2]
        np.ascontiguousarray(bad, dtype="<f4").tofile(tmp_path / "bad")
        arguments = ["--file", path, "--rows", tmp_path / "bad", "--output", tmp_path / "no", "--library", LIBRARY]
        done = run("score-file", *arguments, "--categories", json.dumps({"0": CHANNELS}))
        assert done.returncode != 0
        assert wanted in done.stderr, done.stderr
    done = run("score-file", *arguments)
    assert "'channel' as text" in done.stderr, done.stderr


@pytest.mark.parametrize("count", [2, 3])
def test_xgboost_and_lightgbm_through_onnx_agree(count: int, tmp_path: Path) -> None:
    rows, score = data(11)
    rows[np.random.default_rng(1).random(rows.shape) < 0.1] = np.nan
    labels = classes(score, count)
    initial = [("rows", tool_types.FloatTensorType([None, FEATURES]))]
    boosted = xgboost.XGBClassifier(n_estimators=8, max_depth=4, n_jobs=1).fit(rows, labels)
    model = onnxmltools.convert_xgboost(boosted, initial_types=initial, target_opset=15)
    assert_agrees(model.SerializeToString(), rows[:ROWS], model.graph.output[1].name, tmp_path)
    light = lightgbm.LGBMClassifier(n_estimators=8, num_leaves=9, n_jobs=1, verbosity=-1).fit(rows, labels)
    model = onnxmltools.convert_lightgbm(light, initial_types=initial, target_opset=15)
    assert_agrees(model.SerializeToString(), rows[:ROWS], model.graph.output[1].name, tmp_path)


def network(
    last: str | None, outputs: int, kind: int = TensorProto.FLOAT, rows: int | str = "rows", elements: Any = np.float32
) -> bytes:
    """A perceptron as PyTorch's and Keras' exporters write it: Gemm, Relu, Gemm and what comes last."""
    random = np.random.default_rng(outputs)
    weights = {
        "w1": random.normal(size=(16, FEATURES)), "b1": random.normal(size=16),
        "w2": random.normal(size=(outputs, 16)), "b2": random.normal(size=outputs),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gemm", ["rows", "w1", "b1"], ["h1"], transB=1),
        helper.make_node("Relu", ["h1"], ["h2"]),
        helper.make_node("Gemm", ["h2", "w2", "b2"], ["h3" if last else "out"], transB=1),
    ]
    if last:
        nodes.append(helper.make_node(last, ["h3"], ["out"], **({"axis": 1} if last == "Softmax" else {})))
    graph = helper.make_graph(
        nodes, "network", [helper.make_tensor_value_info("rows", kind, [rows, FEATURES])],
        [helper.make_tensor_value_info("out", kind, [rows, outputs])],
        [numpy_helper.from_array(value.astype(elements), name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


@pytest.mark.parametrize(("last", "outputs"), [(None, 1), (None, 3), ("Sigmoid", 1), ("Softmax", 5)])
@pytest.mark.parametrize("kind", ["float", "double"])
def test_networks_agree(last: str | None, outputs: int, kind: str, tmp_path: Path) -> None:
    rows, _ = data(5)
    element = np.float32 if kind == "float" else np.float64
    model = network(last, outputs, TensorProto.FLOAT if kind == "float" else TensorProto.DOUBLE, elements=element)
    assert_agrees(model, rows[:ROWS], "out", tmp_path, element)


def test_a_network_for_a_fixed_number_of_rows_takes_any_number(tmp_path: Path) -> None:
    rows, _ = data(5)
    path = tmp_path / "model.onnx"
    path.write_bytes(network("Sigmoid", 1, rows=8))
    expected = theirs(network("Sigmoid", 1), rows[:ROWS], "out")
    for count in (ROWS, 8, 3, 1):
        assert np.allclose(ours(path, rows[:count]), expected[:count], rtol=1e-6)


def test_whole_numbers_bools_and_labels_agree(tmp_path: Path) -> None:
    table = np.random.default_rng(2).normal(size=(50, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "place"], ["found"]),
        helper.make_node("Cast", ["late"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["number", "one"], ["column"]),
        helper.make_node("Mul", ["found", "column"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes, "lookup",
        [helper.make_tensor_value_info("place", TensorProto.INT64, ["rows"]),
         helper.make_tensor_value_info("late", TensorProto.BOOL, ["rows"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["rows", 3])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1], dtype=np.int64), "one")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(model)
    random = np.random.default_rng(4)
    rows = np.stack([random.integers(0, 50, ROWS), random.integers(0, 2, ROWS)], axis=1).astype(np.float32)
    feed = {"place": rows[:, 0].astype(np.int64), "late": rows[:, 1] > 0}
    assert_same(ours(path, rows), theirs(model, feed, "out"), "lookup")

    score = helper.make_node("ArgMax", ["rows"], ["out"], axis=1, keepdims=0)
    graph = helper.make_graph(
        [score], "label", [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["rows", FEATURES])],
        [helper.make_tensor_value_info("out", TensorProto.INT64, ["rows"])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    assert_agrees(model, data(1)[0][:ROWS], "out", tmp_path)


def trial(model: bytes, path: Path) -> tuple[int, dict[str, Any]]:
    """What the process that tries a model says of it, and how it ends."""
    path.write_bytes(model)
    done = run("try-model", "--file", path, "--name", "model.onnx", "--library", LIBRARY, timeout=90)
    return done.returncode, json.loads(done.stdout) if done.returncode == 0 else {}


def test_refusals_say_what_to_do(tmp_path: Path) -> None:
    good = onnx.load_from_string(network("Sigmoid", 1))

    def changed(change: Callable[[Any], None]) -> bytes:
        model = onnx.ModelProto()
        model.CopyFrom(good)
        change(model)
        return model.SerializeToString()

    def elsewhere(model: Any) -> None:
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="../../../../etc/passwd")

    def image(model: Any) -> None:
        model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 3

    def foreign(model: Any) -> None:
        model.graph.node[0].domain = "somebody"
        model.opset_import.add(domain="somebody", version=1)

    for model, code, words in [
        (b"", "malformedModel", "empty"),
        (b"hello", "malformedModel", "no ONNX model"),
        (good.SerializeToString()[:-20], "malformedModel", "no ONNX model"),
        (changed(elsewhere), "unsupportedModel", "save_as_external_data=False"),
        (changed(image), "malformedModel", "rank"),
        (changed(foreign), "malformedModel", "somebody"),
    ]:
        ending, answer = trial(model, tmp_path / "model")
        assert (ending, answer.get("fault")) == (0, code), answer
        assert words in answer["message"], answer
        assert "\n" not in answer["message"]
    assert trial(good.SerializeToString(), tmp_path / "model") == (0, {"message": ""})
    done = run("score-file", "--file", tmp_path / "model", "--rows", tmp_path / "model", "--output", tmp_path / "no",
               "--library", tmp_path / "missing.so")  # fmt: skip
    assert done.returncode != 0
    assert "onnx.library" in done.stderr, done.stderr


def test_changed_bytes_end_at_most_the_process_that_tries_them(tmp_path: Path) -> None:
    """Mutated models: an answer in words, a success, or a crash of the library; never a trap of our own code."""
    rows, score = data(2)
    forest = GradientBoostingClassifier(n_estimators=4, random_state=1).fit(rows, classes(score, 2))
    seeds = [
        network("Softmax", 5),
        skl2onnx.to_onnx(forest, initial_types=[("rows", FloatTensorType([None, FEATURES]))]).SerializeToString(),
    ]
    random = np.random.default_rng(int(os.environ.get("BOTTEGA_SEED_ONNX", "1")))

    def mutant(index: int) -> bytes:
        bytes_ = bytearray(seeds[index % len(seeds)])
        # Most of the bytes are weights; what is before and after them is structure.
        for _ in range(int(random.integers(1, 6))):
            place = int(random.integers(0, len(bytes_)))
            kind = random.integers(0, 4)
            if kind == 0:
                bytes_[place] ^= 1 << int(random.integers(0, 8))
            elif kind == 1:
                bytes_[place] = int(random.choice([0, 1, 127, 128, 255]))
            elif kind == 2:
                del bytes_[place : place + int(random.integers(1, 5))]
            else:
                bytes_[place:place] = bytes_[: int(random.integers(1, 5))]
        return bytes(bytes_)

    count = int(os.environ.get("BOTTEGA_MUTANTS_ONNX", "60"))
    mutants = [mutant(index) for index in range(count)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        endings = list(pool.map(lambda pair: trial(pair[1], tmp_path / f"m{pair[0]}"), enumerate(mutants)))
    for index, (ending, answer) in enumerate(endings):
        assert ending in {0, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGFPE, -signal.SIGBUS}, (index, ending)
        assert ending != 0 or "message" in answer
    assert sum(ending == 0 and answer.get("fault") is not None for ending, answer in endings) > count // 10


def test_bools_in_wide_inputs_are_refused_when_missing(tmp_path: Path) -> None:
    fitted = LogisticRegression().fit(np.array([[0.0], [1.0]] * 20), [0, 1] * 20)
    model = skl2onnx.to_onnx(fitted, initial_types=[("flag", BooleanTensorType([None, 1]))], options={"zipmap": False})
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    rows = np.array([[0.0], [1.0], [1.0]], dtype=np.float32)
    assert_same(ours(path, rows), theirs(model.SerializeToString(), rows > 0, "probabilities"), "bool")
