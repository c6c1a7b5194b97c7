"""Exceptions keyed by the server's wire codes."""

from __future__ import annotations

from typing import Any, ClassVar


class BottegaError(Exception):
    """A call that did not work: what went wrong (`code`), about which thing (`subject`), and why (`message`)."""

    code: str
    by_code: ClassVar[dict[str, type[BottegaError]]] = {}
    wire_code: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        if cls.wire_code:
            BottegaError.by_code[cls.wire_code] = cls

    def __init__(
        self, message: str, *, code: str = "", subject: str = "", status: int = 0, details: dict[str, Any] | None = None
    ) -> None:
        self.code = code or self.wire_code
        self.subject = subject
        self.message = message
        self.status = status
        self.details = details or {}
        super().__init__(f"{subject}: {message}" if subject else message)


class InvalidInput(BottegaError):
    """The server could not use what was sent."""

    wire_code = "invalid_input"


class TooLarge(BottegaError):
    """The input is larger than the stated limit."""

    wire_code = "too_large"


class NotFound(BottegaError):
    """The named thing does not exist."""

    wire_code = "not_found"


class Conflict(BottegaError):
    """The thing exists already, or changed in the meantime."""

    wire_code = "conflict"


class Refused(BottegaError):
    """A gate or policy said no; `details` holds the evidence."""

    wire_code = "refused"


class Forbidden(BottegaError):
    """The caller may not do this."""

    wire_code = "forbidden"


class Overloaded(BottegaError):
    """A stated limit of concurrency or rate is reached; try again later."""

    wire_code = "overloaded"


class DeadlineExceeded(BottegaError):
    """A deadline passed."""

    wire_code = "deadline_exceeded"


class Unavailable(BottegaError):
    """A store or another part of the platform failed; the same call may succeed later."""

    wire_code = "unavailable"


class Corrupted(BottegaError):
    """Stored bytes do not check out."""

    wire_code = "corrupted"


class Internal(BottegaError):
    """A fault of the platform itself."""

    wire_code = "internal"


class ConnectionFailed(BottegaError):
    """No answer came: the server is not there, went away, or took too long."""

    wire_code = "connection_failed"


class UnsupportedValue(BottegaError):
    """A value that cannot be sent; `row` (from 0) and `column` say where it is, as far as there are such."""

    def __init__(self, message: str, *, row: int | None = None, column: str | None = None) -> None:
        self.row = row
        self.column = column
        place = [f"row {row}"] if row is not None else []
        if column is not None:
            place.append(f"column '{column}'" if place else f"'{column}'")
        super().__init__(message, code="unsupported_value", subject=", ".join(place))


class MissingPackage(BottegaError):
    """A call needs a package that is not installed."""


class OperationFailed(BottegaError):
    """Long work ended in failure; `code`, `subject` and `message` are those of its cause."""


def _unanswered(document: Any) -> dict[str, str] | None:
    """What a document of predictions says of the first that nothing answered."""
    if not isinstance(document, dict):
        return None
    predictions = document.get("predictions", [document])
    for one in predictions if isinstance(predictions, list) else []:
        if isinstance(one, dict) and one.get("prediction") is None and one.get("fallback_reason"):
            return {
                "code": Unavailable.wire_code,
                "subject": f"predict/{one.get('model', '')}",
                "message": f"{one['fallback_reason']}, and no fallback answers for it",
            }
    return None


def error_from(status: int, document: Any) -> BottegaError:
    """The exception for an answer that is not a success."""
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict):
        error = _unanswered(document) or {"message": f"the server answered {status}"}
    code = str(error.get("code", ""))
    kind = BottegaError.by_code.get(code, BottegaError)
    return kind(
        str(error.get("message", "")),
        code=code,
        subject=str(error.get("subject", "")),
        status=status,
        details=document if isinstance(document, dict) else None,
    )
