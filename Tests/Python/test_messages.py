"""What people are told on their first day: the thing that is meant, and what to do."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Callable

import pytest
import shop
from bad_input import PREDICT, assert_one_line, refuses
from conftest import Server, until
from remote_models import try_to_register


@pytest.mark.parametrize(
    ("old", "new", "words", "absent"),
    [
        ("{metric: auc, slice: test, min: 0.6}", "{metric: auc, minimum: 0.6}",
         ["model.yaml:", "gate of production", "unknown key 'minimum'; did you mean 'min'?"], []),
        ("  staging:\n", "  stagging:\n", ["model.yaml:", "did you mean 'staging'?"], []),
        ("name: price, type: float64", "name: price, type: float",
         ["data.yaml:", "it is one of string, int64, float64", "did you mean 'float64'?"], ["list"]),
        ("aggregate: mean, column", "aggregate: average, column", ["data.yaml:", "it is one of count, sum"], ["ratio"]),
    ],
    ids=["a bound", "a stage", "a type", "an aggregate"],
)  # fmt: skip
def test_a_word_that_is_nearly_right_is_named(
    server: Server, tmp_path: pathlib.Path, old: str, new: str, words: list[str], absent: list[str]
) -> None:
    folder = shop.write_definitions(tmp_path / "definitions")
    for path in folder.glob("*.yaml"):
        path.write_text(path.read_text().replace(old, new))
    failed = server.cli("plan", str(folder), check=False)
    refuses(failed, 2, *words)
    assert not [word for word in absent if f"{word}," in failed.stderr or f", {word}" in failed.stderr], failed.stderr


def test_a_plan_warns_of_a_script_that_is_not_there(server: Server, tmp_path: pathlib.Path) -> None:
    folder = shop.write_definitions(tmp_path / "definitions")
    assert "warning" not in server.cli("plan", str(folder)).stdout
    (folder / "train.py").unlink()
    line = 1 + (folder / "model.yaml").read_text().splitlines().index('  command: ["{python}", train.py]')
    [warning] = [line for line in server.cli("plan", str(folder)).stdout.splitlines() if line.startswith("warning")]
    assert f"model.yaml:{line}: " in warning and str(folder / "train.py") in warning, warning
    model = (folder / "model.yaml").read_text()
    for command in ('["{python}", -m, train]', '["true"]', '["{python}", "-"]'):
        (folder / "model.yaml").write_text(model.replace('["{python}", train.py]', command))
        assert "warning" not in server.cli("plan", str(folder)).stdout, command


def test_a_model_without_a_deployment_is_told_to_define_one(
    start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    server = start_server()
    folder = shop.write_definitions(tmp_path / "definitions")
    model = (folder / "model.yaml").read_text()
    (folder / "model.yaml").write_text(model.split("---\nkind: Deployment")[0])
    server.cli("apply", str(folder))
    failed = server.cli("deploy", "loss", "1", "--reason", "x", check=False)
    refuses(failed, 4, "'kind: Deployment'", "'model: loss'", "'bottega apply'")
    refuses(server.cli("deploy", "los", "1", "--reason", "x", check=False), 4, "did you mean 'loss'?")


def test_a_model_that_is_nearly_called_so_is_meant(trained: Server) -> None:
    refuses(trained.cli("train", "lots", "--dataset", trained.dataset, check=False), 4, "did you mean 'loss'?")
    asked = trained.cli("predict", "los", "--body", json.dumps(PREDICT), check=False)
    refuses(asked, 4, "no deployment serves it", "did you mean 'loss'?")
    status, answer = trained.request("POST", "/predict/los/async", PREDICT)
    assert (status, "did you mean 'loss'?" in answer["error"]["message"]) == (404, True)


def test_a_stage_that_is_out_of_reach_says_which_comes_next(trained: Server) -> None:
    failed = trained.cli("model", "promote", "loss", "1", "canary", "--reason", "x", check=False)
    refuses(failed, 3, "cannot go from production to canary; from production it can go to archived")


def test_a_span_that_is_none_is_named_as_it_was_given(trained: Server) -> None:
    failed = trained.cli("dataset", "build", "loss", "--from", "yesterday", "--to", "2024-01-09", check=False)
    refuses(failed, 2, "--from must be")
    assert "request body" not in failed.stderr


def test_a_model_on_fewer_columns_is_told_which(trained: Server, tmp_path: pathlib.Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    import numpy
    import xgboost

    inputs = [
        column["name"]
        for column in trained.get(f"/api/v1/datasets/{trained.dataset}")["manifest"]["columns"]
        if column["role"] in ("request", "feature")
    ]
    names = [*inputs[:-2], "weather"]
    rows = xgboost.DMatrix(numpy.zeros((4, len(names))), numpy.zeros(4), feature_names=names)
    path = tmp_path / "model.ubj"
    xgboost.train({"nthread": 1}, rows, 1).save_model(path)
    client = mlflow.MlflowClient(tracking_uri=trained.url)
    run = client.create_run(client.create_experiment("narrow"))
    client.log_artifact(run.info.run_id, str(path))
    options = ["--run", run.info.run_id, "--dataset", trained.dataset]
    failed = trained.cli("model", "register", "loss", *options, check=False)
    lacking = ", ".join(f"'{name}'" for name in inputs[-2:])
    refuses(failed, 2, f"the model does not read {lacking}", "the service does not give 'weather'")
    assert "version 0" not in failed.stderr


HEADER = "order{0}asked_at{0}customer{0}channel{0}price\n"
ROW = "n1{0}2024-01-02T00:00:00Z{0}c01{0}web{0}1.5\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ((HEADER + ROW).format(";"), ["';'", "commas"]),
        ((HEADER + ROW).format("\t"), ["tabs", "commas"]),
        ((HEADER + ROW).format(",").replace("asked_at", "askd_at"), ["did you mean 'asked_at'?"]),
        ("order,customer,channel,price\nn1,c01,web,1.5\n", ["column 'asked_at'", "is missing"]),
    ],
    ids=["semicolons", "tabs", "a name nearly right", "no event time where it is the ingest time too"],
)
def test_a_file_whose_columns_are_missing_says_what_may_be_wrong(
    trained: Server, tmp_path: pathlib.Path, text: str, words: list[str]
) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(text)
    refuses(trained.cli("ingest", "orders", str(path), check=False), 2, "nothing was stored", *words)


def test_a_duckdb_that_cannot_run_is_said_once(
    binary: str, tmp_path: pathlib.Path, start_server: Callable[..., Server]
) -> None:
    setting = ["--set", "duckdb.path=/no/duckdb"]
    done = subprocess.run(
        [binary, "doctor", "--data-dir", str(tmp_path / "d"), "--port", "0", *setting], capture_output=True, text=True,
        env=dict(os.environ), timeout=120,
    )  # fmt: skip
    [line] = [line for line in done.stdout.splitlines() if line.startswith("FAULT  duckdb")]
    assert line == "FAULT  duckdb: cannot run '/no/duckdb'; install duckdb-cli 1.5.5 or set duckdb.path"
    server = start_server(*setting)
    until(lambda: "DuckDB cannot be used" in server.log_path.read_text())
    assert server.log_path.read_text().count("DuckDB cannot be used") == 1


def test_an_explanation_says_its_unit_and_the_texts_of_categories(trained: Server) -> None:
    asked = {**PREDICT, "features": {"channel": "web", "price": 10}}
    told = trained.post("/predict/loss?explain=true", asked)
    assert told["explanation"]["scale"] == "log_odds"
    chart = trained.cli("why", told["prediction_id"], "--explain").stdout
    [channel] = [line for line in chart.splitlines() if line.startswith("channel ")]
    assert channel.split()[1] == "web", chart
    assert "base value (log-odds)" in chart and "margin (log-odds of the positive class)" in chart, chart
    assert trained.get(f"/predictions/{told['prediction_id']}/explain")["categories"] == {"channel": "web"}


def test_options_are_called_as_they_are_written(trained: Server, tmp_path: pathlib.Path) -> None:
    refuses(trained.cli("model", "register", "loss", check=False), 2, "--job", "--run with --dataset")
    refuses(trained.cli("model", "register", "loss", "--run", "x", check=False), 2, "--run needs --dataset")
    refuses(trained.cli("model", "register", "loss", "--run", "x", "--job", "y", check=False), 2, "not both")
    sql = ["--spine", "SELECT * FROM orders", "--out", "told", "--event-time", "asked_at"]
    refuses(trained.cli("score", "loss", *sql, check=False), 2, "SELECT * FROM orders", "--sources")


def test_an_address_of_http_is_told_its_scheme(trained: Server, tmp_path: pathlib.Path) -> None:
    for scheme, meant in (
        ("http", "'http' is written 'v2'"),
        ("https", "'https' is written 'v2s'"),
        ("ftp", "v2, v2s"),
    ):
        failed = try_to_register(trained, trained.dataset, tmp_path, f"{scheme}://127.0.0.1:9/loss")
        assert failed.returncode != 0 and meant in failed.stderr and "v2://host:8000" in failed.stderr, failed.stderr


def test_a_span_of_nothing_is_too_short(server: Server, tmp_path: pathlib.Path) -> None:
    folder = shop.write_definitions(tmp_path / "definitions")
    model = folder / "model.yaml"
    whole = model.read_text()
    for deadline, words in (
        ("0ms", "'deadline' must be longer than 0"),
        ("soon", "must be a span of time such as 30s"),
    ):
        model.write_text(whole.replace("fallback: {constant", f"deadline: {deadline}\nfallback: {{constant"))
        refuses(server.cli("plan", str(folder), check=False), 2, "model.yaml:", words)


def test_a_body_that_is_no_object_is_said_plainly(trained: Server) -> None:
    for body in ([], [PREDICT]):
        status, answer = trained.request("POST", "/predict/loss", body)
        assert (status, answer["error"]["message"][:10]) == (422, "an object "), answer
    status, answer = trained.request("POST", "/predict/loss", {"instances": [1]})
    assert (status, answer["error"]["message"][:24]) == (422, "instances[0]: an object "), answer


def test_the_exit_codes_are_those_of_the_help(trained: Server) -> None:
    help = " ".join(trained.cli("--help").stdout.split())
    assert "64 wrong arguments" in help and "a job failed" in help
    failed = trained.cli("train", "loss", "--datset", "x", check=False)
    assert failed.returncode == 64
    broken = trained.cli("train", "loss", "--dataset", trained.dataset, "--param", "rounds=many", check=False)
    assert broken.returncode == 3
    assert_one_line(broken.stderr.splitlines()[-1], "the job failed")  # progress may stand before it
