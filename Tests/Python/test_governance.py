"""A version's way through its gates: evidence of every kind, refusals, people who agree, what was live, the card, and a
retraining that waits for people instead of going around them."""

from __future__ import annotations

import json
import pathlib
import subprocess
import time
from typing import Any

import numpy as np
import pytest
import shop
from conftest import ROOT, Server

FROM, TO, LIVE, DRIFT, END = 8, 26, 27, 28, 31

GATES = """
gates:
  staging:
    - {signature: present}
    - {rows: 20}
    - {metric: log_loss, max: %(log_loss)s}
    - {metric: balanced_accuracy, min: 0.3}
    - {metric: auc, better_than_champion_by: 0, confidence: 0.9}
    - {leakage: none}
    - {dataset_age: %(age)s}
    - {approvals: 1}
  canary:
    - {latency_p99: 50ms}
    - {memory: %(memory)s}
    - {signature: compatible}
    - {metric: auc, each: channel, of_rows: 20, min: %(group)s}
    - {metric: accuracy, each: customer, of_rows: 3, min: 0.01}
    - {fairness: demographic_parity_difference, by: channel, max: %(parity)s}
    - {fairness: equal_opportunity_difference, by: channel, threshold: %(call)s, max: 1}
    - {metric: ece, max: %(ece)s}
  production:
    - {feature_parity: 200}
    - {metric: auc, not_worse_than_champion_by: 0.5}
    - {approvals: 2}
"""
# What nothing can hold, and what a decent model does.
STRICT = {
    "log_loss": 0.0001, "age": "1h", "memory": "1KiB", "group": 0.999, "parity": 0.0001, "call": 0.9999, "ece": 0.0001,
}  # fmt: skip
FAIR = {"log_loss": 0.9, "age": "30d", "memory": "256MiB", "group": 0.3, "parity": 1, "call": 0.5, "ece": 0.5}

BANDS = """
kind: TrainingSet
name: band
service: loss
spine: orders
label: {name: band, source: outcomes, join: [order], column: band, horizon: 12h}
split: {by: time, validation: 15%, test: 20%}
---
kind: Model
name: band
service: loss
training_set: band
training: {command: ["{python}", train.py], parameters: {rounds: 10, kind: softprob}, seed: 3, timeout: 3m}
gates:
  staging:
    - {signature: present}
    - {metric: accuracy, min: 0.3}
    - {metric: f1_weighted, min: 0.1}
    - {metric: log_loss, max: 2}
    - {metric: ece, max: 0.9}
  canary:
    - {latency_p99: 50ms}
    - {metric: accuracy, each: channel, of_rows: 5, min: 0.01}
  production:
    - {metric: accuracy, not_worse_than_champion_by: 1}
---
kind: Deployment
name: band
model: band
sticky_by: [customer]
"""

TRAIN = '''
"""Trains with XGBoost or LightGBM, two classes or three, and logs with the ordinary client."""

import json
import os

import lightgbm
import mlflow
import mlflow.lightgbm
import mlflow.xgboost
import numpy as np
import pyarrow.parquet as parquet
import xgboost
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

with open(os.environ["BOTTEGA_DATASET_MANIFEST"], encoding="utf-8") as file:
    manifest = json.load(file)
columns = [column for column in manifest["columns"] if column["role"] in ("request", "feature")]
names = [column["name"] for column in columns]
kind, rounds = os.environ["BOTTEGA_PARAM_KIND"], int(os.environ["BOTTEGA_PARAM_ROUNDS"])
seed = int(os.environ["BOTTEGA_SEED"])


def load(name):
    frame = parquet.read_table(os.environ[f"BOTTEGA_{name.upper()}"]).to_pandas()
    values = []
    for column in columns:
        cells = frame[column["name"]]
        if column.get("categories"):
            cells = cells.map({value: code for code, value in enumerate(column["categories"])})
        values.append(cells.astype("float32"))
    return np.column_stack(values), frame[manifest["label"]].astype("float32").to_numpy()


inputs = [
    ColSpec(DataType.string if column.get("categories") else DataType.double, column["name"], required=False)
    for column in columns
]
described = {
    "name": "model",
    "signature": ModelSignature(inputs=Schema(inputs), outputs=Schema([ColSpec(DataType.float)])),
}
x, y = load("train")
with mlflow.start_run():
    if kind in ("binary", "softprob"):
        objective = {"objective": "binary:logistic"}
        if kind == "softprob":
            objective = {"objective": "multi:softprob", "num_class": 3}
        data = xgboost.DMatrix(x, y, feature_names=names, nthread=1)
        booster = xgboost.train({**objective, "max_depth": 3, "seed": seed, "nthread": 1}, data, rounds)
        mlflow.xgboost.log_model(booster, model_format="ubj", pip_requirements=["xgboost"], **described)
    else:
        parameters = {"num_threads": 1, "seed": seed, "verbose": -1, "num_leaves": 7, "min_data_in_leaf": 5}
        parameters |= {"objective": "multiclass", "num_class": 3} if kind == "multiclass" else {"objective": "binary"}
        booster = lightgbm.train(parameters, lightgbm.Dataset(x, y, feature_name=names), rounds)
        mlflow.lightgbm.log_model(booster, pip_requirements=["lightgbm"], **described)
'''


