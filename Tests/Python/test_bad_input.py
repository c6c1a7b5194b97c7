"""Input that is wrong in every way a user or an attacker finds: one clear line each, and the platform lives on."""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import re
import socket
import stat
import subprocess
import textwrap
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import shop
from conftest import ROOT, Server

DAYS = 12


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, binary: str) -> Iterator[Server]:
    """A server with the shop's rows, a training set and a model in production."""
    folder = tmp_path_factory.mktemp("bad")
    server = Server(folder / "data", "--clock", "manual").start()
    server.definitions = shop.write_definitions(folder / "definitions")
    server.cli("apply", str(server.definitions))
    server.post("/api/v1/clock", {"now": shop.START + DAYS * shop.DAY})
    rows = shop.history(DAYS)
    for name in ("payments", "orders", "outcomes"):
        path = shop.write_csv(folder / f"{name}.csv", getattr(rows, name))
        server.cli("ingest", name, str(path))
    span = ["--from", shop.text(shop.START + 2 * shop.DAY), "--to", shop.text(shop.START + (DAYS - 1) * shop.DAY)]
    server.dataset = json.loads(server.cli("dataset", "build", "loss", *span, "--json").stdout)["dataset"]
    job = json.loads(server.cli("train", "loss", "--dataset", server.dataset, "--json").stdout)
    server.cli("model", "register", "loss", "--job", job["id"])
    for stage in ("staging", "canary", "production"):
        server.cli("model", "promote", "loss", "1", stage, "--reason", "for the tests")
    server.cli("deploy", "loss", "1", "--reason", "for the tests")
    server.run_id = job["run_id"]
    server.folder = folder
    yield server
    assert server.get("/api/v1/status")["now"], "after all of this the server still answers"
    assert server.stop() == 0


UNCLEAR = re.compile(
    r"Fatal error|Error Domain|Optional\(|NSError|\.swift:\d|Traceback|0x[0-9a-f]{8}|The operation couldn"
)


def assert_one_line(text: str, *words: str) -> None:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("bottega: "), text
    assert_clear(lines[0], *words)


def assert_clear(line: str, *words: str) -> None:
    assert len(line) < 700, line
    assert not UNCLEAR.search(line), line
    for word in words:
        assert word in line, (word, line)


