"""Logging and searching with the real `mlflow` client at a size, with bad input, and with crashes in between."""

import concurrent.futures
import json
import math
import os
import random
import signal
import socket
import string
import subprocess
import sys
import threading
import urllib.parse
import uuid

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
import numpy
import pandas
import pytest
import requests
from conftest import until
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow_fixtures import experiment  # noqa: F401

API = "/api/2.0/mlflow/"


@pytest.fixture
def client(server):
    mlflow.set_tracking_uri(server.url)
    mlflow.set_registry_uri(server.url)
    return MlflowClient(tracking_uri=server.url, registry_uri=server.url)


# Metrics


def test_a_history_is_read_back_whole_and_in_pages(client, experiment):
    run = client.create_run(experiment.experiment_id).info.run_id
    for start in range(0, 30_000, 1000):
        client.log_batch(
            run, metrics=[Metric("loss", step / 7, 1000 + step, step) for step in range(start, start + 1000)]
        )
    history = client.get_metric_history(run, "loss")  # in pages of 25,000
    assert [metric.step for metric in history] == list(range(30_000))
    assert [metric.value for metric in history] == [step / 7 for step in range(30_000)]
    assert client.get_run(run).data.metrics == {"loss": 29_999 / 7}


def test_steps_out_of_order_and_repeated_measurements(client, experiment):
    run = client.create_run(experiment.experiment_id).info.run_id
    steps = list(range(500))
    random.Random(3).shuffle(steps)
    for step in steps:
        client.log_metric(run, "m", step * 2.0, timestamp=5000 - step, step=step)
        if step % 50 == 0:
            client.log_metric(run, "m", step * 2.0, timestamp=5000 - step, step=step)
    history = client.get_metric_history(run, "m")
    assert sorted(metric.step for metric in history) == list(range(500))
    assert client.get_run(run).data.metrics["m"] == 998.0


def test_histories_of_several_runs_are_thinned_out_together(server, client, experiment):
    runs = [client.create_run(experiment.experiment_id).info.run_id for _ in range(3)]
    for number, run in enumerate(runs):
        client.log_batch(run, metrics=[Metric("m", step, step, step) for step in range(number, 900)])
    query = [("run_ids", run) for run in runs] + [("metric_key", "m"), ("max_results", "50")]
    found = requests.get(server.url + API + "metrics/get-history-bulk-interval", params=query, timeout=30).json()
    steps = {run: [m["step"] for m in found["metrics"] if m["run_id"] == run] for run in runs}
    assert all(len(kept) <= 55 and kept == sorted(kept) for kept in steps.values())
    assert [kept[0] for kept in steps.values()] == [0, 1, 2]
    assert all(kept[-1] == 899 for kept in steps.values())
    answer = requests.get(
        server.url + API + "metrics/get-history-bulk-interval", params=[*query, ("start_step", "5")], timeout=30
    )
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_thinned_histories_are_those_of_the_reference_store(server, client, experiment, tmp_path):
    """The same points on the same data, whatever the steps look like."""
    reference = SqlAlchemyStore(f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "artifacts"))
    theirs_in = reference.create_experiment("thinned")
    generator = random.Random(11)
    pairs: list[tuple[str, str]] = []
    for steps in [
        range(700),
        range(0, 2100, 3),
        generator.sample(range(5000), 400),
        [generator.randrange(90) for _ in range(300)],
        range(-40, 60),
        [7],
    ]:
        ours = client.create_run(experiment.experiment_id).info.run_id
        theirs = reference.create_run(theirs_in, "u", 1, [], "n").info.run_id
        metrics = [Metric("m", float(generator.randrange(5)), 1000 + index, step) for index, step in enumerate(steps)]
        client.log_batch(ours, metrics=metrics)
        reference.log_batch(theirs, metrics=metrics, params=[], tags=[])
        pairs.append((ours, theirs))
    for chosen in [[0], [1], [2], [3], [4], [5], [0, 1], [0, 2, 3], [1, 2, 4, 5], list(range(6))]:
        for count, bounds in [
            (1, None),
            (10, None),
            (50, None),
            (320, None),
            (25, (100, 900)),
            (5, (-20, 20)),
            (50, (6000, 7000)),
        ]:
            query = [("run_ids", pairs[index][0]) for index in chosen]
            query += [("metric_key", "m"), ("max_results", str(count))]
            if bounds:
                query += [("start_step", str(bounds[0])), ("end_step", str(bounds[1]))]
            answer = requests.get(server.url + API + "metrics/get-history-bulk-interval", params=query, timeout=30)
            names = dict(pairs)
            ours = sorted(
                (names[m["run_id"]], m["step"], m["timestamp"], m["value"]) for m in answer.json().get("metrics", [])
            )
            expected = reference.get_metric_history_bulk_interval(
                run_ids=[pairs[index][1] for index in chosen],
                metric_key="m",
                max_results=count,
                start_step=bounds[0] if bounds else None,
                end_step=bounds[1] if bounds else None,
            )
            assert ours == sorted((m.run_id, m.step, m.timestamp, m.value) for m in expected), (chosen, count, bounds)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", 1e308, -0.0, 5e-324])
