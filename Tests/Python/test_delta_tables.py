"""Tables that the server writes are Delta Lake tables to a reader that knows nothing of it."""

import json
import time
import urllib.request
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


def call(url: str, body: object) -> dict:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def find_table(root: Path, name: str, seconds: float = 30) -> Path:
    """The folder of a table below the data directory, once the server has flushed it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for log in root.rglob(f"tables/{name}/_delta_log"):
            if any(log.glob("*.json")):
                return log.parent
        time.sleep(0.2)
    raise AssertionError(f"no table '{name}' under {root}")


def check_every_version(folder: Path) -> None:
    """Each version reads, grows, and holds each log offset exactly once."""
    newest = deltalake.DeltaTable(str(folder))
    rows = 0
    for version in range(newest.version() + 1):
        table = deltalake.DeltaTable(str(folder), version=version).to_pyarrow_table()
        sequences = table["__sequence"].to_pylist()
        assert sorted(sequences) == list(range(len(sequences)))
        assert len(sequences) >= rows
        rows = len(sequences)
    assert rows > 0


def test_every_version_reads_with_deltalake(server):
    call(
        f"{server.url}/api/v1/apply",
        {"files": [{"path": "delta.yaml", "folder": "/", "text": SOURCE}], "dry_run": False},
    )
    for start in (0, 10):
        answer = call(
            f"{server.url}/sources/delta_check/events",
            [
                {"id": f"r{n}", "happened_at": 1_380_000_000_000 + n, "amount": n / 2, "count": n, "flag": n % 2 == 0}
                for n in range(start, start + 10)
            ],
        )
        assert answer["accepted"] == 10
    folder = find_table(Path(server.data_dir), "delta_check")
    check_every_version(folder)
    schema = {field.name: field.type.type for field in deltalake.DeltaTable(str(folder)).schema().fields}
    assert schema["happened_at"] == "timestamp"
    assert (schema["amount"], schema["count"], schema["flag"]) == ("double", "long", "boolean")
