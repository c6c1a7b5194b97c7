"""Tables that the server writes are Delta Lake tables to readers that know nothing of it: before, during and after
maintenance, and whatever it was doing when it was killed."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Server

deltalake = pytest.importorskip("deltalake")

SOURCE = """
kind: Source
name: delta_check
event_time: happened_at
key: [id]
schema:
  - {name: id, type: string, nullable: false}
  - {name: happened_at, type: timestamp, nullable: false}
  - {name: amount, type: float64}
  - {name: count, type: int64}
  - {name: flag, type: bool}
"""


def table_folder(root: Path, name: str) -> Path:
    """The folder of a table below the data directory."""
    [log] = root.rglob(f"tables/{name}/_delta_log")
    return log.parent


def check_every_version(folder: Path, *row_counts: int) -> None:
    """Each version reads, holds each log offset exactly once, and as many rows as it held when it was the newest."""
    newest = deltalake.DeltaTable(str(folder))
    found = []
    for version in range(newest.version() + 1):
        table = deltalake.DeltaTable(str(folder), version=version).to_pyarrow_table()
        sequences = table["__sequence"].to_pylist()
        assert sorted(sequences) == list(range(len(sequences)))
        if not found or found[-1] != len(sequences):
            found.append(len(sequences))
    assert [count for count in found if count] == list(row_counts)


def events(first: int, last: int) -> list[dict]:
    return [
        {"id": f"r{n}", "happened_at": 1_380_000_000_000 + n, "amount": n / 2, "count": n, "flag": n % 2 == 0}
        for n in range(first, last)
    ]


def test_every_version_reads_with_deltalake(server):
    server.post("/api/v1/apply", {"files": [{"path": "delta.yaml", "folder": "/", "text": SOURCE}], "dry_run": False})
    for first in (0, 10, 20):
        assert server.post("/sources/delta_check/events", events(first, first + 10))["accepted"] == 10
        assert server.post("/api/v1/sources/delta_check/flush")["rows"] == 10, "what is new"
    unchanged = server.post("/api/v1/sources/delta_check/flush")
    assert unchanged["rows"] == 0
    assert server.post("/sources/delta_check/events", events(25, 30))["duplicates"] == 5
    assert server.post("/api/v1/sources/delta_check/flush") == unchanged, "nothing new makes no new version"
    folder = table_folder(Path(server.data_dir), "delta_check")
    check_every_version(folder, 10, 20, 30)
    table = deltalake.DeltaTable(str(folder))
    schema = {field.name: field.type.type for field in table.schema().fields}
    assert schema["happened_at"] == "timestamp"
    assert (schema["amount"], schema["count"], schema["flag"]) == ("double", "long", "boolean")
    rows = sorted(table.to_pyarrow_table().to_pylist(), key=lambda row: row["__sequence"])
    assert [(row["id"], row["amount"], row["count"], row["flag"]) for row in rows] == [
        (event["id"], event["amount"], event["count"], event["flag"]) for event in events(0, 30)
    ]
    versions = server.get("/api/v1/sources/delta_check/versions")["versions"]
    assert {version["version"] for version in versions} == set(range(table.version() + 1))


def test_quarantined_rows_are_a_table_too(server):
    server.post("/api/v1/apply", {"files": [{"path": "delta.yaml", "folder": "/", "text": SOURCE}], "dry_run": False})
    answer = server.post("/sources/delta_check/events", [{"id": "q1", "happened_at": "soon"}, {"id": None}])
    assert answer["quarantined"] == 2
    assert server.post("/api/v1/sources/delta_check/flush")["quarantined"] == 2
    [folder] = [log.parent for log in Path(server.data_dir).rglob("*quarantine*/_delta_log") if "delta" in str(log)]
    rows = deltalake.DeltaTable(str(folder)).to_pyarrow_table().to_pylist()
    assert len(rows) == 2


def apply(server: Server) -> None:
    server.post("/api/v1/apply", {"files": [{"path": "delta.yaml", "folder": "/", "text": SOURCE}], "dry_run": False})


def push_files(server: Server, first: int, count: int, rows: int = 5) -> None:
    """Pushes and flushes `count` times, so that as many small files stand in the table."""
    for number in range(first, first + count):
        server.post("/sources/delta_check/events", events(number * rows, number * rows + rows))
        server.post("/api/v1/sources/delta_check/flush")


def ids(folder: Path, version: int | None = None) -> list[str]:
    rows = deltalake.DeltaTable(str(folder), version=version).to_pyarrow_table().to_pylist()
    return [row["id"] for row in sorted(rows, key=lambda row: row["__sequence"])]


def duckdb_rows(query: str) -> Any:
    """Asks DuckDB's own program, as anybody would."""
    program = next((ROOT / ".venv/lib").glob("python*/site-packages/duckdb_cli/duckdb"))
    answer = subprocess.run([program, "-jsonlines", "-c", query], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in answer.stdout.splitlines()]


