"""Makes plans: gives the resolver what this session knows, and checks what no single cloud's table can tell."""

import dataclasses
import re
from collections.abc import Callable, Sequence

from multicompute.errors import CapacityError, LedgerError, SpecError
from multicompute.plan import Outage, Plan
from multicompute.provider import Reservation, TagLimits
from multicompute.resolver import require, resolve
from multicompute.session import Session, open_session
from multicompute.spec import ClusterSpec


def plan_now(spec: ClusterSpec) -> Plan:
    """Return the plan for `spec` in the current session; calls no cloud.

    Raises:
        SpecError: The spec contradicts itself, or names what does not exist.
        NoOfferError: No offer in the catalog meets the spec; the error carries the plan.
        CapacityError: All offers that meet the spec are excluded by remembered outages.
    """
    session = open_session()
    plan = plan_for(session, spec)
    require_candidate(plan, lambda: plan_for(session, spec, outages=()))
    return plan


def plan_for(
    session: Session,
    spec: ClusterSpec,
    *,
    reservations: Sequence[Reservation] = (),
    outages: Sequence[Outage] | None = None,
) -> Plan:
    """The plan for `spec` over everything this session knows; asks no cloud.

    Args:
        reservations: what the clouds said of the reservations that the spec names.
        outages: instead of those that the ledger remembers.

    Raises:
        SpecError: the spec contradicts itself, or names what does not exist.
    """
    _check_tags(session, spec)
    notes: tuple[str, ...] = ()
    if outages is None:
        try:
            outages = remembered(session)
        except LedgerError as error:
            # A plan is worth having even where the ledger is not; a launch is refused there anyway.
            outages, notes = (), (f"remembered outages are not in this plan: {error}",)
    plan = resolve(
        spec,
        session.catalog,
        now=session.clock.now(),
        configured=session.usable,
        outages=outages,
        reservations=reservations,
        only=session.only,
    )
    return dataclasses.replace(plan, notes=(*plan.notes, *notes)) if notes else plan


def require_candidate(plan: Plan, without_outages: Callable[[], Plan]) -> None:
    """Refuse a plan that has nothing to try.

    Raises:
        CapacityError: all that would do was found to be out of capacity or quota a short while ago.
        NoOfferError: nothing would do at any time.
    """
    if plan.candidates:
        return
    if count := len(without_outages().candidates):
        raise CapacityError(
            f"all {count} candidates are ruled out by remembered outages: each was tried a short while ago",
            plan=plan,
            hint="try again in some minutes; widen the spec, or set keep_trying, such as keep_trying='2h'",
        )
    require(plan)


def remembered(session: Session) -> Sequence[Outage]:
    """The outages that this ledger remembers; none where there is no ledger yet, which is not made for that.

    Raises:
        LedgerError: there is one, and it can't be read.
    """
    if not session.has_ledger:
        return ()
    return session.ledger.outages(now=session.clock.now())


def _check_tags(session: Session, spec: ClusterSpec) -> None:
    """Refuse tags that a cloud which may be chosen does not take."""
    if not spec.tags:
        return
    for name, plugin in session.plugins.items():
        if session.usable[name] == "" and (spec.clouds is None or name in spec.clouds):
            wrong = _against(plugin.tag_limits, spec)
            if wrong:
                others = [cloud for cloud in session.plugins if cloud != name]
                hint = f"change them, or name the clouds to use, such as clouds={others!r}"
                raise SpecError(f"tags: {wrong} on {name}", provider=name, hint=hint)


def _against(limits: TagLimits, spec: ClusterSpec) -> str:
    """What is wrong with the tags of `spec` under `limits`, "" for nothing."""
    if len(spec.tags) > limits.count:
        return f"{len(spec.tags)} are more than the {limits.count} that can be had beside ours"
    for key, value in spec.tags.items():
        if len(key) > limits.key_length:
            return f"the name {key[:20]!r}... is longer than the {limits.key_length} characters it may have"
        if len(value) > limits.value_length:
            return f"the value of {key!r} is longer than the {limits.value_length} characters it may have"
        if any(key.lower().startswith(prefix) for prefix in limits.reserved_prefixes):
            return f"{key!r} begins with a prefix that is reserved"
        if limits.key_pattern and not re.fullmatch(limits.key_pattern, key):
            return f"the name {key!r} has characters that it may not have"
    return ""
