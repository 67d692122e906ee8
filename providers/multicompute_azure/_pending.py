"""Remembers the operations of launches under way: only they tell why a scale set failed."""

import threading
from typing import Final

from multicompute.errors import MulticomputeError
from multicompute_azure._errors import Place, Said, log, translate_errors
from multicompute_azure._operation import Operation

_KEPT: Final = 1000


class Pending:
    """The operations that this process began and that have not ended well; other processes see the scale set's state only."""

    def __init__(self) -> None:
        self._operations: dict[str, Operation] = {}
        self._failures: dict[str, Said] = {}
        self._lock = threading.Lock()

    def add(self, scale_set_id: str, operation: Operation) -> None:
        """Watch the operation of a scale set that was just asked for."""
        with self._lock:
            self._operations[scale_set_id] = operation
            self._failures.pop(scale_set_id, None)

    def of(self, scale_set_id: str) -> Operation | None:
        """The operation under way, None where there is none that this process knows of."""
        return self._operations.get(scale_set_id)

    def known_failure(self, scale_set_id: str) -> Said | None:
        """What the operation failed with when it was last looked at; asks nobody."""
        return self._failures.get(scale_set_id)

    def failure(self, scale_set_id: str, place: Place) -> Said | None:
        """Look once; returns what the operation failed with, None while it has not."""
        operation = self._operations.get(scale_set_id)
        if operation is None:
            return self._failures.get(scale_set_id)
        try:
            with translate_errors("look at the operation", place):
                operation.look()
        except MulticomputeError as error:
            # What is asked for is the state of the nodes, which the listing gives; the reason can wait.
            log.debug("%s: %s", place, error.message)
            return None
        if operation.finished():
            self._ended(scale_set_id, operation.failure)
        return operation.failure

    def _ended(self, scale_set_id: str, failure: Said | None) -> None:
        with self._lock:
            self._operations.pop(scale_set_id, None)
            if failure is not None:
                self._failures[scale_set_id] = failure
            while len(self._failures) > _KEPT:
                self._failures.pop(next(iter(self._failures)))
