"""A terminal of its own for a process, which a test can close like the window of a terminal emulator or a lost connection."""

import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Sequence
from fcntl import ioctl
from types import TracebackType
from typing import Self

LIMIT = 110
"""Seconds after which a process that does not end is killed."""


class Terminal:
    """A pseudo-terminal that is the controlling terminal of one process, as it is of a login shell.

    Closing it is what closes a window: the kernel sends SIGHUP, and every later write fails with EIO.
    """

    def __init__(self, command: Sequence[str], *, environment: dict[str, str], ignored: bool = False) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, 120))

        def prepare() -> None:
            os.setsid()
            ioctl(0, termios.TIOCSCTTY, 0)
            # The runner of the tests may ignore it, and a child inherits that.
            signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)

        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            preexec_fn=prepare,  # noqa: PLW1509 - it must lead its session before it runs anything
        )
        os.close(slave)
        self._seen = b""

    def __enter__(self) -> Self:
        self._watchdog = threading.Timer(LIMIT, self.process.kill)
        self._watchdog.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self.process.kill()
        self.process.wait()
        self._watchdog.cancel()
        self._watchdog.join()

    def read_until(self, text: str) -> str:
        """Read what the process prints until `text` appears, and its line ends.

        The terminal may be closed next. In the middle of a line that would break the write of the line, which has succeeded once
        its end is here.
        """
        while b"\n" not in self._seen.partition(text.encode())[2]:
            try:
                self._seen += os.read(self._master, 4096)
            except OSError as error:
                raise AssertionError(f"it ended without {text!r}: {self._seen.decode()}") from error
        return self._seen.decode()

    def close(self) -> None:
        """Close the terminal."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1


PYTHON = sys.executable
