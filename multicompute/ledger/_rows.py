"""Converts records to table rows and back."""

import functools
import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

from multicompute.ledger.records import (
    AttemptRecord,
    AttemptState,
    AvailabilityRecord,
    ClusterRecord,
    NodeRecord,
    Stop,
    account_from_json,
    account_to_json,
    part_from_json,
    part_to_json,
)
from multicompute.node import ClusterState, Event
from multicompute.plan import Outage
from multicompute.provider import Availability, PriceChange
from multicompute.units import parse_instant


def to_sql(value: object) -> Any:
    """Return a value in the form that is stored."""
    if isinstance(value, datetime):
        # Always with microseconds, so that the texts sort in the order of the instants.
        return value.isoformat(timespec="microseconds")
    # PostgreSQL can't store a NUL in a text. A vendor's message must not make a write fail.
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _instant(text: str | None) -> datetime | None:
    return None if text is None else parse_instant(text)


def cluster_row(cluster: ClusterRecord) -> dict[str, object]:
    """Return the row of a cluster."""
    row = {name: getattr(cluster, name) for name in ClusterRecord.__dataclass_fields__}
    return row | {"spec": json.dumps(dict(cluster.spec))}


def cluster_of(row: Any) -> ClusterRecord:
    """Return the cluster of a row."""
    values = dict(row)
    values |= {"state": ClusterState(row["state"]), "spec": json.loads(row["spec"])}
    values |= {name: _instant(row[name]) for name in ("created_at", "expires_at", "ended_at")}
    return ClusterRecord(**values)


def attempt_row(attempt: AttemptRecord) -> dict[str, object]:
    """Return the row of an attempt."""
    row = {name: getattr(attempt, name) for name in AttemptRecord.__dataclass_fields__}
    row |= {"parts": json.dumps([part_to_json(part) for part in attempt.parts])}
    return row | {"account": attempt.account and json.dumps(account_to_json(attempt.account))}


def attempt_of(row: Any) -> AttemptRecord:
    """Return the attempt of a row."""
    values = dict(row)
    values |= {"state": AttemptState(row["state"]), "opened_at": _instant(row["opened_at"])}
    values |= {"closed_at": _instant(row["closed_at"])}
    values["parts"] = tuple(part_from_json(part) for part in json.loads(row["parts"]))
    values["account"] = account_from_json(json.loads(row["account"])) if row["account"] else None
    return AttemptRecord(**values)


def node_row(cluster_id: str, node: NodeRecord) -> dict[str, object]:
    """Return the row of a node, with the columns of its key first."""
    row = {"cluster_id": cluster_id, **{name: getattr(node, name) for name in NodeRecord.__dataclass_fields__}}
    row["stops"] = json.dumps([[to_sql(stop.start), to_sql(stop.end), stop.is_billed] for stop in node.stops])
    return row | {"prices": json.dumps([_price(price) for price in node.prices])}


def _price(price: PriceChange) -> list[object]:
    listed = () if price.list_hourly_cost is None else (price.list_hourly_cost,)
    return [to_sql(price.at), price.hourly_cost, *listed]


def node_of(row: Any) -> NodeRecord:
    """Return the node of a row."""
    values = {name: row[name] for name in NodeRecord.__dataclass_fields__}
    values |= {"started_at": parse_instant(row["started_at"]), "ended_at": _instant(row["ended_at"])}
    values["stops"] = tuple(
        Stop(parse_instant(start), _instant(end), *is_billed) for start, end, *is_billed in _list(row["stops"])
    )
    values["prices"] = tuple(PriceChange(parse_instant(at), *costs) for at, *costs in _list(row["prices"]))
    values["priced_at"] = _instant(row["priced_at"])
    return NodeRecord(**values)


def _list(text: str) -> Any:
    """Return a list from its JSON; most nodes have no stops and no price changes, and a ledger has thousands of nodes."""
    return () if text == "[]" else json.loads(text)


def outage_row(outage: Outage) -> dict[str, object]:
    """Return the row of an outage, with the columns of its key first."""
    names = ("provider", "place", "instance_type", "purchase", "reason", "until", "nodes")
    # The column is named as in the first version of the schema.
    return {name: getattr(outage, name) for name in names} | {"strikes": outage.consecutive_failures}


def outage_of(row: Any) -> Outage:
    """Return the outage of a row."""
    values = dict(row)
    values |= {"until": parse_instant(row["until"]), "consecutive_failures": values.pop("strikes")}
    return Outage(**values)


def availability_row(record: AvailabilityRecord) -> dict[str, object]:
    """Return the row of what an account can use, with the columns of its key first."""
    found = record.availability
    row = {"provider": record.provider, "account": record.account, "region": found.region, "read_at": record.read_at}
    return row | {"data": json.dumps(asdict(found))}


def availability_of(row: Any) -> AvailabilityRecord:
    """Return what an account can use, of a row."""
    return AvailabilityRecord(
        row["provider"], row["account"], parse_instant(row["read_at"]), _availability(row["data"])
    )


# Parsed once: every plan reads all of them.
@functools.lru_cache(maxsize=256)
def _availability(data: str) -> Availability:
    values = json.loads(data)
    offered = values["offered"]
    values["offered"] = offered and {name: tuple(zones) for name, zones in offered.items()}
    return Availability(**values | {"notes": tuple(values["notes"])})


def event_data(event: Event) -> str:
    """Return the stored form of an event's data."""
    return json.dumps(dict(event.data), default=str)


def event_of(row: Any) -> Event:
    """Return the event of a row."""
    return Event(parse_instant(row["at"]), row["kind"], row["message"], row["cluster_id"], json.loads(row["data"]))
