#!/usr/bin/env python3
"""Point-in-time training sets, Parquet to Parquet: ours beside DuckDB and Feast, on the same files, turn by turn.

    training_set.py --join .build-release/release/training-set-join --duckdb .venv/bin/duckdb [--scale 1] [--runs 5]
                    [--skew] [--feast /path/to/venv/bin/python]

The input, by `--scale 1`: 5,000,000 events of 100,000 entities over 60 days in no order, 1,000,000 questions; `--skew` gives one
entity a tenth of both. Computed: count, sum, mean, min, max and last over 5 minutes, 1 hour and 30 days, and the newest value of
at most 7 days: 19 columns. DuckDB runs the fastest shape known to us: running sums and two ASOF joins for each window, bucket
joins for the extremes of short windows, a window function for those of the long one. All cells are compared. Times are of whole
processes, alternating; medians and ratios are printed, and each process's largest resident memory.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

WINDOWS = {"5m": 300_000, "1h": 3_600_000, "30d": 2_592_000_000}
WEEK = 604_800_000


def generate(duckdb: str, folder: pathlib.Path, scale: float, skew: bool) -> None:
    events, questions = int(5_000_000 * scale), int(1_000_000 * scale)
    entity = "CASE WHEN hash(i * 7 + {s}) % 10 = 0 THEN 0 ELSE (hash(i * 3 + {s}) % 100000)::BIGINT END" if skew else "(hash(i * 3 + {s}) % 100000)::BIGINT"
    span = 60 * 86_400_000
    start = 1_372_636_800_000
    sql(
        duckdb,
        f"""
        COPY (SELECT {entity.format(s=1)} AS entity, make_timestamptz(({start} + (hash(i + 11) % {span})::BIGINT) * 1000) AS happened,
            (hash(i + 5) % 1000000)::BIGINT - 200000 AS amount, {start} + (hash(i + 11) % {span})::BIGINT AS __event_time,
            {start} + (hash(i + 11) % {span})::BIGINT AS __ingest_time, i AS __sequence FROM range({events}) r(i))
        TO '{folder}/events.parquet' (FORMAT parquet);
        COPY (SELECT i AS label_id, {entity.format(s=2)} AS entity, {start} + (hash(i + 99) % {span})::BIGINT AS t
            FROM range({questions}) r(i)) TO '{folder}/questions.parquet' (FORMAT parquet);
        """,
        folder,
    )


def run(command: list[str]) -> tuple[float, float, float, str]:
    """Wall seconds, processor seconds, peak memory in GiB, standard output."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output = process.stdout.read()
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command[0]} failed ({process.returncode}): {errors[-2000:]}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / (1 << 20), output


def sql(duckdb: str, text: str, folder: pathlib.Path, memory: str = "8GB") -> tuple[float, float, float, str]:
    script = folder / "script.sql"
    script.write_text(f"SET TimeZone='UTC'; SET memory_limit='{memory}'; SET temp_directory='{folder}/duckdb-spill'; SET preserve_insertion_order=false;\n{text}")
    return run([duckdb, "-jsonlines", "-bail", "-f", str(script)])


