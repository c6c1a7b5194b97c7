"""Runs the whole loop on the flights that left New York in 2013: `make demo`, or `make demo FAST=1` for two months.

Raw records become features, features a training set, the training set a model, the model answers half a year of live
traffic, the monitor watches it, and what drifts is trained anew. Everything goes through the `bottega` program and its
HTTP API; what the page and the table at the end say comes from their answers.

Usage: python tools/demo.py --bottega .build/release/bottega [--fast] [--work DIR] [--out demo-output]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "sdk/python/src"), str(ROOT / "examples/flights")]

import bottega  # noqa: E402  (the client from this checkout, installed or not)
from demolib.console import Console, clock_text  # noqa: E402
from demolib.facts import Facts  # noqa: E402
from demolib.replay import Replay, Tally, day_text  # noqa: E402
from demolib.report import render  # noqa: E402
from demolib.server import CommandFailed, Commands, Server, base_environment  # noqa: E402

MODEL = "flight_delay"
TRAINING_SET = "flight_delay"
MONITOR = "flight_delay"
DEPLOYMENT = "flight_delay"


@dataclass(frozen=True)
class Plan:
    """How much of the year to use."""

    name: str
    start: str
    train_from: str  # a little later: the first days only fill the windows
    live_from: str
    end: str
    overlay: str | None


FULL = Plan("full", "2013-01-01", "2013-01-08", "2013-07-01", "2014-01-01", None)
FAST = Plan("fast", "2013-06-01", "2013-06-04", "2013-07-01", "2013-08-01", "examples/flights-fast")


class Demo:
    """The steps, in order; each leaves what the report needs in `facts`."""

    def __init__(self, plan: Plan, work: Path, server: Server, console: Console) -> None:
        self.plan, self.work, self.server, self.console = plan, work, server, console
        self.commands = Commands(server, console)
        self.facts: dict[str, Any] = {"plan": plan.name, "machine": f"{os.cpu_count()} cores, {platform.machine()}"}
        self.prepared: dict[str, Any] = {}
        self.dataset = ""
        self.job = ""
        self.version = 0
        self._seen_alerts: set[str] = set()
        self._seen_steps: set[str] = set()

    def run(self, client_connections: int = 8) -> None:
        self.prepare()
        self.start()
        with bottega.Client(self.server.url, connections=client_connections, timeout=600.0) as client:
            self.client = client
            self.apply()
            self.ingest()
            self.build_dataset()
            self.train()
            self.promote()
            self.replay()
            self.explain()
            self.certify()
            self.collect()
        with self.console.step("Stop the server: it drains, then ends") as step:
            code = self.server.stop()
            if code != 0:
                raise CommandFailed(f"the server ended with code {code} after SIGTERM")
            step.note = "exit code 0"

    def prepare(self) -> None:
        plan = self.plan
        with self.console.step("Turn the package's table into what the source systems would have sent") as step:
            out = self.work / "data"
            done = out / "prepared.json"
            wanted = [plan.start, plan.live_from, plan.end]
            if done.exists() and json.loads(done.read_text()).get("arguments") == wanted:
                self.prepared = json.loads(done.read_text())
                step.note = "there already; "
            else:
                import prepare

                self.prepared = prepare.prepare(out, plan.start, plan.live_from, plan.end)
                done.write_text(json.dumps({**self.prepared, "arguments": wanted}, indent=2) + "\n")
            rows = sum(file["rows"] for file in self.prepared["files"])
            counts = self.prepared["stream"]["counts"]
            self.facts["prepared"] = self.prepared
            step.note += (
                f"{len(self.prepared['files'])} files with {rows:,} rows, and a stream with "
                f"{counts['predictions']:,} questions and {counts['labels']:,} labels"
            )

    def start(self) -> None:
        with self.console.step("Start the platform on an empty folder, with a clock that we move") as step:
            self.console.command(" ".join(["bottega", *self.server.command_line()[len(self.server.program) :]]))
            began = time.monotonic()
            url = self.server.start()
            self.facts["ready_milliseconds"] = (time.monotonic() - began) * 1000
            self.console.memory.watch(self.server.process_id)
            step.note = f"ready at {url} after {self.facts['ready_milliseconds']:.0f} ms"

    def apply(self) -> None:
        with self.console.step("Register entities, sources, views, the model, its deployment and monitor") as step:
            self.client.set_clock(self.prepared["live_from"])
            folder = ROOT / "examples/flights"
            if self.plan.overlay:
                # The training command runs in the folder of its definition, so the script comes along.
                folder = self.work / "definitions"
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                for path in [*(ROOT / "examples/flights").iterdir(), *(ROOT / self.plan.overlay).iterdir()]:
                    if path.suffix in (".yaml", ".py"):
                        shutil.copy(path, folder / path.name)
            answer = self.commands.run("apply", shorten(folder))
            self.facts["definitions"] = answer.get("definitions", len(answer.get("changes", [])))
            step.note = f"{self.facts['definitions']} definitions"

    def ingest(self) -> None:
        with self.console.step("Load the history under its contracts") as step:
            loads: list[dict[str, Any]] = []
            files = self.prepared["files"]
            began = time.monotonic()
            for index, file in enumerate(files):
                path = shorten(self.work / "data" / file["path"])
                quiet = index not in (0, len(files) - 1)
                loads.append(self.commands.run("ingest", file["source"], path, quiet=quiet))
                rows = sum(load.get("rows_read", 0) for load in loads)
                rate = rows / (time.monotonic() - began)
                self.console.progress(f"{index + 1}/{len(files)} files, {rows:,} rows, {rate:,.0f} rows/s")
            by_source: dict[str, dict[str, Any]] = {}
            for load in loads:
                total = by_source.setdefault(
                    load["source"],
                    {"files": 0, "rows": 0, "accepted": 0, "quarantined": 0, "reasons": {}, "warnings": {}},
                )
                total["files"] += 1
                total["rows"] += load.get("rows_read", 0)
                total["accepted"] += load.get("rows_accepted", 0)
                total["quarantined"] += load.get("rows_quarantined", 0)
                for key in ("reasons", "warnings"):
                    for reason, count in (load.get(key) or {}).items():
                        total[key][reason] = total[key].get(reason, 0) + count
            for source, total in by_source.items():
                why = ", ".join(f"{count} {reason}" for reason, count in total["reasons"].items())
                kept_apart = f"{total['quarantined']:>4} quarantined{': ' + why if why else ''}"
                self.console.line(f"{source:<18} {total['rows']:>9,} rows, {kept_apart}")
            again = files[-1]
            before = self.client.sources.list()
            repeat = self.commands.run("ingest", again["source"], shorten(self.work / "data" / again["path"]))
            changed = strip_times(before) != strip_times(self.client.sources.list())
            if changed or not (repeat.get("already_loaded") or repeat.get("rows_accepted") == 0):
                raise CommandFailed(f"loading {again['path']} twice changed something: {json.dumps(repeat)[:300]}")
            self.console.line(
                f"the same file again: {'known already' if repeat.get('already_loaded') else 'no new row'}"
            )
            self.facts["ingest"] = {"sources": by_source, "seconds": time.monotonic() - began}
            rows = sum(total["rows"] for total in by_source.values())
            step.note = f"{rows:,} rows, {sum(total['quarantined'] for total in by_source.values()):,} quarantined"

    def build_dataset(self) -> None:
        with self.console.step("Build the point-in-time training set") as step:
            answer = self.commands.run(
                "dataset", "build", TRAINING_SET, "--from", self.plan.train_from, "--to", self.plan.live_from
            )
            self.dataset = answer["dataset"]
            self.facts["dataset"] = {key: value for key, value in answer.items() if key != "manifest"}
            slices = ", ".join(f"{name} {count:,}" for name, count in answer.get("slices", {}).items())
            step.note = f"{answer.get('rows', 0):,} rows ({slices}) named {self.dataset[:12]}"

    def train(self) -> None:
        with self.console.step("Train with XGBoost as a job, logging with the mlflow client") as step:
            answer = self.commands.run("train", MODEL, "--dataset", self.dataset)
            self.job = answer["id"]
            self.facts["job"] = answer
            step.note = f"job {self.job}, run {str(answer.get('run_id', ''))[:12]}"

    def promote(self) -> None:
        with self.console.step("Register the version and take it through its gates") as step:
            answer = self.commands.run("model", "register", MODEL, "--job", self.job)
            self.version = int(answer["version"])
            reasons = {
                "staging": "first version; may see a copy of the traffic",
                "canary": "no champion yet; the gates of the test slice hold",
                "production": "first model for the summer; better than no forecast",
            }
            for stage, reason in reasons.items():
                decision = self.commands.run(
                    "model", "promote", MODEL, str(self.version), stage, "--reason", reason, may_fail=True
                )
                gates = decision.get("gates") or []
                for gate in gates:
                    observed = gate.get("observed")
                    seen = (
                        f", observed {observed:.4g}"
                        if isinstance(observed, int | float)
                        else f", {observed}"
                        if observed
                        else ""
                    )
                    self.console.line(f"  {'✓' if gate.get('passed') else '✗'} {gate.get('gate')}{seen}")
                if not all(gate.get("passed") for gate in gates) or "error" in decision:
                    raise CommandFailed(f"version {self.version} was refused for {stage}: {json.dumps(decision)[:600]}")
            self.commands.run("deploy", MODEL, str(self.version), "--reason", "first version, all of the traffic")
            step.note = f"version {self.version} is in production and answers"

    def replay(self) -> None:
        live = day_text(milliseconds(self.prepared["live_from"]))
        with self.console.step(f"Replay {live} to {self.plan.end} as live traffic over HTTP") as step:
            total = self.prepared["stream"]["counts"]["predictions"]

            def progress(moment: int, tally: Tally) -> None:
                rate = tally.predictions / tally.seconds if tally.seconds else 0.0
                self.console.progress(
                    f"{day_text(moment)}  {tally.predictions / total:>4.0%}  {tally.predictions:,} predictions "
                    f"({rate:,.0f}/s), {tally.events:,} events, {tally.labels:,} labels, {clock_text(tally.seconds)}"
                )

            replay = Replay(self.client, MODEL, on_progress=progress, on_day=self._end_of_day)
            tally = replay.run(self.work / "data" / self.prepared["stream"]["path"])
            self.tally = tally
            self.facts["live"] = tally.as_json()
            live_facts = self.facts["live"]
            if tally.failures:
                self.console.line(f"failed: {dict(tally.failures)}")
            step.note = (
                f"{tally.predictions:,} predictions ({tally.predictions / tally.seconds:,.0f}/s), "
                f"{tally.events:,} events, {tally.labels:,} labels; "
                f"p50 {live_facts['p50_milliseconds'] or 0:.2f} ms, p99 {live_facts['p99_milliseconds'] or 0:.2f} ms"
            )

    def _end_of_day(self, midnight: int, _: Tally) -> None:
        """Tells what the platform decided since yesterday."""
        for alert in self.client.alerts():
            key = str(alert.get("id") or json.dumps(alert, sort_keys=True))
            if key not in self._seen_alerts:
                self._seen_alerts.add(key)
                name = f"{alert.get('severity', '')} {alert.get('rule', '')}"
                self.console.line(f"{day_text(midnight)}  alert {name}: {alert.get('message', '')}")
        for workflow in self.client.workflows():
            for index, entry in enumerate(workflow.get("steps", [])):
                key = f"{workflow.get('id')} {index} {entry.get('name')} {entry.get('state')}"
                if key not in self._seen_steps and entry.get("state") not in (None, "waiting", "pending"):
                    self._seen_steps.add(key)
                    reason = entry.get("reason") or ""
                    self.console.line(
                        f"{day_text(midnight)}  retraining {workflow.get('id', '')}: {entry.get('name')} "
                        f"{entry.get('state')}{' (' + reason + ')' if reason else ''}"
                    )

    def explain(self) -> None:
        if not self.tally.explain:
            raise CommandFailed("no late flight was predicted by any version; there is nothing to explain")
        newest = max(self.tally.explain)
        probability, identifier, flight = self.tally.explain[newest]
        with self.console.step(f"Ask why flight {flight} got {probability:.0%}") as step:
            self.facts["why"] = self.commands.run("why", identifier)
            self.facts["explained"] = {
                "flight": flight,
                "probability": probability,
                "id": identifier,
                "version": newest,
            }
            step.note = f"version {newest} said {probability:.1%}; the flight was late"
        with self.console.step("Compute 1,000 predictions of all versions again, bit for bit") as step:
            answer = self.commands.run("replay", MODEL, "--count", "1000")
            self.facts["replay"] = answer
            if answer.get("equal") != answer.get("compared") or not answer.get("compared"):
                raise CommandFailed(f"predictions differ when computed again: {json.dumps(answer)[:600]}")
            step.note = f"{answer['equal']:,} of {answer['compared']:,} equal, by version {answer.get('versions')}"

    def certify(self) -> None:
        with self.console.step("Compute what was served again with the offline engine: a parity certificate") as step:
            answer = self.commands.run("features", "parity", "--model", MODEL, "--predictions", "2000")
            self.facts["parity"] = answer
            if not answer.get("holds"):
                raise CommandFailed(f"served and offline values differ: {json.dumps(answer.get('differences'))[:600]}")
            left_out = f", {answer['skipped']:,} predictions left out" if answer.get("skipped") else ""
            step.note = (
                f"compared {answer['compared']:,}, different {answer['different']:,}: {answer['predictions']:,} "
                f"predictions and {answer['probes']:,} probes, {len(answer['features'])} features{left_out}"
            )

    def collect(self) -> None:
        with self.console.step("Collect what the monitor, the registry and the deployment recorded"):
            model = self.client.models.get(MODEL)
            numbers = sorted(int(version["version"]) for version in model.get("versions", []))
            self.facts |= {
                "windows": self.client.monitors.windows(MONITOR),
                "alerts": self.client.alerts(),
                "workflows": self.client.workflows(),
                "model": model,
                "versions": [self.client.models.version(MODEL, number) for number in numbers],
                "deployment": self.client.deployments.get(DEPLOYMENT),
                "sources": self.client.sources.list(),
                "status": self.client.status(),
            }


def milliseconds(text: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(text).timestamp() * 1000)


def shorten(path: Path) -> str:
    """The path from here if it lies below, so that the command can be read and repeated."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def strip_times(sources: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted((str(source.get("name")), source.get("rows"), source.get("quarantined")) for source in sources)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the whole loop on a year of flights.")
    parser.add_argument("--bottega", default=str(ROOT / ".build/release/bottega"), help="the program")
    parser.add_argument("--fast", action="store_true", help="June as history, July live; a few minutes")
    parser.add_argument("--work", type=Path, default=ROOT / ".demo", help="folder for data and the platform's files")
    parser.add_argument("--out", type=Path, default=ROOT / "demo-output", help="folder for the report")
    arguments = parser.parse_args()
    plan = FAST if arguments.fast else FULL
    console = Console()
    work: Path = arguments.work.resolve() / plan.name
    data = work / "platform"
    shutil.rmtree(data, ignore_errors=True)
    # Training jobs and the offline engine come from the environment that runs this script.
    environment = base_environment(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    server = Server([arguments.bottega], data, work / "server.log", environment)
    demo = Demo(plan, work, server, console)

    def interrupted(number: int, _: Any) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    signal.signal(signal.SIGTERM, interrupted)
    try:
        demo.run()
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, bottega.ConnectionFailed):
            time.sleep(0.5)  # a server that has just died needs a moment to be seen as dead
        ended = server.process_id != 0 and not server.is_running()
        if not isinstance(error, CommandFailed | bottega.BottegaError | OSError | KeyboardInterrupt):
            traceback.print_exc()
        server.stop()
        step = f"step {console.steps[-1].number} ({console.steps[-1].name})" if console.steps else "start"
        reason = str(error) or type(error).__name__
        if isinstance(error, KeyboardInterrupt):
            reason = "interrupted"
        print(f"\nThe demo failed at {step}:\n{reason}", file=sys.stderr)
        if ended:
            print("The server had ended by itself.", file=sys.stderr)
        print(f"\nEnd of the server's log ({server.log}):\n{server.log_tail()}", file=sys.stderr)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    finally:
        server.stop()
    facts = demo.facts
    facts["steps"] = console.steps_as_json()
    facts["seconds"] = time.monotonic() - console.began
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "report.json").write_text(json.dumps(facts, indent=1, default=str) + "\n", encoding="utf-8")
    page = arguments.out / "report.html"
    page.write_text(render(facts), encoding="utf-8")
    print()
    console.table(Facts(facts).summary())
    print(f"\nThe report: {shorten(page)} ({page.stat().st_size / 1024:.0f} KiB, one file, no network)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
