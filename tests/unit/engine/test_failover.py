"""The order of candidates after a failure, and the outages that follow from it: pure decisions."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from multicompute import errors
from multicompute.engine.provision.failover import CandidateQueue, Exclusion, exclusion_of, outage_of
from multicompute.offer import InstanceType, Offer, Part, Purchase, Quote
from multicompute.plan import Candidate, Outage

NOW = datetime(2027, 1, 1, 12, tzinfo=UTC)


def candidate(
    zone: str = "a", *, region: str = "r1", nodes: int = 8, price: float = 10.0, **changes: object
) -> Candidate:
    purchase: Purchase = "spot" if changes.get("spot") else "on_demand"
    instance = InstanceType(str(changes.get("provider", "p")), str(changes.get("kind", "big.8x")), "h100", 8, 80, 192)
    offer = Offer(instance, region, f"{region}{zone}", purchase, Quote(price, date(2026, 7, 1), "a list"))
    return Candidate((Part(offer, nodes),))


def zones(queue: CandidateQueue) -> list[str]:
    found = []
    while (each := queue.next(now=NOW)) is not None:
        found.append(each.zone)
    return found


def outage(**changes: Any) -> Outage:
    return replace(Outage("p", "r1a", "big.8x", "on_demand", "capacity", NOW + timedelta(minutes=5)), **changes)


def test_candidates_are_tried_in_the_order_of_the_plan() -> None:
    assert zones(CandidateQueue([candidate("a"), candidate("b"), candidate("c")])) == ["r1a", "r1b", "r1c"]


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({}, ["r1b", "r2a"]),
        ({"place": "r1"}, ["r2a"]),
        ({"place": ""}, []),
        ({"instance_type": "big.*"}, ["r1b", "r2a"]),
        ({"instance_type": "small.*"}, ["r1a", "r1b", "r2a"]),
        ({"purchase": "spot"}, ["r1a", "r1b", "r2a"]),
        ({"provider": "q"}, ["r1a", "r1b", "r2a"]),
        ({"nodes": 9}, ["r1a", "r1b", "r2a"]),
        ({"nodes": 8}, ["r1b", "r2a"]),
        ({"until": NOW}, ["r1a", "r1b", "r2a"]),
    ],
)
def test_an_outage_rules_out_what_it_covers(changes: dict[str, object], left: list[str]) -> None:
    everything = [candidate("a"), candidate("b"), candidate("a", region="r2")]
    assert zones(CandidateQueue(everything, [outage(**changes)])) == left


def test_zones_that_the_cloud_names_are_tried_next() -> None:
    queue = CandidateQueue([candidate(zone) for zone in "abcd"])
    first = queue.next(now=NOW)
    assert first is not None
    error = errors.CapacityError("none", scope="zone", zones_with_capacity=("r1d",))
    queue.record_failure(first, error, outage_of(error, first, now=NOW))
    assert zones(queue) == ["r1d", "r1b", "r1c"]


def test_named_zones_move_no_candidate_of_another_purchase_or_type() -> None:
    queue = CandidateQueue([candidate("a"), candidate("b"), candidate("d", kind="other"), candidate("d", spot=True)])
    first = queue.next(now=NOW)
    assert first is not None
    queue.record_failure(first, errors.CapacityError("none", zones_with_capacity=("r1d",)), None)
    assert zones(queue) == ["r1b", "r1d", "r1d"]


def test_a_candidate_whose_price_has_risen_is_put_back_by_its_price() -> None:
    queue = CandidateQueue([candidate("a", price=1), candidate("b", price=2), candidate("c", price=3)])
    first = queue.next(now=NOW)
    assert first is not None
    dearer = replace(first, parts=candidate("a", price=2.5).parts)
    assert queue.put_back(dearer)
    assert zones(queue) == ["r1b", "r1a", "r1c"]


def test_a_candidate_that_is_still_the_cheapest_is_not_put_back() -> None:
    queue = CandidateQueue([candidate("a", price=1), candidate("b", price=2)])
    first = queue.next(now=NOW)
    assert first is not None
    assert not queue.put_back(replace(first, parts=candidate("a", price=1.5).parts))
    assert zones(queue) == ["r1b"]


@pytest.mark.parametrize(
    ("error", "place", "reason"),
    [
        (errors.CapacityError("x", scope="zone"), "r1a", "capacity"),
        (errors.CapacityError("x", scope="request"), "r1a", "capacity"),
        (errors.CapacityError("x", scope="region"), "r1", "capacity"),
        (errors.CapacityError("x", scope="account"), "", "capacity"),
        (errors.CapacityError("x", scope="zone", is_offered=False), "r1a", "not offered"),
        (errors.QuotaError("x", scope="region"), "r1", "quota"),
        (errors.AccessDeniedError("x", scope="region"), "r1", "access"),
    ],
)
def test_a_lack_is_remembered_in_its_scope(error: errors.MulticomputeError, place: str, reason: str) -> None:
    found = outage_of(error, candidate("a"), now=NOW)
    assert found is not None
    assert (found.place, found.reason) == (place, reason)
    assert found.covers(candidate("a").parts[0].offer, nodes=8, now=NOW)


@pytest.mark.parametrize(
    "error",
    [
        errors.AuthError("x", scope="account"),
        errors.AccessDeniedError("x", scope="account"),
        errors.InvalidRequestError("x"),
        errors.ProviderError("x"),
        errors.ThrottledError("x"),
        errors.TransientError("x"),
    ],
)
def test_an_error_that_is_no_lack_is_not_remembered(error: errors.MulticomputeError) -> None:
    assert outage_of(error, candidate("a"), now=NOW) is None


def test_an_outage_that_recurs_lasts_longer_up_to_a_limit_and_covers_smaller_gangs() -> None:
    error = errors.CapacityError("x", scope="zone")
    past: list[Outage] = []
    lengths = []
    for _ in range(12):
        found = outage_of(error, candidate("a"), now=NOW, past=past)
        assert found is not None
        lengths.append(found.until - NOW)
        past = [found]
    assert lengths[:3] == [timedelta(minutes=5), timedelta(minutes=10), timedelta(minutes=20)]
    assert lengths[-1] == timedelta(hours=2)
    smaller = outage_of(error, candidate("a", nodes=2), now=NOW, past=past)
    assert smaller is not None
    assert smaller.nodes == 2


def test_a_quota_outage_does_not_cover_smaller_gangs() -> None:
    found = outage_of(errors.QuotaError("x", scope="region"), candidate("a"), now=NOW)
    assert found is not None
    assert found.covers(candidate("b").parts[0].offer, nodes=8, now=NOW)
    assert not found.covers(candidate("b").parts[0].offer, nodes=7, now=NOW)


def test_a_candidate_with_a_part_in_a_dropped_provider_is_skipped() -> None:
    spread = Candidate((*candidate("a").parts, *candidate("a", provider="q").parts))
    queue = CandidateQueue([spread, candidate("b")])
    queue.drop("q")
    assert zones(queue) == ["r1b"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.CapacityError("x", scope="zone"), None),
        (errors.CapacityError("x", scope="account"), None),
        (errors.QuotaError("x", scope="region"), None),
        (errors.QuotaError("x", scope="account"), None),
        (errors.AuthError("x", scope="account"), Exclusion("p")),
        (errors.AuthError("x", scope="region"), Exclusion("p", "r1")),
        (errors.AccessDeniedError("x", scope="region"), Exclusion("p", "r1")),
        (errors.AccessDeniedError("x", scope="type"), Exclusion("p", "r1", instance_type="big.8x")),
        (errors.InvalidRequestError("x", scope="request"), None),
        (errors.InvalidRequestError("x", scope="type"), Exclusion("p", "r1", instance_type="big.8x")),
        (errors.InvalidRequestError("x", scope="zone"), Exclusion("p", "r1", "r1a")),
        # An image that one region lacks.
        (errors.InvalidRequestError("x", scope="region"), Exclusion("p", "r1")),
        # A call that the adapter always makes wrongly.
        (errors.InvalidRequestError("x", scope="account"), Exclusion("p")),
        (errors.ProviderError("x"), None),
        (errors.TransientError("x"), Exclusion("p", "r1")),
    ],
)
def test_a_failure_rules_out_its_scope_and_no_more(error: errors.MulticomputeError, expected: Exclusion | None) -> None:
    assert exclusion_of(error, candidate("a")) == expected


def test_an_error_in_a_zone_that_the_cloud_chose_rules_out_no_region() -> None:
    regional = candidate("a")
    part = replace(regional.parts[0], offer=replace(regional.parts[0].offer, zone=""))
    error = errors.InvalidRequestError("x", scope="zone")
    assert exclusion_of(error, Candidate((part,))) is None


def test_a_cloud_that_does_not_answer_is_tried_after_the_others() -> None:
    elsewhere = candidate("a", provider="p", region="r2")
    queue = CandidateQueue([candidate("a"), candidate("b"), elsewhere, candidate("c", provider="q")])
    first = queue.next(now=NOW)
    assert first is not None
    queue.record_failure(first, errors.TransientError("x"), None)
    assert zones(queue) == ["r1c", "r2a"]
