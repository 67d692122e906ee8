"""Reads the tables of docs/reliability.md: what each call's troubles have come to, and how often."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "reliability.md"
Cell = tuple[str, str, str, str]
"""ProviderHarness, operation, call and column."""
Ends = tuple[Counter[str], Counter[str]]
"""What it came to, with counts: where the trouble came once, and where it came for good."""
_NO_ENDS: Ends = (Counter(), Counter())


def ends(cells: Mapping[Cell, Ends], cell: Cell, *, once: bool) -> Counter[str]:
    """What the troubles of a cell came to by the page."""
    return cells.get(cell, _NO_ENDS)[0 if once else 1]


def read(text: str) -> dict[Cell, Ends]:
    """All cells that say something."""
    cells: dict[Cell, Ends] = {}
    world = operation = ""
    columns: list[str] = []
    for line in text.splitlines():
        if found := re.fullmatch(r"## .* \((\w+)\)", line):
            world = found[1]
        elif line.startswith("### "):
            operation, columns = line.removeprefix("### "), []
        elif world and line.startswith("| "):
            call, *texts = [part.strip() for part in line.strip("|").split(" | ")]
            if not columns:
                columns = texts
            elif not call.startswith("---"):
                name = call.strip("`")
                cells |= {
                    (world, operation, name, key): _ends(one) for key, one in zip(columns, texts, strict=True) if one
                }
    return cells


def _ends(text: str) -> Ends:
    once, _, for_good = text.partition(" / ")
    return _counts(once), _counts(for_good)


def _counts(text: str) -> Counter[str]:
    found = (part.rpartition(" ") for part in text.split(", ") if part not in ("", "-"))
    return Counter({end: int(count) for end, _, count in found})
