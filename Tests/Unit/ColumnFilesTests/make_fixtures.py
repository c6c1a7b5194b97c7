"""Writes Fixtures/*.parquet with pyarrow in many combinations of options; run it by hand: python make_fixtures.py.

The tests compare our reading with DuckDB's, so the files need no expected values beside them.
"""

import datetime
import pathlib
import random

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 700


def table(nulls: bool) -> pa.Table:
    rng = random.Random(7)

    def maybe(value):
        return None if nulls and rng.random() < 0.2 else value

    epoch = datetime.datetime(2013, 7, 1, tzinfo=datetime.timezone.utc)
    moments = [maybe(epoch + datetime.timedelta(milliseconds=rng.randrange(10**10))) for _ in range(ROWS)]
    texts = ["", "é", "UA", "a longer text " * 5, "x" * 300] + [f"N{i}" for i in range(50)]
    return pa.table(
        {
            "i64": pa.array([maybe(rng.randrange(-(2**63), 2**63)) for _ in range(ROWS)], pa.int64()),
            "rising": pa.array([maybe(i * 1000 + rng.randrange(9)) for i in range(ROWS)], pa.int64()),
            "few": pa.array([maybe(rng.randrange(5)) for _ in range(ROWS)], pa.int64()),
            "same": pa.array([42] * ROWS, pa.int64()),
            "i32": pa.array([maybe(rng.randrange(-(2**31), 2**31)) for _ in range(ROWS)], pa.int32()),
            "i8": pa.array([maybe(rng.randrange(-128, 128)) for _ in range(ROWS)], pa.int8()),
            "u16": pa.array([maybe(rng.randrange(65536)) for _ in range(ROWS)], pa.uint16()),
            "f64": pa.array([maybe(rng.choice([0.0, -0.0, 1.5, rng.gauss(0, 1e6)])) for _ in range(ROWS)], pa.float64()),
            "f32": pa.array([maybe(rng.gauss(0, 10)) for _ in range(ROWS)], pa.float32()),
            "flag": pa.array([maybe(rng.random() < 0.5) for _ in range(ROWS)], pa.bool_()),
            "text": pa.array([maybe(rng.choice(texts)) for _ in range(ROWS)], pa.string()),
            "unique": pa.array([maybe(f"{rng.getrandbits(80):x}") for _ in range(ROWS)], pa.string()),
            "us": pa.array(moments, pa.timestamp("us", tz="UTC")),
            "ms": pa.array(moments, pa.timestamp("ms", tz="UTC")),
            "void": pa.array([None] * ROWS if nulls else [1] * ROWS, pa.int64()),
        }
    )


folder = pathlib.Path(__file__).parent / "Fixtures"
cases = {
    "plain_none": dict(use_dictionary=False, compression="none"),
    "plain_snappy": dict(use_dictionary=False, compression="snappy"),
    "dictionary_snappy": dict(compression="snappy"),
    "dictionary_zstd_v2": dict(compression="zstd", data_page_version="2.0"),
    "plain_v2_small_pages": dict(use_dictionary=False, data_page_version="2.0", data_page_size=256, compression="snappy"),
    "small_pages_groups": dict(data_page_size=200, row_group_size=150, write_batch_size=32),
    "overflowing_dictionary": dict(dictionary_pagesize_limit=300, data_page_size=512, write_batch_size=64),
    "delta": dict(
        use_dictionary=False,
        compression="zstd",
        column_encoding={
            **{name: "DELTA_BINARY_PACKED" for name in ["i64", "rising", "few", "same", "i32", "us", "ms"]},
            "text": "DELTA_BYTE_ARRAY",
            "unique": "DELTA_LENGTH_BYTE_ARRAY",
            "f64": "BYTE_STREAM_SPLIT",
            "f32": "BYTE_STREAM_SPLIT",
        },
    ),
}
for nulls in [True, False]:
    for name, options in cases.items():
        pq.write_table(table(nulls), folder / f"{name}{'_nulls' if nulls else ''}.parquet", version="2.6", **options)
required = pa.schema([pa.field(f.name, f.type, nullable=False) for f in table(False).schema])
pq.write_table(table(False).cast(required), folder / "required.parquet")
pq.write_table(table(True).slice(0, 0), folder / "empty.parquet")
pq.write_table(table(True).slice(0, 50), folder / "gzip.parquet", compression="gzip")
pq.write_table(
    pa.table({"list": [[1, 2], [3]], "struct": [{"a": 1}, {"a": 2}], "date": [datetime.date(2020, 1, 1)] * 2, "ok": [1, 2]}),
    folder / "nested.parquet",
)
