"""The registry from outside: MLflow's client and ours on the same versions, races, webhooks, audit, unused bytes."""

import base64
import concurrent.futures
import hashlib
import hmac
import http.server
import itertools
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
import uuid

import pytest
from conftest import ROOT, Server

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

SOURCE = "mlflow-artifacts:/0/somewhere/artifacts/model"
MLFLOW = "/api/2.0/mlflow"


@pytest.fixture
def own(tmp_path):
    """A server of the test's own, whose webhooks may go to this machine."""
    server = Server(
        tmp_path / "data", environment={"BOTTEGA_WEBHOOKS_HTTP": "true", "BOTTEGA_WEBHOOKS_PRIVATE": "true"}
    ).start()
    yield server
    if server.process is not None:
        assert server.stop() == 0


def client_of(server):
    return MlflowClient(tracking_uri=server.url, registry_uri=server.url)


def name():
    return f"model {uuid.uuid4().hex[:8]}"


def run_at_once(count, body):
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        barrier = threading.Barrier(count)

        def one(index):
            barrier.wait()
            try:
                return body(index)
            except MlflowException as error:
                return error.error_code

        return list(pool.map(one, range(count)))


# Races


def test_of_32_clients_that_make_one_name_one_succeeds(server):
    client = client_of(server)
    wanted = name()
    answers = run_at_once(32, lambda _: client.create_registered_model(wanted).name)
    assert sorted(answers) == sorted([wanted] + ["RESOURCE_ALREADY_EXISTS"] * 31)
    assert client.get_registered_model(wanted).latest_versions == []


def test_versions_registered_at_once_have_numbers_without_gaps(server):
    client = client_of(server)
    model = client.create_registered_model(name()).name
    numbers = run_at_once(16, lambda _: int(client.create_model_version(model, SOURCE).version))
    assert sorted(numbers) == list(range(1, 17))


def test_of_two_that_go_to_production_at_once_one_stays(server):
    client = client_of(server)
    model = client.create_registered_model(name()).name
    for _ in range(2):
        client.create_model_version(model, SOURCE)
    answers = run_at_once(
        2, lambda index: client.transition_model_version_stage(model, str(index + 1), "Production").current_stage
    )
    assert set(answers) <= {"Production", "Archived", "RESOURCE_CONFLICT"}, answers
    stages = sorted(client.get_model_version(model, number).current_stage for number in ("1", "2"))
    assert stages == ["Archived", "Production"] or stages.count("Production") == 1
    identity = server.get(f"/api/v1/models/{model.replace(' ', '%20')}")["versions"][0]["model"]
    status, live = server.request("GET", f"/api/v1/models/{identity}/live")
    assert status == 200 and live["champion"] in (1, 2)


# Names, searches


def test_what_mlflow_registers_is_one_of_our_versions(server):
    client = client_of(server)
    wanted = name()
    client.create_registered_model(wanted, tags={"area": "x"})
    client.create_model_version(wanted, SOURCE, tags={"a": "1"})
    client.transition_model_version_stage(wanted, "1", "Staging")
    found = server.get(f"/api/v1/models/{wanted.replace(' ', '%20')}")
    assert [(v["version"], v["stage"]) for v in found["versions"]] == [(1, "staging")]
    identity = found["versions"][0]["model"]
    history = server.get(f"/api/v1/models/{identity}/versions/1")["transitions"]
    assert [step["to"] for step in history] == ["development", "staging"]
    actions = [e["action"] for e in server.get(f"/api/v1/audit?subject=model/{identity}/versions/1")["entries"]]
    assert actions == ["model.version.registered", "model.gates.asked", "model.stage.changed"]
    with pytest.raises(MlflowException) as failure:
        client.transition_model_version_stage(wanted, "1", "None")
    assert failure.value.error_code == "PERMISSION_DENIED"
    client.rename_registered_model(wanted, wanted + " b")
    assert server.get(f"/api/v1/models/{(wanted + ' b').replace(' ', '%20')}")["versions"][0]["model"] == identity
    client.delete_model_version(wanted + " b", "1")
    assert client.create_model_version(wanted + " b", SOURCE).version == "2", "numbers are given once"


