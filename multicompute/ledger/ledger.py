"""The ledger's verbs: each is one transaction, committed to disk when it returns."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from multicompute.clock import process_id
from multicompute.errors import ClusterExists, ClusterNotFound
from multicompute.ledger.database import Cursor, Database, open_database
from multicompute.ledger.records import (
    AttemptRecord,
    AttemptState,
    ClusterRecord,
    NodeRecord,
    part_from_json,
    part_to_json,
)
from multicompute.node import ClusterState, Event
from multicompute.plan import Outage
from multicompute.units import parse_instant

_ENDED: Final = "('TERMINATED', 'FAILED')"


class Ledger:
    """What is remembered of clusters. Safe to use from several threads and several processes at once.

    Args:
        url: "sqlite:////path/to/file" or "postgresql://me@host/database".

    Raises:
        LedgerError: it can't be opened, read or written, is no ledger, or is of a newer version.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened = {process_id(): open_database(url)}

    @property
    def _database(self) -> Database:
        # A connection must not be used on both sides of a fork, nor closed by the child: its locks and its socket are the
        # parent's. So a child opens its own, and keeps what it has inherited as it is.
        me = process_id()
        return self._opened.get(me) or self._opened.setdefault(me, open_database(self._url))

    def close(self) -> None:
        """Close it; nothing is lost."""
        if opened := self._opened.get(process_id()):
            opened.close()

    # Clusters

    def claim(self, cluster: ClusterRecord, *, holder: str = "", until: datetime | None = None) -> ClusterRecord:
        """Write a new cluster down, or return the live one that the same request made before (I6).

        Args:
            cluster: the new one.
            holder: who works on it from its first instant, until `until`: nobody is to take it for one that was forsaken.

        Raises:
            ClusterExists: a live cluster of that name was made by another request.
        """
        with self._database.transaction(_name_key(cluster.name), is_intent=True) as cursor:
            statement = f"SELECT * FROM clusters WHERE name = ? AND state NOT IN {_ENDED}"
            row = cursor.execute(statement, (cluster.name,)).fetchone()
            if row is None:
                _insert(cursor, "clusters", _cluster_row(cluster))
                if holder:
                    _insert(cursor, "leases", {"cluster_id": cluster.id, "holder": holder, "until": until})
                return cluster
        return _same(_cluster(row), cluster.identity)

    def claimed(self, name: str, identity: str) -> ClusterRecord | None:
        """The live cluster of this name, None where there is none.

        Raises:
            ClusterExists: it was made by another request.
        """
        rows = self._database.read(f"SELECT * FROM clusters WHERE name = ? AND state NOT IN {_ENDED}", (name,))
        return _same(_cluster(rows[0]), identity) if rows else None

    def adopt(self, cluster: ClusterRecord, attempts: Sequence[AttemptRecord], nodes: Sequence[NodeRecord]) -> None:
        """Write down a cluster that was found in a cloud and in no ledger."""
        with self._database.transaction(_name_key(cluster.name), is_intent=True) as cursor:
            _insert(cursor, "clusters", _cluster_row(cluster))
            for attempt in attempts:
                _insert(cursor, "attempts", _attempt_row(attempt))
            for node in nodes:
                _insert(cursor, "nodes", {"cluster_id": cluster.id, **_node_row(node)})

    def cluster(self, cluster_id: str) -> ClusterRecord:
        """The cluster of this id, live or ended."""
        rows = self._database.read("SELECT * FROM clusters WHERE id = ?", (cluster_id,))
        if not rows:
            raise ClusterNotFound(f"no cluster of id {cluster_id} in the ledger")
        return _cluster(rows[0])

    def find(self, name: str) -> ClusterRecord:
        """The live cluster of this name, else the one of this name that ended last; an id is taken for a name, too.

        Raises:
            ClusterNotFound: there was never one.
        """
        rows = self._database.read(
            f"SELECT * FROM clusters WHERE name = ? OR id = ? ORDER BY state IN {_ENDED}, created_at DESC LIMIT 1",
            (name, name),
        )
        if not rows:
            raise ClusterNotFound(
                f"{name}: no cluster of this name", hint="`multicompute ls --all` lists what there is"
            )
        return _cluster(rows[0])

    def clusters(self, *, include_ended: bool = False) -> list[ClusterRecord]:
        """All live clusters, oldest first; with `include_ended` those that have ended, too."""
        where = "" if include_ended else f"WHERE state NOT IN {_ENDED}"
        return [_cluster(row) for row in self._database.read(f"SELECT * FROM clusters {where} ORDER BY created_at, id")]

    def update_cluster(self, cluster_id: str, event: Event | None = None, **changes: object) -> ClusterRecord:
        """Change fields of a cluster, and add the event that tells why, in one transaction."""
        with self._database.transaction(cluster_id, is_intent=True) as cursor:
            _update(cursor, "clusters", {"id": cluster_id}, changes)
            if event is not None:
                _append(cursor, event)
        return self.cluster(cluster_id)

    def make_ready(self, cluster_id: str, nodes: Sequence[NodeRecord], event: Event, **changes: object) -> bool:
        """Write down that the gang is complete; False, and nothing written, where the end has begun meanwhile."""
        with self._database.transaction(cluster_id) as cursor:
            statement = "UPDATE clusters SET state = 'READY' WHERE id = ? AND state IN ('REQUESTED', 'PROVISIONING')"
            if cursor.execute(statement, (cluster_id,)).rowcount != 1:
                return False
            _update(cursor, "clusters", {"id": cluster_id}, changes)
            _put_nodes(cursor, cluster_id, nodes)
            _append(cursor, event)
        return True

    def ask_to_end(self, cluster_id: str, reason: str, *, states: Collection[ClusterState]) -> None:
        """Let whoever works on a cluster find that it is to end; nothing happens where it is in none of these states any more."""
        marks = ", ".join("?" * len(states))
        statement = f"UPDATE clusters SET state = 'TERMINATING', reason = ? WHERE id = ? AND state IN ({marks})"
        with self._database.transaction(cluster_id, is_intent=True) as cursor:
            cursor.execute(statement, (reason, cluster_id, *states))

    def end_cluster(self, cluster_id: str, *, state: ClusterState, at: datetime, reason: str, event: Event) -> None:
        """Write down that nothing of a cluster lives: its attempts are closed, its nodes have ended (I4)."""
        instant = _value(at)
        with self._database.transaction(cluster_id) as cursor:
            cursor.execute(
                "UPDATE attempts SET state = 'closed', closed_at = ?, outcome = ? WHERE cluster_id = ? AND state <> 'closed'",
                (instant, "ended", cluster_id),
            )
            cursor.execute(
                "UPDATE nodes SET state = 'gone', ended_at = ? WHERE cluster_id = ? AND ended_at IS NULL",
                (instant, cluster_id),
            )
            statement = (
                f"UPDATE clusters SET state = ?, ended_at = ?, reason = ? WHERE id = ? AND state NOT IN {_ENDED}"
            )
            if cursor.execute(statement, (state.value, instant, reason, cluster_id)).rowcount == 1:
                _forget_script(cursor, cluster_id)
                _append(cursor, event)

    # Attempts

    def open_attempt(
        self, attempt: AttemptRecord, event: Event, *, is_repair: bool = False, holder: str | None = None
    ) -> bool:
        """Write an attempt down before the cloud hears of it (I1); False, and nothing written, where the end has begun.

        Args:
            attempt: what is to be launched.
            event: the line that says so.
            is_repair: it replaces nodes of a cluster that is DEGRADED, which stays where and what it is.
            holder: who must have the cluster's lease; None where that is known.
        """
        with self._database.transaction(attempt.cluster_id, is_intent=True) as cursor:
            if holder is not None and not _is_held(cursor, attempt.cluster_id, holder):
                return False
            if is_repair:
                statement = "UPDATE clusters SET state = state WHERE id = ? AND state = 'DEGRADED'"
                cursor.execute(statement, (attempt.cluster_id,))
            else:
                cursor.execute(
                    "UPDATE clusters SET state = 'PROVISIONING', provider = ?, region = ?, zone = ? "
                    "WHERE id = ? AND state IN ('REQUESTED', 'PROVISIONING')",
                    (attempt.provider, attempt.region, attempt.parts[0].offer.zone or None, attempt.cluster_id),
                )
            if cursor.rowcount != 1:
                return False
            _insert(cursor, "attempts", _attempt_row(attempt))
            _append(cursor, event)
        return True

    def reopen_attempt(self, attempt: AttemptRecord, *, at: datetime, holder: str) -> bool:
        """Write down that the cloud is about to hear of an attempt once more, so that its doubt lasts from then on (I4).

        Returns:
            False, and nothing written, where it was closed, the end of its cluster has begun, or `holder` has no lease any more.
        """
        statement = (
            "UPDATE attempts SET opened_at = ? WHERE token = ? AND state = 'open' AND cluster_id IN "
            f"(SELECT id FROM clusters WHERE state <> 'TERMINATING' AND state NOT IN {_ENDED})"
        )
        with self._database.transaction(attempt.cluster_id, is_intent=True) as cursor:
            is_held = _is_held(cursor, attempt.cluster_id, holder)
            return is_held and cursor.execute(statement, (_value(at), attempt.token)).rowcount == 1

    def record_launch(self, attempt: AttemptRecord, nodes: Sequence[NodeRecord], event: Event) -> bool:
        """Write down what the cloud has named; False, and nothing written, where the attempt was closed meanwhile."""
        with self._database.transaction(attempt.cluster_id, is_intent=True) as cursor:
            statement = "UPDATE attempts SET state = 'launched' WHERE token = ? AND state <> 'closed'"
            if cursor.execute(statement, (attempt.token,)).rowcount != 1:
                return False
            _put_nodes(cursor, attempt.cluster_id, nodes)
            _append(cursor, event)
        return True

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
        """Write down that nothing of the attempt lives (I4), why, and what is worth remembering of it."""
        changes = {"state": AttemptState.CLOSED, "closed_at": at, "outcome": outcome, "code": code, "message": message}
        with self._database.transaction(attempt.cluster_id) as cursor:
            _update(cursor, "attempts", {"token": attempt.token}, changes)
            cursor.execute(
                "UPDATE nodes SET ended_at = ?, state = 'gone' WHERE cluster_id = ? AND token = ? AND ended_at IS NULL",
                (_value(at), attempt.cluster_id, attempt.token),
            )
            if outage is not None:
                _put(cursor, "outages", [_outage_row(outage)], key=5)
            _append(cursor, event)

    def attempts(self, cluster_id: str) -> list[AttemptRecord]:
        """The attempts of a cluster in the order in which they were made."""
        rows = self._database.read("SELECT * FROM attempts WHERE cluster_id = ? ORDER BY number", (cluster_id,))
        return [_attempt(row) for row in rows]

    def attempt(self, token: str) -> AttemptRecord | None:
        """The attempt of this token, None where there is none."""
        rows = self._database.read("SELECT * FROM attempts WHERE token = ?", (token,))
        return _attempt(rows[0]) if rows else None

    def count_attempts(self, cluster_id: str) -> int:
        """How many attempts a cluster has had."""
        rows = self._database.read("SELECT COUNT(*) AS count FROM attempts WHERE cluster_id = ?", (cluster_id,))
        return int(rows[0]["count"])

    # Nodes

    def put_nodes(self, cluster_id: str, nodes: Sequence[NodeRecord]) -> None:
        """Write down what was seen of a cluster's nodes."""
        with self._database.transaction(cluster_id) as cursor:
            _put_nodes(cursor, cluster_id, nodes)

    def settle(self, cluster_id: str, nodes: Sequence[NodeRecord], event: Event, *, state: ClusterState) -> bool:
        """Write down what was seen of a cluster that is up, and the state that follows, READY or DEGRADED.

        Returns:
            False, and nothing written, where the end has begun meanwhile.
        """
        with self._database.transaction(cluster_id) as cursor:
            statement = "UPDATE clusters SET state = ? WHERE id = ? AND state IN ('READY', 'DEGRADED')"
            if cursor.execute(statement, (state.value, cluster_id)).rowcount != 1:
                return False
            _put_nodes(cursor, cluster_id, nodes)
            _append(cursor, event)
        return True

    def nodes_up(self) -> list[tuple[str, NodeRecord]]:
        """Every node of every cluster that is up, with the cluster's id: what there is to look at."""
        rows = self._database.read(
            "SELECT nodes.* FROM nodes JOIN clusters ON clusters.id = nodes.cluster_id "
            "WHERE clusters.state IN ('READY', 'DEGRADED') AND nodes.ended_at IS NULL AND nodes.rank >= 0 "
            "ORDER BY clusters.created_at, clusters.id, nodes.rank, nodes.id"
        )
        return [(row["cluster_id"], _node(row)) for row in rows]

    def nodes(self, cluster_id: str) -> list[NodeRecord]:
        """Every node that the cluster has had, by rank, the live ones first."""
        rows = self._database.read(
            "SELECT * FROM nodes WHERE cluster_id = ? ORDER BY ended_at IS NOT NULL, rank, id", (cluster_id,)
        )
        return [_node(row) for row in rows]

    def spending(
        self, *, since: datetime | None = None, cluster_id: str | None = None
    ) -> list[tuple[ClusterRecord, list[NodeRecord]]]:
        """What accounts are made of: clusters, oldest first, with their nodes, in two statements however many there are.

        Args:
            since: leave out the nodes that had ended by then, but for those of clusters that live.
            cluster_id: only this cluster.
        """
        wanted, values = ["1 = 1"], []
        if since is not None:
            live = f"SELECT id FROM clusters WHERE state NOT IN {_ENDED}"
            wanted.append(f"(ended_at IS NULL OR ended_at >= ? OR cluster_id IN ({live}))")
            values.append(_value(since))
        if cluster_id is not None:
            wanted.append("cluster_id = ?")
            values.append(cluster_id)
        where = " AND ".join(wanted)
        nodes: dict[str, list[NodeRecord]] = {}
        for row in self._database.read(f"SELECT * FROM nodes WHERE {where} ORDER BY cluster_id, rank, id", values):
            nodes.setdefault(row["cluster_id"], []).append(_node(row))
        # Apart from their nodes: a join would repeat the whole request for each. After them, so that none can be missing.
        rows = self._database.read(
            f"SELECT * FROM clusters WHERE id IN (SELECT cluster_id FROM nodes WHERE {where}) ORDER BY created_at, id",
            values,
        )
        return [(_cluster(row), nodes[row["id"]]) for row in rows if row["id"] in nodes]

    # Events

    def append(self, event: Event) -> None:
        """Add a line to a cluster's story."""
        with self._database.transaction(event.cluster_id) as cursor:
            _append(cursor, event)

    def append_once(self, event: Event) -> bool:
        """Add a line to a cluster's story, unless it has one of the same kind with the same data; tells whether it was added."""
        same = "SELECT 1 FROM events WHERE cluster_id = ? AND kind = ? AND data = ?"
        with self._database.transaction(event.cluster_id) as cursor:
            if cursor.execute(same, (event.cluster_id, event.kind, _data(event))).fetchone() is not None:
                return False
            _append(cursor, event)
        return True

    def events(self, cluster_id: str) -> list[Event]:
        """A cluster's story, oldest line first."""
        rows = self._database.read("SELECT * FROM events WHERE cluster_id = ? ORDER BY seq", (cluster_id,))
        return [
            Event(parse_instant(row["at"]), row["kind"], row["message"], cluster_id, json.loads(row["data"]))
            for row in rows
        ]

    # Outages

    def outages(self, *, now: datetime) -> list[Outage]:
        """The outages that are not over yet."""
        return [_outage(row) for row in self._database.read("SELECT * FROM outages WHERE until > ?", (_value(now),))]

    def past_outages(self, provider: str, since: datetime) -> list[Outage]:
        """Outages of a provider that ended after `since` or are not over: they make the next one longer."""
        statement = "SELECT * FROM outages WHERE provider = ? AND until > ?"
        return [_outage(row) for row in self._database.read(statement, (provider, _value(since)))]

    # Leases

    def take_lease(
        self, cluster_id: str, holder: str, *, now: datetime, length: timedelta, dead: Collection[str] = ()
    ) -> str:
        """Take or renew the right to work on a cluster (I7): returns who has it now, `holder` on success.

        `dead` are holders that are known to be gone although their time is not up.
        """
        with self._database.transaction(cluster_id) as cursor:
            row = cursor.execute("SELECT holder, until FROM leases WHERE cluster_id = ?", (cluster_id,)).fetchone()
            if row is not None and row["holder"] != holder and row["holder"] not in dead and row["until"] > _value(now):
                return str(row["holder"])
            lease = {"cluster_id": cluster_id, "holder": holder, "until": now + length}
            _put(cursor, "leases", [lease], key=1)
        return holder

    def drop_lease(self, cluster_id: str, holder: str) -> None:
        """Give the right back; nothing happens where somebody else has it."""
        with self._database.transaction(cluster_id) as cursor:
            cursor.execute("DELETE FROM leases WHERE cluster_id = ? AND holder = ?", (cluster_id, holder))


