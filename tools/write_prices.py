"""Writes the tables of docs/prices.md from the packaged offer tables: the lowest price per accelerator, and the sources of the prices."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from multicompute import accelerators, plugins
from multicompute.catalog import Catalog
from multicompute.offer import Listing, Purchase

PAGE = Path(__file__).parents[1] / "docs" / "prices.md"
MARK = "<!-- The rest is written by `make docs`. Change the offer tables instead. -->\n"
TITLES: tuple[tuple[Purchase, str], ...] = (("on_demand", "On demand"), ("spot", "Spot"))


def tables() -> str:
    """Return the generated part of the page."""
    catalog = Catalog({name: plugin.tables for name, plugin in plugins.discover().items()})
    parts = []
    for purchase, title in TITLES:
        rows = [row for name in _in_order(catalog) for row in _row(catalog, name, purchase)]
        parts.append(f"\n## {title}\n\n" + _table(["accelerator", "memory", *catalog.providers], rows))
    parts.append("\n## Age of the prices\n\n" + _table(["provider", "offers", "oldest", "newest"], _ages(catalog)))
    parts.append(
        "\n## Sources of the prices\n\n" + _table(["provider", "table rows", "basis", "source"], _sources(catalog))
    )
    return "".join(parts)


def _in_order(catalog: Catalog) -> list[str]:
    """Return the accelerators by kind, and in each kind those with the largest memory first."""
    known = [found for name in catalog.accelerators() if (found := accelerators.get(name))]
    return [found.name for found in sorted(known, key=lambda each: (each.kind, -each.memory_gib, each.name))]


def _row(catalog: Catalog, name: str, purchase: Purchase) -> Iterator[list[str]]:
    found = accelerators.get(name)
    cells = [_cheapest(catalog.listings(name, provider=provider), purchase) for provider in catalog.providers]
    if found is not None and any(cells):
        yield [f"`{name}`", f"{found.memory_gib:g} GiB", *cells]


def _cheapest(listings: Sequence[Listing], purchase: Purchase) -> str:
    """Return the lowest price of one accelerator with machine, region and date. "~" marks an estimate."""
    sold = [
        line
        for line in listings
        if line.purchase == purchase and line.instance.accelerators >= 1 and not line.instance.retired
    ]
    if not sold:
        return ""
    best = min(sold, key=_rank)
    mark = "" if best.quote.basis == "list" else "~"
    return f"{mark}${_price(best):,.2f} `{best.instance.name}` {best.region.name}, {best.quote.as_of}"


def _rank(line: Listing) -> tuple[object, ...]:
    """Rank by price; at the same price, list prices come before estimates, and small machines before large ones."""
    instance = line.instance
    return round(_price(line), 4), line.quote.basis != "list", instance.accelerators, line.region.name, instance.name


def _price(line: Listing) -> float:
    return line.quote.hourly_cost / line.instance.accelerators


def _ages(catalog: Catalog) -> list[list[str]]:
    return [[each.provider, f"{each.offers:,}", str(each.oldest), str(each.newest)] for each in catalog.info()]


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
    """Return the complete page: the text that was written by hand, and the tables."""
    return kept.partition(MARK)[0] + MARK + tables()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
