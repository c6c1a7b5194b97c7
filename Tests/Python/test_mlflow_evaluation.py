"""Datasets of evaluations and scorers: the same program finds the same with a real MLflow server and here."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pathlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
import pandas
import pytest
import requests
from conftest import Server
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.genai import datasets
from mlflow.genai.judges import make_judge
from mlflow.genai.scorers import Guidelines, delete_scorer, get_scorer, list_scorers, scorer
from mlflow.genai.scorers.registry import list_scorer_versions
from mlflow_server import MLflowServer


class Side:
    """One of the two servers, with experiments of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = MlflowClient(url, registry_uri=url)
        self.word = uuid.uuid4().hex[:8]
        names = ("first", "second", "deleted")
        self.experiments = {name: self.client.create_experiment(f"{name}-{self.word}") for name in names}
        self.client.delete_experiment(self.experiments["deleted"])

    def use(self) -> None:
        mlflow.set_tracking_uri(self.url)
        mlflow.set_experiment(experiment_id=self.experiments["first"])

    def names(self, experiments: list[str]) -> list[str]:
        known = {number: name for name, number in self.experiments.items()}
        return [known[number] for number in experiments]

    def send(self, method: str, path: str, body: dict[str, Any]) -> requests.Response:
        given = {"params": body} if method == "GET" else {"json": body}
        return requests.request(method, f"{self.url}/api/3.0/mlflow/{path}", timeout=120, **given)


