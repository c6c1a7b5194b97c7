"""Half a year of live traffic over HTTP: events, questions and labels in the order in which they happened."""

from __future__ import annotations

import json
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bottega

DAY = 86_400_000
EVENTS_PER_PUSH = 2_000
LABELS_PER_POST = 1_000
FAILURES_MAX = 100
CALIBRATION_BINS = 10


@dataclass(slots=True)
class Moment:
    """All that happens up to one time: what became known since the last question, and the questions of this time."""

    time: int
    events: dict[str, list[str]] = field(default_factory=dict)
    labels: list[tuple[str, int, str]] = field(default_factory=list)
    questions: list[tuple[str, str]] = field(default_factory=list)


def moments(path: Path) -> Iterator[Moment]:
    """Reads the stream as moments. Each one ends at a time with questions or at the end of a day.

    Rows say themselves when they became known, so what comes in between two questions can travel together.
    """
    current = Moment(0)
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            moment_text, what, name, document = line.rstrip("\n").split("\t", 3)
            moment = int(moment_text)
            if moment != current.time:
                if current.questions:
                    yield current
                    current = Moment(moment)
                elif current.time and moment // DAY != current.time // DAY:
                    current.time = current.time // DAY * DAY + DAY - 1
                    yield current
                    current = Moment(moment)
                current.time = moment
            if what == "event":
                current.events.setdefault(name, []).append(document)
            elif what == "label":
                current.labels.append((name, moment, document))
            else:
                current.questions.append((name, document))
    if current.events or current.labels or current.questions:
        yield current


@dataclass
class Calibration:
    """What was said and what happened, by tenths of what was said."""

    rows: list[int] = field(default_factory=lambda: [0] * CALIBRATION_BINS)
    said: list[float] = field(default_factory=lambda: [0.0] * CALIBRATION_BINS)
    late: list[int] = field(default_factory=lambda: [0] * CALIBRATION_BINS)

    def add(self, probability: float, label: int) -> None:
        tenth = min(int(probability * CALIBRATION_BINS), CALIBRATION_BINS - 1)
        self.rows[tenth] += 1
        self.said[tenth] += probability
        self.late[tenth] += label


