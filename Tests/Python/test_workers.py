"""Models that are Python code: pickled pipelines and functions in worker processes, killed, hung, leaking and odd."""

from __future__ import annotations

import concurrent.futures
import http.server
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import mlflow
import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
import shop
from conftest import TRAINING_ROWS, Server, until
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from remote_models import RemoteServer, drilled, http_server, register, share
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

TRAIN = (
    TRAINING_ROWS
    + """
import mlflow
import mlflow.sklearn
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

features = frame[names].astype({name: "float64" for name in numbers}).astype({name: object for name in texts})
pipeline = make_pipeline(
    ColumnTransformer(
        [
            ("texts", OneHotEncoder(handle_unknown="ignore"), texts),
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        ]
    ),
    LogisticRegression(max_iter=1000),
)
pipeline.fit(features, frame[manifest["label"]].astype(int))
inputs = [ColSpec(DataType.string if name in texts else DataType.double, name, required=False) for name in names]
with mlflow.start_run():
    mlflow.sklearn.log_model(
        pipeline, name="model", signature=ModelSignature(inputs=Schema(inputs)), pip_requirements=["scikit-learn"],
        serialization_format="cloudpickle",
    )
"""
)

CODE = """
import os
import time

import mlflow
import numpy as np


class Odd(mlflow.pyfunc.PythonModel):
    held = []

    def predict(self, context, model_input, params=None):
        prices = model_input["price"].to_numpy()
        print("predicting", len(prices), flush=True)
        for price in prices:
            if price == 5001:
                raise ValueError("no such price")
            if price == 5002:
                time.sleep(3600)
            if price == 5003:
                while True:
                    self.held.append(np.ones(64 << 20))
            if price == 5004:
                os._exit(7)
        out = prices / 10000
        return np.where(prices == 5005, np.nan, out)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, binary: str):
    folder = tmp_path_factory.mktemp("workers")
    secret = {"SECRET_OF_THE_SERVER": "do not tell"}
    server = Server(folder / "data", "--clock", "manual", environment=secret).start()
    server.post("/api/v1/clock", {"now": shop.START + 27 * shop.DAY})
    definitions = shop.write_definitions(folder / "definitions", log_loss=1000, train=TRAIN)
    for file in definitions.glob("*.yaml"):
        category = "{name: channel, type: category, values: [app, shop, web]"
        file.write_text(file.read_text().replace(category, category + ", nullable: true"))
    model = definitions / "model.yaml"
    model.write_text(
        re.sub(r"latency_p99: \S+ms\b", "latency_p99: 60s", model.read_text()).replace(
            "fallback: {constant: 0.25}",
            "fallback: {constant: 0.25}\n"
            "workers: {min: 2, max: 3, memory: 4GiB, timeout: 8s}\n"
            "batching: {size_max: 32, wait_max: 1ms}",
        )
    )
    server.cli("apply", str(definitions))
    history = shop.history(27)
    for name in ("payments", "orders", "outcomes"):
        server.cli("ingest", name, str(shop.write_csv(folder / f"{name}.csv", getattr(history, name))))
    span = ["--from", shop.text(shop.START + 8 * shop.DAY), "--to", shop.text(shop.START + 26 * shop.DAY)]
    dataset = json.loads(server.cli("dataset", "build", "loss", *span, "--json").stdout)["dataset"]
    job = server.post("/training-jobs", {"model": "loss", "dataset": dataset})
    server.cli("model", "register", "loss", "--job", job["id"])
    yield server, dataset, folder
    assert server.stop() == 0


def deploy(server: Server, version: int) -> None:
    for stage in ("staging", "canary"):
        server.cli("model", "promote", "loss", str(version), stage, "--reason", "for the test")
    server.cli("deploy", "loss", str(version), "--reason", "for the test")


def ask(server: Server, price: float, customer: str | None = "c01", channel: str = "app") -> dict:
    return server.post(
        "/predict/loss", {"entities": {"customer": customer}, "features": {"channel": channel, "price": price}}
    )


def events(server: Server) -> dict[str, float]:
    """What happened to workers since the start, by word."""
    _, page = server.request("GET", "/metrics")
    return {
        word: float(count)
        for word, count in re.findall(r'bottega_worker_events_total\{event="(\w+)",model="loss"\} (\S+)', page)
    }


def workers(server: Server, artifact: str = "") -> list[int]:
    """Worker processes of a server, or of one artifact."""
    assert server.process is not None
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if len(command) < 5 or b"/python/worker-" not in command[3] or artifact.encode() not in command[4]:
                continue
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if parent == server.process.pid:
            found.append(int(entry.name))
    return sorted(found)


def idle(server: Server) -> float:
    """Workers that wait for a question."""
    _, page = server.request("GET", "/metrics")
    found = re.search(r'bottega_worker_processes\{model="loss",state="idle"\} (\S+)', page)
    return float(found[1]) if found else 0


def test_a_pickled_pipeline_is_registered_and_answers_as_itself(world) -> None:
    server, _, _ = world
    shown = json.loads(server.cli("model", "show", "loss", "1", "--json").stdout)
    assert shown["format"] == "python", shown
    assert shown["metrics"]["test"]["auc"] > 0.6, shown
    deploy(server, 1)
    mlflow.set_tracking_uri(server.url)
    pipeline = mlflow.sklearn.load_model(f"runs:/{shown['run_id']}/model")
    requests = [("c01", "app", 10), ("c02", "web", 99.5), ("nobody", "shop", 40), (None, "web", 17.25)]
    for customer, channel, price in requests:
        answer = ask(server, price, customer, channel)
        assert (answer["model_version"], answer["fallback"]) == (1, False), answer
        inputs = server.get(f"/predictions/{answer['prediction_id']}/why")["inputs"]
        row = {
            entry["name"]: [entry["value"]]
            if isinstance(entry["value"], str)
            else [math.nan if entry["value"] is None else float(np.float32(entry["value"]))]
            for entry in inputs
        }
        expected = pipeline.predict_proba(pd.DataFrame(row))[0, 1]
        assert np.float32(answer["prediction"]) == np.float32(expected), (answer, inputs)
        replayed = server.post(f"/predictions/{answer['prediction_id']}/replay", {})
        assert (replayed["compared"], replayed["equal"]) == (1, 1), replayed
    instances = [
        {"entities": {"customer": customer}, "features": {"channel": channel, "price": price}}
        for customer, channel, price in requests
    ]
    together = server.post("/predict/loss", {"instances": instances})["predictions"]
    alone = [server.post("/predict/loss", instance) for instance in instances]
    assert [a["prediction"] for a in together] == pytest.approx([a["prediction"] for a in alone], rel=1e-6)
    status, refused = server.request("POST", "/predict/loss", {"entities": {}, "features": {"channel": "fax"}})
    assert status == 422 and {fault["field"] for fault in refused["error"]["fields"]} >= {"features.channel"}, refused


def test_a_batch_is_scored_by_workers_too(world) -> None:
    server, _, _ = world
    day = "2024-01-11"
    server.cli("score", "loss@1", "--spine", "orders", "--out", "by_workers", "--date", day)
    files = sorted((pathlib.Path(server.data_dir) / f"scores/by_workers/date={day}").glob("*.parquet"))
    rows = pd.concat([pd.read_parquet(file) for file in files])
    assert len(rows) > 50 and rows["prediction"].between(0, 1).all() and set(rows["model_version"]) == {1}
    assert rows["prediction"].nunique() > 10


def test_workers_see_nothing_of_the_servers_environment(world) -> None:
    server, _, _ = world
    for process in until(lambda: workers(server)):
        environment = pathlib.Path(f"/proc/{process}/environ").read_bytes()
        assert b"SECRET_OF_THE_SERVER" not in environment and b"MLFLOW_TRACKING" not in environment, environment
        limits = pathlib.Path(f"/proc/{process}/limits").read_text()
        assert re.search(rf"Max address space\s+{4 << 30}\s+{4 << 30}", limits), limits
        assert sorted(os.readlink(f"/proc/{process}/fd/{number}").split(":")[0] for number in (1, 2)) == ["pipe"] * 2


def test_killed_workers_cost_no_request(world) -> None:
    server, _, _ = world
    until(lambda: len(workers(server)) >= 2)
    before = events(server)
    killed: set[int] = set()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, server, 10 + number / 8) for number in range(400)]
        while not all(done.done() for done in asked):
            alive = [process for process in workers(server) if process not in killed]
            if len(killed) < 4 and len(alive) >= 2:
                os.kill(alive[0], signal.SIGKILL)
                killed.add(alive[0])
            time.sleep(0.1)
        answers = [done.result() for done in asked]
    assert killed
    assert [answer["fallback"] for answer in answers] == [False] * 400
    assert len({answer["prediction_id"] for answer in answers}) == 400
    # One that was killed while it started is another word.
    ends = ("died", "start_failed")
    until(lambda: sum(events(server).get(word, 0) - before.get(word, 0) for word in ends) >= len(killed))


def test_a_function_of_ones_own_and_what_it_may_do_wrong(world, tmp_path: pathlib.Path) -> None:
    server, dataset, _ = world
    code = tmp_path / "odd.py"
    code.write_text(CODE + "\n\nmlflow.models.set_model(Odd())\n")
    why = server.get(f"/predictions/{ask(server, 10)['prediction_id']}/why")
    fields = [entry["name"] for entry in why["inputs"]]
    schema = Schema(
        [ColSpec(DataType.string if name == "channel" else DataType.double, name, required=False) for name in fields]
    )
    mlflow.set_tracking_uri(server.url)
    mlflow.set_experiment("odd")
    with mlflow.start_run() as run:
        mlflow.pyfunc.log_model(
            name="model", python_model=str(code), signature=ModelSignature(inputs=schema), pip_requirements=["numpy"]
        )
    server.cli("model", "register", "loss", "--run", run.info.run_id, "--dataset", dataset)
    deploy(server, 2)
    for price in (10, 99.5, 1234.5):
        answer = ask(server, price)
        assert (answer["model_version"], answer["fallback"]) == (2, False), answer
        assert np.float32(answer["prediction"]) == np.float32(np.float64(price) / 10000), answer
    # Of requests that go out together, each gets what is its own.
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        prices = [10 + number for number in range(64)]
        prices[::8] = [5001] * 8
        answers = list(pool.map(lambda price: ask(server, price), prices))
    for price, answer in zip(prices, answers, strict=True):
        assert answer["fallback"] == (price == 5001), (price, answer)
        assert price == 5001 or np.float32(answer["prediction"]) == np.float32(price / 10000)
    raised = ask(server, 5001)
    assert raised["prediction"] == 0.25 and raised["fallback_reason"] == "the model failed", raised
    assert "no such price" not in json.dumps(raised), "what an exception says is nobody's but the log's"
    assert "no such price" in server.get(f"/predictions/{raised['prediction_id']}/why")["fallback_reason"]
    # Of the rows of one request, too: the fallback answers those that the model raises an error for.
    prices = [20.0 + number for number in range(40)]
    prices[3] = prices[31] = 5001
    rows = [{"entities": {"customer": "c01"}, "features": {"channel": "app", "price": price}} for price in prices]
    for price, answer in zip(prices, server.post("/predict/loss", {"instances": rows})["predictions"], strict=True):
        assert answer["fallback"] == (price == 5001), (price, answer)
        why = server.get(f"/predictions/{answer['prediction_id']}/why")
        assert ("no such price" in (why.get("fallback_reason") or "")) == (price == 5001), why
        assert price == 5001 or np.float32(answer["prediction"]) == np.float32(price / 10000)
    empty = ask(server, 5005)
    assert empty["prediction"] == 0.25 and "no finite number" in empty["fallback_reason"], empty
    begin = time.monotonic()
    hung = ask(server, 5002)
    assert hung["fallback"] and time.monotonic() - begin < 30, hung
    for price in (5003, 5004):
        answer = ask(server, price)
        assert (answer["prediction"], answer["fallback"]) == (0.25, True), answer
    until(lambda: ask(server, 10)["fallback"] is False)
    counted = until(lambda: found if {"refused", "hung", "died"} <= set(found := events(server)) else None)
    assert counted["refused"] >= 2, counted
    _, page = server.request("GET", "/metrics")
    assert re.search(r'bottega_prediction_fallbacks_total\{[^}]*"no_number"[^}]*\} 1\b', page)
    assert float(re.search(r'bottega_worker_printed_bytes_total\{model="loss"\} (\S+)', page)[1]) > 0


def logged(server, pipeline, names: list[str]) -> str:
    """A run that holds a model of scikit-learn, as mlflow logs it."""
    columns = [ColSpec(DataType.string if name == "channel" else DataType.double, name, False) for name in names]
    mlflow.set_tracking_uri(server.url)
    with mlflow.start_run() as run:
        mlflow.sklearn.log_model(
            pipeline,
            name="model",
            signature=ModelSignature(inputs=Schema(columns)),
            pip_requirements=["scikit-learn"],
            serialization_format="cloudpickle",
        )
    return run.info.run_id


def test_a_missing_category_is_none_whatever_is_beside_it(world) -> None:
    server, dataset, _ = world
    inputs = server.get(f"/predictions/{ask(server, 10)['prediction_id']}/why")["inputs"]
    names = [entry["name"] for entry in inputs]
    draw = np.random.default_rng(7)
    channels = [["app", "shop", "web", None][code] for code in draw.integers(0, 4, 400)]
    frame = pd.DataFrame({name: draw.normal(50, 20, 400) for name in names})
    frame["channel"] = pd.Series(channels, dtype=object)
    texts = ("texts", OneHotEncoder(), ["channel"])
    numbers = (
        "numbers",
        make_pipeline(SimpleImputer(), StandardScaler()),
        [name for name in names if name != "channel"],
    )
    pipeline = make_pipeline(ColumnTransformer([texts, numbers]), LogisticRegression())
    pipeline.fit(frame, (frame["channel"].isna() | (frame["price"] > 60)).astype(int))
    run = logged(server, pipeline, names)
    server.cli("model", "register", "loss", "--run", run, "--dataset", dataset)
    version = max(entry["version"] for entry in server.get("/api/v1/models/loss")["versions"])
    deploy(server, version)

    def own(answer: dict) -> float:
        inputs = server.get(f"/predictions/{answer['prediction_id']}/why")["inputs"]
        values = {entry["name"]: entry["value"] for entry in inputs}
        channel = values.pop("channel")
        table = pd.DataFrame({name: [math.nan if one is None else np.float32(one)] for name, one in values.items()})
        table = table.astype("float64").assign(channel=pd.Series([channel], dtype=object))
        return float(pipeline.predict_proba(table[names])[0, 1])

    instances = [
        {"entities": {"customer": "c01"}, "features": {"channel": channel, "price": 30 + place}}
        for place, channel in enumerate(["web", None, "app", None])
    ]
    together = server.post("/predict/loss", {"instances": instances})["predictions"]
    alone = [server.post("/predict/loss", instance) for instance in instances]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:  # gathered with others' rows
        gathered = list(pool.map(lambda instance: server.post("/predict/loss", instance), instances * 8))
    tensors = [
        {"name": "customer", "datatype": "BYTES", "shape": [4, 1], "data": ["c01"] * 4},
        {"name": "channel", "datatype": "BYTES", "shape": [4, 1], "data": ["web", "", "app", ""]},
        {"name": "price", "datatype": "FP64", "shape": [4, 1], "data": [30, 31, 32, 33]},
    ]
    outputs = server.post("/v2/models/loss/infer", {"inputs": tensors})["outputs"]
    by_protocol = next(output["data"] for output in outputs if output["name"] == "prediction")
    expected = [own(answer) for answer in alone]
    for answers in (together, alone, gathered):
        assert not any(answer["fallback"] for answer in answers), answers
        found = [answer["prediction"] for answer in answers]
        assert found == pytest.approx(expected * (len(found) // 4), rel=1e-6)
    assert by_protocol == pytest.approx(expected, rel=1e-6)
    replayed = server.post(f"/predictions/{together[1]['prediction_id']}/replay", {})
    assert (replayed["compared"], replayed["equal"]) == (1, 1), replayed
    server.cli("deploy", "loss", "2", "--reason", "back to the function")


def test_several_values_are_no_probabilities(world) -> None:
    server, dataset, _ = world
    names = [entry["name"] for entry in server.get(f"/predictions/{ask(server, 10)['prediction_id']}/why")["inputs"]]
    numbers = [name for name in names if name != "channel"]
    chosen = make_pipeline(ColumnTransformer([("n", SimpleImputer(), numbers)]), LinearRegression())
    frame = pd.DataFrame(np.random.default_rng(1).normal(size=(50, len(names))), columns=names)
    chosen.fit(frame, np.stack([frame["price"], 100 * frame["price"]], axis=1))
    run = logged(server, chosen, names)
    refused = server.cli("model", "register", "loss", "--run", run, "--dataset", dataset, check=False)
    assert refused.returncode != 0
    assert "it gives 2 values for each row that are no probabilities of classes" in refused.stderr, refused.stderr


def test_a_model_on_another_server(world, tmp_path: pathlib.Path) -> None:
    server, dataset, _ = world
    shown = json.loads(server.cli("model", "show", "loss", "1", "--json").stdout)
    RemoteServer.width = len(shown["signature"]["inputs"])
    with http_server() as remote:
        RemoteServer.port = remote.server_port
        version = register(server, dataset, tmp_path, f"v2://127.0.0.1:{remote.server_port}/means")
        shown = json.loads(server.cli("model", "show", "loss", str(version), "--json").stdout)
        assert shown["format"] == "remote-v2", shown
        deploy(server, version)
        answer = ask(server, 10, "nobody", "app")
        assert (answer["model_version"], answer["fallback"]) == (version, False), answer
        inputs = server.get(f"/predictions/{answer['prediction_id']}/why")["inputs"]
        row = [0.0 if entry["name"] == "channel" else entry["value"] for entry in inputs]
        row = np.array([[math.nan if value is None else value for value in row]], dtype=np.float32)
        assert np.float32(answer["prediction"]) == share(row)[0], (answer, inputs)
        for mood in ("odd", "ill"):
            RemoteServer.mood = mood
            answer = ask(server, 10)
            assert (answer["prediction"], answer["fallback"]) == (0.25, True), answer
        for _ in range(5):
            ask(server, 10)
        _, page = server.request("GET", "/metrics")
        assert 'bottega_remote_breakers_open{model="loss"} 1' in page
        RemoteServer.mood = "well"
        until(lambda: ask(server, 10)["fallback"] is False)
        server.cli("deploy", "loss", "1", "--reason", "back to the pipeline")
        # A drill goes back to the other server and forth to the worker processes, while somebody asks.
        drilled(server)
        remote.shutdown()


def artifact(server: Server, version: int) -> str:
    return json.loads(server.cli("model", "show", "loss", str(version), "--json").stdout)["artifact"]


def test_what_no_route_needs_any_more_is_let_go(world) -> None:
    server, _, _ = world
    first, odd = artifact(server, 1), artifact(server, 2)
    server.cli("deploy", "loss", "2", "--reason", "for the test")
    until(lambda: len(workers(server, odd)) >= 2)
    assert len(workers(server, first)) >= 2, "a rollback goes there"
    begin = time.monotonic()
    server.cli("rollback", "loss", "--reason", "for the test")
    assert ask(server, 10)["model_version"] == 1
    until(lambda: not workers(server, odd))
    assert time.monotonic() - begin < 55, "not because nobody asked for a minute"
    assert len(workers(server, first)) >= 2


def test_after_a_restart_workers_are_there_before_anybody_asks(world) -> None:
    server, _, _ = world
    first = artifact(server, 1)
    before = until(lambda: workers(server))
    server.kill()
    until(lambda: not any(pathlib.Path(f"/proc/{process}").exists() for process in before))
    server.start()
    until(lambda: len(workers(server, first)) >= 2)
    until(lambda: idle(server) >= 2)
    assert ask(server, 10)["fallback"] is False


def test_a_remote_model_is_there_though_its_server_was_down_at_the_start(world) -> None:
    server, _, _ = world
    server.cli("rollback", "loss", "--reason", "to the version on the other server")
    answer = ask(server, 10)
    assert (answer["prediction"], answer["fallback"]) == (0.25, True), answer
    why = server.get(f"/predictions/{answer['prediction_id']}/why")
    assert "remote server" in why["fallback_reason"], why
    with http.server.ThreadingHTTPServer(("127.0.0.1", RemoteServer.port), RemoteServer) as remote:
        remote.daemon_threads = True
        threading.Thread(target=remote.serve_forever, daemon=True).start()
        until(lambda: ask(server, 10)["fallback"] is False)
        remote.shutdown()


def test_a_version_that_wants_other_packages_is_told_or_refused(world, tmp_path: pathlib.Path) -> None:
    server, dataset, folder = world
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=120)
    [packages] = (venv / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(str(pathlib.Path(mlflow.__file__).parents[1]) + "\n")
    model = folder / "definitions" / "model.yaml"

    def require(policy: str) -> None:
        text = re.sub(r", environment: .*?(?=\})", "", model.read_text())
        text = text.replace("timeout: 8s", f"timeout: 8s, environment: {venv}, requirements: {policy}")
        model.write_text(text)
        server.cli("apply", str(folder / "definitions"))

    require("warn")
    first = json.loads(server.cli("model", "show", "loss", "1", "--json").stdout)
    assert first["requirement_differences"] == []
    mlflow.set_tracking_uri(server.url)
    uri = f"runs:/{first['run_id']}/model"
    with mlflow.start_run() as run:
        mlflow.sklearn.log_model(
            mlflow.sklearn.load_model(uri),
            name="model",
            signature=mlflow.models.get_model_info(uri).signature,
            pip_requirements=["numpy", "bottega-package-of-nobody==1.5"],
            serialization_format="cloudpickle",
        )
    registering = ("model", "register", "loss", "--run", run.info.run_id, "--dataset", dataset)
    difference = "bottega-package-of-nobody==1.5 is wanted, it is not installed"
    told = server.cli(*registering).stdout
    assert f"warning: {difference}" in told, told
    version = int(re.search(r"version (\d+) of loss", told)[1])
    shown = json.loads(server.cli("model", "show", "loss", str(version), "--json").stdout)
    assert shown["requirement_differences"] == [difference]
    deploy(server, version)
    assert server.get("/api/v1/deployments/loss")["requirement_differences"] == {str(version): [difference]}
    assert server.log_path.read_text().count(difference) == 1

    require("match")
    refused = server.cli(*registering, check=False)
    assert refused.returncode != 0 and difference in refused.stderr, refused
    assert server.get("/api/v1/models/loss")["versions"][-1]["version"] == version
    assert ask(server, 10)["model_version"] == version, "what serves goes on"
    deploying = ("deploy", "loss", str(version), "--reason", "for the test")
    server.cli("deploy", "loss", "1", "--reason", "for the test")
    refused = server.cli(*deploying, check=False)
    assert refused.returncode != 0 and difference in refused.stderr, refused
    assert ask(server, 10)["model_version"] == 1
    # What is installed counts at once, though workers run that were started before: a rollback would need them.
    information = packages / "bottega_package_of_nobody-1.5.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: bottega-package-of-nobody\nVersion: 1.5\n")
    server.cli(*deploying)
    assert server.get("/api/v1/deployments/loss")["requirement_differences"] == {}
    assert ask(server, 10)["model_version"] == version
