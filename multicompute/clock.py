"""Time as an argument: the one place that asks the system for it."""

import os
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

Random = random.Random


class Clock(Protocol):
    """What code that waits or dates things is given instead of `time`."""

    def now(self) -> datetime:
        """The current instant, aware, in UTC."""
        ...

    def sleep(self, duration: timedelta) -> None:
        """Wait for `duration`; a double lets its own time pass instead."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, duration: timedelta) -> None:
        time.sleep(max(duration.total_seconds(), 0.0))


def system_random() -> random.Random:
    """A generator seeded by the system, for names, tokens and jitter."""
    return random.SystemRandom()


def process_id() -> int:
    """The id of this process; another one after a fork."""
    return os.getpid()