def test_compaction_and_vacuum_leave_every_reader_the_same_rows(start_server: Callable[..., Server]) -> None:
    server = start_server(
        "--clock", "manual", "--set", "clock.start=2024-01-01T00:00:00Z", "--set", "tables.interval=0"
    )
    apply(server)
    push_files(server, 0, 12)
    folder = table_folder(Path(server.data_dir), "delta_check")
    expected = [f"r{n}" for n in range(60)]
    assert ids(folder) == expected

    report = server.post("/api/v1/tables/delta_check/compact")
    assert (report["files_before"], report["files_after"], report["rows"]) == (12, 1, 60)
    newest = deltalake.DeltaTable(str(folder))
    assert len(newest.file_uris()) == 1
    assert newest.history(1)[0]["operation"] == "OPTIMIZE"
    assert ids(folder) == expected
    assert ids(folder, version=3) == expected[:20], "an older version still reads its small files"
    [large] = newest.file_uris()
    path = str(folder / large.split("/")[-1])
    assert duckdb_rows(f"SELECT count(*) AS n, count(DISTINCT id) AS d FROM '{path}'") == [{"n": 60, "d": 60}]

    server.post("/api/v1/clock", {"now": "2024-03-01T00:00:00Z"})
    plan = server.post("/api/v1/tables/delta_check/vacuum", {"dry_run": True})
    assert plan["removed_files"] == 24
    assert all(file["reason"] for file in plan["files"])
    assert ids(folder, version=3) == expected[:20], "a rehearsal removes nothing"
    done = server.post("/api/v1/tables/delta_check/vacuum", {"dry_run": False})
    assert done["files"] == plan["files"]
    assert done["oldest_version"] == 12
    stored = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    gone = {file["path"] for file in plan["files"] if file["removed"]}
    assert not stored & gone
    assert "_delta_log/00000000000000000012.checkpoint.parquet" in stored
    assert ids(folder) == expected, "the table reads from its checkpoint"
    status, answer = server.request("GET", "/api/v1/tables/delta_check/rows?version=3")
    assert status == 404 and "retention" in answer["error"]["message"]

    push_files(server, 12, 1)
    server.stop()
    server.start()
    push_files(server, 13, 1)
    assert ids(folder) == [f"r{n}" for n in range(70)]
    deltalake.DeltaTable(str(folder)).to_pyarrow_table().validate(full=True)


def test_polars_duckdbs_extension_and_the_delta_kernel_read_the_table(start_server: Callable[..., Server]) -> None:
    """Each reader by itself; one that is not installed is skipped."""
    server = start_server(
        "--clock", "manual", "--set", "clock.start=2024-01-01T00:00:00Z", "--set", "tables.interval=0"
    )
    apply(server)
    push_files(server, 0, 6)
    server.post("/api/v1/tables/delta_check/compact")
    server.post("/api/v1/clock", {"now": "2024-03-01T00:00:00Z"})
    server.post("/api/v1/tables/delta_check/vacuum", {"dry_run": False})
    push_files(server, 6, 1)
    folder = table_folder(Path(server.data_dir), "delta_check")
    read = 0
    try:
        import polars
    except ImportError:
        pass
    else:
        assert polars.read_delta(str(folder)).sort("__sequence")["id"].to_list() == [f"r{n}" for n in range(35)]
        read += 1
    try:
        rows = duckdb_rows(f"LOAD delta; SELECT count(*) AS n FROM delta_scan('{folder}')")
    except subprocess.CalledProcessError:
        pass
    else:
        assert rows == [{"n": 35}]
        read += 1
    try:
        import delta_kernel_rust_sharing_wrapper as kernel
        import pyarrow
    except ImportError:
        pass
    else:
        url = folder.as_uri()
        engine = kernel.PythonInterface(url)
        scan = kernel.ScanBuilder(kernel.Table(url).snapshot(engine)).build()
        rows = pyarrow.Table.from_batches(scan.execute(engine)).sort_by("__sequence")
        assert rows["id"].to_pylist() == [f"r{n}" for n in range(35)]
        read += 1
    if not read:
        pytest.skip("neither polars nor DuckDB's delta extension nor the Delta kernel is installed")


