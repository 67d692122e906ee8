"""A cloud in memory: the double of a provider for fast tests, with finite capacity, faults and virtual time."""

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from multicompute.clock import Clock
from multicompute.errors import MulticomputeError
from multicompute.node import Metric, Node, NodeState, Sample
from multicompute.offer import InstanceType, Offer, Part, Purchase, Quote
from multicompute.provider import (
    TAG_EXPIRES_AT,
    TAG_ID,
    Capability,
    Check,
    LaunchRequest,
    Quota,
    Quotas,
    Reservation,
    Resource,
    Selector,
    TagLimits,
    Teardown,
    expiry_tag,
)
from multicompute.testing.clock import FakeClock
from multicompute.testing.fake_checks import problems
from multicompute.testing.fake_errors import PASSING, meaning_of, refusal
from multicompute.testing.fake_state import (
    PREEMPTED,
    Capacity,
    CapacityRule,
    Machine,
    is_selected,
    private_address,
    public_address,
    quota_amount,
    quota_used,
)
from multicompute.testing.faults import ANSWER_LOST, FaultKind, Faults
from multicompute.testing.local import foreign

_FAR = "elsewhere"
GONE_IS_LISTED_FOR = timedelta(hours=1)
"""So long a deleted node stays in listings, as it does on EC2."""


