"""Requests for predictions that do not fit."""

from __future__ import annotations

import gzip
import json
import pathlib
import zlib
from collections.abc import Callable
from typing import Any

import bottega
import pytest
from bad_input import PREDICT, assert_clear, refused, refuses
from conftest import Server, trained_server, until

EXPLAIN = {"explain": True}


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
        ({"instances": [PREDICT]} | PREDICT, ["entities", "beside 'instances'"]),
        ({"instances": [PREDICT], "bogus": 1}, ["bogus", "beside 'instances'"]),
        ({"instances": [PREDICT], "exlpain": True}, ["exlpain", "did you mean 'explain'"]),
        ({"instances": [PREDICT], "explain": 1}, ["explain", "true or false"]),
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


@pytest.mark.parametrize("path", ["/predict/loss", "/predict/loss/async", "/predict/loss/stream"])
def test_what_a_query_asks_for_is_done_or_refused(path: str, trained: Server) -> None:
    body = {"instances": [PREDICT]}
    refused(trained.request("POST", f"{path}?exlpain=true", body), 422, "exlpain", "did you mean 'explain'?")
    refused(trained.request("POST", f"{path}?bogus", body), 422, "bogus", "ages, explain, latency")
    refused(trained.request("POST", f"{path}?explain=yes", body), 422, "true or false")
    refused(trained.request("POST", path, body | PREDICT), 422, "entities", "beside 'instances'")
    refused(trained.request("POST", path, body | {"exlpain": True}), 422, "did you mean 'explain'?")
    id = trained.request("POST", "/predict/loss", PREDICT)[1]["prediction_id"]
    refused(trained.request("GET", f"/predictions/{id}/explain?scale=1"), 422, "scale", "none")
    refused(trained.request("GET", "/predictions/jobs?stat=failed"), 422, "did you mean 'state'?")


def test_jobs_and_streams_give_what_is_asked_for(trained: Server) -> None:
    body = {"instances": [PREDICT] * 101}
    for path, more in (("/predict/loss/async?explain=true&ages=true", {}), ("/predict/loss/async?ages=true", EXPLAIN)):
        job = trained.post(path, body | more)["job"]
        done = until(lambda job=job: (found := trained.get(f"/predictions/jobs/{job}"))["finished_at"] and found)
        assert (done["state"], done["done"], len(done["predictions"])) == ("succeeded", 101, 101), done
        assert all({"explanation", "feature_ages"} <= one.keys() for one in done["predictions"])
        assert not any("latency_microseconds" in one for one in done["predictions"])
    for path, more in (("/predict/loss/stream?explain=true", {}), ("/predict/loss/stream", EXPLAIN)):
        status, text = trained.request("POST", path, {"instances": [PREDICT], **more})
        assert status == 200 and '"explanation":{' in text, text


def test_a_job_that_has_begun_is_running(trained: Server) -> None:
    job = trained.post("/predict/loss/async", {"instances": [PREDICT] * 20_000})["job"]
    begun = until(lambda: (found := trained.get(f"/predictions/jobs/{job}"))["state"] != "queued" and found)
    assert begun["state"] == "running" and 0 < begun["done"] < 20_000, begun
    (listed,) = trained.get("/predictions/jobs?state=running")["jobs"]
    assert listed["job"] == job
    assert not [one for one in trained.get("/predictions/jobs?state=queued")["jobs"] if one["job"] == job]
    assert trained.post(f"/predictions/jobs/{job}/cancel")["state"] == "cancelled"


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_packed_request_is_unpacked(coding: str, pack: Callable[[bytes], bytes], trained: Server) -> None:
    def ask(content: bytes, path: str = "/predict/loss", coding: str = coding) -> tuple[int, Any]:
        return trained.request("POST", path, raw=content, headers={"Content-Encoding": coding})

    plain, packed = json.dumps(PREDICT).encode(), pack(json.dumps(PREDICT).encode())
    expected = trained.post("/predict/loss", PREDICT)["prediction"]
    for status, answer in (ask(packed), ask(packed, coding=coding.upper()), ask(plain, coding="identity")):
        assert (status, answer["prediction"]) == (200, expected), answer
    asked = pack(b'{"entities": [{"customer": "c01"}]}')
    assert ask(asked, "/features/groups/paid/get-online")[0] == 200
    refused(ask(plain), 422, "unpacked", coding)
    refused(ask(packed[:-5]), 422, "unpacked", coding)
    refused(ask(pack(b" " * (64 << 20))), 413, "unpacked", "4194304")
    refused(ask(packed, coding="br"), 415, "'br'", "gzip and deflate")
    refused(ask(packed, coding=f"{coding}, {coding}"), 415, "gzip and deflate")


def test_a_refusal_for_want_of_a_fallback_says_why(tmp_path: pathlib.Path, binary: str) -> None:
    server = trained_server(tmp_path)
    try:
        model = server.definitions / "model.yaml"
        model.write_text(model.read_text().replace("fallback: {constant: 0.25}\n", ""))
        server.cli("apply", str(server.definitions))
        artifact = json.loads(server.cli("model", "show", "loss", "1", "--json").stdout)["artifact"]
        assert server.stop() == 0
        [blob] = (path for path in server.data_dir.rglob(f"*{artifact}*") if path.is_file() and "blobs" in path.parts)
        blob.chmod(0o644)
        blob.write_bytes(b"{}")
        server.start()
        status, answer = server.request("POST", "/predict/loss", PREDICT)
        assert (status, answer["prediction"], answer["fallback_reason"]) == (503, None, "the model is not loaded")
        words = "predict/loss: the model is not loaded, and no fallback answers for it"
        for body in (PREDICT, {"instances": [PREDICT, PREDICT]}):
            refuses(server.cli("predict", "loss", "--body", json.dumps(body), check=False), 1, words)
        with bottega.Client(server.url) as client, pytest.raises(bottega.Unavailable, match=words):
            client.predict("loss", **PREDICT)
    finally:
        server.stop()


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