@dataclass
class Tally:
    """What the caller saw."""

    events: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    labels: int = 0
    labels_without_question: int = 0
    predictions: int = 0
    fallbacks: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    waited_seconds: float = 0.0
    latencies: dict[int, array[float]] = field(default_factory=lambda: defaultdict(lambda: array("f")))
    served: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    calibration: dict[int, Calibration] = field(default_factory=lambda: defaultdict(Calibration))
    explain: dict[int, tuple[float, str, str]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        weeks = []
        for week in sorted(self.latencies):
            values = sorted(self.latencies[week])
            weeks.append(
                {
                    "from": day_text(week),
                    "predictions": len(values),
                    "p50_milliseconds": percentile(values, 0.5),
                    "p99_milliseconds": percentile(values, 0.99),
                }
            )
        everything = sorted(value for values in self.latencies.values() for value in values)
        return {
            "events": self.events,
            "quarantined": dict(self.quarantined),
            "labels": self.labels,
            "labels_without_question": self.labels_without_question,
            "predictions": self.predictions,
            "fallbacks": self.fallbacks,
            "failures": dict(self.failures),
            "seconds": self.seconds,
            "waited_seconds": self.waited_seconds,
            "p50_milliseconds": percentile(everything, 0.5),
            "p99_milliseconds": percentile(everything, 0.99),
            "weeks": weeks,
            "served_by_day": [
                {"day": day_text(day), "versions": dict(self.served[day])} for day in sorted(self.served)
            ],
            "calibration": [
                {"version": version, "rows": bins.rows, "said": bins.said, "late": bins.late}
                for version, bins in sorted(self.calibration.items())
            ],
        }


def percentile(values: list[float], share: float) -> float | None:
    """The value below which `share` of the sorted values lie (nearest rank)."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else None


def day_text(moment: int) -> str:
    return datetime.fromtimestamp(moment / 1000, UTC).strftime("%Y-%m-%d")


def week_of(moment: int) -> int:
    """The Monday of a moment, UTC."""
    return (moment - 4 * DAY) // (7 * DAY) * 7 * DAY + 4 * DAY


class Replay:
    """Sends the stream to one server."""

    def __init__(
        self,
        client: bottega.Client,
        model: str,
        *,
        on_progress: Callable[[int, Tally], None],
        on_day: Callable[[int, Tally], None],
    ) -> None:
        self.client, self.model, self.tally = client, model, Tally()
        self._on_progress, self._on_day = on_progress, on_day
        self._asked: dict[str, tuple[str, float, int]] = {}  # flight -> prediction id, probability, version

    def run(self, path: Path) -> Tally:
        began = time.monotonic()
        shown, day = began, 0
        for moment in moments(path):
            if day and moment.time // DAY != day:
                self._end_of_day((day + 1) * DAY)
            day = moment.time // DAY
            self._play(moment)
            now = time.monotonic()
            if now - shown > 0.5:
                self.tally.seconds = now - began
                self._on_progress(moment.time, self.tally)
                shown = now
        if day:
            self._end_of_day((day + 1) * DAY)
        self.tally.seconds = time.monotonic() - began
        return self.tally

    def _end_of_day(self, midnight: int) -> None:
        """Gives the pipeline the time that it would have had: the night passes when there is nothing left to do."""
        began = time.monotonic()
        self.client.set_clock(midnight)
        self.client.wait_until_idle()
        self.tally.waited_seconds += time.monotonic() - began
        self._on_day(midnight, self.tally)

    def _play(self, moment: Moment) -> None:
        tally = self.tally
        self.client.set_clock(moment.time)  # before anything of this moment: a label cannot arrive from the future
        requests: list[bottega.Request] = []
        sources: list[str] = []
        for source, documents in moment.events.items():
            for start in range(0, len(documents), EVENTS_PER_PUSH):
                body = "\n".join(documents[start : start + EVENTS_PER_PUSH]).encode()
                requests.append(
                    bottega.Request("POST", f"/sources/{source}/events", body, {"content-type": "application/x-ndjson"})
                )
                sources.append(source)
        requests += self._label_requests(moment)
        # Everything here is acknowledged before the first question of this moment is sent.
        answers = [response.json() for response in self.client.exchange(requests)]
        for source, answer in zip(sources, answers, strict=False):
            tally.events += int(answer.get("accepted", 0))
            for reason, count in (answer.get("reasons") or {}).items():
                tally.quarantined[f"{source}: {reason}"] += int(count)
        if moment.questions:
            self._ask(moment)

    def _label_requests(self, moment: Moment) -> list[bottega.Request]:
        labels: list[dict[str, Any]] = []
        for flight, landed, text in moment.labels:
            asked = self._asked.pop(flight, None)
            if asked is None:
                self.tally.labels_without_question += 1
                continue
            identifier, probability, version = asked
            label = int(text)
            labels.append({"prediction_id": identifier, "label": label, "event_time": landed})
            self.tally.labels += 1
            if version:
                self.tally.calibration[version].add(probability, label)
                best = self.tally.explain.get(version)
                if label == 1 and (best is None or probability > best[0]):
                    self.tally.explain[version] = (probability, identifier, flight)
        return [
            bottega.Request(
                "POST",
                "/labels",
                json.dumps({"labels": labels[start : start + LABELS_PER_POST]}, separators=(",", ":")).encode(),
            )
            for start in range(0, len(labels), LABELS_PER_POST)
        ]

    def _ask(self, moment: Moment) -> None:
        tally = self.tally
        path = f"/predict/{self.model}"
        requests = [bottega.Request("POST", path, document.encode()) for _, document in moment.questions]
        latencies, served = tally.latencies[week_of(moment.time)], tally.served[moment.time // DAY * DAY]
        for (flight, _), response in zip(moment.questions, self.client.exchange(requests), strict=True):
            try:
                answer = bottega.Prediction.read(response.json())
            except bottega.BottegaError as error:
                tally.failures[f"{error.code}: {error}"[:200]] += 1
                if sum(tally.failures.values()) > FAILURES_MAX:
                    raise
                continue
            probability = answer.value
            if probability is None:
                probability = answer.probabilities[-1] if answer.probabilities else 0.0
            tally.predictions += 1
            tally.fallbacks += answer.fallback
            latencies.append(response.seconds * 1000)
            served["fallback" if answer.fallback else str(answer.model_version)] += 1
            version = 0 if answer.fallback else answer.model_version
            self._asked[flight] = (answer.prediction_id, float(probability), version)
