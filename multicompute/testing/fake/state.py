"""The machines of a fake cloud, whose state follows from the time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil

from multicompute.node import Cause, Metric, Node, NodeState, Sample
from multicompute.offer import Offer
from multicompute.provider import TAG_ATTEMPT, TAG_ID, TAG_OWNER, Resource, Selector

EXPIRED = "expired: its expiry has passed"
PREEMPTED = "preempted: the cloud took the spot node back"
IMPAIRED = "impaired: the cloud's health check of the machine fails"
_MINUTE = timedelta(minutes=1)


@dataclass(slots=True)
class Machine:
    """A machine of a fake cloud. Its state follows from the time, so nothing has to run in the background.

    Attributes:
        token: The token of its launch, which stays when its tags are removed.
        ready_at: When it runs.
        listed_from: When listings begin to show it.
        boot_failure: The reason why it never runs; "" if it does.
        boot_cause: The `Cause` of that reason.
        expires_at: When the cloud itself terminates it; None for never.
        latest_end: When the cloud terminates it whatever its expiry is; None for never.
        ends_at: When a requested termination is done; None if none was requested.
        load: What the cloud's monitoring measures of it.
        slice: The number of its slice; the hosts of a slice have the same number.
    """

    id: str
    offer: Offer
    tags: dict[str, str]
    token: str
    private_ip: str
    public_ip: str | None
    ready_at: datetime
    listed_from: datetime
    reservation: str | None = None
    boot_failure: str = ""
    boot_cause: Cause = ""
    expires_at: datetime | None = None
    latest_end: datetime | None = None
    ends_at: datetime | None = None
    end_reason: str | None = None
    is_stopped: bool = False
    is_impaired: bool = False
    load: Mapping[Metric, float] = field(default_factory=dict)
    slice: int = 0

    @property
    def gone_at(self) -> datetime | None:
        """The time of its deletion; None if nothing has deleted it yet."""
        boot = self.ready_at if self.boot_failure else None
        ends = [end for end in (self.ends_at, self.expires_at, self.latest_end, boot) if end is not None]
        return min(ends) if ends else None

    def state(self, now: datetime) -> NodeState:
        """Return its state."""
        gone_at = self.gone_at
        if gone_at is not None and now >= gone_at:
            return NodeState.GONE
        if self.ends_at is not None:
            return NodeState.STOPPING
        if self.is_stopped:
            return NodeState.STOPPED
        return NodeState.RUNNING if now >= self.ready_at else NodeState.PENDING

    def samples(self, since: datetime, until: datetime) -> Iterator[Sample]:
        """Yield a sample of each metric, and of each accelerator, for every full minute in which it ran."""
        accelerators = range(max(ceil(self.offer.instance.accelerators / self.offer.instance.hosts), 1))
        at = datetime.fromtimestamp(ceil(max(since, self.ready_at).timestamp() / 60) * 60, UTC)
        while at <= until and at < (self.gone_at or until + _MINUTE):
            for metric, value in self.load.items():
                for accelerator in accelerators if metric.startswith("accelerator") else (None,):
                    yield Sample(metric, self.id, at, value, accelerator)
            at += _MINUTE

    def exists(self, now: datetime) -> bool:
        """Return whether it exists."""
        return self.state(now) is not NodeState.GONE

    def reason(self, now: datetime) -> str | None:
        """Return why it does not run, or None."""
        if self.exists(now):
            return self.end_reason
        if self.boot_failure and self.gone_at == self.ready_at:
            return self.boot_failure
        return EXPIRED if self.gone_at in (self.expires_at, self.latest_end) else self.end_reason

    def cause(self, now: datetime) -> Cause:
        """Return the cause of that reason."""
        reason = self.reason(now)
        if reason == PREEMPTED:
            return "preemption"
        return self.boot_cause if reason and reason == self.boot_failure else ""

    def as_node(self, now: datetime, *, with_health: bool = False) -> Node:
        """Return the node that the provider reports."""
        state = self.state(now)
        fails = with_health and self.is_impaired and state is NodeState.RUNNING
        return Node(
            id=self.id,
            rank=-1,
            provider=self.offer.provider,
            instance_type=self.offer.instance_type,
            region=self.offer.region,
            zone=self.offer.zone,
            state=NodeState.IMPAIRED if fails else state,
            private_ip=self.private_ip,
            public_ip=self.public_ip,
            accelerators=self.offer.instance.accelerators / self.offer.instance.hosts,
            hourly_cost=0.0 if self.reservation else self.offer.hourly_cost / self.offer.instance.hosts,
            token=self.token,
            reason=IMPAIRED if fails else self.reason(now),
            cause=self.cause(now),
            is_spot=self.offer.purchase == "spot",
            attached=self.offer.instance.accelerator if self.offer.instance.attached else "",
            is_tagged=TAG_ID in self.tags,
        )

    def as_resources(self) -> Iterator[Resource]:
        """Yield the machine and its boot disk."""
        provider, region = self.offer.provider, self.offer.region
        yield Resource(provider, "node", self.id, region, billable=True, tags=dict(self.tags))
        yield Resource(provider, "disk", f"{self.id}-disk", region, billable=True, tags=dict(self.tags))


def private_address(number: int) -> str:
    """Return the private address of a machine by its number."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def public_address(number: int) -> str:
    """Return the public address of a machine by its number, in 198.18.0.0/15 (RFC 2544: for benchmarks, not routed)."""
    return f"198.{18 + (number >> 16 & 1)}.{number >> 8 & 255}.{number & 255}"


def is_selected(machine: Machine, selector: Selector) -> bool:
    """Return whether a machine is ours and selected: by its tags, its id or its token."""
    if selector.only:
        return machine.id in selector.only
    is_known = machine.id in (*selector.known_ids, *selector.node_ids) or machine.token in selector.tokens
    is_here = selector.region in (None, machine.offer.region)
    return (is_known and is_here) or has_selected_tags(machine.tags, machine.offer.region, selector)


def has_selected_tags(tags: Mapping[str, str], region: str, selector: Selector) -> bool:
    """Return whether the tags of a resource in a region show that it is ours and selected."""
    return (
        TAG_ID in tags
        and selector.region in (None, region)
        and selector.cluster_id in (None, tags[TAG_ID])
        and selector.token in (None, tags.get(TAG_ATTEMPT))
        and selector.owner in (None, tags.get(TAG_OWNER))
    )
