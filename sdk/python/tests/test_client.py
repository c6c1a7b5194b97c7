"""The client against a small server that answers as told."""

from __future__ import annotations

import builtins
import datetime
import decimal
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import bottega


class Script:
    """Accepts connections and answers request number n with `answers[n]`; keeps what it was sent."""

    def __init__(self, answers: list[bytes]) -> None:
        self.answers, self.requests, self.connections = answers, list[bytes](), 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while head := stream.readline():
                length = 0
                while (line := stream.readline()) not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                with self._lock:
                    answer = self.answers[len(self.requests)]
                    self.requests.append(head + stream.read(length))
                if not answer:
                    return
                connection.sendall(answer)
                if b"\r\nconnection: close\r\n" in answer:
                    return

    def close(self) -> None:
        self._listener.close()


def answer(document: object, status: int = 200) -> bytes:
    body = json.dumps(document).encode()
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


@contextmanager
def served(*answers: bytes, connections: int = 1) -> Iterator[tuple[Script, bottega.Client]]:
    script = Script(list(answers))
    with bottega.Client(script.url, connections=connections, timeout=5) as client:
        yield script, client
    script.close()


def test_one_connection_carries_many_requests() -> None:
    with served(answer({"idle": True}), answer({"idle": False})) as (script, client):
        assert client.status() == {"idle": True}
        assert client.status() == {"idle": False}
        assert script.connections == 1


def test_an_error_becomes_the_exception_of_its_code() -> None:
    error = {"error": {"code": "not_found", "subject": "model/x", "message": "no such model"}}
    with served(answer(error, 404)) as (_, client), pytest.raises(bottega.NotFound) as caught:
        client.models.get("x")
    assert (caught.value.subject, caught.value.message, caught.value.status) == ("model/x", "no such model", 404)


def test_an_unknown_code_is_still_an_error() -> None:
    with served(answer({"error": {"code": "brand_new", "message": "?"}}, 418)) as (_, client):
        with pytest.raises(bottega.BottegaError) as caught:
            client.status()
        assert caught.value.code == "brand_new"


def test_a_prediction_that_nothing_answered_says_why() -> None:
    nothing = {"prediction": None, "model": "m", "fallback": True, "fallback_reason": "the model failed"}
    for document in (nothing, {"predictions": [{"prediction": 1.5, "fallback": False}, nothing]}):
        with served(answer(document, 503)) as (_, client), pytest.raises(bottega.Unavailable) as caught:
            client.predict("m", entities={})
        assert str(caught.value) == "predict/m: the model failed, and no fallback answers for it"
        assert (caught.value.status, caught.value.details) == (503, document)


def test_a_refused_stage_is_an_answer_with_its_gates() -> None:
    gates = [{"gate": "auc on test", "passed": False, "observed": 0.5}]
    refused = {"error": {"code": "refused", "subject": "m", "message": "1 gate"}, "gates": gates}
    with served(answer(refused, 409)) as (_, client):
        decision = client.models.set_stage("m", 1, "canary", reason="try")
    assert not decision.accepted
    assert decision.gates == gates


def test_chunked_answers_are_put_together() -> None:
    chunked = b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\n{"idle"\r\n6\r\n:true}\r\n0\r\n\r\n'
    with served(chunked, answer({"idle": False})) as (_, client):
        assert client.status() == {"idle": True}
        assert client.status() == {"idle": False}


def test_a_lost_idle_connection_is_opened_again_for_a_get() -> None:
    with served(answer({"n": 1}), b"", answer({"n": 2})) as (script, client):
        assert client.get("/a") == {"n": 1}
        assert client.get("/b") == {"n": 2}
        assert script.connections == 2


def test_a_post_is_never_sent_twice() -> None:
    with served(answer({}), b"", answer({})) as (script, client):
        client.get("/a")
        with pytest.raises(bottega.ConnectionFailed):
            client.labels.send("p1", 1)
        assert len(script.requests) == 2


def test_answers_come_in_the_order_of_the_requests() -> None:
    # More requests than connections; each connection serves its own in turn.
    echo = [answer({"n": n}) for n in range(7)]
    with served(*echo, connections=1) as (_, client):
        answers = client.exchange([bottega.Request("GET", f"/{n}") for n in range(7)])
    assert [response.json()["n"] for response in answers] == list(range(7))


def test_a_line_break_cannot_smuggle_a_header() -> None:
    with served() as (script, client):
        with pytest.raises(ValueError, match="line break"):
            client.get("/a HTTP/1.1\r\nx: y\r\n\r\nGET /b")
        assert not script.requests


