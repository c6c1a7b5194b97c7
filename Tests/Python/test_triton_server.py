"""The same calls of `tritonclient` to the real Triton and to the program: what differs, and that nothing else does.

The real Triton lives in an environment of its own: `make test-triton` makes it and names its Python in
BOTTEGA_TRITON_PYTHON. Without that the tests are skipped. BOTTEGA_TRITON_REPORT names a file for the differences.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import pathlib
import queue
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from conftest import ROOT, Server, until
from test_inference_protocol import CHANNELS, CUSTOMERS, PRICES, free_port, served  # noqa: F401
from tritonclient.utils import InferenceServerException

sys.path.insert(0, str(ROOT / "tools"))
from triton_peer import Triton, configuration, repository, row_key

PYTHON = os.environ.get("BOTTEGA_TRITON_PYTHON", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="BOTTEGA_TRITON_PYTHON names no Python; 'make test-triton' does")

KINDS = {"BYTES": np.object_, "FP64": np.float64, "FP32": np.float32, "INT64": np.int64, "INT32": np.int32}
MODULES = {"http": triton, "http aio": triton_aio, "grpc": triton_grpc, "grpc aio": triton_grpc_aio}
# What a prediction has of its own, and what the peers call themselves.
VARYING = {"prediction_id"}


class Maker:
    """Makes arguments for one of the clients."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.is_http = module in (triton, triton_aio)

    def tensor(self, name: str, values: Any, datatype: str, shape: list[int] | None = None, binary: bool = True) -> Any:
        array = np.array(values, dtype=KINDS[datatype])
        array = array.reshape(shape if shape is not None else (len(values), -1))
        made = self.module.InferInput(name, list(array.shape), datatype)
        if self.is_http:
            made.set_data_from_numpy(array, binary_data=binary)
        else:
            made.set_data_from_numpy(array)
        return made

    def inputs(self, rows: int = 4, binary: bool = True) -> list[Any]:
        return [
            self.tensor("customer", CUSTOMERS[:rows], "BYTES", binary=binary),
            self.tensor("channel", CHANNELS[:rows], "BYTES", binary=binary),
            self.tensor("price", PRICES[:rows], "FP64", binary=binary),
        ]

    def with_price(self, price: Any) -> list[Any]:
        return [*self.inputs(1)[:2], price]

    def output(self, name: str, classes: int = 0, binary: bool = True) -> Any:
        if self.is_http:
            return self.module.InferRequestedOutput(name, binary_data=binary, class_count=classes)
        return self.module.InferRequestedOutput(name, class_count=classes)


Arguments = Callable[[Maker], tuple[tuple[Any, ...], dict[str, Any]]]


@dataclasses.dataclass
class Case:
    """One call, by the client's method and what it is given."""

    name: str
    method: str
    make: Arguments
    only: str = ""  # clients that have it, by the beginning of their names


def call(name: str, method: str, *arguments: Any, only: str = "", **keywords: Any) -> Case:
    return Case(name, method, lambda _: (arguments, keywords), only)


def infer(name: str, make: Callable[[Maker], list[Any]], only: str = "", model: str = "loss", **keywords: Any) -> Case:
    def arguments(maker: Maker) -> tuple[tuple[Any, ...], dict[str, Any]]:
        made = {key: value(maker) if callable(value) else value for key, value in keywords.items()}
        return (model, make(maker)), made

    return Case(name, "infer", arguments, only)


def outputs(*names: str, classes: int = 0, binary: bool = True) -> Callable[[Maker], list[Any]]:
    return lambda maker: [maker.output(name, classes, binary) for name in names]


