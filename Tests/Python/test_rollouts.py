"""Rollouts from outside: steps, halts, rollbacks without the object store, drills, replays, swaps under load."""

from __future__ import annotations

import json
import pathlib
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import shop
from bad_input import DAYS
from conftest import Server, until

NOW = shop.START + DAYS * shop.DAY
DEPLOYMENT = """sticky_by: [customer]
fallback: {constant: 0.25}
holdout: 5%
rollout:
  shadow: {at_least: 6h, pairs_min: 20}
  canary:
    - {share: 10%, at_least: 6h}
    - {share: 50%, at_least: 6h}
guardrails: {prediction_psi_max: 20, error_rate_max: 1%, latency_p99_max: 5s, disagreement_max: 60%}
"""


@pytest.fixture(scope="module")
def shopped(tmp_path_factory: pytest.TempPathFactory, binary: str) -> Iterator[Server]:
    """A server with two versions of the shop's model; the first is in production."""
    folder = tmp_path_factory.mktemp("rollouts")
    server = Server(folder / "data", "--clock", "manual").start()
    definitions = shop.write_definitions(folder / "definitions")
    text = (definitions / "model.yaml").read_text()
    start, end = text.index("sticky_by:"), text.index("---\nkind: Monitor")
    (definitions / "model.yaml").write_text(text[:start] + DEPLOYMENT + text[end:])
    server.cli("apply", str(definitions))
    server.post("/api/v1/clock", {"now": NOW})
    rows = shop.history(DAYS)
    for name in ("payments", "orders", "outcomes"):
        server.cli("ingest", name, str(shop.write_csv(folder / f"{name}.csv", getattr(rows, name))))
    span = ["--from", shop.text(shop.START + 2 * shop.DAY), "--to", shop.text(shop.START + (DAYS - 1) * shop.DAY)]
    dataset = json.loads(server.cli("dataset", "build", "loss", *span, "--json").stdout)["dataset"]
    for seed in (3, 4):
        job = json.loads(server.cli("train", "loss", "--dataset", dataset, "--seed", str(seed), "--json").stdout)
        server.cli("model", "register", "loss", "--job", job["id"])
    for stage in ("staging", "canary", "production"):
        server.cli("model", "promote", "loss", "1", stage, "--reason", "for the tests")
    server.cli("deploy", "loss", "1", "--reason", "for the tests")
    server.now = NOW
    yield server
    if server.process is not None:
        assert server.stop() == 0


def predict(server: Server, customer: str, price: float = 20) -> dict[str, Any]:
    return server.post(
        "/predict/loss", {"entities": {"customer": customer}, "features": {"channel": "web", "price": price}}
    )


def later(server: Server, hours: float) -> None:
    server.now += int(hours * shop.HOUR)
    server.post("/api/v1/clock", {"now": server.now})


def rollout(server: Server) -> dict[str, Any]:
    return server.get("/api/v1/models/loss/rollout")


