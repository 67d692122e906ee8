"""The records of the ledger, as frozen data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from multicompute.node import ClusterState, Node, NodeState
from multicompute.offer import InstanceType, Offer, Part, Quote
from multicompute.provider import Account, Availability, PriceChange
from multicompute.units import parse_instant

if TYPE_CHECKING:
    from multicompute.provider import Selector


@dataclass(frozen=True, slots=True)
class AvailabilityRecord:
    """The answer of a cloud about what an account can use in a region, with its time."""

    provider: str
    account: str
    read_at: datetime
    availability: Availability


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
        spec: The request as JSON values (`ClusterSpec.to_dict`).
        identity: The part of the request that makes two requests the same (I6), in canonical JSON.
        expires_at: When the cluster must be terminated; None for never.
        reason: Why it ended or is being torn down; "" for a live cluster.
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
        account: The account in which it was made; None if that is not known.
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
    def selector(self) -> "Selector":
        """The selector of everything that the attempt has launched."""
        # Imported here: `ls` and `nodes` read records and need no provider.
        from multicompute.provider import Selector

        return Selector(region=self.region, cluster_id=self.cluster_id, token=self.token)

    @property
    def is_open(self) -> bool:
        """Return whether resources of the attempt may exist."""
        return self.state is not AttemptState.CLOSED

    @property
    def was_let_in(self) -> bool:
        """Return whether the cloud may have accepted a call of the attempt; False if it closed with a refusal of access."""
        return self.is_open or self.outcome not in (NOT_AUTHENTICATED, ACCESS_DENIED)


@dataclass(frozen=True, slots=True)
class Stop:
    """A time in which a node was stopped.

    Attributes:
        end: None while the node is stopped.
        is_billed: Whether its machine was billed all the same.
    """

    start: datetime
    end: datetime | None = None
    is_billed: bool = False


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """The record of a launched node: its last known state, its price, how long it existed and when it was stopped.

    Attributes:
        hourly_cost: Its price now, in USD per hour.
        prices: All its prices, oldest first, if the price has changed; otherwise ().
        priced_at: Until when its price is known, if it follows the spot price; None if it does not change.
    """

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
    prices: tuple[PriceChange, ...] = ()
    priced_at: datetime | None = None

    @property
    def is_stopped(self) -> bool:
        """Return whether it was stopped at the last refresh, and can be started again."""
        return self.ended_at is None and bool(self.stops) and self.stops[-1].end is None

    @property
    def is_machine_billed(self) -> bool:
        """Return whether its machine, and not just its disks, was billed at the last refresh."""
        return self.ended_at is None and (not self.is_stopped or self.stops[-1].is_billed)

    def observed(self, state: NodeState, *, at: datetime, is_lost: bool, is_billed: bool = False) -> "NodeRecord":
        """Return the record after its cloud has reported a state at some time; `is_billed` is that of the node."""
        stops = self.stops
        is_stop = state is NodeState.STOPPED and not is_lost
        is_changed = is_stop and self.is_stopped and stops[-1].is_billed != is_billed
        runs = is_lost or state in (NodeState.PENDING, NodeState.RUNNING, NodeState.IMPAIRED)
        if self.is_stopped and (runs or is_changed):
            stops = (*stops[:-1], replace(stops[-1], end=at))
        if is_stop and (is_changed or not self.is_stopped):
            stops = (*stops, Stop(at, is_billed=is_billed))
        return replace(self, state=state, stops=stops, ended_at=at if is_lost else None)

    @property
    def first_hourly_cost(self) -> float:
        """Its price at its launch."""
        return self.prices[0].hourly_cost if self.prices else self.hourly_cost

    def priced(self, changes: Sequence[PriceChange], *, at: datetime) -> "NodeRecord":
        """Return the record after its cloud has reported the prices since the last report, oldest first."""
        prices = self.prices or (PriceChange(self.started_at, self.hourly_cost),)
        for change in changes:
            if change.at > prices[-1].at and change.hourly_cost != prices[-1].hourly_cost:
                prices = (*prices, change)
        is_same = len(prices) == 1
        return replace(self, prices=() if is_same else prices, hourly_cost=prices[-1].hourly_cost, priced_at=at)

    def as_node(self) -> Node:
        """Return the node as it was at the last refresh. A machine that is not billed costs nothing."""
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
            hourly_cost=self.hourly_cost if self.is_machine_billed or self.ended_at else 0.0,
            token=self.token,
            is_billed=self.is_stopped and self.is_machine_billed,
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
        "ends_at": part.ends_at and part.ends_at.isoformat(),
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
    # Earlier versions did not record the end.
    ends_at = data.get("ends_at")
    return Part(offer, data["nodes"], data["reservation"], parse_instant(ends_at) if ends_at else None)