def test_values_at_the_edge(server, client, experiment, value):
    run = client.create_run(experiment.experiment_id).info.run_id
    body = {"run_id": run, "key": "m", "value": value, "timestamp": 1}
    assert requests.post(server.url + API + "runs/log-metric", json=body, timeout=10).status_code == 200
    kept = client.get_run(run).data.metrics["m"]
    expected = {"NaN": math.nan, "Infinity": sys.float_info.max, "-Infinity": -sys.float_info.max}.get(value, value)
    assert kept == expected or (math.isnan(kept) and math.isnan(expected))


@pytest.mark.parametrize(
    "text",
    [
        '{"run_id": RUN, "key": "m", "value": 1e400, "timestamp": 1}',
        '{"run_id": RUN, "key": "m", "value": "many", "timestamp": 1}',
        '{"run_id": RUN, "key": "m", "timestamp": 1}',
        '{"run_id": RUN, "key": "m", "value": 1}',
        '{"run_id": RUN, "key": "", "value": 1, "timestamp": 1}',
        '{"run_id": RUN, "key": "KEY500", "value": 1, "timestamp": 1}',
        '{"run_id": RUN, "key": "../m", "value": 1, "timestamp": 1}',
        '{"run_id": RUN, "key": "m", "value": 1, "timestamp": 1.5}',
        '{"run_id": RUN, "key": "m", "key": "n", "value": 1, "timestamp": 1}',
        '{"run_id": RUN, "key": "m", "value": 1, "timestamp": 1',
        '{"run_id": RUN, "key": "m", "value": 01, "timestamp": 1}',
        '{"run_id": RUN, "key": "m", "value": 1, "timestamp": 1} x',
        "[]",
    ],
)
def test_a_bad_metric_is_refused_and_nothing_is_kept(server, client, experiment, text):
    run = client.create_run(experiment.experiment_id).info.run_id
    for _ in range(2):  # the first call of a run takes another road than later ones
        data = text.replace("RUN", json.dumps(run)).replace("KEY500", "k" * 500)
        answer = requests.post(server.url + API + "runs/log-metric", data=data, timeout=10)
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), answer.text
        client.log_metric(run, "good", 1.0)
    assert client.get_run(run).data.metrics == {"good": 1.0}


def test_a_deleted_run_takes_no_metric_until_it_is_restored(client, experiment):
    run = client.create_run(experiment.experiment_id).info.run_id
    client.log_metric(run, "m", 1.0, step=1)
    client.delete_run(run)
    with pytest.raises(MlflowException, match="deleted"):
        client.log_metric(run, "m", 2.0, step=2)
    client.restore_run(run)
    client.log_metric(run, "m", 3.0, step=3)
    assert [metric.value for metric in client.get_metric_history(run, "m")] == [1.0, 3.0]


