"""Long-running operations: their headers in responses, and the requests for their status."""

import re
from collections.abc import Callable
from datetime import timedelta

from multicompute.testing.local.fault_injection import retry_header
from multicompute.testing.local.server import Request
from multicompute_azure.local.arm import SUBSCRIPTION, ArmError, ArmResponse, Json, instant
from multicompute_azure.local.routes import Call, query_of
from multicompute_azure.local.state import Operation, State

_STATUS = re.compile(
    r"/subscriptions/[^/]+/providers/Microsoft\.(?:Compute|Network)/locations/[^/]+/operations/([^/]+)$", re.IGNORECASE
)
_RESULT = re.compile(
    r"/subscriptions/[^/]+/(?:providers/Microsoft\.Network/locations/[^/]+/operationResults|operationresults)/([^/]+)$",
    re.IGNORECASE,
)


class Operations:
    """Long-running operations and their status.

    Attributes:
        retry_after: The delay in the Retry-After header; zero lets the client choose.
    """

    def __init__(self, state: State) -> None:
        """Keep the operations in `state`, which also has the clock."""
        self._state = state
        self.retry_after = timedelta(0)

    def start(
        self,
        call: Call,
        location: str,
        delay: timedelta,
        finish: Callable[[], ArmError | None],
        *,
        failure: ArmError | None = None,
    ) -> Operation:
        """Start the operation of a call; see `State.begin`."""
        return self._state.begin(call.route.operation, location, delay, finish, failure=failure)

    def headers(self, call: Call, operation: Operation) -> dict[str, str]:
        """Return the headers with the URLs for the status of an operation."""
        base = f"{call.base_url}/subscriptions/{SUBSCRIPTION}"
        version = f"api-version={call.version}"
        if call.route.package.startswith("resource"):
            headers = {"Location": f"{base}/operationresults/{operation.id}?{version}"}
        else:
            provider = "Microsoft.Compute" if call.route.package == "compute" else "Microsoft.Network"
            where = f"{base}/providers/{provider}/locations/{operation.location}"
            status = f"{where}/operations/{operation.id}?"
            headers = {"Azure-AsyncOperation": status + version}
            if provider == "Microsoft.Compute":
                headers["Location"] = f"{status}monitor=true&{version}"
            elif call.route.method != "PUT":
                headers["Location"] = f"{where}/operationResults/{operation.id}?{version}"
        return headers | retry_header(self.retry_after)

    def is_status(self, request: Request) -> bool:
        """Return whether a request asks for the status of an operation."""
        return request.method == "GET" and _match(request) is not None

    def status(self, request: Request) -> ArmResponse | ArmError:
        """Answer a request for the status of an operation."""
        match = _match(request)
        if match is None:
            raise ValueError(f"{request.path} is not the status of an operation")
        operation = self._state.operations.get(match[1])
        if operation is None:
            return ArmError("OperationNotFound", f"The operation '{match[1]}' was not found.", 404)
        is_over = operation.status != "InProgress" and operation.polls_left <= 0
        operation.polls_left -= 1
        if match.re is _STATUS and "monitor" not in query_of(request):
            return ArmResponse(200, self._document(operation, is_over=is_over), retry_header(self.retry_after))
        if not is_over:
            return ArmResponse(
                202,
                None,
                retry_header(self.retry_after)
                | {"Location": f"http://{request.headers.get('host', '')}{request.path}?{request.query}"},
            )
        return operation.error if operation.error is not None else ArmResponse(200)

    def _document(self, operation: Operation, *, is_over: bool) -> Json:
        document: Json = {
            "name": operation.id,
            "startTime": instant(operation.started),
            "status": operation.status if is_over else "InProgress",
        }
        if is_over and operation.ended is not None:
            document["endTime"] = instant(operation.ended)
        if is_over and operation.error is not None:
            document["error"] = operation.error.body()
        return document


def _match(request: Request) -> re.Match[str] | None:
    return _STATUS.match(request.path) or _RESULT.match(request.path)
