"""What a data scientist's script does, with the real `mlflow` client, against the platform."""

import math
import os
import uuid

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
import mlflow.xgboost
import numpy
import pandas
import pytest
import requests
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow_fixtures import client, experiment, trained, url  # noqa: F401

# Runs


def test_fluent_run_keeps_everything_it_logs(client, experiment, tmp_path):
    with mlflow.start_run(run_name="first try", tags={"team": "delays"}) as run:
        mlflow.log_param("depth", 6)
        mlflow.log_params({"eta": 0.1, "note": "a/b c"})
        for step in range(5):
            mlflow.log_metric("auc", 0.5 + step / 10, step=step)
        mlflow.log_metrics({"loss": 0.25, "rows": 1000})
        mlflow.set_tag("stage", "draft")
        mlflow.log_dict({"k": [1, 2]}, "config/settings.json")
        mlflow.log_text("hello", "notes.txt")
        local = tmp_path / "empty.bin"
        local.write_bytes(b"")
        mlflow.log_artifact(str(local), "files")

    kept = client.get_run(run.info.run_id)
    assert kept.info.status == "FINISHED"
    assert kept.info.run_name == "first try"
    assert kept.info.end_time >= kept.info.start_time
    assert kept.data.params == {"depth": "6", "eta": "0.1", "note": "a/b c"}
    assert kept.data.metrics == {"auc": 0.9, "loss": 0.25, "rows": 1000.0}
    assert kept.data.tags["team"] == "delays"
    assert kept.data.tags["stage"] == "draft"
    assert kept.data.tags["mlflow.runName"] == "first try"
    assert [m.value for m in client.get_metric_history(run.info.run_id, "auc")] == pytest.approx(
        [0.5, 0.6, 0.7, 0.8, 0.9]
    )
    names = {f.path: f.is_dir for f in client.list_artifacts(run.info.run_id)}
    assert names == {"bottega": True, "config": True, "files": True, "notes.txt": False}  # with the run's record
    assert mlflow.artifacts.load_dict(f"{kept.info.artifact_uri}/config/settings.json") == {"k": [1, 2]}
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notes.txt") == "hello"
    folder = client.download_artifacts(run.info.run_id, "", str(tmp_path))
    assert (tmp_path / "files" / "empty.bin").read_bytes() == b""
    assert os.path.isdir(folder)


def test_a_figure_arrives_as_an_image(client, experiment):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    axes.plot([1, 2, 3])
    with mlflow.start_run() as run:
        mlflow.log_figure(figure, "plots/curve.png")
    [entry] = client.list_artifacts(run.info.run_id, "plots")
    assert entry.path == "plots/curve.png"
    path = client.download_artifacts(run.info.run_id, "plots/curve.png")
    with open(path, "rb") as file:
        content = file.read()
    assert content.startswith(b"\x89PNG")
    assert len(content) == entry.file_size


def test_log_batch_is_all_or_nothing(client, experiment):
    run = client.create_run(experiment.experiment_id)
    client.log_batch(
        run.info.run_id,
        metrics=[Metric("m", i / 7, 1000 + i, i) for i in range(1500)],
        params=[Param(f"p{i}", str(i)) for i in range(150)],
        tags=[RunTag(f"t{i}", "x") for i in range(20)],
    )
    kept = client.get_run(run.info.run_id)
    assert kept.data.metrics["m"] == 1499 / 7
    assert len(kept.data.params) == 150
    assert len(client.get_metric_history(run.info.run_id, "m")) == 1500
    with pytest.raises(MlflowException) as failure:
        client.log_batch(run.info.run_id, metrics=[Metric("new", 1.0, 1, 0)], params=[Param("p1", "other")])
    assert failure.value.error_code == "INVALID_PARAMETER_VALUE"
    assert "new" not in client.get_run(run.info.run_id).data.metrics


def test_the_latest_metric_is_that_of_the_greatest_step(client, experiment):
    run_id = client.create_run(experiment.experiment_id).info.run_id
    client.log_metric(run_id, "m", 1.0, timestamp=50, step=9)
    client.log_metric(run_id, "m", 2.0, timestamp=90, step=3)
    client.log_metric(run_id, "m", 3.0, timestamp=10, step=9)
    assert client.get_run(run_id).data.metrics["m"] == 1.0


def test_metrics_that_are_no_numbers(client, experiment):
    run_id = client.create_run(experiment.experiment_id).info.run_id
    client.log_metric(run_id, "nan", float("nan"))
    client.log_metric(run_id, "up", float("inf"))
    client.log_metric(run_id, "down", float("-inf"))
    metrics = client.get_run(run_id).data.metrics
    assert math.isnan(metrics["nan"])
    assert metrics["up"] == 1.7976931348623157e308
    assert metrics["down"] == -1.7976931348623157e308