def refuses(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
    assert_one_line(result.stderr, *words)


def refused(answer: tuple[int, Any], status: int, *words: str) -> str:
    assert answer[0] == status, answer
    assert isinstance(answer[1], dict), answer
    error = answer[1]["error"]
    line = f"{error['subject']}: {error['message']}"
    assert "\n" not in line, line
    assert_clear(line, *words)
    return line


# Definitions

BROKEN_DEFINITIONS = {
    "a misspelt key": (("window: 24h", "windw: 24h"), ["data.yaml:", "windw", "did you mean 'window'"]),
    "a misspelt kind": (
        ("kind: FeatureView\nname: fresh", "kind: FeatureVew\nname: fresh"),
        ["FeatureVew", "did you mean 'FeatureView'"],
    ),
    "a wrong type": (("range: [0, 10000]", "range: many"), ["data.yaml:", "range"]),
    "a wrong number": (("window: 24h", "window: soon"), ["data.yaml:", "window", "soon"]),
    "a missing entity": (
        ("entities: [customer]\nsource: payments\nttl", "entities: [custmer]\nsource: payments\nttl"),
        ["data.yaml:", "custmer", "did you mean 'customer'"],
    ),
    "a missing source": (("spine: orders", "spine: ordrs"), ["data.yaml:", "ordrs", "did you mean 'orders'"]),
    "a missing column": (
        ("column: amount, window: 24h", "column: amont, window: 24h"),
        ["data.yaml:", "amont", "did you mean 'amount'"],
    ),
    "a missing key": (("event_time: asked_at", "description: none"), ["data.yaml:", "event_time"]),
    "two of one name": (("name: outcomes", "name: orders"), ["data.yaml:", "orders"]),
    "a tab in the YAML": (("kind: Source\nname: orders", "kind: Source\n\tname: orders"), ["data.yaml:", "YAML"]),
    "broken YAML": (("values: [app, shop, web]", "values: [app, shop"), ["data.yaml:", "YAML"]),
}


@pytest.mark.parametrize("what", BROKEN_DEFINITIONS)
def test_a_broken_definition_is_named_with_its_line(what: str, server: Server, tmp_path: pathlib.Path) -> None:
    (old, new), words = BROKEN_DEFINITIONS[what]
    folder = shop.write_definitions(tmp_path / "definitions")
    assert shop.DATA.count(old) == 1
    (folder / "model.yaml").unlink()  # so that nothing else misses what is broken
    (folder / "data.yaml").write_text(shop.DATA.replace(old, new))
    before = server.get("/api/v1/definitions")
    for command in ("plan", "apply"):
        result = server.cli(command, str(folder), check=False)
        assert result.returncode == 2, result
        lines = result.stderr.strip().splitlines()
        assert 1 <= len(lines) <= 4, result.stderr
        assert lines[0].startswith("bottega: ")
        for line in lines:
            assert_clear(line)
        for word in words:
            assert word in result.stderr, (word, result.stderr)
        assert re.search(r"data\.yaml:\d+", lines[0]), lines[0]
    assert server.get("/api/v1/definitions") == before, "half a set is never applied"


def test_every_fault_is_told_at_once(server: Server, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: Entity\nname: x\nkeyz: [a]\n---\nkind: Entity\nname: 1 2\nkeys: [a]\n")
    result = server.cli("plan", str(tmp_path), check=False)
    assert result.returncode == 2
    assert "a.yaml:3" in result.stderr and "a.yaml:6" in result.stderr, result.stderr


def test_a_cycle_is_shown(server: Server, tmp_path: pathlib.Path) -> None:
    services = "".join(
        f"---\nkind: FeatureService\nname: {name}\nincludes: [{other}]\nviews: []\n"
        for name, other in (("one", "two"), ("two", "three"), ("three", "one"))
    )
    (tmp_path / "cycle.yaml").write_text(services)
    result = server.cli("apply", str(tmp_path), check=False)
    assert result.returncode == 2
    assert "cycle" in result.stderr and "one → " in result.stderr, result.stderr


def test_folders_that_hold_nothing(server: Server, tmp_path: pathlib.Path) -> None:
    refuses(server.cli("apply", str(tmp_path), check=False), 2, str(tmp_path), "no .yaml file")
    refuses(server.cli("apply", str(tmp_path / "none"), check=False), 2, "none", "no such file")
    (tmp_path / "latin.yaml").write_bytes(b"kind: Entity\nname: caf\xe9\n")
    refuses(server.cli("apply", str(tmp_path), check=False), 2, "latin.yaml", "UTF-8")
    (tmp_path / "latin.yaml").write_text("- just\n- a list\n")
    refuses(server.cli("apply", str(tmp_path), check=False), 2, "latin.yaml:1")


def test_an_alias_bomb_is_refused_in_time(server: Server, tmp_path: pathlib.Path) -> None:
    bomb = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"] + [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (tmp_path / "bomb.yaml").write_text("\n".join(bomb))
    began = time.monotonic()
    result = server.cli("plan", str(tmp_path), check=False)
    assert result.returncode == 2 and time.monotonic() - began < 10, result


# Files

PAYMENT = "p1,2024-01-02T00:00:00Z,2024-01-02T00:00:00Z,c01,5,card"
HEADER = "payment,paid_at,known_at,customer,amount,method"
REFUSED_FILES: dict[str, tuple[bytes, list[str]]] = {
    "a missing column": (
        b"payment,paid_at,known_at,customer,method\np1,,,c,card\n",
        ["'amount'", "missing", "nothing was stored"],
    ),
    "a new column": (f"{HEADER},extra\n{PAYMENT},1\n".encode(), ["'extra'", "on_schema_change"]),
    "an empty file": (b"", ["empty"]),
    "binary garbage": (bytes(range(256)) * 64, []),
    "zeros": (bytes(100_000), []),
    "a gzip file": (b"\x1f\x8b\x08\x00" + bytes(50), ["gzip"]),
    "parquet by another name": (b"PAR1" + bytes(50), ["Parquet"]),
    "a column twice": (f"{HEADER},amount\n{PAYMENT},1\n".encode(), ["'amount'", "twice"]),
}


@pytest.mark.parametrize("what", REFUSED_FILES)
def test_a_file_that_does_not_fit_is_refused_whole(what: str, trained: Server, tmp_path: pathlib.Path) -> None:
    content, words = REFUSED_FILES[what]
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    before = trained.get("/api/v1/sources")
    refuses(trained.cli("ingest", "payments", str(path), check=False), 2, "rows.csv", *words)
    assert trained.get("/api/v1/sources") == before


def test_a_header_alone_is_no_rows(trained: Server, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "header.csv"
    path.write_text(HEADER + "\n")
    report = json.loads(trained.cli("ingest", "payments", str(path), "--json").stdout)
    assert (report["rows_read"], report["rows_accepted"], report["rows_quarantined"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("q1,2024-01-02T00:00:00Z,2024-01-02T00:00:00Z,c01,five,card", "amount: "),
        ("q2,2024-13-02T00:00:00Z,2024-01-02T00:00:00Z,c01,5,card", "paid_at: "),
        ("q3,9999-01-02T00:00:00Z,9999-01-02T00:00:00Z,c01,5,card", "paid_at: "),
        ("q4,,2024-01-02T00:00:00Z,c01,5,card", "paid_at: "),
        ("q5,2024-01-02T00:00:00Z,2024-01-02T00:00:00Z,c01,NaN,card", "amount: "),
        ("q6,2024-01-02T00:00:00Z,2024-01-02T00:00:00Z,c01,1e400,card", "amount: "),
        ("q7,2024-01-02T00:00:00Z,2024-01-02T00:00:00Z,c01,5,card,more", "line: "),
        ('q8,2024-01-02T00:00:00Z,2024-01-02T00:00:00Z,"c01,5,card', "line: "),
        (",2024-01-02T00:00:00Z,2024-01-02T00:00:00Z,c01,5,card", "payment: "),
    ],
)
def test_a_broken_row_is_quarantined_with_its_line(
    row: str, reason: str, trained: Server, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{HEADER}\n{PAYMENT}\n{row}\n")
    report = json.loads(trained.cli("ingest", "payments", str(path), "--json").stdout)
    assert (report["rows_read"], report["rows_quarantined"]) == (2, 1), report
    assert any(text.startswith(reason) for text in report["reasons"]), report
    newest = trained.get("/api/v1/sources/payments/quarantine?limit=1")["rows"][0]
    assert newest["position"] == 3 and row[:2].strip(",") in newest["row"], newest


def test_a_file_that_is_not_there(trained: Server, tmp_path: pathlib.Path) -> None:
    refuses(trained.cli("ingest", "payments", str(tmp_path / "no.csv"), check=False), 2, "no.csv", "cannot be read")
    refuses(trained.cli("ingest", "paymens", str(ROOT / "LICENSE"), check=False), 2, "LICENSE")
    path = tmp_path / "rows.csv"
    path.write_text(HEADER + "\n")
    refuses(trained.cli("ingest", "paymens", str(path), check=False), 4, "paymens", "did you mean 'payments'")
    (tmp_path / "empty").mkdir()
    refuses(trained.cli("ingest", "payments", str(tmp_path / "empty"), check=False), 2, "empty", "holds no .csv")


# Events

EVENT = {"payment": "e1", "paid_at": shop.START, "known_at": shop.START, "customer": "c01", "amount": 5.0}


def test_a_body_of_100_megabytes_is_refused(trained: Server) -> None:
    size = 100 << 20
    for chunked in (False, True):
        address = urllib.parse.urlparse(trained.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        connection.putrequest("POST", "/sources/payments/events")
        connection.putheader("Content-Type", "application/json")
        connection.putheader(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(size))))
        connection.endheaders()
        block = b" " * (1 << 20)
        try:
            for _ in range(100):
                connection.send(b"100000\r\n" + block + b"\r\n" if chunked else block)
            if chunked:
                connection.send(b"0\r\n\r\n")
        except OSError:
            pass  # refused before all of it was sent
        answer = connection.getresponse()
        refused((answer.status, json.loads(answer.read())), 413, "33554432" if not chunked else "accepted")
        connection.close()
    assert trained.get("/api/v1/status")


BAD_EVENTS: dict[str, tuple[bytes, int, list[str]]] = {
    "an empty body": (b"", 422, ["empty"]),
    "an empty list": (b"[]", 422, ["no event"]),
    "broken JSON": (b'{"payment": "e1", "paid_at": ', 422, ["line 1, column 30"]),
    "a broken line": (b'{"payment": "e1"}\n{"payment": }\n', 422, ["line 2"]),
    "no UTF-8": (b'{"payment": "\xff\xfe"}', 422, []),
    "deep nesting": (b"[" * 200_000, 422, ["deep"]),
    "deep objects": (b'{"a":' * 200_000, 422, ["deep"]),
    "a key twice": (b'{"payment": "a", "payment": "b"}', 422, ["payment"]),
    "a number beyond all": (b'{"payment": 1e99999}', 422, []),
}


@pytest.mark.parametrize("what", BAD_EVENTS)
def test_a_body_that_cannot_be_read_is_refused(what: str, trained: Server) -> None:
    body, status, words = BAD_EVENTS[what]
    refused(trained.request("POST", "/sources/payments/events", raw=body), status, *words)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"paid_at": "9999-01-01T00:00:00Z"}, "paid_at: "),
        ({"paid_at": 253_402_300_800_000}, "paid_at: "),
        ({"paid_at": "soon"}, "paid_at: "),
        ({"paid_at": None}, "paid_at: is null"),
        ({"amount": "much"}, "amount: "),
        ({"amount": {"deep": [1]}}, "amount: "),
        ({"payment": None}, "payment: is null"),
        ({"amont": 5}, "row: "),
        ({"customer": "x" * 100_000}, "customer: "),
    ],
)
def test_an_event_that_breaks_the_contract_is_quarantined(change: dict[str, Any], reason: str, trained: Server) -> None:
    status, answer = trained.request("POST", "/sources/payments/events", EVENT | change)
    assert status == 200 and answer["quarantined"] == 1 and answer["accepted"] == 0, answer
    assert all(text.startswith(reason) for text in answer["reasons"]), answer


