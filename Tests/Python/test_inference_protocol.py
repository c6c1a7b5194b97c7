"""The Open Inference Protocol V2 by Triton's own client: unmodified, over HTTP and gRPC, blocking and asynchronous."""

from __future__ import annotations

import asyncio
import gzip
import json
import pathlib
import queue
import struct
import subprocess
import urllib.request
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import shop
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from conftest import Server, free_port
from tritonclient.grpc import model_config_pb2 as triton_model_config
from tritonclient.grpc import service_pb2 as triton_service
from tritonclient.grpc import service_pb2_grpc as triton_stub
from tritonclient.utils import InferenceServerException

CHANNELS = ["app", "web", "shop", "app"]
PRICES = [10.0, 99.5, 40.0, 12.25]
CUSTOMERS = ["c01", "c02", "nobody", "c03"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, binary: str) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("inference")
    environment = {"BOTTEGA_GATEWAY_GRPCPORT": free_port()}
    server = Server(folder / "data", "--clock", "manual", environment=environment).start()
    server.post("/api/v1/clock", {"now": shop.START + 27 * shop.DAY})
    server.cli("apply", str(shop.write_definitions(folder / "definitions", log_loss=0.7)))
    history = shop.history(27)
    for name in ("payments", "orders", "outcomes"):
        server.cli("ingest", name, str(shop.write_csv(folder / f"{name}.csv", getattr(history, name))))
    span = ["--from", shop.text(shop.START + 8 * shop.DAY), "--to", shop.text(shop.START + 26 * shop.DAY)]
    dataset = json.loads(server.cli("dataset", "build", "loss", *span, "--json").stdout)["dataset"]
    server.dataset = dataset
    job = server.post("/training-jobs", {"model": "loss", "dataset": dataset})
    server.cli("model", "register", "loss", "--job", job["id"])
    for stage in ("staging", "canary"):
        server.cli("model", "promote", "loss", "1", stage, "--reason", "for the test")
    server.cli("deploy", "loss", "1", "--reason", "for the test")
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def client(served: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(served.url.removeprefix("http://"), network_timeout=60) as client:
        yield client


def tensor(module: Any, name: str, values: list[Any], datatype: str, binary: bool | None = True) -> Any:
    kinds = {"BYTES": np.object_, "FP64": np.float64, "FP32": np.float32, "INT64": np.int64}
    array = np.array(values, dtype=kinds[datatype]).reshape(len(values), -1)
    made = module.InferInput(name, list(array.shape), datatype)
    if binary is None:
        made.set_data_from_numpy(array)
    else:
        made.set_data_from_numpy(array, binary_data=binary)
    return made


def inputs(module: Any = triton, binary: bool | None = True) -> list[Any]:
    return [
        tensor(module, "customer", CUSTOMERS, "BYTES", binary),
        tensor(module, "channel", CHANNELS, "BYTES", binary),
        tensor(module, "price", PRICES, "FP64", binary),
    ]


def expected(server: Server) -> list[np.float32]:
    instances = [
        {"entities": {"customer": customer}, "features": {"channel": channel, "price": price}}
        for customer, channel, price in zip(CUSTOMERS, CHANNELS, PRICES, strict=True)
    ]
    answers = server.post("/predict/loss", {"instances": instances})["predictions"]
    return [np.float32(answer["prediction"]) for answer in answers]


def test_the_server_says_what_it_is(served: Server, client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata["name"] == "bottega"
    assert {"binary_tensor_data", "model_repository", "statistics"} <= set(metadata["extensions"])


def test_a_model_says_what_it_takes_and_gives(client: triton.InferenceServerClient) -> None:
    assert client.is_model_ready("loss")
    assert client.is_model_ready("loss", "1")
    assert not client.is_model_ready("loss", "2")
    assert not client.is_model_ready("los")
    metadata = client.get_model_metadata("loss")
    assert (metadata["name"], metadata["versions"]) == ("loss", ["1"])
    assert metadata["inputs"][:3] == [
        {"name": "customer", "datatype": "BYTES", "shape": [-1, 1]},
        {"name": "channel", "datatype": "BYTES", "shape": [-1, 1]},
        {"name": "price", "datatype": "FP64", "shape": [-1, 1]},
    ]
    assert metadata["inputs"][-1] == {"name": "features", "datatype": "FP32", "shape": [-1, 9]}
    assert metadata["outputs"][0] == {"name": "prediction", "datatype": "FP32", "shape": [-1, 1]}
    configuration = client.get_model_config("loss", "1")
    assert configuration["max_batch_size"] == 1000
    required = [tensor["name"] for tensor in configuration["input"] if not tensor["optional"]]
    assert required == ["customer", "channel", "price"]
    with pytest.raises(InferenceServerException, match="unknown model: 'los'") as raised:
        client.get_model_metadata("los")
    assert raised.value.status() == "404"


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_a_batch_has_the_bits_of_predict(
    served: Server, client: triton.InferenceServerClient, binary_in: bool, binary_out: bool
) -> None:
    names = ["prediction", "prediction_id", "model_version", "fallback", "variant"]
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in names]
    result = client.infer("loss", inputs(binary=binary_in), outputs=outputs, request_id="batch 7")
    assert result.get_response()["id"] == "batch 7"
    assert result.get_response()["model_version"] == "1"
    assert [output["name"] for output in result.get_response()["outputs"]] == names
    predictions = result.as_numpy("prediction")
    assert (predictions.shape, predictions.dtype) == ((4, 1), np.float32)
    assert predictions[:, 0].tolist() == [float(value) for value in expected(served)]
    assert result.as_numpy("model_version")[:, 0].tolist() == [1, 1, 1, 1]
    assert result.as_numpy("fallback")[:, 0].tolist() == [False] * 4
    for place, raw in enumerate(result.as_numpy("prediction_id")[:, 0]):
        record = served.get(f"/predictions/{raw.decode() if isinstance(raw, bytes) else raw}/why")
        assert np.float32(record["prediction"]) == predictions[place, 0]
        assert record["entities"] == {"customer": CUSTOMERS[place]}


def test_all_outputs_come_where_none_are_asked_for(client: triton.InferenceServerClient) -> None:
    result = client.infer("loss", inputs(), model_version="1", parameters={"purpose": "a test"})
    assert result.as_numpy("prediction").shape == (4, 1)
    assert all(len(value) > 10 for value in result.as_numpy("prediction_id")[:, 0])
    assert result.as_numpy("variant")[0, 0] == b"primary"


def test_all_features_as_one_tensor(served: Server, client: triton.InferenceServerClient) -> None:
    why = served.get(
        "/predictions/" + served.post("/predict/loss", {
            "entities": {"customer": "c01"}, "features": {"channel": "web", "price": 5}})["prediction_id"] + "/why"
    )  # fmt: skip
    row = [2.0] + [np.nan if entry["value"] is None else entry["value"] for entry in why["inputs"][1:]]
    for name in ("features", "input__0"):
        result = client.infer("loss", [tensor(triton, name, [row], "FP32")], parameters={"customer": "c01"})
        assert result.as_numpy("prediction")[0, 0] == np.float32(why["prediction"])
    identifier = result.as_numpy("prediction_id")[0, 0].decode()
    record = served.get(f"/predictions/{identifier}/why")
    assert record["entities"] == {"customer": "c01"}
    assert record["inputs"][0]["value"] == "web"
    # A feature of its own name takes the place of the tensor's column.
    both = [tensor(triton, "features", [row], "FP32"), tensor(triton, "price", [80.0], "FP64")]
    record = served.get(f"/predictions/{client.infer('loss', both).as_numpy('prediction_id')[0, 0].decode()}/why")
    assert record["inputs"][1]["value"] == 80
    assert record["entities"] == {"customer": None}


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(served: Server, client: triton.InferenceServerClient, algorithm: str) -> None:
    result = client.infer(
        "loss", inputs(), request_compression_algorithm=algorithm, response_compression_algorithm=algorithm
    )
    assert result.as_numpy("prediction")[:, 0].tolist() == [float(value) for value in expected(served)]


def test_classes_in_words(client: triton.InferenceServerClient) -> None:
    result = client.infer("loss", inputs(), outputs=[triton.InferRequestedOutput("prediction", class_count=1)])
    words = result.as_numpy("prediction")
    assert words.shape == (4, 1)
    value, place = words[0, 0].decode().split(":")
    assert 0 <= float(value) <= 1 and place == "0"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([("custmer", ["a"], "BYTES")], "unexpected inference input 'custmer'.*did you mean 'customer'"),
        ([("customer", ["a"], "BYTES")], r"missing required input\(s\) \['channel','price'\]"),
        ([("customer", ["a"], "BYTES"), ("channel", ["fax"], "BYTES"), ("price", [1.0], "FP64")], "'fax' is none"),
        ([("customer", ["a"], "BYTES"), ("channel", ["app"], "BYTES"), ("price", [-1.0], "FP64")], "within"),
        ([("customer", ["a"], "BYTES"), ("channel", ["app"], "BYTES"), ("price", ["1"], "BYTES")], "data-type"),
        ([("customer", ["a", "b"], "BYTES"), ("channel", ["app"], "BYTES"), ("price", [1.0], "FP64")], "batch size"),
        ([("features", [[1.0, 2.0]], "FP32")], r"Expected \[-1,9\], got \[1,2\]"),
        ([("features", [[0.0] + [np.inf] * 8], "FP32")], "features.price"),
        ([("features", [[7.0] + [1.0] * 8], "FP32")], "features.channel"),
    ],
)
@pytest.mark.parametrize("is_binary", [True, False])
def test_faults_are_said_as_triton_says_them(
    client: triton.InferenceServerClient, given: list[tuple[str, list[Any], str]], words: str, is_binary: bool
) -> None:
    sent = [tensor(triton, *entry, is_binary) for entry in given]
    with pytest.raises(InferenceServerException, match=words) as raised:
        client.infer("loss", sent)
    assert raised.value.status() == "400"


