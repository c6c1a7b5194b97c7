"""Metrics of the program against scikit-learn's, on generated rows with ties and degenerate cases."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from conftest import Server
from sklearn import metrics
from sklearn.calibration import calibration_curve

AVERAGES = ("macro", "micro", "weighted")
CLASSES = ["auc", "average_precision", "log_loss", "brier", "ece", "accuracy", "balanced_accuracy"] + [
    name + suffix for name in ("precision", "recall", "f1") for suffix in ("", *(f"_{a}" for a in AVERAGES))
]
NUMBERS = ["rmse", "mae", "r2", "mape", "median_ae", "quantile_loss@0.1", "quantile_loss@0.9"]


def measure(server: Server, names: list[str], predictions: Any, labels: Any, **more: Any) -> dict[str, Any]:
    body = {"metrics": names, "predictions": np.asarray(predictions).tolist(), "labels": np.asarray(labels).tolist()}
    return server.post("/api/v1/evaluations", {**body, "replicates": 2, **more})


def values(report: dict[str, Any]) -> dict[str, float | None]:
    return {result["metric"]: result.get("value") for result in report["metrics"]}


def assert_equal(found: dict[str, float | None], expected: dict[str, float | None], case: Any) -> None:
    for name, value in expected.items():
        if value is None or np.isnan(value):
            assert found[name] is None, (case, name, found[name])
        else:
            assert found[name] == pytest.approx(value, rel=1e-12, abs=1e-13), (case, name)


def draw_scores(draw: np.random.Generator, count: int, outcomes: np.ndarray, kind: int) -> np.ndarray:
    scores = draw.random(count)
    return [
        scores,
        np.round(scores, 1),  # ties, on the edges of bins
        np.full(count, 0.25),
        outcomes.astype(float),  # perfect
        1.0 - outcomes,  # perfectly wrong
        np.clip(0.5 * outcomes + 0.5 * scores, 0, 1),
        np.round(scores * 3) / 3,
    ][kind % 7]


def by_class(outcomes: np.ndarray, called: np.ndarray, labels: list[int]) -> dict[str, float | None]:
    expected: dict[str, float | None] = {
        "accuracy": metrics.accuracy_score(outcomes, called),
        "balanced_accuracy": metrics.balanced_accuracy_score(outcomes, called),
    }
    for name, score in (
        ("precision", metrics.precision_score),
        ("recall", metrics.recall_score),
        ("f1", metrics.f1_score),
    ):
        if labels == [0, 1]:
            expected[name] = score(outcomes, called, zero_division=np.nan)
        for average in AVERAGES:
            expected[f"{name}_{average}"] = score(outcomes, called, average=average, zero_division=0)
    return expected


@pytest.mark.parametrize("seed", range(8))
def test_two_classes(server: Server, seed: int) -> None:
    warnings.filterwarnings("ignore")
    draw = np.random.default_rng(seed)
    for kind in range(14):
        count = int(draw.choice([1, 2, 3, 10, 60, 600, 3000]))
        outcomes = (draw.random(count) < draw.choice([0.0, 0.05, 0.4, 0.9, 1.0])).astype(int)
        scores = draw_scores(draw, count, outcomes, kind)
        threshold = float(draw.choice([0.25, 0.5, 0.7]))
        bins = int(draw.choice([1, 5, 10, 17]))
        called = (scores >= threshold).astype(int)
        both = 0 < outcomes.sum() < count
        expected = by_class(outcomes, called, [0, 1]) | {
            "auc": metrics.roc_auc_score(outcomes, scores) if both else None,
            "average_precision": metrics.average_precision_score(outcomes, scores) if outcomes.any() else None,
            "log_loss": metrics.log_loss(outcomes, scores, labels=[0, 1]),
            "brier": float(np.mean((scores - outcomes) ** 2)),
        }
        for strategy in ("uniform", "quantile"):
            report = measure(
                server, CLASSES, scores, outcomes, threshold=threshold, bins=bins, bin_strategy=strategy
            )  # fmt: skip
            curve = report["calibration"]
            assert sum(part["rowCount"] for part in curve) == count
            shares, means = calibration_curve(outcomes, scores, n_bins=bins, strategy=strategy)
            assert [part["positiveShare"] for part in curve] == pytest.approx(shares, rel=1e-12), (seed, kind, strategy)
            assert [part["meanPrediction"] for part in curve] == pytest.approx(means, rel=1e-12)
            if strategy == "uniform":
                weights = np.array([part["rowCount"] for part in curve])
                expected["ece"] = float(np.sum(weights * np.abs(shares - means)) / count)
        assert_equal(values(report), expected, (seed, kind))
        matrix = metrics.confusion_matrix(outcomes, called, labels=[0, 1])
        assert report["confusion"]["counts"] == matrix.ravel().tolist()
        if both and count <= 150:
            rates = metrics.roc_curve(outcomes, scores, drop_intermediate=False)
            found = [(point["falsePositiveRate"], point["truePositiveRate"]) for point in report["roc"]]
            assert np.allclose(found, np.c_[rates[0], rates[1]], rtol=1e-12, atol=0)
            precision, recall, _ = metrics.precision_recall_curve(outcomes, scores)
            found = [(point["precision"], point["recall"]) for point in report["precision_recall"]]
            assert np.allclose(found, np.c_[precision, recall][-2::-1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("seed", range(6))
def test_several_classes(server: Server, seed: int) -> None:
    warnings.filterwarnings("ignore")
    draw = np.random.default_rng(100 + seed)
    for kind in range(5):
        count, classes = int(draw.choice([4, 40, 500])), int(draw.integers(3, 6))
        outcomes = draw.integers(0, classes, count)
        scores = draw.random((count, classes)) + (kind % 2) * np.eye(classes)[outcomes] * 0.4
        if kind == 2:
            scores = np.round(scores, 1) + 0.01
        if kind == 3:
            outcomes = outcomes % 2  # some classes have no row
        scores = scores / scores.sum(axis=1, keepdims=True)
        called = scores.argmax(axis=1)
        expected = by_class(outcomes, called, list(range(classes)))
        expected["log_loss"] = metrics.log_loss(outcomes, scores, labels=list(range(classes)))
        truth = np.eye(classes)[outcomes]
        expected["brier"] = float(np.mean(np.sum((scores - truth) ** 2, axis=1)))
        complete = len(set(outcomes.tolist())) == classes
        expected["auc"] = metrics.roc_auc_score(outcomes, scores, multi_class="ovr") if complete else None
        expected["average_precision"] = metrics.average_precision_score(truth, scores) if complete else None
        names = [name for name in CLASSES if name not in ("precision", "recall", "f1", "ece")]
        report = measure(server, names, scores, outcomes)
        assert_equal(values(report), expected, (seed, kind))
        matrix = metrics.confusion_matrix(outcomes, called, labels=list(range(classes)))
        assert report["confusion"]["counts"] == matrix.ravel().tolist()


@pytest.mark.parametrize("seed", range(8))
def test_numbers(server: Server, seed: int) -> None:
    warnings.filterwarnings("ignore")
    draw = np.random.default_rng(200 + seed)
    for kind in range(6):
        count = int(draw.choice([1, 2, 3, 50, 1001, 4000]))
        outcomes = draw.normal(draw.choice([0, 100, -1e6]), 10, count)
        predictions = outcomes + draw.normal(0, 3, count)
        if kind == 1:
            outcomes[:] = 4.0  # constant
        if kind == 2:
            predictions = outcomes.copy()
        if kind == 3:
            outcomes, predictions = np.round(outcomes / 10) * 10, np.round(predictions / 10) * 10
        if kind == 4:
            outcomes[0] = 0
        expected = {
            "rmse": metrics.root_mean_squared_error(outcomes, predictions),
            "mae": metrics.mean_absolute_error(outcomes, predictions),
            "mape": metrics.mean_absolute_percentage_error(outcomes, predictions),
            "median_ae": metrics.median_absolute_error(outcomes, predictions),
            "quantile_loss@0.1": metrics.mean_pinball_loss(outcomes, predictions, alpha=0.1),
            "quantile_loss@0.9": metrics.mean_pinball_loss(outcomes, predictions, alpha=0.9),
        }
        found = values(measure(server, NUMBERS, predictions, outcomes))
        score = metrics.r2_score(outcomes, predictions) if count > 1 else None
        if score is None:
            assert found["r2"] is None
        else:
            assert found["r2"] == pytest.approx(score, rel=1e-9, abs=1e-12)
        assert_equal(found, expected, (seed, kind))


@pytest.mark.parametrize("seed", range(8))
def test_rankings(server: Server, seed: int) -> None:
    warnings.filterwarnings("ignore")
    draw = np.random.default_rng(300 + seed)
    for kind in range(4):
        count = int(draw.choice([8, 60, 400]))
        queries = draw.integers(0, max(1, count // 7), count)
        relevance = draw.integers(0, 4, count) * (draw.random(count) < 0.6)
        scores = [draw.random(count), np.round(draw.random(count), 1), np.zeros(count), relevance + 0.5][kind]
        groups = [np.flatnonzero(queries == query) for query in np.unique(queries)]

        def gain(places: np.ndarray, k: int | None) -> float:
            if len(places) == 1:  # scikit-learn refuses a single row
                return float(relevance[places[0]] > 0)
            return float(metrics.ndcg_score([relevance[places]], [scores[places]], k=k))

        def precision(places: np.ndarray) -> float:
            hits = relevance[places] > 0
            return float(metrics.average_precision_score(hits, scores[places])) if hits.any() else 0.0

        def at(places: np.ndarray, k: int) -> float:
            """Relevant rows among the first `k`, on average over the orders of equal scores."""
            own = scores[places]
            taken = [np.clip(k - np.sum(own > score), 0, np.sum(own == score)) / np.sum(own == score) for score in own]
            return float(np.sum(np.array(taken) * (relevance[places] > 0)))

        expected = {
            "ndcg": np.mean([gain(places, None) for places in groups]),
            "ndcg@3": np.mean([gain(places, 3) for places in groups]),
            "map": np.mean([precision(places) for places in groups]),
            "precision@4": np.mean([at(places, 4) / 4 for places in groups]),
            "recall@4": np.mean([at(places, 4) / max(1, np.sum(relevance[places] > 0)) for places in groups]),
        }
        names = [*expected, "mrr"]
        report = measure(server, names, scores, relevance, queries=[f"q{query}" for query in queries])
        assert (report["family"], report["queries"]) == ("ranking", len(groups))
        found = values(report)
        assert_equal(found, expected, (seed, kind))
        if kind == 0:  # without ties there is one order
            ranks = []
            for places in groups:
                hits = np.flatnonzero(relevance[places][np.argsort(-scores[places])] > 0)
                ranks.append(1 / (hits[0] + 1) if len(hits) else 0.0)
            assert found["mrr"] == pytest.approx(np.mean(ranks), rel=1e-12)


def test_fairness_is_by_definition_and_slices_are_their_rows(server: Server) -> None:
    draw = np.random.default_rng(1)
    outcomes = (draw.random(800) < 0.4).astype(int)
    group = draw.choice(["a", "b", "c"], 800)
    scores = np.clip(0.3 * outcomes + 0.7 * draw.random(800) + 0.1 * (group == "a"), 0, 1)
    report = measure(
        server,
        ["auc", "log_loss"],
        scores,
        outcomes,
        protected={"group": group.tolist()},
        slices={"group": group.tolist()},
        replicates=200,
    )
    called = scores >= 0.5
    rates = {
        name: [float(np.mean(called[chosen & (group == value)])) for value in "abc"]
        for name, chosen in (
            ("selection", np.full(800, True)),
            ("true", outcomes == 1),
            ("false", outcomes == 0),
        )
    }
    spread = {name: max(found) - min(found) for name, found in rates.items()}
    ratio = {name: min(found) / max(found) for name, found in rates.items()}
    [fairness] = report["fairness"]
    found = {name: interval["estimate"] for name, interval in fairness["measures"].items()}
    assert found == pytest.approx(
        {
            "demographic_parity_difference": spread["selection"],
            "demographic_parity_ratio": ratio["selection"],
            "equal_opportunity_difference": spread["true"],
            "equal_opportunity_ratio": ratio["true"],
            "equalized_odds_difference": max(spread["true"], spread["false"]),
            "equalized_odds_ratio": min(ratio["true"], ratio["false"]),
        },
        rel=1e-12,
    )
    for part in report["slices"]:
        chosen = group == part["value"]
        assert part["rows"] == chosen.sum()
        found = {result["metric"]: result for result in part["metrics"]}
        assert found["auc"]["value"] == pytest.approx(metrics.roc_auc_score(outcomes[chosen], scores[chosen]), rel=1e-12)
        assert found["auc"]["interval"]["lower"] < found["auc"]["value"] < found["auc"]["interval"]["upper"]


def test_intervals_repeat_and_are_as_wide_as_those_of_numpy(server: Server) -> None:
    draw = np.random.default_rng(3)
    outcomes = (draw.random(500) < 0.4).astype(int)
    scores = np.clip(0.4 * outcomes + 0.6 * draw.random(500), 0, 1)
    reports = [measure(server, ["auc", "brier"], scores, outcomes, replicates=1000, seed=7) for _ in range(2)]
    assert reports[0] == reports[1]
    for result, score in zip(reports[0]["metrics"], (metrics.roc_auc_score, metrics.brier_score_loss), strict=True):
        drawn = [score(outcomes[rows], scores[rows]) for rows in draw.integers(0, 500, (1000, 500))]
        ends = np.quantile(drawn, [0.025, 0.975])
        width = ends[1] - ends[0]
        interval = result["interval"]
        assert abs(interval["lower"] - ends[0]) < 0.15 * width and abs(interval["upper"] - ends[1]) < 0.15 * width


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"predictions": [0.5], "labels": [2]}, None),
        ({"predictions": [], "labels": []}, "there are no rows"),
        ({"predictions": [0.5, 0.1], "labels": [1]}, "2 values stand against 1"),
        ({"predictions": [0.5, None], "labels": [1, 0]}, "predictions[1]"),
        ({"predictions": [0.5, 0.2], "labels": [1, "x"]}, "labels[1]"),
        ({"predictions": [[0.5, 0.5, 0], [1]], "labels": [1, 0]}, "1 outputs, but 3 in the first row"),
        ({"predictions": [0.5], "labels": [1], "metrics": ["acu"]}, "did you mean 'auc'"),
        ({"predictions": [0.5], "labels": [1], "metric": ["auc"]}, "did you mean 'metrics'"),
        ({"predictions": [0.5], "labels": [1], "bins": 0}, "'bins' must be a whole number from 1 to 1000"),
        ({"predictions": [0.5], "labels": [1], "slices": {"a": ["x", "y"]}}, "2 values stand against 1"),
    ],
)
def test_what_cannot_be_measured_is_said(server: Server, body: dict[str, Any], words: str | None) -> None:
    status, answer = server.request("POST", "/api/v1/evaluations", {"replicates": 2, **body})
    if words is None:
        assert status == 200 and answer["family"] == "regression"
    else:
        assert status == 422 and words in answer["error"]["subject"] + answer["error"]["message"], answer


def test_a_metric_without_a_value_says_why(server: Server) -> None:
    report = measure(server, ["auc", "precision", "f1_macro", "ndcg"], [0.1, 0.2], [0, 0])
    reasons = {result["metric"]: result.get("reason") for result in report["metrics"]}
    assert reasons["auc"] == "all outcomes are of one class"
    assert values(report)["f1_macro"] == 1