def test_asynchronous_logging_arrives_whole(client, experiment):
    with mlflow.start_run() as run:
        for step in range(300):
            mlflow.log_metric("m", step, step=step, synchronous=False)
        mlflow.log_params({f"p{index}": index for index in range(120)}, synchronous=False).wait()
    mlflow.flush_async_logging()
    kept = client.get_run(run.info.run_id)
    assert len(client.get_metric_history(run.info.run_id, "m")) == 300
    assert len(kept.data.params) == 120


def test_many_parameters(client, experiment):
    run = client.create_run(experiment.experiment_id).info.run_id
    for start in range(0, 5000, 100):
        client.log_batch(run, params=[Param(f"p{index}", str(index)) for index in range(start, start + 100)])
    assert len(client.get_run(run).data.params) == 5000
    found = client.search_runs([experiment.experiment_id], "params.p4321 = '4321'")
    assert [one.info.run_id for one in found] == [run]


# Crashes


@pytest.mark.parametrize(("settings", "kills"), [((), 3), (("--set", "tracking.fsync=false"), 2)])
def test_what_was_acknowledged_survives_a_kill(start_server, settings, kills):
    server = start_server(*settings)
    client = MlflowClient(tracking_uri=server.url)
    runs = [client.create_run("0").info.run_id for _ in range(4)]
    acknowledged: dict[str, int] = dict.fromkeys(runs, 0)
    stop = threading.Event()

    def log(run: str) -> None:
        session = requests.Session()
        while not stop.is_set():
            step = acknowledged[run]
            body = {"run_id": run, "key": "m", "value": step * 1.5, "timestamp": step, "step": step}
            try:
                answer = session.post(server.url + API + "runs/log-metric", json=body, timeout=10)
            except requests.RequestException:
                return
            if answer.status_code == 200:
                acknowledged[run] = step + 1

    for _ in range(kills):
        stop.clear()
        threads = [threading.Thread(target=log, args=(run,)) for run in runs]
        for thread in threads:
            thread.start()
        stop.wait(1.3)
        server.kill()
        stop.set()
        for thread in threads:
            thread.join()
        server.start()
        client = MlflowClient(tracking_uri=server.url)
        for run in runs:
            history = client.get_metric_history(run, "m")
            # One more than was acknowledged may be there: its answer was lost.
            assert acknowledged[run] <= len(history) <= acknowledged[run] + 1
            assert [metric.value for metric in history] == [step * 1.5 for step in range(len(history))]
            acknowledged[run] = len(history)
    assert sum(acknowledged.values()) > 50


def test_a_kill_during_an_upload_leaves_nothing_half_there(start_server):
    server = start_server()
    path = "0/half/artifacts/big.bin"

    def portions():
        for number in range(64):
            yield b"x" * (1 << 18)
            if number == 32:
                server.kill()

    with pytest.raises(requests.RequestException):
        requests.put(f"{server.url}/api/2.0/mlflow-artifacts/artifacts/{path}", data=portions(), timeout=30)
    server.start()
    answer = requests.get(f"{server.url}/api/2.0/mlflow-artifacts/artifacts/{path}", timeout=10)
    assert answer.status_code == 404
    listing = requests.get(f"{server.url}/api/2.0/mlflow-artifacts/artifacts?path=0/half/artifacts", timeout=10)
    assert listing.json() == {}


# Searches


