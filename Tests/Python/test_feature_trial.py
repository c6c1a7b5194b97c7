"""A view that nobody applied, computed on the stored history: `bottega features try`."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import shop
from conftest import Server

VIEW = """
kind: FeatureView
name: paid_more
entities: [customer]
source: payments
columns:
  - {name: large, expression: "if(amount > 100, 1, 0)"}
features:
  - {name: sum_7d, aggregate: sum, column: amount, window: 7d}
  - {name: large_30d, aggregate: sum, column: large, window: 30d}
  - {name: way, aggregate: mode, column: method, window: 30d}
  - {name: never, aggregate: count, window: 1s, where: "amount < 0"}
"""


def test_a_view_is_tried_before_it_is_applied(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    payments = shop.history(20).payments
    folder = shop.write_definitions(tmp_path / "definitions")
    server = start_server("--clock", "manual", "--set", "monitor.enabled=false")
    trial = tmp_path / "paid_more.yaml"
    trial.write_text(VIEW)

    def attempt(*arguments: str, check: bool = True, json_: bool = True):  # type: ignore[no-untyped-def]
        more = ("--json",) if json_ else ()
        return server.cli("features", "try", *arguments, "--definitions", str(folder), *more, check=check)

    # Before anything is there, the answer says what to do.
    refused = attempt(str(trial), check=False)
    assert refused.returncode != 0 and "source/payments" in refused.stderr and "load rows" in refused.stderr
    server.cli("apply", str(folder))
    server.cli("ingest", "payments", str(shop.write_csv(tmp_path / "payments.csv", payments)))
    before = server.get("/api/v1/definitions")
    moment = payments[-1]["known_at"] + 60_000
    for customer in ("c03", "c11"):
        one = ("--entity", f"customer={customer}", "--at", shop.text(moment))
        [found] = json.loads(attempt(str(trial), *one).stdout)["views"]
        [row] = found["rows"]
        expected = shop.expected_features(payments, customer, moment)
        assert row["values"]["sum_7d"] == expected["paid__sum_7d"]
        mine = [p for p in payments if p["customer"] == customer and p["known_at"] < moment
                and moment - 30 * shop.DAY <= p["paid_at"] < moment]  # fmt: skip
        amounts = [float(p["amount"]) for p in mine if p["amount"] not in (None, "")]
        assert row["values"]["large_30d"] == sum(amount > 100 for amount in amounts)
        assert row["values"]["never"] == 0
    # Drawn entities: statistics over all of them, the same for the same seed.
    [found] = json.loads(attempt(str(trial), "--rows", "300", "--seed", "4").stdout)["views"]
    assert (
        json.loads(attempt(str(trial), "--rows", "300", "--seed", "4").stdout)["views"][0]["features"]
        == (found["features"])
    )
    assert not found["applied"] and found["questions"] == 300 and found["history"]["rows"] == len(payments)
    by_name = {feature["name"]: feature for feature in found["features"]}
    total = by_name["sum_7d"]
    assert total["count"] == 300 and sum(entry["count"] for entry in total["histogram"]) == 300 - total["nulls"]
    assert total["min"] <= total["median"] <= total["p99"] <= total["max"]
    assert {entry["value"] for entry in by_name["way"]["frequent"]} <= {"card", "cash", "wire"}
    assert any("never" in remark and "one value" in remark for remark in found["remarks"])
    assert found["cost"]["nanoseconds_per_row"] > 0 and found["cost"]["state_bytes"] > 0
    # A view by its name, as a text; and the one in force is known as such.
    told = attempt("paid", "--rows", "50", json_=False).stdout
    assert "which is applied" in told and "sum_7d" in told and "█" in told and "if applied" in told
    # Faults name their place.
    wrong = attempt(str(trial), "--entity", "custmer=c03", check=False)
    assert wrong.returncode != 0 and "did you mean 'customer'" in wrong.stderr
    trial.write_text(VIEW.replace("column: large,", "column: larg,"))
    wrong = attempt(str(trial), check=False)
    assert wrong.returncode != 0 and "paid_more.yaml:" in wrong.stderr and "large" in wrong.stderr
    assert "did you mean" in attempt("paidd", check=False).stderr
    assert server.get("/api/v1/definitions") == before
