#!/usr/bin/env python3
"""Writes the recorder of the Python package into the program, which hands it to the interpreters of training jobs.

`embed_recorder.py` writes the file, `embed_recorder.py --check` says whether it is up to date (exit code 1 if not).
"""

from __future__ import annotations

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCE = ROOT / "sdk/python/src/bottega/record.py"
TARGET = ROOT / "Sources/Layers/3-Training/TrainingJobs/RecorderScript.swift"


def swift(script: str) -> str:
    """The script as a Swift constant."""
    assert '"""##' not in script
    body = "\n".join(f"        {line}".rstrip() for line in script.rstrip("\n").split("\n"))
    return f'''/// The recorder of the Python package, `sdk/python/src/bottega/record.py`, as it is.
///
/// Written by `tools/embed_recorder.py`; the interpreter of a training job runs it.
enum RecorderScript {{
    static let text = ##"""
{body}
        """##
}}
'''


def main() -> int:
    """Writes or checks the file."""
    wanted = swift(SOURCE.read_text(encoding="utf-8"))
    if "--check" in sys.argv[1:]:
        return 0 if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == wanted else 1
    TARGET.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