def _value(value: object) -> Any:
    if isinstance(value, datetime):
        # Microseconds always, so that the texts sort as the instants do.
        return value.isoformat(timespec="microseconds")
    # PostgreSQL has no place for a NUL in a text; what a cloud says must not keep us from writing it down.
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _name_key(name: str) -> str:
    """The key of transactions about a name; no cluster's id has a space."""
    return f"name {name}"


def _is_held(cursor: Cursor, cluster_id: str, holder: str) -> bool:
    """Whether `holder` still has the lease; one that has run out and that nobody has taken counts."""
    row = cursor.execute("SELECT holder FROM leases WHERE cluster_id = ?", (cluster_id,)).fetchone()
    return row is not None and row["holder"] == holder


def _insert(cursor: Cursor, table: str, row: Mapping[str, object]) -> None:
    marks = ", ".join("?" * len(row))
    # Table and column names are our own, values are bound.
    cursor.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(map(_value, row.values())))


def _put(cursor: Cursor, table: str, rows: Sequence[Mapping[str, object]], *, key: int) -> None:
    """Insert, or replace the rows with the same first `key` columns."""
    if not rows:
        return
    columns = list(rows[0])
    sets = ", ".join(f"{name} = excluded.{name}" for name in columns[key:])
    cursor.executemany(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "
        f"ON CONFLICT ({', '.join(columns[:key])}) DO UPDATE SET {sets}",
        [tuple(map(_value, row.values())) for row in rows],
    )