def test_unknown_models_versions_and_outputs(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="unknown model: 'los'") as raised:
        client.infer("los", inputs())
    assert raised.value.status() == "404"
    with pytest.raises(InferenceServerException, match="version 9"):
        client.infer("loss", inputs(), model_version="9")
    with pytest.raises(InferenceServerException, match="did you mean 'prediction'"):
        client.infer("loss", inputs(), outputs=[triton.InferRequestedOutput("predictions")])


def post(served: Server, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    return served.request("POST", "/v2/models/loss/infer", raw=body, headers=headers)


def test_bodies_that_do_not_fit(served: Server) -> None:
    name = {"name": "price", "shape": [1, 1], "datatype": "FP64"}
    for body, headers, words in [
        (b"{", {}, "parse"),
        (b"[]", {}, "object"),
        (b"{}", {}, "inputs"),
        (json.dumps({"inputs": [{**name, "data": [1, 2]}]}).encode(), {}, "expecting 1"),
        (json.dumps({"inputs": [{**name, "data": ["a"]}]}).encode(), {}, "FP64"),
        (json.dumps({"inputs": [{**name, "datatype": "FP128", "data": [1]}]}).encode(), {}, "FP128"),
        (json.dumps({"inputs": [{**name, "shape": [1 << 40, 1 << 40], "data": [1]}]}).encode(), {}, "elements"),
        (json.dumps({"inputs": [{**name, "shape": [-1], "data": [1]}]}).encode(), {}, "negative"),
        (json.dumps({"inputs": [name]}).encode(), {}, "no data"),
        (json.dumps({"inputs": [{**name, "parameters": {"binary_data_size": 8}}]}).encode(), {}, "0 are left"),
        (json.dumps({"inputs": [{**name, "parameters": {"shared_memory_region": "r"}}]}).encode(), {}, "region: 'r'"),
        (b'{"inputs":[]}xyz', {"Inference-Header-Content-Length": "13"}, "belong to no input"),
        (b'{"inputs":[]}', {"Inference-Header-Content-Length": "99"}, "13 bytes"),
        (b'{"inputs":[]}', {"Inference-Header-Content-Length": "-1"}, "number"),
        (b"\x1f\x8b", {"Content-Encoding": "gzip"}, "unpacked"),
        (b"x", {"Content-Encoding": "br"}, "gzip"),
        (b"[" * 100_000, {}, "object"),
        (b'{"a":' + b"[" * 100_000, {}, "deep"),
    ]:
        status, answer = post(served, body, headers)
        assert status in (400, 413), (body[:80], status, answer)
        assert words in answer["error"], (words, answer)


def test_what_other_servers_clients_send(served: Server) -> None:
    """KServe's and MLServer's clients send nested lists, unknown members, and a content type."""
    body = {
        "id": "9f", "model_name": "loss", "parameters": {"content_type": "pd"},
        "inputs": [
            {"name": "customer", "shape": [2], "datatype": "BYTES", "data": ["c01", None], "parameters": {}},
            {"name": "channel", "shape": [2, 1], "datatype": "BYTES", "data": [["app"], ["web"]]},
            {"name": "price", "shape": [2, 1], "datatype": "FP32", "data": [[1.5], [2.5]]},
        ],
    }  # fmt: skip
    status, answer = post(served, json.dumps(body).encode())
    assert status == 200, answer
    assert answer["id"] == "9f"
    assert answer["outputs"][0]["shape"] == [2, 1]
    assert len(answer["outputs"][0]["data"]) == 2
    packed = json.dumps(body).encode()
    for encoding, content in (("gzip", gzip.compress(packed)), ("deflate", zlib.compress(packed))):
        status, again = post(served, content, {"Content-Encoding": encoding})
        assert (status, again["outputs"][0]["data"]) == (200, answer["outputs"][0]["data"])
    # A literal NaN, as Python's json writes it, is no value: a nullable feature takes it.
    one = json.loads(json.dumps(body).replace("[[1.5], [2.5]]", "[1.5, 2.5]"))
    one["inputs"].append({"name": "paid__last", "shape": [2], "datatype": "FP64", "data": [float("nan"), 3.5]})
    status, answer = post(served, json.dumps(one).encode())
    assert status == 200, answer


def test_binary_layout_by_hand(served: Server) -> None:
    """The bytes as the protocol has them, not as a client of ours makes them."""
    text = b"".join(struct.pack("<I", len(value)) + value for value in (b"c01", b"app"))
    header = json.dumps(
        {
            "inputs": [
                {"name": "customer", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 7}},
                {"name": "channel", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 7}},
                {"name": "price", "shape": [1], "datatype": "INT16", "parameters": {"binary_data_size": 2}},
            ],
            "outputs": [{"name": "prediction", "parameters": {"binary_data": True}}],
        }
    ).encode()
    request = urllib.request.Request(
        served.url + "/v2/models/loss/infer",
        data=header + text + struct.pack("<h", 40),
        headers={"Inference-Header-Content-Length": str(len(header))},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        length = int(answer.headers["Inference-Header-Content-Length"])
        assert answer.headers["Content-Type"] == "application/octet-stream"
        body = answer.read()
    assert json.loads(body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 4}
    wanted = served.post(
        "/predict/loss", {"entities": {"customer": "c01"}, "features": {"channel": "app", "price": 40}}
    )
    assert struct.unpack("<f", body[length:])[0] == np.float32(wanted["prediction"])


def test_statistics_count_what_was_asked(client: triton.InferenceServerClient) -> None:
    [before] = client.get_inference_statistics("loss", "1")["model_stats"]
    client.infer("loss", inputs())
    with pytest.raises(InferenceServerException):
        client.infer("loss", inputs()[:1])
    [after] = client.get_inference_statistics("loss")["model_stats"]
    assert after["inference_count"] - before["inference_count"] == 4
    assert after["execution_count"] - before["execution_count"] == 1
    for name, grown in (("success", 1), ("fail", 1)):
        assert after["inference_stats"][name]["count"] - before["inference_stats"][name]["count"] == grown
    assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]
    assert 4 in [batch["batch_size"] for batch in after["batch_stats"]]
    assert [entry["name"] for entry in client.get_inference_statistics()["model_stats"]] == ["loss"]


