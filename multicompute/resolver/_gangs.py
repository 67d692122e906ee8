"""Gangs of several parts: reservations filled up with bought nodes, and gangs that spread because one place is too small."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multicompute.offer import Offer, Part, Quote
from multicompute.plan import Candidate
from multicompute.provider import Reservation
from multicompute.resolver import _reasons as reasons
from multicompute.resolver._catalog_index import Row, Shape, catalog_index
from multicompute.resolver._constraints import Constraints
from multicompute.resolver._context import ResolveContext
from multicompute.resolver._lifetimes import Lifetimes
from multicompute.resolver._limits import Limits
from multicompute.resolver._ranking import Gang
from multicompute.resolver._reasons import RejectionCounts

if TYPE_CHECKING:
    from multicompute.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Source:
    """An offer that could provide nodes of a spread gang.

    Attributes:
        reason: Why it can't provide all of them, or "".
        ends_early: Whether its cloud terminates the nodes before the ttl.
    """

    row: Row
    zone: str
    shape: Shape
    nodes: int
    position: int
    reason: str = ""
    detail: str = ""
    ends_early: bool = False


def surplus(constraints: Constraints, shape: Shape, nodes: int) -> float:
    """Return how many accelerators a gang has in excess of `gpus`."""
    numerator, denominator = shape.per_node
    return (nodes * numerator / denominator - constraints.spec.gpus) if constraints.spec.gpus is not None else 0.0


def _composed(
    constraints: Constraints, lifetimes: Lifetimes, shape: Shape, parts: tuple[Part, ...], *, position: int
) -> Gang:
    """Return the gang of these parts. It ranks by its total price, and otherwise like its first part."""
    candidate = Candidate(parts)
    nodes = candidate.nodes
    is_estimate = candidate.price_basis == "estimate"
    extra = surplus(constraints, shape, nodes)
    is_early = lifetimes.end_early(lifetimes.of_gang(parts))
    key = (position, is_early, candidate.hourly_cost, is_estimate, nodes, extra, candidate.provider, candidate.region)
    return Gang(key, shape, None, nodes, (candidate.zone,), parts)


class ReservationGangs:
    """Makes the gangs that use the reservations named in the spec. They are tried before all others."""

    def __init__(
        self,
        constraints: Constraints,
        catalog: "Catalog",
        limits: Limits,
        lifetimes: Lifetimes,
        context: ResolveContext,
    ) -> None:
        self._constraints = constraints
        self._catalog = catalog
        self._limits = limits
        self._lifetimes = lifetimes
        self._now, self._today, self._has_fabric = context.now, context.today, context.has_fabric
        self.notes: list[str] = []

    def make(self, reservations: Sequence[Reservation], counts: RejectionCounts) -> list[Gang]:
        """Return the gangs, one for each place and instance type and for each way to buy the nodes that are missing."""
        known = {reservation.id for reservation in reservations}
        self.notes += [
            f"reservation {name} is not part of this plan; the launch looks for it in the cloud"
            for name in self._constraints.spec.reservations
            if name not in known
        ]
        if self._constraints.spec.reservations_only and not known:
            self.notes.append("reservations_only: the launch uses none of these offers, only the reservations")
        groups: dict[tuple[str, str, str, str], list[Reservation]] = {}
        for reservation in reservations:
            key = (reservation.provider, reservation.region, reservation.zone, reservation.instance_type.casefold())
            groups.setdefault(key, []).append(reservation)
        found: list[Gang] = []
        for group in groups.values():
            gangs = self._gangs_of(group, counts)
            if isinstance(gangs, str):
                self.notes.append(f"reservation {', '.join(item.id for item in group)} can't be used: {gangs}")
            else:
                found += gangs
        return found

    def _gangs_of(self, group: Sequence[Reservation], counts: RejectionCounts) -> list[Gang] | str:
        """Return the gangs of reservations of one place and instance type, or why there are none."""
        shape = self._shape(group[0])
        if isinstance(shape, str):
            return shape
        nodes = self._constraints.nodes(shape)
        if self._constraints.spec.interconnect == "rdma" and nodes > 1 and not self._has_fabric(shape.instance, nodes):
            return reasons.NO_FABRIC
        reserved = self._reserved_parts(group, shape, nodes)
        if not reserved:
            return "it has no free nodes"
        missing = nodes - sum(part.nodes for part in reserved)
        if missing and self._constraints.spec.reservations_only:
            return f"it has {nodes - missing} of {nodes} nodes, and reservations_only buys no others"
        additions = list(self._additions(group[0], shape, missing)) if missing else [None]
        if not additions:
            return f"it has {nodes - missing} of {nodes} nodes, and no offer in the same place adds the others"
        found: list[Gang] = []
        rejection_reason: str | None = None
        for addition in additions:
            parts = (*reserved, Part(addition[0].offer(addition[1]), missing)) if addition else reserved
            candidate = Candidate(parts)
            gang = _composed(self._constraints, self._lifetimes, shape, parts, position=-1)
            rejection_reason = self._constraints.cost_rejection(candidate.hourly_cost, candidate.price_per_accelerator)
            if rejection_reason:
                rejection_reason += ", including the nodes that must be bought in addition"
            elif gang.ends_early and self._lifetimes.is_strict:
                rejection_reason = f"{reasons.ENDS_EARLY}: {self._lifetimes.reason(parts)}"
            else:
                found.append(gang)
                if addition:
                    counts.use(*addition)
        return found or rejection_reason or ""

    def _shape(self, reservation: Reservation) -> Shape | str:
        """Return the reserved shape, or why it does not meet the spec."""
        rejection_reason = f"{reservation.instance_type} is not in the offer tables"
        for instance in self._catalog.instances(reservation.instance_type):
            if instance.provider != reservation.provider:
                continue
            shapes = catalog_index(self._catalog, instance.accelerator).shapes
            # A type that is sold only as reserved capacity has no line in the tables.
            shape = next((item for item in shapes if item.instance == instance), None) or Shape(instance, ())
            found = self._constraints.rejection_reason(shape) or self._constraints.place_rejection(
                (reservation.provider, reservation.region), reservation.zone
            )
            if found is None:
                return shape
            rejection_reason = found
        return rejection_reason

    def _reserved_parts(self, group: Sequence[Reservation], shape: Shape, nodes: int) -> tuple[Part, ...]:
        parts: list[Part] = []
        for reservation in group:
            take = min(reservation.available, nodes - sum(part.nodes for part in parts))
            quote = Quote(reservation.hourly_cost, self._today, f"reservation {reservation.id}")
            offer = Offer(shape.instance, reservation.region, reservation.zone, "reserved", quote)
            has_ended = reservation.ends_at is not None and reservation.ends_at <= self._now
            if take > 0 and not has_ended and self._limits.room(offer, take).nodes >= take:
                parts.append(Part(offer, take, reservation.id, reservation.ends_at))
        return tuple(parts)

    def _additions(self, reservation: Reservation, shape: Shape, missing: int) -> Iterator[tuple[Row, str]]:
        """Yield the offers in the place of the reservation that can provide the missing nodes.

        An offer without a zone can be bought in any zone of its region, including the reservation's.
        """
        for row in shape.rows:
            if (
                row.region_key != (reservation.provider, reservation.region)
                or row.purchase not in self._constraints.purchases
                or (row.is_estimate and not self._constraints.spec.estimates)
            ):
                continue
            for zone in self._constraints.zones_of(row)[0]:
                is_same_zone = zone in ("", reservation.zone) or not reservation.zone
                if is_same_zone and self._limits.room(row.offer(zone), missing).nodes >= missing:
                    yield row, zone


def spread(
    constraints: Constraints,
    sources: Sequence[Source],
    limits: Limits,
    lifetimes: Lifetimes,
    unusable: frozenset[str],
) -> list[Gang]:
    """Return the gangs that combine several offers, cheapest first, where an outage limits a single offer.

    There is at most one for each group of interchangeable offers: the same instance type and purchase type in one region
    or cloud or, with placement "any", the same number of the same accelerator per node in any cloud.
    """
    groups: dict[tuple[object, ...], list[Source]] = {}
    for source in sources:
        groups.setdefault(_group(constraints, source, unusable), []).append(source)
    found = []
    for group in groups.values():
        if not any(source.reason for source in group):
            continue
        parts = _fill(sorted(group, key=_price_key), limits)
        if len(parts) > 1:
            shape = next(source.shape for source in group if source.shape.instance == parts[0].offer.instance)
            gang = _composed(constraints, lifetimes, shape, parts, position=group[0].position)
            if constraints.cost_rejection(gang.hourly_cost, 0.0) is None:
                found.append(gang)
    return found


def _group(constraints: Constraints, source: Source, unusable: frozenset[str]) -> tuple[object, ...]:
    row, shape = source.row, source.shape
    if constraints.spec.placement == "any":
        is_usable = row.region_key[0] not in unusable
        return (source.position, shape.instance.accelerator, shape.per_node, row.purchase, is_usable)
    where = row.region_key if constraints.spec.placement == "region" else row.region_key[0]
    return (source.position, where, id(shape), row.purchase)


def _price_key(source: Source) -> tuple[object, ...]:
    row = source.row
    return (
        source.ends_early,
        row.price,
        row.is_estimate,
        *row.region_key,
        source.zone,
        row.instance.name,
        row.instance.accelerator,
    )


def _fill(sources: Sequence[Source], limits: Limits) -> tuple[Part, ...]:
    """Take as many nodes as possible from each offer in turn until the gang is complete; return () if it never is."""
    missing = sources[0].nodes
    parts: list[Part] = []
    for source in sources:
        offer = source.row.offer(source.zone)
        take = limits.room(offer, missing).nodes
        if take:
            parts.append(Part(offer, take))
            missing -= take
        if not missing:
            return tuple(parts)
    return ()
