"""What is looked up before a launch: quotas, reservations, and today's price where ours is only an estimate."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from multicompute.engine.operation.operation import Operation
from multicompute.engine.provision.failover import short_quota
from multicompute.errors import MulticomputeError, QuotaError, SpecError
from multicompute.offer import Offer, Quote
from multicompute.plan import AttemptReport, Candidate
from multicompute.provider import Capability, Quotas, Reservation
from multicompute.session import Session
from multicompute.spec import ClusterSpec

_POOL: Final = 8


def quota_error(op: Operation, candidate: Candidate) -> QuotaError | None:
    """The error of a candidate that the account's quota does not allow, found without a launch; None where it may go ahead."""
    provider = op.session.provider(candidate.provider)
    if Capability.QUOTAS not in provider.capabilities:
        return None
    short = short_quota(_quotas(op, candidate).quotas, candidate)
    if short is None:
        return None
    quota, needed = short
    offer = candidate.parts[0].offer
    error = QuotaError(
        f"{quota.name}: {needed:g} {quota.unit} needed, {quota.limit:g} allowed, {quota.used:g} in use",
        provider=candidate.provider,
        region=candidate.region,
        instance_type=candidate.instance_type,
        hint=f"ask {candidate.provider} to raise it in {candidate.region}",
        scope="region",
    )
    report = AttemptReport(
        provider=offer.provider,
        region=offer.region,
        zone=offer.zone,
        instance_type=offer.instance_type,
        purchase=offer.purchase,
        nodes=candidate.nodes,
        outcome="no quota",
        message=error.message,
    )
    op.reports.append(report)
    op.story.add("quota", f"{report}; not asked for", provider=candidate.provider, region=candidate.region)
    return error


def _quotas(op: Operation, candidate: Candidate) -> Quotas:
    """The quotas of the candidate's region, read once per operation; what can't be read is a note, not an error."""
    key = (candidate.provider, candidate.region)
    if key not in op.quotas:
        provider = op.session.provider(candidate.provider)
        try:
            op.quotas[key] = provider.quotas(candidate.region)
        except MulticomputeError as error:
            op.quotas[key] = Quotas(notes=(f"quotas can't be read: {error.message}",))
        for note in op.quotas[key].notes:
            op.story.add("note", f"{candidate.provider} {candidate.region}: {note}")
    return op.quotas[key]


def recheck_price(op: Operation, candidate: Candidate) -> Candidate | None:
    """The candidate at today's price where ours was an estimate and the cloud tells; None where that is too much for the spec."""
    if candidate.price_basis != "estimate":
        return candidate
    quotes = _todays(op, [part.offer for part in candidate.parts])
    if not quotes:
        return candidate
    parts = tuple(replace(part, offer=_at(part.offer, quotes.get(part.offer))) for part in candidate.parts)
    checked = replace(candidate, parts=parts)
    if checked.hourly_cost != candidate.hourly_cost:
        op.story.add(
            "note",
            f"{candidate.instance_type} in {candidate.zone or candidate.region}: estimated at "
            f"${candidate.hourly_cost:,.2f}/h, is ${checked.hourly_cost:,.2f}/h today",
        )
    over_price = op.spec.max_price is not None and checked.price_per_accelerator > op.spec.max_price
    over_hourly = op.spec.max_hourly is not None and checked.hourly_cost > op.spec.max_hourly
    return None if over_price or over_hourly else checked


def _todays(op: Operation, offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
    """Today's prices, as far as the clouds of these offers tell them."""
    found: dict[Offer, Quote] = {}
    for name in dict.fromkeys(offer.provider for offer in offers):
        provider = op.session.provider(name)
        if Capability.LIVE_PRICES not in provider.capabilities:
            continue
        try:
            found |= provider.quotes([offer for offer in offers if offer.provider == name])
        except MulticomputeError as error:
            op.story.add("note", f"the estimated price could not be confirmed: {error.message}", code=error.code)
    return found


def _at(offer: Offer, quote: Quote | None) -> Offer:
    return offer if quote is None else replace(offer, quote=quote)


def find_reservations(session: Session, spec: ClusterSpec) -> tuple[Reservation, ...]:
    """Look the spec's reservations up in every region where they may be.

    Raises:
        SpecError: one of them is in none of the regions of the configured clouds.
    """
    places = [
        (name, region.name)
        for name, why_not in session.usable.items()
        if why_not == "" and (spec.clouds is None or name in spec.clouds)
        if Capability.RESERVATIONS in session.provider(name).capabilities
        for region in session.catalog.regions()
        if region.provider == name
    ]

    def look(place: tuple[str, str]) -> tuple[Reservation, ...]:
        name, region = place
        try:
            return session.provider(name).quotas(region, reservations=spec.reservations).reservations
        except MulticomputeError:
            # A region that is not enabled for the account answers with an error; the reservation is not there.
            return ()

    with ThreadPoolExecutor(_POOL) as pool:
        found = [reservation for answer in pool.map(look, places) for reservation in answer]
    missing = [wanted for wanted in spec.reservations if wanted not in {each.id for each in found}]
    if missing:
        clouds = ", ".join(sorted({name for name, _ in places})) or "no configured cloud"
        raise SpecError(f"reservations: {', '.join(missing)}: not found in {len(places)} regions of {clouds}")
    return tuple(found)
