"""Batches that are scored: against xgboost on the same rows, again and again, and killed in the middle."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import shop
import xgboost as xgb
from conftest import Server

DAYS = 14
DUCKDB = os.environ.get("BOTTEGA_DUCKDB_PATH") or str(pathlib.Path(sys.executable).parent / "duckdb")


class Scored:
    """A server with a trained model, its file and its training set."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.server = server = Server(folder / "data", "--clock", "manual").start()
        server.cli("apply", str(shop.write_definitions(folder / "definitions")))
        server.post("/api/v1/clock", {"now": shop.START + DAYS * shop.DAY})
        self.rows = shop.history(DAYS)
        for name in ("payments", "orders", "outcomes"):
            server.cli("ingest", name, str(shop.write_csv(folder / f"{name}.csv", getattr(self.rows, name))))
        span = ["--from", shop.text(shop.START), "--to", shop.text(shop.START + DAYS * shop.DAY)]
        self.dataset = json.loads(server.cli("dataset", "build", "loss", *span, "--json").stdout)["dataset"]
        job = json.loads(server.cli("train", "loss", "--dataset", self.dataset, "--json").stdout)
        server.cli("model", "register", "loss", "--job", job["id"])
        version = server.get("/api/v1/models/loss/versions/1")
        artifact = version["artifact"]
        artifact = artifact["hash"] if isinstance(artifact, dict) else artifact
        self.model = folder / "model.ubj"
        shutil.copy(
            next(path for path in (folder / "data/objects").rglob(f"*{artifact[4:]}*") if path.is_file()), self.model
        )

    def expected(self) -> pd.DataFrame:
        """Every row of the training set with the prediction of xgboost itself."""
        manifest = self.server.get(f"/api/v1/datasets/{self.dataset}")
        manifest = manifest.get("manifest", manifest)
        frames = []
        for part in manifest["slices"]:
            path = next(p for p in (self.folder / "data/objects").rglob(f"*{part['part'][4:]}*") if p.is_file())
            frames.append(parquet.read_table(path).to_pandas())
        self.parts = frames
        frame = pd.concat(frames, ignore_index=True)
        columns = [c for c in manifest["columns"] if c["role"] in ("request", "feature")]
        self.inputs = [column["name"] for column in columns]
        values = pd.DataFrame(
            {
                c["name"]: pd.Categorical(frame[c["name"]], categories=c["categories"])
                if c.get("categories")
                else frame[c["name"]].astype("float32")
                for c in columns
            }
        )
        booster = xgb.Booster(model_file=self.model)
        frame["expected"] = booster.predict(xgb.DMatrix(values, enable_categorical=True))
        return frame


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, binary: str) -> Iterator[Scored]:
    scored = Scored(tmp_path_factory.mktemp("scoring"))
    yield scored
    assert scored.server.stop() == 0


def read(result: dict[str, Any]) -> pd.DataFrame:
    folder = pathlib.Path(result["folder"])
    return pd.concat([parquet.read_table(folder / p["file"]).to_pandas() for p in result["parts"]], ignore_index=True)


def score(server: Server, *arguments: str) -> dict[str, Any]:
    return json.loads(server.cli("score", "loss", *arguments, "--json").stdout)


def pairs(times: pd.Series, predictions: pd.Series) -> list[tuple[int, float]]:
    return sorted(zip(times, predictions.astype("float32").tolist(), strict=True))


def milliseconds(column: pd.Series) -> pd.Series:
    return (
        column.astype("int64")
        if column.dtype == "int64"
        else pd.to_datetime(column, utc=True).map(lambda moment: int(moment.timestamp() * 1000 + 0.5))
    )


def test_rows_of_a_source_are_scored_as_xgboost_scores_them(scored: Scored) -> None:
    result = score(scored.server, "--spine", "orders", "--out", "all_orders")
    found = read(result)
    frame = scored.expected()
    assert list(found.columns) == ["asked_at", "customer", "prediction", "model", "model_version", "scored_at"]
    assert len(found) == len(scored.rows.orders) == result["rows"] and (found["model_version"] == 1).all()
    assert {e["name"] for e in result["contract"]} == {"schema", "rows_equal_input", "predictions_present"}
    known = {order["asked_at"]: order["customer"] or "" for order in scored.rows.orders}
    assert [known[t] for t in milliseconds(found["asked_at"])] == found["customer"].fillna("").tolist()
    # Rows without a label are in no training set; the others have the very same features.
    wanted = pairs(frame["__event_time"], frame["expected"])
    assert len(wanted) > 500 and set(wanted) <= set(pairs(milliseconds(found["asked_at"]), found["prediction"]))


