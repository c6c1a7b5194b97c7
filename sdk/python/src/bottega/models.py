"""What the server answers, as values."""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bottega.errors import BottegaError, MissingPackage, NotFound, OperationFailed

if TYPE_CHECKING:
    from bottega.client import Client

JSON = dict[str, Any]

Moment = datetime.datetime | datetime.date | str | int
"""A datetime with a zone, a date (midnight UTC), RFC 3339 text, or milliseconds since 1970."""


@dataclass(frozen=True, slots=True, repr=False)
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

    @property
    def explanation(self) -> JSON | None:
        """`base_value`, `margin` and `contributions` by feature, if the call said `explain`; a fallback has none."""
        return self.document.get("explanation")

    def __repr__(self) -> str:
        value = "no value" if self.value is None else f"{self.value:.6g}"
        if self.probabilities is not None:
            value += f", probabilities={[round(p, 4) if p is not None else None for p in self.probabilities]}"
        source = f"fallback: {self.document.get('fallback_reason', '')}" if self.fallback else self.variant
        return f"<Prediction {value} of {self.model}@{self.model_version} ({source}), id {self.prediction_id}>"

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


@dataclass(frozen=True, slots=True)
class Dataset(Mapping[str, Any]):
    """A point-in-time training set: its manifest here, its rows on the server until they are asked for."""

    hash: str
    training_set: str
    service: str
    rows: int
    slices: dict[str, int]
    document: JSON = field(repr=False)
    client: Client = field(repr=False)

    @staticmethod
    def read(document: JSON, client: Client) -> Dataset:
        manifest = document["manifest"]
        return Dataset(
            hash=str(document["dataset"]),
            training_set=str(manifest["trainingSet"]),
            service=str(manifest["service"]),
            rows=int(document["rows"]),
            slices={str(entry["name"]): int(entry["rows"]) for entry in manifest["slices"]},
            document=document,
            client=client,
        )

    def __getitem__(self, key: str) -> Any:
        """A member of the server's answer, which is `document`."""
        return self.document[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.document)

    def __len__(self) -> int:
        return len(self.document)

    @property
    def manifest(self) -> JSON:
        """Everything that decides the bytes: columns, versions of views and tables, span, slices."""
        manifest: JSON = self.document["manifest"]
        return manifest

    @property
    def inputs(self) -> list[str]:
        """The columns that a model reads, in its order."""
        return [str(column["name"]) for column in self.manifest["columns"] if column["role"] in ("request", "feature")]

    @property
    def label(self) -> str | None:
        """The column that is to be predicted."""
        return self.manifest.get("label")

    def download(self, slice: str, file: str | Path) -> Path:
        """Writes one slice to a Parquet file."""
        self._check(slice)
        target = Path(file)
        part = target.with_name(target.name + ".part")
        try:
            with part.open("wb") as out:
                self.client.download(f"/api/v1/datasets/{self.hash}/slices/{slice}", out)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return target

    def to_arrow(self, slice: str | None = None) -> Any:
        """The rows of one slice, or of all in the order of `slices`, as a table of pyarrow.

        Moments are whole milliseconds since 1970, as in the files.
        """
        try:
            import pyarrow
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise MissingPackage("to_arrow needs pyarrow: pip install pyarrow", code="missing_package") from error
        self._check(slice)
        tables = []
        for name in self.slices if slice is None else [slice]:
            with tempfile.TemporaryDirectory(prefix="bottega-") as folder:
                # By way of a file, so that the bytes and the table are not in memory side by side.
                tables.append(parquet.read_table(self.download(name, Path(folder) / f"{name}.parquet")))
        return tables[0] if len(tables) == 1 else pyarrow.concat_tables(tables)

    def to_pandas(self, slice: str | None = None) -> Any:
        """The rows of one slice, or of all in the order of `slices`, as a data frame of pandas."""
        try:
            import pandas  # noqa: F401
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise MissingPackage(
                "to_pandas needs pandas and pyarrow: pip install pandas pyarrow", code="missing_package"
            ) from error
        return self.to_arrow(slice).to_pandas()

    def _check(self, slice: str | None) -> None:
        if slice is not None and slice not in self.slices:
            raise NotFound(
                f"it has no slice '{slice}', but {', '.join(self.slices)}", subject=f"dataset/{self.hash[:12]}"
            )
