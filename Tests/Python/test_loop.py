"""The whole loop, small: raw rows to a monitored, retrained, explained model, through the commands a user types."""

from __future__ import annotations

import itertools
import json
import math
import pathlib
import time
from typing import Any

import pandas
import pyarrow.parquet
import pytest
import shop
from conftest import Server

FROM, TO, LIVE, DRIFT = 8, 26, 27, 29
END = 32


class Loop:
    """One server on the way through the loop; each step runs once, in order."""

    def __init__(self, server: Server, folder: pathlib.Path) -> None:
        self.server = server
        self.folder = folder
        self.definitions = folder / "definitions"
        self.history = shop.history(END, drift_from=DRIFT)
        self.dataset = ""
        self.job = ""
        self.predictions: list[dict[str, Any]] = []

    def json(self, *arguments: str) -> Any:
        return json.loads(self.server.cli(*arguments, "--json").stdout)

    def set_clock(self, moment: int) -> None:
        self.server.post("/api/v1/clock", {"now": moment})

    def rows(self, name: str, first: int, last: int) -> list[dict[str, Any]]:
        """Rows that become known in [first, last) days."""
        key = {"payments": "known_at", "orders": "asked_at", "outcomes": "settled_at"}[name]
        start, end = shop.START + first * shop.DAY, shop.START + last * shop.DAY
        return [row for row in getattr(self.history, name) if start <= row[key] < end]


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory, binary: str):
    folder = tmp_path_factory.mktemp("loop")
    server = Server(folder / "data", "--clock", "manual").start()
    yield Loop(server, folder)
    assert server.stop() == 0


def test_definitions_are_planned_and_applied_once(loop: Loop) -> None:
    shop.write_definitions(loop.definitions, log_loss=0.0001)
    planned = loop.json("plan", str(loop.definitions))
    assert {change["kind"] for change in planned["changes"]} == {"create"}
    assert loop.server.get("/api/v1/definitions")["definitions"] == {}, "a plan changes nothing"
    applied = loop.json("apply", str(loop.definitions))
    assert applied["changes"] == planned["changes"]
    assert loop.json("plan", str(loop.definitions))["changes"] == []
    assert "nothing to change" in loop.server.cli("plan", str(loop.definitions)).stdout
    # A description is no meaning; a window is, and touches what reads it.
    path = loop.definitions / "data.yaml"
    original = path.read_text()
    path.write_text(original.replace("some are known hours after", "some are known long after"))
    assert loop.json("plan", str(loop.definitions))["changes"] == []
    path.write_text(original.replace("column: amount, window: 24h", "column: amount, window: 23h"))
    changed = {change["identifier"]: change for change in loop.json("plan", str(loop.definitions))["changes"]}
    assert "FeatureView/paid" in changed
    assert "Model/loss" in changed["FeatureView/paid"]["touches"]
    path.write_text(original)


