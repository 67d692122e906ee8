"""Lays out HTML for notebooks: tables, lists and what is folded away.

All text that comes in is escaped here; nothing is loaded from elsewhere, and nothing reaches beyond the cell that it is shown in.
"""

from collections.abc import Sequence
from html import escape
from typing import Final

_FLUSH: Final = {False: ' style="text-align:left"', True: ' style="text-align:right"'}


def html_table(
    caption: str,
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: frozenset[int] = frozenset(),
    total: Sequence[str] = (),
) -> str:
    """`rows` under `headers`; columns in which nothing stands are left out.

    Args:
        caption: what the table shows, "" for none.
        headers: one for each column.
        rows: of as many cells.
        right: the columns that are set flush right.
        total: a last row that sums the others up.
    """
    shown = [index for index in range(len(headers)) if not rows or any(row[index] for row in rows)]

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}{_FLUSH[index in right]}>{escape(cells[index])}</{tag}>" for index in shown)

    head = f"<thead><tr>{line(headers, 'th')}</tr></thead>"
    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    foot = f"<tfoot><tr>{line(total, 'th')}</tr></tfoot>" if total else ""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}{head}<tbody>{body}</tbody>{foot}</table>"


def html_facts(caption: str, facts: Sequence[tuple[str, str]]) -> str:
    """A table of what is known of one thing: a name and a value in each row."""
    body = "".join(
        f'<tr><th scope="row"{_FLUSH[False]}>{escape(name)}</th><td{_FLUSH[False]}>{escape(value)}</td></tr>'
        for name, value in facts
    )
    return f"<table><caption>{escape(caption)}</caption><tbody>{body}</tbody></table>"


def html_list(items: Sequence[str]) -> str:
    """One line for each item; nothing where there is none."""
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>" if items else ""


def html_paragraph(text: str) -> str:
    """Text by itself."""
    return f"<p>{escape(text)}</p>"


def html_folded(summary: str, content: str) -> str:
    """HTML that is shown only when its summary is clicked."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"