def test_a_file_and_one_day_of_a_source_give_the_same(scored: Scored) -> None:
    day = shop.text(shop.START + 10 * shop.DAY)[:10]
    one = score(scored.server, "--spine", "orders", "--out", "by_source", "--date", day)
    orders = [o for o in scored.rows.orders if shop.text(o["asked_at"])[:10] == day]
    path = shop.write_csv(scored.folder / "some.csv", orders[::-1])
    other = score(scored.server, "--spine", str(path), "--event-time", "asked_at", "--out", "by_file", "--date", day)
    left, right = read(one), read(other)
    assert len(left) == len(orders) > 20
    assert pairs(milliseconds(left["asked_at"]), left["prediction"]) == pairs(
        milliseconds(right["asked_at"]), right["prediction"]
    )


def test_a_partition_is_written_once_unless_it_is_to_be_replaced(scored: Scored) -> None:
    server, day = scored.server, "2024-01-12"
    first = score(server, "--spine", "orders", "--out", "once", "--date", day)
    again = score(server, "--spine", "orders", "--out", "once", "--date", day)
    assert not first["unchanged"] and again["unchanged"] and again["scored_at"] == first["scored_at"]
    server.post("/api/v1/clock", {"now": shop.START + DAYS * shop.DAY + 1000})
    refused = server.cli(
        "score", "loss", "--spine", "orders", "--out", "once", "--date", day, "--keep", "customer", check=False
    )
    assert refused.returncode != 0 and "--replace" in refused.stderr
    other = score(server, "--spine", "orders", "--out", "once", "--date", day, "--keep", "customer", "--replace")
    assert "asked_at" not in read(other) and len(read(other)) == first["rows"]
    assert sorted(p.name for p in (scored.folder / "data/scores/once").iterdir()) == [f"date={day}"]
    listed = server.get("/api/v1/scores?table=once")["partitions"]
    assert [p["rows"] for p in listed] == [first["rows"]]


def test_a_partition_of_a_file_that_has_changed_is_refused(scored: Scored, tmp_path: pathlib.Path) -> None:
    frame = pd.DataFrame(scored.rows.orders[-40:])
    frame["order_id"] = np.arange(len(frame), dtype="uint32") + 7
    frame["note"] = [None, "a ü", "b"] * 13 + ["c"]
    frame["asked_at"] = pd.to_datetime(frame["asked_at"], unit="ms", utc=True)
    path = tmp_path / "questions.parquet"
    frame.to_parquet(path)
    asked = ("--spine", str(path), "--event-time", "asked_at", "--out", "files", "--date", "2024-01-14")
    keep = ("--keep", "order_id", "note", "asked_at")
    first = score(scored.server, *asked, *keep)
    scores = read(first)
    assert set(scores["order_id"]) == set(frame["order_id"]), "a question's own identifier goes along"
    told = dict(zip(frame["order_id"], frame["note"], strict=True))
    assert [told[key] for key in scores["order_id"]] == list(scores["note"])
    assert score(scored.server, *asked, *keep)["unchanged"]
    frame[:10].to_parquet(path)
    refused = scored.server.cli("score", "loss", *asked, *keep, check=False)
    assert refused.returncode == 3 and "they have changed since" in refused.stderr, refused.stderr
    assert score(scored.server, *asked, *keep, "--replace")["rows"] == 10
    for name, words in [("order_di", "did you mean 'order_id'"), ('a"b', "no column that can be kept")]:
        refused = scored.server.cli("score", "loss", *asked, "--keep", name, "--replace", check=False)
        assert refused.returncode == 2 and words in refused.stderr, refused.stderr
    own = ["--spine", "orders", "--out", "own", "--date", "2024-01-14"]
    kept = score(scored.server, *own, "--keep", "order", "customer")
    assert set(read(kept)["order"]) <= {row["order"] for row in scored.rows.orders}