def test_the_repository(served: Server, client: triton.InferenceServerClient) -> None:
    assert client.get_model_repository_index() == [{"name": "loss", "version": "1", "state": "READY"}]
    client.unload_model("loss")
    assert not client.is_model_ready("loss")
    assert client.get_model_repository_index()[0]["state"] == "UNAVAILABLE"
    with pytest.raises(InferenceServerException, match="unknown model"):
        client.infer("loss", inputs())
    assert len(expected(served)) == 4, "the deployment itself answers"
    client.load_model("loss")
    assert client.is_model_ready("loss")
    client.load_model("loss")
    with pytest.raises(InferenceServerException, match="no deployment"):
        client.load_model("nothing")
    with pytest.raises(InferenceServerException, match="registry"):
        client.load_model("loss", config="{}")
    entries = served.get("/api/v1/audit?subject=model/loss")["entries"]
    actions = [entry["action"] for entry in entries if entry["action"] in ("model.loaded", "model.unloaded")]
    assert actions == ["model.unloaded", "model.loaded"]


def test_there_is_no_shared_memory(client: triton.InferenceServerClient) -> None:
    assert client.get_system_shared_memory_status() == []
    assert client.get_cuda_shared_memory_status() == []
    client.unregister_system_shared_memory()
    with pytest.raises(InferenceServerException, match="not supported"):
        client.register_system_shared_memory("region", "/region", 64)


