"""Waits for Compute Engine's operations with its own wait calls, and says what they ended in."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import requests
from google.api_core import exceptions as sdk

from multicompute.clock import Clock
from multicompute_gcp._errors import Place, Said, said_by_operation, translate_errors
from multicompute_gcp._session import Clients

if TYPE_CHECKING:
    from google.cloud.compute_v1 import Operation

# The API holds a wait call open for up to two minutes; shorter ones let us look at the clock.
_ONE_WAIT: Final = 20.0
# Something on the way may refuse to wait at once and every time: then it is not asked without a pause.
_PAUSE: Final = timedelta(seconds=5)
_SLOW: Final = (sdk.DeadlineExceeded, sdk.GatewayTimeout, requests.Timeout)


def is_done(operation: "Operation") -> bool:
    """Whether it has ended, well or not."""
    return operation.status is not None and int(operation.status) == _done()


def _done() -> int:
    from google.cloud.compute_v1 import Operation

    return int(Operation.Status.DONE)


def wait(
    clients: Clients, operation: "Operation", place: Place, *, clock: Clock, at_most: timedelta
) -> "tuple[bool, Said | None]":
    """Wait until the operation has ended, or for so long.

    Returns:
        Whether it has ended, and the error that it ended in.
    """
    end = clock.now() + at_most
    while not is_done(operation):
        left = (end - clock.now()).total_seconds()
        if left <= 0:
            return False, None
        with translate_errors("operations.wait", place):
            try:
                operation = _one_wait(clients, operation, min(left, _ONE_WAIT))
            except _SLOW:
                clock.sleep(min(_PAUSE, max(end - clock.now(), timedelta(0))))
    return True, said_by_operation(operation)


def _one_wait(clients: Clients, operation: "Operation", seconds: float) -> "Operation":
    name: dict[str, Any] = {"project": clients.project, "operation": operation.name}
    options: dict[str, Any] = {"retry": None, "timeout": max(seconds, 0.05)}
    if operation.zone:
        zone = operation.zone.rpartition("/")[2]
        return clients.zone_operations().wait(request={**name, "zone": zone}, **options)
    if operation.region:
        region = operation.region.rpartition("/")[2]
        return clients.region_operations().wait(request={**name, "region": region}, **options)
    return clients.global_operations().wait(request=name, **options)