def test_requests_to_what_is_not_there(trained: Server) -> None:
    refused(trained.request("POST", "/sources/paymets/events", EVENT), 404, "paymets", "did you mean 'payments'")
    refused(trained.request("POST", "/sources/no%20name/events", EVENT), 422, "not a name")
    refused(trained.request("POST", "/sources/%2e%2e%2fetc/events", EVENT), 422, "not a name")
    refused(trained.request("GET", "/api/v1/nothing"), 404, "/api/v1/nothing")
    for method, path in (("GET", "/sources/payments/events"), ("DELETE", "/api/v1/apply"), ("PUT", "/labels"),
                         ("GET", "/predict/loss")):  # fmt: skip
        status, answer = trained.request(method, path)
        assert status in (404, 405) and method in answer["error"]["message"], (status, answer)


def test_labels_that_mean_nothing(trained: Server) -> None:
    made = trained.post("/predict/loss", PREDICT)["prediction_id"]
    now = shop.START + DAYS * shop.DAY
    for body, words in [
        ({}, ["prediction_id"]),
        ({"prediction_id": "mine", "label": 1}, ["labels[0]", "prediction_id"]),
        ({"prediction_id": made}, ["'label' is missing"]),
        ({"prediction_id": made, "label": "yes"}, ["number"]),
        ({"prediction_id": made, "label": None}, ["'label'"]),
        ({"prediction_id": made, "label": 1, "event_time": now + 1}, ["future"]),
        ({"prediction_id": made, "label": 1, "event_time": "9999-01-01T00:00:00Z"}, ["event_time"]),
        ({"labels": []}, ["labels"]),
        ([1, 2], []),
    ]:
        refused(trained.request("POST", "/labels", body), 422, *words)


