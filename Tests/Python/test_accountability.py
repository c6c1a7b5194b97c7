"""Who did what, as an auditor asks: tables against the audit chain, names of people, secrets in logs."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import shop
from bad_input import DAYS, PREDICT
from conftest import ROOT, Server, trained_server, until

POLICY = "SELECT policy FROM deployment_policies WHERE deployment = 'loss' AND revision = 1"


@pytest.fixture(scope="module")
def shop_server(tmp_path_factory: pytest.TempPathFactory, binary: str) -> Iterator[Server]:
    """A server of this module's own, whose database the tests change."""
    server = trained_server(tmp_path_factory.mktemp("accountability"))
    server.cli("model", "gates", "loss", "1", "staging")
    server.post("/api/v1/clock", {"now": shop.START + (DAYS + 1) * shop.DAY})
    server.cli("model", "approve", "loss", "1", "staging", "--reason", "looks right", "--as", "grace")
    yield server
    assert server.stop() == 0


def sql(server: Server, *statements: str) -> None:
    """Changes the database of a server that stands still meanwhile."""
    assert server.stop() == 0
    with sqlite3.connect(server.data_dir / "metadata.sqlite") as database:
        for statement in statements:
            assert database.execute(statement).rowcount == 1, statement
    database.close()
    server.start()


def test_rows_that_were_changed_behind_the_chain_are_found(shop_server: Server) -> None:
    before = shop_server.cli("audit", "verify").stdout
    assert "all intact" in before and "all as it says" in before and "nothing to compare" not in before
    with sqlite3.connect(shop_server.data_dir / "metadata.sqlite") as database:
        (policy,) = database.execute(POLICY).fetchone()
        (metrics,) = database.execute("SELECT metrics FROM model_versions WHERE model = 'loss'").fetchone()
        rows = dict(database.execute("SELECT to_stage, actor FROM model_stage_transitions").fetchall())
        (moment,) = database.execute("SELECT time FROM model_approvals").fetchone()
    database.close()
    auc = json.loads(metrics)["test"]["auc"]
    better = {**json.loads(metrics), "test": {**json.loads(metrics)["test"], "auc": 0.987}}
    assert "0.987" not in policy and rows["staging"] == rows["production"]
    where = "UPDATE model_stage_transitions SET"
    at = "WHERE model = 'loss' AND to_stage ="
    sql(
        shop_server,
        f"{where} actor = 'alice', reason = 'approved by the board' {at} 'production'",
        f"{where} evidence = NULL {at} 'canary'",
        "UPDATE deployment_policies SET actor = 'bob' WHERE deployment = 'loss' AND revision = 1",
        "UPDATE model_approvals SET actor = 'mallory', time = time - 86400000",
        f"UPDATE model_versions SET metrics = '{json.dumps(better)}' WHERE model = 'loss'",
    )
    forged = shop_server.cli("audit", "verify", check=False)
    assert forged.returncode == 1 and "all intact" in forged.stdout, forged.stdout
    for words in (
        "actor: table says 'alice'", "reason: table says 'approved by the board', chain says 'for the tests'",
        "evidence: table says ''", "actor: table says 'bob'", "table says 'mallory', chain says 'grace'",
        f"auc on test: table says '0.987', chain says '{auc}'",
    ):  # fmt: skip
        assert words in forged.stdout, (words, forged.stdout)
    answer = shop_server.post("/api/v1/audit/verify")
    assert answer["intact"] is True and len(answer["differences"]) == 7
    assert {d["what"] for d in answer["differences"]} >= {"time"}

    # Back as it was, but a policy, a stage and a row that nobody wrote.
    sql(
        shop_server,
        f"{where} actor = '{rows['staging']}', reason = 'for the tests' {at} 'production'",
        f"{where} evidence = (SELECT evidence FROM audit_entries WHERE after_json LIKE '%\"canary\"%' "
        f"AND action = 'model.stage.changed') {at} 'canary'",
        f"UPDATE deployment_policies SET actor = '{rows['staging']}' WHERE deployment = 'loss' AND revision = 1",
        f"UPDATE model_approvals SET actor = 'grace', time = {moment}",
        f"UPDATE model_versions SET metrics = '{metrics}' WHERE model = 'loss'",
    )
    assert shop_server.cli("audit", "verify").stdout == before
    sql(
        shop_server,
        "UPDATE model_versions SET stage = 'archived' WHERE model = 'loss'",
        "INSERT INTO model_approvals (position, model, number, stage, actor, verdict, reason, seal, time) SELECT "
        "position + 1, model, number, stage, 'ada', verdict, reason, seal, time FROM model_approvals",
        f"DELETE FROM model_stage_transitions {at} 'staging'",
    )
    found = shop_server.post("/api/v1/audit/verify")["differences"]
    assert [(d["what"], d["table"] is None, d["chain"] is None) for d in found] == [
        ("stage", False, False), ("row", True, False), ("row", False, True)
    ], found  # fmt: skip


