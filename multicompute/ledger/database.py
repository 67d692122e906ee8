"""The interface between the ledger and a database engine, and the choice of the engine by URL."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from multicompute.config import state_file, without_password
from multicompute.errors import LedgerError
from multicompute.ledger.postgres import Postgres
from multicompute.ledger.sqlite import Sqlite

_SERVERS: Final = ("postgresql://", "postgres://")


class Cursor(Protocol):
    """Runs the statements of one transaction: SQL with `?` for values."""

    @property
    def rowcount(self) -> int:
        """The number of rows that the last statement changed."""
        ...

    def execute(self, statement: str, values: Sequence[object] = ..., /) -> Any:
        """Run a statement and return an object with `fetchone`, `fetchall` and `rowcount`."""
        ...

    def executemany(self, statement: str, rows: Iterable[Sequence[object]], /) -> Any:
        """Run a statement for each row of values, in few round trips to a server."""
        ...


class Database(Protocol):
    """A connection that several threads can share, for one transaction at a time. It must not be used across a fork."""

    def transaction(self, key: str, *, is_intent: bool = False) -> AbstractContextManager[Cursor]:
        """Open a transaction that commits at the end of the block and rolls back if the block raises.

        Args:
            key: What the transaction is about, such as the id of a cluster. Transactions with the same key never overlap,
                in any process on any host, and each sees everything that the earlier ones wrote.
            is_intent: Whether the commit must survive a power failure. Without it, only the end of this process is sure
                to be survived. Anything lost in a power failure is found again by listing the clouds for the intents.

        Raises:
            LedgerError: Nothing was written, unless the message states that the outcome is unknown.
        """
        ...

    def read(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """Return all rows of a SELECT, each with its values by column name."""
        ...

    def close(self) -> None:
        """Close the connection. Committed transactions are kept."""
        ...


def open_database(url: str) -> Database:
    """Open the database of a `state` setting, and create or upgrade it if necessary.

    Raises:
        LedgerError: The database can't be opened, was written by a newer version, or is of an unknown kind.
    """
    if url.startswith(_SERVERS):
        return Postgres(url)
    file = state_file(url)
    if file is None:
        examples = "sqlite:////home/me/.local/share/multicompute/state.db, or postgresql://me@host/database"
        raise LedgerError(
            f"state={without_password(url)!r}: only sqlite:/// and postgresql:// are supported",
            hint=f"write {examples}",
        )
    return Sqlite(file)
