"""What the server answers, as values."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bottega.errors import BottegaError, OperationFailed

if TYPE_CHECKING:
    from bottega.client import Client

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer of a model."""

    prediction_id: str
    model: str
    model_version: int
    variant: str
    fallback: bool
    value: float | None
    probabilities: list[float] | None
    document: JSON = field(repr=False)

    @staticmethod
    def read(document: JSON) -> Prediction:
        return Prediction(
            prediction_id=str(document["prediction_id"]),
            model=str(document.get("model", "")),
            model_version=int(document.get("model_version", 0)),
            variant=str(document.get("variant", "")),
            fallback=bool(document.get("fallback", False)),
            value=document.get("prediction"),
            probabilities=document.get("probabilities"),
            document=document,
        )


@dataclass(frozen=True, slots=True)
class StageDecision:
    """Whether a version may enter a stage, and the evidence of every gate."""

    accepted: bool
    stage: str
    gates: list[JSON]
    document: JSON = field(repr=False)


@dataclass(frozen=True, slots=True)
class OperationState:
    """Where long work stands."""

    state: str
    progress: JSON
    result: JSON
    error: JSON

    @property
    def ended(self) -> bool:
        return self.state in ("succeeded", "failed")


@dataclass(frozen=True, slots=True)
class Operation:
    """Long work that the server has taken on."""

    id: str
    client: Client = field(repr=False)
    document: JSON = field(repr=False)

    def state(self) -> OperationState:
        document = self.client.get(f"/api/v1/operations/{self.id}")
        return OperationState(
            state=str(document.get("state", "")),
            progress=document.get("progress") or {},
            result=document.get("result") or {},
            error=document.get("error") or {},
        )

    def wait(
        self, *, timeout: float = 3600.0, every: float = 0.1, progress: Callable[[OperationState], None] | None = None
    ) -> JSON:
        """Waits for the end and returns the result; raises what the work failed with."""
        deadline = time.monotonic() + timeout
        while True:
            state = self.state()
            if progress is not None:
                progress(state)
            if state.state == "succeeded":
                return state.result
            if state.state == "failed":
                raise OperationFailed(
                    str(state.error.get("message", "the operation failed")),
                    code=str(state.error.get("code", "")),
                    subject=str(state.error.get("subject", "")),
                )
            if time.monotonic() > deadline:
                raise BottegaError(f"the operation {self.id} is still running after {timeout:g} s", subject=self.id)
            time.sleep(every)