def test_thousands_of_runs_are_found_page_by_page(server, client, experiment):
    session = requests.Session()
    values = {}
    for index in range(1200):
        body = {
            "experiment_id": experiment.experiment_id,
            "start_time": index // 3,
            "tags": [{"key": "g", "value": f"g{index % 7}"}],
        }
        run = session.post(server.url + API + "runs/create", json=body, timeout=10).json()["run"]["info"]["run_id"]
        value = (index * 37) % 101
        metrics = [{"key": "m", "value": value, "timestamp": 1, "step": 0}]
        session.post(server.url + API + "runs/log-batch", json={"run_id": run, "metrics": metrics}, timeout=10)
        values[run] = value
    found = mlflow.search_runs([experiment.experiment_id], output_format="list", max_results=5000)
    assert {run.info.run_id for run in found} == set(values)
    found = client.search_runs(
        [experiment.experiment_id], "metrics.m > 50 and tags.g = 'g3'", order_by=["metrics.m DESC"]
    )
    assert [run.data.metrics["m"] for run in found] == sorted((run.data.metrics["m"] for run in found), reverse=True)
    assert len(found) == sum(1 for index, value in enumerate(values.values()) if value > 50 and index % 7 == 3)
    pages, token = [], None
    while True:
        page = client.search_runs(
            [experiment.experiment_id], order_by=["metrics.m ASC"], max_results=173, page_token=token
        )
        pages += page
        token = page.token
        if not token:
            break
    assert [run.data.metrics["m"] for run in pages] == sorted(values.values())
    assert len({run.info.run_id for run in pages}) == len(values)
    # What changed after a search is in the next one.
    client.log_metric(pages[0].info.run_id, "m", 1000.0, step=1)
    newest = client.search_runs([experiment.experiment_id], order_by=["metrics.m DESC"], max_results=1)
    assert newest[0].data.metrics["m"] == 1000.0


def test_a_token_of_another_query_is_refused(client, experiment):
    for _ in range(3):
        client.create_run(experiment.experiment_id)
    token = client.search_runs([experiment.experiment_id], max_results=1).token
    for query in [{"filter_string": "tags.a = 'b'"}, {"order_by": ["metrics.m"]}]:
        with pytest.raises(MlflowException, match="page token") as failure:
            client.search_runs([experiment.experiment_id], max_results=1, page_token=token, **query)
        assert failure.value.error_code == "INVALID_PARAMETER_VALUE"


def clause(generator: random.Random) -> str:
    key = generator.choice(["m", "`a b`", '"q.r"', "x" * 300, "é", "1", "mlflow.user", ""])
    entity = generator.choice(["metrics.", "params.", "tags.", "attributes.", "dataset.", "", "nothing.", "metric"])
    name = generator.choice([entity + key, "run_id", "status", "start_time", "run_name", "attributes.end_time"])
    operator = generator.choice(
        ["=", "!=", ">", "<=", "LIKE", "ILIKE", "IN", "NOT IN", "IS NULL", "IS NOT NULL", "==", "~"]
    )
    value = generator.choice(
        [
            "1",
            "-1.5e3",
            "'x'",
            '"y"',
            "('a', 'b')",
            "('a',)",
            "NaN",
            "1e999",
            "'it''s'",
            "'; DROP TABLE tracking_run; --'",
            "",
        ]
    )
    return f"{name} {operator} {value}"


def test_no_filter_breaks_the_server(server, client, experiment):
    client.create_run(experiment.experiment_id)
    session = requests.Session()
    generator = random.Random(11)
    seen = set()
    for index in range(600):
        if index % 3:
            text = generator.choice([" AND ", " and ", " OR ", " "]).join(
                clause(generator) for _ in range(generator.randint(1, 4))
            )
        else:
            text = "".join(generator.choice(string.printable + "é'\"`()") for _ in range(generator.randint(1, 60)))
        for path, body in [
            ("runs/search", {"experiment_ids": [experiment.experiment_id], "filter": text}),
            ("experiments/search", {"filter": text, "max_results": 10}),
            ("logged-models/search", {"experiment_ids": [experiment.experiment_id], "filter": text}),
            ("runs/search", {"experiment_ids": [experiment.experiment_id], "order_by": [text]}),
        ]:
            answer = session.post(server.url + API + path, json=body, timeout=30)
            assert answer.status_code in (200, 400), (text, answer.status_code, answer.text)
            if answer.status_code == 400:
                assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"
            seen.add(answer.status_code)
    assert seen == {200, 400}
    assert len(client.search_runs([experiment.experiment_id])) == 1


INJECTIONS = ["'; DROP TABLE tracking_run; --", '" OR 1=1 --', "%' OR '1'='1", "x'); DELETE FROM tracking_param; --"]


