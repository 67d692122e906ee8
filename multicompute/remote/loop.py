"""An event loop in a thread of its own, for a synchronous caller that may itself run inside another event loop."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

POLL: Final = 0.2
"""Seconds between two looks for a cancellation."""

_CANCEL_SECONDS: Final = 5.0


class Call(Generic[T]):
    """A coroutine that runs in the loop of another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> None:
        """Start the coroutine."""
        self._loop = loop
        self._ended = threading.Event()
        self._task: asyncio.Task[T] | None = None
        loop.call_soon_threadsafe(self._start, work)

    def _start(self, work: Coroutine[Any, Any, T]) -> None:
        self._task = self._loop.create_task(work)
        self._task.add_done_callback(lambda _: self._ended.set())

    def wait(self, timeout: float) -> bool:
        """Wait for at most `timeout` seconds; return whether the coroutine has ended."""
        return self._ended.wait(timeout)

    def result(self) -> T:
        """Return what the coroutine returned, or raise what it raised; only after its end."""
        assert self._task is not None
        return self._task.result()

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call a function in the loop of the coroutine."""
        self._loop.call_soon_threadsafe(function)

    def cancel(self) -> None:
        """Cancel the coroutine, and give it a few seconds to clean up."""
        self._loop.call_soon_threadsafe(self._cancel)
        self._ended.wait(_CANCEL_SECONDS)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class LoopThread:
    """A thread that runs an event loop from `start` to `stop`."""

    def __init__(self) -> None:
        """Create the loop; `start` starts its thread."""
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="multicompute-ssh", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Cancel what still runs, and wait for the end of the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def submit(self, work: Coroutine[Any, Any, T]) -> Call[T]:
        """Run a coroutine in the loop."""
        return Call(self.loop, work)

    def call(self, work: Coroutine[Any, Any, T], *, check_cancelled: Callable[[], object]) -> T:
        """Run a coroutine in the loop and return what it returns.

        Args:
            work: The coroutine; it is cancelled when the wait for it is interrupted.
            check_cancelled: Called several times a second; what it raises interrupts the wait.
        """
        call = self.submit(work)
        try:
            check_cancelled()
            while not call.wait(POLL):
                check_cancelled()
        except BaseException:
            call.cancel()
            raise
        return call.result()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()
