"""The records of the ledger, as frozen data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final

from multicompute.node import ClusterState, Node, NodeState
from multicompute.offer import InstanceType, Offer, Part, Quote
from multicompute.provider import Account


class AttemptState(StrEnum):
    """The state of an attempt."""

    OPEN = "open"
    """Recorded before the call. The result of the call is not known yet."""
    LAUNCHED = "launched"
    """The cloud has returned its nodes."""
    CLOSED = "closed"
    """The cloud has confirmed that none of its resources exists."""


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """The record of a cluster.

    Attributes:
        spec: the request as JSON values (`ClusterSpec.to_dict`).
        identity: the part of the request that makes two requests the same (I6), in canonical JSON.
        expires_at: when the cluster must be terminated; None for never.
        reason: why it ended or is being torn down; "" for a live cluster.
    """

    id: str
    name: str
    state: ClusterState
    owner: str
    spec: Mapping[str, object]
    identity: str
    created_at: datetime
    expires_at: datetime | None = None
    ended_at: datetime | None = None
    provider: str | None = None
    region: str | None = None
    zone: str | None = None
    reason: str = ""


NOT_AUTHENTICATED: Final = "not authenticated"
ACCESS_DENIED: Final = "access denied"
"""Outcomes of attempts that the cloud did not let in."""


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """The record of one attempt at one candidate: the requested `parts` and the `outcome`.

    Attributes:
        account: the account in which it was made; None if that is not known.
    """

    token: str
    cluster_id: str
    number: int
    state: AttemptState
    parts: tuple[Part, ...]
    opened_at: datetime
    closed_at: datetime | None = None
    outcome: str = ""
    code: str | None = None
    message: str = ""
    account: Account | None = None

    @property
    def provider(self) -> str:
        """The provider of all parts."""
        return self.parts[0].offer.provider

    @property
    def region(self) -> str:
        """The region of all parts."""
        return self.parts[0].offer.region

    @property
    def nodes(self) -> int:
        """The number of requested nodes, with each host of a slice counted."""
        return sum(part.machines for part in self.parts)

    @property
    def is_open(self) -> bool:
        """Whether resources of the attempt may exist."""
        return self.state is not AttemptState.CLOSED

    @property
    def was_let_in(self) -> bool:
        """Whether the cloud may have accepted a call of the attempt; False if it closed with a refusal of access."""
        return self.is_open or self.outcome not in (NOT_AUTHENTICATED, ACCESS_DENIED)


@dataclass(frozen=True, slots=True)
class Stop:
    """A time in which a node was stopped, and its machine was not billed.

    Attributes:
        end: None while the node is stopped.
    """

    start: datetime
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """The record of a launched node: its last known state, its price, how long it existed and when it was stopped."""

    id: str
    rank: int
    token: str
    provider: str
    instance_type: str
    region: str
    zone: str
    state: str
    started_at: datetime
    ended_at: datetime | None = None
    private_ip: str | None = None
    public_ip: str | None = None
    accelerators: float = 0.0
    hourly_cost: float = 0.0
    stops: tuple[Stop, ...] = ()

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped at the last refresh, and can be started again."""
        return self.ended_at is None and bool(self.stops) and self.stops[-1].end is None

    def observed(self, state: NodeState, *, at: datetime, is_lost: bool) -> "NodeRecord":
        """Return the record after its cloud has reported a state at some time."""
        stops = self.stops
        if self.is_stopped and (is_lost or state in (NodeState.PENDING, NodeState.RUNNING, NodeState.IMPAIRED)):
            stops = (*stops[:-1], Stop(stops[-1].start, at))
        elif state is NodeState.STOPPED and not is_lost and not self.is_stopped:
            stops = (*stops, Stop(at))
        return replace(self, state=state, stops=stops, ended_at=at if is_lost else None)

    def as_node(self) -> Node:
        """Return the node as it was at the last refresh. The machine of a stopped node costs nothing."""
        return Node(
            id=self.id,
            rank=self.rank,
            provider=self.provider,
            instance_type=self.instance_type,
            region=self.region,
            zone=self.zone,
            state=NodeState(self.state),
            private_ip=self.private_ip,
            public_ip=self.public_ip,
            accelerators=self.accelerators,
            hourly_cost=0.0 if self.is_stopped else self.hourly_cost,
            token=self.token,
        )


def account_to_json(account: Account) -> dict[str, object]:
    """Return an account as JSON values."""
    return {"ids": list(account.ids), "label": account.label}


def account_from_json(data: Mapping[str, Any]) -> Account:
    """Return the account that `account_to_json` has converted."""
    return Account(tuple(data["ids"]), data["label"])


def part_to_json(part: Part) -> dict[str, object]:
    """Return everything that is needed to launch the same part again, as JSON values."""
    offer, quote = part.offer, part.offer.quote
    instance = {name: getattr(offer.instance, name) for name in InstanceType.__dataclass_fields__}
    return {
        "instance": instance,
        "region": offer.region,
        "zone": offer.zone,
        "purchase": offer.purchase,
        "quote": [quote.hourly_cost, quote.as_of.isoformat(), quote.source, quote.basis],
        "nodes": part.nodes,
        "reservation": part.reservation,
    }


def part_from_json(data: Mapping[str, Any]) -> Part:
    """Return the part that `part_to_json` has converted."""
    hourly_cost, as_of, source, basis = data["quote"]
    offer = Offer(
        instance=InstanceType(**data["instance"]),
        region=data["region"],
        zone=data["zone"],
        purchase=data["purchase"],
        quote=Quote(hourly_cost, date.fromisoformat(as_of), source, basis),
    )
    return Part(offer, data["nodes"], data["reservation"])
