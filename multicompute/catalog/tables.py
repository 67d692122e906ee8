"""Reads the offer tables of one provider, shard by shard; `docs/design/catalog.md` describes the layout."""

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

from multicompute.errors import CatalogError
from multicompute.offer import InstanceType, Listing, PriceBasis, Purchase, Quote, Region

CPU = "cpu"
"""The shard of the instance types without accelerators."""

SHARDS = ("shard", "types", "lines", "offers", "oldest", "newest")
INDEX = ("instance_type", "shard")
REGIONS = ("region", "residency", "country", "partition")
ZONES = ("region", "zones")
SOURCES = ("key", "source")
TYPES = (
    "instance_type",
    "accelerators",
    "accelerator_memory_gib",
    "vcpus",
    "memory_gib",
    "hosts",
    "network_gbps",
    "fabric",
    "arch",
    "network_cards",
    "attached",
    "retired",
    "purchases",
    "source",
)
OFFERS = ("instance_type", "accelerators", "region", "purchase", "hourly_usd", "as_of", "basis", "source", "zones")

_PURCHASES: Mapping[str, Purchase] = {"on_demand": "on_demand", "spot": "spot", "flex_start": "flex_start"}
_BASES: Mapping[str, PriceBasis] = {"list": "list", "estimate": "estimate"}
_BOOLEANS = {"true": True, "false": False}
_ARCHES = frozenset({"x86_64", "arm64"})

_Types = Mapping[tuple[str, str], InstanceType]
_T = TypeVar("_T")


class Shard(NamedTuple):
    """The summary of a shard, from `shards.csv`: available without reading the shard."""

    name: str
    types: int
    lines: int
    offers: int
    oldest: date | None
    newest: date | None


class Tables:
    """The offer tables of one provider. Each file is read when it is first needed, and only once.

    Args:
        provider: The name of the provider.
        path: The folder of the tables.
    """

    def __init__(self, provider: str, path: Path) -> None:
        """Keep the folder; a table is read when it is first needed."""
        self.provider = provider
        self.path = path
        self._types: dict[str, _Types] = {}
        self._listings: dict[str, tuple[Listing, ...]] = {}

    @cached_property
    def shards(self) -> Mapping[str, Shard]:
        """The summary of each shard by name."""
        found: dict[str, Shard] = {}
        path = self.path / "shards.csv"
        for line, row in rows(path, SHARDS):
            shard = _parsed(path, line, row, _shard)
            if shard.name in found:
                raise _malformed(path, line, f"shard {shard.name!r} is listed twice")
            found[shard.name] = shard
        return found

    @cached_property
    def regions(self) -> Mapping[str, Region]:
        """The regions by name."""
        path = self.path / "regions.csv"
        found: dict[str, Region] = {}
        for line, (name, residency, country, partition) in rows(path, REGIONS):
            if name in found or not name or not residency:
                raise _malformed(path, line, f"region {name!r}: must be unique, with a residency")
            found[name] = Region(self.provider, name, residency, country, partition)
        return found

    @cached_property
    def zones(self) -> Mapping[str, tuple[str, ...]]:
        """The zones of each region by its name, without regions that have none.

        They are in `zones.csv`. That file is optional: without it, they are the zones that the offers name.
        """
        path, found = self.path / "zones.csv", dict[str, set[str]]()
        if path.exists():
            lines = (row for _, row in rows(path, ZONES))
        else:
            offers = (self.path / shard / "offers.csv" for shard in self.shards)
            lines = ([row[2], row[-1]] for offer in offers for _, row in rows(offer, OFFERS))
        for region, zones in lines:
            if zones:
                found.setdefault(region, set()).update(zones.split(";"))
        return {region: tuple(sorted(zones)) for region, zones in sorted(found.items())}

    @cached_property
    def sources(self) -> Mapping[str, str]:
        """The sources by the keys that the tables use for them."""
        return {key: text for _, (key, text) in rows(self.path / "sources.csv", SOURCES)}

    @cached_property
    def index(self) -> tuple[tuple[str, str], ...]:
        """The name and shard of each instance type; a name can be in several shards (other attached accelerators)."""
        return tuple((name, shard) for _, (name, shard) in rows(self.path / "index.csv", INDEX))

    def types(self, shard: str) -> _Types:
        """Return the instance types of a shard by name and number of accelerators, both as written in the table."""
        if shard not in self._types:
            self._types[shard] = self._read_types(shard)
        return self._types[shard]

    def listings(self, shard: str) -> tuple[Listing, ...]:
        """Return the lines of a shard, sorted by region, instance type, accelerators and purchase; () without such a shard."""
        if shard not in self._listings:
            self._listings[shard] = self._read_listings(shard) if shard in self.shards else ()
        return self._listings[shard]

    def _read_types(self, shard: str) -> _Types:
        path = self.path / shard / "types.csv"
        found: dict[tuple[str, str], InstanceType] = {}
        accelerator = "" if shard == CPU else shard
        for line, row in rows(path, TYPES):
            key = (row[0], row[1])
            if key in found:
                raise _malformed(path, line, f"{row[0]} with {row[1]} accelerators is listed twice")
            found[key] = _parsed(path, line, row, lambda row: _instance(row, self.provider, accelerator))
        return found

    def _read_listings(self, shard: str) -> tuple[Listing, ...]:
        path = self.path / shard / "offers.csv"
        types, regions, sources, dates = self.types(shard), self.regions, self.sources, _Dates()
        found: list[Listing] = []
        line, row = 1, [""]
        try:
            # A flat loop with dictionary accesses only, because it takes most of the time of a cold query. The cause of an
            # error is determined afterwards.
            for line, row in rows(path, OFFERS):
                name, count, region, purchase, price, as_of, basis, source, zones = row
                cost = float(price)
                if not 0.0 < cost < math.inf:
                    raise ValueError(price)
                quote = Quote(cost, dates[as_of], sources[source], _BASES[basis])
                names = tuple(zones.split(";")) if zones else ()
                found.append(Listing(types[name, count], regions[region], _PURCHASES[purchase], quote, names))
        except (KeyError, ValueError) as error:
            raise _malformed(path, line, self._describe_fault(row, shard)) from error
        found.sort(key=_order)
        return tuple(found)

    def _describe_fault(self, row: list[str], shard: str) -> str:
        """Describe what is wrong with a line of `offers.csv`."""
        name, count, region, purchase, price, as_of, basis, source, _ = row
        if (name, count) not in self.types(shard):
            return f"{name} with {count} accelerators is not in {shard}/types.csv"
        if region not in self.regions:
            return f"region {region!r} is not in regions.csv"
        if purchase not in _PURCHASES:
            return f"purchase {purchase!r} must be one of {', '.join(_PURCHASES)}"
        if source not in self.sources:
            return f"source {source!r} is not in sources.csv"
        if basis not in _BASES:
            return f"basis {basis!r} must be one of {', '.join(_BASES)}"
        try:
            date.fromisoformat(as_of)
        except ValueError:
            return f"as_of {as_of!r} must be a date, such as 2026-11-24"
        return f"hourly_usd {price!r} must be a positive number"