@pytest.fixture(scope="module")
def sides(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    reference = MLflowServer(pathlib.Path(tmp_path_factory.mktemp("reference")))
    try:
        yield Side(reference.url), Side(server.url)
    finally:
        reference.stop()


def code(work: Callable[[], Any]) -> str:
    """The error code that a call ends with."""
    with pytest.raises(MlflowException) as failure:
        work()
    return failure.value.error_code


def both(sides: tuple[Side, Side], program: Callable[[Side], Any]) -> Any:
    """What a program finds, which must be the same with both."""
    found = []
    for side in sides:
        side.use()
        found.append(program(side))
    assert found[0] == found[1]
    return found[1]


def plain(value: Any) -> Any:
    """A value in which NaN, which only Python's JSON has, is nothing."""
    return None if isinstance(value, float) and math.isnan(value) else value


def rows(dataset: Any) -> list[dict[str, Any]]:
    """The records of a dataset without their identity and times, in an order of their own."""
    frame = datasets.get_dataset(dataset_id=dataset.dataset_id).to_df()
    columns = list(frame.columns)
    assert columns == [
        "inputs", "outputs", "expectations", "tags", "source_type", "source_id", "source", "created_time",
        "dataset_record_id",
    ]  # fmt: skip
    records = []
    for record in frame.to_dict("records"):
        identity, made = record.pop("dataset_record_id"), record.pop("created_time")
        assert identity.startswith("dr-") and len(identity) == 35 and made > 1_700_000_000_000
        source = record.pop("source")
        tags = {key: value for key, value in record.pop("tags").items() if key != "mlflow.user"}
        record = {key: plain(value) for key, value in record.items()}
        records.append({**record, "tags": tags, "source": source and source.to_dict()})
    return sorted(records, key=lambda record: json.dumps(record["inputs"], sort_keys=True))


def told(side: Side, dataset: Any) -> dict[str, Any]:
    """What is known of a dataset, without its identity and times."""
    assert dataset.dataset_id.startswith("d-") and len(dataset.dataset_id) == 34
    assert dataset.last_update_time >= dataset.created_time > 1_700_000_000_000
    return {
        "name": dataset.name.replace(side.word, ""), "tags": dataset.tags, "by": dataset.created_by,
        "changed by": dataset.last_updated_by, "schema": dataset.schema and json.loads(dataset.schema),
        "profile": dataset.profile and json.loads(dataset.profile), "experiments": side.names(dataset.experiment_ids),
    }  # fmt: skip


def digest(dataset: Any) -> str:
    return hashlib.sha256(f"{dataset.name}:{dataset.last_update_time}".encode()).hexdigest()[:8]


def test_records_are_merged_by_their_inputs(sides: tuple[Side, Side]) -> None:
    def program(side: Side) -> Any:
        dataset = datasets.create_dataset(
            f"qa-{side.word}", experiment_id=[side.experiments["second"], side.experiments["first"]],
            tags={"team": "delays", "mlflow.user": "ada"},
        )  # fmt: skip
        found = [told(side, dataset), rows(dataset)]
        assert dataset.digest == digest(dataset)
        dataset.merge_records(
            [
                {"inputs": {"question": "why?", "k": 1}, "expectations": {"answer": "ä/ö 🙂", "score": 0.5}},
                {"inputs": {"question": "why?", "k": 1.0}, "outputs": {"text": "so", "n": 3}},
                {"inputs": {"question": "how?", "deep": {"list": [1, None, True]}}, "tags": {"kind": "hard"}},
                {"inputs": {"q": 1}, "outputs": None, "source": {"source_type": "document", "source_data": {"p": 2}}},
                {"inputs": {"q": 2}, "source": {"source_type": "TRACE", "source_data": {"trace_id": "tr-1"}}},
                {"inputs": {}, "expectations": {}},
            ]
        )
        stored = datasets.get_dataset(dataset_id=dataset.dataset_id)
        assert stored.digest == digest(stored)
        found += [{**told(side, stored), "changed by": None}, rows(dataset)]
        dataset.merge_records(
            [
                {"inputs": {"k": 1, "question": "why?"}, "expectations": {"score": 0.75}, "tags": {"seen": "twice"}},
                {"inputs": {"question": "why?", "k": 1.0}, "outputs": "another"},
                {"inputs": {"q": 2}, "source": {"source_type": "HUMAN", "source_data": {}}},
                {"inputs": {"new": "one"}, "outputs": [1, 2]},
                {"inputs": {"new": "one"}, "expectations": {"late": True}},
            ]
        )
        frame = pandas.DataFrame([{"inputs": {"frame": 1}, "outputs": 2.0}, {"inputs": {"frame": 2}}])
        dataset.merge_records(frame)
        found += [{**told(side, datasets.get_dataset(name=dataset.name)), "changed by": None}, rows(dataset)]
        return found

    found = both(sides, program)
    assert found[4]["profile"] == {"num_records": 9} and found[4]["experiments"] == ["first", "second"]
    assert found[4]["schema"]["inputs"]["deep"] == "object"
    merged = [record for record in found[5] if record["inputs"] == {"question": "why?", "k": 1}]
    assert {"answer": "ä/ö 🙂", "score": 0.75} in [record["expectations"] for record in merged]


def test_an_evaluation_reads_a_dataset_and_logs_it(sides: tuple[Side, Side]) -> None:
    @scorer
    def is_right(outputs: Any, expectations: dict[str, Any]) -> bool:
        return outputs == expectations["answer"]

    def program(side: Side) -> Any:
        dataset = datasets.create_dataset(f"e-{side.word}", experiment_id=side.experiments["first"])
        dataset.merge_records(
            [{"inputs": {"number": n}, "expectations": {"answer": n * 2 if n else 7}} for n in range(4)]
        )
        stored = datasets.get_dataset(dataset_id=dataset.dataset_id)
        result = mlflow.genai.evaluate(data=stored, predict_fn=lambda number: number * 2, scorers=[is_right])
        run = side.client.get_run(result.run_id)
        [given] = run.inputs.dataset_inputs
        assert given.dataset.digest == stored.digest and given.dataset.name == stored.name
        mlflow.flush_trace_async_logging()
        traces = mlflow.search_traces(locations=[side.experiments["first"]], run_id=result.run_id, return_type="list")
        return result.metrics, run.info.status, given.dataset.source_type, len(traces)

    metrics, *rest = both(sides, program)
    assert metrics == {"is_right/mean": 0.75} and rest[2] == 4


def test_records_are_deleted_and_come_in_pages(sides: tuple[Side, Side]) -> None:
    def program(side: Side) -> Any:
        dataset = datasets.create_dataset(f"pages-{side.word}", experiment_id=side.experiments["first"])
        dataset.merge_records([{"inputs": {"n": n}, "expectations": {"m": n * n}} for n in range(2500)])
        assert len(dataset.to_df()) == 2500
        store = mlflow.tracking._tracking_service.utils._get_store()
        seen, token, sizes = [], None, []
        while not sizes or token:
            page, token = store._load_dataset_records(dataset.dataset_id, max_results=999, page_token=token)
            sizes.append(len(page))
            seen += [record.inputs["n"] for record in page]
        assert sorted(seen) == list(range(2500))
        some = dataset.to_df()["dataset_record_id"].tolist()[:2000]
        deleted = [dataset.delete_records(some), dataset.delete_records(some[:3]), dataset.delete_records([])]
        left = told(side, datasets.get_dataset(dataset_id=dataset.dataset_id))
        dataset.delete_records(dataset.to_df()["dataset_record_id"].tolist())
        last = datasets.get_dataset(dataset_id=dataset.dataset_id)
        return sizes, deleted, left["profile"], len(dataset.to_df()), last.profile

    assert both(sides, program) == ([999, 999, 502], [2000, 0, 0], {"num_records": 500}, 0, "null")


def test_datasets_are_searched_tagged_and_moved(sides: tuple[Side, Side]) -> None:
    def program(side: Side) -> Any:
        mine = f"s-{side.word}"
        made = [
            datasets.create_dataset(
                f"{mine}-{name}", experiment_id=side.experiments[experiment],
                tags={"n": str(index), "mlflow.user": name},
            )
            for index, (name, experiment) in enumerate([("b", "first"), ("a", "second"), ("c", "first")])
        ]  # fmt: skip

        def search(text: str, **more: Any) -> list[str]:
            found = datasets.search_datasets(filter_string=f"name LIKE '{mine}%'{text}", **more)
            return [dataset.name[len(mine) + 1 :] for dataset in found]

        found: list[Any] = [
            sorted(search("")), search("", order_by=["name"]), search("", order_by=["name DESC"]),
            search("", order_by=["name"], max_results=2), search(" AND tags.n = '1'"), search(" AND created_by = 'c'"),
            search(" AND tags.n != '1'", order_by=["name"]), search(" AND created_time > 0", order_by=["name"]),
            search(" AND created_time < 1000"), search(f" AND name ILIKE '{mine.upper()}-A'"),
            search(" AND created_by != 'a'", order_by=["name"]), search(" AND tags.none = 'x'"),
            search("", experiment_ids=side.experiments["second"]), search("", experiment_ids=["987654"]),
            search("", experiment_ids=[side.experiments["first"]], order_by=["name"]),
            search(f" AND name IN ('{mine}-a', '{mine}-x')"),
        ]  # fmt: skip
        page = side.client.search_datasets(filter_string=f"name LIKE '{mine}%'", max_results=2, order_by=["name"])
        rest = side.client.search_datasets(
            filter_string=f"name LIKE '{mine}%'", max_results=2, order_by=["name"], page_token=page.token
        )
        found += [[d.name[-1] for d in page], [d.name[-1] for d in rest], rest.token]
        for text in ("nope = 'x'", "params.x = 'y'", "created_time = 'x'"):
            found.append(code(lambda text=text: datasets.search_datasets(filter_string=text)))
        found.append(code(lambda: datasets.search_datasets(filter_string="name = 'x'", order_by=["created_by"])))

        first = made[0].dataset_id
        datasets.set_dataset_tags(first, {"n": "7", "more": "x", "count": 3})
        datasets.delete_dataset_tag(first, "more")
        datasets.delete_dataset_tag(first, "more")
        datasets.add_dataset_to_experiments(first, [side.experiments["second"], side.experiments["first"]])
        found.append(told(side, datasets.get_dataset(dataset_id=first)))
        datasets.remove_dataset_from_experiments(first, [side.experiments["first"], "4711"])
        found.append(told(side, datasets.get_dataset(dataset_id=first)))
        found.append(code(lambda: datasets.set_dataset_tags("d-none", {"a": "b"})))
        found.append(code(lambda: datasets.add_dataset_to_experiments(first, ["987654"])))
        found.append(code(lambda: datasets.add_dataset_to_experiments("d-none", [side.experiments["first"]])))
        datasets.delete_dataset(dataset_id=first)
        datasets.delete_dataset(dataset_id=first)
        datasets.delete_dataset_tag(first, "n")
        found.append(code(lambda: datasets.get_dataset(dataset_id=first)))
        found.append(code(lambda: made[0].merge_records([{"inputs": {"a": 1}}])))
        return found

    found = both(sides, program)
    assert found[0] == ["a", "b", "c"] and found[2] == ["c", "b", "a"]


def test_scorers_have_versions(sides: tuple[Side, Side]) -> None:
    def judge(text: str) -> Any:
        return make_judge(name="kind", instructions=f"{text} {{{{ outputs }}}}?", model="openai:/gpt-4o")

    def program(side: Side) -> Any:
        here = side.experiments["second"]

        def seen(scorer: Any) -> Any:
            return scorer.name, getattr(scorer, "instructions", None), scorer.sample_rate

        registered = [
            judge("Is it kind:").register(experiment_id=here),
            judge("Is it very kind:").register(experiment_id=here),
            Guidelines(name="manners", guidelines=["be kind", "be short"]).register(experiment_id=here),
            judge("Elsewhere").register(experiment_id=side.experiments["first"]),
        ]
        found: list[Any] = [[seen(scorer) for scorer in registered]]
        found.append([seen(scorer) for scorer in list_scorers(experiment_id=here)])
        found.append([(seen(s), version) for s, version in list_scorer_versions(name="kind", experiment_id=here)])
        found.append(seen(get_scorer(name="kind", experiment_id=here)))
        found.append(seen(get_scorer(name="kind", experiment_id=here, version=1)))
        found.append(get_scorer(name="manners", experiment_id=here).guidelines)
        across = {"experiment_ids": [side.experiments["first"], here]}
        answer = side.send("GET", "scorers/list", across).json()["scorers"]
        assert all(len(scorer["scorer_id"]) == 36 and scorer["creation_time"] > 0 for scorer in answer)
        found.append([(s["scorer_name"], s["scorer_version"], s["experiment_id"] == int(here)) for s in answer])
        found.append([json.loads(s["serialized_scorer"])["name"] for s in answer])
        for version in (3, 0):
            found.append(code(lambda version=version: get_scorer(name="kind", experiment_id=here, version=version)))
        found.append(code(lambda: get_scorer(name="none", experiment_id=here)))
        found.append(code(lambda: list_scorers(experiment_id="987654")))
        found.append(code(lambda: list_scorers(experiment_id=side.experiments["deleted"])))
        delete_scorer(name="kind", experiment_id=here, version=2)
        found.append([seen(s) for s in list_scorers(experiment_id=here)])
        again = judge("Once more").register(experiment_id=here)
        found.append([version for _, version in list_scorer_versions(name="kind", experiment_id=here)])
        found.append(code(lambda: delete_scorer(name="kind", experiment_id=here, version=9)))
        delete_scorer(name="kind", experiment_id=here, version="all")
        found.append([seen(s) for s in list_scorers(experiment_id=here)])
        found.append(code(lambda: delete_scorer(name="kind", experiment_id=here, version="all")))
        found.append(seen(get_scorer(name="kind", experiment_id=side.experiments["first"])))
        return [*found, seen(again)]

    found = both(sides, program)
    assert [scorer[0] for scorer in found[1]] == ["kind", "manners"]


def test_mistakes_have_the_status_and_the_code_of_the_reference(sides: tuple[Side, Side]) -> None:
    def verdicts(side: Side) -> dict[str, tuple[int, str | None]]:
        made = side.send("POST", "datasets/create", {"name": f"m-{side.word}"}).json()["dataset"]
        dataset = f"datasets/{made['dataset_id']}"
        given = {"experiment_id": side.experiments["first"], "name": "s"}
        judged = {"instructions_judge_pydantic_data": {"instructions": "x", "model": "gateway:/none"}}
        nested = {"ensemble_scorer_data": {"scorers": [{"call_source": "return 1"}]}}
        source = [{"inputs": {"a": 1}, "source": {"source_type": "rumour"}}]
        calls = {
            "no name": ("POST", "datasets/create", {}),
            "an empty name": ("POST", "datasets/create", {"name": ""}),
            "a name that is no text": ("POST", "datasets/create", {"name": 7}),
            "no dataset": ("GET", "datasets/d-none", {}),
            "no dataset to delete": ("DELETE", "datasets/d-none", {}),
            "experiments of no dataset": ("GET", "datasets/d-none/experiment-ids", {}),
            "records of no dataset": ("GET", "datasets/d-none/records", {}),
            "no records": ("POST", f"{dataset}/records", {}),
            "an empty list of records": ("POST", f"{dataset}/records", {"records": "[]"}),
            "a source of no kind": ("POST", f"{dataset}/records", {"records": json.dumps(source)}),
            "records of no list": ("DELETE", f"{dataset}/records", {"dataset_record_ids": "x"}),
            "no tags": ("PATCH", f"{dataset}/tags", {}),
            "tags of no dataset": ("PATCH", "datasets/d-none/tags", {"tags": "{}"}),
            "an unknown experiment": ("POST", f"{dataset}/add-experiments", {"experiment_ids": ["987654"]}),
            "a scorer of no name": ("POST", "scorers/register", {**given, "name": " ", "serialized_scorer": "{}"}),
            "a scorer of nothing": ("POST", "scorers/register", given),
            "a scorer that is no JSON": ("POST", "scorers/register", {**given, "serialized_scorer": "{"}),
            "a scorer with code": ("POST", "scorers/register", {**given, "serialized_scorer": '{"call_source": "x"}'}),
            "code deep inside": ("POST", "scorers/register", {**given, "serialized_scorer": json.dumps(nested)}),
            "a model of a gateway": ("POST", "scorers/register", {**given, "serialized_scorer": json.dumps(judged)}),
            "no experiment": (
                "POST", "scorers/register", {**given, "experiment_id": "987654", "serialized_scorer": "{}"}
            ),
            "a deleted experiment": (
                "POST", "scorers/register",
                {**given, "experiment_id": side.experiments["deleted"], "serialized_scorer": "{}"},
            ),
            "scorers of an experiment that is no number": ("GET", "scorers/list", {"experiment_ids": ["a/b"]}),
            "scorers of unknown experiments": ("GET", "scorers/list", {"experiment_ids": ["987654"]}),
            "scorers of two questions": ("GET", "scorers/list", {"experiment_id": "0", "experiment_ids": ["0"]}),
            "no scorer": ("GET", "scorers/get", {**given, "name": "none"}),
            "a version that is no number": ("GET", "scorers/get", {**given, "version": "x"}),
            "versions of no scorer": ("GET", "scorers/versions", {**given, "name": "none"}),
            "no scorer to delete": ("DELETE", "scorers/delete", {**given, "name": "none"}),
        }  # fmt: skip
        answers = {case: side.send(*call) for case, call in calls.items()}
        return {case: (a.status_code, None if a.ok else a.json().get("error_code")) for case, a in answers.items()}

    there, here = (verdicts(side) for side in sides)
    assert {case: (there[case], here[case]) for case in there if there[case] != here[case]} == {}
    assert {status for status, _ in here.values()} == {200, 400, 404}


def test_what_the_reference_fails_at_is_refused(sides: tuple[Side, Side]) -> None:
    ours = sides[1]
    made = ours.send("POST", "datasets/create", {"name": "strict"}).json()["dataset"]
    path = f"datasets/{made['dataset_id']}"
    wrong = [
        "{",
        "7",
        "[7]",
        '[{"inputs": 7}]',
        '[{"inputs": {}, "expectations": []}]',
        '[{"inputs": {}, "tags": "x"}]',
    ]
    for text in wrong:
        answer = ours.send("POST", f"{path}/records", {"records": text})
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), text
    one = [{"inputs": {"x": 1}}]
    assert ours.send("POST", "datasets/d-none/records", {"records": json.dumps(one)}).status_code == 404
    assert ours.send("POST", "datasets/create", {"name": "x", "experiment_ids": ["987654"]}).status_code == 404
    assert ours.send("POST", "datasets/create", {"name": "x" * 256}).status_code == 400
    large = json.dumps([{"inputs": {"x": "y" * (5 << 20)}}])
    answer = ours.send("POST", f"{path}/records", {"records": large})
    assert answer.status_code == 400 and "4194304" in answer.json()["message"]
    assert ours.send("GET", f"{path}/records", {}).json()["records"] == "[]"
    answer = ours.send("POST", f"{path}/records", {"records": json.dumps([{"inputs": {"x": "y" * (33 << 20)}}])})
    assert (answer.status_code, answer.json()["error_code"]) == (413, "INVALID_PARAMETER_VALUE")


