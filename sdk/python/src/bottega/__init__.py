"""Client for the Bottega machine-learning platform."""

from bottega.client import Client
from bottega.errors import (
    BottegaError,
    Conflict,
    ConnectionFailed,
    Internal,
    InvalidInput,
    NotFound,
    OperationFailed,
    Refused,
    TooLarge,
    Unavailable,
)
from bottega.models import Operation, OperationState, Prediction, StageDecision
from bottega.transport import Request, Response

__all__ = [
    "BottegaError",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "Internal",
    "InvalidInput",
    "NotFound",
    "Operation",
    "OperationFailed",
    "OperationState",
    "Prediction",
    "Refused",
    "Request",
    "Response",
    "StageDecision",
    "TooLarge",
    "Unavailable",
]