def test_nested_runs_know_their_parent(client, experiment):
    with mlflow.start_run(run_name="parent") as parent:
        with mlflow.start_run(run_name="child", nested=True) as child:
            mlflow.log_metric("m", 1)
    assert client.get_run(child.info.run_id).data.tags["mlflow.parentRunId"] == parent.info.run_id
    found = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert [r.info.run_id for r in found] == [child.info.run_id]


def test_a_failing_script_leaves_a_failed_run(client, experiment):
    with pytest.raises(ZeroDivisionError):
        with mlflow.start_run() as run:
            1 / 0
    assert client.get_run(run.info.run_id).info.status == "FAILED"


def test_a_script_continues_a_run_made_beforehand(client, experiment, monkeypatch):
    made = client.create_run(experiment.experiment_id, tags={"bottega.job": "job-1"}, run_name="prepared")
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    with mlflow.start_run() as run:
        mlflow.log_metric("m", 4)
    assert run.info.run_id == made.info.run_id
    kept = client.get_run(made.info.run_id)
    assert kept.info.status == "FINISHED"
    assert kept.data.tags["bottega.job"] == "job-1"


def test_deleted_runs_come_back(client, experiment):
    run_id = client.create_run(experiment.experiment_id).info.run_id
    client.delete_run(run_id)
    assert client.search_runs([experiment.experiment_id]) == []
    deleted = client.search_runs([experiment.experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert [r.info.run_id for r in deleted] == [run_id]
    with pytest.raises(MlflowException):
        client.log_metric(run_id, "m", 1.0)
    client.restore_run(run_id)
    client.log_metric(run_id, "m", 1.0)
    assert client.get_run(run_id).info.lifecycle_stage == "active"


def test_tags_are_renamed_and_removed(client, experiment):
    run_id = client.create_run(experiment.experiment_id, run_name="old").info.run_id
    client.set_tag(run_id, "mlflow.runName", "new")
    assert client.get_run(run_id).info.run_name == "new"
    client.update_run(run_id, name="newest")
    assert client.get_run(run_id).data.tags["mlflow.runName"] == "newest"
    client.set_tag(run_id, "t", "")
    client.delete_tag(run_id, "t")
    with pytest.raises(MlflowException) as failure:
        client.delete_tag(run_id, "t")
    assert failure.value.error_code == "RESOURCE_DOES_NOT_EXIST"


# Search


@pytest.fixture
def ranked(client, experiment):
    """Six runs: `auc` 0.0 to 0.4 and one without, `kind` even or odd."""
    ids = []
    for i in range(6):
        run = client.create_run(experiment.experiment_id, run_name=f"Run_{i}", start_time=1000 + i)
        if i < 5:
            client.log_metric(run.info.run_id, "auc", i / 10)
        client.log_param(run.info.run_id, "kind", "even" if i % 2 == 0 else "odd")
        client.set_tag(run.info.run_id, "odd key", f"value {i}")
        ids.append(run.info.run_id)
    return experiment, ids


@pytest.mark.parametrize(
    ("filter_text", "expected"),
    [
        ("", [5, 4, 3, 2, 1, 0]),
        ("metrics.auc > 0.15", [4, 3, 2]),
        ("metrics.auc >= 0.1 and metrics.auc < 0.3", [2, 1]),
        ("metric.auc != 0.2", [4, 3, 1, 0]),
        ("metrics.auc IS NULL", [5]),
        ("params.kind = 'odd' AND metrics.auc IS NOT NULL", [3, 1]),
        ('parameters.kind != "odd"', [4, 2, 0]),
        ("params.missing != 'x'", []),
        ("params.kind LIKE 'EV%'", []),
        ("params.kind ILIKE 'EV%'", [4, 2, 0]),
        ("tags.`odd key` = 'value 3'", [3]),
        ("tags.\"odd key\" LIKE '%_4'", [4]),
        ("attributes.run_name = 'Run_2'", [2]),
        ("run_name ILIKE 'run\\_%' AND start_time >= 1004", []),
        ("run_name ILIKE 'run%' AND start_time >= 1004", [5, 4]),
        ("attributes.status = 'RUNNING' AND attributes.start_time < 1001", [0]),
    ],
)
def test_filters_select_the_runs_they_name(client, ranked, filter_text, expected):
    experiment, ids = ranked
    found = client.search_runs([experiment.experiment_id], filter_text)
    assert [ids.index(r.info.run_id) for r in found] == expected


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (["metrics.auc DESC"], [4, 3, 2, 1, 0, 5]),
        (["metrics.auc ASC"], [0, 1, 2, 3, 4, 5]),
        (["params.kind", "metrics.auc DESC"], [4, 2, 0, 3, 1, 5]),
        (["attributes.start_time ASC"], [0, 1, 2, 3, 4, 5]),
        (["tags.`odd key` DESC"], [5, 4, 3, 2, 1, 0]),
    ],
)
def test_order_puts_missing_values_last(client, ranked, order, expected):
    experiment, ids = ranked
    found = client.search_runs([experiment.experiment_id], order_by=order)
    assert [ids.index(r.info.run_id) for r in found] == expected