def test_a_rollout_goes_its_way_and_explains_itself(shopped: Server) -> None:
    server = shopped
    refused = server.cli("rollout", "status", "loss", check=False)
    assert refused.returncode != 0 and "never had a rollout" in refused.stderr
    held = {customer for customer in map(str, range(400)) if predict(server, customer)["variant"] == "holdout"}
    assert 5 <= len(held) <= 40, "5 % of 400"

    print(server.cli("rollout", "start", "loss", "2", "--reason", "another seed").stdout)
    assert rollout(server)["phase"] == "shadow"
    again = server.cli("rollout", "start", "loss", "2", "--reason", "twice", check=False)
    assert "is being rolled out" in again.stderr
    for customer in range(60):
        predict(server, str(customer))
    until(lambda: "at this step are not over" in rollout(server)["now"]["reason"])
    later(server, 6)
    until(lambda: rollout(server)["phase"] == "canary")
    canaries = {str(customer) for customer in range(400) if predict(server, str(customer))["model_version"] == 2}
    assert 15 <= len(canaries) <= 75 and not canaries & held, "10 % of 400"

    # A pause keeps the share, whatever time passes.
    server.cli("rollout", "pause", "loss", "--reason", "lunch")
    later(server, 7)
    assert "paused: lunch" in rollout(server)["now"]["reason"]
    page = server.request("GET", "/rollouts/loss/2")[1]
    for words in ("canary, paused", "it gets 10 % of the traffic", "lunch", "sample ratio", "another seed"):
        assert words in page, page
    assert "/api/v1/models/loss/rollout/resume" in page
    server.cli("rollout", "resume", "loss", "--reason", "back again")
    assert rollout(server)["now"]["decision"] == "wait"

    server.cli("rollout", "advance", "loss", "--reason", "no time to lose")
    assert rollout(server)["share"] == 0.5
    half = {str(customer) for customer in range(400) if predict(server, str(customer))["model_version"] == 2}
    assert canaries < half and not half & held, "those who had it keep it"

    # A restart goes on where it stood, and deals the same customers the same versions.
    server.kill()
    server.start()
    assert rollout(server)["phase"] == "canary" and rollout(server)["share"] == 0.5
    assert half == {str(customer) for customer in range(400) if predict(server, str(customer))["model_version"] == 2}
    checks = {check["name"]: check for check in rollout(server)["now"]["checks"]}
    assert checks["sample_ratio"]["verdict"] == "passed" and checks["answers"]["verdict"] == "passed"

    later(server, 6)
    until(lambda: rollout(server)["phase"] == "production")
    text = server.cli("rollout", "explain", "loss").stdout
    for words in ("another seed", "lunch", "by lifecycle", "passed   sample_ratio", "passed   error_rate"):
        assert words in text, text
    entries = [json.loads(line) for line in server.request("GET", "/api/v1/audit/export")[1].splitlines()]
    decided = [entry for entry in entries if entry["action"] == "rollout.decided"]
    assert [entry["after"]["phase"] for entry in decided] == [
        "shadow", "canary", "paused", "canary", "canary", "production"
    ]  # fmt: skip
    assert decided[1]["after"]["checks"]
    assert predict(server, next(iter(half)))["model_version"] == 2
    page = server.request("GET", "/rollouts/loss/2")[1]
    assert "the controller" in page and "rollout/abort" not in page, page
    assert ">production</span>" in server.request("GET", "/rollouts")[1]
    assert server.request("GET", "/rollouts/loss/1")[0] == 404


def test_a_rollback_needs_no_object_store(shopped: Server) -> None:
    server = shopped
    assert server.stop() == 0
    server.start()
    objects = server.data_dir / "objects"
    objects.rename(server.data_dir / "gone")
    try:
        begin = time.monotonic()
        server.cli("rollback", "loss", "--reason", "it is worse")
        assert predict(server, "7")["model_version"] == 1
        assert time.monotonic() - begin < 30  # a command on a loaded machine; the drill measures
        page = server.request("GET", "/rollouts/loss/2")[1]
        for words in ("was in production", "it gets 0 % of the traffic", "it is worse"):
            assert words in page, page
        assert "was in production" in server.request("GET", "/rollouts")[1]
        said = server.cli("rollout", "status", "loss").stdout
        assert "gets 0 % of the traffic by revision" in said and "it is worse" in said, said
    finally:
        if objects.exists():
            for path in objects.rglob("*"):
                if path.is_file():
                    path.rename(server.data_dir / "gone" / path.relative_to(objects))
        import shutil

        shutil.rmtree(objects, ignore_errors=True)
        (server.data_dir / "gone").rename(objects)


def test_a_drill_goes_back_and_forth_again(shopped: Server) -> None:
    server = shopped
    server.cli("model", "promote", "loss", "2", "staging", "--reason", "again")
    server.cli("model", "promote", "loss", "2", "canary", "--reason", "again")
    server.cli("deploy", "variants", "loss", "1=60%", "2=40%", "--reason", "an experiment by hand")
    held = server.cli("model", "promote", "loss", "2", "archived", "--reason", "out", check=False)
    assert held.returncode == 3 and "'loss' sends traffic to it, and would go on" in held.stderr, held.stderr
    before = server.get("/api/v1/deployments/loss")
    done = server.cli("deploy", "drill", "loss", "--seconds", "1", check=False)
    assert "in effect after" in done.stdout, done.stdout + done.stderr
    report = server.get("/api/v1/deployments/loss/drill")
    assert report["probes"] and report["from"] == [1, 2] and report["to"] == [1]
    during = next(phase for phase in report["phases"] if phase["name"] == "during")
    assert during["answers"].get("1", 0) > 0 and during["errors"] == 0
    assert (done.returncode == 0) == report["passed"]
    assert server.get("/api/v1/deployments/loss")["revision"] == before["revision"], "nothing is written"
    assert {predict(server, str(customer))["model_version"] for customer in range(50)} == {1, 2}


