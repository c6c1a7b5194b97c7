"""Model servers of the Open Inference Protocol in a few lines, certificates for them, and versions that name them."""

from __future__ import annotations

import concurrent.futures
import datetime
import http.server
import ipaddress
import json
import pathlib
import ssl
import threading

import grpc
import mlflow
import numpy as np
from conftest import Server, until
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tritonclient.grpc import service_pb2, service_pb2_grpc


def share(rows: np.ndarray) -> np.ndarray:
    """What these servers answer: a share from the mean of a row's numbers."""
    return np.float32(1) / (np.float32(1) + np.abs(np.nanmean(rows, axis=1, dtype=np.float32)))


def register(server: Server, dataset: str, folder: pathlib.Path, address: str) -> int:
    """Registers an address as a version of the model `loss` and gives its number."""
    done = try_to_register(server, dataset, folder, address)
    assert done.returncode == 0, done.stderr
    return server.get("/api/v1/models/loss")["versions"][-1]["version"]


def try_to_register(server: Server, dataset: str, folder: pathlib.Path, address: str):
    file = folder / "model.v2"
    file.write_text(f"{address}\n")
    mlflow.set_tracking_uri(server.url)
    mlflow.set_experiment("remote")
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(file))
    return server.cli("model", "register", "loss", "--run", run.info.run_id, "--dataset", dataset, check=False)


class RemoteServer(http.server.BaseHTTPRequestHandler):
    """The protocol's HTTP form."""

    protocol_version = "HTTP/1.1"
    width = 0
    port = 0
    mood = "well"
    # Most rows of one call, and the most that came.
    row_count_max = 1000
    row_count_seen = 0
    # A row that holds this number is not answered before `released` is set.
    endless = np.float32(5002)
    hanging = threading.Event()
    released = threading.Event()

    def answer(self, status: int, body: bytes, head: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if head is not None:
            self.send_header("Inference-Header-Content-Length", str(head))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        assert self.path == "/v2/models/means"
        tensors = {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, self.width]}],
            "outputs": [{"name": "mean", "datatype": "FP32", "shape": [-1, 1]}],
        }
        self.answer(200, json.dumps({"name": "means", "platform": "test", **tensors}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = int(self.headers["Inference-Header-Content-Length"])
        [tensor] = json.loads(body[:head])["inputs"]
        assert tensor["parameters"]["binary_data_size"] == len(body) - head
        if self.mood == "ill":
            return self.answer(503, b'{"error": "no more"}')
        if self.mood == "odd":
            return self.answer(200, b"{}" * 1000, 10**9)
        rows = np.frombuffer(body[head:], dtype="<f4").reshape(tensor["shape"])
        if len(rows) > self.row_count_max:
            refusal = f"inference request batch-size must be <= {self.row_count_max} for 'means'"
            return self.answer(400, json.dumps({"error": refusal}).encode())
        RemoteServer.row_count_seen = max(RemoteServer.row_count_seen, len(rows))
        if (rows == self.endless).any():
            self.hanging.set()
            self.released.wait(60)
        means = share(rows).astype("<f4").tobytes()
        output = {"name": "mean", "datatype": "FP32", "shape": [len(rows), 1]}
        output["parameters"] = {"binary_data_size": len(means)}
        answer = json.dumps({"model_name": "means", "outputs": [output]}).encode()
        self.answer(200, answer + means, len(answer))

    def log_message(self, *arguments: object) -> None:
        pass


def drilled(server: Server) -> None:
    """A drill of the deployment passes; on a machine that is too busy to answer in its time it is held again."""

    def passes() -> bool:
        done = server.cli("deploy", "drill", "loss", "--seconds", "3", "--json", check=False)
        report = json.loads(done.stdout)
        return report["passed"] and [phase["errors"] for phase in report["phases"]] == [0, 0, 0]

    until(passes, 120)


def http_server(certificate: Certificate | None = None) -> http.server.ThreadingHTTPServer:
    """A `RemoteServer` on a free port, with TLS if it has a certificate and in its first mood; the caller ends it."""
    RemoteServer.mood, RemoteServer.hanging, RemoteServer.released = "well", threading.Event(), threading.Event()

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # callers that do not trust it

    server = Quiet(("127.0.0.1", 0), RemoteServer)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class RemoteService(service_pb2_grpc.GRPCInferenceServiceServicer):
    """The protocol's gRPC form."""

    def ModelMetadata(self, request, context):
        tensor = service_pb2.ModelMetadataResponse.TensorMetadata
        return service_pb2.ModelMetadataResponse(
            name=request.name,
            platform="test",
            inputs=[tensor(name="x", datatype="FP32", shape=[-1, RemoteServer.width])],
            outputs=[tensor(name="mean", datatype="FP32", shape=[-1, 1])],
        )

    def ModelInfer(self, request, context):
        rows = np.frombuffer(request.raw_input_contents[0], dtype="<f4").reshape(request.inputs[0].shape)
        output = service_pb2.ModelInferResponse.InferOutputTensor(name="mean", datatype="FP32", shape=[len(rows), 1])
        return service_pb2.ModelInferResponse(
            model_name=request.model_name, outputs=[output], raw_output_contents=[share(rows).astype("<f4").tobytes()]
        )


def grpc_server(certificate: Certificate | None = None) -> tuple[grpc.Server, int]:
    """A `RemoteService` and its port, with TLS if it has a certificate; the caller ends it."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(RemoteService(), server)
    if certificate:
        pair = (certificate.key.read_bytes(), certificate.chain.read_bytes())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


class Certificate:
    """A certificate and its key as files."""

    def __init__(self, chain: pathlib.Path, key: pathlib.Path) -> None:
        self.chain, self.key = chain, key


class Authority:
    """Somebody who vouches for servers."""

    def __init__(self, folder: pathlib.Path, name: str) -> None:
        self.folder = folder
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        made = self.begun(self.name, self.key, -10, 10).add_extension(x509.BasicConstraints(True, None), True)
        self.file.write_bytes(made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def begun(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, first_day: int, last_day: int):
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder(subject_name=subject, issuer_name=self.name, public_key=key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=first_day))
            .not_valid_after(now + datetime.timedelta(days=last_day))
        )

    def vouch(self, file: str, host: str = "127.0.0.1", first_day: int = -1, last_day: int = 1) -> Certificate:
        """A certificate of a host, valid between two days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
        made = self.begun(x509.Name([]), key, first_day, last_day)
        made = made.add_extension(x509.SubjectAlternativeName([name]), True).sign(self.key, hashes.SHA256())
        found = Certificate(self.folder / f"{file}.crt", self.folder / f"{file}.key")
        found.chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        found.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return found
