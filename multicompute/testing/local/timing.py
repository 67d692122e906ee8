"""The durations of changes in a local cloud, and the changes that are due."""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

_N = TypeVar("_N", int, float)


@dataclass(slots=True)
class Timing:
    """The durations of changes in a local cloud. By default nothing takes time, so tests do not wait.

    Attributes:
        lag: How long listings omit a new resource.
        boot: How long a node is pending.
        shutdown: How long a termination takes.
        operation: How long any other long-running operation takes, in clouds that have such operations.
        polls: How many times an operation reports that it is in progress, even if it is done.
    """

    lag: timedelta = timedelta(0)
    boot: timedelta = timedelta(0)
    shutdown: timedelta = timedelta(0)
    operation: timedelta = timedelta(0)
    polls: int = 0

    def set_seconds(self, *, lag: float, boot: float, shutdown: float, operation: float = 0) -> None:
        """Set all durations, in seconds."""
        self.lag, self.boot = timedelta(seconds=lag), timedelta(seconds=boot)
        self.shutdown, self.operation = timedelta(seconds=shutdown), timedelta(seconds=operation)


class Schedule:
    """Actions that are due at a time. Nothing runs in the background: each request first runs the actions that are due."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        """Schedule by the clock that `now` reads."""
        self._now = now
        self._actions: list[tuple[datetime, int, Callable[[], None]]] = []
        # Of two actions that are due at the same time, the one that was added first runs first.
        self._order = itertools.count()

    def add(self, due: datetime, action: Callable[[], None]) -> None:
        """Add an action for the first `run_due` at or after `due`."""
        heapq.heappush(self._actions, (due, next(self._order), action))

    def run_due(self) -> None:
        """Run every action that is due, in the order of their times; an action may add others."""
        while self._actions and self._actions[0][0] <= self._now():
            heapq.heappop(self._actions)[2]()

    def clear(self) -> None:
        """Drop every action."""
        self._actions.clear()


class Limits(dict[tuple[str, str], _N]):
    """(place, what) -> how much of it there is in total; a missing key means no limit."""

    def set(self, place: str, what: str, value: _N | None) -> None:
        """Set a limit, or remove it with None."""
        if value is None:
            self.pop((place, what), None)
        else:
            self[place, what] = value
