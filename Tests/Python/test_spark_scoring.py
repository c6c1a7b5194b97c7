"""A batch scored in Spark's executors, bit for bit as xgboost scores it.

Runs where BOTTEGA_SPARK_PYTHON names a Python with pyspark (`make test-engines`): Spark is large.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import xgboost as xgb

SPARK = os.environ.get("BOTTEGA_SPARK_PYTHON")
pytestmark = pytest.mark.skipif(not SPARK, reason="BOTTEGA_SPARK_PYTHON is not set")

JOB = """
import sys
from pyspark.sql import SparkSession
from bottega import spark as scoring

model_file, binary, source, target = sys.argv[1:]
session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
model = scoring.Model(model_file, "shop", 7, [("kind", ["a", "b", "c"])] + [(f"x{n}", None) for n in range(1, 6)])
frame = session.read.parquet(source).repartition(3, "id")
scoring.score(frame, model, keep=["id"], binary=binary).write.parquet(target)
"""


@pytest.mark.parametrize("classes", [2, 3])
def test_executors_score_as_xgboost_does(classes: int, binary: str, tmp_path: pathlib.Path) -> None:
    random = np.random.default_rng(classes)
    count = 5000
    values = random.normal(size=(count, 6)).astype("float32")
    values[:, 0] = random.integers(0, 3, count)
    values[random.random(values.shape) < 0.1] = np.nan
    score = np.nan_to_num(values) @ [0.5, 1, -1, 0.5, 0, 0.2]
    labels = np.digitize(score, np.quantile(score, np.arange(1, classes) / classes))
    names = ["kind"] + [f"x{n}" for n in range(1, 6)]
    data = xgb.DMatrix(values, labels, feature_names=names, feature_types=["c"] + ["q"] * 5, enable_categorical=True)
    objective = {"objective": "multi:softprob", "num_class": 3} if classes > 2 else {"objective": "binary:logistic"}
    booster = xgb.train({**objective, "max_depth": 4}, data, 20)
    model = tmp_path / "model.ubj"
    booster.save_model(model)
    expected = booster.predict(data)
    kinds = [None if np.isnan(code) else "abc"[int(code)] for code in values[:, 0]]
    columns = {"id": np.arange(count), "kind": kinds} | {
        name: pa.array([None if np.isnan(x) else x for x in values[:, n + 1]], pa.float32())
        for n, name in enumerate(names[1:])
    }
    parquet.write_table(pa.table(columns), tmp_path / "in.parquet", row_group_size=1000)
    script = tmp_path / "job.py"
    script.write_text(textwrap.dedent(JOB))
    site = subprocess.run(
        [str(SPARK), "-c", "import pyspark, os; print(os.path.dirname(os.path.dirname(pyspark.__file__)))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    source = pathlib.Path(__file__).resolve().parents[2] / "sdk/python/src"
    environment = {**os.environ, "PYTHONPATH": f"{source}:{site}", "PYSPARK_PYTHON": sys.executable}
    environment.pop("SPARK_HOME", None)
    target = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, script, model, binary, tmp_path / "in.parquet", target],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = parquet.read_table(target).to_pandas().sort_values("id")
    assert found["id"].tolist() == list(range(count)) and (found["model_version"] == 7).all()
    if classes > 2:
        parts = found[[f"probability_{n}" for n in range(3)]].to_numpy("float32")
        assert (parts == expected).all() and (found["prediction"] == expected.argmax(1)).all()
    else:
        assert (found["prediction"].to_numpy("float32") == expected).all()
