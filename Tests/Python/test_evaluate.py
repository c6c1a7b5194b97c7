"""`bottega evaluate`: versions on training sets and files, compared on the same rows, kept as evidence and as runs."""

from __future__ import annotations

import csv
import json
import pathlib
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import shop
import xgboost
from conftest import Server
from sklearn import metrics
from test_openapi import check, check_answer, faults


class Desk:
    """A server with two versions of a model, one trained longer than the other."""

    def __init__(self, server: Server, folder: pathlib.Path) -> None:
        self.server = server
        self.folder = folder
        server.post("/api/v1/clock", {"now": shop.START + 27 * shop.DAY})
        definitions = shop.write_definitions(folder / "definitions")
        model = definitions / "model.yaml"
        more = "evaluation: {metrics: [auc, log_loss, ece, f1], slices: [channel], small_below: 5}\ngates:"
        model.write_text(model.read_text().replace("gates:", more, 1))
        self.json("apply", str(definitions))
        history = shop.history(27)
        for name in ("payments", "orders", "outcomes"):
            self.json("ingest", name, str(shop.write_csv(folder / f"{name}.csv", getattr(history, name))))
        span = ["--from", shop.text(shop.START + 8 * shop.DAY), "--to", shop.text(shop.START + 26 * shop.DAY)]
        built = self.json("dataset", "build", "loss", *span)
        self.dataset, self.manifest = built["dataset"], built["manifest"]
        for rounds in (40, 2):
            body = {"model": "loss", "dataset": self.dataset, "parameters": {"rounds": str(rounds)}}
            job = server.post("/training-jobs", body)
            self.json("model", "register", "loss", "--job", job["id"])

    def json(self, *arguments: str) -> Any:
        return json.loads(self.server.cli(*arguments, "--json").stdout)

    def part(self, name: str) -> Any:
        hash_ = next(part["part"] for part in self.manifest["slices"] if part["name"] == name)
        [path] = [p for p in self.server.data_dir.joinpath("objects").rglob(f"*{hash_[2:]}*") if p.is_file()]
        return pyarrow.parquet.read_table(path).to_pandas()

    def scores(self, version: int, frame: Any) -> np.ndarray:
        """What XGBoost itself says of the rows."""
        shown = self.json("model", "show", "loss", str(version))
        objects = self.server.data_dir.joinpath("objects")
        [path] = [p for p in objects.rglob(f"*{shown['artifact'][2:]}*") if p.is_file()]
        booster = xgboost.Booster(model_file=bytearray(path.read_bytes()))
        columns = [c for c in self.manifest["columns"] if c["role"] in ("request", "feature")]
        features = frame[[c["name"] for c in columns]].copy()
        for column in columns:
            if column.get("categories"):
                codes = features[column["name"]].map({v: i for i, v in enumerate(column["categories"])})
                features[column["name"]] = codes
        matrix = xgboost.DMatrix(
            features.astype("float32").to_numpy(),
            feature_names=booster.feature_names,
            feature_types=booster.feature_types,
            enable_categorical=True,
        )
        return booster.predict(matrix).astype(float)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, binary: str):
    folder = tmp_path_factory.mktemp("evaluate")
    server = Server(folder / "data", "--clock", "manual").start()
    yield Desk(server, folder)
    server.stop()


def named(report: dict[str, Any]) -> dict[str, Any]:
    return {result["metric"]: result for result in report["metrics"]}


def test_versions_are_measured_on_the_same_rows_as_scikit_learn_does(desk: Desk) -> None:
    found = desk.json("evaluate", "loss@1", "--compare", "2", "--metric", "auc", "log_loss", "brier", "f1")
    assert not faults(found, {"$ref": "#/components/schemas/Evaluation"})
    frame = desk.part("test")
    labels = frame["lost"].to_numpy()
    assert found["data"]["dataset"] == desk.dataset and found["data"]["rows"] == len(frame)
    for version in found["versions"]:
        scores = desk.scores(version["version"], frame)
        results = named(version["report"])
        assert results["auc"]["value"] == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-6)
        assert results["log_loss"]["value"] == pytest.approx(metrics.log_loss(labels, scores), rel=1e-5)
        assert results["brier"]["value"] == pytest.approx(metrics.brier_score_loss(labels, scores), rel=1e-5)
        assert results["f1"]["value"] == pytest.approx(metrics.f1_score(labels, scores >= 0.5))
        for part in version["report"]["slices"]:
            chosen = frame[part["column"]] == part["value"]
            assert part["rows"] == chosen.sum() > 0
        assert {part["column"] for part in version["report"]["slices"]} == {"channel"}, "as the definition says"
    [comparison] = found["comparisons"]
    assert (comparison["version"], comparison["against"]) == (1, 2)
    differences = {difference["metric"]: difference for difference in comparison["differences"]}
    results = [named(version["report"]) for version in found["versions"]]
    for name, difference in differences.items():
        gap = results[0][name]["value"] - results[1][name]["value"]
        assert difference["difference"]["estimate"] == pytest.approx(gap, abs=1e-12)
    assert differences["log_loss"]["verdict"] == "better", "forty rounds against two"


