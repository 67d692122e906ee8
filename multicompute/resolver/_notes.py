"""The notes of a plan: what the reader needs to know in addition to the table."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from multicompute.plan import Candidate
from multicompute.resolver._context import ResolveContext
from multicompute.resolver._costs import Costs
from multicompute.resolver._lifetimes import Lifetimes
from multicompute.resolver._ranking import Gang
from multicompute.resolver._transfer import Transfers
from multicompute.units import format_duration, format_usd

if TYPE_CHECKING:
    from multicompute.spec import ClusterSpec


def notes(
    spec: "ClusterSpec",
    candidates: Sequence[Candidate],
    gangs: Sequence[Gang],
    without_fabric: Sequence[Gang],
    context: ResolveContext,
    lifetimes: Lifetimes,
    costs: Costs,
) -> list[str]:
    """Return the notes of a plan, the most important first.

    Args:
        spec: The request.
        candidates: All candidates in order.
        gangs: The gangs that the candidates were made from, without those of reservations.
        without_fabric: The gangs that were rejected because they have no fabric.
        context: The unconfigured clouds and the age that prices may have.
        lifetimes: How long the nodes may live.
        costs: What the data costs to transfer.
    """
    if not candidates:
        return []
    best = candidates[0]
    found = _fabric(without_fabric, best) + _lifetime(gangs, best, lifetimes)
    providers = dict.fromkeys(gang.provider for gang in sorted(gangs, key=lambda gang: gang.key))
    found += [f"{name} is not configured: {why}" for name in providers if (why := context.configured.get(name))]
    found += _prices(gangs, best, context)
    if spec.gpus is not None and best.accelerators > spec.gpus:
        found.append(
            f"the first candidate has {best.accelerators:g} accelerators, more than gpus={spec.gpus}; you pay for all"
        )
    if spec.disk is not None:
        found.append("prices do not include disks, because the offer tables have no prices for them")
    if spec.hours is not None and lifetimes.ttl is not None and timedelta(hours=spec.hours) > lifetimes.ttl:
        found.append(
            f"the request has {lifetimes.ttl_text}, so the cluster is terminated before hours={spec.hours:g} unless it is extended"
        )
    if costs.transfers is not None:
        found.append(costs.transfers.note((best.provider, best.region)))
    if context.discounts is not None:
        found += [known.note for known in context.discounts.known if known.note]
    if spec.budget is not None and best.hourly_cost:
        lasts = format_duration(timedelta(minutes=int(spec.budget / best.hourly_cost * 60)))
        found.append(f"with the first candidate, the budget of {format_usd(spec.budget)} is spent after {lasts}")
    return found


def job_notes(
    spec: "ClusterSpec",
    candidates: Sequence[Candidate],
    providers: Collection[str],
    context: ResolveContext,
    lifetimes: Lifetimes,
    transfers: Transfers | None,
) -> list[str]:
    """Return the notes of the plan of a workload, in addition to those about the job itself.

    Args:
        spec: The request.
        candidates: All candidates in order.
        providers: The clouds that sell what the request allows.
        context: The unconfigured clouds and the age that prices may have.
        lifetimes: How long the nodes may live.
        transfers: What the data costs to transfer; None without data.
    """
    if not candidates:
        return []
    best = candidates[0]
    unusable = sorted(context.unusable & set(providers))
    found = [f"not configured: {', '.join(unusable)}; `multicompute doctor` says why"] if unusable else []
    if best.price_basis == "estimate":
        found.append("the price of the first option is an estimate; estimates=False excludes estimates")
    if best.is_stale:
        age, spot = map(format_duration, context.price_ages)
        found.append(f"the price of the first option is out of date (older than {age}, or {spot} for spot)")
    if spec.disk is not None:
        found.append("prices do not include disks, because the offer tables have no prices for them")
    if best.hours is not None and lifetimes.ttl is not None and best.hours > lifetimes.ttl / timedelta(hours=1):
        found.append(
            f"the job takes {best.hours:,.1f} h and the request has {lifetimes.ttl_text}: the cluster is terminated before the job is done "
            "unless it is extended"
        )
    if transfers is not None:
        found.append(transfers.note((best.provider, best.region), of_job=True))
    if context.discounts is not None:
        found += [known.note for known in context.discounts.known if known.note]
    return found


def _fabric(without_fabric: Sequence[Gang], best: Candidate) -> list[str]:
    cost = best.hourly_cost
    cheaper = sum(len(gang.zones) for gang in without_fabric if gang.hourly_cost < cost)
    if not cheaper:
        return []
    skipped = "skipped 1 cheaper offer" if cheaper == 1 else f"skipped {cheaper} cheaper offers"
    return [f"{skipped} without a fabric between the nodes; interconnect='any' allows them"]


def _lifetime(gangs: Sequence[Gang], best: Candidate, lifetimes: Lifetimes) -> list[str]:
    if best.ends_early:
        why = lifetimes.reason(best.parts)
        what = f"the first candidate ends early: {why}, and the request has {lifetimes.ttl_text}"
        return [f"{what}; strict_ttl=True excludes such offers"]
    cheaper = sum(len(gang.zones) for gang in gangs if gang.ends_early and gang.hourly_cost < best.hourly_cost)
    if not cheaper:
        return []
    offers = "1 cheaper offer ranks" if cheaper == 1 else f"{cheaper} cheaper offers rank"
    return [f"{offers} behind those that can live longer, because the request has {lifetimes.ttl_text}"]


def _prices(gangs: Sequence[Gang], best: Candidate, context: ResolveContext) -> list[str]:
    found = []
    if best.price_basis == "estimate":
        found.append("the price of the first candidate is an estimate; estimates=False excludes estimates")
    total = sum(len(gang.zones) for gang in gangs)
    fresh_since = context.fresh_since
    stale = sum(
        len(gang.zones) for gang in gangs if gang.row is not None and gang.row.as_of < fresh_since[gang.purchase]
    )
    if stale:
        which = "all prices are" if stale == total else f"{stale:,} of {total:,} prices are"
        age, spot = map(format_duration, context.price_ages)
        ages = age if spot == age else f"{age}, or {spot} for spot"
        found.append(f"{which} out of date (older than {ages}); the table marks them with S")
    return found
