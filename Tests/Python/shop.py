"""A small shop as an example for the tests: definitions, a training script, and a generated history.

Customers pay; orders are questions; what an order lost is known a few hours later. The loss depends on the mean of the
customer's payments in the last day, on the price and on the channel, so that a model has something to find.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import pathlib
import random
from typing import Any

HOUR = 3_600_000
DAY = 24 * HOUR
START = int(datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC).timestamp() * 1000)
CHANNELS = ["app", "shop", "web"]

DATA = """
kind: Entity
name: customer
keys: [customer]
---
kind: Source
name: payments
description: Payments; some are known hours after they were made
event_time: paid_at
ingest_time: known_at
key: [payment]
schema:
  - {name: payment, type: string, nullable: false}
  - {name: paid_at, type: timestamp, nullable: false}
  - {name: known_at, type: timestamp, nullable: false}
  - {name: customer, type: string}
  - {name: amount, type: float64, scale: 2}
  - {name: method, type: string}
expectations:
  - {name: plausible_amount, column: amount, range: [0, 10000]}
  - {name: known_method, column: method, in: [card, cash, wire]}
  - {name: known_after_payment, column: known_at, not_before: paid_at}
  - {name: large_amount, column: amount, range: [~, 5000], severity: warn}
---
kind: Source
name: orders
event_time: asked_at
ingest_time: asked_at
key: [order]
schema:
  - {name: order, type: string, nullable: false}
  - {name: asked_at, type: timestamp, nullable: false}
  - {name: customer, type: string}
  - {name: channel, type: string}
  - {name: price, type: float64}
---
kind: Source
name: outcomes
event_time: settled_at
ingest_time: settled_at
key: [order]
schema:
  - {name: order, type: string, nullable: false}
  - {name: settled_at, type: timestamp, nullable: false}
  - {name: loss, type: float64, nullable: false}
---
kind: FeatureView
name: paid
entities: [customer]
source: payments
features:
  - {name: mean_24h, aggregate: mean, column: amount, window: 24h}
  - {name: sum_7d, aggregate: sum, column: amount, window: 7d}
  - {name: max_7d, aggregate: max, column: amount, window: 7d}
  - {name: count_1h, aggregate: count, window: 1h}
  - {name: count_7d, aggregate: count, window: 7d}
  - {name: last, aggregate: last, column: amount, window: 7d}
---
kind: FeatureView
name: fresh
entities: [customer]
source: payments
ttl: 6h
features:
  - {name: amount, aggregate: last, column: amount}
---
kind: FeatureService
name: loss
request:
  - {name: channel, type: category, values: [app, shop, web]}
  - {name: price, type: number, range: [0, 100000]}
views: [paid, fresh]
---
kind: TrainingSet
name: loss
service: loss
spine: orders
label: {name: lost, source: outcomes, join: [order], column: loss, greater_than: 10, horizon: 12h}
split: {by: time, validation: 15%, test: 20%}
"""

MODEL = """
kind: Model
name: loss
service: loss
training_set: loss
training:
  command: ["{python}", train.py]
  parameters: {rounds: 40, depth: 3}
  seed: 3
  timeout: %(timeout)s
gates:
  staging:
    - {signature: present}
    - {rows: 20, slice: test}
    - {metric: log_loss, slice: test, max: %(log_loss)s}
  canary:
    - {latency_p99: 50ms}
  production:
    - {feature_parity: 200}
    - {metric: auc, slice: test, min: 0.6}
    - {metric: auc, slice: test, not_worse_than_champion_by: 0.2}
---
kind: Deployment
name: loss
model: loss
sticky_by: [customer]
fallback: {constant: 0.25}
rollout:
  shadow: {at_least: 6h, pairs_min: 20}
  canary:
    - {share: 50%%, at_least: 6h}
guardrails: {prediction_psi_max: 20, error_rate_max: 1%%, latency_p99_max: 5s}
---
kind: Monitor
name: loss
model: loss
window: 1d
label_horizon: 12h
rules:
  - {name: price_moved, measure: psi, feature: price, above: 1.0, severity: P2, rows_min: 30}
  - {name: worse, measure: metric, metric: auc, worse_than_reference_by: 0.9, severity: P1, rows_min: 30}