def test_run_ids_can_be_listed_in_a_filter(client, ranked):
    experiment, ids = ranked
    found = client.search_runs([experiment.experiment_id], f"attributes.run_id IN ('{ids[1]}', '{ids[4]}')")
    assert {r.info.run_id for r in found} == {ids[1], ids[4]}


def test_pages_cover_every_run_once(client, ranked):
    experiment, ids = ranked
    seen, token = [], None
    while True:
        page = client.search_runs([experiment.experiment_id], max_results=4, page_token=token)
        seen += [r.info.run_id for r in page]
        token = page.token
        if not token:
            break
    assert seen == list(reversed(ids))


@pytest.mark.parametrize(
    "filter_text",
    ["metrics.auc >", "metrics.auc = 'x'", "params.kind = 3", "nonsense.x = 1", "a OR b", "'", "(", "start_time = 'x'"],
)
def test_a_bad_filter_is_the_callers_fault(client, experiment, filter_text):
    with pytest.raises(MlflowException) as failure:
        client.search_runs([experiment.experiment_id], filter_text)
    assert failure.value.error_code == "INVALID_PARAMETER_VALUE"


def test_search_as_a_table(client, ranked):
    experiment, ids = ranked
    table = mlflow.search_runs([experiment.experiment_id], order_by=["metrics.auc DESC"])
    assert list(table["run_id"])[0] == ids[4]
    assert table["params.kind"].tolist().count("odd") == 3


# Experiments


def test_experiments_live_die_and_return(client):
    name = f"life-{uuid.uuid4().hex[:8]}"
    experiment_id = client.create_experiment(name, tags={"area": "test"})
    with pytest.raises(MlflowException) as failure:
        client.create_experiment(name)
    assert failure.value.error_code == "RESOURCE_ALREADY_EXISTS"
    client.set_experiment_tag(experiment_id, "owner", "me")
    kept = client.get_experiment(experiment_id)
    assert kept.tags == {"area": "test", "owner": "me"}
    assert kept.lifecycle_stage == "active"
    client.delete_experiment_tag(experiment_id, "owner")
    client.rename_experiment(experiment_id, name + "-renamed")
    found = client.search_experiments(filter_string=f"name LIKE '{name}%' AND tags.area = 'test'")
    assert [e.name for e in found] == [name + "-renamed"]
    client.delete_experiment(experiment_id)
    assert client.get_experiment(experiment_id).lifecycle_stage == "deleted"
    with pytest.raises(MlflowException):
        client.create_run(experiment_id)
    deleted = client.search_experiments(view_type=ViewType.DELETED_ONLY)
    assert experiment_id in [e.experiment_id for e in deleted]
    client.restore_experiment(experiment_id)
    client.create_run(experiment_id)


def test_the_default_experiment_is_there(client):
    assert client.get_experiment("0").name == "Default"
    assert client.get_experiment_by_name("no such experiment") is None


# Datasets


def test_inputs_name_the_dataset_and_its_use(client, experiment):
    frame = pandas.DataFrame({"x": [1.0, 2.0], "y": [0, 1]})
    dataset = mlflow.data.from_pandas(frame, name="two rows", targets="y")
    with mlflow.start_run() as run:
        mlflow.log_input(dataset, context="training")
        mlflow.log_metric("rmse", 0.5, dataset=dataset)
    [used] = client.get_run(run.info.run_id).inputs.dataset_inputs
    assert used.dataset.name == "two rows"
    assert used.dataset.digest == dataset.digest
    assert {t.key: t.value for t in used.tags} == {"mlflow.data.context": "training"}
    found = client.search_runs([experiment.experiment_id], "dataset.name = 'two rows' AND dataset.context = 'training'")
    assert [r.info.run_id for r in found] == [run.info.run_id]


# Models


