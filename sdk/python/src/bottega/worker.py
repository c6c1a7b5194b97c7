"""Loads one model and predicts rows that come over a socket: the process behind a model that is Python code.

The server starts it as ``python worker.py '{"folder": ...}'`` with a Unix socket as standard input. It needs numpy and
what the model needs; pandas for models with named columns, mlflow for flavors other than scikit-learn. What the model
prints goes to the server's eyes only; it cannot disturb the frames, which are not written to standard output.

A frame is 16 bytes of head, little-endian, and a payload: magic ``BTW1``, kind (1 byte), 3 zero bytes, call number
(4 bytes), payload length (4 bytes).

====  =======  ===============  ====================================================================================
Kind  Name     From             Payload
====  =======  ===============  ====================================================================================
1     LAYOUT   server           JSON: ``categories`` by position, the texts of the codes 0, 1, ...
2     PREDICT  server           rows (4 bytes), columns (4 bytes), float32 values row by row
3     PING     server           nothing
16    HELLO    worker           JSON: what the model takes and gives, ``differences`` of the environment; or ``error``
17    ANSWER   worker           rows (4 bytes), outputs (4 bytes), float32 values row by row
18    FAULT    worker           1 byte (1: these rows are refused, 2: out of memory, the worker ends), text
19    PONG     worker           resident bytes (8 bytes)
====  =======  ===============  ====================================================================================
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import json
import os
import pathlib
import re
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

MAGIC = int.from_bytes(b"BTW1", "little")
HEAD = struct.Struct("<IBxxxII")
PAYLOAD_MAX = 64 << 20
REQUIREMENTS_MAX = 1 << 20
DIFFERENCES_MAX = 20
PYTHON = ".".join(str(part) for part in sys.version_info[:3])
LAYOUT, PREDICT, PING = 1, 2, 3
HELLO, ANSWER, FAULT, PONG = 16, 17, 18, 19
ROWS_REFUSED, MEMORY_EXHAUSTED = 1, 2
BOOSTER_HINT = "; log model.booster_ in its place: mlflow.lightgbm writes a file of it that is served without Python"
PREDICTIONS = ("prediction", "predictions")
PROBABILITY = re.compile(r"prob(a|s|ability|abilities)?(_|\b|\d)", re.IGNORECASE)


class Connection:
    """Frames over a socket."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel

    def take(self, count: int) -> bytearray:
        """Reads exactly ``count`` bytes; the end of the connection is the end of this process."""
        data = bytearray(count)
        view = memoryview(data)
        while view:
            read = self.channel.recv_into(view)
            if read == 0:
                os._exit(0)
            view = view[read:]
        return data

    def read(self) -> tuple[int, int, bytearray]:
        """The next frame: kind, call, payload."""
        magic, kind, call, length = HEAD.unpack(self.take(HEAD.size))
        if magic != MAGIC or length > PAYLOAD_MAX:
            raise SystemExit("the server sent no frame")
        return kind, call, self.take(length)

    def write(self, kind: int, call: int, payload: bytes) -> None:
        self.channel.sendall(HEAD.pack(MAGIC, kind, call, len(payload)) + payload)


def flavor_of(description: str, name: str) -> dict[str, str] | None:
    """The plain entries of one flavor of an ``MLmodel`` file, as MLflow writes it."""
    part = re.search(rf"^  {name}:\n((?:    .*\n?)*)", description, re.MULTILINE)
    if part is None:
        return None
    return {key: value.strip("'\"") for key, value in re.findall(r"^    (\w+): (.*)$", part[1], re.MULTILINE)}


def signature_of(description: str) -> list[dict[str, Any]]:
    """What the signature in an ``MLmodel`` file says of inputs: columns by name, one tensor of rows, or nothing."""
    part = re.search(r"^signature:\n(?:  .*\n)*?  inputs: '((?:[^']|'')*)'", description, re.MULTILINE)
    if part is None:
        return []
    inputs: list[dict[str, Any]] = json.loads(re.sub(r"\s*\n\s*", " ", part[1].replace("''", "'")))
    if len(inputs) == 1 and inputs[0].get("type") == "tensor":
        return inputs if len(inputs[0]["tensor-spec"]["shape"]) == 2 else []
    return inputs if all(column.get("type") != "tensor" and column.get("name") for column in inputs) else []


