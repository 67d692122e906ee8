"""Checks quotas, reservations and estimated prices before a launch."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from multicompute.engine.operation.operation import Operation
from multicompute.engine.operation.regions import ProviderRegion, by_region_of
from multicompute.engine.provision.description import report_of
from multicompute.engine.provision.quota import short_quota
from multicompute.errors import MulticomputeError, QuotaError, SpecError
from multicompute.offer import Offer, Part, Quote
from multicompute.plan import Candidate
from multicompute.provider import Capability, Quota, Quotas, Reservation
from multicompute.session import Session
from multicompute.spec import ClusterSpec

_POOL: Final = 8


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
        except MulticomputeError as error:
            op.quotas[where] = Quotas(notes=(f"quotas can't be read: {error.message}",))
        for note in op.quotas[where].notes:
            op.events.add("note", f"{where}: {note}")
    return op.quotas[where]


def recheck_price(op: Operation, candidate: Candidate) -> Candidate | None:
    """Return the candidate with today's price in place of an estimate, if the cloud has one; None if it is over a price limit."""
    if candidate.price_basis != "estimate":
        return candidate
    quotes = _current_quotes(op, [part.offer for part in candidate.parts])
    if not quotes:
        return candidate
    parts = tuple(
        replace(part, offer=replace(part.offer, quote=quotes.get(part.offer, part.offer.quote)))
        for part in candidate.parts
    )
    checked = replace(candidate, parts=parts)
    if checked.hourly_cost != candidate.hourly_cost:
        op.events.add(
            "note",
            f"{candidate.instance_type} in {candidate.zone or candidate.region}: estimated at "
            f"${candidate.hourly_cost:,.2f}/h, is ${checked.hourly_cost:,.2f}/h today",
        )
    over_price = op.spec.max_price is not None and checked.price_per_accelerator > op.spec.max_price
    over_hourly = op.spec.max_hourly is not None and checked.hourly_cost > op.spec.max_hourly
    return None if over_price or over_hourly else checked


def _current_quotes(op: Operation, offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
    """Return today's prices of these offers, where their clouds have one."""
    found: dict[Offer, Quote] = {}
    for name in dict.fromkeys(offer.provider for offer in offers):
        provider = op.session.provider(name)
        if Capability.LIVE_PRICES not in provider.capabilities:
            continue
        try:
            found |= provider.quotes([offer for offer in offers if offer.provider == name])
        except MulticomputeError as error:
            op.events.add("note", f"the estimated price could not be confirmed: {error.message}", code=error.code)
    return found


def find_reservations(session: Session, spec: ClusterSpec) -> tuple[Reservation, ...]:
    """Find the reservations of the spec in all regions of the configured clouds.

    Raises:
        SpecError: One of them is in none of these regions.
    """
    regions = [
        ProviderRegion(name, region.name)
        for name, why_not in session.usable.items()
        if why_not == "" and (spec.clouds is None or name in spec.clouds)
        if Capability.RESERVATIONS in session.provider(name).capabilities
        for region in session.catalog.regions()
        if region.provider == name
    ]

    def find_in(where: ProviderRegion) -> tuple[Reservation, ...]:
        try:
            return session.provider(where.provider).quotas(where.region, reservations=spec.reservations).reservations
        except MulticomputeError:
            # A region that is not enabled for the account answers with an error, and has no reservation.
            return ()

    with ThreadPoolExecutor(_POOL) as pool:
        found = [reservation for answer in pool.map(find_in, regions) for reservation in answer]
    missing = [wanted for wanted in spec.reservations if wanted not in {each.id for each in found}]
    if missing:
        clouds = ", ".join(sorted({where.provider for where in regions})) or "no configured cloud"
        raise SpecError(f"reservations: {', '.join(missing)}: not found in {len(regions)} regions of {clouds}")
    return tuple(found)