def band(loss: float) -> int:
    return 0 if loss < 5 else 1 if loss < 10 else 2


class Desk:
    """A server with a model whose stages are guarded, and what its tests do to it."""

    def __init__(self, server: Server, folder: pathlib.Path) -> None:
        self.server, self.folder = server, folder
        self.definitions = folder / "definitions"
        self.history = shop.history(END, drift_from=DRIFT)
        self.clock(LIVE)
        self.define(STRICT)
        for name in ("payments", "orders", "outcomes"):
            rows = self.rows(name, 0, LIVE)
            self.json("ingest", name, str(shop.write_csv(folder / f"{name}.csv", rows)))
        self.datasets = {name: self.build(name) for name in ("loss", "band")}

    def define(self, bounds: dict[str, Any]) -> None:
        shop.write_definitions(self.definitions, train=TRAIN)
        data = self.definitions / "data.yaml"
        column = "  - {name: loss, type: float64, nullable: false}\n"
        text = data.read_text().replace(column, column + "  - {name: band, type: float64, nullable: false}\n")
        data.write_text(text + "---" + BANDS)
        model = self.definitions / "model.yaml"
        head, tail = model.read_text().split("gates:", 1)
        head = head.replace("parameters: {rounds: 40, depth: 3}", "parameters: {rounds: 40, kind: binary}")
        model.write_text(head + (GATES % bounds).lstrip() + "---" + tail.split("---", 1)[1])
        self.json("apply", str(self.definitions))

    def clock(self, day: float) -> None:
        self.server.post("/api/v1/clock", {"now": shop.START + int(day * shop.DAY)})

    def rows(self, name: str, first: float, last: float) -> list[dict[str, Any]]:
        key = {"payments": "known_at", "orders": "asked_at", "outcomes": "settled_at"}[name]
        start, end = shop.START + first * shop.DAY, shop.START + last * shop.DAY
        chosen = [row for row in getattr(self.history, name) if start <= row[key] < end]
        return [{**row, "band": band(row["loss"])} for row in chosen] if name == "outcomes" else chosen

    def build(self, name: str) -> str:
        span = ["--from", shop.text(shop.START + FROM * shop.DAY), "--to", shop.text(shop.START + TO * shop.DAY)]
        return self.json("dataset", "build", name, *span)["dataset"]

    def cli(self, *arguments: str, by: str = "ada", check: bool = True) -> subprocess.CompletedProcess[str]:
        before = self.server.environment
        self.server.environment = {**before, "USER": by}
        try:
            return self.server.cli(*arguments, check=check)
        finally:
            self.server.environment = before

    def json(self, *arguments: str, by: str = "ada") -> Any:
        return json.loads(self.cli(*arguments, "--json", by=by).stdout)

    def version(self, model: str, kind: str, rounds: int = 20, by: str = "ada") -> int:
        parameters = {"kind": kind, "rounds": str(rounds)}
        body = {"model": model, "dataset": self.datasets[model], "parameters": parameters}
        job = self.server.post("/training-jobs", body)
        return self.json("model", "register", model, "--job", job["id"], by=by)["version"]

    def promote(self, model: str, version: int, stage: str) -> subprocess.CompletedProcess[str]:
        return self.cli("model", "promote", model, str(version), stage, "--reason", f"{stage} is due", check=False)

    def approve(self, model: str, version: int, stage: str, *more: str, by: str) -> subprocess.CompletedProcess[str]:
        arguments = ["model", "approve", model, str(version), stage, "--reason", "looks right", *more]
        return self.cli(*arguments, by=by, check=False)

    def gates(self, model: str, version: int, stage: str) -> dict[str, Any]:
        said = self.cli("model", "gates", model, str(version), stage, "--json", check=False)
        answer = json.loads(said.stdout)
        failed = [gate for gate in answer["gates"] if not gate["passed"] and not gate["approval"]]
        assert said.returncode == (3 if failed else 0), (said.returncode, answer)
        return answer


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, binary: str):
    folder = tmp_path_factory.mktemp("governance")
    server = Server(folder / "data", "--clock", "manual").start()
    try:
        yield Desk(server, folder)
    finally:
        code = server.stop()
    assert code == 0