def test_the_asynchronous_clients(served: Server, client: triton.InferenceServerClient) -> None:
    wanted = [float(value) for value in expected(served)]
    pending = [client.async_infer("loss", inputs()) for _ in range(5)]
    for request in pending:
        assert request.get_result().as_numpy("prediction")[:, 0].tolist() == wanted

    async def ask() -> list[Any]:
        async with triton_aio.InferenceServerClient(served.url.removeprefix("http://")) as client:
            assert await client.is_model_ready("loss")
            results = await asyncio.gather(*(client.infer("loss", inputs(triton_aio)) for _ in range(5)))
            return [result.as_numpy("prediction")[:, 0].tolist() for result in results]

    assert asyncio.run(ask()) == [wanted] * 5


# gRPC


@pytest.fixture(scope="module")
def remote(served: Server) -> Iterator[triton_grpc.InferenceServerClient]:
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{served.environment['BOTTEGA_GATEWAY_GRPCPORT']}") as client:
        yield client


def remote_inputs() -> list[Any]:
    return inputs(triton_grpc, None)


def test_grpc_says_what_http_says(client: triton.InferenceServerClient, remote: Any) -> None:
    assert remote.is_server_live()
    assert remote.is_server_ready()
    assert remote.is_model_ready("loss") and remote.is_model_ready("loss", "1")
    assert not remote.is_model_ready("los") and not remote.is_model_ready("loss", "2")
    metadata = remote.get_server_metadata(as_json=True)
    assert metadata == client.get_server_metadata()
    described = remote.get_model_metadata("loss", as_json=True)
    wanted = client.get_model_metadata("loss")
    for tensors in (wanted["inputs"], wanted["outputs"]):
        for entry in tensors:
            entry["shape"] = [str(extent) for extent in entry["shape"]]  # as protobuf's JSON has 64 bits
    assert described == wanted
    configuration = remote.get_model_config("loss").config
    told = client.get_model_config("loss")
    assert (configuration.name, configuration.max_batch_size) == ("loss", told["max_batch_size"])
    assert list(configuration.version_policy.specific.versions) == [1]
    for own, other in zip(configuration.input, told["input"], strict=True):
        assert (own.name, list(own.dims), own.optional) == (other["name"], other["dims"], other["optional"])
        assert triton_model_config.DataType.Name(own.data_type) == other["data_type"]


