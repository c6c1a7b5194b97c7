#!/usr/bin/env python3
"""The predict route with a real model: 20 stored features behind one key, or 30 features in the body; beside nginx.

    serving.py --bottega .build-release/release/bottega --python .venv/bin/python [--keep FOLDER] [--runs 3]

It starts the program in a temporary folder, defines a view of 20 features over payments and a model of 100 trees of
depth 6 on them (`stored`), and one of the same size on 30 numbers of the request (`body`), trains both through the
platform, deploys them, and loads `POST /predict/...` with `wrk`, 64 connections, by `predict_route.sh`, which runs
nginx with a constant of the same size in turns. Predictions are logged as always. `--python` needs `mlflow`, `xgboost`
and `pandas`. `--keep` keeps the folder, and uses what a former run left there, so that nothing is trained again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from online_http import Connection, definitions

ROOT = pathlib.Path(__file__).resolve().parents[1]
KEYS = 10_000
DAY = 86_400_000
MODEL = """
kind: Source
name: questions
event_time: at
key: [question]
schema:
  - {name: at, type: timestamp}
  - {name: question, type: int64}
  - {name: account, type: string}
  - {name: late, type: float64}
%(columns)s
---
kind: FeatureService
name: stored
views: [spending]
---
kind: FeatureService
name: body
request:
%(request)s
---
kind: TrainingSet
name: stored
service: stored
spine: questions
label: {name: label, source: questions, join: [question], column: late, horizon: 1h}
split: {by: random, validation: 10%%, test: 10%%}
---
kind: TrainingSet
name: body
service: body
spine: questions
label: {name: label, source: questions, join: [question], column: late, horizon: 1h}
split: {by: random, validation: 10%%, test: 10%%}
"""
PER_MODEL = """---
kind: Model
name: %(name)s
service: %(name)s
training_set: %(name)s
training: {command: ["%(python)s", train.py], seed: 3, timeout: 10m}
---
kind: Deployment
name: %(name)s
model: %(name)s
sticky_by: [%(sticky)s]
fallback: {constant: 0.5}
"""
TRAIN = """
import json, os
import mlflow, mlflow.xgboost, pyarrow.parquet as parquet, xgboost
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

manifest = json.load(open(os.environ["BOTTEGA_DATASET_MANIFEST"]))
names = [c["name"] for c in manifest["columns"] if c["role"] in ("request", "feature")]
frame = parquet.read_table(os.environ["BOTTEGA_TRAIN"]).to_pandas()
data = xgboost.DMatrix(frame[names].astype("float32"), frame[manifest["label"]].astype("float32"))
with mlflow.start_run():
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": 6, "min_child_weight": 0}, data, 100)
    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.double, name, required=False) for name in names]),
        outputs=Schema([ColSpec(DataType.float)]))
    mlflow.xgboost.log_model(
        booster, name="model", signature=signature, model_format="ubj", pip_requirements=["xgboost-cpu"])