def shape_e(folder: pathlib.Path, output: str) -> str:
    """The SQL of the peer; `k` of a question is already one tick back."""
    extremes, joins, columns = [], [], []
    for name, width in WINDOWS.items():
        joins.append(f"ASOF LEFT JOIN p p_{name} ON l.entity = p_{name}.entity AND l.k - {width} >= p_{name}.k")
        count = f"coalesce(p0.c, 0) - coalesce(p_{name}.c, 0)"
        total = f"(p0.s - coalesce(p_{name}.s, 0))"
        columns.append(
            f"{count} AS count_{name}, CASE WHEN {count} > 0 THEN {total}::DOUBLE END AS sum_{name}, "
            f"CASE WHEN {count} > 0 THEN {total}::DOUBLE / ({count}) END AS mean_{name}, x_{name}.low AS min_{name}, x_{name}.top AS max_{name}, "
            f"CASE WHEN p0.k > l.k - {width} THEN p0.la END AS last_{name}"
        )
        if width <= 3_600_000:
            extremes.append(
                f"""CREATE TEMP TABLE x_{name} AS SELECT label_id, min(a) AS low, max(a) AS top FROM (
                SELECT label_id, entity, k, k // {width} AS b FROM lb UNION ALL SELECT label_id, entity, k, k // {width} - 1 FROM lb) l
                JOIN (SELECT entity, k AS ek, a, k // {width} AS b FROM ev) e USING (entity, b)
                WHERE ek <= k AND ek > k - {width} GROUP BY label_id;"""
            )
        else:
            extremes.append(
                f"""CREATE TEMP TABLE x_{name} AS SELECT label_id, low, top FROM (
                SELECT label_id, min(a) OVER w AS low, max(a) OVER w AS top FROM (
                SELECT NULL AS label_id, entity, k, a FROM ev UNION ALL SELECT label_id, entity, k, NULL FROM lb)
                WINDOW w AS (PARTITION BY entity ORDER BY k RANGE BETWEEN {width - 1} PRECEDING AND CURRENT ROW)) WHERE label_id IS NOT NULL;"""
            )
    tables = " ".join(f"LEFT JOIN x_{name} USING (label_id)" for name in WINDOWS)
    return f"""
        CREATE TEMP VIEW ev AS SELECT entity, __event_time AS k, __ingest_time AS g, __sequence AS seq, amount AS a FROM '{folder}/events.parquet';
        CREATE TEMP VIEW lb AS SELECT label_id, entity, t - 1 AS k FROM '{folder}/questions.parquet';
        {' '.join(extremes)}
        COPY (
        WITH q AS (SELECT entity, k, a, sum(a) OVER w s, count(a) OVER w c, lead(k) OVER w nk FROM ev
                   WINDOW w AS (PARTITION BY entity ORDER BY k, g, seq ROWS UNBOUNDED PRECEDING)),
             p AS MATERIALIZED (SELECT entity, k, a AS la, s, c FROM q WHERE nk IS DISTINCT FROM k)
        SELECT label_id, {', '.join(columns)}, CASE WHEN p0.k > l.k - {WEEK} THEN p0.la END AS as_of
        FROM lb l ASOF LEFT JOIN p p0 ON l.entity = p0.entity AND l.k >= p0.k
        {' '.join(joins)} {tables}) TO '{output}' (FORMAT parquet);
        """


def asof_sql(folder: pathlib.Path, output: str) -> str:
    return f"""
        COPY (WITH e AS (SELECT entity, __event_time AS k, arg_max(amount, (__ingest_time, __sequence)) AS a FROM '{folder}/events.parquet' GROUP BY ALL)
        SELECT label_id, CASE WHEN e.k > l.t - 1 - {WEEK} THEN e.a END AS as_of FROM '{folder}/questions.parquet' l
        ASOF LEFT JOIN e ON l.entity = e.entity AND l.t - 1 >= e.k) TO '{output}' (FORMAT parquet);
        """


def compare(duckdb: str, folder: pathlib.Path, ours: str, theirs: str) -> str:
    *_, names = sql(duckdb, f"SELECT list(column_name) AS n FROM (DESCRIBE SELECT * FROM '{ours}')", folder)
    names = [name for name in json.loads(names.strip().splitlines()[-1])["n"] if name != "label_id"]
    terms = ", ".join(f"sum((o.\"{n}\" IS DISTINCT FROM t.\"{n}\")::INTEGER) AS \"{n}\"" for n in names)
    *_, out = sql(duckdb, f"SELECT count(*) AS rows, {terms} FROM '{ours}' o FULL JOIN '{theirs}' t USING (label_id)", folder)
    row = {key: int(value) for key, value in json.loads(out.strip().splitlines()[-1]).items()}
    rows = row.pop("rows")
    different = {key: value for key, value in row.items() if value}
    return f"{rows * len(names):,} cells, {sum(different.values()):,} different{' ' + str(different) if different else ''}"


