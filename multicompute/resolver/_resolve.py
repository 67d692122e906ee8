"""Turns a spec and what is known of the clouds into a plan."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from multicompute.plan import Outage, Plan
from multicompute.provider import Reservation
from multicompute.resolver import _reasons as reasons
from multicompute.resolver._catalog_index import Row, Shape, catalog_index
from multicompute.resolver._constraints import Constraints, read
from multicompute.resolver._gangs import Reserving, Source, spread, surplus
from multicompute.resolver._limits import Limits
from multicompute.resolver._notes import notes
from multicompute.resolver._ranking import Gang, Marks, Ranked
from multicompute.resolver._reasons import RejectionCounts

if TYPE_CHECKING:
    from multicompute.catalog import Catalog
    from multicompute.spec import ClusterSpec


@dataclass(frozen=True, slots=True)
class ResolveContext:
    """What is known beside spec and catalog, see `resolve`."""

    now: datetime
    configured: Mapping[str, str]
    outages: Sequence[Outage]
    reservations: Sequence[Reservation]
    only: Mapping[str, Collection[str]]
    max_price_age: timedelta
    max_spot_price_age: timedelta

    @property
    def unusable(self) -> frozenset[str]:
        return frozenset(provider for provider, why in self.configured.items() if why)

    def marks(self) -> Marks:
        today = self.now.astimezone(UTC).date()
        fresh = today - self.max_price_age
        ages = {"on_demand": fresh, "flex_start": fresh, "reserved": fresh, "spot": today - self.max_spot_price_age}
        return Marks(ages, self.unusable)


def decide(spec: "ClusterSpec", catalog: "Catalog", situation: ResolveContext) -> Plan:
    """The plan, without a nearest change; see `resolve`."""
    named = [item for item in situation.reservations if item.id in spec.reservations]
    named.sort(key=lambda item: (spec.reservations.index(item.id), item.provider, item.region, item.zone))
    known_clouds = sorted({*catalog.providers, *situation.configured})
    constraints = read(spec, catalog, known_clouds=known_clouds, reservations=named, only=situation.only)
    limits = Limits(situation.outages, situation.now)
    tally = RejectionCounts()
    reserving = Reserving(constraints, catalog, limits, situation.now.astimezone(UTC).date())
    reserved = reserving.gangs(named, tally) if spec.reservations else []

    sorting = Matcher(constraints, limits, tally)
    read_count = 0
    for accelerator in constraints.shards:
        shapes = catalog_index(catalog, accelerator)
        read_count += shapes.offer_count
        for shape in shapes.shapes:
            sorting.sort(shape)
    tally.add_count(reasons.WRONG_ACCELERATOR, catalog.offer_count - read_count)

    gangs, passed_over = sorting.finish(situation.unusable)
    marks = situation.marks()
    candidates = Ranked([*reserved, *gangs], marks)
    told = notes(spec, candidates, gangs, passed_over, marks=marks, configured=situation.configured)
    return Plan(spec, candidates, tally.rejections(), (*reserving.notes, *told))


class Matcher:
    """Sorts the offers into gangs and reasons, line by line; a line is looked at zone by zone only where it must be."""

    def __init__(self, constraints: Constraints, limits: Limits, tally: RejectionCounts) -> None:
        self._constraints = constraints
        self._limits = limits
        self._tally = tally
        self._gangs: list[Gang] = []
        self._sources: list[Source] = []
        self._spreads = constraints.spec.placement != "zone" and constraints.spec.interconnect != "rdma"

    def sort(self, shape: Shape) -> None:
        """Sort all offers of one shape."""
        constraints = self._constraints
        if rejection_reason := constraints.rejection_reason(shape):
            self._tally.add_rows(rejection_reason, shape.rows)
            return
        nodes = constraints.nodes(shape)
        position = constraints.position(shape) or 0
        rank = position if constraints.spec.order == "given" else 0
        extra = surplus(constraints, shape, nodes)
        is_limited = self._limits.concern(shape.instance.provider)
        for purchase, rows in shape.by_purchase:
            if purchase not in constraints.purchases:
                self._tally.add_rows(reasons.PURCHASES[purchase], rows)
                continue
            for row in rows:
                total = round(nodes * row.price, 6)
                if rejection_reason := self._row_rejection(row, total):
                    self._tally.add_row(rejection_reason, row)
                    continue
                zones = row.zones
                if is_limited:
                    zones = self._zones_with_room(shape, row, nodes, rank)
                if zones:
                    key = (rank, total, row.is_estimate, nodes, extra, *row.place)
                    self._gangs.append(Gang(key, shape, row, nodes, zones))

    def _row_rejection(self, row: Row, total: float) -> str | None:
        return (
            self._constraints.place_rejection(row.place)
            or (reasons.ESTIMATE if row.is_estimate and not self._constraints.spec.estimates else None)
            or self._constraints.cost_rejection(total, row.unit_price)
        )

    def _zones_with_room(self, shape: Shape, row: Row, nodes: int, rank: int) -> tuple[str, ...]:
        """The zones that have room for the whole gang; the others are kept for a spread one."""
        zones = []
        for zone in row.zones:
            room = self._limits.room(row.offer(zone), nodes)
            if room.nodes >= nodes:
                zones.append(zone)
            else:
                self._sources.append(Source(row, zone, shape, nodes, rank, room.reason, room.detail))
        return tuple(zones)

    def finish(self, unusable: frozenset[str]) -> tuple[list[Gang], list[Gang]]:
        """Apply the fabric rule and fill spread gangs; returns the gangs that are left, and those passed over by the rule."""
        lacking = self._lacking()
        interconnect = self._constraints.spec.interconnect
        # An outage does not make a gang without a fabric any more useful, unless the user has said that it may spread.
        limited = not self._spreads and any(
            source.shape.is_linked and (source.nodes == 1 or source.shape.instance.fabric) for source in self._sources
        )
        needs_fabric = interconnect == "rdma" or (
            interconnect == "auto"
            and (limited or any(gang.shape.is_linked and id(gang) not in lacking for gang in self._gangs))
        )
        if not needs_fabric:
            lacking = {}
        kept = [gang for gang in self._gangs if id(gang) not in lacking]
        if self._spreads and self._sources:
            kept += self._spread(kept, unusable, needs_fabric=needs_fabric)
        for source in self._sources:
            self._tally.add(source.reason, source.row, source.zone, source.detail)
        for gang in lacking.values():
            if gang.row is not None:
                for zone in gang.zones:
                    self._tally.add(reasons.NO_FABRIC, gang.row, zone)
        return kept, list(lacking.values())

    def _lacking(self) -> dict[int, Gang]:
        """The gangs of several nodes whose fabric is asked for and missing."""
        interconnect = self._constraints.spec.interconnect
        if interconnect == "any":
            return {}
        return {
            id(gang): gang
            for gang in self._gangs
            if gang.nodes > 1 and not gang.shape.instance.fabric and (interconnect == "rdma" or gang.shape.is_linked)
        }

    def _spread(self, kept: Iterable[Gang], unusable: frozenset[str], *, needs_fabric: bool) -> list[Gang]:
        whole = [
            Source(gang.row, zone, gang.shape, gang.nodes, gang.key[0])
            for gang in kept
            if gang.row is not None
            for zone in gang.zones
        ]
        # A gang in several places has no fabric between them.
        sources = [source for source in (*self._sources, *whole) if not (needs_fabric and source.shape.is_linked)]
        gangs = spread(self._constraints, sources, self._limits, unusable)
        rows = {(row.place, row.purchase, row.instance, zone): row for row, zone in ((s.row, s.zone) for s in sources)}
        for gang in gangs:
            for part in gang.parts:
                offer = part.offer
                place = (offer.provider, offer.region)
                self._tally.use(rows[place, offer.purchase, offer.instance, offer.zone], offer.zone)
        return gangs
