"""The resolver gives the same answers as a brute-force resolver that checks every offer on its own."""

import os
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from multicompute.catalog import Catalog
from multicompute.errors import SpecError
from multicompute.plan import Candidate
from multicompute.resolver import resolve
from multicompute.resolver.discounts import Discounts, known_discounts
from tests.unit.resolver.oracle import Oracle, PartKey, key_of, universe
from tests.unit.resolver.strategies import NOW, Question, questions, tight_questions
from tests.unit.resolver.zone_prices import ZonePrices

PROVIDERS = Path(__file__).parents[3] / "providers"
CATALOG = Catalog({name: PROVIDERS / f"multicompute_{name}" / "data" for name in ("aws", "gcp", "azure")})
EXAMPLES = int(os.environ.get("CAMPAIGN_EXAMPLES", "150"))
"""`make campaign` sets many thousands."""

BY_ZONE = ZonePrices({name: PROVIDERS / f"multicompute_{name}" / "data" for name in ("aws", "gcp", "azure")})
# All offers of a catalog; not read on import, since each worker of pytest-xdist imports every module.
all_offers = cache(universe)


@cache
def all_keys() -> frozenset[PartKey]:
    """Return the keys of the offers of both catalogs, whose prices differ."""
    return frozenset(key_of(offer, 0) for _, offer in all_offers(CATALOG))


def described(candidate: Candidate) -> tuple[PartKey, ...]:
    return tuple(key_of(part.offer, part.nodes, part.reservation) for part in candidate.parts)


settings.register_profile("oracle", max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@settings(settings.get_profile("oracle"))
@given(questions(CATALOG))
def test_candidates_their_order_and_the_counts_of_reasons_are_those_of_the_brute_force_resolver(
    question: Question,
) -> None:
    assert_same_answer(question)


@settings(settings.get_profile("oracle"))
@given(tight_questions(CATALOG))
def test_gangs_that_spread_or_use_reservations_are_those_of_the_brute_force_resolver(question: Question) -> None:
    assert_same_answer(question)


@settings(settings.get_profile("oracle"), max_examples=max(EXAMPLES // 3, 1))
@given(questions(BY_ZONE))
def test_prices_that_differ_between_zones_give_the_answers_of_the_brute_force_resolver(question: Question) -> None:
    assert_same_answer(question, BY_ZONE)


@settings(settings.get_profile("oracle"), max_examples=max(EXAMPLES // 3, 1))
@given(tight_questions(BY_ZONE))
def test_gangs_over_zones_with_prices_of_their_own_are_those_of_the_brute_force_resolver(question: Question) -> None:
    assert_same_answer(question, BY_ZONE)


def assert_same_answer(question: Question, catalog: Catalog = CATALOG) -> None:
    configured = {name: "no key" if name in question.unusable else "" for name in catalog.providers}
    known: dict[str, Any] = {
        "outages": question.outages,
        "reservations": question.reservations,
        "only": question.only,
        "lifetime_limits": question.lifetime_limits,
        "default_ttl": question.default_ttl,
    }
    terms: dict[str, Any] = {"discounts": question.discounts, "used": question.used}
    oracle = Oracle(question.spec, catalog, all_offers(catalog), NOW, unusable=question.unusable, **known, **terms)
    resolved = Discounts(known_discounts(question.discounts, catalog, catalog.providers), question.used)
    known["discounts"] = resolved if question.discounts else None
    answer = partial(resolve, question.spec, catalog, now=NOW, configured=configured, **known)
    if oracle.is_refused():
        with pytest.raises(SpecError):
            answer()
        return
    plan = answer()
    expected = oracle.answer()
    assert [described(candidate) for candidate in plan.candidates] == expected.candidates
    assert {reason: rejection.count for reason, rejection in plan.rejected.items()} == expected.rejected
    assert [candidate.hourly_cost for candidate in plan] == pytest.approx(expected.prices, abs=2e-6)
    hours = oracle.hours()
    for candidate, price, transfer in zip(plan, expected.prices, expected.transfers, strict=True):
        assert candidate.transfer_cost == (None if transfer is None else pytest.approx(transfer, abs=2e-6))
        is_known = hours is not None and transfer is not None
        total = hours * price + transfer if hours is not None and transfer is not None else None
        assert candidate.total_cost == (pytest.approx(total, abs=1e-5, rel=1e-9) if is_known else None)
        assert candidate.hourly_cost >= 0
    used = {key_of(part.offer, 0) for item in plan for part in item.parts if part.reservation is None}
    # An offer without a zone may be in candidates in several zones.
    in_candidates = {key if key in all_keys() else (*key[:2], "", *key[3:]) for key in used}
    assert len(in_candidates) + sum(item.count for item in plan.rejected.values()) == CATALOG.offer_count
    for candidate in plan:
        parts = [(part.offer, part.reservation) for part in candidate.parts]
        assert candidate.ends_early == any(oracle.ends_early(*part) for part in parts)
        assert candidate.is_configured == (not question.unusable & {part.offer.provider for part in candidate.parts})
