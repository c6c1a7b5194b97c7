"""One class for each layer of the platform; each call is one request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from bottega.errors import Refused, UnsupportedValue
from bottega.models import JSON, Dataset, Moment, Operation, StageDecision
from bottega.values import columns, encode_lines, plain, rows

if TYPE_CHECKING:
    from bottega.client import Client


Frame = Any  # a pandas data frame: pandas need not be there
Rows = list[JSON]  # inside the resources, `list` is the name of a call


def predict_body(entities: Mapping[str, str | None], features: Mapping[str, Any] | None) -> JSON:
    return {"entities": dict(entities), "features": dict(features or {})}


def frame_instances(frame: Frame, entities: Sequence[str] | None) -> Iterator[JSON]:
    """The rows of a data frame as what a prediction asks about."""
    names = columns(frame)
    if entities is None:
        raise UnsupportedValue(
            f"say which columns of the data frame are keys of entities: entities=[…] out of {', '.join(names)}"
        )
    if missing := [name for name in entities if name not in names]:
        raise UnsupportedValue(f"the data frame has no such column, but {', '.join(names)}", column=missing[0])
    for row in rows(frame):
        yield predict_body(
            {name: row[name] for name in entities}, {name: row[name] for name in names if name not in entities}
        )


def part(text: object) -> str:
    """A value as one segment of a path."""
    return quote(str(text), safe="")


class Resource:
    def __init__(self, client: Client) -> None:
        self._client = client

    def _operation(self, document: JSON) -> Operation:
        return self._client.operation(document)

    def _list(self, path: str, key: str, query: dict[str, Any] | None = None) -> list[JSON]:
        document = self._client.get(path, query)
        return list(document.get(key, [])) if isinstance(document, dict) else list(document)


class Definitions(Resource):
    """What is defined."""

    def apply(self, folder: str | Path, *, dry_run: bool = False, confirmed: bool = False) -> JSON:
        """Makes the YAML files of a folder the platform's definitions, or says what that would change.

        ``confirmed`` lets rows leave their tables where a source's retention became shorter.
        """
        base = Path(folder).resolve()
        files = [
            {"path": str(path), "folder": str(path.parent), "text": path.read_text(encoding="utf-8")}
            for path in sorted([*base.glob("*.yaml"), *base.glob("*.yml")])
        ]
        body = {"files": files, "dry_run": dry_run, "confirmed": confirmed}
        result: JSON = self._client.post("/api/v1/apply", body)
        return result

    def list(self) -> Any:
        """All definitions."""
        return self._client.get("/api/v1/definitions")


class Sources(Resource):
    """Where raw rows come in."""

    def list(self) -> list[JSON]:
        """All sources with their counts."""
        return self._list("/api/v1/sources", "sources")

    def load(self, source: str, file: str | Path, *, format: str | None = None) -> Operation:
        """Loads a file; the same bytes twice change nothing."""
        path = Path(file)
        query = urlencode({"name": path.name, "format": format or path.suffix.lstrip(".") or "csv"})
        headers = {"content-type": "application/octet-stream"}
        answer = self._client.post_bytes(f"/api/v1/sources/{part(source)}/load?{query}", path.read_bytes(), headers)
        return self._operation(answer)

    def quarantine(self, source: str, *, limit: int | None = None) -> Rows:
        """Rows that broke the source's contract, with the reason."""
        return self._list(f"/api/v1/sources/{part(source)}/quarantine", "rows", {"limit": limit})


class Events(Resource):
    """Rows as they happen."""

    def push(
        self, source: str, events: Iterable[Mapping[str, Any]] | Frame, *, idempotency_key: str | None = None
    ) -> JSON:
        """Sends mappings or a data frame of pandas; when this returns they are durable and a prediction sees them."""
        body = encode_lines(events)
        headers = {"content-type": "application/x-ndjson"}
        if idempotency_key:
            headers["idempotency-key"] = idempotency_key
        answer: JSON = self._client.post_bytes(f"/sources/{part(source)}/events", body, headers)
        return answer


class Features(Resource):
    """Feature values as a prediction would read them."""

    def online(
        self, view: str, entities: Sequence[Mapping[str, str | None]], *, features: Sequence[str] | None = None
    ) -> JSON:
        """The newest values of a view for each entity."""
        document: JSON = {"entities": [dict(entity) for entity in entities]}
        if features is not None:
            document["features"] = list(features)
        answer: JSON = self._client.post(f"/features/groups/{part(view)}/get-online", document)
        return answer


class Datasets(Resource):
    """Point-in-time training sets, named by the hash of their content."""

    def list(self, *, training_set: str | None = None, limit: int | None = None) -> Rows:
        """Those that were built, newest first: hash, service, span, rows and when."""
        return self._list("/api/v1/datasets", "datasets", {"training_set": training_set, "limit": limit})

    def build(self, training_set: str, *, start: Moment, end: Moment, as_of: Moment | None = None) -> Operation:
        """Builds the rows with event times from `start` up to `end`; the result's `dataset` is the hash."""
        document = {"training_set": training_set, "from": plain(start, ("start",)), "to": plain(end, ("end",))}
        if as_of is not None:
            document["as_of"] = plain(as_of, ("as_of",))
        return self._operation(self._client.post("/api/v1/datasets", document))

    def get(self, dataset: str) -> Dataset:
        """One dataset, by its hash or the hash's first 8 digits or more."""
        return Dataset.read(self._client.get(f"/api/v1/datasets/{part(dataset)}"), self._client)