def test_files_are_loaded_under_their_contracts(loop: Loop) -> None:
    loop.set_clock(shop.START + (LIVE * shop.DAY))
    good = loop.rows("payments", 0, LIVE)
    half = len(good) // 2
    shorter = shop.write_csv(loop.folder / "payments.csv", good[:half])
    report = loop.json("ingest", "payments", str(shorter))
    assert (report["rows_accepted"], report["rows_quarantined"], report["already_loaded"]) == (half, 0, False)
    again = loop.json("ingest", "payments", str(shorter))
    assert again["already_loaded"] is True
    source = next(s for s in loop.server.get("/api/v1/sources")["sources"] if s["name"] == "payments")
    assert (source["rows"], source["quarantined"]) == (half, 0)
    longer = shop.write_csv(loop.folder / "payments-longer.csv", good)
    broken = [
        "x1,2024-01-02T00:00:00Z,2024-01-02T00:00:00Z,c01,-5,card",
        "x2,2024-01-02T00:00:00Z,2024-01-02T00:00:00Z,c01,many,card",
        "x3,yesterday,2024-01-02T00:00:00Z,c01,5,card",
        "x4,2024-01-02T00:00:00Z,2024-01-01T00:00:00Z,c01,5,card",
        "x5,2024-01-02T00:00:00Z,2024-01-02T00:00:00Z,c01,5,shells",
        "x6,2024-01-02T00:00:00Z,2024-01-02T00:00:00Z,c01,20000,shells",
        "x7,2024-01-02T00:00:00Z,2024-01-02T00:00:00Z,c01",
        "x8,2024-01-02T00:00:00Z,2024-01-02T00:00:00Z,,9000,card",
    ]
    with longer.open("a", newline="") as file:
        file.write("\r\n".join(broken) + "\r\n")
    report = loop.json("ingest", "payments", str(longer))
    assert report["rows_read"] == len(good) + 8
    assert report["rows_duplicate"] == half
    assert report["rows_accepted"] == len(good) - half + 1, "a longer file adds only what is new"
    assert report["rows_quarantined"] == 7
    assert report["warnings"] == {"large_amount: 9000 is above 5000": 1} or sum(report["warnings"].values()) == 1
    reasons = report["reasons"]
    assert sum(reasons.values()) == 8, reasons  # the sixth has two
    for word in ("plausible_amount", "known_method", "known_after_payment", "amount:", "paid_at:", "line:"):
        assert any(word in reason for reason in reasons), (word, reasons)
    quarantined = loop.server.get("/api/v1/sources/payments/quarantine")["rows"]
    assert len(quarantined) == 7
    assert all(row["reasons"] and row["position"] > len(good) for row in quarantined)
    loop.history.payments.append(
        {"payment": "x8", "paid_at": shop.START + shop.DAY, "known_at": shop.START + shop.DAY, "customer": None,
         "amount": 9000.0, "method": "card"}
    )  # fmt: skip
    for name in ("orders", "outcomes"):
        rows = loop.rows(name, 0, LIVE)
        path = shop.write_csv(loop.folder / f"{name}.csv", rows)
        assert loop.json("ingest", name, str(path))["rows_accepted"] == len(rows)


def test_a_training_set_is_exact_and_has_one_name(loop: Loop) -> None:
    span = ["--from", shop.text(shop.START + FROM * shop.DAY), "--to", shop.text(shop.START + TO * shop.DAY)]
    built = loop.json("dataset", "build", "loss", *span)
    loop.dataset = built["dataset"]
    assert loop.json("dataset", "build", "loss", *span)["dataset"] == loop.dataset
    questions = loop.rows("orders", FROM, TO)
    assert built["rows"] == len(questions)
    assert sum(built["slices"].values()) == built["rows"]
    frames = []
    for part in built["manifest"]["slices"]:
        hash_ = part["part"]
        [path] = [p for p in loop.server.data_dir.joinpath("objects").rglob(f"*{hash_[2:]}*") if p.is_file()]
        frames.append(pyarrow.parquet.read_table(path).to_pandas())
        assert len(frames[-1]) == part["rows"]
    for earlier, later in itertools.pairwise(frames):
        assert earlier["__event_time"].max() < later["__event_time"].min(), "a moment is never in two slices"
    assert_rows_are_exact(loop, pandas.concat(frames), questions)


def assert_rows_are_exact(loop: Loop, frame: pandas.DataFrame, questions: list[dict[str, Any]]) -> None:
    losses = {row["order"]: row["loss"] for row in loop.history.outcomes}
    assert list(frame["__event_time"]) == [row["asked_at"] for row in questions]
    for (_, found), question in zip(frame.iterrows(), questions, strict=True):
        expected = shop.expected_features(loop.history.payments, question["customer"], question["asked_at"])
        expected |= {"channel": question["channel"], "price": question["price"]}
        expected["lost"] = int(losses[question["order"]] > 10)
        for name, value in expected.items():
            cell = found[name]
            missing = cell is None or (isinstance(cell, float) and math.isnan(cell))
            assert (value is None) == missing and (missing or cell == value), (question, name, cell, value)


