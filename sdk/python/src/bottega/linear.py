"""Writes scikit-learn's linear and logistic models as `model.linear.json`: numbers that the platform scores itself.

`save(estimator, path, features)` takes an estimator, or a pipeline of `SimpleImputer`, `StandardScaler` (each may be
left out) and an estimator:

- `LinearRegression`, `Ridge`, `Lasso`, `ElasticNet` and the other regressors with one row of `coef_`;
- `PoissonRegressor`, `GammaRegressor`, `TweedieRegressor` with the link `log`;
- `LogisticRegression` (binary, multinomial), `LogisticRegressionCV`, `SGDClassifier(loss="log_loss")`;
- `OneVsRestClassifier` over `LogisticRegression`.

What cannot be written exactly raises `ValueError` with the reason. `log(estimator, features)` logs the file to the
active mlflow run, from which `bottega model register MODEL --run RUN` takes it.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Sequence
from typing import Any

FORMAT = "bottega-linear/1"
FILE_NAME = "model.linear.json"


def _numbers(values: Any, what: str) -> list[float]:
    numbers = [float(value) for value in values]
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"{what} holds a value that is not finite")
    return numbers


def _single(values: Any) -> list[Any]:
    """Coefficients or intercepts of one output as a flat list, however scikit-learn shaped them."""
    flat = list(values) if hasattr(values, "__len__") else [values]
    while len(flat) == 1 and hasattr(flat[0], "__len__"):
        flat = list(flat[0])
    return flat


def _steps(model: Any) -> list[Any]:
    return (
        [step for _, step in model.steps if step not in (None, "passthrough")] if hasattr(model, "steps") else [model]
    )


def _classes(classes: Any) -> list[Any]:
    return [value.item() if hasattr(value, "item") else value for value in classes]


def _weights(estimator: Any) -> dict[str, Any]:
    kind = type(estimator).__name__
    if kind == "OneVsRestClassifier":
        if any(
            type(part).__name__ not in ("LogisticRegression", "LogisticRegressionCV") for part in estimator.estimators_
        ):
            raise ValueError("OneVsRestClassifier: its estimators must be LogisticRegression")
        if getattr(estimator, "multilabel_", False):
            raise ValueError("OneVsRestClassifier: several labels for one row are not read")
        parts = estimator.estimators_
        link = "logistic" if len(parts) == 1 else "one-vs-rest"
        return {
            "link": link,
            "coefficients": [_numbers(_single(part.coef_), "coef_") for part in parts],
            "intercepts": [_numbers(_single(part.intercept_), "intercept_")[0] for part in parts],
            "classes": _classes(estimator.classes_),
        }
    if not hasattr(estimator, "coef_"):
        raise ValueError(f"{kind} has no coef_: it is not fitted, or not linear")
    if hasattr(estimator, "classes_"):
        if not hasattr(estimator, "predict_proba"):
            raise ValueError(f"{kind} gives no probabilities")
        if kind == "SGDClassifier" and estimator.loss != "log_loss":
            raise ValueError(f"SGDClassifier: loss '{estimator.loss}' has no logistic probabilities; log_loss has")
        if kind not in ("LogisticRegression", "LogisticRegressionCV", "SGDClassifier"):
            raise ValueError(f"how {kind} turns sums into probabilities is not known here")
        rows = [_numbers(row, "coef_") for row in estimator.coef_]
        intercepts = _numbers(_single(estimator.intercept_), "intercept_")
        if len(intercepts) == 1:
            intercepts *= len(rows)
        apart = kind == "SGDClassifier" or getattr(estimator, "solver", "") == "liblinear"
        apart = apart or getattr(estimator, "multi_class", "") == "ovr"
        if getattr(estimator, "multi_class", "") == "multinomial" and len(rows) == 1:
            # Two classes under a softmax of (-sum, sum).
            rows, intercepts = [[2 * value for value in rows[0]]], [2 * intercepts[0]]
        link = "logistic" if len(rows) == 1 else "one-vs-rest" if apart else "softmax"
        return {"link": link, "coefficients": rows, "intercepts": intercepts, "classes": _classes(estimator.classes_)}
    coefficients = _single(estimator.coef_)
    if coefficients and hasattr(coefficients[0], "__len__"):
        raise ValueError(f"{kind} has {len(coefficients)} targets; one is read")
    link = "identity"
    if kind in ("PoissonRegressor", "GammaRegressor"):
        link = "exp"
    elif kind == "TweedieRegressor":
        power_link = "log" if estimator.power > 0 else "identity"
        link = "exp" if (power_link if estimator.link == "auto" else estimator.link) == "log" else "identity"
    return {
        "link": link,
        "coefficients": [_numbers(coefficients, "coef_")],
        "intercepts": _numbers(_single(estimator.intercept_), "intercept_"),
    }


def document(model: Any, features: Sequence[str] | None = None) -> dict[str, Any]:
    """What `save` writes."""
    *before, estimator = _steps(model)
    written = _weights(estimator)
    width = len(written["coefficients"][0])
    names = list(features) if features is not None else None
    if names is None:
        found = getattr(_steps(model)[0], "feature_names_in_", None)
        if found is None:
            raise ValueError("the model was fitted without feature names: name them in the order of its columns")
        names = [str(name) for name in found]
    if len(names) != width:
        raise ValueError(f"{len(names)} features are named, the model has {width}")
    result: dict[str, Any] = {"format": FORMAT, "features": names, **written}
    for place, step in enumerate(before):
        kind = type(step).__name__
        if kind == "SimpleImputer" and place == 0:
            if step.add_indicator:
                raise ValueError("SimpleImputer: add_indicator makes features that are not read")
            if not (isinstance(step.missing_values, float) and math.isnan(step.missing_values)):
                raise ValueError("SimpleImputer: only NaN is a missing value")
            result["fill"] = _numbers(step.statistics_, "statistics_")
        elif kind == "StandardScaler" and "center" not in result and "scale" not in result:
            if step.with_mean:
                result["center"] = _numbers(step.mean_, "mean_")
            if step.with_std:
                result["scale"] = _numbers(step.scale_, "scale_")
        else:
            raise ValueError(
                f"the step {kind} cannot stand there: SimpleImputer, then StandardScaler, then the estimator"
            )
    return result


def save(model: Any, path: str | os.PathLike[str], features: Sequence[str] | None = None) -> None:
    """Writes `model` to `path`, best called `model.linear.json`.

    `features` names the columns in the order in which the model was fitted; a model that was fitted on a data frame
    knows them. They must be the inputs of the feature service in its order.
    """
    text = json.dumps(document(model, features), allow_nan=False, indent=1) + "\n"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def log(model: Any, features: Sequence[str] | None = None, artifact_path: str | None = None) -> None:
    """Logs `model.linear.json` to the active mlflow run."""
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, FILE_NAME)
        save(model, path, features)
        mlflow.log_artifact(path, artifact_path)
