"""What a deployment promises its callers: fallbacks, deadlines, priorities, remembered and asynchronous predictions."""

from __future__ import annotations

import base64
import concurrent.futures
import hashlib
import hmac
import http.server
import json
import re
import resource
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import shop
import tritonclient.grpc as triton
from conftest import Server, free_port, until
from test_wire import Connection
from tritonclient.utils import InferenceServerException

DAYS = 12
KNOWN = {"entities": {"customer": "c01"}, "features": {"channel": "web", "price": 20}}
UNKNOWN = {"entities": {"customer": "nobody"}, "features": {"channel": "app", "price": 30}}
PLAIN = "fallback: {constant: 0.25}"
TENSORS = [("customer", "BYTES", "c01"), ("channel", "BYTES", "web"), ("price", "FP64", 20.0)]
INFER = {"inputs": [{"name": name, "datatype": kind, "shape": [1, 1], "data": [one]} for name, kind, one in TENSORS]}


@pytest.fixture(scope="module")
def shopped(tmp_path_factory: pytest.TempPathFactory, binary: str) -> Iterator[Server]:
    """A server with a deployed model whose promises the tests change; it is quick to call itself overloaded."""
    folder = tmp_path_factory.mktemp("promises")
    environment = {
        "BOTTEGA_GATEWAY_GRPCPORT": free_port(),
        "BOTTEGA_OVERLOAD_TARGET": "2ms",
        "BOTTEGA_WEBHOOKS_HTTP": "true",
        "BOTTEGA_WEBHOOKS_PRIVATE": "true",
        "BOTTEGA_MONITOR_ENABLED": "false",
    }
    server = Server(folder / "data", "--clock", "manual", environment=environment).start()
    server.definitions = shop.write_definitions(folder / "definitions")
    promise(server, PLAIN)
    server.post("/api/v1/clock", {"now": shop.START + DAYS * shop.DAY})
    history = shop.history(DAYS)
    for name in ("payments", "orders", "outcomes"):
        server.cli("ingest", name, str(shop.write_csv(folder / f"{name}.csv", getattr(history, name))))
    span = ["--from", shop.text(shop.START + 2 * shop.DAY), "--to", shop.text(shop.START + (DAYS - 1) * shop.DAY)]
    dataset = json.loads(server.cli("dataset", "build", "loss", *span, "--json").stdout)["dataset"]
    for number in (1, 2):
        job = json.loads(server.cli("train", "loss", "--dataset", dataset, "--seed", str(number), "--json").stdout)
        server.cli("model", "register", "loss", "--job", job["id"])
        for stage in ("staging", "canary", "production"):
            server.cli("model", "promote", "loss", str(number), stage, "--reason", "for the tests")
        server.cli("deploy", "loss", str(number), "--reason", "for the tests")
    yield server
    assert server.stop() == 0


def promise(server: Server, text: str, check: bool = True) -> str:
    """Applies the deployment with another promise, and the model without gates."""
    model = re.sub(r"gates:\n(  .*\n)+", "", shop.MODEL % {"log_loss": 0.9, "timeout": "3m"}).replace(PLAIN, text)
    (server.definitions / "model.yaml").write_text(model)
    result = server.cli("apply", str(server.definitions), check=check)
    return result.stdout + result.stderr


def predict(server: Server, body: Any, path: str = "/predict/loss", **headers: str) -> tuple[int, Any]:
    """Asks, with header fields whose names are written with underscores."""
    return server.request("POST", path, body, headers={key.replace("_", "-"): text for key, text in headers.items()})


def infer(server: Server, **more: Any) -> Any:
    """Asks over gRPC: a prediction, or the status of a refusal."""
    inputs = []
    for name, kind, one in TENSORS:
        inputs.append(triton.InferInput(name, [1, 1], kind))
        inputs[-1].set_data_from_numpy(np.array([[one]], dtype=object if kind == "BYTES" else np.float64))
    with triton.InferenceServerClient(f"127.0.0.1:{server.environment['BOTTEGA_GATEWAY_GRPCPORT']}") as client:
        try:
            return client.infer("loss", inputs, **more).as_numpy("prediction")[0, 0]
        except InferenceServerException as error:
            return error.status()


def metric(server: Server, name: str) -> float:
    """The sum over all labels."""
    page = server.request("GET", "/metrics")[1]
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if re.match(rf"{name}[{{ ]", line))


