"""Virtual time for tests, which passes only by a sleep or on request."""

import threading
from datetime import UTC, datetime, timedelta

from multicompute.units import parse_duration

DEFAULT_START = datetime(2027, 1, 1, tzinfo=UTC)
"""A fixed start, so that the output of a test is the same on every day."""


class FakeClock:
    """A clock whose sleep returns at once and advances its own time; several threads can use it.

    Example:
        >>> from datetime import timedelta
        >>> clock = FakeClock()
        >>> before = clock.now()
        >>> clock.sleep(timedelta(hours=12))
        >>> clock.now() - before
        datetime.timedelta(seconds=43200)
    """

    def __init__(self, start: datetime = DEFAULT_START) -> None:
        """Start the clock.

        Args:
            start: The first time; UTC if it has no time zone.
        """
        self._now = start if start.tzinfo else start.replace(tzinfo=UTC)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the virtual time in UTC."""
        with self._lock:
            return self._now

    def sleep(self, duration: timedelta) -> None:
        """Advance the time by `duration` without waiting; a negative duration does nothing."""
        with self._lock:
            self._now += max(duration, timedelta(0))

    def advance(self, by: str | timedelta) -> datetime:
        """Advance the time.

        Args:
            by: The duration, "90m", "12h" or a timedelta; more than zero.

        Returns:
            The new time.

        Raises:
            SpecError: `by` is not a positive duration.
        """
        with self._lock:
            self._now += parse_duration(by, what="by")
            return self._now