def test_values_outside_of_a_category_s_list_are_counted(scored: Scored, tmp_path: pathlib.Path) -> None:
    frame = pd.DataFrame(scored.rows.orders[-40:])
    known = int(frame["channel"].isin(["app", "shop", "web"]).sum())
    frame.loc[frame.index[:3], "channel"] = "Web"
    frame.loc[frame.index[3], "channel"] = None
    frame["asked_at"] = pd.to_datetime(frame["asked_at"], unit="ms", utc=True)
    path = tmp_path / "questions.parquet"
    frame.to_parquet(path)
    asked = ("--spine", str(path), "--event-time", "asked_at", "--out", "unlisted", "--date", "2024-01-14")
    told = scored.server.cli("score", "loss", *asked).stdout
    assert known == 40 and "WARNING  'channel' has values outside of its list in 3 of 40 rows, such as 'Web'" in told
    again = score(scored.server, *asked)
    assert again["unchanged"] and len([w for w in again["warnings"] if "(the list has 'web')" in w]) == 1
    scored.expected()
    ready = pd.concat(scored.parts, ignore_index=True)[scored.inputs]
    ready.loc[ready.index[:2], "channel"] = "kiosk"
    ready.to_parquet(tmp_path / "ready.parquet")
    asked = ("--spine", str(tmp_path / "ready.parquet"), "--features-in-file", "--out", "ready", "--date", "2024-01-14")
    assert [w for w in score(scored.server, *asked)["warnings"] if f"in 2 of {len(ready)} rows, such as 'kiosk'" in w]


def test_columns_are_copied_as_they_are_or_refused(binary: str, scored: Scored, tmp_path: pathlib.Path) -> None:
    frame = scored.expected()[:50]
    table = pa.Table.from_pandas(frame, preserve_index=False)
    naive = pa.array(range(50), pa.timestamp("us"))
    table = table.append_column("naive", naive).append_column("raw", pa.array([b"\xff\xfe"] * 50, pa.binary()))
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    command = [binary, "score-file", "--file", scored.model, "--rows", source, "--output", target]
    command += ["--categories", json.dumps({"0": shop.CHANNELS})]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)

    parquet.write_table(table, source)
    assert run().returncode == 0
    found = parquet.read_table(target)
    assert found.column("naive").type == pa.timestamp("us") and found.column("naive").combine_chunks() == naive
    assert found.column("raw").type == pa.binary() and found.column("raw")[3].as_py() == b"\xff\xfe"
    # What cannot be copied is not left out without a word.
    parquet.write_table(table.append_column("day", pa.array(range(50), pa.date32())), source)
    refused = run()
    assert refused.returncode == 2 and "cannot be copied beside the scores: 'day'" in refused.stderr, refused.stderr


def rows_in(folder: pathlib.Path) -> list[list[str]]:
    """Rows of each day in a folder, as DuckDB counts them."""
    query = (
        "SELECT date, count(*), count(DISTINCT model_version), min(prediction) > 0 "
        f"FROM read_parquet('{folder}/*/*.parquet', hive_partitioning = true) GROUP BY date ORDER BY date"
    )
    done = subprocess.run([DUCKDB, "-csv", "-noheader", "-c", query], capture_output=True, text=True, check=True)
    return [line.split(",") for line in done.stdout.split()]