@pytest.mark.parametrize("text", INJECTIONS)
def test_sql_in_any_field_is_text(client, text):
    name = f"{uuid.uuid4().hex} {text}"
    experiment = client.create_experiment(name, tags={"said": text})
    assert client.get_experiment_by_name(name).tags["said"] == text
    run = client.create_run(experiment, run_name=text, tags={text: text}).info.run_id
    client.log_param(run, "said", text)
    client.set_tag(run, "said", text + "!")
    for refused in (client.log_param, client.set_tag):
        with pytest.raises(MlflowException, match="may only hold"):
            refused(run, text, text)
    kept = client.get_run(run)
    assert (kept.info.run_name, kept.data.params) == (text, {"said": text})
    assert (kept.data.tags[text], kept.data.tags["said"]) == (text, text + "!")
    assert client.get_metric_history(run, text) == []
    quoted = text.replace("'", "''")
    for clause in (f"params.said = '{quoted}'", f"tags.`{text}` = '{quoted}'"):
        assert [one.info.run_id for one in client.search_runs([experiment], clause)] == [run]
    for call in [
        lambda: client.get_run(text),
        lambda: client.get_experiment(text),
        lambda: client.get_logged_model(text),
    ]:
        with pytest.raises(MlflowException):
            call()


# Names that many want


def test_one_name_from_many_clients_is_made_once(server, client):
    name = f"wanted-{uuid.uuid4().hex[:8]}"

    def create(_: int) -> tuple[int, str]:
        answer = requests.post(server.url + API + "experiments/create", json={"name": name}, timeout=30)
        return answer.status_code, answer.json().get("error_code", "")

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(create, range(32)))
    assert sorted(answers) == [(200, "")] + [(400, "RESOURCE_ALREADY_EXISTS")] * 31


def test_parallel_and_nested_runs(client, experiment):
    with mlflow.start_run() as parent:

        def child(number: int) -> str:
            run = client.create_run(experiment.experiment_id, tags={"mlflow.parentRunId": parent.info.run_id})
            for step in range(20):
                client.log_metric(run.info.run_id, "m", number * 100 + step, step=step)
            client.set_terminated(run.info.run_id)
            return run.info.run_id

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            children = list(pool.map(child, range(16)))
        with mlflow.start_run(nested=True):
            mlflow.log_metric("inner", 1)
    found = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(found) == 17
    assert [client.get_run(run).data.metrics["m"] for run in children] == [n * 100 + 19 for n in range(16)]


# Artifacts


def test_tables_dictionaries_and_images(client, experiment):
    with mlflow.start_run() as run:
        mlflow.log_table({"a": [1, 2], "b": ["x", "y"]}, "table.json")
        mlflow.log_dict({"k": [1, {"n": None}]}, "folder/config.json")
        mlflow.log_text("hällo", "text.txt")
        mlflow.log_image(numpy.zeros((8, 8, 3), dtype=numpy.uint8), "black.png")
    table = mlflow.load_table("table.json", run_ids=[run.info.run_id])
    pandas.testing.assert_frame_equal(table, pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    uri = f"runs:/{run.info.run_id}"
    assert mlflow.artifacts.load_dict(f"{uri}/folder/config.json") == {"k": [1, {"n": None}]}
    assert mlflow.artifacts.load_text(f"{uri}/text.txt") == "hällo"
    assert mlflow.artifacts.load_image(f"{uri}/black.png").size == (8, 8)
    names = {entry.path for entry in client.list_artifacts(run.info.run_id)}
    assert names == {"bottega", "table.json", "folder", "text.txt", "black.png"}  # with the run's record


def test_large_files_travel_in_parts(client, experiment, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1048576")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", "1048576")
    monkeypatch.setenv("MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE", "700000")
    content = os.urandom(5 * 1048576 + 12_345)
    (tmp_path / "big model.bin").write_bytes(content)
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(tmp_path / "big model.bin"), "deep/folder")
    kept = mlflow.artifacts.download_artifacts(
        f"runs:/{run.info.run_id}/deep/folder/big model.bin", dst_path=str(tmp_path / "back")
    )
    with open(kept, "rb") as file:
        assert file.read() == content


