"""Proposes the smallest change of a spec that would have an offer, when the spec itself has none."""

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from multicompute.errors import SpecError
from multicompute.plan import Candidate, Plan
from multicompute.plan_text import PURCHASE_WORDS, requested
from multicompute.resolver import _reasons as reasons
from multicompute.resolver._catalog_index import usable_memory
from multicompute.spec import ClusterSpec, relaxations
from multicompute.units import format_usd

Decide = Callable[[ClusterSpec], Plan]

ARGUMENTS: Final = {
    reasons.OTHER_CLOUD: "clouds",
    reasons.EXCLUDED_TYPE: "exclude",
    reasons.PER_NODE: "gpus_per_node",
    reasons.TOO_FEW: "nodes",
    reasons.GPU_MEMORY: "min_gpu_memory",
    reasons.VCPUS: "vcpus",
    reasons.MEMORY: "memory",
    reasons.PURCHASES["on_demand"]: "spot",
    reasons.PURCHASES["spot"]: "spot",
    reasons.PURCHASES["flex_start"]: "flex_start",
    reasons.OTHER_REGION: "regions",
    reasons.OTHER_ZONE: "regions",
    reasons.EXCLUDED_REGION: "exclude",
    reasons.EXCLUDED_ZONE: "exclude",
    reasons.ESTIMATE: "estimates",
    reasons.OVER_MAX_PRICE: "max_price",
    reasons.OVER_MAX_HOURLY: "max_hourly",
    reasons.ENDS_EARLY: "strict_ttl",
    reasons.NO_FABRIC: "interconnect",
}
"""Reason -> the argument that causes it."""

_MEASURES: Final[Mapping[str, Callable[[Candidate], float]]] = {
    "min_gpu_memory": lambda candidate: usable_memory(candidate.instance),
    "vcpus": lambda candidate: candidate.instance.vcpus,
    "memory": lambda candidate: candidate.instance.memory_gib,
    "max_price": lambda candidate: candidate.price_per_accelerator,
    "max_hourly": lambda candidate: candidate.hourly_cost,
}
"""Limit -> what it is compared with."""


class Change(NamedTuple):
    """A change of a spec; the lower the distance, the nearer."""

    distance: float
    text: str
    best: Candidate


def nearest(spec: ClusterSpec, decide: Decide) -> str | None:
    """Return the nearest change that has an offer, in one sentence; None if all changes together have none.

    The distance of a limit is the share by which it must move; every other change counts as much as doubling a limit.
    Single changes come first, the smallest set of changes only if no single one helps.
    """
    changes = [change for name in relaxations() if (change := _single(spec, name, decide))]
    if fewer := _fewer(spec, decide):
        changes.append(fewer)
    if changes:
        near = min(changes, key=lambda change: change.distance)
        return f"{near.text} would have one: {describe(near.best)}"
    return _together(spec, decide)


def describe(best: Candidate) -> str:
    """Return a candidate in half a line."""
    kind = f"{best.nodes} x {best.instance_type}"
    price = f"{format_usd(best.hourly_cost)}/h"
    each = f", {format_usd(best.price_per_accelerator)} per accelerator-hour" if best.accelerators else ""
    place = f"{best.provider} {best.zone or best.region}"
    return f"{place} {kind} {PURCHASE_WORDS[best.purchase]} at {price}{each}"


def _try(spec: ClusterSpec, decide: Decide, **values: object) -> Plan | None:
    """Return the plan for a changed spec, None if it has no candidate either."""
    try:
        plan = decide(spec.replace(**values))
    except SpecError:
        return None
    return plan if plan.candidates else None


def _single(spec: ClusterSpec, name: str, decide: Decide) -> Change | None:
    """Relax one argument; move a limit only as far as needed."""
    old, relaxed = getattr(spec, name), relaxations()[name].to
    plan = _other_zones(spec, decide) if name == "regions" else None
    if plan is not None:
        best = plan.candidates[0]
        return Change(1.0, f"regions={[best.zone or best.region]}", best)
    plan = _try(spec, decide, **{name: relaxed}) if old != relaxed else None
    if plan is None:
        return None
    best = _closest(plan, name)
    has = _MEASURES[name](best) if name in _MEASURES else 0.0
    if not has:
        return Change(1.0, _wording(spec, name, best), best)
    if relaxations()[name].limit == "maximum":
        return Change(has / old - 1, f"{name}={_round_up(has):.2f}", best)
    return Change(old / has - 1, f"{name}={has:g}", best)