def test_the_chain_answers_and_says_why(shopped: Server) -> None:
    promise(shopped, "fallback: {constant: 0.25}\nrequired_features: [fresh__amount]")
    status, known = predict(shopped, KNOWN)
    assert (status, known["model_version"], known["fallback"]) == (200, 2, False), known
    before = metric(shopped, "bottega_prediction_fallbacks_total")
    status, unknown = predict(shopped, UNKNOWN)
    assert status == 200 and (unknown["prediction"], unknown["model_version"]) == (0.25, 0), unknown
    assert (unknown["fallback_cause"], unknown["fallback_step"]) == ("missing_features", "constant")
    promise(
        shopped,
        "fallback: [{version: previous}, {expression: \"if(channel = 'app', price / 100, null)\"}, {constant: 0.5}]\n"
        "required_features: [fresh__amount]",
    )
    _, answer = predict(shopped, UNKNOWN)
    assert (answer["prediction"], answer["fallback_step"]) == (0.3, "expression"), "the other version lacks it too"
    _, answer = predict(shopped, {**UNKNOWN, "features": {"channel": "web", "price": 30}})
    assert (answer["prediction"], answer["fallback_step"]) == (0.5, "constant")
    assert metric(shopped, "bottega_prediction_fallbacks_total") == before + 3
    why = shopped.get(f"/predictions/{answer['prediction_id']}/why")
    assert (why["fallback_cause"], why["fallback_step"]) == ("missing_features", "constant")
    assert "version 9" in promise(shopped, "fallback: [{version: 9}, {constant: 1}]", check=False)


def test_a_request_says_how_long_and_how_urgent(shopped: Server) -> None:
    promise(shopped, PLAIN)
    for name, text in (("X_Request_Timeout_Ms", "soon"), ("X_Request_Timeout_Ms", "0"), ("X_Priority", "urgent")):
        for path in ("/predict/loss", "/predict/loss?ages=true"):  # both ways through the server
            status, answer = predict(shopped, KNOWN, path, **{name: text})
            assert status == 422 and answer["error"]["subject"] == name.replace("_", "-"), answer
    status, answer = predict(
        shopped, KNOWN, "/predict/loss?ages=true&latency=true", X_Request_Timeout_Ms="60000", X_Priority="HIGH"
    )
    assert status == 200 and answer["fallback"] is False
    assert set(answer["latency_microseconds"]) == {"features", "score", "total"} and answer["feature_ages"]


def test_the_same_input_is_remembered(shopped: Server) -> None:
    promise(shopped, "cache: {for: 60s, entries_max: 100}")
    first, second = predict(shopped, KNOWN)[1], predict(shopped, KNOWN)[1]
    assert "cached" not in first and second["cached"] is True
    assert first["prediction"] == second["prediction"] and first["prediction_id"] != second["prediction_id"]
    assert shopped.get(f"/predictions/{second['prediction_id']}/why")["origin"] == "cache"


def test_a_score_that_is_there_already_comes_first(shopped: Server) -> None:
    promise(shopped, "precomputed: paid.last")
    _, answer = predict(shopped, KNOWN)
    assert answer["precomputed"] is True
    why = shopped.get(f"/predictions/{answer['prediction_id']}/why")
    last = next(feature["value"] for feature in why["inputs"] if feature["name"] == "paid__last")
    assert answer["prediction"] == pytest.approx(last, rel=1e-6)
    assert "precomputed" not in predict(shopped, UNKNOWN)[1]