def test_a_logged_model_predicts_the_same_when_loaded(client, experiment, trained):
    model, inputs, _ = trained
    with mlflow.start_run() as run:
        info = mlflow.xgboost.log_model(
            model,
            name="model",
            model_format="ubj",
            signature=infer_signature(inputs, model.predict(inputs)),
            input_example=inputs.head(2),
            pip_requirements=["xgboost"],  # given, the client need not load the model once more to find them
        )
    loaded = mlflow.xgboost.load_model(info.model_uri)
    assert numpy.array_equal(loaded.predict_proba(inputs), model.predict_proba(inputs))
    kept = client.get_logged_model(info.model_id)
    assert kept.status == "READY"
    assert kept.source_run_id == run.info.run_id
    assert [o.model_id for o in client.get_run(run.info.run_id).outputs.model_outputs] == [info.model_id]
    found = client.search_logged_models([experiment.experiment_id], filter_string="name = 'model'")
    assert [m.model_id for m in found] == [info.model_id]


def test_logged_models_carry_tags_params_and_metrics(client, experiment):
    with mlflow.start_run():
        first = mlflow.initialize_logged_model(name="first", params={"depth": "3"}, tags={"kind": "tree"})
        mlflow.log_metric("auc", 0.7, model_id=first.model_id)
        second = mlflow.initialize_logged_model(name="second")
        mlflow.log_metric("auc", 0.8, model_id=second.model_id)
    client.set_logged_model_tags(first.model_id, {"extra": "yes"})
    kept = client.get_logged_model(first.model_id)
    assert kept.params == {"depth": "3"}
    assert kept.tags["extra"] == "yes"
    assert [(m.key, m.value) for m in kept.metrics] == [("auc", 0.7)]
    client.delete_logged_model_tag(first.model_id, "extra")
    found = client.search_logged_models(
        [experiment.experiment_id],
        filter_string="metrics.auc > 0.5",
        order_by=[{"field_name": "metrics.auc", "ascending": False}],
    )
    assert [m.name for m in found] == ["second", "first"]
    client.finalize_logged_model(second.model_id, "READY")
    client.delete_logged_model(first.model_id)
    with pytest.raises(MlflowException) as failure:
        client.get_logged_model(first.model_id)
    assert failure.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_autolog_of_a_scikit_model(client, experiment, trained):
    sklearn_linear = pytest.importorskip("sklearn.linear_model")
    _, inputs, label = trained
    mlflow.sklearn.autolog(log_input_examples=False, silent=True)
    try:
        with mlflow.start_run() as run:
            sklearn_linear.LogisticRegression(C=0.5).fit(inputs, label)
    finally:
        mlflow.sklearn.autolog(disable=True, silent=True)
    kept = client.get_run(run.info.run_id)
    assert kept.data.params["C"] == "0.5"
    assert 0.5 < kept.data.metrics["training_accuracy_score"] <= 1
    assert len(kept.outputs.model_outputs) == 1


def test_long_values_are_cut_and_stop_no_run(client, experiment, url):
    with mlflow.start_run() as run:
        mlflow.log_param("prompt", "ä" * 7000)
        mlflow.log_params({"other": "y" * 6001})
        mlflow.set_tag("note", "z" * 9000)
    kept = client.get_run(run.info.run_id).data
    assert kept.params == {"prompt": "ä" * 6000, "other": "y" * 6000} and kept.tags["note"] == "z" * 8000
    client.log_param(run.info.run_id, "prompt", "ä" * 7000)  # the same again
    name = run.info.run_name
    client.set_tag(run.info.run_id, "mlflow.runName", "")
    assert client.get_run(run.info.run_id).info.run_name == name


def test_parameters_of_a_model_are_written_once(client, experiment):
    model = client.create_logged_model(experiment.experiment_id, name="m", params={"depth": "3", "text": "x" * 7000})
    client.log_model_params(model.model_id, {"depth": "3", "rate": "1"})
    with pytest.raises(MlflowException, match="written once"):
        client.log_model_params(model.model_id, {"depth": "4"})
    assert client.get_logged_model(model.model_id).params == {"depth": "3", "text": "x" * 7000, "rate": "1"}


def test_a_path_is_a_file_or_a_folder(client, experiment):
    run = client.create_run(experiment.experiment_id).info.run_id
    client.log_text(run, "a", "x")
    client.log_text(run, "b", "d/e/f.txt")
    for path in ("x/y", "x/y/z", "d", "d/e"):
        with pytest.raises(requests.HTTPError, match=r"is a file|is a folder"):
            client.log_text(run, "c", path)
    client.log_text(run, "again", "x")
    assert sorted(file.path for file in client.list_artifacts(run)) == ["d", "x"]


