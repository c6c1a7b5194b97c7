"""Our scorer against LightGBM itself: generated models of every supported kind, predictions compared bit for bit.

Needs the built program in the environment variable BOTTEGA_BINARY, lightgbm 4 and numpy.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

BINARY = os.environ.get("BOTTEGA_BINARY")
if not BINARY:
    pytest.skip("BOTTEGA_BINARY is not set", allow_module_level=True)

import lightgbm as lgb
import numpy as np

ROWS = 203
TRAIN_ROWS = 1200
CATEGORIES = {3: 4, 5: 12, 7: 75}


def ours(model: Path, rows: np.ndarray, folder: Path) -> np.ndarray:
    """Predictions of `bottega score-file`."""
    source, target = folder / "rows.f32", folder / "out.f32"
    np.ascontiguousarray(rows, dtype="<f4").tofile(source)
    command = [BINARY, "score-file", "--file", model, "--rows", source, "--output", target]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return np.fromfile(target, "<f4")


def assert_agrees(booster: lgb.Booster, rows: np.ndarray, folder: Path, what: str) -> None:
    """Our float32 predictions are LightGBM's float64 ones rounded once."""
    path = folder / "model.txt"
    booster.save_model(path)
    expected = np.ascontiguousarray(lgb.Booster(model_file=path).predict(rows)).astype("<f4").ravel()
    for count in (len(rows), 1):
        found = ours(path, rows[:count], folder)
        wanted = expected[: count * (len(expected) // len(rows))]
        different = np.flatnonzero(found.view("<u4") != wanted.view("<u4"))
        assert found.shape == wanted.shape, what
        assert different.size == 0, (
            f"{what}: {different.size} differ: {found[different[:3]]} for {wanted[different[:3]]}"
        )


def rows(
    random: np.random.Generator, count: int, features: int, categorical: dict[int, int], missing: float
) -> np.ndarray:
    """Seeded rows with missing values, repeated values, zeros of both signs, tiny values and codes."""
    found = random.normal(size=(count, features)).astype(np.float32)
    found[:, 1] = np.round(found[:, 1], 1)
    found[:, 2] = np.where(random.random(count) < 0.5, 0, found[:, 2])
    for column, codes in categorical.items():
        found[:, column] = random.integers(0, codes, count)
    found[random.random(found.shape) < missing] = np.nan
    return found


def labels(random: np.random.Generator, train: np.ndarray, kind: str) -> np.ndarray:
    filled = np.nan_to_num(train)
    score = filled[:, 0] + filled[:, 1] * filled[:, 2] + np.sin(filled[:, 3]) + 0.3 * random.normal(size=len(train))
    if kind == "binary":
        return (score > np.median(score)).astype(np.float32)
    if kind == "classes":
        return np.digitize(score, np.quantile(score, [0.2, 0.5, 0.8])).astype(np.float32)
    if kind == "counts":
        return np.clip(np.round(score * 2 + 3), 0, None).astype(np.float32)
    if kind == "positive":
        return np.exp(score / 3).astype(np.float32)
    if kind == "unit":
        return (1 / (1 + np.exp(-score))).astype(np.float32)
    return (score * 3 + 10).astype(np.float32)


FOREST = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}
CASES = {
    "binary": ("binary", {"objective": "binary"}),
    "binary, sharp": ("binary", {"objective": "binary", "sigmoid": 2.5}),
    "binary, deep": ("binary", {"objective": "binary", "num_leaves": 400, "min_data_in_leaf": 1}),
    "binary, far scores": ("binary", {"objective": "binary", "learning_rate": 30}),
    "regression": ("values", {"objective": "regression"}),
    "regression of roots": ("values", {"objective": "regression", "reg_sqrt": True}),
    "regression_l1": ("values", {"objective": "regression_l1"}),
    "huber": ("values", {"objective": "huber"}),
    "fair": ("values", {"objective": "fair"}),
    "quantile": ("values", {"objective": "quantile", "alpha": 0.3}),
    "mape": ("positive", {"objective": "mape"}),
    "poisson": ("counts", {"objective": "poisson"}),
    "gamma": ("positive", {"objective": "gamma"}),
    "tweedie": ("positive", {"objective": "tweedie"}),
    "cross_entropy": ("unit", {"objective": "cross_entropy"}),
    "cross_entropy_lambda": ("unit", {"objective": "cross_entropy_lambda"}),
    "multiclass": ("classes", {"objective": "multiclass", "num_class": 4}),
    "multiclassova": ("classes", {"objective": "multiclassova", "num_class": 4}),
    "dart": ("values", {"objective": "regression", "boosting": "dart"}),
    "goss": ("binary", {"objective": "binary", "data_sample_strategy": "goss"}),
    "forest": ("binary", {"objective": "binary"} | FOREST),
    "forest of classes": ("classes", {"objective": "multiclass", "num_class": 4} | FOREST),
    "zero is missing": ("values", {"objective": "regression", "zero_as_missing": True}),
    "nothing is missing": ("values", {"objective": "regression", "use_missing": False}),
    "one leaf": ("values", {"objective": "regression", "min_data_in_leaf": TRAIN_ROWS}),
}


@pytest.mark.parametrize("categorical", [False, True], ids=["numeric", "mixed"])
@pytest.mark.parametrize("name", CASES)
def test_generated_models_agree(name: str, categorical: bool, tmp_path: Path) -> None:
    kind, parameters = CASES[name]
    seed = sorted(CASES).index(name) + 100 * categorical
    random = np.random.default_rng(seed)
    columns = CATEGORIES if categorical else {}
    train = rows(random, TRAIN_ROWS, 9, columns, missing=0.15 if seed % 3 else 0.0)
    test = rows(random, ROWS, 9, columns, missing=0.2)
    test[0] = np.nan
    for place, value in enumerate(
        [0.0, -0.0, 1e-45, 1e-35, -1e-35, 1.1e-35, np.finfo(np.float32).max, np.inf, -np.inf]
    ):
        test[1 + place] = value
    if categorical:
        test[12:16, list(CATEGORIES)] = np.array([-1, -0.5, 1.9, 10_000])[:, None]
    data = lgb.Dataset(train, labels(random, train, kind), categorical_feature=list(columns))
    common = {"verbosity": -1, "num_threads": 1, "seed": seed, "min_data_per_group": 5, "deterministic": True}
    booster = lgb.train(common | parameters, data, 13)
    assert_agrees(booster, test, tmp_path, name)


@pytest.mark.parametrize("seed", range(8))
def test_random_parameters_agree(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    features = int(random.integers(4, 40))
    columns = {int(column): int(random.integers(2, 130)) for column in range(4, features) if random.random() < 0.4}
    train = rows(random, TRAIN_ROWS, features, columns, missing=float(random.choice([0.0, 0.05, 0.6])))
    parameters = {
        "objective": str(random.choice(["binary", "regression"])),
        "num_leaves": int(random.integers(2, 200)),
        "learning_rate": float(random.uniform(0.01, 1.5)),
        "min_data_in_leaf": int(random.integers(1, 30)),
        "max_cat_to_onehot": int(random.integers(1, 20)),
        "zero_as_missing": bool(random.random() < 0.3),
        "use_missing": bool(random.random() < 0.8),
        "min_data_per_group": 2,
        "verbosity": -1,
        "num_threads": 1,
        "seed": seed,
    }
    data = lgb.Dataset(train, labels(random, train, "binary"), categorical_feature=list(columns))
    booster = lgb.train(parameters, data, int(random.integers(1, 60)))
    assert_agrees(booster, rows(random, ROWS, features, columns, missing=0.3), tmp_path, str(parameters))


def test_linear_trees_are_refused_by_name(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    train = rows(random, TRAIN_ROWS, 5, {}, missing=0.0)
    parameters = {"objective": "regression", "linear_tree": True, "verbosity": -1, "num_threads": 1}
    booster = lgb.train(parameters, lgb.Dataset(train, labels(random, train, "values")), 3)
    booster.save_model(tmp_path / "model.txt")
    train[:3].tofile(tmp_path / "rows.f32")
    command = [
        BINARY,
        "score-file",
        "--file",
        tmp_path / "model.txt",
        "--rows",
        tmp_path / "rows.f32",
        "--output",
        tmp_path / "none",
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode > 0
    assert "linear_tree" in done.stderr