GOOD = Maker.inputs
# Not among them: classes of a BYTES output, of which this Triton dies.
CASES = [
    call("live", "is_server_live"),
    call("ready", "is_server_ready"),
    call("model ready", "is_model_ready", "loss"),
    call("version ready", "is_model_ready", "loss", "1"),
    call("unknown version ready", "is_model_ready", "loss", "7"),
    call("unknown model ready", "is_model_ready", "nobody"),
    call("version that is no number ready", "is_model_ready", "loss", "one"),
    call("server metadata", "get_server_metadata"),
    call("metadata", "get_model_metadata", "loss"),
    call("metadata of a version", "get_model_metadata", "loss", "1"),
    call("metadata of an unknown model", "get_model_metadata", "nobody"),
    call("metadata of an unknown version", "get_model_metadata", "loss", "7"),
    call("metadata of a version that is no number", "get_model_metadata", "loss", "one"),
    call("configuration", "get_model_config", "loss"),
    call("configuration of an unknown model", "get_model_config", "nobody"),
    call("configuration of an unknown version", "get_model_config", "loss", "7"),
    call("index", "get_model_repository_index"),
    infer("one row", lambda m: m.inputs(1)),
    infer("four rows", GOOD),
    infer("JSON both ways", lambda m: m.inputs(binary=False), only="http", outputs=outputs("prediction", binary=False)),
    infer("JSON in, binary out", lambda m: m.inputs(binary=False), only="http", outputs=outputs("prediction")),
    infer("binary in, JSON out", GOOD, only="http", outputs=outputs("prediction", "fallback", binary=False)),
    infer("JSON and binary in", lambda m: [*m.inputs(1)[:2], *m.inputs(1, binary=False)[2:]], only="http"),
    infer("texts in JSON out", GOOD, only="http", outputs=outputs("variant", "model_version", binary=False)),
    infer("some outputs", GOOD, outputs=outputs("prediction", "model_version")),
    infer("outputs in another order", GOOD, outputs=outputs("fallback", "variant", "prediction")),
    infer("the same output twice", GOOD, outputs=outputs("prediction", "prediction")),
    infer("an output that does not exist", GOOD, outputs=outputs("predictions")),
    infer("a request's name", GOOD, request_id="request 17"),
    infer("inputs in another order", lambda m: m.inputs()[::-1]),
    infer("a version", GOOD, model_version="1"),
    infer("an unknown version", GOOD, model_version="7"),
    infer("a version that is no number", GOOD, model_version="one"),
    infer("an unknown model", GOOD, model="nobody"),
    infer("an unknown input", lambda m: [*m.inputs(), m.tensor("colour", ["red"] * 4, "BYTES")]),
    infer("a missing input", lambda m: m.inputs()[:2]),
    infer("no inputs", lambda m: []),
    infer("the same input twice", lambda m: [*m.inputs(), *m.inputs()[:1]]),
    infer("a number as text", lambda m: m.with_price(m.tensor("price", ["10"], "BYTES"))),
    infer("a text as a number", lambda m: [m.tensor("channel", [1.0], "FP64"), *m.inputs(1)[::2]]),
    infer("another type of number", lambda m: m.with_price(m.tensor("price", [10.0], "FP32"))),
    infer("a whole number for another", lambda m: m.with_price(m.tensor("price", [10], "INT64"))),
    infer("too many columns", lambda m: m.with_price(m.tensor("price", [10.0, 11.0], "FP64", [1, 2]))),
    infer("too many dimensions", lambda m: m.with_price(m.tensor("price", [10.0], "FP64", [1, 1, 1]))),
    infer("too few dimensions", lambda m: m.with_price(m.tensor("price", [10.0], "FP64", [1]))),
    infer("no dimensions", lambda m: m.with_price(m.tensor("price", 10.0, "FP64", []))),
    infer("other numbers of rows", lambda m: [*m.inputs(2)[:2], *m.inputs(1)[2:]]),
    infer("no rows", lambda m: [m.tensor(n, [], t, [0, 1]) for n, t in
                                [("customer", "BYTES"), ("channel", "BYTES"), ("price", "FP64")]]),
    infer("too many rows", lambda m: [m.tensor("customer", ["c01"] * 1001, "BYTES"),
                                      m.tensor("channel", ["app"] * 1001, "BYTES"),
                                      m.tensor("price", [10.0] * 1001, "FP64")]),
    infer("a class", GOOD, outputs=outputs("prediction", classes=1)),
    infer("more classes than there are", GOOD, outputs=outputs("prediction", classes=3)),
    infer("a class, in JSON", GOOD, only="http", outputs=outputs("prediction", classes=1, binary=False)),
    infer("gzip", GOOD, only="http", request_compression_algorithm="gzip"),
    infer("deflate", GOOD, only="http", request_compression_algorithm="deflate"),
    infer("gzip back", GOOD, only="http", response_compression_algorithm="gzip"),
    infer("deflate back", GOOD, only="http", response_compression_algorithm="deflate"),
    infer("gzip", GOOD, only="grpc", compression_algorithm="gzip"),
    infer("deflate", GOOD, only="grpc", compression_algorithm="deflate"),
    infer("a high priority", GOOD, priority=1),
    infer("a low priority", GOOD, priority=7),
    infer("time enough", GOOD, timeout=60_000_000),
    infer("parameters", GOOD, parameters={"purpose": "a test", "number": 7, "flag": True}),
    infer("a parameter that is reserved", GOOD, parameters={"priority": 7}),
    infer("a sequence", GOOD, sequence_id=17, sequence_start=True, sequence_end=True),
    infer("time enough on the client", GOOD, only="grpc", client_timeout=60),
    call("load", "load_model", "loss"),
    call("load an unknown model", "load_model", "nobody"),
    call("load with a configuration", "load_model", "loss", config=json.dumps({"max_batch_size": 8})),
    call("unload", "unload_model", "loss"),
    call("unload an unknown model", "unload_model", "nobody"),
    call("ready after unload", "is_model_ready", "loss"),
    infer("after unload", GOOD),
    call("metadata after unload", "get_model_metadata", "loss"),
    call("index after unload", "get_model_repository_index"),
    call("load again", "load_model", "loss"),
    infer("after load", GOOD),
    call("statistics", "get_inference_statistics"),
    call("statistics of a model", "get_inference_statistics", "loss"),
    call("statistics of a version", "get_inference_statistics", "loss", "1"),
    call("statistics of an unknown model", "get_inference_statistics", "nobody"),
    call("statistics of an unknown version", "get_inference_statistics", "loss", "7"),
    call("shared memory", "get_system_shared_memory_status"),
    call("a region of shared memory", "get_system_shared_memory_status", "nowhere"),
    call("shared memory of a card", "get_cuda_shared_memory_status"),
    call("an unknown region", "unregister_system_shared_memory", "nowhere"),
    call("all regions", "unregister_system_shared_memory"),
    call("a region that is not there", "register_system_shared_memory", "nowhere", "/nowhere-at-all", 64),
    call("trace settings", "get_trace_settings"),
    call("log settings", "get_log_settings"),
]  # fmt: skip

