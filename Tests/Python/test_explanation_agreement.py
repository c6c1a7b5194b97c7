"""Our explanations against those of xgboost and LightGBM themselves: generated models of every supported kind.

Needs the built program in the environment variable BOTTEGA_BINARY, xgboost-cpu 3.2.0, lightgbm 4, numpy and pandas.
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
import test_lightgbm_agreement as light
import test_xgboost_agreement as boost
import xgboost as xgb

ROWS = 40
# Of the row's largest contribution: xgboost computes in float32, LightGBM in float64 but we keep covers in float32.
XGBOOST_TOLERANCE = 1e-5
LIGHTGBM_TOLERANCE = 1e-9


def ours(model: Path, rows: np.ndarray, folder: Path) -> np.ndarray:
    """Contributions and, last, base values by `bottega score-file --explain`; shape `[rows, margins, features + 1]`."""
    source, target = folder / "rows.f32", folder / "out.f64"
    np.ascontiguousarray(rows, dtype="<f4").tofile(source)
    command = [BINARY, "score-file", "--explain", "--file", model, "--rows", source, "--output", target]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return np.fromfile(target, "<f8").reshape(len(rows), -1, rows.shape[1] + 1)


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float, what: str) -> None:
    expected = np.asarray(expected, dtype=np.float64).reshape(found.shape)
    scale = np.maximum(np.abs(expected).max(axis=2, keepdims=True), 1e-6)
    worst = (np.abs(found - expected) / scale).max()
    assert worst <= tolerance, f"{what}: {worst:.2g} of the largest contribution apart"


@pytest.mark.parametrize("name", boost.CASES)
def test_xgboost_models_agree(name: str, tmp_path: Path) -> None:
    kind, parameters = boost.CASES[name]
    seed = sorted(boost.CASES).index(name)
    categorical = seed % 2 == 0 and name != "exact"
    data = boost.Data(seed, 9, boost.CATEGORIES if categorical else {}, missing=0.15 if seed % 3 else 0.0)
    rows = data.test[:ROWS]
    full = {"max_depth": 5, "eta": 0.3, "tree_method": "hist", "max_cat_to_onehot": 5, "nthread": 1, "seed": seed}
    booster = xgb.train(full | parameters, data.matrix(data.train, data.label(kind)), 13)
    expected = booster.predict(data.matrix(rows), pred_contribs=True)
    margins = booster.predict(data.matrix(rows), output_margin=True)
    path = tmp_path / ("model.json" if seed % 3 else "model.ubj")
    booster.save_model(path)
    found = ours(path, rows, tmp_path)
    assert_close(found, expected, XGBOOST_TOLERANCE, name)
    assert np.allclose(found.sum(axis=2), margins.reshape(len(rows), -1), rtol=1e-5, atol=1e-5), "adds up"


@pytest.mark.parametrize("name", light.CASES)
def test_lightgbm_models_agree(name: str, tmp_path: Path) -> None:
    kind, parameters = light.CASES[name]
    seed = sorted(light.CASES).index(name)
    categorical = seed % 2 == 1
    random = np.random.default_rng(seed)
    columns = light.CATEGORIES if categorical else {}
    train = light.rows(random, light.TRAIN_ROWS, 9, columns, missing=0.15 if seed % 3 else 0.0)
    rows = light.rows(random, ROWS, 9, columns, missing=0.2)
    rows[0] = np.nan
    data = lgb.Dataset(train, light.labels(random, train, kind), categorical_feature=list(columns))
    common = {"verbosity": -1, "num_threads": 1, "seed": seed, "min_data_per_group": 5, "deterministic": True}
    lgb.train(common | parameters, data, 13).save_model(tmp_path / "model.txt")
    booster = lgb.Booster(model_file=tmp_path / "model.txt")
    expected = booster.predict(rows, pred_contrib=True)
    margins = booster.predict(rows, raw_score=True)
    if parameters.get("boosting") == "rf":  # LightGBM explains the sum of a forest's trees, and predicts their mean
        expected, margins = expected / 13, margins / 13
    found = ours(tmp_path / "model.txt", rows, tmp_path)
    assert_close(found, expected, LIGHTGBM_TOLERANCE, name)
    assert np.allclose(found.sum(axis=2), margins.reshape(len(rows), -1), rtol=1e-9, atol=1e-9), "adds up"


@pytest.mark.parametrize("features", [80, 200])
def test_many_features_on_a_path_agree(features: int, tmp_path: Path) -> None:
    """Paths of leaf-wise trees meet dozens of features: far past where small integrals are exact."""
    random = np.random.default_rng(features)
    train = random.normal(size=(1500, features)).astype(np.float32)
    label = np.exp(train[:, :30] / 4).prod(axis=1) * 10
    parameters = {"objective": "regression", "num_leaves": 600, "min_data_in_leaf": 1, "feature_fraction": 0.3}
    booster = lgb.train({"verbosity": -1, "num_threads": 1} | parameters, lgb.Dataset(train, label), 5)
    booster.save_model(tmp_path / "model.txt")
    found = ours(tmp_path / "model.txt", train[:10], tmp_path)
    expected = booster.predict(train[:10], pred_contrib=True)
    assert_close(found, expected, 1e-7, f"{features} features")


def test_a_model_without_covers_says_so(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    train = light.rows(random, light.TRAIN_ROWS, 5, {}, missing=0.0)
    parameters = {"objective": "regression", "verbosity": -1, "num_threads": 1}
    path = tmp_path / "model.txt"
    lgb.train(parameters, lgb.Dataset(train, light.labels(random, train, "values")), 3).save_model(path)
    text = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in text if not line.startswith("leaf_count")))
    train[:3].tofile(tmp_path / "rows.f32")
    arguments = ["--file", path, "--rows", tmp_path / "rows.f32", "--output", tmp_path / "none"]
    for extra, code in (([], 0), (["--explain"], None)):
        command = [BINARY, "score-file", *extra, *arguments]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode == 0) == (code == 0), done.stderr
    assert "leaf_count" in done.stderr and done.stderr.strip().count("\n") == 0
