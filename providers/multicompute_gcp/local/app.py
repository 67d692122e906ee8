"""The HTTP application of the local Google Cloud: finds the method, checks the request, injects faults and answers."""

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

from multicompute.testing.faults import Fault, FaultKind
from multicompute.testing.local.fault_injection import FaultInjector
from multicompute.testing.local.server import Request, Response
from multicompute_gcp.local.calls import Call, Handler
from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.operations import Operations
from multicompute_gcp.local.permissions import check_permissions, check_quota_project
from multicompute_gcp.local.records import PROJECT, Operation, url_of
from multicompute_gcp.local.responses import STATUS_NUMBERS, GcpError, Json, compute_error, not_found, ok, rpc_error
from multicompute_gcp.local.routes import Route, route
from multicompute_gcp.local.schema import Document, document
from multicompute_gcp.local.state import State

_DOCUMENTS: Mapping[str, str] = {
    "compute": "compute.v1",
    "tpu": "tpu.v2",
    "monitoring": "monitoring.v3",
    "cloudbilling": "cloudbilling.v1",
    "cloudbilling.skus": "cloudbilling.v1beta",
}
_OK = 200


class GcpApp:
    """The application that serves Compute Engine, Cloud TPU, Cloud Monitoring and the price lists of Cloud Billing."""

    def __init__(
        self,
        state: State,
        injector: FaultInjector,
        operations: Operations,
        handlers: Mapping[str, Handler],
        failed_tpu: Callable[[Call, int, str], Json],
    ) -> None:
        """Serve the methods in `handlers`.

        Args:
            state: Its lock is held while a handler runs, except for the waiting methods of `operations`.
            injector: Records calls and injects faults.
            operations: The operations of Compute Engine.
            handlers: Method -> what answers it.
            failed_tpu: Begins an operation of the TPU API that fails with this code and message, for faults.
        """
        self._state = state
        self._injector = injector
        self._operations = operations
        self._handlers = handlers
        self._waits = operations.waits()
        self._failed_tpu = failed_tpu

    def __call__(self, request: Request) -> Response | None:
        """Answer a request."""
        called = route(request.method, unquote(request.path))
        if called is None:
            path = f"{request.method} {request.path}"
            return compute_error(GcpError("notFound", f"The local Google Cloud has no method {path}", 404))
        try:
            check_quota_project(self._state, request.headers)
            call = _read(called, request)
        except GcpError as error:
            self._injector.record(called.operation, "", {})
            return _error(called, error)
        return self._injector.answer(
            called.operation,
            _fields(call),
            answer=lambda: self._answer(called, call),
            refuse=lambda fault: self._refuse(fault, called, call),
        )

    def _refuse(self, fault: Fault, called: Route, call: Call) -> Response:
        """Refuse a call, or begin an operation that fails.

        Compute Engine has codes like "quotaExceeded" in refusals and "QUOTA_EXCEEDED" in operations: where the method begins an
        operation, the code decides. For TPUs the status decides: 200 means an operation that fails.
        """
        if fault.kind is FaultKind.THROTTLE:
            return _error(called, _throttled(called, fault))
        message = fault.message or fault.code
        if called.api == "tpu" and fault.status == _OK:
            with self._state.lock:
                return ok(self._failed_tpu(call, STATUS_NUMBERS.get(fault.code, 2), message))
        if called.api == "compute" and _begins_operation(called) and fault.code.isupper():
            return self._failing_operation(fault, call, message)
        return _error(called, GcpError(fault.code, message, fault.status, retry_after=fault.retry_after))

    def _failing_operation(self, fault: Fault, call: Call, message: str) -> Response:
        scope = f"zones/{call.zone}" if "zone" in call.path else "global"
        if "region" in call.path:
            scope = f"regions/{call.region}"
        with self._state.lock:
            collection, _, method = call.operation.partition(".")
            operation = self._operations.begin(
                method,
                scope,
                url_of(scope, collection),
                0,
                errors=[{"code": fault.code, "message": message}],
                # A failed operation can also have no HTTP status; a client that checks only the status takes it for a success.
                http_status=None if fault.status == _OK else fault.status,
            )
            self._operations.remember(call, operation)
            return _begun(operation, self._state)

    def _answer(self, called: Route, call: Call) -> Response:
        try:
            project = call.path.get("project", PROJECT)
            if project != PROJECT and not called.operation.startswith(("images.", "reservation")):
                self._check_shared(called, project)
            if called.operation in self._waits:
                check_permissions(self._state, call)
                return ok(self._waits[called.operation](call))
            with self._state.lock:
                self._state.catch_up()
                check_permissions(self._state, call)
                return self._handled(called, call)
        except GcpError as error:
            return _error(called, error)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if _schema(called) is not None:
                raise
            # Without Google's schemas a malformed request gets as far as the handler.
            return _error(called, GcpError("badRequest", f"Invalid JSON payload received. {error!r}", 400))

    def _check_shared(self, called: Route, project: str) -> None:
        """Refuse a call in another project, unless it reads a network that the other project shares.

        roles/compute.networkUser, which a host project grants, has compute.networks.get and compute.subnetworks.get, and no compute.routes.list
        (https://cloud.google.com/iam/docs/roles-permissions/compute).
        """
        is_shared = any(scope.startswith(f"{project}/") for scope in self._state.stores.get("network", {}))
        if not is_shared:
            raise not_found(f"projects/{project}")
        if called.operation not in ("networks.get", "subnetworks.get"):
            text = f"Required 'compute.{called.operation}' permission for 'projects/{project}'"
            raise GcpError("forbidden", text, 403)

    def _handled(self, called: Route, call: Call) -> Response:
        replayed = self._operations.replayed(call)
        if replayed is not None:
            return ok(replayed.as_json(self._state.now()))
        found = self._handlers[called.operation](call)
        if isinstance(found, str | dict):
            return ok(found)
        self._operations.remember(call, found)
        if isinstance(found, Operation):
            return _begun(found, self._state)
        return ok(found.as_json(self._state.now()))