def test_a_batch_over_grpc_has_the_bits_of_predict(served: Server, remote: Any) -> None:
    wanted = [float(value) for value in expected(served)]
    result = remote.infer("loss", remote_inputs(), request_id="batch 8", model_version="1")
    assert result.get_response().id == "batch 8"
    assert result.as_numpy("prediction")[:, 0].tolist() == wanted
    assert result.as_numpy("model_version")[:, 0].tolist() == [1] * 4
    assert result.as_numpy("fallback")[:, 0].tolist() == [False] * 4
    identifier = result.as_numpy("prediction_id")[2, 0].decode()
    assert served.get(f"/predictions/{identifier}/why")["entities"] == {"customer": "nobody"}
    outputs = [triton_grpc.InferRequestedOutput("prediction", class_count=1)]
    for algorithm in ("gzip", "deflate", None):
        words = remote.infer("loss", remote_inputs(), outputs=outputs, compression_algorithm=algorithm)
        assert [output.name for output in words.get_response().outputs] == ["prediction"]
        assert words.as_numpy("prediction").shape == (4, 1)
    row = [tensor(triton_grpc, "features", [[1.0] * 9], "FP32", None)]
    assert remote.infer("loss", row, parameters={"customer": "c01"}).as_numpy("prediction").shape == (1, 1)


