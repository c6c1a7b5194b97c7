"""The prediction log's file system is full: serving goes on, it is counted, nothing is lost once there is space."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess

import pytest
from bad_input import PREDICT
from conftest import Server, until


def metric(server: Server, name: str) -> float:
    text = server.request("GET", "/metrics")[1]
    return float(re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE).group(1))


def test_predictions_go_on_beside_a_full_log_and_none_is_lost(trained: Server, tmp_path: pathlib.Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    trained.wait_idle()
    data, before = tmp_path / "data", trained.data_dir / "log" / "predictions"
    small = data / "log" / "predictions"
    shutil.copytree(trained.data_dir, data, ignore=lambda folder, _: ["predictions"] if folder.endswith("log") else [])
    small.mkdir()
    server = Server(data, "--clock", "manual", environment={"BOTTEGA_MONITOR_ENABLED": "false"})
    try:
        # The log of predictions has a small file system of its own.
        command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            pytest.skip(f"no small file system can be mounted here: {made.stderr.strip()}")
        shutil.copytree(before, small, dirs_exist_ok=True)
        server.start()
        answered: list[str] = []

        def ask() -> None:
            answer = server.post("/predict/loss", {"instances": [PREDICT] * 500})
            answered.extend(entry["prediction_id"] for entry in answer["predictions"])

        ask()
        for _ in range(40):
            if metric(server, "bottega_prediction_log_failures_total") > 0:
                break
            ask()
        until(lambda: metric(server, "bottega_prediction_log_failures_total") > 0)
        ask()  # answered all the same: the queue takes it
        assert metric(server, "bottega_prediction_log_pending") > 0
        assert server.request("GET", "/livez")[0] == 200

        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        until(lambda: metric(server, "bottega_prediction_log_pending") == 0)
        assert metric(server, "bottega_prediction_log_written_total") == len(answered)
        assert metric(server, "bottega_prediction_log_shed_total") == 0
        ask()
        until(lambda: metric(server, "bottega_prediction_log_pending") == 0)

        server.kill()
        server.start()
        assert len(set(answered)) == len(answered)
        for prediction in [*answered[::250], answered[-1]]:
            assert server.get(f"/predictions/{prediction}/why")["prediction_id"] == prediction
        assert server.stop() == 0
    finally:
        if server.process is not None:
            server.kill()
        if small.is_mount():
            subprocess.run(["umount", "-l", str(small)], check=False)
