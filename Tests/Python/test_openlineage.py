"""Lineage events: ours are what the specification says, those of the real client are taken."""

from __future__ import annotations

import gzip
import http.server
import json
import os
import pathlib
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import ROOT, Server
from test_catalogue import DEFINITIONS

EXTERNAL = {
    "eventTime": "2024-01-01T00:00:00Z",
    "producer": "https://example.com/etl",
    "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
    "eventType": "COMPLETE",
    "run": {"runId": str(uuid.uuid4())},
    "job": {"namespace": "etl", "name": "orders"},
    "inputs": [{"namespace": "postgres://db", "name": "public.orders"}],
    "outputs": [
        {
            "namespace": "bottega",
            "name": "source/sales",
            "facets": {
                "columnLineage": {
                    "_producer": "https://example.com/etl",
                    "_schemaURL": "https://openlineage.io/spec/facets/1-2-0/ColumnLineageDatasetFacet.json",
                    "fields": {
                        "amount": {
                            "inputFields": [{"namespace": "postgres://db", "name": "public.orders", "field": "total"}]
                        }
                    },
                }
            },
        }
    ],
}


class Receiver:
    """A lineage service: refuses the first requests as one that restarts would, then keeps what comes."""

    def __init__(self, refusals: int = 2) -> None:
        self.events: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            left = refusals

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.keys.add(self.headers.get("Authorization"))
                if Handler.left:
                    Handler.left -= 1
                    self.send_response(503)
                else:
                    receiver.events.append(json.loads(body))
                    self.send_response(201)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def work(server: Server) -> str:
    """A load, a build, one that fails, a compaction."""
    files = [{"path": "shop.yaml", "folder": str(ROOT), "text": DEFINITIONS}]
    server.post("/api/v1/apply", {"files": files, "dry_run": False})
    lines = ["shop,at,amount,customer"] + [f"s{n % 3},2024-02-01T{n:02}:00:00Z,{n},c" for n in range(20)]
    server.post("/api/v1/sources/sales/load?name=sales.csv", raw="\n".join(lines).encode())
    span = {"training_set": "sale_size_rows", "from": "2024-02-01", "to": "2024-02-02"}
    dataset = server.post("/api/v1/datasets", span)["dataset"]
    _, started = server.request("POST", "/api/v1/datasets", {**span, "from": "2030-01-01", "to": "2030-01-02"})
    while server.get(f"/api/v1/operations/{started['operation']}")["state"] == "running":
        time.sleep(0.02)
    server.post("/api/v1/tables/sales/compact")
    return dataset


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and not condition():
        time.sleep(0.05)
    assert condition()


def test_our_events_reach_a_receiver_that_was_away(start_server: Callable[..., Server], receiver: Receiver) -> None:
    key = "a-secret-for-lineage"
    server = start_server("--set", f"openlineage.url={receiver.url}", "--set", f"openlineage.key={key}")
    dataset = work(server)
    wait_for(lambda: len(receiver.events) >= 8)
    assert receiver.keys == {f"Bearer {key}"}
    runs = [(event["job"]["name"], event["eventType"]) for event in receiver.events]
    assert runs == [
        ("load.sales", "START"),
        ("load.sales", "COMPLETE"),
        ("dataset.sale_size_rows", "START"),
        ("dataset.sale_size_rows", "COMPLETE"),
        ("dataset.sale_size_rows", "START"),
        ("dataset.sale_size_rows", "FAIL"),
        ("compact.sales", "START"),
        ("compact.sales", "COMPLETE"),
    ]
    [output] = receiver.events[3]["outputs"]
    assert output["name"] == f"dataset/{dataset}"
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 20
    origins = output["facets"]["columnLineage"]["fields"]
    [field] = origins["shop_sales__total_1h"]["inputFields"]
    assert (field["name"], field["field"]) == ("source/sales", "amount")
    through = [(field["name"], field["field"], field["transformations"][0]["description"]) for field in
               origins["share"]["inputFields"]]  # fmt: skip
    expression = "amount / coalesce(shop_sales__total_1h, shop_sales__last_amount)"
    assert through == [
        ("source/sales", "amount", f"as it stands in the question, in {expression}"),
        ("source/sales", "amount", f"sum over 1h, as shop_sales__total_1h in {expression}"),
        ("source/sales", "amount", f"last, as shop_sales__last_amount in {expression}"),
    ]
    assert "2030" in receiver.events[5]["run"]["facets"]["errorMessage"]["message"]
    check_events(receiver.events)