def test_typed_contents(served: Server, remote: Any) -> None:
    """What clients send that do not make raw bytes: grpcurl, KServe's."""
    request = triton_service.ModelInferRequest(model_name="loss", id="typed")
    for name, datatype, field, values in [
        ("customer", "BYTES", "bytes_contents", [name.encode() for name in CUSTOMERS]),
        ("channel", "BYTES", "bytes_contents", [name.encode() for name in CHANNELS]),
        ("price", "FP64", "fp64_contents", PRICES),
        ("paid__count_7d", "INT32", "int_contents", [1, 2, 3, 4]),
        ("paid__last", "FP32", "fp32_contents", [1.5, 2.5, 3.5, 4.5]),
        ("paid__count_1h", "UINT8", "uint_contents", [0, 1, 0, 1]),
    ]:
        tensor = request.inputs.add(name=name, datatype=datatype, shape=[4, 1])
        getattr(tensor.contents, field).extend(values)
    with grpc.insecure_channel(f"127.0.0.1:{served.environment['BOTTEGA_GATEWAY_GRPCPORT']}") as channel:
        stub = triton_stub.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(request, timeout=60)
        assert answer.id == "typed"
        assert not answer.raw_output_contents
        outputs = {output.name: output.contents for output in answer.outputs}
        assert len(outputs["prediction"].fp32_contents) == len(outputs["prediction_id"].bytes_contents) == 4
        instances = [
            {
                "entities": {"customer": CUSTOMERS[place]},
                "features": {
                    "channel": CHANNELS[place], "price": PRICES[place], "paid__count_7d": place + 1,
                    "paid__last": place + 1.5, "paid__count_1h": place % 2,
                },
            }
            for place in range(4)
        ]  # fmt: skip
        answers = served.post("/predict/loss", {"instances": instances})["predictions"]
        assert list(outputs["prediction"].fp32_contents) == [np.float32(answer["prediction"]) for answer in answers]
        request.inputs[0].contents.bytes_contents.append(b"one more")
        with pytest.raises(grpc.RpcError, match="expecting 4"):
            stub.ModelInfer(request, timeout=60)
        with pytest.raises(grpc.RpcError, match="no method"):
            stub.LogSettings(triton_service.LogSettingsRequest(), timeout=60)
        with pytest.raises(grpc.RpcError, match="longer than its message"):
            raw = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            raw(b"\x0a\xff\xff\xff\xff\x0f", timeout=60)


def test_faults_over_grpc(remote: Any) -> None:
    for model, version, sent, status, words in [
        ("los", "", remote_inputs(), "NOT_FOUND", "unknown model: 'los'"),
        ("loss", "7", remote_inputs(), "NOT_FOUND", "version 7"),
        ("loss", "", remote_inputs()[:1], "INVALID_ARGUMENT", "missing required"),
        ("loss", "", [tensor(triton_grpc, "pric", [1.0], "FP64", None)], "INVALID_ARGUMENT", "did you mean 'price'"),
        ("loss", "", [tensor(triton_grpc, "features", [[1.0]], "FP32", None)], "INVALID_ARGUMENT", "Expected"),
    ]:
        with pytest.raises(InferenceServerException, match=words) as raised:
            remote.infer(model, sent, model_version=version)
        assert raised.value.status() == f"StatusCode.{status}"


