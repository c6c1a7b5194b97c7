"""What the demo shows while it works: numbered steps, the command each one runs, progress, time and memory."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


def clock_text(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}" if seconds >= 60 else f"{seconds:.1f} s"


@dataclass
class Step:
    """One step and what it cost."""

    number: int
    name: str
    seconds: float = 0.0
    memory_peak_bytes: int = 0
    commands: list[str] = field(default_factory=list)
    note: str = ""


class MemorySampler:
    """Resident memory of a process and all that it started, as the highest sum seen since the last reset."""

    def __init__(self) -> None:
        self._process = 0
        self._peak = 0
        self._page = os.sysconf("SC_PAGE_SIZE")
        threading.Thread(target=self._run, daemon=True).start()

    def watch(self, process: int) -> None:
        self._process = process

    def reset(self) -> int:
        peak, self._peak = self._peak, 0
        return peak

    def _run(self) -> None:
        while True:
            if self._process:
                self._peak = max(self._peak, self._sample())
            time.sleep(0.4)

    def _sample(self) -> int:
        parents: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
                    parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
                except (OSError, ValueError, IndexError):
                    continue
        family, grown = {self._process}, True
        while grown:
            more = {process for process, parent in parents.items() if parent in family} - family
            family |= more
            grown = bool(more)
        total = 0
        for process in family:
            try:
                total += int(Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1]) * self._page
            except (OSError, ValueError, IndexError):
                continue
        return total


class Console:
    """Writes to a terminal with a line that moves, or to a file with a line now and then."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.began = time.monotonic()
        self.memory = MemorySampler()
        self._lively = sys.stdout.isatty()
        self._moving = False
        self._last_progress = 0.0

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        step = Step(number=len(self.steps) + 1, name=name)
        self.steps.append(step)
        self.memory.reset()
        self._write(f"\n{self._bold(f'{step.number:>2}. {name}')}  [{clock_text(time.monotonic() - self.began)}]")
        began = time.monotonic()
        self._last_progress = began
        yield step
        step.seconds = time.monotonic() - began
        step.memory_peak_bytes = self.memory.reset()
        memory = f", {step.memory_peak_bytes / 2**20:.0f} MiB at most" if step.memory_peak_bytes else ""
        note = f"{step.note}; " if step.note else ""
        self._write(f"    {self._green('✓')} {note}{clock_text(step.seconds)}{memory}")

    def command(self, text: str) -> None:
        if self.steps:
            self.steps[-1].commands.append(text)
        self._write(f"    {self._dim('$ ' + text)}")

    def line(self, text: str) -> None:
        self._write(f"    {text}")

    def progress(self, text: str, *, every: float = 10.0) -> None:
        """Shows where a step stands: at once on a terminal, every few seconds in a file."""
        now = time.monotonic()
        if self._lively:
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write(f"\r\033[K    {text}"[: width + 4])
            sys.stdout.flush()
            self._moving = True
        elif now - self._last_progress >= every:
            self._last_progress = now
            self._write(f"    {text}")

    def table(self, rows: list[tuple[str, str]]) -> None:
        width = max((len(name) for name, _ in rows), default=0)
        for name, value in rows:
            self._write(f"  {name:<{width}}  {value}")

    def steps_as_json(self) -> list[dict[str, Any]]:
        return [asdict(step) for step in self.steps]

    def _write(self, text: str) -> None:
        if self._moving:
            sys.stdout.write("\r\033[K")
            self._moving = False
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def _style(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._lively else text

    def _bold(self, text: str) -> str:
        return self._style("1", text)

    def _dim(self, text: str) -> str:
        return self._style("2", text)

    def _green(self, text: str) -> str:
        return self._style("32", text)
