"""A long-running operation of Azure's that is looked at step by step, by whoever wants to know, without a thread of its own."""

from datetime import timedelta
from typing import Final

from azure.core.exceptions import HttpResponseError
from azure.core.polling.base_polling import BadResponse, BadStatus
from azure.mgmt.core.polling.arm_polling import ARMPolling

from multicompute.clock import Clock
from multicompute_azure._errors import Place, Said, said_by, translate_errors

_FAILED: Final = ("failed", "canceled", "cancelled")


class Operation(ARMPolling):
    """The SDK's polling method, which knows all the ways in which Azure tells how far an operation is, but driven from outside.

    Given to a `begin_...` call as `polling=`: the SDK starts a thread for it, which finds nothing to do and ends.
    """

    def run(self) -> None:
        """What the SDK's thread does: nothing, so that no thread outlives the call."""

    def look(self) -> None:
        """Ask once how far it is."""
        if not self.finished():
            try:
                self.update_status()
            except (BadStatus, BadResponse) as error:
                raise HttpResponseError(response=self._pipeline_response.http_response, error=error) from error

    @property
    def failure(self) -> Said | None:
        """What it ended with, None where it did not fail."""
        if str(self.status()).lower() not in _FAILED:
            return None
        return said_by(HttpResponseError(response=self._pipeline_response.http_response))


def wait_for(
    operation: Operation, what: str, place: Place, *, clock: Clock, step: timedelta, patience: timedelta
) -> Said | None:
    """Look at an operation until it has ended or `patience` is over; returns what it failed with, else None.

    Raises:
        MulticomputeError: it could not be asked.
    """
    deadline = clock.now() + patience
    while not operation.finished() and clock.now() < deadline:
        clock.sleep(step)
        with translate_errors(what, place):
            operation.look()
    return operation.failure