"""


def rows(now: int) -> tuple[list[str], list[str]]:
    """Payments of a month and the questions about them."""
    draw = random.Random(11)
    payments = [
        json.dumps(
            {
                "at": now - draw.randrange(30 * DAY),
                "payment": index,
                "account": f"A{int(math.pow(KEYS, draw.random())) - 1}",
                "amount": draw.randrange(100_000) / 100,
                "quantity": draw.randrange(9),
            }
        )
        for index in range(200_000)
    ]
    questions = []
    for index in range(20_000):
        values = {f"x{column}": round(draw.gauss(0, 1), 4) for column in range(30)}
        score = values["x0"] * values["x1"] + values["x2"] + draw.gauss(0, 1)
        questions.append(
            json.dumps(
                {
                    "at": now - draw.randrange(2 * DAY) - DAY // 12,
                    "question": index,
                    "account": f"A{int(math.pow(KEYS, draw.random())) - 1}",
                    "late": float(score > 0),
                    **values,
                }
            )
        )
    return payments, questions


class Program:
    """The platform in one folder."""

    def __init__(self, options: argparse.Namespace, folder: pathlib.Path) -> None:
        self.options, self.folder = options, folder
        arguments = [options.bottega, "up", "--data-dir", str(folder / "data"), "--port", "0"]
        for setting in options.set:
            arguments += ["--set", setting]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip().rsplit(" ", 1)[1]
        self.port = int(self.url.rsplit(":", 1)[1])

    def cli(self, *arguments: str) -> dict[str, object]:
        done = subprocess.run(
            [self.options.bottega, *arguments, "--json", "--url", self.url], capture_output=True, text=True
        )
        if done.returncode != 0:
            raise SystemExit(f"bottega {' '.join(arguments)}: {done.stderr or done.stdout}")
        return json.loads(done.stdout)

    def prepare(self) -> None:
        """Definitions, rows, training, deployment."""
        folder = self.folder / "definitions"
        folder.mkdir()
        columns = "\n".join(f"  - {{name: x{index}, type: float64}}" for index in range(30))
        request = "\n".join(f"  - {{name: x{index}, type: number}}" for index in range(30))
        text = definitions() + "---" + MODEL % {"columns": columns, "request": request}
        python = str(pathlib.Path(self.options.python).absolute())
        for name, sticky in [("stored", "account"), ("body", "x0")]:
            text += PER_MODEL % {"name": name, "python": python, "sticky": sticky}
        (folder / "serving.yaml").write_text(text)
        (folder / "train.py").write_text(TRAIN)
        self.cli("apply", str(folder))
        now = int(time.time() * 1000)
        connection = Connection(self.port)
        for source, lines in zip(["payments", "questions"], rows(now), strict=True):
            for first in range(0, len(lines), 2_000):
                body = "\n".join(lines[first : first + 2_000]) + "\n"
                connection.post(f"/sources/{source}/events", body.encode(), "application/x-ndjson")
        span = ["--from", stamp(now - 3 * DAY), "--to", stamp(now)]
        for name in ["stored", "body"]:
            dataset = self.cli("dataset", "build", name, *span)["dataset"]
            version = self.version(name, str(dataset), ["staging", "canary", "production"])
            self.cli("deploy", name, version, "--reason", "benchmark")

    def version(self, model: str, dataset: str, stages: list[str]) -> str:
        """Trains and registers one more version of a model, and takes it through stages; its number."""
        job = self.cli("train", model, "--dataset", dataset)["id"]
        version = str(self.cli("model", "register", model, "--job", str(job))["version"])
        for stage in stages:
            self.cli("model", "promote", model, version, stage, "--reason", "benchmark")
        return version

    def dataset(self, model: str) -> str:
        """The training set of a model's first version."""
        return str(self.cli("model", "show", model, "1")["dataset"])

    def define(self, name: str, training: str, deployment: str) -> None:
        """Defines a model of the service `body` with a training script of its own, and more keys of its deployment."""
        folder = self.folder / "definitions"
        python = str(pathlib.Path(self.options.python).absolute())
        text = PER_MODEL % {"name": name, "python": python, "sticky": "x0"}
        text = text.replace(f"service: {name}\ntraining_set: {name}", "service: body\ntraining_set: body")
        text = text.replace("train.py", f"{name}.py")
        (folder / f"{name}.yaml").write_text(text.removeprefix("---\n") + deployment)
        (folder / f"{name}.py").write_text(training)
        self.cli("apply", str(folder))

    def bodies(self) -> dict[str, pathlib.Path]:
        """Request bodies, one a line."""
        draw = random.Random(5)
        files = {}
        for name in ["stored", "body"]:
            files[name] = self.folder / f"{name}.ndjson"
            with files[name].open("w") as out:
                for _ in range(2_000):
                    values = {f"x{column}": round(draw.gauss(0, 1), 4) for column in range(30)}
                    account = f"A{int(math.pow(KEYS, draw.random())) - 1}"
                    body = {"entities": {"account": account}} if name == "stored" else {"features": values}
                    out.write(json.dumps(body) + "\n")
        return files

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@contextlib.contextmanager
def prepared(options: argparse.Namespace, prefix: str) -> Iterator[Program]:
    """The program on a folder with both models deployed: a new one, or the one that `--keep` names."""
    with tempfile.TemporaryDirectory(prefix=prefix) as temporary:
        folder = pathlib.Path(options.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        is_new = not (folder / "ready").exists()
        program = Program(options, folder)
        try:
            if is_new:
                program.prepare()
                (folder / "ready").touch()
            yield program
        finally:
            program.stop()


def stamp(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds / 1000))


def processor_seconds(process: int) -> float:
    """Processor time of a process so far."""
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bottega", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--keep")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=["stored", "body"])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--wait", action="store_true", help="only start, print the address, and wait for a line")
    options = parser.parse_args()
    with prepared(options, "serving-") as program:
        files = program.bodies()
        print(f"{program.url}, process {program.process.pid}, load {os.getloadavg()[0]:.1f}", flush=True)
        if options.wait:
            sys.stdin.readline()
            return
        for name in [options.only] if options.only else ["stored", "body"]:
            for _ in range(options.runs):
                before = processor_seconds(program.process.pid)
                subprocess.run(
                    ["sh", str(ROOT / "Benchmarks/predict_route.sh"), program.url, name, str(files[name])],
                    env=os.environ | {"DURATION": str(options.seconds)},
                    check=True,
                )
                spent = processor_seconds(program.process.pid) - before
                print(f"processor time of the program: {spent:.2f} s", flush=True)


if __name__ == "__main__":
    main()