def test_pages_cover_every_version_once(server):
    client = client_of(server)
    models = [client.create_registered_model(name()).name for _ in range(4)]

    def fill(index):
        for _ in range(60):
            client.create_model_version(models[index], SOURCE, tags={"parity": str(index % 2)})

    run_at_once(4, fill)
    seen, token = [], None
    while True:
        page = client.search_model_versions("tags.parity = '1'", max_results=50, page_token=token)
        seen += [(v.name, int(v.version)) for v in page]
        token = page.token
        if not token:
            break
    assert len(seen) == len(set(seen)) == 120
    ordered = client.search_model_versions(f"name = '{models[0]}'", order_by=["version_number ASC"], max_results=1000)
    assert [int(v.version) for v in ordered] == list(range(1, 61))
    found, token = [], None
    while True:
        page = client.search_registered_models("name LIKE 'model %'", max_results=2, page_token=token)
        found += [m.name for m in page]
        token = page.token
        if not token:
            break
    assert found == sorted(found) and set(models) <= set(found)


@pytest.mark.parametrize("text", ["' OR 1=1 --", "x'; DROP TABLE models; --", "\\", "%", "ünï", "a" * 256, "tab\there"])
def test_names_are_text_and_nothing_else(server, text):
    client = client_of(server)
    if "\t" in text:
        with pytest.raises(MlflowException) as failure:
            client.create_registered_model(text)
        assert failure.value.error_code == "INVALID_PARAMETER_VALUE"
        return
    client.create_registered_model(text, tags={"said": text})
    assert client.get_registered_model(text).tags == {"said": text}
    quoted = text.replace("'", "''")
    assert [m.name for m in client.search_registered_models(f"name = '{quoted}'")] == [text]
    client.delete_registered_model(text)


@pytest.mark.parametrize("token", ["x", "eyJvZmZzZXQiOjV9", "e30=", "A" * 9000])
def test_a_token_of_nobody_is_refused(server, token):
    for path in ("model-versions", "registered-models"):
        status, answer = server.request("GET", f"{MLFLOW}/{path}/search?page_token={token}")
        assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_earlier_models_are_taken_over(tmp_path):
    server = Server(tmp_path / "data").start()
    server.stop()
    moment = {"createdAt": 1700000000000, "updatedAt": 1700000000000}
    model = {"name": "old one", "tags": {"a": "b"}, "aliases": {"best": 3}, "nextVersion": 4, **moment}
    with sqlite3.connect(tmp_path / "data" / "metadata.sqlite") as database:
        database.execute("INSERT INTO mlflow_registry_model VALUES (?, ?)", ("old one", json.dumps(model)))
        for number, stage in [(1, "Archived"), (3, "Production")]:
            version = {"name": "old one", "version": number, "stage": stage, "source": SOURCE, "artifactURI": SOURCE}
            version |= {"tags": {"n": str(number)}, **moment}
            database.execute(
                "INSERT INTO mlflow_registry_version VALUES (?, ?, ?)", ("old one", number, json.dumps(version))
            )
    server.start()
    client = client_of(server)
    assert client.get_registered_model("old one").aliases == {"best": "3"}
    found = client.search_model_versions("name = 'old one'", order_by=["version_number ASC"])
    assert [(v.version, v.current_stage, v.tags["n"]) for v in found] == [
        ("1", "Archived", "1"),
        ("3", "Production", "3"),
    ]
    server.stop()
    server.start()
    assert len(client_of(server).search_model_versions("name = 'old one'")) == 2
    server.stop()


# Webhooks