def test_a_candidate_answers_logged_traffic(shopped: Server) -> None:
    server = shopped
    server.cli("deploy", "loss", "1", "--reason", "one version for the replay")
    ids = [predict(server, str(customer), price=5 + customer)["prediction_id"] for customer in range(300)]
    labels = [{"prediction_id": identifier, "label": place % 2} for place, identifier in enumerate(ids[:200])]
    assert server.post("/labels", {"labels": labels}) == {"accepted": 200}
    done = server.cli("shadow", "replay", "loss", "--version", "2", "--days", "30", check=False)
    assert done.returncode in (0, 3), done.stderr
    assert "logged answers" in done.stdout and "labels: log_loss" in done.stdout, done.stdout
    (report,) = server.get("/api/v1/models/loss/versions/2/shadow-replays")["replays"]
    assert report["pairs"] >= 300 and report["failures"] == 0 and report["labels"]["pairs"] >= 200
    assert report["skipped"]["answered by the version itself"] > 0
    assert report["prediction_psi"] is not None and 0 <= report["disagreement"] <= 1
    status, page = server.request("GET", f"/shadow-replays/{report['id']}")
    assert status == 200 and page.count("<svg") == 3
    # The champion answers as it did: the features are as they were.
    same = server.cli("shadow", "replay", "loss", "--version", "1", "--days", "30", check=False)
    own = server.get("/api/v1/models/loss/versions/1/shadow-replays")["replays"] if same.returncode in (0, 3) else []
    assert all(found["skipped"]["answered by the version itself"] >= 300 for found in own)


def test_a_gate_asks_logged_traffic(shopped: Server) -> None:
    server = shopped
    model = server.data_dir.parent / "definitions/model.yaml"
    before = model.read_text()

    def gate(bounds: str) -> str:
        at = before.index("  canary:\n    - {latency_p99") + len("  canary:\n")
        model.write_text(before[:at] + f"    - {{replay_shadow: 30d, {bounds}}}\n" + before[at:])
        return server.cli("apply", str(model.parent), check=False).stderr

    try:
        assert "needs a bound" in gate("pairs_min: 10")
        assert gate("pairs_min: 200, disagreement_max: 100%") == ""
        asked = json.loads(server.cli("model", "gates", "loss", "2", "canary", "--json", check=False).stdout)
        (said,) = (one for one in asked["gates"] if one["gate"].startswith("replay of 30d"))
        assert said["passed"] and "pairs (replay " in said["detail"], said
        replay = said["detail"].split("(replay ")[1].split(",")[0]
        report = server.get(f"/api/v1/shadow-replays/{replay}")
        assert report["version"] == 2 and report["pairs"] >= 200
        assert gate("pairs_min: 1000000, mean_difference_max: 1") == ""
        asked = json.loads(server.cli("model", "gates", "loss", "2", "canary", "--json", check=False).stdout)
        (said,) = (one for one in asked["gates"] if one["gate"].startswith("replay of 30d"))
        assert not said["passed"] and "1000000 are needed" in said["detail"], said
        assert replay in said["detail"], "the replay of a moment ago is taken as it is"
    finally:
        model.write_text(before)
        server.cli("apply", str(model.parent))


def test_a_rollout_gives_way_to_people(shopped: Server) -> None:
    server = shopped
    server.cli("rollout", "start", "loss", "2", "--reason", "once more")
    # The one before is not forgotten.
    (earlier,) = rollout(server)["earlier"]
    assert earlier["phase"] == "production" and "another seed" in earlier["decisions"][0]["reason"], earlier
    assert "another seed" in server.request("GET", "/rollouts/loss/2")[1]
    assert "an earlier rollout of version 2" in server.cli("rollout", "explain", "loss").stdout
    # A second one is refused, and changes nothing.
    dataset = server.get("/api/v1/models/loss/versions/1")["dataset"]
    job = json.loads(server.cli("train", "loss", "--dataset", dataset, "--seed", "5", "--json").stdout)
    server.cli("model", "register", "loss", "--job", job["id"])
    second = server.cli("rollout", "start", "loss", "3", "--reason", "at once", check=False)
    assert second.returncode == 3 and "version 2 is being rolled out" in second.stderr, second.stderr
    assert server.get("/api/v1/models/loss/versions/3")["stage"] == "development"
    server.cli("deploy", "variants", "loss", "1=100%", "--shadow", "2=50%", "--reason", "by hand")
    until(lambda: rollout(server)["halted"])
    assert "by hand" in rollout(server)["halted"]
    # A page that was left open speaks of another version, or of a policy that is no more: nothing happens.
    status, said = server.request("POST", "/api/v1/models/loss/rollout/abort", {"reason": "late", "version": 7})
    assert status == 409 and "not 7 any more" in said["error"]["message"], said
    stale = {"reason": "late", "expected_revision": 1}
    assert server.request("POST", "/api/v1/deployments/loss/rollback", stale)[0] == 409
    page = server.request("GET", "/rollouts/loss/2")[1]
    assert 'data-key="version" data-value="2">resume</button>' in page and ">roll back</button>" not in page
    server.cli("rollout", "resume", "loss", "--reason", "go on")
    assert rollout(server)["halted"] is None
    server.cli("deploy", "loss", "1", "--reason", "enough of it")
    until(lambda: rollout(server)["phase"] == "withdrawn")
    assert "enough of it" in rollout(server)["decisions"][-1]["reason"]
    assert server.cli("rollout", "abort", "loss", "--reason", "late", check=False).returncode != 0
    # Shares that somebody deals are not ended by a rollout.
    for stage in ("staging", "canary"):
        server.cli("model", "promote", "loss", "2", stage, "--reason", "again")
    server.cli("deploy", "variants", "loss", "1=60%", "2=40%", "--reason", "an experiment by hand")
    model = server.data_dir.parent / "definitions/model.yaml"
    before = model.read_text()
    model.write_text(before.replace("sticky_by: [customer]", "sticky_by: [customer]\nsalt: other"))
    planned = server.cli("plan", str(model.parent)).stdout
    model.write_text(before)
    assert "warning: Deployment/loss: its traffic is split" in planned, planned
    split = server.cli("rollout", "start", "loss", "2", "--reason", "and now this", check=False)
    assert split.returncode == 3 and "its traffic is split (1=60.0% 2=40.0%)" in split.stderr, split.stderr
    assert len(server.get("/api/v1/deployments/loss")["variants"]) == 2
    server.cli("deploy", "loss", "1", "--reason", "enough of it")