def test_a_page_of_records_ends_where_it_would_be_too_long(sides: tuple[Side, Side]) -> None:
    ours = sides[1]
    ours.use()
    dataset = datasets.create_dataset(f"long-{ours.word}", experiment_id=ours.experiments["first"])
    for part in range(3):
        dataset.merge_records([{"inputs": {"n": part * 3 + n, "text": "x" * (3 << 20)}} for n in range(3)])
    first = ours.send("GET", f"datasets/{dataset.dataset_id}/records", {"max_results": 1000}).json()
    assert first["next_page_token"] and len(json.loads(first["records"])) == 5
    assert sorted(inputs["n"] for inputs in dataset.to_df()["inputs"]) == list(range(9))


def test_numbers_that_json_has_not_are_nothing(sides: tuple[Side, Side]) -> None:
    ours = sides[1]
    ours.use()
    dataset = datasets.create_dataset(f"nan-{ours.word}", experiment_id=ours.experiments["first"])
    dataset.merge_records([{"inputs": {"a": math.nan}, "outputs": {"b": math.inf, "c": "NaN"}}])
    [record] = dataset.to_df().to_dict("records")
    assert (record["inputs"], record["outputs"]) == ({"a": None}, {"b": None, "c": "NaN"})


def test_nothing_here_runs_a_scorer(sides: tuple[Side, Side]) -> None:
    ours = sides[1]
    ours.use()
    made = make_judge(name="watch", instructions="Is {{ outputs }} good?", model="openai:/gpt-4o").register(
        experiment_id=ours.experiments["first"]
    )
    answer = ours.send("PUT", "scorers/online-config", {"experiment_id": "0", "name": "watch", "sample_rate": 1})
    assert (answer.status_code, answer.json()["error_code"]) == (501, "NOT_IMPLEMENTED")
    with pytest.raises(MlflowException):
        made.start(sampling_config=mlflow.genai.scorers.ScorerSamplingConfig(sample_rate=0.5))


