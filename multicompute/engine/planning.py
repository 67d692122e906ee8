"""Makes plans: passes the state of the session to the resolver, and checks tags and usable clouds."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from multicompute.engine.broken_limits import refuse_broken_limits
from multicompute.engine.outages import OUTAGE_HINT, active_outages, ruling_out
from multicompute.errors import AuthError, CapacityError, LedgerError, SpecError
from multicompute.plan import Candidate, Outage, Plan
from multicompute.plan_text import describe_outage, requested
from multicompute.provider import Account, Availability, Reservation, TagLimits
from multicompute.resolver import OUTAGE, require, resolve
from multicompute.session import Session, open_session
from multicompute.spec import ClusterSpec

if TYPE_CHECKING:
    from multicompute.resolver.discounts import Discounts

Places = Mapping[tuple[str, str], Availability]
"""(provider, region) -> what the account can use there."""
_KEPT: Final = timedelta(days=1)
"""For how long an answer about what an account can use is used."""
_REFUSAL_KEPT: Final = timedelta(hours=1)
"""The same for a region that the account can't use: it may be enabled at any time."""


def plan_now(spec: ClusterSpec) -> Plan:
    """Return the plan for `spec` in the current session, with the candidates that outages rule out; calls no cloud.

    Prices that are older than the configuration allows are fetched first.

    Raises:
        SpecError: The spec contradicts itself, or names what does not exist.
        NoOfferError: No offer in the catalog meets the spec; the error carries the plan.
    """
    session = open_session()
    failures = refresh_for(session, spec)
    plan = _with_ruled_out(session, plan_for(session, spec))
    require(plan)
    refuse_broken_limits(session, spec, plan)
    return dataclasses.replace(plan, notes=(*plan.notes, *failures)) if failures else plan


def refresh_for(session: Session, spec: ClusterSpec, *, notify: Callable[[str], None] | None = None) -> tuple[str, ...]:
    """Refresh the prices that a plan needs, if the configuration asks for it and they are too old.

    Args:
        session: The configuration and the current tables.
        spec: The request.
        notify: Called with what is done, in a sentence, if it takes time.

    Returns:
        Why prices could not be refreshed, as notes for the plan. The plan is made with the prices that there are.
    """
    if session.config.auto_refresh is None and session.config.max_price_age is None:
        return ()
    # Imported here: few configurations ask for it.
    from multicompute.price_refresh.auto import refresh_old_prices

    return refresh_old_prices(session, spec, notify=notify)


def _with_ruled_out(session: Session, plan: Plan) -> Plan:
    """Return the plan with the candidates that remembered outages rule out at the end, marked."""
    try:
        outages, now = active_outages(session), session.clock.now()
    except LedgerError:
        # The plan has a note about it.
        return plan
    if not outages:
        return plan
    possible = plan_for(session, plan.spec, outages=()).candidates
    marked = [
        dataclasses.replace(candidate, outage=outage)
        for candidate in possible
        if (outage := ruling_out(candidate, outages, now=now)) is not None
    ]
    if not marked:
        return plan
    # They are shown as candidates: what is left of this reason would count them twice.
    rejected = {reason: found for reason, found in plan.rejected.items() if reason != OUTAGE}
    notes = plan.notes
    if not plan.candidates:
        note = f"a request fails until {_first_end(marked)}, or waits if keep_trying is set; {OUTAGE_HINT}"
        notes = (*notes, note)
    return dataclasses.replace(plan, candidates=(*plan.candidates, *marked), rejected=rejected, notes=notes)


def _first_end(marked: Sequence[Candidate]) -> str:
    """Return when the first of these outages ends, in words."""
    ends = [candidate.outage.until for candidate in marked if candidate.outage is not None]
    return f"{min(ends):%Y-%m-%d %H:%M} UTC"


def plan_for(
    session: Session,
    spec: ClusterSpec,
    *,
    reservations: Sequence[Reservation] = (),
    outages: Sequence[Outage] | None = None,
    availability: Places | None = None,
    ceiling: float | None = None,
) -> Plan:
    """Return the plan for `spec`, from the catalog, the ledger and the configuration; calls no cloud.

    Args:
        session: The catalog, the ledger and the configured providers.
        spec: The request.
        reservations: What the clouds report about the reservations in the spec.
        outages: Used instead of those in the ledger.
        availability: Used instead of what the ledger has of the accounts that were asked last.
        ceiling: Used instead of the configured maximum price in USD per hour; infinity for none.

    Raises:
        SpecError: The spec contradicts itself or names something that does not exist, or only own machines where there are none.
    """
    if spec.clouds:
        # Imported here: few requests name clouds.
        from multicompute.engine.hosts import require_hosts

        require_hosts(session, spec.clouds)
    problems = _tag_problems(session, spec)
    notes = tuple(f"{name} is left out: tags: {problem}" for name, problem in problems.items())
    try:
        outages = active_outages(session) if outages is None else outages
        availability = known_availability(session) if availability is None else availability
    except LedgerError as error:
        # A plan is useful even without the ledger; a launch is refused without it anyway.
        outages, availability = outages or (), {}
        notes = (*notes, f"this plan ignores remembered outages: {error}")
    discounts, ignored = _discounts(session)
    plan = resolve(
        spec,
        session.catalog,
        now=session.clock.now(),
        configured=session.usable,
        outages=outages,
        reservations=reservations,
        only=session.only,
        lifetime_limits=session.lifetime_limits,
        default_ttl=session.config.default_ttl,
        tag_problems=problems,
        availability=availability,
        fabric_limits=session.fabric_limits,
        image_required=session.image_required,
        ceiling=session.config.max_hourly if ceiling is None else ceiling,
        max_price_age=session.config.max_price_age,
        discounts=discounts,
    )
    notes = (*notes, *ignored, *_unknown_availability(plan, availability))
    return dataclasses.replace(plan, notes=(*plan.notes, *notes)) if notes else plan


