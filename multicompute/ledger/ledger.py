"""The ledger: every method that writes is one transaction, which is on disk when the method returns."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from multicompute.clock import process_id
from multicompute.errors import ClusterExists, ClusterNotFound
from multicompute.ledger import _rows as rows
from multicompute.ledger import _statements as sql
from multicompute.ledger._statements import ENDED
from multicompute.ledger.database import Database, open_database
from multicompute.ledger.host_book import LedgerHostBook
from multicompute.ledger.records import AttemptRecord, AttemptState, AvailabilityRecord, ClusterRecord, NodeRecord
from multicompute.node import ClusterState, Event
from multicompute.plan import Outage
from multicompute.text import shortened


class Ledger:
    """The record of clusters, attempts, nodes, events, outages and leases.

    Several threads and several processes can use a ledger at once.

    Args:
        url: "sqlite:////path/to/file" or "postgresql://me@host/database".

    Every method raises LedgerError if the ledger can't be opened, read or written, is not a ledger, or was written by a
    newer version.
    """

    def __init__(self, url: str) -> None:
        """Open the ledger at this URL, and create or upgrade its tables."""
        self._url = url
        self._opened = {process_id(): open_database(url)}

    @property
    def _database(self) -> Database:
        # Two sides of a fork must not share a connection, and the child must not close it: its locks and its socket belong
        # to the parent. So a child opens its own connection and leaves the inherited one alone.
        me = process_id()
        return self._opened.get(me) or self._opened.setdefault(me, open_database(self._url))

    def close(self) -> None:
        """Close the connection of this process. Nothing is lost."""
        if opened := self._opened.get(process_id()):
            opened.close()

    # Clusters

    def claim(self, cluster: ClusterRecord, *, holder: str = "", until: datetime | None = None) -> ClusterRecord:
        """Record a new cluster, or return the live one that the same request created before (I6).

        Args:
            cluster: The new cluster.
            holder: Who gets its lease in the same transaction, so that no other process treats it as abandoned; "" for
                no lease.
            until: When that lease ends.

        Raises:
            ClusterExists: A different request created a live cluster of this name.
        """
        with self._database.transaction(_name_key(cluster.name), is_intent=True) as cursor:
            statement = f"SELECT * FROM clusters WHERE name = ? AND state NOT IN {ENDED}"
            row = cursor.execute(statement, (cluster.name,)).fetchone()
            if row is None:
                sql.insert(cursor, "clusters", rows.cluster_row(cluster))
                if holder:
                    sql.insert(cursor, "leases", {"cluster_id": cluster.id, "holder": holder, "until": until})
                return cluster
        return _require_same(rows.cluster_of(row), cluster.identity)

    def claimed(self, name: str, identity: str) -> ClusterRecord | None:
        """Return the live cluster of this name, or None.

        Raises:
            ClusterExists: A request with another identity created it.
        """
        found = self._clusters(f"WHERE name = ? AND state NOT IN {ENDED}", (name,))
        return _require_same(found[0], identity) if found else None

    def adopt(self, cluster: ClusterRecord, attempts: Sequence[AttemptRecord], nodes: Sequence[NodeRecord]) -> None:
        """Record a cluster that exists in a cloud but in no ledger."""
        with self._database.transaction(_name_key(cluster.name), is_intent=True) as cursor:
            sql.insert(cursor, "clusters", rows.cluster_row(cluster))
            for attempt in attempts:
                sql.insert(cursor, "attempts", rows.attempt_row(attempt))
            for node in nodes:
                sql.insert(cursor, "nodes", rows.node_row(cluster.id, node))

    def cluster(self, cluster_id: str) -> ClusterRecord:
        """Return the cluster with this id, live or ended.

        Raises:
            ClusterNotFound: There is none.
        """
        found = self._clusters("WHERE id = ?", (cluster_id,))
        if not found:
            raise ClusterNotFound(f"no cluster of id {cluster_id} in the ledger")
        return found[0]

    def find(self, name: str) -> ClusterRecord:
        """Return the live cluster with this name or id, or otherwise the newest ended one.

        Raises:
            ClusterNotFound: There never was one.
        """
        newest = f"ORDER BY state IN {ENDED}, created_at DESC LIMIT 1"
        found = self._clusters(f"WHERE name = ? OR id = ? {newest}", (name, name))
        if not found:
            raise ClusterNotFound(f"{name}: no cluster of this name", hint="`multicompute ls --all` lists all clusters")
        return found[0]

    def clusters(self, *, include_ended: bool = False) -> list[ClusterRecord]:
        """Return all live clusters, oldest first; with `include_ended` also those that have ended."""
        where = "" if include_ended else f"WHERE state NOT IN {ENDED}"
        return self._clusters(f"{where} ORDER BY created_at, id")

    def _clusters(self, condition: str, values: Sequence[object] = ()) -> list[ClusterRecord]:
        found = self._database.read(f"SELECT * FROM clusters {condition}", values)
        return [rows.cluster_of(row) for row in found]

    def update_cluster(self, cluster_id: str, event: Event | None = None, **changes: object) -> ClusterRecord:
        """Change fields of a live cluster and record the event that explains the change, in one transaction.

        A cluster that has ended stays as it is: another process may have ended it since the caller read its record.
        """
        with self._database.transaction(cluster_id, is_intent=True) as cursor:
            is_changed = sql.update(cursor, "clusters", {"id": cluster_id}, changes, condition=f"state NOT IN {ENDED}")
            if event is not None and is_changed:
                sql.append_event(cursor, event)
        return self.cluster(cluster_id)

    def make_ready(self, cluster_id: str, nodes: Sequence[NodeRecord], event: Event, **changes: object) -> bool:
        """Record that the gang is complete.

        Returns:
            False, and nothing is written, if the teardown has begun.
        """
        statement = "UPDATE clusters SET state = 'READY' WHERE id = ? AND state IN ('REQUESTED', 'PROVISIONING')"
        with self._database.transaction(cluster_id) as cursor:
            if not sql.record_nodes(cursor, statement, (cluster_id,), cluster_id, nodes, event):
                return False
            sql.update(cursor, "clusters", {"id": cluster_id}, changes)
        return True

    def request_termination(self, cluster_id: str, reason: str, *, states: Collection[ClusterState]) -> None:
        """Set a cluster to TERMINATING, so that the process that works on it stops; do nothing if it is in none of `states`."""
        marks = ", ".join("?" * len(states))
        statement = f"UPDATE clusters SET state = 'TERMINATING', reason = ? WHERE id = ? AND state IN ({marks})"
        with self._database.transaction(cluster_id, is_intent=True) as cursor:
            cursor.execute(statement, (reason, cluster_id, *states))

    def end_cluster(self, cluster_id: str, *, state: ClusterState, at: datetime, reason: str, event: Event) -> None:
        """Record that no resource of a cluster exists: its attempts are closed and its nodes have ended (I4)."""
        instant = rows.to_sql(at)
        with self._database.transaction(cluster_id) as cursor:
            cursor.execute(
                "UPDATE attempts SET state = 'closed', closed_at = ?, outcome = ? WHERE cluster_id = ? AND state <> 'closed'",
                (instant, "ended", cluster_id),
            )
            cursor.execute(
                "UPDATE nodes SET state = 'gone', ended_at = ? WHERE cluster_id = ? AND ended_at IS NULL",
                (instant, cluster_id),
            )
            statement = f"UPDATE clusters SET state = ?, ended_at = ?, reason = ? WHERE id = ? AND state NOT IN {ENDED}"
            if cursor.execute(statement, (state.value, instant, reason, cluster_id)).rowcount == 1:
                sql.remove_script(cursor, cluster_id)
                sql.append_event(cursor, event)

    # Attempts

    def open_attempt(
        self,
        attempt: AttemptRecord,
        event: Event,
        *,
        is_repair: bool = False,
        holder: str | None = None,
        **changes: object,
    ) -> bool:
        """Record an attempt before its first call to the cloud (I1).

        Args:
            attempt: The attempt.
            event: The event to record with it.
            is_repair: The attempt adds nodes to a cluster that is up, whose state and place do not change.
            holder: Who must have the cluster's lease; None to skip this check.
            changes: Fields of the cluster to change with it.

        Returns:
            False, and nothing is written, if the teardown has begun or `holder` does not have the lease.
        """
        with self._database.transaction(attempt.cluster_id, is_intent=True) as cursor:
            if holder is not None and not sql.holds_lease(cursor, attempt.cluster_id, holder):
                return False
            if is_repair:
                statement = "UPDATE clusters SET state = state WHERE id = ? AND state IN ('READY', 'DEGRADED')"
                cursor.execute(statement, (attempt.cluster_id,))
            else:
                cursor.execute(
                    "UPDATE clusters SET state = 'PROVISIONING', provider = ?, region = ?, zone = ? "
                    "WHERE id = ? AND state IN ('REQUESTED', 'PROVISIONING')",
                    (attempt.provider, attempt.region, attempt.parts[0].offer.zone or None, attempt.cluster_id),
                )
            if cursor.rowcount != 1:
                return False
            if changes:
                sql.update(cursor, "clusters", {"id": attempt.cluster_id}, changes)
            sql.insert(cursor, "attempts", rows.attempt_row(attempt))
            sql.append_event(cursor, event)
        return True

    def reopen_attempt(self, attempt: AttemptRecord, *, at: datetime, holder: str) -> bool:
        """Record that an attempt is about to call the cloud again, which restarts its consistency window (I4).

        Returns:
            False, and nothing is written, if the attempt is closed, the teardown has begun, or `holder` does not have the
            lease.
        """
        statement = (
            "UPDATE attempts SET opened_at = ? WHERE token = ? AND state = 'open' AND cluster_id IN "
            f"(SELECT id FROM clusters WHERE state <> 'TERMINATING' AND state NOT IN {ENDED})"
        )
        with self._database.transaction(attempt.cluster_id, is_intent=True) as cursor:
            is_held = sql.holds_lease(cursor, attempt.cluster_id, holder)
            return is_held and cursor.execute(statement, (rows.to_sql(at), attempt.token)).rowcount == 1

    def record_launch(self, attempt: AttemptRecord, nodes: Sequence[NodeRecord], event: Event) -> bool:
        """Record the nodes that the cloud has launched.

        Returns:
            False, and nothing is written, if the attempt is closed.
        """
        statement = "UPDATE attempts SET state = 'launched' WHERE token = ? AND state <> 'closed'"
        with self._database.transaction(attempt.cluster_id, is_intent=True) as cursor:
            return sql.record_nodes(cursor, statement, (attempt.token,), attempt.cluster_id, nodes, event)

    def close_attempt(
        self,
        attempt: AttemptRecord,
        *,
        at: datetime,
        outcome: str,
        event: Event,
        code: str | None = None,
        message: str = "",
        outage: Outage | None = None,
    ) -> None:
        """Record that no resource of an attempt exists (I4), its outcome, and the outage to remember."""
        changes = {"state": AttemptState.CLOSED, "closed_at": at, "outcome": outcome, "code": code, "message": message}
        with self._database.transaction(attempt.cluster_id) as cursor:
            sql.update(cursor, "attempts", {"token": attempt.token}, changes)
            cursor.execute(
                "UPDATE nodes SET ended_at = ?, state = 'gone' WHERE cluster_id = ? AND token = ? AND ended_at IS NULL",
                (rows.to_sql(at), attempt.cluster_id, attempt.token),
            )
            if outage is not None:
                sql.upsert_outage(cursor, outage)
            sql.append_event(cursor, event)

    def attempts(self, cluster_id: str) -> list[AttemptRecord]:
        """Return the attempts of a cluster, oldest first."""
        found = self._database.read("SELECT * FROM attempts WHERE cluster_id = ? ORDER BY number", (cluster_id,))
        return [rows.attempt_of(row) for row in found]

    def attempt(self, token: str) -> AttemptRecord | None:
        """Return the attempt with this token, or None."""
        found = self._database.read("SELECT * FROM attempts WHERE token = ?", (token,))
        return rows.attempt_of(found[0]) if found else None

    def count_attempts(self, cluster_id: str) -> int:
        """Return how many attempts a cluster has had."""
        found = self._database.read("SELECT COUNT(*) AS count FROM attempts WHERE cluster_id = ?", (cluster_id,))
        return int(found[0]["count"])

    # Nodes

    def put_nodes(self, cluster_id: str, nodes: Sequence[NodeRecord]) -> None:
        """Record the current state of a cluster's nodes."""
        with self._database.transaction(cluster_id) as cursor:
            sql.upsert_nodes(cursor, cluster_id, nodes)

    def record_refresh(
        self, cluster_id: str, nodes: Sequence[NodeRecord], event: Event, *, state: ClusterState
    ) -> bool:
        """Record the nodes of a cluster that is up, and its new state: READY or DEGRADED.

        Returns:
            False, and nothing is written, if the teardown has begun.
        """
        statement = "UPDATE clusters SET state = ? WHERE id = ? AND state IN ('READY', 'DEGRADED')"
        with self._database.transaction(cluster_id) as cursor:
            return sql.record_nodes(cursor, statement, (state.value, cluster_id), cluster_id, nodes, event)

    def nodes_up(self) -> list[tuple[str, NodeRecord]]:
        """Return the live nodes of all clusters that are READY or DEGRADED, each with the id of its cluster."""
        found = self._database.read(
            "SELECT nodes.* FROM nodes JOIN clusters ON clusters.id = nodes.cluster_id "
            "WHERE clusters.state IN ('READY', 'DEGRADED') AND nodes.ended_at IS NULL AND nodes.rank >= 0 "
            "ORDER BY clusters.created_at, clusters.id, nodes.rank, nodes.id"
        )
        return [(row["cluster_id"], rows.node_of(row)) for row in found]

    def nodes(self, cluster_id: str) -> list[NodeRecord]:
        """Return all nodes that a cluster has had, the live ones first, each group by rank."""
        found = self._database.read(
            "SELECT * FROM nodes WHERE cluster_id = ? ORDER BY ended_at IS NOT NULL, rank, id", (cluster_id,)
        )
        return [rows.node_of(row) for row in found]

    def spending(
        self, *, since: datetime | None = None, cluster_id: str | None = None
    ) -> list[tuple[ClusterRecord, list[NodeRecord]]]:
        """Return clusters, oldest first, with the nodes that have cost money, in two statements for any number.

        Args:
            since: Omit nodes that had ended by then, except those of live clusters.
            cluster_id: Return only this cluster.
        """
        wanted, values = ["1 = 1"], []
        if since is not None:
            live = f"SELECT id FROM clusters WHERE state NOT IN {ENDED}"
            wanted.append(f"(ended_at IS NULL OR ended_at >= ? OR cluster_id IN ({live}))")
            values.append(rows.to_sql(since))
        if cluster_id is not None:
            wanted.append("cluster_id = ?")
            values.append(cluster_id)
        where = " AND ".join(wanted)
        nodes: dict[str, list[NodeRecord]] = {}
        for row in self._database.read(f"SELECT * FROM nodes WHERE {where} ORDER BY cluster_id, rank, id", values):
            nodes.setdefault(row["cluster_id"], []).append(rows.node_of(row))
        # Not a join, which would repeat the complete request for each node. The clusters are read last, so that no node
        # lacks its cluster.
        found = self._clusters(
            f"WHERE id IN (SELECT cluster_id FROM nodes WHERE {where}) ORDER BY created_at, id", values
        )
        return [(cluster, nodes[cluster.id]) for cluster in found if cluster.id in nodes]

    # Events

    def append(self, event: Event) -> None:
        """Add an event to a cluster's event log."""
        with self._database.transaction(event.cluster_id) as cursor:
            sql.append_event(cursor, event)

    def append_once(self, event: Event) -> bool:
        """Add an event to a cluster's event log, unless the log has one of the same kind with the same data.

        Returns:
            Whether it was added.
        """
        same = "SELECT 1 FROM events WHERE cluster_id = ? AND kind = ? AND data = ?"
        with self._database.transaction(event.cluster_id) as cursor:
            if cursor.execute(same, (event.cluster_id, event.kind, rows.event_data(event))).fetchone() is not None:
                return False
            sql.append_event(cursor, event)
        return True

    def events(self, cluster_id: str) -> list[Event]:
        """Return the event log of a cluster, oldest first."""
        found = self._database.read("SELECT * FROM events WHERE cluster_id = ? ORDER BY seq", (cluster_id,))
        return [rows.event_of(row) for row in found]

    # Outages

    def outages(self, *, now: datetime) -> list[Outage]:
        """Return the active outages."""
        return [
            rows.outage_of(row)
            for row in self._database.read("SELECT * FROM outages WHERE until > ?", (rows.to_sql(now),))
        ]

    def past_outages(self, provider: str, since: datetime) -> list[Outage]:
        """Return the outages of a provider that ended after `since` or are active; they make the next one longer."""
        statement = "SELECT * FROM outages WHERE provider = ? AND until > ?"
        return [rows.outage_of(row) for row in self._database.read(statement, (provider, rows.to_sql(since)))]

    def delete_outages(self, outages: Sequence[Outage]) -> None:
        """Delete outages; one that was recorded again in the meantime is deleted, too."""
        keys = [(each.provider, each.place, each.instance_type, each.purchase, each.reason) for each in outages]
        statement = (
            "DELETE FROM outages WHERE provider = ? AND place = ? AND instance_type = ? AND purchase = ? AND reason = ?"
        )
        with self._database.transaction("outages") as cursor:
            cursor.executemany(statement, keys)

    # What accounts can use

    def put_availability(self, record: AvailabilityRecord) -> None:
        """Record what an account can use in a region, in place of an earlier answer."""
        with self._database.transaction(f"availability {record.provider}") as cursor:
            sql.upsert(cursor, "availability", [rows.availability_row(record)], key=3)

    def availability(self, *, since: datetime) -> list[AvailabilityRecord]:
        """Return what clouds have answered since an instant, oldest first."""
        statement = "SELECT * FROM availability WHERE read_at >= ? ORDER BY read_at"
        return [rows.availability_of(row) for row in self._database.read(statement, (rows.to_sql(since),))]

    # Own machines

    def host_book(self, provider: str) -> LedgerHostBook:
        """Return the records of the machines of a provider whose machines belong to the user."""
        return LedgerHostBook(lambda: self._database, provider)

    # Leases

    def take_lease(
        self, cluster_id: str, holder: str, *, now: datetime, length: timedelta, dead: Collection[str] = ()
    ) -> str:
        """Take or renew the lease of a cluster, which is the exclusive right to work on it (I7).

        Args:
            cluster_id: The cluster.
            holder: Who takes the lease.
            now: The current instant.
            length: How long the lease lasts.
            dead: Holders that no longer run, whose leases may be taken before they end.

        Returns:
            Who has the lease now; `holder` on success.
        """
        with self._database.transaction(cluster_id) as cursor:
            row = cursor.execute("SELECT holder, until FROM leases WHERE cluster_id = ?", (cluster_id,)).fetchone()
            if (
                row is not None
                and row["holder"] != holder
                and row["holder"] not in dead
                and row["until"] > rows.to_sql(now)
            ):
                return str(row["holder"])
            sql.upsert(cursor, "leases", [{"cluster_id": cluster_id, "holder": holder, "until": now + length}], key=1)
        return holder

    def lease_holder(self, cluster_id: str, *, now: datetime) -> str:
        """Return who has the lease of a cluster, "" if nobody has."""
        statement = "SELECT holder FROM leases WHERE cluster_id = ? AND until > ?"
        found = self._database.read(statement, (cluster_id, rows.to_sql(now)))
        return str(found[0]["holder"]) if found else ""

    def drop_lease(self, cluster_id: str, holder: str) -> None:
        """Release the lease of a cluster; do nothing if `holder` does not have it."""
        with self._database.transaction(cluster_id) as cursor:
            cursor.execute("DELETE FROM leases WHERE cluster_id = ? AND holder = ?", (cluster_id, holder))


