"""Repeats reads that were throttled or got no answer, with one pause for all threads."""

import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final, TypeVar

from multicompute.clock import Clock
from multicompute.errors import MulticomputeError, ThrottledError, TransientError

Answer = TypeVar("Answer")

_TRIES: Final = 6
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

    def run(self, operation: str, call: Callable[[], Answer]) -> Answer:
        """Return what `call` returns, after some tries if it is throttled or gets no answer.

        The wait is what the answer asks for (Retry-After). Without it, it doubles with each try. A throttled call lets the calls of all
        threads wait.

        Raises:
            MulticomputeError: The last try failed, or one failed for good, or Azure asks to wait for more than a minute.
        """
        wait = _FIRST_WAIT
        for _ in range(_TRIES - 1):
            try:
                return self._once(operation, call)
            except (ThrottledError, TransientError) as error:
                pause = wait if error.retry_after is None else timedelta(seconds=error.retry_after)
                if pause > _LONGEST_WAIT or _REFUSED.fullmatch(error.code or ""):
                    raise
                self._postpone(error, pause)
            wait *= 2
        return self._once(operation, call)

    def counts(self) -> Mapping[str, int]:
        """Return the number of requests by operation, so far."""
        with self._lock:
            return dict(self.calls)

    def _once(self, operation: str, call: Callable[[], Answer]) -> Answer:
        with self._lock:
            self.calls[operation] += 1
            resume = self._resume
        if resume is not None:
            self._clock.sleep(resume - self._clock.now())
        return call()

    def _postpone(self, error: MulticomputeError, pause: timedelta) -> None:
        if not isinstance(error, ThrottledError):
            self._clock.sleep(pause)
            return
        until = self._clock.now() + pause
        with self._lock:
            self._resume = until if self._resume is None else max(until, self._resume)
