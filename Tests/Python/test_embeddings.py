"""Vectors and lists: from a push through the log to online answers and the table."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any

from conftest import Server

VIEW = """
kind: Entity
name: shopper
keys: [shopper]
---
kind: Source
name: looks
event_time: at
ingest_time: at
key: [look]
schema:
  - {name: look, type: string, nullable: false}
  - {name: at, type: timestamp, nullable: false}
  - {name: shopper, type: string}
  - {name: item, type: string}
  - {name: bought, type: bool}
  - {name: taste, type: vector, length: 3}
---
kind: FeatureView
name: tastes
entities: [shopper]
source: looks
features:
  - {name: taste, aggregate: last, column: taste}
  - {name: items, aggregate: last_n_distinct, n: 2, column: item, window: 1h}
  - {name: favourite, aggregate: mode, column: item, window: 1h}
  - {name: kinds, aggregate: distinct_count, column: item, window: [1m, 1h]}
  - {name: looks, aggregate: count, window: 1h}
  - {name: sales, aggregate: sum, column: bought, window: 1h}
  - {name: rate, ratio: [sales, looks]}
"""


def look(number: int, at: int, item: str, **more: Any) -> dict[str, Any]:
    return {"look": str(number), "at": at, "shopper": "é", "item": item, **more}


def test_lists_and_vectors_reach_the_answer(start_server: Callable[..., Server]) -> None:
    server = start_server()
    files = [{"path": "tastes.yaml", "folder": "/", "text": VIEW}]
    status, answer = server.request("POST", "/api/v1/apply", {"files": files})
    assert status == 200, answer
    now = int(time.time() * 1000) - 10_000
    rows = [
        look(1, now, "hat", bought=True, taste=[0.1, -0.0, 3e38]),
        look(2, now + 1, "coat", bought=False, taste=[0.5, 0.25, 1]),
        look(3, now + 2, "hat"),
        look(4, now + 3, "coat", taste=[1, 2]),
        look(5, now + 4, "coat", taste=[1, 2, 1e39]),
        look(6, now + 5, "coat", taste="[1, 2, 3]"),
    ]
    status, report = server.request("POST", "/sources/looks/events", rows)
    assert status == 200, report
    assert (report["accepted"], report["quarantined"]) == (3, 3), report
    reasons = str(report)
    assert "length 3" in reasons and "single precision" in reasons and "a list of numbers" in reasons
    body = {"entities": [{"shopper": "é"}, {"shopper": "nobody"}]}
    for _ in range(100):
        status, answer = server.request("POST", "/features/groups/tastes/get-online", body)
        if status == 200 and answer["entities"][0]["values"][5] == 3:
            break
        time.sleep(0.1)
    assert status == 200, answer
    known, nobody = (dict(zip(answer["names"], entity["values"], strict=True)) for entity in answer["entities"])
    # The newest look has no taste: null, as `last` gives the newest event's cell.
    assert known == {
        "taste": None,
        "items": ["hat", "coat"],
        "favourite": "hat",
        "kinds_1m": 2,
        "kinds_1h": 2,
        "looks": 3,
        "sales": 1.0,
        "rate": 1 / 3,
    }
    assert nobody == dict.fromkeys(known) | {"kinds_1m": 0, "kinds_1h": 0, "looks": 0}
    status, _ = server.request("POST", "/sources/looks/events", [look(7, now + 6, "hat", taste=[0.1, -0.0, 3e38])])
    assert status == 200
    for _ in range(100):
        _, answer = server.request("POST", "/features/groups/tastes/get-online", body)
        if answer["entities"][0]["values"][5] == 4:
            break
        time.sleep(0.1)
    single = struct.unpack("3f", struct.pack("3f", 0.1, 0.0, 3e38))
    assert answer["entities"][0]["values"][0] == list(single)
