"""Gangs of several parts: reservations with the rest bought beside them, and gangs that spread because one place is too small."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from multicompute.offer import Offer, Part, Quote
from multicompute.plan import Candidate
from multicompute.provider import Reservation
from multicompute.resolver import _reasons as reasons
from multicompute.resolver._catalog_index import Row, Shape, catalog_index
from multicompute.resolver._constraints import Constraints
from multicompute.resolver._limits import Limits
from multicompute.resolver._ranking import Gang
from multicompute.resolver._reasons import RejectionCounts

if TYPE_CHECKING:
    from multicompute.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Source:
    """An offer that could give nodes to a spread gang; `reason` is why it can't give all of them, or ""."""

    row: Row
    zone: str
    shape: Shape
    nodes: int
    position: int
    reason: str = ""
    detail: str = ""


def surplus(constraints: Constraints, shape: Shape, nodes: int) -> float:
    """Accelerators that are paid for beyond those asked for."""
    numerator, denominator = shape.per_node
    return (nodes * numerator / denominator - constraints.spec.gpus) if constraints.spec.gpus is not None else 0.0


def _composed(constraints: Constraints, shape: Shape, parts: tuple[Part, ...], *, position: int) -> Gang:
    """The gang of these parts; ranks by its total, and for the rest as its first part."""
    whole = Candidate(parts)
    nodes = whole.nodes
    is_estimate = whole.price_basis == "estimate"
    key = (
        position,
        whole.hourly_cost,
        is_estimate,
        nodes,
        surplus(constraints, shape, nodes),
        whole.provider,
        whole.region,
    )
    return Gang(key, shape, None, nodes, (whole.zone,), parts)


class Reserving:
    """Makes the gangs that take nodes from the reservations named in the spec; they are tried before all others."""

    def __init__(self, constraints: Constraints, catalog: "Catalog", limits: Limits, today: date) -> None:
        self._constraints = constraints
        self._catalog = catalog
        self._limits = limits
        self._today = today
        self.notes: list[str] = []

    def gangs(self, reservations: Sequence[Reservation], tally: RejectionCounts) -> list[Gang]:
        """One gang for each way to buy the rest, for each place that has reservations of one instance type."""
        known = {reservation.id for reservation in reservations}
        self.notes += [
            f"reservation {name} is not known here; it is looked for in the cloud before the launch"
            for name in self._constraints.spec.reservations
            if name not in known
        ]
        beside: dict[tuple[str, str, str, str], list[Reservation]] = {}
        for reservation in reservations:
            place = (reservation.provider, reservation.region, reservation.zone, reservation.instance_type.casefold())
            beside.setdefault(place, []).append(reservation)
        found: list[Gang] = []
        for group in beside.values():
            gangs = self._of_place(group, tally)
            if isinstance(gangs, str):
                self.notes.append(f"reservation {', '.join(item.id for item in group)} can't be used: {gangs}")
            else:
                found += gangs
        return found

    def _of_place(self, group: Sequence[Reservation], tally: RejectionCounts) -> list[Gang] | str:
        """The gangs, or why there are none."""
        shape = self._shape(group[0])
        if isinstance(shape, str):
            return shape
        nodes = self._constraints.nodes(shape)
        if self._constraints.spec.interconnect == "rdma" and nodes > 1 and not shape.instance.fabric:
            return reasons.NO_FABRIC
        inside = self._inside(group, shape, nodes)
        if not inside:
            return "no node of it is free"
        missing = nodes - sum(part.nodes for part in inside)
        rests = list(self._rests(group[0], shape, missing)) if missing else [None]
        if not rests:
            return f"it has {nodes - missing} of {nodes} nodes, and the rest can't be bought beside it"
        found: list[Gang] = []
        rejection_reason: str | None = None
        for rest in rests:
            parts = (*inside, Part(rest[0].offer(rest[1]), missing)) if rest else inside
            whole = Candidate(parts)
            rejection_reason = self._constraints.cost_rejection(whole.hourly_cost, whole.price_per_accelerator)
            if rejection_reason is None:
                found.append(_composed(self._constraints, shape, parts, position=-1))
                if rest:
                    tally.use(*rest)
        return found or f"{rejection_reason} with the rest bought beside it"

    def _shape(self, reservation: Reservation) -> Shape | str:
        """The shape that is reserved, or why it will not do."""
        rejection_reason = f"{reservation.instance_type} is not in the tables"
        for instance in self._catalog.instances(reservation.instance_type):
            if instance.provider != reservation.provider:
                continue
            shapes = catalog_index(self._catalog, instance.accelerator).shapes
            # What is sold only as reserved capacity has no line in the tables.
            shape = next((item for item in shapes if item.instance == instance), None) or Shape(instance, ())
            found = self._constraints.rejection_reason(shape) or self._constraints.place_rejection(
                (reservation.provider, reservation.region)
            )
            if found is None:
                return shape
            rejection_reason = found
        return rejection_reason

    def _inside(self, group: Sequence[Reservation], shape: Shape, nodes: int) -> tuple[Part, ...]:
        parts: list[Part] = []
        for reservation in group:
            take = min(reservation.available, nodes - sum(part.nodes for part in parts))
            quote = Quote(reservation.hourly_cost, self._today, f"reservation {reservation.id}")
            offer = Offer(shape.instance, reservation.region, reservation.zone, "reserved", quote)
            if take > 0 and self._limits.room(offer, take).nodes >= take:
                parts.append(Part(offer, take, reservation.id))
        return tuple(parts)

    def _rests(self, reservation: Reservation, shape: Shape, missing: int) -> Iterator[tuple[Row, str]]:
        """The offers beside the reservation that can give the missing nodes.

        An offer without a zone may be bought in any zone of its region, so also in the reservation's.
        """
        for row in shape.rows:
            if (
                row.place != (reservation.provider, reservation.region)
                or row.purchase not in self._constraints.purchases
                or (row.is_estimate and not self._constraints.spec.estimates)
            ):
                continue
            for zone in row.zones:
                is_beside = zone in ("", reservation.zone) or not reservation.zone
                if is_beside and self._limits.room(row.offer(zone), missing).nodes >= missing:
                    yield row, zone


