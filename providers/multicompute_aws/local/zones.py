"""The names of an account for its zones, and what the zones sell to it."""

import hashlib
from collections.abc import Iterable, Mapping

from multicompute_aws.local.hardware import zone_ids, zones_of

Offering = tuple[str, str]
"""An instance type and the place that sells it."""


class ZoneNames:
    """The names that an account has for the zones of each region."""

    def __init__(self) -> None:
        """Start with the names of moto's listings."""
        self._seed: int | str | None = None

    def draw(self, seed: int | str) -> None:
        """Draw other names, the same for the same seed."""
        self._seed = seed

    @property
    def are_drawn(self) -> bool:
        """Return whether the names are not those of moto's listings."""
        return self._seed is not None

    def names(self, region: str) -> Mapping[str, str]:
        """Return the account's name of each zone of a region -> the zone's name in moto's listings."""
        physical = sorted(zone_ids(region))
        drawn = physical
        if self._seed is not None:
            drawn = sorted(physical, key=lambda zone: hashlib.sha256(f"{self._seed} {zone}".encode()).digest())
        return dict(zip(physical, drawn, strict=True))


def offered_in(region: str, zones: ZoneNames, withdrawn: Iterable[Offering]) -> Mapping[str, frozenset[str]]:
    """Return instance type -> the zones that sell it, under the names of the account and without what was withdrawn."""
    sold = zones_of(region)
    if zones.are_drawn:
        names = {physical: name for name, physical in zones.names(region).items()}
        sold = {name: frozenset(names.get(zone, zone) for zone in found) for name, found in sold.items()}
    gone = [item for item in withdrawn if item[1].startswith(region)]
    if not gone:
        return sold
    left = dict(sold)
    for instance_type, place in gone:
        rest = frozenset() if place == region else left.get(instance_type, frozenset()) - {place}
        left.pop(instance_type, None)
        if rest:
            left[instance_type] = rest
    return left
