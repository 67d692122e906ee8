"""Resolves the patterns that users write for regions and zones."""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, NamedTuple

from multicompute.errors import SpecError
from multicompute.validation import did_you_mean

if TYPE_CHECKING:
    from multicompute.catalog import Catalog

RegionKey = tuple[str, str]
"""Provider and region."""
ZoneKey = tuple[str, str, str]
"""Provider, region and zone."""

_ZONE_ID: Final = r"(?P<region>[a-z]+\d+)(?:-[a-z]+\d+)?-az\d+"
"""A zone id such as "use1-az4". Unlike a zone's name, it means the same place in every account."""


class Places(NamedTuple):
    """Complete regions, and single zones of other regions."""

    regions: frozenset[RegionKey] = frozenset()
    zones: frozenset[ZoneKey] = frozenset()

    def include(self, region: RegionKey, zone: str) -> bool:
        """Return whether a zone is one of the places."""
        return region in self.regions or (*region, zone) in self.zones

    @property
    def partial(self) -> frozenset[RegionKey]:
        """The regions of which only some zones are meant."""
        return frozenset((provider, region) for provider, region, _ in self.zones) - self.regions

    @property
    def providers(self) -> frozenset[str]:
        """The providers of all places."""
        return frozenset(place[0] for place in (*self.regions, *self.zones))


def places_of(
    patterns: Iterable[str], catalog: "Catalog", *, argument: str, zone_ids: Mapping[str, str] | None = None
) -> Places:
    """Return the regions and zones that match any of `patterns`.

    Args:
        patterns: Globs on names of regions ("us-*") or zones ("us-east-1[ab]"), or residencies ("eu"), each optionally
            after a cloud ("aws:us-east-?").
        catalog: The known regions and zones.
        argument: The name of the argument, for the message.
        zone_ids: Zone id in lower case -> the zone's name in the account.

    Raises:
        SpecError: A pattern matches no region or zone of any cloud; the message suggests similar ones.
    """
    found = Places()
    for pattern in patterns:
        matches = places_matching(catalog, named_zone(pattern, catalog, argument=argument, zone_ids=zone_ids or {}))
        if not any(matches):
            raise unknown_place(pattern, catalog, argument=argument)
        found = Places(found.regions | matches.regions, found.zones | matches.zones)
    return found


@functools.lru_cache(maxsize=256)
def places_matching(catalog: "Catalog", pattern: str) -> Places:
    """Return what one pattern in lower case matches: a residency, otherwise regions by name, otherwise zones by name."""
    provider, colon, name = pattern.rpartition(":")
    regions = [region for region in catalog.regions() if not colon or region.provider == provider]
    found = {(region.provider, region.name) for region in regions if region.residency == name}
    found = found or {(region.provider, region.name) for region in regions if fnmatchcase(region.name.casefold(), name)}
    return Places(frozenset(found)) if found else Places(zones=_zones_matching(catalog, pattern))


def _zones_matching(catalog: "Catalog", pattern: str) -> frozenset[ZoneKey]:
    provider, colon, name = pattern.rpartition(":")
    return frozenset(
        (*key, zone)
        for key, zones in catalog.zones().items()
        if not colon or key[0] == provider
        for zone in zones
        if fnmatchcase(zone.casefold(), name)
    )


def named_zone(pattern: str, catalog: "Catalog", *, argument: str, zone_ids: Mapping[str, str]) -> str:
    """Return a pattern in lower case, a zone id replaced by the name that the zone has in the account.

    Raises:
        SpecError: It is a zone id that `zone_ids` does not have.
    """
    provider, colon, name = pattern.casefold().rpartition(":")
    match = re.fullmatch(_ZONE_ID, name)
    if match is None:
        return f"{provider}{colon}{name}"
    if name in zone_ids:
        return f"{provider}{colon}{zone_ids[name]}".casefold()
    regions = [region.name for region in catalog.regions() if _abbreviation(region.name) == match["region"]]
    where = f" of {regions[0]}" if regions else ""
    zones = [zone for (_, region), names in catalog.zones().items() if region in regions for zone in names]
    hint = f"write the zone's name, such as {argument}={zones[0]!r}" if zones else "write the zone's name"
    what = f"is a zone id, and which zone{where} it is depends on the account"
    raise SpecError(f"{argument}={pattern!r}: {what}; {hint}", hint=hint)