def test_a_table_is_shown_as_it_was(start_server: Callable[..., Server]) -> None:
    server = start_server(
        "--clock", "manual", "--set", "clock.start=2024-01-01T00:00:00Z", "--set", "tables.interval=0"
    )
    apply(server)
    for word in ("show", "compact", "history", "vacuum", "list"):
        bare = server.cli("table", word, *[] if word == "list" else ["delta_check"]).stdout
        assert "-1" not in bare, bare
    assert "delta_check has no version yet" in server.cli("table", "show", "delta_check").stdout
    for day in (1, 2, 3):
        server.post("/api/v1/clock", {"now": f"2024-01-0{day}T12:00:00Z"})
        push_files(server, day - 1, 1)
    then = server.get("/api/v1/tables/delta_check/rows?as_of=2024-01-02T18:00:00Z&limit=100")
    assert [row["id"] for row in then["rows"]] == [f"r{n}" for n in range(10)]
    known = server.get("/api/v1/tables/delta_check/rows?known_at=2024-01-02T00:00:00Z&limit=100")
    assert [row["id"] for row in known["rows"]] == [f"r{n}" for n in range(5)], "the bitemporal question"
    shown = server.cli("table", "show", "delta_check", "--version", "0", "--limit", "3").stdout
    assert "r2" in shown and "r3" not in shown
    assert "delta_check" in server.cli("table", "list").stdout
    assert "WRITE" in server.cli("table", "history", "delta_check").stdout
    assert "keep" in server.cli("table", "vacuum", "delta_check", "--dry-run").stdout
    refused = server.cli("table", "show", "delta_chek", check=False)
    assert refused.returncode == 4 and "did you mean 'delta_check'" in refused.stderr


def test_a_kill_in_the_middle_of_maintenance_loses_nothing(start_server: Callable[..., Server]) -> None:
    """Flushes, compactions and vacuums, cut off at any moment; a reader from outside finds every row once."""
    server = start_server("--set", "tables.interval=0")
    apply(server)
    dice = random.Random(7)
    folder: Path | None = None
    rows = 0
    for _ in range(8):
        for _ in range(3):
            server.post("/sources/delta_check/events", events(rows, rows + 7))
            rows += 7
            server.post("/api/v1/sources/delta_check/flush")
        folder = folder or table_folder(Path(server.data_dir), "delta_check")
        for path, body in (("compact", {}), ("vacuum", {"dry_run": False, "retention": "1h"}), ("compact", {})):
            server.request("POST", f"/api/v1/tables/delta_check/{path}", body)
        killer = threading.Timer(dice.uniform(0, 0.25), server.process.kill)
        killer.start()
        killer.join()
        server.kill()
        assert ids(folder) == [f"r{n}" for n in range(rows)]
        server.start()
    server.post("/api/v1/tables/delta_check/compact")
    assert ids(folder) == [f"r{n}" for n in range(rows)]


def test_the_background_compacts_what_is_small(start_server: Callable[..., Server]) -> None:
    server = start_server("--set", "tables.interval=1", "--set", "tables.compact=4")
    apply(server)
    push_files(server, 0, 6)
    folder = table_folder(Path(server.data_dir), "delta_check")
    end = time.monotonic() + 60
    while time.monotonic() < end and len(deltalake.DeltaTable(str(folder)).file_uris()) > 3:
        time.sleep(0.1)
    assert len(deltalake.DeltaTable(str(folder)).file_uris()) <= 3
    assert ids(folder) == [f"r{n}" for n in range(30)]