def test_evidence_that_was_changed_or_is_gone_is_found(shop_server: Server, tmp_path: Path) -> None:
    export, blobs = tmp_path / "audit.ndjson", shop_server.data_dir / "objects" / "objects" / "blobs"
    shop_server.cli("audit", "export", str(export))
    command = [sys.executable, str(ROOT / "tools" / "verify_audit.py"), str(export), "--blobs", str(blobs)]

    def outside() -> tuple[int, str]:
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stdout

    assert outside()[0] == 0 and "and their evidence" in outside()[1], outside()
    before = shop_server.post("/api/v1/audit/verify")
    entry = next(e for e in shop_server.get("/api/v1/audit")["entries"] if e["evidence"])
    file = blobs / entry["evidence"][:2] / entry["evidence"]
    kept = file.read_bytes()
    assert before["evidence"] >= 1 and not [d for d in before["differences"] if d["what"] == "blob"]
    file.chmod(0o600)
    for change, word in ((lambda: file.write_bytes(kept.replace(b"e", b"3", 1)), "changed"), (file.unlink, "gone")):
        change()
        told = shop_server.cli("audit", "verify", check=False)
        assert told.returncode == 1, told.stdout
        assert f"entry {entry['position']}: its evidence {entry['evidence']} is {word}" in told.stdout, told.stdout
        assert outside()[0] == 1 and f"line {entry['position']}: its evidence" in outside()[1], outside()
    file.write_bytes(kept)
    assert shop_server.post("/api/v1/audit/verify") == before


def test_rows_older_than_the_chain_are_no_forgeries(shop_server: Server) -> None:
    assert shop_server.stop() == 0
    with sqlite3.connect(shop_server.data_dir / "metadata.sqlite") as database:
        database.execute("DELETE FROM audit_entries")
    database.close()
    shop_server.start()
    answer = shop_server.post("/api/v1/audit/verify")
    assert answer["differences"] == [] and answer["compared"] == 0 and answer["not_compared"] >= 6, answer
    assert "nothing to compare with" in shop_server.cli("audit", "verify").stdout


def test_the_list_of_entries_says_that_there_are_more(trained: Server) -> None:
    total = trained.get("/api/v1/audit?limit=1")["total"]
    assert total > 5
    listed = trained.cli("audit", "list", "--limit", "3").stdout
    assert listed.rstrip().endswith(f"3 of {total}; more: --from 4, the newest: --last N")
    newest = trained.cli("audit", "list", "--last", "2").stdout
    assert f"the newest 2 of {total}" in newest and newest.split("\n")[2].split()[0] == str(total), newest
    entries = trained.get(f"/api/v1/audit?from={total - 1}")["entries"]
    assert trained.get("/api/v1/audit?last=2")["entries"] == entries
    assert " of " not in trained.cli("audit", "list", "--subject", "deployment/loss").stdout


def approve(server: Server, actor: str | bytes, verdict: str = "approve") -> tuple[int, str]:
    body = {"stage": "staging", "verdict": verdict, "reason": "fine"}
    headers = {"X-Bottega-Actor": actor}
    status, answer = server.request("POST", "/api/v1/models/loss/versions/1/approvals", body, headers=headers)
    return status, json.dumps(answer)


def test_names_of_controllers_are_refused_and_people_are_one_however_written(trained: Server) -> None:
    gates = ("model", "gates", "loss", "1", "staging")
    trained.cli(*gates)
    for name in ("lifecycle", "Lifecycle ", "monitor", "schedule", "tables"):
        status, answer = approve(trained, name)
        assert status == 403 and "signs" in answer, (name, answer)
    # Who reads or predicts signs nothing.
    for name in ("monitor", "J\u00f6rg".encode()):
        for method, path, body in [("GET", "/api/v1/runs", None), ("POST", "/predict/loss", PREDICT)]:
            status, answer = trained.request(method, path, body, headers={"X-Bottega-Actor": name})
            assert status == 200, (name, path, answer)
    for name in ("\u0430lice".encode(), "J\u00f6rg".encode(), "a" * 256):
        status, answer = approve(trained, name)
        assert status == 422 and "actor" in answer, (name, answer)
    author = trained.get("/api/v1/models/loss/versions/1")["created_by"]
    for name in (author.upper(), f"  {author} "):
        status, answer = approve(trained, name)
        assert status == 409 and "registered this version" in answer, (name, answer)
    people = ("ada.lovelace@example.org", "ADA.Lovelace@Example.org ", "auth0|5f7c8ec7c33c6c004bbafe82")
    for name in people:
        assert approve(trained, name)[0] == 200, name
    folder = trained.definitions
    model = folder / "model.yaml"
    before = model.read_text()
    try:
        model.write_text(before.replace("  staging:\n", "  staging:\n    - {approvals: 3}\n", 1))
        trained.cli("apply", str(folder))
        trained.cli(*gates, check=False)
        for name in people:
            approve(trained, name)
        shown = trained.cli(*gates, check=False).stdout
        assert "auth0|5f7c8ec7c33c6c004bbafe82" in shown and "ADA.Lovelace" in shown and "FAILED" in shown, shown
        assert "ada.lovelace@" not in shown, "the same person, once"
    finally:
        model.write_text(before)
        trained.cli("apply", str(folder))