def requirement_lines(folder: pathlib.Path) -> list[str]:
    """Packages that a model was logged with: ``requirements.txt``, else what ``conda.yaml`` has pip install."""

    def text(name: str) -> str:
        try:
            with (folder / name).open(encoding="utf-8", errors="replace") as file:
                return file.read(REQUIREMENTS_MAX)
        except FileNotFoundError:
            return ""

    lines = text("requirements.txt").replace("\\\n", " ").splitlines()
    if not lines:
        part = re.search(r"^( *)- pip:\n((?:\1 +- .*\n?|\1- .*\n?)*)", text("conda.yaml"), re.MULTILINE)
        lines = [line.strip().removeprefix("- ").strip("'\"") for line in part[2].splitlines()] if part else []
    lines = [re.sub(r"(^|\s)#.*|\s--hash=\S+", "", line).strip() for line in lines]
    return [line for line in lines if line and not line.startswith("-")]


def python_of(folder: pathlib.Path) -> str | None:
    """The version of Python that a model was logged with."""
    for name, pattern in (("python_env.yaml", r"^python: *['\"]?([\d.]+)"), ("conda.yaml", r"^ *- python=+([\d.]+)")):
        path = folder / name
        if path.exists() and (found := re.search(pattern, path.read_text("utf-8", "replace"), re.MULTILINE)):
            return found[1]
    return None


def unmet(line: str) -> tuple[str, str] | None:
    """The package of a requirement that does not hold here, and what is there instead; ``None`` if it holds.

    What names no package and version, a path or an address, is taken to hold. Without the package ``packaging`` only
    exact versions are compared.
    """
    try:
        requirements = importlib.import_module("packaging.requirements")
    except ImportError:
        pin = re.fullmatch(r"([A-Za-z0-9._-]+) *(?:\[[^]]*\])? *== *([^\s;,*+]+)", line)
        if pin is None:
            return None
        name, wanted = pin[1], pin[2]
        found = installed(name)
        return None if found and plain(found) == plain(wanted) else (name, found or "")
    try:
        requirement = requirements.Requirement(line)
        if requirement.marker and not requirement.marker.evaluate():
            return None
        found = installed(requirement.name)
        holds = found is not None and requirement.specifier.contains(found, prereleases=True)
    except ValueError:
        return None
    return None if holds else (requirement.name, found or "")


def installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def plain(version: str) -> str:
    """A version without what tells builds of it apart."""
    return re.sub(r"(\.0)+$", "", version.split("+")[0].lower().removeprefix("v"))


def differences(folder: pathlib.Path, needs_mlflow: bool = True) -> list[str]:
    """What this interpreter has otherwise than the model was logged with; a line for each, and so many at most.

    Of Python itself the first two numbers count, as in MLflow: bytes of a pickle do not change within them.
    """
    lines = []
    wanted = python_of(folder)
    if wanted and wanted.split(".")[:2] != PYTHON.split(".")[:2]:
        lines.append(f"Python {wanted} is wanted, {PYTHON} is there")
    for line in requirement_lines(folder):
        difference = unmet(line)
        if difference is None or (difference[0].lower() == "mlflow" and not needs_mlflow):
            continue
        found = f"{difference[1]} is there" if difference[1] else "it is not installed"
        lines.append(f"{line[:120]} is wanted, {found[:60]}")
    more = len(lines) - DIFFERENCES_MAX
    return lines[:DIFFERENCES_MAX] + ([f"and {more} more"] if more > 0 else [])


