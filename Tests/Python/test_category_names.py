"""Categories by name: model files that name theirs, and rows that have them in another order, beside the libraries."""

from __future__ import annotations

import json
import pathlib
import subprocess
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost

LISTED = ["web", "app", "store", "phone"]


def frame(seed: int, count: int, names: list[str] = LISTED) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "amount": random.normal(size=count).astype("float32"),
            "channel": random.choice(names, count),
            "shop": random.choice([3, 7, 9], count),
        }
    )


def coded(rows: pd.DataFrame) -> pd.DataFrame:
    """As a data frame that a library is given: alphabetical categories."""
    return rows.assign(
        channel=pd.Categorical(rows["channel"], categories=sorted(LISTED)),
        shop=rows["shop"].astype("category"),
    )


def outcome(rows: pd.DataFrame) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=len(rows))
    return (2 * (rows["channel"] == "web") + (rows["shop"] == 7) + rows["amount"] + noise > 1).astype(int).to_numpy()


def trained_model(library: str, folder: pathlib.Path) -> tuple[pathlib.Path, Any]:
    rows = frame(2, 900)
    table, labels = coded(rows), outcome(rows)
    if library.startswith("lightgbm"):
        booster = lightgbm.train(
            {"objective": "binary", "verbose": -1, "num_threads": 1}, lightgbm.Dataset(table, labels), 15
        )
        booster.save_model(folder / "model.txt")
        return folder / "model.txt", booster.predict
    parameters = {"objective": "binary:logistic", "max_depth": 4, "nthread": 1}
    data = xgboost.DMatrix(table, labels, enable_categorical=True)
    booster = xgboost.train(parameters, data, 20)
    file = folder / f"model.{library.split('-')[1]}"
    booster.save_model(file)
    return file, lambda rows: booster.predict(xgboost.DMatrix(rows, enable_categorical=True))


@pytest.mark.parametrize("library", ["xgboost-json", "xgboost-ubj", "lightgbm"])
def test_rows_in_another_order_are_read_by_name(library: str, binary: str, tmp_path: pathlib.Path) -> None:
    model, predict = trained_model(library, tmp_path)
    rows = frame(3, 300)
    expected = predict(coded(rows)).astype("float32")

    def scored(rows: pd.DataFrame, names: list[str] | None) -> np.ndarray:
        source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
        rows.to_parquet(source)
        command = [binary, "score-file", "--file", model, "--rows", source, "--output", target]
        command += [] if names is None else ["--categories", json.dumps({"1": names})]
        subprocess.run([str(part) for part in command], check=True, timeout=60)
        return pd.read_parquet(target)["prediction"].to_numpy("float32")

    assert np.array_equal(scored(rows, None), expected), "texts by the file's own names"
    assert np.array_equal(scored(rows, LISTED), expected), "texts by a list in another order"
    codes = rows.assign(channel=rows["channel"].map(LISTED.index).astype("float64"))
    assert np.array_equal(scored(codes, LISTED), expected), "codes of a list in another order"
    own = rows.assign(channel=rows["channel"].map(sorted(LISTED).index).astype("float64"))
    assert np.array_equal(scored(own, None), expected), "codes of the file's own order"
    # What training did not know is missing to the model.
    wider = frame(4, 300, [*LISTED, "fax"])
    missing = coded(wider.assign(channel=wider["channel"].where(wider["channel"] != "fax")))
    assert np.array_equal(scored(wider, ["fax", *LISTED]), predict(missing).astype("float32"))
