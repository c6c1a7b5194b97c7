"""Tables that the server writes are Delta Lake tables to a reader that knows nothing of it."""

from pathlib import Path

import pytest

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
