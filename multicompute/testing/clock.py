"""Virtual time for tests: it passes only when somebody sleeps or says so."""

import threading
from datetime import UTC, datetime, timedelta

from multicompute.units import parse_duration

DEFAULT_START = datetime(2027, 1, 1, tzinfo=UTC)
"""A fixed start, so that what a test prints is the same on every day and every machine."""


class FakeClock:
    """A clock whose sleep returns at once and moves its own time on; safe to share between threads.

    Example:
        >>> from datetime import timedelta
        >>> clock = FakeClock()
        >>> before = clock.now()
        >>> clock.sleep(timedelta(hours=12))
        >>> clock.now() - before
        datetime.timedelta(seconds=43200)
    """

    def __init__(self, start: datetime = DEFAULT_START) -> None:
        """Begin at `start`.

        Args:
            start: the first instant; one without a zone is taken as UTC.
        """
        self._now = start if start.tzinfo else start.replace(tzinfo=UTC)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """The current virtual instant, in UTC."""
        with self._lock:
            return self._now

    def sleep(self, duration: timedelta) -> None:
        """Let `duration` pass without waiting; a negative one passes nothing."""
        with self._lock:
            self._now += max(duration, timedelta(0))

    def advance(self, by: str | timedelta) -> datetime:
        """Let time pass.

        Args:
            by: how much, "90m", "12h" or a timedelta; more than zero.

        Returns:
            The new instant.

        Raises:
            SpecError: `by` is not a positive duration.
        """
        with self._lock:
            self._now += parse_duration(by, what="by")
            return self._now
