"""Makes the golden cases of this folder with scikit-learn, NumPy and SciPy.

python make_cases.py            writes metrics.json (committed; the Swift tests read it)
python make_cases.py N FILE     writes N cases to FILE, for a wide comparison
"""

import json
import sys
import warnings

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from sklearn import metrics
from sklearn.calibration import calibration_curve

warnings.filterwarnings("ignore")


def calibration_error(outcomes, scores):
    edges = np.linspace(0.0, 1.0, 11)
    bins = np.searchsorted(edges[1:-1], scores)
    shares, means = calibration_curve(outcomes, scores, n_bins=10)
    rows = np.bincount(bins, minlength=10)
    rows = rows[rows > 0]
    return float(np.sum(rows * np.abs(shares - means)) / len(scores))


def case(number, generator):
    n = int(generator.choice([1, 2, 3, 5, 10, 20, 40, 60]))
    kind = number % 8
    outcomes = (generator.random(n) < generator.choice([0.05, 0.3, 0.5, 0.9])).astype(int)
    scores = generator.random(n)
    if kind == 1:
        scores = np.round(scores, 1)  # heavy ties, on the bin edges
    elif kind == 2:
        scores = np.full(n, 0.25)
    elif kind == 3:
        scores = outcomes.astype(float)  # perfect
    elif kind == 4:
        scores = 1.0 - outcomes  # perfectly wrong
    elif kind == 5:
        outcomes[:] = generator.integers(0, 2)  # one class
    elif kind == 6:
        scores = np.clip(0.5 * outcomes + 0.5 * scores, 0, 1)
    elif kind == 7:
        scores = np.round(scores * 3) / 3
    out = {"predictions": [float(s) for s in scores], "outcomes": [int(o) for o in outcomes], "expected": {}}
    expected = out["expected"]
    both = len(set(outcomes)) == 2
    expected["auc"] = float(metrics.roc_auc_score(outcomes, scores)) if both else None
    expected["average_precision"] = float(metrics.average_precision_score(outcomes, scores)) if outcomes.any() else None
    expected["log_loss"] = float(metrics.log_loss(outcomes, scores, labels=[0, 1]))
    expected["brier"] = (
        float(np.mean((scores - outcomes) ** 2)) if not both else float(metrics.brier_score_loss(outcomes, scores))
    )
    expected["ece"] = calibration_error(outcomes, scores)
    expected["rmse"] = float(metrics.root_mean_squared_error(outcomes, scores))
    expected["mae"] = float(metrics.mean_absolute_error(outcomes, scores))
    threshold = float(generator.choice([0.25, 0.5, 0.7]))
    called = (scores >= threshold).astype(int)
    tn, fp, fn, tp = metrics.confusion_matrix(outcomes, called, labels=[0, 1]).ravel()
    out["threshold"] = threshold
    out["confusion"] = [int(tp), int(fp), int(tn), int(fn)]

    def optional(value):
        return None if np.isnan(value) else float(value)

    out["accuracy"] = float(metrics.accuracy_score(outcomes, called))
    out["precision"] = optional(metrics.precision_score(outcomes, called, zero_division=np.nan))
    out["recall"] = optional(metrics.recall_score(outcomes, called, zero_division=np.nan))
    out["f1"] = optional(metrics.f1_score(outcomes, called, zero_division=np.nan))
    shares, means = calibration_curve(outcomes, scores, n_bins=10)
    out["reliability"] = [[float(m), float(s)] for m, s in zip(means, shares)]
    if both:
        fpr, tpr, _ = metrics.roc_curve(outcomes, scores, drop_intermediate=False)
        out["roc"] = [[float(a), float(b)] for a, b in zip(fpr, tpr)]
    return out


def drift_case(generator):
    bins = int(generator.integers(1, 12))
    reference = generator.integers(0, 50, bins)
    current = generator.integers(0, 50, bins)
    if generator.random() < 0.3:
        current[generator.integers(0, bins)] = 0
    reference[0] += 1
    current[-1] += 1
    used = (reference > 0) | (current > 0)
    r = (reference[used] + 0.5) / np.sum(reference[used] + 0.5)
    c = (current[used] + 0.5) / np.sum(current[used] + 0.5)
    shares = reference / reference.sum(), current / current.sum()
    return {
        "reference": reference.tolist(),
        "current": current.tolist(),
        "psi": float(np.sum((c - r) * np.log(c / r))),
        "kl": float(entropy(c, r)),
        "js": float(jensenshannon(*shares) ** 2),
        "ks": float(np.max(np.abs(np.cumsum(shares[0]) - np.cumsum(shares[1])))),
    }


def interval_case(generator):
    """Variance of the AUC straight from DeLong's definition, quadratic in the rows."""
    n = int(generator.integers(8, 60))
    outcomes = np.r_[0, 0, 1, 1, generator.integers(0, 2, n - 4)]
    scores = np.round(generator.random(n) + 0.4 * outcomes, int(generator.integers(1, 6)))
    positives, negatives = scores[outcomes == 1], scores[outcomes == 0]
    wins = (positives[:, None] > negatives[None, :]) + 0.5 * (positives[:, None] == negatives[None, :])
    area = wins.mean()
    variance = wins.mean(1).var(ddof=1) / len(positives) + wins.mean(0).var(ddof=1) / len(negatives)
    return {
        "predictions": [float(s) for s in scores],
        "outcomes": outcomes.tolist(),
        "auc": float(area),
        "deviation": float(np.sqrt(variance)),
    }


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 120
    path = sys.argv[2] if len(sys.argv) > 2 else "metrics.json"
    generator = np.random.default_rng(20130701)
    document = {
        "metrics": [case(number, generator) for number in range(count)],
        "drift": [drift_case(generator) for _ in range(count // 2)],
        "intervals": [interval_case(generator) for _ in range(count // 6)],
    }
    with open(path, "w") as file:
        json.dump(document, file, separators=(",", ":"))
        file.write("\n")


main()
