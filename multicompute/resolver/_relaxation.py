"""Proposes the smallest change of a spec that would have an offer, when the spec itself has none."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, NamedTuple

from multicompute.errors import SpecError
from multicompute.plan import Candidate, Plan
from multicompute.plan_text import PURCHASE_WORDS, requested
from multicompute.resolver import _reasons as reasons
from multicompute.resolver._catalog_index import usable_memory
from multicompute.sizing.options import NO_FIT
from multicompute.spec import ClusterSpec, relaxations
from multicompute.units import counted, format_duration, format_usd

Decide = Callable[[ClusterSpec], Plan]

ARGUMENTS: Final = {
    reasons.OTHER_CLOUD: "clouds",
    reasons.EXCLUDED_TYPE: "exclude",
    reasons.PER_NODE: "gpus_per_node",
    reasons.TOO_FEW: "nodes",
    reasons.SURPLUS: "allow_surplus",
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
    reasons.NO_TRANSFER: "data",
    reasons.ESTIMATE: "estimates",
    reasons.OVER_MAX_PRICE: "max_price",
    reasons.OVER_MAX_HOURLY: "max_hourly",
    reasons.ENDS_EARLY: "strict_ttl",
    reasons.NO_FABRIC: "interconnect",
}
"""Reason -> the argument that causes it."""
_STATES: Final = (
    *(reasons.OUTAGE, reasons.TAGS, reasons.REGION_NOT_CONFIGURED, reasons.ZONE_NOT_CONFIGURED),
    *(reasons.REGION_REFUSED, reasons.NOT_SOLD, reasons.IMAGE_REQUIRED, reasons.NO_IMAGE),
    *(reasons.SURPLUS, reasons.OVER_CEILING),
)
"""Reasons that come from the clouds, the account or the configuration."""
_INSIDE: Final = tuple(
    reason for reason in reasons.ORDER[reasons.ORDER.index(reasons.EXCLUDED_ZONE) + 1 :] if reason in _STATES
)
"""Those of them that are checked after the places, so they reject offers in the places that were asked for."""

_MEASURES: Final[Mapping[str, Callable[[Candidate], float]]] = {
    "min_gpu_memory": lambda candidate: usable_memory(candidate.instance),
    "vcpus": lambda candidate: candidate.instance.vcpus,
    "memory": lambda candidate: candidate.instance.memory_gib,
    "max_price": lambda candidate: candidate.price_per_accelerator,
    "max_hourly": lambda candidate: candidate.hourly_cost,
    # For a workload only: otherwise nothing exceeds them.
    "budget": lambda candidate: candidate.total_cost or 0.0,
    "deadline": lambda candidate: candidate.hours or 0.0,
}
"""Limit -> what it is compared with."""
_HOURS: Final = _MEASURES["deadline"]
_HOUR, _YEAR = timedelta(hours=1), timedelta(days=365)
_NEAR_ENOUGH: Final = 1.05
"""A deadline that is so much longer than the shortest possible one is proposed, which saves making more plans."""


_SCOPE: Final = ("clouds", "regions", "exclude")
"""Arguments that say where to look. A change of another argument is nearer: it keeps to the places that were asked for."""
_COUNTS: Final[Mapping[str, Callable[[Candidate], float]]] = {
    "nodes": lambda candidate: candidate.nodes,
    "gpus_per_node": lambda candidate: candidate.instance.accelerators,
}
"""Number -> what it is compared with; the nearest one is proposed."""


class Proposal(NamedTuple):
    """The nearest change that has an offer.

    Attributes:
        text: The change and its best offer, in one sentence.
        binding: What rules out the offers that the change would allow; "" if the arguments alone do not.
    """

    text: str
    binding: str


class Change(NamedTuple):
    """A change of a spec; the lower the distance, the nearer."""

    distance: tuple[bool, float]
    text: str
    best: Candidate
    binding: str = ""


def nearest(plan: Plan, decide: Decide) -> Proposal | None:
    """Return the change of the spec of `plan` that is nearest and has an offer; None if all changes together have none.

    Changes that keep to the places that were asked for come first. The distance of a limit or a number is the share by which
    it must move; every other change counts as much as doubling a limit. Single changes come first, the smallest set of changes
    only if no single one helps.
    """
    spec = plan.spec
    changes = [change for name in relaxations() if (change := _single(spec, name, decide))]
    changes += [change for change in (_fewer(spec, decide), _as_sold(spec, decide), _enough(plan, decide)) if change]
    if changes:
        near = min(changes, key=lambda change: change.distance)
        is_elsewhere, _ = near.distance
        binding = (_state(plan) if is_elsewhere else "") or near.binding
        return Proposal(f"{near.text} would have one: {describe(near.best)}", binding)
    return _together(plan, decide)


def _state(plan: Plan) -> str:
    """Return why the places that were asked for have no offer, if it is the state of the clouds; "" if it is not."""
    counts = {reason: plan.rejected[reason].count for reason in _INSIDE if reason in plan.rejected}
    commonest = max(counts, key=lambda reason: counts[reason], default=None)
    return "" if commonest is None else f"{commonest}, {_rejection(plan, commonest)}"


def _rejection(plan: Plan, reason: str) -> str:
    """Return how many offers a reason rejects, with an example."""
    rejection = plan.rejected[reason]
    example = f", such as {rejection.examples[0]}" if rejection.examples else ""
    return f"{counted(rejection.count, 'offer')}{example}"


def describe(best: Candidate) -> str:
    """Return a candidate in half a line."""
    kind = f"{best.nodes} x {best.instance_type}"
    price = f"{format_usd(best.hourly_cost)}/h"
    each = f", {format_usd(best.price_per_accelerator)} per accelerator" if best.accelerators else ""
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
    """Relax one argument; move a limit or a number only as far as needed."""
    old, relaxed = getattr(spec, name), relaxations()[name].to
    plan = _other_zones(spec, decide) if name == "regions" else None
    if plan is not None:
        best = plan.candidates[0]
        return Change((True, 1.0), f"regions={[best.zone or best.region]}", best, _binding(spec, name, plan))
    plan = _try(spec, decide, **{name: relaxed}) if old != relaxed else None
    if plan is None:
        return None
    best = _closest(_soonest(plan, spec, decide) if name == "deadline" else plan, spec, name)
    if name == "deadline" and _HOURS(best) > _YEAR / _HOUR:
        # On as many accelerators as the spec asks for it takes years: more of them are the better proposal.
        return None
    text = _change(spec, name, best)
    distance = 1.0
    if name == "allow_surplus" and spec.gpus is not None:
        # A little farther than to ask for as many, which says what is bought.
        best = min(plan.candidates, key=lambda candidate: candidate.accelerators)
        distance = best.accelerators / spec.gpus - 0.999
    measure = {**_MEASURES, **_COUNTS}.get(name)
    if measure is not None and not text.startswith("without "):
        has, had = measure(best), old / timedelta(hours=1) if isinstance(old, timedelta) else old
        distance = max(has, had) / min(has, had) - 1
    return Change((name in _SCOPE, distance), text, best, _binding(spec, name, plan))


def _binding(spec: ClusterSpec, name: str, relaxed: Plan) -> str:
    """Return how many offers meet all other arguments, and that this one rules them out."""
    count = len(relaxed.candidates)
    offers = "the only offer that meets" if count == 1 else f"all {count:,} offers that meet"
    return f"{_setting(spec, name)} rules out {offers} the rest"


def _setting(spec: ClusterSpec, name: str) -> str:
    value = getattr(spec, name)
    if value is False and name in ("spot", "flex_start"):
        # Users do not type `spot=False`.
        return f"buying without {name}"
    if name == "allow_surplus":
        return f"at most a quarter more than gpus={spec.gpus} (allow_surplus=False)"
    return f"{name}={_shown(value)}"


def _other_zones(spec: ClusterSpec, decide: Decide) -> Plan | None:
    """Return the plan for the complete regions of the zones that the spec names, None if it names none."""
    regions = [re.sub(r"(?<=\d)[a-z]$|-[a-z0-9]$", "", pattern.casefold()) for pattern in spec.regions]
    return _try(spec, decide, regions=regions) if regions != [item.casefold() for item in spec.regions] else None


def _soonest(plan: Plan, spec: ClusterSpec, decide: Decide) -> Plan:
    """Return the plan with the shortest deadline that has an offer, `plan` being the one without.

    The candidates are the cheapest number of nodes of each machine, so that a longer deadline means slower ones.
    """
    assert spec.deadline is not None
    if spec.gpus is not None:
        return plan
    low, high = spec.deadline / _HOUR, min(map(_HOURS, plan.candidates))
    while high > low * _NEAR_ENOUGH:
        middle = math.sqrt(low * high)
        faster = _try(spec, decide, deadline=timedelta(hours=middle))
        if faster is None:
            low = middle
        else:
            plan, high = faster, min(middle, *map(_HOURS, faster.candidates))
    return plan


def _closest(plan: Plan, spec: ClusterSpec, name: str) -> Candidate:
    """Return the candidate for which a limit or a number has to move least; the first of several."""
    if name in _COUNTS:
        return min(plan.candidates, key=lambda candidate: abs(_COUNTS[name](candidate) - getattr(spec, name)))
    if name not in _MEASURES:
        return plan.candidates[0]
    return (min if relaxations()[name].limit == "maximum" else max)(plan.candidates, key=_MEASURES[name])


def _change(spec: ClusterSpec, name: str, best: Candidate) -> str:
    """Return the change of an argument that makes `best` a candidate, with the value of `best` if it is a limit."""
    has = _MEASURES[name](best) if name in _MEASURES else 0.0
    if not has:
        return _wording(spec, name, best)
    if name == "deadline":
        return f"deadline={format_duration(_round_up_time(has))!r}" if has <= _YEAR / _HOUR else "without deadline"
    return f"{name}={_round_up(has):.2f}" if relaxations()[name].limit == "maximum" else f"{name}={has:g}"


def _round_up_time(hours: float) -> timedelta:
    """Round up to a day, an hour or a minute, whichever people would write."""
    unit = timedelta(days=1) if hours > 72 else timedelta(hours=1) if hours > 3 else timedelta(minutes=1)
    return unit * math.ceil(timedelta(hours=hours) / unit)


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
    if spec.gpus is None or spec.nodes is not None or spec.gpus == 1 or spec.workload is not None:
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
    return Change((False, spec.gpus / (low * step) - 1), f"gpus={low * step}", best) if best else None


def _as_sold(spec: ClusterSpec, decide: Decide) -> Change | None:
    """Propose as many accelerators as the offer with the fewest in excess has, if every offer has too many."""
    if spec.gpus is None or spec.allow_surplus or spec.gpus_per_node is not None:
        return None
    plan = _try(spec, decide, allow_surplus=True)
    if plan is None:
        return None
    best = min(plan.candidates, key=lambda candidate: candidate.accelerators)
    if best.accelerators <= spec.gpus or best.accelerators != int(best.accelerators):
        return None
    distance = best.accelerators / spec.gpus - 1
    return Change((False, distance), f"gpus={best.accelerators:g}", best, _binding(spec, "allow_surplus", plan))


def _enough(failed: Plan, decide: Decide) -> Change | None:
    """Propose as many accelerators as the workload needs at least, if it does not fit on so few or takes too long."""
    spec = failed.spec
    if spec.gpus is None or spec.workload is None:
        return None
    plan = _try(spec, decide, gpus=None)
    if plan is None:
        return None
    best = min(plan.candidates, key=lambda candidate: candidate.accelerators)
    distance = max(best.accelerators, spec.gpus) / min(best.accelerators, spec.gpus) - 1
    unfit = NO_FIT in failed.rejected
    binding = f"the model does not fit on gpus={spec.gpus}" if unfit else _binding(spec, "gpus", plan)
    return Change((False, distance), f"gpus={best.accelerators:g}", best, binding)


def _together(failed: Plan, decide: Decide) -> Proposal | None:
    """Propose the fewest changes that have an offer together: make all, then undo each that is not needed."""
    spec = failed.spec
    changed: dict[str, object] = {
        name: relaxed.to for name, relaxed in relaxations().items() if getattr(spec, name) != relaxed.to
    }
    plan = _try(spec, decide, **changed)
    if plan is None:
        return None
    # Those about the place first, so that the others are kept only if they are needed in the places that were asked for.
    for name in sorted(changed, key=lambda name: name not in _SCOPE):
        kept = {other: value for other, value in changed.items() if other != name}
        if (found := _try(spec, decide, **kept)) is not None:
            changed, plan = kept, found
    best = plan.candidates[0]
    text = " with ".join(_change(spec, name, best) for name in changed)
    settings = [_setting(spec, name) for name in changed]
    # A setting that is the only one left is no combination: no smaller change was found for it.
    binding = f"{' and '.join(settings)} rule out every offer together" if len(settings) > 1 else ""
    if all(name in _SCOPE for name in changed):
        binding = _state(failed) or binding
    return Proposal(f"{text} would have one: {describe(best)}", binding)


def explain_failure(plan: Plan) -> str:
    """Return why a plan has no candidate, in one sentence: the request, and the constraint that rules out the offers in it."""
    what = requested(plan.spec)
    if plan.binding:
        above = plan.rejected.get(reasons.OVER_CEILING)
        ceiling = f"; {counted(above.count, 'offer')} {reasons.OVER_CEILING}" if above else ""
        return f"no offer for {what} meets the spec: {plan.binding}{ceiling}"
    if plan.spec.workload is not None and (why := _job_reason(plan)):
        return f"no offer for {what} does the job: {why}"
    worst = _commonest_reason(plan)
    if worst is None:
        return f"no offer for {what}: the tables have no price for it in any region"
    argument = ARGUMENTS.get(worst)
    setting = f" ({argument}={_shown(getattr(plan.spec, argument))})" if argument else ""
    return f"no offer for {what} meets the spec; most common reason: {worst}{setting}, {_rejection(plan, worst)}"


def _job_reason(plan: Plan) -> str:
    """Return the most frequent reason why machines that meet the spec can't do its workload, "" if none meets it."""
    counts = {reason: item.count for reason, item in plan.rejected.items() if reason not in reasons.ORDER}
    worst = max(counts, key=lambda reason: counts[reason], default=None)
    return "" if worst is None else f"{worst}, {_rejection(plan, worst)}"


def _commonest_reason(plan: Plan) -> str | None:
    """Return the reason that rejects the most offers among those that were asked for, None if there are no offers at all."""
    elsewhere = (reasons.WRONG_ACCELERATOR, reasons.OTHER_TYPE)
    counts = {reason: item.count for reason, item in plan.rejected.items() if reason not in elsewhere}
    inside = {reason: count for reason, count in counts.items() if ARGUMENTS.get(reason) not in _SCOPE} or counts
    # Arguments that the user set come before defaults: "spot not asked for" is true, but not the problem.
    stated = {reason: count for reason, count in inside.items() if _is_stated(plan.spec, reason)} or inside
    return max(stated, key=lambda reason: stated[reason], default=None)


def _is_stated(spec: ClusterSpec, reason: str) -> bool:
    """Return whether a reason comes from a non-default argument or the state of the clouds, not from a default."""
    if reason in _STATES:
        return True
    argument = ARGUMENTS.get(reason)
    return argument is not None and getattr(spec, argument) != ClusterSpec.model_fields[argument].default


def _shown(value: object) -> str:
    if isinstance(value, timedelta):
        return repr(format_duration(value))
    return repr(list(value)) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else repr(value)
