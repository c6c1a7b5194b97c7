"""Faults from outside while the platform works: hostile events, a clock that jumps, a query engine that dies."""

from __future__ import annotations

import json
import math
import os
import pathlib
import random
import signal
import subprocess
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import shop
from conftest import Server

DAYS = 6
NOW = shop.START + DAYS * shop.DAY
SPAN = ["--from", shop.text(shop.START + shop.DAY), "--to", shop.text(NOW)]


def started(
    start_server: Callable[..., Server], folder: pathlib.Path, *arguments: str, now: int = NOW, name: str = "data"
) -> Server:
    """A server with the shop's definitions, no rows, and a clock that we move."""
    server = start_server("--clock", "manual", *arguments, name=name)
    server.cli("apply", str(shop.write_definitions(folder / "definitions")))
    server.post("/api/v1/clock", {"now": now})
    return server


def online(server: Server, customers: list[str | None], moment: int | None = None) -> list[dict[str, Any]]:
    """What the views say of customers, under the names of the training set's columns."""
    found: list[dict[str, Any]] = [{} for _ in customers]
    for view in ("paid", "fresh"):
        body: dict[str, Any] = {"entities": [{} if c is None else {"customer": c} for c in customers]}
        if moment is not None:
            body["as_of"] = moment
        answer = server.post(f"/features/groups/{view}/get-online", body)
        for values, entity in zip(found, answer["entities"], strict=True):
            names = (name if "__" in name else f"{view}__{name}" for name in answer["names"])
            values.update(zip(names, entity["values"], strict=True))
    return found


# DuckDB dies


class Killer(threading.Thread):
    """Kills the `number`-th DuckDB process that the server starts from now on."""

    def __init__(self, server: Server, number: int) -> None:
        super().__init__(daemon=True)
        assert server.process is not None
        self.server_id, self.number, self.seen, self.hits = server.process.pid, number, set[int](), 0
        self.end = threading.Event()

    def children(self) -> Iterator[int]:
        for task in pathlib.Path(f"/proc/{self.server_id}/task").iterdir():
            try:
                yield from map(int, (task / "children").read_text().split())
            except OSError:
                continue

    def run(self) -> None:
        while not self.end.is_set():
            for child in self.children():
                if child in self.seen:
                    continue
                try:
                    words = pathlib.Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"-jsonlines" not in words:
                    continue  # not yet, or not ours
                self.seen.add(child)
                if len(self.seen) == self.number:
                    os.kill(child, signal.SIGKILL)
                    self.hits += 1
            time.sleep(0.0005)


def interrupted(server: Server, number: int, *command: str) -> tuple[subprocess.CompletedProcess[str], int]:
    killer = Killer(server, number)
    killer.start()
    result = server.cli(*command, check=False)
    killer.end.set()
    killer.join()
    return result, killer.hits


def leftovers(server: Server) -> list[str]:
    """Files of the moment that nobody needs any more."""
    return [
        str(path) for part in ("spill", "spool", "objects/staging") for path in (server.data_dir / part).rglob("*")
        if path.is_file()
    ]  # fmt: skip