def test_uploads_in_parts_are_checked(server):
    root = f"{server.url}/api/2.0/mlflow-artifacts"
    folder = f"0/{uuid.uuid4().hex}/artifacts"
    body = {"path": "/home/somebody/m.bin", "num_parts": 3}
    upload = requests.post(f"{root}/mpu/create/{folder}", json=body, timeout=10).json()
    urls = [credential["url"] for credential in upload["credentials"]]
    assert len(urls) == 3
    finish = {"path": "/home/somebody/m.bin", "upload_id": upload["upload_id"], "parts": []}
    assert requests.put(urls[2], data=b"end", timeout=10).status_code == 200  # the last may come first
    assert requests.put(urls[0], data=b"first", timeout=10).headers["ETag"]
    answer = requests.post(f"{root}/mpu/complete/{folder}", json=finish, timeout=10)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert requests.put(urls[1], data=b"another length", timeout=10).status_code == 400
    assert requests.put(urls[1], data=b"secon", timeout=10).status_code == 200
    assert requests.get(f"{root}/artifacts/{folder}/m.bin", timeout=10).status_code == 404
    assert requests.post(f"{root}/mpu/complete/{folder}", json=finish, timeout=10).json() == {}
    answer = requests.get(f"{root}/artifacts/{folder}/m.bin", timeout=10)
    assert answer.content == b"firstseconend"
    answer = requests.get(f"{root}/artifacts/{folder}/m.bin", headers={"Range": "bytes=5-9"}, timeout=10)
    assert (answer.status_code, answer.content) == (206, b"secon")
    assert answer.headers["Content-Range"] == "bytes 5-9/13"
    answer = requests.get(f"{root}/artifacts/{folder}/m.bin", headers={"Range": "bytes=13-"}, timeout=10)
    assert answer.status_code == 416
    assert requests.post(f"{root}/mpu/complete/{folder}", json=finish, timeout=10).status_code == 404
    other = requests.post(f"{root}/mpu/create/{folder}", json=body, timeout=10).json()
    assert (
        requests.post(f"{root}/mpu/abort/{folder}", json={**finish, "upload_id": other["upload_id"]}, timeout=10).json()
        == {}
    )
    assert requests.put(other["credentials"][0]["url"], data=b"x", timeout=10).status_code == 404
    for bad in [
        {"path": "m.bin", "num_parts": 0},
        {"path": "m.bin", "num_parts": 10_001},
        {"path": "..", "num_parts": 1},
        {"num_parts": 1},
    ]:
        assert requests.post(f"{root}/mpu/create/{folder}", json=bad, timeout=10).status_code == 400


def descriptors(server, suffix):
    """Open files of the server's process whose path ends so."""
    folder = f"/proc/{server.process.pid}/fd"
    names = []
    for number in os.listdir(folder):
        try:
            names.append(os.readlink(f"{folder}/{number}"))
        except FileNotFoundError:
            continue
    return [name for name in names if name.endswith(suffix)]


def test_large_files_come_whole_and_in_ranges(server):
    content = random.Random(7).randbytes((9 << 20) + 13)
    address = f"{server.url}/api/2.0/mlflow-artifacts/artifacts/0/{uuid.uuid4().hex}/artifacts/large.bin"
    assert requests.put(address, data=content, timeout=30).status_code == 200
    with requests.Session() as session:  # one connection: each answer ends where the next begins
        answer = session.get(address, timeout=30)
        assert answer.content == content
        tag = answer.headers["ETag"].strip('"')
        sizes = random.Random(8)
        for _ in range(40):
            start = sizes.choice([0, 1, (4 << 20) - 1, 4 << 20, (8 << 20) + 5, sizes.randrange(len(content))])
            end = min(len(content), start + sizes.choice([1, 17, 4 << 20, (4 << 20) + 1, 9 << 20]))
            answer = session.get(address, headers={"Range": f"bytes={start}-{end - 1}"}, timeout=30)
            assert (answer.status_code, answer.content == content[start:end]) == (206, True), (start, end)
        assert session.get(f"{server.url}/api/v1/models", timeout=30).status_code == 200
    assert requests.get(address, headers={"Connection": "close"}, timeout=30).content == content
    with requests.get(address, stream=True, timeout=30) as slow:  # one that reads a little and goes away
        assert slow.raw.read(1000) == content[:1000]
        assert descriptors(server, tag)
    until(lambda: not descriptors(server, tag))


