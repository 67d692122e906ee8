"""The conditions of a fake cloud: how much capacity and quota it has, its reservations, and its prices."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase

from multicompute.offer import Offer, Part, Purchase
from multicompute.provider import TAG_ID, Availability, LaunchRequest, PriceChange, Quota, Quotas, Reservation
from multicompute.testing.fake.state import Machine


@dataclass(frozen=True, slots=True)
class CapacityRule:
    """A limit on the nodes of matching instance types in each matching zone; None for no limit."""

    instance_type: str
    place: str
    nodes: int | None
    purchase: Purchase | None = None

    def applies(self, offer: Offer) -> bool:
        """Return whether it limits an offer."""
        return (
            fnmatchcase(offer.instance_type, self.instance_type)
            and (fnmatchcase(offer.zone, self.place) or fnmatchcase(offer.region, self.place))
            and self.purchase in (None, offer.purchase)
        )

    def uses(self, machine: Machine, offer: Offer) -> bool:
        """Return whether a machine uses the capacity that `offer` would use."""
        other = machine.offer
        return (
            machine.reservation is None
            and (other.region, other.zone, other.instance_type) == (offer.region, offer.zone, offer.instance_type)
            and self.purchase in (None, other.purchase)
        )


class Capacity:
    """The capacity of a fake cloud: unlimited without a rule."""

    def __init__(self) -> None:
        """Create unlimited capacity."""
        self._rules: list[CapacityRule] = []

    def add(self, rule: CapacityRule) -> None:
        """Add a rule, which takes precedence over earlier rules where it applies."""
        self._rules = [known for known in self._rules if replace(known, nodes=rule.nodes) != rule] + [rule]

    def _rule(self, offer: Offer) -> CapacityRule | None:
        return next((rule for rule in reversed(self._rules) if rule.applies(offer)), None)

    def shortage(self, parts: Iterable[Part], machines: Collection[Machine], now: datetime) -> Offer | None:
        """Return the first offer without enough capacity for `parts`, or None."""
        left: dict[tuple[str, str, CapacityRule], int] = {}
        for part in parts:
            offer, rule = part.offer, self._rule(part.offer)
            if part.reservation is not None or rule is None or rule.nodes is None:
                continue
            pool = (offer.zone, offer.instance_type, rule)
            if pool not in left:
                used = {
                    machine.slice
                    for machine in machines
                    if rule.uses(machine, offer) and machine.exists(now) and not machine.is_stopped
                }
                left[pool] = rule.nodes - len(used)
            left[pool] -= part.nodes
            if left[pool] < 0:
                return offer
        return None

    def zones_with(self, offer: Offer, nodes: int) -> tuple[str, ...]:
        """Return the other zones of the offer's region for which a rule allows `nodes` of it."""
        return tuple(
            rule.place
            for rule in self._rules
            if rule.place.startswith(offer.region)
            and rule.place not in (offer.region, offer.zone)
            and rule.applies(replace(offer, zone=rule.place))
            and (rule.nodes is None or rule.nodes >= nodes)
        )


def quota_amount(quota: Quota, offer: Offer) -> float:
    """Return how much of a quota one node of `offer` uses, in the quota's unit; 0 if the quota does not apply."""
    counts = quota.region in ("*", offer.region) and quota.purchase == offer.purchase and quota.counts(offer.instance)
    if not counts:
        return 0.0
    instance = offer.instance
    amounts = {"vcpus": instance.vcpus * instance.hosts, "accelerators": instance.accelerators, "nodes": 1}
    return float(amounts[quota.unit])


def quota_used(quota: Quota, region: str, machines: Iterable[Machine], now: datetime) -> float:
    """Return how much of a quota the account's machines in a region use."""
    return sum(
        quota_amount(quota, machine.offer) / machine.offer.instance.hosts
        for machine in machines
        if machine.offer.region == region and TAG_ID in machine.tags and machine.exists(now)
    )


@dataclass(frozen=True, slots=True)
class Lack:
    """The reason why a gang can't be launched: a code of the fake cloud, its message, and the offer."""

    code: str
    offer: Offer
    message: str = ""


