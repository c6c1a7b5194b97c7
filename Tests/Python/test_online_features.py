"""Reading features over HTTP: the direct road and the framework's give the same, and what is remembered says so."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

from conftest import Server

DEFINITIONS = """kind: Entity
name: shop
keys: [shop]
---
kind: Source
name: sales
event_time: at
key: [shop, at]
schema:
  - {name: at, type: timestamp}
  - {name: shop, type: string}
  - {name: amount, type: float64, scale: 2}
---
kind: FeatureView
name: shop_sales
entities: [shop]
source: sales
features:
  - {name: n, aggregate: count, window: 1h}
  - {name: total, aggregate: sum, column: amount, window: 1h}
  - {name: last_three, aggregate: last_n, n: 3, column: amount, window: 1h}
---
kind: FeatureService
name: offers
request:
  - {name: price, type: number, range: [0, ~]}
views: [{view: shop_sales, features: [total]}]
on_demand:
  - {name: share, expression: "price / shop_sales__total"}
"""
START = 1_700_000_000_000
PATH = "/features/groups/shop_sales/get-online"


def start(start_server: Callable[..., Server]) -> Server:
    server = start_server("--clock", "manual", "--set", "monitor.enabled=false")
    server.post("/api/v1/clock", {"now": START})
    apply(server, DEFINITIONS)
    rows = [{"shop": f"s{index % 5}", "at": START - 1000 - index, "amount": index + 0.25} for index in range(40)]
    server.post("/sources/sales/events", rows)
    server.post("/api/v1/clock", {"now": START + 1000})
    return server


def apply(server: Server, text: str) -> None:
    server.post("/api/v1/apply", {"files": [{"path": "shop.yaml", "folder": "/", "text": text}]})


def metric(server: Server, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", server.request("GET", "/metrics")[1], re.MULTILINE)
    assert found
    return float(found[1])


def test_small_and_large_questions_are_answered_alike(start_server: Callable[..., Server]) -> None:
    server = start(start_server)
    entities = [{"shop": f"s{index % 7}"} for index in range(2_000)]  # beyond 16 KiB: the framework's road
    large = server.post(PATH, {"entities": entities})
    small: list[Any] = []
    for first in range(0, len(entities), 100):
        small += server.post(PATH, {"entities": entities[first : first + 100]})["entities"]
    assert large["entities"] == small
    assert large["entities"][0]["values"] == [8, 142.0, [0.25, 5.25, 10.25]]
    assert large["entities"][5]["statuses"] == ["NOT_FOUND"] * 3
    padded = json.dumps({"entities": [{"shop": "s1"}], "nope": 1})
    for body in [padded, padded + " " * 20_000, '{"entities": 1}', "{", '{"entities": [{"shop": {}}]}']:
        status, answer = server.request("POST", PATH, raw=body.encode())
        assert status == 422 and answer["error"]["message"]
    status, answer = server.request("POST", "/features/groups/shop_sale/get-online", {"entities": [{}]})
    assert status == 404 and "shop_sales" in answer["error"]["message"]


def test_features_can_be_chosen_and_tell_their_age(start_server: Callable[..., Server]) -> None:
    server = start(start_server)
    body = {"entities": [{"shop": "s1"}, {"shop": "s9"}], "features": ["total", "n"], "ages": True}
    answer = server.post(PATH, body)
    assert answer["names"] == ["total", "n"]
    assert [entity["ages"] for entity in answer["entities"]] == [[2001, 2001], [None, None]]
    assert [entity["staleness"] for entity in answer["entities"]] == [[0, 0], [0, 0]]
    status, refused = server.request("POST", PATH, {**body, "features": ["totl"]})
    assert status == 422 and "'total'" in refused["error"]["message"]


def test_a_service_answers_its_on_demand_features(start_server: Callable[..., Server]) -> None:
    server = start(start_server)
    path = "/features/groups/offers/get-online"
    answer = server.post(path, {"entities": [{"shop": "s0"}, {"shop": "s0"}], "request": [{"price": 71}, {}]})
    assert answer["names"] == ["shop_sales__total", "share"]
    assert [entity["values"] for entity in answer["entities"]] == [[142.0, 0.5], [142.0, None]]
    status, refused = server.request("POST", path, {"entities": [{"shop": "s0"}], "request": [{"price": -1}]})
    assert status == 422 and "price" in refused["error"]["subject"]


def test_an_answer_is_remembered_once_the_view_says_so(
    start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    server = start(start_server)
    question = {"entities": [{"shop": "s2"}], "ages": True}
    server.post(PATH, question)
    server.post(PATH, question)
    assert metric(server, "bottega_feature_cache_hits_total") == 0
    before = server.get("/api/v1/features/versions?view=shop_sales")["versions"]
    apply(server, DEFINITIONS.replace("source: sales\nfeatures", "source: sales\nmax_staleness: 5s\nfeatures"))
    after = server.get("/api/v1/features/versions?view=shop_sales")["versions"]
    assert [version["version"] for version in before] == [version["version"] for version in after]
    server.post(PATH, question)
    server.post("/api/v1/clock", {"now": START + 4000})
    answer = server.post(PATH, question)
    assert answer["entities"][0]["staleness"] == [3000] * 3
    assert metric(server, "bottega_feature_cache_hits_total") == 1
    # A row is acknowledged: the next moment knows it.
    server.post("/sources/sales/events", [{"shop": "s2", "at": START + 4000, "amount": 1}])
    server.post("/api/v1/clock", {"now": START + 4001})
    answer = server.post(PATH, question)
    assert answer["entities"][0]["staleness"] == [0] * 3
    assert answer["entities"][0]["values"][0] == 9
    assert metric(server, "bottega_feature_cache_invalidations_total") == 1
