"""The client: one transport and one resource for each layer of the platform."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import urlencode

from bottega.errors import BottegaError
from bottega.models import JSON, Moment, Operation, Prediction
from bottega.resources import (
    Datasets,
    Definitions,
    Deployments,
    Events,
    Features,
    Labels,
    Models,
    Monitors,
    Predictions,
    Sources,
    TrainingJobs,
    frame_instances,
    predict_body,
)
from bottega.transport import Request, Response, Transport
from bottega.values import encode, is_frame, plain, rows

DEFAULT_URL = "http://127.0.0.1:8000"


class Client:
    """Speaks with one Bottega server: at `url`, else the environment's `BOTTEGA_URL`, else port 8000 here."""

    def __init__(
        self, url: str | None = None, *, token: str | None = None, connections: int = 8, timeout: float = 60.0
    ) -> None:
        self.transport = Transport(
            url or os.environ.get("BOTTEGA_URL") or DEFAULT_URL, connections=connections, timeout=timeout
        )
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self.definitions = Definitions(self)
        self.sources = Sources(self)
        self.events = Events(self)
        self.features = Features(self)
        self.datasets = Datasets(self)
        self.training_jobs = TrainingJobs(self)
        self.models = Models(self)
        self.deployments = Deployments(self)
        self.labels = Labels(self)
        self.predictions = Predictions(self)
        self.monitors = Monitors(self)

    @property
    def url(self) -> str:
        """The server's address."""
        return self.transport.url

    def predict(
        self,
        model: str,
        *,
        entities: dict[str, str | None],
        features: dict[str, Any] | None = None,
        explain: bool = False,
    ) -> Prediction:
        """Asks a model about one thing; with `explain`, the answer's `explanation` says what each feature added."""
        body = predict_body(entities, features) | ({"explain": True} if explain else {})
        return Prediction.read(self.post(f"/predict/{model}", body))

    def predict_many(
        self, model: str, instances: Any, *, entities: Sequence[str] | None = None, explain: bool = False
    ) -> list[Prediction]:
        """Asks a model about several things: a list of `{"entities": …, "features": …}`, or a pandas data frame.

        Of a data frame, the columns that `entities` names are keys, and the others are features. One request takes
        up to 1,000 things (100 with `explain`); of more there are several, one after the other.
        """
        things = list(frame_instances(instances, entities) if is_frame(instances) else rows(instances))
        size = 100 if explain else 1000
        found: list[Prediction] = []
        for first in range(0, max(1, len(things)), size):
            some = [plain(thing, (first + n,)) for n, thing in enumerate(things[first : first + size])]
            answer = self.post(f"/predict/{model}", {"instances": some} | ({"explain": True} if explain else {}))
            found += [Prediction.read({**answer, **item}) for item in answer["predictions"]]
        return found

    def status(self) -> JSON:
        """What the server is doing."""
        status: JSON = self.get("/api/v1/status")
        return status

    def wait_until_idle(self, *, timeout: float = 600.0, every: float = 0.05, every_max: float = 0.5) -> JSON:
        """Waits until every consumer has caught up and no workflow has work that it could do now."""
        deadline = time.monotonic() + timeout
        while True:
            status = self.status()
            if status.get("idle"):
                return status
            if time.monotonic() > deadline:
                raise BottegaError(f"the platform is still busy after {timeout:g} s: {json.dumps(status)[:500]}")
            time.sleep(every)
            every = min(every * 1.5, every_max)

    def set_clock(self, now: Moment) -> JSON:
        """Moves the manual clock; only a server that was started with `--clock manual` has one."""
        answer: JSON = self.post("/api/v1/clock", {"now": now})
        return answer

    def alerts(self) -> list[JSON]:
        """All alerts, oldest first."""
        return items(self.get("/api/v1/alerts"), "alerts")

    def workflows(self) -> list[JSON]:
        """All retrainings with their steps, decisions and reasons, oldest first."""
        return items(self.get("/api/v1/workflows"), "workflows")

    def operation(self, document: JSON) -> Operation:
        """The long work that an answer says it has started."""
        return Operation(id=str(document["operation"]), client=self, document=document)

    def exchange(self, requests: Sequence[Request]) -> list[Response]:
        """Sends many requests side by side; see `Transport.exchange`. Answers are not checked."""
        if self._headers:
            requests = [Request(r.method, r.path, r.body, {**self._headers, **r.headers}) for r in requests]
        return self.transport.exchange(requests)

    def get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        """A GET's JSON."""
        fields = {key: value for key, value in (query or {}).items() if value is not None}
        return self.transport.request(
            "GET", f"{path}?{urlencode(fields)}" if fields else path, None, self._headers
        ).json()

    def download(self, path: str, file: BinaryIO) -> None:
        """Writes a GET's bytes to an open file as they arrive."""
        self.transport.download(path, self._headers, file)

    def post(self, path: str, document: Any = None, headers: dict[str, str] | None = None) -> Any:
        """A POST's JSON."""
        body = encode({} if document is None else document)
        return self.post_bytes(path, body, headers)

    def post_bytes(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> Any:
        """A POST of bytes; the answer's JSON."""
        return self.transport.request("POST", path, body, {**self._headers, **(headers or {})}).json()

    def post_response(self, path: str, document: Any) -> Response:
        """A POST's answer as it is, whatever its status."""
        body = encode(document)
        return self.transport.request("POST", path, body, dict(self._headers))

    def close(self) -> None:
        """Closes the connections."""
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def items(document: Any, key: str) -> list[JSON]:
    """The list in an answer, whether it stands alone or under a key."""
    return list(document.get(key, [])) if isinstance(document, dict) else list(document)
