"""Times `plan`, `apply` and a restart with 10,000 features in 500 views.

    python Benchmarks/definitions_scale.py .build/release/bottega [views] [features per view]

Twelve sources, a service for every ten views, a model for every five services. Prints seconds of the command and of the
request alone, median of five for `plan`.
"""

from __future__ import annotations

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

AGGREGATES = ["mean", "sum", "min", "max", "stddev"]
WINDOWS = ["1h", "6h", "24h", "7d"]


def definitions(views: int, features: int) -> dict[str, str]:
    files: dict[str, str] = {}
    sources = ["kind: Entity\nname: customer\nkeys: [customer]"]
    for source in range(12):
        columns = "\n".join(f"  - {{name: c{column}, type: float64, scale: 2}}" for column in range(5))
        sources.append(
            f"kind: Source\nname: source{source}\nevent_time: at\nkey: [id]\nschema:\n"
            "  - {name: id, type: string, nullable: false}\n  - {name: at, type: timestamp, nullable: false}\n"
            f"  - {{name: customer, type: string}}\n{columns}"
        )
    files["sources.yaml"] = "\n---\n".join(sources)
    for first in range(0, views, 10):
        documents = []
        for view in range(first, min(first + 10, views)):
            lines = [
                f"  - {{name: f{number}, aggregate: {AGGREGATES[number % 5]}, column: c{number // 20 % 5}, "
                f"window: {WINDOWS[number // 5 % 4]}}}"
                for number in range(features)
            ]
            documents.append(
                f"kind: FeatureView\nname: view{view}\nentities: [customer]\nsource: source{view % 12}\n"
                f"owner: team{view % 20}\nttl: 30d\nfeatures:\n" + "\n".join(lines)
            )
        names = ", ".join(f"view{view}" for view in range(first, min(first + 10, views)))
        documents.append(f"kind: FeatureService\nname: service{first}\nowner: team{first % 20}\nviews: [{names}]")
        files[f"views{first:04d}.yaml"] = "\n---\n".join(documents)
    return files


def write(folder: pathlib.Path, files: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def request(url: str, folder: pathlib.Path, rehearsal: bool) -> float:
    files = [
        {"path": str(path), "folder": str(folder), "text": path.read_text()} for path in sorted(folder.glob("*.yaml"))
    ]
    body = json.dumps({"files": files, "dry_run": rehearsal}).encode()
    began = time.monotonic()
    with urllib.request.urlopen(urllib.request.Request(url + "/api/v1/apply", data=body, method="POST")) as answer:
        answer.read()
    return time.monotonic() - began


def main() -> None:
    binary = sys.argv[1]
    views, features = (int(sys.argv[2]) if len(sys.argv) > 2 else 500), (int(sys.argv[3]) if len(sys.argv) > 3 else 20)
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place) / "definitions"
        files = definitions(views, features)
        write(folder, files)
        data = str(pathlib.Path(place) / "data")

        def start() -> tuple[subprocess.Popen[str], str, float]:
            began = time.monotonic()
            command = [binary, "up", "--data-dir", data, "--port", "0", "--set", "monitor.enabled=false"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            url = process.stdout.readline().split()[1]
            return process, url, time.monotonic() - began

        def command(*arguments: str) -> float:
            began = time.monotonic()
            result = subprocess.run([binary, *arguments, "--url", url], capture_output=True, text=True)
            assert result.returncode == 0, result.stderr
            return time.monotonic() - began

        def report(what: str, times: list[float]) -> None:
            print(f"{what:44s} {statistics.median(times):7.3f} s   of {', '.join(f'{t:.3f}' for t in times)}")

        process, url, seconds = start()
        print(f"{views * features} features in {views} views, {len(files)} files")
        report("start, empty", [seconds])
        report("plan, everything new (command)", [command("plan", str(folder)) for _ in range(5)])
        report("plan, everything new (request)", [request(url, folder, True) for _ in range(5)])
        report("apply, everything new (request)", [request(url, folder, False)])
        report("plan, nothing new (command)", [command("plan", str(folder)) for _ in range(5)])
        changed = {name: text.replace("window: 24h", "window: 25h") for name, text in files.items()}
        write(folder, changed)
        report("plan, every view changed (command)", [command("plan", str(folder)) for _ in range(5)])
        report("plan, every view changed (request)", [request(url, folder, True) for _ in range(5)])
        report("apply, every view changed (request)", [request(url, folder, False)])
        report("features versions (command)", [command("features", "versions")])
        report("features reuse (command)", [command("features", "reuse")])
        process.terminate()
        process.wait()
        process, url, seconds = start()
        report("start, 500 views and their old versions", [seconds])
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
