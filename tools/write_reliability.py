"""Writes the tables of docs/reliability.md from the results of a run of the fault campaign; see `make reliability`."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
MARK = "<!-- The rest is written by `make reliability`. -->\n"
SITUATIONS = "<!-- These tables are written by `make reliability`. -->\n"
TITLES = {
    "aws": "Amazon EC2 (aws)",
    "gcp": "Google Cloud, machines (gcp)",
    "tpu": "Google Cloud, TPU slices (tpu)",
    "azure": "Microsoft Azure (azure)",
}


class Case(NamedTuple):
    """An injected fault and its result."""

    world: str
    operation: str
    call: str
    at: int
    trouble: str
    column: str
    once: bool
    end: str


def situations(cases: Sequence[dict[str, str]]) -> str:
    """Return the tables of the situations that others bring about, one for each cloud."""
    columns = sorted({case["situation"] for case in cases})
    parts = []
    for cloud in dict.fromkeys(case["cloud"] for case in cases):
        found = {(case["operation"], case["situation"]): case["result"] for case in cases if case["cloud"] == cloud}
        lines = [
            _line("operation", *(column.replace("_", " ") for column in columns)),
            _line(*["---"] * (1 + len(columns))),
        ]
        for operation in sorted({operation for operation, _ in found}):
            lines.append(_line(f"`{operation}`", *(found.get((operation, column), "-") for column in columns)))
        parts.append(f"\n### {cloud}, situations\n\n" + "\n".join(lines) + "\n")
    return "".join(parts)


def page(cases: Sequence[Case], operations: Sequence[str], columns: Sequence[str]) -> str:
    """Return the generated part of the page."""
    parts = [f"\nThe tables show {len(cases):,} cases.\n"]
    for world, title in TITLES.items():
        parts.append(f"\n## {title}\n")
        for operation in operations:
            mine = [case for case in cases if (case.world, case.operation) == (world, operation)]
            if mine:
                parts.append(f"\n### {operation}\n\n" + "\n".join(_table(mine, columns)) + "\n")
    return "".join(parts)


def _table(cases: Sequence[Case], columns: Sequence[str]) -> Iterator[str]:
    used = [column for column in columns if any(case.column == column for case in cases)]
    yield _line("call", *used)
    yield _line(*["---"] * (1 + len(used)))
    for call in sorted({case.call for case in cases}):
        mine = [case for case in cases if case.call == call]
        yield _line(f"`{call}`", *(_cell([case for case in mine if case.column == column]) for column in used))


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cases: Sequence[Case]) -> str:
    return " / ".join(_ends(case for case in cases if case.once is once) for once in (True, False)) if cases else ""


def _ends(cases: Iterable[Case]) -> str:
    counts = Counter(case.end for case in cases)
    return (
        ", ".join(f"{end} {count}" for end, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))) or "-"
    )


def main(folder: Path) -> None:
    """Read the results of the run in `folder`, and write the page."""
    documents = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    cases = [Case(*case) for document in documents for case in document["cases"]]
    operations, columns = documents[0]["operations"], documents[0]["columns"]
    if {(case.world, case.operation) for case in cases} != set(product(TITLES, operations)):
        sys.exit(f"{folder}: the results of the campaign are incomplete")
    kept = PAGE.read_text().partition(MARK)[0]
    PAGE.write_text(kept + MARK + page(cases, operations, columns))


def write_situations(folder: Path) -> None:
    """Write the section on situations from the results in `folder`; without any, it stays."""
    cases = [json.loads(path.read_text()) for path in sorted(folder.glob("situations/*.json"))]
    if not cases:
        return
    before, _, rest = PAGE.read_text().partition(SITUATIONS)
    after = rest.partition(MARK)[2]
    PAGE.write_text(before + SITUATIONS + situations(cases) + "\n" + MARK + after)


if __name__ == "__main__":
    write_situations(Path(sys.argv[1]))
    main(Path(sys.argv[1]))