class TrainingJobs(Resource):
    """Runs of training commands."""

    def start(
        self, model: str, dataset: str, *, seed: int | None = None, parameters: Mapping[str, Any] | None = None
    ) -> Operation:
        """Starts a job; its id is `operation.document["id"]`."""
        document: JSON = {"model": model, "dataset": dataset}
        if seed is not None:
            document["seed"] = seed
        if parameters:
            document["parameters"] = dict(parameters)
        return self._operation(self._client.post("/training-jobs", document))

    def get(self, job: str) -> JSON:
        """One job."""
        answer: JSON = self._client.get(f"/training-jobs/{part(job)}")
        return answer


class Models(Resource):
    """Models and their versions."""

    def list(self) -> list[JSON]:
        """All models."""
        return self._list("/api/v1/models", "models")

    def get(self, model: str) -> JSON:
        """One model with its versions."""
        answer: JSON = self._client.get(f"/api/v1/models/{part(model)}")
        return answer

    def version(self, model: str, version: int) -> JSON:
        """One version with its lineage and stage history."""
        answer: JSON = self._client.get(f"/api/v1/models/{part(model)}/versions/{version}")
        return answer

    def register(self, model: str, *, job: str | None = None, run_id: str | None = None, dataset: str = "") -> JSON:
        """Makes a version of what a job, or a run on a dataset, has logged."""
        document = {"job": job} if job else {"run_id": run_id, "dataset": dataset}
        answer: JSON = self._client.post(f"/api/v1/models/{part(model)}/versions", document)
        return answer

    def set_stage(self, model: str, version: int, stage: str, *, reason: str) -> StageDecision:
        """Asks for a stage. A refusal is an answer and no exception: its gates say why."""
        path = f"/api/v1/models/{part(model)}/versions/{version}/stage"
        response = self._client.post_response(path, {"stage": stage, "reason": reason})
        try:
            document = response.json()
        except Refused as refusal:
            document = refusal.details
            gates = document.get("gates") or document.get("error", {}).get("gates") or []
            return StageDecision(accepted=False, stage=stage, gates=gates, document=document)
        gates = document.get("gates") or []
        return StageDecision(accepted=True, stage=str(document.get("stage", stage)), gates=gates, document=document)

    def deploy(self, model: str, version: int, *, reason: str, traffic: float = 1.0) -> JSON:
        """Gives a version a share of the traffic."""
        path = f"/models/{part(model)}/versions/{version}/deploy"
        answer: JSON = self._client.post(path, {"traffic": traffic, "reason": reason})
        return answer

    def replay(self, model: str, *, count: int, seed: int = 0) -> JSON:
        """Computes logged predictions again and compares them bit for bit."""
        answer: JSON = self._client.post("/api/v1/replay", {"model": model, "count": count, "seed": seed})
        return answer


class Deployments(Resource):
    """Who answers which share of the traffic."""

    def get(self, deployment: str) -> JSON:
        """One deployment with its history."""
        answer: JSON = self._client.get(f"/api/v1/deployments/{part(deployment)}")
        return answer

    def rollback(self, deployment: str, *, reason: str) -> JSON:
        """Back to the version before."""
        answer: JSON = self._client.post(f"/api/v1/deployments/{part(deployment)}/rollback", {"reason": reason})
        return answer


class Labels(Resource):
    """What really happened."""

    def send(self, prediction_id: str, label: float, *, event_time: Moment | None = None) -> JSON:
        """The outcome of one prediction."""
        document: JSON = {"prediction_id": prediction_id, "label": label}
        if event_time is not None:
            document["event_time"] = event_time
        answer: JSON = self._client.post("/labels", document)
        return answer

    def send_many(self, labels: Iterable[Mapping[str, Any]] | Frame) -> JSON:
        """The outcomes of several predictions: rows, or a data frame, of `prediction_id`, `label` and `event_time`."""
        answer: JSON = self._client.post("/labels", {"labels": [dict(label) for label in rows(labels)]})
        return answer


class Predictions(Resource):
    """Predictions that were made."""

    def why(self, prediction_id: str) -> JSON:
        """Where a prediction came from."""
        answer: JSON = self._client.get(f"/predictions/{part(prediction_id)}/why")
        return answer

    def explain(self, prediction_id: str) -> JSON:
        """What each feature added to a prediction, computed again from its logged inputs."""
        answer: JSON = self._client.get(f"/predictions/{part(prediction_id)}/explain")
        return answer

    def replay(self, prediction_id: str) -> JSON:
        """The prediction, computed again."""
        answer: JSON = self._client.post(f"/predictions/{part(prediction_id)}/replay")
        return answer


class Monitors(Resource):
    """What is watched."""

    def windows(self, monitor: str) -> list[JSON]:
        """All closed windows, oldest first."""
        return self._list(f"/api/v1/monitors/{part(monitor)}/windows", "windows")
