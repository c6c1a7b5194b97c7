"""Charts as inline SVG. Colours are CSS variables, so that a page has one set for light and one for dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from html import escape

LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 12.0, 26.0


def colour(version: object) -> str:
    text = str(version)
    return f"var(--v{(int(text) - 1) % 6 + 1})" if text.isdigit() and int(text) > 0 else "var(--soft)"


def figure(width: float, height: float, parts: Sequence[str], label: str) -> str:
    return (
        f'<div class="scroll{" half" if width < 600 else ""}">'
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg></div>"
    )


def day_number(text: str) -> int:
    return date.fromisoformat(text[:10]).toordinal()


class Frame:
    """A plot area with a time axis below and a value axis at the left."""

    def __init__(self, width: float, height: float, first: int, last: int, low: float, high: float) -> None:
        self.width, self.height = width, height
        self.first, self.last = first, max(last, first + 1)
        self.low, self.high = low, high if high > low else low + 1.0

    def x(self, day: float) -> float:
        return LEFT + (day - self.first) / (self.last - self.first) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.height - BOTTOM - min(max(share, 0.0), 1.0) * (self.height - TOP - BOTTOM)

    def value_axis(self, values: Sequence[float], form: str) -> list[str]:
        parts = []
        for value in values:
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{self.width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{format(value, form)}</text>')
        return parts

    def time_axis(self) -> list[str]:
        """Month names, or Mondays when the span is short."""
        parts = []
        days = [date.fromordinal(number) for number in range(self.first, self.last + 1)]
        monthly = len(days) > 70
        for day in days:
            if (day.day == 1) if monthly else (day.weekday() == 0):
                x = self.x(day.toordinal())
                text = f"{day:%b}" if monthly else f"{day.day} {day:%b}"
                parts.append(
                    f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{self.height - BOTTOM + 4:.1f}"/>'
                )
                anchor = "start" if x < self.width - 50 else "end"
                parts.append(f'<text x="{x + 3:.1f}" y="{self.height - 8:.1f}" text-anchor="{anchor}">{text}</text>')
        return parts

    def line(self, points: Sequence[tuple[float, float]], stroke: str, *, dashed: bool = False) -> str:
        path = "M" + " L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)
        dash = ' stroke-dasharray="3 5" stroke-width="1.4"' if dashed else ""
        return f'<path class="{"" if dashed else "path"}" fill="none" d="{path}" stroke="{stroke}"{dash}/>'

    def dot(self, x: float, y: float, fill: str, title: str, radius: float = 3.6) -> str:
        return (
            f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="{radius}" fill="{fill}">'
            f"<title>{escape(title)}</title></circle>"
        )


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from `low` to `high`."""
    span = max(high - low, 1e-9)
    raw = span / count
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * 0.999)
    start = math.ceil(low / step - 1e-9)
    return [value * step for value in range(start, math.floor(high / step + 1e-9) + 1)]


def calibration(curves: Sequence[tuple[int, list[tuple[float, float, int]]]]) -> str:
    """Said against happened, for each version."""
    size = 380.0
    parts = []

    def x(value: float) -> float:
        return LEFT + value * (size - LEFT - RIGHT)

    def y(value: float) -> float:
        return size - BOTTOM - value * (size - TOP - BOTTOM)

    for value in (0, 0.25, 0.5, 0.75, 1):
        parts += [
            f'<line class="grid" x1="{x(0)}" x2="{x(1)}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>',
            f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{y(0)}" y2="{y(1)}"/>',
            f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.0%}</text>',
            f'<text x="{x(value):.1f}" y="{size - 8}" '
            f'text-anchor="{"end" if value == 1 else "middle"}">{value:.0%}</text>',
        ]
    parts.append(f'<line x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}" stroke="var(--soft)" stroke-dasharray="3 5"/>')
    for version, points in curves:
        if not points:
            continue
        path = "M" + " L".join(f"{x(said):.1f} {y(late):.1f}" for said, late, _ in points)
        parts.append(f'<path class="path" d="{path}" stroke="{colour(version)}"/>')
        parts += [
            f'<circle cx="{x(said):.1f}" cy="{y(late):.1f}" r="3.4" fill="{colour(version)}">'
            f"<title>version {version}: said {said:.0%}, late {late:.0%}, {rows:,} flights</title></circle>"
            for said, late, rows in points
        ]
    svg = f'<svg viewBox="0 0 {size:g} {size:g}" role="img" aria-label="calibration by version">{"".join(parts)}</svg>'
    return svg