FEAST = """
import sys, datetime, pathlib
folder, repo = sys.argv[1], pathlib.Path(sys.argv[2])
repo.mkdir(exist_ok=True)
(repo / "feature_store.yaml").write_text("project: bench\\nregistry: r.db\\nprovider: local\\noffline_store: {type: duckdb}\\nonline_store: {type: sqlite, path: o.db}\\nentity_key_serialization_version: 3\\n")
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Int64
import pandas as pd, pyarrow.parquet as pq
store = FeatureStore(repo_path=str(repo))
account = Entity(name="account", join_keys=["entity"], value_type=ValueType.INT64)
source = FileSource(path=f"{folder}/events.parquet", timestamp_field="happened")
view = FeatureView(name="spending", entities=[account], ttl=datetime.timedelta(days=7), schema=[Field(name="amount", dtype=Int64)], source=source)
store.apply([account, view])
spine = pq.read_table(f"{folder}/questions.parquet").to_pandas()
spine["event_timestamp"] = pd.to_datetime(spine.pop("t") - 1, unit="ms", utc=True)
result = store.get_historical_features(entity_df=spine, features=["spending:amount"]).to_arrow()
pq.write_table(result, sys.argv[3])
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--join", required=True)
    parser.add_argument("--duckdb", required=True)
    parser.add_argument("--feast")
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--skew", action="store_true")
    parser.add_argument("--memory", type=int, default=2048, help="MiB for ours")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--folder", help="where the files go; kept, and used again")
    options = parser.parse_args()
    folder = pathlib.Path(options.folder or tempfile.mkdtemp(prefix="training-set-"))
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "questions.parquet").exists():
        generate(options.duckdb, folder, options.scale, options.skew)
    print(f"scale {options.scale}, {'skewed' if options.skew else 'uniform'}, load {os.getloadavg()[0]:.1f}", flush=True)

    def ours(shape: str, output: str):
        return run(
            [options.join, "--shape", shape, "--events", f"{folder}/events.parquet", "--questions", f"{folder}/questions.parquet"]
            + ["--output", output, "--memory", str(options.memory), "--spill", str(folder)]
        )

    contenders = {"ours, all": lambda: ours("all", f"{folder}/ours.parquet")}
    if not options.no_peer:
        contenders["DuckDB E, all"] = lambda: sql(options.duckdb, shape_e(folder, f"{folder}/duckdb.parquet"), folder)
        contenders["ours, as-of"] = lambda: ours("asof", f"{folder}/ours-asof.parquet")
        contenders["DuckDB ASOF, as-of"] = lambda: sql(options.duckdb, asof_sql(folder, f"{folder}/duckdb-asof.parquet"), folder)
    if options.feast:
        (folder / "feast_run.py").write_text(FEAST)
        contenders["Feast (DuckDB store), as-of"] = lambda: run(
            [options.feast, f"{folder}/feast_run.py", str(folder), f"{folder}/feast", f"{folder}/feast.parquet"]
        )
    times: dict[str, list[float]] = {name: [] for name in contenders}
    work: dict[str, list[float]] = {name: [] for name in contenders}
    peaks: dict[str, float] = {name: 0 for name in contenders}
    for _ in range(options.runs):
        for name, call in contenders.items():
            seconds, processor, peak, output = call()
            times[name].append(seconds)
            work[name].append(processor)
            peaks[name] = max(peaks[name], peak)
            print(f"  {name}: {seconds:.2f} s, {processor:.2f} s of processor, {peak:.2f} GiB {output.strip()[-160:]}", flush=True)
    for name in contenders:
        print(f"{name}: median {statistics.median(times[name]):.2f} s, {statistics.median(work[name]):.2f} s of processor, peak {peaks[name]:.2f} GiB")
    if not options.no_peer:
        pairs = [("ours, all", "DuckDB E, all"), ("ours, as-of", "DuckDB ASOF, as-of")]
        if options.feast:
            pairs.append(("ours, as-of", "Feast (DuckDB store), as-of"))
        for left, right in pairs:
            for what, values in [("time", times), ("processor time", work)]:
                ratios = [a / b for a, b in zip(values[left], values[right])]
                print(f"{left} / {right}, {what}: {statistics.median(ratios):.3f} (turn by turn {', '.join(f'{r:.3f}' for r in ratios)})")
        print("all:", compare(options.duckdb, folder, f"{folder}/ours.parquet", f"{folder}/duckdb.parquet"))
        print("as-of:", compare(options.duckdb, folder, f"{folder}/ours-asof.parquet", f"{folder}/duckdb-asof.parquet"))


if __name__ == "__main__":
    main()