class Model:
    """A loaded model: which columns it takes, and the function from a table to numbers."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.columns: list[dict[str, Any]] = []
        self.outputs: int | None = None
        self.width: int | None = None
        self.said: list[str] = []
        self.objective = "regression"
        self.wants_frame = False
        self.tensor: dict[str, Any] | None = None
        self.native: Any = None
        self.hint = ""
        described = folder / "MLmodel"
        if described.exists():
            description = described.read_text(encoding="utf-8")
            self.columns = signature_of(description)
            if self.columns and self.columns[0].get("type") == "tensor":
                [self.tensor] = self.columns
                self.columns = []
            sklearn = flavor_of(description, "sklearn")
            general = flavor_of(description, "python_function") or {}
            if sklearn is not None and "pickled_model" in sklearn:
                self.take_native(unpickled(folder / sklearn["pickled_model"]), general.get("predict_fn", "predict"))
            else:
                # mlflow notes what Keras computed with, and does not see to it when the model is loaded.
                backend = (flavor_of(description, "keras") or {}).get("keras_backend")
                if backend:
                    os.environ["KERAS_BACKEND"] = backend
                if flavor_of(description, "lightgbm"):
                    self.hint = BOOSTER_HINT
                self.take_function(folder)
        else:
            [path] = [path for path in folder.iterdir() if path.is_file()]
            self.take_native(unpickled(path), "predict")
        self.names = [str(column["name"]) for column in self.columns]
        self.count = len(self.names)
        if self.tensor is not None:
            self.count = max(0, int(self.tensor["tensor-spec"]["shape"][1]))
        elif not self.names and self.native is not None:
            self.names = [str(name) for name in getattr(self.native, "feature_names_in_", [])]
            self.count = int(getattr(self.native, "n_features_in_", len(self.names)))
            self.wants_frame = bool(self.names)
        self.categories: dict[int, list[str]] = {}

    def take_native(self, model: Any, method: str) -> None:
        """Takes an object in scikit-learn's manner: probabilities where there are some."""
        self.native = model
        if method == "predict" and hasattr(model, "predict_proba"):
            method = "predict_proba"
        if not hasattr(model, method):
            raise TypeError(f"a {type(model).__name__} has no {method}()")
        self.function: Callable[[Any], Any] = getattr(model, method)
        if method == "predict_proba" and hasattr(model, "classes_"):
            self.outputs = len(model.classes_)
            self.objective = "binary:probability" if self.outputs <= 2 else "multi:probability"
        self.wants_frame = bool(self.columns) or hasattr(model, "feature_names_in_")

    def take_function(self, folder: pathlib.Path) -> None:
        """Takes a folder of any other flavor, as MLflow loads it."""
        loaded = importlib.import_module("mlflow.pyfunc").load_model(str(folder))
        self.function = loaded.predict
        self.wants_frame = self.tensor is None

    def table(self, rows: Any) -> Any:
        """Rows of numbers as the model takes them: an array, or a data frame with texts for codes."""
        import numpy

        if self.tensor is not None:
            values = rows.astype(self.tensor["tensor-spec"]["dtype"])
            return {self.tensor["name"]: values} if self.tensor.get("name") else values
        if not self.wants_frame and not self.categories:
            return rows.astype(numpy.float64)
        import pandas

        names = self.names or [str(position) for position in range(rows.shape[1])]
        return pandas.DataFrame({name: self.column(rows, position) for position, name in enumerate(names)})

    def column(self, rows: Any, position: int) -> Any:
        """One column of the frame; texts as objects, since pandas else takes a missing one for NaN beside others."""
        import numpy
        import pandas

        values = rows[:, position]
        kind = self.columns[position]["type"] if self.columns else "double"
        texts = self.categories.get(position)
        if texts is not None:
            return pandas.Series([None if code != code else texts[int(code)] for code in values], dtype=object)
        if kind == "string":  # no codes are known: a row to try the model with
            return pandas.Series([""] * len(values), dtype=object)
        if kind == "float":
            return values
        whole = {"integer": numpy.int32, "long": numpy.int64, "boolean": numpy.bool_}.get(kind)
        if whole is not None and bool(numpy.isfinite(values).all()) and bool((values == numpy.trunc(values)).all()):
            return values.astype(whole)
        return values.astype(numpy.float64)

    def predict(self, rows: Any) -> Any:
        """Numbers of rows: shape ``[rows, outputs]``, of two probabilities the second."""
        import numpy

        answer = self.answer(rows)
        if answer.shape[1] == 2 and self.objective == "binary:probability":
            answer = answer[:, 1:]
        if self.width is not None and answer.shape[1] != self.width:
            raise ValueError(f"it gives {answer.shape[1]} values for a row, {self.width} expected")
        return numpy.ascontiguousarray(answer, dtype="<f4")

    def answer(self, rows: Any) -> Any:
        """What the model says of rows, as numbers: shape ``[rows, columns]``."""
        import numpy

        said = self.function(self.table(rows))
        self.said = [str(name) for name in getattr(said, "columns", [])]
        named = [place for place, name in enumerate(self.said) if name in PREDICTIONS]
        if len(named) == 1:
            said = said.iloc[:, named[0]]
            self.said = []
        answer = numpy.asarray(said)
        if answer.dtype == object or answer.dtype.kind not in "fiub":
            answer = answer.astype(numpy.float64)
        if answer.ndim == 1:
            answer = answer.reshape(-1, 1)
        if answer.ndim != 2 or answer.shape[0] != rows.shape[0] or answer.shape[1] == 0:
            raise ValueError(f"{rows.shape[0]} rows were asked for, the answer has the shape {answer.shape}")
        return answer

    def try_out(self) -> None:
        """Predicts a row of zeros: loads what is loaded late, and finds the number of outputs out."""
        import numpy

        if self.count == 0:
            raise ValueError("it does not say which columns it takes; log it with a signature or an input example")
        try:
            answer = self.answer(numpy.zeros((1, self.count), dtype="<f4"))
        except Exception as error:
            if self.outputs is None and self.native is None:
                raise ValueError(f"it cannot predict a row of zeros: {worded(error)[:300]}{self.hint}") from error
            return
        if self.outputs is None:
            self.outputs = answer.shape[1]
            if self.outputs > 1:
                kind = "probability" if self.gives_probabilities(answer) else "regression"
                self.objective = f"multi:{kind}" if self.outputs > 2 or kind == "regression" else f"binary:{kind}"

    def gives_probabilities(self, answer: Any) -> bool:
        """Whether several columns are probabilities of classes: they are named so, or each row of numbers sums to 1."""
        import numpy

        if self.said and all(PROBABILITY.match(name) for name in self.said):
            return True
        answers = [answer]
        try:
            answers.append(self.answer(numpy.ones((1, self.count), dtype="<f4")))
        except Exception:  # a row of ones is nothing that a model need know
            pass
        return all(
            bool(((values >= 0) & (values <= 1)).all()) and abs(float(values.sum()) - 1) < 1e-3 for values in answers
        )

    def hello(self) -> dict[str, Any]:
        outputs = self.outputs or 1
        self.width = 1 if self.objective == "binary:probability" else outputs
        return {
            "features": self.names,
            "feature_count": self.count,
            "texts": [place for place, column in enumerate(self.columns) if column["type"] == "string"],
            "outputs": self.width,
            "objective": self.objective,
            "python": PYTHON,
            "differences": differences(self.folder, needs_mlflow=self.native is None),
        }


