"""Runs: what is recorded of them, which was best, in what two differ, and whether one can be made again."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from typing import Any

import mlflow
import pytest
import shop
from conftest import ROOT, Server
from test_openapi import check, faults

DAYS = 12
PERSON = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]


def git(folder: pathlib.Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *PERSON, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


class Workshop:
    """A server with a training set, and a repository with the training script."""

    def __init__(self, server: Server, folder: pathlib.Path) -> None:
        self.server = server
        self.folder = folder
        self.repository = folder / "repository"
        self.definitions = self.repository / "shop"
        self.dataset = ""

    def json(self, *arguments: str, code: int = 0) -> Any:
        result = self.server.cli(*arguments, "--json", check=False)
        assert result.returncode == code, (result.returncode, result.stdout[-3000:], result.stderr[-3000:])
        return json.loads(result.stdout)

    def train(self, **more: str) -> str:
        body = {"model": "loss", "dataset": self.dataset, **({"parameters": more} if more else {})}
        job = self.server.post("/training-jobs", body)
        assert job["state"] == "succeeded", job
        return job["run_id"]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, binary: str):
    folder = tmp_path_factory.mktemp("runs")
    server = Server(folder / "data").start()
    work = Workshop(server, folder)
    shop.write_definitions(work.definitions)
    git(folder, "init", "-q", "-b", "trunk", str(work.repository))
    git(work.repository, "remote", "add", "origin", "https://ada:geheim@git.example.org/shop.git")
    git(work.repository, "add", ".")
    git(work.repository, "commit", "-qm", "one")
    work.json("apply", str(work.definitions))
    history = shop.history(DAYS)
    for name in ("payments", "orders", "outcomes"):
        work.json("ingest", name, str(shop.write_csv(folder / f"{name}.csv", getattr(history, name))))
    span = ["--from", shop.text(shop.START + 2 * shop.DAY), "--to", shop.text(shop.START + (DAYS - 1) * shop.DAY)]
    work.dataset = work.json("dataset", "build", "loss", *span)["dataset"]
    yield work
    assert server.stop() == 0


@pytest.fixture(scope="module")
def first(workshop: Workshop) -> str:
    """A run of code with an uncommitted change and a new file."""
    script = workshop.definitions / "train.py"
    script.write_text(script.read_text().replace("import mlflow\n", "import mlflow\nimport helper\n", 1))
    (workshop.definitions / "helper.py").write_text("VALUE = 1\n")
    (workshop.repository / ".env").write_text("TOKEN=geheim\n")
    return workshop.train()


def test_a_job_has_a_record_that_mlflow_sees(workshop: Workshop, first: str) -> None:
    run = workshop.json("run", "show", first)
    head = git(workshop.repository, "rev-parse", "HEAD")
    record = run["record"]
    code = record["code"]
    assert (code["commit"], code["branch"], code["dirty"], code["folder"]) == (head, "trunk", True, "shop")
    assert code["remote"] == "https://git.example.org/shop.git"
    assert code["changes"]["applies"] and code["changes"]["left_out"] == [".env"]
    assert record["seed"] == 3 and run["seed"] == {"seed": 3}
    assert record["parameters"] == {"depth": "3", "rounds": "40"}
    assert run["data"]["training loss"] == workshop.dataset
    assert set(run["features"]) == {"service", "service version", "view paid", "view fresh"}
    assert any(name.startswith("xgboost") for name in record["environment"]["packages"])
    assert record["environment"]["python"] == sys.version.split()[0] and record["environment"]["libc"]
    assert record["hardware"]["processors"] >= 1 and record["hardware"]["memory_bytes"] > 1 << 28
    assert "MLFLOW_TRACKING_URI" in record["environment"]["variable_names"]
    assert "MLFLOW_TRACKING_URI" not in record["environment"]["variables"]
    assert "geheim" not in json.dumps(run)

    import mlflow

    client = mlflow.MlflowClient(workshop.server.url)
    seen = client.get_run(first)
    assert seen.data.tags["mlflow.source.git.commit"] == head
    assert seen.data.tags["bottega.dirty"] == "true"
    assert [entry.dataset.name for entry in seen.inputs.dataset_inputs] == ["loss"]
    path = client.download_artifacts(first, "bottega/record.json", str(workshop.folder))
    assert json.loads(pathlib.Path(path).read_text()) == record
    changes = pathlib.Path(client.download_artifacts(first, "bottega/changes.diff", str(workshop.folder))).read_text()
    assert "+import helper" in changes and "+VALUE = 1" in changes and "geheim" not in changes
    text = workshop.server.cli("run", "show", first).stdout
    assert head in text and "test_auc" in text and workshop.dataset in text


def test_what_a_job_takes_is_logged_as_system_metrics(workshop: Workshop, first: str) -> None:
    system = workshop.json("run", "show", first)["system"]
    assert set(system) == {
        "system/cpu_utilization_percentage",
        "system/system_memory_usage_megabytes",
        "system/system_memory_usage_percentage",
    }
    assert system["system/system_memory_usage_megabytes"] > 10
    assert 0 <= system["system/cpu_utilization_percentage"] <= 100


def test_the_same_model_comes_out_of_the_recorded_code(workshop: Workshop, first: str) -> None:
    # The working folder goes on; the record does not.
    (workshop.definitions / "helper.py").write_text("raise RuntimeError('not the code of that run')\n")
    result = workshop.json("run", "reproduce", first)
    assert result["verdict"] == "same_model", json.dumps(result, indent=1)
    assert result["missing"] == ["uncommitted files that were not kept: .env"]
    assert "with its uncommitted change" in result["code"]
    assert all(file["same"] for file in result["model"]) and result["model"]
    assert all(metric["same"] for metric in result["metrics"]) and result["metrics"]
    assert result["differences"] == {}, result["differences"]
    again = workshop.json("run", "show", result["again"])
    assert again["reproduces"] == first
    assert git(workshop.repository, "worktree", "list").count("\n") == 0, "the repository is left alone"
    assert not list((workshop.folder / "data" / "jobs").glob("code-*"))
    (workshop.definitions / "helper.py").write_text("VALUE = 1\n")


def test_a_run_that_cannot_be_repeated_says_in_what_it_differs(workshop: Workshop) -> None:
    script = workshop.definitions / "train.py"
    script.write_text(
        script.read_text().replace(
            '"seed": int(os.environ["BOTTEGA_SEED"]),', '"subsample": 0.5, "seed": int.from_bytes(os.urandom(2)),'
        )
    )
    loose = workshop.train()
    result = workshop.json("run", "reproduce", loose, code=11)
    assert result["verdict"] == "different"
    assert not all(file["same"] for file in result["model"])
    assert any(metric["difference"] for metric in result["metrics"])
    assert {row["name"] for row in result["differences"]["parameters"]} == {"seed"}
    text = workshop.server.cli("run", "reproduce", loose, check=False).stdout
    assert text.startswith("not reproduced") and "DIFFERS" in text
    assert workshop.json("run", "reproduce", loose, "--tolerance", "1", code=10)["verdict"] == "same_metrics"


def test_two_runs_are_compared(workshop: Workshop, first: str) -> None:
    other = workshop.train(depth="2", rounds="20")
    difference = workshop.json("run", "diff", first, other)["sections"]
    rows = {row["name"]: row["values"] for row in difference["parameters"]}
    assert rows["depth"] == ["3", "2"] and rows["rounds"] == ["40", "20"]
    assert "data" not in difference and "features" not in difference and "hardware" not in difference
    assert [row["name"] for row in difference["code"]] == ["uncommitted change"]
    metric = next(row for row in difference["metrics"] if row["name"] == "test_auc")
    assert metric["difference"] == pytest.approx(metric["values"][1] - metric["values"][0])
    whole = workshop.json("run", "compare", first, other, "--all")["sections"]
    assert whole["data"] == [
        {"name": "training loss", "values": [workshop.dataset, workshop.dataset], "differs": False}
    ]
    assert "depth" in workshop.server.cli("run", "compare", first, other).stdout


def test_the_best_run_is_found_with_its_parameters_and_data(workshop: Workshop, first: str) -> None:
    runs = workshop.json("run", "list", "--experiment", "loss", "--order-by", "metrics.test_auc DESC")["runs"]
    values = [run["metrics"]["test_auc"] for run in runs]
    assert len(values) >= 4 and values == sorted(values, reverse=True)
    arguments = ["run", "list", "--experiment", "loss", "--order-by", "metrics.test_auc DESC", "--limit", "1"]
    [best] = workshop.json(*arguments)["runs"]
    assert best["id"] == runs[0]["id"] and best["data"] == {"training loss": workshop.dataset}
    text = workshop.server.cli(*arguments).stdout
    assert best["id"] in text and f"{best['metrics']['test_auc']:.6g}" in text and workshop.dataset in text
    assert "max_depth" in text
    failure = workshop.server.cli("run", "list", "--experiment", "los", check=False)
    assert failure.returncode == 4 and "did you mean 'loss'" in failure.stderr
    narrowed = workshop.json("run", "list", "--filter", "params.rounds = '20' and metrics.test_auc > 0")["runs"]
    assert [run["parameters"]["rounds"] for run in narrowed] == ["20"]


def test_answers_are_as_described(workshop: Workshop, first: str) -> None:
    server = workshop.server
    check(server, "get", "/api/v1/runs", query="?limit=2&order_by=metrics.test_auc+DESC")
    check(server, "get", "/api/v1/runs/{id}", id=first)
    other = server.get("/api/v1/runs?limit=1")["runs"][0]["id"]
    check(server, "get", "/api/v1/runs/{id}/diff/{other}", id=first, other=other)
    check(server, "get", "/api/v1/run-comparison", query=f"?run={first}&run={other}&all=true")
    check(server, "put", "/api/v1/runs/{id}/note", {"text": ""}, id=first)
    started = check(server, "post", "/api/v1/runs/{id}/reproduce", {}, id=other)
    assert not faults(server.finished(started["operation"]), {"$ref": "#/components/schemas/RunReproduction"})


def test_a_note_is_the_one_that_mlflow_shows(workshop: Workshop, first: str) -> None:
    workshop.server.cli("run", "note", first, "the *first* <b>one</b>")
    assert workshop.json("run", "show", first)["note"] == "the *first* <b>one</b>"
    import mlflow

    assert mlflow.MlflowClient(workshop.server.url).get_run(first).data.tags["mlflow.note.content"].startswith("the *")


# Runs of others


SCRIPT = """
import sys
import time
import mlflow
import numpy

