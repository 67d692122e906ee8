"""Shows a plan as plain text, and as HTML for notebooks."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from multicompute.offer import Part, Purchase
from multicompute.text import table, wrap
from multicompute.units import format_duration, format_usd

if TYPE_CHECKING:
    from multicompute.plan import Candidate, Plan
    from multicompute.spec import ClusterSpec

PURCHASE_WORDS: Final[Mapping[Purchase, str]] = {
    "on_demand": "on demand",
    "spot": "spot",
    "flex_start": "flex-start",
    "reserved": "reserved",
}
"""The purchase types as they are shown to people."""

_HEADERS: Final = ("#", "place", "nodes", "purchase", "$/h", "$/acc-h", "priced on", "src", "")
_RIGHT: Final = frozenset({0, 4, 5})
_MARKS: Final = {
    "S": "stale price",
    "E": "estimated price, no list price is known",
    "N": "not configured",
    "T": "terminated by the cloud before the ttl",
}


def render(plan: "Plan", *, limit: int, reasons: bool) -> str:
    """Return the plan as text with at most 100 characters per line.

    Args:
        plan: The plan to show.
        limit: How many candidates to show.
        reasons: Whether to show why all other offers were rejected.
    """
    purchase = _only_purchase(plan)
    blocks = ["\n".join(wrap(_heading(plan, purchase)))]
    shown = plan.candidates[:limit]
    if shown:
        sources = _letters(candidate.price_source for candidate in shown)
        blocks.append(table(_HEADERS, _rows(shown, sources, purchase), right=_RIGHT))
        blocks.append(_legend(shown, sources, more=len(plan.candidates) - len(shown)))
    elif plan.nearest:
        blocks.append("\n".join(wrap(f"nearest: {plan.nearest}")))
    if plan.notes:
        blocks.append(
            "\n".join(["notes:", *(line for note in plan.notes for line in wrap(note, first="  ", rest="    "))])
        )
    if reasons and plan.rejected:
        blocks.append(_reasons(plan))
    return "\n\n".join(block for block in blocks if block)


def render_html(plan: "Plan", *, limit: int) -> str:
    """Return the plan as HTML: the same as `render`, with the reasons folded away."""
    from multicompute.markup import html_folded, html_list, html_paragraph, html_table

    purchase = _only_purchase(plan)
    blocks = [html_paragraph(_heading(plan, purchase))]
    shown = plan.candidates[:limit]
    if shown:
        # HTML has room for the full names of the sources.
        names = {candidate.price_source: candidate.price_source for candidate in shown}
        blocks.append(html_table("", _HEADERS, _rows(shown, names, purchase), right=_RIGHT))
        more = _more(len(plan.candidates) - len(shown))
        blocks.append(html_list([*more, *(f"{mark}: {meaning}" for mark, meaning in _marks_used(shown))]))
    elif plan.nearest:
        blocks.append(html_paragraph(f"nearest: {plan.nearest}"))
    if plan.notes:
        blocks += [html_paragraph("notes:"), html_list(plan.notes)]
    if plan.rejected:
        rows = [(f"{item.count:,}", reason, *item.examples[:1], "")[:3] for reason, item in plan.rejected.items()]
        content = html_table("", ("offers", "reason", "such as"), rows, right=frozenset({0}))
        blocks.append(html_folded(_reasons_heading(plan), content))
    return "".join(blocks)


def lifetime_text(part: Part, longest: timedelta | None) -> str:
    """Return in words how long the nodes of a part live at most: until its end, if it has one, or as long as `longest`."""
    nodes = f"nodes in reservation {part.reservation}" if part.reservation else ""
    nodes = nodes or f"{part.offer.purchase.replace('_', '-')} machines of {part.offer.provider}"
    if part.ends_at is not None and (part.reservation or longest is None):
        return f"{nodes} are terminated at {part.ends_at:%Y-%m-%d %H:%M} UTC"
    return f"{nodes} live at most {format_duration(longest or timedelta(0))}"


def _only_purchase(plan: "Plan") -> str:
    """Return the purchase type of all candidates in words, or "" if there are several."""
    purchases = {part.offer.purchase for candidate in plan.candidates for part in candidate.parts}
    return PURCHASE_WORDS[purchases.pop()] if len(purchases) == 1 else ""


def requested(spec: "ClusterSpec") -> str:
    """Return what a spec asks for: "64 x h100"."""
    amount = spec.gpus if spec.gpus is not None else spec.nodes or 1
    return f"{amount} x {' or '.join(spec.type) or 'reserved capacity'}"


def _heading(plan: "Plan", purchase: str) -> str:
    count = len(plan.candidates)
    found = "no candidate" if not count else "1 candidate" if count == 1 else f"{count:,} candidates"
    order = ", the cheapest first" if count > 1 and plan.spec.order == "price" else ""
    return f"{requested(plan.spec)}{f', {purchase}' if purchase else ''}: {found}{order}"


def _rows(shown: "Sequence[Candidate]", sources: Mapping[str, str], purchase: str) -> list[tuple[str, ...]]:
    rows = [_row(rank, candidate, sources) for rank, candidate in enumerate(shown, 1)]
    # If all candidates have the same purchase type, the heading shows it, and the empty column is omitted.
    return [(*row[:3], "", *row[4:]) for row in rows] if purchase else rows


def _row(rank: int, candidate: "Candidate", sources: Mapping[str, str]) -> tuple[str, ...]:
    return (
        str(rank),
        " + ".join(
            dict.fromkeys(f"{part.offer.provider} {part.offer.zone or part.offer.region}" for part in candidate.parts)
        ),
        " + ".join(f"{part.nodes} x {part.offer.instance_type}" for part in candidate.parts),
        " + ".join(dict.fromkeys(PURCHASE_WORDS[part.offer.purchase] for part in candidate.parts)),
        format_usd(candidate.hourly_cost).removeprefix("$"),
        f"{candidate.price_per_accelerator:,.2f}" if candidate.accelerators else "",
        candidate.price_as_of.isoformat(),
        sources[candidate.price_source],
        _marks(candidate),
    )


def _marks(candidate: "Candidate") -> str:
    marks = {
        "S": candidate.is_stale,
        "E": candidate.price_basis == "estimate",
        "N": not candidate.is_configured,
        "T": candidate.ends_early,
    }
    return "".join(mark for mark, applies in marks.items() if applies)


def _marks_used(shown: "Sequence[Candidate]") -> list[tuple[str, str]]:
    used = {mark for candidate in shown for mark in _marks(candidate)}
    return [(mark, meaning) for mark, meaning in _MARKS.items() if mark in used]


def _letters(names: Iterable[str]) -> dict[str, str]:
    """Map each name to a letter, since the names of sources are long; "aa" follows "z"."""
    return {name: chr(ord("a") + index % 26) * (index // 26 + 1) for index, name in enumerate(dict.fromkeys(names))}


def _more(count: int) -> list[str]:
    return [f"... and {count:,} more"] if count > 0 else []


def _legend(shown: "Sequence[Candidate]", sources: Mapping[str, str], *, more: int) -> str:
    lines = _more(more) + [f"{mark}  {meaning}" for mark, meaning in _marks_used(shown)]
    for name, letter in sources.items():
        lines += wrap(f"{letter}  {name}", rest="   ")
    return "\n".join(lines)


def _reasons(plan: "Plan") -> str:
    lines = [_reasons_heading(plan)]
    size = max(len(f"{rejection.count:,}") for rejection in plan.rejected.values())
    for reason, rejection in plan.rejected.items():
        line = f"{reason} (such as {rejection.examples[0]})" if rejection.examples else reason
        lines += wrap(line, first=f"  {rejection.count:>{size},}  ", rest=" " * (size + 6))
    return "\n".join(lines)


def _reasons_heading(plan: "Plan") -> str:
    total = sum(rejection.count for rejection in plan.rejected.values())
    return f"rejected offers ({total:,}), by first reason:"
