"""Makes the plan of a workload: finds the machines that a spec allows, and passes them to the optimiser."""

import functools
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, overload

from multicompute.offer import InstanceType, Quote
from multicompute.plan import Candidate
from multicompute.resolver import _reasons as reasons
from multicompute.resolver._catalog_index import Row, Rows, Shape, catalog_index
from multicompute.resolver._constraints import Constraints, constraints_of
from multicompute.resolver._context import ResolveContext
from multicompute.resolver._costs import interruptions_per_hour, published_rate
from multicompute.resolver._lifetimes import Lifetimes
from multicompute.resolver._limits import Limits
from multicompute.resolver._notes import job_notes
from multicompute.resolver._reasons import RejectionCounts
from multicompute.resolver._transfer import Transfers
from multicompute.resolver._zones import UsableZones
from multicompute.sizing.job_plan import JobPlan
from multicompute.sizing.optimiser import optimise
from multicompute.sizing.options import MAX_NODES, JobLimits, JobOptions, Machine, Option

if TYPE_CHECKING:
    from multicompute.catalog import Catalog
    from multicompute.price_feed import Interruption
    from multicompute.spec import ClusterSpec

_HOUR = timedelta(hours=1)


def decide_job(spec: "ClusterSpec", catalog: "Catalog", context: ResolveContext) -> JobPlan:
    """Return the plan of the workload of a spec, without `nearest`; see `resolve`."""
    assert spec.workload is not None
    constraints, lifetimes = constraints_of(spec, catalog, context), Lifetimes(spec, context)
    counts = RejectionCounts()
    transfers = Transfers(spec, catalog) if spec.data else None
    reader = _Machines(constraints, lifetimes, transfers, counts, catalog, context)
    read_count, machines = 0, list[Machine]()
    for accelerator in constraints.shards:
        index = catalog_index(catalog, accelerator)
        read_count += index.offer_count
        for shape in index.shapes:
            machines += reader.of(shape)
    counts.add_count(reasons.WRONG_ACCELERATOR, catalog.offer_count - read_count)
    found = optimise(spec.workload, machines, _limits(spec, context))
    candidates = JobCandidates(found, context)
    rejected = {**counts.rejections(), **found.rejected}
    providers = {machine.offer.provider for machine in machines}
    notes = tuple(job_notes(spec, candidates, providers, context, lifetimes, transfers))
    return JobPlan(spec, candidates, rejected, notes, found=found)


def _limits(spec: "ClusterSpec", context: ResolveContext) -> JobLimits:
    ceilings = [limit for limit in (spec.max_hourly, context.ceiling) if limit is not None]
    return JobLimits(
        deadline=spec.deadline,
        gpus=spec.gpus,
        max_hourly=min(ceilings, default=None),
        budget=spec.budget,
        interconnect=spec.interconnect,
        serve=timedelta(hours=spec.hours) if spec.hours is not None else _HOUR,
    )


class _Room(NamedTuple):
    """The most nodes that may be bought, and what sets the number; None for no limit."""

    nodes: int | None = None
    why: str = ""


class _Terms(NamedTuple):
    """The values that all lines of a shape and purchase share.

    Attributes:
        hours: For how long the cloud lets the nodes live at most.
        ends_early: Whether that is shorter than the ttl.
        fabric: How many nodes can share a fabric.
        is_discounted: Whether a discount may be on the price.
    """

    hours: float
    ends_early: bool
    fabric: _Room
    is_discounted: bool


class _Machines:
    """Turns the offers of a shape into machines, and counts the others under the reason to reject them."""

    def __init__(
        self,
        constraints: Constraints,
        lifetimes: Lifetimes,
        transfers: Transfers | None,
        counts: RejectionCounts,
        catalog: "Catalog",
        context: ResolveContext,
    ) -> None:
        self._constraints = constraints
        self._lifetimes = lifetimes
        self._transfers = transfers
        self._counts = counts
        self._catalog = catalog
        self._context = context
        self._outages = Limits(context.outages, context.now)
        self._zones = UsableZones(constraints, counts, context.availability)

    def of(self, shape: Shape) -> Iterator[Machine]:
        """Yield the machines of this shape."""
        constraints, counts = self._constraints, self._counts
        if reason := constraints.rejection_reason(shape):
            detail = constraints.tag_problems[shape.instance.provider] if reason == reasons.TAGS else ""
            counts.add_rows(reason, shape.rows, detail)
            return
        discounts = self._context.discounts
        is_discounted = discounts is not None and discounts.concern(shape.instance)
        fabric = self._fabric_room(shape.instance)
        for purchase, rows in shape.by_purchase:
            if purchase not in constraints.purchases:
                counts.add_rows(reasons.PURCHASES[purchase], rows)
                continue
            longest = self._lifetimes.of(shape.instance, purchase)
            hours = math.inf if longest is None else longest / _HOUR
            terms = _Terms(hours, self._lifetimes.end_early(longest), fabric, is_discounted)
            for row in rows:
                yield from self._of_row(row, rows, terms)

    def _of_row(self, row: Row, rows: Rows, terms: _Terms) -> Iterator[Machine]:
        zones = self._zones.of(row, rows)
        if not zones:
            return
        transfer = self._transfers.cost(row.region_key) if self._transfers is not None else 0.0
        owned, limit = row.listing.machines, self._constraints.spec.max_price
        room = terms.fabric if owned is None else _smaller(terms.fabric, _Room(owned, "the inventory"))
        pricing = _Pricing(row, self._context, limit) if terms.is_discounted else None
        is_dear = limit is not None and (row.unit_price > limit if pricing is None else not pricing.most)
        if reason := self._rejection(row, transfer, terms, is_dear=is_dear):
            self._counts.add_zones(reason, row, zones)
            return
        assert transfer is not None
        rate = published_rate(self._catalog, row)
        if pricing is not None:
            row = pricing.row
            room = _smaller(room, pricing.room)
        if not self._outages.concern(row.instance.provider):
            machine = _machine(row, zones, room, terms, transfer, rate)
            yield machine if pricing is None else pricing.of(machine)
            return
        for nodes, named in self._by_headroom(row, zones):
            least = _smaller(room, nodes)
            machine = _machine(row, named, least, terms, transfer, rate)
            yield machine if pricing is None else pricing.of(machine)

    def _rejection(self, row: Row, transfer: float | None, terms: _Terms, *, is_dear: bool) -> str | None:
        if transfer is None:
            return reasons.NO_TRANSFER
        if row.is_estimate and not self._constraints.spec.estimates:
            return reasons.ESTIMATE
        if is_dear:
            return reasons.OVER_MAX_PRICE
        return reasons.ENDS_EARLY if terms.ends_early and self._lifetimes.is_strict else None

    def _fabric_room(self, instance: InstanceType) -> _Room:
        """Return how many nodes share a fabric."""
        limits = self._context.fabric_limits.get(instance.provider, {}) if instance.fabric else {}
        return _Room(limits.get(instance.fabric), "the fabric")

    def _by_headroom(self, row: Row, zones: tuple[str, ...]) -> list[tuple[_Room, tuple[str, ...]]]:
        """Return the zones by how many nodes remembered outages leave room for, and count those with none as rejected."""
        found: dict[_Room, list[str]] = {}
        for zone in zones:
            headroom = self._outages.room(row.offer(zone), MAX_NODES)
            if not headroom.nodes:
                self._counts.add(headroom.reason, row, zone, headroom.detail)
            room = _Room(headroom.nodes, f"a remembered outage ({headroom.detail})") if headroom.reason else _Room()
            found.setdefault(room, []).append(zone)
        return [(room, tuple(named)) for room, named in found.items()]


