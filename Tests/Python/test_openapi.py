"""`API/openapi.yaml` is what the server does: every route is in it, and every answer has the shape that it promises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from conftest import ROOT, Server
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

DOCUMENT_PATH = ROOT / "API" / "openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(DOCUMENT_PATH.read_text(encoding="utf-8"))
METHODS = ("get", "post", "put", "patch", "delete")
OPERATIONS = [(method, path) for path, item in DOCUMENT["paths"].items() for method in METHODS if method in item]

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
schema:
  - {name: shop, type: string, nullable: false}
  - {name: at, type: timestamp, nullable: false}
  - {name: amount, type: float64, nullable: false}
expectations:
  - {name: positive, column: amount, range: [0, ~]}
---
kind: FeatureView
name: shop_sales
entities: [shop]
source: sales
features:
  - {name: total_1h, aggregate: sum, column: amount, window: 1h}
  - {name: last_amount, aggregate: last, column: amount}
---
kind: FeatureService
name: sale_size
views: [shop_sales]
---
kind: TrainingSet
name: sale_size
service: sale_size
spine: sales
label: {name: size, source: sales, join: [shop, at], column: amount, horizon: 1h}
"""


def closed(schema: Any) -> Any:
    """The schema with every listed object shut: a field that is not described is a fault of the description."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        result.setdefault("additionalProperties", False)
    if isinstance(schema.get("$ref"), str):
        result["$ref"] = schema["$ref"]
    return result


CLOSED_COMPONENTS = {"schemas": {name: closed(schema) for name, schema in DOCUMENT["components"]["schemas"].items()}}


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """What a `$ref` to a component other than a schema stands for."""
    while "$ref" in part:
        _, _, kind, name = part["$ref"].split("/")
        part = DOCUMENT["components"][kind][name]
    return part


def faults(answer: Any, schema: dict[str, Any]) -> list[str]:
    """Where an answer differs from a schema of the document."""
    validator = Draft202012Validator({**closed(schema), "components": CLOSED_COMPONENTS})
    return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(answer)]


def check_answer(method: str, path: str, status: int, answer: Any) -> None:
    """The status is documented, and the answer is as that status says."""
    responses = DOCUMENT["paths"][path][method]["responses"]
    response = responses.get(str(status)) or responses.get("default")
    assert response is not None, f"{method} {path} answers {status}, which is not documented: {answer}"
    content = resolved(response).get("content", {})
    if "application/json" in content:
        found = faults(answer, content["application/json"]["schema"])
        assert not found, f"{method} {path} {status}: {found}\n{json.dumps(answer, indent=1)[:2000]}"
    else:
        # JSON lines may be none at all.
        if path.endswith("export") and isinstance(answer, dict):  # a single line of JSON was read as JSON
            return
        assert isinstance(answer, str) and (answer or path.endswith("export")), (
            f"{method} {path} {status}: text is promised, not {answer!r}"
        )


def check(server: Server, method: str, path: str, body: Any = None, query: str = "", **values: Any) -> Any:
    """Sends a request that must succeed, and gives its checked answer."""
    status, answer = server.request(method.upper(), path.format(**values) + query, body)
    assert status < 300, (method, path, status, answer)
    check_answer(method, path, status, answer)
    return answer


def route_names(text: str) -> Iterator[tuple[str, str]]:
    for found in re.finditer(r"\bRoute\(\s*\"([A-Z]+)\",\s*\"([^\"]+)\"", text):
        yield found[1].lower(), found[2]
    for found in re.finditer(r"(?<![\w.])\.page\(\s*\"([^\"]+)\"", text):
        yield "get", found[1]


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)


def test_every_text_of_the_document_is_whole() -> None:
    """A comma in an unquoted text of a flow mapping cuts it and leaves a key without a value."""

    def walk(part: Any, place: str) -> Iterator[str]:
        if isinstance(part, dict):
            for key, value in part.items():
                if value is None and "example" not in place:
                    yield f"{place}/{key}"
                yield from walk(value, f"{place}/{key}")
        elif isinstance(part, list):
            for index, value in enumerate(part):
                yield from walk(value, f"{place}/{index}")

    assert not list(walk(DOCUMENT, ""))


def test_every_operation_has_a_name_of_its_own_and_a_summary() -> None:
    operations = [DOCUMENT["paths"][path][method] for method, path in OPERATIONS]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] and operation["tags"] for operation in operations)


def test_the_document_has_the_routes_of_the_sources() -> None:
    sources = [
        path.read_text(encoding="utf-8")
        for folder in ("Gateway", "FeastAPI")
        for path in sorted((ROOT / "Sources/Edge" / folder).rglob("*.swift"))
    ]
    assert sources
    routes = [route for text in sources for route in route_names(text)]
    # A route whose name is no literal would be missed.
    assert len(routes) == sum(len(re.findall(r"(?<![\w.])(?:Route|\.page)\(", text)) for text in sources)
    assert sorted(routes) == sorted(OPERATIONS)


def asks_nothing(path: str) -> bool:
    """Whether a GET of the path needs no parameter."""
    parameters = DOCUMENT["paths"][path]["get"].get("parameters", [])
    return "{" not in path and not any(parameter.get("required") for parameter in parameters)


@pytest.mark.parametrize("path", [path for method, path in OPERATIONS if method == "get" and asks_nothing(path)])
def test_a_get_without_parameters_answers_as_described(server: Server, path: str) -> None:
    check(server, "get", path)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_the_server_knows_the_operation(server: Server, method: str, path: str) -> None:
    """A request with made-up names is refused for the names or the empty body, never for the route."""
    body: Any = None if method == "get" else {}
    status, answer = server.request(
        method.upper(), re.sub(r"\{version\}", "1", path).replace("{", "").replace("}", ""), body
    )
    error = answer.get("error", {}) if isinstance(answer, dict) else {}
    assert error.get("subject") != "route", answer
    assert status < 500, answer
    check_answer(method, path, status, answer)


def test_an_unknown_route_says_where_the_routes_are(server: Server) -> None:
    status, answer = server.request("GET", "/api/v1/nothing")
    assert status == 404
    assert answer["error"]["subject"] == "route"
    assert "API/openapi.yaml" in answer["error"]["message"]


def test_answers_about_definitions_and_rows_are_as_described(server: Server) -> None:
    files = [{"path": "shop.yaml", "folder": str(ROOT), "text": DEFINITIONS}]
    rehearsal = check(server, "post", "/api/v1/apply", {"files": files, "dry_run": True})
    applied = check(server, "post", "/api/v1/apply", {"files": files})
    assert applied["changes"] == rehearsal["changes"]
    assert len(check(server, "get", "/api/v1/definitions")["definitions"]) == DEFINITIONS.count("kind: ")

    rows = [
        {"shop": "a", "at": "2024-01-01T10:00:00Z", "amount": 2.5},
        {"shop": "a", "at": "2024-01-01T10:10:00Z", "amount": 4},
        {"shop": "a", "at": "2024-01-01T10:20:00Z", "amount": -1},
    ]
    pushed = check(server, "post", "/sources/{source}/events", rows, source="sales")
    assert (pushed["accepted"], pushed["quarantined"]) == (2, 1)
    assert [source["name"] for source in check(server, "get", "/api/v1/sources")["sources"]] == ["sales"]
    refused = check(server, "get", "/api/v1/sources/{source}/quarantine", query="?limit=10", source="sales")
    assert len(refused["rows"]) == 1
    check(server, "get", "/api/v1/sources/{source}/versions", source="sales")

    question = {"entities": [{"shop": "a"}, {"shop": "b"}]}
    answer = check(server, "post", "/features/groups/{view}/get-online", question, view="shop_sales")
    assert len(answer["entities"]) == 2

    status, started = server.request(
        "POST", "/api/v1/sources/sales/load?name=more.csv", raw=b"shop,at,amount\nb,2024-01-01T11:00:00Z,7\n"
    )
    check_answer("post", "/api/v1/sources/{source}/load", status, started)
    report = server.finished(started["operation"])
    assert not faults(report, {"$ref": "#/components/schemas/LoadReport"})
    check(server, "get", "/api/v1/operations/{id}", id=started["operation"])

    assert check(server, "get", "/api/v1/audit", query="?limit=5")["entries"]
    assert check(server, "post", "/api/v1/audit/verify")["intact"] is True


def test_answers_about_tables_and_training_sets_are_as_described(server: Server) -> None:
    check(server, "post", "/api/v1/apply", {"files": [{"path": "shop.yaml", "folder": str(ROOT), "text": DEFINITIONS}]})
    rows = [{"shop": "c", "at": f"2024-02-01T{hour:02}:00:00Z", "amount": hour} for hour in range(20)]
    check(server, "post", "/sources/{source}/events", rows, source="sales")
    flush = check(server, "post", "/api/v1/sources/{source}/flush", source="sales")
    assert server.finished(flush["operation"])["rows"] >= len(rows)
    versions = check(server, "get", "/api/v1/sources/{source}/versions", source="sales")["versions"]
    assert sum(version["rows"] for version in versions) >= len(rows)

    span = {"training_set": "sale_size", "from": "2024-02-01", "to": "2024-02-02"}
    build = server.finished(check(server, "post", "/api/v1/datasets", span)["operation"])
    assert not faults(build, {"$ref": "#/components/schemas/DatasetBuild"})
    assert build["rows"] == len(rows)
    described = check(server, "get", "/api/v1/datasets/{hash}", hash=build["dataset"])
    assert described["manifest"] == build["manifest"]


def test_a_field_that_the_document_does_not_have_is_refused(server: Server) -> None:
    status, answer = server.request("POST", "/api/v1/datasets", {"training_sett": "flights"})
    assert status == 422
    assert "did you mean 'training_set'" in answer["error"]["message"]
    check_answer("post", "/api/v1/datasets", status, answer)
