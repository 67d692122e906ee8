"""Records for the tests of ledgers, and a way to record an outage."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from multicompute import ClusterState, Event
from multicompute.ledger import AttemptRecord, AttemptState, ClusterRecord, Ledger, NodeRecord
from multicompute.offer import InstanceType, Offer, Part, Quote
from multicompute.plan import Outage

NOW = datetime(2027, 1, 1, 12, tzinfo=UTC)
OFFER = Offer(
    InstanceType("somecloud", "big.8x", "h100", 8, 80, 192, 2048.0, fabric="efa", network_cards=32),
    "north-1",
    "north-1a",
    "on_demand",
    Quote(55.04, date(2026, 7, 20), "a list"),
)


def cluster(number: int = 1, *, name: str = "train", identity: str = "{}") -> ClusterRecord:
    return ClusterRecord(
        id=f"c-{number}",
        name=name,
        state=ClusterState.REQUESTED,
        owner="me@here",
        spec={"gpus": 8},
        identity=identity,
        created_at=NOW + timedelta(seconds=number),
        expires_at=NOW + timedelta(hours=1),
    )


def attempt(number: int = 1, *, cluster_id: str = "c-1", token: str = "") -> AttemptRecord:
    parts = (Part(OFFER, 7), Part(OFFER, 1, "cr-1"))
    return AttemptRecord(token or f"token-{number}", cluster_id, number, AttemptState.OPEN, parts, NOW)


def node(number: int = 0, *, token: str = "token-1", hourly_cost: float = 0.0) -> NodeRecord:
    place = ("somecloud", "big.8x", "north-1", "north-1a")
    return NodeRecord(f"i-{number}", number, token, *place, "running", NOW, hourly_cost=hourly_cost)


def event(kind: str = "note", message: str = "said", cluster_id: str = "c-1") -> Event:
    return Event(NOW, kind, message, cluster_id, {"nodes": 8})


def outage(**changes: Any) -> Outage:
    values = {"provider": "p", "place": "north-1a", "instance_type": "big.8x", "purchase": "spot", "reason": "capacity"}
    return Outage(**{**values, "until": NOW + timedelta(minutes=5), **changes})


def record_outage(ledger: Ledger, lack: Outage) -> None:
    """Record an outage in the way of a failed attempt: it is the only one of a cluster that has ended."""
    name = f"outage-{len(ledger.clusters(include_ended=True))}"
    claimed = ledger.claim(replace(cluster(name=name), id=name))
    failed = attempt(cluster_id=claimed.id, token=name)
    ledger.open_attempt(failed, event(cluster_id=claimed.id))
    ledger.close_attempt(failed, at=NOW, outcome="capacity", event=event(cluster_id=claimed.id), outage=lack)
    ledger.end_cluster(claimed.id, state=ClusterState.FAILED, at=NOW, reason="", event=event(cluster_id=claimed.id))
