"""The short version of `tools/crash_drill.py`: a few kills in the middle of everything, and the ledger still holds."""

from __future__ import annotations

import pathlib
import sys

import pytest
from conftest import ROOT

pytest.importorskip("deltalake")
sys.path.insert(0, str(ROOT / "tools"))
import crash_drill


def test_nothing_acknowledged_is_lost_or_counted_twice(binary: str, tmp_path: pathlib.Path) -> None:
    with crash_drill.drill(binary, tmp_path / "drill", seed=4) as drill:
        counts = drill.run(kills=5, check_every=3)
    assert counts["pushes"] and counts["dropped files"] and counts["changed views"], counts