def test_the_same_question_has_the_same_intervals(desk: Desk) -> None:
    reports = [desk.json("evaluate", "loss@1", "--untracked", "--seed", "3")["versions"][0] for _ in range(2)]
    assert reports[0]["report"] == reports[1]["report"]
    assert "run_id" not in reports[0]
    other = desk.json("evaluate", "loss@1", "--untracked", "--seed", "4")["versions"][0]
    assert named(other["report"])["auc"]["value"] == named(reports[0]["report"])["auc"]["value"]
    assert named(other["report"])["auc"]["interval"] != named(reports[0]["report"])["auc"]["interval"]


def test_a_column_of_the_question_cuts_the_rows_though_the_model_does_not_read_it(desk: Desk) -> None:
    found = desk.json("evaluate", "loss@1", "--slice", "customer", "price", "--protected", "customer", "--untracked")
    report = found["versions"][0]["report"]
    customers = [part for part in report["slices"] if part["column"] == "customer"]
    assert len(customers) > 10 and sum(part["rows"] for part in customers) == report["rows"]
    prices = [part for part in report["slices"] if part["column"] == "price"]
    assert len(prices) == 4 and prices[0]["value"].split()[1] == "to", "a number is cut into ranges"
    assert max(part["rows"] for part in prices) - min(part["rows"] for part in prices) <= 3
    [fairness] = report["fairness"]
    assert fairness["attribute"] == "customer" and len(fairness["groups"]) == len(customers)


def test_a_file_is_evaluated_as_it_is(desk: Desk) -> None:
    frame = desk.part("validation").drop(columns=["__event_time", "__sequence"])
    frame["region"] = ["north" if number % 3 else "south" for number in range(len(frame))]
    frame.loc[frame.index[:2], "lost"] = None
    for path in (desk.folder / "rows.csv", desk.folder / "rows.parquet"):
        frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
        found = desk.json("evaluate", "loss@2", "--dataset", str(path), "--slice", "region", "--untracked")
        assert found["data"]["name"] == path.name and found["data"]["rows_without_label"] == 2
        assert found["data"]["rows"] == len(frame) - 2
        kept = frame.iloc[2:]
        auc = metrics.roc_auc_score(kept["lost"].astype(int), desk.scores(2, kept))
        assert named(found["versions"][0]["report"])["auc"]["value"] == pytest.approx(auc, abs=1e-6)
        assert {part["value"] for part in found["versions"][0]["report"]["slices"]} == {"north", "south"}


