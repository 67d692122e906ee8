"""Formats plain text as tables, bars, paragraphs and short ids."""

from collections.abc import Sequence
from typing import Final, NamedTuple

_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_GAP: Final = 2
"""Spaces between two columns."""
_LEAST_PROSE: Final = 30
"""Other columns are left out before the text of a column of prose has fewer characters per line."""
_LEAST: Final = 16
"""Characters that a shortened cell keeps at least."""


class Narrowing(NamedTuple):
    """The changes that make a wide table narrower, in the order of the attributes.

    Attributes:
        prose: The title of the last column, if its text is to be wrapped between words.
        drop: The titles of the columns that are left out, the first one first.
        shorten: The titles of the columns whose cells are cut in the middle.
    """

    prose: str = ""
    drop: Sequence[str] = ()
    shorten: Sequence[str] = ()


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: frozenset[int] = frozenset(),
    width: int | None = 100,
    narrowing: Narrowing | None = None,
) -> str:
    """Format `rows` under `headers`; the arguments are those of `table_lines`."""
    found = table_lines(headers, rows, right=right, width=width, narrowing=narrowing)
    return "\n".join(line for lines in found for line in lines)


def table_lines(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: frozenset[int] = frozenset(),
    width: int | None = 100,
    narrowing: Narrowing | None = None,
) -> list[list[str]]:
    """Return the lines of the headers and of each row, with two spaces between columns. Columns without any content are omitted.

    Args:
        headers: The header of each column.
        rows: The cells of each row, one per column.
        right: The columns to align right.
        width: The maximum number of characters per line; None for no limit.
        narrowing: What to change if the table is wider; the widest columns are shortened if omitted. A cell that may not be changed,
            such as an id, is never folded or cut.
    """
    shown = [index for index in range(len(headers)) if not rows or any(row[index] for row in rows)]
    widths = {index: max(len(line[index]) for line in (headers, *rows)) for index in shown}
    prose = None
    if width is not None and narrowing is None:
        while _total(widths) > width and max(widths.values()) > 1:
            widths[max(widths, key=lambda index: widths[index])] -= 1
    elif width is not None and narrowing is not None:
        prose = _narrow(headers, widths, width, narrowing)
    return [_row_lines(line, widths, right, prose) for line in (headers, *rows)]


def bar(share: float, size: int, *, blocks: bool) -> str:
    """Draw a share, from 0 to 1, as a bar of at most `size` characters: in eighths of a block, or with "#"."""
    if not blocks:
        return "#" * round(share * size)
    full, eighths = divmod(round(share * size * 8), 8)
    return "█" * full + _EIGHTHS[eighths].strip()


def wrap(text: str, *, first: str = "", rest: str = "", width: int = 100) -> list[str]:
    """Break `text` between words into lines of at most `width` characters, starting with `first` and then `rest`."""
    # Imported here: programs do not need it, and importing it takes 1 ms, a tenth of a cold query.
    from textwrap import wrap as break_lines

    # An id, a path or an argument stays in one piece, so that it can be copied.
    return break_lines(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def shortened(text: str, longest: int) -> str:
    """Return `text` in at most `longest` characters, with "..." in place of an end that does not fit."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def short_id(node_id: str) -> str:
    """Return an id that fits into a table: of a path, "/groups/a/providers/vendor/machines/b", the names of the last resource."""
    if not node_id.startswith("/"):
        return node_id
    path = node_id.partition("@")[0].split("/providers/")[-1].split("/")
    # After the vendor's namespace, kinds and names alternate.
    return "/".join(path[2::2]) or node_id


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + _GAP * (len(widths) - 1)


def _narrow(headers: Sequence[str], widths: dict[int, int], width: int, narrowing: Narrowing) -> int | None:
    """Change the widths of the columns, or leave columns out, until they fit; return the column of prose."""
    column = {headers[index]: index for index in widths}
    prose = column.get(narrowing.prose) if narrowing.prose else None
    natural = 0 if prose is None else widths[prose]
    if prose is not None:
        widths[prose] = min(natural, _LEAST_PROSE)
    for title in narrowing.drop:
        if _total(widths) > width and title in column:
            del widths[column[title]]
    for title in narrowing.shorten:
        index = column.get(title, -1)
        if index in widths and _total(widths) > width:
            least = min(widths[index], _LEAST)
            widths[index] = max(least, widths[index] - (_total(widths) - width))
    if prose is not None:
        widths[prose] = max(widths[prose], min(natural, widths[prose] + width - _total(widths)))
    return prose


def _row_lines(cells: Sequence[str], widths: dict[int, int], right: frozenset[int], prose: int | None) -> list[str]:
    """Return the lines of a row: one, or several if its prose is wrapped."""
    line = [_cell(cells[index], size, is_right=index in right) for index, size in widths.items() if index != prose]
    if prose is None:
        return [(" " * _GAP).join(line).rstrip()]
    before = sum(size + _GAP for index, size in widths.items() if index < prose)
    first = "".join(cell + " " * _GAP for cell in line)[:before]
    lines = wrap(cells[prose], width=widths[prose]) or [""]
    rows = []
    for start, text in zip((first, *[" " * before] * len(lines)), lines, strict=False):
        if len(text) > widths[prose]:
            # A path or an id that is too long for its column has a line of its own, in one piece.
            rows += [start.rstrip(), text.rjust(_total(widths))] if start.strip() else [text.rjust(_total(widths))]
        else:
            rows.append(f"{start}{text}".rstrip())
    return rows


def _cell(text: str, size: int, *, is_right: bool) -> str:
    if len(text) > size:
        # Cut in the middle, because names usually differ at their ends.
        head = size // 2
        text = f"{text[:head]}…{text[len(text) - size + head + 1 :]}"
    return text.rjust(size) if is_right else text.ljust(size)
