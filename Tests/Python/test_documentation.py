"""What the pages say is so: links lead somewhere, tables name what the program has, examples are accepted."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml
from conftest import ROOT, Server

PAGES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout.split()
)
EXAMPLES = ROOT / "examples" / "flights"


def first_cells(page: str, heading: str) -> list[str]:
    """The code in the first cells of the table below a line that begins with `heading`."""
    text = (ROOT / page).read_text(encoding="utf-8").split(heading, 1)[1]
    table = re.split(r"\n\n(?!\|)", text[text.index("\n|") + 1 :])[0]
    return re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Any) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    missing = [
        target
        for target in targets
        if target and not re.match(r"[a-z]+:", target) and not (page.parent / target).exists()
    ]
    assert not missing


def test_every_decision_is_in_the_index() -> None:
    index = (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")
    records = [path.name for path in (ROOT / "docs/adr").glob("[0-9]*.md")]
    assert len(records) > 1
    assert not [name for name in records if name not in index]


def test_the_settings_are_those_of_the_program() -> None:
    source = (ROOT / "Sources/Apps/bottega/Settings.swift").read_text(encoding="utf-8")
    keys = re.findall(r'"([a-z.]+)"', source.split("static let keys = [", 1)[1].split("]", 1)[0])
    assert keys
    assert first_cells("docs/operations.md", "## Settings") == keys


def test_the_metrics_are_those_of_the_server(server: Server) -> None:
    documented = first_cells("docs/operations.md", "| Metric |")
    status, page = server.request("GET", "/metrics")
    assert status == 200
    # What the monitor says is there once it has spoken.
    monitor = {f"bottega_monitor_{name}" for name in ("heartbeat_age_seconds", "labels_total", "labels_waiting")}
    answered = set(re.findall(r"^# TYPE (\w+)", page, re.MULTILINE)) | monitor
    assert set(documented) == answered
    assert len(set(documented)) == len(documented)


def test_every_target_is_in_the_table_of_the_rings() -> None:
    manifest = (ROOT / "Package.swift").read_text(encoding="utf-8")
    table = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("## Processes")[0]
    targets = re.findall(r'(?:\bmodule\(|\.executableTarget\(|\.systemLibrary\()\s*(?:name: )?"([^"]+)"', manifest)
    assert len(targets) > 20
    assert not [target for target in targets if f"`{target}`" not in table]


def test_swift_files_that_the_pages_name_exist() -> None:
    """By the end of their path: `Online/Predictor.swift` is any file of that name in a folder of that name."""
    known = [
        "/Package.swift",
        *(f"/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "Sources").rglob("*.swift")),
    ]
    for page in PAGES:
        for path in re.findall(r"`([\w/+-]+\.swift)`", page.read_text(encoding="utf-8")):
            assert any(name.endswith(f"/{path}") for name in known), f"{page.name} names {path}"


def plan(server: Server, files: list[tuple[str, str]]) -> tuple[int, Any]:
    body = {"files": [{"path": path, "folder": str(EXAMPLES), "text": text} for path, text in files], "dry_run": True}
    return server.request("POST", "/api/v1/apply", body)


def documents(text: str) -> dict[tuple[str, str], str]:
    """YAML documents as they are written, by kind and name."""
    parts = re.split(r"^---$", text, flags=re.MULTILINE)
    return {(document["kind"], document["name"]): part for part in parts if (document := yaml.safe_load(part))}


def test_the_example_of_each_kind_is_accepted(server: Server) -> None:
    """Each example stands in for the definition of that name in the flights example, or beside it."""
    compiler = (ROOT / "Sources/Core/Definitions/DefinitionCompiler.swift").read_text(encoding="utf-8")
    kinds = re.findall(r'"(\w+)"', compiler.split("static let kinds = [", 1)[1].split("]", 1)[0])
    examples = [item for block in blocks("docs/definitions.md", "yaml") for item in documents(block).items()]
    assert sorted({kind for (kind, _), _ in examples}) == sorted(kinds)
    flights: dict[tuple[str, str], str] = {}
    for path in sorted(EXAMPLES.glob("*.yaml")):
        flights |= documents(path.read_text(encoding="utf-8"))
    for (kind, name), text in examples:
        # The source is shorter than what the views of the flights need.
        files = {"example": text} if kind == "Source" else {**flights, (kind, name): text}
        status, answer = plan(server, [(str(key), part) for key, part in files.items()])
        assert status == 200, (kind, answer)


def test_the_view_of_the_readme_is_that_of_the_example() -> None:
    (view,) = [yaml.safe_load(block) for block in blocks("README.md", "yaml")]
    known = [
        document
        for document in yaml.safe_load_all((EXAMPLES / "features.yaml").read_text(encoding="utf-8"))
        if (document["kind"], document["name"]) == (view["kind"], view["name"])
    ]
    assert len(known) == 1
    assert all(feature in known[0]["features"] for feature in view["features"])
    assert (view["entities"], view["source"]) == (known[0]["entities"], known[0]["source"])
