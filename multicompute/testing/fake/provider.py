"""The fake provider: a cloud in memory with limited capacity, faults and virtual time."""

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from multicompute.clock import Clock
from multicompute.errors import MulticomputeError
from multicompute.node import Metric, Node, NodeState, Sample
from multicompute.offer import InstanceType, Offer, Part, Purchase, Quote
from multicompute.provider import (
    TAG_ATTEMPT,
    TAG_EXPIRES_AT,
    TAG_ID,
    Access,
    Account,
    Availability,
    Capability,
    Check,
    LaunchRequest,
    LifetimeLimit,
    PriceChange,
    Quota,
    Quotas,
    Resource,
    Selector,
    TagLimits,
    Teardown,
    expiry_tag,
)
from multicompute.testing import foreign
from multicompute.testing.clock import FakeClock
from multicompute.testing.fake.conditions import CapacityRule, Conditions
from multicompute.testing.fake.errors import PASSING, meaning_of, refusal
from multicompute.testing.fake.request_checks import latest_end, problems
from multicompute.testing.fake.state import (
    PREEMPTED,
    Machine,
    has_selected_tags,
    is_selected,
    private_address,
    public_address,
)
from multicompute.testing.faults import ANSWER_LOST, FaultKind, Faults

_FAR = "elsewhere"
GONE_IS_LISTED_FOR = timedelta(hours=1)
"""The time for which listings show a deleted node, as on EC2."""