def regions_of_zone_ids(patterns: Iterable[str], catalog: "Catalog") -> set[RegionKey]:
    """Return the regions whose zone ids are among the patterns, which are known only of an account."""
    names = (pattern.casefold().rpartition(":")[2] for pattern in patterns)
    areas = {match["region"] for name in names if (match := re.fullmatch(_ZONE_ID, name))}
    return {(region.provider, region.name) for region in catalog.regions() if _abbreviation(region.name) in areas}


def _abbreviation(region: str) -> str:
    """Return the form that a region's name has in zone ids: "use1" for "us-east-1", "apne2" for "ap-northeast-2"."""
    area, _, rest = region.partition("-")
    words = re.sub(r"(north|south)(east|west)", r"\1-\2", rest).split("-")
    return area + "".join(word[:1] for word in words)


class UnknownEntry(NamedTuple):
    """A configured region or zone that its provider does not have, and which ones may be meant."""

    entry: str
    hint: str


def unknown_entry(provider: str, entries: Iterable[str], catalog: "Catalog") -> UnknownEntry | None:
    """Return the first configured region or zone that its provider does not have, None if it has all.

    Providers without tables have unknown regions. The names of zones behind zone ids are known only of an account.
    """
    regions = {region.name.casefold() for region in catalog.regions() if region.provider == provider}
    zones = {zone.casefold() for (name, _), names in catalog.zones().items() if name == provider for zone in names}
    for entry in entries if regions else ():
        name = entry.casefold()
        if name not in regions | zones and not re.fullmatch(_ZONE_ID, name):
            near = did_you_mean(name, [*regions, *zones], count=3)
            return UnknownEntry(entry, near or f"regions are such as {', '.join(sorted(regions)[:3])}")
    return None


def unknown_place(pattern: str, catalog: "Catalog", *, argument: str, others: Sequence[str] = ()) -> SpecError:
    """Return the error for a pattern that matches no region and no zone; `others` are further names that may be meant."""
    provider, _, name = pattern.casefold().rpartition(":")
    providers = sorted({region.provider for region in catalog.regions()})
    if provider and provider not in providers:
        near = did_you_mean(provider, providers).removesuffix("?")
        hint = f"{near}:{name}?" if near else f"known clouds: {', '.join(providers)}"
        return SpecError(f"{argument}={pattern!r}: no cloud is named {provider!r}; {hint}", hint=hint)
    if name in providers:
        return SpecError(f"{argument}={pattern!r}: is a cloud, not a region; write {argument}={name + ':*'!r}")
    names = sorted({region.name for region in catalog.regions() if not provider or region.provider == provider})
    residencies = sorted({region.residency for region in catalog.regions()})
    zones = _zones_near(name, catalog)
    otherwise = 'write a region, a zone, a glob such as "us-*", or a residency such as "eu"'
    near = (
        f"did you mean {' or '.join(zones)}?"
        if zones
        else did_you_mean(name, [*names, *(others or residencies)], count=3)
    )
    hint = near or otherwise
    return SpecError(f"{argument}={pattern!r}: no such {'zone' if zones else 'region'}; {hint}", hint=hint)


def _zones_near(name: str, catalog: "Catalog") -> list[str]:
    """Return up to three zones of the region that a name begins with, or the region if it has no known zones."""
    for _, region in sorted({(-len(region.name), region.name) for region in catalog.regions()}):
        if re.fullmatch(rf"{re.escape(region)}-?[a-z0-9]", name):
            zones = [zone for (_, other), names in catalog.zones().items() if other == region for zone in names]
            return zones[-3:] or [region]
    return []
