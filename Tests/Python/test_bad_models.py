"""Model files that are spoiled, and versions that are not there."""

from __future__ import annotations

import json
import os
import pathlib
import time
import urllib.request

import pytest
from bad_input import assert_one_line, refuses
from conftest import Server


def spoiled_models(folder: pathlib.Path, model: bytes) -> dict[str, tuple[str, bytes]]:
    import numpy
    import xgboost

    booster = xgboost.Booster(model_file=bytearray(model))
    document = json.loads(booster.save_raw("json"))
    document["learner"]["gradient_booster"]["model"]["gbtree_model_param"]["num_trees"] = "1000000000"
    place = model.index(b"num_trees") + len(b"num_trees")
    assert model[place : place + 2] == b"SL"
    length = int.from_bytes(model[place + 2 : place + 10], "big")
    count = b"1000000000"
    patched = model[:place] + b"SL" + len(count).to_bytes(8, "big") + count + model[place + 10 + length :]
    other = xgboost.train({"nthread": 1}, xgboost.DMatrix(numpy.zeros((4, 2)), numpy.zeros(4)), 1)
    return {
        "cut in half": ("model.ubj", model[: len(model) // 2]),
        "cut at the end": ("model.ubj", model[:-1]),
        "random bytes": ("model.ubj", os.urandom(50_000)),
        "nothing": ("model.ubj", b""),
        "10^9 trees in JSON": ("model.json", json.dumps(document).encode()),
        "10^9 trees in UBJSON": ("model.ubj", patched),
        "an array of 10^12 elements": (
            "model.ubj",
            b"{L" + (7).to_bytes(8, "big") + b"learner[$d#L" + (10**12).to_bytes(8, "big"),
        ),
        "nested without end": ("model.json", b'{"learner":' + b"[" * 1_000_000),
        "of another width": ("model.ubj", bytes(other.save_raw("ubj"))),
    }


def test_a_spoiled_model_file_is_never_registered(trained: Server, tmp_path: pathlib.Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(tracking_uri=trained.url)
    [model] = trained.post(
        "/api/2.0/mlflow/logged-models/search",
        {"experiment_ids": [client.get_run(trained.run_id).info.experiment_id]},
    )["models"]
    uri = model["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
    with urllib.request.urlopen(f"{trained.url}/api/2.0/mlflow-artifacts/artifacts/{uri}/model.ubj") as answer:
        content = answer.read()
    experiment = client.create_experiment("spoiled")
    for what, (name, spoiled) in spoiled_models(tmp_path, content).items():
        run = client.create_run(experiment)
        path = tmp_path / name
        path.write_bytes(spoiled)
        client.log_artifact(run.info.run_id, str(path))
        began = time.monotonic()
        result = trained.cli(
            "model", "register", "loss", "--run", run.info.run_id, "--dataset", trained.dataset, check=False
        )
        assert result.returncode == 2, (what, result)
        assert_one_line(result.stderr)
        assert time.monotonic() - began < 20, what
    assert [v["version"] for v in trained.get("/api/v1/models/loss")["versions"]] == [1]


def test_versions_that_are_not_there(trained: Server) -> None:
    refuses(trained.cli("model", "register", "loss", "--job", "none", check=False), 4, "none")
    refuses(trained.cli("model", "promote", "loss", "9", "staging", "--reason", "x", check=False), 4, "9")
    refuses(trained.cli("model", "promote", "loss", "1", "stagin", "--reason", "x", check=False), 2, "staging")
    refuses(trained.cli("model", "promote", "loss", "1", "staging", "--reason", " ", check=False), 2, "reason")
    refuses(trained.cli("deploy", "loss", "7", "--reason", "x", check=False), 4, "7")
    refuses(trained.cli("deploy", "loss", "1", "--traffic", "1.5", "--reason", "x", check=False), 2, "traffic")
    refuses(trained.cli("rollback", "loss", "--reason", "x", check=False), 3, "loss")
    refuses(trained.cli("rollback", "nothing", "--reason", "x", check=False), 4, "nothing")
    refuses(trained.cli("dataset", "build", "loss", "--from", "x", "--to", "y", check=False), 2, "from")
    refuses(trained.cli("train", "loss", "--dataset", "ab", check=False), 2, "64")
    refuses(trained.cli("train", "loss", "--dataset", "0" * 64, check=False), 4, "dataset")
    span = ["--from", "2024-01-03T00:00:00Z", "--to", "2024-01-02T00:00:00Z"]
    refuses(trained.cli("dataset", "build", "loss", *span, check=False), 2, "from")
    span = ["--from", "2030-01-03T00:00:00Z", "--to", "2030-01-04T00:00:00Z"]
    assert trained.cli("dataset", "build", "loss", *span, check=False).returncode in (2, 3)
