"""Shows a plan to people: as plain text, and as HTML for notebooks."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from multicompute.offer import Purchase
from multicompute.text import table, wrap
from multicompute.units import format_usd

if TYPE_CHECKING:
    from multicompute.plan import Candidate, Plan

PURCHASE_WORDS: Final[Mapping[Purchase, str]] = {
    "on_demand": "on demand",
    "spot": "spot",
    "flex_start": "flex-start",
    "reserved": "reserved",
}
"""How the ways of buying are written for people."""

_HEADERS: Final = ("#", "place", "nodes", "purchase", "$/h", "$/acc-h", "priced on", "src", "")
_RIGHT: Final = frozenset({0, 4, 5})
_MARKS: Final = {"S": "stale price", "E": "estimated price, no list price is known", "N": "not configured"}


def render(plan: "Plan", *, limit: int, reasons: bool) -> str:
    """The plan as text, at most 100 characters a line.

    Args:
        plan: what to show.
        limit: how many candidates.
        reasons: whether to say why everything else was left out.
    """
    blocks = [_heading(plan)]
    shown = list(islice(plan.candidates, limit))
    if shown:
        sources = _sources(shown)
        blocks.append(table(_HEADERS, _rows(plan, shown, sources), right=_RIGHT))
        blocks.append(_legend(shown, sources, more=len(plan.candidates) - len(shown)))
    elif plan.nearest:
        blocks.append("\n".join(wrap(f"nearest: {plan.nearest}")))
    notes = [line for note in plan.notes for line in wrap(note, first="  ", rest="    ")]
    if notes:
        blocks.append("\n".join(["notes:", *notes]))
    if reasons and plan.rejected:
        blocks.append(_reasons(plan))
    return "\n\n".join(block for block in blocks if block)


def render_html(plan: "Plan", *, limit: int) -> str:
    """The plan as HTML: what `render` says, with the reasons folded away."""
    from multicompute.markup import html_list, html_paragraph, html_table

    shown = list(islice(plan.candidates, limit))
    blocks = [html_paragraph(_heading(plan))]
    if shown:
        # There is room for the sources' names.
        rows = _rows(plan, shown, {candidate.price_source: candidate.price_source for candidate in shown})
        blocks.append(html_table("", _HEADERS, rows, right=_RIGHT))
        more = len(plan.candidates) - len(shown)
        legend = [f"... and {more:,} more"] if more > 0 else []
        blocks.append(html_list([*legend, *(f"{mark}: {meaning}" for mark, meaning in _marks_used(shown))]))
    elif plan.nearest:
        blocks.append(html_paragraph(f"nearest: {plan.nearest}"))
    if plan.notes:
        blocks += [html_paragraph("notes:"), html_list(plan.notes)]
    if plan.rejected:
        blocks.append(_reasons_html(plan))
    return "".join(blocks)


def _reasons_html(plan: "Plan") -> str:
    from multicompute.markup import html_folded, html_table

    rows = [(f"{item.count:,}", reason, *item.examples[:1], "")[:3] for reason, item in plan.rejected.items()]
    return html_folded(
        _reasons_heading(plan), html_table("", ("offers", "reason", "such as"), rows, right=frozenset({0}))
    )


def _only_purchase(plan: "Plan") -> str:
    """The one way in which all candidates are bought, in words; "" when there are several."""
    ways = {tuple(part.offer.purchase for part in candidate.parts) for candidate in plan.candidates}
    purchases = {purchase for way in ways for purchase in way}
    return PURCHASE_WORDS[purchases.pop()] if len(purchases) == 1 else ""


def _heading(plan: "Plan") -> str:
    spec = plan.spec
    wanted = " or ".join(spec.type) or "reserved capacity"
    what = f"{spec.gpus} x {wanted}" if spec.gpus is not None else f"{spec.nodes or 1} x {wanted}"
    count = len(plan.candidates)
    found = "no candidate" if not count else "1 candidate" if count == 1 else f"{count:,} candidates"
    what += f", {_only_purchase(plan)}" if _only_purchase(plan) else ""
    ranked = ", the cheapest first" if count > 1 and spec.order == "price" else ""
    return "\n".join(wrap(f"{what}: {found}{ranked}"))


def _rows(plan: "Plan", shown: "Sequence[Candidate]", sources: Mapping[str, str]) -> list[tuple[str, ...]]:
    rows = [_row(rank, candidate, sources) for rank, candidate in enumerate(shown, 1)]
    # Where all are bought in one way the heading says so.
    return [(*row[:3], "", *row[4:]) for row in rows] if _only_purchase(plan) else rows


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
    marks = {"S": candidate.is_stale, "E": candidate.price_basis == "estimate", "N": not candidate.is_configured}
    return "".join(mark for mark, applies in marks.items() if applies)


def _marks_used(shown: "Sequence[Candidate]") -> list[tuple[str, str]]:
    return [(mark, meaning) for mark, meaning in _MARKS.items() if any(mark in _marks(item) for item in shown)]


def _sources(shown: "Sequence[Candidate]") -> dict[str, str]:
    """A letter for each source, since their names are long; "aa" behind "z"."""
    names = dict.fromkeys(candidate.price_source for candidate in shown)
    return {name: chr(ord("a") + index % 26) * (index // 26 + 1) for index, name in enumerate(names)}


def _legend(shown: "Sequence[Candidate]", sources: "dict[str, str]", *, more: int) -> str:
    lines = [f"... and {more:,} more"] if more > 0 else []
    lines += [f"{mark}  {meaning}" for mark, meaning in _marks_used(shown)]
    for name, letter in sources.items():
        lines += wrap(f"{letter}  {name}", rest="   ")
    return "\n".join(lines)


def _reasons(plan: "Plan") -> str:
    lines = [_reasons_heading(plan)]
    size = max(len(f"{rejection.count:,}") for rejection in plan.rejected.values())
    for reason, rejection in plan.rejected.items():
        line = reason
        if rejection.examples:
            line += f" (such as {rejection.examples[0]})"
        lines += wrap(line, first=f"  {rejection.count:>{size},}  ", rest=" " * (size + 6))
    return "\n".join(lines)


def _reasons_heading(plan: "Plan") -> str:
    total = sum(rejection.count for rejection in plan.rejected.values())
    return f"left out, {total:,} offers by their first reason:"