# Where the two differ, by the case (and the client, where only some do), and why. docs/inference.md says so too.
TAKEN = "numbers come as any type of number, and with the shape [rows] too"
UNREADABLE = "what cannot be read is 400 here, 500 there"
REPOSITORY = "versions come from the registry: nothing is loaded by way of the protocol"
NONE = "there is no such thing here"
DIFFERENCES: dict[str, str] = {
    "another type of number": TAKEN,
    "a whole number for another": TAKEN,
    "too few dimensions": TAKEN,
    "load an unknown model": REPOSITORY,
    "load with a configuration": REPOSITORY,
    "load with an unknown parameter (body)": UNREADABLE,
    "a region that is not there": NONE,
    "trace settings": NONE,
    "log settings": NONE,
    "no JSON (body)": UNREADABLE,
    "a list (body)": UNREADABLE,
    "no inputs (body)": UNREADABLE,
    "too much data (body)": UNREADABLE,
    "text in place of a number (body)": UNREADABLE,
    "null in place of a number (body)": UNREADABLE,
    "a negative extent (body)": UNREADABLE,
    "no shape (body)": UNREADABLE,
    "a priority in words (body)": UNREADABLE,
    "a negative timeout (body)": UNREADABLE,
}


def shape_of(value: Any) -> Any:
    """An answer with its values, without what is a server's own."""
    if isinstance(value, (triton.InferResult, triton_grpc.InferResult)):
        response = value.get_response()
        if not isinstance(response, dict):
            response = value.get_response(as_json=True)
        names = [output["name"] for output in response["outputs"]]
        tensors = {}
        for name in names:
            array = value.as_numpy(name)
            texts = [item.decode() if isinstance(item, bytes) else item for item in array.reshape(-1).tolist()]
            tensors[name] = (array.shape, array.dtype.name, len(texts) if name in VARYING else texts)
        described = [
            (output["name"], output["datatype"], [int(extent) for extent in output["shape"]],
             sorted({**output.get("parameters", {})}) if names.count(output["name"]) == 1 else [])
            for output in response["outputs"]
        ]  # fmt: skip
        rest = {key: value for key, value in response.items() if key not in ("outputs", "raw_output_contents")}
        # Which output comes first is left to the server.
        return {"response": rest, "outputs": sorted(described), "tensors": tensors}
    return value


