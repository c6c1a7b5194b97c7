"""What is likely not meant with a training set is said when it is built."""

from __future__ import annotations

import numpy as np
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


def test_whole_numbers_that_float32_cannot_hold_are_named_with_an_example(server: Server) -> None:
    files = [{"path": "guests.yaml", "folder": str(ROOT), "text": DEFINITIONS}]
    server.post("/api/v1/apply", {"files": files, "dry_run": False})
    # Below 2^24, as Unix times of which some are held exactly, and with a fraction.
    for name, amounts in (
        ("whole", [16_777_216 - n for n in range(20)]),
        ("rounded", [1_700_000_000 + 100 * n for n in range(20)]),
        ("broken", [20_000_000.25 + n for n in range(20)]),
    ):
        day = {"whole": "01", "rounded": "02", "broken": "03"}[name]
        lines = ["guest,at,amount"] + [f"{name}{n % 3},2024-04-{day}T{n:02}:00:00Z,{a}" for n, a in enumerate(amounts)]
        server.post(f"/api/v1/sources/purchases/load?name={name}.csv", raw="\n".join(lines).encode())
        build = [
            "dataset",
            "build",
            "guest_spends_rows",
            "--from",
            f"2024-04-{day}",
            "--to",
            f"2024-04-{int(day) + 1:02}",
        ]
        shown = server.cli(*build).stdout
        warnings = [line for line in shown.splitlines() if line.startswith("WARNING") and "float32" in line]
        if name != "rounded":
            assert not warnings, shown
            continue
        # What a purchase finds is the last one of the same guest before it.
        held = [float(np.float32(amount)) == amount for amount in amounts[:17]]
        [warning] = warnings
        first = next(amount for amount, is_held in zip(amounts, held, strict=False) if not is_held)
        assert (
            f"'guest_purchases__last_amount' has whole numbers that float32 cannot hold in {held.count(False)} of"
            in (warning)
        ), (warning, held)
        assert f": {first} reaches a model as {int(np.float32(first))};" in warning, warning