def test_statistics_and_repository_over_grpc(client: triton.InferenceServerClient, remote: Any) -> None:
    remote.infer("loss", remote_inputs())
    [entry] = remote.get_inference_statistics("loss").model_stats
    [wanted] = client.get_inference_statistics("loss")["model_stats"]
    assert (entry.inference_count, entry.execution_count) == (wanted["inference_count"], wanted["execution_count"])
    assert entry.inference_stats.success.ns == wanted["inference_stats"]["success"]["ns"]
    assert [batch.batch_size for batch in entry.batch_stats] == [batch["batch_size"] for batch in wanted["batch_stats"]]
    assert [(model.name, model.state) for model in remote.get_model_repository_index().models] == [("loss", "READY")]
    remote.unload_model("loss")
    assert not remote.is_model_ready("loss") and not client.is_model_ready("loss")
    remote.load_model("loss")
    assert remote.is_model_ready("loss")
    with pytest.raises(InferenceServerException, match="no deployment"):
        remote.load_model("nothing")
    assert not remote.get_system_shared_memory_status().regions


def test_a_stream(served: Server, remote: Any) -> None:
    wanted = [float(value) for value in expected(served)]
    answers: queue.Queue[Any] = queue.Queue()
    remote.start_stream(callback=lambda result, error: answers.put((result, error)))
    count = 50
    for number in range(count):
        sent = remote_inputs()[: 1 if number == 20 else 3]
        remote.async_stream_infer("loss", sent, request_id=str(number), enable_empty_final_response=number == 30)
    for number in range(count):
        result, error = answers.get(timeout=60)
        if number == 20:
            assert "missing required" in str(error)
            continue
        assert error is None
        assert result.get_response().id == str(number)
        assert result.as_numpy("prediction")[:, 0].tolist() == wanted
        assert result.get_response().parameters["triton_final_response"].bool_param
    remote.stop_stream()


def test_the_asynchronous_grpc_clients(served: Server, remote: Any) -> None:
    wanted = [float(value) for value in expected(served)]
    answers: queue.Queue[Any] = queue.Queue()
    for _ in range(20):
        remote.async_infer("loss", remote_inputs(), callback=lambda result, error: answers.put((result, error)))
    for _ in range(20):
        result, error = answers.get(timeout=60)
        assert error is None and result.as_numpy("prediction")[:, 0].tolist() == wanted

    async def ask() -> list[Any]:
        async with triton_grpc_aio.InferenceServerClient(
            f"127.0.0.1:{served.environment['BOTTEGA_GATEWAY_GRPCPORT']}"
        ) as client:
            assert await client.is_model_ready("loss")
            results = await asyncio.gather(*(client.infer("loss", inputs(triton_grpc_aio, None)) for _ in range(20)))

            async def requests() -> AsyncIterator[dict[str, Any]]:
                for number in range(5):
                    yield {"model_name": "loss", "inputs": inputs(triton_grpc_aio, None), "request_id": str(number)}

            async for result, error in client.stream_infer(requests()):
                assert error is None
                results.append(result)
            return [result.as_numpy("prediction")[:, 0].tolist() for result in results]

    assert asyncio.run(ask()) == [wanted] * 25


def test_time_and_urgency_are_those_of_predict(
    served: Server, client: triton.InferenceServerClient, remote: Any
) -> None:
    hurried = {"X-Request-Timeout-Ms": "60000", "X-Priority": "high"}
    wanted = [float(value) for value in expected(served)]
    result = client.infer("loss", inputs(), headers=hurried, priority=1, timeout=60_000_000)
    assert result.as_numpy("prediction")[:, 0].tolist() == wanted
    result = remote.infer("loss", remote_inputs(), headers={"x-priority": "low"}, client_timeout=60, priority=3)
    assert result.as_numpy("prediction")[:, 0].tolist() == wanted
    # A microsecond is over before the features are read, and the deployment has a fallback.
    for late in (client.infer("loss", inputs(), timeout=1), remote.infer("loss", remote_inputs(), timeout=1)):
        assert late.as_numpy("fallback")[:, 0].tolist() == [True] * 4
        assert late.as_numpy("prediction")[:, 0].tolist() == [0.25] * 4
    for fields, words in [({"X-Priority": "urgent"}, "low, normal or high"), ({"X-Request-Timeout-Ms": "0"}, "from 1")]:
        with pytest.raises(InferenceServerException, match=words) as raised:
            client.infer("loss", inputs(), headers=fields)
        assert raised.value.status() == "400"
    with pytest.raises(InferenceServerException, match="low, normal or high") as raised:
        remote.infer("loss", remote_inputs(), headers={"x-priority": "urgent"})
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    # The client gives up, unless the server's answer is there before it looks: from some row on the fallback's.
    try:
        hasty = remote.infer("loss", remote_inputs(), client_timeout=1e-6)
        rows = zip(hasty.as_numpy("fallback")[:, 0], hasty.as_numpy("prediction")[:, 0], wanted, strict=True)
        assert all(value == (0.25 if fallback else right) for fallback, value, right in rows)
    except InferenceServerException as problem:
        assert problem.status() == "StatusCode.DEADLINE_EXCEEDED"