def normalised(case: str, value: Any) -> Any:
    """What of an answer is the protocol's, not the server's: fields and kinds where values are its own."""
    if isinstance(value, dict):
        if "statistics" in case:
            return fields(value)
        if "metadata" in case and "extensions" in value:
            return fields({**value, "extensions": ["text"]})
        if "configuration" in case:
            config = value.get("config", value)
            return {key: config.get(key) for key in ("name", "max_batch_size")} | {
                kind: [(t["name"], t["data_type"], [int(d) for d in t["dims"]]) for t in config[kind]]
                for kind in ("input", "output")
            }
        value = {key: "…" if key == "platform" else item for key, item in value.items()}
    return value


def fields(value: Any) -> Any:
    """The kinds of the values: numbers of a server's own are not compared."""
    match value:
        case dict() if value.keys() <= {"count", "ns"}:  # over gRPC a zero is left out
            return "duration"
        case dict():
            return {key: fields(item) for key, item in sorted(value.items())}
        case list():
            return [fields(value[0])] if value else []
        case _:
            return type(value).__name__


@dataclasses.dataclass
class Outcome:
    """What a client was told."""

    status: str
    value: Any
    words: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outcome) and (self.status, self.value) == (other.status, other.value)


def outcome(case: str, work: Callable[[], Any]) -> Outcome:
    try:
        return Outcome("ok", normalised(case, shape_of(work())))
    except InferenceServerException as problem:
        return Outcome(str(problem.status()), None, str(problem.message()))
    except AttributeError as problem:
        return Outcome("AttributeError", None, str(problem))


def keywords(case: Case, transport: str, given: dict[str, Any]) -> dict[str, Any]:
    reads = case.method.startswith("get_")
    return {**given, "as_json": True} if transport.startswith("grpc") and reads else given


def clients(transport: str) -> bool:
    return transport.endswith("aio")


async def ask_later(transport: str, url: str, case: Case) -> Any:
    module = MODULES[transport]
    async with module.InferenceServerClient(url) as client:
        arguments, given = case.make(Maker(module))
        return shape_of(await getattr(client, case.method)(*arguments, **keywords(case, transport, given)))


def ask(transport: str, url: str, case: Case) -> Outcome:
    if clients(transport):
        return outcome(case.name, lambda: asyncio.run(ask_later(transport, url, case)))
    module = MODULES[transport]
    with module.InferenceServerClient(url) as client:
        arguments, given = case.make(Maker(module))
        return outcome(case.name, lambda: getattr(client, case.method)(*arguments, **keywords(case, transport, given)))


class Beside:
    """Both servers and what was seen."""

    def __init__(self, ours: dict[str, str], peer: Triton) -> None:
        self.ours, self.peer = ours, peer
        self.theirs = {"http": peer.url, "grpc": peer.grpc}
        self.lines: list[str] = []

    def compare(self, name: str, transport: str, ask: Callable[[str], Outcome]) -> None:
        kind = transport.split()[0]
        ours = ask(self.ours[kind])
        try:
            end = time.monotonic() + 30
            theirs = ask(self.theirs[kind])
            while "UNLOADING" in repr(theirs) and time.monotonic() < end:  # it answers before it has unloaded
                time.sleep(0.05)
                theirs = ask(self.theirs[kind])
        except OSError as problem:
            theirs = Outcome(type(problem).__name__, None)
        if not self.peer.is_running:
            self.peer.stop()
            self.peer.start()
            theirs = Outcome("the server died", None)
        key = next((key for key in (f"{transport}: {name}", f"{kind}: {name}", name) if key in DIFFERENCES), None)
        same = ours == theirs
        if not same or ours.words != theirs.words:
            self.lines.append(
                json.dumps({
                    "case": f"{transport}: {name}", "same": same, "triton": repr(theirs), "bottega": repr(ours),
                    "why": DIFFERENCES.get(key or "", "")}, ensure_ascii=False))  # fmt: skip
        if key is None:
            assert ours == theirs, f"{transport}: {name}\n  Triton  {theirs}\n  Bottega {ours}"
        else:
            assert ours != theirs, f"{key} is listed as a difference and is none"


