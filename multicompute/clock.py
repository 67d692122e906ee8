"""The clock and the randomness that other code takes as arguments; the only module that asks the system for them."""

import os
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

Random = random.Random


class Clock(Protocol):
    """The time, for code that waits or needs the current instant. Tests pass a clock of their own."""

    def now(self) -> datetime:
        """Return the current instant as an aware datetime in UTC."""
        ...

    def sleep(self, duration: timedelta) -> None:
        """Wait for `duration`. A test clock advances its own time instead."""
        ...


class SystemClock:
    """The system's clock."""

    def now(self) -> datetime:
        """Return the current instant in UTC."""
        return datetime.now(UTC)

    def sleep(self, duration: timedelta) -> None:
        """Block the thread for `duration`; not at all if it is negative."""
        time.sleep(max(duration.total_seconds(), 0.0))


def system_random() -> random.Random:
    """Return a random number generator of the operating system, for names, tokens and jitter."""
    return random.SystemRandom()


def process_id() -> int:
    """Return the id of this process, which differs between the two sides of a fork."""
    return os.getpid()


def monotonic() -> float:
    """Return seconds of a clock that never goes back, to measure how long a call takes."""
    return time.monotonic()
