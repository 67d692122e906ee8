"""The tables of the ledger, version by version, in statements that SQLite and PostgreSQL both accept."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from multicompute.errors import LedgerError
from multicompute.ledger.host_book import HOST_TABLES

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from multicompute.ledger.database import Cursor

UPGRADES: Final[tuple[tuple[str, ...], ...]] = (
    # Version 1. Instants are RFC 3339 texts in UTC, which sort correctly; money is in USD.
    (
        """CREATE TABLE clusters (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL, owner TEXT NOT NULL,
            spec TEXT NOT NULL, identity TEXT NOT NULL, created_at TEXT NOT NULL, expires_at TEXT, ended_at TEXT,
            provider TEXT, region TEXT, zone TEXT, reason TEXT NOT NULL DEFAULT '')""",
        # I6: a name is unique among live clusters.
        "CREATE UNIQUE INDEX live_names ON clusters (name) WHERE state NOT IN ('TERMINATED', 'FAILED')",
        """CREATE TABLE attempts (
            token TEXT PRIMARY KEY, cluster_id TEXT NOT NULL REFERENCES clusters (id), number INTEGER NOT NULL,
            state TEXT NOT NULL, parts TEXT NOT NULL, opened_at TEXT NOT NULL, closed_at TEXT,
            outcome TEXT NOT NULL DEFAULT '', code TEXT, message TEXT NOT NULL DEFAULT '')""",
        "CREATE INDEX attempts_of_cluster ON attempts (cluster_id, number)",
        """CREATE TABLE nodes (
            cluster_id TEXT NOT NULL REFERENCES clusters (id), id TEXT NOT NULL, rank INTEGER NOT NULL,
            token TEXT NOT NULL, provider TEXT NOT NULL, instance_type TEXT NOT NULL, region TEXT NOT NULL,
            zone TEXT NOT NULL, state TEXT NOT NULL, started_at TEXT NOT NULL, ended_at TEXT, private_ip TEXT,
            public_ip TEXT, accelerators DOUBLE PRECISION NOT NULL, hourly_cost DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (cluster_id, id))""",
        """CREATE TABLE events (
            cluster_id TEXT NOT NULL, seq INTEGER NOT NULL, at TEXT NOT NULL, kind TEXT NOT NULL,
            message TEXT NOT NULL, data TEXT NOT NULL, PRIMARY KEY (cluster_id, seq))""",
        """CREATE TABLE outages (
            provider TEXT NOT NULL, place TEXT NOT NULL, instance_type TEXT NOT NULL, purchase TEXT NOT NULL,
            reason TEXT NOT NULL, until TEXT NOT NULL, nodes INTEGER NOT NULL, strikes INTEGER NOT NULL,
            PRIMARY KEY (provider, place, instance_type, purchase, reason))""",
        "CREATE TABLE leases (cluster_id TEXT PRIMARY KEY, holder TEXT NOT NULL, until TEXT NOT NULL)",
    ),
    # Version 2. The account that holds the resources of an attempt, as JSON, NULL where it is not known; and the times in
    # which a node was stopped, as a JSON list of [start, end], where the end is null for a node that is stopped now.
    (
        "ALTER TABLE attempts ADD COLUMN account TEXT",
        "ALTER TABLE nodes ADD COLUMN stops TEXT NOT NULL DEFAULT '[]'",
    ),
    # Version 3. What an account can use in a region, as JSON; and the prices of a node, as a JSON list of [since, USD per hour],
    # with the instant at which its cloud was asked last.
    (
        """CREATE TABLE availability (
            provider TEXT NOT NULL, account TEXT NOT NULL, region TEXT NOT NULL, read_at TEXT NOT NULL,
            data TEXT NOT NULL, PRIMARY KEY (provider, account, region))""",
        "ALTER TABLE nodes ADD COLUMN prices TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE nodes ADD COLUMN priced_at TEXT",
    ),
    # Version 4. The price of a node without a discount, NULL if its price has none. An entry of `prices` may have it as a third item.
    ("ALTER TABLE nodes ADD COLUMN list_hourly_cost DOUBLE PRECISION",),
    # Version 5. The user's own machines: who has leased which, and what is known of each.
    HOST_TABLES,
)
"""The statements that upgrade version N to N + 1, for N = 0, 1, ... Released versions are never edited."""


def upgrade(
    transaction: Callable[[], "AbstractContextManager[Cursor]"],
    name: str,
    version: Callable[[], int],
    mark: Callable[["Cursor", int], object],
) -> None:
    """Upgrade a ledger to the current version.

    Args:
        transaction: Opens a transaction that no other upgrade overlaps.
        name: The name of the ledger, for the message.
        version: Reads the version of the ledger, 0 for an empty database.
        mark: Writes the version inside the transaction of the upgrade.

    Raises:
        LedgerError: A newer version wrote the ledger, so this version must not change it.
    """
    if not _missing(version(), name):
        return
    with transaction() as cursor:
        # Another process may have upgraded it meanwhile, so read the version again under the lock.
        for statements in _missing(version(), name):
            for statement in statements:
                cursor.execute(statement)
        mark(cursor, len(UPGRADES))


def _missing(found: int, name: str) -> tuple[tuple[str, ...], ...]:
    known = len(UPGRADES)
    if found > known:
        raise LedgerError(
            f"ledger {name}: written by a newer version of multicompute (schema {found}; this version supports up to {known})",
            hint="install a newer version of multicompute, or set another `state`",
        )
    return UPGRADES[found:]
