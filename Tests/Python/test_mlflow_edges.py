"""Names and mistakes are answered as a real MLflow server answers them: the same status and the same error code."""

from __future__ import annotations

import pathlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from conftest import Server
from mlflow_server import MLflowServer

Call = tuple[str, str, dict[str, Any]]
Verdict = tuple[int, str | None]
TIME = 1_700_000_000_000

NAMES = [
    "plain", "a b", "a/b", "a.b", "a-b_c", "a:b", "Größe", "字", "٣", "Ⅷ", "½", "²", "ª", "\U0001d4b3", "e\u0301",
    "a\u200db", "_", "-", " ", "a ", " a", ".a", "a.", "...", "..", ".", "..a", "a..", "a/..b", "a/.b", "a/../b",
    "../a", "./a", "a/.", "a/..", "a//b", "/a", "//a",
    "a/", "/", "a\\b", "a=b", "a,b", "a@b", "a#b", "a%b", "a(b)", "a[0]", "a'b", 'a"b', "a+b",
    "a&b", "a*b", "a?b", "a<b", "a|b", "a;b", "a!b", "a$b", "a\u00a0b", "🙂", "₿", "x" * 250, "x" * 251,
    "ä" * 250, "ä" * 251, "", "latest", "LATEST", "v1", "V22", "v1a",
]  # fmt: skip