def test_changes_are_in_the_audit_chain(server: Server, sides: tuple[Side, Side]) -> None:
    ours = sides[1]
    ours.use()
    dataset = datasets.create_dataset(f"audited-{ours.word}", experiment_id=ours.experiments["first"])
    dataset.merge_records([{"inputs": {"a": 1}}])
    datasets.set_dataset_tags(dataset_id=dataset.dataset_id, tags={"team": "secret words"})
    datasets.delete_dataset_tag(dataset_id=dataset.dataset_id, key="team")
    more = [ours.experiments["second"]]
    datasets.add_dataset_to_experiments(dataset_id=dataset.dataset_id, experiment_ids=more)
    datasets.remove_dataset_from_experiments(dataset_id=dataset.dataset_id, experiment_ids=more)
    assert ours.send("PATCH", f"datasets/{dataset.dataset_id}/tags", {}).status_code == 400
    dataset.delete_records(dataset.to_df()["dataset_record_id"].tolist())
    datasets.delete_dataset(dataset_id=dataset.dataset_id)
    make_judge(name=f"audited-{ours.word}", instructions="Is {{ outputs }} good?", model="openai:/gpt-4o").register(
        experiment_id=ours.experiments["first"]
    )
    delete_scorer(name=f"audited-{ours.word}", experiment_id=ours.experiments["first"], version="all")
    for subject, actions in {
        f"evaluation_dataset/{dataset.name}": ["evaluation_dataset.created"],
        f"evaluation_dataset/{dataset.dataset_id}": [
            "evaluation_dataset.records_merged", "evaluation_dataset.tagged", "evaluation_dataset.tag_deleted",
            "evaluation_dataset.experiments_added", "evaluation_dataset.experiments_removed",
            "evaluation_dataset.records_deleted", "evaluation_dataset.deleted",
        ],
        f"scorer/audited-{ours.word}": ["scorer.registered", "scorer.deleted"],
    }.items():  # fmt: skip
        entries = server.get(f"/api/v1/audit?subject={subject}")["entries"]
        assert [entry["action"] for entry in entries] == actions, entries
    changes = server.get(f"/api/v1/audit?subject=evaluation_dataset/{dataset.dataset_id}")["entries"]
    assert [entry.get("after") for entry in changes[2:5]] == [
        {"key": "team"}, {"experiment_ids": more}, {"experiment_ids": more},
    ]  # fmt: skip
    assert "secret words" not in json.dumps(changes), "what was tagged is data"


def test_datasets_and_scorers_survive_a_kill(start_server: Callable[..., Server]) -> None:
    server = start_server()
    side = Side(server.url)
    side.use()
    dataset = datasets.create_dataset("kept", experiment_id=side.experiments["first"])
    dataset.merge_records([{"inputs": {"a": 1}, "expectations": {"b": 2}}])
    make_judge(name="kept", instructions="Is {{ outputs }} good?", model="openai:/gpt-4o").register(
        experiment_id=side.experiments["first"]
    )
    server.kill()
    server.start()
    mlflow.set_tracking_uri(server.url)
    [record] = datasets.get_dataset(dataset_id=dataset.dataset_id).to_df().to_dict("records")
    assert (record["inputs"], record["expectations"]) == ({"a": 1}, {"b": 2})
    assert get_scorer(name="kept", experiment_id=side.experiments["first"]).name == "kept"
