"""Writes the tables of docs/reliability.md from what a run of the fault campaign has left in a folder; see `make reliability`."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
MARK = "<!-- From here on written by `make reliability`. -->\n"
TITLES = {
    "aws": "Amazon EC2 (aws)",
    "gcp": "Google Cloud, machines (gcp)",
    "tpu": "Google Cloud, TPU slices (tpu)",
    "azure": "Microsoft Azure (azure)",
}


class Row(NamedTuple):
    """So many cases of a cell came to this end."""

    world: str
    operation: str
    call: str
    column: str
    once: bool
    end: str
    cases: int


def page(rows: Sequence[Row], operations: Sequence[str], columns: Sequence[str], *, in_all: int) -> str:
    """The generated part of the page."""
    run = sum(row.cases for row in rows)
    parts = [f"\nThe tables show {run:,} of the {in_all:,} cases that there are.\n"]
    for world, title in TITLES.items():
        parts.append(f"\n## {title}\n")
        for operation in operations:
            mine = [row for row in rows if (row.world, row.operation) == (world, operation)]
            if mine:
                parts.append(f"\n### {operation}\n\n" + "\n".join(_table(mine, columns)) + "\n")
    return "".join(parts)


def _table(rows: Sequence[Row], columns: Sequence[str]) -> Iterator[str]:
    used = [column for column in columns if any(row.column == column for row in rows)]
    yield _line("call", *used)
    yield _line(*["---"] * (1 + len(used)))
    for call in sorted({row.call for row in rows}):
        mine = [row for row in rows if row.call == call]
        yield _line(f"`{call}`", *(_cell(row for row in mine if row.column == column) for column in used))


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(rows: Iterable[Row]) -> str:
    found = list(rows)
    if not found:
        return ""
    return " / ".join(_ends(row for row in found if row.once is once) for once in (True, False))


def _ends(rows: Iterable[Row]) -> str:
    return ", ".join(f"{row.end} {row.cases}" for row in sorted(rows, key=lambda row: (-row.cases, row.end))) or "-"


def main(folder: Path) -> None:
    """Read what the run has left, and write the page."""
    documents = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    if {row[0] for document in documents for row in document["rows"]} != set(TITLES):
        sys.exit(f"{folder} does not hold a whole run of the campaign")
    rows = [Row(*row) for document in documents for row in document["rows"]]
    kept = PAGE.read_text().partition(MARK)[0]
    in_all = sum(document["in_all"] for document in documents)
    PAGE.write_text(kept + MARK + page(rows, documents[0]["operations"], documents[0]["columns"], in_all=in_all))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
