"""The reference: a real MLflow server beside the platform."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from conftest import free_port


class MLflowServer:
    """One `mlflow server` with a database and artifacts in a folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = folder / "mlflow.db"
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", self.port,
                "--backend-store-uri", f"sqlite:///{self.database}", "--artifacts-destination",
                str(folder / "mlartifacts"), "--workers", "1",
            ],
            cwd=folder, stdout=(folder / "server.log").open("w"), stderr=subprocess.STDOUT, start_new_session=True,
            # Its dozen job runners take a minute of processor time to start, and nothing here gives them work.
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )  # fmt: skip
        for _ in range(1500):
            try:
                urllib.request.urlopen(self.url + "/health", timeout=1).read()
                return
            except OSError:
                time.sleep(0.2)
        pytest.fail((folder / "server.log").read_text()[-2000:])

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:  # its workers may hang; nothing of it is kept
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=30)
