"""Shows what `up` will buy and asks for a confirmation, or requires `--yes` where there is no terminal to ask on."""

import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from multicompute.cli.output import confirm, write_message
from multicompute.errors import SpecError
from multicompute.units import format_duration, format_usd

if TYPE_CHECKING:
    from multicompute.plan import Candidate
    from multicompute.session import Session
    from multicompute.spec import ClusterSpec

_ALTERNATIVES: Final = 2


class Declined(Exception):
    """The user does not want what the request would buy."""


def approve(session: "Session", spec: "ClusterSpec") -> float | None:
    """Ask on the terminal whether to buy what a request asks for; without one, check its price against `confirm_above`.

    A request that finds its cluster buys nothing, so it needs no approval.

    Returns:
        The maximum price in USD per hour of what may be bought without a terminal, None if the user has agreed.

    Raises:
        Declined: The user said no.
        SpecError: There is no terminal, and the price is over `confirm_above`.
        MulticomputeError: As the request itself, before it calls a cloud to launch anything.
    """
    from multicompute.engine.provision.claim import find_claimed
    from multicompute.engine.provision.planner import Planner
    from multicompute.engine.provision.request import with_default_ttl

    spec = with_default_ttl(session, spec)
    if find_claimed(session, spec) is not None:
        return None
    candidates = [candidate for candidate in Planner(session, spec).plan if candidate.is_configured]
    if sys.stdin.isatty() and sys.stderr.isatty():
        for line in purchase_lines(spec, candidates):
            write_message(line)
        if not confirm("Launch it?"):
            raise Declined
        return None
    limit = session.config.confirm_above
    best = candidates[0]
    if best.hourly_cost > limit:
        raise SpecError(
            f"{_amount(spec, best)} cost {format_usd(best.hourly_cost)}/h, over confirm_above ({limit:g}), and there is no "
            "terminal to ask on",
            hint="add --yes, or raise `confirm_above` in the configuration or MULTICOMPUTE_CONFIRM_ABOVE",
        )
    return limit


def purchase_lines(spec: "ClusterSpec", candidates: "Sequence[Candidate]") -> list[str]:
    """Return what the first candidate is and costs, and what is tried next if it is sold out."""
    from multicompute.plan_text import candidate_text, group_zones

    best, *others = [line.best for line in group_zones(candidates)]
    lines = [f"{candidate_text(best)}: {_amount(spec, best)}", f"  {_cost(spec, best)}"]
    if best.price_basis == "estimate" or best.is_stale:
        lines.append(
            "  the price is an estimate or out of date; it is confirmed before the launch, where the cloud can be asked"
        )
    lines += [f"  else {candidate_text(other)}: {_amount(spec, other)}" for other in others[:_ALTERNATIVES]]
    dearest = max(candidates, key=lambda candidate: candidate.hourly_cost)
    if len(others) > _ALTERNATIVES:
        more = len(others) - _ALTERNATIVES
        lines.append(f"  else {more:,} more, up to {format_usd(dearest.hourly_cost)}/h; --max-hourly sets a limit")
    return lines


def _amount(spec: "ClusterSpec", candidate: "Candidate") -> str:
    """Return the accelerators of a candidate in words, and how many were asked for if it has more."""
    if not candidate.accelerators:
        return f"{candidate.nodes} x {candidate.instance_type}"
    amount = f"{candidate.accelerators:g} x {candidate.instance.accelerator}"
    if spec.workload is not None and candidate.hours is not None and candidate.total_cost is not None:
        return f"{amount}, {format_usd(candidate.total_cost)} for the job of {candidate.hours:,.1f} h"
    is_more = spec.gpus is not None and candidate.accelerators > spec.gpus
    return f"{amount} ({spec.gpus} asked for)" if is_more else amount


def _cost(spec: "ClusterSpec", candidate: "Candidate") -> str:
    """Return the cost of a candidate until the cluster ends, in words."""
    life = spec.ttl if isinstance(spec.ttl, timedelta) else None
    if candidate.max_lifetime is not None:
        life = min(life or candidate.max_lifetime, candidate.max_lifetime)
    if life is None:
        total, until = None, "without an end: it has no ttl"
    else:
        total, until = candidate.hourly_cost * (life / timedelta(hours=1)), f"to the end of its {format_duration(life)}"
    if spec.budget is not None and (total is None or spec.budget < total):
        total, until = spec.budget, "its budget"
    cost = "" if total is None else f", {format_usd(total)} "
    listed = f" (list price {format_usd(candidate.list_hourly_cost)})" if candidate.discount else ""
    transfer = f", and {format_usd(candidate.transfer_cost)} to transfer the data" if candidate.transfer_cost else ""
    return f"{format_usd(candidate.hourly_cost)} per hour{listed}{cost or ', '}{until}{transfer}"
