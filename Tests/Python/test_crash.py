"""Power cuts at random moments: what was acknowledged is there, exactly once."""

from __future__ import annotations

import http.client
import json
import pathlib
import random
import signal
import threading
import time
import urllib.error
from collections.abc import Callable
from typing import Any

import pytest
import shop
from conftest import Server

GONE = (urllib.error.URLError, http.client.HTTPException, OSError)


def is_running(process: int) -> bool:
    """Whether there is such a process that is more than an entry nobody has asked about yet."""
    try:
        return "\nState:\tZ" not in pathlib.Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def rows_of(server: Server, source: str) -> tuple[int, int]:
    found = next(s for s in server.get("/api/v1/sources")["sources"] if s["name"] == source)
    return found["rows"], found["quarantined"]


def features(server: Server, customer: str) -> dict[str, Any]:
    body = {"entities": [{"customer": customer}], "as_of": shop.START + shop.DAY}
    answer = server.post("/features/groups/paid/get-online", body)
    return dict(zip(answer["names"], answer["entities"][0]["values"], strict=True))


def kill_within(server: Server, milliseconds: float) -> threading.Thread:
    """Kills the server from another thread, at a moment that the caller does not know."""

    def strike() -> None:
        time.sleep(milliseconds / 1000)
        assert server.process is not None
        server.process.kill()

    thread = threading.Thread(target=strike)
    thread.start()
    return thread


def start_again(server: Server, thread: threading.Thread) -> None:
    thread.join()
    server.kill()  # waits for it
    server.start()


