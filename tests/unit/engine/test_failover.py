"""What comes next after a failure, and what is remembered of it: pure decisions."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute import errors
from multicompute.engine.provision.failover import CandidateQueue, ends_all, ends_provider, outage_of, short_quota
from multicompute.offer import InstanceType, Offer, Part, Purchase, Quote
from multicompute.plan import Candidate, Outage
from multicompute.provider import Quota

NOW = datetime(2027, 1, 1, 12, tzinfo=UTC)


def candidate(
    zone: str = "a", *, region: str = "r1", nodes: int = 8, price: float = 10.0, **changes: object
) -> Candidate:
    purchase: Purchase = "spot" if changes.get("spot") else "on_demand"
    instance = InstanceType(str(changes.get("provider", "p")), str(changes.get("kind", "big.8x")), "h100", 8, 80, 192)
    offer = Offer(instance, region, f"{region}{zone}", purchase, Quote(price, date(2026, 7, 1), "a list"))
    return Candidate((Part(offer, nodes),))


def taken(course: CandidateQueue) -> list[str]:
    found = []
    while (each := course.next(now=NOW)) is not None:
        found.append(each.zone)
    return found


def outage(**changes: object) -> Outage:
    values = {"provider": "p", "place": "r1a", "instance_type": "big.8x", "purchase": "on_demand", "reason": "capacity"}
    return Outage(**{**values, "until": NOW + timedelta(minutes=5), **changes})  # type: ignore[arg-type]


def test_candidates_come_in_the_order_of_the_plan() -> None:
    assert taken(CandidateQueue([candidate("a"), candidate("b"), candidate("c")])) == ["r1a", "r1b", "r1c"]


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
    assert taken(CandidateQueue(everything, [outage(**changes)])) == left


def test_zones_that_the_cloud_names_come_next() -> None:
    course = CandidateQueue([candidate(zone) for zone in "abcd"])
    first = course.next(now=NOW)
    assert first is not None
    error = errors.CapacityError("none", scope="zone", zones_with_capacity=("r1d",))
    course.learn(first, error, outage_of(error, first, now=NOW))
    assert taken(course) == ["r1d", "r1b", "r1c"]


def test_named_zones_move_nothing_that_is_bought_otherwise() -> None:
    course = CandidateQueue([candidate("a"), candidate("b"), candidate("d", kind="other"), candidate("d", spot=True)])
    first = course.next(now=NOW)
    assert first is not None
    course.learn(first, errors.CapacityError("none", zones_with_capacity=("r1d",)), None)
    assert taken(course) == ["r1b", "r1d", "r1d"]


def test_a_price_that_has_risen_goes_back_to_its_place() -> None:
    course = CandidateQueue([candidate("a", price=1), candidate("b", price=2), candidate("c", price=3)])
    first = course.next(now=NOW)
    assert first is not None
    dearer = replace(first, parts=candidate("a", price=2.5).parts)
    assert course.put_back(dearer)
    assert taken(course) == ["r1b", "r1a", "r1c"]


def test_a_price_that_is_still_the_lowest_need_not_go_back() -> None:
    course = CandidateQueue([candidate("a", price=1), candidate("b", price=2)])
    first = course.next(now=NOW)
    assert first is not None
    assert not course.put_back(replace(first, parts=candidate("a", price=1.5).parts))
    assert taken(course) == ["r1b"]


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
def test_a_lack_is_remembered_where_it_holds(error: errors.MulticomputeError, place: str, reason: str) -> None:
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
def test_what_is_no_lack_is_not_remembered(error: errors.MulticomputeError) -> None:
    assert outage_of(error, candidate("a"), now=NOW) is None


def test_a_lack_that_recurs_lasts_longer_up_to_a_limit_and_is_forgotten_for_smaller_gangs() -> None:
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


@pytest.mark.parametrize(
    ("error", "all_", "provider"),
    [
        (errors.CapacityError("x", scope="zone"), False, False),
        (errors.CapacityError("x", scope="request"), False, False),
        (errors.QuotaError("x", scope="region"), False, False),
        (errors.QuotaError("x", scope="account"), False, True),
        (errors.AuthError("x", scope="account"), False, True),
        (errors.AccessDeniedError("x", scope="region"), False, False),
        (errors.InvalidRequestError("x", scope="request"), True, True),
        (errors.InvalidRequestError("x", scope="region"), True, False),
        (errors.InvalidRequestError("x", scope="zone"), False, False),
        (errors.ProviderError("x"), False, True),
    ],
)
def test_only_a_lack_of_something_is_looked_for_elsewhere(
    error: errors.MulticomputeError, all_: bool, provider: bool
) -> None:
    assert ends_all(error) is all_
    assert ends_provider(error) is provider


@given(used=st.integers(0, 2000), limit=st.integers(0, 2000), nodes=st.integers(1, 20))
def test_a_quota_is_short_exactly_when_less_is_left_than_needed(used: int, limit: int, nodes: int) -> None:
    quota = Quota("Big instances", "r1", "on_demand", ("big.*",), limit=limit, used=used)
    short = short_quota([quota], candidate("a", nodes=nodes))
    assert (short is not None) == (nodes * 192 > limit - used)
    if short is not None:
        assert short == (quota, nodes * 192)


@pytest.mark.parametrize("changes", [{"region": "r2"}, {"purchase": "spot"}, {"families": ("small.*",)}])
def test_a_quota_for_something_else_does_not_matter(changes: dict[str, object]) -> None:
    quota = Quota("Big instances", "r1", "on_demand", ("big.*",), limit=0, used=0)
    assert short_quota([replace(quota, **changes)], candidate("a")) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("unit", "needed"), [("vcpus", 8 * 192), ("accelerators", 64), ("nodes", 8)])
def test_a_quota_counts_in_its_own_unit(unit: str, needed: float) -> None:
    quota = Quota("Big instances", "r1", "on_demand", ("*",), limit=needed - 1, used=0, unit=unit)
    assert short_quota([quota], candidate("a")) == (quota, needed)
