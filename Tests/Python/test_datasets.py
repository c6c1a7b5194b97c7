"""Training sets that were built: listed, named by the beginning of their hash, and handed out."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
import sqlite3

import bottega
import pandas as pd
import pyarrow.parquet as parquet
import pytest
import shop
from conftest import Server


@pytest.fixture(scope="module")
def client(trained: Server) -> bottega.Client:
    return bottega.Client(trained.url)


@pytest.fixture(scope="module")
def second(trained: Server, client: bottega.Client) -> str:
    """A training set that was built behind the first one; its span is said with Python's moments."""
    start = datetime.datetime.fromtimestamp((shop.START + 2 * shop.DAY) / 1000, datetime.UTC)
    return str(
        client.datasets.build("loss", start=start.date(), end=start + datetime.timedelta(days=4)).wait()["dataset"]
    )


def test_training_sets_are_listed_newest_first_and_in_pages(
    trained: Server, client: bottega.Client, second: str
) -> None:
    found = client.datasets.list()
    assert {trained.dataset, second} <= {entry["dataset"] for entry in found}
    moments = [(entry["built_at"], entry["dataset"]) for entry in found]
    assert moments == sorted(moments, reverse=True)
    manifest = client.datasets.get(second).manifest
    entry = next(entry for entry in found if entry["dataset"] == second)
    assert (entry["training_set"], entry["service"], entry["from"], entry["to"]) == (
        "loss", "loss", shop.text(manifest["from"]), shop.text(manifest["to"]),
    )  # fmt: skip
    assert entry["rows"] == sum(entry["slices"].values()) == client.datasets.get(second).rows
    pages, token = [], ""
    while True:
        page = trained.get(f"/api/v1/datasets?limit=1{token}")
        pages += page["datasets"]
        if page["next_page_token"] is None:
            break
        token = f"&page_token={page['next_page_token']}"
    assert pages == found
    assert client.datasets.list(training_set="nothing") == []
    for query in ("page_token=abc", f"page_token={'0' * 64}", "limit=0", "training_set=a%20b"):
        assert trained.request("GET", f"/api/v1/datasets?{query}")[0] == 422, query


def test_the_command_lists_them(trained: Server, second: str) -> None:
    table = trained.cli("dataset", "list").stdout.splitlines()
    assert table[0].split() == ["DATASET", "TRAINING", "SET", "SERVICE", "FROM", "TO", "ROWS", "BUILT"]
    assert {second[:12], trained.dataset[:12]} <= {line.split()[0] for line in table[1:]}
    assert len(trained.cli("dataset", "list", "--limit", "1").stdout.splitlines()) == 3
    assert "no training sets" in trained.cli("dataset", "list", "--training-set", "nothing").stdout


def test_the_first_digits_of_a_hash_name_a_training_set(trained: Server, client: bottega.Client) -> None:
    full = trained.dataset
    for digits in (full[:8], full[:12], full[:63], full[:12].upper()):
        assert json.loads(trained.cli("dataset", "show", digits).stdout)["dataset"] == full
    assert client.datasets.get(full[:10]).hash == full
    assert trained.cli("dataset", "check", full[:12]).returncode == 0
    assert full in trained.cli("lineage", full[:12], "--origin").stdout
    job = client.training_jobs.start("loss", full[:12], parameters={"rounds": 2}).wait()
    assert job["dataset"] == full
    evaluated = json.loads(trained.cli("evaluate", "loss@1", "--dataset", full[:8], "--untracked", "--json").stdout)
    assert evaluated["data"]["dataset"] == full


def test_digits_that_name_nothing_or_no_one_are_refused(trained: Server) -> None:
    unknown = "0" * 12 if not trained.dataset.startswith("0" * 12) else "1" * 12
    failed = trained.cli("dataset", "show", unknown, check=False)
    assert (failed.returncode, "'bottega dataset list' lists them" in failed.stderr) == (4, True)
    failed = trained.cli("train", "loss", "--dataset", trained.dataset[:7], check=False)
    assert (failed.returncode, "8 or more" in failed.stderr) == (2, True)


