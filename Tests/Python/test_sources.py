"""Rows from files, folders, pushes and databases: once each, checked, and never lost by a crash."""

from __future__ import annotations

import gzip
import json
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow
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


def answer_of(sql: str) -> list[dict[str, Any]]:
    command = [ROOT / ".venv/bin/duckdb", "-json", "-c", sql]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


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
    (data / "c.csv.gz").write_bytes(gzip.compress(lines(15, 3).encode()))
    frames = [lines(18, 1).encode(), lines(19, 1).split("\n", 1)[1].encode()]
    (data / "c.csv.zst").write_bytes(b"".join(pyarrow.compress(frame, "zstd", asbytes=True) for frame in frames))
    duckdb(
        "COPY (SELECT 's' || (20 + range) AS sale,"
        " TIMESTAMPTZ '2024-01-01 00:00:00+02' + INTERVAL 1 SECOND * range AS at,"
        f" (range / 4)::DECIMAL(9,2) AS amount, range::INTEGER AS pieces FROM range(6)) TO '{data}/d.parquet'"
    )
    (data / "README.md").write_text("no rows")
    (data / "_SUCCESS").write_text("")
    report = ingest(server)
    assert report["rows_accepted"] == 26 and len(report["loads"]) == 5, report
    assert counts(server) == (26, 0)
    again = ingest(server)
    assert (again["loads"], again["files_unchanged"]) == ([], 5), again
    server.kill()
    server.start()
    (data / "e.csv").write_text(lines(18, 10))
    report = ingest(server)
    assert [load["rows_accepted"] for load in report["loads"]] == [8], "two are rows of before"
    assert report["files_unchanged"] == 5
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

    def pulls() -> list[str]:
        entries = server.get("/api/v1/audit?limit=1000")["entries"]
        return [e["action"] for e in entries if e["subject"] == "source/sales" and e["actor"] == "schedule"]

    while len(pulls()) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    assert set(pulls()) == {"source.pulled"} and 1 <= len(pulls()) <= 8, "one entry for each pull that brought rows"


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "a cut gzip": ("x.csv.gz", gzip.compress(lines(0, 5000).encode())[:-20], "damaged or cut off"),
    "a damaged gzip": ("x.csv.gz", b"\x1f\x8b\x08\x00" + bytes(50), "gzip"),
    "a cut parquet": ("x.parquet", b"PAR1" + bytes(200), "x.parquet"),
    "a damaged zstd": ("x.csv.zst", b"\x28\xb5\x2f\xfd" + b"\xff" * 50, "Zstandard file is damaged"),
    "a cut zstd": (
        "x.ndjson.zst",
        pyarrow.compress(lines(0, 5000).encode(), "zstd", asbytes=True)[:-20],
        "Zstandard file is cut off",
    ),
    "packed twice": ("x.csv.gz", gzip.compress(gzip.compress(b"a")), "compressed"),
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
        ("[1, 2] AS pieces", "INTEGER[]"),
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


# Contracts


