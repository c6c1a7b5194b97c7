"""Measures searches over registered models and versions beside MLflow's own server, in one run and by one driver.

    python3 Benchmarks/registry_search.py --bottega .build-release/release/bottega --mlflow .venv/bin/mlflow

Raw HTTP over kept-alive connections. Both servers get the same models and versions, then the same questions in turns;
how many rows each answer has is compared. Prints medians and their ratios.
"""

from __future__ import annotations

import json
import statistics
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

from tracking import API, Connection, Server, arguments, both, percentile, together

VERSIONS, MODELS = "model-versions/search", "registered-models/search"
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "versions of one model": (VERSIONS, {"filter": "name = 'm00003'", "max_results": 1000}),
    "versions by a tag, page of 100": (VERSIONS, {"filter": "tags.n = '3'", "max_results": 100}),
    "versions of models like, page of 100": (VERSIONS, {"filter": "name LIKE 'm0000%'", "max_results": 100}),
    "versions by number, page of 100": (VERSIONS, {"order_by": "version_number DESC", "max_results": 100}),
    "versions, page of 1,000": (VERSIONS, {"max_results": 1000}),
    "models by a tag, page of 100": (MODELS, {"filter": "tags.team = 't3'", "max_results": 100}),
    "models like, page of 100": (MODELS, {"filter": "name LIKE 'm00%'", "max_results": 100}),
    "models, page of 100": (MODELS, {"max_results": 100}),
    "models, page of 1,000": (MODELS, {"max_results": 1000}),
}


def question(path: str, fields: dict[str, Any]) -> bytes:
    return Connection.request("GET", f"{API}{path}?{urllib.parse.urlencode(fields)}")


def seed(server: Server, models: int, versions: int, versioned: int) -> tuple[float, list[float], list[float]]:
    """Seconds in all, and of each model and each version."""
    connection = Connection(server.port)
    experiment = connection.call(API + "experiments/create", {"name": "registry"})["experiment_id"]
    body = {"experiment_id": experiment, "start_time": int(time.time() * 1000)}
    run = connection.call(API + "runs/create", body)["run"]["info"]

    def new_models() -> Iterator[bytes]:
        for index in range(models):
            tags = [{"key": "team", "value": f"t{index % 7}"}]
            yield Connection.request("POST", API + "registered-models/create", {"name": f"m{index:05}", "tags": tags})

    def new_versions() -> Iterator[bytes]:
        source = f"{run['artifact_uri']}/m"
        for number in range(versions):
            for index in range(versioned):
                tags = [{"key": "n", "value": str(number)}]
                body = {"name": f"m{index:05}", "source": source, "run_id": run["run_id"], "tags": tags}
                yield Connection.request("POST", API + "model-versions/create", body)

    start = time.perf_counter()
    _, of_models = together(server.port, [new_models()] * 4, models)
    _, of_versions = together(server.port, [new_versions()] * 4, versions * versioned)
    return time.perf_counter() - start, of_models, of_versions


def main() -> None:
    parser = arguments(__doc__, 5794)
    parser.add_argument("--models", type=int, default=5000)
    parser.add_argument("--versioned", type=int, default=500, help="models with versions")
    parser.add_argument("--versions", type=int, default=10, help="versions of each of them")
    parser.add_argument("--repetitions", type=int, default=15)
    options = parser.parse_args()
    with both(options, "bench-registry-") as (_, servers):
        medians: dict[str, list[float]] = {}
        for server in servers:
            seconds, models, versions = seed(server, options.models, options.versions, options.versioned)
            print(f"{server.name}: {len(models)} models and {len(versions)} versions in {seconds:.0f} s")
            medians.setdefault("a model made, 4 clients", []).append(statistics.median(models) * 1e3)
            medians.setdefault("a version made, 4 clients", []).append(statistics.median(versions) * 1e3)
        tails: dict[str, float] = {}
        for name, (path, fields) in QUESTIONS.items():
            counts = []
            times: list[list[float]] = [[] for _ in servers]
            connections = [Connection(server.port) for server in servers]
            request = question(path, fields)
            for repetition in range(options.repetitions + 1):
                for index, connection in enumerate(connections):
                    start = time.perf_counter()
                    answer = connection.exchange(request)
                    if repetition == 0:
                        found = json.loads(answer)
                        counts.append(len(found.get("model_versions", found.get("registered_models", []))))
                    else:
                        times[index].append(time.perf_counter() - start)
            assert len(set(counts)) == 1, f"{name}: the answers have {counts} rows"
            medians[f"{name} ({counts[0]} rows)"] = [statistics.median(values) * 1e3 for values in times]
            tails[f"{name} ({counts[0]} rows)"] = percentile(times[0], 0.99) * 1e3
        for name, values in medians.items():
            line = f"{name:52s}" + "".join(
                f"{server.name} {value:9.2f} ms   " for server, value in zip(servers, values, strict=True)
            )
            if len(values) == 2:
                line += f"ratio {values[1] / values[0]:7.1f}"
            print(line + (f"   (most {tails[name]:.1f} ms)" if name in tails else ""))


if __name__ == "__main__":
    main()
