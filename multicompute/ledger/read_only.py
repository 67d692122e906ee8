"""Opens an SQLite ledger that can't be written: on a full disk, in a read-only folder, or without permission."""

import logging
import os
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from multicompute.errors import LedgerError

_log = logging.getLogger("multicompute")
_UNREADABLE: Final = ("not a database", "malformed", "newer version")
"""Errors that are not about writing."""


def open_read_only(
    file: Path, error: LedgerError, upgrade: Callable[[sqlite3.Connection], object], *, version: int
) -> sqlite3.Connection:
    """Open a ledger for reading, and log once that it can't be written.

    A ledger in write-ahead mode needs its -wal and -shm files even for reading (https://sqlite.org/wal.html#readonly). Where they
    exist, the file itself is read, and what other processes write is seen. Elsewhere it is read into memory: a file without a log
    as it is, one with a log from a copy in the temporary folder, and if that is full, too, without the log, which has the latest
    changes. A ledger of an earlier version is upgraded in memory.

    Args:
        file: The file of the ledger.
        error: Why it can't be written; raised if it can't be read either.
        upgrade: Upgrades an open ledger to the current version.
        version: The current version.
    """
    if not _has_content(file) or any(words in str(error) for words in _UNREADABLE):
        raise error
    age = "what it shows may be out of date"
    try:
        connection = _try(lambda: _connect(file, "mode=ro"))
        if connection is None or _version(connection) < version:
            connection, age = _in_memory(file, connection)
            upgrade(connection)
    except (sqlite3.Error, OSError):
        raise error from None
    _log.warning("ledger %s: can't be written (%s); %s", file, error.__cause__ or error.message, age)
    return connection


def _in_memory(file: Path, opened: sqlite3.Connection | None) -> tuple[sqlite3.Connection, str]:
    """Return the ledger in memory, and how old it may be."""
    age = "it shows the ledger as of now"
    if opened is None and _has_content(Path(f"{file}-wal")):
        opened = _try(lambda: _copied(file))
        if opened is None:
            age = "the latest changes may be missing"
    source = opened or _connect(file, "mode=ro&immutable=1")
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        source.backup(memory)
    finally:
        source.close()
    memory.row_factory = sqlite3.Row
    return memory, age


def _copied(file: Path) -> sqlite3.Connection:
    """Return the contents of the file and of its log, in memory."""
    with tempfile.TemporaryDirectory(prefix="multicompute-ledger-") as folder:
        for suffix in ("", "-wal"):
            # 0600 from the start, as the ledger itself has.
            target = os.open(f"{folder}/state.db{suffix}", os.O_CREAT | os.O_WRONLY, 0o600)
            with os.fdopen(target, "wb") as copy:
                copy.write(Path(f"{file}{suffix}").read_bytes())
        source = _connect(Path(folder, "state.db"), "mode=rw")
        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        source.backup(memory)
        source.close()
        return memory


def _connect(file: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?{mode}", uri=True, timeout=30.0, isolation_level=None, check_same_thread=False
    )
    try:
        connection.row_factory = sqlite3.Row
        # SQLite opens the files of the log only when it reads.
        connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _try(connect: Callable[[], sqlite3.Connection]) -> sqlite3.Connection | None:
    try:
        return connect()
    except (sqlite3.Error, OSError):
        return None


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _has_content(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except OSError:
        return False
