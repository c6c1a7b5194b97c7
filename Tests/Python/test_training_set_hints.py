"""What is likely not meant with a training set is said when it is built."""

from __future__ import annotations

from conftest import ROOT, Server

DEFINITIONS = """
kind: Entity
name: guest
keys: [guest]
---
kind: Source
name: visits
event_time: at
key: [guest, at]
schema:
  - {name: guest, type: string, nullable: false}
  - {name: at, type: timestamp, nullable: false}
  - {name: minutes, type: float64}
---
kind: Source
name: purchases
event_time: at
ingest_time: at
key: [guest, at]
schema:
  - {name: guest, type: string, nullable: false}
  - {name: at, type: timestamp, nullable: false}
  - {name: amount, type: float64}
---
kind: FeatureView
name: guest_visits
entities: [guest]
source: visits
features:
  - {name: mean_7d, aggregate: mean, column: minutes, window: 7d}
  - {name: last_minutes, aggregate: last, column: minutes}
---
kind: FeatureView
name: guest_purchases
entities: [guest]
source: purchases
features:
  - {name: last_amount, aggregate: last, column: amount}
---
kind: FeatureService
name: guest_spends
views: [guest_visits, guest_purchases]
---
kind: TrainingSet
name: guest_spends_rows
service: guest_spends
spine: purchases
label: {name: spent, source: purchases, join: [guest, at], column: amount, horizon: 1h}
"""


def test_inputs_without_any_value_are_named_with_the_likely_cause(server: Server) -> None:
    files = [{"path": "guests.yaml", "folder": str(ROOT), "text": DEFINITIONS}]
    server.post("/api/v1/apply", {"files": files, "dry_run": False})
    for source, column in (("visits", "minutes"), ("purchases", "amount")):
        lines = [f"guest,at,{column}"] + [f"g{n % 3},2024-03-01T{n:02}:00:00Z,{n + 1}" for n in range(20)]
        server.post(f"/api/v1/sources/{source}/load?name={source}.csv", raw="\n".join(lines).encode())
    shown = server.cli("dataset", "build", "guest_spends_rows", "--from", "2024-03-01", "--to", "2024-03-02").stdout
    [warning] = [line for line in shown.splitlines() if line.startswith("WARNING")]
    assert (
        "'guest_visits__" in warning and "and 1 more of view 'guest_visits' have no value in any of 20 rows" in warning
    )
    assert "rows of 'visits' say no ingest time" in warning and "'ingest_time'" in warning