def _put_nodes(cursor: Cursor, cluster_id: str, nodes: Sequence[NodeRecord]) -> None:
    _put(cursor, "nodes", [{"cluster_id": cluster_id, **_node_row(node)} for node in nodes], key=2)


def _update(cursor: Cursor, table: str, key: Mapping[str, object], changes: Mapping[str, object]) -> None:
    sets = ", ".join(f"{name} = ?" for name in changes)
    where = " AND ".join(f"{name} = ?" for name in key)
    values = tuple(map(_value, [*changes.values(), *key.values()]))
    cursor.execute(f"UPDATE {table} SET {sets} WHERE {where}", values)


def _data(event: Event) -> str:
    return json.dumps(dict(event.data), default=str)


def _append(cursor: Cursor, event: Event) -> None:
    cursor.execute(
        "INSERT INTO events (cluster_id, seq, at, kind, message, data) "
        "SELECT ?, COALESCE(MAX(seq), 0) + 1, ?, ?, ?, ? FROM events WHERE cluster_id = ?",
        (
            event.cluster_id,
            _value(event.at),
            event.kind,
            _value(event.message),
            _data(event),
            event.cluster_id,
        ),
    )


def _same(found: ClusterRecord, identity: str) -> ClusterRecord:
    """The cluster that was found, if the request of this identity is the one that made it (I6)."""
    if found.identity == identity:
        return found
    raise ClusterExists(
        f"{found.name}: a live cluster of this name ({found.state}) was requested with other {_differences(found.identity, identity)}",
        hint=f"choose another name, repeat the same request, or end it with `multicompute down {found.name}`",
    )


