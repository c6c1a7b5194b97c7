"""What tests with the real `mlflow` client begin with: a client, an experiment, a small model."""

import os
import uuid

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
import numpy
import pandas
import pytest
import xgboost
from mlflow import MlflowClient


@pytest.fixture(scope="module")
def url(request):
    address = os.environ.get("BOTTEGA_URL")
    if not address:
        address = request.getfixturevalue("server").url
    return address.rstrip("/")


@pytest.fixture
def client(url):
    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)
    return MlflowClient(tracking_uri=url, registry_uri=url)


@pytest.fixture
def experiment(client):
    name = f"experiment-{uuid.uuid4().hex[:12]}"
    mlflow.set_experiment(name)
    yield client.get_experiment_by_name(name)
    while mlflow.active_run():
        mlflow.end_run()


@pytest.fixture(scope="module")
def trained():
    generator = numpy.random.default_rng(7)
    inputs = pandas.DataFrame(generator.normal(size=(300, 4)), columns=["a", "b", "c", "d"])
    label = (inputs["a"] + 0.5 * inputs["b"] > 0).astype(int)
    model = xgboost.XGBClassifier(n_estimators=5, max_depth=3, random_state=1, n_jobs=1)
    model.fit(inputs, label)
    return model, inputs, label
