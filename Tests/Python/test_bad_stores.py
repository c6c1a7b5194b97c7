"""Stores that were damaged, taken away or written by a later version: said at the start, nothing is overwritten."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import sqlite3
import struct
import subprocess
from collections.abc import Callable, Iterator

import pytest
import shop
from bad_input import EVENT, refuses
from conftest import Server, until


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, binary: str) -> Iterator[pathlib.Path]:
    """The data directory of a server that has rows and has ended."""
    folder = tmp_path_factory.mktemp("kept")
    server = Server(folder / "data", "--clock", "manual").start()
    server.post("/api/v1/clock", {"now": shop.START + shop.DAY})
    server.cli("apply", str(shop.write_definitions(folder / "definitions")))
    rows = [EVENT | {"payment": f"p{number}", "customer": f"c{number % 7}"} for number in range(500)]
    assert server.request("POST", "/sources/payments/events", rows)[0] == 200
    server.wait_idle()
    assert server.stop() == 0
    yield folder / "data"


def up(binary: str, data: pathlib.Path) -> subprocess.CompletedProcess[str]:
    command = [binary, "up", "--data-dir", str(data), "--port", "0", "--clock", "manual"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def garbage(path: pathlib.Path) -> None:
    for extra in path.parent.glob(f"{path.name}-*"):  # from which SQLite would make it whole again
        extra.unlink()
    path.write_bytes(b"this is something else, and long enough to be looked at " * 400)


def cut(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:6000])


def nothing(path: pathlib.Path) -> None:
    """As after a file system that lost what was not its own: the log beside it is whole."""
    for extra in path.parent.glob(f"{path.name}-*"):
        extra.unlink()
    path.write_bytes(b"")


def later_format(path: pathlib.Path) -> None:
    """Both first pages of LMDB say the version of its format after the magic number."""
    content = bytearray(path.read_bytes())
    for page in (0, 4096):
        assert struct.unpack_from("<I", content, page + 16)[0] == 0xBEEFC0DE
        struct.pack_into("<I", content, page + 20, 999)
    path.write_bytes(content)


def later_tables(path: pathlib.Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO metadata_migration VALUES ('registry-99', 'CREATE TABLE later (a TEXT)')")
    database.close()


def folder_instead(path: pathlib.Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("metadata.sqlite", garbage, ["metadata.sqlite"]),
        ("metadata.sqlite", nothing, ["metadata.sqlite", "missing or empty", "backup"]),
        ("metadata.sqlite", later_tables, ["metadata.sqlite", "later version", "registry-99"]),
        ("metadata.sqlite", folder_instead, ["metadata.sqlite"]),
        ("online/data.mdb", garbage, ["online"]),
        ("online/data.mdb", cut, ["online"]),
        ("online/data.mdb", later_format, ["online"]),
        ("online/data.mdb", folder_instead, ["online"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_damaged_store_is_named_and_left_as_it_is(
    name: str,
    damage: Callable[[pathlib.Path], None],
    words: list[str],
    kept: pathlib.Path,
    tmp_path: pathlib.Path,
    binary: str,
) -> None:
    data = tmp_path / "data"
    shutil.copytree(kept, data)
    path = data / name
    damage(path)
    before = path.read_bytes() if path.is_file() else None
    refuses(up(binary, data), 1, *words)
    if damage is later_tables:  # opening it folds SQLite's own journal into the file
        with sqlite3.connect(path) as database:
            [[count]] = database.execute("SELECT count(*) FROM metadata_migration WHERE name = 'registry-99'")
        database.close()
        assert count == 1
    elif before is None:
        assert path.is_dir()
    else:  # a cut file may have been made longer, to be looked at
        assert path.read_bytes().startswith(before)


def test_a_directory_has_one_server(
    kept: pathlib.Path, tmp_path: pathlib.Path, binary: str, start_server: Callable[..., Server]
) -> None:
    """So its rollouts have one controller: a second process is refused at once, one after a kill is not."""
    shutil.copytree(kept, tmp_path / "data")
    server = start_server("--clock", "manual")
    assert server.process is not None
    refuses(up(binary, tmp_path / "data"), 1, str(tmp_path / "data"), str(server.process.pid))
    assert server.get("/api/v1/status")["now"], "the first one goes on"
    server.kill()
    server.start()


def test_a_lost_online_store_is_made_again_from_the_log(
    kept: pathlib.Path, tmp_path: pathlib.Path, start_server: Callable[..., Server]
) -> None:
    shutil.copytree(kept, tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "online")
    server = start_server("--clock", "manual")
    server.wait_idle()
    answer = server.post("/features/groups/loss/get-online", {"entities": [{"customer": "c1"}]})
    assert "5" in str(answer), answer


def test_an_online_store_that_is_spoilt_under_a_running_server(trained: Server, tmp_path: pathlib.Path) -> None:
    """Its pages are overwritten: who is not in memory is answered by the fallback, counted, and nobody hears a 5xx."""
    server = Server(tmp_path / "data", "--clock", "manual")
    assert trained.stop() == 0
    shutil.copytree(trained.data_dir, server.data_dir)
    trained.start()
    server.start()
    try:
        pages = server.data_dir / "online" / "data.mdb"
        with pages.open("r+b") as file:
            size = file.seek(0, 2)
            file.seek(8192)  # behind the first two, which say where the others are
            file.write(bytes(size - 8192))

        def asked(customer: str, path: str = "/predict/loss") -> tuple[int, dict]:
            body = {"entities": {"customer": customer}, "features": {"channel": "web", "price": 20}}
            return server.request("POST", path, body)

        for path in ("/predict/loss", "/predict/loss?ages=true"):
            status, answer = asked("c01", path)
            assert (status, answer["prediction"], answer["fallback"]) == (200, 0.25, True), answer
            assert answer["fallback_cause"] == "features_unreadable", answer
        _, page = server.request("GET", "/metrics")
        assert re.search(r'fallbacks_total\{[^}]*"features_unreadable"[^}]*\} 2\b', page), page
        why = server.get(f"/predictions/{answer['prediction_id']}/why")
        assert why["fallback_cause"] == "features_unreadable", why
    finally:
        server.kill()
    shutil.rmtree(server.data_dir / "online")
    server.start()
    server.wait_idle()
    status, answer = asked("c01")
    assert (status, answer["fallback"]) == (200, False), answer
    assert server.stop() == 0


def test_a_damaged_model_takes_no_deployment_away(trained: Server, tmp_path: pathlib.Path) -> None:
    """Its fallback answers, flagged and counted, everybody can see why, and it is back when its file is."""
    server = Server(tmp_path / "data", "--clock", "manual")
    assert trained.stop() == 0
    shutil.copytree(trained.data_dir, server.data_dir)
    trained.start()
    artifact = json.loads(trained.cli("model", "show", "loss", "1", "--json").stdout)["artifact"]
    [blob] = (path for path in server.data_dir.rglob(f"*{artifact}*") if path.is_file() and "blobs" in path.parts)
    whole = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    server.start()
    try:
        body = {"entities": {"customer": "c01"}, "features": {"channel": "web", "price": 20}}
        status, answer = server.request("POST", "/predict/loss", body)
        assert (status, answer["prediction"], answer["fallback"]) == (200, 0.25, True), answer
        assert (answer["fallback_cause"], answer["fallback_reason"]) == ("model_error", "the model is not loaded")
        why = server.get(f"/predictions/{answer['prediction_id']}/why")
        assert "do not have this hash" in why["fallback_reason"], why
        [version] = server.get("/api/v1/status")["unloaded_versions"]
        assert (version["deployment"], version["version"], version["use"]) == ("loss", 1, "answers requests"), version
        for command in (["status"], ["model", "live", "loss"]):
            assert "NOT LOADED: version 1 of loss" in server.cli(*command).stdout
        status, text = server.request("GET", "/readyz")
        assert status == 200 and "degraded: version 1 of the deployment loss" in text, text
        _, page = server.request("GET", "/metrics")
        assert re.search(r'bottega_unloaded_versions\{deployment="loss",[^}]*\} 1\b', page), page
        assert re.search(r'fallbacks_total\{[^}]*"model_error"[^}]*\} 1\b', page), page
        assert server.request("GET", "/v2/models/loss/ready")[0] != 200

        blob.write_bytes(whole)
        until(lambda: server.request("POST", "/predict/loss", body)[1]["fallback"] is False, 120)
        assert server.get("/api/v1/status")["unloaded_versions"] == []
        assert server.request("GET", "/readyz") == (200, "ok\n")

        # What is in memory goes on answering when a change of the definition wants the file again, and that is said.
        blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        definitions = shop.write_definitions(tmp_path / "definitions")
        model = definitions / "model.yaml"
        plain = model.read_text()
        model.write_text(plain.replace("sticky_by: [customer]", "sticky_by: [customer]\nworkers: {timeout: 7s}"))
        server.cli("apply", str(definitions))
        status, answer = server.request("POST", "/predict/loss", body)
        assert (status, answer["fallback"], answer["model_version"]) == (200, False, 1), answer
        [version] = server.get("/api/v1/status")["unloaded_versions"]
        assert version["served_as_before"] and "do not have this hash" in version["reason"], version
        status, text = server.request("GET", "/readyz")
        assert status == 200 and "degraded: the deployment loss is served as it was defined before" in text, text
        assert "is not loaded" not in text and "would not answer after a start" in text, text
        for command in (["status"], ["model", "live", "loss"]):
            told = server.cli(*command).stdout
            assert "DEGRADED: version 1 of loss" in told and "NOT LOADED" not in told, told
        model.write_text(plain)
        server.cli("apply", str(definitions))
        assert server.request("GET", "/readyz") == (200, "ok\n")
    finally:
        server.kill()