def test_a_load_is_refused_whole(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    server = start_server("--clock", "manual")
    server.post("/api/v1/clock", {"now": "2024-01-01T06:00:00Z"})
    checks = """
expectations:
  - {name: recent, freshness: 1h}
  - {name: volume, row_count_change: [50%, 200%], loads: 3}
  - {name: amounts, column: amount, distribution: {mean: [0, 60], p99: [~, 100], null_share: [0, 10%]}}
  - {name: no_refunds, sql: "SELECT sale, amount FROM batch WHERE amount < 0"}
  - {name: enough_pieces, sql: "SELECT sum(pieces) > 10 FROM batch", severity: warn}
  - {name: known_pieces, column: pieces, range: [0, 5], severity: warn}
"""
    define(server, tmp_path / "definitions", checks)
    path = tmp_path / "rows.csv"

    def rows(first: int, count: int, amount: str = "{n}") -> str:
        text = [f"s{n},{moment(5 * 3600 + n)},{amount.format(n=n % 50)},{n % 7}" for n in range(first, first + count)]
        return "\n".join([HEADER, *text]) + "\n"

    path.write_text(rows(0, 100))
    report = ingest(server, str(path))
    assert report["rows_accepted"] == 100 and report["warnings"], report
    for text, words in [
        (rows(100, 30), "volume: 30 rows are 0.3 times the mean"),
        (rows(100, 100, "9{n}"), "amounts: amount: mean is"),
        (rows(100, 100, ""), "null_share is 1.0"),
        (rows(100, 100, "-1"), "no_refunds: the query finds 100 rows"),
        (
            "\n".join([HEADER, *(f"o{n},2024-01-01T00:00:00Z,1,1" for n in range(80))]) + "\n",
            "recent: the newest event",
        ),
    ]:
        path.write_text(text)
        refused = server.cli("ingest", "sales", str(path), check=False)
        assert refused.returncode == 3 and words in refused.stderr and "nothing was stored" in refused.stderr, refused
    assert counts(server) == (100, 0)
    reports = server.get("/api/v1/sources/sales/checks")["checks"]
    assert [entry["refused"] for entry in reports].count(True) == 5 and len(reports) == 6
    [stored] = [entry for entry in reports if not entry["refused"]]
    assert stored["statistics"]["evaluated_expectations"] == 6 and stored["success"] is False
    [known] = [entry for entry in stored["results"] if entry["expectation"]["name"] == "known_pieces"]
    assert known["result"]["unexpected_count"] == 14 and known["result"]["element_count"] == 100
    shown = server.cli("data", "checks", "sales").stdout
    assert "REFUSED" in shown and "no_refunds" in shown


def test_what_must_be_unique_is_there_once(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    server = start_server()
    define(server, tmp_path / "definitions", "expectations: [{column: sale, unique: true}]\n")
    path = tmp_path / "rows.csv"
    path.write_text(lines(0, 20) + f"s3,{moment(50)},1,1\ns3,{moment(3)},3.5,3\n")
    report = ingest(server, str(path))
    assert (report["rows_accepted"], report["rows_quarantined"], report["rows_duplicate"]) == (20, 1, 1), report
    server.kill()
    server.start()
    answer = server.post("/sources/sales/events", [event(5), event(77), event(77, amount=1)])
    assert (answer["accepted"], answer["quarantined"]) == (1, 2), answer
    assert answer["rejected"][0] == {"position": 1, "reasons": ["sale: 's5' is there already"]}
    assert counts(server) == (21, 3)


def test_rows_leave_quarantine_after_a_fix(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    server = start_server()
    strict = (
        "expectations: [{name: small, column: amount, range: [0, 5]}, {name: few, column: pieces, range: [0, 2]}]\n"
    )
    define(server, tmp_path / "definitions", strict)
    path = tmp_path / "rows.csv"
    path.write_text(f"{HEADER}\na,{moment(1)},9,1\nb,{moment(2)},9,9\nc,{moment(3)},1,1\nbroken\n")
    assert ingest(server, str(path))["rows_quarantined"] == 3
    server.post("/sources/sales/events", [{"sale": "d", "at": moment(4), "amount": 7, "pieces": 1}])
    assert counts(server) == (1, 4)
    shown = server.cli("quarantine", "list", "sales").stdout
    assert "amount: is outside of 0.0 to 5.0" in shown and "rows.csv:2" in shown, shown
    define(server, tmp_path / "definitions", strict.replace("[0, 5]", "[0, 50]"))
    replayed = json.loads(server.cli("quarantine", "replay", "sales", "--reason", "amount", "--json").stdout)
    assert (replayed["accepted"], replayed["refused"]) == (2, 1), replayed
    assert counts(server) == (3, 2)
    again = json.loads(server.cli("quarantine", "replay", "sales", "--json").stdout)
    assert (again["accepted"], again["refused"]) == (0, 2), again
    waiting = server.get("/api/v1/sources/sales/quarantine")["rows"]
    assert sorted(row["reasons"][0] for row in waiting) == [
        "line: has 1 fields, the header has 4",
        "pieces: '9' is outside of 0.0 to 2.0",
    ]
    server.kill()
    server.start()
    assert counts(server) == (3, 2)
    assert "2 rows given up" in server.cli("quarantine", "discard", "sales").stdout
    assert counts(server) == (3, 0)
    assert ingest(server, str(path))["already_loaded"] is True


def test_a_new_column_is_handled_as_the_policy_says(
    start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    server = start_server()
    path = tmp_path / "rows.csv"
    wide = f"{HEADER},shop\nw1,{moment(1)},1,1,north\n"
    path.write_text(wide)
    define(server, tmp_path / "definitions")
    refused = server.cli("ingest", "sales", str(path), check=False)
    assert refused.returncode == 2 and "'shop'" in refused.stderr and "on_schema_change" in refused.stderr
    define(server, tmp_path / "definitions", "on_schema_change: ignore\n")
    path.write_text(wide.replace("w1", "w2"))
    assert ingest(server, str(path))["ignored_columns"] == ["shop"]
    define(server, tmp_path / "definitions", "on_schema_change: add\n")
    path.write_text(wide.replace("w1", "w3"))
    report = ingest(server, str(path))
    assert report["rows_accepted"] == 1 and "{name: shop, type: string}" in report["schema_changes"][0], report
    answer = server.post("/sources/sales/events", [event(9, till=4), event(10, till=5, shop="south"), event(11)])
    assert answer["accepted"] == 3 and any("till" in change for change in answer["schema_changes"]), answer
    path.write_text(f"sale,at,amount\nw4,{moment(4)},2\n")
    assert any("'pieces' is missing" in change for change in ingest(server, str(path))["schema_changes"])
    server.kill()
    server.start()
    [source] = server.get("/api/v1/sources")["sources"]
    assert {column["name"]: column["type"] for column in source["columns"]}["till"] == "int64"
    flushed = server.post("/api/v1/sources/sales/flush")
    assert flushed["rows"] == 6, flushed
    [file] = server.data_dir.rglob("tables/sales/*.parquet")
    rows = answer_of(f"SELECT sale, shop, till FROM read_parquet('{file}')")
    table = {row["sale"]: (row["shop"], row["till"]) for row in rows}
    assert table["w3"] == ("north", None) and table["s10"] == ("south", 5) and table["w2"] == (None, None)


def test_fractions_widen_a_column_that_nothing_reads(
    start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    server = start_server()
    path = tmp_path / "rows.csv"
    path.write_text(f"{HEADER}\nx1,{moment(1)},1,2.5\nx2,{moment(2)},1,3\n")
    define(server, tmp_path / "definitions", "on_schema_change: widen\n")
    report = ingest(server, str(path))
    assert report["rows_accepted"] == 2 and "kept as float64" in report["schema_changes"][0], report
    view = """
---
kind: Entity
name: sale
keys: [sale]
---
kind: FeatureView
name: sold
entities: [sale]
source: orders
features: [{name: pieces, aggregate: last, column: pieces}]
---
"""
    more = view + SOURCE.replace("name: sales", "name: orders") + "on_schema_change: widen\n"
    define(server, tmp_path / "definitions", "on_schema_change: widen\n" + more)
    refused = server.cli("ingest", "orders", str(path), check=False)
    assert refused.returncode == 2 and "FeatureView/sold" in refused.stderr, refused


def test_a_sample_is_the_same_everywhere(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    kept = []
    for name in ("one", "two"):
        server = start_server(name=name)
        define(server, tmp_path / f"definitions-{name}", "sample: 10%\n")
        path = tmp_path / "rows.csv"
        path.write_text(lines(0, 2000))
        report = ingest(server, str(path))
        assert report["rows_accepted"] + report["rows_sampled_out"] == 2000
        assert 140 < report["rows_accepted"] < 260, report
        answer = server.post("/sources/sales/events", [event(n, amount=-1) for n in range(100)])
        kept.append((report["rows_accepted"], answer["accepted"], answer["sampled_out"]))
        server.stop()
    assert kept[0] == kept[1]


def test_a_filter_leaves_rows_out(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    server = start_server()
    define(server, tmp_path / "definitions", 'filter: "amount > 50 and pieces is not null"\n')
    path = tmp_path / "rows.csv"
    path.write_text(lines(0, 200) + f"n1,{moment(1)},99,\nn2,{moment(1)},,1\nn3,{moment(1)},many,1\n")
    report = ingest(server, str(path))
    assert (report["rows_accepted"], report["rows_filtered"], report["rows_quarantined"]) == (100, 102, 1), report
    answer = server.post("/sources/sales/events", [event(900), event(901, amount=1), event(902, amount=None)])
    assert (answer["accepted"], answer["filtered"]) == (1, 2), answer
    for text, words in [("amount >", "filter"), ("amont > 1", "amount"), ("amount + 1", "true or false")]:
        (tmp_path / "definitions" / "sources.yaml").write_text(SOURCE + f'filter: "{text}"\n')
        refused = server.cli("apply", str(tmp_path / "definitions"), check=False)
        assert refused.returncode == 2 and words in refused.stderr and "sources.yaml:" in refused.stderr, refused


# PostgreSQL


class Postgres:
    """A PostgreSQL of our own on a free port, in a folder of its own; it refuses to run as root."""

    def __init__(self) -> None:
        self.bin = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), default=pathlib.Path("/none"))
        if not (self.bin / "initdb").exists():
            pytest.skip("no PostgreSQL server is installed; 'tools/setup.sh test' does that")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
        self.user: list[str] = []
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            self.user = ["runuser", "-u", "postgres", "--"]
        (self.folder / "password").write_text("s3cret-word\n")
        (self.folder / "password").chmod(0o644)
        data = str(self.folder / "data")
        made = [self.bin / "initdb", "-D", data, "-U", "shop", "-A", "scram-sha-256", "--no-sync", "-E", "UTF8"]
        subprocess.run(
            [*self.user, *made, f"--pwfile={self.folder}/password"], check=True, capture_output=True, cwd=self.folder
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        options = [
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-k",
            str(self.folder),
            "-F",
            "-c",
            "timezone=America/New_York",
        ]
        self.process = subprocess.Popen(
            [*self.user, self.bin / "postgres", "-D", data, *options], stderr=subprocess.DEVNULL, cwd=self.folder
        )
        self.url = f"postgresql://shop:s3cret-word@127.0.0.1:{self.port}/postgres"
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if subprocess.run([self.bin / "pg_isready", "-d", self.url], capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        pytest.fail("PostgreSQL did not start")

    def __call__(self, sql: str) -> None:
        command = [self.bin / "psql", self.url, "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]
        subprocess.run(command, check=True, capture_output=True, text=True)

    def close(self) -> None:
        subprocess.run([*self.user, self.bin / "pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop"],
                       check=False, capture_output=True, cwd=self.folder)  # fmt: skip
        self.process.wait(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    database = Postgres()
    database(
        "CREATE TABLE sales (sale text PRIMARY KEY, at timestamptz, amount numeric(12, 4), pieces bigint, note jsonb);"
        "INSERT INTO sales SELECT 's' || n, timestamptz '2024-01-01 00:00:00+00' + n * interval '1 second',"
        " CASE WHEN n % 10 = 0 THEN NULL ELSE n / 8.0 END, n % 7, '{}' FROM generate_series(0, 9999) AS n"
    )
    yield database
    database.close()


def query(sql: str, more: str = "") -> str:
    return f"from:\n  postgres:\n    connection: SHOP_DATABASE\n    query: >-\n      {sql}\n{more}"


COLUMNS = "SELECT sale, at, amount, pieces FROM sales"


def test_a_query_is_pulled_from_where_it_was(
    postgres: Postgres, start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    server = start_server(environment={"SHOP_DATABASE": postgres.url})
    define(server, tmp_path / "definitions", query(COLUMNS, "    cursor: at\n    overlap: 10s\n"))
    report = ingest(server)
    assert report["rows_accepted"] == 10_000 and report["watermark"].startswith("2024-01-01 02:46:39"), report
    again = ingest(server)["loads"][0]
    assert (again["rows_accepted"], again["rows_duplicate"]) == (0, 11), again
    postgres(
        "INSERT INTO sales VALUES ('late', '2024-01-01 02:46:35+00', 1, 1), ('new', '2024-01-01 04:00:00+01', 2.5, 2)"
    )
    server.kill()
    server.start()
    report = ingest(server)
    assert report["rows_accepted"] == 2, report
    assert counts(server) == (10_002, 0)
    text = (tmp_path / "data.log").read_text() + json.dumps(server.get("/api/v1/definitions"))
    assert "s3cret" not in text
    server.post("/api/v1/sources/sales/flush")
    [file] = server.data_dir.rglob("tables/sales/*.parquet")
    rows = answer_of(
        f"SELECT sale, epoch_ms(\"at\") AS ms, amount FROM read_parquet('{file}') WHERE sale IN ('s9', 's10', 'new')"
    )
    assert {row["sale"]: (row["ms"], row["amount"]) for row in rows} == {
        "s9": (1_704_067_209_000, 1.125), "s10": (1_704_067_210_000, None), "new": (1_704_078_000_000, 2.5),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "more", "words"),
    [
        ("SELECT sale, at, amount FROM sales", "", "'pieces'"),
        ("SELECT sale, at AT TIME ZONE 'UTC' AS at, amount, pieces FROM sales", "", "without a zone"),
        ("SELECT sale, at, note AS amount, pieces FROM sales", "", "is jsonb"),
        ("SELECT sale, at, ARRAY[1] AS amount, pieces FROM sales", "", "array"),
        ("SELECT sale, at, amount, sale AS pieces FROM sales", "", "is text"),
        ("SELECT sale, at, amount, pieces, pieces FROM sales", "", "twice"),
        ("SELECT sale, at, amount, pieces, note FROM sales", "", "'note'"),
        ("SELECT nothing FROM sales", "", "nothing"),
        ("SELECT sale, at, amount, 1 / (pieces - 3) AS pieces FROM sales", "", "division by zero"),
        ("DELETE FROM sales", "", "refuses the query"),
        ("SELECT sale, at, amount, pieces FROM sales, pg_sleep(5)", "    timeout: 500ms\n", "timeout"),
    ],
)
def test_a_query_that_does_not_fit_is_refused(
    sql: str, more: str, words: str, postgres: Postgres, start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    server = start_server("--set", "monitor.enabled=false", environment={"SHOP_DATABASE": postgres.url})
    define(server, tmp_path / "definitions", query(sql, more))
    refused = server.cli("ingest", "sales", check=False)
    assert refused.returncode in (1, 2) and words in refused.stderr, refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1 and "s3cret" not in refused.stderr, refused.stderr
    assert counts(server) == (0, 0)


def test_a_database_that_cannot_be_reached(
    postgres: Postgres, start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    define_with = query(COLUMNS)
    for url, words in [
        (postgres.url.replace("s3cret-word", "wrong-s3cret"), "password authentication failed"),
        ("host=127.0.0.1 port=1 password=s3cret-word dbname=x", "Connection refused"),
        ("postgresql://shop:s3cret-word@nowhere.invalid/x", "PostgreSQL cannot be reached"),
        ("", "SHOP_DATABASE is not set"),
    ]:
        server = start_server(name=f"data{len(url)}", environment={"SHOP_DATABASE": url})
        define(server, tmp_path / "definitions", define_with)
        refused = server.cli("ingest", "sales", check=False)
        assert refused.returncode in (1, 2) and words in refused.stderr, refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr
        assert "s3cret" not in refused.stderr, refused.stderr
        server.stop()
    server = start_server(name="last")
    text = define_with.replace("SHOP_DATABASE", postgres.url)
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "sources.yaml").write_text(SOURCE + text)
    refused = server.cli("apply", str(folder), check=False)
    assert refused.returncode == 2 and "name of an environment variable" in refused.stderr
    assert "s3cret" not in refused.stderr
