"""Long-running operations of Azure's, which the caller refreshes step by step, so they need no thread of their own."""

import threading
from typing import Final

from azure.core.exceptions import HttpResponseError
from azure.core.polling.base_polling import BadResponse, BadStatus
from azure.mgmt.core.polling.arm_polling import ARMPolling

from multicompute.errors import MulticomputeError
from multicompute.provider_kit.vendor_errors import Place, VendorAnswer
from multicompute_azure._errors import answer_behind, answer_of, log, translate_errors

_FAILED: Final = ("failed", "canceled", "cancelled")
# Statuses of an answer that is the result of an operation; with others, the result is not known yet.
_RESULTS: Final = (400, 403, 404, 409, 412)
_KEPT_FAILURES: Final = 1000


class Operation(ARMPolling):
    """An operation, as the SDK's polling method, which handles all the ways in which Azure reports progress.

    It is given to a `begin_...` call as `polling=`. The SDK starts a thread for it, which does nothing and ends.
    """

    def run(self) -> None:
        """Do nothing in the SDK's thread, so that no thread outlives the call."""

    def refresh(self, operation: str, place: Place) -> None:
        """Read the progress once, unless the operation has ended.

        Raises:
            MulticomputeError: The progress could not be read.
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


class PendingOperations:
    """Operations that this process began, by what they are about: only they have the reason of a failure.

    Other processes see the state of the resource only.

    Args:
        has_result: Whether the status of the operations is their result, so that an error in its place means that they failed.
    """

    def __init__(self, *, has_result: bool = False) -> None:
        self._has_result = has_result
        self._under_way: dict[str, Operation] = {}
        self._failures: dict[str, VendorAnswer] = {}
        self._lock = threading.Lock()

    def add(self, resource_id: str, operation: Operation) -> None:
        """Keep an operation on a resource."""
        with self._lock:
            self._under_way[resource_id] = operation
            self._failures.pop(resource_id, None)

    def abandon(self) -> None:
        """Forget the operations under way; failures are kept."""
        with self._lock:
            self._under_way.clear()

    def forget(self, resource_id: str) -> None:
        """Forget the operation on a resource and its failure."""
        with self._lock:
            self._under_way.pop(resource_id, None)
            self._failures.pop(resource_id, None)

    def is_under_way(self, resource_id: str) -> bool:
        """Return whether this process began an operation on the resource that has not ended, as far as is known."""
        return resource_id in self._under_way

    def known_failure(self, resource_id: str) -> VendorAnswer | None:
        """Return the answer with which the operation failed at the last refresh, without a call."""
        return self._failures.get(resource_id)

    def refresh(self, resource_id: str, place: Place) -> VendorAnswer | None:
        """Refresh the operation, if it is under way, and return the answer with which it failed, or None."""
        operation = self._under_way.get(resource_id)
        if operation is None:
            return self.known_failure(resource_id)
        try:
            operation.refresh("operations.get", place)
        except MulticomputeError as error:
            # The caller needs the state of the resource, which a listing gives; the reason can be read the next time.
            log.debug("%s: %s", place, error.message)
            failure: VendorAnswer | None = answer_behind(error)
            if failure is None or not self._has_result or failure.status not in _RESULTS:
                return None
            self._end(resource_id, failure)
            return failure
        failure = operation.failure
        if operation.finished():
            self._end(resource_id, failure)
        return failure

    def _end(self, resource_id: str, failure: VendorAnswer | None) -> None:
        with self._lock:
            self._under_way.pop(resource_id, None)
            if failure is not None:
                self._failures[resource_id] = failure
            while len(self._failures) > _KEPT_FAILURES:
                self._failures.pop(next(iter(self._failures)))
