#!/usr/bin/env python3
"""Check an exported audit chain without the platform.

    verify_audit.py EXPORT.ndjson [--head HASH] [--blobs FOLDER]

Every line is a JSON object whose last member is "hash": the SHA-256 of the line without that member. "previous" is the
hash of the line before (64 zeros in the first) and "position" counts from 1. A changed byte, a dropped, added or moved
line breaks one of these. Lines missing at the end break nothing, so give the head's hash as it was noted elsewhere.

"evidence" is the SHA-256 of a file that says what an entry rests on: gates, reports. With a copy of the folder of
these (`objects/objects/blobs` of the platform's data, `ab/abcd...`), each is hashed too.

Exit code 0: intact. 1: not intact, the first fault on standard output. 2: the file cannot be read.
"""

import argparse
import hashlib
import json
import pathlib
import re
import sys

LINE_BYTES_MAX = 8 << 20
ENDING = re.compile(rb',"hash":"([0-9a-f]{64})"\}\n\Z')
MEMBERS = {"action", "actor", "after", "before", "evidence", "hash", "position", "previous", "subject", "time"}


class Fault(Exception):
    """The first thing that is wrong with the chain."""


def unique(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def check_evidence(where, name, blobs):
    """Raise Fault if the file of this hash is gone or holds other bytes."""
    if not isinstance(name, str) or re.fullmatch("[0-9a-f]{64}", name) is None:
        raise Fault(f"{where}: its evidence is named by no hash")
    try:
        with open(blobs / name[:2] / name, "rb") as file:
            found = hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise Fault(f"{where}: its evidence {name} cannot be read ({error.strerror})") from error
    if found != name:
        raise Fault(f"{where}: its evidence {name} was changed")


def verify(lines, expected_head=None, blobs=None):
    """Return (number of entries, hash of the last one); raise Fault at the first entry that is wrong."""
    previous = "0" * 64
    seen = expected_head in (None, previous)
    last_time = ""
    count = 0
    for line in lines:
        where = f"line {count + 1}"
        if len(line) > LINE_BYTES_MAX:
            raise Fault(f"{where}: longer than {LINE_BYTES_MAX} bytes")
        ending = ENDING.search(line)
        if ending is None:
            raise Fault(f"{where}: does not end with a hash and a line feed")
        hashed = line[: ending.start()] + b"}"
        claimed = ending.group(1).decode()
        if hashlib.sha256(hashed).hexdigest() != claimed:
            raise Fault(f"{where}: its content was changed (the hash does not match)")
        try:
            entry = json.loads(line, object_pairs_hook=unique)
        except (ValueError, RecursionError) as error:
            raise Fault(f"{where}: no JSON ({error})") from error
        if not isinstance(entry, dict) or set(entry) != MEMBERS:
            raise Fault(f"{where}: the members are not those of an audit entry")
        if entry["position"] != count + 1:
            raise Fault(f"{where}: holds entry {entry['position']}; an entry was dropped, added or moved")
        if entry["previous"] != previous:
            raise Fault(f"{where}: does not follow the entry before it")
        if not isinstance(entry["time"], str) or entry["time"] < last_time:
            raise Fault(f"{where}: is earlier than the entry before it")
        if blobs is not None and entry["evidence"] is not None:
            check_evidence(where, entry["evidence"], blobs)
        count, previous, last_time = count + 1, claimed, entry["time"]
        seen = seen or claimed == expected_head
    if not seen:
        raise Fault(f"the chain ends after {count} entries without the expected head: entries are missing at its end")
    return count, previous


def main():
    parser = argparse.ArgumentParser(description="Check an exported audit chain.")
    parser.add_argument("export", help="file that the platform exported, one JSON object per line")
    parser.add_argument("--head", help="hash of the newest entry, as it was noted elsewhere")
    parser.add_argument(
        "--blobs", type=pathlib.Path, metavar="FOLDER", help="folder of the evidence, a copy or the original"
    )
    arguments = parser.parse_args()
    try:
        with open(arguments.export, "rb") as file:
            lines = iter(lambda: file.readline(LINE_BYTES_MAX + 1), b"")
            count, head = verify(lines, arguments.head, arguments.blobs)
        if count == 0:
            raise Fault("the file holds no entry")
    except OSError as error:
        print(f"cannot read {arguments.export}: {error.strerror}", file=sys.stderr)
        return 2
    except Fault as fault:
        print(f"NOT INTACT: {fault}")
        return 1
    print(f"intact: {count} entries{' and their evidence' if arguments.blobs else ''}, head {head}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