def test_a_model_is_trained_and_registered(loop: Loop) -> None:
    trained = loop.json("train", "loss", "--dataset", loop.dataset)
    loop.job = trained["id"]
    assert trained["state"] == "succeeded"
    run = loop.server.get(f"/api/2.0/mlflow/runs/get?run_id={trained['run_id']}")["run"]
    assert run["info"]["status"] == "FINISHED"
    assert "test_auc" in {metric["key"] for metric in run["data"]["metrics"]}
    version = loop.json("model", "register", "loss", "--job", loop.job)
    assert (version["version"], version["stage"]) == (1, "development")
    logged = next(metric["value"] for metric in run["data"]["metrics"] if metric["key"] == "test_auc")
    assert version["metrics"]["test"]["auc"] == pytest.approx(logged, abs=1e-5), "our scorer and xgboost agree"
    assert version["dataset"] == loop.dataset and version["seed"] == 3
    assert version["signature"]["inputs"][0]["categories"] == shop.CHANNELS


def test_a_failing_gate_refuses_and_says_which(loop: Loop) -> None:
    refused = loop.server.cli("model", "promote", "loss", "1", "staging", "--reason", "first", check=False)
    assert refused.returncode == 3
    assert "FAILED  log_loss on test ≤ 0.0001" in refused.stderr
    assert "passed  signature present" in refused.stderr
    assert loop.json("model", "show", "loss", "1")["stage"] == "development"
    skipping = loop.server.cli("model", "promote", "loss", "1", "production", "--reason", "hurry", check=False)
    assert skipping.returncode == 3 and "cannot go from development to production" in skipping.stderr
    shop.write_definitions(loop.definitions, log_loss=0.6)
    changes = loop.json("apply", str(loop.definitions))["changes"]
    assert "Model/loss" in {change["identifier"] for change in changes}


def test_stages_are_entered_one_after_the_other(loop: Loop) -> None:
    for stage in ("staging", "canary", "production"):
        answer = loop.json("model", "promote", "loss", "1", stage, "--reason", f"{stage} is due")
        assert answer["stage"] == stage
        assert answer["gates"] and all(gate["passed"] for gate in answer["gates"])
    shown = loop.json("model", "show", "loss", "1")
    assert [step["to"] for step in shown["transitions"]] == ["development", "staging", "canary", "production"]
    assert shown["transitions"][-1]["reason"] == "production is due"
    deployed = loop.json("deploy", "loss", "1", "--reason", "go live")
    assert deployed["variants"] == [{"version": 1, "share": 1}]
    resting = loop.server.cli("model", "promote", "loss", "1", "archived", "--reason", "out of use", check=False)
    assert resting.returncode == 3 and "sends traffic to it" in resting.stderr, resting.stderr
    assert loop.json("model", "show", "loss", "1")["stage"] == "production"


def predict(loop: Loop, order: dict[str, Any]) -> dict[str, Any]:
    answer = loop.server.post(
        "/predict/loss",
        {
            "entities": {"customer": order["customer"]},
            "features": {"channel": order["channel"], "price": order["price"]},
        },
    )
    loop.predictions.append({**answer, "order": order})
    return answer


