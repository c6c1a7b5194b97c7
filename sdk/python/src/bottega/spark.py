"""Scores a Spark data frame with the artifact itself: `bottega score-file` in every executor, over Arrow batches.

The same program that serves computes the predictions, so they have the same bits. The program and the model file must
be on every executor: at the same path, or shipped with `SparkContext.addFile` (then give their names).
`bottega score MODEL --print-spark` prints a whole job.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Model:
    """A version as its scorer needs it: the file, and its inputs in their order (texts of a category, or none)."""

    file: str
    name: str
    version: int
    inputs: Sequence[tuple[str, Sequence[str] | None]]


def fetch(server: str, model: str, version: str, folder: str, token: str | None = None) -> Model:
    """Downloads a version's artifact from the platform into `folder` and checks its hash."""

    def get(path: str) -> bytes:
        request = urllib.request.Request(server.rstrip("/") + path)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=120) as answer:
            return bytes(answer.read())

    plan = json.loads(get(f"/api/v1/models/{model}/scoring-plan?version={version}"))
    content = get(f"/api/v1/models/{model}/artifact?version={plan['version']}")
    if hashlib.sha256(content).hexdigest() != plan["artifact"]:
        raise ValueError(f"the artifact of {model} version {plan['version']} arrived damaged")
    # The name is the platform's, so it must not lead elsewhere.
    path = os.path.join(folder, os.path.basename(plan["file_name"]) or "model")
    with open(path, "wb") as file:
        file.write(content)
    inputs = [(entry["name"], entry.get("categories")) for entry in plan["inputs"]]
    return Model(path, plan["model"], int(plan["version"]), inputs)


def _find(path: str) -> str:
    """A path on this machine: itself, a program in PATH, or a file that Spark shipped."""
    if os.path.exists(path):
        return path
    found = shutil.which(path)
    if found:
        return found
    from pyspark import SparkFiles  # type: ignore[import-not-found,unused-ignore]

    return str(SparkFiles.get(os.path.basename(path)))


def _score(table: Any, model: Model, binary: str) -> Any:
    """Predictions of an Arrow table of the inputs, as an Arrow table."""
    from pyarrow import parquet  # type: ignore[import-untyped,unused-ignore]

    texts = {str(place): list(values) for place, (_, values) in enumerate(model.inputs) if values is not None}
    with tempfile.TemporaryDirectory(prefix="bottega-") as folder:
        source, target = os.path.join(folder, "in.parquet"), os.path.join(folder, "out.parquet")
        # Row groups bound the scorer's memory.
        parquet.write_table(table, source, row_group_size=131_072, compression="none")
        command = [_find(binary), "score-file", "--file", _find(model.file), "--rows", source, "--output", target]
        command += ["--threads", "1", "--inputs", json.dumps([name for name, _ in model.inputs])]
        if texts:
            command += ["--categories", json.dumps(texts)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip() or f"{binary} ended with {done.returncode}")
        return parquet.read_table(target)


def score(frame: Any, model: Model, *, keep: Sequence[str], binary: str = "bottega") -> Any:
    """The columns `keep` of a Spark data frame with `prediction`, `probability_0`, … of several classes, `model` and
    `model_version`. Rows stay in their partitions and their order there.
    """
    import pyarrow as pa  # type: ignore[import-untyped,unused-ignore]
    from pyspark.sql import types  # type: ignore[import-not-found,unused-ignore]

    names = [name for name, _ in model.inputs]
    missing = [name for name in [*names, *keep] if name not in frame.columns]
    if missing:
        raise ValueError(f"the data frame has no column {', '.join(missing)}")
    # An empty table says which columns come back.
    empty = pa.table(
        {n: pa.array([], pa.string() if values is not None else pa.float64()) for n, values in model.inputs}
    )
    outputs = [n for n in _score(empty, model, binary).column_names if n.startswith(("prediction", "probability_"))]
    fields = [frame.schema[name] for name in keep]
    fields += [types.StructField(name, types.DoubleType()) for name in outputs]
    fields += [
        types.StructField("model", types.StringType(), False),
        types.StructField("model_version", types.LongType(), False),
    ]
    kept = list(keep)
    label, version = model.name, model.version

    def batches(parts: Iterator[Any]) -> Iterator[Any]:
        for part in parts:
            table = pa.Table.from_batches([part])
            scored = _score(table.select(names), model, binary)
            columns = [table[name] for name in kept] + [scored[name] for name in outputs]
            columns += [pa.array([label] * len(table)), pa.array([version] * len(table), pa.int64())]
            yield from pa.table(columns, names=[*kept, *outputs, "model", "model_version"]).to_batches()

    chosen = list(dict.fromkeys([*names, *kept]))
    return frame.select(*chosen).mapInArrow(batches, types.StructType(fields))
