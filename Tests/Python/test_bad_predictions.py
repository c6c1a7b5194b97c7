"""Requests for predictions that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
from bad_input import PREDICT, assert_clear, refused, refuses
from conftest import Server


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
    refused(trained.request("POST", "/predict/los", PREDICT), 404, "los", "did you mean 'loss'")
    refused(trained.request("POST", "/predict/elsewhere", PREDICT), 404, "elsewhere", "bottega deploy")
    refused(trained.request("POST", "/predict/", PREDICT), 404)
    refused(trained.request("POST", "/predict/loss", raw=b'{"entities'), 400, "line 1, column 2")
    refused(trained.request("POST", "/predict/loss", raw=b""), 400)
    refused(trained.request("POST", "/predict/loss", raw=b" " * (5 << 20)), 413, "accepted")
    refused(trained.request("POST", "/predict/loss", raw=b"[" * 100_000), 400, "deep")
    refuses(trained.cli("predict", "loss", "--body", "{", check=False), 2, "no JSON")
    refuses(trained.cli("predict", "nothing", "--body", "{}", check=False), 4, "nothing")
    refuses(trained.cli("predict", "loss", "--body", " ", check=False), 2, "--body")
    refuses(trained.cli("replay", "loss", check=False), 2, "--count")
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