class FakeProvider:
    """A provider whose cloud is in this process. It never waits, and several threads can use it.

    By default it has everything in any number. `set_capacity`, `set_quota`, `add_reservation`, `preempt` and `faults` change
    that. The operations of `faults` are the names of the provider's methods, and "boot" for a node that is launched but never
    runs; the codes are those of `multicompute.testing.fake.errors.MEANINGS`.

    Attributes:
        faults: The faults that wait for calls, and a record of all calls.
        boot_time: How long a node is pending.
        shutdown_time: How long a termination takes.
        lag: How long listings omit a new node; at most `consistency_window`.

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
        account: str = "main",
        lifetime_limits: Sequence[LifetimeLimit] = (),
    ) -> None:
        """Create an empty cloud.

        Args:
            name: The provider's name; the cloud refuses offers of other providers.
            clock: The clock of the cloud; by default a FakeClock of its own.
            capabilities: The capabilities that it declares; by default all.
            tag_limits: The limits on the user's tags; by default none.
            boot_time: See the attributes.
            shutdown_time: See the attributes.
            lag: See the attributes.
            account: The id of the account that the credentials belong to.
            lifetime_limits: How long nodes live at most; a launch with a later expiry is refused.
        """
        self.name = name
        self.account = Account((account,), f"{name} account {account}")
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
        self._lifetime_limits = tuple(lifetime_limits)
        self._lock = threading.RLock()
        self._machines: dict[str, Machine] = {}
        self._by_cluster: dict[str, list[Machine]] = {}
        self._by_token: dict[str, tuple[LaunchRequest, list[Machine]]] = {}
        self._groups: dict[tuple[str, str], Resource] = {}
        self._foreign: dict[str, tuple[Mapping[str, str], Resource]] = {}
        self._protected: set[str] = set()
        self._conditions = Conditions(name)

    # --- the methods of Provider -----------------------------------------------------------------------------------------------------

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch the gang, all or nothing; see `Provider.launch`."""
        first = request.parts[0].offer if request.parts else None
        fields: dict[str, object] = {
            "token": request.token,
            "cluster": request.cluster_name,
            "nodes": request.node_count,
        }
        fields |= {name: getattr(request, name) for name in ("fabric", "peers", "max_price")}
        is_known = request.token in self._by_token
        with self._call("launch", fields, offer=first, is_known=is_known), self._lock:
            if request.token in self._by_token:
                return self._start_again(request) if request.restart else self._replay(request)
            self._validate(request)
            now = self.clock.now()
            # Before the check of capacity, as on real clouds: a refused launch leaves the group behind for the teardown.
            self._create_group(request)
            self._check_conditions(request, now)
            machines = [
                each for part in request.parts for _ in range(part.nodes) for each in self._create(part, request, now)
            ]
            self._by_token[request.token] = (request, machines)
            self._by_cluster.setdefault(request.cluster_id, []).extend(machines)
            return tuple(machine.as_node(now) for machine in machines)

    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        """Return our nodes in the order of their launch; see `Provider.nodes`."""
        with self._call("nodes", _fields(selector), region=selector.region), self._lock:
            now = self.clock.now()
            with_health = selector.with_health and Capability.HEALTH_CHECKS in self.capabilities
            return tuple(machine.as_node(now, with_health=with_health) for machine in self._listed(selector, now))

    def resources(self, selector: Selector) -> tuple[Resource, ...]:
        """Return every resource of ours; see `Provider.resources`."""
        with self._call("resources", _fields(selector), region=selector.region), self._lock:
            return self._existing(selector, self.clock.now())

    def terminate(self, selector: Selector) -> Teardown:
        """Do one step of a teardown; see `Provider.terminate`."""
        with self._call("terminate", _fields(selector), region=selector.region), self._lock:
            if selector.cluster_id is None and selector.token is None:
                raise self._refusal("invalid", "a teardown must name a cluster or a token", region=selector.region)
            now = self.clock.now()
            for machine in self._listed(selector, now):
                if machine.ends_at is None and machine.exists(now) and machine.id not in self._protected:
                    machine.ends_at = now + self.shutdown_time
                    machine.end_reason = "terminated: on request"
            in_use = "" if selector.only else self._delete_groups(selector, now)
            remaining = self._existing(selector, now)
            stopping = sum(1 for resource in remaining if resource.kind == "node")
            waiting_for = f"{stopping} nodes to stop" if stopping else in_use
            protected = ", ".join(item.id for item in remaining if item.id in self._protected)
            blocked_by = f"{protected} is protected from deletion; remove the protection" if protected else ""
            return Teardown(remaining, waiting_for, blocked_by)

    def set_expiry(
        self, selector: Selector, expires_at: datetime | None, *, restore: Mapping[str, str] | None = None
    ) -> None:
        """Move the expiry of the selected nodes; see `Provider.set_expiry`."""
        with self._call("set_expiry", _fields(selector), region=selector.region), self._lock:
            now = self.clock.now()
            listed = self._listed(selector, now)
            end = min((machine.latest_end for machine in listed if machine.latest_end), default=None)
            if expires_at is not None and end is not None and expires_at > end:
                raise self._refusal("invalid", f"a node ends at {end}, before {expires_at}", region=selector.region)
            for machine in listed:
                if machine.exists(now):
                    if TAG_ID not in machine.tags and machine.token in selector.tokens:
                        machine.tags |= restore or {}
                    machine.tags[TAG_EXPIRES_AT] = expiry_tag(expires_at)
                    machine.expires_at = expires_at if Capability.EXPIRY in self.capabilities else None

    def quotes(self, offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
        """Return today's prices: those of `set_price`, or else the offers' own; see `Provider.quotes`."""
        if Capability.LIVE_PRICES not in self.capabilities:
            return {}
        with self._call("quotes", {"offers": len(offers)}), self._lock:
            today = self.clock.now().date()
            return {offer: Quote(self._conditions.price(offer), today, f"{self.name} (fake)") for offer in offers}

    def quotas(self, region: str, *, reservations: Sequence[str] = ()) -> Quotas:
        """Return the quotas of the account in a region; see `Provider.quotas`."""
        if Capability.QUOTAS not in self.capabilities:
            return Quotas(notes=(f"{self.name} has no quotas to read",))
        try:
            with self._call("quotas", {}, region=region), self._lock:
                return self._conditions.quotas_in(region, reservations, self._machines.values(), self.clock.now())
        except MulticomputeError as error:
            return Quotas(notes=(f"the quotas of {self.name} {region} can't be read: {error}",))

    def availability(self, region: str) -> Availability:
        """Return what `set_availability` set for the region, or else that nothing is known; see `Provider.availability`."""
        with self._call("availability", {}, region=region), self._lock:
            return self._conditions.availability.get(region, Availability(region))

    def spot_prices(self, offers: Sequence[Offer], *, since: datetime) -> Mapping[Offer, tuple[PriceChange, ...]]:
        """Return the prices of `set_price` since their change, or else the offers' own; see `Provider.spot_prices`."""
        with self._call("spot_prices", {"offers": len(offers)}), self._lock:
            return {offer: self._conditions.price_changes(offer, since) for offer in offers}

    def metrics(self, nodes: Sequence[Node], *, since: datetime, until: datetime) -> tuple[Sample, ...]:
        """Return the load of `set_load`, minute by minute; see `Provider.metrics`."""
        if Capability.METRICS not in self.capabilities:
            return ()
        with self._call("metrics", {"nodes": len(nodes)}), self._lock:
            until = min(until, self.clock.now())
            machines = [self._machines[node.id] for node in nodes if node.id in self._machines]
            found = [sample for machine in machines for sample in machine.samples(since, until)]
            return tuple(sorted(found, key=lambda sample: sample.at))

    def access(self, node: Node) -> Access:
        """Return that there is nothing to log in to: nodes of this cloud are records, and SSH is not declared."""
        return Access(node.public_ip or node.private_ip or "", problem="fake nodes have no shell")

    def host_keys(self, nodes: Sequence[Node]) -> Mapping[str, str]:
        """Return nothing."""
        return {}

    def open_ssh(self, region: str, tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def check(self) -> tuple[Check, ...]:
        """Check the credentials, which the fake cloud always accepts; see `Provider.check`."""
        try:
            with self._call("check", {}):
                return (Check("identity", ok=True, detail=f"the fake cloud {self.name} accepts everybody"),)
        except MulticomputeError as error:
            return (Check("identity", ok=False, detail=error.message, hint=error.hint or ""),)

    # --- conditions and outside actors ------------------------------------------------------------------------------------

    def alive(self) -> list[Resource]:
        """Return everything that exists, whoever owns it and whether or not a listing shows it.

        The foreign resources of `add_foreign` are left out.
        """
        with self._lock:
            now = self.clock.now()
            machines = [machine for machine in self._machines.values() if machine.id not in self._foreign]
            found = [item for machine in machines if machine.exists(now) for item in machine.as_resources()]
            theirs = [group.id for _, group in self._foreign.values()]
            return [*found, *(group for group in self._groups.values() if group.id not in theirs)]

    def running_ids(self) -> list[str]:
        """Return the ids of our nodes that run, in the order of their launch."""
        with self._lock:
            now = self.clock.now()
            ours = (machine for machine in self._machines.values() if machine.id not in self._foreign)
            return [machine.id for machine in ours if machine.state(now) is NodeState.RUNNING]

    def set_capacity(
        self, instance_type: str, place: str, nodes: int | None, *, purchase: Purchase | None = None
    ) -> None:
        """Limit how many nodes of an instance type each zone has. If several calls match a zone, the last one decides.

        Args:
            instance_type: The vendor's name, or a glob: "p5.*".
            place: A zone, a region for each of its zones, or a glob: "us-*".
            nodes: How many in total, nodes that run included; None for no limit.
            purchase: Limit only nodes that are bought this way.
        """
        with self._lock:
            self._conditions.capacity.add(CapacityRule(instance_type, place, nodes, purchase))

    def set_quota(self, quota: Quota) -> None:
        """Limit what the account may use; `quota.used` follows from the nodes, and the region "*" means each region."""
        with self._lock:
            self._conditions.quotas[quota.name, quota.region] = quota

    def add_reservation(self, offer: Offer, nodes: int, *, ends_at: datetime | None = None) -> str:
        """Reserve capacity for `nodes` of `offer`, in addition to the capacity of the zone; return the reservation's id.

        At `ends_at`, the nodes in it are terminated.
        """
        with self._lock:
            return self._conditions.reserve(offer, nodes, ends_at)

    def set_price(self, offer: Offer, hourly_cost: float) -> None:
        """Change today's price of an offer, in USD per node-hour, in all zones of its region."""
        with self._lock:
            self._conditions.set_price(offer, PriceChange(self.clock.now(), hourly_cost))

    def set_availability(self, availability: Availability) -> None:
        """Set what the account can use in a region."""
        with self._lock:
            self._conditions.availability[availability.region] = availability

    def preempt(self, node_id: str) -> None:
        """Take a node back, as a cloud does with spot nodes: the node and its slice are gone at once."""
        with self._lock:
            number = self._machines[node_id].slice
            for machine in self._machines.values():
                if machine.id == node_id or number == machine.slice != 0:
                    machine.ends_at, machine.end_reason = self.clock.now(), PREEMPTED

    def impair(self, node_id: str, *, fails: bool = True) -> None:
        """Make the cloud's health check of a running node fail, or pass again."""
        with self._lock:
            self._machines[node_id].is_impaired = fails

    def set_load(self, node_id: str, load: Mapping[Metric, float]) -> None:
        """Set what monitoring measures of a node while it runs; a metric that is not in `load` is not measured."""
        with self._lock:
            self._machines[node_id].load = dict(load)

    def stop(self, node_id: str) -> None:
        """Stop a node without deleting it, as a shutdown of its operating system can."""
        with self._lock:
            self._machines[node_id].is_stopped = True

    def start(self, node_id: str) -> None:
        """Start a stopped node again, as a user can in a console."""
        with self._lock:
            self._machines[node_id].is_stopped = False

    def protect(self, node_id: str, *, is_protected: bool = True) -> None:
        """Protect a node from deletion, as a user can in a console, or remove the protection."""
        with self._lock:
            (self._protected.add if is_protected else self._protected.discard)(node_id)

    def remove_tags(self, node_id: str) -> None:
        """Remove all tags of a node, as another tool of the organisation can."""
        with self._lock:
            self._machines[node_id].tags.clear()

    def add_foreign(self) -> None:
        """Create foreign machines and groups, with the tags in `multicompute.testing.foreign`."""
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
        """Return whether everything that `add_foreign` created exists unchanged."""
        with self._lock:
            return all(
                group in self._groups.values() and self._is_unchanged(name, tags)
                for name, (tags, group) in self._foreign.items()
            )

    def _is_unchanged(self, name: str, tags: Mapping[str, str]) -> bool:
        machine = self._machines.get(name)
        return machine is None or (machine.ends_at is None and not machine.is_stopped and machine.tags == tags)

    # --- private -------------------------------------------------------------------------------------------------

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
        """Record a call, and inject its fault before or after the body of the `with` statement."""
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
                # A repeated token returns its nodes: a refusal would mean that none of them exists.
                yield
                return
            wait = fault.retry_after.total_seconds() if fault.retry_after else None
            raise self._refusal(code, fault.message, region=region, offer=offer, nodes=nodes, retry_after=wait)
        if kind is FaultKind.DROP:
            raise self._refusal("transient", "the connection was lost before the call", region=region, offer=offer)
        if fault and kind is FaultKind.DELAY:
            self.clock.sleep(fault.duration)
        yield
        if kind in ANSWER_LOST:
            raise self._refusal("transient", "the connection was lost before the answer", region=region, offer=offer)

    def _refusal(
        self,
        code: str,
        message: str = "",
        *,
        region: str | None = None,
        offer: Offer | None = None,
        nodes: int = 0,
        retry_after: float | None = None,
    ) -> MulticomputeError:
        return refusal(
            code,
            message,
            provider=self.name,
            region=region,
            offer=offer,
            zones_with_capacity=self._conditions.capacity.zones_with(offer, nodes) if offer and nodes else (),
            retry_after=retry_after,
        )

    def _replay(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Return the nodes that an earlier launch with the same token created."""
        first, machines = self._by_token[request.token]
        if (first.cluster_id, first.parts) != (request.cluster_id, request.parts):
            raise self._refusal(
                "invalid", f"the token {request.token} was used for another launch", region=request.region
            )
        now = self.clock.now()
        return tuple(machine.as_node(now) for machine in machines)

    def _start_again(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Start the stopped nodes of an earlier launch, if the zone has room for them."""
        now, machines = self.clock.now(), self._by_token[request.token][1]
        for machine in machines:
            if machine.state(now) is NodeState.STOPPED:
                one = (Part(machine.offer, 1, machine.reservation),)
                if self._conditions.capacity.shortage(one, self._machines.values(), now):
                    raise self._refusal("capacity", "no room to start it again", offer=machine.offer, nodes=1)
                machine.is_stopped, machine.ready_at = False, now + self.boot_time
        return tuple(machine.as_node(now) for machine in machines)

    def _validate(self, request: LaunchRequest) -> None:
        offer = request.parts[0].offer if request.parts else None
        found = problems(
            request,
            self.name,
            self.capabilities,
            self._tag_limits,
            self._conditions.reservations,
            lifetime_limits=self._lifetime_limits,
            now=self.clock.now(),
        )
        for problem in found:
            raise self._refusal("invalid", problem, offer=offer)

    def _check_conditions(self, request: LaunchRequest, now: datetime) -> None:
        """Refuse a gang for which quotas, reservations, spot prices or capacity do not suffice."""
        lack = self._conditions.lack(request, self._machines.values(), now)
        if lack is not None:
            nodes = request.node_count if lack.code == "capacity" else 0
            raise self._refusal(lack.code, lack.message, offer=lack.offer, nodes=nodes)

    def _create_group(self, request: LaunchRequest) -> None:
        key = (request.cluster_id, request.region)
        if Capability.DEPENDENT_RESOURCES in self.capabilities and key not in self._groups:
            name = f"multicompute-{request.cluster_id}"
            self._groups[key] = Resource(
                self.name, "group", name, request.region, billable=False, tags=dict(request.tags)
            )

    def _create(self, part: Part, request: LaunchRequest, now: datetime) -> list[Machine]:
        """Create a machine, or each host of a slice."""
        number = len(self._machines) + 1
        hosts = [self._create_host(part, request, now) for _ in range(part.offer.instance.hosts)]
        for machine in hosts:
            machine.slice = number
        return hosts

    def _create_host(self, part: Part, request: LaunchRequest, now: datetime) -> Machine:
        machine = self._machine(part.offer, dict(request.tags), now)
        machine.reservation = part.reservation
        machine.latest_end = latest_end(part, request, self._lifetime_limits, self._conditions.reservations, now)
        if Capability.EXPIRY in self.capabilities:
            machine.expires_at = request.expires_at
        if request.private:
            machine.public_ip = None
        offer = part.offer
        # Checked first, because a fault of any operation ("*") is for calls, and a boot is not a call.
        if any(fault.operation == "boot" for fault in self.faults.waiting()):
            place = {"region": offer.region, "zone": offer.zone, "instance_type": offer.instance_type}
            fault = self.faults.take("boot", place)
            if fault is not None:
                meaning = meaning_of(fault.code)
                machine.boot_failure = f"{fault.code}: {fault.message or meaning.what}"
                machine.boot_cause = meaning.cause
        return machine

    def _machine(self, offer: Offer, tags: dict[str, str], now: datetime) -> Machine:
        number = len(self._machines) + 1
        machine = Machine(
            id=f"{self.name}-node-{number}",
            offer=offer,
            tags=tags,
            token=tags.get(TAG_ATTEMPT, ""),
            private_ip=private_address(number),
            public_ip=public_address(number),
            ready_at=now + self.boot_time,
            listed_from=now + self.lag,
        )
        self._machines[machine.id] = machine
        return machine

    def _listed(self, selector: Selector, now: datetime) -> list[Machine]:
        """Return our machines that a listing shows, in the order of their launch."""
        pool: Collection[Machine] = self._machines.values()
        return [
            machine
            for machine in pool
            if is_selected(machine, selector)
            and machine.listed_from <= now
            and (machine.gone_at is None or now < machine.gone_at + GONE_IS_LISTED_FOR)
        ]

    def _existing(self, selector: Selector, now: datetime) -> tuple[Resource, ...]:
        found = [
            item for machine in self._listed(selector, now) if machine.exists(now) for item in machine.as_resources()
        ]
        # A new node that listings do not show yet is not gone (I4).
        hidden = [name for name in selector.node_ids if self._is_hidden(name, now)]
        found += [Resource(self.name, "node", name, selector.region or "", billable=True) for name in hidden]
        # A group belongs to the cluster: the teardown of one attempt must not delete it.
        if selector.token is None and not selector.only:
            found += [group for group in self._groups.values() if has_selected_tags(group.tags, group.region, selector)]
        return tuple(found)

    def _is_hidden(self, node_id: str, now: datetime) -> bool:
        """Return whether listings do not show a node that the caller knows."""
        machine = self._machines.get(node_id)
        return machine is None or (now < machine.listed_from and machine.exists(now))

    def _delete_groups(self, selector: Selector, now: datetime) -> str:
        """Delete the selected groups that no machine uses, and return what the others wait for."""
        if selector.token is not None:
            return ""
        waiting_for = ""
        for (cluster_id, region), group in list(self._groups.items()):
            if not has_selected_tags(group.tags, region, selector):
                continue
            # Independent of the listing: a cloud knows what is in use before its listings show it.
            machines = self._by_cluster.get(cluster_id, ())
            if any(machine.offer.region == region and machine.exists(now) for machine in machines):
                waiting_for = f"{group.id} in {region} is in use"
            else:
                del self._groups[cluster_id, region]
        return waiting_for


def _fields(selector: Selector) -> dict[str, object]:
    named = {"cluster_id": selector.cluster_id, "token": selector.token, "owner": selector.owner}
    return {**named, "instance_types": list(selector.instance_types)}
