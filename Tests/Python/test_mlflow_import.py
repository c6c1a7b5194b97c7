"""What was logged to an MLflow server is copied: over HTTP, from its database, also when killed on the way."""

from __future__ import annotations

import http.server
import json
import math
import os
import pathlib
import sqlite3
import subprocess
import sys
import threading
import time
from functools import partial
from typing import Any

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
import pandas
import pytest
from conftest import Server, free_port
from mlflow import MlflowClient
from mlflow.entities import Metric, ViewType
from mlflow.genai import datasets
from mlflow.genai.judges import make_judge
from mlflow_server import MLflowServer


class Origin(MLflowServer):
    """A real MLflow server and what was logged to it."""

    def fill(self) -> None:
        class Model(mlflow.pyfunc.PythonModel):
            def predict(self, context: Any, model_input: list[float]) -> list[float]:
                return [value * 2 for value in model_input]

        mlflow.set_tracking_uri(self.url)
        mlflow.set_registry_uri(self.url)
        client = MlflowClient(self.url)
        experiment = client.create_experiment('churn\'s "first" try', tags={"team": "delays"})
        frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
        for number in range(4):
            with mlflow.start_run(experiment_id=experiment, run_name=f"run {number}"):
                mlflow.log_params({"depth": number, "note": "ä/ö ' %"})
                mlflow.set_tag("stage", "draft")
                mlflow.log_input(mlflow.data.from_pandas(frame, name="rows"), context="training")
                for step in range(50):
                    mlflow.log_metric("train/loss", 1 / (step + 1 + number), step=step)
                mlflow.log_metric("nothing", math.nan)
                mlflow.log_metric("much", math.inf)
                mlflow.log_text(f"hello {number}", "notes/a b ü.txt")
                if number >= 2:
                    info = mlflow.pyfunc.log_model(
                        name="model", python_model=Model(), registered_model_name="churn", pip_requirements=[]
                    )
                    mlflow.log_metric("auc", 0.5 + number / 10, model_id=info.model_id)
                    mlflow.log_metric("auc", 0.6 + number / 10, step=1, model_id=info.model_id)
        bulk = client.create_run(experiment, run_name="long").info.run_id
        for part in range(4):
            points = [Metric("long", part * 1000 + i, 1_700_000_000_000 + i, part * 1000 + i) for i in range(1000)]
            client.log_batch(bulk, metrics=points)
        client.set_terminated(bulk, "FAILED", end_time=1_700_000_009_000)
        # A version whose run was removed for good, files and all.
        lost = client.create_run(experiment, run_name="lost")
        client.log_text(lost.info.run_id, "x", "model/file")
        client.create_registered_model("orphan")
        client.create_model_version("orphan", f"{lost.info.artifact_uri}/model", lost.info.run_id)
        client.delete_run(lost.info.run_id)
        subprocess.run(
            [
                sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", f"sqlite:///{self.database}",
                "--run-ids", lost.info.run_id, "--tracking-uri", self.url,
            ],
            check=True, capture_output=True,
        )  # fmt: skip
        gone = client.create_run(experiment, run_name="gone", start_time=1_600_000_000_000).info.run_id
        client.log_metric(gone, "m", 1.0)
        client.delete_run(gone)
        old = client.create_experiment("old")
        client.create_run(old)
        client.delete_experiment(old)
        # A version in between is deleted, so that numbers have a gap.
        client.create_model_version("churn", "models:/churn/1", tags={"k": "v"})
        client.create_model_version("churn", "models:/churn/1")
        client.delete_model_version("churn", "3")
        client.set_registered_model_alias("churn", "champion", "2")
        client.set_registered_model_tag("churn", "owner", "ada")
        client.set_model_version_tag("churn", "2", "checked", "yes")
        client.update_registered_model("churn", "who leaves")
        client.create_registered_model("empty")
        # Versions of other models' versions: one that comes later here, one whose model has another name by now.
        client.create_registered_model("above")
        client.create_model_version("above", "models:/churn/2")
        client.create_registered_model("early")
        client.create_model_version("early", "models:/churn/1")
        client.create_model_version("above", "models:/early/1")
        client.rename_registered_model("early", "late")
        mlflow.genai.register_prompt("greet", "Hi {{who}}", commit_message="first", tags={"tone": "warm"})
        mlflow.genai.register_prompt("greet", [{"role": "user", "content": "Hello {{who}}"}])
        mlflow.genai.set_prompt_alias("greet", "live", 1)
        dataset = datasets.create_dataset(
            "qa", experiment_id=[experiment, "0"], tags={"team": "x", "mlflow.user": "ada"}
        )
        dataset.merge_records(
            [
                {"inputs": {"q": "ä", "n": 1.0}, "expectations": {"a": [1, None]}, "tags": {"kind": "hard"}},
                {"inputs": {"q": "b"}, "outputs": "text"},
                {
                    "inputs": {"q": "c"},
                    "outputs": None,
                    "source": {"source_type": "TRACE", "source_data": {"trace_id": "t"}},
                },
                # No JSON, but for the last one; each is a record of its own there.
                {"inputs": {"q": math.nan}},
                {"inputs": {"q": math.inf}},
                {"inputs": {"q": None}},
            ]
        )
        datasets.create_dataset("bare", experiment_id=experiment)
        for text in ("Is {{ outputs }} kind?", "Is {{ outputs }} very kind?", "Is {{ outputs }} short?"):
            judge = make_judge(name="short" if "short" in text else "kind", instructions=text, model="openai:/gpt-4o")
            judge.register(experiment_id=experiment)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory):
    origin = Origin(tmp_path_factory.mktemp("origin"))
    try:
        origin.fill()
        yield origin
    finally:
        origin.stop()


