"""Writes results to stdout, and everything else that people read to stderr."""

import argparse
import errno
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TextIO, cast

from multicompute.text import Narrowing, table_lines

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


def write_csv(records: Sequence[Mapping[str, object]], *, header: Sequence[str] = ()) -> None:
    """Write records as CSV with a header.

    Dates and figures are those of the JSON document. A list of words is joined by semicolons, pairs are "KEY=VALUE", and a list of
    records is their number.

    Args:
        records: The records, which all have the same keys.
        header: The keys, for a result without records.
    """
    # Imported here: most people read tables.
    import csv

    keys = list(records[0]) if records else header
    lines = csv.writer(sys.stdout, lineterminator="\n")
    if keys:
        lines.writerow(keys)
    lines.writerows([_csv_cell(value) for value in record.values()] for record in records)


def _csv_cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ";".join(f"{key}={_csv_cell(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        is_nested = any(isinstance(item, Mapping) for item in value)
        return str(len(value)) if is_nested else ";".join(map(_csv_cell, value))
    return str(value)


def wrote(
    options: argparse.Namespace,
    document: object,
    records: Sequence[Mapping[str, object]] | None = None,
    *,
    header: Sequence[str] = (),
) -> bool:
    """Write a result for programs, if one was asked for; return False if a table was.

    Args:
        options: The arguments, with those of `output_arguments`.
        document: The result as JSON.
        records: The result as lines of CSV; the document, a list, if omitted.
        header: The keys of the records, for a result without any.
    """
    if options.json:
        write_json(document)
    elif options.output == "csv":
        write_csv(records if records is not None else cast("Sequence[Mapping[str, object]]", document), header=header)
    return bool(options.json) or options.output == "csv"


def terminal_width() -> int:
    """Return the columns of the terminal; those of `COLUMNS` or else 80 where the output is no terminal."""
    # Imported here: it takes 10 ms, and JSON needs no width.
    from shutil import get_terminal_size

    return get_terminal_size().columns


def write_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    narrowing: Narrowing | None = None,
    wide: bool = False,
    styles: Sequence[str] = (),
) -> None:
    """Write rows under titles, within the width of the terminal.

    Args:
        columns: The titles; the cells of a column whose title starts with ">" are aligned right.
        rows: The cells, as many in each row as there are columns.
        narrowing: What to change if the table is too wide; if omitted, text in its last column is wrapped.
        wide: Write every column in full, on one line per row.
        styles: The style of each row on a terminal, as rich names it ("bold red"), or "".
    """
    titles = [column.removeprefix(RIGHT) for column in columns]
    cells = [[_printable(cell) for cell in row] for row in rows]
    right = frozenset(index for index, column in enumerate(columns) if column.startswith(RIGHT))
    width = None if wide else terminal_width()
    last_is_text = len(titles) - 1 not in right
    narrowing = narrowing or Narrowing(prose=titles[-1] if last_is_text else "")
    blocks = table_lines(titles, cells, right=right, width=width, narrowing=narrowing)
    if sys.stdout.isatty():
        _write_styled(blocks, ["bold", *(styles or [""] * len(rows))])
    else:
        print("\n".join(line for lines in blocks for line in lines))


def _printable(text: str) -> str:
    """Return a text on one line without control characters: a cloud's message must not move the cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _write_styled(blocks: Sequence[Sequence[str]], styles: Sequence[str]) -> None:
    # Imported here: it takes 60 ms, which only a person at a terminal waits for.
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout)
    for lines, style in zip(blocks, styles, strict=True):
        for line in lines:
            # The terminal folds what is too long, so that it can be copied in one piece.
            console.print(Text(line, style=style), soft_wrap=True)
