"""Models that `mlflow` alone registers, of runs that say which training set they were trained on."""

from __future__ import annotations

from collections.abc import Iterator

import bottega
import lightgbm
import mlflow
import mlflow.lightgbm
import mlflow.xgboost
import pandas as pd
import pytest
import shop
import xgboost
from conftest import Server, trained_server
from mlflow.models import infer_signature
from sklearn.metrics import roc_auc_score


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory, binary: str) -> Iterator[Server]:
    """A server of this module's own, whose model gets versions."""
    server = trained_server(tmp_path_factory.mktemp("tagged"))
    # Of the whole process, as other modules' servers are, and stronger than the environment.
    mlflow.set_tracking_uri(server.url)
    mlflow.set_registry_uri(server.url)
    yield server
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)
    assert server.stop() == 0


def test_an_mlflow_client_alone_brings_a_model_into_service(tagged: Server) -> None:
    data = bottega.Client(tagged.url).datasets.get(tagged.dataset[:8])
    frame = data.to_pandas("train")
    inputs = frame[[*data.inputs]].assign(channel=frame["channel"].map(shop.CHANNELS.index)).astype("float32")
    booster = xgboost.train(
        {"objective": "binary:logistic", "max_depth": 2, "nthread": 1}, xgboost.DMatrix(inputs, frame[data.label]), 5
    )
    signature = infer_signature(inputs, booster.predict(xgboost.DMatrix(inputs)))
    client = mlflow.MlflowClient(tagged.url)
    versions = []
    for tags in ({}, {"bottega.dataset": data.hash}):
        with mlflow.start_run(experiment_id="0", tags=tags):
            logged = mlflow.xgboost.log_model(
                booster, name="model", signature=signature, pip_requirements=["xgboost"], registered_model_name="loss"
            )
        versions.append(int(logged.registered_model_version))
    without, known = (tagged.get(f"/api/v1/models/loss/versions/{number}") for number in versions)
    assert without["metrics"] == {} and known["metrics"]["test"]["auc"] > 0.5, (without, known)
    with pytest.raises(mlflow.MlflowException, match=r"tag .bottega\.dataset."):
        client.transition_model_version_stage("loss", str(versions[0]), "Staging")
    client.transition_model_version_stage("loss", str(versions[1]), "Staging")
    tagged.cli("deploy", "variants", "loss", "1=100%", "--shadow", str(versions[1]), "--reason", "a look")
    tagged.cli("deploy", "loss", "1", "--reason", "enough")
    client.transition_model_version_stage("loss", str(versions[1]), "Archived")


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_a_registered_model_is_scored_by_name(library: str, tagged: Server) -> None:
    data = bottega.Client(tagged.url).datasets.get(tagged.dataset)
    slices = {name: data.to_pandas(name) for name in ("train", "test")}

    def table(name: str) -> pd.DataFrame:
        rows = slices[name][[*data.inputs]]
        # The feature lists app, shop, web.
        numbers = rows.drop(columns="channel").astype("float32")
        return numbers.assign(channel=pd.Categorical(rows["channel"], ["web", "app", "shop"]))[[*data.inputs]]

    labels = slices["train"][data.label]
    with mlflow.start_run(experiment_id="0", tags={"bottega.dataset": data.hash}):
        if library == "xgboost":
            parameters = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1}
            booster = xgboost.train(parameters, xgboost.DMatrix(table("train"), labels, enable_categorical=True), 10)
            said = booster.predict(xgboost.DMatrix(table("test"), enable_categorical=True))
        else:
            parameters = {"objective": "binary", "verbose": -1, "num_threads": 1, "min_data_per_group": 1}
            booster = lightgbm.train(parameters, lightgbm.Dataset(table("train"), labels), 10)
            said = booster.predict(table("test"))
        logged = getattr(mlflow, library).log_model(
            booster, name="model", signature=infer_signature(slices["test"][[*data.inputs]], said),
            pip_requirements=[library], registered_model_name="loss",
        )  # fmt: skip
    version = tagged.get(f"/api/v1/models/loss/versions/{logged.registered_model_version}")
    expected = roc_auc_score(slices["test"][data.label], said)
    assert version["metrics"]["test"]["auc"] == pytest.approx(expected, abs=1e-9)
