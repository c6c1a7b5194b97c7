"""Time to score 1, 100 and 10,000 rows, in process and on one core: ours beside ONNX Runtime, lleaves and tl2cgen.

    BOTTEGA_ONLY=model-timing swift build -c release --scratch-path .build-release
    python3 Benchmarks/model_scoring.py --timing .build-release/release/model-timing

The Python that runs it needs numpy, xgboost, lightgbm, onnxruntime, onnxmltools, treelite, tl2cgen (and gcc),
and lleaves with llvmlite < 0.44. 100 trees of depth 6 and 30 features, 2 % of the values missing. ONNX Runtime is
called through C, as the server does; lleaves and tl2cgen through Python, which counts for one row and not for 10,000.
Contenders take turns; medians of the rounds, and their results are compared first.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

import lightgbm as lgb
import lleaves
import numpy as np
import onnxruntime
import tl2cgen
import treelite
import xgboost as xgb
from onnxmltools.convert import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

SIZES = [1, 100, 10_000]


def timed(call: Callable[[int, int], object]) -> dict[str, float]:
    """Medians in microseconds for `call(first, count)`."""
    found = {}
    for size in SIZES:
        calls = max(1, 2_000 // size)
        times = []
        for _ in range(11):
            start = time.perf_counter()
            for number in range(calls):
                call((number * size) % (10_001 - size) if size < 10_000 else 0, size)
            times.append((time.perf_counter() - start) / calls * 1e6)
        found[str(size)] = statistics.median(times)
    return found


def native(timing: str, model: pathlib.Path, rows: pathlib.Path) -> dict[str, Any]:
    library = next((pathlib.Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    done = subprocess.run([timing, model, rows, library], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timing", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    random = np.random.default_rng(7)
    rows = random.normal(size=(50_000, 30)).astype(np.float32)
    rows[random.random(rows.shape) < 0.02] = np.nan
    known = np.nan_to_num(rows)
    score = known[:, 0] * known[:, 1] + known[:, 2] - known[:, 3] ** 2 / 2 + np.sin(known[:, 4] * 3)
    label = (score + random.normal(size=len(rows)) / 2 > 0).astype(int)
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        file = folder / "rows.f32"
        rows[:20_000].tofile(file)
        xgboost_contest(folder, rows, label, file, options)
        lightgbm_contest(folder, rows, label, file, options)


def show(title: str, contest: dict[str, Callable[[], dict[str, float]]], rounds: int) -> None:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contest}
    for _ in range(rounds):
        for name, measure in contest.items():
            found[name].append(measure())
    print(f"\n{title}\n| microseconds | " + " | ".join(f"{size:,} rows" for size in SIZES) + " |\n|---|---|---|---|")
    first = {str(size): statistics.median(entry[str(size)] for entry in found["ours"]) for size in SIZES}
    for name, entries in found.items():
        cells = []
        for size in SIZES:
            median = statistics.median(entry[str(size)] for entry in entries)
            share = "" if name == "ours" else f" (ours {first[str(size)] / median:.2f})"
            cells.append(f"{median:,.2f}{share}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def xgboost_contest(
    folder: pathlib.Path, rows: np.ndarray, label: np.ndarray, file: pathlib.Path, options: argparse.Namespace
) -> None:
    settings = {"objective": "binary:logistic", "max_depth": 6, "eta": 0.1, "nthread": 1}
    booster = xgb.train(settings, xgb.DMatrix(rows, label), 100)
    path = folder / "x.ubj"
    booster.save_model(path)
    onnx = folder / "x.onnx"
    onnx.write_bytes(convert_xgboost(booster, initial_types=[("x", FloatTensorType([None, 30]))]).SerializeToString())
    expected = booster.predict(xgb.DMatrix(rows[:1000])).astype(np.float64).sum()
    for model in (path, onnx):
        assert abs(native(options.timing, model, file)["sum"] - expected) < 1e-2, model
    compiled = folder / "x.so"
    tl2cgen.export_lib(
        treelite.frontend.from_xgboost(booster), "gcc", compiled, params={"parallel_comp": 4}, options=["-O3"]
    )
    predictor = tl2cgen.Predictor(str(compiled), nthread=1)
    ready = {size: tl2cgen.DMatrix(rows[:size]) for size in SIZES}
    assert abs(float(np.sum(predictor.predict(tl2cgen.DMatrix(rows[:1000])))) - expected) < 1e-2
    show(
        "XGBoost, 100 trees of depth 6, 30 features",
        {
            "ours": lambda: native(options.timing, path, file)["microseconds"],
            "ONNX Runtime, C": lambda: native(options.timing, onnx, file)["microseconds"],
            "tl2cgen": lambda: timed(lambda _, count: predictor.predict(ready[count])),
            "xgboost, inplace_predict": lambda: timed(
                lambda first, count: booster.inplace_predict(rows[first : first + count])
            ),
        },
        options.rounds,
    )


def lightgbm_contest(
    folder: pathlib.Path, rows: np.ndarray, label: np.ndarray, file: pathlib.Path, options: argparse.Namespace
) -> None:
    settings = {"objective": "binary", "max_depth": 6, "num_leaves": 64, "num_threads": 1, "verbosity": -1}
    booster = lgb.train(settings, lgb.Dataset(rows, label), 100)
    path = folder / "l.txt"
    booster.save_model(path)
    onnx = folder / "l.onnx"
    converted = convert_lightgbm(booster, initial_types=[("x", FloatTensorType([None, 30]))], zipmap=False)
    onnx.write_bytes(converted.SerializeToString())
    quick = lleaves.Model(model_file=str(path))
    quick.compile()
    expected = booster.predict(rows[:1000]).sum()
    assert abs(native(options.timing, path, file)["sum"] - expected) < 1e-2
    wide = rows.astype(np.float64)
    assert abs(quick.predict(wide[:1000], n_jobs=1).sum() - expected) < 1e-2
    show(
        "LightGBM, 100 trees of depth 6, 30 features",
        {
            "ours": lambda: native(options.timing, path, file)["microseconds"],
            "ONNX Runtime, C": lambda: native(options.timing, onnx, file)["microseconds"],
            "lleaves": lambda: timed(lambda first, count: quick.predict(wide[first : first + count], n_jobs=1)),
            "lightgbm": lambda: timed(lambda first, count: booster.predict(rows[first : first + count])),
        },
        options.rounds,
    )


if __name__ == "__main__":
    main()
