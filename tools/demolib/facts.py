"""What the demo gathered, as the questions that the page and the table ask."""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]


def first_of(document: Any, *keys: str) -> Any:
    """The first of the keys that has a value."""
    if isinstance(document, dict):
        for key in keys:
            if document.get(key) is not None:
                return document[key]
    return None


def clock_text(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min" if seconds >= 60 else f"{seconds:.1f} s"


class Facts:
    """Reads the gathered answers; a part that is missing leaves a gap and no error."""

    def __init__(self, facts: JSON) -> None:
        self.all = facts
        self.live: JSON = facts.get("live") or {}
        self.windows: list[JSON] = sorted(facts.get("windows") or [], key=lambda window: str(window.get("from")))
        self.alerts: list[JSON] = facts.get("alerts") or []
        self.workflows: list[JSON] = facts.get("workflows") or []
        self.versions: list[JSON] = facts.get("versions") or []
        self.dataset: JSON = facts.get("dataset") or {}
        self.seconds = float(facts.get("seconds") or 0)

    @property
    def champion_windows(self) -> list[JSON]:
        """One window a week: that of the version which answered most of it."""
        best: dict[str, JSON] = {}
        for window in self.windows:
            if window.get("choice") == "shadow":
                continue
            week = str(window.get("from"))
            if week not in best or int(window.get("rows", 0)) > int(best[week].get("rows", 0)):
                best[week] = window
        return [best[week] for week in sorted(best)]

    def metric(self, window: JSON, name: str) -> float | None:
        value = (window.get("metrics") or {}).get(name)
        return float(value) if isinstance(value, int | float) else None

    def test_metric(self, version: JSON, name: str) -> float | None:
        """A version's metric on its own test slice."""
        for holder in (version.get("metrics"), version.get("scorecard"), version.get("evaluation")):
            if not isinstance(holder, dict):
                continue
            inner = holder.get("test") if isinstance(holder.get("test"), dict) else holder
            for key in (name, f"test_{name}", f"test.{name}"):
                if isinstance(inner, dict) and isinstance(inner.get(key), int | float):
                    return float(inner[key])
        return None

    def when(self, document: JSON) -> str:
        return str(first_of(document, "time", "at", "raised_at", "started_at", "started", "created_at", "from") or "")

    def transitions(self, version: JSON) -> list[JSON]:
        return list(first_of(version, "transitions", "stage_history", "history", "stages") or [])

    def stage(self, version: JSON) -> str:
        return str(version.get("stage", ""))

    def outcome(self, version: JSON) -> str:
        """What happened to a version, in a few words."""
        moves = [
            f"{move.get('stage') or move.get('to')} {self.when(move)[:10]}"
            for move in self.transitions(version)
            if move.get("stage") or move.get("to")
        ]
        return " → ".join(moves) if moves else self.stage(version)

    def quarantine(self) -> list[tuple[str, str, int]]:
        """Source, reason, rows: of the files and of the live stream together."""
        counts: dict[tuple[str, str], int] = {}
        for source, total in (self.all.get("ingest", {}).get("sources") or {}).items():
            for reason, count in (total.get("reasons") or {}).items():
                counts[source, reason] = counts.get((source, reason), 0) + int(count)
        for name, count in (self.live.get("quarantined") or {}).items():
            source, _, reason = name.partition(": ")
            counts[source, reason] = counts.get((source, reason), 0) + int(count)
        return sorted(((s, r, c) for (s, r), c in counts.items()), key=lambda row: (row[0], -row[2], row[1]))

    def summary(self) -> list[tuple[str, str]]:
        """The table at the end of the demo."""
        ingest = self.all.get("ingest") or {}
        sources = (ingest.get("sources") or {}).values()
        rows_in = sum(int(total.get("rows", 0)) for total in sources)
        quarantined = sum(count for _, _, count in self.quarantine())
        table = [
            ("rows loaded from files", f"{rows_in:,} in {clock_text(float(ingest.get('seconds', 0)))}"),
            ("events pushed live", f"{int(self.live.get('events', 0)):,}"),
            ("rows quarantined", f"{quarantined:,}"),
            (
                "training set",
                f"{int(self.dataset.get('rows', 0)):,} rows in {clock_text(float(self.dataset.get('seconds', 0)))}",
            ),
        ]
        offline = self.test_metric(self.versions[0], "auc") if self.versions else None
        table.append(("AUC offline, version 1", f"{offline:.4f}" if offline is not None else "not recorded"))
        weekly = [value for window in self.champion_windows if (value := self.metric(window, "auc")) is not None]
        if weekly:
            table.append(
                (
                    "AUC live, by week",
                    f"{min(weekly):.4f} to {max(weekly):.4f}, mean {sum(weekly) / len(weekly):.4f}",
                )
            )
        seconds = float(self.live.get("seconds") or 0)
        predictions = int(self.live.get("predictions", 0))
        rate = f", {predictions / seconds:,.0f}/s with everything else" if seconds else ""
        failures = sum((self.live.get("failures") or {}).values())
        table += [
            (
                "predictions served",
                f"{predictions:,}{rate}; {int(self.live.get('fallbacks', 0))} fallbacks, {failures} failed",
            ),
            (
                "latency at the caller",
                f"p50 {self.latency('p50'):.2f} ms, p99 {self.latency('p99'):.2f} ms",
            ),
            ("labels", f"{int(self.live.get('labels', 0)):,}"),
            ("alerts", ", ".join(self.alert_counts()) or "none"),
        ]
        for version in self.versions:
            table.append((f"version {version.get('version')}", self.outcome(version)))
        for workflow in self.workflows:
            state = str(first_of(workflow, "state", "outcome") or "")
            reason = first_of(workflow, "reason", "decision", "message")
            table.append((f"retraining {workflow.get('id', '')}", f"{state}{f': {reason}' if reason else ''}"))
        replay, parity = self.all.get("replay") or {}, self.all.get("parity") or {}
        table += [
            ("computed again, bit for bit", f"{replay.get('equal', 0):,} of {replay.get('compared', 0):,}"),
            (
                "served as in training",
                f"compared {parity.get('compared', 0):,}, different {parity.get('different', 0):,}",
            ),
            ("time", clock_text(float(self.all.get("seconds", 0)))),
        ]
        return table

    def latency(self, which: str) -> float:
        return float(self.live.get(f"{which}_milliseconds") or 0)

    def alert_counts(self) -> list[str]:
        counts: dict[str, int] = {}
        for alert in self.alerts:
            name = f"{alert.get('severity', '')} {alert.get('rule', '')}".strip()
            counts[name] = counts.get(name, 0) + 1
        return [f"{count} of {name}" for name, count in sorted(counts.items())]
