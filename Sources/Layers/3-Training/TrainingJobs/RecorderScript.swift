/// The recorder of the Python package, `sdk/python/src/bottega/record.py`, as it is.
///
/// Written by `tools/embed_recorder.py`; the interpreter of a training job runs it.
enum RecorderScript {
    static let text = ##"""
        """Takes the record that lets a run be made again: code, data, features, seed, environment, machine, command.

        Only the standard library is used and nothing else of this package, because the platform hands this very file to the
        interpreter of a training job: `python -c <this file> --folder DIR --command JSON --changes FILE` prints the record.

        What may hold a secret is left out: values of environment variables beyond a short list of harmless ones, the user part
        of URLs, arguments that follow a word such as `token`, files whose names speak of secrets, and lines of a change that
        look like a key. A change from which a line was taken cannot be applied any more, and the record says so.
        """

        from __future__ import annotations

        import argparse
        import hashlib
        import importlib.metadata
        import json
        import os
        import pathlib
        import platform
        import re
        import shutil
        import subprocess
        import sys
        import tempfile
        import time
        from collections.abc import Mapping, Sequence
        from typing import Any

        FORMAT = "bottega-record-1"
        CHANGES_BYTES_MAX = 1 << 20
        FILE_BYTES_MAX = 256 << 10
        FILES_MAX = 500
        CODE_SUFFIXES = {
            ".py", ".ipynb", ".r", ".jl", ".sh", ".sql", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".json", ".lock", ".txt",
        }  # fmt: skip
        SKIPPED_FOLDERS = {"__pycache__", "node_modules", "mlruns", "mlartifacts", "venv", "site-packages"}
        RELEVANT = re.compile(
            r"(CUDA|NVIDIA|NCCL|CUBLAS|OMP|MKL|OPENBLAS|NUMEXPR|BLIS|VECLIB|TF|TORCH|PYTORCH|XLA|JAX|PYTHON|MLFLOW|BOTTEGA|LD|"
            r"VIRTUAL_ENV|CONDA|SLURM|RAY|LANG|LC|TZ|PATH)(_|[A-Z]*$)"
        )
        HARMLESS = re.compile(
            r"([A-Z]+_NUM_THREADS|PYTHONHASHSEED|TZ|LANG|LC_[A-Z]+|CUDA_VISIBLE_DEVICES|CUBLAS_WORKSPACE_CONFIG|"
            r"TF_DETERMINISTIC_OPS|TF_CUDNN_DETERMINISTIC|BOTTEGA_(SEED|MODEL|DATASET|JOB_ID|CONTAINER_IMAGE))$"
        )
        SECRET_WORD = re.compile(
            r"(?i)(pass(word|wd|phrase)?|token|secret|api[-_]?key|access[-_]?key|credential|private[-_]?key)"
        )
        SECRET_FILE = re.compile(
            r"(?i)(^|/)(\.env[^/]*|\.netrc|\.pgpass|id_[a-z0-9]+|[^/]*(secret|credential|password)[^/]*|"
            r"[^/]*\.(pem|key|p12|pfx))$"
        )
        SECRET_LINE = re.compile(
            r"(AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|gh[pousr]_[A-Za-z0-9]{30,}|xox[abp]-[A-Za-z0-9-]{10,}|"
            r"(?i:(pass(word|wd)?|secret|token|api_?key)[\"']?\s*[:=]\s*[\"'][^\"'\s]{8,}[\"'])|://[^/\s:@]+:[^/\s@]+@)"
        )


        def take(
            folder: str | os.PathLike[str],
            command: Sequence[str],
            environ: Mapping[str, str] | None = None,
            before: float | None = None,
        ) -> tuple[dict[str, Any], bytes]:
            """The record of code in `folder` run as `command`, and the uncommitted change (empty if there is none).

            New files other than Python code count if they are older than `before` (seconds since 1970): what the command
            writes is not its code.
            """
            environ = os.environ if environ is None else environ
            code, changes = code_record(pathlib.Path(folder), before)
            record: dict[str, Any] = {
                "format": FORMAT,
                "taken_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "code": code,
                "command": masked(command),
                "environment": environment_record(environ),
                "hardware": hardware_record(),
                "parameters": {
                    name.removeprefix("BOTTEGA_PARAM_").lower(): "***" if SECRET_WORD.search(name) else value
                    for name, value in sorted(environ.items())
                    if name.startswith("BOTTEGA_PARAM_")
                },
                "seed": int(environ["BOTTEGA_SEED"]) if environ.get("BOTTEGA_SEED", "").lstrip("-").isdigit() else None,
            }
            record.update(data_record(environ))
            return record, changes


        def masked(command: Sequence[str]) -> list[str]:
            """The command line without what looks like a secret."""
            result: list[str] = []
            hides_next = False
            for argument in command:
                if hides_next and not argument.startswith("-"):
                    result.append("***")
                    hides_next = False
                    continue
                name, equals, _ = argument.partition("=")
                speaks = SECRET_WORD.search(name) is not None and len(name) <= 64
                hides_next = speaks and not equals and argument.startswith("-")
                result.append(f"{name}=***" if speaks and equals else without_user(argument))
            return result


