"""Operations of Compute Engine: begun by what changes anything, looked at, waited for, listed."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from multicompute.clock import Clock
from multicompute_gcp.local.answers import GcpError, Json, invalid, not_found
from multicompute_gcp.local.calls import Call, Handler, aggregated_page, list_page
from multicompute_gcp.local.hardware import hardware
from multicompute_gcp.local.records import Error, Operation, path_of
from multicompute_gcp.local.state import Shelf, State

# "waits up to 2 minutes": zoneOperations.wait in compute.v1.
_LONGEST_WAIT = timedelta(minutes=2)
# Google promises to know a request id for at least an hour (tpu.v2; https://google.aip.dev/155): not longer here, so that nobody relies on it.
_REQUESTS_ARE_KNOWN_FOR = timedelta(hours=1)
_GLOBAL = "global"


class Operations:
    """Begins operations and answers for them."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    def handlers(self) -> Mapping[str, Handler]:
        """The methods that are answered here; the waiting ones are in `waits`."""
        return {
            "zoneOperations.get": self.get,
            "zoneOperations.list": self.list,
            "regionOperations.get": self.get,
            "regionOperations.list": self.list,
            "globalOperations.get": self.get,
            "globalOperations.list": self.list,
            "globalOperations.aggregatedList": self.aggregated,
        }

    def waits(self) -> Mapping[str, Handler]:
        """The methods that take their time, and must be called without the lock."""
        return {f"{scope}Operations.wait": self.wait for scope in ("zone", "region", "global")}

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
        """Note an operation.

        Args:
            kind: "insert", "delete", ...
            scope: "zones/us-central1-a", "regions/us-central1" or "global".
            target: URL of the resource.
            errors, http_status: how it turns out to have failed once it is done.
            done_at: when; after `Timing.operation` by default.
            user: who is said to have asked, if it was not the caller.
            message: the operation's status message.
            more: fields beside the usual.
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
        self._shelf(scope).put(operation)
        return operation

    def running(self, scope: str, kind: str) -> int:
        """How many operations of a kind are under way in a scope."""
        now = self._state.now()
        return sum(1 for one in self._shelf(scope) if one.kind == kind and now < one.done_at)

    def replayed(self, call: Call) -> object | None:
        """What the request id of this call stands for already, or None.

        Raises:
            GcpError: it is no UUID, or was the id of another request.
        """
        given = call.query.get("requestId")
        if given is None:
            return None
        if not _is_uuid(given):
            raise invalid("requestId", given, "The request ID must be a valid UUID; the zero UUID is not supported.")
        known = self._state.requests.get(given)
        if known is None or self._state.now() - known[0] > _REQUESTS_ARE_KNOWN_FOR:
            return None
        if known[1] != _meaning(call):
            raise invalid("requestId", given, "The request ID was used for another request.")
        begun: object = known[2]
        return begun

    def remember(self, call: Call, begun: object) -> None:
        """Note what a call with a request id began."""
        given = call.query.get("requestId")
        if given is None:
            return
        self._state.requests[given] = self._state.now(), _meaning(call), begun
        if isinstance(begun, Operation):
            begun.more["clientOperationId"] = given

    def get(self, call: Call) -> Json:
        operation = self._found(call)
        answer = operation.as_json(self._state.now())
        operation.polls_left -= 1
        return answer

    def wait(self, call: Call) -> Json:
        with self._state.lock:
            operation = self._found(call)
            left = operation.done_at - self._state.now()
        if left > timedelta(0):
            self._clock.sleep(min(left, _LONGEST_WAIT))
        with self._state.lock:
            self._state.catch_up()
            operation.polls_left = 0
            return operation.as_json(self._state.now())

    def list(self, call: Call) -> str:
        scope = self._scope(call)
        return list_page(call, self._state, "operation", scope, self._shelf(scope).in_order())

    def aggregated(self, call: Call) -> str:
        found = {f"zones/{zone}": self._shelf(f"zones/{zone}").in_order() for zone in hardware().zones}
        found |= {f"regions/{name}": self._shelf(f"regions/{name}").in_order() for name in hardware().regions()}
        return aggregated_page(call, self._state, "operation", found | {_GLOBAL: self._shelf(_GLOBAL).in_order()})

    def _found(self, call: Call) -> Operation:
        scope, name = self._scope(call), call.path["operation"]
        operation = self._shelf(scope).find(name)
        if operation is None:
            raise not_found(path_of(scope, "operations", name))
        return operation

    def _scope(self, call: Call) -> str:
        if "zone" in call.path:
            return f"zones/{call.zone}"
        return f"regions/{call.region}" if "region" in call.path else _GLOBAL

    def _shelf(self, scope: str) -> Shelf[Operation]:
        return self._state.operations.setdefault(scope, Shelf())


def _is_uuid(text: str) -> bool:
    try:
        return uuid.UUID(text).int != 0
    except ValueError:
        return False


def _meaning(call: Call) -> str:
    names = "/".join(f"{key}={call.path[key]}" for key in sorted(call.path))
    return f"{call.operation} {names}"


def refuse_too_many(running: int, most: int) -> None:
    """Refuse a call when too much of its kind is under way."""
    if running >= most:
        raise GcpError("rateLimitExceeded", f"Rate Limit Exceeded: {running} bulk operations are running.", 403)