def test_digits_of_several_training_sets_are_refused_with_more_of_them(trained: Server, client: bottega.Client) -> None:
    # Two hashes that begin alike cannot be made on purpose: a row of the index stands for the other one.
    twin = trained.dataset[:8] + ("0" if trained.dataset[8] != "0" else "1") * 56
    with sqlite3.connect(trained.data_dir / "metadata.sqlite", timeout=30) as metadata:
        metadata.execute("INSERT INTO dataset_builds VALUES (?, 'loss', 0)", (twin,))
        metadata.commit()
        try:
            failed = trained.cli("dataset", "show", trained.dataset[:8], check=False)
            assert (failed.returncode, "write more digits" in failed.stderr) == (2, True)
            assert trained.dataset[:12] in failed.stderr and twin[:12] in failed.stderr
            assert client.datasets.get(trained.dataset[:9]).hash == trained.dataset
            gone = next(entry for entry in client.datasets.list() if entry["dataset"] == twin)
            assert (gone["rows"], gone["service"], gone["slices"]) == (None, None, {})
        finally:
            metadata.execute("DELETE FROM dataset_builds WHERE hash = ?", (twin,))
    metadata.close()


def test_parameters_of_a_job_are_said_on_the_command_line(trained: Server) -> None:
    options = ["train", "loss", "--dataset", trained.dataset[:8], "--json"]
    job = json.loads(trained.cli(*options, "--param", "rounds=2", "--param", "note=a=b").stdout)
    assert job["parameters"] == {"rounds": "2", "depth": "3", "note": "a=b"}
    for wrong, message in ((["rounds"], "name=value"), (["a=1", "--param", "a=2"], "'a' twice")):
        failed = trained.cli(*options, "--param", *wrong, check=False)
        assert (failed.returncode, message in failed.stderr) == (2, True)


def test_an_address_without_a_scheme_will_do(trained: Server) -> None:
    address = trained.url.removeprefix("http://")
    assert trained.cli("status", "--url", address).stdout == trained.cli("status").stdout.replace(trained.url, address)


def test_rows_come_as_a_frame_and_as_files(trained: Server, client: bottega.Client, tmp_path: pathlib.Path) -> None:
    dataset = client.datasets.get(trained.dataset)
    frame = dataset.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == dataset.rows == sum(dataset.slices.values())
    assert {*dataset.inputs, dataset.label} <= set(frame.columns)
    train = dataset.to_pandas("train")
    pd.testing.assert_frame_equal(train, frame.iloc[: len(train)])

    file = tmp_path / "train.parquet"
    done = trained.cli("dataset", "export", trained.dataset[:12], str(file), "--slice", "train")
    assert f"train {len(train)} rows of dataset {trained.dataset[:12]} written to {file}" in done.stdout
    pd.testing.assert_frame_equal(parquet.read_table(file).to_pandas(), train)

    trained.cli("dataset", "export", trained.dataset, str(tmp_path / "all"))
    written = {path.stem: parquet.read_metadata(path).num_rows for path in (tmp_path / "all").glob("*.parquet")}
    assert written == dataset.slices
    assert json.loads((tmp_path / "all" / "manifest.json").read_text())["dataset"] == trained.dataset


def test_an_export_that_cannot_be_says_why(trained: Server, tmp_path: pathlib.Path) -> None:
    def refused(*arguments: str) -> tuple[int, str]:
        failed = trained.cli("dataset", "export", trained.dataset, *arguments, check=False)
        return failed.returncode, failed.stderr

    code, message = refused(str(tmp_path / "a.parquet"))
    assert (code, "--slice train" in message) == (2, True)
    code, message = refused(str(tmp_path / "a.parquet"), "--slice", "tran")
    assert (code, "did you mean 'train'" in message) == (4, True)
    code, message = refused(str(tmp_path / "no" / "a.parquet"), "--slice", "train")
    assert (code, "cannot be written; check the folder" in message) == (2, True)
    assert not list(tmp_path.iterdir())


def test_an_export_takes_no_folder_away(trained: Server, client: bottega.Client, tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine").write_text("precious")
    refused = trained.cli("dataset", "export", trained.dataset, str(tmp_path), "--slice", "train", check=False)
    assert refused.returncode == 2 and "is a folder" in refused.stderr, refused.stderr
    assert (tmp_path / "mine").read_text() == "precious"
    dataset = client.datasets.get(trained.dataset)
    with pytest.raises(bottega.BottegaError):
        dataclasses.replace(dataset, hash="0" * 64).download("train", tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "precious" and [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert dict(dataset)["manifest"] == dataset.manifest and "manifest" in dataset and dataset.get("nothing") is None


def test_rows_of_python_values_are_pushed(client: bottega.Client) -> None:
    moment = pd.Timestamp(shop.START, unit="ms", tz="Europe/Rome")
    frame = pd.DataFrame({"order": ["sdk-1", "sdk-2"], "asked_at": [moment] * 2, "customer": ["c01", None]})
    frame["price"] = [1.5, None]
    report = client.events.push("orders", frame)
    assert (report["accepted"], report["quarantined"]) == (2, 0)
