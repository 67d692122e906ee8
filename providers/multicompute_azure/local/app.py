"""The HTTP application of the local Azure: finds the operation, injects faults, checks the request and answers."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from multicompute.testing.faults import Fault, FaultKind
from multicompute.testing.local.fault_injection import FaultInjector, retry_header
from multicompute.testing.local.server import Request, Response, json_response
from multicompute_azure.local import schema
from multicompute_azure.local.arm import ArmError, ArmResponse, dig
from multicompute_azure.local.batch import Batch
from multicompute_azure.local.operations import Operations
from multicompute_azure.local.routes import Call, Handler, Route, Router, check_subscription, check_version, query_of
from multicompute_azure.local.state import State

_STATUS = "operations.get"


class AzureApp:
    """The application that serves Azure Resource Manager."""

    def __init__(
        self,
        state: State,
        injector: FaultInjector,
        handlers: Mapping[str, Handler],
        operations: Operations,
        check_token: Callable[[Request], None],
    ) -> None:
        """Serve the operations in `handlers`.

        Args:
            state: Its lock is held while a handler runs.
            injector: Records calls and injects faults.
            handlers: Operation ("resourceGroups.get") -> what answers it.
            operations: Answers requests for the status of long-running operations.
            check_token: Refuses a request with credentials that are not accepted.
        """
        self._state = state
        self._injector = injector
        self._handlers: Mapping[str, Handler] = {**handlers, "batch": Batch(self)}
        self._operations = operations
        self._check_token = check_token
        self._router = Router()

    def __call__(self, request: Request) -> Response | None:
        """Answer a request."""
        found = self._router.find(request.method, request.path)
        if found is None:
            return self._answer_status(request)
        route, params = found
        document = _document(request)
        fields = self._fields(route, params, document)
        return self._injector.answer(
            route.operation,
            fields,
            answer=lambda: self._answer(route, params, document, request, fields),
            refuse=lambda fault: _response(_refusal(fault)),
        )

    def _answer_status(self, request: Request) -> Response | None:
        """Answer a request for the status of a long-running operation; refuse any other."""
        if not self._operations.is_status(request):
            self._injector.record("unknown", "", {"region": "", "method": request.method, "path": request.path})
            message = f"There is no operation {request.method} {request.path} in the local Azure."
            return _response(ArmError("InvalidResourceType", message, 404))

        def answer() -> Response:
            try:
                self._check_token(request)
            except ArmError as error:
                return _response(error)
            with self._state.lock:
                self._state.catch_up()
                return _response(self._operations.status(request))

        fields: dict[str, object] = {"region": "", "path": request.path}
        return self._injector.answer(_STATUS, fields, answer=answer, refuse=lambda fault: _response(_refusal(fault)))

    def _answer(
        self, route: Route, params: Mapping[str, str], document: object, request: Request, fields: Mapping[str, object]
    ) -> Response:
        try:
            self._check_token(request)
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
                self._state.catch_up()
                self._state.guards.check(route.method, _scope(request.path))
                _check_region(self._state, call)
                answer = self._handlers[route.operation](call)
            # Without the lock: to write a page of machines takes longer than to find them.
            return _response(answer)
        except ArmError as error:
            return _response(error)

    def _failure(self, route: Route, fields: Mapping[str, object]) -> ArmError | None:
        """Return the error for the operation that a call starts: a fault of "virtualMachines.delete.operation"."""
        fault = self._injector.take(f"{route.operation}.operation", fields)
        return _refusal(fault) if fault is not None else None

    def _fields(self, route: Route, params: Mapping[str, str], document: object) -> dict[str, object]:
        """Return the parameters of a call for the record of calls, which the conditions of faults are compared with, too."""
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


def _scope(path: str) -> str:
    """Return the id of what a call is about: a resource, a group or the subscription."""
    scope, _, _ = path.rstrip("/").partition("/providers/Microsoft.Resources/tags/")
    parts = scope.split("/")
    # An action has one part more than the resource that it is done to.
    return "/".join(parts[:-1]) if "providers" in parts and len(parts) % 2 == 0 else scope


def _check_region(state: State, call: Call) -> None:
    """Refuse to create anything in a region that a policy does not allow; what exists there can be read, changed and deleted."""
    code = state.closed.get(str(call.document.get("location") or "").lower().replace(" ", ""))
    if code is None or call.request.method != "PUT":
        return
    name = str(call.params.get("name") or call.params.get("group"))
    text = (
        f"Resource '{name}' was disallowed by policy. Policy identifiers: "
        '\'[{"policyAssignment":{"name":"Allowed locations","id":"/providers/Microsoft.Management/managementGroups/all"}}]\'.'
        if code == "RequestDisallowedByPolicy"
        else f"Resource '{name}' was disallowed by Azure: This policy maintains a set of best available regions where your "
        "subscription can deploy resources."
    )
    raise ArmError(code, text, 403, target=name)


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
        # A string, which the models refuse.
        return request.body.decode("utf-8", "replace")


def _refusal(fault: Fault) -> ArmError:
    headers = retry_header(fault.retry_after)
    if fault.kind is FaultKind.THROTTLE:
        message = "The request is being throttled as the limit has been reached."
        return ArmError("TooManyRequests", message, 429, headers={"Retry-After": "1", **headers})
    return ArmError(fault.code, fault.message or fault.code, fault.status, headers=headers)


def _response(answer: ArmResponse | ArmError) -> Response:
    if isinstance(answer, ArmError):
        return json_response(answer.status, {"error": answer.body()}, answer.headers)
    if answer.document is None:
        return Response(answer.status, headers=answer.headers)
    return json_response(answer.status, answer.document, answer.headers)