retrain:
  on: [price_moved]
  cooldown: 30d
  train_on: 12d
"""

TRAIN = '''
"""Trains a small model and logs it with the ordinary client."""

import json
import os

import mlflow
import mlflow.xgboost
import pandas as pd
import pyarrow.parquet as parquet
import xgboost as xgb
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

with open(os.environ["BOTTEGA_DATASET_MANIFEST"], encoding="utf-8") as file:
    manifest = json.load(file)
columns = [column for column in manifest["columns"] if column["role"] in ("request", "feature")]


def load(name):
    frame = parquet.read_table(os.environ[f"BOTTEGA_{name.upper()}"]).to_pandas()
    features = pd.DataFrame(index=frame.index)
    for column in columns:
        values = frame[column["name"]]
        categories = column.get("categories")
        features[column["name"]] = (
            pd.Categorical(values, categories=categories) if categories else values.astype("float32")
        )
    return xgb.DMatrix(features, frame[manifest["label"]].astype("float32"), enable_categorical=True, nthread=1)


train, validation, test = load("train"), load("validation"), load("test")
parameters = {
    "objective": "binary:logistic",
    "eval_metric": ["auc", "logloss"],
    "max_depth": int(os.environ["BOTTEGA_PARAM_DEPTH"]),
    "seed": int(os.environ["BOTTEGA_SEED"]),
    "nthread": 1,
}
rounds = int(os.environ["BOTTEGA_PARAM_ROUNDS"])
with mlflow.start_run():
    mlflow.log_params({**parameters, "rounds": rounds})
    curves = {}
    booster = xgb.train(
        parameters, train, rounds, evals=[(validation, "validation"), (test, "test")], evals_result=curves,
        verbose_eval=False,
    )
    for step, value in enumerate(curves["validation"]["auc"]):
        if step % 10 == 0:
            mlflow.log_metric("validation_auc", value, step=step)
    mlflow.log_metric("test_auc", curves["test"]["auc"][-1])
    inputs = [
        ColSpec(DataType.string if column.get("categories") else DataType.double, column["name"], required=False)
        for column in columns
    ]
    mlflow.xgboost.log_model(
        booster,
        name="model",
        signature=ModelSignature(inputs=Schema(inputs), outputs=Schema([ColSpec(DataType.float)])),
        model_format="ubj",
        pip_requirements=[f"xgboost-cpu=={xgb.__version__}"],
    )
print(f"{rounds} rounds")
'''


def write_definitions(
    folder: pathlib.Path, log_loss: float = 0.6, timeout: str = "3m", train: str | None = None
) -> pathlib.Path:
    """The definitions and the training script in a folder, as a user has them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.yaml").write_text(DATA)
    (folder / "model.yaml").write_text(MODEL % {"log_loss": log_loss, "timeout": timeout})
    (folder / "train.py").write_text(train or TRAIN)
    return folder


def text(milliseconds: int) -> str:
    """A moment as the files have it."""
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{milliseconds % 1000:03d}Z"


@dataclasses.dataclass
class History:
    """Rows in the order in which they become known; moments in milliseconds."""

    payments: list[dict[str, Any]]
    orders: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]


