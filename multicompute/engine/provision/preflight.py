"""Checks before a launch: what the account can use, quotas, reservations and prices."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Final

from multicompute.engine.availability import read_availability, reads_availability
from multicompute.engine.operation.operation import Operation
from multicompute.engine.operation.regions import ProviderRegion, by_region_of
from multicompute.engine.operation.retry import PRICE_WAIT
from multicompute.engine.planning import Places, known_availability, plan_for
from multicompute.engine.provision.description import PRICE_ABOVE_LIMIT, report_of
from multicompute.engine.provision.quota import short_quota
from multicompute.errors import CapacityError, LedgerError, MulticomputeError, QuotaError, SpecError, message_of
from multicompute.offer import Offer, Part, Quote
from multicompute.plan import Candidate
from multicompute.provider import Availability, Capability, Quota, Quotas, Reservation
from multicompute.session import Session
from multicompute.spec import ClusterSpec
from multicompute.units import counted, format_usd

_POOL: Final = 8
_OVER_CEILING: Final = "raise `max_hourly` in the configuration or, if `confirm_above` is lower, add --yes"


def learn_availability(op: Operation, candidate: Candidate, assumed: Places) -> bool:
    """Read what the account can use in the regions of a candidate, unless that was read within the last day.

    Returns:
        Whether it differs from what the plan assumed, so that the plan has to be made again.
    """
    regions = list(by_region_of(candidate.parts, lambda part: part.offer))
    for where in regions:
        if where not in op.availability:
            op.availability[where] = _availability(op, where)
    return any(op.availability[where] != assumed.get(where, Availability(where.region)) for where in regions)


def _availability(op: Operation, where: ProviderRegion) -> Availability:
    """Return what the account can use in a region; what can't be read becomes a note, not an error."""
    unknown = Availability(where.region)
    try:
        account = op.account_of(where.provider)
        if account is None or not reads_availability(op.session, where.provider):
            return unknown
        known = known_availability(op.session, {where.provider: account})
        if where in known:
            return known[where]
        found = read_availability(op.session, where.provider, where.region, account)
    except LedgerError:
        raise
    except MulticomputeError as error:
        op.events.add("note", f"{where}: what the account can use can't be read: {error.message}", code=error.code)
        return unknown
    for note in found.notes:
        op.events.add("note", f"{where}: {note}")
    return found


def quota_error(op: Operation, candidate: Candidate) -> QuotaError | None:
    """Return the error of a candidate that exceeds a quota, so that it is not launched; None if all quotas allow it."""
    for where, parts in by_region_of(candidate.parts, lambda part: part.offer).items():
        # A quota without a region counts what is launched in the other regions of the provider, too.
        counted = [part for part in candidate.parts if part.offer.provider == where.provider]
        short = short_quota(_quotas(op, where).quotas, counted)
        if short is not None:
            return _quota_error(op, where, parts, *short)
    return None


def _quota_error(
    op: Operation, where: ProviderRegion, parts: Sequence[Part], quota: Quota, needed: float
) -> QuotaError:
    error = QuotaError(
        f"{quota.name}: {needed:g} {quota.unit} needed, {quota.limit:g} allowed, {quota.used:g} in use",
        provider=where.provider,
        region=where.region,
        instance_type=parts[0].offer.instance_type,
        hint=f"ask {where.provider} to raise it" + (f" in {where.region}" if quota.region else ""),
        scope="region" if quota.region else "account",
    )
    report = report_of(parts, "no quota", message=error.message)
    op.reports.append(report)
    op.events.add("quota", f"{report}; not launched", provider=where.provider, region=where.region)
    return error


def _quotas(op: Operation, where: ProviderRegion) -> Quotas:
    """Return the quotas of a region, read once per operation; quotas that can't be read become a note, not an error."""
    if where not in op.quotas:
        provider = op.session.provider(where.provider)
        if Capability.QUOTAS not in provider.capabilities:
            return Quotas()
        try:
            op.quotas[where] = provider.quotas(where.region)
        except Exception as error:  # noqa: BLE001 - whatever the adapter raises: the cloud itself refuses what exceeds a quota
            op.quotas[where] = Quotas(notes=(f"quotas can't be read: {message_of(error)}",))
        for note in op.quotas[where].notes:
            op.events.add("note", f"{where}: {note}")
    return op.quotas[where]


def recheck_price(op: Operation, candidate: Candidate, *, ceiling: float | None = None) -> Candidate:
    """Return the candidate with today's prices in place of estimates, spot prices and stale ones, where the cloud has them.

    Raises:
        CapacityError: It costs more than a price limit of the request, or than `ceiling` in USD per hour.
    """
    # Clouds know list prices only.
    doubtful = [part.offer.at_list() for part in candidate.parts if _is_doubtful(candidate, part.offer)]
    if not doubtful:
        return candidate
    quotes = _current_quotes(op, doubtful)
    parts = tuple(
        replace(part, offer=replace(part.offer, quote=_discounted(quotes.get(part.offer.at_list()), part.offer.quote)))
        for part in candidate.parts
    )
    checked = replace(candidate, parts=parts)
    before, today = format_usd(candidate.hourly_cost), format_usd(checked.hourly_cost)
    if before != today:
        place = candidate.zone or candidate.region
        op.events.add("note", f"{candidate.instance_type} in {place}: {before}/h in the tables, is {today}/h today")
    _require_price(op.spec, checked, ceiling)
    return checked