def test_a_reader_that_stopped_does_not_keep_the_server(start_server):
    server = start_server()
    path = f"/api/2.0/mlflow-artifacts/artifacts/0/{uuid.uuid4().hex}/artifacts/large.bin"
    assert requests.put(server.url + path, data=bytes(20 << 20), timeout=60).status_code == 200
    place = urllib.parse.urlparse(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as stopped:
        stopped.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert stopped.recv(1000).startswith(b"HTTP/1.1 200 ")
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout=120)  # 30 s are for requests in hand
    server.process = None
    server.log.close()


@pytest.mark.parametrize("path", ["../x", "%2e%2e/x", "a/..%2fb", "a//b", "%252e%252e/x", "C:/x", "a%00b"])
def test_no_path_leaves_its_folder(server, client, experiment, path):
    run = client.create_run(experiment.experiment_id).info
    root = f"{server.url}/api/2.0/mlflow-artifacts"
    for address in [f"{root}/artifacts/{run.experiment_id}/{path}", f"{root}/presigned/{path}"]:
        answer = requests.Request("GET", address).prepare()
        answer.url = address  # as it stands, not tidied up
        assert requests.Session().send(answer, timeout=10).status_code in (400, 404)
    for query in [{"run_id": run.run_id, "path": requests.utils.unquote(path)}]:
        answer = requests.get(server.url + "/get-artifact", params=query, timeout=10)
        assert answer.status_code in (400, 404)


# Autologging, and the command line


def test_autolog_of_xgboost_and_lightgbm(client, experiment):
    lightgbm = pytest.importorskip("lightgbm")
    import xgboost

    generator = numpy.random.default_rng(5)
    inputs = generator.normal(size=(200, 3))
    labels = (inputs[:, 0] > 0).astype(int)
    mlflow.xgboost.autolog()
    mlflow.lightgbm.autolog()
    try:
        with mlflow.start_run() as first:
            data = xgboost.DMatrix(inputs, label=labels)
            xgboost.train(
                {"objective": "binary:logistic"}, data, num_boost_round=4, evals=[(data, "train")], verbose_eval=False
            )
        with mlflow.start_run() as second:
            data = lightgbm.Dataset(inputs, label=labels)
            lightgbm.train(
                {"objective": "binary", "verbose": -1},
                data,
                num_boost_round=4,
                valid_sets=[data],
                valid_names=["train"],
            )
    finally:
        mlflow.xgboost.autolog(disable=True)
        mlflow.lightgbm.autolog(disable=True)
    for run in (first, second):
        kept = client.get_run(run.info.run_id)
        assert kept.data.params and kept.data.metrics, kept
        key = next(iter(kept.data.metrics))
        assert len(client.get_metric_history(run.info.run_id, key)) == 4
        models = client.search_logged_models([experiment.experiment_id], f"source_run_id = '{run.info.run_id}'")
        assert len(models) == 1
        assert mlflow.pyfunc.load_model(models[0].model_uri).predict(inputs).shape == (200,)


def test_the_mlflow_command_line(server, client, experiment):
    environment = {**os.environ, "MLFLOW_TRACKING_URI": server.url}

    def mlflow_cli(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "mlflow", *arguments],
            env=environment, capture_output=True, text=True, check=True, timeout=120,
        ).stdout  # fmt: skip

    run = client.create_run(experiment.experiment_id, run_name="by hand").info.run_id
    assert experiment.name in mlflow_cli("experiments", "search")
    assert "by hand" in mlflow_cli("runs", "list", "--experiment-id", experiment.experiment_id)
    assert json.loads(mlflow_cli("runs", "describe", "--run-id", run))["info"]["run_id"] == run
