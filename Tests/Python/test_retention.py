"""Rows that leave their table by their source's retention, and old training sets made again."""

from __future__ import annotations

import json
import pathlib
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
import shop
from conftest import ROOT, Server

DAYS = 40
KEYS = "key: [payment]\n"


def duckdb(sql: str) -> list[dict[str, Any]]:
    command = [ROOT / ".venv/bin/duckdb", "-json", "-c", sql]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout or "[]")


def retain(folder: pathlib.Path, span: str) -> None:
    path = folder / "data.yaml"
    path.write_text(path.read_text().replace(KEYS, f"{KEYS}retention: {span}\n", 1))


@pytest.fixture
def shop_server(
    start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> tuple[Server, pathlib.Path, list[dict[str, Any]]]:
    """Forty days of rows, and a clock that stands at their end."""
    server = start_server("--clock", "manual", "--set", "monitor.enabled=false", "--set", "tables.interval=1")
    folder = shop.write_definitions(tmp_path / "definitions")
    rows = shop.history(DAYS, orders_per_day=20)
    server.cli("apply", str(folder))
    server.post("/api/v1/clock", {"now": shop.START + DAYS * shop.DAY})
    for name in ("payments", "orders", "outcomes"):
        server.cli("ingest", name, str(shop.write_csv(tmp_path / f"{name}.csv", getattr(rows, name))))
    return server, folder, rows.payments


def build(server: Server, first: int, last: int) -> dict[str, Any]:
    return server.post(
        "/api/v1/datasets",
        {
            "training_set": "loss",
            "from": shop.START + first * shop.DAY,
            "to": shop.START + last * shop.DAY,
            "as_of": shop.START + DAYS * shop.DAY,
        },
    )


def slices(server: Server, dataset: str) -> list[str]:
    return [part["part"] for part in server.get(f"/api/v1/datasets/{dataset}")["manifest"]["slices"]]


def test_rows_leave_and_what_was_made_from_them_stays(
    shop_server: tuple[Server, pathlib.Path, list[dict[str, Any]]], tmp_path: pathlib.Path
) -> None:
    server, folder, payments = shop_server
    old, young = build(server, 8, 30), build(server, 28, 39)
    limit = shop.START + 20 * shop.DAY
    leaving = sum(row["paid_at"] < limit for row in payments)

    # A window that looks beyond the retention is refused before anything happens, with what would do.
    retain(folder, "7d")
    refused = server.cli("plan", str(folder), check=False)
    assert refused.returncode == 2 and "at least 8d" in refused.stderr and "data.yaml" in refused.stderr, refused
    (folder / "data.yaml").write_text((folder / "data.yaml").read_text().replace("retention: 7d", "retention: 20d"))
    plan = server.cli("plan", str(folder)).stdout
    assert f"{leaving:,} of {len(payments):,} rows" in plan and "needs --yes" in plan and "dataset/" in plan, plan
    refused = server.cli("apply", str(folder), check=False)
    assert refused.returncode == 3 and f"{leaving} of {len(payments)} rows" in refused.stderr, refused
    assert server.get("/api/v1/tables/payments")["rows"] == len(payments)
    server.cli("apply", str(folder), "--yes")

    # By itself, which the audit log tells, and by hand.
    end = time.monotonic() + 60
    while server.get("/api/v1/tables/payments")["rows"] == len(payments) and time.monotonic() < end:
        time.sleep(0.1)
    answer = json.loads(server.cli("table", "retain", "payments", "--json").stdout)
    assert (answer["dry_run"], answer["removed_rows"]) == (True, 0), answer
    assert server.get("/api/v1/tables/payments")["rows"] == len(payments) - leaving
    entries: list[dict[str, Any]] = []
    while not entries and time.monotonic() < end:  # the entry follows the rows
        audit = server.get("/api/v1/audit?limit=1000")["entries"]
        entries = [e for e in audit if e["action"] == "table.retained"]
    [entry] = entries
    assert (entry["actor"], entry["subject"]) == ("tables", "table/payments"), entry
    assert entry["after"]["rows"] == leaving, entry
    newest = server.get("/api/v1/tables/payments/versions")["versions"][-1]
    assert (newest["operation"], newest["rows_added"]) == ("DELETE", 0), newest
    server.post("/api/v1/clock", {"now": shop.START + DAYS * shop.DAY + 1000 + shop.HOUR // 2})
    moved = sum(limit <= row["paid_at"] < limit + 1000 + shop.HOUR // 2 for row in payments)
    shown = server.cli("table", "retain", "payments").stdout
    assert f"{moved} of" in shown and ("--yes does it" in shown) == (moved > 0), shown
    answer = json.loads(server.cli("table", "retain", "payments", "--yes", "--json").stdout)
    assert answer["removed_rows"] == moved, answer
    assert server.get("/api/v1/tables/payments")["rows"] == len(payments) - leaving - moved

    # What needs rows that have gone is refused; what does not is as it was.
    span = ["--from", shop.text(shop.START + 25 * shop.DAY), "--to", shop.text(shop.START + 39 * shop.DAY)]
    failed = server.cli("dataset", "build", "loss", *span, check=False)
    assert failed.returncode == 2 and "have left its table" in failed.stderr and "ask from" in failed.stderr, failed
    again = build(server, 28, 39)
    assert again["dataset"] != young["dataset"], "it names another version of the table"
    assert slices(server, again["dataset"]) == slices(server, young["dataset"]), "every byte of the rows is the same"
    parity = json.loads(server.cli("features", "parity", "--json").stdout)
    assert parity["compared"] > 100 and parity["different"] == 0, parity

    # A vacuum removes no file that the old training set was made from, so it is made again, byte by byte.
    vacuum = server.post("/api/v1/tables/payments/vacuum", {"dry_run": False, "retention": "0s"})
    kept = [file for file in vacuum["files"] if not file["removed"] and "dataset/" in file["reason"]]
    assert kept, vacuum
    out = tmp_path / "again"
    text = server.cli("dataset", "rebuild", old["dataset"], "--out", str(out)).stdout
    assert text.startswith("equal: ") and old["dataset"] in text, text
    for part in server.get(f"/api/v1/datasets/{old['dataset']}")["manifest"]["slices"]:
        [count] = duckdb(f"SELECT count(*) AS n FROM read_parquet('{out}/{part['name']}.parquet')")
        assert count["n"] == part["rows"]
        assert (out / f"{part['name']}.parquet").stat().st_size == part["byteCount"]


def test_definitions_that_need_what_leaves_are_refused(
    start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    server = start_server("--set", "monitor.enabled=false")
    folder = shop.write_definitions(tmp_path / "definitions")
    text = (folder / "data.yaml").read_text()

    def plan(span: str, *changes: tuple[str, str]) -> subprocess.CompletedProcess[str]:
        changed = text.replace(KEYS, f"{KEYS}retention: {span}\n", 1)
        for old, new in changes:
            assert old in changed
            changed = changed.replace(old, new, 1)
        (folder / "data.yaml").write_text(changed)
        return server.cli("plan", str(folder), check=False)

    assert plan("8d").returncode == 0, "a week, and a day for questions about the past"
    assert plan("9d").returncode == 0
    assert plan("0d").returncode == 0, "for ever"
    for changes, words in [
        ([("column: amount, window: 7d}", "column: amount, window: 30d}")], "at least 31d"),
        ([("last, column: amount, window: 7d}", "last, column: amount}")], "looks at all history"),
        ([("ttl: 6h\nfeatures:\n", "ttl: 6h\nfeatures:\n  - {name: n, aggregate: count, window: 1h}\n")],
         "leave out 'ttl'"),
        ([("horizon: 12h", "horizon: 20d")], "more than"),
    ]:  # fmt: skip
        result = plan("14d", *changes)
        assert result.returncode == 2 and words in result.stderr, (words, result.stdout, result.stderr)
    assert "'retention' must be a span" in plan("soon").stderr


def test_a_training_set_is_made_again_or_the_reason_is_said(
    start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    server = start_server("--clock", "manual", "--set", "monitor.enabled=false")
    folder = shop.write_definitions(tmp_path / "definitions")
    rows = shop.history(12, orders_per_day=20)
    server.cli("apply", str(folder))
    server.post("/api/v1/clock", {"now": shop.START + DAYS * shop.DAY})
    for name in ("payments", "orders", "outcomes"):
        server.cli("ingest", name, str(shop.write_csv(tmp_path / f"{name}.csv", getattr(rows, name))))
    dataset = build(server, 1, 11)["dataset"]
    # Other definitions and more rows are in force now.
    data = folder / "data.yaml"
    data.write_text(data.read_text().replace("window: 24h", "window: 48h").replace("test: 20%", "test: 30%"))
    server.post("/api/v1/clock", {"now": shop.START + DAYS * shop.DAY + 1})
    server.cli("apply", str(folder))
    more = [{**row, "payment": f"more-{row['payment']}"} for row in rows.payments[:50]]
    server.cli("ingest", "payments", str(shop.write_csv(tmp_path / "more.csv", more)))
    assert build(server, 1, 11)["dataset"] != dataset
    result = json.loads(server.cli("dataset", "rebuild", dataset, "--json").stdout)
    assert result["equal"] is True and result["revision"] == 1 and result["differences"] == [], result
    # Another engine: the same bytes, another manifest.
    server.stop()
    server.arguments = (*server.arguments, "--set", "features.engine=duckdb")
    server.start()
    failed = server.cli("dataset", "rebuild", dataset, check=False)
    assert failed.returncode == 3 and "engine: " in failed.stdout and "the same bytes" in failed.stdout, failed
    # A file of the table that somebody removed.
    version = server.get(f"/api/v1/datasets/{dataset}")["manifest"]["tableVersions"]["payments"]
    for file in server.data_dir.rglob("tables/payments/*.parquet"):
        file.unlink()
    failed = server.cli("dataset", "rebuild", dataset, check=False)
    assert failed.returncode != 0 and f"version {version}" in failed.stderr, failed
    assert server.cli("dataset", "rebuild", "0" * 64, check=False).returncode != 0
