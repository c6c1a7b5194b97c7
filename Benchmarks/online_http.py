"""Online features over HTTP: reads at a fixed rate, and how soon a pushed event can be read.

Usage: online_http.py --bottega .build-release/release/bottega --open-loop ./open_loop [--rate 5000] [--events 20000]

It starts the server in a temporary folder, defines one view of 20 features, fills it, and prints one line for each
measurement. Build the driver with `cc -O2 -o open_loop Benchmarks/open_loop.c`.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import random
import socket
import subprocess
import tempfile
import threading
import time
from typing import Any

WINDOWS = ["1h", "24h", "30d"]


def definitions(max_staleness: str | None = None) -> str:
    features = []
    for window in WINDOWS:
        features.append(f"  - {{name: n_{window}, aggregate: count, window: {window}}}")
        for function in ["sum", "mean", "min", "max", "stddev"]:
            features.append(
                f"  - {{name: {function}_{window}, aggregate: {function}, column: amount, window: {window}}}"
            )
    features.append("  - {name: newest, aggregate: last, column: amount}")
    features.append("  - {name: quantity, aggregate: sum, column: quantity, window: 24h}")
    stale = f"max_staleness: {max_staleness}\n" if max_staleness else ""
    return f"""kind: Entity
name: account
keys: [account]
---
kind: Source
name: payments
event_time: at
key: [payment]
schema:
  - {{name: at, type: timestamp}}
  - {{name: payment, type: int64}}
  - {{name: account, type: string}}
  - {{name: amount, type: float64, scale: 2}}
  - {{name: quantity, type: int64}}
---
kind: FeatureView
name: spending
entities: [account]
source: payments
{stale}features:
{chr(10).join(features)}
"""


class Connection:
    """One kept-alive connection; nothing but what the measurement needs."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def post(self, path: str, body: bytes, kind: str = "application/json") -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)
        while b"\r\n\r\n" not in self.rest:
            self.more()
        head_bytes, self.rest = self.rest.split(b"\r\n\r\n", 1)
        lines = head_bytes.decode().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:"))
        while len(self.rest) < length:
            self.more()
        answer, self.rest = self.rest[:length], self.rest[length:]
        if " 200 " not in lines[0] + " ":
            raise RuntimeError(f"{lines[0]}: {answer[:500]!r}")
        return answer

    def more(self) -> None:
        part = self.socket.recv(1 << 16)
        if not part:
            raise RuntimeError("the server closed the connection")
        self.rest += part


def start(binary: str, folder: pathlib.Path, settings: list[str]) -> tuple[subprocess.Popen[str], int]:
    command = [binary, "up", "--data-dir", str(folder / "data"), "--port", "0", "--set", "monitor.enabled=false"]
    for setting in settings:
        command += ["--set", setting]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, int(line.strip().rsplit(":", 1)[1])


def lines(first: int, count: int, keys: int, probe: str = "") -> bytes:
    now = int(time.time() * 1000)
    rows = []
    for index in range(first, first + count):
        account = f"A{int(math.pow(keys, random.random())) - 1}"
        rows.append(
            f'{{"at":{now},"payment":{index},"account":"{account}",'
            f'"amount":{random.randrange(100_000) / 100},"quantity":{random.randrange(9)}}}'
        )
    if probe:
        rows[-1] = f'{{"at":{now},"payment":{first + count - 1},"account":"{probe}","amount":{first},"quantity":1}}'
    return ("\n".join(rows) + "\n").encode()


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def readable(port: int, rate: int, batch: int, seconds: float, senders: int, keys: int) -> dict[str, Any]:
    """Pushes at a fixed rate; after each acknowledged batch asks for its last event until it is served."""
    total = int(rate * seconds / batch)
    step = batch / rate
    begin = time.perf_counter() + 0.2
    acknowledged: list[float] = []
    visible: list[float] = []
    lock = threading.Lock()
    taken = iter(range(total))

    def sender() -> None:
        pusher, reader = Connection(port), Connection(port)
        while True:
            with lock:
                index = next(taken, None)
            if index is None:
                return
            first = 1_000_000_000 + index * batch
            due = begin + index * step
            time.sleep(max(0.0, due - time.perf_counter() - 0.005))
            probe = f"P{index}"
            body = lines(first, batch, keys, probe)  # shortly before it is due, as its times are those of the events
            time.sleep(max(0.0, due - time.perf_counter()))
            pusher.post("/sources/payments/events", body, "application/x-ndjson")
            done = time.perf_counter()
            question = json.dumps({"entities": [{"account": probe}]}).encode()
            while True:
                answer = json.loads(reader.post("/features/groups/spending/get-online", question))
                if answer["entities"][0]["values"][18] == first:
                    break
            with lock:
                acknowledged.append(done - due)
                visible.append(time.perf_counter() - done)

    threads = [threading.Thread(target=sender) for _ in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begin
    return {
        "events/s": round(total * batch / took),
        "batches": total,
        "acknowledged p50/p99 ms": [round(quantile(acknowledged, q) * 1000, 2) for q in (0.5, 0.99)],
        "acknowledged to served p50/p99/most ms": [round(quantile(visible, q) * 1000, 2) for q in (0.5, 0.99, 1)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bottega", required=True)
    parser.add_argument("--open-loop", required=True, help="the compiled Benchmarks/open_loop.c")
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--keys", type=int, default=50_000)
    parser.add_argument("--max-staleness", help="of the view, such as 5s")
    parser.add_argument("--set", action="append", default=[], help="a setting of the server, such as cache.entities=0")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="online-http-") as name:
        folder = pathlib.Path(name)
        (folder / "definitions").mkdir()
        (folder / "definitions" / "payments.yaml").write_text(definitions(options.max_staleness))
        process, port = start(options.bottega, folder, options.set)
        try:
            apply = [options.bottega, "apply", str(folder / "definitions"), "--url", f"http://127.0.0.1:{port}"]
            subprocess.run(apply, check=True, stdout=subprocess.DEVNULL)
            filler = Connection(port)
            for first in range(0, 200_000, 1_000):
                filler.post("/sources/payments/events", lines(first, 1_000, options.keys), "application/x-ndjson")
            for kind, entities in [("1 entity", 1), ("100 entities", 100)]:
                bodies = folder / "bodies.ndjson"
                with bodies.open("w") as out:
                    for _ in range(2_000):
                        asked = [
                            {"account": f"A{int(math.pow(options.keys, random.random())) - 1}"} for _ in range(entities)
                        ]
                        out.write(json.dumps({"entities": asked}) + "\n")
                rate = options.rate if entities == 1 else max(1, options.rate // 50)
                print(f"get-online, {kind}: ", end="", flush=True)
                path = "/features/groups/spending/get-online"
                drive = [options.open_loop, str(port), path, str(bodies), str(rate), str(options.seconds)]
                subprocess.run(drive, check=True)
            found = readable(port, options.events, options.batch, options.seconds, options.senders, options.keys)
            print("push to readable:", json.dumps(found))
        finally:
            process.terminate()
            process.wait(timeout=60)


if __name__ == "__main__":
    main()