def test_a_command_acts_for_whom_it_is_told_to(trained: Server) -> None:
    def last() -> str:
        return trained.get("/api/v1/audit?last=1")["entries"][0]["actor"]

    change = ("model", "label", "loss", "1")
    trained.cli(*change, "1.0.1", "--as", "grace@example.org")
    assert last() == "grace@example.org"
    before = trained.environment
    try:
        trained.environment = {**before, "USER": "ada", "BOTTEGA_ACTOR": "linus"}
        trained.cli(*change, "1.0.2")
        assert last() == "linus"
        trained.environment = {**before, "USER": "ada"}
        trained.cli(*change, "1.0.3")
        assert last() == "ada"
    finally:
        trained.environment = before
    refused = trained.cli(*change, "1.0.4", "--as", "lifecycle", check=False)
    assert refused.returncode == 2 and "'lifecycle' is how a part of the platform signs" in refused.stderr
    assert "BOTTEGA_ACTOR" in trained.cli("model", "approve", "--help").stdout


def test_no_level_of_the_log_shows_a_secret(start_server: Callable[..., Server]) -> None:
    secrets = {
        "BOTTEGA_GATEWAY_TOKEN": "supersecret-token-123456",
        "BOTTEGA_OPENLINEAGE_KEY": "supersecret-lineage-654321",
        "BOTTEGA_OPENLINEAGE_URL": "http://127.0.0.1:9",
        "BOTTEGA_WEBHOOKS_HTTP": "true",
        "BOTTEGA_WEBHOOKS_PRIVATE": "true",
    }
    server = start_server("--log-level", "trace", environment=secrets)
    bearer = {"Authorization": f"Bearer {secrets['BOTTEGA_GATEWAY_TOKEN']}"}
    hook = {"name": "w", "url": "http://127.0.0.1:9/x", "events": ["*"], "secret": "supersecret-webhook-777"}
    status, answer = server.request("POST", "/api/v1/webhooks", hook, headers=bearer)
    assert status == 201, answer
    assert server.request("GET", "/api/v1/status", headers={"Authorization": "Bearer supersecret-guess-1"})[0] == 401
    assert server.request("POST", "/predict/none", PREDICT, headers=bearer)[0] == 404
    until(lambda: "Starting service lifecycle" in server.log_path.read_text())
    assert server.stop() == 0
    told = server.log_path.read_text()
    assert "GatewayServer" in told, "parts are named"
    assert "supersecret" not in told, [line[:200] for line in told.splitlines() if "supersecret" in line]


def test_why_names_gates_and_who_set_the_policy(trained: Server) -> None:
    prediction = trained.post("/predict/loss", PREDICT)["prediction_id"]
    told = trained.cli("why", prediction, "--as", "grace").stdout
    whole = trained.get(f"/predictions/{prediction}/why")
    gates = [gate for step in whole["version"]["transitions"] for gate in step["gates"]]
    assert len(gates) > 3 and all(gate["gate"] in told for gate in gates), told
    lines = [line for line in told.splitlines() if line.startswith("  gate")]
    assert len(lines) == len(gates) and all("passed" in line for line in lines), told
    (auc,) = [gate["observed"] for gate in gates if gate["gate"].startswith("auc on test \u2265")]
    assert any("auc on test \u2265 0.6: " in line and f"{auc:.3g}"[:4] in line for line in lines), lines
    policy = whole["policy"]
    (published,) = [line for line in told.splitlines() if line.startswith("  published")]
    assert policy["time"] in published and policy["actor"] in published and policy["reason"] in published


def test_a_replay_that_compares_nothing_says_so(trained: Server) -> None:
    ids = [trained.post("/predict/loss", PREDICT)["prediction_id"] for _ in range(3)]
    assert len(ids) == 3
    shown = trained.cli("replay", "loss", "--count", "3")
    assert "replayed 3, equal bit for bit 3" in shown.stdout
    unknown = trained.cli("replay", "nosuch", "--count", "5", check=False)
    assert unknown.returncode == 4 and "no such model" in unknown.stderr, unknown.stderr
    trained.post("/api/2.0/mlflow/registered-models/create", {"name": "silent"})
    nothing = trained.cli("replay", "silent", "--count", "5", check=False)
    assert nothing.returncode == 1 and "nothing was compared" in nothing.stdout, nothing


