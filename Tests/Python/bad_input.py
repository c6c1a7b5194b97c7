"""What bad input must be answered with: one clear line."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import shop

DAYS = 12
EVENT = {"payment": "e1", "paid_at": shop.START, "known_at": shop.START, "customer": "c01", "amount": 5.0}
PREDICT = {"entities": {"customer": "c01"}, "features": {"channel": "app", "price": 10}}

UNCLEAR = re.compile(
    r"Fatal error|Error Domain|Optional\(|NSError|\.swift:\d|Traceback|0x[0-9a-f]{8}|The operation couldn"
)


def assert_one_line(text: str, *words: str) -> None:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("bottega: "), text
    assert_clear(lines[0], *words)


def assert_clear(line: str, *words: str) -> None:
    assert len(line) < 700, line
    assert not UNCLEAR.search(line), line
    for word in words:
        assert word in line, (word, line)


def refuses(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
    assert_one_line(result.stderr, *words)


def refused(answer: tuple[int, Any], status: int, *words: str) -> str:
    assert answer[0] == status, answer
    assert isinstance(answer[1], dict), answer
    error = answer[1]["error"]
    line = f"{error['subject']}: {error['message']}"
    assert "\n" not in line, line
    assert_clear(line, *words)
    return line