def _differences(old: str, new: str) -> str:
    before, after = json.loads(old), json.loads(new)
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return ", ".join(f"{name} ({before.get(name)!r}, now {after.get(name)!r})" for name in names) or "arguments"


def _instant(text: str | None) -> datetime | None:
    return None if text is None else parse_instant(text)


def _cluster_row(cluster: ClusterRecord) -> dict[str, object]:
    row = {name: getattr(cluster, name) for name in ClusterRecord.__dataclass_fields__}
    return row | {"spec": json.dumps(dict(cluster.spec))}


def _cluster(row: Any) -> ClusterRecord:
    values = dict(row)
    values |= {"state": ClusterState(row["state"]), "spec": json.loads(row["spec"])}
    values |= {name: _instant(row[name]) for name in ("created_at", "expires_at", "ended_at")}
    return ClusterRecord(**values)


def _forget_script(cursor: Cursor, cluster_id: str) -> None:
    """Drop the user's script, in which there may be a token: it was kept for nodes that replace others, and there will be none."""
    spec = json.loads(cursor.execute("SELECT spec FROM clusters WHERE id = ?", (cluster_id,)).fetchone()["spec"])
    if spec.get("setup") is not None:
        _update(cursor, "clusters", {"id": cluster_id}, {"spec": json.dumps(spec | {"setup": None})})