class Conditions:
    """The capacity, quotas, reservations and prices that a test can set.

    Attributes:
        capacity: How many nodes each zone has.
        quotas: (name, region) -> the quota.
        reservations: Id -> the reservation.
        prices: (instance type, region, purchase) -> the prices that were set, in USD per node-hour, oldest first.
        availability: Region -> what the account can use there.
    """

    def __init__(self, provider: str) -> None:
        """Set no condition for the cloud of a provider."""
        self._provider = provider
        self.capacity = Capacity()
        self.quotas: dict[tuple[str, str], Quota] = {}
        self.reservations: dict[str, Reservation] = {}
        self.prices: dict[tuple[str, str, Purchase], list[PriceChange]] = {}
        self.availability: dict[str, Availability] = {}

    def reserve(self, offer: Offer, nodes: int, ends_at: datetime | None) -> str:
        """Add a reservation, and return its id."""
        name = f"{self._provider}-reservation-{len(self.reservations) + 1}"
        self.reservations[name] = Reservation(
            self._provider, name, offer.region, offer.zone, offer.instance_type, nodes, ends_at=ends_at
        )
        return name

    def price(self, offer: Offer) -> float:
        """Return today's price of an offer in USD per node-hour."""
        found = self.prices.get((offer.instance_type, offer.region, offer.purchase))
        return found[-1].hourly_cost if found else offer.hourly_cost

    def set_price(self, offer: Offer, change: PriceChange) -> None:
        """Change the price of an offer in all zones of its region."""
        self.prices.setdefault((offer.instance_type, offer.region, offer.purchase), []).append(change)

    def price_changes(self, offer: Offer, since: datetime) -> tuple[PriceChange, ...]:
        """Return the prices of an offer from `since` on, oldest first; the first one holds at `since`."""
        found = self.prices.get((offer.instance_type, offer.region, offer.purchase), [])
        before = [change.hourly_cost for change in found if change.at <= since]
        first = PriceChange(since, before[-1] if before else offer.hourly_cost)
        return (first, *(change for change in found if change.at > since))

    def lack(self, request: LaunchRequest, machines: Collection[Machine], now: datetime) -> Lack | None:
        """Return why the complete gang can't be launched, or None."""
        for quota in self.quotas.values():
            needed = sum(part.nodes * quota_amount(quota, part.offer) for part in request.parts)
            used = quota_used(quota, request.region, machines, now) if needed else 0.0
            if used + needed > quota.limit:
                message = f"{quota.name}: {used + needed:g} {quota.unit} needed, {quota.limit:g} allowed"
                return Lack("quota", request.parts[0].offer, message)
        for part in request.parts:
            if part.reservation:
                held = self._with_availability(self.reservations[part.reservation], machines, now)
                if part.nodes > held.available:
                    return Lack("reservation-full", part.offer)
            if part.offer.purchase == "spot" and self.price(part.offer) > (request.max_price or float("inf")):
                return Lack("spot-price", part.offer)
        short = self.capacity.shortage(request.parts, machines, now)
        return None if short is None else Lack("capacity", short)

    def quotas_in(
        self, region: str, reservations: Sequence[str], machines: Collection[Machine], now: datetime
    ) -> Quotas:
        """Return the quotas of a region, and what is available in these reservations."""
        quotas = tuple(
            replace(quota, region=region, used=quota_used(quota, region, machines, now))
            for quota in self.quotas.values()
            if quota.region in ("*", region)
        )
        held = tuple(
            self._with_availability(self.reservations[name], machines, now)
            for name in reservations
            if name in self.reservations and self.reservations[name].region == region
        )
        return Quotas(quotas, held)

    def _with_availability(self, reservation: Reservation, machines: Collection[Machine], now: datetime) -> Reservation:
        taken = {each.slice for each in machines if each.reservation == reservation.id and each.exists(now)}
        has_ended = reservation.ends_at is not None and now >= reservation.ends_at
        return replace(reservation, available=0 if has_ended else reservation.available - len(taken))
