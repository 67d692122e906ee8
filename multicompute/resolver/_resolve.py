"""Matches the offers of the catalog against a spec and turns them into a plan."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from multicompute.offer import InstanceType
from multicompute.plan import Plan
from multicompute.provider import Availability
from multicompute.resolver import _reasons as reasons
from multicompute.resolver._catalog_index import Row, Rows, Shape, catalog_index
from multicompute.resolver._constraints import Constraints, read_constraints
from multicompute.resolver._context import ResolveContext
from multicompute.resolver._gangs import ReservationGangs, Source, spread, surplus
from multicompute.resolver._lifetimes import Lifetimes
from multicompute.resolver._limits import Limits
from multicompute.resolver._notes import notes
from multicompute.resolver._ranking import Gang, Ranked
from multicompute.resolver._reasons import RejectionCounts

if TYPE_CHECKING:
    from multicompute.catalog import Catalog
    from multicompute.spec import ClusterSpec


def decide(spec: "ClusterSpec", catalog: "Catalog", context: ResolveContext) -> Plan:
    """Return the plan without `nearest`; see `resolve`."""
    named = [item for item in context.reservations if item.id in spec.reservations]
    named.sort(key=lambda item: (spec.reservations.index(item.id), item.provider, item.region, item.zone))
    known_clouds = sorted({*catalog.providers, *context.configured})
    constraints = read_constraints(
        spec,
        catalog,
        known_clouds=known_clouds,
        reservations=named,
        only=context.only,
        zone_ids=context.zone_ids,
        tag_problems=context.tag_problems,
        image_required=context.image_required,
        ceiling=context.ceiling,
    )
    limits, lifetimes = Limits(context.outages, context.now), Lifetimes(spec, context)
    counts = RejectionCounts()
    reservation_gangs = ReservationGangs(constraints, catalog, limits, lifetimes, context)
    reserved = reservation_gangs.make(named, counts) if spec.reservations else []

    matcher = Matcher(constraints, limits, lifetimes, counts, context)
    read_count = 0
    for accelerator in constraints.shards:
        index = catalog_index(catalog, accelerator)
        read_count += index.offer_count
        for shape in index.shapes:
            matcher.match(shape)
    counts.add_count(reasons.WRONG_ACCELERATOR, catalog.offer_count - read_count)

    gangs, without_fabric = matcher.finish(context.unusable)
    candidates = Ranked([*reserved, *gangs], context, lifetimes)
    plan_notes = notes(spec, candidates, gangs, without_fabric, context, lifetimes)
    return Plan(spec, candidates, counts.rejections(), (*reservation_gangs.notes, *plan_notes))


class Matcher:
    """Turns offers into gangs or rejections, line by line, and zone by zone only where outages apply."""

    def __init__(
        self,
        constraints: Constraints,
        limits: Limits,
        lifetimes: Lifetimes,
        counts: RejectionCounts,
        context: ResolveContext,
    ) -> None:
        self._constraints = constraints
        self._limits = limits
        self._lifetimes = lifetimes
        self._counts = counts
        self._availability = context.availability
        self._has_fabric = context.has_fabric
        self._gangs: list[Gang] = []
        self._sources: list[Source] = []
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
        lifetimes = self._lifetimes
        for purchase, rows in shape.by_purchase:
            if purchase not in constraints.purchases:
                self._counts.add_rows(reasons.PURCHASES[purchase], rows)
                continue
            is_early = lifetimes.end_early(lifetimes.of(shape.instance, purchase))
            for row in rows:
                found = self._availability.get(row.region_key) if self._availability else None
                zones = self._allowed_zones(row) if found is None else self._available_zones(row, rows, found)
                if not zones:
                    continue
                total = round(nodes * row.price, 6)
                if rejection_reason := self._price_rejection(row, total, is_early=is_early):
                    self._counts.add_zones(rejection_reason, row, zones)
                    continue
                if is_limited:
                    zones = self._zones_with_headroom(shape, row, zones, nodes, rank, is_early=is_early)
                if zones:
                    key = (rank, is_early, total, row.is_estimate, nodes, extra, *row.region_key)
                    self._gangs.append(Gang(key, shape, row, nodes, zones))

    def _allowed_zones(self, row: Row) -> tuple[str, ...]:
        """Return the zones of a row in places that the spec allows, and count the others."""
        constraints = self._constraints
        if row.region_key in constraints.zones:
            zones, rejected = constraints.zones_of(row)
            for zone, reason in rejected.items():
                self._counts.add(reason, row, zone)
            return zones
        # Nothing in the spec tells the zones of this region apart.
        if rejection_reason := constraints.place_rejection(row.region_key, ""):
            self._counts.add_row(rejection_reason, row)
            return ()
        return row.zones

    def _available_zones(self, row: Row, rows: Rows, found: Availability) -> tuple[str, ...]:
        """Return the zones of a row that the spec allows and in which the account can use the type; count the others.

        The tables may have another account's names of the zones, so where one row is for the complete region, the zones that
        sell the type to this account take their place.
        """
        allowed = self._allowed_zones(row)
        if not allowed:
            return ()
        if found.refused:
            self._counts.add_row(reasons.REGION_REFUSED, row, found.refused)
            return ()
        sold = _zones_that_sell(row.instance, found)
        if sold is None or (sold and allowed == ("",)):
            return allowed
        region, constraints = row.region_key, self._constraints
        named = sold if region in rows.single_regions else tuple(zone for zone in sold if zone in row.zones)
        usable = tuple(zone for zone in named if constraints.place_rejection(region, zone) is None)
        for zone in allowed:
            if zone not in usable:
                self._counts.add(reasons.NOT_SOLD, row, zone)
        return usable

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

    def finish(self, unusable: frozenset[str]) -> tuple[list[Gang], list[Gang]]:
        """Apply the fabric rule, add the spread gangs, and count the rejections of both.

        Returns:
            The gangs that remain, and those that the fabric rule rejects.
        """
        needs_fabric = self._needs_fabric()
        kept, lacking = self._split_by_fabric() if needs_fabric else (self._gangs, [])
        if self._spreads and self._sources:
            kept = kept + self._spread(kept, unusable, needs_fabric=needs_fabric)
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

    def _spread(self, kept: Iterable[Gang], unusable: frozenset[str], *, needs_fabric: bool) -> list[Gang]:
        complete = [
            Source(gang.row, zone, gang.shape, gang.nodes, gang.key[0], ends_early=gang.ends_early)
            for gang in kept
            if gang.row is not None
            for zone in gang.zones
        ]
        # A gang in several places has no fabric between them.
        sources = [source for source in (*self._sources, *complete) if not (needs_fabric and source.shape.is_linked)]
        gangs = spread(self._constraints, sources, self._limits, self._lifetimes, unusable)
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


def _zones_that_sell(instance: InstanceType, found: Availability) -> tuple[str, ...] | None:
    """Return the zones that sell an instance type to the account, None if that is not known."""
    if found.offered is None:
        return None
    # Types without accelerators may be missing from the answer.
    return found.offered.get(instance.name, () if instance.accelerator else None)
