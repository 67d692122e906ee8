"""Defers Ctrl-C, SIGTERM and a cancelled task to the next safe point, so that no cloud call is interrupted."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Final

from multicompute.clock import Clock

_LONGEST_SLEEP: Final = timedelta(seconds=0.5)
"""A request of another thread can't interrupt a sleep, so long sleeps are split into pieces of this length."""


class Cancellation:
    """A request to stop an operation, made by a signal or by another thread, and raised between two cloud calls."""

    def __init__(self, *, detach: bool = False) -> None:
        """Create a cancellation that has not been requested.

        Args:
            detach: Whether a cancelled operation leaves its cluster as it is, for another process to continue.
        """
        self._detach = detach
        self._requested: BaseException | None = None
        self._raised: BaseException | None = None
        self._is_sleeping = False
        self._is_shielded = False

    def request(self, cause: BaseException) -> None:
        """Request a stop: the operation raises `cause` at its next safe point."""
        self._requested = self._requested or cause

    def shield(self) -> None:
        """Drop earlier requests and defer later ones until `unshield`; only a second signal is raised at once."""
        self._requested = None
        self._is_shielded = True

    def unshield(self) -> None:
        """End the shield, and raise what was requested in the meantime."""
        self._is_shielded = False
        self.check()

    def check(self) -> None:
        """Raise the requested cause, once. Does nothing while shielded."""
        if self._requested is not None and not self._is_shielded:
            self._raised, self._requested = self._requested, None
            raise self._raised

    def detaches(self, error: BaseException) -> bool:
        """Return whether `error` is this cancellation and the cluster must be left as it is."""
        return self._detach and error is self._raised

    def sleep(self, clock: Clock, duration: timedelta) -> None:
        """Sleep. A signal ends the sleep at once, a request of another thread within half a second."""
        while True:
            self.check()
            self._is_sleeping = True
            try:
                clock.sleep(min(duration, _LONGEST_SLEEP))
            finally:
                self._is_sleeping = False
            duration -= _LONGEST_SLEEP
            if duration <= timedelta(0):
                return self.check()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: request a stop, or raise at once if it is the second signal or the operation sleeps."""
        cause = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        if self._requested is not None or (self._is_sleeping and not self._is_shielded):
            self._raised, self._requested = cause, None
            raise cause
        self.request(cause)


class SigtermGuard:
    """A SIGTERM handler that raises SystemExit(143), so that a `with` block is left as it is by Ctrl-C."""

    def __init__(self) -> None:
        """Create a guard without installing its handler."""
        self._is_installed = False

    def install(self) -> None:
        """Install the handler, if SIGTERM would kill the process and this is the main thread."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self.on_signal)
            self._is_installed = True

    def uninstall(self) -> None:
        """Restore the previous handler."""
        if self._is_installed:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._is_installed = False

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        raise SystemExit(128 + number)


@contextmanager
def cancel_on_signals(cancellation: Cancellation) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM request `cancellation` inside the block.

    This applies only to the main thread, and only where Python's own handlers or ours are installed: an event loop or a
    scheduler's worker that has its own handler decides for itself.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            handler = signal.getsignal(number)
            if handler == default or isinstance(getattr(handler, "__self__", None), (Cancellation, SigtermGuard)):
                before[number] = signal.signal(number, cancellation.on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def defer_signals() -> Iterator[Cancellation]:
    """Defer a first Ctrl-C or SIGTERM to the end of the block; a second one is raised at once."""
    cancellation = Cancellation()
    # Before the handlers are installed: a shield drops earlier requests.
    cancellation.shield()
    with cancel_on_signals(cancellation):
        yield cancellation
        cancellation.unshield()