class Receiver:
    """A real HTTP server that keeps what it is sent; answers `statuses` in turn, then 200."""

    def __init__(self, port=0):
        self.deliveries, self.statuses, outer = [], [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = outer.statuses.pop(0) if outer.statuses else 200
                names = {key.lower(): value for key, value in self.headers.items()}
                outer.deliveries.append((status, names, body))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def wait(self, count, seconds=30):
        end = time.monotonic() + seconds
        while len(self.deliveries) < count and time.monotonic() < end:
            time.sleep(0.02)
        assert len(self.deliveries) >= count, [json.loads(d[2]) for d in self.deliveries]
        return self.deliveries

    def wait_for(self, events, seconds=30):
        """Waits until all events were heard, among others and in any order: deliveries go out side by side."""
        end = time.monotonic() + seconds
        while not (heard := {json.loads(d[2])["event"] for d in list(self.deliveries)}) >= events:
            assert time.monotonic() < end, f"not heard: {events - heard}"
            time.sleep(0.02)


def signed(headers, body, secret):
    content = f"{headers['x-mlflow-delivery-id']}.{headers['x-mlflow-timestamp']}.".encode() + body
    code = base64.b64encode(hmac.new(secret.encode(), content, hashlib.sha256).digest()).decode()
    return headers["x-mlflow-signature"] == f"v1,{code}"


def test_webhooks_of_mlflow_are_signed_retried_and_survive_a_kill(own, tmp_path):
    receiver = Receiver()
    client, secret = client_of(own), "quite-secret-" + uuid.uuid4().hex
    events = [
        "registered_model.created",
        "model_version.created",
        "model_version_tag.set",
        "model_version_alias.created",
    ]
    hook = client.create_webhook("ours", receiver.url, events, secret=secret)
    assert [w.webhook_id for w in client.list_webhooks()] == [hook.webhook_id]
    assert client.test_webhook(hook.webhook_id).success
    receiver.wait(1)
    receiver.statuses = [500, 503]
    client.create_registered_model("told", tags={"k": "v"})
    receiver.wait(4)
    told = [d for d in receiver.deliveries[1:]]
    assert [d[0] for d in told] == [500, 503, 200]
    assert len({d[1]["x-mlflow-delivery-id"] for d in told}) == 1, "retries of one delivery have one identifier"
    assert all(signed(headers, body, secret) for _, headers, body in told)
    message = json.loads(told[-1][2])
    assert (message["entity"], message["action"]) == ("registered_model", "created")
    assert message["data"] == {"name": "told", "tags": {"k": "v"}, "description": None}

    receiver.close()  # nobody is there
    client.create_model_version("told", SOURCE, tags={"a": "b"})
    client.set_model_version_tag("told", "1", "key", "value")
    client.set_registered_model_alias("told", "best", "1")
    own.kill()
    again = Receiver(receiver.port)
    own.start()
    again.wait(3)
    kinds = {f"{m['entity']}.{m['action']}": m["data"] for m in (json.loads(d[2]) for d in again.deliveries)}
    assert kinds["model_version.created"]["tags"] == {"a": "b"}
    assert kinds["model_version_tag.set"] == {"name": "told", "version": "1", "key": "key", "value": "value"}
    assert kinds["model_version_alias.created"] == {"name": "told", "alias": "best", "version": "1"}
    assert secret not in own.log_path.read_text()
    assert secret not in json.dumps(own.get("/api/v1/audit"))
    for file in (tmp_path / "data").glob("metadata.sqlite*"):
        assert secret.encode() not in file.read_bytes(), "secrets are sealed"
    client_of(own).delete_webhook(hook.webhook_id)
    assert list(client_of(own).list_webhooks()) == []
    again.close()


def test_a_webhook_hears_of_every_change_and_follows_no_redirect(own):
    receiver = Receiver()
    own.post("/api/v1/webhooks", {"name": "all", "url": receiver.url, "events": ["*"]})
    receiver.statuses = [302]
    client = client_of(own)
    client.create_registered_model("m")
    client.create_model_version("m", SOURCE)
    client.transition_model_version_stage("m", "1", "Staging")
    receiver.wait_for({"webhook.created", "model.created", "model.version.registered", "model.stage.changed"})
    hook = own.get("/api/v1/webhooks")["webhooks"][0]["id"]
    end = time.monotonic() + 20
    states = ["pending"]
    while "pending" in states and time.monotonic() < end:
        time.sleep(0.1)
        deliveries = own.get(f"/api/v1/webhooks/{hook}/deliveries")["deliveries"]
        states = sorted({d["state"] for d in deliveries})
    assert states == ["delivered", "failed"], "a redirect is an end"
    receiver.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://10.1.2.3/x",
        "https://localhost/x",
        "https://169.254.169.254/latest",
        "https://[::ffff:192.168.0.1]/",
        "https://a:b@example.com/",
        "ftp://example.com/",
    ],
)
def test_addresses_inside_are_refused_by_default(server, url):
    with pytest.raises(MlflowException) as failure:
        client_of(server).create_webhook("bad", url, ["registered_model.created"])
    assert failure.value.error_code in ("INVALID_PARAMETER_VALUE", "PERMISSION_DENIED")


# Audit, unused bytes


