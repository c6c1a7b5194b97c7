"""Definitions that are wrong in every way people find: each fault is one clear line."""

from __future__ import annotations

import pathlib
import re
import time

import pytest
import shop
from bad_input import assert_clear, refuses
from conftest import Server

BROKEN_DEFINITIONS = {
    "a misspelt key": (("window: 24h", "windw: 24h"), ["data.yaml:", "windw", "did you mean 'window'"]),
    "a misspelt kind": (
        ("kind: FeatureView\nname: fresh", "kind: FeatureVew\nname: fresh"),
        ["FeatureVew", "did you mean 'FeatureView'"],
    ),
    "a wrong type": (("range: [0, 10000]", "range: many"), ["data.yaml:", "range"]),
    "a wrong number": (("window: 24h", "window: soon"), ["data.yaml:", "window", "soon"]),
    "a missing entity": (
        ("entities: [customer]\nsource: payments\nttl", "entities: [custmer]\nsource: payments\nttl"),
        ["data.yaml:", "custmer", "did you mean 'customer'"],
    ),
    "a missing source": (("spine: orders", "spine: ordrs"), ["data.yaml:", "ordrs", "did you mean 'orders'"]),
    "a missing column": (
        ("column: amount, window: 24h", "column: amont, window: 24h"),
        ["data.yaml:", "amont", "did you mean 'amount'"],
    ),
    "a missing key": (("event_time: asked_at", "description: none"), ["data.yaml:", "event_time"]),
    "two of one name": (("name: outcomes", "name: orders"), ["data.yaml:", "orders"]),
    "a tab in the YAML": (("kind: Source\nname: orders", "kind: Source\n\tname: orders"), ["data.yaml:", "YAML"]),
    "broken YAML": (("values: [app, shop, web]", "values: [app, shop"), ["data.yaml:", "YAML"]),
}


@pytest.mark.parametrize("what", BROKEN_DEFINITIONS)
def test_a_broken_definition_is_named_with_its_line(what: str, server: Server, tmp_path: pathlib.Path) -> None:
    (old, new), words = BROKEN_DEFINITIONS[what]
    folder = shop.write_definitions(tmp_path / "definitions")
    assert shop.DATA.count(old) == 1
    (folder / "model.yaml").unlink()  # so that nothing else misses what is broken
    (folder / "data.yaml").write_text(shop.DATA.replace(old, new))
    before = server.get("/api/v1/definitions")
    for command in ("plan", "apply"):
        result = server.cli(command, str(folder), check=False)
        assert result.returncode == 2, result
        lines = result.stderr.strip().splitlines()
        assert 1 <= len(lines) <= 4, result.stderr
        assert lines[0].startswith("bottega: ")
        for line in lines:
            assert_clear(line)
        for word in words:
            assert word in result.stderr, (word, result.stderr)
        assert re.search(r"data\.yaml:\d+", lines[0]), lines[0]
    assert server.get("/api/v1/definitions") == before, "half a set is never applied"


def test_an_environment_that_is_not_there_is_told_by_the_plan(server: Server, tmp_path: pathlib.Path) -> None:
    folder = shop.write_definitions(tmp_path / "definitions")
    model = folder / "model.yaml"
    whole = model.read_text()
    for path, is_told in (("/nope", True), ("/usr", False)):
        workers = f"fallback: {{constant: 0.25}}\nworkers: {{environment: {path}}}"
        model.write_text(whole.replace("fallback: {constant: 0.25}", workers))
        told = server.cli("plan", str(folder)).stdout
        assert ("warning: Deployment/loss: 'workers: {environment: /nope}' is not there" in told) is is_told, told


def test_a_plan_refuses_what_apply_refuses(trained: Server, tmp_path: pathlib.Path) -> None:
    folder = shop.write_definitions(tmp_path / "definitions")
    model = folder / "model.yaml"
    whole = model.read_text()
    model.write_text(whole.replace("fallback: {constant: 0.25}", "fallback: [{version: 77}, {constant: 0.05}]"))
    for command in ("plan", "apply"):
        refuses(trained.cli(command, str(folder), check=False), 2, "names version 77 of the model 'loss'")
    model.write_text(whole.replace("fallback: {constant: 0.25}", "fallback: [{version: 1}, {constant: 0.05}]"))
    assert "1 change would be applied" in trained.cli("plan", str(folder)).stdout


def test_every_fault_is_told_at_once(server: Server, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: Entity\nname: x\nkeyz: [a]\n---\nkind: Entity\nname: 1 2\nkeys: [a]\n")
    result = server.cli("plan", str(tmp_path), check=False)
    assert result.returncode == 2
    assert "a.yaml:3" in result.stderr and "a.yaml:6" in result.stderr, result.stderr


def test_a_cycle_is_shown(server: Server, tmp_path: pathlib.Path) -> None:
    services = "".join(
        f"---\nkind: FeatureService\nname: {name}\nincludes: [{other}]\nviews: []\n"
        for name, other in (("one", "two"), ("two", "three"), ("three", "one"))
    )
    (tmp_path / "cycle.yaml").write_text(services)
    result = server.cli("apply", str(tmp_path), check=False)
    assert result.returncode == 2
    assert "cycle" in result.stderr and "one → " in result.stderr, result.stderr


def test_folders_that_hold_nothing(server: Server, tmp_path: pathlib.Path) -> None:
    refuses(server.cli("apply", str(tmp_path), check=False), 2, str(tmp_path), "no .yaml file")
    refuses(server.cli("apply", str(tmp_path / "none"), check=False), 2, "none", "no such file")
    (tmp_path / "latin.yaml").write_bytes(b"kind: Entity\nname: caf\xe9\n")
    refuses(server.cli("apply", str(tmp_path), check=False), 2, "latin.yaml", "UTF-8")
    (tmp_path / "latin.yaml").write_text("- just\n- a list\n")
    refuses(server.cli("apply", str(tmp_path), check=False), 2, "latin.yaml:1")


def test_an_alias_bomb_is_refused_in_time(server: Server, tmp_path: pathlib.Path) -> None:
    bomb = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"] + [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (tmp_path / "bomb.yaml").write_text("\n".join(bomb))
    began = time.monotonic()
    result = server.cli("plan", str(tmp_path), check=False)
    assert result.returncode == 2 and time.monotonic() - began < 10, result