def test_a_pushed_event_changes_the_next_prediction(loop: Loop) -> None:
    now = shop.START + LIVE * shop.DAY
    order = {"order": "none", "asked_at": now, "customer": "nobody yet", "channel": "app", "price": 10.0}

    def answer() -> tuple[dict[str, Any], dict[str, Any]]:
        status, body = loop.server.request(
            "POST", "/predict/loss", {"entities": {"customer": order["customer"]},
                                      "features": {"channel": "app", "price": 10.0}}
        )  # fmt: skip
        assert status == 200, body
        why = loop.server.get(f"/predictions/{body['prediction_id']}/why")
        return body, {entry["name"]: entry for entry in why["inputs"]}

    _, before = answer()
    assert before["paid__count_1h"]["value"] == 0 and before["paid__count_1h"]["status"] == "NOT_FOUND"
    event = {"payment": "ryw", "paid_at": now - 5000, "known_at": now - 1, "customer": "nobody yet", "amount": 77.5}
    sent = loop.server.post("/sources/payments/events", event)
    assert (sent["accepted"], sent["duplicates"]) == (1, 0)
    body, after = answer()
    assert after["paid__count_1h"]["value"] == 1 and after["paid__count_1h"]["status"] == "PRESENT"
    assert after["fresh__amount"]["value"] == 77.5 and after["fresh__amount"]["age_milliseconds"] == 5000
    assert after["channel"]["value"] == "app" and after["price"]["value"] == 10
    assert loop.server.post("/sources/payments/events", event)["duplicates"] == 1
    assert answer()[1]["paid__count_1h"]["value"] == 1, "the same event again counts once"
    assert (body["model_version"], body["variant"], body["fallback"]) == (1, "primary", False)
    online = loop.server.post("/features/groups/paid/get-online", {"entities": [{"customer": "nobody yet"}]})
    values = dict(zip(online["names"], online["entities"][0]["values"], strict=True))
    assert values["sum_7d"] == 77.5 and values["mean_24h"] == 77.5
    # With `ages`, a prediction tells how old the newest event behind each feature is.
    one = {"entities": {"customer": "nobody yet"}, "features": {"channel": "app", "price": 10.0}}
    told = loop.server.post("/predict/loss", {**one, "ages": True})
    assert set(told["feature_ages"]) == {name for name in after if "__" in name}
    assert set(told["feature_ages"].values()) == {5000}, told
    assert "feature_ages" not in loop.server.post("/predict/loss", one)
    stranger = {**one, "entities": {"customer": "a stranger"}}
    given = {**one, "features": {**one["features"], "fresh__amount": 3.5}}
    body = {"instances": [one, stranger, given], "ages": True}
    ages = [entry["feature_ages"] for entry in loop.server.post("/predict/loss", body)["predictions"]]
    assert ages[0] == told["feature_ages"] and set(ages[1].values()) == {None}
    assert (ages[2]["fresh__amount"], ages[2]["paid__last"]) == (None, 5000), "what the caller gave has no age"
    status, failure = loop.server.request("POST", "/predict/loss", {**one, "ages": "yes"})
    assert status == 422 and failure["error"]["subject"] == "ages", failure
    loop.history.payments.append({**event, "method": None})


def test_a_prediction_explains_itself_now_and_later(loop: Loop) -> None:
    one = {"entities": {"customer": "nobody yet"}, "features": {"channel": "app", "price": 10.0}}
    told = loop.server.post("/predict/loss?explain=true", one)
    explanation = told["explanation"]
    assert explanation == loop.server.post("/predict/loss", {**one, "explain": True})["explanation"]
    why = loop.server.get(f"/predictions/{told['prediction_id']}/why")
    assert set(explanation["contributions"]) == {entry["name"] for entry in why["inputs"]}
    total = explanation["base_value"] + sum(explanation["contributions"].values())
    assert total == pytest.approx(explanation["margin"], abs=1e-9)
    assert 1 / (1 + math.exp(-explanation["margin"])) == pytest.approx(told["prediction"], rel=1e-5)
    assert "explanation" not in loop.server.post("/predict/loss?explain=false", one)
    batch = loop.server.post("/predict/loss?explain=true", {"instances": [one] * 3})["predictions"]
    assert [entry["explanation"] for entry in batch] == [explanation] * 3
    status, failure = loop.server.request("POST", "/predict/loss?explain=true", {"instances": [one] * 101})
    assert status == 422 and failure["error"]["subject"] == "explain", failure
    assert loop.server.request("POST", "/predict/loss?explain=maybe", one)[0] == 422
    later = loop.server.get(f"/predictions/{told['prediction_id']}/explain")
    assert later["explanation"] == explanation and later["inputs"]["price"] == 10
    chart = loop.server.cli("why", told["prediction_id"], "--explain").stdout
    largest = max(explanation["contributions"], key=lambda name: abs(explanation["contributions"][name]))
    assert chart.splitlines()[3].startswith(largest) and ("+" * 30 in chart or "-" * 30 in chart), chart
    asked = loop.server.cli("predict", "loss", "--explain", "--body", json.dumps(one)).stdout
    assert asked.splitlines()[-1].startswith("margin") and largest in asked, asked