def _begun(operation: Operation, state: State) -> Response:
    """Return the first response about an operation, which reports that it runs, even if it is done at once."""
    first = operation.as_json(state.now())
    for name in ("error", "httpErrorStatusCode", "httpErrorMessage", "endTime"):
        first.pop(name, None)
    return ok(first | {"status": "RUNNING", "progress": 0})


def _begins_operation(called: Route) -> bool:
    # The names of the methods in compute.v1 that only read.
    method = called.operation.rsplit(".", 1)[-1]
    return method not in ("get", "list", "aggregatedList", "wait", "getFromFamily", "getGuestAttributes")


def _schema(called: Route) -> Document | None:
    """Return the discovery document of a method; the Pricing API is another version of Cloud Billing."""
    collection = ".".join(called.identifier.split(".")[:2])
    return document(_DOCUMENTS.get(collection) or _DOCUMENTS[called.api])


def _read(called: Route, request: Request) -> Call:
    query = parse_qs(request.query, keep_blank_values=True)
    try:
        body: Any = json.loads(request.body) if request.body else None
    except ValueError as error:
        raise GcpError("parseError", f"Invalid JSON payload received. {error}", 400) from error
    schema = _schema(called)
    if schema is not None:
        schema.check(called.identifier, query, body)
    if body is not None and not isinstance(body, dict):
        raise GcpError(
            "parseError", 'Invalid JSON payload received. Unknown name "": Root element must be a message.', 400
        )
    return Call(called.operation, called.path, {name: values[-1] for name, values in query.items()}, body or {})


def _error(called: Route, error: GcpError) -> Response:
    return compute_error(error) if called.api == "compute" else rpc_error(error)


def _throttled(called: Route, fault: Fault) -> GcpError:
    if called.api == "compute":
        return GcpError("rateLimitExceeded", "Rate Limit Exceeded", 403, retry_after=fault.retry_after)
    service = f"{called.api}.googleapis.com"
    message = f"Quota exceeded for quota metric 'Requests' and limit 'Requests per minute' of service '{service}'."
    return GcpError("RESOURCE_EXHAUSTED", message, 429, retry_after=fault.retry_after)


def _fields(call: Call) -> dict[str, object]:
    """Return the parameters of a call for the record of calls, which the conditions of faults are compared with, too."""
    zone = call.path.get("zone", "")
    region = call.path.get("region", "") or hardware().zones.get(zone, "")
    fields: dict[str, object] = {"zone": zone, "region": region, "request_id": call.query.get("requestId", "")}
    last = list(call.path)[-1] if call.path else ""
    fields["name"] = call.path[last] if last not in ("", "project", "zone", "region") else call.body.get("name", "")
    if "filter" in call.query:
        fields["filter"] = call.query["filter"]
    if call.operation.startswith("tpu."):
        return fields | _slice_fields(call)
    properties = call.body.get("instanceProperties", call.body)
    if isinstance(properties, dict) and "machineType" in properties:
        scheduling = properties.get("scheduling") or {}
        fields |= {
            "instance_type": str(properties["machineType"]).rsplit("/", 1)[-1],
            "count": _number(call.body.get("count", 1)),
            "spot": scheduling.get("provisioningModel") == "SPOT",
        }
    return fields


def _number(value: object) -> int:
    text = str(value)
    return int(text) if text.isdecimal() else 0


def _slice_fields(call: Call) -> dict[str, object]:
    found: dict[str, object] = {}
    name = call.query.get("queuedResourceId") or call.query.get("nodeId")
    if name:
        found["name"] = name
    specs = call.body.get("tpu", {}).get("nodeSpec", [])
    node = specs[0].get("node", {}) if specs else call.body
    if "acceleratorType" in node:
        count = sum(spec.get("multisliceParams", {}).get("nodeCount", 1) for spec in specs) or 1
        found |= {"instance_type": node["acceleratorType"], "count": count}
    return found
