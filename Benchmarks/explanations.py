"""Time for one explained row: ours beside xgboost, LightGBM and shap, on one core, on the same models and rows.

    python3 Benchmarks/explanations.py --bottega .build-release/release/bottega

The Python that runs it needs xgboost, lightgbm, numpy and, for its column, shap. Ours is `bottega score-file --explain`
over all rows less the same over one row, so that starting and loading are left out, as they are for the others.
Contenders take turns; the median of the rounds is shown; the contributions are compared first.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable

import lightgbm as lgb
import numpy as np
import xgboost as xgb

try:
    import shap
except ImportError:
    shap = None

CASES = [
    # trees, depth, features, classes
    (100, 6, 30, 1),
    (500, 8, 100, 1),
    (100, 6, 30, 5),
    (100, 12, 30, 1),
]


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bottega", required=True)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("| model | ours | the library itself | shap | of the library |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        for library in ("xgboost", "lightgbm"):
            for case in CASES:
                compare(library, case, folder, options)


def compare(library: str, case: tuple[int, int, int, int], folder: pathlib.Path, options: argparse.Namespace) -> None:
    trees, depth, features, classes = case
    random = np.random.default_rng(7)
    train = random.normal(size=(20_000, features)).astype(np.float32)
    score = train[:, 0] * train[:, 1] + np.sin(train[:, 2]) + train[:, 3:].sum(axis=1) / 4 + random.normal(size=20_000)
    label = np.digitize(score, np.quantile(score, np.arange(1, max(2, classes)) / max(2, classes)))
    rows = train[: options.rows]
    path = folder / f"{library}.model"
    rounds = max(1, trees // classes)
    if library == "xgboost":
        parameters = {
            "max_depth": depth,
            "nthread": 1,
            "objective": "multi:softprob" if classes > 1 else "binary:logistic",
        }
        extra = {"num_class": classes} if classes > 1 else {}
        booster = xgb.train(parameters | extra, xgb.DMatrix(train, label=label), rounds)
        path = path.with_suffix(".ubj")
        booster.save_model(path)
        matrix = xgb.DMatrix(rows, nthread=1)

        def theirs() -> np.ndarray:
            return booster.predict(matrix, pred_contribs=True)
    else:
        parameters = {"max_depth": depth, "num_leaves": 2**depth, "num_threads": 1, "verbosity": -1}
        extra = {"objective": "multiclass", "num_class": classes} if classes > 1 else {"objective": "binary"}
        booster = lgb.train(parameters | extra, lgb.Dataset(train, label), rounds)
        path = path.with_suffix(".txt")
        booster.save_model(path)

        def theirs() -> np.ndarray:
            return booster.predict(rows, pred_contrib=True, num_threads=1)

    rows.tofile(folder / "rows")
    rows[:1].tofile(folder / "row")

    def ours(name: str = "rows") -> None:
        command = [options.bottega, "score-file", "--explain", "--file", path, "--rows", folder / name]
        subprocess.run([str(part) for part in [*command, "--output", folder / "out"]], check=True)

    ours()
    found = np.fromfile(folder / "out").reshape(len(rows), -1, features + 1)
    wanted = np.asarray(theirs(), dtype=np.float64).reshape(found.shape)
    apart = (np.abs(found - wanted) / np.abs(wanted).max(axis=2, keepdims=True)).max()
    assert apart < 1e-4, f"{library} {case}: {apart:.2g} of the largest contribution apart"
    explainer = None
    if shap is not None:
        explainer = shap.TreeExplainer(booster, feature_perturbation="tree_path_dependent")
    times: dict[str, list[float]] = {"ours": [], "theirs": [], "shap": []}
    for _ in range(options.rounds):
        times["ours"].append(seconds(ours) - seconds(lambda: ours("row")))
        times["theirs"].append(seconds(theirs))
        if explainer is not None:
            times["shap"].append(seconds(lambda: explainer.shap_values(rows)))
    each = {name: statistics.median(found) / len(rows) * 1e6 for name, found in times.items() if found}
    third = f"{each['shap']:.0f} µs" if "shap" in each else "-"
    shape = f"{library}: {rounds * classes} trees, depth {depth}, {features} features" + (
        f", {classes} classes" if classes > 1 else ""
    )
    print(
        f"| {shape} | {each['ours']:.0f} µs | {each['theirs']:.0f} µs | {third} | {each['ours'] / each['theirs']:.2f} |"
    )


if __name__ == "__main__":
    main()