def test_swaps_under_load_fail_nobody(shopped: Server) -> None:
    """A small form of `Benchmarks/version_swaps.py`."""
    server = shopped
    failures: list[Any] = []
    answered = 0
    stop = threading.Event()

    def ask() -> None:
        nonlocal answered
        body = {"entities": {"customer": "7"}, "features": {"channel": "web", "price": 9}}
        while not stop.is_set():
            status, answer = server.request("POST", "/predict/loss", body)
            if status != 200 or answer["fallback"]:
                failures.append((status, answer))
            answered += 1

    workers = [threading.Thread(target=ask) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        for swap in range(30):
            version = 1 + swap % 2
            server.post(f"/models/loss/versions/{version}/deploy", {"reason": "swap"})
            seen = predict(server, "7")
            assert seen["model_version"] == version, "the next answer is the new version's"
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert not failures and answered > 30


def test_a_kill_in_the_middle_of_a_step_leaves_no_half_step(shopped: Server) -> None:
    """Whatever was decided is what the traffic follows after the start, and it was decided once."""
    server = shopped
    server.cli("deploy", "loss", "1", "--reason", "before the kills")
    server.cli("model", "promote", "loss", "2", "staging", "--reason", "before the kills")
    server.cli("rollout", "start", "loss", "2", "--reason", "with kills")

    def follows() -> bool:
        state, policy = rollout(server), server.get("/api/v1/deployments/loss")
        shares = {one["version"]: one["share"] for one in policy["variants"]}
        if state["phase"] == "shadow":
            return policy["shadows"] == [2] and 2 not in shares
        return shares.get(2) == pytest.approx(state["share"]) and policy["shadows"] == []

    moments = random.Random(5)
    for _ in range(3):
        step = threading.Thread(
            target=lambda: server.cli("rollout", "advance", "loss", "--reason", "a step", check=False)
        )
        step.start()
        time.sleep(moments.uniform(0, 0.3))
        server.kill()
        step.join()
        server.start()
        until(follows)
        state = rollout(server)
        steps = [(one["phase"], one["share"]) for one in state["decisions"]]
        assert len(steps) == len(set(steps)), "no step is taken twice"
    server.cli("rollout", "abort", "loss", "--reason", "enough", check=False)
    until(lambda: predict(server, "7")["model_version"] in (1, 2))


def test_what_rollouts_do_not_know_is_refused_with_the_nearest_word(shopped: Server, tmp_path: pathlib.Path) -> None:
    server = shopped
    status, answer = server.request("POST", "/api/v1/models/loss/rollout/resum", {"reason": "x"})
    assert status == 404 and "resume" in answer["error"]["message"]
    status, answer = server.request(
        "POST", "/api/v1/deployments/loss/policy", {"variants": [{"version": 1, "shar": 1}], "reason": "x"}
    )
    assert status == 422 and "share" in answer["error"]["message"]
    revision = server.get("/api/v1/deployments/loss")["revision"]
    status, answer = server.request(
        "POST",
        "/api/v1/deployments/loss/policy",
        {"variants": [{"version": 1, "share": 1}], "reason": "late", "expected_revision": revision - 1},
    )
    assert status == 409 and "look again" in answer["error"]["message"]
