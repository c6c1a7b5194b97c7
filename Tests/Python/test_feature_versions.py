"""A changed view is a new version beside the old one: built while rows arrive, the old kept for its models."""

from __future__ import annotations

import json
import pathlib
import threading
import time
import urllib.error
from collections.abc import Callable
from typing import Any

import shop
from conftest import Server

CHANGE = ("column: amount, window: 24h}", "column: amount, window: 24h}\n  - {name: n, aggregate: count, window: 30d}")


def change(folder: pathlib.Path, old: str = CHANGE[0], new: str = CHANGE[1]) -> None:
    path = folder / "data.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def online(server: Server, customers: list[str], moment: int, name: str = "paid") -> list[dict[str, Any]]:
    answer = server.post(
        f"/features/groups/{name}/get-online",
        {"entities": [{"customer": customer} for customer in customers], "as_of": moment},
    )
    return [dict(zip(answer["names"], entity["values"], strict=True)) for entity in answer["entities"]]


class Pusher(threading.Thread):
    """Sends payments without a pause; one that was not acknowledged is sent again, under the same key."""

    def __init__(self, server: Server, rows: list[dict[str, Any]]) -> None:
        super().__init__()
        self.server, self.rows, self.sent, self.failures = server, rows, 0, 0
        self.end = threading.Event()

    def run(self) -> None:
        while not self.end.is_set() and self.sent < len(self.rows):
            batch = self.rows[self.sent : self.sent + 20]
            try:
                status, _ = self.server.request("POST", "/sources/payments/events", batch)
            except (OSError, urllib.error.URLError):
                self.failures += 1
                time.sleep(0.05)
                continue
            if status == 200:
                self.sent += len(batch)
            time.sleep(0.002)


