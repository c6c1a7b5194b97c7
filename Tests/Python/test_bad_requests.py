"""Bytes that are no HTTP, foreign host names, and paths that climb."""

from __future__ import annotations

import pathlib
import re
import socket
import urllib.parse

import pytest
from conftest import Server


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


@pytest.mark.parametrize("moment", ["2013", "", "2013-13-01", "yesterday", "99999-01-01T00:00:00Z", "-5"])
def test_what_is_no_moment_is_none(moment: str, server: Server) -> None:
    """A year alone, above all, is not some seconds after 1970."""
    question = {"training_set": "none", "from": moment, "to": "2013-07-01"}
    asked = [
        server.request("POST", "/api/v1/datasets", question),
        server.request("GET", f"/api/v1/models/none/live?at={moment}"),
    ]
    for status, answer in asked[: 1 if moment == "" else 2]:
        assert status == 422 and "must be a time such as" in answer["error"]["message"], answer
