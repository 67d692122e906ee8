"""The ledger on a PostgreSQL server: connecting, upgrading, transactions that nothing can make half, and errors as sentences."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypeVar

from multicompute.clock import SystemClock
from multicompute.config import without_password
from multicompute.errors import LedgerError
from multicompute.ledger.schema import missing

if TYPE_CHECKING:
    import psycopg

_T = TypeVar("_T")

_PATIENCE: Final = timedelta(seconds=30)
"""How long a lock, a server that restarts, or the outcome of a lost commit is waited for."""
_PAUSE: Final = timedelta(milliseconds=200)
_DEFAULTS: Final = {
    "application_name": "multicompute",
    "connect_timeout": "10",
    # A server that has vanished without a word is given up within a minute, not after the two hours of most systems.
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
# In one trip. READ COMMITTED, whatever the server's default is: each statement after the lock must see what the holder before
# had committed. What a server of ours acknowledges must be on its disk, since its crash does not stop the processes that rely
# on it, unlike the power cut of a machine that has the file; a stronger setting than `on` is left alone.
_BEGIN: Final = """BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL lock_timeout = {wait};
SET LOCAL idle_in_transaction_session_timeout = {wait};
SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') IN ('off', 'local');
SELECT pg_advisory_xact_lock({lock});
SELECT CAST(pg_current_xact_id() AS text) AS number"""
_HINTS: Final = (
    ("authentication", "check user and password in `state`, PGPASSWORD or ~/.pgpass"),
    ("no password", "put it into PGPASSWORD or ~/.pgpass, or into `state`"),
    ("pg_hba.conf", "the server does not let this user in from here; ask who runs it"),
    ("does not exist", "make it with `createdb` or `createuser`, or name another in `state`"),
    ("too many", "raise max_connections, or put a pooler between"),
    (
        "permission denied",
        "the user needs CREATE on the schema for the first use, and all rights on its tables after that",
    ),
    ("read-only", "this server is a replica; name the primary in `state`"),
    ("no space", "free some space on the server; nothing is launched that can't be written down first"),
    ("lock timeout", "another process has kept it for 30 s; look for one that hangs"),
    ("already exists", "its tables have names that are taken; give the ledger a database of its own"),
)


class Postgres:
    """A `Database` on a server, for processes on many hosts.

    A transaction takes the advisory lock of its key, so that those about one cluster queue up and all others run side by side. It
    is settings and locks of transactions only, so that a pooler may stand between.
    """

    def __init__(self, url: str) -> None:
        self._place = without_password(url)
        self._psycopg = _driver(self._place)
        self._parameters = self._parse(url)
        self._lock = threading.RLock()
        self._is_inside = False
        with self._errors("open"):
            self._connection = self._connect()
        try:
            with self._errors("open"):
                self._upgrade()
        except BaseException:
            self._connection.close()
            raise

    @contextmanager
    def transaction(self, key: str, *, is_intent: bool = False) -> Iterator["_Cursor"]:
        with self._lock, self._errors("write"):
            try:
                number = self._repeatable(lambda: self._begin(key))
                self._is_inside = True
                yield _Cursor(self._connection.cursor())
                self._commit(number)
            except BaseException:
                self._undo()
                raise
            finally:
                self._is_inside = False

    def read(self, statement: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
        with self._lock, self._errors("read"):
            return self._repeatable(lambda: self._connection.execute(_marks(statement), values).fetchall())

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _parse(self, url: str) -> dict[str, Any]:
        # Where an @ stands at the wrong place the driver would take a part of the password for the host, and say so.
        if not self._place.endswith("://..."):
            with suppress(self._psycopg.Error):
                return {**_DEFAULTS, **self._psycopg.conninfo.conninfo_to_dict(url)}
        # Without the cause: the driver's words quote the part that it could not read, which may be the password.
        raise LedgerError(
            f"state: {self._place} can't be read as the address of a PostgreSQL server",
            hint="write postgresql://me@host:5432/database, and in a password %40 for @, %2F for /, %25 for % ...",
        )

    def _connect(self) -> "psycopg.Connection[dict[str, Any]]":
        # Nothing is prepared: a pooler gives each transaction another session. That costs a third of an intent where the server
        # is next door (docs/design/ledger.md), and little where the way to it is what takes the time.
        connection: psycopg.Connection[dict[str, Any]] = self._psycopg.Connection.connect(
            **self._parameters,
            client_encoding="utf8",
            autocommit=True,
            prepare_threshold=None,
            row_factory=self._psycopg.rows.dict_row,
        )
        return connection

    def _reconnect(self) -> None:
        """Connect again, as soon as the server lets us: it may be in the middle of a restart."""
        self._connection.close()
        clock = SystemClock()
        end = clock.now() + _PATIENCE
        while True:
            try:
                self._connection = self._connect()
                return
            except self._psycopg.OperationalError:
                if clock.now() >= end:
                    raise
            clock.sleep(_PAUSE)

    def _repeatable(self, work: Callable[[], _T]) -> _T:
        """Do what has no effect of its own, once more where the connection turns out to be lost."""
        try:
            return work()
        except self._psycopg.OperationalError:
            # In the middle of a transaction a new connection would not know of its first half.
            if self._is_inside or not self._connection.closed:
                raise
        self._reconnect()
        return work()

    def _begin(self, key: str) -> str:
        """Begin, take the lock, and return the number by which the server knows this transaction."""
        wait = int(_PATIENCE.total_seconds() * 1000)
        cursor = self._connection.execute(_BEGIN.format(wait=wait, lock=_number(key)))
        while cursor.nextset():
            pass
        return str(cursor.fetchall()[0]["number"])

    def _commit(self, number: str) -> None:
        """Commit; where the answer is lost, ask what became of it instead of guessing."""
        try:
            done = self._connection.execute("COMMIT").statusmessage
        except self._psycopg.OperationalError:
            if not self._connection.closed or not self._was_kept(number):
                raise
            return
        if done != "COMMIT":
            raise LedgerError(f"ledger {self._place}: a transaction in which a statement had failed was not kept")

    def _was_kept(self, number: str) -> bool:
        clock = SystemClock()
        end = clock.now() + _PATIENCE
        try:
            self._reconnect()
            while (status := self._status(number)) == "in progress" and clock.now() < end:
                clock.sleep(_PAUSE)
        except self._psycopg.Error as error:
            raise self._in_doubt(str(error)) from error
        if status not in ("committed", "aborted"):
            raise self._in_doubt(f"the server says {status}")
        return status == "committed"

    def _status(self, number: str) -> object:
        # A server that took over from the one that died, and has not seen it, refuses the number.
        row = self._connection.execute("SELECT pg_xact_status(%s::xid8) AS status", (number,)).fetchone()
        return row["status"] if row else None

    def _in_doubt(self, why: str) -> LedgerError:
        return LedgerError(
            f"ledger {self._place}: the connection was lost while it wrote, and whether it was written is not known: {why}",
            hint="look with `multicompute ls`, then repeat the command: each can be repeated",
        )

    def _undo(self) -> None:
        idle = self._psycopg.pq.TransactionStatus.IDLE
        if not self._connection.closed and self._connection.info.transaction_status != idle:
            # Where the connection is lost the server undoes it by itself.
            with suppress(self._psycopg.OperationalError):
                self._connection.execute("ROLLBACK")

    def _upgrade(self) -> None:
        if not missing(self._version(), self._place):
            return
        with self.transaction("schema", is_intent=True) as cursor:
            # Another process may have been quicker: ask again, now that nobody else upgrades.
            found = self._version()
            if found == 0:
                cursor.execute("CREATE TABLE IF NOT EXISTS ledger_version (version INTEGER NOT NULL)")
                cursor.execute("INSERT INTO ledger_version (version) VALUES (0)")
            upgrades = missing(found, self._place)
            for upgrade in upgrades:
                for statement in upgrade:
                    cursor.execute(statement)
            cursor.execute("UPDATE ledger_version SET version = ?", (found + len(upgrades),))

    def _version(self) -> int:
        if self.read("SELECT to_regclass('ledger_version') AS found")[0]["found"] is None:
            return 0
        return int(self.read("SELECT version FROM ledger_version")[0]["version"])

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except self._psycopg.Error as error:
            text = str(error).strip()
            low = text.lower()
            hint = next(
                (hint for words, hint in _HINTS if words in low),
                "see whether the server runs and can be reached from here, or set another `state`",
            )
            raise LedgerError(
                f"ledger {self._place}: can't {verb} it: {text}", hint=hint, code=error.sqlstate
            ) from error


class _Cursor:
    """A cursor of the driver's that takes `?` for values."""

    def __init__(self, cursor: "psycopg.Cursor[dict[str, Any]]") -> None:
        self._cursor = cursor

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def execute(self, statement: str, values: Sequence[object] = (), /) -> "psycopg.Cursor[dict[str, Any]]":
        return self._cursor.execute(_marks(statement), values)

    def executemany(self, statement: str, rows: Iterable[Sequence[object]], /) -> None:
        self._cursor.executemany(_marks(statement), rows)


@cache
def _marks(statement: str) -> bytes:
    """The statement with the driver's marks for values; ours have neither ? nor % in their texts."""
    return statement.replace("?", "%s").encode()


def _number(key: str) -> int:
    """The advisory lock of a key. Two keys with the same number would only wait for each other."""
    return int.from_bytes(blake2b(f"multicompute {key}".encode(), digest_size=8).digest(), signed=True)


def _driver(place: str) -> Any:
    try:
        import psycopg
        import psycopg.rows
    except ImportError as error:
        raise LedgerError(
            f"ledger {place}: its driver is not installed: {error}", hint='pip install "multicompute[postgres]"'
        ) from error
    return psycopg
