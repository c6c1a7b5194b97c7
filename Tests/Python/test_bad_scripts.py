"""Training scripts that fail say why."""

from __future__ import annotations

import pathlib
import subprocess
import textwrap
import time
from collections.abc import Iterator

import pytest
import shop
from bad_input import assert_one_line, refuses
from conftest import Server

SCRIPTS = {
    "fails": (
        "30s",
        "import sys\nprint('reading rows')\nprint('the label column is gone', file=sys.stderr)\nsys.exit(1)",
    ),
    "forever": ("2s", "import time\nwhile True: time.sleep(1)"),
    "deaf": ("2s", "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(1)"),
    "loud": ("60s", "line = 'x' * 1023\nfor _ in range(200 * 1024): print(line)"),
    "killed": ("30s", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"),
    "greedy": ("30s", "data = bytearray(8 << 30)\nprint(len(data))"),
    "empty": ("30s", "print('I log no model')"),
}
TOLD = {
    "fails": ["1", "the label column is gone"],
    "forever": ["2"],
    "deaf": ["2"],
    "killed": ["9"],
    "greedy": ["MemoryError"],
}


@pytest.fixture(scope="module")
def scripts(trained: Server) -> Iterator[Server]:
    """The shop with a model for each bad script."""
    folder = trained.folder / "with-scripts"
    shop.write_definitions(folder)
    for name, (timeout, script) in SCRIPTS.items():
        (folder / f"{name}.py").write_text(script)
        (folder / f"{name}.yaml").write_text(
            textwrap.dedent(f"""
                kind: Model
                name: {name}
                service: loss
                training_set: loss
                training:
                  command: ["{{python}}", {name}.py]
                  timeout: {timeout}
                  memory: {"1GiB" if name == "greedy" else "4GiB"}
            """)
        )
    (folder / "absent.yaml").write_text(
        "kind: Model\nname: absent\nservice: loss\ntraining_set: loss\ntraining: {command: [no-such-program]}\n"
    )
    trained.cli("apply", str(folder))
    yield trained


@pytest.mark.parametrize("name", TOLD)
def test_a_script_that_fails_says_why(name: str, scripts: Server) -> None:
    began = time.monotonic()
    result = scripts.cli("train", name, "--dataset", scripts.dataset, check=False)
    assert result.returncode == 3, result
    told = [line for line in result.stderr.splitlines() if not line.startswith(f"train {name}: ")]  # how far it is
    assert_one_line("\n".join(told), "training_job/", *TOLD[name])
    assert time.monotonic() - began < 45
    job = scripts.get("/training-jobs")["jobs"][0]
    assert job["model"] == name and job["state"] == "failed" and job["reason"], job
    run = scripts.get(f"/api/2.0/mlflow/runs/get?run_id={job['run_id']}")["run"]
    assert run["info"]["status"] == "FAILED"
    refuses(scripts.cli("model", "register", name, "--job", job["id"], check=False), 3, "did not succeed")
    left = subprocess.run(["pgrep", "-f", f"{name}.py$"], capture_output=True, text=True).stdout.split()
    assert left == [], "nothing of it runs on"


def test_a_script_that_prints_too_much_is_cut(scripts: Server) -> None:
    scripts.cli("train", "loud", "--dataset", scripts.dataset)
    job = scripts.get("/training-jobs")["jobs"][0]
    assert job["model"] == "loud" and job["state"] == "succeeded"
    assert pathlib.Path(job["log"]).stat().st_size <= 17 << 20


def test_a_script_that_logs_nothing_cannot_be_registered(scripts: Server) -> None:
    scripts.cli("train", "empty", "--dataset", scripts.dataset)
    job = scripts.get("/training-jobs")["jobs"][0]
    refuses(scripts.cli("model", "register", "empty", "--job", job["id"], check=False), 4, "model", "log_model")


def test_a_program_that_is_not_there_is_named(scripts: Server) -> None:
    result = scripts.cli("train", "absent", "--dataset", scripts.dataset, check=False)
    assert result.returncode == 3, result
    assert_one_line(result.stderr, "no-such-program")
