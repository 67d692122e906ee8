"""What a fake cloud holds and can give: machines whose state follows from the time, capacity, quotas."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from math import ceil

from multicompute.node import Cause, Metric, Node, NodeState, Sample
from multicompute.offer import Offer, Part, Purchase
from multicompute.provider import TAG_ATTEMPT, TAG_ID, TAG_OWNER, Quota, Resource, Selector

EXPIRED = "expired: its end of life has passed"
PREEMPTED = "preempted: the cloud took the spot node back"
IMPAIRED = "impaired: the cloud's check of the machine fails"
_MINUTE = timedelta(minutes=1)


@dataclass(slots=True)
class Machine:
    """One machine of a fake cloud. What it is doing is worked out from the time, so nothing has to be woken up.

    Attributes:
        listed_from: when listings begin to show it.
        dies_at_boot: the reason why it never comes to run, or "".
        expires_at: when the cloud itself ends it, or None.
        ends_at: when a termination that was asked for is through, or None.
        load: what the cloud's monitoring measures of it.
        slice: the number of what it was bought with, since slices of several hosts come and go whole.
    """

    id: str
    offer: Offer
    tags: dict[str, str]
    private_ip: str
    public_ip: str | None
    ready_at: datetime
    listed_from: datetime
    reservation: str | None = None
    dies_at_boot: str = ""
    boot_cause: Cause = ""
    expires_at: datetime | None = None
    ends_at: datetime | None = None
    end_reason: str | None = None
    is_stopped: bool = False
    is_impaired: bool = False
    load: Mapping[Metric, float] = field(default_factory=dict)
    slice: int = 0

    @property
    def gone_at(self) -> datetime | None:
        """When it is or was deleted for good, as far as that is settled."""
        boot = self.ready_at if self.dies_at_boot else None
        ends = [end for end in (self.ends_at, self.expires_at, boot) if end is not None]
        return min(ends) if ends else None

    def state(self, now: datetime) -> NodeState:
        gone_at = self.gone_at
        if gone_at is not None and now >= gone_at:
            return NodeState.GONE
        if self.ends_at is not None:
            return NodeState.STOPPING
        if self.is_stopped:
            return NodeState.STOPPED
        return NodeState.RUNNING if now >= self.ready_at else NodeState.PENDING

    def samples(self, since: datetime, until: datetime) -> Iterator[Sample]:
        """One measurement of everything, and of each accelerator, for each full minute in which it ran."""
        accelerators = range(max(ceil(self.offer.instance.accelerators / self.offer.instance.hosts), 1))
        at = datetime.fromtimestamp(ceil(max(since, self.ready_at).timestamp() / 60) * 60, UTC)
        while at <= until and at < (self.gone_at or until + _MINUTE):
            for metric, value in self.load.items():
                for accelerator in accelerators if metric.startswith("accelerator") else (None,):
                    yield Sample(metric, self.id, at, value, accelerator)
            at += _MINUTE

    def exists(self, now: datetime) -> bool:
        return self.state(now) is not NodeState.GONE

    def reason(self, now: datetime) -> str | None:
        """Why it is not running, in the fake cloud's words."""
        if self.exists(now):
            return self.end_reason
        if self.dies_at_boot and self.gone_at == self.ready_at:
            return self.dies_at_boot
        return EXPIRED if self.gone_at == self.expires_at else self.end_reason

    def cause(self, now: datetime) -> Cause:
        """The kind of that reason."""
        reason = self.reason(now)
        if reason == PREEMPTED:
            return "preemption"
        return self.boot_cause if reason and reason == self.dies_at_boot else ""

    def as_node(self, now: datetime, *, with_health: bool = False) -> Node:
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
            token=self.tags.get(TAG_ATTEMPT, ""),
            reason=IMPAIRED if fails else self.reason(now),
            cause=self.cause(now),
            is_spot=self.offer.purchase == "spot",
            attached=self.offer.instance.accelerator if self.offer.instance.attached else "",
        )

    def as_resources(self) -> Iterator[Resource]:
        """The machine and its boot disk, which comes and goes with it."""
        provider, region = self.offer.provider, self.offer.region
        yield Resource(provider, "node", self.id, region, billable=True, tags=dict(self.tags))
        yield Resource(provider, "disk", f"{self.id}-disk", region, billable=True, tags=dict(self.tags))


