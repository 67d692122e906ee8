"""Cuts a host off while a job runs on it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.remote.hosts import Host


class Cut:
    """When the host was cut off."""

    at: float = 0.0

    def seconds(self) -> float:
        """Return how long ago that was."""
        assert self.at, "the job ended before the host was cut off"
        return time.monotonic() - self.at


@contextmanager
def cut_when(host: Host, holds: Callable[[], object]) -> Iterator[Cut]:
    """Cut a host off as soon as something holds, in another thread."""
    cut, is_over = Cut(), threading.Event()

    def watch() -> None:
        while not is_over.wait(0.05):
            if holds():
                time.sleep(0.5)
                host.cut()
                cut.at = time.monotonic()
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield cut
    finally:
        is_over.set()
        thread.join()