def test_a_large_batch_over_grpc(remote: Any) -> None:
    """More than the windows of HTTP/2 hold at once."""
    rows = 1000
    sent = [tensor(triton_grpc, "features", [[1.0] * 9] * rows, "FP32", None)]
    sent += [tensor(triton_grpc, "customer", ["x" * 400] * rows, "BYTES", None)]
    result = remote.infer("loss", sent)
    assert result.as_numpy("prediction").shape == (rows, 1)
    assert len(set(result.as_numpy("prediction_id")[:, 0])) == rows


def test_a_token_is_asked_for(tmp_path: pathlib.Path) -> None:
    port = free_port()
    environment = {"BOTTEGA_GATEWAY_GRPCPORT": port, "BOTTEGA_GATEWAY_TOKEN": "a token of some length"}
    server = Server(tmp_path / "data", environment=environment).start()
    headers = {"authorization": "Bearer a token of some length"}
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert client.is_server_live(headers=headers)
        for wrong in ({}, {"authorization": "Bearer another"}):
            with pytest.raises(InferenceServerException, match="token") as raised:
                client.is_server_live(headers=wrong)
            assert raised.value.status() == "StatusCode.UNAUTHENTICATED"
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        assert client.is_server_live(headers=headers) and not client.is_server_live()
    with grpc.insecure_channel(f"localhost:{port}", options=[("grpc.default_authority", "elsewhere")]) as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert live(b"", metadata=list(headers.items()), timeout=60) == b"\x08\x01"
    assert server.stop() == 0


def test_what_is_refused_in_front_of_the_routes_is_said_as_triton_says_it(tmp_path: pathlib.Path) -> None:
    token = {"Authorization": "Bearer a token of some length"}
    server = Server(tmp_path / "data", environment={"BOTTEGA_GATEWAY_TOKEN": "a token of some length"}).start()
    large = b"x" * ((16 << 20) + 1)
    for method, path, raw, headers, expected in [
        ("GET", "/v2/models/none", None, {}, (401, "token")),
        ("POST", "/v2/models/none/infer", b"{}", {}, (401, "token")),
        ("GET", "/v2/none", None, token, (404, "no route 'GET /v2/none'")),
        ("DELETE", "/v2/models/none", None, token, (405, "GET")),
        ("POST", "/v2/models/none/infer", large, token, (413, "bytes")),
    ]:
        status, answer = server.request(method, path, raw=raw, headers=headers)
        assert (status, list(answer)) == (expected[0], ["error"]), (method, path, status, answer)
        assert expected[1] in answer["error"], answer
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        with pytest.raises(InferenceServerException) as raised:
            client.get_model_metadata("none")
        assert raised.value.message() == "the token is missing or wrong"
    assert server.stop() == 0


def test_a_port_in_use_is_named(served: Server, tmp_path: pathlib.Path) -> None:
    port = served.environment["BOTTEGA_GATEWAY_GRPCPORT"]
    server = Server(tmp_path / "data", environment={"BOTTEGA_GATEWAY_GRPCPORT": port})
    command = [server.binary, "up", "--data-dir", str(server.data_dir), "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=server.environment)
    assert ended.returncode != 0
    assert f"127.0.0.1:{port}" in ended.stderr and "gateway.grpcport" in ended.stderr, ended.stderr
