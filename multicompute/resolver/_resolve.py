"""Matches the offers of the catalog against a spec and turns them into a plan."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from multicompute.plan import Plan
from multicompute.resolver import _reasons as reasons
from multicompute.resolver._catalog_index import Row, Rows, Shape, catalog_index
from multicompute.resolver._constraints import Constraints, constraints_of
from multicompute.resolver._context import ResolveContext
from multicompute.resolver._costs import Costs
from multicompute.resolver._gangs import ReservationGangs, Source, spread, surplus
from multicompute.resolver._lifetimes import Lifetimes
from multicompute.resolver._limits import Limits
from multicompute.resolver._notes import notes
from multicompute.resolver._ranking import Gang, Ranked
from multicompute.resolver._reasons import RejectionCounts
from multicompute.resolver._zones import UsableZones

if TYPE_CHECKING:
    from multicompute.catalog import Catalog
    from multicompute.spec import ClusterSpec


def decide(spec: "ClusterSpec", catalog: "Catalog", context: ResolveContext) -> Plan:
    """Return the plan without `nearest`; see `resolve`."""
    if spec.workload is not None:
        # Imported here: few requests have a workload, and sizing takes 30 ms to load.
        from multicompute.resolver._jobs import decide_job

        return decide_job(spec, catalog, context)
    named = [item for item in context.reservations if item.id in spec.reservations]
    named.sort(key=lambda item: (spec.reservations.index(item.id), item.provider, item.region, item.zone))
    constraints = constraints_of(spec, catalog, context, reservations=named)
    limits, lifetimes = Limits(context.outages, context.now), Lifetimes(spec, context)
    costs = Costs(spec, catalog, lifetimes.ttl)
    counts = RejectionCounts()
    reservation_gangs = ReservationGangs(constraints, catalog, limits, lifetimes, costs, context)
    reserved = reservation_gangs.make(named, counts) if spec.reservations else []

    matcher = Matcher(constraints, limits, lifetimes, costs, counts, context)
    read_count = 0
    for accelerator in constraints.shards:
        index = catalog_index(catalog, accelerator)
        read_count += index.offer_count
        for shape in index.shapes:
            matcher.match(shape)
    counts.add_count(reasons.WRONG_ACCELERATOR, catalog.offer_count - read_count)

    gangs, without_fabric = matcher.finish()
    candidates = Ranked([*reserved, *gangs], context, lifetimes, costs)
    plan_notes = notes(spec, candidates, gangs, without_fabric, context, lifetimes, costs)
    return Plan(spec, candidates, counts.rejections(), (*reservation_gangs.notes, *plan_notes))


class Matcher:
    """Turns offers into gangs or rejections, line by line, and zone by zone only where outages apply."""

    def __init__(
        self,
        constraints: Constraints,
        limits: Limits,
        lifetimes: Lifetimes,
        costs: Costs,
        counts: RejectionCounts,
        context: ResolveContext,
    ) -> None:
        self._costs = costs
        self._context = context
        self._discounts = context.discounts
        self._constraints = constraints
        self._limits = limits
        self._lifetimes = lifetimes
        self._counts = counts
        self._zones = UsableZones(constraints, counts, context.availability)
        self._has_fabric = context.has_fabric
        self._gangs: list[Gang] = []
        self._sources: list[Source] = []
        # Most requests have no data: the check would be made for every line.
        has_data = costs.transfers is not None
        self._cost_rejection = self._transfer_or_price_rejection if has_data else self._price_rejection
        self._spreads = constraints.spec.placement != "zone" and constraints.spec.interconnect != "rdma"

    def match(self, shape: Shape) -> None:
        """Match all offers of one shape."""
        constraints = self._constraints
        if rejection_reason := constraints.rejection_reason(shape):
            detail = constraints.tag_problems[shape.instance.provider] if rejection_reason == reasons.TAGS else ""
            self._counts.add_rows(rejection_reason, shape.rows, detail)
            return
        nodes = constraints.nodes(shape)
        position = constraints.position(shape) or 0
        rank = position if constraints.spec.order == "given" else 0
        extra = surplus(constraints, shape, nodes)
        is_limited = self._limits.concern(shape.instance.provider)
        lifetimes, costs, usable = self._lifetimes, self._costs, self._zones
        is_weighed, is_discounted = not costs.is_plain, self._is_discounted(shape)
        for purchase, rows in shape.by_purchase:
            if purchase not in constraints.purchases:
                self._counts.add_rows(reasons.PURCHASES[purchase], rows)
                continue
            is_early = lifetimes.end_early(lifetimes.of(shape.instance, purchase))
            for row in self._discounted(rows, nodes) if is_discounted else rows:
                zones = usable.of(row, rows)
                if not zones:
                    continue
                total = round(nodes * row.price, 6)
                if rejection_reason := self._cost_rejection(row, total, is_early=is_early):
                    self._counts.add_zones(rejection_reason, row, zones)
                    continue
                if is_limited:
                    zones = self._zones_with_headroom(shape, row, zones, nodes, rank, is_early=is_early)
                if zones:
                    cost = costs.of_row(row, nodes, total) if is_weighed else total
                    key = (rank, is_early, cost, row.is_estimate, nodes, extra, *row.region_key)
                    self._gangs.append(Gang(key, shape, row, nodes, zones, total))

    def _is_discounted(self, shape: Shape) -> bool:
        return self._discounts is not None and self._discounts.concern(shape.instance)

    def _discounted(self, rows: Rows, nodes: int) -> list[Row]:
        """Return the lines at the prices that a gang of that many nodes pays."""
        return [self._discounts.row(row, nodes) for row in rows] if self._discounts is not None else list(rows)

    def _transfer_or_price_rejection(self, row: Row, total: float, *, is_early: bool) -> str | None:
        if not self._costs.has_transfer(row.region_key):
            return reasons.NO_TRANSFER
        return self._price_rejection(row, total, is_early=is_early)

    def _price_rejection(self, row: Row, total: float, *, is_early: bool) -> str | None:
        return (
            (reasons.ESTIMATE if row.is_estimate and not self._constraints.spec.estimates else None)
            or (reasons.NOT_RESERVED if self._constraints.is_reserved_only else None)
            or self._constraints.cost_rejection(total, row.unit_price)
            or (reasons.ENDS_EARLY if is_early and self._lifetimes.is_strict else None)
        )

    def _zones_with_headroom(
        self, shape: Shape, row: Row, allowed: tuple[str, ...], nodes: int, rank: int, *, is_early: bool
    ) -> tuple[str, ...]:
        """Return the zones with headroom for the complete gang, and keep the others as sources of a spread gang."""
        zones = []
        for zone in allowed:
            headroom = self._limits.room(row.offer(zone), nodes)
            if headroom.nodes >= nodes:
                zones.append(zone)
            else:
                source = Source(row, zone, shape, nodes, rank, headroom.reason, headroom.detail, ends_early=is_early)
                self._sources.append(source)
        return tuple(zones)

    def finish(self) -> tuple[list[Gang], list[Gang]]:
        """Apply the fabric rule, add the spread gangs, and count the rejections of both.

        Returns:
            The gangs that remain, and those that the fabric rule rejects.
        """
        needs_fabric = self._needs_fabric()
        kept, lacking = self._split_by_fabric() if needs_fabric else (self._gangs, [])
        if self._spreads and self._sources:
            kept = kept + self._spread(kept, needs_fabric=needs_fabric)
        for gang in kept:
            if gang.row is not None and gang.zones[0] not in gang.row.zones:
                self._counts.use(gang.row, gang.zones[0])
        for source in self._sources:
            self._counts.add(source.reason, source.row, source.zone, source.detail)
        for gang in lacking:
            if gang.row is not None:
                for zone in gang.zones:
                    self._counts.add(reasons.NO_FABRIC, gang.row, zone)
        return kept, lacking

    def _needs_fabric(self) -> bool:
        """Return whether a gang of several linked nodes needs a fabric."""
        interconnect = self._constraints.spec.interconnect
        if interconnect != "auto":
            return interconnect == "rdma"
        # An outage does not make a gang without a fabric more useful, unless the user lets the gang spread.
        if not self._spreads and any(
            source.shape.is_linked and (source.nodes == 1 or self._has_fabric(source.shape.instance, source.nodes))
            for source in self._sources
        ):
            return True
        return any(
            gang.shape.is_linked and (gang.nodes == 1 or self._has_fabric(gang.shape.instance, gang.nodes))
            for gang in self._gangs
        )

    def _split_by_fabric(self) -> tuple[list[Gang], list[Gang]]:
        """Return the gangs that have a fabric or need none, and those of several nodes that lack one."""
        is_required = self._constraints.spec.interconnect == "rdma"
        kept: list[Gang] = []
        lacking: list[Gang] = []
        for gang in self._gangs:
            shape = gang.shape
            has_fabric = gang.nodes == 1 or self._has_fabric(shape.instance, gang.nodes)
            lacks_fabric = not has_fabric and (is_required or shape.is_linked)
            (lacking if lacks_fabric else kept).append(gang)
        return kept, lacking

    def _spread(self, kept: Iterable[Gang], *, needs_fabric: bool) -> list[Gang]:
        complete = [
            Source(gang.row, zone, gang.shape, gang.nodes, gang.key[0], ends_early=gang.ends_early)
            for gang in kept
            if gang.row is not None
            for zone in gang.zones
        ]
        # A gang in several places has no fabric between them.
        sources = [source for source in (*self._sources, *complete) if not (needs_fabric and source.shape.is_linked)]
        gangs = spread(self._constraints, sources, self._limits, self._lifetimes, self._costs, self._context)
        rows = {
            (source.row.region_key, source.row.purchase, source.row.instance, source.zone): source.row
            for source in sources
        }
        for gang in gangs:
            for part in gang.parts:
                offer = part.offer
                key = ((offer.provider, offer.region), offer.purchase, offer.instance, offer.zone)
                self._counts.use(rows[key], offer.zone)
        return gangs