def _discounted(confirmed: Quote | None, planned: Quote) -> Quote:
    """Return the confirmed list price with the discount of the plan, or the planned price if there is none."""
    if confirmed is None:
        return planned
    return confirmed if planned.discount is None else planned.discount.on(confirmed)


def _is_doubtful(candidate: Candidate, offer: Offer) -> bool:
    return offer.purchase == "spot" or candidate.is_stale or offer.quote.basis == "estimate"


def _require_price(spec: ClusterSpec, checked: Candidate, ceiling: float | None) -> None:
    limits = (
        (spec.max_price, checked.price_per_accelerator, " per accelerator-hour", "max_price=", "raise max_price"),
        (spec.max_hourly, checked.hourly_cost, "/h", "max_hourly=", "raise max_hourly"),
        (ceiling, checked.hourly_cost, "/h", "the ceiling of $", _OVER_CEILING),
        # Without a workload, the budget ends the cluster, whenever that is.
        (None if spec.workload is None else spec.budget, checked.total_cost, " for the job", "budget=", "raise budget"),
    )
    for limit, price, unit, name, remedy in limits:
        if limit is not None and price is not None and price > limit:
            place = f"{checked.provider} {checked.zone or checked.region} {checked.instance_type}"
            raise CapacityError(
                f"{place}: costs {format_usd(price)}{unit} today, more than {name}{limit:g}",
                provider=checked.provider,
                region=checked.region,
                zone=checked.zone or None,
                instance_type=checked.instance_type,
                code=PRICE_ABOVE_LIMIT,
                hint=remedy,
            )


def _current_quotes(op: Operation, offers: Sequence[Offer]) -> Mapping[Offer, Quote | None]:
    """Return today's prices of these offers, where their clouds have one; each is asked for once per operation.

    A cloud whose prices can't be read is not asked again: that is one note and one delay, however many candidates there are.
    """
    for name in dict.fromkeys(offer.provider for offer in offers if offer.provider not in op.unpriced):
        wanted = [offer for offer in offers if offer.provider == name and offer not in op.quotes]
        provider = op.session.provider(name)
        if not wanted or Capability.LIVE_PRICES not in provider.capabilities:
            continue
        found: Mapping[Offer, Quote] = {}
        try:
            found = op.call(provider, "read prices", partial(provider.quotes, wanted), longest=PRICE_WAIT)
        except MulticomputeError as error:
            op.unpriced.add(name)
            op.events.add("note", f"{name}: the price could not be confirmed: {error.message}", code=error.code)
        op.quotes |= {offer: found.get(offer) for offer in wanted}
    return op.quotes


def find_reservations(session: Session, spec: ClusterSpec) -> tuple[Reservation, ...]:
    """Find the reservations of the spec in all regions of the configured clouds.

    One that these credentials may not read, such as another project's, may be anywhere: each offer that meets the spec in its
    cloud is tried with it.

    Raises:
        SpecError: One of them is in none of these regions, or can't be read and the spec names no type.
    """
    regions = [
        ProviderRegion(name, region.name)
        for name, why_not in session.usable.items()
        if why_not == "" and (spec.clouds is None or name in spec.clouds)
        if Capability.RESERVATIONS in session.provider(name).capabilities
        for region in session.catalog.regions()
        if region.provider == name
    ]

    def find_in(where: ProviderRegion) -> Quotas:
        try:
            return session.provider(where.provider).quotas(where.region, reservations=spec.reservations)
        except MulticomputeError as error:
            # A region that is not enabled for the account answers with an error, and has no reservation.
            return Quotas(notes=(f"{where}: {', '.join(spec.reservations)} could not be read: {error.message}",))

    with ThreadPoolExecutor(_POOL) as pool:
        answers = list(zip(regions, pool.map(find_in, regions), strict=True))
    found = [reservation for _, answer in answers for reservation in answer.reservations]
    known = {each.id for each in found}
    unread = {(where.provider, name) for where, answer in answers for name in answer.unreadable if name not in known}
    for provider, name in sorted(unread):
        found += _anywhere(session, spec, provider, name)
    missing = [wanted for wanted in spec.reservations if wanted not in {each.id for each in found}]
    if missing:
        clouds = ", ".join(sorted({where.provider for where in regions})) or "no configured cloud"
        notes = [note for _, answer in answers for note in answer.notes if any(name in note for name in missing)]
        raise SpecError(
            f"reservations: {', '.join(missing)}: not found in {counted(len(regions) - len(notes), 'region')} of {clouds}"
            + (f"; in {len(notes)} more they could not be read, such as {notes[0]}" if notes else ""),
            argument="reservations",
        )
    return tuple(found)


def _anywhere(session: Session, spec: ClusterSpec, provider: str, name: str) -> list[Reservation]:
    """Return a reservation that can't be read as one for each offer of its cloud that meets the spec.

    Raises:
        SpecError: The spec names no type, so it meets every offer.
    """
    if not spec.type:
        text = f"reservations: {name}: can't be read with these credentials, so its instance type is not known"
        raise SpecError(text, argument="reservations", hint="name the instance type with type=")
    plan = plan_for(session, spec.replace(reservations=(), reservations_only=False, clouds=(provider,), spot=False))
    return [
        Reservation(provider, name, part.offer.region, part.offer.zone, part.offer.instance_type, part.nodes)
        for candidate in plan.candidates
        for part in candidate.parts
    ]
