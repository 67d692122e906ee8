"""When nothing meets a spec: the smallest change of it that would have an offer."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from multicompute.errors import SpecError
from multicompute.plan import Candidate, Plan
from multicompute.plan_text import PURCHASE_WORDS
from multicompute.resolver import _reasons as reasons
from multicompute.resolver._catalog_index import usable_memory
from multicompute.units import format_usd

if TYPE_CHECKING:
    from multicompute.spec import ClusterSpec

Decide = Callable[["ClusterSpec"], Plan]

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
    reasons.EXCLUDED_REGION: "exclude",
    reasons.ESTIMATE: "estimates",
    reasons.OVER_MAX_PRICE: "max_price",
    reasons.OVER_MAX_HOURLY: "max_hourly",
    reasons.NO_FABRIC: "interconnect",
}
"""Reason -> the argument that brings it about."""

_RELAXED: Final = {
    "clouds": None,
    "exclude": (),
    "gpus_per_node": None,
    "nodes": None,
    "min_gpu_memory": None,
    "vcpus": None,
    "memory": None,
    "spot": "prefer",
    "flex_start": True,
    "regions": (),
    "estimates": True,
    "max_price": None,
    "max_hourly": None,
    "interconnect": "any",
    "placement": "any",
}
"""Argument -> the value with which it leaves nothing out, in the order in which equally near changes are preferred."""


_MONEY: Final = ("max_price", "max_hourly")
_SIZES: Final[Mapping[str, Callable[[Candidate], float]]] = {
    "min_gpu_memory": lambda candidate: usable_memory(candidate.instance),
    "vcpus": lambda candidate: candidate.instance.vcpus,
    "memory": lambda candidate: candidate.instance.memory_gib,
}
"""The limits that move by a share: those of money, and those of size with what a candidate has."""


class Change(NamedTuple):
    """One change of a spec; the smaller the distance, the nearer."""

    distance: float
    text: str
    best: Candidate


def nearest(spec: "ClusterSpec", decide: Decide) -> str | None:
    """The nearest change that has an offer, in one sentence; None when even all together would not.

    A limit of money or size is as far as the share by which it has to move; everything else counts as far as doubling a
    limit. Single changes first; only if none helps, the fewest together.
    """
    changes = [change for name in _RELAXED if (change := _single(spec, name, decide))]
    if fewer := _fewer(spec, decide):
        changes.append(fewer)
    if changes:
        near = min(changes, key=lambda change: change.distance)
        return f"{near.text} would have one: {describe(near.best)}"
    return _together(spec, decide)


def describe(best: Candidate) -> str:
    """A candidate in half a line."""
    kind = f"{best.nodes} x {best.instance_type}"
    price = f"{format_usd(best.hourly_cost)}/h"
    each = f", {format_usd(best.price_per_accelerator)} per accelerator-hour" if best.accelerators else ""
    place = f"{best.provider} {best.zone or best.region}"
    return f"{place} {kind} {PURCHASE_WORDS[best.purchase]} at {price}{each}"


def _try(spec: "ClusterSpec", decide: Decide, **values: object) -> Plan | None:
    """The plan for a changed spec, or None where it has no candidate either."""
    try:
        plan = decide(replace(spec, **values))  # type: ignore[arg-type]
    except SpecError:
        return None
    return plan if plan.candidates else None


def _single(spec: "ClusterSpec", name: str, decide: Decide) -> Change | None:
    """Let one argument go; for a limit, move it just as far as needed."""
    old = getattr(spec, name)
    plan = _try(spec, decide, **{name: _RELAXED[name]}) if old != _RELAXED[name] else None
    if plan is None:
        return None
    best = _closest(plan, name)
    if name in _MONEY:
        needed = _needed(name, best)
        return Change(needed / old - 1, f"{name}={_round_up(needed):.2f}", best)
    if name in _SIZES and (has := _SIZES[name](best)):
        return Change(old / has - 1, f"{name}={has:g}", best)
    return Change(1.0, _wording(spec, name, best), best)


def _closest(plan: Plan, name: str) -> Candidate:
    """The candidate for which a limit has to move least; the first of several."""
    if name == "max_price":
        return min(plan.candidates, key=lambda candidate: candidate.price_per_accelerator)
    if name in _SIZES:
        return max(plan.candidates, key=_SIZES[name])
    return plan.candidates[0]


def _needed(name: str, best: Candidate) -> float:
    """What a limit of money has to be for `best`."""
    return best.price_per_accelerator if name == "max_price" else best.hourly_cost


def _round_up(amount: float) -> float:
    """To the cent, so that the value in the message is enough."""
    cents = -(-round(amount * 1e6) // 10_000)
    return cents / 100


def _wording(spec: "ClusterSpec", name: str, best: Candidate) -> str:
    """How to write the change of an argument, after which `best` is had."""
    each = best.instance.accelerators
    # Numbers that a spec refuses together are not proposed.
    if name == "gpus_per_node" and each >= 1 and each * (spec.nodes or best.nodes) == spec.gpus:
        return f"gpus_per_node={each:g}"
    if name == "nodes" and (spec.gpus is None or best.nodes <= spec.gpus):
        return f"nodes={best.nodes}"
    if name == "clouds":
        return f"clouds={[best.provider]}"
    if name == "regions":
        return f"regions={[best.region]}"
    value = _RELAXED[name]
    return f"{name}={value!r}" if value else f"without {name}"


def _fewer(spec: "ClusterSpec", decide: Decide) -> Change | None:
    """The largest smaller gang that has an offer: quotas, outages and limits of money may leave room for one."""
    if spec.gpus is None or spec.nodes is not None or spec.gpus == 1:
        return None
    step = spec.gpus_per_node or 1
    low, high, best = 0, -(-spec.gpus // step), None
    # Whether a gang fits is monotone in its size, near enough: halving finds the largest in twenty steps.
    while high - low > 1:
        middle = (low + high) // 2
        plan = _try(spec, decide, gpus=middle * step)
        if plan is None:
            high = middle
        else:
            low, best = middle, plan.candidates[0]
    return Change(spec.gpus / (low * step) - 1, f"gpus={low * step}", best) if best else None


def _together(spec: "ClusterSpec", decide: Decide) -> str | None:
    """The fewest changes that have an offer together: all at once, then each taken back that is not needed."""
    changed: dict[str, object] = {name: loose for name, loose in _RELAXED.items() if getattr(spec, name) != loose}
    plan = _try(spec, decide, **changed)
    if plan is None:
        return None
    for name in list(changed):
        kept = {other: value for other, value in changed.items() if other != name}
        if (found := _try(spec, decide, **kept)) is not None:
            changed, plan = kept, found
    best = plan.candidates[0]
    words = [
        f"{name}={_round_up(_needed(name, best)):.2f}" if name in _MONEY else _wording(spec, name, best)
        for name in changed
    ]
    return f"{' with '.join(words)} would have one: {describe(best)}"


def explain_failure(plan: Plan) -> str:
    """Why a plan has no candidate, in one sentence: what was asked for, where it was looked for, what cost most."""
    spec = plan.spec
    wanted = " or ".join(spec.type) or "reserved capacity"
    what = f"{spec.gpus} x {wanted}" if spec.gpus is not None else f"{spec.nodes or 1} x {wanted}"
    elsewhere = (reasons.WRONG_ACCELERATOR, reasons.OTHER_TYPE)
    costs = {reason: item.count for reason, item in plan.rejected.items() if reason not in elsewhere}
    # What the user wrote goes before what is so by default: that spot offers were left out is true, but not the trouble.
    costs = {reason: count for reason, count in costs.items() if _is_stated(spec, reason)} or costs
    if not costs:
        return f"no offer for {what}: the tables have no price for it in any region"
    worst = max(costs, key=lambda reason: costs[reason])
    argument = ARGUMENTS.get(worst)
    setting = f" ({argument}={_shown(getattr(spec, argument))})" if argument else ""
    example = f", such as {plan.rejected[worst].examples[0]}" if plan.rejected[worst].examples else ""
    return f"no offer for {what} meets the spec: {worst}{setting} left out most, {costs[worst]:,} offers{example}"


def _is_stated(spec: "ClusterSpec", reason: str) -> bool:
    """Whether the spec's own words, or the state of the clouds, are behind a reason."""
    if reason == reasons.OUTAGE:
        return True
    argument = ARGUMENTS.get(reason)
    return argument is not None and getattr(spec, argument) != type(spec).__dataclass_fields__[argument].default


def _shown(value: object) -> str:
    return repr(list(value)) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else repr(value)
