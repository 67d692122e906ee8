"""Turns Ctrl-C, SIGTERM and a cancelled task into a stop at the next safe point, so that no cloud call is cut in two."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Final

from multicompute.clock import Clock

_SLICE: Final = timedelta(seconds=0.5)


class Cancellation:
    """A wish to stop, made by a signal or another thread, and met between two calls of a cloud."""

    def __init__(self, *, leaves: bool = False) -> None:
        """`leaves`: who stops wants the cluster left as it is, for somebody else to go on with."""
        self._leaves = leaves
        self._met: BaseException | None = None
        self._cause: BaseException | None = None
        self._is_sleeping = False
        self._is_shielded = False

    def request(self, cause: BaseException) -> None:
        """Ask for a stop; `cause` is what the work raises when it meets it."""
        self._cause = self._cause or cause

    def shield(self) -> None:
        """Forget every wish so far: what follows must be finished. A later signal is met when it comes twice."""
        self._cause = None
        self._is_shielded = True

    def lower(self) -> None:
        """The end of what had to be finished: meets what was wished meanwhile."""
        self._is_shielded = False
        self.check()

    def check(self) -> None:
        """A safe point: raises the cause where a stop is wished, once."""
        if self._cause is not None and not self._is_shielded:
            self._met, self._cause = self._cause, None
            raise self._met

    def is_left_by(self, error: BaseException) -> bool:
        """Whether `error` is the stop itself, and the cluster is to be left as it is."""
        return self._leaves and error is self._met

    def sleep(self, clock: Clock, duration: timedelta) -> None:
        """Sleep, and meet a wish at once; one of another thread, which can't break a sleep, within half a second."""
        while True:
            self.check()
            self._is_sleeping = True
            try:
                clock.sleep(min(duration, _SLICE))
            finally:
                self._is_sleeping = False
            duration -= _SLICE
            if duration <= timedelta(0):
                return self.check()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """A signal handler: stops at the next safe point; a second signal does not wait for it."""
        cause = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        if self._cause is not None or (self._is_sleeping and not self._is_shielded):
            self._met, self._cause = cause, None
            raise cause
        self.request(cause)


@contextmanager
def on_signals(stop: Cancellation) -> Iterator[Cancellation]:
    """Let Ctrl-C and SIGTERM wish for `stop` inside the block.

    Only in the main thread, and only where Python's own handlers or ours are in place: whoever installed another one
    (an event loop, a scheduler's worker) wants to decide for itself.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            handler = signal.getsignal(number)
            if handler == default or isinstance(getattr(handler, "__self__", None), (Cancellation, _Leave)):
                before[number] = signal.signal(number, stop.on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Leave:
    """Leaves the `with` block of a cluster on SIGTERM, as Ctrl-C does by itself."""

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)


class TermGuard:
    """While it is up, SIGTERM raises SystemExit(143) instead of ending the process on the spot."""

    def __init__(self) -> None:
        self._before: object = None
        self._leave = _Leave()

    def up(self) -> None:
        """Install it, where SIGTERM would end the process and this is the main thread."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._leave.on_signal)
            self._before = signal.SIG_DFL

    def down(self) -> None:
        """Put back what was there."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._before = None
