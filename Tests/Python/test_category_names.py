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


CITIES = ["Bonn", "Köln", "München", 'A"b', "Zürich", "Wien", "中文", "a\tb 😀"]


@pytest.mark.parametrize(
    "names", [CITIES, ["yé", "x", "z z"], ["éé", "bcd"], ["éé", "aé"]], ids=["cities", "y", "b", "a"]
)
@pytest.mark.parametrize("library", ["xgboost-json", "xgboost-ubj", "lightgbm"])
def test_names_that_are_not_ascii(library: str, names: list[str], binary: str, tmp_path: pathlib.Path) -> None:
    """LightGBM escapes them; XGBoost's package counts characters where it writes bytes, and reads itself so."""
    random = np.random.default_rng(5)
    rows = pd.DataFrame({"amount": random.normal(size=900).astype("float32"), "city": random.choice(names, 900)})
    labels = rows["city"].map(names.index) * 10.0
    table = rows.assign(city=rows["city"].astype("category"))
    file = tmp_path / f"model.{library.rpartition('-')[2]}"
    if library == "lightgbm":
        parameters = {
            "objective": "regression", "verbose": -1, "num_threads": 1, "min_data_per_group": 1, "cat_smooth": 0,
        }  # fmt: skip
        booster = lightgbm.train(parameters, lightgbm.Dataset(table, labels), 20)
        expected = booster.predict(table)
    else:
        parameters = {"max_depth": 4, "nthread": 1}
        booster = xgboost.train(parameters, xgboost.DMatrix(table, labels, enable_categorical=True), 20)
        expected = booster.predict(xgboost.DMatrix(table, enable_categorical=True))
    booster.save_model(file)
    rows.to_parquet(tmp_path / "in.parquet")

    def score(listed: list[str]) -> subprocess.CompletedProcess[str]:
        command = [binary, "score-file", "--file", file, "--rows", tmp_path / "in.parquet"]
        command += ["--output", tmp_path / "out.parquet", "--categories", json.dumps({"1": listed}, ensure_ascii=False)]
        return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)

    done = score(names)
    assert done.returncode == 0, done.stderr
    said = pd.read_parquet(tmp_path / "out.parquet")["prediction"].to_numpy("float32")
    assert np.array_equal(said, np.asarray(expected, "float32"))
    assert len(np.unique(said.round())) >= len(names), "no two are taken for one"
    if library != "lightgbm":  # what XGBoost left out is known only where both lists are one
        done = score([*names, "elsewhere"])
        assert done.returncode == 2 and "cut the names of its categories" in done.stderr, done.stderr
    done = score(["one", "two"] if library == "lightgbm" else ["one", "two", "three", "four", "five", "six", "7", "8"])
    assert done.returncode == 2, done.stderr


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_numbers_as_categories(library: str, binary: str, tmp_path: pathlib.Path) -> None:
    def trained(kind: list[int]) -> tuple[pathlib.Path, np.ndarray, pd.DataFrame]:
        rows = pd.DataFrame({"kind": np.random.default_rng(6).choice(kind, 600)})
        labels = rows["kind"].map(kind.index) * 10.0
        table = rows.assign(kind=rows["kind"].astype("category"))
        file = tmp_path / ("model.txt" if library == "lightgbm" else "model.json")
        if library == "lightgbm":
            parameters = {
                "objective": "regression", "verbose": -1, "num_threads": 1, "min_data_per_group": 1, "cat_smooth": 0,
            }  # fmt: skip
            booster = lightgbm.train(parameters, lightgbm.Dataset(table, labels), 30)
            expected = booster.predict(table)
        else:
            booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(table, labels, enable_categorical=True), 30)
            expected = booster.predict(xgboost.DMatrix(table, enable_categorical=True))
        booster.save_model(file)
        return file, np.asarray(expected, "float32"), rows

    def score(file: pathlib.Path, rows: pd.DataFrame, listed: list[str] | None) -> subprocess.CompletedProcess[str]:
        rows.to_parquet(tmp_path / "in.parquet")
        command = [binary, "score-file", "--file", file, "--rows", tmp_path / "in.parquet"]
        command += ["--output", tmp_path / "out.parquet"]
        command += ["--categories", json.dumps({"0": listed})] if listed else []
        return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)

    def said() -> np.ndarray:
        return pd.read_parquet(tmp_path / "out.parquet")["prediction"].to_numpy("float32")

    # Days as numbers: float32 cannot tell them apart, texts can.
    days = [20260103, 20260104, 20260102, 7]
    file, expected, rows = trained(days)
    done = score(file, rows.astype(str), [str(day) for day in days])
    assert done.returncode == 0 and np.array_equal(said(), expected), done.stderr
    done = score(file, rows.astype("float64"), None)
    assert done.returncode == 2 and "float32, cannot tell them apart" in done.stderr, done.stderr
    # Who trained on places of a list of texts gets them from the texts.
    file, expected, rows = trained([0, 1, 2])
    done = score(file, rows.assign(kind=rows["kind"].map(["web", "app", "shop"].__getitem__)), ["web", "app", "shop"])
    assert done.returncode == 0 and np.array_equal(said(), expected), done.stderr
    file, _, rows = trained([11, 12, 13])
    done = score(file, rows.assign(kind="web"), ["web", "app", "shop"])
    assert done.returncode == 2 and "of which none is a value of the feature" in done.stderr, done.stderr


@pytest.mark.parametrize("objective", ["regression", "regression_l1", "fair", "quantile", "mape", "huber"])
def test_roots_of_labels_are_squared_again(objective: str, binary: str, tmp_path: pathlib.Path) -> None:
    rows = pd.DataFrame({"a": np.random.default_rng(7).normal(size=500).astype("float32")})
    parameters = {"objective": objective, "reg_sqrt": True, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(rows, (rows["a"] * 3) ** 2), 20)
    booster.save_model(tmp_path / "model.txt")
    rows.to_parquet(tmp_path / "in.parquet")
    command = [binary, "score-file", "--file", "model.txt", "--rows", "in.parquet", "--output", "out.parquet"]
    subprocess.run(command, check=True, timeout=60, cwd=tmp_path)
    said = pd.read_parquet(tmp_path / "out.parquet")["prediction"].to_numpy("float32")
    assert np.array_equal(said, booster.predict(rows).astype("float32"))
