"""What a connection carries, byte by byte: hot routes and others mixed, in any packets, well-formed or not."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import json
import pathlib
import random
import re
import socket
import threading
import time
from collections.abc import Callable

import pytest
from conftest import Server, until

PREDICT = b"POST /predict/nobody HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}"
LIVE = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
GROUP = (
    b'POST /features/groups/nothing/get-online HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n{"entities":[]}'
)
CHUNKED = b"POST /predict/nobody HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
EXPECTED = {
    PREDICT: (404, b"model/nobody"),
    LIVE: (200, b"ok"),
    GROUP: (422, b"entities"),
    CHUNKED: (404, b"model/nobody"),
}


class Connection:
    """One connection and the answers on it."""

    def __init__(self, server: Server, timeout: float = 10, receive_byte_count: int = 0) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(timeout)
        if receive_byte_count:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_byte_count)
        self.socket.connect(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def send(self, data: bytes) -> Connection:
        self.socket.sendall(data)
        return self

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self.rest:
            self.more()
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        first, *fields = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, value in (field.split(":", 1) for field in fields)}
        if headers.get("transfer-encoding") == "chunked":
            while b"0\r\n\r\n" not in self.rest:
                self.more()
            body, self.rest = self.rest.split(b"0\r\n\r\n", 1)
        else:
            length = int(headers.get("content-length", "0"))
            while len(self.rest) < length:
                self.more()
            body, self.rest = self.rest[:length], self.rest[length:]
        return int(first.split()[1]), headers, body

    def more(self) -> None:
        part = self.socket.recv(1 << 16)
        if not part:
            raise EOFError(self.rest)
        self.rest += part

    def is_closed(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except (TimeoutError, ConnectionError) as error:
            return isinstance(error, ConnectionError)


def check(connection: Connection, request: bytes) -> None:
    status, _, body = connection.answer()
    expected, words = EXPECTED[request]
    assert status == expected and words in body, (request, status, body)


def test_answers_keep_their_order_however_they_are_packed(server: Server) -> None:
    draw = random.Random(7)
    for _ in range(30):
        requests = [draw.choice([PREDICT, LIVE, GROUP]) for _ in range(draw.randrange(1, 40))]
        if draw.random() < 0.3:  # from here on the framework has the connection
            requests.insert(draw.randrange(len(requests)), CHUNKED)
        stream = b"".join(requests)
        connection = Connection(server)
        pieces = draw.choice([1, 3, 20])
        cuts = [0, *sorted(draw.randrange(len(stream) + 1) for _ in range(pieces - 1)), len(stream)]
        for start, end in itertools.pairwise(cuts):
            connection.send(stream[start:end])
            time.sleep(0.001 if pieces > 1 else 0)
        for request in requests:
            check(connection, request)
        assert connection.rest == b""
        connection.socket.close()


def test_a_request_may_come_byte_by_byte(server: Server) -> None:
    connection = Connection(server)
    for byte in PREDICT + GROUP:
        connection.send(bytes([byte]))
    check(connection, PREDICT)
    check(connection, GROUP)


def test_thousands_of_pipelined_requests_are_answered(server: Server) -> None:
    connection = Connection(server, timeout=60)
    connection.socket.setblocking(True)
    count = 5_000
    sent = 0
    answered = 0
    while answered < count:
        burst = min(500, count - sent)
        if burst:
            connection.send((PREDICT + GROUP) * (burst // 2))
            sent += burst
        for _ in range(burst // 2 or 1):
            check(connection, PREDICT)
            check(connection, GROUP)
            answered += 2


def numbered(number: int) -> bytes:
    return b"POST /predict/n%d HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}" % number


def test_a_caller_that_reads_late_gets_every_answer_in_order(server: Server) -> None:
    """The server reads no further than its answers are taken; the rest waits in the connection."""
    connection = Connection(server, timeout=60)
    count = 60_000  # more than both ends buffer
    stream = b"".join(map(numbered, range(count)))
    sender = threading.Thread(target=connection.send, args=(stream,))
    sender.start()
    resident = server.resident_mib()
    sender.join(0.5)
    for number in range(count):
        status, _, body = connection.answer()
        assert status == 404 and b'"model/n%d"' % number in body, (number, body)
    sender.join()
    assert connection.rest == b"" and server.resident_mib() < resident + 50
    check(connection.send(LIVE), LIVE)  # and it may ask for something else then
    check(connection.send(PREDICT), PREDICT)


def test_a_stop_cuts_no_answer(start_server: Callable[..., Server]) -> None:
    server = start_server()
    connections = [Connection(server) for _ in range(32)]
    answered = threading.Event()

    def ask(connection: Connection, request: bytes) -> int:
        count = 0
        while True:
            try:
                connection.send(request)
                check(connection, request)
            except EOFError as ended:
                assert ended.args == (b"",), "half an answer"
                return count
            except ConnectionError:
                return count
            count += 1
            if count == 20:
                answered.set()

    with concurrent.futures.ThreadPoolExecutor(len(connections)) as pool:
        asking = [pool.submit(ask, each, [PREDICT, LIVE, GROUP][n % 3]) for n, each in enumerate(connections)]
        assert answered.wait(60)
        assert server.stop() == 0
        assert sum(each.result() for each in asking) >= 20


def test_what_comes_while_the_server_stops_is_told_so(start_server: Callable[..., Server]) -> None:
    """Not closed without a word: a caller that hears it can ask another server, or this one when it is back."""
    experiments = LIVE.replace(b"/livez", b"/api/2.0/mlflow/experiments/get?experiment_id=0")
    for attempt in range(10):
        server = start_server(name=f"stopping{attempt}")
        idle = [Connection(server) for _ in range(200)]
        for connection in idle:  # each is a lane's from here on
            check(connection.send(PREDICT), PREDICT)
        busy = [Connection(server) for _ in range(6)]
        with concurrent.futures.ThreadPoolExecutor(2 * len(busy) + 1) as pool:
            for connection in busy:  # a round of a lane takes a while, and the stop comes in the middle of one
                pool.submit(flood, connection)
                pool.submit(read_on, connection)
            stopping = pool.submit(server.stop)
            for number, connection in enumerate(idle):
                with contextlib.suppress(ConnectionError):
                    connection.send([LIVE, experiments][number % 2])
                time.sleep(0.001)
            assert stopping.result() == 0
        refused = 0
        for number, connection in enumerate(idle):
            try:
                status, headers, body = connection.answer()
            except EOFError as ended:
                assert ended.args == (b"",), "half an answer"
                continue  # it was closed before the request came
            except ConnectionError:
                continue
            if status != 503:
                assert status == 200
                continue
            refused += 1
            assert headers["connection"] == "close" and int(headers["retry-after"]) > 0
            answer = json.loads(body)
            code = answer["error_code"] if number % 2 else answer["error"]["code"]
            assert code == ("TEMPORARILY_UNAVAILABLE" if number % 2 else "unavailable")
            assert connection.is_closed()
        if refused:
            return
    raise AssertionError("no request met the stop")


def flood(connection: Connection) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection.send(PREDICT * 800)


def read_on(connection: Connection) -> None:
    with contextlib.suppress(OSError):
        while connection.socket.recv(1 << 20):
            pass


def test_a_stop_takes_back_no_answer_from_a_late_reader(start_server: Callable[..., Server]) -> None:
    """What it has asked beside that is not read any more, and ends the connection in an orderly way all the same."""
    server = start_server(name="late")
    late = [Connection(server, timeout=60, receive_byte_count=4096) for _ in range(4)]
    for connection in late:
        connection.socket.setblocking(False)
        stream = b"".join(map(numbered, range(100_000)))
        with contextlib.suppress(BlockingIOError):  # it takes no more
            while stream:
                stream = stream[connection.socket.send(stream) :]
        connection.socket.settimeout(60)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(server.stop)
        for connection in late:
            number = 0
            while True:
                try:
                    status, _, body = connection.answer()
                except EOFError as ended:
                    assert ended.args == (b"",), "half an answer"
                    break
                assert status == 404 and b'"model/n%d"' % number in body
                number += 1
            assert number > 100
            connection.socket.close()
        assert stopping.result() == 0


def test_more_connections_than_files_may_be_open(binary: str, tmp_path: pathlib.Path) -> None:
    """Some wait outside then, and the stores still open their files."""
    shell = tmp_path / "few"
    shell.write_text(f'#!/bin/sh\nulimit -n 300\nexec "{binary}" "$@"\n')
    shell.chmod(0o755)
    server = Server(tmp_path / "data")
    server.binary = str(shell)
    server.start()
    idle: list[socket.socket] = []
    try:
        for _ in range(400):
            one = socket.socket()
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
            idle.append(one)
        assert server.process is not None
        files = pathlib.Path(f"/proc/{server.process.pid}/fd")
        count = until(lambda: (seen := len(list(files.iterdir()))) > 250 and seen)
        for _ in range(20):
            time.sleep(0.05)
            count = max(count, len(list(files.iterdir())))
        assert count < 300 - 20, "the stores need some, too"
        for one in idle:
            one.close()
        check(until(lambda: answered(server, PREDICT)), PREDICT)
        check(until(lambda: answered(server, LIVE)), LIVE)
        assert server.stop() == 0
    finally:
        if server.process is not None:
            server.kill()


def answered(server: Server, request: bytes) -> Connection | None:
    """A connection on which a request was sent, and something has come back."""
    try:
        connection = Connection(server, timeout=2).send(request)
        connection.more()
        return connection
    except (OSError, EOFError):
        return None


def test_the_caller_says_when_it_ends(server: Server) -> None:
    for request in [PREDICT, GROUP, LIVE]:
        connection = Connection(server).send(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        check(connection, request)
        assert connection.is_closed()
    connection = Connection(server).send(PREDICT + GROUP)
    connection.socket.shutdown(socket.SHUT_WR)  # no more requests; the answers still come
    check(connection, PREDICT)
    check(connection, GROUP)
    assert connection.is_closed()


def test_answers_that_wait_for_the_disk_come_before_the_end(server: Server) -> None:
    experiment = server.post("/api/2.0/mlflow/experiments/create", {"name": "wire"})["experiment_id"]
    run = server.post("/api/2.0/mlflow/runs/create", {"experiment_id": experiment})["run"]["info"]["run_id"]
    body = json.dumps({"run_id": run, "key": "loss", "value": 1, "timestamp": 1, "step": 1}).encode()
    request = (
        b"POST /api/2.0/mlflow/runs/log-metric HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    ) + body
    connection = Connection(server).send(request * 3 + PREDICT + LIVE)
    connection.socket.shutdown(socket.SHUT_WR)
    for _ in range(3):
        assert connection.answer()[0] == 200
    check(connection, PREDICT)
    check(connection, LIVE)
    assert connection.is_closed()


def test_a_caller_that_has_closed_its_side_gets_every_answer(server: Server) -> None:
    """Whoever answers: the lanes, the framework behind them, or the framework for good."""
    for requests in [
        [LIVE] * 3,
        [PREDICT, LIVE, CHUNKED],
        [LIVE, CHUNKED, LIVE, PREDICT],
        [CHUNKED, LIVE],
        [GROUP, LIVE, GROUP],
    ]:
        for first in [[], [LIVE], [CHUNKED]]:
            connection = Connection(server)
            for request in first:
                check(connection.send(request), request)
            connection.send(b"".join(requests))
            connection.socket.shutdown(socket.SHUT_WR)
            for request in requests:
                check(connection, request)
            assert connection.is_closed()


@pytest.mark.parametrize("end", ["half-closed", "stopped"])
def test_a_late_reader_gets_a_large_answer_whole(end: str, start_server: Callable[..., Server]) -> None:
    """More than the system holds for a connection is on its way when it comes to its end."""
    server = start_server(name=f"large-{end}")
    server.post("/api/2.0/mlflow/registered-models/create", {"name": "wide"})
    for number in range(80):
        tag = {"name": "wide", "key": f"k{number}", "value": "x" * 95_000}
        server.post("/api/2.0/mlflow/registered-models/set-tag", tag)
    connection = Connection(server, timeout=60, receive_byte_count=4096)
    connection.send(b"GET /api/2.0/mlflow/registered-models/get?name=wide HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    if end == "half-closed":
        connection.socket.shutdown(socket.SHUT_WR)
    received = connection.socket.recv(100)  # it is being answered
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(server.stop) if end == "stopped" else None
        time.sleep(0.5)
        parts = [received]
        while part := connection.socket.recv(1 << 20):
            parts.append(part)
        head, body = b"".join(parts).split(b"\r\n\r\n", 1)
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length is not None and len(body) == int(length[1]) > 7_000_000
        assert stopping is None or stopping.result() == 0


def test_both_ways_to_a_prediction_say_the_same(server: Server) -> None:
    """A chunked body goes through the framework, a plain one does not."""
    for body in [b"{}", b"", b"[]", b'{"entities": 1}', b"\xff\xfe", b'{"a":' * 20]:
        plain = Connection(server).send(
            b"POST /predict/nobody HTTP/1.1\r\nHost: [::1]\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        chunked = Connection(server).send(
            b"POST /predict/nobody HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n"
            + (b"%x\r\n" % len(body) + body + b"\r\n" if body else b"")
            + b"0\r\n\r\n"
        )
        left, right = plain.answer(), chunked.answer()
        assert (left[0], left[2]) == (right[0], right[2])


def plain(path: bytes, body: bytes, fields: bytes = b"") -> bytes:
    length = b"Content-Length: %d" % len(body)
    return b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s%s\r\n\r\n%s" % (path, fields, length, body)


VALID = [
    *(PREDICT, PREDICT, LIVE, GROUP),
    plain(b"/predict/one", b'{"entities":{}}', b"X-Request-Timeout-Ms: 60000\r\n"),
    plain(b"/predict/two", b"\xff\x00\r\n\r\n", b"x-priority: low\r\n"),
    plain(b"/predict/three", b"POST /predict/nobody HTTP/1.1\r\n\r\n", b"Accept: */*\r\n"),
    plain(b"/api/2.0/mlflow/runs/log-metric", b'{"run_id":"x","key":"k","value":1,"timestamp":1}'),
    plain(b"/predict/nobody", b'{"instances":[]}'),
    plain(b"/nowhere", b"{}"),
    plain(b"/predict", b"{}"),
]
FIELDS = b"""\
Content-Length: 2|content-length:0|Content-Length: +2|Content-Length: 99999999999999999999|Connection: close|\
Connection: keep-alive|Connection: close, x|Host: evil.example|Host:|X-Request-Timeout-Ms: 60000|\
X-Request-Timeout-Ms: -1|X-Request-Timeout-Ms: |X-Priority: low|X-Priority: x|X-Bottega-Caller: me|\
X-Bottega-Caller: \xff|NoColon|: empty|\
A b: c|X:|X(y): z|Content-Type: text/plain|Accept-Encoding: gzip|Authorization: Bearer x|Authorization: Basic !|\
TE: trailers|Origin: http://evil.example|Cookie: a=b|Range: bytes=0-1|X: \x01|X: \xff|X\xc3: y|X: a\x7f""".split(b"|")
PATHS = b"""\
/predict/no%62ody|/predict/nobody/|/predict/nobody?explain=true|/predict/|/predict/%ff|/predict/a%2fb|//predict/nobody|\
/predict/../predict/nobody|/predict/n\xc3\xb6|/predict/nobody#x|/predict/%00|/predict/%|/predict/a+b|/predict/{}""".split(
    b"|"
)
FIRST_LINES = [
    *(b"%s /predict/nobody HTTP/1.1" % method for method in [b"GET", b"PUT", b"post", b"POSTED"]),
    *(b"POST /predict/nobody %s" % version for version in [b"http/1.1", b"HTTP/1.0", b"HTTP/1.1x"]),
    *(b"POST %s HTTP/1.1" % path for path in PATHS),
]


