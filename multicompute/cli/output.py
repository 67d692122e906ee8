"""Writes results to stdout, and everything else that people read to stderr."""

import errno
import os
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

RIGHT = ">"
"""In front of a column's title: its cells are aligned right."""


def write_message(message: str) -> None:
    """Write a message for people to stderr; it is never part of the result.

    A message that can't be written is dropped: a closed terminal must not stop what the command does.
    """
    try:
        print(message, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        # What is buffered would fail once more when the interpreter exits, and change the exit status. ValueError: closed.
        drop_output(sys.stderr)


def is_closed(stream: TextIO, error: OSError) -> bool:
    """Return whether `error` means that the terminal or the pipe of `stream` was closed."""
    if isinstance(error, BrokenPipeError):
        return True
    # A disk that fails gives the same code.
    return error.errno == errno.EIO and stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)


def drop_output(stream: TextIO) -> None:
    """Let `stream` write to the null device: the interpreter flushes it once more when it exits."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def confirm(question: str) -> bool:
    """Ask a question on the terminal, and return whether the answer is yes."""
    write_message(f"{question} [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def write_json(document: object) -> None:
    """Write the one JSON document of a command: indented on a terminal, on one line elsewhere."""
    # Imported here: most people read tables.
    import json

    print(json.dumps(document, allow_nan=False, indent=2 if sys.stdout.isatty() else None))


def write_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, styles: Sequence[str] = ()) -> None:
    """Write rows under titles.

    Args:
        columns: The titles; the cells of a column whose title starts with ">" are aligned right.
        rows: The cells, as many in each row as there are columns.
        styles: The style of each row on a terminal, as rich names it ("bold red"), or "".
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
    # Imported here: it takes 60 ms, which only a person at a terminal waits for.
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