def _attempt_row(attempt: AttemptRecord) -> dict[str, object]:
    row = {name: getattr(attempt, name) for name in AttemptRecord.__dataclass_fields__}
    return row | {"parts": json.dumps([part_to_json(part) for part in attempt.parts])}


def _attempt(row: Any) -> AttemptRecord:
    values = dict(row)
    values |= {"state": AttemptState(row["state"]), "opened_at": _instant(row["opened_at"])}
    values |= {"closed_at": _instant(row["closed_at"])}
    values["parts"] = tuple(part_from_json(part) for part in json.loads(row["parts"]))
    return AttemptRecord(**values)


def _node_row(node: NodeRecord) -> dict[str, object]:
    # The key comes first: `_put` counts on it.
    return {name: getattr(node, name) for name in NodeRecord.__dataclass_fields__}


def _node(row: Any) -> NodeRecord:
    values = {name: row[name] for name in NodeRecord.__dataclass_fields__}
    return NodeRecord(
        **values | {"started_at": parse_instant(row["started_at"]), "ended_at": _instant(row["ended_at"])}
    )


def _outage_row(outage: Outage) -> dict[str, object]:
    names = ("provider", "place", "instance_type", "purchase", "reason", "until", "nodes")
    # The column keeps the name that it had in the first schema version.
    return {name: getattr(outage, name) for name in names} | {"strikes": outage.consecutive_failures}


def _outage(row: Any) -> Outage:
    values = dict(row)
    values |= {"until": parse_instant(row["until"]), "consecutive_failures": values.pop("strikes")}
    return Outage(**values)