def test_a_folder_of_the_callers_gets_partitions_too(scored: Scored, tmp_path: pathlib.Path) -> None:
    server, out = scored.server, tmp_path / "mine"

    def here(*more: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [server.binary, "score", "loss", "--spine", "orders", "--json", *more]
        environment = {**server.environment, "BOTTEGA_URL": server.url}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment, check=check
        )

    first = json.loads(here("--out", "./mine/", "--date", "2024-01-12").stdout)
    assert first["folder"] == str(out / "date=2024-01-12") and first["table"] == "mine"
    second = json.loads(here("--out", str(out), "--date", "2024-01-11").stdout)
    counts = [["2024-01-11", str(second["rows"]), "1", "true"], ["2024-01-12", str(first["rows"]), "1", "true"]]
    assert rows_in(out) == counts
    assert sorted(path.name for path in out.iterdir()) == ["date=2024-01-11", "date=2024-01-12"]
    stored = scored.folder / "data/scores/mine/date=2024-01-12"
    for part in [*stored.iterdir()]:
        assert (out / "date=2024-01-12" / part.name).read_bytes() == part.read_bytes()

    # Killed between the table and the folder: the same command finishes it, and leaves what is whole alone.
    shutil.rmtree(out / "date=2024-01-12")
    (out / ".new/date=2024-01-12").mkdir(parents=True)
    (out / ".new/date=2024-01-12/part-00000.parquet").write_bytes(b"PAR1 half")
    before = (out / "date=2024-01-11/part-00000.parquet").stat().st_ino
    for day in ("2024-01-12", "2024-01-11"):
        assert json.loads(here("--out", "mine/", "--date", day).stdout)["unchanged"]
    assert rows_in(out) == counts and not (out / ".new").exists()
    assert (out / "date=2024-01-11/part-00000.parquet").stat().st_ino == before

    # What is there already goes only if that is said; nothing is scored for the table either.
    (out / "date=2024-01-10").mkdir()
    (out / "date=2024-01-10/mine.parquet").write_bytes(b"other")
    refused = here("--out", "mine/", "--date", "2024-01-10", check=False)
    assert refused.returncode == 3 and "holds something else" in refused.stderr
    assert not (scored.folder / "data/scores/mine/date=2024-01-10").exists()
    other = here("--out", "mine/", "--table", "another", "--date", "2024-01-12", check=False)
    assert other.returncode == 3 and "holds something else" in other.stderr
    replaced = json.loads(here("--out", "mine/", "--date", "2024-01-10", "--replace").stdout)
    assert rows_in(out)[0][:2] == ["2024-01-10", str(replaced["rows"])]
    assert not (out / "date=2024-01-10/mine.parquet").exists() and not (out / ".new").exists()

    for arguments, words in [
        (["--out", "./no table/"], "--table"),
        (["--out", "mine", "--table", "another"], "./mine/"),
        (["--out", "/proc/none/at/all"], "cannot be written"),
    ]:
        done = here(*arguments, "--date", "2024-01-09", check=False)
        assert done.returncode == 2 and words in done.stderr, done.stderr
    for path in ("mine/2024-01-12/../../model.ubj", "mine/2024-01-12/state.json", "mine/2024-1-12/_manifest.json"):
        assert server.request("GET", f"/api/v1/scores/{path}")[0] == 404


def test_what_is_wrong_is_said(scored: Scored) -> None:
    for arguments, words in [
        (["loss@champio", "--spine", "orders"], "did you mean"),
        (["loss", "--spine", "ordrs"], "did you mean 'orders'"),
        (["loss", "--spine", "payments"], "has no column 'channel'"),
        (["loss", "--spine", "/nowhere.parquet", "--features-in-file"], "cannot be read"),
        (["loss", "--spine", "orders", "--date", "2024-02-30"], "no day"),
    ]:
        done = scored.server.cli("score", *arguments, "--out", "wrong", check=False)
        assert done.returncode != 0 and words in done.stderr, done.stderr
    assert not (scored.folder / "data/scores/wrong").exists() or not list(
        (scored.folder / "data/scores/wrong").glob("date=*")
    )


def test_scores_have_their_place_in_lineage_and_audit(scored: Scored) -> None:
    score(scored.server, "--spine", "orders", "--out", "traced", "--date", "2024-01-11")
    slice_ = json.loads(scored.server.cli("lineage", "scores/traced", "--json").stdout)
    assert any(edge["from"] == "version/loss.1" for edge in slice_["edges"])
    found = json.loads(scored.server.cli("catalog", "search", "traced kind:scores", "--json").stdout)
    assert [hit["id"] for hit in found["hits"]] == ["scores/traced"] and "prediction" in found["hits"][0]["columns"]
    status, page = scored.server.request("GET", "/catalog/scores/traced")
    assert status == 200 and "scores of loss" in page
    entries = json.dumps(scored.server.get("/api/v1/audit"))
    assert "scores.written" in entries