def test_moments_and_days_are_cut_into_ranges_of_time(desk: Desk) -> None:
    found = desk.json("evaluate", "loss@1", "--slice", "asked_at", "--part", "train", "--untracked")
    ranges = found["versions"][0]["report"]["slices"]
    assert len(ranges) == 4 and ranges[0]["value"][:11] != ranges[3]["value"][:11] and " to 20" in ranges[0]["value"]
    frame = desk.part("train").drop(columns=["__event_time", "__sequence"])
    moments = pd.Timestamp("2024-02-01T10:00:00") + pd.to_timedelta(np.arange(len(frame)) % 50, unit="h")
    frame["at"] = moments
    frame["day"] = moments.date
    frame.loc[frame.index[:3], "at"] = None
    for path in (desk.folder / "moments.parquet", desk.folder / "moments.csv"):
        frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
        found = desk.json("evaluate", "loss@1", "--dataset", str(path), "--slice", "at", "day", "--untracked")
        parts = found["versions"][0]["report"]["slices"]
        counts = {part["value"]: part["rows"] for part in parts if part["column"] == "at"}
        known = frame["at"].dropna().sort_values()
        edges = [known.iloc[place * (len(known) - 1) // 4] for place in range(5)]
        assert len(set(edges)) == 5 and len(counts) == 5
        for place in range(4):
            low, high = (f"{edge.isoformat()}.000Z" for edge in edges[place : place + 2])
            rows = frame["at"].between(edges[place], edges[place + 1], inclusive="right" if place else "both")
            assert counts[f"{'after ' if place else ''}{low} to {high}"] == rows.sum()
        assert counts["(missing)"] == 3
        days = {part["value"]: part["rows"] for part in parts if part["column"] == "day"}
        assert days == {str(day): rows for day, rows in frame["day"].value_counts().items()}


def test_values_in_no_list_are_counted(desk: Desk) -> None:
    frame = desk.part("train").drop(columns=["__event_time", "__sequence"])
    frame.loc[frame.index[:4], "channel"] = ["Web", "kiosk", None, "web"]
    for path in (desk.folder / "unlisted.parquet", desk.folder / "unlisted.csv"):
        frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
        [told] = desk.json("evaluate", "loss@1", "--dataset", str(path), "--untracked")["data"]["warnings"]
        assert told.startswith(
            f"'channel' has values outside of its list in 2 of {len(frame)} rows, such as 'Web' (the"
        )
        assert told in desk.server.cli("evaluate", "loss@1", "--dataset", str(path), "--untracked").stdout
    assert "warnings" not in desk.json("evaluate", "loss@1", "--part", "train", "--untracked")["data"]


def test_an_evaluation_is_kept_as_evidence_and_as_a_run(desk: Desk) -> None:
    page = desk.folder / "page.html"
    text = desk.server.cli("evaluate", "loss@2", "--compare", "1", "--html", str(page)).stdout
    assert "VERSION 2" in text and "AGAINST 1" in text and "Slices of version 1" in text
    newest = check(desk.server, "get", "/api/v1/models/{model}/evaluations", query="?version=2", model="loss")
    entry = newest["evaluations"][0]
    assert entry["evaluation"] in text and entry["part"] == "test"
    found = check(desk.server, "get", "/api/v1/evaluations/{hash}", hash=entry["evaluation"])
    assert [version["version"] for version in found["versions"]] == [2, 1]
    html = page.read_text()
    assert html.startswith("<!doctype html>") and html.count("<svg") >= 4
    assert "<script" not in html and "http" not in html.replace("http-equiv", "")
    mlflow.set_tracking_uri(desk.server.url)
    client = mlflow.MlflowClient()
    for version in found["versions"]:
        run = client.get_run(version["run_id"])
        results = named(version["report"])
        assert run.info.status == "FINISHED"
        assert run.data.metrics["auc"] == results["auc"]["value"]
        assert run.data.metrics["auc.lower"] == results["auc"]["interval"]["lower"]
        assert run.data.metrics["slice/channel/web/auc"] > 0
        assert run.data.tags["bottega.version"] == str(version["version"])
        assert run.data.params["data"] == desk.dataset
        parent = client.get_run(run.data.tags["mlflow.parentRunId"])
        assert parent.info.experiment_id == run.info.experiment_id
    card = desk.server.cli("model", "card", "loss", "2").stdout
    assert "## Evaluations" in card and f"the test part of dataset {desk.dataset[:12]}" in card
    assert entry["evaluation"][:12] in card and f"auc {round(entry['metrics']['auc'], 5)}" in card
    card = desk.server.cli("model", "card", "loss", "2", "--html").stdout
    assert card.count("<svg") == 4 and "Evaluations" in card and "<script" not in card
    _, shown = desk.server.request("GET", "/models/loss")
    assert f'href="/evaluations/{entry["evaluation"]}"' in shown and "versions/2/card?format=html" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["loss@1", "--slice", "chanel"], "did you mean 'channel'?"),
        (["loss@1", "--label", "losst"], "did you mean 'lost'?"),
        (["loss@1", "--label", "price"], "labels are 0 or 1"),
        (["loss@1", "--part", "exam"], "it has train, validation, test"),
        (["loss@9"], "9"),
        (["loss@one"], "'one' is no version number"),
        (["lost"], "did you mean 'loss'?"),
        (["loss@1", "--metric", "acuracy"], "did you mean 'accuracy'?"),
        (["loss@1", "--dataset", "f" * 64], "no such training set"),
        (["loss@1", "--dataset", "rows.txt"], "neither the hash of a training set nor"),
        (["loss@1", "--dataset", "missing.csv"], "cannot be read"),
    ],
)
def test_what_does_not_fit_is_named(desk: Desk, arguments: list[str], words: str) -> None:
    result = desk.server.cli("evaluate", *arguments, check=False)
    assert result.returncode in (2, 4) and words in result.stderr, result.stderr


def test_files_that_are_none_are_refused(desk: Desk) -> None:
    broken = desk.folder / "broken.parquet"
    broken.write_bytes(b"PAR1 not really")
    empty = desk.folder / "empty.csv"
    frame = desk.part("test").drop(columns=["__event_time", "__sequence"])
    frame.head(0).to_csv(empty, index=False)
    few = desk.folder / "few.csv"
    with few.open("w", newline="") as file:
        csv.writer(file).writerows([["price", "lost"], [1, 0]])
    for path, words in (
        (broken, "cannot be read as parquet"),
        (empty, "it has no rows"),
        (few, "the model's input 'channel' is no column"),
    ):
        result = desk.server.cli("evaluate", "loss@1", "--dataset", str(path), check=False)
        assert result.returncode == 2 and words in result.stderr, result.stderr


def test_answers_are_as_described(desk: Desk) -> None:
    report = check(
        desk.server,
        "post",
        "/api/v1/evaluations",
        {"predictions": [0.2, 0.7, 0.4, 0.9], "labels": [0, 1, 1, True], "slices": {"g": ["a", "a", "b", None]},
         "protected": {"g": ["a", "a", "b", "b"]}, "replicates": 20},
    )  # fmt: skip
    assert [part["value"] for part in report["slices"]] == ["(missing)", "a", "b"]
    status, answer = desk.server.request("POST", "/api/v1/evaluation-data", raw=b"price,lost\n1,0\n")
    check_answer("post", "/api/v1/evaluation-data", status, answer)
    status, answer = desk.server.request("POST", "/api/v1/models/loss/evaluations", {"slice": ["a"]})
    assert status == 422 and "did you mean 'slices'" in answer["error"]["message"]