def private_address(number: int) -> str:
    """The address of a fake cloud's machine `number` inside its network."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def public_address(number: int) -> str:
    """Its address for the world: of 198.18.0.0/15, which is set aside for benchmarks (RFC 2544) and leads nowhere."""
    return f"198.{18 + (number >> 16 & 1)}.{number >> 8 & 255}.{number & 255}"


def is_selected(tags: Mapping[str, str], region: str, selector: Selector) -> bool:
    """Whether something with these tags, in this region, is ours and meant by `selector`."""
    return (
        TAG_ID in tags
        and selector.region in (None, region)
        and selector.cluster_id in (None, tags[TAG_ID])
        and selector.token in (None, tags.get(TAG_ATTEMPT))
        and selector.owner in (None, tags.get(TAG_OWNER))
    )


@dataclass(frozen=True, slots=True)
class CapacityRule:
    """How many nodes of matching instance types each matching zone has in all; None for as many as you like."""

    instance_type: str
    place: str
    nodes: int | None
    purchase: Purchase | None = None

    def applies(self, offer: Offer) -> bool:
        return (
            fnmatchcase(offer.instance_type, self.instance_type)
            and (fnmatchcase(offer.zone, self.place) or fnmatchcase(offer.region, self.place))
            and self.purchase in (None, offer.purchase)
        )

    def uses(self, machine: Machine, offer: Offer) -> bool:
        """Whether `machine` takes from what `offer` would take from."""
        other = machine.offer
        return (
            machine.reservation is None
            and (other.region, other.zone, other.instance_type) == (offer.region, offer.zone, offer.instance_type)
            and self.purchase in (None, other.purchase)
        )


class Capacity:
    """What a fake cloud has: without a rule, everything."""

    def __init__(self) -> None:
        self._rules: list[CapacityRule] = []

    def add(self, rule: CapacityRule) -> None:
        """From now on `rule` decides where it applies; earlier ones decide elsewhere."""
        self._rules = [known for known in self._rules if replace(known, nodes=rule.nodes) != rule] + [rule]

    def _rule(self, offer: Offer) -> CapacityRule | None:
        return next((rule for rule in reversed(self._rules) if rule.applies(offer)), None)

    def shortage(self, parts: Iterable[Part], machines: Collection[Machine], now: datetime) -> Offer | None:
        """The first offer of which there is not enough for `parts`, or None."""
        left: dict[tuple[str, str, CapacityRule], int] = {}
        for part in parts:
            offer, rule = part.offer, self._rule(part.offer)
            if part.reservation is not None or rule is None or rule.nodes is None:
                continue
            pool = (offer.zone, offer.instance_type, rule)
            if pool not in left:
                used = {machine.slice for machine in machines if rule.uses(machine, offer) and machine.exists(now)}
                left[pool] = rule.nodes - len(used)
            left[pool] -= part.nodes
            if left[pool] < 0:
                return offer
        return None

    def zones_with(self, offer: Offer, nodes: int) -> tuple[str, ...]:
        """The other zones of the offer's region that a rule names as having `nodes` of it."""
        return tuple(
            rule.place
            for rule in self._rules
            if rule.place.startswith(offer.region)
            and rule.place not in (offer.region, offer.zone)
            and rule.applies(replace(offer, zone=rule.place))
            and (rule.nodes is None or rule.nodes >= nodes)
        )


def quota_amount(quota: Quota, offer: Offer) -> float:
    """What one node of `offer` takes from `quota`, in its unit; 0 where it does not count against it."""
    counts = quota.region in ("*", offer.region) and quota.purchase == offer.purchase and quota.counts(offer.instance)
    if not counts:
        return 0.0
    instance = offer.instance
    amounts = {"vcpus": instance.vcpus * instance.hosts, "accelerators": instance.accelerators, "nodes": 1}
    return float(amounts[quota.unit])


def quota_used(quota: Quota, region: str, machines: Iterable[Machine], now: datetime) -> float:
    """What the account's machines in `region` take from `quota`."""
    return sum(
        quota_amount(quota, machine.offer) / machine.offer.instance.hosts
        for machine in machines
        if machine.offer.region == region and TAG_ID in machine.tags and machine.exists(now)
    )
