"""The responses of Google's APIs: JSON documents, and errors in the format of each API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from multicompute.testing.local.fault_injection import retry_header
from multicompute.testing.local.server import Response, json_response

Json = dict[str, Any]

# https://cloud.google.com/apis/design/errors: HTTP status -> status of google.rpc; below, the numbers of the latter.
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
    """An error response.

    Attributes:
        reason: Google's code: "invalid", "notFound" (Compute Engine), "FAILED_PRECONDITION" (TPU).
        status: The HTTP status.
        location: The field or parameter that is wrong.
        details: Google's structured details.
        retry_after: The delay in the Retry-After header.
    """

    reason: str
    message: str
    status: int = 400
    location: str = ""
    details: Sequence[Mapping[str, Any]] = ()
    retry_after: timedelta | None = None


def compute_error(error: GcpError) -> Response:
    """Return an error in the format of Compute Engine."""
    entry: Json = {"message": error.message, "domain": "global", "reason": error.reason}
    if error.status == 403 and error.reason.endswith("LimitExceeded"):
        entry["domain"] = "usageLimits"
    if error.location:
        entry |= {"location": error.location, "locationType": "parameter"}
    body: Json = {"code": error.status, "message": error.message, "errors": [entry]}
    return _error(error, body | {"status": _STATUS.get(error.status, "UNKNOWN")})


def rpc_error(error: GcpError) -> Response:
    """Return an error in the format of the newer APIs, google.rpc.Status."""
    status = error.reason if error.reason.isupper() else _STATUS.get(error.status, "UNKNOWN")
    body: Json = {"code": error.status, "message": error.message, "status": status}
    if error.reason == _DISABLED:
        # Not a status of google.rpc: it is in the details (https://cloud.google.com/apis/design/errors#error_info).
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": _DISABLED, "domain": "googleapis.com"}
        body |= {"status": "PERMISSION_DENIED", "details": [info]}
    return _error(error, body)


def _error(error: GcpError, body: Json) -> Response:
    if error.details:
        body["details"] = list(error.details)
    return json_response(error.status, {"error": body}, retry_header(error.retry_after))


def ok(value: Mapping[str, Any] | str) -> Response:
    """Return a response with the status 200; a value that is text is JSON already."""
    return Response(200, value.encode()) if isinstance(value, str) else json_response(200, value)


def not_found(path: str) -> GcpError:
    """Return Compute Engine's error for a resource that does not exist; `path` is "projects/..."."""
    return GcpError("notFound", f"The resource '{path}' was not found", 404)


def invalid(field: str, value: object, why: str) -> GcpError:
    """Return Compute Engine's error for an invalid value."""
    return GcpError("invalid", f"Invalid value for field '{field}': '{value}'. {why}", 400)
