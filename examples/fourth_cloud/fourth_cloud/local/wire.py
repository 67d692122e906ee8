"""The HTTP interface of the local Fourth: routes, credentials, refusals, and the faults that a test injects."""

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import parse_qs

from fourth_cloud.local.rules import STATUS, Refusal
from multicompute.testing import Fault
from multicompute.testing.faults import FaultKind
from multicompute.testing.local.fault_injection import FaultInjector, retry_header
from multicompute.testing.local.server import Request, Response, json_response

_ROUTES: Final = {
    ("POST", "/v1/servers"): "CreateServers",
    ("GET", "/v1/servers"): "ListServers",
    ("PATCH", "/v1/servers"): "UpdateServers",
    ("POST", "/v1/servers/delete"): "DeleteServers",
    ("POST", "/v1/servers/find"): "FindServers",
    ("POST", "/v1/firewalls"): "CreateFirewall",
    ("GET", "/v1/firewalls"): "ListFirewalls",
    ("GET", "/v1/account"): "GetAccount",
}


class Api:
    """The application that answers HTTP requests; several threads may call it at the same time."""

    def __init__(
        self, injector: FaultInjector, answer: Callable[[str, Mapping[str, Any], str], dict[str, Any]]
    ) -> None:
        """Answer with what `answer` returns for an operation, its body and the key, disturbed by the faults of `injector`."""
        self._injector = injector
        self._answer = answer

    def __call__(self, request: Request) -> Response | None:
        """Answer a request; None closes the connection without an answer."""
        try:
            operation, body = _read(request)
        except Refusal as refusal:
            return _refused(refusal)
        return self._injector.answer(
            operation,
            body,
            answer=lambda: self._answered(operation, body, _key(request)),
            refuse=lambda fault: _refused(_injected(fault)),
        )

    def _answered(self, operation: str, body: Mapping[str, Any], key: str) -> Response:
        try:
            return json_response(200, self._answer(operation, body, key))
        except Refusal as refusal:
            return _refused(refusal)


def _key(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def _read(request: Request) -> tuple[str, dict[str, Any]]:
    """Return the operation that a request calls, and its body or query."""
    if not _key(request):
        raise Refusal("unauthorized", "no key was sent")
    folder, _, last = request.path.rpartition("/")
    if (request.method, folder) == ("DELETE", "/v1/firewalls"):
        return "DeleteFirewall", {"id": last}
    operation = _ROUTES.get((request.method, request.path))
    if operation is None:
        raise Refusal("not_found", f"{request.method} {request.path}: no such call")
    if request.method != "GET":
        return operation, json.loads(request.body)
    query = parse_qs(request.query, strict_parsing=bool(request.query))
    return operation, {name: values if name == "label" else values[0] for name, values in query.items()}


def _refused(refusal: Refusal) -> Response:
    error = {"code": refusal.code, "message": refusal.message}
    return json_response(refusal.status, {"error": error}, retry_header(refusal.retry_after))


def _injected(fault: Fault) -> Refusal:
    """Return the refusal of a fault of a test."""
    code = "rate_limited" if fault.kind is FaultKind.THROTTLE else fault.code
    wait = fault.retry_after or (timedelta(seconds=1) if code == "rate_limited" else None)
    return Refusal(code, fault.message or code, status=STATUS.get(code, fault.status), retry_after=wait)
