"""The Open Inference Protocol V2 by Triton's own client: unmodified, over HTTP, blocking and asynchronous."""

from __future__ import annotations

import asyncio
import gzip
import json
import struct
import urllib.request
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import shop
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from conftest import Server
from tritonclient.utils import InferenceServerException

CHANNELS = ["app", "web", "shop", "app"]
PRICES = [10.0, 99.5, 40.0, 12.25]
CUSTOMERS = ["c01", "c02", "nobody", "c03"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, binary: str) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("inference")
    server = Server(folder / "data", "--clock", "manual").start()
    server.post("/api/v1/clock", {"now": shop.START + 27 * shop.DAY})
    server.cli("apply", str(shop.write_definitions(folder / "definitions", log_loss=0.7)))
    history = shop.history(27)
    for name in ("payments", "orders", "outcomes"):
        server.cli("ingest", name, str(shop.write_csv(folder / f"{name}.csv", getattr(history, name))))
    span = ["--from", shop.text(shop.START + 8 * shop.DAY), "--to", shop.text(shop.START + 26 * shop.DAY)]
    dataset = json.loads(server.cli("dataset", "build", "loss", *span, "--json").stdout)["dataset"]
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
        ([("customer", ["a"], "BYTES")], r"Missing required input\(s\) \['channel', 'price'\]"),
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
    assert client.get_model_repository_index() == [{"name": "loss", "version": "1", "state": "READY", "reason": ""}]
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
