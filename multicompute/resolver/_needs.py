"""Finds out which prices a plan compares, so that no others are refreshed for it."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import date
from typing import TYPE_CHECKING

from multicompute.resolver._constraints import Constraints, read_constraints

if TYPE_CHECKING:
    from multicompute.catalog import Catalog
    from multicompute.offer import Listing
    from multicompute.spec import ClusterSpec


def needed_prices(
    spec: "ClusterSpec", catalog: "Catalog", *, only: Mapping[str, Collection[str]], fresh_since: date
) -> Mapping[tuple[str, str], frozenset[str]]:
    """Return the prices that a plan compares and that are older than allowed, as (provider, accelerator) -> regions.

    Args:
        spec: The request. Its reservations are ignored: they have prices of their own.
        catalog: The offers.
        only: Provider -> the only regions and zones to use, where the configuration names some.
        fresh_since: Prices of this day and of later ones are not too old.

    Raises:
        SpecError: The spec names something unknown or contradicts itself.
    """
    if not spec.type and spec.workload is None:
        return {}
    constraints = read_constraints(
        spec,
        catalog,
        known_clouds=spec.clouds or catalog.providers,
        reservations=(),
        only=only,
        zone_ids={},
        tag_problems={},
        image_required={},
        ceiling=None,
    )
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for accelerator in constraints.shards:
        for listing in catalog.listings(accelerator):
            if listing.quote.as_of < fresh_since and _is_compared(listing, constraints):
                found[listing.instance.provider, accelerator].add(listing.region.name)
    return {key: frozenset(regions) for key, regions in found.items()}


def _is_compared(listing: "Listing", constraints: Constraints) -> bool:
    provider, region = listing.instance.provider, listing.region.name
    if listing.purchase not in constraints.purchases or provider not in (constraints.clouds or (provider,)):
        return False
    zones = listing.zones or constraints.zones.get((provider, region), ("",))
    return any(constraints.place_rejection((provider, region), zone) is None for zone in zones)
