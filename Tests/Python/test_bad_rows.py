"""Files, events and labels that are wrong: refused whole or kept apart, with their place."""

from __future__ import annotations

import http.client
import json
import pathlib
import re
import urllib.parse
from typing import Any

import pytest
import shop
from bad_input import DAYS, EVENT, PREDICT, refused, refuses
from conftest import ROOT, Server

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
    # A member that is null is one that is missing.
    assert trained.request("POST", "/labels", {"prediction_id": made, "label": 1, "event_time": None})[0] == 200


def test_a_label_is_said_by_command(trained: Server) -> None:
    made = trained.post("/predict/loss", PREDICT)["prediction_id"]
    assert re.search(r"^label +0$", trained.cli("why", made).stdout, re.MULTILINE) is None
    for said, shown in [("1", "1"), ("0", "0"), ("false", "0"), ("true", "1"), ("-2.5", "-2.5")]:
        assert json.loads(trained.cli("label", made, "--json", "--", said).stdout) == {"accepted": 1}
        assert re.search(rf"^label +{shown}$", trained.cli("why", made).stdout, re.MULTILINE), said
    assert trained.cli("label", made, "1").stdout == f"label 1 of {made} is noted\n"
    for wrong in ("yes", "nan", "1e999"):
        failed = trained.cli("label", made, wrong, check=False)
        assert (failed.returncode, failed.stdout) == (2, "") and "a number, true or false" in failed.stderr, failed
