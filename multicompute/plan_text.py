"""Shows a plan as plain text, and as HTML for notebooks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from multicompute.offer import Part, Purchase
from multicompute.text import Narrowing, table, wrap
from multicompute.units import counted, format_duration, format_usd

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

_WIDE: Final = 100
"""Characters per line of text next to a table without a limit."""
CANDIDATE_HEADERS: Final = (
    *("#", "place", "nodes", "acc", "purchase", "$/h", "$/acc-h", "list $/h", "transfer $", "total $", "interrupted"),
    *("price date", "src", ""),
)
"""The columns of `candidate_rows`. The last one has no title: its cells are `MARKS`."""
CANDIDATE_NARROWING: Final = Narrowing(
    drop=("src", "price date", "acc", "#", "interrupted", "$/acc-h", "list $/h", "transfer $"),
    shorten=("place", "nodes"),
)
RIGHT: Final = frozenset({0, 3, 5, 6, 7, 8, 9})
MARKS: Final = {
    "S": "stale price",
    "E": "estimated price, no list price is known",
    "N": "not configured",
    "T": "terminated by the cloud before the ttl",
}
_SHOWN_RULED_OUT: Final = 5
"""Candidates that an outage rules out are shown after the others, no more than this."""


class Line(NamedTuple):
    """Candidates that differ only in the zone; they share a line.

    Attributes:
        rank: The position of the first one in the plan, from 1.
        best: The first one.
        zones: How many candidates there are.
        outages: The outages that rule them out, one for each.
    """

    rank: int
    best: "Candidate"
    zones: int
    outages: "tuple[Outage, ...]" = ()


def group_zones(candidates: "Iterable[Candidate]") -> list[Line]:
    """Return the candidates, in their order, with those that differ only in the zone in one line."""
    lines: dict[object, Line] = {}
    for rank, candidate in enumerate(candidates, 1):
        outages = (candidate.outage,) if candidate.outage is not None else ()
        reason = candidate.outage and candidate.outage.reason
        key = (candidate.is_stale, reason, *(_without_zone(part) for part in candidate.parts))
        known = lines.get(key, Line(rank, candidate, 0))
        lines[key] = known._replace(zones=known.zones + 1, outages=(*known.outages, *outages))
    return list(lines.values())


def _without_zone(part: Part) -> tuple[object, ...]:
    offer = part.offer
    # One name may mean several shapes, with this or that accelerator.
    instance = (offer.instance_type, offer.instance.accelerator, offer.instance.accelerators)
    return (
        offer.provider,
        offer.region,
        *instance,
        offer.purchase,
        offer.quote.hourly_cost,
        offer.quote.list_hourly_cost,
        part.nodes,
        part.reservation,
    )


def selected(lines: Sequence[Line], limit: int) -> list[Line]:
    """Return the first lines, the best one of each cloud that none of them is of, and the first ones that outages rule out."""
    shown = list(lines[:limit])
    clouds = {line.best.provider for line in shown}
    ruled_out = sum(bool(line.outages) for line in shown)
    for line in lines[limit:]:
        if line.best.provider not in clouds or (line.outages and ruled_out < _SHOWN_RULED_OUT):
            clouds.add(line.best.provider)
            ruled_out += bool(line.outages)
            shown.append(line)
    return shown


def candidate_rows(lines: Sequence[Line], sources: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return the cells of lines under `CANDIDATE_HEADERS`; `sources` has the name to show for each source of prices."""
    outages = _outage_marks(lines)
    has_data = any(line.best.transfer_cost != 0.0 for line in lines)
    return [
        (*_row(line, sources, has_data=has_data), _marks(line.best) + outages.get(_outage_text(line), ""))
        for line in lines
    ]


def candidate_text(candidate: "Candidate") -> str:
    """Return a candidate in half a line: place, nodes, purchase type and price."""
    price = f"{format_usd(candidate.hourly_cost)}/h"
    return f"{_place(candidate)} {_nodes(candidate)} {_purchase(candidate)} {price}"


def legend(lines: Sequence[Line]) -> list[str]:
    """Return the meaning of the marks in the rows of these lines."""
    used = {mark for line in lines for mark in _marks(line.best)}
    more = ["+N  in N other zones of the region as well"] if any(line.zones > 1 for line in lines) else []
    outages = [f"{mark}  {text}" for text, mark in _outage_marks(lines).items()]
    return more + [f"{mark}  {meaning}" for mark, meaning in MARKS.items() if mark in used] + outages