def _smaller(one: _Room, other: _Room) -> _Room:
    if one.nodes is None or (other.nodes is not None and other.nodes < one.nodes):
        return other
    return one


@functools.lru_cache(maxsize=32768)
def _machine(
    row: Row,
    zones: tuple[str, ...],
    room: _Room,
    terms: _Terms,
    transfer: float,
    rate: "Interruption | None",
) -> Machine:
    """Return a machine; most plans ask for the same ones again."""
    return Machine(
        offer=row.offer(zones[0]),
        zones=zones,
        max_nodes=room.nodes,
        limited_by=room.why,
        max_hours=terms.hours,
        ends_early=terms.ends_early,
        transfer_usd=transfer,
        preemptions_per_day=None if rate is None else 24 * interruptions_per_hour(rate),
        interruption=rate,
    )


class _Pricing:
    """The price of a line with a discount, which may cover only some nodes of a gang.

    Attributes:
        row: The line at its lowest price.
        most: Up to how many nodes the price is within `max_price`.
    """

    def __init__(self, row: Row, context: ResolveContext, max_price: float | None) -> None:
        assert context.discounts is not None
        price = functools.partial(context.discounts.row, row)
        self._prices = functools.lru_cache(maxsize=None)(price)
        first, last = self._prices(1), self._prices(MAX_NODES)
        self._is_uniform = first.price == last.price
        self.row = first if self._is_uniform or first.price < last.price else last
        self.most = self._most(max_price)

    def _most(self, max_price: float | None) -> int:
        first, last = self._prices(1), self._prices(MAX_NODES)
        if max_price is None or max(first.unit_price, last.unit_price) <= max_price:
            return MAX_NODES
        # With more nodes than a discount covers, the mean price rises, unless what it sets is more than the list price.
        if first.price > last.price:
            return 0
        return bisect_right(range(1, MAX_NODES + 1), max_price, key=lambda nodes: self._prices(nodes).unit_price)

    @property
    def room(self) -> _Room:
        """The number of nodes that are within `max_price`."""
        return _Room() if self.most >= MAX_NODES else _Room(self.most, "max_price, with the discount,")

    def of(self, machine: Machine) -> Machine:
        """Return a machine with the price of each number of nodes."""
        return machine if self._is_uniform else replace(machine, quote_for=self._quote)

    def _quote(self, nodes: int) -> Quote:
        return self._prices(nodes).quote


class JobCandidates(Sequence[Candidate]):
    """The candidates of a request: the cheapest number of nodes of each machine, in each of its zones.

    Larger numbers are options for people who are in a hurry. Bought in place of what is sold out, they could cost a hundred times as
    much per hour. Candidates are made when they are looked up.
    """

    def __init__(self, found: JobOptions, context: ResolveContext) -> None:
        self._options = found.options
        self._context = context
        # Either all of them fit, or there is none that does.
        machines = found.options.machines if found.options and found.options[0].fits else ()
        first: dict[int, int] = {}
        for index, machine in enumerate(machines):
            first.setdefault(id(machine), index)
        self._places = [(index, zone) for index in first.values() for zone in machines[index].zones]

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Candidate, ...]: ...
    def __getitem__(self, index: int | slice) -> Candidate | tuple[Candidate, ...]:
        if isinstance(index, slice):
            return tuple(self._of(self._options[at], zone) for at, zone in self._places[index])
        at, zone = self._places[index]
        return self._of(self._options[at], zone)

    def _of(self, option: Option, zone: str) -> Candidate:
        context, offer = self._context, option.machine.offer
        is_configured = offer.provider not in context.unusable
        return option.candidate_in(zone, is_stale=context.is_stale(offer), is_configured=is_configured)
