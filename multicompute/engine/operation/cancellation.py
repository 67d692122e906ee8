"""Defers Ctrl-C, SIGTERM, SIGHUP and a cancelled task to the next safe point, so that no cloud call is interrupted."""

import atexit
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Final

from multicompute.clock import Clock, process_id

_LONGEST_SLEEP: Final = timedelta(seconds=0.5)
"""A request of another thread can't interrupt a sleep, so long sleeps are split into pieces of this length."""
_HANGUP: Final[int | None] = getattr(signal, "SIGHUP", None)
"""The terminal was closed, or the connection to it was lost. None on Windows, which has no such signal."""
_STOP_SIGNALS: Final = tuple(number for number in (signal.SIGTERM, _HANGUP) if number is not None)
"""Signals that end a process by default. A process that was started with one of them ignored (`nohup`) keeps ignoring it."""


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
        self._hangup: BaseException | None = None
        self._is_signalled = False
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
        """Handle a signal: request a stop, or raise at once if it is the second signal or the operation sleeps.

        A hangup is never the second signal, nor does it make the next one the second: when a terminal closes, the kernel and
        the shell both send SIGHUP, and the end of a login session adds SIGTERM.
        """
        if number == _HANGUP and self._is_signalled:
            return
        self._is_signalled = True
        cause = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        is_second = self._requested is not None and self._requested is not self._hangup
        if is_second or (self._is_sleeping and not self._is_shielded):
            self._raised, self._requested = cause, None
            raise cause
        if number == _HANGUP:
            self._hangup = cause
        self._requested = cause


class _StopHandler:
    """A handler of SIGTERM and SIGHUP that raises SystemExit; installed while at least one user needs it."""

    def __init__(self) -> None:
        """Create a handler that is not installed."""
        self._users = 0
        self._installed: list[int] = []
        self._last: int | None = None

    def acquire(self) -> None:
        """Install the handler for each signal that would end the process; the main thread must call this."""
        if self._users == 0:
            self._last = None
            self._installed = [number for number in _STOP_SIGNALS if signal.getsignal(number) == signal.SIG_DFL]
            for number in self._installed:
                signal.signal(number, self.on_signal)
        self._users += 1

    def release(self) -> None:
        """Restore the default handlers after the last user. Only the main thread can; elsewhere they stay installed."""
        self._users -= 1
        if self._users == 0 and _is_main_thread():
            for number in self._installed:
                if signal.getsignal(number) == self.on_signal:
                    signal.signal(number, signal.SIG_DFL)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Raise SystemExit, unless this and the last signal are one event: see `Cancellation.on_signal`."""
        is_same_event = self._last is not None and _HANGUP in (number, self._last)
        self._last = number
        if not is_same_event:
            raise SystemExit(128 + number)


_stop_handler = _StopHandler()


class StopGuard:
    """Makes sure that a `with` block is left when the process is asked to stop.

    In the main thread, SIGTERM and SIGHUP raise SystemExit(128 + number) in the block. Another thread can't be interrupted, and
    the interpreter does not wait for a daemon thread: there, `at_exit` is called when the interpreter exits inside the block.
    """

    def __init__(self, at_exit: Callable[[], object] | None = None) -> None:
        """Create a guard that is not installed."""
        self._at_exit = at_exit
        self._process = process_id()
        self._is_handler_installed = False

    def install(self) -> None:
        """Begin to guard a block."""
        if _is_main_thread():
            if not self._is_handler_installed:
                _stop_handler.acquire()
                self._is_handler_installed = True
        elif self._at_exit is not None:
            self._process = process_id()
            atexit.register(self._on_exit)

    def uninstall(self) -> None:
        """End to guard the block."""
        if self._is_handler_installed:
            self._is_handler_installed = False
            _stop_handler.release()
        atexit.unregister(self._on_exit)

    def _on_exit(self) -> None:
        # A forked child inherits the hook, but the block is its parent's.
        if self._at_exit is not None and self._process == process_id():
            self._at_exit()


@contextmanager
def cancel_on_signals(cancellation: Cancellation) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP request `cancellation` inside the block.

    This applies only where Python's own handlers or ours are installed: an event loop or a scheduler's worker that has its own
    handler decides for itself, and a signal that was ignored when the process started stays ignored. Signals reach only the
    main thread. In another thread, the exit of the interpreter requests the cancellation and waits for the end of the block.
    """
    if not _is_main_thread():
        with _cancel_at_exit(cancellation):
            yield
        return
    before = {}
    defaults = [(signal.SIGINT, signal.default_int_handler), *((number, signal.SIG_DFL) for number in _STOP_SIGNALS)]
    for number, default in defaults:
        handler = signal.getsignal(number)
        if handler == default or isinstance(getattr(handler, "__self__", None), (Cancellation, _StopHandler)):
            before[number] = signal.signal(number, cancellation.on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def defer_signals() -> Iterator[Cancellation]:
    """Defer a first Ctrl-C, SIGTERM or SIGHUP to the end of the block; a second one is raised at once."""
    cancellation = Cancellation()
    # Before the handlers are installed: a shield drops earlier requests.
    cancellation.shield()
    with cancel_on_signals(cancellation):
        yield cancellation
        cancellation.unshield()


@contextmanager
def _cancel_at_exit(cancellation: Cancellation) -> Iterator[None]:
    """Let the exit of the interpreter request `cancellation` inside the block, and wait until the block is left.

    This is for daemon threads, which run on during the exit hooks and are lost after them. Other threads have ended by then.
    """
    is_done = threading.Event()
    process = process_id()

    def stop() -> None:
        # A forked child inherits the hook, but not the thread.
        if process == process_id():
            cancellation.request(SystemExit("the interpreter exits"))
            is_done.wait()

    atexit.register(stop)
    try:
        yield
    finally:
        is_done.set()
        atexit.unregister(stop)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
