"""The client against a small server that answers as told."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
