"""Operations of Compute Engine: methods that change something begin one; clients get, list and wait for them."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from multicompute.clock import Clock
from multicompute_gcp.local.calls import Answerable, Call, Handler, aggregated_page, list_page
from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.records import Error, Operation, path_of
from multicompute_gcp.local.responses import GcpError, Json, invalid, not_found
from multicompute_gcp.local.state import ResourceStore, State

# "waits up to 2 minutes": zoneOperations.wait in compute.v1.
_LONGEST_WAIT = timedelta(minutes=2)
# Google guarantees to remember a request id for an hour (tpu.v2; https://google.aip.dev/155). No longer here, so that no adapter relies on more.
_REQUEST_IDS_LAST = timedelta(hours=1)
_GLOBAL = "global"


class Operations:
    """The operations of all scopes, and the methods on them."""

    def __init__(self, state: State, clock: Clock) -> None:
        """Keep the operations in `state`; `clock` is what the waiting methods sleep by."""
        self._state = state
        self._clock = clock

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by method; those of the waiting methods are in `waits`."""
        return {
            "zoneOperations.get": self._get,
            "zoneOperations.list": self._list,
            "regionOperations.get": self._get,
            "regionOperations.list": self._list,
            "globalOperations.get": self._get,
            "globalOperations.list": self._list,
            "globalOperations.aggregatedList": self._aggregated,
        }

    def waits(self) -> Mapping[str, Callable[[Call], Json]]:
        """Return the handlers of the methods that wait. They must be called without the lock."""
        return {f"{scope}Operations.wait": self._wait for scope in ("zone", "region", "global")}

    def begin(
        self,
        kind: str,
        scope: str,
        target: str,
        target_id: int,
        *,
        errors: Sequence[Error] = (),
        http_status: int | None = None,
        done_at: datetime | None = None,
        user: str = "",
        message: str = "",
        more: Json | None = None,
    ) -> Operation:
        """Begin an operation.

        Args:
            kind: The operation type: "insert", "delete", ...
            scope: "zones/us-central1-a", "regions/us-central1" or "global".
            target: The URL of the resource.
            target_id: The id of the resource.
            errors: The errors with which it ends; none if it succeeds.
            http_status: The HTTP status with which it fails; None to fail without one.
            done_at: When it is done; after `Timing.operation` by default.
            user: Who started it; the caller by default.
            message: The status message.
            more: Additional fields.
        """
        now = self._state.now()
        number = self._state.new_id()
        operation = Operation(
            name=f"operation-{int(now.timestamp() * 1000)}-{number:x}",
            id=number,
            kind=kind,
            scope=scope,
            target=target,
            target_id=target_id,
            created_at=now,
            done_at=now + self._state.timing.operation if done_at is None else done_at,
            polls_left=self._state.timing.polls,
            errors=list(errors),
            http_status=http_status,
            message=message,
            more=more or {},
        )
        if user:
            operation.user = user
        self._store(scope).add(operation)
        return operation

    def running(self, scope: str, kind: str) -> int:
        """Return how many operations of a kind run in a scope."""
        now = self._state.now()
        return sum(1 for one in self._store(scope) if one.kind == kind and now < one.done_at)

    def replayed(self, call: Call) -> Answerable | None:
        """Return the operation that an earlier call with the same request id began, or None.

        Raises:
            GcpError: The request id is not a UUID, or another request has used it.
        """
        given = call.query.get("requestId")
        if given is None:
            return None
        if not _is_uuid(given):
            raise invalid("requestId", given, "The request ID must be a valid UUID; the zero UUID is not supported.")
        known = self._state.requests.get(given)
        if known is None or self._state.now() - known[0] > _REQUEST_IDS_LAST:
            return None
        if known[1] != _identity(call):
            raise invalid("requestId", given, "The request ID was used for another request.")
        begun: Answerable = known[2]
        return begun

    def remember(self, call: Call, begun: Answerable) -> None:
        """Remember the operation that a call with a request id began."""
        given = call.query.get("requestId")
        if given is None:
            return
        self._state.requests[given] = self._state.now(), _identity(call), begun
        if isinstance(begun, Operation):
            begun.more["clientOperationId"] = given

    def _get(self, call: Call) -> Json:
        operation = self._found(call)
        shown = operation.as_json(self._state.now())
        operation.polls_left -= 1
        return shown

    def _wait(self, call: Call) -> Json:
        with self._state.lock:
            operation = self._found(call)
            left = operation.done_at - self._state.now()
        if left > timedelta(0):
            self._clock.sleep(min(left, _LONGEST_WAIT))
        with self._state.lock:
            self._state.catch_up()
            operation.polls_left = 0
            return operation.as_json(self._state.now())

    def _list(self, call: Call) -> str:
        scope = self._scope(call)
        return list_page(call, self._state, "operation", scope, self._store(scope).in_order())

    def _aggregated(self, call: Call) -> str:
        found = {f"zones/{zone}": self._store(f"zones/{zone}").in_order() for zone in hardware().zones}
        found |= {f"regions/{name}": self._store(f"regions/{name}").in_order() for name in hardware().regions()}
        return aggregated_page(call, self._state, "operation", found | {_GLOBAL: self._store(_GLOBAL).in_order()})

    def _found(self, call: Call) -> Operation:
        scope, name = self._scope(call), call.path["operation"]
        operation = self._store(scope).find(name)
        if operation is None:
            raise not_found(path_of(scope, "operations", name))
        return operation

    def _scope(self, call: Call) -> str:
        if "zone" in call.path:
            return f"zones/{call.zone}"
        return f"regions/{call.region}" if "region" in call.path else _GLOBAL

    def _store(self, scope: str) -> ResourceStore[Operation]:
        return self._state.operations.setdefault(scope, ResourceStore())


def _is_uuid(text: str) -> bool:
    try:
        return uuid.UUID(text).int != 0
    except ValueError:
        return False


def _identity(call: Call) -> str:
    names = "/".join(f"{key}={call.path[key]}" for key in sorted(call.path))
    return f"{call.operation} {names}"


def refuse_too_many(running: int, most: int) -> None:
    """Refuse a call while `most` or more operations of its kind run."""
    if running >= most:
        raise GcpError("rateLimitExceeded", f"Rate Limit Exceeded: {running} bulk operations are running.", 403)
