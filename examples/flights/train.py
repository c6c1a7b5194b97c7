"""Trains the flight delay model with XGBoost and logs the run with the mlflow client.

An ordinary training script: it reads three Parquet files and a manifest, trains, evaluates and logs. The platform runs
it as a job and says where things are through the environment; by hand it needs only the paths:

    BOTTEGA_DATASET_MANIFEST=manifest.json BOTTEGA_TRAIN=train.parquet BOTTEGA_VALIDATION=validation.parquet \
    BOTTEGA_TEST=test.parquet MLFLOW_TRACKING_URI=http://127.0.0.1:8000 python train.py

The seed comes from BOTTEGA_SEED and the settings from BOTTEGA_PARAM_<NAME>; both have defaults.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import mlflow
import mlflow.xgboost
import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import xgboost as xgb
from matplotlib.figure import Figure
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

EVALUATED_EVERY = 5  # boosting rounds between two logged points


@dataclass(frozen=True)
class Slice:
    """The rows of one slice, ready for the model."""

    name: str
    rows: int
    labels: np.ndarray
    matrix: xgb.DMatrix


@dataclass(frozen=True)
class Inputs:
    """What the manifest says about the columns."""

    features: list[str]
    categories: dict[str, list[str]]
    label: str
    dataset: str

    @staticmethod
    def read(path: Path) -> Inputs:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        columns = [column for column in manifest["columns"] if column["role"] in ("request", "feature")]
        return Inputs(
            features=[column["name"] for column in columns],
            categories={column["name"]: column["categories"] for column in columns if column.get("categories")},
            label=manifest["label"],
            dataset=os.environ.get("BOTTEGA_DATASET", ""),
        )


def setting(name: str, default: float) -> float:
    return float(os.environ.get(f"BOTTEGA_PARAM_{name.upper()}", default))


def thread_count() -> int:
    """The setting `threads`, else what OpenMP was told, else one: more threads add up in another order."""
    return int(os.environ.get("BOTTEGA_PARAM_THREADS") or os.environ.get("OMP_NUM_THREADS") or 1)


def load(name: str, inputs: Inputs, threads: int) -> Slice:
    """Reads one slice. A category's code is its position in the manifest's list, whatever this slice holds."""
    path = os.environ[f"BOTTEGA_{name.upper()}"]
    frame: pd.DataFrame = parquet.read_table(path, columns=[*inputs.features, inputs.label]).to_pandas()
    frame = frame[frame[inputs.label].notna()]
    features = pd.DataFrame(index=frame.index)
    for column in inputs.features:
        values = frame[column]
        if column in inputs.categories:
            features[column] = pd.Categorical(values, categories=inputs.categories[column])
        else:
            features[column] = values.astype("float32")
    labels = frame[inputs.label].to_numpy(dtype="float32")
    matrix = xgb.DMatrix(features, labels, enable_categorical=True, nthread=threads)
    return Slice(name=name, rows=len(frame), labels=labels, matrix=matrix)


def area_under_roc(labels: np.ndarray, scores: np.ndarray) -> float:
    """The Mann-Whitney form: the chance that a late flight is ranked above a punctual one, ties counting half."""
    positives = int((labels == 1).sum())
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = pd.Series(scores).rank().to_numpy()
    return float((ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def quality(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    clipped = np.clip(scores.astype("float64"), 1e-15, 1 - 1e-15)
    bins = np.minimum((clipped * 10).astype(int), 9)
    gaps = [abs(labels[bins == b].mean() - clipped[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return {
        "auc": area_under_roc(labels, scores),
        "log_loss": float(-(labels * np.log(clipped) + (1 - labels) * np.log(1 - clipped)).mean()),
        "brier": float(((clipped - labels) ** 2).mean()),
        "ece": float(sum(gaps)),
    }


def draw_roc(labels: np.ndarray, scores: np.ndarray, area: float) -> Figure:
    order = np.argsort(-scores, kind="stable")
    hits = np.concatenate([[0], np.cumsum(labels[order])])
    alarms = np.concatenate([[0], np.cumsum(1 - labels[order])])
    figure, axes = plt.subplots(figsize=(5, 5))
    axes.plot(alarms / alarms[-1], hits / hits[-1], color="#b4532a")
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
    axes.set(xlabel="share of punctual flights called late", ylabel="share of late flights found")
    axes.set_title(f"ROC on the test slice, area {area:.4f}")
    return figure


def draw_calibration(labels: np.ndarray, scores: np.ndarray) -> Figure:
    bins = np.minimum((scores * 10).astype(int), 9)
    used = np.unique(bins)
    figure, axes = plt.subplots(figsize=(5, 5))
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
    axes.plot([scores[bins == b].mean() for b in used], [labels[bins == b].mean() for b in used], "o-", color="#b4532a")
    axes.set(xlabel="what the model said", ylabel="share of flights that were late", title="Calibration, test slice")
    return figure


def draw_importance(booster: xgb.Booster) -> Figure:
    gains = {name: float(np.sum(gain)) for name, gain in booster.get_score(importance_type="total_gain").items()}
    total = sum(gains.values()) or 1.0
    top = sorted(((gain / total, name) for name, gain in gains.items()), reverse=True)[:20][::-1]
    figure, axes = plt.subplots(figsize=(8, 6))
    axes.barh([name for _, name in top], [share for share, _ in top], color="#b4532a")
    axes.set(xlabel="share of the total gain", title="What the model looks at")
    figure.tight_layout()
    return figure


def log_curves(run_id: str, curves: dict[str, dict[str, list[float]]]) -> None:
    """Logs the per-round metrics in batches: a call for each point would spend longer on HTTP than on training."""
    now = int(time.time() * 1000)
    points = [
        mlflow.entities.Metric(f"{slice_name}_{metric}", value, now, step)
        for slice_name, metrics in curves.items()
        for metric, values in metrics.items()
        for step, value in enumerate(values)
        if step % EVALUATED_EVERY == 0 or step == len(values) - 1
    ]
    client = mlflow.MlflowClient()
    for start in range(0, len(points), 1000):
        client.log_batch(run_id, metrics=points[start : start + 1000])


def signature(inputs: Inputs) -> ModelSignature:
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string if name in inputs.categories else DataType.double, name, required=False)
        for name in inputs.features
    ]
    return ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec(DataType.float)]))


def main() -> int:
    seed = int(os.environ.get("BOTTEGA_SEED", "0"))
    threads = thread_count()
    inputs = Inputs.read(Path(os.environ["BOTTEGA_DATASET_MANIFEST"]))
    train, validation, test = (load(name, inputs, threads) for name in ("train", "validation", "test"))
    print(f"{len(inputs.features)} features; rows: train {train.rows}, validation {validation.rows}, test {test.rows}")

    parameters: dict[str, Any] = {
        "objective": "binary:logistic",
        "eval_metric": ["logloss", "auc"],
        "tree_method": "hist",
        "max_depth": int(setting("depth", 5)),
        "eta": setting("learning_rate", 0.1),
        "min_child_weight": setting("min_child_weight", 50),
        "subsample": setting("subsample", 0.8),
        "colsample_bytree": setting("column_share", 0.6),
        "lambda": setting("lambda", 2.0),
        "max_bin": int(setting("max_bin", 128)),
        "max_cat_to_onehot": int(setting("max_cat_to_onehot", 16)),
        "seed": seed,
        "nthread": threads,
    }
    mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "flight_delay"))
    with mlflow.start_run() as run:
        mlflow.log_params({**parameters, "rounds": int(setting("rounds", 300)), "dataset": inputs.dataset})
        mlflow.log_params({"rows_train": train.rows, "rows_validation": validation.rows, "rows_test": test.rows})
        began = time.monotonic()
        curves: dict[str, dict[str, list[float]]] = {}
        booster = xgb.train(
            parameters,
            train.matrix,
            num_boost_round=int(setting("rounds", 300)),
            evals=[(train.matrix, "train"), (validation.matrix, "validation")],
            early_stopping_rounds=int(setting("early_stopping", 20)),
            evals_result=curves,
            verbose_eval=False,
        )
        # The model is the file: rounds past the best one must not be in it, so that every scorer gives one answer.
        best = booster.best_iteration + 1
        booster = booster[:best]
        seconds = time.monotonic() - began
        log_curves(run.info.run_id, curves)
        scores = booster.predict(test.matrix)
        measured = quality(test.labels, scores)
        mlflow.log_metrics({f"test_{name}": value for name, value in measured.items()})
        mlflow.log_metrics({"trees": best, "training_seconds": seconds})
        figures = {
            "plots/roc.png": draw_roc(test.labels, scores, measured["auc"]),
            "plots/calibration.png": draw_calibration(test.labels, scores),
            "plots/importance.png": draw_importance(booster),
        }
        for path, figure in figures.items():
            mlflow.log_figure(figure, path)
            plt.close(figure)
        mlflow.xgboost.log_model(
            booster,
            name="model",
            signature=signature(inputs),
            model_format="ubj",
            # Named here because the client would otherwise start a Python of its own to find out.
            pip_requirements=[f"xgboost-cpu=={xgb.__version__}"],
        )
        print(f"{best} trees in {seconds:.1f} s; test {', '.join(f'{k} {v:.4f}' for k, v in measured.items())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
