"""Flex-start instances that wait for capacity: instances.insert with `params.requestValidForDuration`."""

from datetime import datetime, timedelta
from typing import NamedTuple

from multicompute_gcp.local import capacity
from multicompute_gcp.local.instance_creation import create_instance, limit_run
from multicompute_gcp.local.instance_plan import InstancePlan
from multicompute_gcp.local.operations import Operations
from multicompute_gcp.local.records import Instance, Operation
from multicompute_gcp.local.responses import Json, invalid
from multicompute_gcp.local.state import State

# https://cloud.google.com/compute/docs/instances/create-flex-start-vm: from 90 seconds to two hours.
_SHORTEST, _LONGEST = timedelta(seconds=90), timedelta(hours=2)


class _Waiting(NamedTuple):
    instance: Instance
    plan: InstancePlan
    operation: Operation
    until: datetime


class PendingInstances:
    """The instances that are PENDING, each until there is capacity or its request is not valid any more."""

    def __init__(self, state: State, operations: Operations) -> None:
        """Create the instances in `state`; their requests are `operations`."""
        self._state = state
        self._operations = operations
        self._waiting: list[_Waiting] = []

    def insert(self, plan: InstancePlan, name: str, target: str, wait: timedelta, error: Json) -> Operation:
        """Let an instance wait for capacity; the operation fails with `error` if there is none in time."""
        until = self._state.now() + wait
        instance = create_instance(self._state, plan, name, is_pending=True)
        operation = self._operations.begin(
            "insert", instance.scope, target, instance.id, errors=[error], http_status=503, done_at=until
        )
        self._waiting.append(_Waiting(instance, plan, operation, until))
        return operation

    def settle(self) -> None:
        """Start what fits, and end what has waited too long or was deleted; the caller holds the lock."""
        now = self._state.now()
        for item in list(self._waiting):
            instance = item.instance
            if instance.gone_at is not None:
                item.operation.done_at = now
            elif now >= item.until:
                self._state.delete_instance(instance, now)
            elif capacity.available(self._state, item.plan.host, 1) >= 1:
                instance.is_pending, instance.runs_from = False, now + self._state.timing.boot
                limit_run(self._state, item.plan, instance)
                item.operation.errors, item.operation.http_status, item.operation.done_at = [], None, now
            else:
                continue
            self._waiting.remove(item)

    def clear(self) -> None:
        """Forget all of them."""
        self._waiting.clear()


def valid_for(body: Json) -> timedelta | None:
    """Return how long a request may wait for capacity, None for not at all.

    Raises:
        GcpError: Compute Engine would refuse the duration.
    """
    given = body.get("params", {}).get("requestValidForDuration")
    if given is None:
        return None
    wait = timedelta(seconds=int(given.get("seconds", 0)))
    if not _SHORTEST <= wait <= _LONGEST:
        raise invalid("resource.params.requestValidForDuration", wait, "It must be from 90 seconds to two hours.")
    return wait