mlflow.set_experiment("elsewhere")
with mlflow.start_run() as run:
    mlflow.log_param("random_state", 7)
    mlflow.log_metric("f1", 0.5)
    # Its source asks for tags as a run does, and is none.
    data = mlflow.data.from_numpy(numpy.arange(3))
    mlflow.log_param("data_tags", [key for key in data.source.to_dict()["tags"] if key.startswith("bottega.")])
bare = mlflow.MlflowClient().create_run(run.info.experiment_id)
print(run.info.run_id, bare.info.run_id)
"""


@pytest.fixture(scope="module")
def elsewhere(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, pathlib.Path]:
    """A script with the real client, with our package installed beside it, in a repository of its own."""
    site = tmp_path_factory.mktemp("site")
    entries = tomllib.loads((ROOT / "sdk/python/pyproject.toml").read_text())["project"]["entry-points"]
    information = site / "bottega_hook-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: bottega-hook\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in some.items()) for group, some in entries.items()]
    (information / "entry_points.txt").write_text("\n".join(lines))
    (site / "bottega").symlink_to(ROOT / "sdk/python/src/bottega")
    code = tmp_path_factory.mktemp("elsewhere")
    git(code, "init", "-q", "-b", "trunk", ".")
    (code / "fit.py").write_text("pass\n")
    git(code, "add", ".")
    git(code, "commit", "-qm", "one")
    (code / "fit.py").write_text(SCRIPT + "KEY = \"api_key = 'abcdefgh12345'\"\n")
    environment = {**os.environ, "PYTHONPATH": str(site), "MLFLOW_TRACKING_URI": workshop.server.url}
    result = subprocess.run(
        [sys.executable, "fit.py", "--token=geheim"], cwd=code, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    recorded, bare = result.stdout.split()[-2:]
    return recorded, bare, code


def test_any_mlflow_run_is_recorded_once_the_package_is_installed(workshop: Workshop, elsewhere: Any) -> None:
    recorded, bare, code = elsewhere
    run = workshop.json("run", "show", recorded)
    record = run["record"]
    assert record["code"]["commit"] == git(code, "rev-parse", "HEAD") and record["code"]["dirty"]
    assert record["code"]["changes"]["masked_lines"] == 1 and not record["code"]["changes"]["applies"]
    assert record["command"][-2:] == ["fit.py", "--token=***"]
    assert run["tags"]["bottega.environment"] == record["environment"]["lock"]
    assert run["seed"] == {"seed": "7"} and run["parameters"]["data_tags"] == "[]"
    assert any(name.startswith("mlflow==") for name in record["environment"]["packages"])
    assert [file["path"] for file in run["files"]] == ["bottega/changes.diff", "bottega/record.json"]
    assert workshop.json("run", "show", bare)["record"] is None, "a run made through the client is as it was asked for"
    client = mlflow.MlflowClient(workshop.server.url, workshop.server.url)
    client.create_registered_model("elsewhere")
    for number, (made, is_recorded) in enumerate([(recorded, True), (bare, False)], 1):
        client.create_model_version("elsewhere", f"{client.get_run(made).info.artifact_uri}/model", run_id=made)
        version = workshop.json("model", "show", "elsewhere", str(number))
        assert (version["seed"], version["environment"] is not None) == (None, is_recorded)
        card = workshop.server.cli("model", "card", "elsewhere", str(number)).stdout
        assert "| Seed | not recorded |" in card and ("uncommitted" in card) == is_recorded


def test_a_run_of_others_says_what_is_missing(workshop: Workshop, elsewhere: Any) -> None:
    recorded, bare, _ = elsewhere
    result = workshop.json("run", "reproduce", recorded, code=12)
    assert result["verdict"] == "impossible" and result["again"] is None
    assert any("no training job" in text for text in result["missing"])
    assert any("no dataset" in text for text in result["missing"])
    assert any(step.startswith("git clone") for step in result["steps"])
    result = workshop.json("run", "reproduce", bare, code=12)
    assert any("no record" in text for text in result["missing"])
    failure = workshop.server.cli("run", "reproduce", "0" * 32, check=False)
    assert failure.returncode == 4


def test_the_recorder_in_the_program_is_that_of_the_package() -> None:
    assert subprocess.run([sys.executable, str(ROOT / "tools/embed_recorder.py"), "--check"]).returncode == 0


# Watching


def events(response: Any) -> Iterator[tuple[str, int | None, Any]]:
    """Server-sent events: name, number, data."""
    name, number = "", None
    for raw in response:
        line = raw.decode().rstrip("\n")
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("data: "):
            yield name, number, json.loads(line[6:])
        elif not line:
            name, number = "", None


def test_metrics_come_as_events_while_the_run_goes_on(workshop: Workshop) -> None:
    import mlflow

    client = mlflow.MlflowClient(workshop.server.url)
    run = client.create_run("0").info.run_id
    client.log_metric(run, "loss", 0.5, step=0)
    response = urllib.request.urlopen(f"{workshop.server.url}/api/v1/runs/{run}/events", timeout=30)
    assert response.headers["Content-Type"] == "text/event-stream"
    feed = events(response)
    name, _, data = next(feed)
    assert name == "snapshot" and data["status"] == "RUNNING"
    assert [(point[0], point[2]) for point in data["metrics"]["loss"]] == [(0, 0.5)]
    client.log_metric(run, "loss", 0.25, step=1)
    name, number, data = next(feed)
    assert (name, number) == ("metrics", 1)
    assert [(m["key"], m["step"], m["value"]) for m in data["metrics"]] == [("loss", 1, 0.25)]
    client.log_metric(run, "nan", float("nan"))
    assert next(feed)[2]["metrics"][0]["value"] == "nan"
    client.set_terminated(run)
    assert [(n, d) for n, _, d in feed] == [("status", {"status": "FINISHED"}), ("end", {})]
    # A run that has ended tells everything at once and hangs up.
    again = list(events(urllib.request.urlopen(f"{workshop.server.url}/api/v1/runs/{run}/events", timeout=30)))
    assert [name for name, _, _ in again] == ["snapshot", "end"]
    assert len(again[0][2]["metrics"]["loss"]) == 2
    status, answer = workshop.server.request("GET", f"/api/v1/runs/{'0' * 32}/events")
    assert status == 404, answer


def test_an_open_stream_does_not_hold_up_the_end(start_server: Any) -> None:
    import mlflow

    server = start_server(name="streams")
    run = mlflow.MlflowClient(server.url).create_run("0").info.run_id
    response = urllib.request.urlopen(f"{server.url}/api/v1/runs/{run}/events", timeout=60)
    assert next(events(response))[0] == "snapshot"
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 25, "the stream was waited for"


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def rendered(url: str, folder: pathlib.Path, drawn: str = "") -> str:
    """A page once its script has drawn what is named; a browser on a loaded machine may give up before that."""
    page = ""
    for _ in range(6):
        page = subprocess.run(
            [
                str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}",
                "--virtual-time-budget=8000", "--dump-dom", url,
            ],
            capture_output=True, text=True, timeout=180,
        ).stdout  # fmt: skip
        if drawn in page:
            break
    return page


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium to look at pages with")
def test_pages_show_runs(workshop: Workshop, first: str, tmp_path: pathlib.Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(workshop.server.url)
    experiment = client.create_experiment("<b>pages</b> & more")
    made = []
    for depth in (2, 3, 4):
        run = client.create_run(experiment, run_name=f"</script><i>{depth}")
        client.log_param(run.info.run_id, "depth", str(depth))
        for step in range(10):
            client.log_metric(run.info.run_id, "loss", 1 / (step + depth), step=step)
        client.set_terminated(run.info.run_id)
        made.append(run.info.run_id)
    page = rendered(f"{workshop.server.url}/experiments", tmp_path)
    assert "&lt;b&gt;pages&lt;/b&gt; &amp; more" in page and "<b>pages" not in page
    page = rendered(f"{workshop.server.url}/experiments/{experiment}", tmp_path)
    assert all(run in page for run in made) and page.count('class="strand"') == 3 and "<i>2" not in page
    page = rendered(f"{workshop.server.url}/runs/{made[0]}", tmp_path, "<polyline")
    assert "<polyline" in page and "finished" in page
    page = rendered(
        f"{workshop.server.url}/run-comparison?" + "&".join(f"run={run}" for run in made), tmp_path, "<polyline"
    )
    assert page.count("<polyline") == 3 and page.count('class="strand"') == 3
    page = rendered(f"{workshop.server.url}/runs/{first}", tmp_path, "system/cpu_utilization_percentage")
    assert workshop.dataset in page and "system/cpu_utilization_percentage" in page
    status, text = workshop.server.request("GET", "/experiments/0?filter=metrics.")
    assert status == 200 and 'class="fault"' in text


def test_what_a_script_writes_is_no_change_of_its_code(tmp_path: pathlib.Path) -> None:
    from bottega import record

    git(tmp_path, "init", "-q")
    (tmp_path / "train.py").write_text("print(1)\n")
    git(tmp_path, "add", "."), git(tmp_path, "commit", "-qm", "first")
    started = time.time()
    for path, age in [("notes.txt", 60), ("report.txt", -60), ("edited.py", -60), ("mlruns/0/meta.yaml", 60)]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x\n")
        os.utime(tmp_path / path, (started - age, started - age))
    changes = record.take(tmp_path, ["python"], {}, before=started)[1].decode()
    assert "notes.txt" in changes and "edited.py" in changes, "what was there, and code"
    assert "report.txt" not in changes and "mlruns" not in changes
    assert "report.txt" in record.take(tmp_path, ["python"], {})[1].decode()
    (tmp_path / ".git").rename(tmp_path.with_name("elsewhere"))
    files = record.take(tmp_path, ["python"], {}, before=started)[0]["code"]["files"]
    assert set(files) == {"train.py", "notes.txt", "edited.py"}
