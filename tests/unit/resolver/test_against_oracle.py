"""The resolver gives the same answers as a brute-force resolver that checks every offer on its own."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from multicompute.catalog import Catalog
from multicompute.errors import SpecError
from multicompute.plan import Candidate
from multicompute.resolver import resolve
from tests.unit.resolver.oracle import Oracle, PartKey, key_of, universe
from tests.unit.resolver.strategies import NOW, Question, questions, tight_questions

PROVIDERS = Path(__file__).parents[3] / "providers"
CATALOG = Catalog({name: PROVIDERS / f"multicompute_{name}" / "data" for name in ("aws", "gcp", "azure")})
EXAMPLES = int(os.environ.get("CAMPAIGN_EXAMPLES", "150"))
"""`make campaign` sets many thousands."""

_offers = universe(CATALOG)
_keys = frozenset(key_of(offer, 0) for _, offer in _offers)


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


def assert_same_answer(question: Question) -> None:
    configured = {name: "no key" if name in question.unusable else "" for name in CATALOG.providers}
    known: dict[str, Any] = {
        "outages": question.outages,
        "reservations": question.reservations,
        "only": question.only,
        "lifetime_limits": question.lifetime_limits,
        "default_ttl": question.default_ttl,
    }
    oracle = Oracle(question.spec, CATALOG, _offers, NOW, unusable=question.unusable, **known)
    answer = partial(resolve, question.spec, CATALOG, now=NOW, configured=configured, **known)
    if oracle.is_refused():
        with pytest.raises(SpecError):
            answer()
        return
    plan = answer()
    expected = oracle.answer()
    assert [described(candidate) for candidate in plan.candidates] == expected.candidates
    assert {reason: rejection.count for reason, rejection in plan.rejected.items()} == expected.rejected
    used = {key_of(part.offer, 0) for item in plan for part in item.parts if part.reservation is None}
    # An offer without a zone may be in candidates in several zones.
    in_candidates = {key if key in _keys else (*key[:2], "", *key[3:]) for key in used}
    assert len(in_candidates) + sum(item.count for item in plan.rejected.values()) == CATALOG.offer_count
    for candidate in plan:
        parts = [(part.offer, part.reservation) for part in candidate.parts]
        assert candidate.ends_early == any(oracle.ends_early(*part) for part in parts)
        assert candidate.is_configured == (not question.unusable & {part.offer.provider for part in candidate.parts})