        def without_user(url: str) -> str:
            """A text whose URLs name no user and no password."""
            return re.sub(r"(?<=://)[^/\s@]*@", "", url)


        def _git(folder: pathlib.Path, *arguments: str, index: str | None = None) -> bytes | None:
            environ = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C.UTF-8", "GIT_PAGER": "cat"}
            if index is not None:
                environ["GIT_INDEX_FILE"] = index
            try:
                result = subprocess.run(
                    ["git", "-C", str(folder), "-c", "core.quotepath=off", "-c", "core.fsmonitor=false", *arguments],
                    capture_output=True, env=environ, timeout=20, check=False,
                )  # fmt: skip
            except (OSError, subprocess.SubprocessError):
                return None
            return result.stdout if result.returncode == 0 else None


        def _line(bytes_: bytes | None) -> str:
            return (bytes_ or b"").decode(errors="replace").strip()


        def code_record(folder: pathlib.Path, before: float | None = None) -> tuple[dict[str, Any], bytes]:
            """What code a folder holds: of a repository the commit and what differs from it, of any other its files' hashes."""
            top = _line(_git(folder, "rev-parse", "--show-toplevel"))
            commit = _line(_git(folder, "rev-parse", "HEAD")) if top else ""
            record: dict[str, Any] = {
                "commit": commit, "branch": "", "remote": "", "dirty": False, "repository": top, "folder": "", "changes": None,
                "files": {},
            }  # fmt: skip
            if not commit:
                record["files"], record["folder"] = file_hashes(folder, before), str(folder.resolve())
                return record, b""
            branch = _line(_git(folder, "rev-parse", "--abbrev-ref", "HEAD"))
            record["branch"] = "" if branch == "HEAD" else branch
            record["remote"] = without_user(_line(_git(folder, "remote", "get-url", "origin")))
            record["folder"] = _line(_git(folder, "rev-parse", "--show-prefix")).rstrip("/")
            changes, left_out = _changes(pathlib.Path(top), before)
            if changes or left_out:
                record["dirty"] = True
                kept, count = _without_secrets(changes)
                record["changes"] = {
                    "sha256": hashlib.sha256(changes).hexdigest(),
                    "bytes": len(changes),
                    "kept": len(kept) <= CHANGES_BYTES_MAX,
                    "applies": len(kept) <= CHANGES_BYTES_MAX and count == 0,
                    "masked_lines": count,
                    "left_out": left_out,
                }
                changes = kept if len(kept) <= CHANGES_BYTES_MAX else b""
            return record, changes


        def _changes(top: pathlib.Path, before: float | None) -> tuple[bytes, list[str]]:
            """What differs from the commit in the whole repository, new files too; and the new files too big or too secret."""
            new: list[str] = []
            left_out: list[str] = []
            for name in (_git(top, "ls-files", "--others", "--exclude-standard", "-z") or b"").split(b"\0"):
                if not name:
                    continue
                path = os.fsdecode(name)
                if not SKIPPED_FOLDERS.isdisjoint(path.split("/")[:-1]):
                    continue
                try:
                    state = (top / path).lstat()
                except OSError:
                    continue
                if _is_written(path, state, before):
                    continue
                suits = state.st_size <= FILE_BYTES_MAX and not SECRET_FILE.search(path) and len(new) < FILES_MAX
                (new if suits else left_out).append(path)
            changed = (_git(top, "diff", "HEAD", "--name-only", "-z") or b"").split(b"\0")
            secret = [os.fsdecode(name) for name in changed if name and SECRET_FILE.search(os.fsdecode(name))]
            left_out = sorted(left_out + secret)[:FILES_MAX]
            difference = ["diff", "HEAD", "--binary", "--full-index", "--no-ext-diff", "--no-color"]
            only = [".", *(f":(exclude,literal,top){path}" for path in secret)]
            with tempfile.TemporaryDirectory() as scratch:
                # A copy of the index takes the new files: one difference holds everything, the repository is left alone.
                index = os.path.join(scratch, "index")
                own = _line(_git(top, "rev-parse", "--git-path", "index"))
                try:
                    shutil.copy2(top / own, index)  # its time tells git which files to look into again
                except OSError:
                    return _git(top, *difference, "--", *only) or b"", left_out
                for at in range(0, len(new), 100):
                    literal = [f":(literal,top){path}" for path in new[at : at + 100]]
                    _git(top, "add", "--intent-to-add", "--", *literal, index=index)
                return _git(top, *difference, "--", *only, index=index) or b"", left_out


        def _without_secrets(changes: bytes) -> tuple[bytes, int]:
            lines = changes.split(b"\n")
            count = 0
            for at, line in enumerate(lines):
                if len(line) < 4096 and SECRET_LINE.search(line.decode(errors="replace")):
                    lines[at] = line[:1] + b"*** looked like a secret ***"
                    count += 1
            return (b"\n".join(lines) if count else changes), count