def test_work_that_is_killed_goes_on_where_it_was(scored: Scored) -> None:
    """Scores a large file, is killed after the first parts, and gives every row once in the end."""
    frame = scored.expected()
    count = 300_000
    picks = np.random.default_rng(1).integers(0, len(frame), count)
    rows = frame.iloc[picks][[*scored.inputs, "expected"]].reset_index(drop=True)
    rows["row"] = np.arange(count)
    path = scored.folder / "large.parquet"
    parquet.write_table(pa.Table.from_pandas(rows, preserve_index=False), path, row_group_size=20_000)
    server = scored.server
    body = {"rows": {"features": str(path)}, "table": "large", "date": "2024-01-13"}
    status, _ = server.request("POST", "/api/v1/models/loss/scores", body)
    assert status == 202
    out = scored.folder / "data/scores/.work/large/date=2024-01-13/out"
    end = time.monotonic() + 60
    while (
        not list(out.parent.glob("part-*.json")) and not (scored.folder / "data/scores/large/date=2024-01-13").exists()
    ):
        assert time.monotonic() < end
        time.sleep(0.005)
    server.kill()
    server.start()
    result = server.post("/api/v1/models/loss/scores", body)
    found = read(result)
    assert result["unchanged"] or result["resumed_parts"] > 0
    assert found["row"].tolist() == list(range(count)) and found["scored_at"].nunique() == 1
    assert (found["prediction"].astype("float32") == rows["expected"].astype("float32")).all()
    assert not (scored.folder / "data/scores/.work/large").exists()


def test_a_parquet_file_is_scored_without_a_server(scored: Scored, binary: str, tmp_path: pathlib.Path) -> None:
    frame = scored.expected()
    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    parquet.write_table(pa.Table.from_pandas(frame, preserve_index=False), source, row_group_size=100)
    command = [binary, "score-file", "--file", scored.model, "--rows", source, "--output", target, "--keep", "expected"]
    command += ["--categories", json.dumps({"0": shop.CHANNELS})]
    subprocess.run([str(part) for part in command], check=True, timeout=120)
    found = parquet.read_table(target).to_pandas()
    assert list(found.columns) == ["expected", "prediction", "model", "model_version", "scored_at"]
    assert (found["prediction"].astype("float32") == found["expected"].astype("float32")).all()


def test_several_values_are_no_classes(binary: str, tmp_path: pathlib.Path) -> None:
    random = np.random.default_rng(3)
    frame = pd.DataFrame(random.normal(size=(200, 4)).astype("float32"), columns=list("abcd"))
    quantiles = xgb.XGBRegressor(
        objective="reg:quantileerror", quantile_alpha=[0.1, 0.5, 0.9], n_estimators=6, n_jobs=1
    )
    quantiles.fit(frame, frame["a"] + random.normal(size=200))
    model, source, target = (tmp_path / name for name in ("model.json", "in.parquet", "out.parquet"))
    quantiles.save_model(model)
    frame.to_parquet(source)
    command = [binary, "score-file", "--file", model, "--rows", source, "--output", target]
    subprocess.run([str(part) for part in command], check=True, timeout=120)
    found = parquet.read_table(target).to_pandas()
    assert list(found.columns)[:3] == ["prediction_0", "prediction_1", "prediction_2"] and "prediction" not in found
    assert (found.iloc[:, :3].astype("float32").to_numpy() == quantiles.predict(frame)).all()


def wait_for(server: Server, count: int, start: int = 0) -> list[dict[str, Any]]:
    """Every scored event, once there are `count`."""
    end = time.monotonic() + 60
    while True:
        answer = server.get(f"/api/v1/deployments/loss/scored-events?from={start}&count=10000")
        if answer["end"] >= count:
            assert answer["next"] == answer["end"]
            return answer["events"]
        assert time.monotonic() < end, answer["end"]
        time.sleep(0.02)