def heat_map(rows: Sequence[tuple[str, list[float | None]]], weeks: Sequence[str], titles: list[list[str]]) -> str:
    """PSI by feature and week: the darker, the further from training. Logarithmic from 0.05 to 5."""
    label, cell = 236.0, 17.0
    wide = max((900 - label) / max(len(weeks), 1), 12)
    width, height = label + wide * len(weeks), TOP + cell * len(rows) + 28
    parts = []
    for row, (name, values) in enumerate(rows):
        y = TOP + row * cell
        parts.append(f'<text x="{label - 10}" y="{y + 12.5:.1f}" text-anchor="end">{escape(name)}</text>')
        for column, value in enumerate(values):
            if value is None:
                continue
            strength = (math.log10(max(value, 0.05)) - math.log10(0.05)) / 2
            parts.append(
                f'<rect class="cell" x="{label + column * wide:.1f}" y="{y:.1f}" width="{wide - 1.5:.1f}" '
                f'height="{cell - 1.5}" rx="2" opacity="{0.05 + 0.95 * min(strength, 1):.2f}">'
                f"<title>{escape(titles[row][column])}</title></rect>"
            )
    every = max(1, math.ceil(44 / wide))
    for column, week in enumerate(weeks):
        if column % every == 0:
            day = date.fromisoformat(week[:10])
            parts.append(f'<text x="{label + column * wide:.1f}" y="{height - 9:.1f}">{day.day} {day:%b}</text>')
    return figure(width, height, parts, "drift by feature and week")


def traffic(days: Sequence[tuple[str, dict[str, int]]]) -> str:
    """Who answered which share of a day's questions."""
    if not days:
        return ""
    numbers = [day_number(day) for day, _ in days]
    frame = Frame(960, 220, numbers[0], numbers[-1] + 1, 0, 1)
    parts = [*frame.value_axis([0, 0.5, 1], ".0%"), *frame.time_axis()]
    names = sorted(
        {name for _, counts in days for name in counts}, key=lambda name: (not name.isdigit(), name.zfill(6))
    )
    for number, (day, counts) in zip(numbers, days, strict=True):
        total, base = sum(counts.values()) or 1, 0.0
        for name in names:
            share = counts.get(name, 0) / total
            if share:
                top, bottom = frame.y(base + share), frame.y(base)
                width = frame.x(number + 1) - frame.x(number)
                parts.append(
                    f'<rect x="{frame.x(number):.1f}" y="{top:.1f}" width="{width + 0.3:.2f}" '
                    f'height="{bottom - top:.1f}" fill="{colour(name)}" '
                    f'shape-rendering="crispEdges"><title>{day}: version {escape(name)} '
                    f"{share:.0%} of {total:,}</title></rect>"
                )
                base += share
    return figure(960, 220, parts, "share of the traffic by version")


def weekly_bars(weeks: Sequence[tuple[str, int, float, float]]) -> str:
    """Predictions of each week as bars, p50 and p99 as lines on their own scale."""
    if not weeks:
        return ""
    numbers = [day_number(week) for week, _, _, _ in weeks]
    most = max(count for _, count, _, _ in weeks)
    frame = Frame(960, 220, numbers[0], numbers[-1] + 7, 0, most * 1.1)
    # Milliseconds on a logarithmic scale at the right: p99 may be a hundred times p50.
    quickest = math.floor(math.log10(max(min(p50 for _, _, p50, _ in weeks), 0.01)))
    slowest = math.ceil(math.log10(max(max(p99 for _, _, _, p99 in weeks), 0.02)))
    times = Frame(960, 220, numbers[0], numbers[-1] + 7, quickest, slowest)
    parts = [*frame.value_axis(ticks(0, most, 3), ",.0f"), *frame.time_axis()]
    for number, (week, count, p50, p99) in zip(numbers, weeks, strict=True):
        left, right = frame.x(number), frame.x(number + 7)
        parts.append(
            f'<rect x="{left + 1:.1f}" y="{frame.y(count):.1f}" width="{right - left - 2:.1f}" '
            f'height="{frame.y(0) - frame.y(count):.1f}" fill="var(--line)" rx="2">'
            f"<title>week of {week}: {count:,} predictions, p50 {p50:.2f} ms, p99 {p99:.2f} ms</title></rect>"
        )
    for index, stroke in ((2, "var(--v2)"), (3, "var(--accent)")):
        points = [
            (number + 3.5, math.log10(max(float(week[index]), 0.01)))
            for number, week in zip(numbers, weeks, strict=True)
        ]
        parts.append(times.line(points, stroke))
    for exponent in range(quickest, slowest + 1):
        y = max(times.y(exponent) - 4, TOP + 8)
        parts.append(f'<text x="{960 - RIGHT - 2}" y="{y:.1f}" text-anchor="end">{10.0**exponent:g} ms</text>')
    return figure(960, 220, parts, "predictions and latency by week")
