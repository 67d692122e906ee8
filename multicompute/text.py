"""Lays out plain text: tables and paragraphs."""

from collections.abc import Sequence


def table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset(), width: int = 100
) -> str:
    """Align `rows` under `headers`, two spaces between columns; columns in which nothing stands are left out.

    Args:
        headers: one for each column.
        rows: of as many cells.
        right: the columns that are set flush right.
        width: at most so many characters a line; the widest columns are shortened until it fits.
    """
    shown = [index for index in range(len(headers)) if not rows or any(row[index] for row in rows)]
    lines = [[line[index] for index in shown] for line in (headers, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(shown))]
    while sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    flush = [index in right for index in shown]
    return "\n".join(
        "  ".join(
            _cell(cell, size, flush_right=end) for cell, size, end in zip(line, widths, flush, strict=True)
        ).rstrip()
        for line in lines
    )


def wrap(text: str, *, width: int = 100, first: str = "", rest: str = "") -> list[str]:
    """Break `text` into lines of at most `width`, `first` in front of the first and `rest` in front of the others."""
    # Only for people: textwrap takes a millisecond to import, a tenth of a whole cold query.
    from textwrap import wrap as broken

    return broken(text, width, initial_indent=first, subsequent_indent=rest)


def _cell(text: str, size: int, *, flush_right: bool) -> str:
    if len(text) > size:
        # In the middle: what tells two names apart stands at their ends.
        head = size // 2
        text = f"{text[:head]}…{text[len(text) - size + head + 1 :]}"
    return text.rjust(size) if flush_right else text.ljust(size)
