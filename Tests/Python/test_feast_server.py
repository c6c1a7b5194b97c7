"""The HTTP API of Feast's feature server, as Feast's own server answers it (recorded from 0.67)."""

from __future__ import annotations

import json
import pathlib
import time
from typing import Any

import pytest
from conftest import Server

DEFINITIONS = """
kind: Entity
name: driver
keys: [driver_id]
---
kind: Source
name: stats_push
event_time: event_timestamp
ingest_time: created
key: [driver_id, event_timestamp]
schema:
  - {name: driver_id, type: int64, nullable: false}
  - {name: event_timestamp, type: timestamp, nullable: false}
  - {name: created, type: timestamp}
  - {name: conv_rate, type: float64}
  - {name: trips, type: int64}
  - {name: car, type: string}
  - {name: since, type: timestamp}
expectations:
  - {name: a_share, column: conv_rate, range: [0, 1]}
---
kind: FeatureView
name: stats
entities: [driver]
source: stats_push
ttl: 1d
inclusive: true
features:
  - {name: conv_rate, aggregate: last, column: conv_rate}
  - {name: avg_trips, aggregate: last, column: trips}
  - {name: car, aggregate: last, column: car}
  - {name: since, aggregate: last, column: since}
---
kind: Source
name: rides
event_time: at
key: [driver_id, at]
ingest_time: at
schema:
  - {name: driver_id, type: int64, nullable: false}
  - {name: at, type: timestamp, nullable: false}
  - {name: fare, type: float64}
---
kind: FeatureView
name: ride_counts
entities: [driver]
source: rides
features:
  - {name: rides_1h, aggregate: count, window: 1h}
  - {name: conv_rate, aggregate: mean, column: fare, window: 1h}
---
kind: FeatureService
name: both
views: [stats, ride_counts]
"""
EPOCH = "1970-01-01T00:00:00Z"


