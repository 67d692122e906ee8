"""Writes results to stdout and everything meant for people beside them to stderr."""

import json
import sys
from collections.abc import Sequence

RIGHT = ">"
"""In front of a column's title: its cells are numbers and stand to the right."""


def tell(message: str) -> None:
    """Say something to the person at the terminal; never part of the result."""
    print(message, file=sys.stderr, flush=True)


def write_json(document: object) -> None:
    """Write the one JSON document of a command, indented for a terminal and on one line for a program."""
    print(json.dumps(document, allow_nan=False, indent=2 if sys.stdout.isatty() else None))


def write_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, styles: Sequence[str] = ()) -> None:
    """Write rows under titles; a column whose title begins with ">" stands to the right.

    Args:
        styles: how each row looks on a terminal ("bold red"), in the words of rich; "" as usual.
    """
    if sys.stdout.isatty():
        _write_rich(columns, rows, styles or [""] * len(rows))
        return
    titles = [column.removeprefix(RIGHT) for column in columns]
    widths = [max(len(line[i]) for line in (titles, *rows)) for i in range(len(columns))]
    for line in (titles, *rows):
        cells = (
            cell.rjust(width) if column.startswith(RIGHT) else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        )
        print("  ".join(cells).rstrip())


def _write_rich(columns: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str]) -> None:
    # 60 ms to import: only for a person, who waits longer for the eye than for this.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            column.removeprefix(RIGHT), justify="right" if column.startswith(RIGHT) else "left", overflow="fold"
        )
    for row, style in zip(rows, styles, strict=True):
        table.add_row(*map(Text, row), style=style)
    Console(file=sys.stdout).print(table)
