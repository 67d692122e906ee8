"""The statements that several methods of the ledger run inside their transactions."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from multicompute.ledger._rows import event_data, node_row, outage_row, to_sql
from multicompute.ledger.database import Cursor
from multicompute.ledger.records import NodeRecord
from multicompute.node import Event
from multicompute.plan import Outage

ENDED: Final = "('TERMINATED', 'FAILED')"
"""The states in which none of a cluster's resources exists."""


def insert(cursor: Cursor, table: str, row: Mapping[str, object]) -> None:
    """Insert a row."""
    marks = ", ".join("?" * len(row))
    # The names of tables and columns are constants of this package; values are bound.
    cursor.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(map(to_sql, row.values())))


def upsert(cursor: Cursor, table: str, rows: Sequence[Mapping[str, object]], *, key: int) -> None:
    """Insert rows, and replace those with the same values in the first `key` columns."""
    if not rows:
        return
    columns = list(rows[0])
    sets = ", ".join(f"{name} = excluded.{name}" for name in columns[key:])
    cursor.executemany(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "
        f"ON CONFLICT ({', '.join(columns[:key])}) DO UPDATE SET {sets}",
        [tuple(map(to_sql, row.values())) for row in rows],
    )


def update(
    cursor: Cursor, table: str, key: Mapping[str, object], changes: Mapping[str, object], *, condition: str = "1 = 1"
) -> bool:
    """Change columns of the row with this key, if it meets the condition; return whether it did."""
    sets = ", ".join(f"{name} = ?" for name in changes)
    where = " AND ".join([*(f"{name} = ?" for name in key), condition])
    values = tuple(map(to_sql, [*changes.values(), *key.values()]))
    changed: int = cursor.execute(f"UPDATE {table} SET {sets} WHERE {where}", values).rowcount
    return changed == 1


def upsert_nodes(cursor: Cursor, cluster_id: str, nodes: Sequence[NodeRecord]) -> None:
    """Insert or replace nodes of a cluster."""
    upsert(cursor, "nodes", [node_row(cluster_id, node) for node in nodes], key=2)


def record_nodes(
    cursor: Cursor, statement: str, values: Sequence[object], cluster_id: str, nodes: Sequence[NodeRecord], event: Event
) -> bool:
    """Run an UPDATE and then record nodes and an event; return False, and write nothing, if it changes no row."""
    if cursor.execute(statement, values).rowcount != 1:
        return False
    upsert_nodes(cursor, cluster_id, nodes)
    append_event(cursor, event)
    return True


def upsert_outage(cursor: Cursor, outage: Outage) -> None:
    """Insert an outage, or replace the earlier one with the same scope and reason."""
    upsert(cursor, "outages", [outage_row(outage)], key=5)


def append_event(cursor: Cursor, event: Event) -> None:
    """Add an event to the end of the cluster's event log."""
    cursor.execute(
        "INSERT INTO events (cluster_id, seq, at, kind, message, data) "
        "SELECT ?, COALESCE(MAX(seq), 0) + 1, ?, ?, ?, ? FROM events WHERE cluster_id = ?",
        (event.cluster_id, to_sql(event.at), event.kind, to_sql(event.message), event_data(event), event.cluster_id),
    )


def holds_lease(cursor: Cursor, cluster_id: str, holder: str) -> bool:
    """Return whether `holder` has the lease. An expired lease that no other process has taken counts."""
    row = cursor.execute("SELECT holder FROM leases WHERE cluster_id = ?", (cluster_id,)).fetchone()
    return row is not None and row["holder"] == holder


def remove_script(cursor: Cursor, cluster_id: str) -> None:
    """Remove the user's setup script, which may contain a secret. Only replacement nodes would have needed it."""
    spec = json.loads(cursor.execute("SELECT spec FROM clusters WHERE id = ?", (cluster_id,)).fetchone()["spec"])
    if spec.get("setup") is not None:
        update(cursor, "clusters", {"id": cluster_id}, {"spec": json.dumps(spec | {"setup": None})})
