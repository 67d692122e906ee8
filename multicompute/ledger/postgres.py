"""The ledger on a PostgreSQL server: connections, upgrades, transactions that survive lost connections, and error messages."""

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
from multicompute.ledger.schema import upgrade

if TYPE_CHECKING:
    import psycopg

    from multicompute.ledger.database import Cursor

_T = TypeVar("_T")

_TIMEOUT: Final = timedelta(seconds=30)
"""The longest wait for a lock, for a server that restarts, or for the outcome of a commit whose answer was lost."""
_PAUSE: Final = timedelta(milliseconds=200)
_DEFAULTS: Final = {
    "application_name": "multicompute",
    "connect_timeout": "10",
    # Detect a server that has disappeared within a minute. Most systems take two hours by default.
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
# In one round trip. READ COMMITTED, whatever the server's default is, because each statement after the lock must see what the
# previous holder committed. Every acknowledged commit must be on the server's disk: unlike a power failure of a machine with an
# SQLite file, a crash of the server does not stop the processes that rely on it. A setting stronger than `on` is kept.
_BEGIN: Final = """BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL lock_timeout = {wait};
SET LOCAL idle_in_transaction_session_timeout = {wait};
SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') IN ('off', 'local');
SELECT pg_advisory_xact_lock({lock});
SELECT CAST(pg_current_xact_id() AS text) AS number"""
_HINTS: Final = (
    ("authentication", "check user and password in `state`, PGPASSWORD or ~/.pgpass"),
    ("no password", "set it in PGPASSWORD, ~/.pgpass or `state`"),
    ("pg_hba.conf", "the server does not accept this user from here; ask its administrator"),
    ("does not exist", "create it with `createdb` or `createuser`, or change `state`"),
    ("too many", "raise max_connections, or use a connection pooler"),
    (
        "permission denied",
        "the user needs CREATE on the schema for the first use, and all permissions on its tables afterwards",
    ),
    ("read-only", "this server is a replica; set `state` to the primary"),
    ("during recovery", "this server is a replica; set `state` to the primary"),
    ("no space", "free some space on the server; nothing is launched that can't be recorded first"),
    ("lock timeout", "another process has locked it for 30 s; find the process that hangs"),
    ("already exists", "other tables have the same names; use a separate database for the ledger"),
)


class Postgres:
    """A `Database` on a server, for processes on many hosts.

    A transaction takes the advisory lock of its key: transactions with the same key wait for each other, and all others run
    concurrently. All settings and locks belong to a transaction and not to the session, so that a connection pooler works.
    """

    def __init__(self, url: str) -> None:
        """Connect to the database, and create or upgrade its tables."""
        self._name = without_password(url)
        self._psycopg = _driver(self._name)
        self._parameters = self._parse(url)
        self._lock = threading.RLock()
        self._in_transaction = False
        with self._translate_errors("open"):
            self._connection = self._connect()
        try:
            with self._translate_errors("open"):
                self._warn_if_read_only()
                upgrade(lambda: self.transaction("schema", is_intent=True), self._name, self._version, self._mark)
        except BaseException:
            self._connection.close()
            raise

    @contextmanager
    def transaction(self, key: str, *, is_intent: bool = False) -> Iterator["_Cursor"]:
        """Open a transaction; see `Database.transaction`. Every commit waits for the disk."""
        with self._lock, self._translate_errors("write"):
            try:
                number = self._with_reconnect(lambda: self._begin(key))
                self._in_transaction = True
                yield _Cursor(self._connection.cursor())
                self._commit(number)
            except BaseException:
                self._roll_back()
                raise
            finally:
                self._in_transaction = False

    def read(self, statement: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
        """Return all rows of a SELECT."""
        with self._lock, self._translate_errors("read"):
            return self._with_reconnect(lambda: self._connection.execute(_marks(statement), values).fetchall())

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    def _parse(self, url: str) -> dict[str, Any]:
        # With an unescaped @, the driver would treat a part of the password as the host and show it in an error.
        if not self._name.endswith("://..."):
            with suppress(self._psycopg.Error):
                return {**_DEFAULTS, **self._psycopg.conninfo.conninfo_to_dict(url)}
        # Without the cause, because the driver's message quotes the invalid part, which may be the password.
        raise LedgerError(
            f"state: {self._name} is not a valid URL of a PostgreSQL server",
            hint="write postgresql://me@host:5432/database; in a password, write %40 for @, %2F for /, %25 for %",
        )

    def _connect(self) -> "psycopg.Connection[dict[str, Any]]":
        # No prepared statements, because a pooler may run each transaction in another session. They would save a third of
        # the time of an intent on a local server, and less on a distant one (docs/design/ledger.md).
        connection: psycopg.Connection[dict[str, Any]] = self._psycopg.Connection.connect(
            **self._parameters,
            client_encoding="utf8",
            autocommit=True,
            prepare_threshold=None,
            row_factory=self._psycopg.rows.dict_row,
        )
        return connection

    def _reconnect(self) -> None:
        """Connect again, retrying until the timeout, because the server may be restarting."""
        self._connection.close()
        clock = SystemClock()
        deadline = clock.now() + _TIMEOUT
        while True:
            try:
                self._connection = self._connect()
                return
            except self._psycopg.OperationalError:
                if clock.now() >= deadline:
                    raise
            clock.sleep(_PAUSE)

    def _with_reconnect(self, work: Callable[[], _T]) -> _T:
        """Run `work`, which has no side effect, and repeat it once if the connection is lost."""
        try:
            return work()
        except self._psycopg.OperationalError:
            # Inside a transaction, a new connection would lack the first part of the transaction.
            if self._in_transaction or not self._connection.closed:
                raise
        self._reconnect()
        return work()

    def _begin(self, key: str) -> str:
        """Begin a transaction, take the lock of `key`, and return the server's id of the transaction."""
        wait = int(_TIMEOUT.total_seconds() * 1000)
        cursor = self._connection.execute(_BEGIN.format(wait=wait, lock=_number(key)))
        while cursor.nextset():
            pass
        return str(cursor.fetchall()[0]["number"])

    def _commit(self, number: str) -> None:
        """Commit. If the answer is lost, ask the server for the outcome of the transaction."""
        try:
            status = self._connection.execute("COMMIT").statusmessage
        except self._psycopg.OperationalError:
            if not self._connection.closed or not self._was_committed(number):
                raise
            return
        if status != "COMMIT":
            raise LedgerError(
                f"ledger {self._name}: a transaction was rolled back, because one of its statements had failed"
            )

    def _was_committed(self, number: str) -> bool:
        clock = SystemClock()
        deadline = clock.now() + _TIMEOUT
        try:
            self._reconnect()
            while (status := self._status(number)) == "in progress" and clock.now() < deadline:
                clock.sleep(_PAUSE)
        except self._psycopg.Error as error:
            raise self._unknown_outcome(str(error)) from error
        if status not in ("committed", "aborted"):
            raise self._unknown_outcome(f"the server reports {status}")
        return status == "committed"

    def _status(self, number: str) -> object:
        # A server that replaced a failed one and has not seen the transaction rejects its id.
        row = self._connection.execute("SELECT pg_xact_status(%s::xid8) AS status", (number,)).fetchone()
        return row["status"] if row else None

    def _unknown_outcome(self, why: str) -> LedgerError:
        return LedgerError(
            f"ledger {self._name}: the connection was lost during a commit, and its outcome is unknown: {why}",
            hint="check with `multicompute ls` and repeat the command; every command can be repeated",
        )

    def _roll_back(self) -> None:
        idle = self._psycopg.pq.TransactionStatus.IDLE
        if not self._connection.closed and self._connection.info.transaction_status != idle:
            # If the connection is lost, the server rolls back on its own.
            with suppress(self._psycopg.OperationalError):
                self._connection.execute("ROLLBACK")

    def _mark(self, cursor: "Cursor", version: int) -> None:
        cursor.execute("CREATE TABLE IF NOT EXISTS ledger_version (version INTEGER NOT NULL)")
        cursor.execute("DELETE FROM ledger_version")
        cursor.execute("INSERT INTO ledger_version (version) VALUES (?)", (version,))

    def _warn_if_read_only(self) -> None:
        if self.read("SELECT current_setting('transaction_read_only') AS setting")[0]["setting"] == "on":
            # Imported here, because few processes have anything to log about the ledger.
            import logging

            logging.getLogger("multicompute").warning(
                "ledger %s: can't be written (the server is read-only); what it shows may be out of date",
                self._name,
            )

    def _version(self) -> int:
        if self.read("SELECT to_regclass('ledger_version') AS found")[0]["found"] is None:
            return 0
        return int(self.read("SELECT version FROM ledger_version")[0]["version"])

    @contextmanager
    def _translate_errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except self._psycopg.Error as error:
            text = str(error).strip()
            low = text.lower()
            hint = next(
                (hint for words, hint in _HINTS if words in low),
                "check that the server runs and is reachable from here, or set another `state`",
            )
            raise LedgerError(
                f"ledger {self._name}: can't {verb} it: {text}", hint=hint, code=error.sqlstate
            ) from error


class _Cursor:
    """A cursor of the driver that accepts `?` for values."""

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
    """Return the statement with the driver's placeholders. Our statements have no ? or % in their texts."""
    return statement.replace("?", "%s").encode()


def _number(key: str) -> int:
    """Return the number of a key's advisory lock. Two keys with the same number would only wait for each other."""
    return int.from_bytes(blake2b(f"multicompute {key}".encode(), digest_size=8).digest(), signed=True)


def _driver(name: str) -> Any:
    try:
        import psycopg
        import psycopg.rows
    except ImportError as error:
        raise LedgerError(
            f"ledger {name}: the driver is not installed: {error}", hint='pip install "multicompute[postgres]"'
        ) from error
    return psycopg
