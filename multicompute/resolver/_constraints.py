"""The constraints of a spec: its names resolved against the catalog, and the checks of instance types against them."""

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from multicompute import accelerators
from multicompute.errors import SpecError
from multicompute.offer import InstanceType, Purchase
from multicompute.provider import Reservation
from multicompute.resolver import _reasons as reasons
from multicompute.resolver._catalog_index import Shape
from multicompute.resolver._regions import RegionKey, regions_matching, regions_of, unknown_region

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
        models: canonical accelerator name -> position in `type` of the first name that means it.
        types: instance type in lower case -> position in `type` of the first name that means it.
        shards: the accelerators to read from the catalog.
        purchases: the allowed purchase types.
        clouds, regions: the allowed ones; None for all.
        excluded_regions: the regions that are not allowed.
        excluded_types: globs on the instance types that are not allowed, in lower case.
        only: provider -> the only regions to use, where the configuration names some.
        is_reserved_only: whether offers that would be bought are rejected. False in a plan that does not know the reservations.
    """

    spec: "ClusterSpec"
    models: Mapping[str, int]
    types: Mapping[str, int]
    shards: tuple[str, ...]
    purchases: frozenset[Purchase]
    clouds: frozenset[str] | None
    regions: frozenset[RegionKey] | None
    excluded_regions: frozenset[RegionKey]
    excluded_types: tuple[str, ...]
    only: Mapping[str, Collection[str]]
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
        return self._shortage(shape)

    def _shortage(self, shape: Shape) -> str | None:
        spec = self.spec
        numerator, denominator = shape.per_node
        if spec.gpus is not None and not numerator:
            return reasons.NO_ACCELERATORS
        if spec.gpus_per_node is not None and shape.per_node != (spec.gpus_per_node, 1):
            return reasons.PER_NODE
        if spec.gpus is not None and self.nodes(shape) * numerator < spec.gpus * denominator:
            return reasons.TOO_FEW
        if spec.min_gpu_memory is not None and shape.memory_gib < spec.min_gpu_memory:
            return reasons.GPU_MEMORY
        if spec.vcpus is not None and shape.instance.vcpus < spec.vcpus:
            return reasons.VCPUS
        if spec.memory is not None and shape.instance.memory_gib < spec.memory:
            return reasons.MEMORY
        return None

    def region_rejection(self, region: RegionKey) -> str | None:
        """Return the first reason to reject a region, or None."""
        if self.regions is not None and region not in self.regions:
            return reasons.OTHER_REGION
        if region in self.excluded_regions:
            return reasons.EXCLUDED_REGION
        if region[1] not in self.only.get(region[0], (region[1],)):
            return reasons.REGION_NOT_CONFIGURED
        if self.spec.image is not None and self.spec.image_in(*region) is None:
            return reasons.NO_IMAGE
        return None

    def cost_rejection(self, hourly_cost: float, unit_price: float) -> str | None:
        """Return the first price limit that a gang exceeds, or None. A budget rejects no offer."""
        spec = self.spec
        if spec.max_price is not None and unit_price > spec.max_price:
            return reasons.OVER_MAX_PRICE
        if spec.max_hourly is not None and hourly_cost > spec.max_hourly:
            return reasons.OVER_MAX_HOURLY
        return None


def read_constraints(
    spec: "ClusterSpec",
    catalog: "Catalog",
    *,
    known_clouds: Sequence[str],
    reservations: Sequence[Reservation],
    only: Mapping[str, Collection[str]],
) -> Constraints:
    """Resolve the names in `spec`.

    Args:
        spec: the request.
        catalog: the known instance types and regions.
        known_clouds: all installed providers.
        reservations: those reservations of the spec that are known.
        only: provider -> the only regions to use, where the configuration names some.

    Raises:
        SpecError: a name is unknown, or the spec contradicts itself.
    """
    names = spec.type or tuple(dict.fromkeys(reservation.instance_type for reservation in reservations))
    if not names:
        raise SpecError(
            f"type: missing, and the instance type of reservation {spec.reservations[0]} is unknown; "
            'write an accelerator such as type="h100", or the instance type'
        )
    models, types, instances = _resolve_names(names, catalog)
    _check_counts(spec, names, models, instances)
    _check_image_places(spec, catalog, known_clouds)
    excluded_regions, excluded_types = _excluded(spec, catalog)
    return Constraints(
        spec=spec,
        models=models,
        types=types,
        shards=tuple(dict.fromkeys((*models, *(instance.accelerator for instance in instances)))),
        purchases=_PURCHASES[spec.spot] | (frozenset({"flex_start"}) if spec.flex_start else frozenset()),
        clouds=_clouds(spec, known_clouds),
        regions=_regions(spec, catalog),
        excluded_regions=excluded_regions,
        excluded_types=excluded_types,
        only=only,
        is_reserved_only=spec.reservations_only and bool(reservations),
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
        SpecError: the name is unknown; the message suggests what to write.
    """
    if found := accelerators.find(name):
        return tuple(accelerator.name for accelerator in found), ()
    if name.casefold() in map(str.casefold, catalog.accelerators()):
        # An accelerator that only a third party's offer table has.
        return tuple(other for other in catalog.accelerators() if other.casefold() == name.casefold()), ()
    if instances := catalog.instances(name):
        return (), instances
    if counted := accelerators.split_count(name):
        kind, count = counted
        raise SpecError(f'type={name!r}: contains a count; write gpus={count}, type="{kind.casefold()}"')
    near = accelerators.suggest(name, among=catalog.instance_names())
    hint = f"did you mean {' or '.join(near)}?" if near else "`multicompute offers` lists all types"
    raise SpecError(f"type={name!r}: no such accelerator or instance type; {hint}", hint=hint)


def _check_counts(
    spec: "ClusterSpec", names: Sequence[str], models: Mapping[str, int], types: Sequence[InstanceType]
) -> None:
    """Refuse a missing `gpus` for accelerators, and `gpus` for instance types without accelerators."""
    if spec.gpus is None and models:
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
            from difflib import get_close_matches

            near = get_close_matches(cloud.casefold(), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"installed clouds: {', '.join(known)}"
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
            raise unknown_region(place, catalog, argument="image", others=known_clouds)


def _regions(spec: "ClusterSpec", catalog: "Catalog") -> frozenset[RegionKey] | None:
    if not spec.regions:
        return None
    found = regions_of(spec.regions, catalog, argument="regions")
    if spec.clouds is not None and not any(provider in spec.clouds for provider, _ in found):
        providers = ", ".join(sorted({provider for provider, _ in found}))
        raise SpecError(
            f"regions={list(spec.regions)}: these are regions of {providers}, which clouds={list(spec.clouds)} excludes"
        )
    return found


def _excluded(spec: "ClusterSpec", catalog: "Catalog") -> tuple[frozenset[RegionKey], tuple[str, ...]]:
    regions: set[RegionKey] = set()
    types: list[str] = []
    for pattern in spec.exclude:
        glob = pattern.casefold()
        if matches := regions_matching(catalog, glob):
            regions |= matches
        elif any(fnmatchcase(name.casefold(), glob) for name in catalog.instance_names()):
            types.append(glob)
        else:
            raise _unknown_exclusion(pattern, catalog)
    return frozenset(regions), tuple(types)


def _unknown_exclusion(pattern: str, catalog: "Catalog") -> SpecError:
    from difflib import get_close_matches

    near = get_close_matches(pattern.casefold(), catalog.instance_names(), n=2, cutoff=0.7)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
        return SpecError(f"exclude={pattern!r}: no such region or instance type; {hint}", hint=hint)
    return unknown_region(pattern, catalog, argument="exclude")