def describe_outage(outage: "Outage") -> str:
    """Return an outage in words: "capacity, aws us-east-1a"."""
    nodes = f", {outage.nodes} nodes or more" if outage.nodes > 1 else ""
    return f"{outage.reason}, {f'{outage.provider} {outage.place}'.strip()}{nodes}"


def _outage_marks(lines: Sequence[Line]) -> dict[str, str]:
    """Return the mark of each outage text."""
    texts = list(dict.fromkeys(_outage_text(line) for line in lines if line.outages))
    return {text: "O" if len(texts) == 1 else f"O{number}" for number, text in enumerate(texts, 1)}


def _outage_text(line: Line) -> str:
    """Return until when the candidates of a line are not tried, and why; "" if they are."""
    if not line.outages:
        return ""
    ends = sorted({f"{outage.until:%Y-%m-%d %H:%M}" for outage in line.outages})
    until = f"{ends[0]} UTC" if len(ends) == 1 else f"{ends[0]} to {ends[-1]} UTC"
    others = f" and {counted(line.zones - 1, 'other zone')}" if line.zones > 1 else ""
    return f"not tried before {until}: {describe_outage(line.outages[0])}{others}"


def render(
    plan: "Plan",
    *,
    limit: int,
    reasons: bool,
    width: int | None = 80,
    spelled: Callable[[str], str] = str,
) -> str:
    """Return the plan as text.

    Args:
        plan: The plan to show.
        limit: How many lines of candidates to show.
        reasons: Whether to show why all other offers were rejected.
        width: The maximum number of characters per line; None for no limit.
        spelled: Returns a text with the arguments in it as the reader writes them.
    """
    purchase = _only_purchase(plan)
    prose = width or _WIDE
    blocks = ["\n".join(wrap(spelled(_heading(plan, purchase)), width=prose))]
    if plan.candidates:
        lines = group_zones(plan.candidates)
        shown = selected(lines, limit)
        sources = _letters(line.best.price_source for line in shown)
        rows = _without_purchase(candidate_rows(shown, sources), purchase)
        drawn = table(CANDIDATE_HEADERS, rows, right=RIGHT, width=width, narrowing=CANDIDATE_NARROWING)
        blocks.append(drawn)
        if " src" not in drawn.partition("\n")[0]:
            sources = {}
        more = len(plan.candidates) - sum(line.zones for line in shown)
        blocks.append(_legend(shown, sources, more=more, width=prose))
    elif plan.nearest:
        blocks.append("\n".join(wrap(spelled(f"nearest: {plan.nearest}"), width=prose)))
    if plan.notes:
        notes = (line for note in plan.notes for line in wrap(spelled(note), first="  ", rest="    ", width=prose))
        blocks.append("\n".join(["notes:", *notes]))
    if reasons and plan.rejected:
        blocks.append(_reasons(plan, width=prose, spelled=spelled))
    return "\n\n".join(block for block in blocks if block)


def render_html(plan: "Plan", *, limit: int) -> str:
    """Return the plan as HTML: the same as `render`, with the reasons folded away."""
    from multicompute.markup import html_folded, html_list, html_paragraph, html_table

    purchase = _only_purchase(plan)
    blocks = [html_paragraph(_heading(plan, purchase))]
    if plan.candidates:
        shown = selected(group_zones(plan.candidates), limit)
        # HTML has room for the full names of the sources.
        names = {line.best.price_source: line.best.price_source for line in shown}
        rows = _without_purchase(candidate_rows(shown, names), purchase)
        blocks.append(html_table("", CANDIDATE_HEADERS, rows, right=RIGHT))
        more = _more(len(plan.candidates) - sum(line.zones for line in shown))
        blocks.append(html_list([*more, *(line.replace("  ", ": ", 1) for line in legend(shown))]))
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
    """Return what a spec asks for: "64 x h100", or the workload."""
    if spec.workload is not None:
        where = f" on {' or '.join(spec.type)}" if spec.type else ""
        count = f", {counted(spec.gpus, 'accelerator')}" if spec.gpus else ""
        return f"{spec.workload}{where}{count}"
    amount = spec.gpus if spec.gpus is not None else spec.nodes or 1
    return f"{amount} x {' or '.join(spec.type) or 'reserved capacity'}"


def _count_ruled_out(plan: "Plan") -> int:
    return sum(candidate.outage is not None for candidate in plan.candidates)


def heading(plan: "Plan") -> str:
    """Return what a plan is for and how many candidates it has, in one line."""
    return _heading(plan, _only_purchase(plan))