def spread(constraints: Constraints, sources: Sequence[Source], limits: Limits, unusable: frozenset[str]) -> list[Gang]:
    """The gangs that fill up from several offers, cheapest first, where an outage leaves too little room in one.

    At most one for each group of offers that may stand in for one another: the same instance type bought in the same way,
    in one region or cloud; with placement "any" the same number of the same accelerator on each node, in any cloud.
    """
    groups: dict[tuple[object, ...], list[Source]] = {}
    for source in sources:
        groups.setdefault(_group(constraints, source, unusable), []).append(source)
    found = []
    for group in groups.values():
        if not any(source.reason for source in group):
            continue
        parts = _fill(sorted(group, key=_cheapest), limits)
        if len(parts) > 1:
            shape = next(source.shape for source in group if source.shape.instance == parts[0].offer.instance)
            gang = _composed(constraints, shape, parts, position=group[0].position)
            if constraints.cost_rejection(gang.hourly_cost, 0.0) is None:
                found.append(gang)
    return found


def _group(constraints: Constraints, source: Source, unusable: frozenset[str]) -> tuple[object, ...]:
    row, shape = source.row, source.shape
    if constraints.spec.placement == "any":
        is_usable = row.place[0] not in unusable
        return (source.position, shape.instance.accelerator, shape.per_node, row.purchase, is_usable)
    where = row.place if constraints.spec.placement == "region" else row.place[0]
    return (source.position, where, id(shape), row.purchase)


def _cheapest(source: Source) -> tuple[object, ...]:
    row = source.row
    return (row.price, row.is_estimate, *row.place, source.zone, row.instance.name, row.instance.accelerator)


def _fill(sources: Sequence[Source], limits: Limits) -> tuple[Part, ...]:
    """Take as many nodes from each offer as there is room for, until the gang is complete; () if it never is."""
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
