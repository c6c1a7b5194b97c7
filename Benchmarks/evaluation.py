"""Ten metrics and bootstrap intervals of many rows, beside scikit-learn: the same Parquet file, the same answers.

BOTTEGA_ONLY=evaluation-report swift build -c release --scratch-path .build-release
.venv/bin/python Benchmarks/evaluation.py --report .build-release/release/evaluation-report
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from sklearn import metrics as sk


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def theirs(path: pathlib.Path, draws: int) -> dict[str, Any]:
    def read() -> tuple[np.ndarray, np.ndarray]:
        table = parquet.read_table(path)
        return table["prediction"].to_numpy(), table["label"].to_numpy()

    (scores, labels), reading = timed(read)
    called = scores >= 0.5
    values, measuring = timed(
        lambda: {
            "auc": sk.roc_auc_score(labels, scores),
            "average_precision": sk.average_precision_score(labels, scores),
            "log_loss": sk.log_loss(labels, scores),
            "brier": sk.brier_score_loss(labels, scores),
            "accuracy": sk.accuracy_score(labels, called),
            "balanced_accuracy": sk.balanced_accuracy_score(labels, called),
            "precision": sk.precision_score(labels, called),
            "recall": sk.recall_score(labels, called),
            "f1": sk.f1_score(labels, called),
        }
    )
    draw = np.random.default_rng(1)

    def bootstrap() -> np.ndarray:
        found = []
        for _ in range(draws):
            rows = draw.integers(0, len(labels), len(labels))
            found.append((sk.roc_auc_score(labels[rows], scores[rows]), sk.log_loss(labels[rows], scores[rows])))
        return np.quantile(found, [0.025, 0.975], axis=0)

    intervals, drawing = timed(bootstrap)
    return {
        **values, "read_seconds": reading, "metrics_seconds": measuring, "seconds_per_draw": drawing / draws,
        "auc_interval": intervals[:, 0].tolist(), "log_loss_interval": intervals[:, 1].tolist(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", required=True, help="the built evaluation-report")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--their-draws", type=int, default=10, help="fewer, because they are slow; times are per draw")
    arguments = parser.parse_args()
    draw = np.random.default_rng(7)
    labels = (draw.random(arguments.rows) < 0.3).astype(np.int64)
    scores = 1 / (1 + np.exp(-(draw.normal(size=arguments.rows) + 1.2 * labels - 1)))
    scores = np.where(draw.random(arguments.rows) < 0.2, np.round(scores, 2), scores)  # ties
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "rows.parquet"
        parquet.write_table(pa.table({"prediction": scores, "label": labels}), path, row_group_size=122_880)
        run = subprocess.run(
            [arguments.report, str(path), str(arguments.draws)], capture_output=True, text=True, check=True
        )
        ours, other = json.loads(run.stdout), theirs(path, arguments.their_draws)
    for name, value in other.items():
        if not name.endswith(("seconds", "interval", "draw")):
            assert math.isclose(ours[name], value, rel_tol=1e-10), (name, ours[name], value)
    ours["seconds_per_draw"] = ours["bootstrap_seconds"] / arguments.draws
    print(f"{arguments.rows:,} rows, {ours['processors']} processors; all values are equal")
    for name in ("read_seconds", "metrics_seconds", "seconds_per_draw"):
        print(f"{name:18} {ours[name]:9.4f}  scikit-learn {other[name]:9.4f}  ratio {other[name] / ours[name]:6.1f}")
    print("auc interval", ours["auc_interval"], "theirs", other["auc_interval"])


if __name__ == "__main__":
    main()
