"""Read the tables of docs/reliability.md: the outcomes of the troubles at each call, with counts."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "reliability.md"
Cell = tuple[str, str, str, str]
"""Cloud, operation, call and column."""
Outcomes = tuple[Counter[str], Counter[str]]
"""Outcomes with counts: if the trouble occurred once, and if it occurred for good."""
_NO_OUTCOMES: Outcomes = (Counter(), Counter())


def outcomes(cells: Mapping[Cell, Outcomes], cell: Cell, *, once: bool) -> Counter[str]:
    """Return the outcomes that the page has for a cell."""
    return cells.get(cell, _NO_OUTCOMES)[0 if once else 1]


def read(text: str) -> dict[Cell, Outcomes]:
    """Return all cells that are not empty."""
    cells: dict[Cell, Outcomes] = {}
    cloud = operation = ""
    columns: list[str] = []
    for line in text.splitlines():
        if found := re.fullmatch(r"## .* \((\w+)\)", line):
            cloud = found[1]
        elif line.startswith("### "):
            operation, columns = line.removeprefix("### "), []
        elif cloud and line.startswith("| "):
            call, *texts = [part.strip() for part in line.strip("|").split(" | ")]
            if not columns:
                columns = texts
            elif not call.startswith("---"):
                name = call.strip("`")
                cells |= {
                    (cloud, operation, name, key): _outcomes(one)
                    for key, one in zip(columns, texts, strict=True)
                    if one
                }
    return cells


def _outcomes(text: str) -> Outcomes:
    once, _, for_good = text.partition(" / ")
    return _counts(once), _counts(for_good)


def _counts(text: str) -> Counter[str]:
    found = (part.rpartition(" ") for part in text.split(", ") if part not in ("", "-"))
    return Counter({outcome: int(count) for outcome, _, count in found})