def test_traffic_drifts_and_the_loop_closes(loop: Loop) -> None:
    """Live days: events, predictions and labels in event-time order, until the challenger has answered for good."""
    server = loop.server
    news = sorted(
        [(row["known_at"], 0, "payments", row) for row in loop.rows("payments", LIVE, END)]
        + [(row["asked_at"], 1, "orders", row) for row in loop.rows("orders", LIVE, END)]
        + [(row["settled_at"], 2, "outcomes", row) for row in loop.rows("outcomes", LIVE, END)],
        key=lambda item: item[:2],
    )
    ids: dict[str, str] = {}
    payments: list[dict[str, Any]] = []
    orders: list[dict[str, Any]] = []
    outcomes: list[dict[str, Any]] = []
    hour = news[0][0] // shop.HOUR

    def push(source: str, rows: list[dict[str, Any]]) -> None:
        if rows:
            answer = server.post(f"/sources/{source}/events", rows)
            assert answer["accepted"] == len(rows) and answer["quarantined"] == 0, answer
            rows.clear()

    def settle(moment: int) -> None:
        """What became known in the hour that ended: plan, outcomes, labels."""
        loop.set_clock(moment)
        push("orders", orders)
        labels = [
            {"prediction_id": ids[row["order"]], "label": int(row["loss"] > 10), "event_time": row["settled_at"]}
            for row in outcomes
            if row["order"] in ids
        ]
        push("outcomes", outcomes)
        if labels:
            assert server.post("/labels", {"labels": labels}) == {"accepted": len(labels)}

    for moment, _, kind, row in news:
        while moment // shop.HOUR > hour:
            hour += 1
            settle(hour * shop.HOUR)
            if hour % 3 == 0:
                server.wait_idle()  # the monitor and the lifecycle see each few hours before the next ones come
        if kind == "payments":
            payments.append(row)
        elif kind == "outcomes":
            outcomes.append(row)
        else:
            push("payments", payments)
            loop.set_clock(moment)
            ids[row["order"]] = predict(loop, row)["prediction_id"]
            orders.append(row)
    settle((END + 1) * shop.DAY + shop.START)
    server.wait_idle()
    [alert] = [a for a in server.get("/api/v1/alerts?monitor=loss")["alerts"] if a["rule"] == "price_moved"][:1]
    assert alert["severity"] == "P2" and alert["feature"] == "price" and alert["observed"] > 1
    [workflow] = server.get("/api/v1/workflows")["workflows"]
    assert workflow["state"] in ("promoted", "rejected"), workflow
    assert workflow["trigger"] and workflow["reason"]
    names = [step["name"] for step in workflow["steps"]]
    assert names[:4] == ["dataset", "train", "register", "gates"], names
    assert workflow["state"] == "promoted", json.dumps(workflow)
    assert names[-3:] == ["shadow", "canary 50 %", "production"], names
    assert workflow["version"] == 2
    assert loop.json("model", "show", "loss", "2")["stage"] == "production"
    assert loop.json("model", "show", "loss", "1")["stage"] == "archived"