_SHOWN: Final = 2
"""So many differences between two requests are shown."""
_LONGEST: Final = 32
"""A value of a request is shown with so many characters."""


def _name_key(name: str) -> str:
    """Return the key of transactions about a name. Cluster ids have no space, so it differs from all of them."""
    return f"name {name}"


def _require_same(found: ClusterRecord, identity: str) -> ClusterRecord:
    """Return a cluster if the request with this identity created it (I6); otherwise raise ClusterExists."""
    if found.identity == identity:
        return found
    differences = _differences(found.identity, identity)
    raise ClusterExists(
        f"{found.name}: a live cluster of this name ({found.state}) was requested with different {differences}",
        hint=f"choose another name, repeat the same request, or run `multicompute down {found.name}`",
    )


def _differences(old: str, new: str) -> str:
    found = list(_changes(json.loads(old), json.loads(new)))
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more if found else "arguments"


def _changes(before: Mapping[str, object], after: Mapping[str, object], within: str = "") -> Iterator[str]:
    """Yield each argument that differs, with both values; of a workload and other mappings, each of their entries."""
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changes(old, new, f"{within}{name}.")
        elif old != new:
            yield f"{within}{name} ({shortened(repr(old), _LONGEST)}, now {shortened(repr(new), _LONGEST)})"