def _discounts(session: Session) -> "tuple[Discounts | None, tuple[str, ...]]":
    """Return the configured discounts, and a note about those that a plan without the ledger ignores."""
    if not session.config.discounts:
        return None, ()
    # Imported here: it loads the ledger, and few configurations have discounts.
    from multicompute.engine.discounts import active_discounts, unlimited_discounts

    try:
        return active_discounts(session), ()
    except LedgerError as error:
        note = f"this plan ignores discounts that cover a number of nodes: {error}"
        return unlimited_discounts(session), (note,)


def require_candidate(session: Session, plan: Plan, without_outages: Callable[[], Plan]) -> None:
    """Raise if the plan has no candidate.

    Raises:
        CapacityError: Every candidate was recently found to be out of capacity or quota.
        NoOfferError: No offer meets the spec, with or without outages.
    """
    if plan.candidates:
        return
    if possible := without_outages().candidates:
        outages, now = active_outages(session), session.clock.now()
        ruled_out = [outage for candidate in possible if (outage := ruling_out(candidate, outages, now=now))]
        first = min(ruled_out, key=lambda outage: outage.until, default=None)
        # A gang of several parts may fail for want of parts that are each possible.
        end = f"; the first ends at {first.until:%Y-%m-%d %H:%M} UTC: {describe_outage(first)}" if first else ""
        which = "the only candidate is" if len(possible) == 1 else f"all {len(possible):,} candidates are"
        raise CapacityError(
            f"{which} ruled out by remembered outages{end}",
            plan=plan,
            hint=f"{OUTAGE_HINT}; or set keep_trying, such as keep_trying='2h'",
        )
    require(plan)


def require_usable(plan: Plan, usable: Mapping[str, str]) -> None:
    """Raise if no candidate is in a cloud that can be used here.

    Raises:
        AuthError: No candidate is in a usable cloud; the message names the clouds, and why each can't be used.
    """
    if any(candidate.is_configured for candidate in plan.candidates):
        return
    providers = dict.fromkeys(candidate.provider for candidate in plan.candidates)
    reasons = "; ".join(f"{name}: {usable.get(name, 'not installed')}" for name in providers)
    text = f"no cloud that sells {requested(plan.spec)} can be used here: {reasons}"
    raise AuthError(text, hint="`multicompute doctor` shows what is missing")


def _unknown_availability(plan: Plan, availability: Places) -> tuple[str, ...]:
    """Return a note if it is not known what the account can use in the region of the first candidate."""
    if not plan.candidates:
        return ()
    best = plan.best
    if (best.provider, best.region) in availability:
        return ()
    where = f"{best.provider} {best.region}"
    return (
        f"what your account can use in {where} was not asked today; a request asks, and so does `multicompute doctor`",
    )


def known_availability(session: Session, accounts: Mapping[str, Account | None] | None = None) -> Places:
    """Return what the clouds have answered within the last day; calls no cloud, and creates no ledger.

    Args:
        session: The session with the ledger.
        accounts: Provider -> the account in use. For other providers it is the account that was asked last.

    Raises:
        LedgerError: The ledger exists and can't be read.
    """
    if not session.has_ledger:
        return {}
    now = session.clock.now()
    records = [
        record
        for record in session.ledger.availability(since=now - _KEPT)
        if not record.availability.refused or record.read_at >= now - _REFUSAL_KEPT
    ]
    in_use: dict[str, tuple[str, ...]] = {record.provider: (record.account,) for record in records}
    in_use |= {name: account.ids for name, account in (accounts or {}).items() if account is not None}
    return {
        (record.provider, record.availability.region): record.availability
        for record in records
        if record.account in in_use[record.provider]
    }


def _tag_problems(session: Session, spec: ClusterSpec) -> Mapping[str, str]:
    """Return what the clouds that may be chosen do not accept about the tags, by cloud; those that accept them are missing.

    Raises:
        SpecError: None of the clouds that can be used accepts them.
    """
    if not spec.tags:
        return {}
    names = [name for name in session.plugins if session.usable[name] == "" and name in (spec.clouds or (name,))]
    found = {name: _tag_problem(session.plugins[name].tag_limits, spec) for name in names}
    problems = {name: problem for name, problem in found.items() if problem}
    if problems and len(problems) == len(names):
        text = "; ".join(f"{problem} on {name}" for name, problem in problems.items())
        raise SpecError(f"tags: {text}", provider=names[0], argument="tags", hint="change the tags")
    return problems


def _tag_problem(limits: TagLimits, spec: ClusterSpec) -> str:
    """Return why `limits` do not allow the tags of `spec`, "" if they do."""
    if len(spec.tags) > limits.count:
        return f"{len(spec.tags)} are more than the {limits.count} that the cloud allows"
    for key, value in spec.tags.items():
        if len(key) > limits.key_length:
            return f"the name {key[:20]!r}... is longer than the {limits.key_length} characters allowed"
        if len(value) > limits.value_length:
            return f"the value of {key!r} is longer than the {limits.value_length} characters allowed"
        if any(key.lower().startswith(prefix) for prefix in limits.reserved_prefixes):
            return f"{key!r} begins with a reserved prefix"
        if limits.key_pattern and not re.fullmatch(limits.key_pattern, key):
            return f"the name {key!r} has characters that are not allowed"
    return ""
