"""Records how a run came to be, for every run that `mlflow.start_run` begins, wherever it is logged.

Installing this package beside mlflow is enough: mlflow loads `RecordContext` by its entry point. Each run gets the
artifacts `bottega/record.json` (commit, environment, machine, command, seed) and, if the code differs from its commit,
`bottega/changes.diff`, and a few tags. Environment variables switch parts of it off:

- `BOTTEGA_RECORD=off`: no record;
- `BOTTEGA_RECORD_CHANGES=off`: the record without the uncommitted change.

A record never makes a run fail: what goes wrong is one warning. `record()` adds one to a run that was made through
`MlflowClient`, or says more of it: the seed, a training set of the platform.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import sys
import tempfile
import threading
import time
from typing import Any

import mlflow
from mlflow.tracking.context.abstract_context import RunContextProvider

from . import record as recorder

_logger = logging.getLogger(__name__)
_pending = threading.local()
_started = time.time()
RECORD_PATH = "bottega/record.json"
CHANGES_PATH = "bottega/changes.diff"


def _folder() -> str:
    """Where the code is that runs: the script's folder, or the present one in a notebook or shell."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    return os.path.dirname(os.path.abspath(script)) if script and os.path.isfile(script) else os.getcwd()


def _take() -> tuple[dict[str, Any], bytes]:
    # A script's code was there when it began; in a notebook or shell it is written on the way.
    is_script = hasattr(sys.modules.get("__main__"), "__file__")
    taken, changes = recorder.take(_folder(), sys.orig_argv, before=_started if is_script else None)
    if os.environ.get("BOTTEGA_RECORD_CHANGES", "").lower() in ("off", "0", "false") and taken["code"]["changes"]:
        taken["code"]["changes"] |= {"kept": False, "applies": False}
        changes = b""
    return taken, changes


def _text(taken: dict[str, Any]) -> str:
    return json.dumps(taken, indent=2, sort_keys=True) + "\n"


def _tags(taken: dict[str, Any]) -> dict[str, str]:
    code = taken["code"]
    tags = {
        "mlflow.source.git.commit": code["commit"],
        "mlflow.source.git.branch": code["branch"],
        "mlflow.source.git.repoURL": code["remote"],
        "bottega.record": hashlib.sha256(_text(taken).encode()).hexdigest(),
        "bottega.environment": taken["environment"]["lock"],
        "bottega.dirty": "true" if code["dirty"] else "",
    }
    if taken["seed"] is not None:
        tags["bottega.seed"] = str(taken["seed"])
    if taken["features"]:
        tags["bottega.features"] = taken["features"]["service_version"]
    return {key: value for key, value in tags.items() if value}


def _upload(client: mlflow.MlflowClient, run_id: str, taken: dict[str, Any], changes: bytes) -> None:
    client.log_text(run_id, _text(taken), RECORD_PATH)
    if changes:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, os.path.basename(CHANGES_PATH))
            with open(path, "wb") as file:
                file.write(changes)
            client.log_artifact(run_id, path, os.path.dirname(CHANGES_PATH))


def record(run_id: str | None = None, *, seed: int | None = None, dataset: str | None = None) -> dict[str, Any]:
    """Takes a record now and logs it to a run: the active one, or the one named.

    `seed` is the seed in use, `dataset` the hash of a training set of the platform that the run reads.
    """
    if run_id is None:
        active = mlflow.active_run()
        if active is None:
            raise ValueError("no run is active; name one: record(run_id)")
        run_id = active.info.run_id
    taken, changes = _take()
    if seed is not None:
        taken["seed"] = seed
    if dataset is not None and not any(entry.get("hash") == dataset for entry in taken["data"]):
        taken["data"].append({"kind": "bottega", "name": "", "hash": dataset, "context": "training"})
    client = mlflow.MlflowClient()
    _upload(client, run_id, taken, changes)
    for key, value in _tags(taken).items():
        client.set_tag(run_id, key, value)
    return taken


def _asks_for_dataset() -> bool:
    """Whether `mlflow.data` is what asks for tags now."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("mlflow.data."):
            return True
        frame = frame.f_back
    return False


class RecordContext(RunContextProvider):
    """What mlflow asks for tags when it begins a run; the artifacts follow once the run is there."""

    def in_context(self) -> bool:
        """Whether runs are recorded; the platform's own jobs have their record already."""
        if os.environ.get("BOTTEGA_RECORD", "").lower() in ("off", "0", "false") or os.environ.get("BOTTEGA_JOB_ID"):
            return False
        # mlflow.data asks for tags too, for the source of each dataset that is made of numbers at hand: that is no run.
        return not _asks_for_dataset()

    def tags(self) -> dict[str, str]:
        """Takes the record, keeps it for the run that is about to be made, and names it in tags."""
        _pending.record = None
        try:
            # Not earlier: mlflow loads this class while it is being imported itself.
            _follow_runs()
            taken = _take()
            tags = _tags(taken[0])
        except Exception as error:
            _logger.warning("this run has no record of how it came to be: %s: %s", type(error).__name__, error)
            return {}
        _pending.record = taken
        return tags


def _follow_runs() -> None:
    """Lets `MlflowClient.create_run` log a record that waits for the run it makes."""
    original = mlflow.MlflowClient.create_run
    if getattr(original, "_bottega_follows", False):
        return

    @functools.wraps(original)
    def create_run(self: mlflow.MlflowClient, *arguments: Any, **named: Any) -> Any:
        run = original(self, *arguments, **named)
        waiting, _pending.record = getattr(_pending, "record", None), None
        # Only the run that was given this record's tags: others are made through the client, as they were asked for.
        if waiting is not None and "bottega.record" in run.data.tags:
            try:
                _upload(self, run.info.run_id, *waiting)
            except Exception as error:
                _logger.warning("the record of this run was not logged: %s: %s", type(error).__name__, error)
        return run

    create_run._bottega_follows = True  # type: ignore[attr-defined]
    mlflow.MlflowClient.create_run = create_run  # type: ignore[method-assign]
