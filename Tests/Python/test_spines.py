"""Questions from a file, from SQL and from PostgreSQL, answered as a calculation with pandas answers them."""

from __future__ import annotations

import json
import pathlib
import random
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
import shop
from conftest import ROOT, Server
from test_sources import Postgres

DAYS = 20
SPINES = {
    "files": "spine: {files: questions.csv, event_time: asked_at}",
    "sql": """spine:
  sql: SELECT asked_at, customer, channel, price, "order" FROM orders WHERE price < 60
  sources: [orders]
  event_time: asked_at""",
    "postgres": """spine:
  postgres: {connection: SHOP_DATABASE, query: SELECT * FROM questions}
  event_time: asked_at""",
}
# A source whose times come without a zone: they are in UTC, whatever the machine's zone is.
VISITS = """
kind: Source
name: visits
event_time: at
ingest_time: at
key: [visit]
schema:
  - {name: visit, type: string, nullable: false}
  - {name: at, type: timestamp, nullable: false, zone: UTC}
  - {name: customer, type: string}
  - {name: pages, type: int64}
---
kind: FeatureView
name: seen
entities: [customer]
source: visits
features:
  - {name: pages_12h, aggregate: sum, column: pages, window: 12h}
  - {name: visits_3d, aggregate: count, window: 3d}
  - {name: last_visit, aggregate: last, column: at, window: 3d}
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    database = Postgres()
    yield database
    database.close()


def without_zone(milliseconds: int) -> str:
    return shop.text(milliseconds).replace("T", " ").removesuffix("Z")


def expected(payments: pd.DataFrame, visits: pd.DataFrame, questions: pd.DataFrame) -> pd.DataFrame:
    """The features of every question, by looking at every row that could have been known."""
    answers = []
    for asked, customer in zip(questions["asked_at"], questions["customer"], strict=True):
        known = payments[
            (payments["customer"] == customer) & (payments["paid_at"] < asked) & (payments["known_at"] < asked)
        ].sort_values(["paid_at", "known_at"], kind="stable")
        seen = visits[(visits["customer"] == customer) & (visits["at"] < asked)].sort_values("at", kind="stable")
        day, week = (known[known["paid_at"] >= asked - span] for span in (shop.DAY, 7 * shop.DAY))
        half, three = (seen[seen["at"] >= asked - span] for span in (shop.DAY // 2, 3 * shop.DAY))
        cents = (week["amount"] * 100).round()
        fresh = known.tail(1)
        fresh = fresh[fresh["paid_at"] >= asked - 6 * shop.HOUR]
        answers.append(
            {
                "paid__mean_24h": (day["amount"] * 100).round().sum() / (100 * day["amount"].count())
                if day["amount"].count()
                else None,
                "paid__sum_7d": cents.sum() / 100 if cents.count() else None,
                "paid__max_7d": week["amount"].max() if cents.count() else None,
                "paid__count_1h": int((known["paid_at"] >= asked - shop.HOUR).sum()),
                "paid__count_7d": len(week),
                "paid__last": week["amount"].iloc[-1] if len(week) else None,
                "fresh__amount": fresh["amount"].iloc[-1] if len(fresh) else None,
                "seen__pages_12h": half["pages"].sum() if half["pages"].count() else None,
                "seen__visits_3d": len(three),
                "seen__last_visit": three["at"].iloc[-1] if len(three) else None,
            }
        )
    return pd.DataFrame(answers, index=questions.index)


def read(paths: list[pathlib.Path]) -> list[dict[str, Any]]:
    files = ", ".join(f"'{path}'" for path in paths)
    command = [ROOT / ".venv/bin/duckdb", "-json", "-c", f"SELECT * FROM read_parquet([{files}])"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("kind", list(SPINES))
def test_questions_from_outside_are_answered_as_pandas_answers_them(
    kind: str, postgres: Postgres, start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    rows = shop.history(DAYS, orders_per_day=25)
    draw = random.Random(3)
    visits = [
        {
            "visit": f"v{n}",
            "at": shop.START + draw.randrange(DAYS * shop.DAY),
            "customer": f"c{draw.randrange(25):02d}",
            "pages": draw.choice([None, 1, 2, 9]),
        }
        for n in range(600)
    ]
    # Questions of all kinds: known customers, an unknown one, none at all, and the very moments of payments.
    questions = [{key: order[key] for key in ("asked_at", "customer", "channel", "price")} for order in rows.orders]
    questions += [
        {"asked_at": row["paid_at"] + shift, "customer": row["customer"], "channel": "app", "price": 1.5}
        for row in rows.payments[400:440]
        for shift in (0, 1, shop.DAY)
        if row["paid_at"] + shift < shop.START + DAYS * shop.DAY
    ]
    questions.append({"asked_at": shop.START + shop.DAY, "customer": "nobody", "channel": "web", "price": 2.0})
    folder = shop.write_definitions(tmp_path / "definitions")
    data = folder / "data.yaml"
    text = data.read_text().replace("spine: orders\n", SPINES[kind] + "\n")
    text = text.replace("views: [paid, fresh]", "views: [paid, fresh, seen]")
    start = text.index("label: {name: lost")
    text = text[:start] + text[text.index("\n", start) + 1 :]  # questions alone: what came of them is not asked here
    head, service = text.split("kind: FeatureService", 1)
    data.write_text(f"{head}{VISITS.lstrip()}---\nkind: FeatureService{service}")
    (folder / "model.yaml").unlink()
    if kind == "files":
        shop.write_csv(folder / "questions.csv", draw.sample(questions, len(questions)))
    if kind == "sql":  # a query that chooses among the rows of a source
        questions = [row for row in questions[: len(rows.orders)] if row["price"] < 60]
    if kind == "postgres":
        values = ", ".join(
            "(to_timestamp({}::numeric / 1000), {}, '{}', {})".format(
                row["asked_at"],
                "NULL" if row["customer"] is None else f"'{row['customer']}'",
                row["channel"],
                row["price"],
            )
            for row in questions
        )
        postgres(
            "DROP TABLE IF EXISTS questions;"
            "CREATE TABLE questions (asked_at timestamptz, customer text, channel text, price float8);"
            f"INSERT INTO questions VALUES {values}"
        )
    server = start_server(
        "--clock", "manual", "--set", "monitor.enabled=false",
        environment={"SHOP_DATABASE": postgres.url, "TZ": "Pacific/Auckland"},
    )  # fmt: skip
    server.cli("apply", str(folder))
    server.post("/api/v1/clock", {"now": shop.START + (DAYS + 1) * shop.DAY})
    for name in ("payments", "orders"):
        server.cli("ingest", name, str(shop.write_csv(tmp_path / f"{name}.csv", getattr(rows, name))))
    lines = [f"{v['visit']},{without_zone(v['at'])},{v['customer']},{v['pages'] or ''}" for v in visits]
    (tmp_path / "visits.csv").write_text("\n".join(["visit,at,customer,pages", *lines]) + "\n")
    report = json.loads(server.cli("ingest", "visits", str(tmp_path / "visits.csv"), "--json").stdout)
    assert report["rows_accepted"] == len(visits), report

    span = ["--from", shop.text(shop.START), "--to", shop.text(shop.START + DAYS * shop.DAY)]
    built = json.loads(server.cli("dataset", "build", "loss", *span, "--json").stdout)
    manifest = server.get(f"/api/v1/datasets/{built['dataset']}")["manifest"]
    assert manifest["spine"]["origin"] == kind and manifest["spine"]["rows"] == len(questions)
    assert manifest["questions"] == built["rows"] == len(questions)
    out = tmp_path / "rebuilt"
    text = server.cli("dataset", "rebuild", built["dataset"], "--out", str(out)).stdout
    assert text.startswith("equal: "), text
    found = read([out / f"{part['name']}.parquet" for part in manifest["slices"] if part["rows"]])

    frame = pd.DataFrame(questions)
    wanted = frame.join(expected(pd.DataFrame(rows.payments), pd.DataFrame(visits), frame))

    def cell(value: Any) -> Any:
        return None if value is None or value != value else float(value)

    features = [column["name"] for column in manifest["columns"] if column["role"] == "feature"]
    assert len(features) == 10

    # A training set holds no keys: rows are told apart by their moment, request features and values.
    def rows_of(records: list[dict[str, Any]], moment: str) -> list[str]:
        return sorted(
            json.dumps([int(row[moment]), row["channel"], float(row["price"]), *(cell(row[name]) for name in features)])
            for row in records
        )

    assert rows_of(found, "__event_time") == rows_of(wanted.to_dict("records"), "asked_at")
    assert sum(row["seen__pages_12h"] is not None for row in found) > 50