# Predictions

PREDICT = {"entities": {"customer": "c01"}, "features": {"channel": "app", "price": 10}}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"entities": {}, "features": PREDICT["features"]}, ["entities.customer", "missing", "null"]),
        ({"features": PREDICT["features"]}, ["entities.customer"]),
        (PREDICT | {"entities": {"custmer": "a", "customer": "b"}}, ["custmer", "did you mean 'customer'"]),
        (PREDICT | {"entities": {"customer": ["a"]}}, ["entities.customer", "text"]),
        (PREDICT | {"entities": {"customer": "x" * 1000}}, ["entities.customer", "512"]),
        (PREDICT | {"entities": "c01"}, ["entities", "object"]),
        (PREDICT | {"entites": {}}, ["entites", "did you mean 'entities'"]),
        (PREDICT | {"features": {"channel": "app"}}, ["features.price", "missing"]),
        (PREDICT | {"features": {"channel": "fax", "price": 1}}, ["features.channel", "fax"]),
        (PREDICT | {"features": {"channel": 1, "price": 1}}, ["features.channel", "text"]),
        (PREDICT | {"features": {"channel": "app", "price": "cheap"}}, ["features.price", "number"]),
        (PREDICT | {"features": {"channel": "app", "price": -1}}, ["features.price", "within"]),
        (PREDICT | {"features": {"channel": "app", "price": None}}, ["features.price"]),
        (PREDICT | {"features": {"channel": "app", "price": 1, "paid__mean_24": 2}}, ["did you mean 'paid__mean_24h'"]),
        (PREDICT | {"features": {"channel": "app", "price": 1, "paid__last": "x"}}, ["paid__last", "number"]),
        ([], ["object"]),
        (None, []),
        ({"instances": []}, ["instances", "1000"]),
        ({"instances": [PREDICT] * 1001}, ["instances", "1000"]),
        ({"instances": [PREDICT, {"entities": {}}]}, ["instances[1]"]),
        ({"instances": [1]}, ["instances[0]", "object"]),
    ],
)
def test_a_prediction_request_that_does_not_fit(body: Any, words: list[str], trained: Server) -> None:
    raw = b"null" if body is None else None
    status, answer = trained.request("POST", "/predict/loss", body, raw=raw)
    assert status == 422, answer
    message = f"{answer['error']['subject']}: {answer['error']['message']}"
    for line in message.splitlines():
        assert_clear(line)
    for word in words:
        assert word in message, (word, message)


def test_predictions_that_cannot_be_made(trained: Server) -> None:
    refused(trained.request("POST", "/predict/los", PREDICT), 404, "los", "bottega deploy")
    refused(trained.request("POST", "/predict/", PREDICT), 404)
    refused(trained.request("POST", "/predict/loss", raw=b'{"entities'), 400, "line 1, column 2")
    refused(trained.request("POST", "/predict/loss", raw=b""), 400)
    refused(trained.request("POST", "/predict/loss", raw=b" " * (5 << 20)), 413, "accepted")
    refused(trained.request("POST", "/predict/loss", raw=b"[" * 100_000), 400, "deep")
    refuses(trained.cli("predict", "loss", "--body", "{", check=False), 2, "no JSON")
    refuses(trained.cli("predict", "nothing", "--body", "{}", check=False), 4, "nothing")
    status, _ = trained.request("POST", "/predict/loss", PREDICT)
    assert status == 200


def test_null_entities_are_answered(trained: Server) -> None:
    answer = trained.post("/predict/loss", PREDICT | {"entities": {"customer": None}})
    assert 0 <= answer["prediction"] <= 1 and answer["fallback"] is False
    many = trained.post("/predict/loss", {"instances": [PREDICT] * 1000})["predictions"]
    assert len({entry["prediction_id"] for entry in many}) == 1000


