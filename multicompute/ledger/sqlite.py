"""The ledger in an SQLite file: opening, upgrades, transactions and error messages."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from multicompute.clock import SystemClock
from multicompute.errors import LedgerError
from multicompute.ledger.schema import UPGRADES, upgrade

_BUSY_SECONDS: Final = 30.0
_SWITCH_PAUSE: Final = timedelta(milliseconds=20)
_HINTS: Final = (
    ("readonly", "the file or its folder is not writable; change the permissions, or set another `state`"),
    ("unable to open", "the folder is not readable or writable; change the permissions, or set another `state`"),
    (
        "not a database",
        "move the file away and run `multicompute reconcile`, which finds running clusters by their tags",
    ),
    ("malformed", "move the file away and run `multicompute reconcile`, which finds running clusters by their tags"),
    ("full", "free some space; nothing is launched that can't be recorded first"),
    ("disk i/o", "check the disk; nothing is launched that can't be recorded first"),
    ("locked", "another process has locked it for 30 s; find the process that hangs"),
)


class Sqlite:
    """A `Database` in a file. The file has a single lock, so transactions wait for each other whatever their keys are."""

    def __init__(self, file: Path) -> None:
        """Open the file, and create or upgrade its tables."""
        self._file = file
        self._lock = threading.RLock()
        self._waits_for_disk = True
        self._is_read_only = False
        try:
            self._connection = self._open_writable()
        except LedgerError as error:
            # Imported here: a ledger that can be written does without it.
            from multicompute.ledger.read_only import open_read_only

            self._connection = open_read_only(file, error, _upgrade_in_memory, version=len(UPGRADES))
            self._is_read_only = True

    @contextmanager
    def transaction(self, key: str, *, is_intent: bool = False) -> Iterator[sqlite3.Cursor]:
        """Open a transaction; see `Database.transaction`."""
        with self._lock, self._translate_errors("write"):
            self._reopen_if_read_only()
            if is_intent != self._waits_for_disk:
                self._connection.execute(f"PRAGMA synchronous = {'FULL' if is_intent else 'NORMAL'}")
                self._waits_for_disk = is_intent
            with _transaction(self._connection) as cursor:
                yield cursor

    def read(self, statement: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """Return all rows of a SELECT."""
        with self._lock, self._translate_errors("read"):
            return self._connection.execute(statement, values).fetchall()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    def _open_writable(self) -> sqlite3.Connection:
        with self._translate_errors("open"):
            connection = self._open()
            try:
                _upgrade(connection, str(self._file))
            except BaseException:
                connection.close()
                raise
        return connection

    def _open(self) -> sqlite3.Connection:
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self._file.exists():
            # 0600 from the start: other users must not read the names and tags of clusters.
            os.close(os.open(self._file, os.O_CREAT | os.O_RDWR, 0o600))
        if not os.access(self._file, os.W_OK):
            # SQLite itself reports this only when it writes.
            raise sqlite3.OperationalError("the file is readonly")
        connection = sqlite3.connect(self._file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.row_factory = sqlite3.Row
            _use_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            # Deleted content is overwritten, because a setup script may contain a secret.
            connection.execute("PRAGMA secure_delete = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _reopen_if_read_only(self) -> None:
        """Open the file again before a write, if it could not be written when it was opened: there may be room by now."""
        if self._is_read_only:
            connection = self._open_writable()
            self._connection.close()
            self._connection, self._is_read_only, self._waits_for_disk = connection, False, True

    @contextmanager
    def _translate_errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            text = str(error).lower()
            hint = next(
                (hint for words, hint in _HINTS if words in text),
                "check the file and its folder, or set another `state`",
            )
            raise LedgerError(f"ledger {self._file}: can't {verb} it: {error}", hint=hint) from error


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Cursor]:
    # IMMEDIATE takes the write lock now, so that two processes wait here and can't deadlock later.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection.cursor()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _upgrade(connection: sqlite3.Connection, name: str) -> None:
    upgrade(
        lambda: _transaction(connection),
        name,
        lambda: int(connection.execute("PRAGMA user_version").fetchone()[0]),
        lambda cursor, version: cursor.execute(f"PRAGMA user_version = {version}"),
    )


def _upgrade_in_memory(connection: sqlite3.Connection) -> None:
    _upgrade(connection, "in memory")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging, even while other processes do the same with a new file."""
    # SQLite itself does not wait here, because two processes that switch at once would wait for each other.
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