@pytest.mark.parametrize("engine", ["duckdb", "native"])
def test_duckdb_killed_at_every_step_of_a_training_set(
    engine: str, start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    server = started(start_server, tmp_path, "--set", f"features.engine={engine}")
    rows = shop.history(DAYS)
    for name in ("payments", "orders", "outcomes"):
        server.cli("ingest", name, str(shop.write_csv(tmp_path / f"{name}.csv", getattr(rows, name))))
    build = ("dataset", "build", "loss", *SPAN, "--json")
    failures = 0
    for number in range(1, 40):
        result, hits = interrupted(server, number, *build)
        assert leftovers(server) == []
        if result.returncode == 0:
            if hits == 0:
                break  # there are no more steps
            continue  # it was on its way out already
        failures += 1
        assert result.returncode == 1, result
        lines = result.stderr.strip().splitlines()
        assert "DuckDB died by signal 9" in lines[-1], lines
        assert server.get("/api/v1/status")["idle"]
    assert failures >= 2, "DuckDB has several steps"
    dataset = json.loads(result.stdout)
    again = json.loads(server.cli(*build).stdout)
    assert again["dataset"] == dataset["dataset"], "nothing of the failed attempts is in it"
    tables = {t["name"]: t["rows"] for t in server.get("/api/v1/tables")["tables"]}
    counts = {name: len(getattr(rows, name)) for name in ("payments", "orders", "outcomes")}
    assert {name: tables[name] for name in counts} == counts

    check = ("dataset", "check", dataset["dataset"], "--json")
    untroubled = json.loads(server.cli(*check).stdout)
    failures = 0
    for number in range(1, 60):
        result, hits = interrupted(server, number, *check)
        if result.returncode in (0, 3):
            if hits == 0:
                break
            continue
        failures += 1
        assert result.returncode == 1 and "DuckDB died by signal 9" in result.stderr, result
        assert leftovers(server) == []
    assert failures >= 1
    assert json.loads(server.cli(*check).stdout)["findings"] == untroubled["findings"]


# Events in the wrong order, more than once, and from the future


def test_events_out_of_order_duplicated_and_from_the_future(
    start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    """Rows in any order, some of them many times, most from days ahead: values are those of the history."""
    server = started(start_server, tmp_path, now=shop.START + shop.DAY)
    rows = [row | {"method": row["method"]} for row in shop.history(DAYS).payments]
    draw = random.Random(8)
    mixed = rows + draw.choices(rows, k=200)
    draw.shuffle(mixed)
    accepted = 0
    for start in range(0, len(mixed), 90):
        body = [shown(row) for row in mixed[start : start + 90]]
        answer = server.post("/sources/payments/events", body)
        accepted += answer["accepted"]
        assert answer["quarantined"] == 0, answer
    assert accepted == len(rows), "the same content counts once"
    # Most rows are days ahead of the clock, in event time and in knowledge time: each counts from its own moment on.
    customers = [f"c{n:02d}" for n in range(25)]
    for moment in (shop.START + shop.DAY, shop.START + shop.DAY * 5 // 2, NOW):
        server.post("/api/v1/clock", {"now": moment})
        for customer, values in zip(customers, online(server, list(customers)), strict=True):
            assert values == shop.expected_features(rows, customer, moment)
    server.kill()
    server.start()
    for customer, values in zip(customers, online(server, list(customers), NOW), strict=True):
        assert values == shop.expected_features(rows, customer, NOW)
    # One from a hundred years ahead neither counts today nor pushes anything out.
    far = {"payment": "far", "paid_at": "2124-01-01T00:00:00Z", "known_at": "2124-01-01T00:00:00Z", "customer": "c01",
           "amount": 1.0, "method": "card"}  # fmt: skip
    assert server.post("/sources/payments/events", far)["accepted"] == 1
    assert online(server, ["c01"], NOW) == [shop.expected_features(rows, "c01", NOW)]


def shown(row: dict[str, Any]) -> dict[str, Any]:
    return {key: shop.text(value) if key in shop.TIMES else value for key, value in row.items()}


# Numbers that are none, texts without end


def test_numbers_that_are_none(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    server = started(start_server, tmp_path)
    moment = shop.text(shop.START)
    head = f'{{"payment": "n", "paid_at": "{moment}", "known_at": "{moment}", "customer": "c01", "amount": '
    for word in ("NaN", "Infinity", "-Infinity", "nan", "1e999", "-1e400", "0x10", "01", "1.", ".5", "+1"):
        raw = (head + word + "}").encode()
        status, answer = server.request("POST", "/sources/payments/events", raw=raw)
        assert status == 422, (word, answer)
        assert "line 1" in answer["error"]["message"], answer
    for word in ('"NaN"', '"inf"', "true", "[1]"):
        answer = server.post("/sources/payments/events", json.loads(head + word + "}"))
        assert answer["quarantined"] == 1 and "amount: " in next(iter(answer["reasons"])), answer
    lines = [
        f"{n},{moment},{moment},c01,{word},card" for n, word in enumerate(["nan", "NaN", "inf", "-inf", "1e999", "2"])
    ]
    path = tmp_path / "rows.csv"
    path.write_text("payment,paid_at,known_at,customer,amount,method\n" + "\n".join(lines) + "\n")
    report = json.loads(server.cli("ingest", "payments", str(path), "--json").stdout)
    assert (report["rows_accepted"], report["rows_quarantined"]) == (1, 5), report
    # A Parquet file can hold them: not a number is null there (as pandas writes it), an infinity is refused.
    values = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 3.0]
    time_type = pyarrow.timestamp("ms", tz="UTC")
    table = pyarrow.table({
        "payment": [f"q{n}" for n in range(len(values))],
        "paid_at": pyarrow.array([shop.START] * len(values), time_type),
        "known_at": pyarrow.array([shop.START] * len(values), time_type),
        "customer": ["c02"] * len(values), "amount": pyarrow.array(values), "method": ["card"] * len(values),
    })  # fmt: skip
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    report = json.loads(server.cli("ingest", "payments", str(tmp_path / "rows.parquet"), "--json").stdout)
    # The largest double is beyond the range that the source expects.
    assert (report["rows_accepted"], report["rows_quarantined"]) == (4, 3), report
    [values] = online(server, ["c02"], shop.START + 1000)
    assert (values["paid__count_7d"], values["paid__sum_7d"], values["paid__max_7d"]) == (4, 3.0, 3.0)


LONG = "x" * (10 << 20)


def test_texts_of_ten_megabytes(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    """Each is refused where it stands, the rows beside it are kept, and nothing of that size is echoed or kept."""
    server = started(start_server, tmp_path)
    good = {"payment": "g", "paid_at": shop.START, "known_at": shop.START, "customer": "c01", "amount": 1.0}
    for n, long in enumerate(({"payment": LONG}, {"customer": LONG}, {"method": LONG}, {LONG: 1})):
        rows = [good | {"payment": f"g{n}"}, good | {"payment": f"long{n}"} | long]
        status, answer = server.request("POST", "/sources/payments/events", rows)
        assert status == 200 and (answer["accepted"], answer["quarantined"]) == (1, 1), str(answer)[:500]
        assert len(json.dumps(answer)) < 2000
        lines = "\n".join(json.dumps(row | {"payment": row["payment"] + "l"}) for row in rows).encode()
        status, answer = server.request(
            "POST", "/sources/payments/events", raw=lines, headers={"Content-Type": "application/x-ndjson"}
        )
        assert (answer["accepted"], answer["quarantined"]) == (1, 1), str(answer)[:500]
    header = "payment,paid_at,known_at,customer,amount,method"
    for n, cell in enumerate((LONG, f'"{LONG}"', f'"{LONG}')):  # the last one's quote never ends
        path = tmp_path / f"long{n}.csv"
        now = shop.text(shop.START)
        path.write_text(f"{header}\nf{n},{now},{now},c01,1,card\nt{n},{now},{now},{cell},1,card\n")
        report = json.loads(server.cli("ingest", "payments", str(path), "--json").stdout)
        assert (report["rows_accepted"], report["rows_quarantined"]) == (1, 1), report
        path = tmp_path / f"long{n}.ndjson"
        path.write_text(json.dumps(good | {"payment": f"j{n}"}) + "\n" + json.dumps(good | {"customer": LONG}) + "\n")
        report = json.loads(server.cli("ingest", "payments", str(path), "--json").stdout)
        assert report["rows_quarantined"] == 1 or report["already_loaded"], report
    newest = server.get("/api/v1/sources/payments/quarantine?limit=100")["rows"]
    assert len(newest) >= 12 and all(len(json.dumps(row)) < 100_000 for row in newest)
    [values] = online(server, ["c01"], shop.START + 1000)
    assert values["paid__count_7d"] == 8 + 3 + 3
    status, answer = server.request(
        "POST", "/features/groups/paid/get-online", {"entities": [{"customer": LONG}, {"customer": "c01"}]}
    )
    assert status == 200 and answer["entities"][0]["statuses"][0] == "NOT_FOUND", str(answer)[:300]
    assert answer["entities"][1]["values"]
    for body in ({"entities": {LONG: LONG}, "features": {"price": 1}}, {"entities": {"customer": LONG}, LONG: 1}):
        status, answer = server.request("POST", "/predict/loss", body)
        assert 400 <= status < 500 and len(json.dumps(answer)) < 2000, str(answer)[:300]
    status, answer = server.request("GET", "/api/v1/catalog/search?q=" + "x" * 60_000)
    assert status in (200, 414, 422, 431), str(answer)[:300]
    folder = tmp_path / "long"
    folder.mkdir()
    (folder / "long.yaml").write_text(f"kind: Entity\nname: {LONG}\nkeys: [a]\n")
    result = server.cli("plan", str(folder), check=False)
    assert result.returncode == 2 and len(result.stderr) < 2000, result.stderr[:500]
    server.post("/api/v1/sources/payments/flush", {})
    assert server.stop() == 0


# Keys

COMPOSED, DECOMPOSED = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
KEYS = [
    "plain", "Ü ñ", "日本語", "🚀👩‍👩‍👧", COMPOSED, DECOMPOSED, "ﬁ", "fi", "a/b", "a|b", "a,b", "a;b", "a:b", "a=b&c=d",
    'a"b', "a'b", "a\\b", "%2F", "../..", " a", "a ", " ", "NULL", "null", "NaN", "0", "00", "-0", "1e5", "true",
    "\u202edrawkcab", "\ufeffbom", "x" * 512, "é" * 256,
]  # fmt: skip
NO_KEYS: list[str | None] = ["", None, "a\u001fb", "tab\there", "new\nline", "\u0000", "\u007f", "x" * 513]
TWO_KEYS = """
kind: Entity
name: pair
keys: [left, right]
---
kind: Source
name: moves
event_time: at
ingest_time: at
key: [id]
schema:
  - {name: id, type: string, nullable: false}
  - {name: at, type: timestamp, nullable: false}
  - {name: left, type: string}
  - {name: right, type: string}
---
kind: Source
name: asked
event_time: at
ingest_time: at
key: [id]
schema:
  - {name: id, type: string, nullable: false}
  - {name: at, type: timestamp, nullable: false}
  - {name: left, type: string}
  - {name: right, type: string}
  - {name: y, type: float64}
---
kind: FeatureView
name: moved
entities: [pair]
source: moves
features:
  - {name: n, aggregate: count, window: 30d}
---
kind: FeatureService
name: moved
views: [moved]
---
kind: TrainingSet
name: moved
service: moved
spine: asked
label: {name: y, source: asked, join: [id], column: y, horizon: 1d}
split: {by: time, validation: 0%, test: 0%}
"""


@pytest.mark.parametrize("engine", ["duckdb", "native"])
def test_keys_of_every_kind(engine: str, start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    """Keys that differ in any byte are two entities, online and in training sets; a key that is none is nobody's."""
    server = start_server("--clock", "manual", "--set", f"features.engine={engine}")
    (tmp_path / "pairs.yaml").write_text(TWO_KEYS)
    server.cli("apply", str(tmp_path / "pairs.yaml"))
    server.post("/api/v1/clock", {"now": NOW})
    pairs: list[tuple[str | None, str | None]] = [(key, "r") for key in KEYS + NO_KEYS]
    pairs += [("l", key) for key in KEYS + NO_KEYS] + [("a", "b|c"), ("a|b", "c"), ("ab", "c"), ("a", "bc")]
    is_key = [all(part is not None and part not in NO_KEYS for part in pair) for pair in pairs]
    moves, wanted = [], []
    for number, (left, right) in enumerate(pairs):
        count = number % 5 + 1
        wanted.append(count if is_key[number] else 0)
        moves += [{"id": f"{number}.{n}", "at": shop.START + n, "left": left, "right": right} for n in range(count)]
    answer = server.post("/sources/moves/events", moves)
    assert answer["accepted"] == len(moves), answer
    body = {
        "entities": [{"left": left, "right": right} for left, right in pairs], "as_of": shop.START + shop.DAY,
    }  # fmt: skip
    answer = server.post("/features/groups/moved/get-online", body)
    found = [entity["values"][0] for entity in answer["entities"]]
    assert found == wanted, [(p, f, w) for p, f, w in zip(pairs, found, wanted, strict=True) if f != w]
    statuses = [entity["statuses"][0] for entity in answer["entities"]]
    assert statuses == ["PRESENT" if key else "NOT_FOUND" for key in is_key]
    asked = [
        {"id": f"q{n}", "at": shop.START + shop.DAY, "left": left, "right": right, "y": float(n)}
        for n, (left, right) in enumerate(pairs)
    ]
    assert server.post("/sources/asked/events", asked)["accepted"] == len(asked)
    span = ["--from", shop.text(shop.START), "--to", shop.text(NOW)]
    dataset = json.loads(server.cli("dataset", "build", "moved", *span, "--json").stdout)
    rows = []
    for part in dataset["manifest"]["slices"]:
        if part["rows"]:
            [path] = server.data_dir.rglob(f"*{part['part']}*")
            rows += pyarrow.parquet.read_table(path).to_pylist()
    by_number = {int(row["y"]): row["moved__n"] for row in rows}
    assert [by_number[n] for n in range(len(pairs))] == wanted
    server.kill()
    server.start()
    answer = server.post("/features/groups/moved/get-online", body)
    assert [entity["values"][0] for entity in answer["entities"]] == wanted, "the same from the store"


# The machine's clock

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
/* Moves the machine's clock, for this process alone, by the seconds that a file holds. */
static long shift(void) {
    static __thread int inside;
    long seconds = 0;
    if (inside) return 0;
    inside = 1;
    FILE *file = fopen(getenv("CLOCK_SHIFT_FILE"), "r");
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    inside = 0;
    return seconds;
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(clock, time);
    if (code == 0 && clock == CLOCK_REALTIME) time->tv_sec += shift();
    return code;
}
int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


@pytest.fixture
def clock_shift(tmp_path: pathlib.Path) -> tuple[pathlib.Path, dict[str, str]]:
    """A file whose number of seconds moves the machine's clock of a server, and the environment that makes it so."""
    source, library, shift = tmp_path / "shim.c", tmp_path / "shim.so", tmp_path / "shift"
    source.write_text(SHIM)
    shift.write_text("0")
    for compiler in ("cc", "clang", "gcc"):
        try:
            made = subprocess.run(
                [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], capture_output=True, text=True
            )
        except FileNotFoundError:
            continue
        assert made.returncode == 0, made.stderr
        return shift, {"LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(shift)}
    pytest.skip("there is no C compiler to make a library that moves the clock")


def test_the_machines_clock_goes_backwards(
    clock_shift: tuple[pathlib.Path, dict[str, str]], start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    """Rows that arrived while the clock was ahead are not lost, nothing counts twice, the server goes on."""
    shift, environment = clock_shift
    server = start_server(environment=environment)
    definitions = shop.write_definitions(tmp_path / "definitions")
    text = (definitions / "data.yaml").read_text()
    # The time of arrival is when a payment could be known: that is what the clock decides.
    text = text.replace("ingest_time: known_at\nkey: [payment]", "key: [payment]").replace(
        "  - {name: known_at, type: timestamp, nullable: false}\n", ""
    ).replace("  - {name: known_after_payment, column: known_at, not_before: paid_at}\n", "")  # fmt: skip
    (definitions / "data.yaml").write_text(text)
    server.cli("apply", str(definitions))
    sent = 0

    def push(count: int = 10) -> None:
        nonlocal sent
        hour = int(time.time() * 1000) - shop.HOUR // 2
        rows = [{"payment": f"p{sent + n}", "paid_at": hour, "customer": "c01", "amount": 1.0} for n in range(count)]
        key = {"Idempotency-Key": f"k{sent}"}
        for _ in range(2):  # the second time nothing is stored
            status, answer = server.request("POST", "/sources/payments/events", rows, headers=key)
            assert status == 200 and answer["accepted"] == count, answer
        sent += count

    def count() -> int:
        return online(server, ["c01"])[0]["paid__count_7d"]

    def until(wanted: int) -> None:
        """A row counts from the millisecond after its arrival on."""
        end = time.monotonic() + 30
        while (found := count()) != wanted and time.monotonic() < end:
            time.sleep(0.02)
        assert found == wanted

    push()
    until(10)
    assert server.get("/api/v1/status")["now"][:4] == time.strftime("%Y", time.gmtime())
    shift.write_text("7200")
    push()
    until(20)
    shift.write_text("0")  # two hours back
    push()
    # What arrived two hours from now is not known yet; what arrives now is, though it stands behind it in the log.
    until(20)
    server.post("/api/v1/sources/payments/flush", {})
    server.kill()
    server.start()
    until(20)
    push()
    until(30)
    shift.write_text("7200")
    until(40)
    assert server.post("/api/v1/sources/payments/flush", {})["rows"] == 10
    versions = server.get("/api/v1/tables/payments/versions")["versions"]
    assert sum(1 for v in versions if v["operation"] == "WRITE") == 2
    shift.write_text("-400000")  # four and a half days back: the tables' and the audit chain's times go back with it
    push()
    assert count() == 0, "of what happened after the present nothing is known"
    server.post("/api/v1/sources/payments/flush", {})
    assert server.post("/api/v1/tables/payments/vacuum", {"dry_run": True}) is not None
    assert server.post("/api/v1/audit/verify", {})["intact"] is True
    shift.write_text("0")
    until(40)  # without those that arrived two hours from now
    server.kill()
    server.start()
    until(40)
    assert [s["rows"] for s in server.get("/api/v1/sources")["sources"] if s["name"] == "payments"] == [sent]