class _Dates(dict[str, date]):
    """Dates by their text; a table repeats a few of them on thousands of lines."""

    def __missing__(self, text: str) -> date:
        self[text] = found = date.fromisoformat(text)
        return found


def _order(listing: Listing) -> tuple[str, str, float, str]:
    instance = listing.instance
    return listing.region.name, instance.name, instance.accelerators, listing.purchase


def rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a table below its header, with their line numbers."""
    width = len(columns)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            if tuple(next(reader, ())) != columns:
                raise _malformed(path, 1, f"the columns must be {','.join(columns)}")
            for row in reader:
                if len(row) != width:
                    raise _malformed(path, reader.line_num, f"has {len(row)} fields instead of {width}")
                yield reader.line_num, row
    except FileNotFoundError as error:
        raise CatalogError(
            f"{path}: an offer table is missing",
            hint="install multicompute again, or set `catalog` in the configuration to a complete folder",
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CatalogError(f"{path}: can't be read: {error}", hint="fix or replace the file") from error


def _malformed(path: Path, line: int, what: str) -> CatalogError:
    return CatalogError(f"{path}, line {line}: {what}", hint="fix this line of the offer table")


def _parsed(path: Path, line: int, row: list[str], parse: Callable[[list[str]], _T]) -> _T:
    try:
        return parse(row)
    except (KeyError, ValueError) as error:
        raise _malformed(path, line, f"{row[0]}: invalid value: {error.args[0]}") from error


def _shard(row: list[str]) -> Shard:
    name, types, lines, offers, oldest, newest = row
    return Shard(name, int(types), int(lines), int(offers), _date(oldest), _date(newest))


def _date(text: str) -> date | None:
    return date.fromisoformat(text) if text else None


def _instance(row: list[str], provider: str, accelerator: str) -> InstanceType:
    name, count, memory, vcpus, ram, hosts, network, fabric, arch, cards, attached, retired, _, _ = row
    if arch not in _ARCHES:
        raise ValueError(arch)
    return InstanceType(
        provider=provider,
        name=name,
        accelerator=accelerator,
        accelerators=_number(count),
        accelerator_memory_gib=_number(memory),
        vcpus=int(vcpus or 0),
        memory_gib=_number(ram),
        hosts=int(hosts),
        network_gbps=_number(network),
        fabric=fabric,
        arch=arch,
        network_cards=int(cards or 0),
        attached=_BOOLEANS[attached],
        retired=_BOOLEANS[retired],
    )


def _number(text: str) -> float:
    number = float(text or 0.0)
    if not 0.0 <= number < math.inf:
        raise ValueError(text)
    return number