def test_windows_show_what_was_live(loop: Loop) -> None:
    windows = loop.server.get("/api/v1/monitors/loss/windows")["windows"]
    primary = [w for w in windows if w["choice"] == "primary"]
    assert {w["version"] for w in primary} == {1, 2}
    first = primary[0]
    orders = [p for p in loop.predictions if p["order"]["asked_at"] < shop.START + (LIVE + 1) * shop.DAY]
    assert first["rows"] == len(orders) + 8 + 7, "those of the read-your-writes test, and explained ones"
    assert first["labelled"] == len(orders)
    assert 0.5 < first["metrics"]["auc"] <= 1
    price = {w["from"]: next(i["psi"] for i in w["inputs"] if i["name"] == "price") for w in primary if w.get("inputs")}
    assert price[shop.text(shop.START + LIVE * shop.DAY)] < 0.5 < price[shop.text(shop.START + DRIFT * shop.DAY)]
    assert "price" in loop.server.cli("monitor", "loss").stdout


def test_one_customer_stays_with_one_version(loop: Loop) -> None:
    chosen: dict[tuple[str, int], set[int]] = {}
    canary = [p for p in loop.predictions if p["variant"] == "canary"]
    assert canary, "some answers came from the canary"
    first = canary[0]["order"]["asked_at"]
    last = canary[-1]["order"]["asked_at"]
    for entry in loop.predictions:
        if first <= entry["order"]["asked_at"] <= last and entry["order"]["customer"]:
            chosen.setdefault((entry["order"]["customer"], 0), set()).add(entry["model_version"])
    assert all(len(versions) == 1 for versions in chosen.values()), chosen
    assert {version for versions in chosen.values() for version in versions} == {1, 2}


def test_served_features_equal_the_offline_ones(loop: Loop) -> None:
    end = shop.START + END * shop.DAY - 6 * shop.HOUR  # the outcomes of what came later are not told
    span = ["--from", shop.text(shop.START + LIVE * shop.DAY), "--to", shop.text(end)]
    built = loop.json("dataset", "build", "loss", *span)
    frames = []
    for part in built["manifest"]["slices"]:
        [path] = [p for p in loop.server.data_dir.joinpath("objects").rglob(f"*{part['part'][2:]}*") if p.is_file()]
        frames.append(pyarrow.parquet.read_table(path).to_pandas())
    frame = pandas.concat(frames)
    served = [entry for entry in loop.predictions if entry["order"]["asked_at"] < end]
    assert list(frame["__event_time"]) == [entry["order"]["asked_at"] for entry in served]
    columns = [c["name"] for c in built["manifest"]["columns"] if c["role"] in ("request", "feature")]
    for (_, offline), entry in zip(frame.iterrows(), served, strict=True):
        why = loop.server.get(f"/predictions/{entry['prediction_id']}/why")
        online = {item["name"]: item["value"] for item in why["inputs"]}
        assert list(online) == columns
        for name in columns:
            cell = offline[name]
            missing = cell is None or (isinstance(cell, float) and math.isnan(cell))
            assert online[name] == (None if missing else cell), (entry["order"], name, online[name], cell)


def test_parity_is_certified_over_every_feature_and_skew_is_found(loop: Loop) -> None:
    certificate = loop.json("features", "parity", "--probes", "60")
    assert certificate["different"] == 0 and certificate["holds"], certificate["differences"][:3]
    assert certificate["predictions"] > 100 and certificate["probes"] >= 120
    assert {f["view"] + "__" + f["feature"] for f in certificate["features"] if f["compared"] > 100} >= {
        "paid__mean_24h", "paid__sum_7d", "paid__count_1h", "paid__last", "fresh__amount",
    }  # fmt: skip
    assert "different 0" in loop.server.cli("features", "parity", "--service", "loss").stdout
    kept = loop.server.get(f"/api/v1/features/parity/{certificate['certificate']}")
    assert kept["compared"] == certificate["compared"]
    # A payment that says it was known an hour before it came: predictions in between were served without it.
    entry = loop.predictions[-1]
    order = next(o for o in loop.history.orders if o["order"] == entry["order"]["order"])
    moment = order["asked_at"] - shop.HOUR
    loop.server.post("/sources/payments/events", [{
        "payment": "tardy", "paid_at": shop.text(moment), "known_at": shop.text(moment), "customer": order["customer"],
        "amount": 77.5, "method": "card",
    }])  # fmt: skip
    found = loop.server.cli(
        "features", "parity", "--model", "loss", "--predictions", "5000", "--probes", "0", check=False
    )
    assert found.returncode == 3, found.stdout + found.stderr
    assert "DIFFERENT" in found.stdout and f"customer={order['customer']}" in found.stdout