def moment(seconds_ago: int) -> str:
    """A time as Feast's client writes it: without a zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - seconds_ago))


@pytest.fixture(scope="module")
def feast(server: Server) -> Server:
    files = [{"path": "feast.yaml", "folder": "/", "text": DEFINITIONS}]
    status, answer = server.request("POST", "/api/v1/apply", {"files": files})
    assert status == 200, answer
    return server


def ask(server: Server, **body: Any) -> dict[str, Any]:
    status, answer = server.request("POST", "/get-online-features", body)
    assert status == 200, answer
    return {
        name: (result["values"], result["statuses"], result["event_timestamps"])
        for name, result in zip(answer["metadata"]["feature_names"], answer["results"], strict=True)
    }


def refused(server: Server, path: str, body: Any) -> tuple[int, str, str]:
    status, answer = server.request("POST", path, body)
    assert isinstance(answer, str), answer
    detail = json.loads(answer)
    assert detail["module"] == "feast.errors"
    return status, detail["class"], detail["message"]


def test_what_is_pushed_is_what_is_read(feast: Server) -> None:
    at = moment(60)
    frame = {
        "driver_id": [1001, 1002],
        "event_timestamp": [at, at],
        "created": [at, None],
        "conv_rate": [0.5, 0.25],
        "trips": [5, None],
        "car": ["van", None],
        "since": ["2020-01-01T00:00:00", 1577836800],
    }
    for to in ("online", "online_and_offline"):  # the same rows again are no new ones
        status, answer = feast.request("POST", "/push", {"push_source_name": "stats_push", "df": frame, "to": to})
        assert (status, answer) == (200, ""), answer
    features = ["stats:conv_rate", "stats:avg_trips", "stats:car", "stats:since"]
    got = ask(feast, entities={"driver_id": [1001, "1002", 99], "more": [1, 2, 3]}, features=features)
    assert list(got) == ["driver_id", "conv_rate", "avg_trips", "car", "since"]
    assert got["driver_id"] == ([1001, 1002, 99], ["PRESENT"] * 3, [EPOCH] * 3)
    assert got["conv_rate"] == ([0.5, 0.25, None], ["PRESENT", "PRESENT", "NOT_FOUND"], [at + "Z", at + "Z", EPOCH])
    assert got["avg_trips"][:2] == ([5, None, None], ["PRESENT", "NULL_VALUE", "NOT_FOUND"])
    assert got["car"][0] == ["van", None, None]
    assert got["since"][0] == [1577836800, 1577836800, None]
    rows = {source["name"]: source["rows"] for source in feast.get("/api/v1/sources")["sources"]}
    assert rows["stats_push"] == 2


def test_a_written_view_is_a_row_of_its_source(feast: Server) -> None:
    old = moment(3 * 86_400)
    frame = {
        "driver_id": [7, 8],
        "event_timestamp": [moment(5) + ".250000", old],
        "created": [None, None],
        "conv_rate": [0.75, 0.125],
        "avg_trips": [3, 4],
        "car": ["bus", "bus"],
        "since": [None, None],
    }
    status, answer = feast.request("POST", "/write-to-online-store", {"feature_view_name": "stats", "df": frame})
    assert (status, answer) == (200, None), answer
    got = ask(feast, entities={"driver_id": [7, 8]}, features=["stats:avg_trips"], full_feature_names=True)
    values, statuses, times = got["stats__avg_trips"]
    assert (values, statuses) == ([3, None], ["PRESENT", "OUTSIDE_MAX_AGE"])
    assert times == [frame["event_timestamp"][0][:-3] + "Z", old + "Z"]
    again = {**frame, "created": [moment(0), moment(0)]}
    again.pop("car")
    status, name, message = refused(feast, "/write-to-online-store", {"feature_view_name": "stats", "df": again})
    assert (status, name) == (422, "FeastError") and "car" in message


def test_a_service_is_read_as_a_whole(feast: Server) -> None:
    status, _ = feast.request("POST", "/sources/rides/events", [{"driver_id": 7, "at": moment(9) + "Z", "fare": 4}])
    assert status == 200
    body = {"entities": {"driver_id": [7]}, "feature_service": "both", "full_feature_names": True}
    got = ask(feast, **body)
    assert got["ride_counts__rides_1h"][0] == [1] and got["ride_counts__conv_rate"][0] == [4.0]
    status, answer = feast.request(
        "POST", "/get-online-features", {**body, "include_feature_view_version_metadata": True}
    )
    versions = answer["metadata"]["feature_view_metadata"]
    assert [version["name"] for version in versions] == ["stats", "ride_counts"]
    assert versions[0]["version_name"].startswith("stats.v")
    status, name, message = refused(feast, "/get-online-features", {**body, "full_feature_names": False})
    assert (status, name) == (422, "FeatureNameCollisionError") and "conv_rate" in message


@pytest.mark.parametrize(
    ("path", "body", "status", "name", "part"),
    [
        ("/get-online-features", {"features": ["stat:car"]}, 404, "FeatureViewNotFoundException", "'stats'"),
        ("/get-online-features", {"features": ["stats:cars"]}, 422, "FeastError", "'car'"),
        ("/get-online-features", {"features": ["car"]}, 422, "FeastError", "<feature_view>:<feature>"),
        ("/get-online-features", {"features": []}, 422, "FeastError", "No features"),
        ("/get-online-features", {"feature_service": "bot"}, 404, "FeatureServiceNotFoundException", "'both'"),
        ("/get-online-features", {"features": ["stats:car"], "entities": {}}, 422, "FeastError", "entities"),
        ("/get-online-features", {"features": ["stats:car"], "entities": {"x": [1]}}, 422, "FeastError", "driver_id"),
        ("/get-online-features", {"features": ["stats@v2:car"]}, 422, "VersionedOnlineReadNotSupported", "v2"),
        ("/push", {"push_source_name": "stats", "df": {"a": [1]}}, 422, "PushSourceNotFoundException", "'stats'"),
        ("/push", {"push_source_name": "stats_push", "df": {"driver_id": [1]}}, 422, "FeastError", "event_timestamp"),
        ("/push", {"push_source_name": "stats_push", "df": {"a": [1]}, "to": "x"}, 422, "FeastError", "supported"),
        ("/write-to-online-store", {"feature_view_name": "x", "df": {}}, 404, "FeatureViewNotFoundException", "x"),
        ("/write-to-online-store", {"feature_view_name": "ride_counts", "df": {}}, 422, "FeastError", "computed"),
        ("/materialize", {}, 422, "FeastError", "start_ts"),
        ("/materialize-incremental", {"end_ts": "soon"}, 422, "FeastError", "end_ts"),
        (
            "/materialize-incremental",
            {"end_ts": "2026-01-01", "feature_views": ["x"]},
            404,
            "FeatureViewNotFoundException",
            "x",
        ),
    ],
)
def test_what_cannot_be_done_is_said_as_feast_says_it(
    feast: Server, path: str, body: dict[str, Any], status: int, name: str, part: str
) -> None:
    if path == "/get-online-features":
        body = {"entities": {"driver_id": [1]}, **body}
    answer = refused(feast, path, body)
    assert answer[:2] == (status, name) and part in answer[2], answer


def test_what_is_refused_in_front_of_the_routes_is_said_as_feast_says_it(tmp_path: pathlib.Path) -> None:
    token = {"Authorization": "Bearer a token of some length"}
    server = Server(tmp_path / "data", environment={"BOTTEGA_GATEWAY_TOKEN": "a token of some length"}).start()
    large = b"x" * ((16 << 20) + 1)
    for method, path, raw, headers, expected in [
        ("POST", "/get-online-features", b"{}", {}, (401, "FeastPermissionError", "token")),
        ("POST", "/push", b"{}", {}, (401, "FeastPermissionError", "token")),
        ("POST", "/retrieve-online-documents", b"{}", token, (404, "FeastObjectNotFoundException", "no route")),
        ("GET", "/push", None, token, (405, "FeastError", "POST")),
        ("POST", "/get-online-features", large, token, (413, "FeastError", "bytes")),
    ]:
        status, answer = server.request(method, path, raw=raw, headers=headers)
        assert isinstance(answer, str), (method, path, status, answer)
        detail = json.loads(answer)
        assert (status, detail["module"], detail["class"]) == (expected[0], "feast.errors", expected[1]), detail
        assert expected[2] in detail["message"], detail
    assert server.stop() == 0


def test_a_row_that_breaks_the_contract_is_not_taken_in_silence(feast: Server) -> None:
    frame = {"driver_id": [50, 51], "event_timestamp": [moment(5)] * 2, "conv_rate": [0.5, 1.5]}
    status, name, message = refused(feast, "/push", {"push_source_name": "stats_push", "df": frame})
    assert (status, name) == (422, "FeastError")
    assert "1 of 2 rows" in message and "'1.5' is outside" in message
    assert ask(feast, entities={"driver_id": [50, 51]}, features=["stats:conv_rate"])["conv_rate"][0] == [0.5, None]


def test_materializing_answers_when_the_views_do(feast: Server) -> None:
    body = {"end_ts": moment(0), "feature_views": ["stats"]}
    assert feast.request("POST", "/materialize-incremental", body) == (200, None)
    assert feast.request("POST", "/materialize", {**body, "start_ts": moment(99)}) == (200, None)
    status, answer = feast.request("POST", "/materialize-incremental?async=true", body)
    assert status == 202 and (answer["status"], answer["feature_views"]) == ("accepted", ["stats"])
    assert feast.finished(answer["operation"]) == {"feature_views": ["stats"]}
    assert feast.request("GET", "/health")[0] == 200
