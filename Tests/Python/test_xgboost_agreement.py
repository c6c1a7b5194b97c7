"""Our scorer against xgboost itself: generated models of every supported kind, predictions compared bit for bit.

Needs the built program in the environment variable BOTTEGA_BINARY, xgboost-cpu 3.2.0, numpy and pandas.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

BINARY = os.environ.get("BOTTEGA_BINARY")
if not BINARY:
    pytest.skip("BOTTEGA_BINARY is not set", allow_module_level=True)

import numpy as np
import pandas
import xgboost as xgb

ROWS = 203  # blocks of eight and a rest of three
TRAIN_ROWS = 1500


def ours(model: Path, rows: np.ndarray, folder: Path) -> np.ndarray:
    """Predictions of `bottega score-file`."""
    source, target = folder / "rows.f32", folder / "out.f32"
    np.ascontiguousarray(rows, dtype="<f4").tofile(source)
    command = [BINARY, "score-file", "--file", model, "--rows", source, "--output", target]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return np.fromfile(target, "<f4")


def refusal(model: Path, rows: np.ndarray, folder: Path) -> str:
    """The one line that refuses a model."""
    source = folder / "rows.f32"
    np.ascontiguousarray(rows, dtype="<f4").tofile(source)
    command = [BINARY, "score-file", "--file", model, "--rows", source, "--output", folder / "none.f32"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode > 0, "the model must be refused, not crash or load"
    return done.stderr


def assert_same_bits(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    expected = np.ascontiguousarray(expected, dtype="<f4").ravel()
    assert found.shape == expected.shape, what
    different = np.flatnonzero(found.view("<u4") != expected.view("<u4"))
    assert different.size == 0, f"{what}: {different.size} differ, first {different[:3]}: " + ", ".join(
        f"{found[i]!r} for {expected[i]!r}" for i in different[:3]
    )


class Data:
    """Seeded rows with missing values, repeated values, zeros of both signs and, if asked for, categories."""

    def __init__(self, seed: int, features: int, categorical: dict[int, int], missing: float) -> None:
        self.random = np.random.default_rng(seed)
        self.types = ["c" if column in categorical else "q" for column in range(features)]
        self.categorical = categorical
        self.train = self.rows(TRAIN_ROWS, features, missing)
        self.test = self.rows(ROWS, features, missing)
        self.test[0] = np.nan
        numeric = [column for column in range(features) if column not in categorical]
        self.test[1, numeric] = 0.0
        self.test[2, numeric] = -0.0
        self.test[3, numeric] = np.float32(1e-45)
        self.test[4, numeric] = np.finfo(np.float32).max
        filled = np.nan_to_num(self.train)
        score = filled[:, 0] + filled[:, 1] * filled[:, 2 % features]
        for column in categorical:
            score = score + self.random.normal(size=categorical[column])[filled[:, column].astype(int)]
        self.score = score + 0.3 * self.random.normal(size=TRAIN_ROWS)

    def rows(self, count: int, features: int, missing: float) -> np.ndarray:
        rows = self.random.normal(size=(count, features)).astype(np.float32)
        rows[:, 1] = np.round(rows[:, 1], 1)
        for column, codes in self.categorical.items():
            rows[:, column] = self.random.integers(0, codes, count)
        rows[self.random.random(rows.shape) < missing] = np.nan
        return rows

    def matrix(self, rows: np.ndarray, label: np.ndarray | None = None) -> xgb.DMatrix:
        return xgb.DMatrix(rows, label=label, feature_types=self.types, enable_categorical=bool(self.categorical))

    def label(self, kind: str) -> np.ndarray:
        score = self.score
        if kind == "binary":
            return (score > np.median(score)).astype(np.float32)
        if kind == "classes":
            return np.digitize(score, np.quantile(score, [0.2, 0.5, 0.8])).astype(np.float32)
        if kind == "counts":
            return np.clip(np.round(score * 2 + 3), 0, None).astype(np.float32)
        if kind == "positive":
            return np.exp(score / 3).astype(np.float32)
        return (score * 3 + 10).astype(np.float32)


CATEGORIES = {3: 4, 5: 12, 7: 75}
CASES = {
    "binary": ("binary", {"objective": "binary:logistic"}),
    "binary, deep": ("binary", {"objective": "binary:logistic", "max_depth": 14, "min_child_weight": 0}),
    "binary, very deep": (
        "values",
        {
            "objective": "reg:squarederror",
            "max_depth": 0,
            "grow_policy": "lossguide",
            "max_leaves": 400,
            "lambda": 0,
            "min_child_weight": 0,
        },
    ),
    "binary, far margins": (
        "binary",
        {"objective": "binary:logistic", "eta": 30, "lambda": 0, "min_child_weight": 0, "max_delta_step": 0},
    ),
    "logitraw": ("binary", {"objective": "binary:logitraw"}),
    "logistic regression": ("binary", {"objective": "reg:logistic"}),
    "hinge": ("binary", {"objective": "binary:hinge"}),
    "base score 0.3": ("binary", {"objective": "binary:logistic", "base_score": 0.3}),
    "raw, base score 0.3": ("binary", {"objective": "binary:logitraw", "base_score": 0.3}),
    "hinge, base score 0.3": ("binary", {"objective": "binary:hinge", "base_score": 0.3}),
    "squared error": ("values", {"objective": "reg:squarederror"}),
    "absolute error": ("values", {"objective": "reg:absoluteerror"}),
    "squared log error": ("positive", {"objective": "reg:squaredlogerror"}),
    "pseudo huber": ("values", {"objective": "reg:pseudohubererror"}),
    "quantile": ("values", {"objective": "reg:quantileerror", "quantile_alpha": 0.3}),
    "three quantiles": ("values", {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]}),
    "poisson": ("counts", {"objective": "count:poisson"}),
    "poisson, base score 2": ("counts", {"objective": "count:poisson", "base_score": 2}),
    "gamma": ("positive", {"objective": "reg:gamma"}),
    "tweedie": ("positive", {"objective": "reg:tweedie", "base_score": 1.7}),
    "cox": ("positive", {"objective": "survival:cox"}),
    "softprob": ("classes", {"objective": "multi:softprob", "num_class": 4}),
    "softmax": ("classes", {"objective": "multi:softmax", "num_class": 4}),
    "softprob, base score 0.5": ("classes", {"objective": "multi:softprob", "num_class": 4, "base_score": 0.5}),
    "dart": ("values", {"objective": "reg:squarederror", "booster": "dart", "rate_drop": 0.3}),
    "dart, classes": ("classes", {"objective": "multi:softprob", "num_class": 4, "booster": "dart", "rate_drop": 0.3}),
    "forest": ("binary", {"objective": "binary:logistic", "num_parallel_tree": 5, "subsample": 0.6}),
    "exact": ("values", {"objective": "reg:squarederror", "tree_method": "exact"}),
}


# xgboost's exact method takes no categories.
GENERATED = [(name, False) for name in CASES] + [(name, True) for name in CASES if name != "exact"]


@pytest.mark.parametrize(("name", "categorical"), GENERATED)
def test_generated_models_agree(name: str, categorical: bool, tmp_path: Path) -> None:
    kind, parameters = CASES[name]
    seed = sorted(CASES).index(name) + 100 * categorical
    data = Data(seed, 9, CATEGORIES if categorical else {}, missing=0.15 if seed % 3 else 0.0)
    full = {"max_depth": 5, "eta": 0.3, "tree_method": "hist", "max_cat_to_onehot": 5, "nthread": 1, "seed": seed}
    booster = xgb.train(full | parameters, data.matrix(data.train, data.label(kind)), 13)
    expected = booster.predict(data.matrix(data.test))
    if name == "binary, far margins":  # where e^x would leave the range of float32
        assert booster.predict(data.matrix(data.test), output_margin=True).min() < -89
    for extension in ("json", "ubj"):
        path = tmp_path / f"model.{extension}"
        booster.save_model(path)
        assert_same_bits(ours(path, data.test, tmp_path), expected, f"{name}, {extension}")
        assert_same_bits(ours(path, data.test[6:7], tmp_path), expected[6:7], f"{name}, {extension}, one row")


@pytest.mark.parametrize("seed", range(12))
def test_random_parameters_agree(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    features = int(random.integers(3, 40))
    columns = random.permutation(features)[: int(random.integers(0, features))]
    categorical = {int(column): int(random.integers(1, 130)) for column in columns if column > 2}
    data = Data(seed, features, categorical, missing=float(random.choice([0.0, 0.05, 0.6])))
    parameters = {
        "objective": str(random.choice(["binary:logistic", "reg:squarederror", "binary:logitraw"])),
        "max_depth": int(random.integers(1, 12)),
        "eta": float(random.uniform(0.01, 1.5)),
        "min_child_weight": 0,
        "max_cat_to_onehot": int(random.integers(1, 20)),
        "max_cat_threshold": int(random.integers(2, 64)),
        "subsample": float(random.uniform(0.3, 1)),
        "nthread": 1,
        "seed": seed,
    }
    booster = xgb.train(parameters, data.matrix(data.train, data.label("binary")), int(random.integers(0, 60)))
    expected = booster.predict(data.matrix(data.test))
    for extension in ("json", "ubj"):
        path = tmp_path / f"model.{extension}"
        booster.save_model(path)
        assert_same_bits(ours(path, data.test, tmp_path), expected, f"{parameters}, {extension}")


@pytest.mark.parametrize("text", ["5E-1", "[5E-1]", "3.0000001E-1", "[1.2345678E-1]", "0.75", "[7E-2]"])
@pytest.mark.parametrize("objective", ["binary:logistic", "reg:squarederror", "count:poisson", "multi:softprob"])
def test_old_and_new_base_scores_agree(objective: str, text: str, tmp_path: Path) -> None:
    data = Data(5, 9, {}, missing=0.1)
    classes = objective == "multi:softprob"
    parameters = {"objective": objective, "max_depth": 4, "nthread": 1} | ({"num_class": 4} if classes else {})
    booster = xgb.train(parameters, data.matrix(data.train, data.label("classes" if classes else "binary")), 7)
    path = tmp_path / "model.json"
    booster.save_model(path)
    document = json.loads(path.read_text())
    if classes and text.startswith("["):
        text = "[" + ",".join(text[1:-1] for _ in range(4)) + "]"
    document["learner"]["learner_model_param"]["base_score"] = text
    if not text.startswith("["):
        document["version"] = [2, 1, 4]
        document["learner"]["gradient_booster"]["model"].pop("cats", None)
    path.write_text(json.dumps(document))
    again = xgb.Booster(model_file=path)
    assert_same_bits(ours(path, data.test, tmp_path), again.predict(data.matrix(data.test)), f"{objective} {text}")
    again.save_model(tmp_path / "model.ubj")
    assert_same_bits(
        ours(tmp_path / "model.ubj", data.test, tmp_path), again.predict(data.matrix(data.test)), "saved again"
    )


def test_early_stopped_models_use_all_trees(tmp_path: Path) -> None:
    data = Data(8, 9, {}, missing=0.1)
    label = data.label("binary")
    train, valid = data.matrix(data.train[:900], label[:900]), data.matrix(data.train[900:], label[900:])
    booster = xgb.train(
        {"objective": "binary:logistic", "nthread": 1, "eta": 0.5},
        train,
        200,
        evals=[(valid, "valid")],
        early_stopping_rounds=3,
        verbose_eval=False,
    )
    assert booster.best_iteration + 1 < booster.num_boosted_rounds()
    booster.save_model(tmp_path / "model.ubj")
    expected = booster.predict(data.matrix(data.test))
    assert_same_bits(ours(tmp_path / "model.ubj", data.test, tmp_path), expected, "early stopping")


@pytest.mark.parametrize("suffix", ["json", "ubj"])
@pytest.mark.parametrize("kind", ["binary", "classes", "values"])
@pytest.mark.parametrize("extra", [{}, {"booster": "dart", "rate_drop": 0.2}, {"num_parallel_tree": 3}])
def test_early_stopped_estimators_stop_at_the_best_iteration(
    kind: str, suffix: str, extra: dict, tmp_path: Path
) -> None:
    data = Data(8, 9, {}, missing=0.1)
    label = data.label(kind)
    wrapper = xgb.XGBRegressor if kind == "values" else xgb.XGBClassifier
    estimator = wrapper(n_estimators=40, early_stopping_rounds=3, learning_rate=0.9, subsample=0.5, n_jobs=1, **extra)
    estimator.fit(data.train[:900], label[:900], eval_set=[(data.train[900:], label[900:])], verbose=False)
    booster, file = estimator.get_booster(), tmp_path / f"model.{suffix}"
    rounds = estimator.best_iteration + 1
    assert rounds < booster.num_boosted_rounds()
    estimator.save_model(file)
    found = ours(file, data.test, tmp_path)
    best = booster.predict(data.matrix(data.test), iteration_range=(0, rounds))
    assert_same_bits(found, best, "of the estimator")
    # The estimator predicts in place, which sums dart's trees in another order.
    said = estimator.predict(data.test) if kind == "values" else estimator.predict_proba(data.test)
    said = said[:, 1] if kind == "binary" else said
    np.testing.assert_allclose(found, said.ravel(), rtol=1e-5, atol=1e-6)
    booster.save_model(file)  # the wrapper takes its attribute away again
    everything = booster.predict(data.matrix(data.test))
    assert not np.array_equal(everything, best)
    assert_same_bits(ours(file, data.test, tmp_path), everything, "of its booster")


def test_odd_category_codes_agree(tmp_path: Path) -> None:
    data = Data(9, 9, CATEGORIES, missing=0.1)
    parameters = {"objective": "reg:squarederror", "max_cat_to_onehot": 5, "nthread": 1}
    booster = xgb.train(parameters, data.matrix(data.train, data.label("values")), 9)
    booster.save_model(tmp_path / "model.ubj")
    rows = data.test[:7].copy()
    rows[:, 7] = [75, 500, 16777214, 3.7, 74.99, 31, 32]  # xgboost's own data check refuses negative and larger codes
    expected = booster.predict(data.matrix(rows))
    assert_same_bits(ours(tmp_path / "model.ubj", rows, tmp_path), expected, "odd codes")


def test_data_frame_categories_are_read_past(tmp_path: Path) -> None:
    data = Data(10, 9, {}, missing=0.1)
    names = np.array(["AA", "B6", "DL", "EV", "UA"])
    codes = data.random.integers(0, 5, TRAIN_ROWS)
    frame = pandas.DataFrame(data.train, columns=[f"f{column}" for column in range(9)])
    frame["carrier"] = pandas.Categorical(names[codes], categories=list(names))
    label = data.label("values") + 4 * codes
    matrix = xgb.DMatrix(frame, label=label, enable_categorical=True)
    booster = xgb.train({"objective": "reg:squarederror", "nthread": 1}, matrix, 9)
    rows = np.column_stack([data.train, codes]).astype(np.float32)
    for extension in ("json", "ubj"):
        booster.save_model(tmp_path / f"model.{extension}")
        found = ours(tmp_path / f"model.{extension}", rows, tmp_path)
        assert_same_bits(found, booster.predict(matrix), "codes of a data frame")


def test_what_is_not_supported_is_refused_by_name(tmp_path: Path) -> None:
    data = Data(11, 9, {}, missing=0.0)
    path = tmp_path / "model.json"
    linear = xgb.train({"booster": "gblinear", "nthread": 1}, data.matrix(data.train, data.label("values")), 2)
    linear.save_model(path)
    assert "gblinear" in refusal(path, data.test, tmp_path)
    both = np.column_stack([data.label("values"), data.score])
    vector = xgb.train({"multi_strategy": "multi_output_tree", "nthread": 1}, xgb.DMatrix(data.train, label=both), 2)
    vector.save_model(path)
    assert "multi_output_tree" in refusal(path, data.test, tmp_path)
    path.write_text(path.read_text().replace("reg:squarederror", "reg:magic"))
    assert "reg:magic" in refusal(path, data.test, tmp_path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("extension", ["json", "ubj"])
def test_cut_files_are_refused(extension: str, kept: float, tmp_path: Path) -> None:
    data = Data(12, 9, {}, missing=0.0)
    path = tmp_path / f"model.{extension}"
    xgb.train({"nthread": 1}, data.matrix(data.train, data.label("values")), 5).save_model(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    message = refusal(path, data.test, tmp_path)
    assert "byte" in message and message.strip().count("\n") == 0
