"""A backfill that is cut off again and again still comes to its end."""

from __future__ import annotations

import itertools
import pathlib
import time
from collections.abc import Callable

import shop
from conftest import Server

ROWS = 40_000
CUSTOMERS = 50


def test_a_backfill_killed_again_and_again_finishes(
    start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    server = start_server("--clock", "manual", "--set", "features.rowsatonce=50", "--set", "monitor.enabled=false")
    folder = shop.write_definitions(tmp_path / "definitions")
    server.cli("apply", str(folder))
    path = tmp_path / "payments.csv"
    with path.open("w") as file:
        file.write("payment,paid_at,known_at,customer,amount,method\n")
        for n in range(ROWS):
            moment = shop.text(shop.START + n * 1000)
            file.write(f"p{n},{moment},{moment},c{n % CUSTOMERS},{n % 97},card\n")
    server.cli("ingest", "payments", str(path))
    end = shop.START + ROWS * 1000
    server.post("/api/v1/clock", {"now": end})
    data = folder / "data.yaml"
    wide = "\n".join(f"  - {{name: n{n}, aggregate: count, window: {n}d}}" for n in range(2, 30))
    data.write_text(
        data.read_text().replace("column: amount, window: 24h}", f"column: amount, window: 24h}}\n{wide}", 1)
    )
    server.cli("apply", str(folder))
    assert server.get("/api/v1/status")["idle"] is False, "a backfill in flight is work"
    offsets: list[int] = []
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        building = server.get("/api/v1/features/status")["backfilling"]
        if not building:
            break
        offsets.append(building[0]["next_offset"])
        time.sleep(0.7)
        server.kill()
        server.start()
    else:
        raise AssertionError(f"it does not get on: {offsets}")
    assert all(before < after for before, after in itertools.pairwise(offsets)), f"each life gets on: {offsets}"
    server.wait_idle()
    answer = server.post("/features/groups/paid/get-online", {"entities": [{"customer": "c7"}], "as_of": end})
    values = dict(zip(answer["names"], answer["entities"][0]["values"], strict=True))
    mine = [n for n in range(ROWS) if n % CUSTOMERS == 7]
    assert values["n29"] == len(mine)
    assert values["sum_7d"] == sum(n % 97 for n in mine if (ROWS - n) * 1000 <= 7 * shop.DAY)
