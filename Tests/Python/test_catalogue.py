"""What is defined is found, looks as it is, and says what it is made from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import ROOT, Server

DEFINITIONS = """
kind: Entity
name: shop
keys: [shop]
---
kind: Source
name: sales
event_time: at
ingest_time: at
key: [shop, at]
owner: retail
tags: [money]
schema:
  - {name: shop, type: string, nullable: false}
  - {name: at, type: timestamp, nullable: false}
  - {name: amount, type: float64, unit: EUR, tags: [revenue]}
  - {name: customer, type: string, sensitive: true}
---
kind: FeatureView
name: shop_sales
entities: [shop]
source: sales
owner: ml
features:
  - {name: total_1h, aggregate: sum, column: amount, window: 1h, description: What a shop took in an hour}
  - {name: last_amount, aggregate: last, column: amount}
---
kind: FeatureService
name: sale_size
request: [{name: amount, type: number, nullable: true}]
views: [shop_sales]
on_demand: [{name: share, expression: "amount / coalesce(shop_sales__total_1h, shop_sales__last_amount)"}]
---
kind: TrainingSet
name: sale_size_rows
service: sale_size
spine: sales
label: {name: size, source: sales, join: [shop, at], column: amount, horizon: 1h}
"""


@pytest.fixture(scope="module")
def shop(server: Server) -> Iterator[tuple[Server, str]]:
    """A server with twenty sales, loaded from a file, and a training set of them."""
    files = [{"path": "shop.yaml", "folder": str(ROOT), "text": DEFINITIONS}]
    server.post("/api/v1/apply", {"files": files, "dry_run": False})
    lines = ["shop,at,amount,customer"]
    lines += [f"s{n % 3},2024-02-01T{n:02}:00:00Z,{'' if n == 7 else n * 1.5},Eva <b>Muster</b> {n}" for n in range(20)]
    server.post("/api/v1/sources/sales/load?name=sales.csv", raw="\n".join(lines).encode())
    span = {"training_set": "sale_size_rows", "from": "2024-02-01", "to": "2024-02-02"}
    build = server.post("/api/v1/datasets", span)
    yield server, build["dataset"]


def search(server: Server, query: str) -> list[str]:
    from urllib.parse import quote

    return [hit["id"] for hit in server.get(f"/api/v1/catalog/search?q={quote(query)}")["hits"]]


def test_things_are_found(shop: tuple[Server, str]) -> None:
    server, _ = shop
    assert search(server, "sales")[:2] == ["source/sales", "view/shop_sales"]
    assert search(server, "tag:revenue") == ["column/sales.amount"]
    assert search(server, "owner:ml kind:feature took") == ["feature/shop_sales.total_1h"]
    assert search(server, "column:amount kind:feature") == [
        "feature/shop_sales.last_amount",
        "feature/shop_sales.total_1h",
    ]
    assert search(server, "amuont")[0] == "column/sales.amount"
    status, answer = server.request("GET", "/api/v1/catalog/search?q=kind:featur")
    assert status == 422 and "did you mean 'feature'" in answer["error"]["message"]
    assert "total_1h" in server.cli("catalog", "search", "took", "hour").stdout


def test_statistics_are_those_of_the_rows(shop: tuple[Server, str]) -> None:
    server, dataset = shop
    item = server.get("/api/v1/catalog/items/source/sales")
    by_name: dict[str, Any] = {column["column"]: column for column in item["statistics"]}
    amount = by_name["amount"]
    assert (amount["count"], amount["null_share"]) == (20, 0.05)
    assert (float(amount["min"]), float(amount["max"])) == (0.0, 28.5)
    assert amount["mean"] == pytest.approx(sum(n * 1.5 for n in range(20) if n != 7) / 19)
    assert sum(amount["histogram"]) == 19
    assert by_name["shop"]["top"][0] == {"value": "s0", "count": 7}
    assert abs(by_name["shop"]["distinct_estimate"] - 3) <= 1
    assert item["newest_event_time"] == "2024-02-01T19:00:00.000Z"
    assert len(item["sample"]) == 8
    feature = server.get("/api/v1/catalog/items/feature/shop_sales.total_1h")
    assert feature["basis"].startswith(f"dataset/{dataset}")
    assert feature["statistics"][0]["column"] == "shop_sales__total_1h"
    assert "FeatureService/sale_size" in feature["used_by"]


def test_what_is_sensitive_is_not_shown_anywhere(shop: tuple[Server, str]) -> None:
    server, _ = shop
    for path in ("/api/v1/catalog/items/source/sales", "/catalog/source/sales", "/api/v1/tables/sales/rows"):
        status, answer = server.request("GET", path)
        assert status == 200
        assert "Muster" not in str(answer), path


def test_lineage_goes_from_the_column_to_the_dataset_and_back(shop: tuple[Server, str]) -> None:
    server, dataset = shop
    down = server.get("/api/v1/lineage?node=column/sales.amount&direction=down")
    nodes = {node["id"] for node in down["nodes"]}
    assert {"feature/shop_sales.total_1h", "service/sale_size", "training_set/sale_size_rows"} <= nodes
    assert f"dataset/{dataset}" in nodes
    up = server.get(f"/api/v1/lineage?node={dataset[:10]}&direction=up")
    assert "source/sales" in {node["id"] for node in up["nodes"]}
    computed = server.get("/api/v1/lineage?node=on_demand/sale_size.share&direction=both")
    linked = {(edge["from"], edge["to"]) for edge in computed["edges"]}
    assert linked >= {
        ("feature/shop_sales.total_1h", "on_demand/sale_size.share"),
        ("request/sale_size.amount", "on_demand/sale_size.share"),
        ("on_demand/sale_size.share", f"dataset/{dataset}"),
    }
    assert search(server, "kind:on_demand share") == ["on_demand/sale_size.share"]
    assert "made from" in server.cli("lineage", "feature/shop_sales.total_1h", "--up").stdout
    assert server.cli("lineage", "view/shop_sales", "--dot").stdout.startswith("digraph")
    status, answer = server.request("GET", "/api/v1/lineage?node=feature/shop_sales.totl_1h")
    assert status == 404 and "did you mean" in answer["error"]["message"]


def test_every_training_row_leads_back_to_a_file(shop: tuple[Server, str]) -> None:
    server, dataset = shop
    origin = server.get(f"/api/v1/lineage/datasets/{dataset}")
    [table] = origin["tables"]
    assert (table["table"], table["first_offset"], table["next_offset"]) == ("sales", 0, 20)
    assert sum(file["rows"] for file in table["files"]) == 20
    assert [load["file"] for load in table["loads"]] == ["sales.csv"]
    for offset in range(20):
        row = server.get(f"/api/v1/lineage/rows/sales/{offset}")
        assert (row["file"], row["sha256"]) == ("sales.csv", table["loads"][0]["sha256"])
    assert server.request("GET", "/api/v1/lineage/rows/sales/20")[0] == 404
    assert "sales.csv" in server.cli("lineage", dataset, "--origin").stdout


def test_the_pages_are_whole(shop: tuple[Server, str]) -> None:
    server, _ = shop
    pages = ["/catalog", "/catalog?q=sales", "/catalog?q=kind:nothing", "/catalog?q=%3Cscript%3E"]
    pages += [f"/catalog/{hit}" for hit in search(server, "")]
    for path in pages:
        status, page = server.request("GET", path)
        assert status == 200, path
        assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
        assert "<script" not in page
    _, page = server.request("GET", "/catalog/feature/shop_sales.last_amount")
    assert '<svg class="lineage"' in page and '<svg class="bars"' in page


def test_parity_covers_what_is_computed_on_demand(shop: tuple[Server, str]) -> None:
    server, _ = shop
    certificate = json.loads(server.cli("features", "parity", "--service", "sale_size", "--json").stdout)
    assert certificate["holds"], certificate
    [share] = [feature for feature in certificate["features"] if feature["view"] == "service/sale_size"]
    assert share["feature"] == "share" and share["compared"] > 10 and share["null"] < share["compared"], share