def verdicts(answer: dict[str, Any]) -> dict[str, tuple[bool, str]]:
    return {gate["gate"]: (gate["passed"], gate["detail"]) for gate in answer["gates"]}


def test_every_kind_of_gate_refuses_with_its_reason(desk: Desk) -> None:
    assert desk.version("loss", "binary", 1) == 1
    assert desk.version("loss", "binary", 40) == 2
    found = {}
    for stage in ("staging", "canary", "production"):
        found |= verdicts(desk.gates("loss", 2, stage))
    refused = {gate: detail for gate, (passed, detail) in found.items() if not passed}
    for words in (
        "log_loss",
        "training set",
        "memory",
        "by channel",
        "demographic_parity",
        "ece",
        "1 approval",
        "2 approvals",
    ):
        assert any(words in gate or words in detail for gate, detail in refused.items()), (words, refused)
    assert all(detail and "was not measured" not in detail for detail in refused.values()), refused
    passed = {gate: detail for gate, (passed, detail) in found.items() if passed}
    assert any("balanced_accuracy" in gate for gate in passed), "a metric that is not measured of every version"
    assert any("different 0" in detail for detail in passed.values()), "features as served"
    fair, detail = next((passed, detail) for gate, (passed, detail) in found.items() if "equal_opportunity" in gate)
    assert not fair and detail.startswith("no row is called positive at the threshold 0.9999"), detail
    assert any("customer" in gate for gate in passed), "groups by a column that the model does not read"
    result = desk.promote("loss", 2, "staging")
    assert (
        result.returncode == 3 and "FAILED  log_loss" in result.stderr and "passed  signature present" in result.stderr
    )
    shown = desk.json("model", "show", "loss", "2")
    assert shown["stage"] == "development" and "balanced_accuracy" in shown["metrics"]["test"]


def test_a_stage_is_entered_when_people_agreed_with_what_the_gates_saw(desk: Desk) -> None:
    before = desk.gates("loss", 1, "staging")["seal"]
    assert "FAILED" in desk.promote("loss", 1, "staging").stderr
    desk.define(FAIR)
    examination = desk.gates("loss", 1, "staging")
    assert examination["seal"] != before, "other gates, another seal"
    late = desk.approve("loss", 1, "staging", "--seal", before, by="grace")
    assert late.returncode == 3 and "the evidence is" in late.stderr
    own = desk.approve("loss", 1, "staging", by="ada")
    assert own.returncode == 3 and "registered this version" in own.stderr
    assert desk.promote("loss", 1, "staging").returncode == 3
    assert desk.approve("loss", 1, "staging", "--seal", examination["seal"], by="grace").returncode == 0
    assert desk.promote("loss", 1, "staging").returncode == 0
    assert desk.promote("loss", 1, "canary").returncode == 0
    desk.gates("loss", 1, "production")
    desk.approve("loss", 1, "production", by="grace")
    result = desk.promote("loss", 1, "production")
    assert result.returncode == 3 and "2 approvals" in result.stderr and "approved by grace" in result.stderr
    desk.approve("loss", 1, "production", "--object", by="linus")
    assert "linus objected" in desk.promote("loss", 1, "production").stderr
    desk.approve("loss", 1, "production", by="linus")
    assert desk.promote("loss", 1, "production").returncode == 0
    deployed = desk.json("deploy", "loss", "1", "--reason", "go live")
    assert deployed["variants"] == [{"version": 1, "share": 1}]
    steps = desk.json("model", "show", "loss", "1")["transitions"]
    assert [step["to"] for step in steps] == ["development", "staging", "canary", "production"]
    assert all(step["evidence"] and step["gates"] for step in steps[1:])
    page = desk.server.request("GET", "/models/loss")[1]
    row = page.split('<tr id="version-1">')[1].split("</tr>")[0]
    count = len(steps[-1]["gates"])
    assert f"<summary>{count} of {count} for production</summary>" in row and "<td>100 %</td>" in row
    assert "linus objected to production" in row and "linus approved production" in row and "/runs/" in row
    assert "version 1: 100 %" in page and "go live" in page and "/catalog/model/loss" in page


