"""What Google's two APIs answer: JSON, and refusals in the shape of each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from multicompute.testing.local_server import Response

Json = dict[str, Any]

# https://cloud.google.com/apis/design/errors: the status that goes with an HTTP code, and its number.
_STATUS: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_DISABLED = "SERVICE_DISABLED"
STATUS_NUMBERS: Mapping[str, int] = {
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "UNAUTHENTICATED": 16,
}


# Neither frozen nor with slots: Python writes the traceback and the cause into it.
@dataclass(eq=False)
class GcpError(Exception):
    """A refusal.

    Attributes:
        reason: the word that tells what is wrong: "invalid", "notFound" (Compute), "FAILED_PRECONDITION" (TPU).
        status: the HTTP status.
        location: the field or parameter that is meant.
        details: Google's structured details.
    """

    reason: str
    message: str
    status: int = 400
    location: str = ""
    details: Sequence[Mapping[str, Any]] = ()
    retry_after: int | None = None


def compute_refusal(error: GcpError) -> Response:
    """A refusal as Compute Engine writes it."""
    entry: Json = {"message": error.message, "domain": "global", "reason": error.reason}
    if error.status == 403 and error.reason.endswith("LimitExceeded"):
        entry["domain"] = "usageLimits"
    if error.location:
        entry |= {"location": error.location, "locationType": "parameter"}
    body: Json = {"code": error.status, "message": error.message, "errors": [entry]}
    return _refusal(error, body | {"status": _STATUS.get(error.status, "UNKNOWN")})


def tpu_refusal(error: GcpError) -> Response:
    """A refusal as the younger APIs write it, by google.rpc.Status."""
    status = error.reason if error.reason.isupper() else _STATUS.get(error.status, "UNKNOWN")
    body: Json = {"code": error.status, "message": error.message, "status": status}
    if error.reason == _DISABLED:
        # No status of google.rpc: it stands in the details (https://cloud.google.com/apis/design/errors#error_info).
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": _DISABLED, "domain": "googleapis.com"}
        body |= {"status": "PERMISSION_DENIED", "details": [info]}
    return _refusal(error, body)


def _refusal(error: GcpError, body: Json) -> Response:
    if error.details:
        body["details"] = list(error.details)
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return Response(error.status, json.dumps({"error": body}).encode(), headers=headers)


def answer(value: Mapping[str, Any] | str) -> Response:
    """A good answer; text is JSON already."""
    text = value if isinstance(value, str) else json.dumps(value)
    return Response(200, text.encode())


def not_found(path: str) -> GcpError:
    """Compute Engine's words for a resource that is not there; `path` is "projects/..."."""
    return GcpError("notFound", f"The resource '{path}' was not found", 404)


def invalid(field: str, value: object, why: str) -> GcpError:
    """Compute Engine's words for a bad value."""
    return GcpError("invalid", f"Invalid value for field '{field}': '{value}'. {why}", 400)