def unpickled(path: pathlib.Path) -> Any:
    """The object in a file of pickle, cloudpickle, joblib or skops."""
    if path.suffix == ".skops":
        reader = importlib.import_module("skops.io")
        return reader.load(path, trusted=reader.get_untrusted_types(file=path))
    if path.suffix == ".joblib":
        return importlib.import_module("joblib").load(path)
    with path.open("rb") as file:
        return importlib.import_module("pickle").load(file)


def worded(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:800]}"


def why_not_loaded(error: BaseException, folder: pathlib.Path) -> str:
    """Why a model could not be loaded; of a missing package also who misses it, and what the model was logged with."""
    missing = error
    while not isinstance(missing, ImportError) and (missing.__cause__ or missing.__context__) is not None:
        missing = missing.__cause__ or missing.__context__
    if not isinstance(missing, ImportError):
        others = differences(folder)
        return f"{worded(error)[:150]}; {'; '.join(others[:3])}" if others else worded(error)
    text = f"{worded(missing)[:120]}; {sys.executable} lacks what the model needs"
    requirements = folder / "requirements.txt"
    if requirements.exists():
        text += " (" + ", ".join(requirements.read_text(encoding="utf-8").split()[:8])[:80] + ")"
    return text + ": 'workers: {environment: ...}' of the deployment names another"


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def bind(options: dict[str, Any]) -> None:
    """Ties this process to the server's life and to its limits."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != options["parent"]:
        os._exit(0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if options["memory"] > 0:
        resource.setrlimit(resource.RLIMIT_AS, (options["memory"], options["memory"]))


def predict(model: Model, payload: bytearray) -> tuple[int, bytes]:
    """The frame that answers a PREDICT: kind and payload."""
    import numpy

    row_count, column_count = struct.unpack_from("<II", payload)
    if row_count == 0 or len(payload) != 8 + 4 * row_count * column_count:
        return FAULT, bytes([ROWS_REFUSED]) + b"the frame has another length than its rows"
    rows = numpy.frombuffer(payload, dtype="<f4", offset=8).reshape(row_count, column_count)
    try:
        answer = model.predict(rows)
    except MemoryError:
        return FAULT, bytes([MEMORY_EXHAUSTED]) + b"MemoryError"
    except Exception as error:
        return FAULT, bytes([ROWS_REFUSED]) + worded(error).encode("utf-8", "replace")
    return ANSWER, struct.pack("<II", *answer.shape) + answer.tobytes()


def main() -> None:
    options = json.loads(sys.argv[1])
    bind(options)
    connection = Connection(socket.socket(fileno=os.dup(0)))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    try:
        model = Model(pathlib.Path(options["folder"]))
        model.try_out()
        hello = model.hello()
    except Exception as error:
        reason = why_not_loaded(error, pathlib.Path(options["folder"]))
        connection.write(HELLO, 0, json.dumps({"error": reason}).encode())
        return
    connection.write(HELLO, 0, json.dumps(hello).encode())
    while True:
        kind, call, payload = connection.read()
        if kind == PREDICT:
            answer, content = predict(model, payload)
            connection.write(answer, call, content)
            if answer == FAULT and content[0] == MEMORY_EXHAUSTED:
                return
        elif kind == PING:
            connection.write(PONG, call, struct.pack("<Q", resident_bytes()))
        elif kind == LAYOUT:
            layout = json.loads(payload)
            model.categories = {int(place): texts for place, texts in layout["categories"].items()}


if __name__ == "__main__":
    main()
