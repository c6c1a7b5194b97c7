"""Search and plan with 10,000 features in 500 views, and a table of small files before and after compaction.

    .venv/bin/python Benchmarks/catalogue.py .build-release/release/bottega

Starts the program on a directory of its own and prints what a client sees and what the server itself measured.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from typing import Any

VIEWS = 500
FEATURES = 20
WORDS = ["delay", "fare", "seat", "crew", "gate", "bag", "fuel", "slot", "wind", "load"]
QUERIES = [
    "",
    "delay",
    "view_0123",
    "mean_delay_7",
    "dleay",
    "owner:team3 kind:feature",
    "tag:gold column:delay",
    "zzzzzz",
    "sum crew 12",
]


def definitions() -> str:
    columns = "\n".join(f"  - {{name: {word}, type: float64}}" for word in WORDS)
    parts = [
        "kind: Entity\nname: plane\nkeys: [plane]",
        "kind: Source\nname: flights\nevent_time: at\nkey: [plane, at]\nschema:\n"
        "  - {name: plane, type: string, nullable: false}\n  - {name: at, type: timestamp, nullable: false}\n"
        + columns,
    ]
    for view in range(VIEWS):
        features = "\n".join(
            f"  - {{name: {'mean' if n % 2 else 'sum'}_{WORDS[n % 10]}_{n}, aggregate: {'mean' if n % 2 else 'sum'}, "
            f"column: {WORDS[n % 10]}, window: {n + 1}h, description: number {n} of view {view}}}"
            for n in range(FEATURES)
        )
        parts.append(
            f"kind: FeatureView\nname: view_{view:04}\nentities: [plane]\nsource: flights\nowner: team{view % 7}\n"
            f"tags: [{'gold' if view % 5 == 0 else 'bronze'}]\nfeatures:\n{features}"
        )
    return "\n---\n".join(parts)


def call(url: str, method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data=data, method=method, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        result = json.loads(answer.read())
    if isinstance(result, dict) and set(result) == {"operation"}:
        while True:
            status = call(url, "GET", f"/api/v1/operations/{result['operation']}")
            if status["state"] != "running":
                assert status["state"] == "succeeded", status
                return status["result"]
            time.sleep(0.005)
    return result


def seconds(action: Any) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def search(url: str) -> None:
    text = definitions()
    lines = text.split("\n---\n")
    files = [
        {"path": f"{n}.yaml", "folder": "/", "text": "\n---\n".join(lines[n : n + 50])}
        for n in range(0, len(lines), 50)
    ]
    plan = seconds(lambda: call(url, "POST", "/api/v1/apply", {"files": files, "dry_run": True}))
    apply = seconds(lambda: call(url, "POST", "/api/v1/apply", {"files": files, "dry_run": False}))
    again = seconds(lambda: call(url, "POST", "/api/v1/apply", {"files": files, "dry_run": True}))
    print(
        f"{VIEWS * FEATURES} features in {VIEWS} views: "
        f"plan {plan:.2f} s, apply {apply:.2f} s, plan again {again:.2f} s"
    )
    for query in QUERIES:
        path = "/api/v1/catalog/search?q=" + urllib.parse.quote(query)
        call(url, "GET", path)
        times, inside, count = [], [], 0
        for _ in range(50):
            start = time.perf_counter()
            answer = call(url, "GET", path)
            times.append((time.perf_counter() - start) * 1000)
            inside.append(answer["milliseconds"])
            count = answer["count"]
        times.sort()
        print(
            f"  {query!r:32} {count:6} hits  client p50 {statistics.median(times):6.2f} ms  "
            f"p99 {times[49]:6.2f} ms  server p50 {statistics.median(inside):6.2f} ms"
        )
    page = seconds(lambda: urllib.request.urlopen(url + "/catalog?q=delay").read())
    lineage = seconds(lambda: call(url, "GET", "/api/v1/lineage?node=column/flights.delay&direction=down"))
    print(f"  page {page * 1000:.1f} ms, lineage of a column with 1,000 features {lineage * 1000:.1f} ms")


def compact(url: str, files: int, rows: int) -> None:
    source = (
        "kind: Source\nname: small\nevent_time: at\nkey: [id]\nschema:\n  - {name: id, type: int64, nullable: false}\n"
        "  - {name: at, type: timestamp, nullable: false}\n  - {name: x, type: float64}\n  - {name: s, type: string}"
    )
    call(url, "POST", "/api/v1/apply", {"files": [{"path": "s.yaml", "folder": "/", "text": source}], "dry_run": False})
    for number in range(files):
        first = number * rows
        events = [
            {"id": n, "at": 1_700_000_000_000 + n, "x": n * 0.37, "s": f"text {n % 1000}"}
            for n in range(first, first + rows)
        ]
        call(url, "POST", "/sources/small/events", events)
        call(url, "POST", "/api/v1/sources/small/flush")

    def scan() -> float:
        return min(seconds(lambda: call(url, "GET", "/api/v1/tables/small/rows?limit=1&seed=1")) for _ in range(5))

    before = scan()
    start = time.perf_counter()
    report = call(url, "POST", "/api/v1/tables/small/compact")
    taken = time.perf_counter() - start
    after = scan()
    print(
        f"compaction: {report['files_before']} files of {rows} rows became {report['files_after']} in {taken:.2f} s "
        f"({report['rows'] / taken:,.0f} rows/s), {report['bytes_before']:,} bytes became {report['bytes_after']:,}; "
        f"a scan of the table {before * 1000:.0f} ms before, {after * 1000:.0f} ms after"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--rows", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            options.binary.resolve(), "up", "--data-dir", f"{folder}/data", "--port", "0",
            "--set", "tables.interval=0", "--set", "monitor.enabled=false",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            url = next(line.split()[1] for line in process.stdout if line.startswith("ready "))
            search(url)
            compact(url, options.files, options.rows)
        finally:
            process.terminate()
            process.wait(timeout=60)


if __name__ == "__main__":
    main()
