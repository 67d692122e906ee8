"""No answer about one offer ends a request: over every row of the error tables, and over unknown codes."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute.engine.provision.failover import CandidateQueue, outage_of
from multicompute.engine.provision.summary import causes, commonest
from multicompute.errors import CapacityError, InvalidRequestError, MulticomputeError, QuotaError
from multicompute.offer import InstanceType, Offer, Part, Purchase, Quote
from multicompute.plan import Candidate
from multicompute.provider_kit.vendor_errors import (
    MALFORMED,
    Meaning,
    Meanings,
    Place,
    VendorAnswer,
    error_of,
    meaning_of,
)
from multicompute_aws._errors import MEANINGS as AWS
from multicompute_azure._errors import MEANINGS as AZURE
from multicompute_gcp._errors import MEANINGS as GCP

NOW = datetime(2027, 1, 1, 12, tzinfo=UTC)
TABLES: Final[Mapping[str, Meanings]] = {"aws": AWS, "azure": AZURE, "gcp": GCP}
ROWS = [
    (provider, code, meaning) for provider, table in TABLES.items() for code, row in table.items() for meaning in row
]
PURCHASES: tuple[Purchase, ...] = ("on_demand", "spot")


def offer(provider: str, region: int, zone: str, kind: str, purchase: Purchase) -> Offer:
    instance = InstanceType(provider, kind, "h100", 8, 80, 192)
    return Offer(instance, f"r{region}", f"r{region}{zone}", purchase, Quote(10.0, date(2026, 7, 1), "a list"))


OFFERS = [
    offer(provider, region, zone, kind, purchase)
    for provider in TABLES
    for region in (1, 2)
    for zone in "ab"
    for kind in ("big.8", "huge.8")
    for purchase in PURCHASES
]


def is_in_scope(refused: Offer, meaning: Meaning, other: Offer) -> bool:
    """Return whether a refusal may cost another offer, by the definition of scopes."""
    if other.provider != refused.provider:
        return False
    if meaning.kind in (CapacityError, QuotaError):
        is_same = (other.instance_type, other.purchase) == (refused.instance_type, refused.purchase)
        return is_same and meaning.scope in _scopes(refused, other)
    return meaning.scope in _scopes(refused, other)


def _scopes(refused: Offer, other: Offer) -> list[str]:
    """Return the scopes that contain both offers."""
    is_region, is_zone = other.region == refused.region, other.zone == refused.zone
    is_type = other.instance_type == refused.instance_type
    found = {
        "account": True,
        "region": is_region,
        "zone": is_zone,
        "type": is_region and is_type,
        # A lack of capacity for one request is remembered for its zone.
        "request": is_zone and is_type and other.purchase == refused.purchase,
    }
    return [scope for scope, is_common in found.items() if is_common]


def refusal(where: Offer, code: str, meaning: Meaning) -> MulticomputeError:
    return error_of(meaning, VendorAnswer(code, "no"), operation="Launch", place=Place.of(where))


def passes_by_itself(meaning: Meaning) -> bool:
    """Return whether a call with this answer is repeated; what is left after that costs the region."""
    return meaning.kind.__name__ in ("TransientError", "ThrottledError")


@given(refused=st.sampled_from(OFFERS), row=st.sampled_from(ROWS))
def test_a_row_costs_no_more_than_its_scope(refused: Offer, row: tuple[str, str, Meaning]) -> None:
    _, code, meaning = row
    queue = CandidateQueue(Candidate((Part(each, 1),)) for each in OFFERS if each != refused)
    candidate = Candidate((Part(refused, 1),))
    error = refusal(refused, code, meaning)
    outage = outage_of(error, candidate, now=NOW)
    queue.record_failure(candidate, error, outage)
    left = []
    while (following := queue.next(now=NOW)) is not None:
        left.append(following.parts[0].offer)
    if passes_by_itself(meaning):
        meaning = meaning._replace(scope="region")
    assert [each for each in OFFERS if each != refused and each not in left] == [
        each for each in OFFERS if each != refused and is_in_scope(refused, meaning, each)
    ]
    if outage is not None:
        remembered = {each for each in OFFERS if outage.covers(each, nodes=1, now=NOW)}
        assert all(each == refused or is_in_scope(refused, meaning, each) for each in remembered)


@given(
    answers=st.lists(st.sampled_from(ROWS), min_size=len(OFFERS), max_size=len(OFFERS)),
    accepting=st.sampled_from(OFFERS),
)
def test_a_request_reaches_the_place_that_accepts_it_unless_an_answer_rules_it_out(
    answers: list[tuple[str, str, Meaning]], accepting: Offer
) -> None:
    queue = CandidateQueue(Candidate((Part(each, 1),)) for each in OFFERS)
    meanings = {each: meaning for each, (_, _, meaning) in zip(OFFERS, answers, strict=True)}
    ruled_out_by = []
    while (candidate := queue.next(now=NOW)) is not None:
        where = candidate.parts[0].offer
        if where == accepting:
            return
        error = refusal(where, "Code", meanings[where])
        queue.record_failure(candidate, error, outage_of(error, candidate, now=NOW))
        scope = "region" if passes_by_itself(meanings[where]) else meanings[where].scope
        if is_in_scope(where, meanings[where]._replace(scope=scope), accepting):
            ruled_out_by.append(where)
    assert ruled_out_by


@given(
    provider=st.sampled_from(sorted(TABLES)),
    code=st.text(min_size=1, max_size=30),
    status=st.sampled_from((0, 400, 404, 409, 412, 422, 500)),
    message=st.text(max_size=50),
)
def test_an_unknown_code_costs_the_refused_offer_only(provider: str, code: str, status: int, message: str) -> None:
    if code in TABLES[provider]:
        return
    meaning = meaning_of(TABLES[provider], VendorAnswer(code, message, status))
    assert meaning.scope == "request"
    first, *others = (Candidate((Part(each, 1),)) for each in OFFERS)
    queue = CandidateQueue(others)
    error = refusal(first.parts[0].offer, code, meaning)
    queue.record_failure(first, error, outage_of(error, first, now=NOW))
    left = []
    while (following := queue.next(now=NOW)) is not None:
        left.append(following)
    assert sorted(map(str, left)) == sorted(map(str, others))


@pytest.mark.parametrize("provider", TABLES)
def test_only_credentials_and_malformed_calls_cost_a_cloud(provider: str) -> None:
    rows = [(code, row) for code, meanings in TABLES[provider].items() for row in meanings if row.scope == "account"]
    lacks = [row for row in rows if row[1].kind in (CapacityError, QuotaError)]
    others = [
        (code, row.kind.__name__)
        for code, row in rows
        if (code, row) not in lacks and row.kind.__name__ != "AuthError" and row[:2] != MALFORMED[:2]
        if code not in OF_THE_SUBSCRIPTION and "/subscriptions/[^/']+'" not in row.wording
    ]
    assert others == []
    invalid = {code for code, row in rows if row.kind is InvalidRequestError}
    assert invalid <= MALFORMED_CODES


OF_THE_SUBSCRIPTION: Final = {"ReadOnlyDisabledSubscription", "MissingSubscriptionRegistration"}
"""Codes of Azure that speak of the subscription, as those do whose text names nothing in it."""
MALFORMED_CODES: Final = {
    *("UnknownParameter", "MissingParameter"),
    *("unknownField", "parseError"),
    *("InvalidRequestContent", "InvalidRequestFormat", "MissingApiVersionParameter", "InvalidApiVersionParameter"),
}
"""What a cloud answers to a call that it can't read: it is the same in every region."""


@given(st.lists(st.sampled_from(ROWS), min_size=1, max_size=40))
def test_a_summary_names_the_commonest_cause_first_in_one_line(rows: list[tuple[str, str, Meaning]]) -> None:
    failures = [refusal(OFFERS[0], code, meaning) for _, code, meaning in rows]
    text = causes(failures)
    counts = [int(part.split()[0]) for part in text.split(", ")]
    named = counts[:3]
    assert sum(counts) == len(failures)
    assert named == sorted(named, reverse=True)
    assert "\n" not in text
    example = commonest(failures)
    assert sum((type(each), each.code) == (type(example), example.code) for each in failures) >= named[0]
