"""Shows a plan as plain text, and as HTML for notebooks."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from multicompute.offer import Part, Purchase
from multicompute.text import table, wrap
from multicompute.units import format_duration, format_usd

if TYPE_CHECKING:
    from multicompute.plan import Candidate, Outage, Plan
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
_SHOWN_RULED_OUT: Final = 5
"""Candidates that an outage rules out are shown after the others, no more than this."""


def render(plan: "Plan", *, limit: int, reasons: bool) -> str:
    """Return the plan as text with at most 100 characters per line.

    Args:
        plan: The plan to show.
        limit: How many candidates to show.
        reasons: Whether to show why all other offers were rejected.
    """
    purchase = _only_purchase(plan)
    blocks = ["\n".join(wrap(_heading(plan, purchase)))]
    shown = _shown(plan, limit)
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
    shown = _shown(plan, limit)
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


def describe_outage(outage: "Outage") -> str:
    """Return an outage in words: "capacity, aws us-east-1a"."""
    nodes = f", {outage.nodes} nodes or more" if outage.nodes > 1 else ""
    return f"{outage.reason}, {f'{outage.provider} {outage.place}'.strip()}{nodes}"


def _shown(plan: "Plan", limit: int) -> "list[Candidate]":
    """Return the candidates to show: the first ones, and then the first of those that outages rule out."""
    tried = len(plan.candidates) - _count_ruled_out(plan)
    ruled_out = plan.candidates[tried : tried + min(limit, _SHOWN_RULED_OUT)]
    return [*plan.candidates[: min(limit, tried)], *ruled_out]


def _count_ruled_out(plan: "Plan") -> int:
    # From the end: candidates are made when they are first read, and a plan has hundreds.
    return sum(1 for _ in takewhile(lambda candidate: candidate.outage is not None, reversed(plan.candidates)))


def _heading(plan: "Plan", purchase: str) -> str:
    ruled_out = _count_ruled_out(plan)
    count = len(plan.candidates) - ruled_out
    found = "no candidate" if not count else "1 candidate" if count == 1 else f"{count:,} candidates"
    order = ", the cheapest first" if count > 1 and plan.spec.order == "price" else ""
    later = f"; {ruled_out:,} ruled out by remembered outages" if ruled_out else ""
    return f"{requested(plan.spec)}{f', {purchase}' if purchase else ''}: {found}{order}{later}"


def _rows(shown: "Sequence[Candidate]", sources: Mapping[str, str], purchase: str) -> list[tuple[str, ...]]:
    outages = _outages(shown)
    rows = [
        (*_row(str(rank) if candidate.outage is None else "-", candidate, sources), _marks(candidate, outages))
        for rank, candidate in enumerate(shown, 1)
    ]
    # If all candidates have the same purchase type, the heading shows it, and the empty column is omitted.
    return [(*row[:3], "", *row[4:]) for row in rows] if purchase else rows


def _row(rank: str, candidate: "Candidate", sources: Mapping[str, str]) -> tuple[str, ...]:
    return (
        rank,
        " + ".join(
            dict.fromkeys(f"{part.offer.provider} {part.offer.zone or part.offer.region}" for part in candidate.parts)
        ),
        " + ".join(f"{part.nodes} x {part.offer.instance_type}" for part in candidate.parts),
        " + ".join(dict.fromkeys(PURCHASE_WORDS[part.offer.purchase] for part in candidate.parts)),
        format_usd(candidate.hourly_cost).removeprefix("$"),
        f"{candidate.price_per_accelerator:,.2f}" if candidate.accelerators else "",
        candidate.price_as_of.isoformat(),
        sources[candidate.price_source],
    )


def _outages(shown: "Sequence[Candidate]") -> "dict[Outage, str]":
    """Return the mark of each outage."""
    found = list(dict.fromkeys(candidate.outage for candidate in shown if candidate.outage is not None))
    return {outage: "O" if len(found) == 1 else f"O{number}" for number, outage in enumerate(found, 1)}


def _marks(candidate: "Candidate", outages: "Mapping[Outage, str]") -> str:
    marks = {
        "S": candidate.is_stale,
        "E": candidate.price_basis == "estimate",
        "N": not candidate.is_configured,
        "T": candidate.ends_early,
    }
    outage = "" if candidate.outage is None else outages[candidate.outage]
    return "".join(mark for mark, applies in marks.items() if applies) + outage


def _marks_used(shown: "Sequence[Candidate]") -> list[tuple[str, str]]:
    outages = _outages(shown)
    used = {mark for candidate in shown for mark in _marks(candidate, outages)}
    meanings = [(mark, meaning) for mark, meaning in _MARKS.items() if mark in used]
    return meanings + [
        (mark, f"not tried before {outage.until:%Y-%m-%d %H:%M} UTC: {describe_outage(outage)}")
        for outage, mark in outages.items()
    ]


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
