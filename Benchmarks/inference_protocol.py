"""What the Open Inference Protocol costs beside `POST /predict/...`: the same rows of the same model, by `wrk`.

    .venv/bin/python Benchmarks/inference_protocol.py http://127.0.0.1:8000 flight_delay body.json

`body.json` is a request of `/predict` with one instance (`{"entities": …, "features": …}`). It becomes JSON tensors and
binary tensors, one row and a batch; `/predict` gets the same batch as `instances`. Prints requests and rows per second,
p50 and p99. With `--grpc HOST:PORT`, `tritonclient` over gRPC is measured too, one call at a time: the client's own
time is most of it.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import shutil
import statistics
import struct
import subprocess
import tempfile
import time
import urllib.request
from typing import Any

SCRIPT = """
local file = io.open("%s", "rb")
wrk.body = file:read("*a")
wrk.method = "POST"
%s
"""


def tensors(instance: dict[str, Any], rows: int, outputs: list[str] | None) -> tuple[bytes, bytes, int]:
    """The instance `rows` times as JSON tensors, and as binary ones with the length of their JSON."""
    plain, described, binary = [], [], b""
    named = {**instance.get("features", {}), **instance.get("entities", {})}
    for name, value in named.items():
        is_text = isinstance(value, str)
        tensor = {"name": name, "shape": [rows, 1], "datatype": "BYTES" if is_text else "FP64"}
        plain.append({**tensor, "data": [value] * rows})
        if is_text:
            element = struct.pack("<I", len(value.encode())) + value.encode()
        else:
            element = struct.pack("<d", value)
        described.append({**tensor, "parameters": {"binary_data_size": len(element) * rows}})
        binary += element * rows
    asked: dict[str, Any] = {}
    if outputs:
        asked = {"outputs": [{"name": name} for name in outputs]}
    head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}, **asked}).encode()
    return json.dumps({"inputs": plain, **asked}).encode(), head + binary, len(head)


def load(url: str, body: bytes, header: int | None, given: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "body"
        path.write_bytes(body)
        fields = f'wrk.headers["Inference-Header-Content-Length"] = "{header}"' if header is not None else ""
        script = pathlib.Path(folder) / "post.lua"
        script.write_text(SCRIPT % (path, fields))
        headers = {"Inference-Header-Content-Length": str(header)} if header is not None else {}
        urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers), timeout=60).read()
        command = ["wrk", "-t1", f"-c{given.connections}", f"-d{given.seconds}s", "--latency", "-s", str(script), url]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(text)

    def milliseconds(share: str) -> float:
        value, unit = re.search(rf"{share}%\s+([\d.]+)(us|ms|s)", text).groups()
        return float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]

    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
    return {"rate": rate, "p50": milliseconds("50"), "p99": milliseconds("99")}


def grpc_latency(address: str, model: str, instance: dict[str, Any], seconds: int) -> tuple[float, float]:
    import numpy as np
    import tritonclient.grpc as triton

    with triton.InferenceServerClient(address) as client:
        inputs = []
        for name, value in {**instance.get("features", {}), **instance.get("entities", {})}.items():
            array = np.array([[value]], dtype=object if isinstance(value, str) else np.float64)
            inputs.append(triton.InferInput(name, [1, 1], "BYTES" if isinstance(value, str) else "FP64"))
            inputs[-1].set_data_from_numpy(array)
        outputs = [triton.InferRequestedOutput("prediction")]
        taken, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            client.infer(model, inputs, outputs=outputs)
            taken.append((time.perf_counter() - start) * 1e3)
    return statistics.median(taken), sorted(taken)[int(len(taken) * 0.99)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("body", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=100, help="rows of the batch")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--grpc", help="address of the gRPC port")
    given = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is missing; install it with the system's package manager")
    instance = json.loads(given.body.read_text())
    infer, predict = f"{given.url}/v2/models/{given.model}/infer", f"{given.url}/predict/{given.model}"
    for rows in (1, given.rows):
        own = instance if rows == 1 else {"instances": [instance] * rows}
        cases: list[tuple[str, str, bytes, int | None]] = [("/predict", predict, json.dumps(own).encode(), None)]
        for label, outputs in (("all outputs", None), ("prediction alone", ["prediction"])):
            plain, binary, header = tensors(instance, rows, outputs)
            cases += [
                (f"/v2 JSON, {label}", infer, plain, None),
                (f"/v2 binary, {label}", infer, binary, header),
            ]
        base = 0.0
        for label, url, body, header in cases:
            found = load(url, body, header, given)
            base = base or found["rate"]
            print(
                f"{rows:5} rows  {label:28} {found['rate']:9.0f} requests/s  {found['rate'] * rows:10.0f} rows/s  "
                f"p50 {found['p50']:7.2f} ms  p99 {found['p99']:7.2f} ms  {found['rate'] / base:5.2f} of /predict"
            )
    if given.grpc:
        median, tail = grpc_latency(given.grpc, given.model, instance, given.seconds)
        print(f"tritonclient over gRPC, one row, one call at a time: p50 {median:.2f} ms, p99 {tail:.2f} ms")


if __name__ == "__main__":
    main()