def runs(client: MlflowClient) -> dict[str, Any]:
    experiments = client.search_experiments(view_type=ViewType.ALL)
    found = client.search_runs([e.experiment_id for e in experiments], run_view_type=ViewType.ALL, max_results=1000)
    return {run.info.run_id: run for run in found}


def same(left: float, right: float) -> bool:
    return left == right or (math.isnan(left) and math.isnan(right))


def version_files(url: str, version: str) -> set[str]:
    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)
    return {file.path for file in mlflow.artifacts.list_artifacts(f"models:/{version}")}


def load_prompt(url: str, number: int) -> Any:
    """A prompt's version as a server has it, asked for past the client's cache."""
    return MlflowClient(url, registry_uri=url).get_prompt_version("greet", str(number))


def plain(value: Any) -> Any:
    """A value in which what only Python's JSON has, NaN and infinities, is nothing."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def evaluations(url: str) -> tuple[dict[str, Any], list[Any]]:
    """The datasets of evaluations of a server, and the versions of scorers."""
    mlflow.set_tracking_uri(url)
    client = MlflowClient(url)
    known = {}
    for dataset in client.search_datasets(max_results=100):
        said = dataset.to_dict()
        said["experiment_ids"] = [client.get_experiment(number).name for number in said["experiment_ids"]]
        said["records"] = sorted(
            (plain(record) for record in said["records"]), key=lambda record: record["dataset_record_id"]
        )
        known[dataset.dataset_id] = said
    churn = client.get_experiment_by_name('churn\'s "first" try').experiment_id
    store = mlflow.tracking._tracking_service.utils._get_store()
    scorers = [
        (version.scorer_id, name, version.scorer_version, version._serialized_scorer, version.creation_time)
        for name in ("kind", "short")
        for version in store.list_scorer_versions(churn, name)
    ]
    return known, scorers


def assert_copied(origin: Origin, target: Server, folder: pathlib.Path) -> None:
    before, after = MlflowClient(origin.url, registry_uri=origin.url), MlflowClient(target.url, registry_uri=target.url)
    names = {e.experiment_id: e.name for e in before.search_experiments(view_type=ViewType.ALL)}
    here = {e.experiment_id: e.name for e in after.search_experiments(view_type=ViewType.ALL)}
    assert set(names.values()) == set(here.values())
    old, new = runs(before), runs(after)
    assert set(old) == set(new)
    for run_id, run in old.items():
        copy = new[run_id]
        for field in ("run_name", "user_id", "status", "start_time", "end_time", "lifecycle_stage"):
            assert getattr(copy.info, field) == getattr(run.info, field), (run_id, field)
        assert names[run.info.experiment_id] == here[copy.info.experiment_id]
        assert copy.data.params == run.data.params
        assert {k: v for k, v in copy.data.tags.items() if not k.startswith("bottega.import")} == run.data.tags
        assert copy.data.metrics.keys() == run.data.metrics.keys()
        for key, value in run.data.metrics.items():
            assert same(copy.data.metrics[key], value)
            left = [(m.step, m.timestamp, m.value) for m in before.get_metric_history(run_id, key)]
            right = [(m.step, m.timestamp, m.value) for m in after.get_metric_history(run_id, key)]
            assert len(left) == len(right)
            for one, other in zip(sorted(left), sorted(right), strict=True):
                assert one[:2] == other[:2] and same(one[2], other[2])
        assert [i.dataset.digest for i in copy.inputs.dataset_inputs] == [
            i.dataset.digest for i in run.inputs.dataset_inputs
        ]
        assert [o.model_id for o in copy.outputs.model_outputs] == [o.model_id for o in run.outputs.model_outputs]
    some = next(run_id for run_id, run in old.items() if run.info.run_name == "run 2")
    path = pathlib.Path(after.download_artifacts(some, "notes", str(folder)))
    assert (path / "a b ü.txt").read_text() == "hello 2"
    model = after.get_registered_model("churn")
    assert (model.description, model.tags["owner"], model.aliases) == ("who leaves", "ada", {"champion": "2"})
    versions = {int(v.version): v for v in after.search_model_versions("name='churn'")}
    assert {n: versions[n].run_id for n in versions} == {
        int(v.version): v.run_id for v in before.search_model_versions("name='churn'")
    }
    assert versions[2].tags["checked"] == "yes"
    origin_model = before.get_registered_model("churn")
    assert model.creation_timestamp == origin_model.creation_timestamp
    assert model.last_updated_timestamp == origin_model.last_updated_timestamp
    for version in before.search_model_versions("name='churn'"):
        copy = versions[int(version.version)]
        assert copy.creation_timestamp == version.creation_timestamp
        assert copy.last_updated_timestamp == version.last_updated_timestamp
        assert not version.user_id or copy.user_id == version.user_id
    assert after.get_registered_model("empty").name == "empty"
    (orphan,), (kept) = (c.search_model_versions("name='orphan'") for c in (before, after))
    assert orphan.run_id and [(v.run_id, v.source) for v in kept] == [(orphan.run_id, orphan.source)]
    files = [
        {version: version_files(url, version) for version in ("above/1", "above/2", "late/1")}
        for url in (origin.url, target.url)
    ]
    assert files[0] == files[1] and all("MLmodel" in names for names in files[1].values()), files
    prompts = [
        [(p.template, p.tags.get("tone"), p.commit_message) for p in map(load, range(1, 3))]
        for load in (partial(load_prompt, origin.url), partial(load_prompt, target.url))
    ]
    assert prompts[0] == prompts[1] and prompts[1][0][0] == "Hi {{who}}"
    assert after.get_prompt_version_by_alias("greet", "live").version == 1
    assert "greet" not in [model.name for model in after.search_registered_models(max_results=100)]
    found, copied_evaluations = evaluations(origin.url), evaluations(target.url)
    assert found == copied_evaluations and len(found[0]) == 2 and len(found[1]) == 3
    left = before.search_logged_models([e for e in names])
    assert len(left) == 2
    for one in left:
        copy = after.get_logged_model(one.model_id)
        assert (copy.name, copy.status, copy.source_run_id) == (one.name, one.status, one.source_run_id)
        measured, copied = (
            sorted((m.key, m.step, m.timestamp, m.value) for m in model.metrics or [] if m.key == "auc")
            for model in (one, copy)
        )
        assert len(measured) == 2 and copied == measured


def copy(target: Server, source: str, *more: str, code: int = 0) -> Any:
    result = target.cli("import", source, "--json", *more, check=False)
    assert result.returncode == code, result.stdout[-3000:] + result.stderr[-3000:]
    return json.loads(result.stdout)


@pytest.mark.parametrize("kind", ["server", "database"])
def test_everything_is_copied_and_read_back(
    origin: Origin, start_server: Any, tmp_path: pathlib.Path, kind: str
) -> None:
    target = start_server()
    source = f"mlflow://127.0.0.1:{origin.port}" if kind == "server" else f"mlflow-sqlite://{origin.database}"
    counted = copy(target, source, "--dry-run")["counts"]
    assert (counted["experiments"]["found"], counted["runs"]["found"], counted["versions"]["found"]) == (3, 7, 9)
    assert len(runs(MlflowClient(target.url))) == 0, "a rehearsal copies nothing"
    report = copy(target, source)
    assert report["complete"] and report["counts"]["runs"]["copied"] == 7
    assert report["counts"]["metric_points"]["copied"] == 4 * 52 + 4 + 4000 + 1
    assert_copied(origin, target, tmp_path)
    assert report["counts"]["evaluation_datasets"] == {"found": 2, "copied": 2, "present": 0}
    assert report["counts"]["scorers"] == {"found": 3, "copied": 3, "present": 0}
    again = copy(target, source)
    assert again["complete"] and again["counts"]["runs"] == {"found": 7, "copied": 0, "present": 7}
    assert again["counts"]["evaluation_datasets"]["present"] == 2 and again["counts"]["scorers"]["present"] == 3
    assert again["counts"]["versions"]["present"] == 9 and again["bytes"] == 0
    assert_copied(origin, target, tmp_path)


def test_an_import_that_was_killed_goes_on(origin: Origin, start_server: Any, tmp_path: pathlib.Path) -> None:
    target = start_server()
    source = f"mlflow://127.0.0.1:{origin.port}"
    command = [target.binary, "import", source, "--parallel", "1"]
    environment = {**os.environ, "BOTTEGA_URL": target.url}
    for wanted in (1, 3):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(2000):
            there = target.get("/api/v1/runs?limit=50&deleted=all")["runs"]
            if len(there) >= wanted or process.poll() is not None:
                break
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert len(target.get("/api/v1/runs?limit=50&deleted=all")["runs"]) >= 1
    report = copy(target, source)
    assert report["complete"]
    assert report["counts"]["runs"]["copied"] + report["counts"]["runs"]["present"] == 7
    assert_copied(origin, target, tmp_path)


def test_what_changed_in_the_source_is_brought_up_to_date(
    origin: Origin, start_server: Any, tmp_path: pathlib.Path
) -> None:
    target = start_server()
    source = f"mlflow://127.0.0.1:{origin.port}"
    copy(target, source)
    client = MlflowClient(origin.url)
    some = next(run_id for run_id, run in runs(client).items() if run.info.run_name == "run 0")
    client.log_metric(some, "train/loss", 0.001, step=99)
    client.set_tag(some, "stage", "final")
    mlflow.set_tracking_uri(origin.url)
    dataset = datasets.get_dataset(name="qa")
    dataset.delete_records(dataset.to_df()["dataset_record_id"].tolist()[:1])
    dataset.merge_records([{"inputs": {"q": "b"}, "outputs": "another"}, {"inputs": {"q": "late"}}])
    report = copy(target, source)
    assert report["counts"]["evaluation_datasets"] == {"found": 2, "copied": 1, "present": 1}
    assert report["counts"]["runs"] == {"found": 7, "copied": 1, "present": 6}
    assert_copied(origin, target, tmp_path)


def test_files_that_are_not_beside_a_database_are_asked_for(
    origin: Origin, start_server: Any, tmp_path: pathlib.Path
) -> None:
    """A database without its folder says nothing of files: that is no reason to call the copy whole."""
    target = start_server()
    alone = tmp_path / "alone.db"
    with sqlite3.connect(origin.database) as there, sqlite3.connect(alone) as here:
        there.backup(here)
    source = f"mlflow-sqlite://{alone}"
    for more, word in [([], "--artifacts DIR"), (["--artifacts", f"{tmp_path}/no"], "no such folder")]:
        result = target.cli("import", source, *more, check=False)
        assert result.returncode == 2 and word in result.stderr, result.stderr
    assert len(runs(MlflowClient(target.url))) == 0
    report = copy(target, source, "--no-artifacts")
    assert report["complete"] and report["bytes"] == 0 and "files are left out" in " ".join(report["notes"])
    files = f"{origin.database.parent}/mlartifacts"
    report = copy(target, source, "--artifacts", files)
    assert report["complete"] and report["counts"]["files"]["copied"] > 0 and report["counts"]["runs"]["copied"] == 7
    assert_copied(origin, target, tmp_path)
    assert copy(target, source, "--artifacts", files)["counts"]["runs"]["present"] == 7


@pytest.mark.parametrize("kind", ["server", "database"])
def test_what_does_not_come_along_is_said(origin: Origin, start_server: Any, kind: str) -> None:
    mlflow.set_tracking_uri(origin.url)
    mlflow.set_experiment("traced")
    with mlflow.start_span("call"):
        pass
    mlflow.flush_trace_async_logging()
    target = start_server()
    source = f"mlflow://127.0.0.1:{origin.port}" if kind == "server" else f"mlflow-sqlite://{origin.database}"
    for report in (copy(target, source, "--dry-run"), copy(target, source)):
        assert any("traces are left out" in note for note in report["notes"]), report
    shown = target.cli("import", source).stdout
    assert "what was carried over was read back" in shown and "everything was" not in shown


def test_what_is_no_source_is_refused(server: Server, tmp_path: pathlib.Path) -> None:
    for source, word in [
        ("wandb://x", "is no source"),
        ("./mlruns", "--backend-store-uri ./mlruns"),
        ("mlflow://", "no address"),
        (f"mlflow-sqlite://{tmp_path}/none.db", "no such file"),
        (f"mlflow-sqlite://{__file__}", "database"),
    ]:
        result = server.cli("import", source, check=False)
        assert result.returncode == 2 and word in result.stderr, (source, result.stderr)
    assert server.cli("import", f"mlflow://127.0.0.1:{free_port()}", check=False).returncode == 69


@pytest.mark.parametrize("call", ["datasets/search", "records"])
def test_a_source_whose_pages_have_no_end_is_an_error(server: Server, call: str) -> None:
    class Endless(http.server.BaseHTTPRequestHandler):
        """Has one dataset and nothing else; one of its lists goes on for ever."""

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body: dict[str, Any] = {}
            if "/datasets/search" in self.path:
                body = {"datasets": [{"dataset_id": "d-endless", "name": "endless", "digest": "0"}]}
            if "/records" in self.path:
                body = {"records": "[]"}
            if call in self.path:
                body["next_page_token"] = "again"
            content = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as source:
        threading.Thread(target=source.serve_forever, daemon=True).start()
        result = server.cli("import", f"mlflow://127.0.0.1:{source.server_port}", check=False)
        source.shutdown()
    said = result.stdout + result.stderr
    assert result.returncode != 0 and "page token that it gave before" in said, said
    assert call in said, "which list it is"


def test_another_model_of_the_same_name_is_left_as_it_is(origin: Origin, start_server: Any) -> None:
    target = start_server()
    client = MlflowClient(target.url, registry_uri=target.url)
    client.create_registered_model("churn", tags={"owner": "grace"})
    run = client.create_run("0")
    client.log_text(run.info.run_id, "x", "model/file")
    client.create_model_version("churn", f"{run.info.artifact_uri}/model", run.info.run_id)
    client.set_registered_model_alias("churn", "champion", "1")
    before = target.get("/api/2.0/mlflow/registered-models/get?name=churn")
    announced = copy(target, f"mlflow://127.0.0.1:{origin.port}", "--dry-run", code=1)
    assert ["model churn" in problem for problem in announced["problems"]] == [True], announced
    said = copy(target, f"mlflow://127.0.0.1:{origin.port}", code=1)
    assert target.get("/api/2.0/mlflow/registered-models/get?name=churn") == before
    problems = [line for line in said["problems"] if "churn" in line]
    assert len(problems) == 1 and "another one has this name here (version 1 " in problems[0], said["problems"]
    assert [version.version for version in client.search_model_versions("name = 'churn'")] == ["1"]


@pytest.mark.parametrize("kind", ["server", "database"])
def test_a_registry_that_goes_on_in_the_source_is_followed(origin: Origin, start_server: Any, kind: str) -> None:
    target = start_server()
    source = f"mlflow://127.0.0.1:{origin.port}" if kind == "server" else f"mlflow-sqlite://{origin.database}"
    before, after = MlflowClient(origin.url, registry_uri=origin.url), MlflowClient(target.url, registry_uri=target.url)
    name = f"follows {kind}"
    before.create_registered_model(name, {"t": "1", "u": "1"}, "d1")
    for number in ("1", "2", "3"):
        before.create_model_version(name, "s3://none/model", tags={"a": "1", "b": "1"}, description="d0")
        before.transition_model_version_stage(name, number, "Staging")
    before.set_registered_model_alias(name, "champ", "1")
    before.set_registered_model_alias(name, "gone", "2")
    copy(target, source)
    # What is changed here stays where the source says nothing new.
    after.set_registered_model_alias(name, "ours", "3")
    after.update_model_version(name, "3", "ours")
    after.transition_model_version_stage(name, "1", "Archived")
    before.update_registered_model(name, "d2")
    before.update_model_version(name, "1", "new")
    told = copy(target, source, code=1)["problems"]
    assert told == [f"version {name}/1: its stage is Archived here, Staging in the source"], told
    assert after.get_model_version(name, "1").description == "new"
    before.transition_model_version_stage(name, "1", "Production")
    before.set_registered_model_alias(name, "champ", "3")
    before.delete_registered_model_alias(name, "gone")
    before.delete_registered_model_tag(name, "u")
    before.set_model_version_tag(name, "1", "a", "2")
    before.delete_model_version_tag(name, "1", "b")
    before.delete_model_version(name, "2")
    for _ in range(2):
        report = copy(target, source, code=1)
        assert len(report["problems"]) == 1 and f"{name}/2: it came from the source" in report["problems"][0], report
        model = after.get_registered_model(name)
        assert (model.description, model.aliases) == ("d2", {"champ": "3", "ours": "3"})
        assert {key: value for key, value in model.tags.items() if not key.startswith("bottega.")} == {"t": "1"}
        assert model.last_updated_timestamp == before.get_registered_model(name).last_updated_timestamp
        version = after.get_model_version(name, "1")
        assert (version.description, version.current_stage, version.tags["a"]) == ("new", "Production", "2")
        assert "b" not in version.tags and after.get_model_version(name, "3").description == "ours"
    # Two versions in Production are one here, and that is told.
    before.transition_model_version_stage(name, "3", "Production")
    told = copy(target, source, "--dry-run", code=1)["problems"]
    assert any("versions 1, 3 are all in Production" in problem for problem in told), told
    told = copy(target, source, code=1)["problems"]
    assert any(f"{name}/1: its stage is Archived here, Production in the source" in problem for problem in told), told
    before.delete_registered_model(name)


@pytest.mark.parametrize("kind", ["server", "database"])
def test_models_are_followed_over_experiments_and_tags_that_go(origin: Origin, start_server: Any, kind: str) -> None:
    mlflow.set_tracking_uri(origin.url)
    client = MlflowClient(origin.url)
    late, early = (client.create_experiment(f"{kind} {part}", tags={"x": "1", "y": "1"}) for part in ("late", "early"))
    with mlflow.start_run(experiment_id=early) as trained:
        model = mlflow.initialize_logged_model(name="xm", source_run_id=trained.info.run_id)
        mlflow.finalize_logged_model(model.model_id, "READY")
        mlflow.log_metrics({"train": 0.99, "odd": math.nan}, model_id=model.model_id)
    with mlflow.start_run(experiment_id=late) as judged:
        mlflow.log_metric("eval", 0.91, model_id=model.model_id)
        mlflow.set_tags({"drop": "1", "keep": "1"})
        client.log_inputs(judged.info.run_id, models=[mlflow.entities.LoggedModelInput(model.model_id)])
    target = start_server()
    source = f"mlflow://127.0.0.1:{origin.port}" if kind == "server" else f"mlflow-sqlite://{origin.database}"
    copy(target, source)
    here = MlflowClient(target.url)
    mlflow.set_tracking_uri(target.url)
    told = {(m.key, m.run_id): m.value for m in here.get_logged_model(model.model_id).metrics}
    assert told[("eval", judged.info.run_id)] == 0.91 and told[("train", trained.info.run_id)] == 0.99
    assert ("odd", trained.info.run_id) in told
    [read] = here.get_run(judged.info.run_id).inputs.model_inputs
    assert read.model_id == model.model_id
    mlflow.set_tracking_uri(origin.url)
    here.set_tag(judged.info.run_id, "ours", "1")
    client.delete_tag(judged.info.run_id, "drop")
    client.delete_experiment_tag(late, "y")
    client.delete_experiment(early)
    # The run of the deleted experiment is deleted with it.
    assert copy(target, source)["counts"]["runs"]["copied"] == 2
    tags = here.get_run(judged.info.run_id).data.tags
    assert "drop" not in tags and tags["keep"] == tags["ours"] == "1"
    for name, lifecycle in ((f"{kind} late", "active"), (f"{kind} early", "deleted")):
        one, other = client.get_experiment_by_name(name), here.get_experiment_by_name(name)
        assert other.lifecycle_stage == one.lifecycle_stage == lifecycle
        assert {k: v for k, v in other.tags.items() if not k.startswith("bottega.")} == one.tags
        if lifecycle == "active":
            assert other.last_update_time == one.last_update_time


def test_what_was_imported_is_imported_again_by_another_platform(origin: Origin, start_server: Any) -> None:
    first, second = start_server(), start_server(name="another")
    copy(first, f"mlflow://127.0.0.1:{origin.port}")
    for expected in ("copied", "present"):
        report = copy(second, first.url.replace("http://", "mlflow://"))
        counts = report["counts"]
        assert report["complete"] and counts["runs"][expected] == counts["runs"]["found"], report
        assert counts["versions"][expected] == counts["versions"]["found"]
    [version] = MlflowClient(second.url, registry_uri=second.url).search_model_versions("name='orphan'")
    assert version.tags["bottega.import.source"].startswith(first.url)


def test_what_is_refused_of_a_run_is_told_and_the_rest_is_copied(origin: Origin, start_server: Any) -> None:
    client = MlflowClient(origin.url)
    run = client.create_run(client.create_experiment("refused"), run_name="odd").info.run_id
    client.log_batch(run, params=[mlflow.entities.Param(key, "1") for key in ("one", "a\n", "two")])
    client.log_metric(run, "loss", 0.5)
    target = start_server()
    report = copy(target, f"mlflow://127.0.0.1:{origin.port}", code=1)
    assert any("of its params is refused" in problem for problem in report["problems"]), report["problems"]
    there = MlflowClient(target.url).get_run(run)
    assert there.data.params == {"one": "1", "two": "1"} and there.data.metrics == {"loss": 0.5}
    assert there.data.tags["bottega.import.source"].endswith(there.data.tags["bottega.import.source"].split()[-1])
    client.delete_run(run)