def test_a_challenger_has_to_be_better_and_an_approval_breaks_with_its_evidence(desk: Desk) -> None:
    worse = desk.version("loss", "binary", 1, by="bob")
    detail = next(d for g, (p, d) in verdicts(desk.gates("loss", worse, "staging")).items() if "better" in g and not p)
    assert "not surely better" in detail
    first = desk.gates("loss", 2, "staging")
    better = [detail for gate, (passed, detail) in verdicts(first).items() if "better" in gate and passed]
    assert better, first["gates"]
    desk.approve("loss", 2, "staging", by="grace")
    desk.define({**FAIR, "log_loss": 0.89})
    broken = desk.promote("loss", 2, "staging")
    assert broken.returncode == 3 and "grace approved other evidence, which counts no more" in broken.stderr
    desk.approve("loss", 2, "staging", by="grace")
    for stage in ("staging", "canary"):
        assert desk.promote("loss", 2, stage).returncode == 0, stage
    assert desk.json("deploy", "loss", "2", "--traffic", "0.25", "--reason", "a quarter")["revision"] == 2
    desk.gates("loss", 2, "production")
    for person in ("grace", "linus"):
        desk.approve("loss", 2, "production", by=person)
    assert desk.promote("loss", 2, "production").returncode == 0
    desk.json("deploy", "loss", "2", "--reason", "all of it")
    shown = desk.json("model", "list")["models"]
    stages = {v["version"]: v["stage"] for m in shown if m["name"] == "loss" for v in m["versions"]}
    assert stages[1] == "archived" and stages[2] == "production"


def test_what_was_live_is_told_of_any_moment(desk: Desk) -> None:
    revisions = desk.server.get("/api/v1/deployments/loss")["history"]
    assert [r["revision"] for r in revisions] == [1, 2, 3]
    desk.clock(LIVE + 0.01)
    now = desk.json("model", "live", "loss")
    assert now["champion"] == 2 and now["deployments"][0]["variants"][0]["version"] == 2
    early = desk.json("model", "live", "loss", "--at", shop.text(shop.START))
    assert early["deployments"] == [] and early["champion"] is None
    text = desk.cli("model", "live", "loss", "--at", shop.text(shop.START + int((LIVE + 0.005) * shop.DAY))).stdout
    assert "100 %  version 2, production since" in text and "all of it" in text
    desk.json("rollback", "loss", "--reason", "a doubt")
    rolled = desk.json("model", "live", "loss")
    assert rolled["champion"] == 1 and rolled["deployments"][0]["variants"] == [
        {**rolled["deployments"][0]["variants"][0], "version": 1, "share": 1}
    ]
    assert (
        desk.json("model", "live", "loss", "--at", shop.text(shop.START + int((LIVE + 0.005) * shop.DAY)))["champion"]
        == 2
    )


def test_labels_are_semantic_versions_and_given_once(desk: Desk) -> None:
    assert desk.json("model", "label", "loss", "2", "1.3.2")["label"] == "1.3.2"
    twice = desk.cli("model", "label", "loss", "1", "1.3.2", check=False)
    assert twice.returncode != 0 and "1.3.2" in twice.stderr
    bad = desk.cli("model", "label", "loss", "1", "latest", check=False)
    assert bad.returncode == 2, bad.stderr


def test_the_card_tells_facts_and_is_a_page(desk: Desk) -> None:
    text = desk.cli("model", "card", "loss", "2").stdout
    for words in (
        "# loss version 2 (1.3.2)",
        "## Metrics",
        "## Slices",
        "demographic_parity",
        "balanced_accuracy",
        "## Approvals",
        "| when | stage | who | verdict | why | evidence |",
        "grace",
        "## History",
    ):
        assert words in text, words
    page = desk.cli("model", "card", "loss", "2", "--html").stdout
    assert page.startswith("<!doctype html>") and "<script" not in page and "balanced_accuracy" in page
    (desk.folder / "card.html").write_text(page)


