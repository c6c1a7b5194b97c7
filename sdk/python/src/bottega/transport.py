"""HTTP/1.1 over kept-alive sockets, with the standard library alone.

`http.client` parses headers as e-mail, which costs more than the requests themselves when there are hundreds of
thousands of them. The few rules that a JSON API needs fit on two pages.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

from bottega.errors import ConnectionFailed, error_from

HEAD_BYTES_MAX = 64 * 1024
READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `body` is sent as it is."""

    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Response:
    """One answer, and the seconds between the request's first byte out and the answer's last byte in."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        """The body as JSON; raises the server's error if this is not a success."""
        try:
            document = json.loads(self.body) if self.body else {}
        except ValueError as error:
            if self.status < 400:
                raise ConnectionFailed(f"the answer is no JSON: {error}", status=self.status) from error
            document = {"error": {"message": self.body[:200].decode("utf-8", "replace")}}
        if self.status >= 400:
            raise error_from(self.status, document)
        return document


class Connection:
    """One socket that carries one request at a time."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self._host, self._port, self._timeout = host, port, timeout
        self._socket: socket.socket | None = None
        self._buffer = bytearray()
        self._began = 0.0
        self._pending: Request | None = None
        self._fresh = True

    def send(self, request: Request) -> None:
        """Writes the request; an idle socket that the server has closed meanwhile is opened again."""
        self._pending = request
        self._began = time.perf_counter()
        if self._socket is not None:
            try:
                self._socket.sendall(self._encode(request))
                self._fresh = False
                return
            except OSError:
                self.close()
        self._open()
        self._write(request)

    def receive(self, file: BinaryIO | None = None) -> Response:
        """Reads the answer to the request that was sent last; the body of a 200 goes to `file`, if there is one."""
        try:
            return self._read(file)
        except _ClosedBeforeAnswer:
            request = self._pending
            # A kept-alive socket may be closed while idle. A repeated GET is harmless, and so is a request with a key.
            if self._fresh or request is None or not _repeatable(request):
                self.close()
                raise ConnectionFailed(f"{self._host}:{self._port} closed the connection without an answer") from None
            self.close()
            self._open()
            self._write(request)
            try:
                return self._read(file)
            except _ClosedBeforeAnswer:
                self.close()
                raise ConnectionFailed(f"{self._host}:{self._port} closed the connection without an answer") from None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._buffer.clear()

    def _open(self) -> None:
        try:
            self._socket = socket.create_connection((self._host, self._port), timeout=self._timeout)
        except OSError as error:
            raise ConnectionFailed(f"cannot reach {self._host}:{self._port}: {error}") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._fresh = True

    def _write(self, request: Request) -> None:
        if self._socket is None:
            raise ConnectionFailed("the connection is closed")
        try:
            self._socket.sendall(self._encode(request))
        except OSError as error:
            self.close()
            raise ConnectionFailed(f"cannot send to {self._host}:{self._port}: {error}") from error

    def _encode(self, request: Request) -> bytes:
        lines = [f"{request.method} {request.path} HTTP/1.1", f"host: {self._host}:{self._port}"]
        if request.body is not None or request.method in ("POST", "PUT", "PATCH"):
            lines.append(f"content-length: {len(request.body or b'')}")
            if "content-type" not in request.headers:
                lines.append("content-type: application/json")
        lines.extend(f"{name}: {value}" for name, value in request.headers.items())
        if any("\n" in line or "\r" in line for line in lines):
            raise ValueError("a path or header may not hold a line break")
        head = "\r\n".join(lines)
        return f"{head}\r\n\r\n".encode("latin-1") + (request.body or b"")

    def _more(self) -> None:
        if self._socket is None:
            raise _ClosedBeforeAnswer
        try:
            chunk = self._socket.recv(READ_BYTES)
        except ConnectionError as error:
            if not self._buffer:
                raise _ClosedBeforeAnswer from error
            self.close()
            raise ConnectionFailed(f"{self._host}:{self._port} broke off in the middle of an answer") from error
        except TimeoutError as error:
            self.close()
            raise ConnectionFailed(f"no answer from {self._host}:{self._port} in {self._timeout:g} s") from error
        if not chunk:
            if not self._buffer:
                raise _ClosedBeforeAnswer
            self.close()
            raise ConnectionFailed(f"{self._host}:{self._port} broke off in the middle of an answer")
        self._buffer += chunk

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._more()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                self.close()
                raise ConnectionFailed("the answer's head is too long")
            self._more()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _head(self) -> tuple[int, dict[str, str]]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                self.close()
                raise ConnectionFailed("the answer's head is too long")
            self._more()
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        parts = lines[0].split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
            self.close()
            raise ConnectionFailed(f"{self._host}:{self._port} does not speak HTTP")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return int(parts[1]), headers

    def _read(self, file: BinaryIO | None = None) -> Response:
        status, headers = self._head()
        while 100 <= status < 200:
            status, headers = self._head()
        if status in (204, 304):
            body = b""
        elif status == 200 and file is not None:
            body = b""
            try:
                for piece in self._pieces(headers):
                    file.write(piece)
            except _ClosedBeforeAnswer as error:  # what was written stays: the request is not sent again
                self.close()
                raise ConnectionFailed(f"{self._host}:{self._port} broke off in the middle of an answer") from error
            except BaseException:
                self.close()
                raise
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            body = b"".join(self._chunks())
        else:
            body = self._take(int(headers.get("content-length", "0")))
        seconds = time.perf_counter() - self._began
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Response(status, headers, body, seconds)

    def _pieces(self, headers: dict[str, str]) -> Iterator[bytes]:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            yield from self._chunks()
            return
        left = int(headers.get("content-length", "0"))
        while left > 0:
            if not self._buffer:
                self._more()
            piece = self._take(min(left, len(self._buffer)))
            left -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while True:
            size = int(self._line().split(b";", 1)[0], 16)
            if size == 0:
                while self._line():
                    pass
                return
            yield self._take(size)
            self._take(2)


class _ClosedBeforeAnswer(Exception):
    """The socket was closed before the first byte of the answer."""


def _repeatable(request: Request) -> bool:
    return request.method in ("GET", "HEAD") or any(name.lower() == "idempotency-key" for name in request.headers)


class Transport:
    """A few connections to one server. Not for use by several threads at once."""

    def __init__(self, url: str, *, connections: int = 8, timeout: float = 60.0) -> None:
        parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"'{url}' is no address such as http://127.0.0.1:8000")
        self.url = f"http://{parts.hostname}:{parts.port or 80}"
        self._connections = [Connection(parts.hostname, parts.port or 80, timeout) for _ in range(max(1, connections))]

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Response:
        """Sends one request and waits for its answer."""
        connection = self._connections[0]
        connection.send(Request(method, path, body, headers or {}))
        return connection.receive()

    def download(self, path: str, headers: dict[str, str], file: BinaryIO) -> None:
        """Writes the body of a GET's answer to `file` as it arrives; raises the server's error if it is no success."""
        connection = self._connections[0]
        connection.send(Request("GET", path, None, headers))
        response = connection.receive(file)
        if response.status != 200:
            response.json()
            raise ConnectionFailed(f"the server answered {response.status}", status=response.status)

    def exchange(self, requests: Sequence[Request]) -> list[Response]:
        """Sends requests side by side over the connections; the answers come in the order of the requests.

        The server may carry them out in any order: what must come after an answer belongs into a later call.
        """
        width = len(self._connections)
        responses: list[Response] = []
        try:
            for index, request in enumerate(requests[:width]):
                self._connections[index].send(request)
            for index in range(len(requests)):
                connection = self._connections[index % width]
                responses.append(connection.receive())
                if index + width < len(requests):
                    connection.send(requests[index + width])
        except BaseException:
            self.close()  # answers that nobody read would otherwise be taken for those of later requests
            raise
        return responses

    def close(self) -> None:
        """Closes the sockets; the next request opens them again."""
        for connection in self._connections:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
