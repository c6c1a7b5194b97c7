"""A run with a hundred thousand parameters, as careless sweeps make them."""

import os
import time

import pytest
import requests

COUNT = int(os.environ.get("BOTTEGA_PARAM_COUNT", "20000"))


@pytest.fixture(scope="module")
def url(server):
    return server.url.rstrip("/")


def call(url, path, body):
    answer = requests.post(f"{url}/api/2.0/mlflow/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_run_with_many_parameters(server, url):
    run = call(url, "runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
    began = time.monotonic()
    with requests.Session() as session:
        for start in range(0, COUNT, 100):
            params = [{"key": f"layer.{n}.weight", "value": f"value {n}"} for n in range(start, start + 100)]
            for _ in range(2 if start == 0 else 1):  # a client that got no answer sends a batch again
                answer = session.post(f"{url}/api/2.0/mlflow/runs/log-batch", json={"run_id": run, "params": params})
                assert answer.status_code == 200, answer.text
    print("logged in", time.monotonic() - began, "resident MiB", server.resident_mib())
    changed = [{"key": f"layer.{COUNT - 1}.weight", "value": "another"}]
    answer = requests.post(f"{url}/api/2.0/mlflow/runs/log-batch", json={"run_id": run, "params": changed})
    assert answer.status_code == 400

    began = time.monotonic()
    kept = requests.get(f"{url}/api/2.0/mlflow/runs/get", params={"run_id": run}).json()["run"]
    print("got in", time.monotonic() - began, "resident MiB", server.resident_mib())
    assert len(kept["data"]["params"]) == COUNT
    began = time.monotonic()
    found = call(
        url,
        "runs/search",
        {"experiment_ids": ["0"], "filter": f"params.`layer.{COUNT - 1}.weight` = 'value {COUNT - 1}'"},
    )
    print("found in", time.monotonic() - began, "resident MiB", server.resident_mib())
    assert [r["info"]["run_id"] for r in found["runs"]] == [run]
    began = time.monotonic()
    page = requests.get(f"{url}/runs/{run}")
    print("page in", time.monotonic() - began, len(page.content), "resident MiB", server.resident_mib())
    assert page.status_code == 200
    listed = requests.get(f"{url}/api/v1/runs/{run}").json()
    assert listed
