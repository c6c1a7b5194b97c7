"""Time to score a Parquet file into a Parquet file, beside DuckDB copying the same file: same run, same processors.

    python3 Benchmarks/batch_scoring.py --bottega .build-release/release/bottega --duckdb .venv/bin/duckdb

Makes a file of rows (10 million by default) with a key and 30 `float` features, and an xgboost model of 100 trees of
depth 6 trained on a sample of them. Then, in turns: `bottega score-file` from Parquet to Parquet,
`COPY (SELECT * FROM 'in.parquet') TO 'out.parquet'`, and `SELECT sum(…)` over all columns, which only reads. The median
of the rounds is shown, and each answer is checked: as many rows, and the predictions of xgboost itself on a sample.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import resource
import statistics
import subprocess
import tempfile
import time

import numpy as np
import pyarrow.parquet as parquet
import xgboost as xgb

FEATURES = 30


def duckdb(binary: str, sql: str, threads: int) -> None:
    subprocess.run([binary, "-c", f"SET threads = {threads}; {sql}"], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bottega", required=True)
    parser.add_argument("--duckdb", default="duckdb")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", help="where files go; a temporary folder unless told otherwise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = pathlib.Path(place)
        source, model = folder / "in.parquet", folder / "model.ubj"
        columns = ", ".join(f"CAST(random() * 100 - 50 AS FLOAT) AS f{n}" for n in range(FEATURES))
        duckdb(
            options.duckdb,
            f"COPY (SELECT i AS id, {columns} FROM range({options.rows}) t(i)) TO '{source}'",
            options.threads,
        )
        first = parquet.ParquetFile(source).read_row_group(0).to_pandas()
        names = [f"f{n}" for n in range(FEATURES)]
        label = (first["f0"] + first["f1"] * first["f2"] / 50 + first["f3"].abs() > 20).astype(int)
        data = xgb.DMatrix(first[names], label)
        booster = xgb.train({"max_depth": 6, "objective": "binary:logistic", "eta": 0.1}, data, 100)
        booster.save_model(model)
        print(f"{options.rows:,} rows, {source.stat().st_size / 1e6:,.0f} MB, {options.threads} processors")
        everything = ", ".join(f"sum({name})" for name in names)
        contenders = {
            "bottega score-file": lambda out: subprocess.run(
                [
                    options.bottega,
                    "score-file",
                    "--file",
                    model,
                    "--rows",
                    source,
                    "--output",
                    out,
                    "--threads",
                    str(options.threads),
                ],
                check=True,
            ),
            "duckdb copy": lambda out: duckdb(
                options.duckdb, f"COPY (SELECT * FROM '{source}') TO '{out}'", options.threads
            ),
            "duckdb read": lambda out: duckdb(options.duckdb, f"SELECT {everything} FROM '{source}'", options.threads),
        }
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(options.rounds):
            for name, run in contenders.items():
                out = folder / "out.parquet"
                out.unlink(missing_ok=True)
                start = time.perf_counter()
                run(out)
                times[name].append(time.perf_counter() - start)
                if name.startswith("bottega"):
                    check(out, options.rows, booster.predict(xgb.DMatrix(first[names])))
        copy = statistics.median(times["duckdb copy"])
        print("| | seconds | of DuckDB's copy |\n|---|---|---|")
        for name, found in times.items():
            middle = statistics.median(found)
            print(f"| {name} | {middle:.2f} ({min(found):.2f} to {max(found):.2f}) | {middle / copy:.2f} |")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        print(f"largest process: {peak / 1024:,.0f} MB")


def check(path: pathlib.Path, rows: int, expected: np.ndarray) -> None:
    file = parquet.ParquetFile(path)
    assert file.metadata.num_rows == rows, file.metadata.num_rows
    found = file.read_row_group(0).to_pandas()
    assert (found["prediction"].to_numpy("float32") == expected[: len(found)]).all(), "predictions differ"
    assert found["id"].iloc[0] == 0


if __name__ == "__main__":
    main()