@pytest.mark.parametrize("seed", range(4))
def test_pushed_events_survive_exactly_once(
    seed: int, start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    draw = random.Random(seed)
    server = start_server("--clock", "manual")
    server.cli("apply", str(shop.write_definitions(tmp_path / "definitions")))
    server.post("/api/v1/clock", {"now": shop.START + shop.DAY})
    acknowledged: dict[int, list[dict[str, Any]]] = {}
    batch = 0

    def body(number: int) -> list[dict[str, Any]]:
        return [
            {"payment": f"{number}.{n}", "paid_at": shop.START + number * 1000 + n,
             "known_at": shop.START + number * 1000 + n, "customer": f"c{n % 3}", "amount": float(number % 50)}
            for n in range(1 + number % 5)
        ] + ([{"payment": f"bad{number}", "amount": "x"}] if number % 7 == 0 else [])  # fmt: skip

    def push(number: int) -> dict[str, Any]:
        headers = {"Idempotency-Key": f"batch-{seed}-{number}"}
        status, answer = server.request("POST", "/sources/payments/events", body(number), headers=headers)
        assert status == 200, answer
        return answer

    for _ in range(3):
        killer = kill_within(server, draw.uniform(20, 900))
        while True:
            try:
                push(batch)
            except GONE:
                break
            acknowledged[batch] = body(batch)
            batch += 1
        start_again(server, killer)
        answer = push(batch)  # the one whose answer was lost is sent again, as a client does
        good = [row for row in body(batch) if "paid_at" in row]
        assert answer["accepted"] + answer["duplicates"] == len(good)
        acknowledged[batch] = body(batch)
        batch += 1
        rows = [row for sent in acknowledged.values() for row in sent]
        good = [row for row in rows if "paid_at" in row]
        assert rows_of(server, "payments") == (len(good), len(rows) - len(good))
        for customer in ("c0", "c1", "c2"):
            mine = [row for row in good if row["customer"] == customer]
            found = features(server, customer)
            assert found["count_7d"] == len(mine)
            assert found["sum_7d"] == sum(row["amount"] for row in mine)
    table = server.post("/api/v1/sources/payments/flush", {})
    assert table["rows"] == len(good), "the table holds what the log holds"


def test_an_interrupted_file_load_completes_without_duplicates(
    start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    draw = random.Random(11)
    server = start_server()
    server.cli("apply", str(shop.write_definitions(tmp_path / "definitions")))
    path = tmp_path / "payments.csv"
    good, bad = 40_000, 400
    with path.open("w") as file:
        file.write("payment,paid_at,known_at,customer,amount,method\n")
        for n in range(good + bad):
            amount = "much" if n % 101 == 100 else n % 97
            moment = shop.text(shop.START + n)
            file.write(f"f{n},{moment},{moment},c{n % 5},{amount},card\n")
    interrupted = 0
    for _ in range(4):
        killer = kill_within(server, draw.uniform(150, 1500))
        result = server.cli("ingest", "payments", str(path), "--json", check=False)
        start_again(server, killer)
        rows, quarantined = rows_of(server, "payments")
        assert rows <= good and quarantined <= bad
        interrupted += result.returncode != 0
    assert interrupted >= 1, "no kill came while the file was being loaded"
    report = json.loads(server.cli("ingest", "payments", str(path), "--json").stdout)
    assert report["rows_read"] == good + bad
    assert report["rows_accepted"] + report["rows_duplicate"] == good or report["already_loaded"]
    assert rows_of(server, "payments") == (good, bad)
    assert json.loads(server.cli("ingest", "payments", str(path), "--json").stdout)["already_loaded"] is True
    assert rows_of(server, "payments") == (good, bad)
    assert server.post("/api/v1/sources/payments/flush", {})["rows"] == good


def test_logged_metrics_survive(start_server: Callable[..., Server]) -> None:
    draw = random.Random(5)
    server = start_server()
    experiment = server.post("/api/2.0/mlflow/experiments/create", {"name": "crash"})["experiment_id"]
    run = server.post("/api/2.0/mlflow/runs/create", {"experiment_id": experiment, "start_time": 1})["run"]
    run_id = run["info"]["run_id"]
    step = 0
    for _ in range(3):
        killer = kill_within(server, draw.uniform(50, 600))
        while True:
            metrics = [{"key": "loss", "value": step / 8, "timestamp": 1000 + step, "step": step}]
            try:
                server.post("/api/2.0/mlflow/runs/log-batch", {"run_id": run_id, "metrics": metrics})
                server.post("/api/2.0/mlflow/runs/set-tag", {"run_id": run_id, "key": "step", "value": str(step)})
            except GONE:
                break
            step += 1
        start_again(server, killer)
        history = server.get(f"/api/2.0/mlflow/metrics/get-history?run_id={run_id}&metric_key=loss&max_results=25000")
        steps = [metric["step"] for metric in history["metrics"]]
        assert steps in (list(range(step)), list(range(step + 1))), "all that was acknowledged, at most one more"
        tags = {
            tag["key"]: tag["value"]
            for tag in server.get(f"/api/2.0/mlflow/runs/get?run_id={run_id}")["run"]["data"]["tags"]
        }
        assert int(tags["step"]) in (step - 1, step)
        step = len(steps)


def test_definitions_are_applied_whole_or_not_at_all(
    start_server: Callable[..., Server], tmp_path: pathlib.Path
) -> None:
    draw = random.Random(3)
    server = start_server()
    files = shop.write_definitions(tmp_path / "definitions")
    text = (files / "data.yaml").read_text()

    def apply(hours: int) -> dict[str, Any]:
        changed = text.replace("window: 24h", f"window: {hours}h").replace("ttl: 6h", f"ttl: {hours}h")
        return server.post(
            "/api/v1/apply", {"files": [{"path": "data.yaml", "folder": "/", "text": changed}], "dry_run": False}
        )

    apply(1)
    hours = 1
    for _ in range(3):
        killer = kill_within(server, draw.uniform(20, 400))
        while True:
            try:
                apply(hours + 1)
            except GONE:
                break
            hours += 1
        start_again(server, killer)
        body = {"path": "data.yaml", "folder": "/"}
        matching = []
        for guess in (hours, hours + 1):
            changed = text.replace("window: 24h", f"window: {guess}h").replace("ttl: 6h", f"ttl: {guess}h")
            answer = server.post("/api/v1/apply", {"files": [{**body, "text": changed}], "dry_run": True})
            if answer["changes"] == []:
                matching.append(guess)
        assert len(matching) == 1, "the definitions in force are one whole set: the last acknowledged or the next"
        hours = matching[0]


def serving(server: Server, folder: pathlib.Path) -> None:
    """A model in production, the short way."""
    rows = shop.history(12)
    server.cli("apply", str(shop.write_definitions(folder / "definitions")))
    server.post("/api/v1/clock", {"now": shop.START + 12 * shop.DAY})
    for name in ("payments", "orders", "outcomes"):
        server.cli("ingest", name, str(shop.write_csv(folder / f"{name}.csv", getattr(rows, name))))
    span = ["--from", shop.text(shop.START + shop.DAY), "--to", shop.text(shop.START + 11 * shop.DAY)]
    dataset = json.loads(server.cli("dataset", "build", "loss", *span, "--json").stdout)["dataset"]
    job = json.loads(server.cli("train", "loss", "--dataset", dataset, "--json").stdout)["id"]
    server.cli("model", "register", "loss", "--job", job)
    for stage in ("staging", "canary", "production"):
        server.cli("model", "promote", "loss", "1", stage, "--reason", "for the tests")
    server.cli("deploy", "loss", "1", "--reason", "for the tests")


QUESTION = {"entities": {"customer": "c01"}, "features": {"channel": "app", "price": 10}}


def test_labels_and_deployments_survive(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    draw = random.Random(9)
    server = start_server("--clock", "manual")
    serving(server, tmp_path)
    first = server.post("/predict/loss", QUESTION)
    known = server.get(f"/predictions/{first['prediction_id']}/why")
    predictions = server.post("/predict/loss", {"instances": [QUESTION] * 400})["predictions"]
    server.get(f"/predictions/{predictions[-1]['prediction_id']}/why")  # by now all of them are in the log
    labelled: dict[str, int] = {}
    waiting = [entry["prediction_id"] for entry in predictions]
    for _ in range(3):
        killer = kill_within(server, draw.uniform(20, 300))
        while waiting:
            value = len(labelled) % 2
            try:
                assert server.post("/labels", {"prediction_id": waiting[0], "label": value}) == {"accepted": 1}
            except GONE:
                break
            labelled[waiting.pop(0)] = value
        start_again(server, killer)
        answer = server.post("/predict/loss", QUESTION)
        assert (answer["model_version"], answer["prediction"]) == (1, first["prediction"]), "it serves what it served"
        for id in draw.sample(sorted(labelled), min(10, len(labelled))):
            assert server.get(f"/predictions/{id}/why")["label"] == labelled[id]
    if waiting:  # the label whose answer was lost is sent again, as a client does; it counts once
        assert server.post("/labels", {"prediction_id": waiting[0], "label": 1}) == {"accepted": 1}
        labelled[waiting[0]] = 1
    again = server.get(f"/predictions/{first['prediction_id']}/why")
    assert again == known | {"label": again["label"], "label_time": again["label_time"]}
    one = json.loads(server.cli("replay", "loss", "--count", "50", "--json").stdout)
    assert one["compared"] == one["equal"] >= 45
    # The monitor counts what the log holds, however often it was cut off with its platform.
    server.post("/api/v1/clock", {"now": shop.START + 15 * shop.DAY})
    end = time.monotonic() + 20
    while not (windows := server.get("/api/v1/monitors/loss/windows")["windows"]) and time.monotonic() < end:
        time.sleep(0.1)
    server.wait_idle()
    windows = server.get("/api/v1/monitors/loss/windows")["windows"]
    status = server.get("/api/v1/status")
    assert sum(w["rows"] for w in windows) == status["predictions"]
    assert sum(w["labelled"] for w in windows) == len(labelled)


def test_a_job_that_lost_its_platform_says_so(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    server = start_server("--clock", "manual")
    rows = shop.history(4, orders_per_day=30)
    slow = "import os, time\nopen('started', 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    definitions = shop.write_definitions(tmp_path / "definitions", train=slow)
    server.cli("apply", str(definitions))
    server.post("/api/v1/clock", {"now": shop.START + 6 * shop.DAY})
    for name in ("payments", "orders", "outcomes"):
        server.cli("ingest", name, str(shop.write_csv(tmp_path / f"{name}.csv", getattr(rows, name))))
    span = ["--from", shop.text(shop.START), "--to", shop.text(shop.START + 4 * shop.DAY)]
    dataset = json.loads(server.cli("dataset", "build", "loss", *span, "--json").stdout)["dataset"]
    _, started = server.request("POST", "/training-jobs", {"model": "loss", "dataset": dataset})
    end = time.monotonic() + 60
    while not (definitions / "started").exists() or not (definitions / "started").read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    process = int((definitions / "started").read_text())
    server.kill()
    server.start()
    end = time.monotonic() + 60
    while server.get(f"/training-jobs/{started['id']}")["state"] != "lost" and time.monotonic() < end:
        time.sleep(0.1)
    while is_running(process) and time.monotonic() < end:
        time.sleep(0.1)
    job = server.get(f"/training-jobs/{started['id']}")
    assert job["state"] == "lost"
    assert not is_running(process), "what the job started is ended with it"
    where = f"/api/2.0/mlflow/runs/get?run_id={job['run_id']}"
    while server.get(where)["run"]["info"]["status"] == "RUNNING" and time.monotonic() < end:
        time.sleep(0.1)
    assert server.get(where)["run"]["info"]["status"] in ("FAILED", "KILLED")


def test_sigterm_answers_the_requests_in_hand(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    server = start_server()
    server.cli("apply", str(shop.write_definitions(tmp_path / "definitions")))
    answers: list[tuple[int, Any]] = []
    acknowledged: list[int] = []
    stop = threading.Event()

    def push(worker: int) -> None:
        number = 0
        while not stop.is_set():
            rows = [
                {"payment": f"{worker}.{number}.{n}", "paid_at": shop.START, "known_at": shop.START,
                 "customer": "c1", "amount": 1.0}
                for n in range(200)
            ]  # fmt: skip
            try:
                status, answer = server.request("POST", "/sources/payments/events", rows)
            except GONE as error:
                answers.append((0, error))
                return
            answers.append((status, answer))
            if status == 200:
                acknowledged.append(answer["accepted"])
            number += 1

    workers = [threading.Thread(target=push, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    time.sleep(1)
    assert server.process is not None
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    code = server.process.wait(timeout=40)
    seconds = time.monotonic() - began
    stop.set()
    for worker in workers:
        worker.join()
    assert code == 0 and seconds < 8, (code, seconds)
    server.process = None
    # A request in hand is answered; one that came too late finds a closed door, never a half answer.
    for status, answer in answers:
        if status == 0:
            reason = getattr(answer, "reason", answer)
            assert isinstance(
                reason, ConnectionRefusedError | ConnectionResetError | BrokenPipeError | http.client.RemoteDisconnected
            ), answer
        else:
            assert status in (200, 503), answer
    server.start()
    rows, _ = rows_of(server, "payments")
    assert rows >= sum(acknowledged)
    assert rows - sum(acknowledged) <= 4 * 200


def test_durable_answers_are_never_unknown(start_server: Callable[..., Server], tmp_path: pathlib.Path) -> None:
    """Under `prediction_log: durable` an answer that was given can be explained after any `kill -9`."""
    draw = random.Random(11)
    server = start_server("--clock", "manual")
    serving(server, tmp_path)
    folder = tmp_path / "definitions"
    model = (folder / "model.yaml").read_text()
    (folder / "model.yaml").write_text(
        model.replace("sticky_by: [customer]", "sticky_by: [customer]\nprediction_log: durable")
    )
    server.cli("apply", str(folder))
    given: list[str] = []
    for _ in range(4):
        killer = kill_within(server, draw.uniform(100, 500))
        while True:
            try:
                given.append(server.post("/predict/loss", QUESTION)["prediction_id"])
            except GONE:
                break
        start_again(server, killer)
        for id in given[-20:]:
            assert server.get(f"/predictions/{id}/why")["prediction_id"] == id
    assert len(given) > 40
