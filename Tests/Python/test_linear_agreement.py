"""Our linear scorer against scikit-learn itself, on models that `bottega.linear` writes.

Both sum in float64, in another order; ours rounds to float32 once. So values agree to a unit in the last place of
float32 or, where large terms cancel, to 1e-12 of their sizes; probabilities to 1e-7.

Needs the built program in the environment variable BOTTEGA_BINARY, scikit-learn and numpy.
"""

from __future__ import annotations

import os
import subprocess
import warnings
from pathlib import Path

import pytest

BINARY = os.environ.get("BOTTEGA_BINARY")
if not BINARY:
    pytest.skip("BOTTEGA_BINARY is not set", allow_module_level=True)

import numpy as np
from bottega import linear
from sklearn import linear_model as models
from sklearn.impute import SimpleImputer
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

NAMES = [f"x{place}" for place in range(12)]


def ours(model: object, rows: np.ndarray, folder: Path) -> np.ndarray:
    """Predictions of `bottega score-file`."""
    path, source, target = folder / "model.linear.json", folder / "rows.f32", folder / "out.f32"
    linear.save(model, path, NAMES)
    np.ascontiguousarray(rows, dtype="<f4").tofile(source)
    command = [BINARY, "score-file", "--file", path, "--rows", source, "--output", target]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return np.fromfile(target, "<f4").reshape(len(rows), -1)


def data(seed: int, missing: float = 0) -> np.ndarray:
    """Columns of very different sizes, one constant, some far from zero."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(700, 12)) * 10.0 ** random.integers(-4, 4, 12) + random.normal(size=12) * 1000
    rows[:, 5] = 3
    rows[random.random(rows.shape) < missing] = np.nan
    return rows.astype("<f4").astype(float)


def standard(rows: np.ndarray) -> np.ndarray:
    filled = np.nan_to_num(rows, nan=0.0)
    return (filled - filled.mean(0)) / np.where(filled.std(0) == 0, 1, filled.std(0))


REGRESSORS = [
    models.LinearRegression(),
    models.LinearRegression(fit_intercept=False),
    models.Ridge(alpha=3.0),
    models.Lasso(alpha=0.01),
    models.ElasticNet(alpha=0.01),
    models.HuberRegressor(max_iter=50),
    models.PoissonRegressor(max_iter=50),
    models.GammaRegressor(max_iter=50),
    models.TweedieRegressor(power=1.5, max_iter=50),
    models.TweedieRegressor(power=0, max_iter=50),
]
CLASSIFIERS = [
    models.LogisticRegression(max_iter=200),
    models.LogisticRegression(C=0.1, fit_intercept=False, max_iter=200),
    models.LogisticRegression(solver="saga", max_iter=50),
    models.SGDClassifier(loss="log_loss", max_iter=20),
    OneVsRestClassifier(models.LogisticRegression(max_iter=100)),
]


@pytest.mark.parametrize("place", range(len(REGRESSORS)))
def test_regressors_agree(place: int, tmp_path: Path) -> None:
    rows = data(place)
    score = standard(rows)[:, :4] @ [1.0, -0.5, 0.3, 0.2]
    model = make_pipeline(StandardScaler(), REGRESSORS[place])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(rows, np.exp(score / 2))
    expected = model.predict(rows)
    found = ours(model, rows, tmp_path)[:, 0].astype(float)
    sizes = np.abs(model[0].transform(rows)) @ np.abs(np.ravel(model[-1].coef_)) + 1
    if isinstance(model[-1], (models.PoissonRegressor, models.GammaRegressor, models.TweedieRegressor)):
        sizes *= expected
    assert (np.abs(found - expected) <= 6.1e-8 * np.abs(expected) + 1e-12 * sizes).all()


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("place", range(len(CLASSIFIERS)))
def test_classifiers_agree(place: int, classes: int, tmp_path: Path) -> None:
    rows = data(100 + place, missing=0.05)
    score = standard(rows)[:, :3] @ [1.0, -1.0, 0.5]
    labels = np.digitize(score, np.quantile(score, np.arange(1, classes) / classes))
    model = make_pipeline(SimpleImputer(), StandardScaler(), CLASSIFIERS[place])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(rows, labels)
    expected = model.predict_proba(rows)
    found = ours(model, rows, tmp_path)
    assert found.shape[1] == (1 if classes == 2 else classes)
    assert np.abs(found - (expected[:, 1:] if classes == 2 else expected)).max() < 1e-7


def test_an_estimator_alone_and_scaling_without_means_agree(tmp_path: Path) -> None:
    rows = data(7) / 100
    for model in [models.Ridge(), make_pipeline(StandardScaler(with_mean=False), models.Ridge())]:
        expected = model.fit(rows, rows[:, 0] - rows[:, 3]).predict(rows)
        found = ours(model, rows, tmp_path)[:, 0]
        assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


def test_a_missing_value_without_a_fill_is_refused(tmp_path: Path) -> None:
    rows = data(3)
    model = models.LinearRegression().fit(rows, rows[:, 0])
    linear.save(model, tmp_path / "model.linear.json", NAMES)
    rows[4, 2] = np.nan
    rows.astype("<f4").tofile(tmp_path / "rows")
    done = subprocess.run(
        [
            BINARY,
            "score-file",
            "--file",
            tmp_path / "model.linear.json",
            "--rows",
            tmp_path / "rows",
            "--output",
            tmp_path / "out",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0 and "row 4: feature 2 ('x2') is missing" in done.stderr


def test_what_cannot_be_written_exactly_is_refused() -> None:
    rows = data(1)
    labels = (rows[:, 0] > np.median(rows[:, 0])).astype(int)
    for model, reason in [
        (make_pipeline(MinMaxScaler(), models.Ridge()).fit(rows, labels), "MinMaxScaler"),
        (models.SGDClassifier(loss="modified_huber").fit(rows, labels), "log_loss"),
        (models.RidgeClassifier().fit(rows, labels), "no probabilities"),
        (models.LinearRegression().fit(rows, rows[:, :2]), "2 targets"),
        (models.Ridge(), "not fitted"),
    ]:
        with pytest.raises(ValueError, match=reason):
            linear.document(model, NAMES)
    with pytest.raises(ValueError, match="11 features"):
        linear.document(models.Ridge().fit(rows, labels), NAMES[:11])
    with pytest.raises(ValueError, match="without feature names"):
        linear.document(models.Ridge().fit(rows, labels))
