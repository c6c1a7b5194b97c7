"""Rows from files, folders, pushes and databases: once each, checked, and never lost by a crash."""

from __future__ import annotations

import gzip
import json
import pathlib
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import ROOT, Server

SOURCE = """
kind: Source
name: sales
event_time: at
ingest_time: at
key: [sale]
schema:
  - {name: sale, type: string, nullable: false}
  - {name: at, type: timestamp, nullable: false}
  - {name: amount, type: float64}
  - {name: pieces, type: int64}
"""
HEADER = "sale,at,amount,pieces"


def define(server: Server, folder: pathlib.Path, more: str = "", text: str = SOURCE) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "sources.yaml").write_text(text + more)
    server.cli("apply", str(folder))


def moment(number: int) -> str:
    return f"2024-01-{1 + number // 86_400 % 28:02}T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z"


def lines(first: int, count: int) -> str:
    rows = (f"s{n},{moment(n)},{n % 100}.5,{n % 7}" for n in range(first, first + count))
    return "\n".join([HEADER, *rows]) + "\n"


def event(number: int, **change: Any) -> dict[str, Any]:
    return {"sale": f"s{number}", "at": moment(number), "amount": number + 0.5, "pieces": 1} | change


def counts(server: Server, name: str = "sales") -> tuple[int, int]:
    [source] = [source for source in server.get("/api/v1/sources")["sources"] if source["name"] == name]
    return source["rows"], source["quarantined"]


def ingest(server: Server, *arguments: str, source: str = "sales") -> Any:
    return json.loads(server.cli("ingest", source, *arguments, "--json").stdout)


def duckdb(sql: str) -> None:
    subprocess.run([ROOT / ".venv/bin/duckdb", "-c", sql], check=True, capture_output=True)


# Files


