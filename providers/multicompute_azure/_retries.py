"""Repeats reads that were throttled or got no answer, with one pause for all threads."""

import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final, TypeVar

from azure.core.exceptions import ServiceRequestError

from multicompute.clock import Clock
from multicompute.errors import MulticomputeError, ThrottledError, TransientError

Answer = TypeVar("Answer")

_TRIES: Final = 6
# As long as nothing has been answered, there is probably no network, which no wait changes.
_TRIES_WITHOUT_NETWORK: Final = 3
_FIRST_WAIT: Final = timedelta(seconds=1)
# An answer that asks for more is a failure: a refresh should take two minutes.
_LONGEST_WAIT: Final = timedelta(seconds=60)
# Refusals without a code of Azure's, except timeouts (408) and throttling (429): the same request would be refused again.
_REFUSED: Final = re.compile(r"HTTP4(?!08|29)\d\d")


class Retries:
    """Repeats calls that only read, and counts them.

    Attributes:
        calls: Operation -> the number of requests, repeated ones included.
    """

    def __init__(self, clock: Clock) -> None:
        """Wait by `clock`."""
        self.calls: Counter[str] = Counter()
        self._clock = clock
        self._lock = threading.Lock()
        self._resume: datetime | None = None
        self._is_reachable = False
        self._unreachable: MulticomputeError | None = None

    def run(self, operation: str, call: Callable[[], Answer]) -> Answer:
        """Return what `call` returns, after some tries if it is throttled or gets no answer.

        The wait is what the answer asks for (Retry-After). Without it, it doubles with each try. A throttled call lets the calls of all
        threads wait.

        Raises:
            MulticomputeError: The last try failed, or one failed for good, or Azure asks to wait for more than a minute, or no
                connection has been made in several tries.
        """
        wait = _FIRST_WAIT
        for attempt in range(1, _TRIES):
            try:
                return self._once(operation, call)
            except (ThrottledError, TransientError) as error:
                if self._gives_up(error, attempt):
                    raise
                pause = wait if error.retry_after is None else timedelta(seconds=error.retry_after)
                if pause > _LONGEST_WAIT or _REFUSED.fullmatch(error.code or ""):
                    raise
                self._postpone(error, pause)
            wait *= 2
        return self._once(operation, call)

    def _gives_up(self, error: MulticomputeError, attempt: int) -> bool:
        """Return whether no call has been answered yet, and this one or another has been tried often enough."""
        if attempt == _TRIES_WITHOUT_NETWORK and not self._is_reachable:
            self._unreachable = error
        return self._is_unreachable

    @property
    def _is_unreachable(self) -> bool:
        return self._unreachable is not None and not self._is_reachable

    def counts(self) -> Mapping[str, int]:
        """Return the number of requests by operation, so far."""
        with self._lock:
            return dict(self.calls)

    def _once(self, operation: str, call: Callable[[], Answer]) -> Answer:
        with self._lock:
            self.calls[operation] += 1
            resume = self._resume
        if self._is_unreachable and self._unreachable is not None:
            raise self._unreachable
        if resume is not None:
            self._clock.sleep(resume - self._clock.now())
        try:
            found = call()
        except MulticomputeError as error:
            # Whatever it was, something has answered, unless no connection was made.
            self._is_reachable |= not isinstance(error.__cause__, ServiceRequestError)
            raise
        self._is_reachable = True
        return found

    def _postpone(self, error: MulticomputeError, pause: timedelta) -> None:
        if not isinstance(error, ThrottledError):
            self._clock.sleep(pause)
            return
        until = self._clock.now() + pause
        with self._lock:
            self._resume = until if self._resume is None else max(until, self._resume)
