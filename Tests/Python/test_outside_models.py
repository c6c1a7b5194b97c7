"""Models that were trained elsewhere and registered by MLflow's client, on tables: against their libraries."""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import lightgbm as lgb
import mlflow
import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest
import xgboost as xgb
from conftest import Server
from mlflow.models import infer_signature
from sklearn import metrics
from sklearn.linear_model import Ridge

ROWS = 600
NUMBERS = ["mean radius", "b", "c"]


class Outside:
    """A server without any definition, a table, and models that were trained on it somewhere else."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.server = Server(folder / "data", "--set", f"python.path={sys.executable}").start()
        draw = np.random.default_rng(5)
        frame = pd.DataFrame(draw.normal(size=(ROWS, 3)), columns=NUMBERS)
        frame["colour"] = pd.Categorical(draw.choice(["red", "green", "blue"], ROWS))
        pull = frame["colour"].map({"red": 1.0, "green": -1.0, "blue": 0.0}).astype(float)
        value = frame["mean radius"] * 2 + frame["b"] * frame["c"] + pull + draw.normal(size=ROWS) / 2
        frame["value"], frame["label"] = value, (value > 0).astype(int)
        frame["size"] = pd.cut(value, [-np.inf, -1, 1, np.inf], labels=[0, 1, 2]).astype(int)
        frame["region"] = np.where(frame["c"] > 0, "north", "south")
        self.frame = frame
        # Columns are found by their names: others stand between them, in another order.
        self.path = folder / "rows.parquet"
        frame[["label", "region", "colour", "c", "b", "value", "mean radius", "size"]].to_parquet(self.path)
        self.folder = folder

    def log(self, flavor: Any, model: Any, name: str, signature: Any) -> None:
        # Another module's tests may have chosen a registry and an experiment.
        mlflow.set_tracking_uri(self.server.url)
        mlflow.set_registry_uri(self.server.url)
        mlflow.set_experiment("outside")
        with mlflow.start_run():
            flavor.log_model(model, name="model", signature=signature, registered_model_name=name)

    def evaluate(self, name: str, label: str, *more: str) -> dict[str, Any]:
        given = ("--dataset", str(self.path), "--label", label, *more)
        return json.loads(self.server.cli("evaluate", name, *given, "--json").stdout)

    def metrics(self, name: str, label: str) -> dict[str, float]:
        report = self.evaluate(name, label)["versions"][0]["report"]
        return {metric["metric"]: metric["value"] for metric in report["metrics"]}


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory, binary: str) -> Iterator[Outside]:
    outside = Outside(tmp_path_factory.mktemp("outside"))
    yield outside
    mlflow.set_registry_uri(None)
    assert outside.server.stop() == 0


def close(one: float, other: float) -> None:
    assert one == pytest.approx(other, rel=2e-6)


def test_trees_of_numbers_and_named_categories(outside: Outside) -> None:
    frame = outside.frame
    inputs = frame[[*NUMBERS, "colour"]]
    text = inputs.assign(colour=inputs["colour"].astype(str))
    booster = xgb.XGBClassifier(n_estimators=15, enable_categorical=True).fit(inputs, frame["label"])
    outside.log(mlflow.xgboost, booster, "xgboost", infer_signature(text, booster.predict(inputs)))
    found = outside.metrics("xgboost", "label")
    close(found["auc"], metrics.roc_auc_score(frame["label"], booster.predict_proba(inputs)[:, 1]))
    close(found["log_loss"], metrics.log_loss(frame["label"], booster.predict_proba(inputs)[:, 1].astype(float)))
    # LightGBM writes a blank in a name as '_'.
    model = lgb.LGBMClassifier(n_estimators=15, verbose=-1).fit(inputs, frame["label"])
    outside.log(mlflow.lightgbm, model.booster_, "lightgbm", infer_signature(text, model.predict(inputs)))
    close(
        outside.metrics("lightgbm", "label")["log_loss"], metrics.log_loss(frame["label"], model.predict_proba(inputs))
    )
    # Without a signature the file's own names, and a signature in another order.
    classes = xgb.XGBClassifier(n_estimators=15).fit(frame[NUMBERS], frame["size"])
    for signature in (None, infer_signature(frame[NUMBERS[::-1]], classes.predict(frame[NUMBERS]))):
        outside.log(mlflow.xgboost, classes, "classes", signature)
        found = outside.metrics("classes", "size")
        close(found["log_loss"], metrics.log_loss(frame["size"], classes.predict_proba(frame[NUMBERS])))


def test_a_model_in_a_worker_and_what_is_shown_of_it(outside: Outside) -> None:
    frame = outside.frame
    model = Ridge().fit(frame[NUMBERS], frame["value"])
    outside.log(mlflow.sklearn, model, "ridge", infer_signature(frame[NUMBERS], model.predict(frame[NUMBERS])))
    found = outside.evaluate("ridge", "value", "--slice", "region")
    [report] = [version["report"] for version in found["versions"]]
    values = {metric["metric"]: metric["value"] for metric in report["metrics"]}
    close(values["rmse"], metrics.root_mean_squared_error(frame["value"], model.predict(frame[NUMBERS])))
    counts = {part["value"]: part["rows"] for part in report["slices"]}
    assert counts == frame["region"].value_counts().to_dict()
    assert found["evaluation"][:12] in outside.server.cli("model", "card", "ridge", "1").stdout
    run = mlflow.MlflowClient(outside.server.url).get_run(found["versions"][0]["run_id"])
    assert run.data.metrics["rmse"] == values["rmse"]


def test_a_batch_is_scored_from_its_columns(outside: Outside) -> None:
    frame = outside.frame
    model = xgb.XGBRegressor(n_estimators=15).fit(frame[NUMBERS], frame["value"])
    outside.log(mlflow.xgboost, model, "values", infer_signature(frame[NUMBERS], model.predict(frame[NUMBERS])))
    asked = ("score", "values", "--spine", str(outside.path), "--out", "values")
    done = json.loads(outside.server.cli(*asked, "--features-in-file", "--keep", "value", "--json").stdout)
    scores = parquet.read_table(pathlib.Path(done["folder"]) / done["parts"][0]["file"]).to_pandas()
    assert scores["value"].tolist() == frame["value"].tolist() and done["rows"] == ROWS
    np.testing.assert_allclose(scores["prediction"], model.predict(frame[NUMBERS]), rtol=2e-6)
    refused = outside.server.cli(*asked, "--event-time", "value", check=False)
    assert refused.returncode == 2 and "--features-in-file" in refused.stderr, refused.stderr


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (lambda frame: (frame[NUMBERS].to_numpy(), True), "neither its signature nor its file names the columns"),
        (lambda frame: (frame[NUMBERS].assign(b="x"), False), "'b' is text, and neither its signature nor its file"),
    ],
    ids=["no names", "text without a list"],
)
def test_what_it_cannot_read_is_said(outside: Outside, train: Callable[[Any], tuple[Any, bool]], words: str) -> None:
    inputs, is_plain = train(outside.frame)
    numbers = inputs if is_plain else outside.frame[NUMBERS].to_numpy()
    model = xgb.XGBRegressor(n_estimators=2).fit(numbers, outside.frame["value"])
    outside.log(mlflow.xgboost, model, "unread", infer_signature(inputs, model.predict(numbers)))
    given = ("--dataset", str(outside.path), "--label", "value")
    refused = outside.server.cli("evaluate", "unread", *given, check=False)
    assert refused.returncode == 3 and words in refused.stderr, refused.stderr
    # And no training set says what to measure it on.
    assert outside.server.cli("evaluate", "unread", check=False).returncode == 2