def altered(draw: random.Random, request: bytes) -> bytes:
    """A request with a head that is unusual or wrong; where it ends is not in doubt."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    place = draw.randrange(1, len(lines))
    match draw.randrange(4):
        case 0:
            lines.insert(place, draw.choice(FIELDS))
        case 1:
            name, _, value = lines[place].partition(b":")
            lines[place] = name + draw.choice([b" :", b":", b":\t", b": \t"]) + value.strip() + draw.choice([b"", b" "])
        case 2:
            lines[0] = draw.choice(FIRST_LINES)
        case 3:
            lines[place] = lines[place].swapcase()
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_the_lanes_answer_as_the_framework_does(server: Server) -> None:
    """Requests behind each other in any packets, the last one strange: each as the framework answers it alone."""
    draw = random.Random(11)
    known: dict[bytes, tuple[int, bytes]] = {}

    def alone(request: bytes) -> tuple[int, bytes]:
        if request not in known:
            connection = Connection(server, timeout=60)
            check(connection.send(CHUNKED), CHUNKED)  # the connection is the framework's own now, for good
            status, _, body = connection.send(request).answer()
            connection.socket.close()
            known[request] = (status, body)
        return known[request]

    for number in range(400):
        requests = [draw.choice(VALID) for _ in range(draw.randrange(5))]
        requests.append(altered(draw, draw.choice(VALID)))
        stream = b"".join(requests)
        cuts = sorted(draw.randrange(len(stream) + 1) for _ in range(draw.choice([0, 1, 3, 8])))
        connection = Connection(server, timeout=60)
        for start, end in itertools.pairwise([0, *cuts, len(stream)]):
            connection.send(stream[start:end])
            time.sleep(0.0005 if cuts else 0)
        for request in requests:
            status, _, body = connection.answer()
            assert (status, body) == alone(request), (number, request, cuts)
        connection.socket.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /predict/nobody HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\n\r\n{}",
        GROUP.replace(b"localhost", b"127.0.0.1.evil.example"),
    ],
)
def test_another_host_is_refused(request_bytes: bytes, server: Server) -> None:
    connection = Connection(server).send(request_bytes)
    status, _, body = connection.answer()
    assert status == 403 and b"Host" in body
    check(connection.send(PREDICT), PREDICT)


def test_a_token_is_asked_for_on_every_request(start_server: Callable[..., Server]) -> None:
    server = start_server("--host", "0.0.0.0", name="token")
    token = (server.data_dir / "admin-token").read_text().strip().encode()
    right, wrong = (
        PREDICT.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer %s\r\n\r\n" % text, 1)
        for text in (token, token[:-1] + (b"a" if token[-1:] != b"a" else b"b"))
    )
    connection = Connection(server)
    for request, expected in [(right, 404), (PREDICT, 401), (right, 404), (wrong, 401), (right, 404)]:
        assert connection.send(request).answer()[0] == expected


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nBroken\r\n\r\n",
        b"POST /predict/nobody HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict/nobody HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5_000 + b"\r\n",
        b"\r\n\r\n\r\n\r\n",
    ],
)
def test_nonsense_hurts_nobody(data: bytes, server: Server) -> None:
    connection = Connection(server, timeout=2)
    try:
        connection.send(data)
        status, _, _ = connection.answer()
        assert 400 <= status < 500
    except (EOFError, ConnectionError, TimeoutError):
        pass
    check(Connection(server).send(PREDICT), PREDICT)


def test_connections_that_only_begin_hold_up_nobody(server: Server) -> None:
    slow = [Connection(server).send(PREDICT[: 10 + index % 50]) for index in range(200)]
    began = time.monotonic()
    for _ in range(20):
        check(Connection(server).send(PREDICT), PREDICT)
    assert time.monotonic() - began < 20
    for index, connection in enumerate(slow):  # and each is answered once the rest is there
        check(connection.send(PREDICT[10 + index % 50 :]), PREDICT)
