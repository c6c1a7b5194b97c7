"""The unmodified `feast` client and a Feast repository against the program.

`feast` needs another pandas than the other tests, so it lives in an environment of its own: `make test-feast` makes it
and names its Python in BOTTEGA_FEAST_PYTHON. Without that the tests are skipped.
"""

from __future__ import annotations

import json
import os
import pathlib
import struct
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from conftest import ROOT, Server

PYTHON = os.environ.get("BOTTEGA_FEAST_PYTHON", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="BOTTEGA_FEAST_PYTHON names no Python with feast; 'make test-feast'")

# What `feast init` makes: hourly statistics of five drivers, with a push source, services, on-demand and label views.
INIT = """
import os, sys
os.chdir(sys.argv[1])
from feast.repo_operations import init_repo
init_repo("demo", "local")
"""
# Feast's own online store after it materialized the same file.
OWN = """
import json, sys
from datetime import datetime, timezone
from feast import FeatureStore
store = FeatureStore(sys.argv[1])
store.materialize_incremental(end_date=datetime.now(timezone.utc))
rows = [{"driver_id": driver} for driver in (1001, 1002, 1003, 1004, 1005, 4711)]
print(json.dumps(store.get_online_features(features=json.loads(sys.argv[2]), entity_rows=rows).to_dict()))
"""
# The same questions through `online_store: {type: remote}`, then a push and a write.
REMOTE = """
import json, sys
from datetime import datetime, timedelta, timezone
import pandas
from feast import FeatureStore
from feast.errors import FeatureViewNotFoundException
store = FeatureStore(sys.argv[1])
features = json.loads(sys.argv[2])
rows = [{"driver_id": driver} for driver in (1001, 1002, 1003, 1004, 1005, 4711)]
answers = {"read": store.get_online_features(features=features, entity_rows=rows).to_dict()}
service = store.get_feature_service("conversion")
answers["service"] = store.get_online_features(features=service, entity_rows=rows[:1]).to_dict()
now = datetime.now(timezone.utc)
frame = pandas.DataFrame({
    "driver_id": [1001, 4711], "event_timestamp": [now, now - timedelta(minutes=1)], "created": [now, now],
    "conv_rate": [0.5, 0.25], "acc_rate": [0.125, None], "avg_daily_trips": [1000, 7],
    "driver_metadata": [None, None], "driver_config": ["{}", None], "driver_profile": [None, None]})
store.push("driver_stats_push_source", frame)
fresh = [feature.replace("stats:", "stats_fresh:") for feature in features]
answers["pushed"] = store.get_online_features(features=fresh, entity_rows=[rows[0], rows[5]]).to_dict()
frame["conv_rate"] = [0.75, 0.625]
store.write_to_online_store("driver_hourly_stats", frame)
answers["written"] = store.get_online_features(features=features, entity_rows=[rows[0], rows[5]]).to_dict()
answers["plain"] = store.get_online_features(features=fresh, entity_rows=rows[1:2]).to_dict()
print(json.dumps(answers))
"""
SERVICE = """

conversion = FeatureService(name="conversion", features=[driver_stats_fv[["conv_rate", "avg_daily_trips"]]])
"""
FEATURES = ["driver_hourly_stats:conv_rate", "driver_hourly_stats:acc_rate", "driver_hourly_stats:avg_daily_trips"]


def run(*arguments: str, cwd: pathlib.Path | None = None) -> str:
    environment = {**os.environ, "FEAST_USAGE": "False", "PYTHONPATH": str(ROOT / "sdk" / "python" / "src")}
    result = subprocess.run([PYTHON, *arguments], capture_output=True, text=True, timeout=300, cwd=cwd, env=environment)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result.stdout


def singles(values: list[float | None]) -> list[bytes | None]:
    """The bits of single precision, which is what the repository's fields have."""
    return [None if value is None else struct.pack("<f", value) for value in values]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A repository as `feast init` makes it, applied with Feast's own stores."""
    folder = tmp_path_factory.mktemp("feast")
    run("-c", INIT, str(folder))
    repository = folder / "demo" / "feature_repo"
    definitions = repository / "feature_definitions.py"
    definitions.write_text(definitions.read_text() + SERVICE)
    run("-m", "feast.cli.cli", "apply", cwd=repository)
    return repository


def test_a_converted_repository_serves_what_feast_serves(
    start_server: Callable[..., Server], repository: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    out = tmp_path / "definitions"
    run("-m", "bottega.feast", str(repository), "--out", str(out))
    report = (out / "feast-report.md").read_text()
    for lost in ("driver_metadata", "driver_profile", "transformed_conv_rate", "driver_quality_labels", "vals_to_add"):
        assert lost in report
    server = start_server()
    server.cli("apply", str(out))
    body = {"end_ts": "2100-01-01T00:00:00", "feature_views": ["driver_hourly_stats", "driver_hourly_stats_fresh"]}
    status, answer = server.request("POST", "/materialize-incremental", body)
    assert (status, answer) == (200, None), answer

    own = json.loads(run("-c", OWN, str(repository), json.dumps(FEATURES)).splitlines()[-1])
    settings = (repository / "feature_store.yaml").read_text()
    remote = repository.parent / "remote"
    remote.mkdir(exist_ok=True)
    before = settings.index("online_store:")
    after = settings.index("entity_key_serialization_version")
    (remote / "feature_store.yaml").write_text(
        settings[:before].replace("data/registry.db", str(repository / "data" / "registry.db"))
        + f"online_store:\n    type: remote\n    path: {server.url}\n"
        + settings[after:]
    )
    answers: dict[str, Any] = json.loads(run("-c", REMOTE, str(remote), json.dumps(FEATURES)).splitlines()[-1])

    read = answers["read"]
    assert read["driver_id"] == own["driver_id"]
    assert any(value is not None for value in own["conv_rate"])
    for feature in ("conv_rate", "acc_rate", "avg_daily_trips"):
        assert singles(read[feature]) == singles(own[feature]), feature
    assert answers["service"]["avg_daily_trips"] == own["avg_daily_trips"][:1]
    assert answers["pushed"]["conv_rate"] == [0.5, 0.25]
    assert answers["pushed"]["acc_rate"] == [0.125, None]
    assert answers["pushed"]["avg_daily_trips"] == [1000, 7]
    assert answers["written"]["conv_rate"] == [0.75, 0.625]
    # A push reaches the view of its source alone.
    assert singles(answers["plain"]["conv_rate"]) == singles(own["conv_rate"][1:2])
