"""The pieces of the seam's methods behave alike for every cloud."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from multicompute import errors
from multicompute.node import Metric, Node, NodeState, Sample
from multicompute.provider import Quota, Reservation, Resource, Selector, Teardown
from multicompute.provider_kit.seam import (
    all_or_nothing,
    finding,
    mark_impaired,
    merge_teardowns,
    optional_finding,
    read_quotas,
    require_selection,
    sorted_samples,
    unlisted,
)
from multicompute.provider_kit.vendor_errors import Place

PLACE = Place("example", "north")
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def node(node_id: str, state: NodeState = NodeState.RUNNING) -> Node:
    return Node(node_id, -1, "example", "big", "north", "north-a", state)


def resource(resource_id: str) -> Resource:
    return Resource("example", "server", resource_id, "north", billable=True)


def denied() -> str:
    raise errors.AccessDeniedError("example: denied", hint="ask for the permission")


@pytest.mark.parametrize("selector", [Selector(), Selector(owner="me"), Selector(region="north", node_ids=("a",))])
def test_a_teardown_that_would_select_every_users_resources_is_refused(selector: Selector) -> None:
    with pytest.raises(errors.InvalidRequestError, match="every user's resources"):
        require_selection(selector, provider="example")


def test_a_teardown_of_a_cluster_or_of_an_attempt_is_accepted() -> None:
    for selector in (Selector(cluster_id="c"), Selector(token="t")):
        assert require_selection(selector, provider="example") is None  # type: ignore[func-returns-value]


def test_a_refused_launch_is_rolled_back_before_the_refusal_is_raised() -> None:
    launched = ["a"]
    with pytest.raises(errors.CapacityError), all_or_nothing(PLACE, launched.clear):
        raise errors.CapacityError("example: full")
    assert launched == []


@pytest.mark.parametrize("kind", [errors.ThrottledError, errors.TransientError])
def test_a_launch_with_an_unknown_outcome_is_not_rolled_back(kind: type[errors.MulticomputeError]) -> None:
    launched = ["a"]
    with pytest.raises(kind), all_or_nothing(PLACE, launched.clear):
        raise kind("example: no answer")
    assert launched == ["a"]


def test_a_launch_that_succeeds_is_not_rolled_back() -> None:
    launched: list[str] = []
    with all_or_nothing(PLACE, launched.clear):
        launched.append("a")
    assert launched == ["a"]


def test_a_refused_launch_that_could_not_be_rolled_back_is_not_reported_as_refused() -> None:
    refusal = errors.CapacityError("example: full")

    def roll_back() -> None:
        denied()

    message = "full; and .* taken back: example: denied"
    with pytest.raises(errors.TransientError, match=message) as caught, all_or_nothing(PLACE, roll_back):
        raise refusal
    assert caught.value.__cause__ is refusal


def test_nodes_known_from_a_launch_that_are_not_listed_are_not_proven_gone() -> None:
    assert unlisted(Selector(node_ids=("a", "b", "c")), {"b": object(), "z": object()}) == ["a", "c"]
    assert unlisted(Selector(), ["a"]) == []


def test_steps_of_several_regions_are_one_step() -> None:
    steps = [Teardown((resource("a"),), "1 in north"), Teardown(), Teardown((resource("b"),), "1 in west")]
    merged = merge_teardowns(steps)
    assert [item.id for item in merged.remaining] == ["a", "b"]
    assert merged.waiting_for == "1 in north; 1 in west" and not merged.is_done
    assert merge_teardowns([Teardown(), Teardown()]).is_done


def test_only_nodes_that_run_are_marked_as_impaired() -> None:
    marked = mark_impaired([node("a"), node("b"), node("c", NodeState.STOPPING)], {"a": "disk", "c": "network"})
    assert [(one.state, one.reason) for one in marked] == [
        (NodeState.IMPAIRED, "disk"),
        (NodeState.RUNNING, None),
        (NodeState.STOPPING, None),
    ]


def test_samples_are_sorted_by_time_first() -> None:
    later, earlier = NOON + timedelta(minutes=1), NOON
    samples = [
        Sample(Metric.CPU, "a", later, 1.0),
        Sample(Metric.ACCELERATOR, "b", earlier, 2.0, 1),
        Sample(Metric.ACCELERATOR, "b", earlier, 3.0, 0),
        Sample(Metric.CPU, "a", earlier, 4.0),
    ]
    assert [sample.value for sample in sorted_samples(samples)] == [4.0, 3.0, 2.0, 1.0]


def test_quotas_and_reservations_that_can_not_be_read_are_notes() -> None:
    quota = Quota("servers", "north", "on_demand", ("*",), 8, 0)
    held = Reservation("example", "r-1", "north", "north-a", "big", 4)

    def reservation(reservation_id: str) -> list[Reservation]:
        if reservation_id == "r-1":
            return [held]
        raise errors.ThrottledError("example: slow down")

    found = read_quotas(PLACE, quotas=lambda: [quota], reservation=reservation, reservations=["r-1", "r-2"])
    assert (found.quotas, found.reservations) == ((quota,), (held,))
    assert found.notes == ("example north: reservation r-2 could not be read: example: slow down",)

    def unreadable() -> list[Quota]:
        raise errors.AccessDeniedError("example: denied")

    found = read_quotas(PLACE, quotas=unreadable, reservation=reservation, reservations=[])
    assert found.notes == ("example north: quotas could not be read and are not compared: example: denied",)
    found = read_quotas(PLACE, quotas=list, reservation=reservation, reservations=[])
    assert "reports no quota" in found.notes[0]


@pytest.mark.parametrize("error", [NotImplementedError("no such action"), KeyError("Value"), RuntimeError("broken")])
def test_no_exception_while_quotas_are_read_stops_a_launch(error: Exception) -> None:
    def broken() -> list[Quota]:
        raise error

    found = read_quotas(PLACE, quotas=broken, reservation=lambda _: [], reservations=[])
    assert found.quotas == () and type(error).__name__ in found.notes[0]


def test_quotas_that_were_read_before_an_error_are_kept() -> None:
    quota = Quota("servers", "north", "on_demand", ("*",), 8, 0)

    def interrupted() -> Iterator[Quota]:
        yield quota
        raise errors.AccessDeniedError("example: denied")

    found = read_quotas(PLACE, quotas=interrupted, reservation=lambda _: [], reservations=[])
    assert found.quotas == (quota,)
    assert found.notes == ("example north: quotas could not be read and are not compared: example: denied",)


def test_a_check_that_fails_is_a_finding_with_a_hint() -> None:
    assert finding("identity", lambda: "account 1").ok
    found = finding("identity", denied)
    assert (found.ok, found.detail, found.hint) == (False, "example: denied", "ask for the permission")


def test_a_permission_that_is_not_needed_passes_and_says_what_happens_without_it() -> None:
    assert optional_finding("quotas", lambda: "allowed", otherwise="quotas are not compared").detail == "allowed"
    found = optional_finding("quotas", denied, otherwise="quotas are not compared")
    assert found.ok and found.detail == "quotas are not compared: example: denied"
