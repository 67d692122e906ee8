"""Formats plain text as tables, bars and paragraphs."""

from collections.abc import Sequence
from typing import Final

_EIGHTHS: Final = " ▏▎▍▌▋▊▉"


def table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset(), width: int = 100
) -> str:
    """Format `rows` under `headers`, with two spaces between columns. Columns without any content are omitted.

    Args:
        headers: The header of each column.
        rows: The cells of each row, one per column.
        right: The columns to align right.
        width: The maximum number of characters per line; the widest columns are shortened until the table fits.
    """
    shown = [index for index in range(len(headers)) if not rows or any(row[index] for row in rows)]
    lines = [[line[index] for index in shown] for line in (headers, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(shown))]
    while sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return "\n".join(
        "  ".join(
            _cell(cell, size, is_right=index in right) for cell, size, index in zip(line, widths, shown, strict=True)
        ).rstrip()
        for line in lines
    )


def bar(share: float, size: int, *, blocks: bool) -> str:
    """Draw a share, from 0 to 1, as a bar of at most `size` characters: in eighths of a block, or with "#"."""
    if not blocks:
        return "#" * round(share * size)
    full, eighths = divmod(round(share * size * 8), 8)
    return "█" * full + _EIGHTHS[eighths].strip()


def wrap(text: str, *, first: str = "", rest: str = "") -> list[str]:
    """Break `text` into lines of at most 100 characters, starting with `first` and then `rest`."""
    # Imported here: programs do not need it, and importing it takes 1 ms, a tenth of a cold query.
    from textwrap import wrap as break_lines

    return break_lines(text, 100, initial_indent=first, subsequent_indent=rest)


def _cell(text: str, size: int, *, is_right: bool) -> str:
    if len(text) > size:
        # Cut in the middle, because names usually differ at their ends.
        head = size // 2
        text = f"{text[:head]}…{text[len(text) - size + head + 1 :]}"
    return text.rjust(size) if is_right else text.ljust(size)