def facets(event: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What an event says beyond its frame: about whom, under which name, and the saying."""
    for part in [event["run"], event["job"], *event["inputs"], *event["outputs"]]:
        for group in ("facets", "inputFacets", "outputFacets"):
            for name, body in part.get(group, {}).items():
                yield part.get("name", "run"), name, body


def check_events(events: list[dict[str, Any]]) -> None:
    """Against the typed classes of `openlineage-python` where it is installed, and against the JSON Schemas of the
    specification's `spec` folder where BOTTEGA_OPENLINEAGE_SPEC names one."""
    folder = os.environ.get("BOTTEGA_OPENLINEAGE_SPEC")
    if folder:
        from jsonschema import Draft202012Validator
        from referencing import Registry, Resource

        schemas = [json.loads(path.read_text()) for path in sorted(pathlib.Path(folder).rglob("*.json"))]
        known = {schema["$id"]: schema for schema in schemas if "$id" in schema}
        registry = Registry().with_resources([(id, Resource.from_contents(known[id])) for id in known])
        [core] = [schema for id, schema in known.items() if id.endswith("/OpenLineage.json")]
        formats = Draft202012Validator.FORMAT_CHECKER

        def faults(schema: dict[str, Any], value: Any) -> list[str]:
            validator = Draft202012Validator(schema, registry=registry, format_checker=formats)
            return [f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(value)]

        for event in events:
            assert not faults(core, event)
            for part, name, body in facets(event):
                id, _, _ = body["_schemaURL"].partition("#")
                if id in known:  # the event's schema asks of a facet only who wrote it
                    assert not faults(known[id], {name: body}), (part, name)
    try:
        from openlineage.client import event_v2, facet_v2
    except ImportError:
        return
    modules = [getattr(facet_v2, name) for name in dir(facet_v2)]

    def facet(body: dict[str, Any]) -> None:
        name = body["_schemaURL"].rsplit("/", 1)[1]
        found = [getattr(module, name) for module in modules if hasattr(module, name)]
        assert found, name
        made = {key: value for key, value in body.items() if not key.startswith("_")}
        typed = found[0](**made)
        assert typed._schemaURL == body["_schemaURL"]

    for event in events:
        for _, _, body in facets(event):
            facet(body)
        event_v2.RunEvent(
            eventTime=event["eventTime"],
            eventType=event_v2.RunState(event["eventType"]),
            run=event_v2.Run(event["run"]["runId"]),
            job=event_v2.Job(event["job"]["namespace"], event["job"]["name"]),
            inputs=[event_v2.InputDataset(item["namespace"], item["name"]) for item in event["inputs"]],
            outputs=[event_v2.OutputDataset(item["namespace"], item["name"]) for item in event["outputs"]],
            producer=event["producer"],
        )


def test_pulls_and_versions_of_views_are_told(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    """Pulls that found something new, asked for or not, and versions of views built from history, at once or later."""
    path, folder = tmp_path / "events.ndjson", tmp_path / "in box"
    folder.mkdir()
    server = start_server("--set", f"openlineage.file={path}", "--set", "features.rowsatonce=10")

    def apply(every: str, window: str) -> None:
        text = DEFINITIONS.replace("key: [shop, at]", f"key: [shop, at]\nfrom: {{files: {folder}{every}}}", 1)
        assert text != DEFINITIONS
        files = [{"path": "shop.yaml", "folder": str(ROOT), "text": text.replace("window: 1h", f"window: {window}")}]
        server.post("/api/v1/apply", {"files": files, "dry_run": False})

    def events(job: str, count: int) -> list[dict[str, Any]]:
        def found() -> list[dict[str, Any]]:
            lines = path.read_text().splitlines() if path.exists() else []
            return [event for line in lines if (event := json.loads(line))["job"]["name"] == job]

        wait_for(lambda: len(found()) >= count)
        return found()

    def drop(name: str, first: int, last: int) -> None:
        lines = [f"s{n % 3},2024-02-01T00:{n:02}:00Z,{n},c" for n in range(first, last)]
        (folder / f".{name}").write_text("\n".join(["shop,at,amount,customer", *lines]))
        (folder / f".{name}").rename(folder / name)

    apply("", "1h")
    drop("a file.csv", 0, 8)
    server.post("/api/v1/sources/sales/pull")
    start, complete = events("pull.sales", 2)
    assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
    [read] = complete["inputs"]
    assert (read["namespace"], read["name"]) == ("file", f"{folder}/a file.csv")
    assert read["facets"]["dataSource"]["uri"] == f"file://{urllib.parse.quote(str(folder))}/a%20file.csv"
    [written] = complete["outputs"]
    assert (written["name"], written["outputFacets"]["outputStatistics"]["rowCount"]) == ("source/sales", 8)
    apply("", "2h")  # few rows: built before apply returns
    [_, built] = events("materialize.shop_sales", 2)
    assert built["outputs"][0]["name"] == "view/shop_sales"
    [field] = built["outputs"][0]["facets"]["columnLineage"]["fields"]["total_1h"]["inputFields"]
    assert (field["name"], field["field"]) == ("source/sales", "amount")
    apply(", every: 1s", "2h")
    drop("b.csv", 8, 40)
    assert events("pull.sales", 4)[3]["inputs"][0]["name"] == f"{folder}/b.csv"
    apply(", every: 1s", "3h")  # many rows: built beside the others
    events("materialize.shop_sales", 4)
    time.sleep(1.5)  # pulls that find nothing new are not told
    assert len(events("pull.sales", 4)) == 4
    check_events([json.loads(line) for line in path.read_text().splitlines()])
    server.stop()
    before = len(path.read_text().splitlines())
    server.start()
    server.stop()
    assert len(path.read_text().splitlines()) == before, "what was built is not built again"


def test_our_events_go_to_a_file_and_outlive_a_kill(
    start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "events.ndjson"
    server = start_server("--set", f"openlineage.file={path}")
    work(server)
    wait_for(lambda: path.exists() and len(path.read_text().splitlines()) >= 8)
    server.kill()
    server.start()
    server.post("/api/v1/tables/sales/compact")
    wait_for(lambda: len(path.read_text().splitlines()) >= 10)
    names = [json.loads(line)["job"]["name"] for line in path.read_text().splitlines()]
    assert names[-2:] == ["compact.sales", "compact.sales"]


def test_events_of_others_join_the_graph_and_stay(start_server: Callable[..., Server]) -> None:
    server = start_server()
    files = [{"path": "shop.yaml", "folder": str(ROOT), "text": DEFINITIONS}]
    server.post("/api/v1/apply", {"files": files, "dry_run": False})
    assert server.request("POST", "/api/v1/lineage", EXTERNAL)[0] == 201
    packed = gzip.compress(json.dumps({**EXTERNAL, "job": {"namespace": "etl", "name": "packed"}}).encode())
    status, _ = server.request("POST", "/api/v1/lineage", raw=packed, headers={"Content-Encoding": "gzip"})
    assert status == 201
    for _ in range(2):
        up = server.get("/api/v1/lineage?node=feature/shop_sales.total_1h&direction=up")
        nodes = {node["id"] for node in up["nodes"]}
        assert "external/postgres://db/public.orders#total" in nodes
        assert {"job/etl/orders", "job/etl/packed"} <= nodes
        server.kill()
        server.start()


def test_wrong_events_are_refused_with_the_place(server: Server) -> None:
    for key in ("eventTime", "producer", "schemaURL", "run", "job"):
        status, answer = server.request("POST", "/api/v1/lineage", {k: v for k, v in EXTERNAL.items() if k != key})
        assert status == 422 and key in answer["error"]["subject"], answer
    status, answer = server.request("POST", "/api/v1/lineage", {**EXTERNAL, "eventType": "DONE"})
    assert status == 422 and "COMPLETE" in answer["error"]["message"]
    status, answer = server.request("POST", "/api/v1/lineage", raw=b"\x1f\x8bxx", headers={"Content-Encoding": "gzip"})
    assert status == 422
    status, answer = server.request("POST", "/api/v1/lineage/batch", [EXTERNAL, {}, EXTERNAL])
    assert status == 200 and answer["status"] == "partial_success"
    assert (answer["summary"]["successful"], answer["failed_events"][0]["index"]) == (2, 1)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_the_real_client_is_understood(server: Server, compression: str | None) -> None:
    client = pytest.importorskip("openlineage.client")
    from openlineage.client import event_v2
    from openlineage.client.transport.http import HttpCompression, HttpConfig, HttpTransport

    config = HttpConfig(url=server.url, compression=HttpCompression(compression) if compression else None)
    sender = client.OpenLineageClient(transport=HttpTransport(config))
    name = f"client_{compression}"
    sender.emit(
        event_v2.RunEvent(
            eventTime="2024-01-01T00:00:00Z",
            eventType=event_v2.RunState.COMPLETE,
            run=event_v2.Run(str(uuid.uuid4())),
            job=event_v2.Job("airflow", name),
            inputs=[event_v2.InputDataset("s3://bucket", "raw/orders")],
            outputs=[event_v2.OutputDataset("s3://bucket", f"clean/{name}")],
            producer="https://example.com",
        )
    )
    down = server.get("/api/v1/lineage?node=external/s3://bucket/raw/orders&direction=down")
    assert f"external/s3://bucket/clean/{name}" in {node["id"] for node in down["nodes"]}