def test_why_names_everything_behind_a_prediction(loop: Loop) -> None:
    entry = loop.predictions[0]
    why = loop.json("why", entry["prediction_id"])
    assert why["prediction"] == pytest.approx(entry["prediction"], rel=1e-6)
    assert why["version"]["number"] == 1 and why["version"]["dataset"] == loop.dataset
    assert why["version"]["job"] == loop.job and len(why["version"]["artifact"]) == 64
    assert why["label"] in (0, 1)
    assert [step["to"] for step in why["version"]["transitions"]][:4] == [
        "development", "staging", "canary", "production",
    ]  # fmt: skip
    assert why["policy"]["reason"] == "go live"
    told = loop.server.cli("why", entry["prediction_id"]).stdout
    assert loop.dataset in told and "production is due" in told
    shadowed = [
        loop.server.get(f"/predictions/{p['prediction_id']}/why")["shadows"]
        for p in loop.predictions
        if p["model_version"] == 1
    ]
    assert any(shadows and shadows[0]["version"] == 2 for shadows in shadowed), (
        "shadow answers stand beside the main one"
    )


def test_replays_are_equal_bit_for_bit(loop: Loop) -> None:
    one = loop.json("replay", loop.predictions[3]["prediction_id"])
    assert (one["compared"], one["equal"]) == (1, 1) and one["logged"] == one["replayed"]
    many = loop.json("replay", "loss", "--count", "100")
    assert many["compared"] >= 90 and many["equal"] == many["compared"] and many["different"] == []
    assert set(many["versions"]) == {"1", "2"}


def test_rollback_is_at_once_and_remembered(loop: Loop) -> None:
    order = loop.predictions[-1]["order"]
    assert loop.predictions[-1]["model_version"] == 2
    rolled = loop.json("rollback", "loss", "--reason", "rehearsal")
    served = {loop.server.post("/predict/loss", {
        "entities": {"customer": f"c{n:02d}"}, "features": {"channel": order["channel"], "price": 5.0}
    })["model_version"] for n in range(25)}  # fmt: skip
    assert served == {variant["version"] for variant in rolled["variants"]}
    assert 1 in served
    shown = loop.server.get("/api/v1/deployments/loss")
    assert shown["reason"] == "rehearsal" and len(shown["history"]) >= 5
    at = shop.text(shop.START + LIVE * shop.DAY + 1)
    assert loop.server.get(f"/api/v1/models/loss/live?at={at}")["champion"] == 1, "what was live then is a question"


def test_a_restart_keeps_all_of_it(loop: Loop) -> None:
    before = {
        path: loop.server.get(path)
        for path in (
            "/api/v1/workflows",
            "/api/v1/alerts",
            "/api/v1/deployments/loss",
            "/api/v1/models",
            "/api/v1/sources",
        )
    }
    entry = loop.predictions[5]
    why = loop.server.get(f"/predictions/{entry['prediction_id']}/why")
    assert loop.server.stop() == 0
    loop.server.start()
    end = time.monotonic() + 20
    for path, answer in before.items():
        while loop.server.get(path) != answer and time.monotonic() < end:
            time.sleep(0.2)
        assert loop.server.get(path) == answer, path
    assert loop.server.get(f"/predictions/{entry['prediction_id']}/why") == why
    assert loop.server.post("/api/v1/audit/verify")["intact"] is True
