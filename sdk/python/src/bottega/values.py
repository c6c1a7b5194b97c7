"""Python values as the JSON that the server reads: moments, numpy's and pandas' values, data frames."""

from __future__ import annotations

import datetime
import decimal
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bottega.errors import UnsupportedValue

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_DEPTH_MAX = 100

Path = tuple[int | str, ...]


def encode(document: Any, path: Path = ()) -> bytes:
    """The bytes of a body; `path` leads to it, so that an error can name row and column."""
    try:
        return _ENCODER.encode(document).encode()
    except (TypeError, ValueError):  # nothing that only Python knows is in most bodies: these are not walked through
        return _ENCODER.encode(plain(document, path)).encode()


def plain(value: Any, path: Path = ()) -> Any:
    """A value as JSON has it: moments as RFC 3339 in UTC, NaN, NaT and NA as null, numpy's numbers as numbers."""
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return _finite(float(value), path)
    if isinstance(value, Mapping):
        _check_depth(path)
        return {_key(key, path): plain(item, (*path, str(key))) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        _check_depth(path)
        return [plain(item, (*path, index)) for index, item in enumerate(value)]
    if _is_missing(value):
        return None
    if isinstance(value, datetime.datetime):
        if value.utcoffset() is None:
            raise unsupported(
                path, f"{value.isoformat()} has no time zone; give it one: tzinfo=datetime.UTC, or tz_localize('UTC')"
            )
        # A pandas Timestamp has nanoseconds, which the platform does not keep.
        text = value.astimezone(datetime.UTC).isoformat(timespec="microseconds")
        return text.removesuffix("+00:00") + "Z"
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < 2**53 else _finite(float(value), path)
    return _numpy(value, path)


def rows(table: Any) -> Iterator[Mapping[str, Any]]:
    """The rows of a pandas data frame, whose index is left out, or of a list of mappings."""
    if not is_frame(table):
        for number, row in enumerate(table):
            if not isinstance(row, Mapping):
                raise unsupported((number,), f"a row is a mapping of names to values, not {_kind(row)}")
            yield row
        return
    names = columns(table)
    for values in table.itertuples(index=False, name=None):
        yield dict(zip(names, values, strict=True))


def columns(frame: Any) -> list[str]:
    """The names of a data frame's columns."""
    names = [str(name) for name in frame.columns]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UnsupportedValue(f"two columns of the data frame are called '{twice}'", column=twice)
    return names


def is_frame(table: Any) -> bool:
    """Whether this is a pandas data frame, without an import of pandas."""
    return hasattr(table, "itertuples") and hasattr(table, "columns")


def encode_lines(table: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as JSON lines."""
    return b"\n".join(encode(row if isinstance(row, dict) else dict(row), (n,)) for n, row in enumerate(rows(table)))


def unsupported(path: Path, reason: str) -> UnsupportedValue:
    """The error for the value at `path`: its first number is the row, its last name the column."""
    row = next((step for step in path if isinstance(step, int)), None)
    column = next((step for step in reversed(path) if isinstance(step, str)), None)
    return UnsupportedValue(reason, row=row, column=column)


def _numpy(value: Any, path: Path) -> Any:
    # Numpy's scalars and arrays say their type; nothing else that has a `dtype` and `tolist` comes here.
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if not kind or not hasattr(value, "tolist"):
        raise unsupported(path, f"{_kind(value)} cannot be sent; send a text, a number, a moment, a list or None")
    if kind in "Mm" and getattr(value, "ndim", 0) == 0:
        what = "has no time zone; make it a pandas Timestamp or datetime with one" if kind == "M" else "is no moment"
        raise unsupported(path, f"{value} {what}")
    if kind in "Mm":
        raise unsupported(path, "an array of moments cannot be sent; send a column of a data frame or a list")
    _check_depth(path)
    return plain(value.tolist(), path)


def _is_missing(value: Any) -> bool:
    kind = type(value)
    if kind.__name__ in ("NaTType", "NAType") and kind.__module__.startswith("pandas"):
        return True
    if getattr(getattr(value, "dtype", None), "kind", "") in ("M", "m") and getattr(value, "ndim", 1) == 0:
        return bool(value != value)  # numpy's NaT
    return isinstance(value, decimal.Decimal) and value.is_nan()


def _finite(value: float, path: Path) -> float | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise unsupported(path, f"{value} is no number that can be sent")
    return value


def _key(key: Any, path: Path) -> str:
    if not isinstance(key, str):
        raise unsupported(path, f"a name must be a text, not {_kind(key)}")
    return key


def _check_depth(path: Path) -> None:
    if len(path) > _DEPTH_MAX:
        raise unsupported(path[:1], f"it is nested deeper than {_DEPTH_MAX} levels")


def _kind(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
