"""Kills the server again and again while it works, and keeps a ledger of all that it acknowledged.

Pushes, file loads, a watched folder, flushes, compactions and changed feature views go on all the time; `kill -9` comes
at random moments, some of them while the server starts. Every so often, and at the end, the ledger is compared with the
Delta tables (read by deltalake), the quarantine, the offsets, and the online values (computed again here, from the
ledger alone): nothing acknowledged may be lost or counted twice. While traffic runs a reader checks that counts never
leave the bounds of what was acknowledged and what was sent.

Usage: python tools/crash_drill.py --bottega .build/debug/bottega --kills 200 --seed 1 [--check-every 20] [--keep DIR]
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import gzip
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import deltalake

ROOT = pathlib.Path(__file__).resolve().parent.parent
GONE = (urllib.error.URLError, http.client.HTTPException, OSError)
DAY = 86_400_000
BASE = 1_704_067_200_000  # 2024-01-01T00:00:00Z
START = BASE + 40 * DAY
ENTITIES = ["a", "b", "c", "ü ñ", "日本", "a/b", "x|y", "O'Neil", '"quoted"', "🚀"] + [f"e{n}" for n in range(30)]
SOURCES = ("pushed", "filed", "watched")

SOURCE = """
kind: Source
name: {name}
event_time: at
ingest_time: known_at
key: [id]
{more}schema:
  - {{name: id, type: string, nullable: false}}
  - {{name: at, type: timestamp, nullable: false}}
  - {{name: known_at, type: timestamp, nullable: false}}
  - {{name: entity, type: string}}
  - {{name: amount, type: int64}}
  - {{name: price, type: float64, scale: 2}}
  - {{name: tag, type: string}}
expectations:
  - {{name: plausible, column: amount, range: [0, 1000]}}
---
kind: FeatureView
name: {name}_now
entities: [entity]
source: {name}
features:
  - {{name: rows, aggregate: count, window: 300d}}
  - {{name: total, aggregate: sum, column: amount, window: {hours}h}}
  - {{name: paid, aggregate: sum, column: price, window: {hours}h}}
  - {{name: highest, aggregate: max, column: amount, window: 300d}}
  - {{name: tags, aggregate: distinct_count, column: tag, window: {hours}h}}
  - {{name: latest, aggregate: last, column: amount}}
