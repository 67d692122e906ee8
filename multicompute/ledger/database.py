"""What the ledger needs of an engine, and which engine a URL names."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from multicompute.config import state_file, without_password
from multicompute.errors import LedgerError
from multicompute.ledger.postgres import Postgres
from multicompute.ledger.sqlite import Sqlite

_SERVERS: Final = ("postgresql://", "postgres://")


class Cursor(Protocol):
    """Runs the statements of one transaction: plain SQL with `?` for values."""

    @property
    def rowcount(self) -> int:
        """How many rows the last statement has changed."""
        ...

    def execute(self, statement: str, values: Sequence[object] = ..., /) -> Any:
        """Run one; returns what has `fetchone`, `fetchall` and `rowcount`."""
        ...

    def executemany(self, statement: str, rows: Iterable[Sequence[object]], /) -> Any:
        """Run one for each row of values, in fewer trips where the engine is far away."""
        ...


class Database(Protocol):
    """One connection that several threads may share, one transaction at a time. No object of it crosses a fork."""

    def transaction(self, key: str, *, is_intent: bool = False) -> AbstractContextManager[Cursor]:
        """A transaction, kept when its block ends and undone when the block raises.

        Args:
            key: what it is about: a cluster's id, say. No two transactions with the same key overlap, in any process on any
                host, and the later one sees all that the earlier one has written.
            is_intent: it must survive a power cut, too, before this returns. Without it only the death of this process is certain
                to be survived: what is lost then is found again by asking the clouds about the intents.

        Raises:
            LedgerError: nothing of it was written, or, where the message says so, it is not known whether all of it was.
        """
        ...

    def read(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """All rows of one SELECT, each with its values by column name."""
        ...

    def close(self) -> None:
        """Close the connection; what was committed stays."""
        ...


def open_database(url: str) -> Database:
    """The database that a `state` names, made and upgraded as needed.

    Raises:
        LedgerError: it can't be opened, is of a newer version, or is of no kind that is known.
    """
    if url.startswith(_SERVERS):
        return Postgres(url)
    file = state_file(url)
    if file is None:
        known = "sqlite:////home/me/.local/share/multicompute/state.db, or postgresql://me@host/database"
        raise LedgerError(
            f"state={without_password(url)!r}: only sqlite:/// and postgresql:// are known", hint=f"write {known}"
        )
    return Sqlite(file)
