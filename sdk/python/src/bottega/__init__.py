"""Client for the Bottega machine-learning platform."""

from bottega.client import Client
from bottega.errors import (
    BottegaError,
    Conflict,
    ConnectionFailed,
    Internal,
    InvalidInput,
    MissingPackage,
    NotFound,
    OperationFailed,
    Refused,
    TooLarge,
    Unavailable,
    UnsupportedValue,
)
from bottega.models import Dataset, Operation, OperationState, Prediction, StageDecision
from bottega.transport import Request, Response

__all__ = [
    "BottegaError",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "Dataset",
    "Internal",
    "InvalidInput",
    "MissingPackage",
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
    "UnsupportedValue",
]
