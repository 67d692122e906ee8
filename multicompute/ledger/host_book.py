"""The user's own machines in the ledger: leases that hold between processes and hosts, and what is known of each machine."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from multicompute.hosts import HostLease, HostNote
from multicompute.units import parse_instant

if TYPE_CHECKING:
    from multicompute.ledger.database import Cursor, Database

HOST_TABLES: Final = (
    """CREATE TABLE host_leases (
        provider TEXT NOT NULL, host TEXT NOT NULL, token TEXT NOT NULL, region TEXT NOT NULL,
        instance_type TEXT NOT NULL, tags TEXT NOT NULL, taken_at TEXT NOT NULL, address TEXT NOT NULL,
        is_marked INTEGER NOT NULL, PRIMARY KEY (provider, host))""",
    """CREATE TABLE host_notes (
        provider TEXT NOT NULL, host TEXT NOT NULL, host_key TEXT NOT NULL, until TEXT, reason TEXT NOT NULL,
        PRIMARY KEY (provider, host))""",
)
"""The statements that create the tables. The primary key is what leases a machine to one launch at a time."""


class LedgerHostBook:
    """A `HostBook` in the ledger. All exchanges of a provider are done one after another, in any process on any host."""

    def __init__(self, database: "Callable[[], Database]", provider: str) -> None:
        """Keep where the tables are."""
        self._database = database
        self._provider = provider

    def leases(self) -> tuple[HostLease, ...]:
        """Return all leases, in the order of the machines' ids."""
        found = self._database().read("SELECT * FROM host_leases WHERE provider = ? ORDER BY host", (self._provider,))
        return tuple(map(_lease_of, found))

    def exchange(self, token: str, before: Sequence[HostLease], after: Sequence[HostLease]) -> bool:
        """Replace the leases of a launch by others, in one step; see `HostBook.exchange`."""
        # An intent: a marker must not be put on a machine whose lease a power failure can lose (I1).
        with self._database().transaction(f"hosts {self._provider}", is_intent=True) as cursor:
            known = {(row["host"], bool(row["is_marked"])) for row in self._rows(cursor, token)}
            if known != {(lease.host, lease.is_marked) for lease in before}:
                return False
            statement = "SELECT host FROM host_leases WHERE provider = ? AND token <> ?"
            others = {row["host"] for row in cursor.execute(statement, (self._provider, token)).fetchall()}
            if not others.isdisjoint(lease.host for lease in after):
                return False
            cursor.execute("DELETE FROM host_leases WHERE provider = ? AND token = ?", (self._provider, token))
            for lease in after:
                _insert(cursor, {"provider": self._provider, **_lease_row(lease)})
        return True

    def _rows(self, cursor: "Cursor", token: str) -> list[Any]:
        statement = "SELECT host, is_marked FROM host_leases WHERE provider = ? AND token = ?"
        rows: list[Any] = cursor.execute(statement, (self._provider, token)).fetchall()
        return rows

    def notes(self) -> Mapping[str, HostNote]:
        """Return what is known of the machines, by their ids."""
        found = self._database().read("SELECT * FROM host_notes WHERE provider = ?", (self._provider,))
        return {
            row["host"]: HostNote(
                row["host"], row["host_key"], parse_instant(row["until"]) if row["until"] else None, row["reason"]
            )
            for row in found
        }

    def write(self, note: HostNote) -> None:
        """Record what is known of a machine, in place of what was known before."""
        with self._database().transaction(f"hosts {self._provider}") as cursor:
            self._delete(cursor, "host_notes", note.host)
            until = note.until and note.until.isoformat(timespec="microseconds")
            row = {"host": note.host, "host_key": note.host_key, "until": until, "reason": note.reason}
            _insert(cursor, {"provider": self._provider, **row}, table="host_notes")

    def forget(self, host: str) -> bool:
        """Delete the lease of a machine and what is known of it; return whether there was anything."""
        with self._database().transaction(f"hosts {self._provider}", is_intent=True) as cursor:
            return sum(self._delete(cursor, table, host) for table in ("host_leases", "host_notes")) > 0

    def _delete(self, cursor: "Cursor", table: str, host: str) -> int:
        cursor.execute(f"DELETE FROM {table} WHERE provider = ? AND host = ?", (self._provider, host))
        return cursor.rowcount


def _insert(cursor: "Cursor", row: Mapping[str, object], *, table: str = "host_leases") -> None:
    marks = ", ".join("?" * len(row))
    cursor.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


def _lease_row(lease: HostLease) -> dict[str, object]:
    return {
        "host": lease.host,
        "token": lease.token,
        "region": lease.region,
        "instance_type": lease.instance_type,
        "tags": json.dumps(dict(lease.tags)),
        "taken_at": lease.taken_at.isoformat(timespec="microseconds"),
        "address": lease.address,
        "is_marked": int(lease.is_marked),
    }


def _lease_of(row: Any) -> HostLease:
    return HostLease(
        host=row["host"],
        region=row["region"],
        instance_type=row["instance_type"],
        token=row["token"],
        tags=json.loads(row["tags"]),
        taken_at=parse_instant(row["taken_at"]),
        address=row["address"],
        is_marked=bool(row["is_marked"]),
    )
