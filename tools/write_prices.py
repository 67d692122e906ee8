"""Writes the tables of docs/prices.md from the packaged offer tables: the cheapest of each accelerator, and where the prices are from."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from multicompute import accelerators, plugins
from multicompute.catalog import Catalog
from multicompute.offer import Listing, Purchase

PAGE = Path(__file__).parents[1] / "docs" / "prices.md"
MARK = "<!-- From here on written by `make docs`; change the offer tables instead. -->\n"
TITLES: tuple[tuple[Purchase, str], ...] = (("on_demand", "On demand"), ("spot", "Spot"))


def tables() -> str:
    """The generated part of the page."""
    catalog = Catalog({name: plugin.tables for name, plugin in plugins.discover().items()})
    parts = []
    for purchase, title in TITLES:
        rows = [row for name in _in_order(catalog) for row in _row(catalog, name, purchase)]
        parts.append(f"\n## {title}\n\n" + _table(["accelerator", "memory", *catalog.providers], rows))
    parts.append("\n## How old they are\n\n" + _table(["provider", "offers", "oldest", "newest"], _ages(catalog)))
    parts.append("\n## Where they are from\n\n" + _table(["provider", "lines", "basis", "source"], _sources(catalog)))
    return "".join(parts)


def _in_order(catalog: Catalog) -> list[str]:
    """Accelerators by kind, and in each kind the largest memory first."""
    known = [found for name in catalog.accelerators() if (found := accelerators.get(name))]
    return [found.name for found in sorted(known, key=lambda each: (each.kind, -each.memory_gib, each.name))]


def _row(catalog: Catalog, name: str, purchase: Purchase) -> Iterator[list[str]]:
    found = accelerators.get(name)
    cells = [_cheapest(catalog.listings(name, provider=provider), purchase) for provider in catalog.providers]
    if found is not None and any(cells):
        yield [f"`{name}`", f"{found.memory_gib:g} GiB", *cells]


def _cheapest(listings: Sequence[Listing], purchase: Purchase) -> str:
    """The lowest price for one accelerator, with its machine, region and date; "~" where it is an estimate."""
    sold = [
        line
        for line in listings
        if line.purchase == purchase and line.instance.accelerators >= 1 and not line.instance.retired
    ]
    if not sold:
        return ""
    best = min(sold, key=_rank)
    about = "" if best.quote.basis == "list" else "~"
    return f"{about}${_price(best):,.2f} `{best.instance.name}` {best.region.name}, {best.quote.as_of}"


def _rank(line: Listing) -> tuple[object, ...]:
    """Cheapest first; of equal prices the surer one, and then the smallest machine."""
    instance = line.instance
    return round(_price(line), 4), line.quote.basis != "list", instance.accelerators, line.region.name, instance.name


def _price(line: Listing) -> float:
    return line.quote.hourly_cost / line.instance.accelerators


def _ages(catalog: Catalog) -> list[list[str]]:
    return [
        [each.provider, f"{each.offers:,}", str(each.oldest), str(each.newest)] for each in catalog.info().providers
    ]


def _sources(catalog: Catalog) -> list[list[str]]:
    lines = [line for name in ("", *catalog.accelerators()) for line in catalog.listings(name)]
    counted = Counter((line.instance.provider, line.quote.basis, line.quote.source) for line in lines)
    return [
        [provider, f"{number:,}", basis, source]
        for (provider, basis, source), number in sorted(
            counted.items(), key=lambda item: (item[0][0], -item[1], item[0])
        )
    ]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page(kept: str) -> str:
    """The whole page: what was written by hand, and the tables."""
    return kept.partition(MARK)[0] + MARK + tables()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