def _other_zones(spec: ClusterSpec, decide: Decide) -> Plan | None:
    """Return the plan for the complete regions of the zones that the spec names, None if it names none."""
    regions = [re.sub(r"(?<=\d)[a-z]$|-[a-z0-9]$", "", pattern.casefold()) for pattern in spec.regions]
    return _try(spec, decide, regions=regions) if regions != [item.casefold() for item in spec.regions] else None


def _closest(plan: Plan, name: str) -> Candidate:
    """Return the candidate for which a limit has to move least; the first of several."""
    if name not in _MEASURES:
        return plan.candidates[0]
    return (min if relaxations()[name].limit == "maximum" else max)(plan.candidates, key=_MEASURES[name])


def _round_up(amount: float) -> float:
    """Round up to the cent, so that the value in the message is high enough."""
    cents = -(-round(amount * 1e6) // 10_000)
    return cents / 100


def _wording(spec: ClusterSpec, name: str, best: Candidate) -> str:
    """Return the change of an argument that makes `best` a candidate."""
    each = best.instance.accelerators
    # Do not propose numbers that a spec refuses together.
    if name == "gpus_per_node" and each >= 1 and each * (spec.nodes or best.nodes) == spec.gpus:
        return f"gpus_per_node={each:g}"
    if name == "nodes" and (spec.gpus is None or best.nodes <= spec.gpus):
        return f"nodes={best.nodes}"
    if name == "clouds":
        return f"clouds={[best.provider]}"
    if name == "regions":
        return f"regions={[best.region]}"
    value = relaxations()[name].to
    return f"{name}={value!r}" if value else f"without {name}"


def _fewer(spec: ClusterSpec, decide: Decide) -> Change | None:
    """Propose the largest smaller gang that has an offer: quotas, outages and maximum prices may leave room for one."""
    if spec.gpus is None or spec.nodes is not None or spec.gpus == 1:
        return None
    step = spec.gpus_per_node or 1
    low, high, best = 0, -(-spec.gpus // step), None
    # If a gang fits, smaller ones nearly always fit too: bisection finds the largest in twenty steps.
    while high - low > 1:
        middle = (low + high) // 2
        plan = _try(spec, decide, gpus=middle * step)
        if plan is None:
            high = middle
        else:
            low, best = middle, plan.candidates[0]
    return Change(spec.gpus / (low * step) - 1, f"gpus={low * step}", best) if best else None


def _together(spec: ClusterSpec, decide: Decide) -> str | None:
    """Propose the fewest changes that have an offer together: make all, then undo each that is not needed."""
    changed: dict[str, object] = {
        name: relaxed.to for name, relaxed in relaxations().items() if getattr(spec, name) != relaxed.to
    }
    plan = _try(spec, decide, **changed)
    if plan is None:
        return None
    for name in list(changed):
        kept = {other: value for other, value in changed.items() if other != name}
        if (found := _try(spec, decide, **kept)) is not None:
            changed, plan = kept, found
    best = plan.candidates[0]
    words = [
        f"{name}={_round_up(_MEASURES[name](best)):.2f}"
        if relaxations()[name].limit == "maximum"
        else _wording(spec, name, best)
        for name in changed
    ]
    return f"{' with '.join(words)} would have one: {describe(best)}"


def explain_failure(plan: Plan) -> str:
    """Return why a plan has no candidate, in one sentence: the request, and the constraint that excluded most offers."""
    spec = plan.spec
    what = requested(spec)
    elsewhere = (reasons.WRONG_ACCELERATOR, reasons.OTHER_TYPE)
    costs = {reason: item.count for reason, item in plan.rejected.items() if reason not in elsewhere}
    # Arguments that the user set come before defaults: "spot not asked for" is true, but not the problem.
    costs = {reason: count for reason, count in costs.items() if _is_stated(spec, reason)} or costs
    if not costs:
        return f"no offer for {what}: the tables have no price for it in any region"
    worst = max(costs, key=lambda reason: costs[reason])
    argument = ARGUMENTS.get(worst)
    setting = f" ({argument}={_shown(getattr(spec, argument))})" if argument else ""
    example = f", such as {plan.rejected[worst].examples[0]}" if plan.rejected[worst].examples else ""
    return f"no offer for {what} meets the spec; most common reason: {worst}{setting}, {costs[worst]:,} offers{example}"


def _is_stated(spec: ClusterSpec, reason: str) -> bool:
    """Return whether a reason comes from a non-default argument or the state of the clouds, not from a default."""
    if reason in (reasons.OUTAGE, reasons.TAGS):
        return True
    argument = ARGUMENTS.get(reason)
    return argument is not None and getattr(spec, argument) != ClusterSpec.model_fields[argument].default


def _shown(value: object) -> str:
    return repr(list(value)) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else repr(value)