# The wire


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/api/2.0/mlflow/runs/get?run_id=nope", None, 404, "RESOURCE_DOES_NOT_EXIST"),
        ("GET", "/api/2.0/mlflow/runs/get", None, 400, "INVALID_PARAMETER_VALUE"),
        ("GET", "/api/2.0/mlflow/no/such/call", None, 404, "ENDPOINT_NOT_FOUND"),
        ("POST", "/ajax-api/2.0/mlflow/no-such-call", {}, 404, "ENDPOINT_NOT_FOUND"),
        ("POST", "/api/2.0/mlflow/experiments/create", {"name": 7}, 400, "INVALID_PARAMETER_VALUE"),
        ("POST", "/api/2.0/mlflow/experiments/create", [1], 400, "INVALID_PARAMETER_VALUE"),
        ("POST", "/api/2.0/mlflow/runs/search", {"page_token": "%%"}, 400, "INVALID_PARAMETER_VALUE"),
        ("POST", "/api/2.0/mlflow/runs/search", {"max_results": 999999}, 400, "INVALID_PARAMETER_VALUE"),
        ("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "987654"}, 404, "RESOURCE_DOES_NOT_EXIST"),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts/0/none.txt", None, 404, "RESOURCE_DOES_NOT_EXIST"),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts/%2e%2e/%2e%2e/etc/passwd", None, 400, "INVALID_PARAMETER_VALUE"),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts/a/%252e%252e/b", None, 400, "INVALID_PARAMETER_VALUE"),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/a%5c..%5cb", None, 400, "INVALID_PARAMETER_VALUE"),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts?path=../x", None, 400, "INVALID_PARAMETER_VALUE"),
    ],
)
def test_faults_of_the_caller_are_never_worth_a_retry(url, method, path, body, status, code):
    answer = requests.request(method, url + path, json=body, timeout=10)
    assert answer.status_code == status
    assert answer.json()["error_code"] == code


def test_text_that_no_store_keeps_is_refused(url):
    answer = requests.post(f"{url}/api/2.0/mlflow/experiments/create", json={"name": "a\0b"}, timeout=10)
    assert answer.status_code == 400
    answer = requests.get(f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=a%00b", timeout=10)
    assert answer.status_code == 400


def test_broken_json_is_refused(url):
    answer = requests.post(f"{url}/api/2.0/mlflow/runs/create", data=b'{"a": ', timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"


def test_both_prefixes_and_the_plain_routes_answer(url):
    assert requests.get(f"{url}/health", timeout=10).text == "OK"
    assert requests.get(f"{url}/version", timeout=10).text == mlflow.__version__
    assert requests.get(f"{url}/api/3.0/mlflow/server-info", timeout=10).json()["workspaces_enabled"] is False
    answer = requests.get(f"{url}/ajax-api/2.0/mlflow/experiments/get?experiment_id=0", timeout=10)
    assert answer.json()["experiment"]["name"] == "Default"


def test_another_method_is_refused_in_the_clients_words(url):
    answer = requests.put(f"{url}/api/2.0/mlflow/runs/create", json={}, timeout=10)
    assert (answer.status_code, answer.json()["error_code"]) == (405, "ENDPOINT_NOT_FOUND")
    assert "POST" in answer.json()["message"]


def test_artifacts_are_replaced_listed_and_deleted(url):
    root = f"{url}/api/2.0/mlflow-artifacts/artifacts"
    folder = f"0/{uuid.uuid4().hex}/artifacts"
    assert requests.put(f"{root}/{folder}/a/b.txt", data=b"one", timeout=10).status_code == 200
    assert requests.put(f"{root}/{folder}/a/b.txt", data=b"second", timeout=10).status_code == 200
    assert requests.put(f"{root}/{folder}/a/deep/c%20d.bin", data=b"\x00\xff", timeout=10).status_code == 200
    answer = requests.get(f"{root}/{folder}/a/b.txt", timeout=10)
    assert answer.content == b"second"
    assert "attachment" in answer.headers["Content-Disposition"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    listing = requests.get(root, params={"path": f"{folder}/a"}, timeout=10).json()["files"]
    assert listing == [{"path": "b.txt", "is_dir": False, "file_size": 6}, {"path": "deep", "is_dir": True}]
    assert requests.delete(f"{root}/{folder}/a", timeout=10).json() == {}
    assert requests.get(root, params={"path": f"{folder}/a"}, timeout=10).json() == {}
