"""A clock that several processes share: time passes only when one of them sleeps, and then at once."""

import mmap
import struct
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

_MICROSECONDS = struct.Struct("q")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SharedClock:
    """A clock in a file, for every process that opens it. No wait costs time, and a slow test machine causes no timeout."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(_MICROSECONDS.pack((datetime.now(UTC) - _EPOCH) // timedelta(microseconds=1)))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _MICROSECONDS.size)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        return _EPOCH + timedelta(microseconds=_MICROSECONDS.unpack_from(self._memory)[0])

    def sleep(self, duration: timedelta) -> None:
        with self._lock:
            (before,) = _MICROSECONDS.unpack_from(self._memory)
            _MICROSECONDS.pack_into(self._memory, 0, before + max(duration // timedelta(microseconds=1), 0))