def test_no_server_says_so_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with (
        bottega.Client(f"http://127.0.0.1:{port}") as client,
        pytest.raises(bottega.ConnectionFailed, match="cannot reach"),
    ):
        client.status()


NOW = datetime.datetime(2026, 3, 1, 12, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))


def body(request: bytes) -> Any:
    return json.loads(request.partition(b"\r\n")[2])


def lines(request: bytes) -> list[Any]:
    return [json.loads(line) for line in request.partition(b"\r\n")[2].splitlines()]


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (NOW, "2026-03-01T11:30:00.000000Z"),
        (pd.Timestamp("2026-03-01T11:30:00.123456789Z"), "2026-03-01T11:30:00.123456Z"),
        (NOW.date(), "2026-03-01"),
        (np.float64(1.5), 1.5),
        (np.float32(0.5), 0.5),
        (np.int64(2**62), 2**62),
        (np.bool_(True), True),
        (np.str_("web"), "web"),
        (decimal.Decimal("12.50"), 12.5),
        (decimal.Decimal("12"), 12),
        (float("nan"), None),
        (np.float32("nan"), None),
        (decimal.Decimal("NaN"), None),
        (np.datetime64("NaT"), None),
        (pd.NaT, None),
        (pd.NA, None),
        (np.array([1.0, 2.0], dtype="f4"), [1.0, 2.0]),
        (("a", None), ["a", None]),
    ],
    ids=str,
)
def test_a_value_of_python_is_sent_as_what_it_means(value: object, sent: object) -> None:
    with served(answer({})) as (script, client):
        client.events.push("orders", [{"order": "a", "it": value}])
    assert lines(script.requests[0].replace(b" /sources/orders/events", b"")) == [{"order": "a", "it": sent}]


def test_a_data_frame_is_sent_row_by_row() -> None:
    moments = pd.to_datetime(["2026-03-01T11:30:00Z", None])
    frame = pd.DataFrame(
        {"at": moments, "amount": [1.5, None], "n": pd.array([1, None], "Int64"), "kind": pd.Categorical(["a", None])},
        index=[7, 9],
    )
    with served(answer({})) as (script, client):
        client.events.push("orders", frame)
    assert lines(script.requests[0]) == [
        {"at": "2026-03-01T11:30:00.000000Z", "amount": 1.5, "n": 1, "kind": "a"},
        {"at": None, "amount": None, "n": None, "kind": None},
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (datetime.datetime(2026, 3, 1), "2026-03-01T00:00:00 has no time zone"),
        (pd.Timestamp("2026-03-01"), "has no time zone"),
        (np.datetime64("2026-03-01"), "has no time zone"),
        (datetime.timedelta(1), "datetime.timedelta cannot be sent"),
        (np.timedelta64(1, "s"), "is no moment"),
        (float("inf"), "inf is no number"),
        (b"bytes", "bytes cannot be sent"),
        ({"a"}, "set cannot be sent"),
        ({1: object()}, "a name must be a text, not int"),
    ],
    ids=str,
)
def test_what_cannot_be_sent_is_named_with_its_row_and_column(value: object, message: str) -> None:
    with served() as (script, client), pytest.raises(bottega.UnsupportedValue, match=message) as caught:
        client.events.push("orders", [{"amount": 1}, {"amount": value}])
    assert (caught.value.row, caught.value.column) == (1, "amount")
    assert str(caught.value).startswith("row 1, column 'amount': ")
    assert not script.requests


def test_a_naive_moment_of_an_argument_is_named() -> None:
    with served() as (_, client), pytest.raises(bottega.UnsupportedValue, match=r"^'start': .* has no time zone"):
        client.datasets.build("loss", start=datetime.datetime(2026, 3, 1), end="2026-03-02")


def test_a_value_that_holds_itself_is_refused() -> None:
    nested: list[object] = []
    nested.append(nested)
    with served() as (_, client), pytest.raises(bottega.UnsupportedValue, match="nested deeper"):
        client.events.push("orders", [{"amount": nested}])


def test_dates_may_say_the_span_of_a_dataset() -> None:
    with served(answer({"operation": "o"}, 202)) as (script, client):
        client.datasets.build("loss", start=datetime.date(2026, 3, 1), end=NOW, as_of=0)
    assert body(script.requests[0]) == {
        "training_set": "loss", "from": "2026-03-01", "to": "2026-03-01T11:30:00.000000Z", "as_of": 0,
    }  # fmt: skip