def test_labels_of_unknown_predictions_are_counted(trained: Server) -> None:
    def waiting() -> int:
        return trained.get("/api/v1/status")["labels_waiting"] or 0

    before = waiting()
    for last in "abc":
        label = {"prediction_id": f"018d4d5d-a800-73c8-9c8c-8a9d4c17d01{last}", "label": 1}
        assert trained.post("/labels", label) == {"accepted": 1}
    # Older than every horizon, they are late; of the moment, they wait for their prediction.
    counts = until(lambda: "bottega_monitor_labels_total" in trained.request("GET", "/metrics")[1])
    assert counts

    def late() -> bool:
        text = trained.request("GET", "/metrics")[1]
        lines = [line for line in text.splitlines() if line.startswith('bottega_monitor_labels_total{result="late"}')]
        return bool(lines) and float(lines[0].split()[-1]) >= 3

    until(lambda: late() or waiting() >= before + 3)
    status, answer = trained.request("POST", "/labels", raw=b"[1]")
    assert status == 422 and answer["error"]["subject"] == "request body", answer


def test_what_the_server_writes_is_its_users_alone(
    start_server: Callable[..., Server], tmp_path: os.PathLike[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    data.chmod(0o755)
    server = start_server()
    server.post("/api/2.0/mlflow/registered-models/create", {"name": "m"})
    server.request("PUT", "/api/2.0/mlflow-artifacts/artifacts/a/b.txt", raw=b"kept")
    assert server.stop() == 0
    found = sorted(path for path in data.rglob("*"))
    assert any(path.name.startswith("metadata.sqlite") for path in found) and (data / "objects").is_dir()
    for path in found:
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode & 0o077 == 0, f"{path}: {mode:o}"


def test_refusals_say_what_is_allowed(start_server: Callable[..., Server], trained: Server) -> None:
    def refusal(server: Server) -> str:
        hook = {"name": "w", "url": "ftp://example.org/x", "events": ["*"]}
        status, answer = server.request("POST", "/api/v1/webhooks", hook)
        assert status == 422, answer
        return answer["error"]["message"]

    assert "must be https" in refusal(trained)
    assert "must be http or https" in refusal(start_server("--set", "webhooks.http=true"))
    nothing = trained.cli("scores", "nosuch", check=False)
    assert nothing.returncode == 4 and "no table of scores 'nosuch'" in nothing.stderr


def test_a_deployment_that_was_removed_is_not_live(tmp_path: Path) -> None:
    server = trained_server(tmp_path)
    try:
        files = {path: path.read_text() for path in (tmp_path / "definitions").glob("*.yaml")}
        [(path, text)] = [(path, text) for path, text in files.items() if "kind: Deployment" in text]
        path.write_text("---\n".join(part for part in text.split("---\n") if "kind: Deployment" not in part))
        before = server.get("/api/v1/models/loss/live")
        assert before["deployments"] and before["removed_deployments"] == []
        removing = ("apply", str(tmp_path / "definitions"), "--as", "ada")
        assert "they would get 404" in server.cli(*removing, check=False).stderr
        moment = server.get("/api/v1/status")["now"]
        server.post("/api/v1/clock", {"now": shop.START + (DAYS + 1) * shop.DAY})
        server.cli(*removing, "--force")
        now = server.get("/api/v1/models/loss/live")
        assert now["deployments"] == [] and now["stages"] == {"1": "production"}
        [removed] = now["removed_deployments"]
        assert (removed["deployment"], removed["actor"], removed["since"]) == ("loss", "ada", now["at"])
        assert server.get(f"/api/v1/models/loss/live?at={moment}") == {**before, "at": moment, "unloaded_versions": []}
        assert "loss answers nobody: ada removed it" in server.cli("model", "live", "loss").stdout
        # Nothing answers, so nothing keeps it; defined again, it is as it was.
        path.write_text(text)
        server.cli("apply", str(tmp_path / "definitions"))
        assert server.request("POST", "/predict/loss", PREDICT)[0] == 200
        held = server.cli("model", "promote", "loss", "1", "archived", "--reason", "out", check=False)
        assert held.returncode == 3 and "sends traffic to it" in held.stderr
        path.write_text("---\n".join(part for part in text.split("---\n") if "kind: Deployment" not in part))
        server.cli("apply", str(tmp_path / "definitions"), "--force")
        server.cli("model", "promote", "loss", "1", "archived", "--reason", "out")
        assert server.request("DELETE", "/api/2.0/mlflow/registered-models/delete", {"name": "loss"})[0] == 200
    finally:
        assert server.stop() == 0
