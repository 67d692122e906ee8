"""Formats HTML for notebooks: tables, lists and folded sections.

Every function escapes the text that it is given. The HTML loads nothing and affects nothing outside of its notebook cell.
"""

from collections.abc import Sequence
from html import escape
from typing import Final

_ALIGN: Final = {False: ' style="text-align:left"', True: ' style="text-align:right"'}


def html_table(
    caption: str,
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: frozenset[int] = frozenset(),
    total: Sequence[str] = (),
) -> str:
    """Return a table of `rows` under `headers`. Columns without any content are omitted.

    Args:
        caption: The caption of the table, "" for none.
        headers: The header of each column.
        rows: The cells of each row, one per column.
        right: The columns to align right.
        total: A last row with the totals.
    """
    shown = [index for index in range(len(headers)) if not rows or any(row[index] for row in rows)]

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}{_ALIGN[index in right]}>{escape(cells[index])}</{tag}>" for index in shown)

    head = f"<thead><tr>{line(headers, 'th')}</tr></thead>"
    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    foot = f"<tfoot><tr>{line(total, 'th')}</tr></tfoot>" if total else ""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}{head}<tbody>{body}</tbody>{foot}</table>"


def html_facts(caption: str, facts: Sequence[tuple[str, str]]) -> str:
    """Return a table with a name and a value in each row."""
    body = "".join(
        f'<tr><th scope="row"{_ALIGN[False]}>{escape(name)}</th><td{_ALIGN[False]}>{escape(value)}</td></tr>'
        for name, value in facts
    )
    return f"<table><caption>{escape(caption)}</caption><tbody>{body}</tbody></table>"


def html_list(items: Sequence[str]) -> str:
    """Return a list, or "" without items."""
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>" if items else ""


def html_paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>"


def html_folded(summary: str, content: str) -> str:
    """Return a section that shows its content, which is HTML, when the summary is clicked."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"
