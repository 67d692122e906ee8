"""What the ledger remembers, as frozen data."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from multicompute.node import ClusterState, Node, NodeState
from multicompute.offer import InstanceType, Offer, Part, Quote


class AttemptState(StrEnum):
    """How far one try has come."""

    OPEN = "open"
    """Written before the call; what became of it is not known yet."""
    LAUNCHED = "launched"
    """The cloud has named its nodes."""
    CLOSED = "closed"
    """Nothing of it lives, and the cloud has said so."""


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """A cluster as the ledger knows it.

    Attributes:
        spec: the request in JSON terms (`ClusterSpec.to_dict`).
        identity: what makes two requests the same one, in canonical JSON.
        expires_at: hard end of life, None for none.
        reason: why it ended or is ending, "" while it lives.
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


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try at one candidate; `parts` is what was asked for, `outcome` what the cloud made of it."""

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

    @property
    def provider(self) -> str:
        return self.parts[0].offer.provider

    @property
    def region(self) -> str:
        return self.parts[0].offer.region

    @property
    def nodes(self) -> int:
        """How many nodes were asked for, each host of a slice counted."""
        return sum(part.machines for part in self.parts)

    @property
    def is_open(self) -> bool:
        """Whether something of it may live."""
        return self.state is not AttemptState.CLOSED


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node that was launched, with what it costs and when it was ours."""

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

    def as_node(self) -> Node:
        """The node as it was at the last look."""
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
            hourly_cost=self.hourly_cost,
            token=self.token,
        )


def part_to_json(part: Part) -> dict[str, object]:
    """Everything that is needed to launch the same part again, in JSON terms."""
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
    """The part that `part_to_json` wrote."""
    hourly_cost, as_of, source, basis = data["quote"]
    offer = Offer(
        instance=InstanceType(**data["instance"]),
        region=data["region"],
        zone=data["zone"],
        purchase=data["purchase"],
        quote=Quote(hourly_cost, date.fromisoformat(as_of), source, basis),
    )
    return Part(offer, data["nodes"], data["reservation"])
