"""What the reader of a plan should know beside the table."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from multicompute.plan import Candidate
from multicompute.resolver._ranking import Gang, Marks
from multicompute.units import format_duration, format_usd

if TYPE_CHECKING:
    from multicompute.spec import ClusterSpec


def notes(
    spec: "ClusterSpec",
    candidates: Sequence[Candidate],
    gangs: Sequence[Gang],
    passed_over: Sequence[Gang],
    *,
    marks: Marks,
    configured: Mapping[str, str],
) -> list[str]:
    """The notes of a plan, most important first.

    Args:
        spec: what was asked for.
        candidates: all of them, in order.
        gangs: what the candidates are made of.
        passed_over: gangs left out for want of a fabric.
        marks: tells stale prices.
        configured: provider -> "", or why it can't be used.
    """
    if not candidates:
        return []
    best = candidates[0]
    found = _fabric(passed_over, best)
    providers = dict.fromkeys(gang.key[5] for gang in sorted(gangs, key=lambda gang: gang.key))
    found += [f"{name} is not configured: {configured[name]}" for name in providers if configured.get(name)]
    found += _prices(gangs, best, marks)
    if spec.gpus is not None and best.accelerators > spec.gpus:
        found.append(
            f"the cheapest has {best.accelerators:g} accelerators for gpus={spec.gpus}; the surplus is paid for"
        )
    if spec.disk is not None:
        found.append("prices are those of the machines; the tables have none for disks, which come on top")
    if spec.budget is not None and best.hourly_cost:
        lasts = format_duration(timedelta(minutes=int(spec.budget / best.hourly_cost * 60)))
        found.append(f"the budget of {format_usd(spec.budget)} ends the cheapest after {lasts}")
    return found


def _fabric(passed_over: Sequence[Gang], best: Candidate) -> list[str]:
    cost = best.hourly_cost
    cheaper = sum(len(gang.zones) for gang in passed_over if gang.hourly_cost < cost)
    if not cheaper:
        return []
    offers = "1 cheaper offer" if cheaper == 1 else f"{cheaper} cheaper offers"
    return [f"{offers} passed over for want of a fabric between the nodes; interconnect='any' allows them"]


def _prices(gangs: Sequence[Gang], best: Candidate, marks: Marks) -> list[str]:
    found = []
    if best.price_basis == "estimate":
        found.append("the price of the cheapest is an estimate; estimates=False leaves such offers out")
    everything = sum(len(gang.zones) for gang in gangs)
    stale = sum(
        len(gang.zones) for gang in gangs if gang.row is not None and gang.row.as_of < marks.fresh_since[gang.purchase]
    )
    if stale:
        which = "every candidate has" if stale == everything else f"{stale:,} of {everything:,} candidates have"
        found.append(f"{which} a price that is older than it may be; each is shown with its date")
    return found