PREDICTED = {"prediction_id": "p", "model": "loss", "model_version": 3, "variant": "primary", "fallback": False}


def test_a_prediction_shows_what_it_is_and_its_explanation() -> None:
    explanation = {"base_value": -1.0, "margin": -0.5, "contributions": {"price": 0.5}}
    with served(answer({**PREDICTED, "prediction": 0.25, "explanation": explanation})) as (script, client):
        found = client.predict("loss", entities={"customer": "c"}, features={"price": np.float32(2)}, explain=True)
    assert found.explanation == explanation
    assert repr(found) == "<Prediction 0.25 of loss@3 (primary), id p>"
    assert body(script.requests[0]) == {"entities": {"customer": "c"}, "features": {"price": 2.0}, "explain": True}


def test_a_data_frame_is_predicted_in_requests_of_a_thousand() -> None:
    one = {"predictions": [{**PREDICTED, "prediction": 0.5}]}
    with served(answer({"predictions": one["predictions"] * 1000}), answer(one)) as (script, client):
        frame = pd.DataFrame({"customer": ["c"] * 1001, "price": np.arange(1001.0)})
        frame.loc[1000, "price"] = None
        found = client.predict_many("loss", frame, entities=["customer"])
    assert len(found) == 1001
    assert len(body(script.requests[0])["instances"]) == 1000
    assert body(script.requests[1]) == {"instances": [{"entities": {"customer": "c"}, "features": {"price": None}}]}


def test_a_data_frame_needs_the_names_of_its_keys() -> None:
    frame = pd.DataFrame({"customer": ["c"], "price": [np.inf]})
    with served() as (_, client):
        with pytest.raises(bottega.UnsupportedValue, match="entities="):
            client.predict_many("loss", frame)
        with pytest.raises(bottega.UnsupportedValue, match="no such column"):
            client.predict_many("loss", frame, entities=["custmer"])
        with pytest.raises(bottega.UnsupportedValue, match="row 0, column 'price'"):
            client.predict_many("loss", frame, entities=["customer"])


MANIFEST = {
    "trainingSet": "loss", "service": "shop", "label": "lost",
    "slices": [{"name": "train", "rows": 2}, {"name": "test", "rows": 1}],
    "columns": [{"name": "price", "role": "request"}, {"name": "paid__sum", "role": "feature"},
                {"name": "lost", "role": "label"}],
}  # fmt: skip


def parquet_answer(*values: float) -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table({"price": list(values)}), sink)
    content = sink.getvalue().to_pybytes()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(content), content)


def test_the_rows_of_a_dataset_come_as_a_frame() -> None:
    found = answer({"dataset": "ab" * 32, "rows": 3, "manifest": MANIFEST})
    with served(found, parquet_answer(1, 2), parquet_answer(1, 2), parquet_answer(3)) as (script, client):
        dataset = client.datasets.get("abababab")
        assert (dataset.hash, dataset.rows, dataset.slices) == ("ab" * 32, 3, {"train": 2, "test": 1})
        assert (dataset.inputs, dataset.label) == (["price", "paid__sum"], "lost")
        assert dataset.to_pandas("train")["price"].tolist() == [1, 2]
        assert dataset.to_arrow().column("price").to_pylist() == [1, 2, 3]
        with pytest.raises(bottega.NotFound, match="no slice 'tran', but train, test"):
            dataset.to_pandas("tran")
    assert script.requests[1].startswith(b"GET /api/v1/datasets/%b/slices/train " % (b"ab" * 32))


def test_without_pandas_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return original(name, *arguments, **more)

    with served(answer({"dataset": "ab" * 32, "rows": 3, "manifest": MANIFEST})) as (_, client):
        dataset = client.datasets.get("abababab")
        monkeypatch.setattr(builtins, "__import__", refuse)
        with pytest.raises(bottega.MissingPackage, match="pip install pandas pyarrow"):
            dataset.to_pandas()


def test_a_download_that_breaks_off_is_an_error_and_not_sent_again() -> None:
    found = answer({"dataset": "ab" * 32, "rows": 3, "manifest": MANIFEST})
    with served(found, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nabc", b"") as (
        script,
        client,
    ):
        with pytest.raises(bottega.ConnectionFailed, match="in the middle"):
            client.datasets.get("abababab").to_arrow("train")
        assert len(script.requests) == 2
