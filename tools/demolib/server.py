"""The `bottega` program as the demo uses it: one server as a child process, and commands that speak with it."""

from __future__ import annotations

import json
import os
import queue
import shlex
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

from demolib.console import Console

READY_WITHIN_SECONDS = 60.0
STOP_WITHIN_SECONDS = 30.0


class CommandFailed(Exception):
    """A command ended with an error; the message is what it printed."""


class Server:
    """`bottega up` on a fresh data directory. Ended by its process id on every way out."""

    def __init__(self, program: list[str], data: Path, log: Path, environment: dict[str, str]) -> None:
        self.program, self.data, self.log, self.environment = program, data, log, environment
        self.url = ""
        self._process: subprocess.Popen[str] | None = None

    @property
    def process_id(self) -> int:
        return self._process.pid if self._process else 0

    def command_line(self) -> list[str]:
        return [*self.program, "up", "--data-dir", str(self.data), "--port", "0", "--clock", "manual"]

    def start(self) -> str:
        """Starts the server and waits for its `ready` line; returns the address."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            # A session of its own: a Ctrl-C in the terminal reaches the driver alone, which then ends the server.
            self._process = subprocess.Popen(
                self.command_line(),
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.environment,
                text=True,
                start_new_session=True,
            )
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read_output, args=(lines,), daemon=True).start()
        while True:
            try:
                line = lines.get(timeout=READY_WITHIN_SECONDS)
            except queue.Empty:
                raise CommandFailed(f"the server was not ready within {READY_WITHIN_SECONDS:g} s") from None
            if not line:
                raise CommandFailed(f"the server ended with code {self._process.wait()} before it was ready")
            if line.startswith("ready "):
                self.url = line.split()[1]
                return self.url

    def _read_output(self, lines: queue.Queue[str]) -> None:
        process = self._process
        if process is None or process.stdout is None:
            return
        for line in process.stdout:
            lines.put(line)
        lines.put("")

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> int | None:
        """Asks the server to end, waits for what it still has to do, and returns its exit code."""
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._process = None
        return process.returncode

    def log_tail(self, lines: int = 40) -> str:
        try:
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


class Commands:
    """Runs `bottega` commands, shows each one, and reads its `--json` answer."""

    def __init__(self, server: Server, console: Console, shown_as: str = "bottega") -> None:
        self.server, self.console, self.shown_as = server, console, shown_as

    def run(self, *arguments: str, quiet: bool = False, may_fail: bool = False) -> Any:
        shown = " ".join([self.shown_as, *(shlex.quote(argument) for argument in arguments)])
        if quiet:
            self.console.steps[-1].commands.append(shown)
        else:
            self.console.command(shown)
        process = subprocess.Popen(
            [*self.server.program, *arguments, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self.server.environment, "BOTTEGA_URL": self.server.url},
            text=True,
        )
        errors: list[str] = []
        reader = threading.Thread(target=self._follow, args=(process, errors), daemon=True)
        reader.start()
        try:
            output = process.stdout.read() if process.stdout else ""
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        reader.join(timeout=5)
        answer = parse_json(output)
        if code != 0 and not (may_fail and answer is not None):
            reason = "\n".join(errors[-5:]) or output.strip()[-1000:] or f"exit code {code}"
            raise CommandFailed(f"{shown}\n{reason}")
        if answer is None:
            raise CommandFailed(f"{shown}\nprinted no JSON: {output[:300]!r}")
        return answer

    def _follow(self, process: subprocess.Popen[str], errors: list[str]) -> None:
        if process.stderr is None:
            return
        for raw in process.stderr:
            for line in raw.rstrip().split("\r"):
                if line.strip():
                    errors.append(line.strip())
                    self.console.progress(line.strip(), every=3.0)


def parse_json(text: str) -> Any | None:
    """The JSON document in a command's output: all of it, or its last line."""
    for candidate in (text, text.strip().rsplit("\n", 1)[-1]):
        try:
            return json.loads(candidate)
        except ValueError:
            continue
    return None


def base_environment(**more: str) -> dict[str, str]:
    return {**os.environ, **more}
