"""One connection to an SQLite file: opening, upgrading, transactions, and the sentence for each way it can fail."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from multicompute.clock import SystemClock
from multicompute.config import state_file
from multicompute.errors import LedgerError
from multicompute.ledger.schema import UPGRADES, VERSION

_BUSY_SECONDS: Final = 30.0
_SWITCH_PAUSE: Final = timedelta(milliseconds=20)
_HINTS: Final = (
    ("readonly", "its file or folder can't be written; give yourself the right, or set another `state`"),
    ("unable to open", "its folder can't be read or written; give yourself the right, or set another `state`"),
    ("not a database", "move the file away, then `multicompute reconcile` finds what runs by its tags"),
    ("malformed", "move the file away, then `multicompute reconcile` finds what runs by its tags"),
    ("full", "free some space; nothing is launched that can't be written down first"),
    ("disk i/o", "check the disk; nothing is launched that can't be written down first"),
    ("locked", "another process has kept it for 30 s; look for one that hangs"),
)


class Database:
    """A connection that several threads may share; one transaction at a time.

    The statements are plain SQL with `?` for values, so that another engine needs no more than this class.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._path = _path(url)
        self._lock = threading.RLock()
        self._waits_for_disk = True
        with self._errors("open"):
            self._connection = self._open()
        self._upgrade()

    @contextmanager
    def transaction(self, *, is_intent: bool = False) -> Iterator[sqlite3.Cursor]:
        """A transaction that nobody else writes in; kept when it ends, undone when the block raises.

        What was kept survives any death of this process. An intent survives a power cut, too, at the price of waiting for the
        disk; everything else that a power cut may undo is found again by asking the clouds about the intents.
        """
        with self._lock, self._errors("write"):
            if is_intent != self._waits_for_disk:
                self._connection.execute(f"PRAGMA synchronous = {'FULL' if is_intent else 'NORMAL'}")
                self._waits_for_disk = is_intent
            # IMMEDIATE: take the write lock now, so that two processes queue up here and never deadlock later.
            self._connection.execute("BEGIN IMMEDIATE")
            cursor = self._connection.cursor()
            try:
                yield cursor
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def read(self, statement: str, values: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        """All rows of one SELECT."""
        with self._lock, self._errors("read"):
            return self._connection.execute(statement, values).fetchall()

    def close(self) -> None:
        """Close the connection; what was committed stays."""
        with self._lock:
            self._connection.close()

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._path.exists():
            # 0600 from the first byte: names and tags of clusters are nobody else's business.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        _use_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _upgrade(self) -> None:
        found = self._version()
        if found > VERSION:
            raise LedgerError(
                f"ledger {self._path}: written by a newer version of multicompute (schema {found}, this one knows {VERSION})",
                hint="upgrade with `pip install --upgrade multicompute`, or set another `state`",
            )
        if found == VERSION:
            return
        with self.transaction() as cursor:
            # Another process may have been quicker: ask again, now that nobody else writes.
            for upgrade in UPGRADES[self._version() :]:
                for statement in upgrade:
                    cursor.execute(statement)
            cursor.execute(f"PRAGMA user_version = {VERSION}")

    def _version(self) -> int:
        return int(self.read("PRAGMA user_version")[0][0])

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            text = str(error).lower()
            hint = next(
                (hint for words, hint in _HINTS if words in text),
                "check the file and its folder, or set another `state`",
            )
            raise LedgerError(f"ledger {self._path}: can't {verb} it: {error}", hint=hint) from error


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging, also while other processes do the same to a new file."""
    # SQLite does not wait by itself here: two that switch at once would wait for each other.
    clock = SystemClock()
    for _ in range(int(_BUSY_SECONDS / _SWITCH_PAUSE.total_seconds())):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
        clock.sleep(_SWITCH_PAUSE)
    connection.execute("PRAGMA journal_mode = WAL")


def _path(url: str) -> Path:
    file = state_file(url)
    if file is None:
        known = "sqlite:////home/me/.local/share/multicompute/state.db"
        raise LedgerError(f"state={url!r}: only SQLite ledgers are known to this version", hint=f"write {known}")
    return file