def history(days: int, seed: int = 5, drift_from: int | None = None, orders_per_day: int = 60) -> History:
    """Generates a history of `days` days; from day `drift_from` on prices are four times as high."""
    draw = random.Random(seed)
    customers = [f"c{number:02d}" for number in range(25)]
    result = History([], [], [])
    by_customer: dict[str, list[tuple[int, float]]] = {name: [] for name in customers}
    number = 0
    for day in range(days):
        for _ in range(80):
            paid = START + day * DAY + draw.randrange(DAY)
            late = draw.random()
            known = paid + (0 if late < 0.6 else draw.randrange(60_000) if late < 0.85 else draw.randrange(5 * HOUR))
            customer = draw.choice(customers)
            amount = round(draw.choice([draw.uniform(1, 50), draw.uniform(200, 400)]), 2)
            number += 1
            result.payments.append(
                {
                    "payment": f"p{number}",
                    "paid_at": paid,
                    "known_at": known,
                    "customer": customer,
                    "amount": amount if draw.random() > 0.05 else None,
                    "method": draw.choice(["card", "cash", "wire"]),
                }
            )
            by_customer[customer].append((paid, amount))
    order = 0
    for day in range(days):
        for _ in range(orders_per_day):
            # Now and then at the very moment of a payment: the edge of a window.
            asked = START + day * DAY + draw.randrange(DAY)
            customer: str | None = draw.choice(customers)
            if draw.random() < 0.03:
                edge = draw.choice(result.payments)
                shift = draw.choice([0, 1, DAY, DAY + 1, 6 * HOUR, 6 * HOUR + 1])
                if 0 <= edge["paid_at"] + shift - START < days * DAY:
                    asked, customer = edge["paid_at"] + shift, edge["customer"]
            price = round(
                draw.uniform(5, 100) * (4 if drift_from is not None and asked >= START + drift_from * DAY else 1), 2
            )
            channel = draw.choice(CHANNELS)
            recent = [amount for paid, amount in by_customer[customer or ""] if asked - DAY <= paid < asked]
            score = (sum(recent) / len(recent) if recent else 60) / 60 + (1.5 if channel == "app" else 0) + price / 200
            lost = score + draw.gauss(0, 0.7) > 3.2
            order += 1
            if draw.random() < 0.02:
                customer = None
            result.orders.append(
                {"order": f"o{order}", "asked_at": asked, "customer": customer, "channel": channel, "price": price}
            )
            result.outcomes.append(
                {
                    "order": f"o{order}",
                    "settled_at": asked + draw.randrange(HOUR, 6 * HOUR),
                    "loss": round(draw.uniform(11, 50) if lost else draw.uniform(0, 9), 2),
                }
            )
    result.payments.sort(key=lambda row: (row["known_at"], row["paid_at"]))
    result.orders.sort(key=lambda row: row["asked_at"])
    result.outcomes.sort(key=lambda row: row["settled_at"])
    return result


TIMES = ("paid_at", "known_at", "asked_at", "settled_at")


def write_csv(path: pathlib.Path, rows: list[dict[str, Any]]) -> pathlib.Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow(
                ["" if value is None else text(value) if key in TIMES else value for key, value in row.items()]
            )
    return path


def expected_features(payments: list[dict[str, Any]], customer: str | None, asked: int) -> dict[str, float | None]:
    """What the views say of a customer at a moment, by going through every payment."""
    nothing = {
        "paid__mean_24h": None, "paid__sum_7d": None, "paid__max_7d": None, "paid__count_1h": 0, "paid__count_7d": 0,
        "paid__last": None, "fresh__amount": None,
    }  # fmt: skip
    if customer is None:
        return nothing
    known = [
        (row["paid_at"], row["known_at"], index, row["amount"])
        for index, row in enumerate(payments)
        if row["customer"] == customer and row["paid_at"] < asked and row["known_at"] < asked
    ]
    known.sort(key=lambda event: event[:3])

    def window(span: int) -> list[float | None]:
        return [event[3] for event in known if event[0] >= asked - span]

    day, week = [v for v in window(DAY) if v is not None], [v for v in window(7 * DAY) if v is not None]
    cents = sum(round(v * 100) for v in week)
    result: dict[str, float | None] = dict(nothing)
    if day:
        result["paid__mean_24h"] = sum(round(v * 100) for v in day) / (100 * len(day))
    if week:
        result["paid__sum_7d"] = cents / 100
        result["paid__max_7d"] = max(week)
    result["paid__count_1h"] = len(window(HOUR))
    result["paid__count_7d"] = len(window(7 * DAY))
    if window(7 * DAY):
        result["paid__last"] = window(7 * DAY)[-1]
    if known and known[-1][0] >= asked - 6 * HOUR:
        result["fresh__amount"] = known[-1][3]
    return result