def test_the_audit_chain_is_exported_and_verified_without_the_platform(own, tmp_path):
    client = client_of(own)
    client.create_registered_model("m")
    for _ in range(5):
        client.create_model_version("m", SOURCE)
    assert "all intact" in own.cli("audit", "verify").stdout
    assert "model.version.registered" in own.cli("audit", "list").stdout
    export = tmp_path / "audit.ndjson"
    own.cli("audit", "export", str(export))
    lines = export.read_bytes().splitlines(keepends=True)
    head = json.loads(lines[-1])["hash"]

    def verify(content, *arguments):
        export.write_bytes(b"".join(content))
        return subprocess.run(
            [sys.executable, str(ROOT / "tools" / "verify_audit.py"), str(export), *arguments], capture_output=True
        ).returncode

    assert verify(lines, "--head", head) == 0
    flipped = bytearray(lines[2])
    flipped[20] ^= 1
    assert verify([*lines[:2], bytes(flipped), *lines[3:]]) == 1
    assert verify([*lines[:2], *lines[3:]]) == 1
    assert verify([lines[1], lines[0], *lines[2:]]) == 1
    assert verify(lines[:-1], "--head", head) == 1
    own.stop()
    with sqlite3.connect(tmp_path / "data" / "metadata.sqlite") as database:
        database.execute("UPDATE audit_entries SET actor = 'somebody else' WHERE position = 3")
    own.start()
    result = own.cli("audit", "verify", check=False)
    assert result.returncode == 1 and "entry 3 was changed" in result.stdout


def test_gc_removes_what_nothing_names_and_only_that(own):

    def put(path, body):
        return own.request("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}", raw=body)

    shared, lost = os.urandom(5000), os.urandom(7000)
    for path, body in [("0/a/one", shared), ("0/a/two", shared), ("0/a/lost", lost)]:
        assert put(path, body)[0] == 200
    assert own.post("/api/v1/gc", {"dry_run": True})["unused_bytes"] == 0
    assert own.request("DELETE", "/api/2.0/mlflow-artifacts/artifacts/0/a/lost")[0] == 200
    report = own.post("/api/v1/gc", {"dry_run": True})
    blobs = {b["hash"]: b for b in report["blobs"]}
    assert blobs[hashlib.sha256(lost).hexdigest()]["count"] == 0
    assert blobs[hashlib.sha256(shared).hexdigest()]["count"] == 2
    assert (report["removed"], report["unused_bytes"], report["shared_bytes"] >= 5000) == (0, 7000, True)
    assert own.post("/api/v1/gc")["in_hand"] == 1, "it was written a moment ago: somebody may be about to name it"
    own.kill()
    own.start()
    result = own.cli("gc")
    assert "1 blobs with 7,000 bytes were removed" in result.stdout, result.stdout
    assert own.request("GET", "/api/2.0/mlflow-artifacts/artifacts/0/a/two")[0] == 200
    assert own.post("/api/v1/gc")["unused_bytes"] == 0
    assert put("0/a/lost", lost)[0] == 200
    with concurrent.futures.ThreadPoolExecutor(4) as pool:  # writers beside collections
        writes = [pool.submit(put, f"0/b/{n}", os.urandom(100)) for n in range(100)]
        for _ in range(5):
            own.post("/api/v1/gc")
        assert all(w.result()[0] == 200 for w in writes)
    for n in range(100):
        assert own.request("GET", f"/api/2.0/mlflow-artifacts/artifacts/0/b/{n}")[0] == 200