class FakeProvider:
    """A provider whose cloud is in this process. Nothing in it waits; all of it is safe to use from several threads.

    Without further ado everything is there in any number. `set_capacity`, `set_quota`, `add_reservation`, `preempt` and
    `faults` make it scarce and unreliable. The operations that `faults` knows are the names of the provider's methods,
    and "boot" for a node that is launched and never comes to run; the codes are those of `fake_errors.MEANINGS`.

    Attributes:
        faults: what goes wrong next, and a record of all calls.
        boot_time: how long a node is pending.
        shutdown_time: how long a node takes to be gone after a termination was asked for.
        lag: how long a node is missing from listings after its launch; at most `consistency_window`.

    Example:
        >>> cloud = FakeProvider("aws")
        >>> cloud.set_capacity("p5.48xlarge", "us-east-1a", 0)
        >>> cloud.faults.fail("launch", "throttled", times=2)
        >>> cloud.alive()
        []
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        clock: Clock | None = None,
        capabilities: Collection[Capability] = frozenset(Capability),
        tag_limits: TagLimits | None = None,
        boot_time: timedelta = timedelta(seconds=30),
        shutdown_time: timedelta = timedelta(seconds=20),
        lag: timedelta = timedelta(0),
    ) -> None:
        """Make a cloud with nothing in it.

        Args:
            name: the provider's name; offers of another provider are refused.
            clock: whose time it lives in, by default a FakeClock of its own.
            capabilities: what it can do; by default everything.
            tag_limits: what it accepts as tags beside ours, by default anything.
            boot_time, shutdown_time, lag: see the attributes.
        """
        self.name = name
        self.clock: Clock = clock or FakeClock()
        self.capabilities = frozenset(capabilities)
        self.consistency_window = timedelta(minutes=1)
        self.attempt_timeout = timedelta(minutes=10)
        self.poll_interval = timedelta(seconds=5)
        self.faults = Faults()
        self.boot_time = boot_time
        self.shutdown_time = shutdown_time
        self.lag = lag
        self._tag_limits = tag_limits
        self._lock = threading.RLock()
        self._machines: dict[str, Machine] = {}
        self._by_cluster: dict[str, list[Machine]] = {}
        self._by_token: dict[str, tuple[LaunchRequest, list[Machine]]] = {}
        self._groups: dict[tuple[str, str], Resource] = {}
        self._foreign: dict[str, tuple[Mapping[str, str], Resource]] = {}
        self._capacity = Capacity()
        self._quotas: dict[tuple[str, str], Quota] = {}
        self._reservations: dict[str, Reservation] = {}
        self._prices: dict[tuple[str, str, Purchase], float] = {}

    # --- the seam -----------------------------------------------------------------------------------------------------

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch the gang, all or nothing; see `Provider.launch`."""
        first = request.parts[0].offer if request.parts else None
        fields = {"token": request.token, "cluster": request.cluster_name, "nodes": request.node_count}
        is_known = request.token in self._by_token
        with self._call("launch", fields, offer=first, is_known=is_known), self._lock:
            if request.token in self._by_token:
                return self._replay(request)
            self._validate(request)
            now = self.clock.now()
            # Before the capacity is known, as on real clouds: a refused launch leaves it behind, and teardown must find it.
            self._make_group(request)
            self._afford(request, now)
            machines = [
                each for part in request.parts for _ in range(part.nodes) for each in self._make(part, request, now)
            ]
            self._by_token[request.token] = (request, machines)
            self._by_cluster.setdefault(request.cluster_id, []).extend(machines)
            return tuple(machine.as_node(now) for machine in machines)

    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        """Our nodes, in the order of their launch; see `Provider.nodes`."""
        with self._call("nodes", _fields(selector), region=selector.region), self._lock:
            now = self.clock.now()
            with_health = selector.with_health and Capability.HEALTH_CHECKS in self.capabilities
            return tuple(machine.as_node(now, with_health=with_health) for machine in self._listed(selector, now))

    def resources(self, selector: Selector) -> tuple[Resource, ...]:
        """Everything of ours that exists; see `Provider.resources`."""
        with self._call("resources", _fields(selector), region=selector.region), self._lock:
            return self._existing(selector, self.clock.now())

    def terminate(self, selector: Selector) -> Teardown:
        """Take one step of a teardown; see `Provider.terminate`."""
        with self._call("terminate", _fields(selector), region=selector.region), self._lock:
            if selector.cluster_id is None and selector.token is None:
                raise self._refusal("invalid", "a teardown must name a cluster or a token", region=selector.region)
            now = self.clock.now()
            for machine in self._listed(selector, now):
                if machine.ends_at is None and machine.exists(now):
                    machine.ends_at = now + self.shutdown_time
                    machine.end_reason = "terminated: on request"
            in_use = self._delete_groups(selector, now)
            remaining = self._existing(selector, now)
            stopping = sum(1 for resource in remaining if resource.kind == "node")
            waiting_for = f"{stopping} nodes to stop" if stopping else in_use
            return Teardown(remaining, waiting_for)

    def set_expiry(self, selector: Selector, expires_at: datetime | None) -> None:
        """Move the end of life of the selected nodes; see `Provider.set_expiry`."""
        with self._call("set_expiry", _fields(selector), region=selector.region), self._lock:
            now = self.clock.now()
            for machine in self._listed(selector, now):
                if machine.exists(now):
                    machine.tags[TAG_EXPIRES_AT] = expiry_tag(expires_at)
                    machine.expires_at = expires_at if Capability.EXPIRY in self.capabilities else None

    def quotes(self, offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
        """Today's prices: those set with `set_price`, else the offers' own; see `Provider.quotes`."""
        if Capability.LIVE_PRICES not in self.capabilities:
            return {}
        with self._call("quotes", {"offers": len(offers)}), self._lock:
            today = self.clock.now().date()
            return {offer: Quote(self._price(offer), today, f"{self.name} (fake)") for offer in offers}

    def quotas(self, region: str, *, reservations: Sequence[str] = ()) -> Quotas:
        """What the account may have in `region`; see `Provider.quotas`."""
        if Capability.QUOTAS not in self.capabilities:
            return Quotas(notes=(f"{self.name} does not tell its quotas",))
        try:
            with self._call("quotas", {}, region=region), self._lock:
                return self._read_quotas(region, reservations)
        except MulticomputeError as error:
            return Quotas(notes=(f"the quotas of {self.name} {region} can't be read: {error}",))

    def metrics(self, nodes: Sequence[Node], *, since: datetime, until: datetime) -> tuple[Sample, ...]:
        """What `set_load` says, minute by minute; see `Provider.metrics`."""
        if Capability.METRICS not in self.capabilities:
            return ()
        with self._call("metrics", {"nodes": len(nodes)}), self._lock:
            until = min(until, self.clock.now())
            machines = [self._machines[node.id] for node in nodes if node.id in self._machines]
            found = [sample for machine in machines for sample in machine.samples(since, until)]
            return tuple(sorted(found, key=lambda sample: sample.at))

    def check(self) -> tuple[Check, ...]:
        """Whether the fake cloud lets us in; see `Provider.check`."""
        try:
            with self._call("check", {}):
                return (Check("identity", ok=True, detail=f"the fake cloud {self.name} knows everybody"),)
        except MulticomputeError as error:
            return (Check("identity", ok=False, detail=error.message, hint=error.hint or ""),)

    # --- what a test sets and asks ------------------------------------------------------------------------------------

    def alive(self) -> list[Resource]:
        """Everything that exists, of any owner, whether or not a listing shows it yet: the ground truth.

        Left out are the foreign resources of `add_foreign`.
        """
        with self._lock:
            now = self.clock.now()
            machines = [machine for machine in self._machines.values() if machine.id not in self._foreign]
            found = [item for machine in machines if machine.exists(now) for item in machine.as_resources()]
            theirs = [group.id for _, group in self._foreign.values()]
            return [*found, *(group for group in self._groups.values() if group.id not in theirs)]

    def running_ids(self) -> list[str]:
        """The ids of our nodes that run, in the order of their launch."""
        with self._lock:
            now = self.clock.now()
            ours = (machine for machine in self._machines.values() if machine.id not in self._foreign)
            return [machine.id for machine in ours if machine.state(now) is NodeState.RUNNING]

    def set_capacity(
        self, instance_type: str, place: str, nodes: int | None, *, purchase: Purchase | None = None
    ) -> None:
        """Say how many nodes of an instance type each zone has in all, those that run included.

        Args:
            instance_type: the vendor's name, or a glob: "p5.*".
            place: a zone, a region for each of its zones, or a glob: "us-*".
            nodes: how many; None for as many as you like. The rule that was set last decides.
            purchase: only of what is bought this way.
        """
        with self._lock:
            self._capacity.add(CapacityRule(instance_type, place, nodes, purchase))

    def set_quota(self, quota: Quota) -> None:
        """Limit what the account may have; `quota.used` is worked out from what runs, `region` "*" is each region."""
        with self._lock:
            self._quotas[quota.name, quota.region] = quota

    def add_reservation(self, offer: Offer, nodes: int) -> str:
        """Secure capacity for `nodes` of `offer`, apart from what `set_capacity` says; returns the reservation's id."""
        with self._lock:
            name = f"{self.name}-reservation-{len(self._reservations) + 1}"
            self._reservations[name] = Reservation(
                self.name, name, offer.region, offer.zone, offer.instance_type, nodes
            )
            return name

    def set_price(self, offer: Offer, hourly_cost: float) -> None:
        """Change today's price of an offer, in USD per node-hour, in all zones of its region."""
        with self._lock:
            self._prices[offer.instance_type, offer.region, offer.purchase] = hourly_cost

    def preempt(self, node_id: str) -> None:
        """Take a node back, as a cloud does with spot nodes: it is gone at once, and its slice with it."""
        with self._lock:
            number = self._machines[node_id].slice
            for machine in self._machines.values():
                if machine.id == node_id or number == machine.slice != 0:
                    machine.ends_at, machine.end_reason = self.clock.now(), PREEMPTED

    def impair(self, node_id: str, *, fails: bool = True) -> None:
        """Let the cloud's own check of a running node fail, or pass again."""
        with self._lock:
            self._machines[node_id].is_impaired = fails

    def set_load(self, node_id: str, load: Mapping[Metric, float]) -> None:
        """Say what monitoring measures of a node for as long as it runs; what is not in `load` is not measured."""
        with self._lock:
            self._machines[node_id].load = dict(load)

    def stop(self, node_id: str) -> None:
        """Stop a node without deleting it, as its operating system's shutdown may."""
        with self._lock:
            self._machines[node_id].is_stopped = True

    def add_foreign(self) -> None:
        """Put something of other people into the cloud: machines and groups as `foreign` describes them."""
        with self._lock:
            now = self.clock.now()
            offer = Offer(
                InstanceType(self.name, "theirs.large"), _FAR, f"{_FAR}-a", "on_demand", Quote(1.0, now.date(), "fake")
            )
            for tags in ({}, *foreign.ALL):
                machine = self._machine(offer, dict(tags), now)
                cluster_id = tags.get(TAG_ID, "")
                self._by_cluster.setdefault(cluster_id, []).append(machine)
                group = Resource(self.name, "group", f"theirs-{machine.id}", _FAR, billable=False, tags=dict(tags))
                self._groups[cluster_id or machine.id, _FAR] = group
                self._foreign[machine.id] = (dict(tags), group)
            untagged = Resource(self.name, "group", foreign.LIKE_OURS, _FAR, billable=False)
            self._groups[foreign.LIKE_OURS, _FAR] = untagged
            self._foreign[foreign.LIKE_OURS] = ({}, untagged)

    def foreign_intact(self) -> bool:
        """Whether all that `add_foreign` made is there and as it was."""
        with self._lock:
            return all(
                group in self._groups.values() and self._is_as_born(name, tags)
                for name, (tags, group) in self._foreign.items()
            )

    def _is_as_born(self, name: str, tags: Mapping[str, str]) -> bool:
        machine = self._machines.get(name)
        return machine is None or (machine.ends_at is None and not machine.is_stopped and machine.tags == tags)

    # --- how it works -------------------------------------------------------------------------------------------------

    @contextmanager
    def _call(
        self,
        operation: str,
        fields: Mapping[str, object],
        *,
        region: str | None = None,
        offer: Offer | None = None,
        is_known: bool = False,
    ) -> Iterator[None]:
        """Record a call and let an injected fault happen to it: before the work, or after it."""
        nodes = int(str(fields.get("nodes", 0)))
        place: dict[str, object] = {"region": offer.region if offer else region}
        if offer:
            place |= {"zone": offer.zone, "instance_type": offer.instance_type, "purchase": offer.purchase}
        self.faults.record(operation, str(place["region"] or ""), {**place, **fields})
        fault = self.faults.take(operation, {**place, **fields})
        kind = fault.kind if fault else None
        if fault and kind in (FaultKind.FAIL, FaultKind.THROTTLE):
            code = "throttled" if kind is FaultKind.THROTTLE else fault.code
            if is_known and code not in PASSING:
                # A token that has launched is answered with what it launched: a refusal would say that nothing lives.
                yield
                return
            error = self._refusal(code, fault.message, region=region, offer=offer, nodes=nodes)
            error.retry_after = fault.retry_after.total_seconds() if fault.retry_after else None
            raise error
        if kind is FaultKind.DROP:
            raise self._refusal("transient", "the connection was lost on the way there", region=region, offer=offer)
        if fault and kind is FaultKind.DELAY:
            self.clock.sleep(fault.duration)
        yield
        if kind in ANSWER_LOST:
            raise self._refusal("transient", "the connection was lost before the answer", region=region, offer=offer)

    def _refusal(
        self, code: str, message: str = "", *, region: str | None = None, offer: Offer | None = None, nodes: int = 0
    ) -> MulticomputeError:
        zones = self._capacity.zones_with(offer, nodes) if offer and nodes else ()
        return refusal(code, message, provider=self.name, region=region, offer=offer, zones_with_capacity=zones)

    def _replay(self, request: LaunchRequest) -> tuple[Node, ...]:
        """The nodes that the token has launched already."""
        first, machines = self._by_token[request.token]
        if (first.cluster_id, first.parts) != (request.cluster_id, request.parts):
            raise self._refusal(
                "invalid", f"the token {request.token} stands for another launch", region=request.region
            )
        now = self.clock.now()
        return tuple(machine.as_node(now) for machine in machines)

    def _validate(self, request: LaunchRequest) -> None:
        offer = request.parts[0].offer if request.parts else None
        for wrong in problems(request, self.name, self.capabilities, self._tag_limits, self._reservations):
            raise self._refusal("invalid", wrong, offer=offer)

    def _afford(self, request: LaunchRequest, now: datetime) -> None:
        """Raise unless quota, reservations and capacity suffice for the whole gang."""
        machines = self._machines.values()
        for quota in self._quotas.values():
            needed = sum(part.nodes * quota_amount(quota, part.offer) for part in request.parts)
            used = quota_used(quota, request.region, machines, now) if needed else 0.0
            if used + needed > quota.limit:
                said = f"{quota.name}: {used + needed:g} {quota.unit} needed, {quota.limit:g} allowed"
                raise self._refusal("quota", said, offer=request.parts[0].offer)
        for part in request.parts:
            if part.reservation and part.nodes > self._left(self._reservations[part.reservation], now).available:
                raise self._refusal("reservation-full", offer=part.offer)
            if part.offer.purchase == "spot" and self._price(part.offer) > (request.max_price or float("inf")):
                raise self._refusal("spot-price", offer=part.offer)
        short = self._capacity.shortage(request.parts, machines, now)
        if short is not None:
            raise self._refusal("capacity", offer=short, nodes=request.node_count)

    def _make_group(self, request: LaunchRequest) -> None:
        key = (request.cluster_id, request.region)
        if Capability.DEPENDENT_RESOURCES in self.capabilities and key not in self._groups:
            name = f"multicompute-{request.cluster_id}"
            self._groups[key] = Resource(
                self.name, "group", name, request.region, billable=False, tags=dict(request.tags)
            )

    def _make(self, part: Part, request: LaunchRequest, now: datetime) -> list[Machine]:
        """One of what a launch asks for: a machine, or each host of a slice."""
        number = len(self._machines) + 1
        made = [self._make_host(part, request, now) for _ in range(part.offer.instance.hosts)]
        for machine in made:
            machine.slice = number
        return made

    def _make_host(self, part: Part, request: LaunchRequest, now: datetime) -> Machine:
        machine = self._machine(part.offer, dict(request.tags), now)
        machine.reservation = part.reservation
        if Capability.EXPIRY in self.capabilities:
            machine.expires_at = request.expires_at
        if request.private:
            machine.public_ip = None
        offer = part.offer
        # Looked for first: a fault of any operation ("*") is meant for calls, and booting is none.
        if any(fault.operation == "boot" for fault in self.faults.waiting()):
            place = {"region": offer.region, "zone": offer.zone, "instance_type": offer.instance_type}
            fault = self.faults.take("boot", place)
            if fault is not None:
                meaning = meaning_of(fault.code)
                machine.dies_at_boot = f"{fault.code}: {fault.message or meaning.what}"
                machine.boot_cause = meaning.cause
        return machine

    def _machine(self, offer: Offer, tags: dict[str, str], now: datetime) -> Machine:
        number = len(self._machines) + 1
        machine = Machine(
            id=f"{self.name}-node-{number}",
            offer=offer,
            tags=tags,
            private_ip=private_address(number),
            public_ip=public_address(number),
            ready_at=now + self.boot_time,
            listed_from=now + self.lag,
        )
        self._machines[machine.id] = machine
        return machine

    def _listed(self, selector: Selector, now: datetime) -> list[Machine]:
        """Our machines that a listing shows, in the order of their launch."""
        pool: Collection[Machine] = self._machines.values()
        if selector.token is not None:
            pool = self._by_token[selector.token][1] if selector.token in self._by_token else ()
        elif selector.cluster_id is not None:
            pool = self._by_cluster.get(selector.cluster_id, ())
        return [
            machine
            for machine in pool
            if is_selected(machine.tags, machine.offer.region, selector)
            and machine.listed_from <= now
            and (machine.gone_at is None or now < machine.gone_at + GONE_IS_LISTED_FOR)
        ]

    def _existing(self, selector: Selector, now: datetime) -> tuple[Resource, ...]:
        found = [
            item for machine in self._listed(selector, now) if machine.exists(now) for item in machine.as_resources()
        ]
        # A node that was launched a moment ago and is not shown is not gone (I4).
        hidden = [name for name in selector.node_ids if self._is_hidden(name, now)]
        found += [Resource(self.name, "node", name, selector.region or "", billable=True) for name in hidden]
        # A group is the cluster's; an attempt that ends must not take it from the others.
        if selector.token is None:
            found += [group for group in self._groups.values() if is_selected(group.tags, group.region, selector)]
        return tuple(found)

    def _is_hidden(self, node_id: str, now: datetime) -> bool:
        """Whether the cloud does not show a node that its caller knows of."""
        machine = self._machines.get(node_id)
        return machine is None or (now < machine.listed_from and machine.exists(now))

    def _delete_groups(self, selector: Selector, now: datetime) -> str:
        """Delete the selected groups that nothing uses; returns what is waited for."""
        if selector.token is not None:
            return ""
        waiting_for = ""
        for (cluster_id, region), group in list(self._groups.items()):
            if not is_selected(group.tags, region, selector):
                continue
            # Asked of the truth, not of the listing: a cloud knows what is in use before its listings do.
            machines = self._by_cluster.get(cluster_id, ())
            if any(machine.offer.region == region and machine.exists(now) for machine in machines):
                waiting_for = f"{group.id} in {region} is in use"
            else:
                del self._groups[cluster_id, region]
        return waiting_for

    def _price(self, offer: Offer) -> float:
        return self._prices.get((offer.instance_type, offer.region, offer.purchase), offer.hourly_cost)

    def _left(self, reservation: Reservation, now: datetime) -> Reservation:
        """The reservation with what is available in it now."""
        machines = self._machines.values()
        taken = {each.slice for each in machines if each.reservation == reservation.id and each.exists(now)}
        return replace(reservation, available=reservation.available - len(taken))

    def _read_quotas(self, region: str, reservations: Sequence[str]) -> Quotas:
        now = self.clock.now()
        machines = self._machines.values()
        quotas = tuple(
            replace(quota, region=region, used=quota_used(quota, region, machines, now))
            for quota in self._quotas.values()
            if quota.region in ("*", region)
        )
        held = tuple(
            self._left(self._reservations[name], now)
            for name in reservations
            if name in self._reservations and self._reservations[name].region == region
        )
        return Quotas(quotas, held)


def _fields(selector: Selector) -> dict[str, object]:
    named = {"cluster_id": selector.cluster_id, "token": selector.token, "owner": selector.owner}
    return {**named, "instance_types": list(selector.instance_types)}