def test_a_stream_is_scored_once_through_a_kill_and_a_promotion(scored: Scored) -> None:
    server = scored.server
    definitions = scored.folder / "definitions/model.yaml"
    definitions.write_text(
        definitions.read_text().replace("sticky_by: [customer]", "sticky_by: [customer]\nstream: {source: orders}")
    )
    server.cli("apply", str(definitions.parent))
    for stage in ("staging", "canary", "production"):
        server.cli("model", "promote", "loss", "1", stage, "--reason", "for the test")
    server.cli("deploy", "loss", "1", "--reason", "for the test")
    end = time.monotonic() + 60
    while server.request("GET", "/api/v1/deployments/loss/scored-events")[0] == 404:
        assert time.monotonic() < end
        time.sleep(0.02)
    now = shop.START + DAYS * shop.DAY
    orders = [
        {
            "order": f"s{n}",
            "asked_at": shop.text(now + n),
            "customer": f"c{n % 25:02d}",
            "channel": "app",
            "price": 5.0 + n,
        }
        for n in range(900)
    ]
    orders[7]["price"] = 1e9  # out of the feature's range: an event with an error, and no hole

    def push(rows: list[dict[str, Any]]) -> None:
        server.post("/sources/orders/events", rows)

    # Rows from before the stream was asked for are not scored; the first scored row says where it begins.
    push(orders[:300])
    first = wait_for(server, 1)[0]["offset"]
    server.kill()
    server.start()
    push(orders[300:600])
    events = wait_for(server, 600)
    assert [event["offset"] for event in events] == list(range(first, first + 600))
    job = json.loads(server.cli("train", "loss", "--dataset", scored.dataset, "--seed", "9", "--json").stdout)
    server.cli("model", "register", "loss", "--job", job["id"])
    for stage in ("staging", "canary", "production"):
        server.cli("model", "promote", "loss", "2", stage, "--reason", "for the test")
    server.cli("deploy", "loss", "2", "--reason", "for the test")
    push(orders[600:])
    events = wait_for(server, 900)
    assert [event["offset"] for event in events] == list(range(first, first + 900))
    assert [event["model_version"] for event in events if "error" not in event] == [1] * 599 + [2] * 300
    assert [n for n, event in enumerate(events) if "error" in event] == [7]
    assert all("record" not in event for event in events)
    for event, version in ((events[0], 1), (events[-1], 2)):  # found, explained and computed again like any other
        why = server.get(f"/predictions/{event['prediction_id']}/why")
        assert why["version"]["number"] == version and why["version"]["dataset"] and why["caller"] == "stream/orders"
        assert why["prediction"] == event["prediction"] and why["entities"] == event["entities"]
        assert server.post(f"/predictions/{event['prediction_id']}/replay")["equal"] == 1
    assert server.request("GET", f"/predictions/{event['prediction_id'][:-1]}x/why")[0] in (404, 422)
    (stream,) = server.get("/api/v1/scored-streams")["streams"]
    assert (stream["events"], stream["waiting"], stream["deployed"]) == (900, 0, True), stream
    assert stream["last"]["prediction_id"] == events[-1]["prediction_id"]
    assert "900" in server.cli("scored-stream", "status").stdout
    lines = server.cli("scored-stream", "tail", "loss", "--count", "3").stdout.splitlines()
    assert [json.loads(line) for line in lines] == events[-3:]
    begun = time.monotonic()
    waited = server.get("/api/v1/deployments/loss/scored-events?from=900&wait=0.2")
    assert waited["events"] == [] and waited["next"] == 900 and time.monotonic() - begun >= 0.2
    assert server.request("GET", "/api/v1/deployments/loss/scored-events?wait=99")[0] == 422
    scored.expected()
    booster = xgb.Booster(model_file=scored.model)
    for place, event in enumerate(events[:600]):
        if place == 7:
            continue
        assert event["entities"] == {"customer": orders[place]["customer"]}
        assert event["features"]["price"] == orders[place]["price"] and event["features"]["channel"] == "app"
    some = [event for event in events[:600] if "error" not in event]
    values = pd.DataFrame([event["features"] for event in some])[scored.inputs]
    values = values.assign(channel=pd.Categorical(values["channel"], categories=shop.CHANNELS))
    numbers = [name for name in scored.inputs if name != "channel"]
    values[numbers] = values[numbers].astype("float32")
    expected = booster.predict(xgb.DMatrix(values, enable_categorical=True))
    assert (np.array([event["prediction"] for event in some], "float32") == expected).all()


def test_a_spark_job_is_printed_and_its_model_can_be_fetched(scored: Scored, tmp_path: pathlib.Path) -> None:
    from bottega import spark

    text = scored.server.cli("score", "loss@1", "--print-spark").stdout
    compile(text, "job.py", "exec")
    assert "scoring.fetch" in text and "channel" in text
    model = spark.fetch(scored.server.url, "loss", "1", str(tmp_path))
    assert pathlib.Path(model.file).read_bytes() == scored.model.read_bytes()
    assert (model.name, model.version) == ("loss", 1) and model.inputs[0] == ("channel", shop.CHANNELS)