def test_no_change_goes_without_an_entry_whenever_the_process_dies(own, tmp_path):
    """Killed at any moment: what is changed afterwards is in the chain, or the chain says that it was interrupted."""
    folder = tmp_path / "definitions"
    client = client_of(own)
    run = client.create_run(client.create_experiment("e")).info.run_id

    def work():
        for number in range(1000):
            folder.mkdir(exist_ok=True)
            text = f"kind: Entity\nname: e{number}\nkeys: [k]\n"
            files = [{"path": "a.yaml", "folder": str(folder), "text": text}]
            try:
                own.request("POST", "/api/v1/apply", {"files": files})
                own.request("POST", f"{MLFLOW}/runs/{('delete', 'restore')[number % 2]}", {"run_id": run})
                own.request("POST", "/api/v1/gc", {})
            except OSError:
                return

    for pause in (0.05, 0.21, 0.5):
        worker = threading.Thread(target=work)
        worker.start()
        time.sleep(pause + 0.1)
        own.kill()
        worker.join()
        own.start()
        entries = own.get("/api/v1/audit?limit=10000")["entries"]
        applied = [e["subject"] for e in entries if e["action"] == "definitions.applied"]
        revision = own.get("/api/v1/status")["definitions_revision"]
        assert applied == [f"definitions/{number}" for number in range(1, revision + 1)]
        told = [e["action"] for e in entries if e["subject"] == f"run/{run}"]
        deleted = client_of(own).get_run(run).info.lifecycle_stage == "deleted"
        last = told[-1] if told else "run.restored"
        assert last.endswith(".interrupted") or (last == "run.deleted") == deleted, told
        with sqlite3.connect(tmp_path / "data" / "metadata.sqlite") as database:
            assert database.execute("SELECT COUNT(*) FROM audit_intents").fetchone() == (0,)
        assert own.post("/api/v1/audit/verify", {})["intact"] is True
    assert any(e["action"].startswith("blobs.collected") for e in entries)
    export = tmp_path / "audit.ndjson"
    own.cli("audit", "export", str(export))
    command = [sys.executable, str(ROOT / "tools" / "verify_audit.py"), str(export)]
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_every_byte_of_the_data_directory_is_explained(own, tmp_path):
    own.request("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/a/one", raw=os.urandom(3000))
    (tmp_path / "data" / "jobs" / "nobody").mkdir(parents=True)
    (tmp_path / "data" / "jobs" / "nobody" / "output.log").write_bytes(b"x" * 5000)
    places = {p["path"]: p for p in own.post("/api/v1/gc", {"dry_run": True})["places"]}
    assert all(p["use"] for p in places.values())
    assert not [p for p in places.values() if "not the platform's" in p["use"]], places
    assert places["jobs/nobody"]["use"].startswith("no job has this folder") and places["jobs/nobody"]["files"] == 1
    assert {"metadata.sqlite", "log/predictions", "objects/objects/blobs"} <= set(places)
    there = sum(1 for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert abs(sum(p["files"] for p in places.values()) - there) <= 5, "files come and go meanwhile"
    assert "log/predictions" in own.cli("gc", "--dry-run", "--top", "50").stdout


@pytest.mark.parametrize("path", ["../x", "a/../../x", "%2e%2e/x", "a%2f..%2f..%2fx", "%252e%252e/x"])
def test_no_path_leaves_the_artifacts(server, path):
    for place in (path, f"0/a/{path}"):
        status, _ = server.request("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{place}", raw=b"x")
        assert status in (400, 404), place
    status, answer = server.request("GET", f"/api/2.0/mlflow-artifacts/artifacts?path={path}")
    assert status in (200, 400, 404) and not (isinstance(answer, dict) and answer.get("files")), answer


def test_of_two_who_change_a_stage_at_once_both_are_told_the_truth(server):
    client = client_of(server)
    for _ in range(5):
        model = client.create_registered_model(name()).name
        client.create_model_version(model, SOURCE)
        identity = server.get(f"/api/v1/models/{model.replace(' ', '%20')}")["versions"][0]["model"]

        def change(index, identity=identity):
            body = {"stage": ("staging", "archived")[index % 2], "reason": "r"}
            return server.request("POST", f"/api/v1/models/{identity}/versions/1/stage", body)[0]

        statuses = run_at_once(4, change)
        steps = server.get(f"/api/v1/models/{identity}/versions/1")["transitions"]
        assert len(steps) == 1 + statuses.count(200), (statuses, steps)
        assert all(a["to"] == b["from"] for a, b in itertools.pairwise(steps)), (
            "each step begins where the last one ended"
        )
        assert set(statuses) <= {200, 409}


def test_the_command_line_says_what_it_means(server):
    client = client_of(server)
    name = "told_in_words"
    client.create_registered_model(name)
    client.create_model_version(name, SOURCE)
    status = dict(line.split(maxsplit=1) for line in server.cli("status").stdout.splitlines())
    assert status["definitions_revision"] == str(server.get("/api/v1/status")["definitions_revision"])
    assert server.cli("model", "label", name, "1", "1.3.2").stdout.strip() == f"{name} version 1 is called 1.3.2"
    assert "no definition describes this model" in server.cli("model", "gates", name, "1", "staging").stdout
    assert server.cli("model", "live", name).stdout.startswith(f"{name} at ")
    later = server.cli("model", "live", name, "--at", "2999-01-01T00:00:00Z", check=False)
    assert later.returncode != 0 and "lies in the future" in later.stderr
    for _ in range(55):
        client.create_model_version(name, SOURCE)
    page = server.request("GET", "/")[1]
    assert "The 50 newest" in page and page.count(f">{name}</a></td>") == 50