        def _is_written(path: str, state: os.stat_result, before: float | None) -> bool:
            """Whether a file is something that the run made; Python code may have been edited meanwhile."""
            return before is not None and state.st_mtime >= before and not path.endswith(".py")


        def file_hashes(folder: pathlib.Path, before: float | None = None) -> dict[str, str]:
            """SHA-256 of the files of a folder that look like code or settings, by path."""
            found: dict[str, str] = {}
            for place, folders, names in os.walk(folder):
                folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in SKIPPED_FOLDERS)
                for name in sorted(names):
                    path = pathlib.Path(place, name)
                    if path.suffix.lower() not in CODE_SUFFIXES or SECRET_FILE.search(name):
                        continue
                    try:
                        state = path.stat()
                        if state.st_size <= FILE_BYTES_MAX and not _is_written(name, state, before):
                            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
                    except OSError:
                        continue
                    if len(found) >= FILES_MAX:
                        return found
            return found


        def environment_record(environ: Mapping[str, str]) -> dict[str, Any]:
            """Interpreter, libraries and system: what would have to be installed again."""
            packages = {
                f"{found.metadata['Name']}=={found.version}"
                for found in importlib.metadata.distributions()
                if found.metadata["Name"]
            }
            lock = {
                "python": platform.python_version(),
                "implementation": platform.python_implementation(),
                "platform": platform.platform(),
                "libc": " ".join(platform.libc_ver()).strip(),
                "image": environ.get("BOTTEGA_CONTAINER_IMAGE", ""),
                "packages": sorted(packages, key=str.lower),
            }
            text = json.dumps(lock, sort_keys=True, separators=(",", ":"))
            names = sorted(name for name in environ if RELEVANT.match(name))
            return {
                **lock,
                "lock": hashlib.sha256(text.encode()).hexdigest(),
                "variables": {name: environ[name] for name in names if HARMLESS.match(name)},
                "variable_names": names,
            }


        def hardware_record() -> dict[str, Any]:
            """The machine."""
            processor = ""
            try:
                with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
                    processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
            except OSError:
                pass
            try:
                memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            except (OSError, ValueError, AttributeError):
                memory = 0
            allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0
            return {
                "architecture": platform.machine(),
                "processor": processor or platform.processor(),
                "processors": allowed,
                "memory_bytes": memory,
                "gpus": _gpus(),
            }


        def _gpus() -> list[dict[str, str]]:
            program = shutil.which("nvidia-smi")
            if program is None:
                return []
            fields = "name,memory.total,driver_version"
            try:
                text = subprocess.run(
                    [program, f"--query-gpu={fields}", "--format=csv,noheader"],
                    capture_output=True,
                    text=True,
                    timeout=5,
                    check=True,
                ).stdout
            except (OSError, subprocess.SubprocessError):
                return []
            rows = [[part.strip() for part in line.split(",")] for line in text.splitlines()]
            return [dict(zip(("name", "memory", "driver"), row, strict=False)) for row in rows if len(row) == 3]


        def data_record(environ: Mapping[str, str]) -> dict[str, Any]:
            """The training set that a job was given, and the versions of its features."""
            data: list[dict[str, Any]] = []
            features: dict[str, Any] | None = None
            hash_ = environ.get("BOTTEGA_DATASET", "")
            if hash_:
                manifest: dict[str, Any] = {}
                try:
                    with open(environ.get("BOTTEGA_DATASET_MANIFEST", ""), encoding="utf-8") as file:
                        manifest = json.load(file)
                except (OSError, ValueError):
                    pass
                rows = sum(part.get("rows", 0) for part in manifest.get("slices", []))
                entry = {"kind": "bottega", "name": manifest.get("trainingSet", ""), "hash": hash_, "context": "training"}
                for key, name in (("asOf", "as_of"), ("from", "from"), ("to", "to"), ("tableVersions", "table_versions")):
                    if key in manifest:
                        entry[name] = manifest[key]
                data.append(entry | {"rows": rows})
                if "service" in manifest:
                    features = {
                        "service": manifest["service"],
                        "service_version": manifest.get("serviceVersion", ""),
                        "views": manifest.get("viewVersions", {}),
                    }
            return {"data": data, "features": features}


        def main() -> None:
            """Prints the record as one line of JSON."""
            parser = argparse.ArgumentParser()
            parser.add_argument("--folder", required=True)
            parser.add_argument("--command", default="[]")
            parser.add_argument("--changes", required=True, help="where the uncommitted change goes")
            options = parser.parse_args()
            record, changes = take(options.folder, json.loads(options.command))
            pathlib.Path(options.changes).write_bytes(changes)
            json.dump(record, sys.stdout, sort_keys=True)
            sys.stdout.write("\n")


        if __name__ == "__main__":
            main()
        """##
}