class Side:
    """One of the two servers, with the same things in it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.word = uuid.uuid4().hex[:8]
        self.experiment = self.made("experiments/create", {"name": f"e-{self.word}"})["experiment_id"]
        self.run = self.made("runs/create", {"experiment_id": self.experiment})["run"]["info"]["run_id"]
        logged = self.made("logged-models", {"experiment_id": self.experiment, "name": "m"})
        self.logged = logged["model"]["info"]["model_id"]
        self.model = f"m-{self.word}"
        self.made("registered-models/create", {"name": self.model})
        self.made("model-versions/create", {"name": self.model, "source": "s3://bucket/model"})

    def send(self, method: str, path: str, body: dict[str, Any] | None) -> requests.Response:
        given = {"params": body} if method == "GET" else {"json": body}
        return self.session.request(method, f"{self.url}/api/2.0/mlflow/{path}", timeout=120, **given)

    def made(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.send("POST", path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def verdict(self, call: Call) -> Verdict:
        answer = self.send(*call)
        return answer.status_code, None if answer.ok else answer.json().get("error_code")


@pytest.fixture(scope="module")
def sides(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    reference = MLflowServer(pathlib.Path(tmp_path_factory.mktemp("reference")))
    try:
        yield Side(reference.url), Side(server.url)
    finally:
        reference.stop()


def keyed(side: Side, name: str) -> dict[str, Call]:
    """Calls with a name that is a key."""
    pair = {"key": name, "value": "v"}
    metric = {"key": name, "value": 1.0, "timestamp": TIME, "step": 1}
    model, version = {"name": side.model}, {"name": side.model, "version": "1"}
    return {
        "metric": ("POST", "runs/log-metric", {"run_id": side.run, **metric}),
        "metric of a batch": ("POST", "runs/log-batch", {"run_id": side.run, "metrics": [metric]}),
        "parameter": ("POST", "runs/log-parameter", {"run_id": side.run, **pair}),
        "parameter of a batch": ("POST", "runs/log-batch", {"run_id": side.run, "params": [pair]}),
        "tag": ("POST", "runs/set-tag", {"run_id": side.run, **pair}),
        "tag of a batch": ("POST", "runs/log-batch", {"run_id": side.run, "tags": [pair]}),
        "tag of an experiment": (
            "POST",
            "experiments/set-experiment-tag",
            {"experiment_id": side.experiment, **pair},
        ),
        "tag of a model": ("POST", "registered-models/set-tag", {**model, **pair}),
        "tag of a version": ("POST", "model-versions/set-tag", {**version, **pair}),
        "tag taken off a model": ("DELETE", "registered-models/delete-tag", {**model, "key": name}),
    }


def named(side: Side, name: str) -> dict[str, Call]:
    """Calls with a name that is a name."""
    alias = {"name": side.model, "alias": name}
    return {
        "experiment": ("POST", "experiments/create", {"name": name}),
        "model": ("POST", "registered-models/create", {"name": name}),
        "model asked for": ("GET", "registered-models/get", {"name": name}),
        "renamed model": ("POST", "registered-models/rename", {"name": f"none-{side.word}", "new_name": name}),
        "alias": ("POST", "registered-models/alias", {**alias, "version": "1"}),
        "alias asked for": ("GET", "registered-models/alias", alias),
        "alias taken off": ("DELETE", "registered-models/alias", alias),
        "logged model": ("POST", "logged-models", {"experiment_id": side.experiment, "name": name}),
    }


@pytest.mark.parametrize("calls", [keyed, named])
def test_names_are_taken_and_refused_as_by_the_reference(
    sides: tuple[Side, Side], calls: Callable[[Side, str], dict[str, Call]]
) -> None:
    reference, ours = sides
    verdicts: dict[tuple[str, str], tuple[Verdict, Verdict]] = {}
    for name in NAMES:
        there, here = calls(reference, name), calls(ours, name)
        for kind in there:
            verdicts[kind, name] = reference.verdict(there[kind]), ours.verdict(here[kind])
    different = {key: pair for key, pair in verdicts.items() if pair[0] != pair[1]}
    assert not different
    assert {status for (status, _), _ in verdicts.values()} >= {200, 400}


def test_names_that_would_break_lines_are_refused(sides: tuple[Side, Side]) -> None:
    # Stricter than the reference, whose pattern lets one line break pass at the end.
    ours = sides[1]
    for name in ("a\n", "a\tb", "a\nb", "\x7f"):
        for kind, call in (keyed(ours, name) | {"model": named(ours, name)["model"]}).items():
            if (kind, name) != ("model", "\x7f"):
                assert ours.verdict(call) == (400, "INVALID_PARAMETER_VALUE"), (kind, name)


def mistakes(side: Side) -> dict[str, Call]:
    run, model = {"run_id": side.run}, {"name": side.model}
    metric = {"key": "k", "value": 1.0, "timestamp": TIME}
    cases: dict[str, Call] = {
        "a run of no experiment": ("POST", "runs/create", {}),
        "a run of an experiment with an empty name": ("POST", "runs/create", {"experiment_id": ""}),
        "a new name that is missing": ("POST", "experiments/update", {"experiment_id": side.experiment}),
        "a metric before 1970": ("POST", "runs/log-metric", {**run, **metric, "timestamp": -1}),
        "a batch before 1970": ("POST", "runs/log-batch", {**run, "metrics": [{**metric, "timestamp": -1}]}),
        "outputs that are missing": ("POST", "runs/outputs", run),
        "logged models of no experiments": ("POST", "logged-models/search", {}),
        "no logged model": ("DELETE", "logged-models/m-none", {}),
        "an unknown version": ("GET", "model-versions/get", {**model, "version": "99"}),
        "a version that is no number": ("GET", "model-versions/get", {**model, "version": "x"}),
        "an alias of an unknown version": ("POST", "registered-models/alias", {**model, "alias": "a", "version": "99"}),
    }
    for id in ("nope", "a/b", " ", "-x", "a b", "_a", "Größe", "x" * 256, "x" * 257):
        given = {"run_id": id}
        pair = {"key": "k", "value": "v"}
        cases |= {
            f"run {id}": ("GET", "runs/get", given),
            f"history of run {id}": ("GET", "metrics/get-history", {**given, "metric_key": "k"}),
            f"histories of run {id}": ("GET", "metrics/get-history-bulk-interval", {"run_ids": id, "metric_key": "k"}),
            f"run {id} updated": ("POST", "runs/update", {**given, "status": "FINISHED"}),
            f"run {id} deleted": ("POST", "runs/delete", given),
            f"a metric of run {id}": ("POST", "runs/log-metric", {**given, **metric}),
            f"a tag of run {id}": ("POST", "runs/set-tag", {**given, **pair}),
            f"metrics of run {id}": ("POST", "runs/log-batch", {**given, "metrics": [metric]}),
            f"parameters of run {id}": ("POST", "runs/log-batch", {**given, "params": [pair]}),
            f"an empty batch of run {id}": ("POST", "runs/log-batch", given),
            f"inputs of run {id}": ("POST", "runs/log-inputs", {**given, "datasets": []}),
        }
    for method in ("GET", "POST"):
        for count in (None, 0, -1, 1, 50_001):
            given = {} if count is None else {"max_results": count}
            cases[f"experiments by {method}, {count}"] = (method, "experiments/search", given)
    for id in ("nope", "a/b", "999999", "-1"):
        given = {"experiment_id": id}
        tag = {**given, "key": "k", "value": "v"}
        cases |= {
            f"experiment {id}": ("GET", "experiments/get", given),
            f"experiment {id} renamed": ("POST", "experiments/update", {**given, "new_name": "x"}),
            f"experiment {id} deleted": ("POST", "experiments/delete", given),
            f"experiment {id} restored": ("POST", "experiments/restore", given),
            f"experiment {id} with a tag": ("POST", "experiments/set-experiment-tag", tag),
            f"a run of experiment {id}": ("POST", "runs/create", given),
            f"a model of experiment {id}": ("POST", "logged-models", {**given, "name": "m"}),
            f"runs of experiment {id}": ("POST", "runs/search", {"experiment_ids": [id]}),
            f"models of experiment {id}": ("POST", "logged-models/search", {"experiment_ids": [id]}),
        }
    for name in ("a/b", "a:b", "..", " "):
        given = {"name": name, "version": "1"}
        cases |= {
            f"versions of {name}": ("GET", "registered-models/get-latest-versions", {"name": name}),
            f"version of {name}": ("GET", "model-versions/get", given),
            f"a version for {name}": ("POST", "model-versions/create", {"name": name, "source": "s3://b/m"}),
            f"description of {name}": ("PATCH", "registered-models/update", {"name": name, "description": "d"}),
            f"deleted {name}": ("DELETE", "registered-models/delete", {"name": name}),
        }
    return cases


def test_mistakes_have_the_status_and_the_code_of_the_reference(sides: tuple[Side, Side]) -> None:
    there, here = mistakes(sides[0]), mistakes(sides[1])
    verdicts = {case: (sides[0].verdict(there[case]), sides[1].verdict(here[case])) for case in there}
    assert not {case: pair for case, pair in verdicts.items() if pair[0] != pair[1]}


def test_a_logged_model_is_deleted_twice(sides: tuple[Side, Side]) -> None:
    for side in sides:
        made = side.made("logged-models", {"experiment_id": side.experiment, "name": "gone"})
        path = f"logged-models/{made['model']['info']['model_id']}"
        assert [side.send("DELETE", path, {}).status_code for _ in range(2)] == [200, 200]
        assert side.send("GET", path, {}).status_code == 404


def test_what_nobody_said_of_a_version_reads_as_with_the_reference(sides: tuple[Side, Side]) -> None:
    texts = ("description", "run_id", "run_link", "model_id")
    read = []
    for side in sides:
        name = f"told-{side.word}"
        answers = [side.made("registered-models/create", {"name": name, "description": ""})["registered_model"]]
        for more in ({}, {"description": "d", "run_id": side.run}, {"description": "", "run_id": "", "run_link": ""}):
            made = side.made("model-versions/create", {"name": name, "source": "s3://b/m", **more})["model_version"]
            got = side.send("GET", "model-versions/get", {"name": name, "version": made["version"]}).json()
            answers += [made, got["model_version"]]
        logged = side.send("GET", f"logged-models/{side.logged}", {}).json()["model"]["info"]
        read.append(
            [{text: str(answer.get(text)).replace(side.run, "RUN") for text in texts} for answer in answers]
            + [{text: logged.get(text) for text in ("model_type", "source_run_id")}]
        )
    assert read[0] == read[1]


def test_what_the_server_refuses_in_front_of_a_route_has_the_clients_shape(server: Server) -> None:
    json = {"Content-Type": "application/json"}
    foreign = {"Host": "evil.example", **json}
    cases: list[tuple[str, str, dict[str, str], bytes, int, str]] = [
        ("GET", "/ajax-api/no/such/call", {}, b"", 404, "ENDPOINT_NOT_FOUND"),
        ("HEAD", "/api/3.0/mlflow/no-such-call", {}, b"", 404, "ENDPOINT_NOT_FOUND"),
        ("DELETE", "/get-artifact", {}, b"", 405, "ENDPOINT_NOT_FOUND"),
        ("POST", "/api/2.0/mlflow/runs/create", json, b" " * (17 << 20), 413, "INVALID_PARAMETER_VALUE"),
        ("POST", "/api/2.0/mlflow/runs/create", foreign, b"{}", 403, "PERMISSION_DENIED"),
        ("POST", "/v1/traces", foreign, b"{}", 403, "PERMISSION_DENIED"),
        ("POST", "/api/2.0/mlflow/runs/create", {"Origin": "http://evil.example"}, b"{}", 403, "PERMISSION_DENIED"),
    ]
    for method, path, headers, body, status, code in cases:
        answer = requests.request(method, server.url + path, headers=headers, data=body, timeout=120)
        assert answer.status_code == status, (method, path, answer.text[:200])
        assert method == "HEAD" or answer.json()["error_code"] == code, (method, path, answer.text[:200])
    answer = requests.get(f"{server.url}/api/v1/no-such-call", timeout=120)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
