#!/usr/bin/env python3
"""Runs Swift tests, four at a time; what fails runs once more by itself.

Usage: tools/swift_tests.py ARGUMENTS OF swift test ...

A test that passes only the second time is named at the end: it is a fault to repair, of the test or of what it tests,
but no reason to throw away a run of half an hour. More than ten failures, or a run that ends without naming its
failures, are not tried again.
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

SWIFT = ["swift", "test", "--skip-build", "--experimental-maximum-parallelization-width", "4"]
FAILED_MAX = 10


def failed(report: pathlib.Path) -> list[str]:
    """The tests that failed, as filters that match each of them alone."""
    if not report.exists():
        return []
    cases = xml.parse(report).getroot().iter("testcase")
    names = [f"{case.get('classname')}/{case.get('name')}" for case in cases if case.find("failure") is not None]
    return [f"^{re.escape(name)}" for name in names]


def main() -> int:
    arguments = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "tests.xml"
        first = subprocess.run([*SWIFT, *arguments, "--xunit-output", str(report)])
        again = failed(report.with_name("tests-swift-testing.xml"))
    if first.returncode == 0 or not 0 < len(again) <= FAILED_MAX:
        return first.returncode
    kept = [argument for place, argument in enumerate(arguments) if not selects(arguments, place)]
    second = subprocess.run([*SWIFT, *kept, *(word for name in again for word in ("--filter", name))])
    if second.returncode == 0:
        print(f"FLAKY, to be repaired: passed only the second time: {', '.join(again)}", file=sys.stderr)
    return second.returncode


def selects(arguments: list[str], place: int) -> bool:
    """Whether an argument says which tests to run."""
    words = ("--filter", "--skip")
    return arguments[place] in words or (place > 0 and arguments[place - 1] in words)


if __name__ == "__main__":
    sys.exit(main())
