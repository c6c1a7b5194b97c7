"""Models on other servers: another of these over gRPC, killed and hung, and servers that speak TLS, well or badly."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import math
import pathlib
import re
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import shop
from conftest import Server, lasting_port, until
from remote_models import (
    Authority,
    RemoteServer,
    drilled,
    grpc_server,
    http_server,
    register,
    share,
    try_to_register,
)


class World:
    """A server that asks others, and another one of the same data."""

    def __init__(self, trained: Server, folder: pathlib.Path) -> None:
        self.folder, self.dataset = folder, trained.dataset
        self.authority = Authority(folder, "ours")
        trained.wait_idle()
        for name in ("data", "other"):
            shutil.copytree(trained.data_dir, folder / name)
        self.port = lasting_port()
        self.server = self.begun("data", BOTTEGA_REMOTE_AUTHORITIES=str(self.authority.file))
        self.other = self.begun("other", BOTTEGA_GATEWAY_GRPCPORT=self.port)
        shown = json.loads(self.server.cli("model", "show", "loss", "1", "--json").stdout)
        RemoteServer.width = len(shown["signature"]["inputs"])

    def begun(self, name: str, **environment: str) -> Server:
        quiet = ("--set", "monitor.enabled=false")
        server = Server(self.folder / name, "--clock", "manual", *quiet, environment=environment).start()
        definitions = shop.write_definitions(self.folder / f"{name}-definitions", log_loss=1000)
        model = definitions / "model.yaml"
        slow = re.sub(r"latency_p99: \S+ms\b", "latency_p99: 60s", model.read_text())
        more = "fallback: {constant: 0.25}\nworkers: {timeout: 8s}\nbatching: {size_max: 32, wait_max: 1ms}"
        model.write_text(slow.replace("fallback: {constant: 0.25}", more))
        server.cli("apply", str(definitions))
        return server

    def register(self, address: str, server: Server | None = None) -> int:
        return register(server or self.server, self.dataset, self.folder, address)


@pytest.fixture(scope="module")
def world(trained: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(trained, tmp_path_factory.mktemp("remote"))
    yield world
    assert world.server.stop() == 0
    if world.other.process is not None:
        world.other.stop()


def deploy(server: Server, version: int) -> None:
    for stage in ("staging", "canary"):
        server.cli("model", "promote", "loss", str(version), stage, "--reason", "for the test")
    server.cli("deploy", "loss", str(version), "--reason", "for the test")


def body(price: float, customer: str = "c01", channel: str = "app") -> dict[str, Any]:
    return {"entities": {"customer": customer}, "features": {"channel": channel, "price": price}}


def ask(server: Server, *row: Any) -> dict[str, Any]:
    return server.post("/predict/loss", body(*row))


def hurried(server: Server, price: float) -> tuple[int, dict[str, Any]]:
    return server.request("POST", "/predict/loss", body(price), headers={"X-Request-Timeout-Ms": "700"})


def calls(server: Server) -> dict[str, float]:
    """Calls of remote models since the start, by what became of them."""
    _, page = server.request("GET", "/metrics")
    found = re.findall(r'bottega_remote_calls_total\{model="loss",outcome="(\w+)"\} (\S+)', page)
    return {word: float(count) for word, count in found}


def test_a_model_on_another_of_these_servers_over_grpc(world: World) -> None:
    server, other = world.server, world.other
    version = world.register(f"grpc://127.0.0.1:{world.port}/loss")
    deploy(server, version)
    for row in [(10, "c01", "app"), (99.5, "c02", "web"), (40, "nobody", "shop")]:
        answer = ask(server, *row)
        assert (answer["model_version"], answer["fallback"]) == (version, False), answer
        assert answer["prediction"] == ask(other, *row)["prediction"]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: ask(server, 10 + number), range(64)))
    assert not any(answer["fallback"] for answer in answers)

    # A drill goes back to the model of this process and forth to the other server, while somebody asks.
    drilled(server)

    # Killed, and started again on the same port.
    other.kill()
    answer = ask(server, 10)
    assert (answer["prediction"], answer["fallback"]) == (0.25, True), answer
    why = server.get(f"/predictions/{answer['prediction_id']}/why")
    assert "remote server" in why["fallback_reason"] and "remote" not in answer["fallback_reason"], (why, answer)
    other.start()
    until(lambda: ask(server, 10)["fallback"] is False)

    # Nobody is there any more, and nothing says so: the call ends in its time, the next ones find the server again.
    assert other.process is not None
    other.process.send_signal(signal.SIGSTOP)
    status, answer = hurried(server, 10)
    assert (status, answer["fallback_cause"]) == (200, "timeout"), answer
    other.process.send_signal(signal.SIGCONT)
    until(lambda: ask(server, 10)["fallback"] is False)

    # Its model hangs: a call that is late leaves those beside it alone.
    with http_server() as means:
        deploy(other, world.register(f"v2://127.0.0.1:{means.server_port}/means", other))
        assert ask(server, 10)["prediction"] == ask(other, 10)["prediction"] != answers[0]["prediction"]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            late = []

            def hangs() -> bool:
                # On a slow machine its time may have passed before it got there.
                late.append(pool.submit(hurried, server, 5002))
                return RemoteServer.hanging.wait(2)

            # Only then are they in calls of their own: batching gathers what comes at once.
            until(hangs)
            beside = [pool.submit(ask, server, price) for price in (20, 30, 40)]
            assert {done.result()[1]["fallback_cause"] for done in late} == {"timeout"}
            answers = [done.result() for done in beside]
            assert [answer.get("fallback_reason") for answer in answers] == [None] * 3
        RemoteServer.released.set()
        means.shutdown()
    counted = calls(server)
    assert counted["late"] >= 2 and counted["failed"] >= 1 and counted["answered"] > 64, counted
    other.stop()


class Relay:
    """Stands between a server and its callers; connections can go dead without a word."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.calls = 0
        self.is_open = threading.Event()
        self.is_open.set()
        self.generation = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller = self.listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self.target))
                for ends in ((caller, server), (server, caller)):
                    threading.Thread(target=self.carry, args=(*ends, self.generation), daemon=True).start()

    def carry(self, source: socket.socket, target: socket.socket, generation: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if source.getsockname()[1] == self.port:
                    self.calls += 1
                    self.is_open.wait(60)
                if generation == self.generation:
                    target.sendall(data)
            if generation == self.generation:
                target.shutdown(socket.SHUT_WR)


def test_connections_that_died_in_silence_cost_one_call(world: World) -> None:
    server = world.server
    with http_server() as means:
        relay = Relay(means.server_port)
        deploy(server, world.register(f"v2://127.0.0.1:{relay.port}/means"))
        assert ask(server, 10)["fallback"] is False
        with concurrent.futures.ThreadPoolExecutor(6) as pool:  # six at once, hence six connections
            relay.is_open.clear()
            asked = []
            for number in range(6):
                before = relay.calls
                asked.append(pool.submit(ask, server, 10 + number))
                until(lambda before=before: relay.calls > before)
            relay.is_open.set()
            assert not any(done.result()["fallback"] for done in asked)
        relay.generation += 1
        late = calls(server).get("late", 0)
        assert hurried(server, 10)[1]["fallback_cause"] == "timeout"
        until(lambda: ask(server, 10)["fallback"] is False)
        assert calls(server)["late"] - late <= 2, "not one call for each connection"
        relay.listener.close()
        means.shutdown()


def test_a_port_where_nobody_listens_is_said(world: World) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for scheme in ("v2s", "grpcs"):
            address = f"{scheme}://127.0.0.1:{closed.getsockname()[1]}/means"
            done = try_to_register(world.server, world.dataset, world.folder, address)
            assert done.returncode != 0 and "cannot be reached" in done.stderr, done.stderr
    assert world.server.get("/api/v1/status")


def test_a_server_that_takes_few_rows_at_once_scores_a_whole_slice(world: World, monkeypatch) -> None:
    monkeypatch.setattr(RemoteServer, "row_count_max", 8)
    monkeypatch.setattr(RemoteServer, "row_count_seen", 0)
    with http_server() as means:
        version = world.register(f"v2://127.0.0.1:{means.server_port}/means")
        rows = world.server.get(f"/api/v1/models/loss/versions/{version}")["rows"]
        assert rows["test"] > 8 and RemoteServer.row_count_seen == 8, rows


def test_models_on_servers_that_speak_tls(world: World) -> None:
    server, authority = world.server, world.authority
    certificate = authority.vouch("good")
    remote, (service, port) = http_server(certificate), grpc_server(certificate)
    for address in (f"v2s://127.0.0.1:{remote.server_port}/means", f"grpcs://127.0.0.1:{port}/means"):
        version = world.register(address)
        deploy(server, version)
        for price in (10, 20, 30):
            answer = ask(server, price)
            assert (answer["model_version"], answer["fallback"]) == (version, False), answer
            inputs = server.get(f"/predictions/{answer['prediction_id']}/why")["inputs"]
            row = [0.0 if entry["name"] == "channel" else entry["value"] for entry in inputs]
            row = np.array([[math.nan if value is None else value for value in row]], dtype=np.float32)
            assert np.float32(answer["prediction"]) == share(row)[0], (answer, inputs)
    remote.shutdown()
    service.stop(None)


def test_what_is_wrong_with_a_certificate_is_said(world: World) -> None:
    stranger = Authority(world.folder, "stranger")
    cases = [
        (stranger.vouch("unknown"), "no authority that is known here vouches for it"),
        (world.authority.vouch("named", "elsewhere.example"), "is not one of '127.0.0.1'"),
        (world.authority.vouch("old", first_day=-3, last_day=-2), "it was valid until"),
        (None, "no TLS is spoken there"),
    ]

    def refused(address: str) -> str:
        done = try_to_register(world.server, world.dataset, world.folder, address)
        assert done.returncode != 0, done.stdout
        return done.stderr

    for certificate, words in cases:
        remote, (service, port) = http_server(certificate), grpc_server(certificate)
        for address in (f"v2s://127.0.0.1:{remote.server_port}/means", f"grpcs://127.0.0.1:{port}/means"):
            said = refused(address)
            assert words in said and "remote server" in said, (address, said)
        if words.startswith("no authority"):  # it is asked in clear text
            for address in (f"v2://127.0.0.1:{remote.server_port}/means", f"grpc://127.0.0.1:{port}/means"):
                assert "remote server" in refused(address)
        remote.shutdown()
        service.stop(None)


def test_another_protocol_ends_the_call_before_its_time(world: World) -> None:
    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.recv(1)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n" * 10)
            while connection.recv(1 << 20):  # it is left open until the other side ends it
                pass

    with socket.create_server(("127.0.0.1", 0)) as odd:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(odd.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        address = f"grpc://127.0.0.1:{odd.getsockname()[1]}/means"
        done = try_to_register(world.server, world.dataset, world.folder, address)
        assert done.returncode != 0 and "does not answer in HTTP/2" in done.stderr, done.stderr
        assert "v2://" in done.stderr and "(file:" not in done.stderr, done.stderr


def test_a_model_that_asks_itself_is_noticed(world: World) -> None:
    if world.other.process is None:
        world.other.start()
    port = world.server.url.rsplit(":", 1)[1]
    for server, address in ((world.server, f"v2://127.0.0.1:{port}"), (world.other, f"grpc://127.0.0.1:{world.port}")):
        server.cli("deploy", "loss", "1", "--reason", "for the test")
        version = world.register(f"{address}/loss", server)
        deploy(server, version)
        server.wait_idle()
        before = server.get("/api/v1/status")["predictions"]
        answer = ask(server, 10)
        server.wait_idle()
        asked = server.get("/api/v1/status")["predictions"] - before
        assert (answer["prediction"], asked) == (0.25, 5), "the request, and four that came through a remote model"

        status, answer = server.request("POST", "/predict/loss", body(10), headers={"X-Bottega-Hops": "4"})
        assert (status, answer["fallback"], answer["fallback_cause"]) == (200, True, "model_error"), answer
        why = server.get(f"/predictions/{answer['prediction_id']}/why")
        assert "came through 4 calls of remote models" in why["fallback_reason"], why
        # Whoever else asks is answered as before: that was no fault of the other server.
        assert calls(server).get("breaker", 0) == 0
        server.cli("deploy", "loss", "1", "--reason", "for the test")