@pytest.fixture(scope="module")
def beside(served: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:  # noqa: F811
    folder = tmp_path_factory.mktemp("triton")
    known, metadata = served.get("/v2/models/loss/config"), served.get("/v2/models/loss")
    answers = {}
    for customer, channel, price in zip(CUSTOMERS, CHANNELS, PRICES, strict=True):
        row = {"customer": customer, "channel": channel, "price": price}
        body = {"entities": {"customer": customer}, "features": {"channel": channel, "price": price}}
        answer = served.post("/predict/loss", body)
        answers[row_key(row)] = {
            "prediction": float(np.float32(answer["prediction"])), "prediction_id": "an identifier", "model_version": 1,
            "variant": "primary", "fallback": False}  # fmt: skip
    answers[""] = {**next(iter(answers.values())), "prediction": -1.0}
    repository(folder / "models", known, metadata, answers)
    peer = Triton(PYTHON, folder, folder / "models", free_port(), free_port()).start()
    ours = {
        "http": served.url.removeprefix("http://"),
        "grpc": f"127.0.0.1:{served.environment['BOTTEGA_GATEWAY_GRPCPORT']}",
    }
    both = Beside(ours, peer)
    yield both
    peer.stop()
    if report := os.environ.get("BOTTEGA_TRITON_REPORT"):
        pathlib.Path(report).write_text("\n".join(both.lines) + "\n")


@pytest.mark.parametrize("transport", MODULES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_call_of_the_client(beside: Beside, case: Case, transport: str) -> None:
    if not transport.startswith(case.only):
        pytest.skip("another client's")
    beside.compare(case.name, transport, lambda url: ask(transport, url, case))


# Bodies that the client would not send.
PRICE = {"name": "price", "shape": [1, 1], "datatype": "FP64"}
TEXTS = [
    {"name": "customer", "shape": [1, 1], "datatype": "BYTES", "data": ["c01"]},
    {"name": "channel", "shape": [1, 1], "datatype": "BYTES", "data": ["app"]},
]


def body(price: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": [*TEXTS, {**PRICE, **price}], **more}).encode()


RAW: dict[str, tuple[str, str, bytes | None, dict[str, str]]] = {
    "JSON alone": ("POST", "models/loss/infer", body({"data": [10.0]}), {}),
    "nested data": ("POST", "models/loss/infer", body({"data": [[10.0]]}), {}),
    "a whole number in JSON": ("POST", "models/loss/infer", body({"data": [10]}), {}),
    "a content type": ("POST", "models/loss/infer", body({"data": [10.0]}), {"Content-Type": "application/json"}),
    "a name": ("POST", "models/loss/infer", body({"data": [10.0]}, id="seven"), {}),
    "an empty name": ("POST", "models/loss/infer", body({"data": [10.0]}, id=""), {}),
    "a member that is not known": ("POST", "models/loss/infer", body({"data": [10.0]}, colour="red"), {}),
    "an empty body": ("POST", "models/loss/infer", b"", {}),
    "no JSON": ("POST", "models/loss/infer", b"{", {}),
    "a list": ("POST", "models/loss/infer", b"[]", {}),
    "no inputs": ("POST", "models/loss/infer", b"{}", {}),
    "no data": ("POST", "models/loss/infer", body({}), {}),
    "too much data": ("POST", "models/loss/infer", body({"data": [1.0, 2.0]}), {}),
    "text in place of a number": ("POST", "models/loss/infer", body({"data": ["ten"]}), {}),
    "null in place of a number": ("POST", "models/loss/infer", body({"data": [None]}), {}),
    "an unknown type": ("POST", "models/loss/infer", body({"datatype": "FP128", "data": [1.0]}), {}),
    "a negative extent": ("POST", "models/loss/infer", body({"shape": [-1, 1], "data": [1.0]}), {}),
    "no shape": ("POST", "models/loss/infer", body({"shape": None, "data": [1.0]}), {}),
    "binary data that is not there": (
        "POST", "models/loss/infer", body({"parameters": {"binary_data_size": 8}}), {}),
    "a length of JSON beyond the body": (
        "POST", "models/loss/infer", body({"data": [10.0]}), {"Inference-Header-Content-Length": "9999"}),
    "a length of JSON that is no number": (
        "POST", "models/loss/infer", body({"data": [10.0]}), {"Inference-Header-Content-Length": "many"}),
    "bytes behind the tensors": (
        "POST", "models/loss/infer", body({"data": [10.0]}) + b"xyz",
        {"Inference-Header-Content-Length": str(len(body({"data": [10.0]})))}),
    "no gzip": ("POST", "models/loss/infer", b"\x1f\x8b", {"Content-Encoding": "gzip"}),
    "a priority in words": ("POST", "models/loss/infer", body({"data": [10.0]}, parameters={"priority": "high"}), {}),
    "a negative timeout": ("POST", "models/loss/infer", body({"data": [10.0]}, parameters={"timeout": -1}), {}),
    "a parameter that is a list": ("POST", "models/loss/infer", body({"data": [10.0]}, parameters={"p": [1]}), {}),
    "infer by GET": ("GET", "models/loss/infer", None, {}),
    "metadata by POST": ("POST", "models/loss", b"", {}),
    "an unknown route": ("GET", "models/loss/nothing", None, {}),
    "an index with a list": ("POST", "repository/index", b"[]", {}),
    "an index of what is ready": ("POST", "repository/index", b'{"ready":true}', {}),
    "an index without a body": ("POST", "repository/index", b"", {}),
    "load with an unknown parameter": (
        "POST", "repository/models/loss/load", b'{"parameters":{"colour":"red"}}', {}),
    "unload with the models that depend on it": (
        "POST", "repository/models/nobody/unload", b'{"parameters":{"unload_dependents":true}}', {}),
    "live": ("GET", "health/live", None, {}),
    "an unknown model's readiness": ("GET", "models/nobody/ready", None, {}),
}  # fmt: skip


def raw(url: str, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Outcome:
    request = urllib.request.Request(f"http://{url}/v2/{path}", data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            text, status, kind = response.read(), response.status, response.headers.get("Content-Type")
    except urllib.error.HTTPError as problem:
        return Outcome(str(problem.code), None, problem.read().decode())
    value = json.loads(text) if text and kind == "application/json" else text.decode()
    if isinstance(value, dict) and "outputs" in value:
        for output in value["outputs"]:
            if output["name"] in VARYING:
                output["data"] = len(output["data"])
            elif output["datatype"] == "FP32":  # Triton writes the digits of the double
                output["data"] = [float(np.float32(number)) for number in output["data"]]
    return Outcome(str(status), (kind, value))


@pytest.mark.parametrize("name", RAW)
def test_a_body_of_http(beside: Beside, name: str) -> None:
    beside.compare(f"{name} (body)", "http", lambda url: raw(url, *RAW[name]))


# Streams: some requests, and what comes of each.
STREAMS: dict[str, tuple[list[dict[str, Any]], bool]] = {
    "three requests": ([{"request_id": str(number)} for number in range(3)], False),
    "a fault among others": ([{"request_id": "a"}, {"request_id": "b", "model_name": "nobody"}, {}], False),
    "a missing input": ([{"inputs": "missing"}, {}], False),
    "an output that does not exist": ([{"outputs": "unknown", "request_id": "x"}, {}], False),
    "marks of the end": ([{"request_id": "m"}], True),
    "a priority": ([{"priority": 1, "timeout": 60_000_000}], False),
}


def stream_arguments(maker: Maker, given: dict[str, Any]) -> dict[str, Any]:
    made = {"model_name": "loss", "inputs": maker.inputs(), **given}
    if given.get("inputs") == "missing":
        made["inputs"] = maker.inputs()[:1]
    if given.get("outputs") == "unknown":
        made["outputs"] = [maker.output("predictions")]
    return made


def stream(url: str, requests: list[dict[str, Any]], marks: bool) -> Outcome:
    maker, answers = Maker(triton_grpc), queue.Queue[Any]()
    with triton_grpc.InferenceServerClient(url) as client:
        client.start_stream(callback=lambda result, error: answers.put((result, error)))
        found = []
        for given in requests:  # one after another: Triton may answer in another order
            extra = {"enable_empty_final_response": True} if marks else {}
            client.async_stream_infer(**stream_arguments(maker, given), **extra)
            result, error = answers.get(timeout=60)
            found.append(shape_of(result) if error is None else ("error", str(error.status())))
        client.stop_stream()
    return Outcome("ok", found)


async def stream_later(url: str, requests: list[dict[str, Any]], marks: bool) -> Outcome:
    maker = Maker(triton_grpc_aio)
    found = []

    async def asked() -> AsyncIterator[dict[str, Any]]:
        for given in requests:
            extra = {"enable_empty_final_response": True} if marks else {}
            yield {**stream_arguments(maker, given), **extra}

    async with triton_grpc_aio.InferenceServerClient(url) as client:
        async for result, error in client.stream_infer(asked()):
            found.append(shape_of(result) if error is None else ("error", str(error.status())))
    return Outcome("ok", sorted(found, key=repr))


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream(beside: Beside, name: str) -> None:
    beside.compare(f"{name} (stream)", "grpc", lambda url: stream(url, *STREAMS[name]))


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_of_the_asynchronous_client(beside: Beside, name: str) -> None:
    beside.compare(f"{name} (stream)", "grpc aio", lambda url: asyncio.run(stream_later(url, *STREAMS[name])))


MEANS = """
import numpy as np
import triton_python_backend_utils as backend


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            rows = backend.get_input_tensor_by_name(request, "x").as_numpy()
            means = 1 / (1 + np.abs(np.nansum(rows, axis=1, keepdims=True, dtype=np.float64)))
            answers.append(backend.InferenceResponse([backend.Tensor("mean", means.astype(np.float32))]))
        return answers
"""


def test_a_version_of_ours_may_be_a_model_of_the_real_triton(
    served: Server,  # noqa: F811
    tmp_path: pathlib.Path,
) -> None:
    """Over both of its ports: registered, deployed, predicted; gone, and back again."""
    import mlflow
    import shop

    definitions = shop.write_definitions(tmp_path / "definitions", log_loss=1000)
    model = definitions / "model.yaml"
    model.write_text(model.read_text().replace("latency_p99: 50ms", "latency_p99: 60s"))
    served.cli("apply", str(definitions))
    tensors = {"input": [("x", 9)], "output": [("mean", 1)]}
    known = {
        kind: [{"name": name, "data_type": "TYPE_FP32", "dims": [width]} for name, width in list]
        for kind, list in tensors.items()
    }
    (tmp_path / "models" / "means" / "1").mkdir(parents=True)
    (tmp_path / "models" / "means" / "1" / "model.py").write_text(MEANS)
    (tmp_path / "models" / "means" / "config.pbtxt").write_text(
        configuration({"name": "means", "max_batch_size": 1000, **known})
    )
    peer = Triton(PYTHON, tmp_path, tmp_path / "models", free_port(), free_port()).start()

    def ask() -> dict[str, Any]:
        return served.post(
            "/predict/loss", {"entities": {"customer": "c01"}, "features": {"channel": "web", "price": 20}}
        )

    mlflow.set_tracking_uri(served.url)
    mlflow.set_experiment("triton")
    try:
        for scheme, address in (("v2", peer.url), ("grpc", peer.grpc)):
            (tmp_path / "model.v2").write_text(f"{scheme}://{address}/means/versions/1\n")
            with mlflow.start_run() as run:
                mlflow.log_artifact(str(tmp_path / "model.v2"))
            served.cli("model", "register", "loss", "--run", run.info.run_id, "--dataset", served.dataset)
            version = served.get("/api/v1/models/loss")["versions"][-1]["version"]
            for stage in ("staging", "canary"):
                served.cli("model", "promote", "loss", str(version), stage, "--reason", "for the test")
            served.cli("deploy", "loss", str(version), "--reason", "for the test")
            answer = ask()
            assert (answer["model_version"], answer["fallback"]) == (version, False), answer
            inputs = served.get(f"/predictions/{answer['prediction_id']}/why")["inputs"]
            row = [2.0 if entry["name"] == "channel" else entry["value"] for entry in inputs]
            total = sum(np.float64(np.float32(value)) for value in row if value is not None)
            assert answer["prediction"] == pytest.approx(1 / (1 + abs(total)), rel=1e-6), (answer, inputs)
        peer.stop()
        assert ask()["fallback"] is True
        peer.start()
        until(lambda: ask()["fallback"] is False)
    finally:
        peer.stop()
