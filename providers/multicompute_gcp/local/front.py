"""The application that is served: finds the method, holds the request against its schema, meets faults, and answers."""

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from multicompute.clock import Clock
from multicompute.testing.local_faults import disturbed
from multicompute.testing.local_server import Request, Response
from multicompute_gcp.local.answers import (
    STATUS_NUMBERS,
    GcpError,
    Json,
    answer,
    compute_refusal,
    not_found,
    tpu_refusal,
)
from multicompute_gcp.local.calls import Call, Handler
from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.operations import Operations
from multicompute_gcp.local.records import PROJECT, Operation, url_of
from multicompute_gcp.local.routes import Route, route
from multicompute_gcp.local.schema import document
from multicompute_gcp.local.state import State

if TYPE_CHECKING:
    from multicompute.testing.faults import Fault, Faults

_DOCUMENTS: Mapping[str, str] = {"compute": "compute.v1", "tpu": "tpu.v2", "monitoring": "monitoring.v3"}
_OK = 200


class Front:
    """Answers requests.

    Args:
        handlers: the methods; each is called with the lock held.
        waits: the methods that take their time, and are called without it.
        failed_tpu: begins an operation of the TPU API that fails, for faults.
    """

    def __init__(
        self,
        state: State,
        faults: "Faults",
        clock: Clock,
        operations: Operations,
        handlers: Mapping[str, Handler],
        waits: Mapping[str, Handler],
        admin: Callable[[Request], Response],
        failed_tpu: Callable[[Call, int, str], Json],
    ) -> None:
        self._state = state
        self._faults = faults
        self._clock = clock
        self._operations = operations
        self._handlers = handlers
        self._waits = waits
        self._admin = admin
        self._failed_tpu = failed_tpu

    def __call__(self, request: Request) -> Response | None:
        if request.path.startswith("/_local/"):
            return self._admin(request)
        asked = route(request.method, unquote(request.path))
        if asked is None:
            path = f"{request.method} {request.path}"
            return compute_refusal(GcpError("notFound", f"The local Google Cloud has no method {path}", 404))
        try:
            call = _read(asked, request)
        except GcpError as error:
            self._faults.record(asked.operation, "", {})
            return _refusal(asked, error)
        fields = _fields(call)
        self._faults.record(asked.operation, str(fields["region"]), fields)
        fault = self._faults.take(asked.operation, fields)
        if fault is None:
            return self._answer(asked, call)
        return self._faulty(fault, asked, call)

    def _faulty(self, fault: "Fault", asked: Route, call: Call) -> Response | None:
        def refuse(fault: "Fault") -> Response:
            if fault.kind == "throttle":
                return _refusal(asked, _throttled(asked, fault.retry_after))
            return self._fail(fault, asked, call)

        return disturbed(fault, self._clock, answer=lambda: self._answer(asked, call), refuse=refuse)

    def _fail(self, fault: "Fault", asked: Route, call: Call) -> Response:
        """Refuse a call, or let its operation fail.

        Compute Engine has codes like "quotaExceeded" in refusals and "QUOTA_EXCEEDED" in operations: the code says which is meant,
        where the method begins an operation. For TPUs it is the status: 200 for an operation that fails.
        """
        message = fault.message or fault.code
        retry_after = None if fault.retry_after is None else int(fault.retry_after.total_seconds())
        if asked.api == "tpu" and fault.status == _OK:
            with self._state.lock:
                return answer(self._failed_tpu(call, STATUS_NUMBERS.get(fault.code, 2), message))
        if asked.api == "compute" and _begins_operation(asked) and fault.code.isupper():
            return self._failing_operation(fault, call, message)
        return _refusal(asked, GcpError(fault.code, message, fault.status, retry_after=retry_after))

    def _failing_operation(self, fault: "Fault", call: Call, message: str) -> Response:
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
                # A failed operation without an HTTP status exists too, and is what takes in careless readers.
                http_status=None if fault.status == _OK else fault.status,
            )
            self._operations.remember(call, operation)
            return _begun(operation, self._state)

    def _answer(self, asked: Route, call: Call) -> Response:
        try:
            project = call.path.get("project", PROJECT)
            if project != PROJECT and not asked.operation.startswith("images."):
                raise not_found(f"projects/{project}")
            if asked.operation in self._waits:
                return answer(self._waits[asked.operation](call))  # type: ignore[arg-type]
            with self._state.lock:
                self._state.catch_up()
                return self._handled(asked, call)
        except GcpError as error:
            return _refusal(asked, error)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if document(_DOCUMENTS[asked.api]) is not None:
                raise
            # Without Google's schemas a malformed request comes as far as this.
            return _refusal(asked, GcpError("badRequest", f"Invalid JSON payload received. {error!r}", 400))

    def _handled(self, asked: Route, call: Call) -> Response:
        replayed = self._operations.replayed(call)
        if replayed is not None:
            return answer(replayed.as_json(self._state.now()))  # type: ignore[attr-defined]
        found = self._handlers[asked.operation](call)
        if isinstance(found, str | dict):
            return answer(found)
        self._operations.remember(call, found)
        if isinstance(found, Operation):
            return _begun(found, self._state)
        return answer(found.as_json(self._state.now()))


def _begun(operation: Operation, state: State) -> Response:
    """The first answer, which finds an operation running however soon it is done."""
    first = operation.as_json(state.now())
    for name in ("error", "httpErrorStatusCode", "httpErrorMessage", "endTime"):
        first.pop(name, None)
    return answer(first | {"status": "RUNNING", "progress": 0})


def _begins_operation(asked: Route) -> bool:
    # As the methods are called in compute.v1: what only looks has these names.
    method = asked.operation.rsplit(".", 1)[-1]
    return method not in ("get", "list", "aggregatedList", "wait", "getFromFamily")


def _read(asked: Route, request: Request) -> Call:
    query = parse_qs(request.query, keep_blank_values=True)
    try:
        body: Any = json.loads(request.body) if request.body else None
    except ValueError as error:
        raise GcpError("parseError", f"Invalid JSON payload received. {error}", 400) from error
    schema = document(_DOCUMENTS[asked.api])
    if schema is not None:
        schema.check(asked.identifier, query, body)
    if body is not None and not isinstance(body, dict):
        raise GcpError(
            "parseError", 'Invalid JSON payload received. Unknown name "": Root element must be a message.', 400
        )
    return Call(asked.operation, asked.path, {name: values[-1] for name, values in query.items()}, body or {})


def _refusal(asked: Route, error: GcpError) -> Response:
    return compute_refusal(error) if asked.api == "compute" else tpu_refusal(error)


def _throttled(asked: Route, retry_after: timedelta | None) -> GcpError:
    seconds = None if retry_after is None else int(retry_after.total_seconds())
    if asked.api != "compute":
        service = f"{asked.api}.googleapis.com"
        message = f"Quota exceeded for quota metric 'Requests' and limit 'Requests per minute' of service '{service}'."
        return GcpError("RESOURCE_EXHAUSTED", message, 429, retry_after=seconds)
    return GcpError("rateLimitExceeded", "Rate Limit Exceeded", 403, retry_after=seconds)


def _fields(call: Call) -> dict[str, object]:
    """What the record of calls says about a call, and what faults can be bound to."""
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