def _heading(plan: "Plan", purchase: str) -> str:
    ruled_out = _count_ruled_out(plan)
    count = len(plan.candidates) - ruled_out
    found = "no candidate" if not count else "1 candidate" if count == 1 else f"{count:,} candidates"
    cheapest = "the cheapest in total first" if plan.spec.data else "the cheapest first"
    order = f", {cheapest}" if count > 1 and plan.spec.order == "price" else ""
    later = f"; {ruled_out:,} ruled out by remembered outages" if ruled_out else ""
    return f"{requested(plan.spec)}{f', {purchase}' if purchase else ''}: {found}{order}{later}"


def _without_purchase(rows: list[tuple[str, ...]], purchase: str) -> list[tuple[str, ...]]:
    """Empty the column of the purchase type, which is then left out, if all candidates have the one in the heading."""
    column = CANDIDATE_HEADERS.index("purchase")
    return [(*row[:column], "", *row[column + 1 :]) for row in rows] if purchase else rows


def _row(line: Line, sources: Mapping[str, str], *, has_data: bool) -> tuple[str, ...]:
    candidate = line.best
    listed = candidate.list_hourly_cost if candidate.discount else None
    return (
        "-" if line.outages else str(line.rank),
        _place(candidate) + (f" +{line.zones - 1}" if line.zones > 1 else ""),
        _nodes(candidate),
        f"{candidate.accelerators:g}" if candidate.accelerators else "",
        _purchase(candidate),
        format_usd(candidate.hourly_cost).removeprefix("$"),
        f"{candidate.price_per_accelerator:,.2f}" if candidate.accelerators else "",
        "" if listed is None else f"{listed:,.2f}",
        _amount(candidate.transfer_cost) if has_data else "",
        _amount(candidate.total_cost) if has_data else "",
        _interrupted(candidate),
        candidate.price_as_of.isoformat(),
        sources[candidate.price_source],
    )


def _place(candidate: "Candidate") -> str:
    places = (f"{part.offer.provider} {part.offer.zone or part.offer.region}" for part in candidate.parts)
    return " + ".join(dict.fromkeys(places))


def _nodes(candidate: "Candidate") -> str:
    return " + ".join(f"{part.nodes} x {part.offer.instance_type}" for part in candidate.parts)


def _purchase(candidate: "Candidate") -> str:
    return " + ".join(dict.fromkeys(PURCHASE_WORDS[part.offer.purchase] for part in candidate.parts))


def _amount(amount: float | None) -> str:
    return "?" if amount is None else f"{amount:,.2f}"


def _interrupted(candidate: "Candidate") -> str:
    """Return the published share of spot nodes that are interrupted, "" if there is none."""
    rate = candidate.interruption
    if rate is None:
        return ""
    share = (
        f">{rate.low:.0%}"
        if rate.high >= 1
        else f"{rate.low * 100:g}-{rate.high:.0%}"
        if rate.low
        else f"<{rate.high:.0%}"
    )
    return f"{share}/{'mo' if rate.period == 'month' else 'h'}"


def _marks(candidate: "Candidate") -> str:
    marks = {
        "S": candidate.is_stale,
        "E": candidate.price_basis == "estimate",
        "N": not candidate.is_configured,
        "T": candidate.ends_early,
    }
    return "".join(mark for mark, applies in marks.items() if applies)


def _letters(names: Iterable[str]) -> dict[str, str]:
    """Map each name to a letter, since the names of sources are long; "aa" follows "z"."""
    return {name: chr(ord("a") + index % 26) * (index // 26 + 1) for index, name in enumerate(dict.fromkeys(names))}


def _more(count: int) -> list[str]:
    return [f"... and {count:,} more"] if count > 0 else []


def _legend(shown: Sequence[Line], sources: Mapping[str, str], *, more: int, width: int) -> str:
    lines = _more(more) + [part for line in legend(shown) for part in wrap(line, rest="    ", width=width)]
    for name, letter in sources.items():
        lines += wrap(f"{letter}  {name}", rest="   ", width=width)
    return "\n".join(lines)


def _reasons(plan: "Plan", *, width: int, spelled: Callable[[str], str]) -> str:
    lines = [_reasons_heading(plan)]
    size = max(len(f"{rejection.count:,}") for rejection in plan.rejected.values())
    for reason, rejection in plan.rejected.items():
        line = spelled(f"{reason} (such as {rejection.examples[0]})" if rejection.examples else reason)
        lines += wrap(line, first=f"  {rejection.count:>{size},}  ", rest=" " * (size + 6), width=width)
    return "\n".join(lines)


def _reasons_heading(plan: "Plan") -> str:
    total = sum(rejection.count for rejection in plan.rejected.values())
    return f"rejected offers ({total:,}), by first reason:"
