"""Reads what is asked, meets faults, checks it against the SDK's models, and lets the right handler answer."""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from multicompute.clock import Clock
from multicompute.testing.local_faults import disturbed
from multicompute.testing.local_server import Request, Response
from multicompute_azure.local import schema
from multicompute_azure.local.arm import Answer, ArmError, dig
from multicompute_azure.local.batch import Batch
from multicompute_azure.local.operations import Operations
from multicompute_azure.local.routes import Call, Handler, Route, Router, check_subscription, check_version, query_of
from multicompute_azure.local.state import State

if TYPE_CHECKING:
    from multicompute.testing.faults import Fault, Faults

_RETRY_AFTER = 1


class Front:
    """The application that the local cloud's server serves.

    Args:
        handlers: by operation ("resourceGroups.get").
        tokens: answers what asks for a token of a managed identity.
    """

    def __init__(
        self,
        state: State,
        faults: "Faults",
        clock: Clock,
        handlers: Mapping[str, Handler],
        operations: Operations,
        tokens: Callable[[Request], Response],
        admin: Callable[[Request], Response],
    ) -> None:
        self._state = state
        self._faults = faults
        self._clock = clock
        self._handlers: Mapping[str, Handler] = {**handlers, "batch": Batch(self)}
        self._operations = operations
        self._tokens = tokens
        self._admin = admin
        self._router = Router()

    def __call__(self, request: Request) -> Response | None:
        if request.path.startswith("/_local/"):
            return self._admin(request)
        if request.path.startswith("/msi/"):
            return self._tokens(request)
        found = self._router.find(request.method, request.path)
        if found is None:
            return self._elsewhere(request)
        route, params = found
        document = _document(request)
        fields = self._fields(route, params, document)
        region = str(fields["region"])
        self._faults.record(route.operation, region, fields)
        fault = self._faults.take(route.operation, fields)
        if fault is None:
            return self._answer(route, params, document, request, fields)
        return self._faulty(fault, lambda: self._answer(route, params, document, request, fields))

    def _faulty(self, fault: "Fault", answer: Callable[[], Response]) -> Response | None:
        return disturbed(fault, self._clock, answer=answer, refuse=lambda fault: _response(_refusal(fault)))

    def _elsewhere(self, request: Request) -> Response | None:
        """What is not a resource: the status of operations; and what does not exist."""
        if not self._operations.is_status(request):
            self._faults.record("unknown", "", {"region": "", "method": request.method, "path": request.path})
            what = f"There is no operation {request.method} {request.path} in the local Azure."
            return _response(ArmError("InvalidResourceType", what, 404))
        fields: dict[str, object] = {"region": "", "path": request.path}
        self._faults.record("operations.get", "", fields)
        fault = self._faults.take("operations.get", fields)

        def answer() -> Response:
            with self._state.lock:
                self._state.settle()
                return _response(self._operations.status(request))

        return answer() if fault is None else self._faulty(fault, answer)

    def _answer(
        self, route: Route, params: Mapping[str, str], document: object, request: Request, fields: Mapping[str, object]
    ) -> Response:
        try:
            _check_token(request)
            check_subscription(params)
            query = query_of(request)
            check_version(route, query)
            if route.model:
                schema.check(document, route.package, route.model)
            call = Call(
                route,
                params,
                query,
                document if isinstance(document, dict) else {},
                request,
                f"http://{request.headers.get('host', '')}",
                lambda: self._failure(route, fields),
            )
            with self._state.lock:
                self._state.settle()
                answer = self._handlers[route.operation](call)
            # Outside the lock: a page of machines takes longer to write than to find.
            return _response(answer)
        except ArmError as error:
            return _response(error)

    def _failure(self, route: Route, fields: Mapping[str, object]) -> ArmError | None:
        """The fault that is meant for what a call started: by the name "virtualMachines.delete.operation"."""
        fault = self._faults.take(f"{route.operation}.operation", fields)
        return _refusal(fault) if fault is not None else None

    def _fields(self, route: Route, params: Mapping[str, str], document: object) -> dict[str, object]:
        """What the record of calls says about a call, and what faults can be bound to."""
        group = params.get("group", "")
        with self._state.lock:
            known = self._state.groups.get(group.lower())
            region = dig(document, "location") or params.get("location") or (known.location if known else "")
        fields: dict[str, object] = {
            "region": region.lower().replace(" ", "") if isinstance(region, str) else "",
            "group": group,
            "name": params.get("name") or group or params.get("scope", ""),
        }
        tags = dig(document, "tags")
        if isinstance(tags, dict):
            fields["tags"] = dict(tags)
        if route.operation.startswith("virtualMachineScaleSets.") and isinstance(document, dict):
            fields |= _launch_fields(document)
        return fields


def _launch_fields(document: Mapping[str, Any]) -> dict[str, object]:
    zones = document.get("zones")
    return {
        "size": dig(document.get("sku"), "name") or "",
        "count": dig(document.get("sku"), "capacity") or 0,
        "zone": zones[0] if isinstance(zones, list) and zones else "",
        "spot": dig(document, "properties", "virtualMachineProfile", "priority") == "Spot",
    }


def _document(request: Request) -> object:
    if not request.body:
        return None
    try:
        return json.loads(request.body)
    except ValueError:
        # The models refuse it: it is no object.
        return request.body.decode("utf-8", "replace")


def _check_token(request: Request) -> None:
    """A client may come without a token, but not with one that nobody gave it."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind and (kind.lower() != "bearer" or not token):
        raise ArmError("InvalidAuthenticationToken", "The access token is invalid.", 401)


def _refusal(fault: "Fault") -> ArmError:
    headers = {}
    if fault.retry_after is not None:
        headers["Retry-After"] = str(int(fault.retry_after.total_seconds()))
    if fault.kind == "throttle":
        headers.setdefault("Retry-After", str(_RETRY_AFTER))
        return ArmError(
            "TooManyRequests", "The request is being throttled as the limit has been reached.", 429, headers=headers
        )
    return ArmError(fault.code, fault.message or fault.code, fault.status, headers=headers)


def _response(answer: Answer | ArmError) -> Response:
    if isinstance(answer, ArmError):
        body = json.dumps({"error": answer.body()}).encode()
        return Response(answer.status, body, headers=answer.headers)
    body = b"" if answer.document is None else json.dumps(answer.document).encode()
    return Response(answer.status, body, headers=answer.headers)