def test_under_load_the_low_are_refused_and_the_high_live(shopped: Server) -> None:
    """Connections that send large low-priority requests without end keep the event loops busy."""
    promise(shopped, PLAIN)
    body = json.dumps({"instances": [KNOWN] * 60}).encode()
    low = b"POST /predict/loss HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Priority: low\r\nContent-Length: %d\r\n\r\n" % len(body)
    refused = threading.Event()
    enough = threading.Event()
    faults: list[str] = []

    def flood() -> None:
        connection = Connection(shopped, timeout=60)
        try:
            while not enough.is_set():
                connection.send((low + body) * 4)
                for _ in range(4):
                    status, headers, _ = connection.answer()
                    if status == 429 and headers.get("retry-after") == "1":
                        refused.set()
                    elif status != 200:
                        faults.append(f"low: {status} {headers}")
        except OSError as error:
            faults.append(str(error))
        finally:
            connection.socket.close()

    threads = [threading.Thread(target=flood) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        assert refused.wait(60), "nothing was refused"
        for _ in range(40):
            status, answer = predict(shopped, KNOWN, X_Priority="high")
            assert status == 200, answer
        assert predict(shopped, INFER, "/v2/models/loss/infer", X_Priority="high")[0] == 200
        assert isinstance(infer(shopped, priority=1), np.floating)
        until(lambda: predict(shopped, INFER, "/v2/models/loss/infer", X_Priority="low")[0] == 429)
        until(lambda: infer(shopped, priority=3) == "StatusCode.RESOURCE_EXHAUSTED")
    finally:
        enough.set()
        for thread in threads:
            thread.join(60)
    assert not faults
    page = shopped.request("GET", "/metrics")[1]
    assert re.search(r'overload_refused_total\{model="loss",priority="low"\} [1-9]', page)
    assert 'priority="high"' not in page


def refused(server: Server, path: str, body: Any) -> Any:
    """The header fields of an answer 429; nothing for any other."""
    content = json.dumps(body).encode()
    fields = f"Host: 127.0.0.1\r\nX-Request-Timeout-Ms: 100\r\nContent-Length: {len(content)}\r\n\r\n"
    connection = Connection(server, timeout=60)
    connection.send(f"POST {path} HTTP/1.1\r\n{fields}".encode() + content)
    status, headers, _ = connection.answer()
    connection.socket.close()
    return status == 429 and headers


def finished(server: Server, job: str) -> Any:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = server.get(f"/predictions/jobs/{job}")
        if found["finished_at"]:
            return found
        time.sleep(0.1)
    raise AssertionError(found)


SECRET = "between us two"


class Receiver(http.server.BaseHTTPRequestHandler):
    """Hears of jobs that have ended; refuses the first message."""

    heard: ClassVar[list[Any]] = []
    faults: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append(json.loads(body))
        delivery, moment = self.headers["X-MLflow-Delivery-Id"], self.headers["X-MLflow-Timestamp"]
        code = hmac.new(SECRET.encode(), f"{delivery}.{moment}.".encode() + body, hashlib.sha256).digest()
        if self.headers["X-MLflow-Signature"] != "v1," + base64.b64encode(code).decode():
            self.faults.append(str(self.headers))
        if delivery != self.heard[-1]["job"] or abs(time.time() - int(moment)) > 300:
            self.faults.append(str(self.headers))
        self.send_response(500 if len(self.heard) == 1 else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_an_accepted_job_survives_a_crash_and_its_end_is_told(shopped: Server) -> None:
    promise(shopped, PLAIN)
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=receiver.serve_forever)
    thread.start()
    try:
        instances = [{**KNOWN, "features": {"channel": "web", "price": price}} for price in range(2500)]
        url = f"http://127.0.0.1:{receiver.server_address[1]}/done"
        accepted = shopped.post(
            "/predict/loss/async", {"instances": instances, "webhook": {"url": url, "secret": SECRET}}
        )
        single = shopped.post("/predict/loss/async", UNKNOWN)
        shopped.kill()
        shopped.start()
        job = finished(shopped, accepted["job"])
        assert (job["state"], job["done"]) == ("succeeded", 2500), job
        assert len(job["predictions"]) == 2500 and len({one["prediction_id"] for one in job["predictions"]}) == 2500
        for index in (0, 1234, 2499):
            assert job["predictions"][index]["prediction"] == predict(shopped, instances[index])[1]["prediction"]
        assert len(finished(shopped, single["job"])["predictions"]) == 1
        until(lambda: finished(shopped, accepted["job"])["webhook"]["state"] == "delivered")
        assert len(Receiver.heard) >= 2 and all(message["job"] == accepted["job"] for message in Receiver.heard)
        assert "predictions" not in Receiver.heard[-1] and Receiver.heard[-1]["state"] == "succeeded"
        assert not Receiver.faults and SECRET not in json.dumps([job, Receiver.heard])
    finally:
        receiver.shutdown()
        thread.join()
        receiver.server_close()


def test_jobs_that_cannot_be(shopped: Server) -> None:
    bad = {"entities": {"customer": "c01"}, "features": {"channel": "moon", "price": 20}}
    job = finished(shopped, shopped.post("/predict/loss/async", {"instances": [KNOWN, bad]})["job"])
    assert job["state"] == "failed" and "instances[1].features.channel" in json.dumps(job["error"])
    assert "predictions" not in job
    # What was done before is not taken away: parts have 200 instances.
    job = finished(shopped, shopped.post("/predict/loss/async", {"instances": [KNOWN] * 250 + [bad]})["job"])
    assert job["state"] == "failed" and job["done"] == 200 == len(job["predictions"]), job["done"]
    huge = {"entities": {"customer": "c01"}, "features": {"channel": "web", "price": 1e39}}
    status, said = predict(shopped, huge)
    assert status == 422 and "features.price" in json.dumps(said), said
    for model, body, status in (
        ("nobody", KNOWN, 404),
        ("loss", {"instances": []}, 422),
        ("loss", {"instances": [KNOWN], "webhok": ""}, 422),
        ("loss", {"instances": [KNOWN], "webhook": "ftp://example.com"}, 422),
        ("loss", {"instances": [KNOWN], "webhook": {"url": "http://127.0.0.1:9", "secrt": "x"}}, 422),
        ("loss", {"instances": [KNOWN], "webhook": {"url": "http://127.0.0.1:9", "secret": ""}}, 422),
        ("loss", {"instances": [KNOWN], "webhook": {"secret": "x"}}, 422),
        ("loss", [], 422),
    ):
        assert shopped.request("POST", f"/predict/{model}/async", body)[0] == status, body
    assert shopped.request("GET", "/predictions/jobs/nothing")[0] == 404


def test_jobs_are_listed_and_called_off(shopped: Server) -> None:
    instances = [{**KNOWN, "features": {"channel": "web", "price": price}} for price in range(1000)]
    jobs = [shopped.post("/predict/loss/async", {"instances": instances})["job"] for _ in range(8)]
    status, answer = shopped.request("POST", f"/predictions/jobs/{jobs[-1]}/cancel")
    assert (status, answer.get("state")) == (200, "cancelled"), answer
    assert shopped.request("POST", f"/predictions/jobs/{jobs[-1]}/cancel")[0] == 409
    assert shopped.request("POST", "/predictions/jobs/nothing/cancel")[0] == 404
    for job in jobs[:-1]:
        assert finished(shopped, job)["state"] == "succeeded"
    assert shopped.request("POST", f"/predictions/jobs/{jobs[0]}/cancel")[0] == 409
    called_off = shopped.get(f"/predictions/jobs/{jobs[-1]}")
    assert called_off["state"] == "cancelled" and called_off["done"] < 1000 and "predictions" not in called_off
    page = shopped.get("/predictions/jobs?limit=3&model=loss")
    assert [job["job"] for job in page["jobs"]] == jobs[:-4:-1]
    page = shopped.get(f"/predictions/jobs?limit=2&model=loss&page_token={page['next_page_token']}")
    assert [job["job"] for job in page["jobs"]] == jobs[-4:-6:-1]
    (found,) = shopped.get("/predictions/jobs?state=cancelled")["jobs"]
    assert found["job"] == jobs[-1]
    assert jobs[-1] in shopped.cli("prediction-jobs", "list", "--state", "cancelled").stdout
    assert shopped.request("GET", "/predictions/jobs?state=dead")[0] == 422
    refused = shopped.cli("prediction-jobs", "cancel", jobs[0], check=False)
    assert refused.returncode != 0 and "has ended already" in refused.stderr


def test_predictions_come_one_by_one(shopped: Server) -> None:
    bad = {"entities": {"customer": "c01"}, "features": {"channel": "moon", "price": 20}}
    status, text = shopped.request("POST", "/predict/loss/stream", {"instances": [KNOWN, bad, UNKNOWN]})
    events = [dict(line.split(": ", 1) for line in event.split("\n")) for event in text.strip().split("\n\n")]
    assert status == 200 and [event["event"] for event in events] == ["prediction", "error", "prediction", "end"]
    assert [event.get("id") for event in events] == ["0", "1", "2", None]
    assert json.loads(events[0]["data"])["prediction"] == predict(shopped, KNOWN)[1]["prediction"]
    assert "features.channel" in events[1]["data"] and json.loads(events[3]["data"]) == {"count": 3}
    body = json.dumps({"instances": [KNOWN] * 5000}).encode()
    head = b"POST /predict/loss/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    connection = Connection(shopped, timeout=60).send(head + body)
    connection.more()
    connection.socket.close()  # a reader that goes away
    assert predict(shopped, KNOWN)[0] == 200
    assert shopped.request("POST", "/predict/nobody/stream", KNOWN)[0] == 404


# What was found to be worth keeping, and what others were broken by.
BODIES = [
    b"[" * 60_000,
    b'{"features":' * 30 + b"1" + b"}" * 30,
    b"1" * 60_000,
    b'{"entities":{"customer":"c01"},"features":{"channel":"web","price":' + b"9" * 50_000 + b"}}",
    b'{"entities":{"customer":"c01"},"features":{"channel":"web","price":0.' + b"0" * 50_000 + b"1e50010}}",
    b'{"entities":{"customer":"c01"},"features":{"channel":"web","price":1e999999999999999999999}}',
    b'{"entities":{"customer":"c01"},"features":{"channel":"web","price":-}}',
    b'{"entities":{"customer":"c01"},"features":{"channel":"web","price":NaN}}',
    b'{"entities":{"customer":"c01"},"features":{"channel":"web","price":01}}',
    b'{"entities":{"customer":"\\ud800"},"features":{"channel":"web","price":1}}',
    b'{"entities":{"customer":"\xff\xfe"},"features":{"channel":"web","price":1}}',
    b'{"entities":{"customer":"a\x00b"},"features":{"channel":"web","price":1}}',
    b'{"entities":{"customer":"' + b"x" * 50_000 + b'"},"features":{"channel":"web","price":1}}',
    b'{"entities":{"customer":"c01","customer":"c02"},"features":{"channel":"web","price":1}}',
    b'{"entities":{"customer":"c01"},"features":{"channel":"web","price":1}} {}',
    b'{"entities":{"customer":"c01"},"features":{"channel":"web","price":1},"' + b"k" * 50_000 + b'":1}',
    b'{"instances":' + b"[" * 20 + b"]" * 20 + b"}",
    b"\xef\xbb\xbf{}",
    b"",
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_strange_body_is_refused_in_the_same_words_on_both_ways(body: bytes, shopped: Server) -> None:
    start = b"POST /predict/loss HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    plain = Connection(shopped).send(start + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    chunks = b"".join(b"%x\r\n" % len(part) + part + b"\r\n" for part in (body[:7], body[7:]) if part)
    chunked = Connection(shopped).send(start + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    answers = [connection.answer() for connection in (plain, chunked)]
    assert answers[0][0] in (400, 422), answers[0]
    assert answers[0][0] == answers[1][0] and answers[0][2] == answers[1][2]
    assert json.loads(answers[0][2])["error"]["message"]
    assert plain.send(PREDICT_LIVE).answer()[0] == 200, "the connection is of use after it"


PREDICT_LIVE = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def test_a_prediction_log_that_cannot_grow(shopped: Server) -> None:
    """Files may not grow, as on a full disk: who waits for the disk hears of it, and nothing is lost afterwards."""
    assert shopped.process is not None
    promise(shopped, f"{PLAIN}\nprediction_log: durable\nconcurrency_max: 10")
    assert predict(shopped, KNOWN)[0] == 200
    assert predict(shopped, INFER, "/v2/models/loss/infer")[0] == 200
    before = metric(shopped, "bottega_prediction_log_failures_total")
    size = max(path.stat().st_size for path in (shopped.data_dir / "log" / "predictions").rglob("*") if path.is_file())
    pool = concurrent.futures.ThreadPoolExecutor(10)
    limits = resource.prlimit(shopped.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(shopped.process.pid, resource.RLIMIT_FSIZE, (size + 100, limits[1]))
    try:
        for path in ("/predict/loss", "/predict/loss?ages=true"):
            status, answer = predict(shopped, KNOWN, path, X_Request_Timeout_Ms="500")
            assert status == 504 and answer["error"]["subject"] == "prediction log", answer
        status, answer = predict(shopped, INFER, "/v2/models/loss/infer", X_Request_Timeout_Ms="500")
        assert status == 504 and "record" in answer["error"], answer
        assert infer(shopped, timeout=500_000) == "StatusCode.DEADLINE_EXCEEDED"

        # As many as may be in hand wait for the disk; whoever comes then is refused at once, on every way.
        # One of the ten that comes while a question of this thread is in hand is refused, and asks again.
        def held() -> int:
            return until(lambda: (status := predict(shopped, KNOWN, X_Priority="high")[0]) != 429 and status)

        waiting = [pool.submit(held) for _ in range(10)]
        for path, body in (("/predict/loss", KNOWN), ("/v2/models/loss/infer", INFER)):
            assert until(lambda path=path, body=body: refused(shopped, path, body))["retry-after"] == "1"
        assert infer(shopped, timeout=100_000) == "StatusCode.RESOURCE_EXHAUSTED"
        until(lambda: metric(shopped, "bottega_prediction_log_failures_total") > before)
    finally:
        resource.prlimit(shopped.process.pid, resource.RLIMIT_FSIZE, limits)
    assert [done.result() for done in waiting] == [200] * 10
    pool.shutdown()
    status, answer = predict(shopped, KNOWN)
    assert status == 200 and answer["fallback"] is False
    why = shopped.get(f"/predictions/{answer['prediction_id']}/why")
    assert why["prediction"] == pytest.approx(answer["prediction"], rel=1e-6)
    assert metric(shopped, "bottega_prediction_log_pending") == 0
