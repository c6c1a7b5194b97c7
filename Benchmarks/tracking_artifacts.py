"""Measures large artifacts: up and down, plainly and in parts by the unmodified client, beside a copy on the same disk.

    .venv/bin/python Benchmarks/tracking_artifacts.py --bottega .build-release/release/bottega --mebibytes 1024

Each way is taken in every round, one after the other, so that a busy disk is busy for all of them. Prints seconds, what
the copy took (`copy` writes and syncs, `read` only reads) and the most anonymous memory that the server had meanwhile
beyond what it had at rest. With `--nginx nginx` the client also downloads the same file from nginx, which
passes everything else on: what that takes is the client's own.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable

PORTION = 1 << 20


def status(pid: int, name: str) -> int:
    """Kibibytes that /proc says of a process."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0


def processor_seconds(pid: int) -> float:
    """Seconds of processors that a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watch:
    """The most anonymous memory of a process while something runs."""

    def __init__(self, pid: int) -> None:
        self.pid, self.most, self.done = pid, 0, threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self) -> None:
        while not self.done.wait(0.02):
            self.most = max(self.most, status(self.pid, "RssAnon"))

    def __enter__(self) -> Watch:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()


def digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        while portion := reader.read(PORTION):
            writer.write(portion)
        writer.flush()
        os.fsync(writer.fileno())


def read(source: pathlib.Path) -> None:
    with source.open("rb") as reader:
        while reader.read(PORTION):
            pass


def upload(port: int, source: pathlib.Path, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, blocksize=PORTION)
    with source.open("rb") as file:
        size = {"Content-Length": str(source.stat().st_size)}
        connection.request("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}", body=file, headers=size)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
    connection.close()


def download(port: int, path: str, target: pathlib.Path) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", f"/api/2.0/mlflow-artifacts/artifacts/{path}")
    answer = connection.getresponse()
    assert answer.status == 200
    with target.open("wb") as file:
        while portion := answer.read(PORTION):
            file.write(portion)
    connection.close()


class Nginx:
    """Gives artifacts out of a folder by itself and passes every other request on to a server."""

    def __init__(self, program: str, folder: pathlib.Path, behind: int) -> None:
        self.port, self.root = free_port(), folder / "www"
        places = " ".join(
            f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        artifacts = "/api/2.0/mlflow-artifacts/artifacts/"
        (folder / "nginx.conf").write_text(
            f"""
            worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/nginx.log; events {{ }}
            {"user root;" if os.geteuid() == 0 else ""}
            http {{ access_log off; sendfile on; {places} server {{ listen 127.0.0.1:{self.port};
                location {artifacts} {{ root {self.root}; }}
                location / {{ proxy_pass http://127.0.0.1:{behind}; proxy_set_header Host $http_host; }} }} }}
            """
        )
        self.process = subprocess.Popen([program, "-c", str(folder / "nginx.conf"), "-g", "daemon off;"])

    def show(self, source: pathlib.Path, path: str) -> None:
        place = self.root / "api/2.0/mlflow-artifacts/artifacts" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, place)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--bottega", required=True)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nginx", help="the program, to download from it as well")
    options = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-artifacts-", dir=os.environ.get("BOTTEGA_BENCH_DIR")))
    port = free_port()
    log = (folder / "log").open("wb")
    server = subprocess.Popen(
        [options.bottega, "up", "--data-dir", str(folder / "data"), "--port", str(port)], stdout=log, stderr=log
    )
    nginx: Nginx | None = None
    try:
        import mlflow

        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        mlflow.set_tracking_uri(f"http://127.0.0.1:{port}")
        client = mlflow.MlflowClient()
        (folder / "got").mkdir()
        if options.nginx:
            nginx = Nginx(options.nginx, folder, port)
        times: dict[str, list[float]] = {}
        memory: dict[str, int] = {}
        work: dict[str, list[float]] = {}

        def measure(name: str, task: Callable[[], object]) -> None:
            os.sync()
            before, used = status(server.pid, "RssAnon"), processor_seconds(server.pid)
            with Watch(server.pid) as watch:
                start = time.perf_counter()
                task()
                times.setdefault(name, []).append(time.perf_counter() - start)
            work.setdefault(name, []).append(processor_seconds(server.pid) - used)
            memory[name] = max(memory.get(name, 0), watch.most - before)

        for index in range(options.rounds):
            source = folder / f"weights-{index}.bin"
            with source.open("wb") as file:
                for _ in range(options.mebibytes):
                    file.write(os.urandom(PORTION))
            expected = digest(source)
            run = client.create_run("0").info.run_id
            plain = f"0/{run}/artifacts/plain-{index}.bin"
            measure("copy", lambda source=source: copy(source, folder / "copied"))
            measure("read", lambda source=source: read(source))
            measure("plain upload", lambda source=source, plain=plain: upload(port, source, plain))
            measure("plain download", lambda plain=plain: download(port, plain, folder / "plain"))
            assert digest(folder / "plain") == expected
            # Other bytes: equal ones would be stored already.
            with source.open("r+b") as file:
                file.write(os.urandom(16))
            expected = digest(source)
            measure(
                "client upload, in parts",
                lambda source=source, run=run: client.log_artifact(run, str(source)),
            )
            got: list[str] = []
            measure(
                "client download, in parts",
                lambda source=source, run=run, got=got: got.append(
                    client.download_artifacts(run, source.name, str(folder / "got"))
                ),
            )
            assert digest(pathlib.Path(got[0])) == expected
            if nginx:
                pathlib.Path(got[0]).unlink()
                nginx.show(source, f"0/{run}/artifacts/{source.name}")
                other = mlflow.MlflowClient(f"http://127.0.0.1:{nginx.port}")
                mlflow.set_tracking_uri(f"http://127.0.0.1:{nginx.port}")
                measure(
                    "the same download from nginx",
                    lambda source=source, run=run, other=other: other.download_artifacts(
                        run, source.name, str(folder / "got")
                    ),
                )
                mlflow.set_tracking_uri(f"http://127.0.0.1:{port}")
                assert digest(folder / "got" / source.name) == expected
            source.unlink(missing_ok=True)
        base = statistics.median(times["copy"])
        print(f"{options.mebibytes} MiB, medians of {options.rounds} rounds")
        for name, values in times.items():
            middle = statistics.median(values)
            print(
                f"{name:28s} {middle:7.2f} s   {middle / base:5.2f} x copy   "
                f"server: {statistics.median(work[name]):5.2f} s of processors, +{memory[name] / 1024:.1f} MiB"
            )
        print(f"most resident memory of the server: {status(server.pid, 'VmHWM') / 1024:.0f} MiB")
    finally:
        if nginx:
            nginx.stop()
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
