"""Reads a spec against the catalog: what its names mean, and whether a shape of machine meets it."""

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
from multicompute.resolver._places import Place, matching, places, unknown_region

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
    """A spec whose names have been looked up.

    Attributes:
        models: canonical accelerator name -> position in `type` of the first name that means it.
        types: instance type in lower case -> the same.
        shards: the accelerators to read from the catalog.
        purchases: the ways of buying that are allowed.
        clouds, places: those allowed, or None for all.
        excluded_places, excluded_types: those not allowed; types in lower case, as globs.
        only: provider -> the only regions that are configured, where there are such.
    """

    spec: "ClusterSpec"
    models: Mapping[str, int]
    types: Mapping[str, int]
    shards: tuple[str, ...]
    purchases: frozenset[Purchase]
    clouds: frozenset[str] | None
    places: frozenset[Place] | None
    excluded_places: frozenset[Place]
    excluded_types: tuple[str, ...]
    only: Mapping[str, Collection[str]]

    def position(self, shape: Shape) -> int | None:
        """Where in `type` the first name stands that means this shape; None when none does."""
        found = [
            position
            for position in (self.models.get(shape.instance.accelerator), self.types.get(shape.key))
            if position is not None
        ]
        return min(found) if found else None

    def nodes(self, shape: Shape) -> int:
        """How many nodes of this shape the gang has."""
        if self.spec.nodes is not None:
            return self.spec.nodes
        numerator, denominator = shape.per_node
        if self.spec.gpus is None or not numerator:
            return 1
        return -(-self.spec.gpus * denominator // numerator)

    def rejection_reason(self, shape: Shape) -> str | None:
        """The first reason why no offer of this shape will do, whatever place and price; None when there is none."""
        if self.position(shape) is None:
            # Shelves hold one accelerator each, so this one was read for an instance type on it.
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

    def place_rejection(self, place: Place) -> str | None:
        """The first reason why a region will not do."""
        if self.places is not None and place not in self.places:
            return reasons.OTHER_REGION
        if place in self.excluded_places:
            return reasons.EXCLUDED_REGION
        if place[1] not in self.only.get(place[0], (place[1],)):
            return reasons.REGION_NOT_CONFIGURED
        return None

    def cost_rejection(self, hourly_cost: float, unit_price: float) -> str | None:
        """The first of the limits on money that a gang at this price breaks; a budget ends a cluster and forbids no offer."""
        spec = self.spec
        if spec.max_price is not None and unit_price > spec.max_price:
            return reasons.OVER_MAX_PRICE
        if spec.max_hourly is not None and hourly_cost > spec.max_hourly:
            return reasons.OVER_MAX_HOURLY
        return None


def read(
    spec: "ClusterSpec",
    catalog: "Catalog",
    *,
    known_clouds: Sequence[str],
    reservations: Sequence[Reservation],
    only: Mapping[str, Collection[str]],
) -> Constraints:
    """Look up the names in `spec`.

    Args:
        spec: what is wanted.
        catalog: where the names are looked up.
        known_clouds: every provider that is installed.
        reservations: those named in the spec, as far as they are known.
        only: provider -> the only regions that are to be used, where there are such.

    Raises:
        SpecError: a name means nothing, or what is asked for contradicts itself.
    """
    names = spec.type or tuple(dict.fromkeys(reservation.instance_type for reservation in reservations))
    if not names:
        raise SpecError(
            f"type: missing, and what is in reservation {spec.reservations[0]} is not known here; "
            'write an accelerator such as type="h100", or its instance type'
        )
    models, types, instances = _meanings(names, catalog)
    _check_counts(spec, names, models, instances)
    excluded_places, excluded_types = _excluded(spec, catalog)
    return Constraints(
        spec=spec,
        models=models,
        types=types,
        shards=tuple(dict.fromkeys((*models, *(instance.accelerator for instance in instances)))),
        purchases=_PURCHASES[spec.spot] | (frozenset({"flex_start"}) if spec.flex_start else frozenset()),
        clouds=_clouds(spec, known_clouds),
        places=_places(spec, catalog),
        excluded_places=excluded_places,
        excluded_types=excluded_types,
        only=only,
    )


def _meanings(
    names: Sequence[str], catalog: "Catalog"
) -> tuple[dict[str, int], dict[str, int], tuple[InstanceType, ...]]:
    """The models and the instance types meant, each with the position of the first name for it; and these types."""
    models: dict[str, int] = {}
    types: dict[str, int] = {}
    found: dict[InstanceType, None] = {}
    for position, name in enumerate(names):
        meant, instances = look_up(catalog, name)
        for model in meant:
            models.setdefault(model, position)
        for instance in instances:
            types.setdefault(instance.name.casefold(), position)
        found |= dict.fromkeys(instances)
    return models, types, tuple(found)


@functools.lru_cache(maxsize=256)
def look_up(catalog: "Catalog", name: str) -> tuple[tuple[str, ...], tuple[InstanceType, ...]]:
    """What one name in `type` means: accelerators by their canonical names, or else instance types.

    Raises:
        SpecError: nothing; says what to write instead.
    """
    if found := accelerators.find(name):
        return tuple(accelerator.name for accelerator in found), ()
    if name.casefold() in map(str.casefold, catalog.accelerators()):
        # An accelerator that only a third party's table knows.
        return tuple(other for other in catalog.accelerators() if other.casefold() == name.casefold()), ()
    if instances := catalog.instances(name):
        return (), instances
    if counted := accelerators.split_count(name):
        kind, count = counted
        raise SpecError(f'type={name!r}: the number goes into gpus; write gpus={count}, type="{kind.casefold()}"')
    near = accelerators.suggest(name, among=catalog.instance_names())
    hint = f"did you mean {' or '.join(near)}?" if near else "`multicompute offers` lists what there is"
    raise SpecError(f"type={name!r}: no such accelerator or instance type; {hint}", hint=hint)


def _check_counts(
    spec: "ClusterSpec", names: Sequence[str], models: Mapping[str, int], types: Sequence[InstanceType]
) -> None:
    """Refuse a number of accelerators that is missing, or asked of machines that have none."""
    if spec.gpus is None and models:
        name = names[min(models.values())]
        raise SpecError(f'gpus: missing; write how many in all, such as gpus=8, type="{name}"')
    if spec.gpus is not None and not models and not any(instance.accelerators for instance in types):
        raise SpecError(
            f"gpus={spec.gpus}: {' and '.join(names)} has no accelerators; leave gpus out and write nodes={spec.nodes or 1}"
        )


def _clouds(spec: "ClusterSpec", known: Sequence[str]) -> frozenset[str] | None:
    if spec.clouds is None:
        return None
    for cloud in spec.clouds:
        if cloud not in known:
            from difflib import get_close_matches

            near = get_close_matches(cloud.casefold(), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"installed are {', '.join(known)}"
            raise SpecError(f"clouds={cloud!r}: no such cloud; {hint}", hint=hint)
    return frozenset(spec.clouds)


def _places(spec: "ClusterSpec", catalog: "Catalog") -> frozenset[Place] | None:
    if not spec.regions:
        return None
    found = places(spec.regions, catalog, argument="regions")
    if spec.clouds is not None and not any(provider in spec.clouds for provider, _ in found):
        of = ", ".join(sorted({provider for provider, _ in found}))
        raise SpecError(
            f"regions={list(spec.regions)}: regions of {of} only, which clouds={list(spec.clouds)} leaves out"
        )
    return found


def _excluded(spec: "ClusterSpec", catalog: "Catalog") -> tuple[frozenset[Place], tuple[str, ...]]:
    regions: set[Place] = set()
    types: list[str] = []
    for pattern in spec.exclude:
        glob = pattern.casefold()
        if meant := matching(catalog, glob):
            regions |= meant
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