"""


@dataclasses.dataclass
class Ledger:
    """What was sent to one source, and what of it was acknowledged; `lock` guards all of it."""

    rows: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    refused: int = 0
    abandoned: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    sent: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    acknowledged: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)


class Difference(AssertionError):
    """The platform and the ledger do not agree."""


def check(holds: bool, what: str) -> None:
    if not holds:
        raise Difference(what)


class Drill:
    def __init__(self, binary: str, folder: pathlib.Path, seed: int, say: Callable[[str], None] = print) -> None:
        self.binary, self.folder, self.seed, self.say = binary, folder, seed, say
        self.draw = random.Random(seed)
        self.data, self.inbox = folder / "data", folder / "inbox"
        self.inbox.mkdir(parents=True)
        self.ledgers = {name: Ledger() for name in SOURCES}
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.is_up, self.is_paused, self.is_over = threading.Event(), threading.Event(), threading.Event()
        self.now = START
        self.hours = {name: 24 for name in SOURCES}
        self.number = 0
        self.number_lock = threading.Lock()
        self.failure: BaseException | None = None
        self.counts: collections.Counter[str] = collections.Counter()

    # The program

    def launch(self) -> None:
        settings = {
            "monitor.enabled": "false", "tables.interval": "1", "tables.compact": "3", "tables.retention": "30s",
            "features.rowsatonce": "0",
        }  # fmt: skip
        command = [self.binary, "up", "--data-dir", str(self.data), "--port", "0", "--clock", "manual"]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)

    def wait_ready(self) -> bool:
        """Whether the server that was launched came up; it did not if it was killed before."""
        assert self.process is not None and self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("ready "):
                self.url = line.split()[1]
                return True
        code = self.process.wait()
        check(code == -signal.SIGKILL, f"the server did not start: exit code {code}; see {self.folder}/server.log")
        return False

    def kill(self) -> None:
        assert self.process is not None
        self.is_up.clear()
        self.process.kill()
        self.process.wait()

    def request(self, method: str, path: str, body: bytes | None = None, key: str | None = None) -> tuple[int, Any]:
        request = urllib.request.Request(self.url + path, data=body, method=method)
        request.add_header("Content-Type", "application/json")
        if key:
            request.add_header("Idempotency-Key", key)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def call(self, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        """A request that must succeed; waits for the operation it starts."""
        raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        status, answer = self.request(method, path, raw, key)
        check(status < 300, f"{method} {path}: {status} {answer}")
        if isinstance(answer, dict) and "operation" in answer:
            while True:
                status, now = self.request("GET", f"/api/v1/operations/{answer['operation']}")
                if status == 404:  # forgotten: the server was started again
                    raise ConnectionResetError("the operation ended with its server")
                check(now["state"] in ("running", "succeeded"), f"{method} {path}: {now}")
                if now["state"] == "succeeded":
                    return now["result"]
                time.sleep(0.01)
        return answer

    def insist(self, attempt: Callable[[], Any]) -> Any:
        """Repeats what must become true until it has, across all the deaths of the server."""
        while not self.is_over.is_set():
            if not self.is_up.wait(0.05):
                continue
            try:
                return attempt()
            except GONE:
                self.counts["interrupted"] += 1
                time.sleep(0.01)
        raise InterruptedError

    # Traffic

    def rows(self, source: str, count: int, draw: random.Random) -> list[dict[str, Any]]:
        with self.number_lock:
            first = self.number
            self.number += count
        found = []
        for n in range(first, first + count):
            known = self.now - 1 - draw.randrange(3 * DAY)
            late = draw.random()
            at = known - (0 if late < 0.7 else draw.randrange(60_000) if late < 0.9 else draw.randrange(30 * DAY))
            found.append({
                "id": f"{source}-{n}", "at": at, "known_at": known, "entity": draw.choice(ENTITIES),
                "amount": draw.randrange(1000) if draw.random() < 0.9 else None,
                "price": draw.randrange(100_000) / 100, "tag": f"t{draw.randrange(25)}",
            })  # fmt: skip
        return found

    def sending(self, source: str, rows: list[dict[str, Any]]) -> None:
        ledger = self.ledgers[source]
        with ledger.lock:
            ledger.sent.update(row["entity"] for row in rows)

    def acknowledge(self, source: str, rows: list[dict[str, Any]], refused: int = 0) -> None:
        ledger = self.ledgers[source]
        with ledger.lock:
            for row in rows:
                if row["id"] not in ledger.rows:
                    ledger.rows[row["id"]] = row
                    ledger.acknowledged[row["entity"]] += 1
            ledger.refused += refused
        self.counts[f"rows {source}"] += len(rows)

    def push(self, draw: random.Random) -> None:
        ledger = self.ledgers["pushed"]
        size = draw.choice([1, 3, 10, 100, 400, 2000])
        rows = self.rows("pushed", size, draw)
        self.sending("pushed", rows)
        has_key = draw.random() < 0.7
        refused = draw.randrange(4) if has_key else 0
        with ledger.lock:
            known = list(ledger.rows.values())[-50:]
        again = draw.sample(known, min(len(known), draw.choice([0, 0, 3])))
        body = rows + again + [{"id": f"bad{draw.getrandbits(60)}", "amount": "x"} for _ in range(refused)]
        draw.shuffle(body)
        raw = "\n".join(json.dumps(row) for row in body).encode() if draw.random() < 0.3 else json.dumps(body).encode()
        key = f"key-{draw.getrandbits(80)}" if has_key else None
        if refused == 0 and draw.random() < 0.1:  # a client that asks once and then forgets about it
            try:
                self.is_up.wait(1)
                self.call("POST", "/sources/pushed/events", raw, key)
            except GONE:
                with ledger.lock:
                    ledger.abandoned.update((row["id"], row) for row in rows)
                self.counts["abandoned pushes"] += 1
                return
        else:
            answer = self.insist(lambda: self.call("POST", "/sources/pushed/events", raw, key))
            check(answer["accepted"] + answer["duplicates"] == len(rows) + len(again), f"push: {answer}")
            check(answer["quarantined"] == refused, f"push: {answer}")
        self.acknowledge("pushed", rows, refused)
        self.counts["pushes"] += 1
        time.sleep(draw.uniform(0, 0.05))

    def file(self, source: str, draw: random.Random) -> tuple[str, bytes, list[dict[str, Any]], int]:
        rows = self.rows(source, draw.choice([50, 200, 1000]), draw)
        kind = draw.choice(["csv", "ndjson"])
        lines: list[str] = []
        refused = 0
        if kind == "csv":
            lines.append("id,at,known_at,entity,amount,price,tag")
        for row in rows:
            if kind == "csv":
                entity = '"' + row["entity"].replace('"', '""') + '"'
                amount = "" if row["amount"] is None else row["amount"]
                lines.append(
                    f"{row['id']},{stamp(row['at'])},{stamp(row['known_at'])},{entity},{amount},{row['price']},{row['tag']}"
                )
            else:
                lines.append(json.dumps(row))
            if draw.random() < 0.002:
                refused += 1
                lines.append("broken" if kind == "csv" else '{"id": ')
        raw = ("\n".join(lines) + "\n").encode()
        name = f"{source}{draw.getrandbits(60)}.{kind}"
        if draw.random() < 0.3:
            raw, name = gzip.compress(raw, 1), name + ".gz"
        return name, raw, rows, refused

    def load(self, draw: random.Random) -> None:
        name, raw, rows, refused = self.file("filed", draw)
        self.sending("filed", rows)
        form = "csv" if ".csv" in name else "ndjson"
        report = self.insist(lambda: self.call("POST", f"/api/v1/sources/filed/load?name={name}&format={form}", raw))
        check(report["rows_read"] == len(rows) + refused, f"load: {report}")
        self.acknowledge("filed", rows, refused)
        self.counts["files"] += 1

    def drop(self, draw: random.Random) -> None:
        """A file appears in the folder that the server watches: acknowledged as soon as it is there."""
        name, raw, rows, refused = self.file("watched", draw)
        self.sending("watched", rows)
        hidden = self.inbox / f".{name}"
        hidden.write_bytes(raw)
        hidden.rename(self.inbox / name)
        ledger = self.ledgers["watched"]
        with ledger.lock:  # known to be loaded at the next checkpoint, so nothing counts as acknowledged before
            ledger.rows.update((row["id"], row) for row in rows)
            ledger.refused += refused
        self.counts["dropped files"] += 1
        time.sleep(draw.uniform(1, 4))

    def maintain(self, draw: random.Random) -> None:
        source = draw.choice(SOURCES)
        what = draw.choice(["flush", "flush", "flush", "compact", "vacuum"])
        path = f"/api/v1/sources/{source}/flush" if what == "flush" else f"/api/v1/tables/{source}/{what}"
        status, answer = 0, None
        with contextlib.suppress(*GONE):
            self.is_up.wait(1)
            status, answer = self.request("POST", path, b"{}")
        check(status in (0, 200, 202, 404), f"{path}: {status} {answer}")
        self.counts[what] += status in (200, 202)
        time.sleep(draw.uniform(0.05, 0.4))

    def definitions(self) -> list[dict[str, Any]]:
        texts = ["kind: Entity\nname: entity\nkeys: [entity]\n"]
        for name in SOURCES:
            more = f"from: {{files: {self.inbox}, every: 1s}}\n" if name == "watched" else ""
            texts.append(SOURCE.format(name=name, more=more, hours=self.hours[name]))
        return [{"path": "drill.yaml", "folder": "/", "text": "---".join(texts)}]

    def change(self, draw: random.Random) -> None:
        """Another window: a new version of a view, built from history beside the old one."""
        source = draw.choice(SOURCES)
        self.hours[source] = draw.randrange(1, 24 * 60)
        body = {"files": self.definitions(), "dry_run": False}
        self.insist(lambda: self.call("POST", "/api/v1/apply", body))
        self.counts["changed views"] += 1
        time.sleep(draw.uniform(0.2, 3))

    def read(self, draw: random.Random) -> None:
        source, entity = draw.choice(["pushed", "filed"]), draw.choice(ENTITIES)
        ledger = self.ledgers[source]
        with ledger.lock:
            least = ledger.acknowledged[entity]
        status, answer = 0, None
        with contextlib.suppress(*GONE):
            self.is_up.wait(1)
            body = json.dumps({"entities": [{"entity": entity}]}).encode()
            status, answer = self.request("POST", f"/features/groups/{source}_now/get-online", body)
        with ledger.lock:
            most = ledger.sent[entity]
        if status == 200:
            count = answer["entities"][0]["values"][0]
            check(least <= count <= most, f"{source} of {entity}: {count} rows, {least} acknowledged, {most} sent")
            self.counts["reads"] += 1
        else:
            check(status in (0, 503), f"read: {status} {answer}")
            self.counts["reads of views that are being built"] += status == 503
        time.sleep(draw.uniform(0, 0.05))

    def work(self, kind: Callable[[random.Random], None], number: int) -> None:
        draw = random.Random(self.seed * 1000 + number)
        try:
            while not self.is_over.is_set():
                if self.is_paused.is_set():
                    with self.idle:
                        self.waiting += 1
                        self.idle.notify_all()
                        self.idle.wait_for(lambda: not self.is_paused.is_set() or self.is_over.is_set())
                        self.waiting -= 1
                    continue
                kind(draw)
        except InterruptedError:
            pass
        except BaseException as error:
            self.failure = self.failure or error
            self.is_over.set()
            with self.idle:
                self.idle.notify_all()

    # The comparison

    def compare(self) -> None:
        """Everything that was acknowledged, once; the server is up and nothing is sent."""
        deadline = time.monotonic() + 900
        for name, ledger in self.ledgers.items():
            while True:
                found = next(s for s in self.call("GET", "/api/v1/sources")["sources"] if s["name"] == name)
                counts = (found["rows"], found["quarantined"])
                if counts[0] >= len(ledger.rows) and counts[1] >= ledger.refused and name != "watched":
                    break
                if counts == (len(ledger.rows), ledger.refused):
                    break
                check(
                    name == "watched" and time.monotonic() < deadline,
                    f"{name} holds {counts}, acknowledged were {(len(ledger.rows), ledger.refused)}",
                )
                time.sleep(0.2)
            check(counts[1] == ledger.refused, f"{name}: {counts[1]} rows in quarantine, {ledger.refused} refused")
        while (
            not self.call("GET", "/api/v1/status")["idle"] or self.call("GET", "/api/v1/features/status")["backfilling"]
        ):
            check(time.monotonic() < deadline, "the platform does not become idle")
            time.sleep(0.1)
        [apply] = [self.call("POST", "/api/v1/apply", {"files": self.definitions(), "dry_run": True})]
        check(apply["changes"] == [], f"the definitions in force are not those acknowledged: {apply['changes']}")
        for name, ledger in self.ledgers.items():
            self.call("POST", f"/api/v1/sources/{name}/flush", {})
            rows = self.compare_table(name, ledger)
            self.compare_online(name, rows)

    def compare_table(self, name: str, ledger: Ledger) -> list[dict[str, Any]]:
        folder = self.data / "objects/objects/tables" / name
        rows = deltalake.DeltaTable(str(folder)).to_pyarrow_table().to_pylist() if folder.exists() else []
        sequences = sorted(row["__sequence"] for row in rows)
        check(sequences == list(range(len(rows))), f"{name}: log offsets in the table are not 0 to {len(rows) - 1}")
        repeated = [id for id, count in collections.Counter(row["id"] for row in rows).items() if count > 1]
        check(not repeated, f"{name}: {len(repeated)} rows stand twice, as {repeated[:3]}")
        by_id = {row["id"]: row for row in rows}
        lost = [id for id in ledger.rows if id not in by_id]
        check(not lost, f"{name}: {len(lost)} acknowledged rows are lost, as {lost[:3]}")
        unknown = [id for id in by_id if id not in ledger.rows and id not in ledger.abandoned]
        check(not unknown, f"{name}: {len(unknown)} rows that nobody sent, as {unknown[:3]}")
        for id, row in by_id.items():
            sent = ledger.rows.get(id) or ledger.abandoned[id]
            same = all(row[column] == sent[column] for column in ("entity", "amount", "price", "tag"))
            check(
                same and (row["__event_time"], row["__ingest_time"]) == (sent["at"], sent["known_at"]), f"{id} differs"
            )
        folder = folder.with_name(f"quarantine_{name}")
        refused = deltalake.DeltaTable(str(folder)).to_pyarrow_table().num_rows if folder.exists() else 0
        check(refused == ledger.refused, f"quarantine_{name}: {refused} rows, {ledger.refused} were refused")
        found = next(s for s in self.call("GET", "/api/v1/sources")["sources"] if s["name"] == name)
        check(found["rows"] == len(rows), f"{name}: the log ends at {found['rows']}, the table at {len(rows)}")
        return rows

    def compare_online(self, name: str, rows: list[dict[str, Any]]) -> None:
        by_entity = collections.defaultdict(list)
        for row in rows:
            by_entity[row["entity"]].append(row)
        body = {"entities": [{"entity": entity} for entity in ENTITIES], "as_of": self.now}
        answer = self.call("POST", f"/features/groups/{name}_now/get-online", body)
        names = answer["names"]
        for entity, found in zip(ENTITIES, answer["entities"], strict=True):
            wanted = self.expected(by_entity[entity], self.hours[name])
            got = {n.removeprefix(f"{name}_now__"): v for n, v in zip(names, found["values"], strict=True)}
            check(got == wanted, f"{name}_now of {entity}: {got}, but the ledger says {wanted}")
        self.counts["online values compared"] += len(ENTITIES) * len(names)

    def expected(self, rows: list[dict[str, Any]], hours: int) -> dict[str, Any]:
        tick = self.now - 1
        seen = [row for row in rows if row["__event_time"] <= tick and row["__ingest_time"] <= tick]
        seen.sort(key=lambda row: (row["__event_time"], row["__ingest_time"], row["__sequence"]))
        long = [row for row in seen if row["__event_time"] > tick - 300 * DAY]
        short = [row for row in seen if row["__event_time"] > tick - hours * 3_600_000]
        amounts = [row["amount"] for row in short if row["amount"] is not None]
        return {
            "rows": len(long), "total": sum(amounts) if amounts else None,
            "paid": sum(round(row["price"] * 100) for row in short) / 100 if short else None,
            "highest": max((row["amount"] for row in long if row["amount"] is not None), default=None),
            "tags": len({row["tag"] for row in short}), "latest": seen[-1]["amount"] if seen else None,
        }  # fmt: skip

    # The drill

    def start(self) -> None:
        self.launch()
        check(self.wait_ready(), "the server was killed by somebody else")
        self.now += 1000
        self.call("POST", "/api/v1/clock", {"now": self.now})
        self.is_up.set()

    def pause(self, workers: int) -> None:
        self.is_paused.set()
        with self.idle:
            done = self.idle.wait_for(lambda: self.waiting == workers or self.is_over.is_set(), timeout=300)
        if self.failure:
            raise self.failure
        check(done, "the traffic does not come to an end")

    def resume(self) -> None:
        self.is_paused.clear()
        with self.idle:
            self.idle.notify_all()

    def run(self, kills: int, check_every: int = 20) -> collections.Counter[str]:
        self.idle, self.waiting = threading.Condition(), 0
        self.start()
        self.call("POST", "/api/v1/apply", {"files": self.definitions(), "dry_run": False})
        kinds = [self.push, self.push, self.load, self.drop, self.maintain, self.change, self.read]
        threads = [threading.Thread(target=self.work, args=(kind, n), daemon=True) for n, kind in enumerate(kinds)]
        for thread in threads:
            thread.start()
        try:
            for number in range(1, kills + 1):
                if self.failure:
                    raise self.failure
                time.sleep(self.draw.uniform(0.02, 3))
                self.kill()
                while self.draw.random() < 0.15:  # while it starts, or goes over what the last one left
                    self.launch()
                    timer = threading.Timer(self.draw.uniform(0.01, 1.0), self.process.kill)
                    timer.start()
                    self.wait_ready()
                    timer.join()
                    self.process.wait()
                    self.counts["kills at the start"] += 1
                self.start()
                if number % check_every == 0 or number == kills:
                    self.pause(len(threads))
                    self.compare()
                    self.say(f"{number} kills: nothing lost, nothing twice; {dict(sorted(self.counts.items()))}")
                    self.resume()
        finally:
            self.is_over.set()
            self.resume()
            for thread in threads:
                thread.join(10)
        self.rebuild()
        return self.counts

    def rebuild(self) -> None:
        """A proper end; then the online store is built from the log alone, and says the same."""
        assert self.process is not None
        for is_derived in (False, True):
            self.process.send_signal(signal.SIGTERM)
            check(self.process.wait(60) == 0, "the server did not end properly")
            if is_derived:
                shutil.rmtree(self.data / "online")
            self.start()
            self.compare()
        left = [path.name for path in (self.data / "spool").rglob("*") if path.is_file()]
        check(not left, f"{len(left)} files of the moment are left behind, as {left[:3]}")
        check(self.call("POST", "/api/v1/audit/verify", {})["intact"] is True, "the audit chain is broken")
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def stamp(milliseconds: int) -> str:
    moment = time.gmtime(milliseconds // 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment) + f".{milliseconds % 1000:03d}Z"


@contextlib.contextmanager
def drill(binary: str, folder: pathlib.Path, seed: int, say: Callable[[str], None] = print) -> Iterator[Drill]:
    """A drill whose server is ended whatever happens."""
    made = Drill(str(pathlib.Path(binary).resolve()), folder, seed, say)
    try:
        yield made
    finally:
        made.is_over.set()
        if made.process is not None and made.process.poll() is None:
            made.process.kill()
            made.process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bottega", default=os.environ.get("BOTTEGA_BINARY", ".build/debug/bottega"))
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check-every", type=int, default=20)
    parser.add_argument("--keep", type=pathlib.Path, help="where the data directory stays afterwards")
    options = parser.parse_args()
    folder = options.keep or pathlib.Path(tempfile.mkdtemp(prefix="bottega-drill-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with drill(options.bottega, folder, options.seed) as running:
            counts = running.run(options.kills, options.check_every)
    except Difference as difference:
        print(f"DIFFERENT: {difference}\nleft for a look in {folder}", file=sys.stderr)
        return 1
    print(f"{options.kills} kills, seed {options.seed}: all equal; {dict(sorted(counts.items()))}")
    if options.keep is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
