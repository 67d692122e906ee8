"""The constraints of a spec: its names resolved against the catalog, and the checks of instance types against them."""

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from multicompute import accelerators
from multicompute.errors import SpecError
from multicompute.offer import InstanceType, Purchase
from multicompute.provider import Reservation
from multicompute.resolver import _reasons as reasons
from multicompute.resolver._catalog_index import Row, Shape
from multicompute.resolver._context import ResolveContext
from multicompute.resolver._regions import (
    Places,
    RegionKey,
    named_zone,
    places_matching,
    places_of,
    unknown_place,
)
from multicompute.validation import did_you_mean

if TYPE_CHECKING:
    from multicompute.catalog import Catalog
    from multicompute.spec import ClusterSpec

_PURCHASES: Final[Mapping[object, frozenset[Purchase]]] = {
    False: frozenset({"on_demand"}),
    True: frozenset({"spot"}),
    "prefer": frozenset({"on_demand", "spot"}),
}


@dataclass(frozen=True, slots=True)
class Constraints:
    """A spec with its names resolved.

    Attributes:
        models: Canonical accelerator name -> position in `type` of the first name that means it.
        types: Instance type in lower case -> position in `type` of the first name that means it.
        shards: The accelerators to read from the catalog.
        purchases: The allowed purchase types.
        clouds: The allowed ones; None for all.
        places: The allowed regions and zones; None for all.
        excluded: The regions and zones that are not allowed.
        excluded_types: Globs on the instance types that are not allowed, in lower case.
        only: The only regions and zones to use of some providers, by provider, as the configuration says.
        zones: Region -> its zones, of the regions of which only some zones may be allowed.
        tag_problems: Provider -> what it does not accept about the tags.
        ceiling: The maximum price of a gang in USD per hour, in addition to that of the spec; None for none.
        is_reserved_only: Whether offers that would be bought are rejected. False in a plan that does not know the reservations.
    """

    spec: "ClusterSpec"
    models: Mapping[str, int]
    types: Mapping[str, int]
    shards: tuple[str, ...]
    purchases: frozenset[Purchase]
    clouds: frozenset[str] | None
    places: Places | None
    excluded: Places
    excluded_types: tuple[str, ...]
    only: Mapping[str, Places]
    zones: Mapping[RegionKey, tuple[str, ...]]
    tag_problems: Mapping[str, str]
    image_required: Mapping[str, Sequence[str]]
    ceiling: float | None = None
    is_reserved_only: bool = False

    def position(self, shape: Shape) -> int | None:
        """Return the position in `type` of the first name that means this shape, or None."""
        found = [
            position
            for position in (self.models.get(shape.instance.accelerator), self.types.get(shape.key))
            if position is not None
        ]
        return min(found) if found else None

    def nodes(self, shape: Shape) -> int:
        """Return how many nodes of this shape the gang needs."""
        if self.spec.nodes is not None:
            return self.spec.nodes
        numerator, denominator = shape.per_node
        if self.spec.gpus is None or not numerator:
            return 1
        return -(-self.spec.gpus * denominator // numerator)

    def rejection_reason(self, shape: Shape) -> str | None:
        """Return the first reason to reject every offer of this shape, whatever its region and price, or None."""
        if self.position(shape) is None:
            # The index was read for another instance type with the same accelerator.
            return reasons.OTHER_TYPE
        if self.clouds is not None and shape.instance.provider not in self.clouds:
            return reasons.OTHER_CLOUD
        if any(fnmatchcase(shape.key, glob) for glob in self.excluded_types):
            return reasons.EXCLUDED_TYPE
        is_named = shape.key in self.types
        if shape.instance.retired and not is_named:
            return reasons.RETIRED
        if 0 < shape.instance.accelerators < 1 and not is_named:
            return reasons.FRACTION
        if reason := self._shortage(shape):
            return reason
        if shape.instance.provider in self.tag_problems:
            return reasons.TAGS
        globs = self.image_required.get(shape.instance.provider, ()) if self.spec.image is None else ()
        return reasons.IMAGE_REQUIRED if any(fnmatchcase(shape.instance.name, glob) for glob in globs) else None

    def _shortage(self, shape: Shape) -> str | None:
        spec = self.spec
        numerator, denominator = shape.per_node
        if spec.gpus is not None and not numerator:
            return reasons.NO_ACCELERATORS
        if spec.gpus_per_node is not None and shape.per_node != (spec.gpus_per_node, 1):
            return reasons.PER_NODE
        if spec.gpus is not None and self.nodes(shape) * numerator < spec.gpus * denominator:
            return reasons.TOO_FEW
        if spec.gpus is not None and not spec.allow_surplus and self._is_surplus(shape, spec.gpus):
            return reasons.SURPLUS
        if spec.min_gpu_memory is not None and shape.memory_gib < spec.min_gpu_memory:
            return reasons.GPU_MEMORY
        if spec.vcpus is not None and shape.instance.vcpus < spec.vcpus:
            return reasons.VCPUS
        if spec.memory is not None and shape.instance.memory_gib < spec.memory:
            return reasons.MEMORY
        return None

    def _is_surplus(self, shape: Shape, wanted: int) -> bool:
        """Return whether a gang has over a quarter more accelerators than the spec asks for."""
        numerator, denominator = shape.per_node
        return self.nodes(shape) * numerator * 4 > wanted * denominator * 5

    def place_rejection(self, region: RegionKey, zone: str) -> str | None:
        """Return the first reason to reject a zone, or None. Of an offer without a zone, all zones must be allowed."""
        if self.places is not None and not self.places.include(region, zone):
            return reasons.OTHER_ZONE if region in self.places.partial else reasons.OTHER_REGION
        if region in self.excluded.regions:
            return reasons.EXCLUDED_REGION
        if (*region, zone) in self.excluded.zones or (not zone and region in self.excluded.partial):
            return reasons.EXCLUDED_ZONE
        only = self.only.get(region[0])
        if only is not None and not only.include(region, zone):
            return reasons.ZONE_NOT_CONFIGURED if region in only.partial else reasons.REGION_NOT_CONFIGURED
        if self.spec.image is not None and self.spec.image_in(*region) is None:
            return reasons.NO_IMAGE
        return None

    def zones_of(self, row: Row) -> tuple[tuple[str, ...], Mapping[str, str]]:
        """Return the zones in which an offer may be used, and its other zones with the reason to reject them.

        Where not all zones of a region are treated alike, an offer without a zone is an offer in each zone of its region. It
        is rejected, as a single offer, if no zone is allowed: for the reason of the zone that passes the most checks.
        """
        is_zonal = row.zones != ("",)
        names = row.zones if is_zonal else self.zones.get(row.region_key, row.zones)
        reason_of = {zone: self.place_rejection(row.region_key, zone) for zone in names}
        rejected = {zone: reason for zone, reason in reason_of.items() if reason is not None}
        allowed = tuple(zone for zone in names if zone not in rejected)
        if is_zonal:
            return allowed, rejected
        return allowed, {} if allowed else {"": max(rejected.values(), key=reasons.ORDER.index)}

    def cost_rejection(self, hourly_cost: float, unit_price: float) -> str | None:
        """Return the first price limit that a gang exceeds, or None. A budget rejects no offer."""
        spec = self.spec
        if spec.max_price is not None and unit_price > spec.max_price:
            return reasons.OVER_MAX_PRICE
        if spec.max_hourly is not None and hourly_cost > spec.max_hourly:
            return reasons.OVER_MAX_HOURLY
        if self.ceiling is not None and hourly_cost > self.ceiling:
            return reasons.OVER_CEILING
        return None


def read_constraints(
    spec: "ClusterSpec",
    catalog: "Catalog",
    *,
    known_clouds: Sequence[str],
    reservations: Sequence[Reservation],
    only: Mapping[str, Collection[str]],
    zone_ids: Mapping[str, str],
    tag_problems: Mapping[str, str],
    image_required: Mapping[str, Sequence[str]],
    ceiling: float | None,
) -> Constraints:
    """Resolve the names in `spec`.

    Args:
        spec: The request.
        catalog: The known instance types and regions.
        known_clouds: All installed providers.
        reservations: Those reservations of the spec that are known.
        only: Provider -> the only regions and zones to use, where the configuration names some.
        zone_ids: Zone id -> the name of the zone in the account.
        tag_problems: Provider -> what it does not accept about the tags.
        image_required: Provider -> globs on the names of instance types without a default image.
        ceiling: The maximum price of a gang in USD per hour, in addition to that of the spec.

    Raises:
        SpecError: A name is unknown, or the spec contradicts itself.
    """
    names = _names(spec, catalog, reservations)
    models, types, instances = _resolve_names(names, catalog)
    _check_counts(spec, names, models, instances)
    _check_image_places(spec, catalog, known_clouds)
    places = _places(spec, catalog, zone_ids)
    excluded, excluded_types = _excluded(spec, catalog, zone_ids)
    configured = {name: _configured(catalog, name, entries, zone_ids) for name, entries in only.items()}
    partial = frozenset(
        region for each in (places, excluded, *configured.values()) if each is not None for region in each.partial
    )
    return Constraints(
        spec=spec,
        models=models,
        types=types,
        shards=tuple(dict.fromkeys((*models, *(instance.accelerator for instance in instances)))),
        purchases=_PURCHASES[spec.spot] | (frozenset({"flex_start"}) if spec.flex_start else frozenset()),
        clouds=_clouds(spec, known_clouds),
        places=places,
        excluded=excluded,
        excluded_types=excluded_types,
        only=configured,
        zones={region: catalog.zones()[region] for region in partial},
        tag_problems=tag_problems,
        image_required=image_required,
        ceiling=ceiling,
        is_reserved_only=spec.reservations_only and bool(reservations),
    )


def _names(spec: "ClusterSpec", catalog: "Catalog", reservations: Sequence[Reservation]) -> tuple[str, ...]:
    """Return what the spec names, what its reservations are of, or everything that may do its workload."""
    names = spec.type or tuple(dict.fromkeys(reservation.instance_type for reservation in reservations))
    if spec.workload is not None:
        names = names or catalog.accelerators()
    if not names:
        raise SpecError(
            f"type: missing, and the instance type of reservation {spec.reservations[0]} is unknown; "
            'write an accelerator such as type="h100", or the instance type'
        )
    return names


def constraints_of(
    spec: "ClusterSpec", catalog: "Catalog", context: ResolveContext, *, reservations: Sequence[Reservation] = ()
) -> Constraints:
    """Resolve the names in `spec`, with everything that is known.

    Raises:
        SpecError: A name is unknown, or the spec contradicts itself.
    """
    return read_constraints(
        spec,
        catalog,
        known_clouds=sorted({*catalog.providers, *context.configured}),
        reservations=reservations,
        only=context.only,
        zone_ids=context.zone_ids,
        tag_problems=context.tag_problems,
        image_required=context.image_required,
        ceiling=context.ceiling,
    )


def _resolve_names(
    names: Sequence[str], catalog: "Catalog"
) -> tuple[dict[str, int], dict[str, int], tuple[InstanceType, ...]]:
    """Return the models and the instance types with the position of their first name, and the instance types themselves."""
    models: dict[str, int] = {}
    types: dict[str, int] = {}
    found: dict[InstanceType, None] = {}
    for position, name in enumerate(names):
        named_models, instances = find_by_name(catalog, name)
        for model in named_models:
            models.setdefault(model, position)
        for instance in instances:
            types.setdefault(instance.name.casefold(), position)
        found |= dict.fromkeys(instances)
    return models, types, tuple(found)


@functools.lru_cache(maxsize=256)
def find_by_name(catalog: "Catalog", name: str) -> tuple[tuple[str, ...], tuple[InstanceType, ...]]:
    """Find one name of `type`: the canonical names of accelerators, or otherwise instance types.

    Raises:
        SpecError: The name is unknown or refused; the message says what to write.
    """
    if found := _find_exactly(catalog, name):
        return found
    # Imported here: only names of other tools need their table.
    from multicompute import aliases

    alias = aliases.find(name)
    if alias is not None and alias.means and (found := _find_exactly(catalog, alias.means)):
        return found
    if alias is not None and alias.why:
        # A topology may give a slice that does not exist, and a catalog of the user's may lack a type.
        known = [item for item in alias.instead if _find_exactly(catalog, item)]
        known = known or [item for refused in alias.instead for item in _near(catalog, refused)]
        instead = " or ".join(f'type="{item}"' for item in known) or 'an accelerator such as type="h100"'
        raise SpecError(f"type={name!r}: {alias.why}; write {instead}", hint=f"write {instead}")
    if counted := aliases.split_count(name):
        kind, count = counted
        what = f"nodes={count}" if catalog.instances(kind) else f"gpus_per_node={count} and the total as gpus"
        raise SpecError(f'type={name!r}: contains a count; write type="{kind}", {what}')
    near = _near(catalog, (alias.means if alias is not None else "") or name)
    hint = f"did you mean {' or '.join(near)}?" if near else "`multicompute offers` lists all types"
    raise SpecError(f"type={name!r}: no such accelerator or instance type; {hint}", hint=hint)


def _near(catalog: "Catalog", name: str) -> tuple[str, ...]:
    """Return the known names that resemble an unknown one: of a slice the next smaller and the next larger size."""
    kind, _, size = name.casefold().rpartition("-")
    names = catalog.instance_names()
    if kind and size.isdecimal():
        sizes = sorted(int(other[len(kind) + 1 :]) for other in names if re.fullmatch(rf"{re.escape(kind)}-\d+", other))
        smaller, larger = [n for n in sizes if n < int(size)], [n for n in sizes if n > int(size)]
        if sizes:
            return tuple(f"{kind}-{n}" for n in (*smaller[-1:], *larger[:1]))
    return accelerators.suggest(name, among=names)


def _find_exactly(catalog: "Catalog", name: str) -> tuple[tuple[str, ...], tuple[InstanceType, ...]] | None:
    """Find a name as `find_by_name` does, but without the names of other tools."""
    if found := accelerators.find(name):
        return tuple(accelerator.name for accelerator in found), ()
    if name.casefold() in map(str.casefold, catalog.accelerators()):
        # An accelerator that only a third party's offer table has.
        return tuple(other for other in catalog.accelerators() if other.casefold() == name.casefold()), ()
    if instances := catalog.instances(name):
        return (), instances
    # Some tools print "ND96isr_H100_v5" or "Standard ND96isr H100 v5" for "Standard_ND96isr_H100_v5".
    size = "_".join(name.split())
    instances = catalog.instances(size) or catalog.instances(f"Standard_{size}")
    return ((), instances) if instances else None


def _check_counts(
    spec: "ClusterSpec", names: Sequence[str], models: Mapping[str, int], types: Sequence[InstanceType]
) -> None:
    """Refuse a missing `gpus` for accelerators, and `gpus` for instance types without accelerators."""
    if spec.gpus is None and models and spec.workload is None:
        name = names[min(models.values())]
        raise SpecError(f'gpus: missing; write the total number of accelerators, such as gpus=8, type="{name}"')
    if spec.gpus is not None and not models and not any(instance.accelerators for instance in types):
        raise SpecError(
            f"gpus={spec.gpus}: {' and '.join(names)} has no accelerators; omit gpus and write nodes={spec.nodes or 1}"
        )


def _clouds(spec: "ClusterSpec", known: Sequence[str]) -> frozenset[str] | None:
    if spec.clouds is None:
        return None
    for cloud in spec.clouds:
        if cloud not in known:
            hint = did_you_mean(cloud.casefold(), known) or f"installed clouds: {', '.join(known)}"
            raise SpecError(f"clouds={cloud!r}: no such cloud; {hint}", hint=hint)
    return frozenset(spec.clouds)


def _check_image_places(spec: "ClusterSpec", catalog: "Catalog", known_clouds: Sequence[str]) -> None:
    """Refuse an image for a place that does not exist."""
    if spec.image is None or isinstance(spec.image, str):
        return
    from multicompute.spec import is_image_place

    for place in spec.image:
        if place not in known_clouds and not any(
            is_image_place(place, region.provider, region.name) for region in catalog.regions()
        ):
            raise unknown_place(place, catalog, argument="image", others=known_clouds)


def _places(spec: "ClusterSpec", catalog: "Catalog", zone_ids: Mapping[str, str]) -> Places | None:
    if not spec.regions:
        return None
    found = places_of(spec.regions, catalog, argument="regions", zone_ids=zone_ids)
    if spec.clouds is not None and not found.providers & set(spec.clouds):
        providers = ", ".join(sorted(found.providers))
        raise SpecError(
            f"regions={list(spec.regions)}: these are regions of {providers}, which clouds={list(spec.clouds)} excludes"
        )
    return found


def _configured(catalog: "Catalog", provider: str, entries: Collection[str], zone_ids: Mapping[str, str]) -> Places:
    """Return the regions and zones that the configuration names. They are exact names, which the session has checked."""
    regions = frozenset((provider, entry) for entry in entries)
    if regions <= {(region.provider, region.name) for region in catalog.regions()}:
        return Places(regions)
    names = {named_zone(entry, catalog, argument="regions", zone_ids=zone_ids) for entry in entries}
    zones = {(*key, zone) for key, zones in catalog.zones().items() if key[0] == provider for zone in zones}
    return Places(regions, frozenset(zone for zone in zones if zone[2].casefold() in names))


def _excluded(spec: "ClusterSpec", catalog: "Catalog", zone_ids: Mapping[str, str]) -> tuple[Places, tuple[str, ...]]:
    found, types = Places(), list[str]()
    for pattern in spec.exclude:
        glob = named_zone(pattern, catalog, argument="exclude", zone_ids=zone_ids)
        matches = places_matching(catalog, glob)
        if not matches.regions and any(fnmatchcase(name.casefold(), glob) for name in catalog.instance_names()):
            types.append(glob)
        elif any(matches):
            found = Places(found.regions | matches.regions, found.zones | matches.zones)
        else:
            raise _unknown_exclusion(pattern, catalog)
    return found, tuple(types)


def _unknown_exclusion(pattern: str, catalog: "Catalog") -> SpecError:
    if hint := did_you_mean(pattern.casefold(), catalog.instance_names(), count=2, cutoff=0.7):
        return SpecError(f"exclude={pattern!r}: no such region, zone or instance type; {hint}", hint=hint)
    return unknown_place(pattern, catalog, argument="exclude")