def test_a_view_changes_while_rows_arrive_and_the_server_dies(
    start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    payments = shop.history(90).payments
    folder = shop.write_definitions(tmp_path / "definitions")
    server = start_server("--clock", "manual", "--set", "features.rowsatonce=50", "--set", "monitor.enabled=false")
    server.cli("apply", str(folder))
    before, after = payments[:5000], payments[5000:]
    server.cli("ingest", "payments", str(shop.write_csv(tmp_path / "payments.csv", before)))
    pusher = Pusher(server, after)
    pusher.start()
    change(folder)
    applied = json.loads(server.cli("apply", str(folder), "--json").stdout)
    assert len(applied["backfilling"]) == 1 and applied["backfilling"][0].startswith("paid.v")
    for _ in range(3):
        server.kill()
        server.start()
        status = server.get("/api/v1/features/status")
        time.sleep(0.3)
    text = server.cli("features", "status", "--wait").stdout
    assert "0 are built from history" in text, (text, status)
    pusher.join(timeout=120)
    assert not pusher.is_alive() and pusher.sent == len(after)
    # Every row counts once, whenever it came and however often the server died.
    moment = payments[-1]["known_at"] + 60_000
    customers = [f"c{number:02d}" for number in range(25)]
    for customer, found in zip(customers, online(server, customers, moment), strict=True):
        expected = shop.expected_features(payments, customer, moment)
        for name, value in found.items():
            if name == "n":
                value_expected: Any = sum(
                    row["customer"] == customer and moment - 30 * shop.DAY <= row["paid_at"] < moment
                    and row["known_at"] < moment
                    for row in payments
                )  # fmt: skip
            else:
                value_expected = expected[f"paid__{name}"]
            assert value == value_expected, (customer, name)
    versions = json.loads(server.cli("features", "versions", "paid", "--json").stdout)["versions"]
    assert [(version["state"], version["current"]) for version in versions] == [("READY", True), ("PARKED", False)]
    assert versions[1]["users"] == [] and versions[1]["unused_since"]


def test_the_old_version_answers_until_the_new_one_is_built(
    start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    payments = shop.history(150).payments
    folder = shop.write_definitions(tmp_path / "definitions")
    server = start_server("--clock", "manual", "--set", "features.rowsatonce=50", "--set", "monitor.enabled=false")
    server.cli("apply", str(folder))
    server.cli("ingest", "payments", str(shop.write_csv(tmp_path / "payments.csv", payments)))
    change(folder)
    told = server.cli("apply", str(folder)).stdout
    assert "built from history" in told and "features status" in told
    moment = payments[-1]["known_at"] + 1000
    seen = {tuple(online(server, ["c01"], moment)[0])}
    server.cli("features", "status", "--wait")
    names = tuple(online(server, ["c01"], moment)[0])
    assert "n" in names and all("n" not in other or other == names for other in seen)
    assert "paid__n" in online(server, ["c01"], moment, "loss")[0]
    # What nobody uses can go, and only that.
    current, old = json.loads(server.cli("features", "versions", "paid", "--json").stdout)["versions"]
    title = f"paid@{old['version'][:8]}"
    refused = server.cli("features", "retire", f"paid@{current['version'][:8]}", check=False)
    assert refused.returncode == 3 and "FeatureView/paid (in force)" in refused.stderr
    server.cli("features", "pin", title, "--reason", "an experiment")
    refused = server.cli("features", "retire", title, check=False)
    assert refused.returncode == 3 and "an experiment" in refused.stderr
    server.cli("features", "unpin", title)
    assert title in server.cli("features", "retire", "--unused", "--dry-run").stdout
    assert "retired" in server.cli("features", "retire", title).stdout
    assert "no version is unused" in server.cli("features", "retire", "--unused").stdout
    states = {version["version"]: version["state"] for version in server.get("/api/v1/features/versions")["versions"]}
    assert states[old["version"]] == "RETIRED" and states[current["version"]] == "READY"
    assert "feature.version.retired" in server.request("GET", "/api/v1/audit/export")[1]
    # The definition from before, applied again, is built again.
    change(folder, CHANGE[1], CHANGE[0])
    server.cli("apply", str(folder), "--wait")
    found = online(server, ["c01"], moment)[0]
    expected = shop.expected_features(payments, "c01", moment)
    assert found == {name.removeprefix("paid__"): value for name, value in expected.items() if "paid__" in name}


def test_a_model_keeps_the_features_it_was_trained_with(
    start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    folder = shop.write_definitions(tmp_path / "definitions")
    history = shop.history(14)
    server = start_server("--clock", "manual", "--set", "monitor.enabled=false")
    server.cli("apply", str(folder))
    for name in ("payments", "orders", "outcomes"):
        server.cli("ingest", name, str(shop.write_csv(tmp_path / f"{name}.csv", getattr(history, name))))
    server.post("/api/v1/clock", {"now": shop.START + 15 * shop.DAY})
    built = json.loads(
        server.cli(
            "dataset", "build", "loss", "--from", shop.text(shop.START + shop.DAY), "--to",
            shop.text(shop.START + 14 * shop.DAY), "--json",
        ).stdout
    )  # fmt: skip
    job = json.loads(server.cli("train", "loss", "--dataset", built["dataset"], "--json").stdout)["id"]

    def predict() -> tuple[Any, ...]:
        status, answer = server.request(
            "POST", "/predict/loss", {"entities": {"customer": "c03"}, "features": {"channel": "app", "price": 20.0}}
        )
        assert status == 200 and answer["fallback"] is False, answer
        return answer["prediction"], answer["model_version"]

    # The definitions change between training and registration: the version is bound to what it was trained with.
    change(folder)
    told = server.cli("plan", str(folder)).stdout
    for part in (
        "features.n: aggregate count, window 30d", "touches Deployment/loss", "features new", "paid__n",
        "to be built from history",
        f"{len(history.payments):,} rows of payments, about 25 entities",
    ):  # fmt: skip
        assert part in told, told
    assert "\x1b[" not in told, "colours are for terminals"
    server.cli("apply", str(folder), "--wait")
    server.cli("model", "register", "loss", "--job", job)
    server.cli("features", "status", "--wait")
    for stage in ("staging", "canary", "production"):
        server.cli("model", "promote", "loss", "1", stage, "--reason", "due")
    server.cli("deploy", "loss", "1", "--reason", "go live")
    first = predict()
    planned = json.loads(server.cli("plan", str(folder), "--json").stdout)
    assert planned["changes"] == [] and planned["blast_radius"]["keepers"] == []
    change(folder, "window: 30d}", "window: 29d}")
    planned = json.loads(server.cli("plan", str(folder), "--json").stdout)
    fields = {entry["identifier"]: entry["fields"] for entry in planned["changes"]}
    assert fields["FeatureView/paid"] == [{"path": "features.n.window", "old": "30d", "new": "29d"}]
    radius = planned["blast_radius"]
    assert [keeper["model"] for keeper in radius["keepers"]] == ["model/loss/versions/1"]
    assert radius["features"] == [{"name": "paid__n", "kind": "change"}]
    change(folder, "window: 29d}", "window: 30d}")
    # What answers traffic is not removed by mistake.
    model = (folder / "model.yaml").read_text()
    (folder / "model.yaml").unlink()
    refused = server.cli("apply", str(folder), check=False)
    assert refused.returncode == 3 and "Deployment/loss is removed" in refused.stderr, refused.stderr
    assert "refused unless --force" in server.cli("plan", str(folder)).stdout
    (folder / "model.yaml").write_text(model)

    # Reads are counted by feature.
    def reads() -> int:
        features = server.get("/api/v1/features/reuse")["features"]
        return next(feature["reads"] for feature in features if feature["name"] == "paid__sum_7d")

    earlier = reads()
    predict()
    assert reads() == earlier + 1
    reuse = json.loads(server.cli("features", "reuse", "--json").stdout)
    by_name = {feature["name"]: feature for feature in reuse["features"]}
    assert by_name["paid__sum_7d"]["reads"] >= 1 and by_name["paid__sum_7d"]["models"] == ["loss"]
    assert by_name["paid__sum_7d"]["training_rows"] == built["manifest"]["questions"]
    assert by_name["paid__sum_7d"]["model_versions"] == ["model/loss/versions/1"]
    assert by_name["paid__n"]["model_versions"] == []
    assert by_name["paid__sum_7d"]["rows_applied"] >= 2 * len(history.payments)
    assert reuse["used"] == reuse["registered"] == 8 and reuse["reuse_factor"] == 1
    assert "reuse factor 1" in server.cli("features", "reuse").stdout
    current, old = json.loads(server.cli("features", "versions", "paid", "--json").stdout)["versions"]
    assert old["state"] == "READY" and not old["current"] and current["current"]
    assert any("model/loss/versions/1 (production" in user["text"] for user in old["users"]), old
    assert server.cli("features", "retire", f"paid@{old['version'][:8]}", check=False).returncode == 3
    server.kill()
    server.start()
    assert predict() == first
    why = server.post("/predict/loss", {"entities": {"customer": "c03"}, "features": {"channel": "app", "price": 1.0}})
    inputs = server.get(f"/predictions/{why['prediction_id']}/why")["inputs"]
    assert {entry["view_version"] for entry in inputs if entry["view"] == "paid"} == {old["version"][:12]}
    # A row that arrives now reaches the old version too.
    before = {entry["name"]: entry["value"] for entry in inputs}
    now = shop.START + 15 * shop.DAY - 1000
    server.post(
        "/sources/payments/events",
        {"payment": "new", "paid_at": now, "known_at": now, "customer": "c03", "amount": 5.0, "method": "cash"},
    )
    again = server.post(
        "/predict/loss", {"entities": {"customer": "c03"}, "features": {"channel": "app", "price": 1.0}}
    )
    inputs = server.get(f"/predictions/{again['prediction_id']}/why")["inputs"]
    after = {entry["name"]: entry["value"] for entry in inputs}
    assert after["paid__count_7d"] == before["paid__count_7d"] + 1
    # The certificate computes what the old version served again, by the definitions of then.
    certificate = json.loads(server.cli("features", "parity", "--model", "loss", "--json").stdout)
    assert certificate["holds"] and certificate["skipped"] == 0, certificate
    compared = {feature["version"]: feature["compared"] for feature in certificate["features"]
                if feature["feature"] == "count_7d"}  # fmt: skip
    assert compared[f"paid.v{old['version'][:8]}"] == certificate["predictions"] > 0, compared
    assert compared[f"paid.v{current['version'][:8]}"] > 0