@pytest.mark.parametrize(
    ("id", "status"),
    [("nonsense", 422), ("018d4d5d-a800-73c8-9c8c-8a9d4c17d01d", 404), ("%2e%2e%2f", 422), ("x" * 5000, 422)],
)
def test_questions_about_unknown_predictions(id: str, status: int, trained: Server) -> None:
    refused(trained.request("GET", f"/predictions/{id}/why"), status, "prediction")
    refused(trained.request("POST", f"/predictions/{id}/replay", {}), status, "prediction")


# Model files


def spoiled_models(folder: pathlib.Path, model: bytes) -> dict[str, tuple[str, bytes]]:
    import numpy
    import xgboost

    booster = xgboost.Booster(model_file=bytearray(model))
    document = json.loads(booster.save_raw("json"))
    document["learner"]["gradient_booster"]["model"]["gbtree_model_param"]["num_trees"] = "1000000000"
    place = model.index(b"num_trees") + len(b"num_trees")
    assert model[place : place + 2] == b"SL"
    length = int.from_bytes(model[place + 2 : place + 10], "big")
    count = b"1000000000"
    patched = model[:place] + b"SL" + len(count).to_bytes(8, "big") + count + model[place + 10 + length :]
    other = xgboost.train({"nthread": 1}, xgboost.DMatrix(numpy.zeros((4, 2)), numpy.zeros(4)), 1)
    return {
        "cut in half": ("model.ubj", model[: len(model) // 2]),
        "cut at the end": ("model.ubj", model[:-1]),
        "random bytes": ("model.ubj", os.urandom(50_000)),
        "nothing": ("model.ubj", b""),
        "10^9 trees in JSON": ("model.json", json.dumps(document).encode()),
        "10^9 trees in UBJSON": ("model.ubj", patched),
        "an array of 10^12 elements": (
            "model.ubj",
            b"{L" + (7).to_bytes(8, "big") + b"learner[$d#L" + (10**12).to_bytes(8, "big"),
        ),
        "nested without end": ("model.json", b'{"learner":' + b"[" * 1_000_000),
        "of another width": ("model.ubj", bytes(other.save_raw("ubj"))),
    }


def test_a_spoiled_model_file_is_never_registered(trained: Server, tmp_path: pathlib.Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(tracking_uri=trained.url)
    [model] = trained.post(
        "/api/2.0/mlflow/logged-models/search",
        {"experiment_ids": [client.get_run(trained.run_id).info.experiment_id]},
    )["models"]
    uri = model["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
    with urllib.request.urlopen(f"{trained.url}/api/2.0/mlflow-artifacts/artifacts/{uri}/model.ubj") as answer:
        content = answer.read()
    experiment = client.create_experiment("spoiled")
    for what, (name, spoiled) in spoiled_models(tmp_path, content).items():
        run = client.create_run(experiment)
        path = tmp_path / name
        path.write_bytes(spoiled)
        client.log_artifact(run.info.run_id, str(path))
        began = time.monotonic()
        result = trained.cli(
            "model", "register", "loss", "--run", run.info.run_id, "--dataset", trained.dataset, check=False
        )
        assert result.returncode == 2, (what, result)
        assert_one_line(result.stderr)
        assert time.monotonic() - began < 20, what
    assert [v["version"] for v in trained.get("/api/v1/models/loss")["versions"]] == [1]


def test_versions_that_are_not_there(trained: Server) -> None:
    refuses(trained.cli("model", "register", "loss", "--job", "none", check=False), 4, "none")
    refuses(trained.cli("model", "promote", "loss", "9", "staging", "--reason", "x", check=False), 4, "9")
    refuses(trained.cli("model", "promote", "loss", "1", "stagin", "--reason", "x", check=False), 2, "staging")
    refuses(trained.cli("model", "promote", "loss", "1", "staging", "--reason", " ", check=False), 2, "reason")
    refuses(trained.cli("deploy", "loss", "7", "--reason", "x", check=False), 4, "7")
    refuses(trained.cli("deploy", "loss", "1", "--traffic", "1.5", "--reason", "x", check=False), 2, "traffic")
    refuses(trained.cli("rollback", "loss", "--reason", "x", check=False), 3, "loss")
    refuses(trained.cli("rollback", "nothing", "--reason", "x", check=False), 4, "nothing")
    refuses(trained.cli("dataset", "build", "loss", "--from", "x", "--to", "y", check=False), 2, "from")
    refuses(trained.cli("train", "loss", "--dataset", "ab", check=False), 2, "64")
    refuses(trained.cli("train", "loss", "--dataset", "0" * 64, check=False), 4, "dataset")
    span = ["--from", "2024-01-03T00:00:00Z", "--to", "2024-01-02T00:00:00Z"]
    refuses(trained.cli("dataset", "build", "loss", *span, check=False), 2, "from")
    span = ["--from", "2030-01-03T00:00:00Z", "--to", "2030-01-04T00:00:00Z"]
    assert trained.cli("dataset", "build", "loss", *span, check=False).returncode in (2, 3)


# Training scripts

SCRIPTS = {
    "fails": (
        "30s",
        "import sys\nprint('reading rows')\nprint('the label column is gone', file=sys.stderr)\nsys.exit(1)",
    ),
    "forever": ("2s", "import time\nwhile True: time.sleep(1)"),
    "deaf": ("2s", "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(1)"),
    "loud": ("60s", "line = 'x' * 1023\nfor _ in range(200 * 1024): print(line)"),
    "killed": ("30s", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"),
    "greedy": ("30s", "data = bytearray(8 << 30)\nprint(len(data))"),
    "empty": ("30s", "print('I log no model')"),
}
TOLD = {
    "fails": ["1", "the label column is gone"],
    "forever": ["2"],
    "deaf": ["2"],
    "killed": ["9"],
    "greedy": ["MemoryError"],
}


@pytest.fixture(scope="module")
def scripts(trained: Server) -> Iterator[Server]:
    """The shop with a model for each bad script."""
    folder = trained.folder / "with-scripts"
    shop.write_definitions(folder)
    for name, (timeout, script) in SCRIPTS.items():
        (folder / f"{name}.py").write_text(script)
        (folder / f"{name}.yaml").write_text(
            textwrap.dedent(f"""
                kind: Model
                name: {name}
                service: loss
                training_set: loss
                training:
                  command: ["{{python}}", {name}.py]
                  timeout: {timeout}
                  memory: {"1GiB" if name == "greedy" else "4GiB"}
            """)
        )
    (folder / "absent.yaml").write_text(
        "kind: Model\nname: absent\nservice: loss\ntraining_set: loss\ntraining: {command: [no-such-program]}\n"
    )
    trained.cli("apply", str(folder))
    yield trained


@pytest.mark.parametrize("name", TOLD)
def test_a_script_that_fails_says_why(name: str, scripts: Server) -> None:
    began = time.monotonic()
    result = scripts.cli("train", name, "--dataset", scripts.dataset, check=False)
    assert result.returncode == 3, result
    told = [line for line in result.stderr.splitlines() if not line.startswith(f"train {name}: ")]  # how far it is
    assert_one_line("\n".join(told), "training_job/", *TOLD[name])
    assert time.monotonic() - began < 45
    job = scripts.get("/training-jobs")["jobs"][0]
    assert job["model"] == name and job["state"] == "failed" and job["reason"], job
    run = scripts.get(f"/api/2.0/mlflow/runs/get?run_id={job['run_id']}")["run"]
    assert run["info"]["status"] == "FAILED"
    refuses(scripts.cli("model", "register", name, "--job", job["id"], check=False), 3, "did not succeed")
    left = subprocess.run(["pgrep", "-f", f"{name}.py$"], capture_output=True, text=True).stdout.split()
    assert left == [], "nothing of it runs on"


def test_a_script_that_prints_too_much_is_cut(scripts: Server) -> None:
    scripts.cli("train", "loud", "--dataset", scripts.dataset)
    job = scripts.get("/training-jobs")["jobs"][0]
    assert job["model"] == "loud" and job["state"] == "succeeded"
    assert pathlib.Path(job["log"]).stat().st_size <= 17 << 20


def test_a_script_that_logs_nothing_cannot_be_registered(scripts: Server) -> None:
    scripts.cli("train", "empty", "--dataset", scripts.dataset)
    job = scripts.get("/training-jobs")["jobs"][0]
    refuses(scripts.cli("model", "register", "empty", "--job", job["id"], check=False), 4, "model", "log_model")


def test_a_program_that_is_not_there_is_named(scripts: Server) -> None:
    result = scripts.cli("train", "absent", "--dataset", scripts.dataset, check=False)
    assert result.returncode == 3, result
    assert_one_line(result.stderr, "no-such-program")


# Starting


def up(binary: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binary, "up", *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_a_second_server_on_the_directory_is_refused(server: Server, binary: str) -> None:
    assert server.process is not None
    result = up(binary, "--data-dir", str(server.data_dir), "--port", "0")
    refuses(result, 1, str(server.data_dir), str(server.process.pid), "--data-dir")
    assert server.get("/api/v1/status")


def test_a_port_in_use_is_named(server: Server, binary: str, tmp_path: pathlib.Path) -> None:
    port = server.url.rsplit(":", 1)[1]
    refuses(up(binary, "--data-dir", str(tmp_path / "other"), "--port", port), 1, port, "in use", "--port")


@pytest.mark.parametrize(
    ("arguments", "environment", "file", "words"),
    [
        ([], {}, "gatewy:\n  port: 1\n", ["config.yaml:1", "gatewy"]),
        ([], {}, "gateway:\n  prt: 1\n", ["config.yaml:2", "prt", "did you mean 'gateway.port'"]),
        ([], {}, "gateway: {port: many}\n", ["gateway.port", "many"]),
        ([], {}, "gateway: {port: 70000}\n", ["gateway.port", "65535"]),
        ([], {}, "gateway: [\n", ["config.yaml", "YAML"]),
        ([], {}, "- a\n", ["config.yaml:1"]),
        ([], {"BOTTEGA_GATEWAY_PORT": "many"}, None, ["gateway.port", "many"]),
        (["--clock", "sundial"], {}, None, ["clock.mode", "sundial"]),
        (["--log-level", "loud"], {}, None, ["log.level", "loud"]),
        (["--set", "gateway.prt=1"], {}, None, ["gateway.prt", "did you mean 'gateway.port'"]),
        (["--set", "jobs.slots=0"], {}, None, ["jobs.slots"]),
        (["--roles", "half"], {}, None, ["--roles"]),
        (["--set", "gateway.token=short"], {}, None, ["gateway.token", "16"]),
    ],
)
def test_a_wrong_configuration_stops_the_start(
    arguments: list[str], environment: dict[str, str], file: str | None, words: list[str], binary: str,
    tmp_path: pathlib.Path,
) -> None:  # fmt: skip
    if file is not None:
        (tmp_path / "config.yaml").write_text(file)
        arguments = [*arguments, "--config", str(tmp_path / "config.yaml")]
    data = tmp_path / "data"
    port = [] if any("port" in word for word in words) else ["--port", "0"]
    refuses(up(binary, "--data-dir", str(data), *port, *arguments, **environment), 2, *words)


def test_an_address_that_is_not_ours_is_named(binary: str, tmp_path: pathlib.Path) -> None:
    for host, code, word in (("nobody.invalid", 2, "--host"), ("192.0.2.1", 1, "cannot listen")):
        result = up(binary, "--data-dir", str(tmp_path / host), "--port", "0", "--host", host)
        assert result.returncode == code, result
        assert_one_line(result.stderr.splitlines()[-1], host, word)  # the line before says where the token is


def test_a_directory_that_cannot_be_used(binary: str, tmp_path: pathlib.Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    refuses(up(binary, "--data-dir", str(blocked / "data"), "--port", "0"), 1, str(blocked))
    refuses(up(binary, "--data-dir", "/proc/none", "--port", "0"), 1, "/proc/none")
    missing = str(tmp_path / "no.yaml")
    refuses(up(binary, "--data-dir", str(tmp_path / "d"), "--port", "0", "--config", missing), 2, "no.yaml")


def test_stores_that_were_spoiled_are_named(start_server: Callable[..., Server], binary: str) -> None:
    server = start_server()
    server.stop()
    database = server.data_dir / "metadata.sqlite"
    content = database.read_bytes()
    for extra in server.data_dir.glob("metadata.sqlite-*"):
        extra.unlink()
    database.write_bytes(b"this is no database, but long enough to be looked at" * 100)
    refuses(up(binary, "--data-dir", str(server.data_dir), "--port", "0"), 1, "metadata.sqlite")
    database.write_bytes(content)
    server.start()


# Who may speak


def test_another_address_needs_a_token(start_server: Callable[..., Server]) -> None:
    server = start_server("--host", "0.0.0.0")
    port = server.url.rsplit(":", 1)[1]
    server.url = f"http://127.0.0.1:{port}"
    refused(server.request("GET", "/api/v1/status"), 401, "token")
    refused(server.request("POST", "/predict/loss", PREDICT), 401, "token")
    refused(server.request("GET", "/api/2.0/mlflow/experiments/search"), 401, "token")
    refused(server.request("GET", "/metrics"), 401, "token")
    assert server.request("GET", "/livez")[0] == 200
    [path] = server.data_dir.glob("admin-token")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert str(path) in server.log_path.read_text(), "the first start says where the token is"
    token = path.read_text().strip()
    assert len(token) >= 32 and token not in server.log_path.read_text()
    with_token = {"Authorization": f"Bearer {token}"}
    assert server.request("GET", "/api/v1/status", headers=with_token)[0] == 200
    assert server.request("GET", "/api/v1/status", headers={"Authorization": f"Bearer {token}x"})[0] == 401
    assert server.cli("status", check=False).returncode == 2
    server.environment["BOTTEGA_TOKEN"] = token
    assert server.cli("status").returncode == 0
    server.stop()
    server.start()
    server.url = f"http://127.0.0.1:{server.url.rsplit(':', 1)[1]}"
    assert server.request("GET", "/api/v1/status", headers=with_token)[0] == 200, "the token stays the same"


def test_training_works_where_a_token_is_needed(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    token = "a-token-of-the-operator"
    server = start_server("--host", "0.0.0.0", "--clock", "manual", environment={"BOTTEGA_GATEWAY_TOKEN": token})
    server.environment["BOTTEGA_TOKEN"] = token
    server.url = f"http://127.0.0.1:{server.url.rsplit(':', 1)[1]}"
    script = "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('reached', 1)\n"
    folder = shop.write_definitions(tmp_path / "definitions", timeout="30s", train=script)
    server.cli("apply", str(folder))
    rows = shop.history(5, orders_per_day=30)
    with_token = {"Authorization": f"Bearer {token}"}
    server.post("/api/v1/clock", {"now": shop.START + 6 * shop.DAY}, headers=with_token)
    for name in ("payments", "orders", "outcomes"):
        server.cli("ingest", name, str(shop.write_csv(tmp_path / f"{name}.csv", getattr(rows, name))))
    span = ["--from", shop.text(shop.START), "--to", shop.text(shop.START + 5 * shop.DAY)]
    dataset = json.loads(server.cli("dataset", "build", "loss", *span, "--json").stdout)["dataset"]
    job = json.loads(server.cli("train", "loss", "--dataset", dataset, "--json").stdout)
    _, run = server.request("GET", f"/api/2.0/mlflow/runs/get?run_id={job['run_id']}", headers=with_token)
    own = [metric["key"] for metric in run["run"]["data"]["metrics"] if not metric["key"].startswith("system/")]
    assert own == ["reached"]


def raw_request(server: Server, text: bytes, wait: float = 10) -> bytes:
    address = urllib.parse.urlparse(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=wait) as connection:
        connection.sendall(text)
        received = b""
        try:
            while chunk := connection.recv(65_536):
                received += chunk
                if b"\r\n\r\n" in received:
                    break
        except TimeoutError:
            pass
        return received


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example"]
)
@pytest.mark.parametrize("path", ["GET /api/v1/status", "POST /predict/loss", "GET /api/2.0/mlflow/experiments/search"])
def test_a_foreign_host_name_is_refused(host: str, path: str, server: Server) -> None:
    answer = raw_request(server, f"{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403"), answer
    good = raw_request(server, f"{path} HTTP/1.1\r\nHost: localhost:1\r\nContent-Length: 0\r\n\r\n".encode())
    assert not good.startswith(b"HTTP/1.1 403"), good


@pytest.mark.parametrize(
    "text",
    [
        b"\x00\x01\x02\x03" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
        b"POST /predict/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /labels HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999999999999999\r\n\r\n",
    ],
    ids=["garbage", "version", "long path", "long field", "negative length", "two lengths", "huge length"],
)
def test_what_is_no_http_is_dropped(text: bytes, server: Server) -> None:
    answer = raw_request(server, text)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:200]
    assert server.request("GET", "/livez")[0] == 200


ESCAPES = [
    "../../../../escaped", "..%2f..%2f..%2f..%2fescaped", "%2e%2e/%2e%2e/escaped", "a/../../../../escaped",
    "%252e%252e%252fescaped", "..%5c..%5cescaped", "a%00b", "/etc/passwd", "%2fetc%2fpasswd",
]  # fmt: skip


@pytest.mark.parametrize("path", ESCAPES)
def test_an_artifact_path_never_leaves_its_root(path: str, server: Server) -> None:
    outside = {p for p in server.data_dir.parent.iterdir()}
    body = b"escaped"
    for method in (b"PUT", b"GET", b"DELETE"):
        answer = raw_request(
            server,
            method + b" /api/2.0/mlflow-artifacts/artifacts/" + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
            + b"Content-Length: 7\r\n\r\n" + body,
        )  # fmt: skip
        assert re.match(rb"HTTP/1.1 [24]\d\d", answer), answer
        if method == b"PUT" and (".." in path or "%2e%2e/" in path or "%00" in path) and "%5c" not in path:
            assert answer.startswith(b"HTTP/1.1 4"), answer
        assert b"root:" not in answer
    assert {p for p in server.data_dir.parent.iterdir()} == outside
    assert not list(pathlib.Path("/").glob("escaped")) and not list(server.data_dir.glob("escaped"))


# A full disk


def test_a_full_disk_refuses_and_recovers(tmp_path: pathlib.Path, binary: str) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(mount)], capture_output=True, text=True
    )
    if made.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {made.stderr.strip()}")
    server = Server(mount / "data")
    server.log_path = tmp_path / "server.log"
    try:
        server.start()
        server.cli("apply", str(shop.write_definitions(tmp_path / "definitions")))

        def push(start: int, count: int = 2000) -> tuple[int, Any]:
            rows = [EVENT | {"payment": f"disk{n}", "customer": "x" * 200} for n in range(start, start + count)]
            return server.request("POST", "/sources/payments/events", rows)

        acknowledged = 0
        filler = mount / "filler"
        status, answer = push(0)
        assert status == 200
        acknowledged += 2000
        free = os.statvfs(mount)
        with filler.open("wb") as file:
            file.write(bytes(max(0, free.f_bavail * free.f_frsize - (3 << 20))))
        for attempt in range(1, 40):
            status, answer = push(attempt * 10_000)
            if status != 200:
                break
            acknowledged += answer["accepted"]
        line = refused((status, answer), 503)
        assert "space" in line.lower() or "full" in line.lower(), line
        assert server.request("GET", "/livez")[0] == 200
        assert server.request("GET", "/api/v1/sources")[0] == 200
        filler.unlink()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            status, answer = push(9_000_000)
            if status == 200:
                break
            time.sleep(0.3)
        assert status == 200, answer
        acknowledged += answer["accepted"]
        server.kill()
        server.start()
        [source] = [s for s in server.get("/api/v1/sources")["sources"] if s["name"] == "payments"]
        assert source["rows"] >= acknowledged, "nothing acknowledged is lost"
        assert server.stop() == 0
    finally:
        if server.process is not None:
            server.kill()
        subprocess.run(["umount", "-l", str(mount)], check=False)
