"""Long-running operations of Azure's, which the caller refreshes step by step, so they need no thread of their own."""

import threading
from typing import Final

from azure.core.exceptions import HttpResponseError
from azure.core.polling.base_polling import BadResponse, BadStatus
from azure.mgmt.core.polling.arm_polling import ARMPolling

from multicompute.errors import MulticomputeError
from multicompute.provider_kit.vendor_errors import Place, VendorAnswer
from multicompute_azure._errors import answer_of, log, translate_errors

_FAILED: Final = ("failed", "canceled", "cancelled")
_KEPT_FAILURES: Final = 1000


class Operation(ARMPolling):
    """One operation, as the SDK's polling method, which knows all the ways in which Azure reports progress.

    It is given to a `begin_...` call as `polling=`. The SDK starts a thread for it, which does nothing and ends.
    """

    def run(self) -> None:
        """Do nothing in the SDK's thread, so that no thread outlives the call."""

    def refresh(self, operation: str, place: Place) -> None:
        """Read the progress once, unless the operation has ended.

        Raises:
            MulticomputeError: the progress could not be read.
        """
        if self.finished():
            return
        with translate_errors(operation, place):
            try:
                self.update_status()
            except (BadStatus, BadResponse) as error:
                raise HttpResponseError(response=self._pipeline_response.http_response, error=error) from error

    @property
    def failure(self) -> VendorAnswer | None:
        """Return the answer with which the operation failed, or None if it has not failed."""
        if str(self.status()).lower() not in _FAILED:
            return None
        return answer_of(HttpResponseError(response=self._pipeline_response.http_response))


class LaunchOperations:
    """The operations of launches: only they have the reason why a scale set failed.

    This process knows those that it began; other processes see the state of the scale set only.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, Operation] = {}
        self._failures: dict[str, VendorAnswer] = {}
        self._lock = threading.Lock()

    def add(self, scale_set_id: str, operation: Operation) -> None:
        """Keep the operation that creates a scale set."""
        with self._lock:
            self._under_way[scale_set_id] = operation
            self._failures.pop(scale_set_id, None)

    def is_under_way(self, scale_set_id: str) -> bool:
        """Return whether this process began an operation on the scale set that has not ended, as far as is known."""
        return scale_set_id in self._under_way

    def known_failure(self, scale_set_id: str) -> VendorAnswer | None:
        """Return the answer with which the operation failed at the last refresh, without a call."""
        return self._failures.get(scale_set_id)

    def refresh(self, scale_set_id: str, place: Place) -> VendorAnswer | None:
        """Refresh the operation, if it is under way, and return the answer with which it failed, or None."""
        operation = self._under_way.get(scale_set_id)
        if operation is None:
            return self.known_failure(scale_set_id)
        try:
            operation.refresh("operations.get", place)
        except MulticomputeError as error:
            # The caller needs the state of the nodes, which a listing gives; the reason can be read the next time.
            log.debug("%s: %s", place, error.message)
            return None
        failure = operation.failure
        if operation.finished():
            self._end(scale_set_id, failure)
        return failure

    def _end(self, scale_set_id: str, failure: VendorAnswer | None) -> None:
        with self._lock:
            self._under_way.pop(scale_set_id, None)
            if failure is not None:
                self._failures[scale_set_id] = failure
            while len(self._failures) > _KEPT_FAILURES:
                self._failures.pop(next(iter(self._failures)))