def test_a_folder_is_loaded_once_and_then_only_what_is_new(
    start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    server = start_server()
    data = tmp_path / "definitions" / "incoming"
    (data / "2024").mkdir(parents=True)
    define(server, tmp_path / "definitions", "from: {files: incoming}\n")
    (data / "a.csv").write_text(lines(0, 10))
    (data / "2024" / "b.ndjson").write_text("".join(json.dumps(event(n)) + "\n" for n in range(10, 15)))
    (data / "c.csv.gz").write_bytes(gzip.compress(lines(15, 5).encode()))
    duckdb(
        "COPY (SELECT 's' || (20 + range) AS sale, TIMESTAMPTZ '2024-01-01 00:00:00+02' + INTERVAL 1 SECOND * range AS at,"
        f" (range / 4)::DECIMAL(9,2) AS amount, range::INTEGER AS pieces FROM range(6)) TO '{data}/d.parquet'"
    )
    (data / "README.md").write_text("no rows")
    (data / "_SUCCESS").write_text("")
    report = ingest(server)
    assert report["rows_accepted"] == 26 and len(report["loads"]) == 4, report
    assert counts(server) == (26, 0)
    again = ingest(server)
    assert (again["loads"], again["files_unchanged"]) == ([], 4), again
    server.kill()
    server.start()
    (data / "e.csv").write_text(lines(18, 10))
    report = ingest(server)
    assert [load["rows_accepted"] for load in report["loads"]] == [8], "two are rows of before"
    assert report["files_unchanged"] == 4
    # The same bytes under another name are the same load.
    (data / "f.csv").write_text(lines(0, 10))
    assert ingest(server)["loads"][0]["already_loaded"] is True
    # The command sends a folder's files itself as well.
    assert all(load["already_loaded"] for load in ingest(server, str(data))["loads"])


def test_patterns_choose_files(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    server = start_server()
    data = tmp_path / "incoming"
    for day in ("01", "02"):
        (data / f"day={day}").mkdir(parents=True)
        (data / f"day={day}" / "rows.csv").write_text(lines(int(day) * 100, 3))
        (data / f"day={day}" / "other.csv").write_text("x\n1\n")
    define(server, tmp_path / "definitions", f"from: {{files: {data}/day=*/r*.csv}}\n")
    assert ingest(server)["rows_accepted"] == 6
    define(server, tmp_path / "definitions", f"from: {{files: {data}/**/rows.csv}}\n")
    assert ingest(server)["files_unchanged"] == 2
    for location, words in {
        f"{data}/none/*.csv": "no file matches",
        f"{data}/none": "no such file or folder",
        "s3://bucket/rows": "'s3' cannot be read",
    }.items():
        define(server, tmp_path / "definitions", f'from: {{files: "{location}"}}\n')
        refused = server.cli("ingest", "sales", check=False)
        assert refused.returncode == 2 and words in refused.stderr, refused
    (data / "empty").mkdir()
    define(server, tmp_path / "definitions", f"from: {{files: {data}/empty}}\n")
    assert "holds no file" in server.cli("ingest", "sales", check=False).stderr
    define(server, tmp_path / "definitions")
    assert "does not say where rows come from" in server.cli("ingest", "sales", check=False).stderr


def test_a_source_is_pulled_by_itself(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    server = start_server()
    data = tmp_path / "incoming"
    data.mkdir()
    (data / "a.csv").write_text(lines(0, 4))
    define(server, tmp_path / "definitions", f"from: {{files: {data}, every: 1s}}\n")
    end = time.monotonic() + 30
    while counts(server)[0] < 4 and time.monotonic() < end:
        time.sleep(0.1)
    (data / "b.csv").write_text(lines(4, 4))
    while counts(server)[0] < 8 and time.monotonic() < end:
        time.sleep(0.1)
    assert counts(server) == (8, 0)


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "a cut gzip": ("x.csv.gz", gzip.compress(lines(0, 5000).encode())[:-20], "damaged or cut off"),
    "a damaged gzip": ("x.csv.gz", b"\x1f\x8b\x08\x00" + bytes(50), "gzip"),
    "a cut parquet": ("x.parquet", b"PAR1" + bytes(200), "x.parquet"),
    "zstd": ("x.csv", b"\x28\xb5\x2f\xfd" + bytes(50), "compressed"),
    "a column twice": ("x.csv", b"sale,at,amount,pieces,amount\n", "twice"),
    "UTF-16": ("x.csv", lines(0, 3).encode("utf-16"), ""),
    "a column missing": ("x.csv", b"sale,at,amount\n", "'pieces'"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_bad_file_is_refused_in_one_line(what: str, server: Server, tmp_path: pathlib.Path) -> None:
    name, content, words = BAD_FILES[what]
    define(server, tmp_path / "definitions")
    path = tmp_path / name
    path.write_bytes(content)
    refused = server.cli("ingest", "sales", str(path), check=False)
    assert refused.returncode == 2, refused
    assert len(refused.stderr.strip().splitlines()) == 1 and name in refused.stderr and words in refused.stderr


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("[1, 2] AS pieces", "nested"),
        ("{a: 1} AS pieces", "nested"),
        ("TIMESTAMP '2024-01-01 00:00:00' AS pieces", "without a zone"),
        ("'7' AS pieces", "is VARCHAR"),
        ("1 AS pieces, 2 AS extra", "'extra'"),
    ],
)
def test_a_parquet_column_of_another_type_is_refused(
    column: str, words: str, server: Server, tmp_path: pathlib.Path
) -> None:
    define(server, tmp_path / "definitions")
    path = tmp_path / "x.parquet"
    duckdb(f"COPY (SELECT 'x' AS sale, TIMESTAMPTZ '2024-01-01 00:00:00Z' AS at, 1.5 AS amount, {column}) TO '{path}'")
    refused = server.cli("ingest", "sales", str(path), check=False)
    assert refused.returncode == 2 and words in refused.stderr, refused.stderr


def test_a_load_that_is_killed_goes_on(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    server = start_server()
    count = 300_000
    path = tmp_path / "rows.csv"
    path.write_text(lines(0, count))
    define(server, tmp_path / "definitions", f"from: {{files: {path}}}\n")
    loader = threading.Thread(target=lambda: server.cli("ingest", "sales", check=False))
    loader.start()
    end = time.monotonic() + 60
    while counts(server)[0] < 60_000 and time.monotonic() < end:
        time.sleep(0.02)
    server.kill()
    loader.join()
    server.start()
    stored = counts(server)[0]
    assert 0 < stored < count
    report = ingest(server)["loads"][0]
    assert report["resumed_at_row"] is None or 0 < report["resumed_at_row"] <= stored, report
    assert report["rows_read"] == count and report["rows_accepted"] + report["rows_duplicate"] == count, report
    assert counts(server) == (count, 0)


# Pushes


def test_a_push_answers_the_same_under_its_key(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    server = start_server()
    define(server, tmp_path / "definitions")
    rows = [event(1), event(2, amount="much"), event(3, at="soon"), event(4)]
    key = {"Idempotency-Key": "batch-1"}
    status, first = server.request("POST", "/sources/sales/events", rows, headers=key)
    assert status == 200 and (first["accepted"], first["quarantined"]) == (2, 2)
    assert [entry["position"] for entry in first["rejected"]] == [2, 3]
    assert first["rejected"][0]["reasons"] == ["amount: 'much' is not a number"]
    assert server.request("POST", "/sources/sales/events", rows, headers=key) == (200, first)
    server.kill()
    server.start()
    assert server.request("POST", "/sources/sales/events", rows, headers=key) == (200, first)
    status, answer = server.request("POST", "/sources/sales/events", [event(9)], headers=key)
    assert status == 409 and "another push" in answer["error"]["message"], answer
    assert counts(server) == (2, 2)
    body = "".join(json.dumps(event(n)) + "\n" for n in (4, 5, 6)).encode()
    status, answer = server.request("POST", "/sources/sales/events", raw=body)
    assert status == 200 and (answer["accepted"], answer["duplicates"]) == (2, 1), answer
    assert server.post("/sources/sales/events", event(7))["accepted"] == 1