@pytest.mark.parametrize("kind", ["softprob", "multiclass"])
def test_models_of_three_classes_are_measured_gated_and_served(desk: Desk, kind: str) -> None:
    number = desk.version("band", kind, 15)
    shown = desk.json("model", "show", "band", str(number))
    assert [output["name"] for output in shown["signature"]["outputs"]] == [f"probability_{i}" for i in range(3)]
    found = desk.json("evaluate", f"band@{number}", "--untracked", "--replicates", "50")
    report = found["versions"][0]["report"]
    assert report["classes"] == 3
    measured = {result["metric"]: result["value"] for result in report["metrics"]}
    assert shown["metrics"]["test"]["accuracy"] == pytest.approx(measured["accuracy"])
    for stage in ("staging", "canary", "production"):
        result = desk.promote("band", number, stage)
        assert result.returncode == 0, result.stderr
    desk.json("deploy", "band", str(number), "--reason", kind)
    order = desk.rows("orders", 20, 21)[0]
    body = {"entities": {"customer": "c01"}, "features": {"channel": order["channel"], "price": order["price"]}}
    answer = desk.server.post("/predict/band", body)
    assert len(answer["probabilities"]) == 3 and sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert answer["prediction"] == int(np.argmax(answer["probabilities"]))
    assert answer["model_version"] == number
    replayed = desk.server.post(f"/predictions/{answer['prediction_id']}/replay")
    assert replayed["equal"] == replayed["compared"] == 1 and len(replayed["replayed"]) == 3
    told = desk.server.get(f"/predictions/{answer['prediction_id']}/why")
    assert told["prediction"] == answer["prediction"]


def traffic(desk: Desk, first: float, last: float) -> None:
    """Live days: what happens is told, every order is answered and labelled, and the clock goes on by two hours."""
    moment = first
    while moment < last:
        until = min(last, moment + 1 / 12)
        for name in ("payments", "orders", "outcomes"):
            rows = desk.rows(name, moment, until)
            if rows:
                desk.server.post(f"/sources/{name}/events", rows)
        orders = desk.rows("orders", moment, until)
        desk.clock(until)
        for order in orders:
            features = {"channel": order["channel"], "price": order["price"]}
            desk.server.post("/predict/loss", {"entities": {"customer": order["customer"]}, "features": features})
        desk.server.wait_idle()
        moment = until


def wait_for(condition: Any, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def test_a_retraining_waits_for_people_and_goes_on_when_they_agree(desk: Desk) -> None:
    desk.define({**FAIR, "log_loss": 0.9})
    path = desk.definitions / "model.yaml"
    lines = [line for line in path.read_text().splitlines() if "better_than_champion" not in line]
    path.write_text("\n".join(lines))
    desk.json("apply", str(desk.definitions))
    traffic(desk, LIVE + 0.01, DRIFT + 1.1)

    def workflow(state: str | None = None) -> Any:
        found = desk.server.get("/api/v1/workflows")["workflows"]
        return found[-1] if found and (state is None or found[-1]["state"] == state) else None

    waiting = wait_for(lambda: workflow("waiting"))
    number = waiting["version"]
    assert "1 approval" in waiting["waiting_for"] and "staging" in waiting["waiting_for"]
    assert desk.json("model", "show", "loss", str(number))["stage"] == "development", "nobody went around them"
    assert desk.server.get("/api/v1/status")["idle"] is True, "waiting is not computing"
    assert "waits for 1 approval" in desk.cli("workflows", "--model", "loss").stdout
    status, page = desk.server.request("GET", "/")
    assert status == 200 and "1 approval, none by the author for staging" in page
    actions = [e["action"] for e in desk.server.get("/api/v1/audit?limit=10000")["entries"]]
    assert "retraining.waiting" in actions
    desk.server.kill()
    desk.server.start()
    assert wait_for(lambda: workflow("waiting"))["version"] == number, "a restart forgets nothing"
    assert desk.approve("loss", number, "staging", by="grace").returncode == 0
    wait_for(lambda: desk.json("model", "show", "loss", str(number))["stage"] == "staging")
    wait_for(lambda: workflow("running"))
    traffic(desk, DRIFT + 1.1, DRIFT + 2.6)
    rollout = wait_for(
        lambda: next((r for r in desk.server.get("/api/v1/workflows")["rollouts"] if r.get("waiting_for")), None)
    )
    assert rollout["challenger"] == number and rollout["phase"] == "canary" and "2 approvals" in rollout["waiting_for"]
    assert "2 approvals" in desk.cli("workflows").stdout
    for person in ("grace", "linus"):
        assert desk.approve("loss", number, "production", by=person).returncode == 0
    traffic(desk, DRIFT + 2.6, DRIFT + 2.8)
    ended = wait_for(lambda: workflow("promoted"))
    assert ended["version"] == number
    assert desk.json("model", "show", "loss", str(number))["stage"] == "production"
    assert desk.json("model", "live", "loss")["champion"] == number


def test_all_of_it_is_in_the_audit_chain(desk: Desk, tmp_path: pathlib.Path) -> None:
    assert "all intact" in desk.cli("audit", "verify").stdout
    export = tmp_path / "audit.ndjson"
    desk.cli("audit", "export", str(export))
    verified = subprocess.run(
        ["python3", str(ROOT / "tools" / "verify_audit.py"), str(export)], capture_output=True, text=True
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
