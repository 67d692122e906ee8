"""The fake cloud has the capacity, delays and faults that a test sets, and is as strict as a real cloud."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from multicompute import Cluster, errors
from multicompute.node import NodeState
from multicompute.offer import InstanceType, Offer, Part, Purchase, Quote
from multicompute.provider import (
    TAG_EXPIRES_AT,
    Capability,
    LaunchRequest,
    Quota,
    Selector,
    TagLimits,
    expiry_tag,
)
from multicompute.testing import FakeClock, FakeProvider, fake_cloud, launch_request

BIG = InstanceType("fake", "big.8", "h100", 8, 80.0, vcpus=96, memory_gib=1024, fabric="fast")
SMALL = InstanceType("fake", "small.1", "t4", 1, 16.0, vcpus=8, memory_gib=32)
FIRST = Selector(cluster_id="id-first")


def offer(
    zone: str = "r1a", *, instance: InstanceType = BIG, purchase: Purchase = "on_demand", cost: float = 10.0
) -> Offer:
    return Offer(instance, zone[:-1], zone, purchase, Quote(cost, date(2026, 11, 1), "test"))


def expiring(request: LaunchRequest, ends: datetime) -> LaunchRequest:
    return replace(request, expires_at=ends, tags={**request.tags, TAG_EXPIRES_AT: expiry_tag(ends)})


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cloud(clock: FakeClock) -> FakeProvider:
    return FakeProvider("fake", clock=clock)


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_node_runs_after_its_boot_time_and_not_before(cloud: FakeProvider, clock: FakeClock) -> None:
    cloud.boot_time = timedelta(minutes=2)
    cloud.launch(launch_request(offer(), nodes=1))
    clock.advance("119s")
    assert [node.state for node in cloud.nodes(FIRST)] == [NodeState.PENDING]
    clock.advance("1s")
    assert [node.state for node in cloud.nodes(FIRST)] == [NodeState.RUNNING]


def test_a_node_is_hidden_from_listings_for_the_lag_and_no_longer(cloud: FakeProvider, clock: FakeClock) -> None:
    cloud.lag = timedelta(seconds=10)
    cloud.launch(launch_request(offer(), nodes=1))
    assert cloud.nodes(FIRST) == ()
    assert "node" in {resource.kind for resource in cloud.alive()}
    clock.advance("10s")
    assert len(cloud.nodes(FIRST)) == 1


def test_a_teardown_goes_from_nodes_to_group_in_steps(cloud: FakeProvider, clock: FakeClock) -> None:
    cloud.launch(launch_request(offer()))
    step = cloud.terminate(FIRST)
    assert step.waiting_for == "2 nodes to stop"
    assert Counter(resource.kind for resource in step.remaining) == {"node": 2, "disk": 2, "group": 1}
    assert [node.state for node in cloud.nodes(FIRST)] == [NodeState.STOPPING] * 2
    clock.advance("20s")
    assert {resource.kind for resource in cloud.resources(FIRST)} == {"group"}
    assert cloud.terminate(FIRST).is_done
    assert cloud.alive() == []


def test_a_node_that_no_listing_shows_still_uses_its_group(cloud: FakeProvider) -> None:
    cloud.lag = timedelta(seconds=10)
    cloud.launch(launch_request(offer()))
    step = cloud.terminate(FIRST)
    assert not step.is_done
    assert step.waiting_for == "multicompute-id-first in r1 is in use"


def test_a_deleted_node_is_listed_as_gone_for_an_hour(cloud: FakeProvider, clock: FakeClock) -> None:
    cloud.launch(launch_request(offer(), nodes=1))
    cloud.terminate(FIRST)
    clock.advance("1h")
    assert [(node.state, node.reason) for node in cloud.nodes(FIRST)] == [(NodeState.GONE, "terminated: on request")]
    clock.advance("1h")
    assert cloud.nodes(FIRST) == ()


def test_an_expired_node_is_gone_with_that_reason(cloud: FakeProvider, clock: FakeClock) -> None:
    cloud.launch(expiring(launch_request(offer()), clock.now() + timedelta(hours=1)))
    clock.advance("59m")
    assert len(cloud.running_ids()) == 2
    clock.advance("1m")
    assert cloud.running_ids() == []
    assert {node.reason for node in cloud.nodes(FIRST)} == {"expired: its expiry has passed"}


def test_moving_the_expiry_does_not_bring_an_expired_node_back(cloud: FakeProvider, clock: FakeClock) -> None:
    cloud.launch(expiring(launch_request(offer()), clock.now() + timedelta(hours=1)))
    clock.advance("2h")
    cloud.set_expiry(FIRST, clock.now() + timedelta(hours=1))
    assert cloud.running_ids() == []


def test_without_the_expiry_capability_only_terminate_ends_a_node(clock: FakeClock) -> None:
    cloud = FakeProvider("fake", clock=clock, capabilities=())
    cloud.launch(expiring(launch_request(offer()), clock.now() + timedelta(hours=1)))
    clock.advance("2h")
    assert len(cloud.running_ids()) == 2
    cloud.set_expiry(FIRST, clock.now())
    assert len(cloud.running_ids()) == 2


def test_a_preempted_node_is_gone_at_once_and_its_disk_with_it(cloud: FakeProvider, clock: FakeClock) -> None:
    nodes = cloud.launch(launch_request(offer(purchase="spot")))
    clock.advance("1m")
    cloud.preempt(nodes[0].id)
    assert cloud.running_ids() == [nodes[1].id]
    gone = cloud.nodes(FIRST)[0]
    assert (gone.state, gone.cause) == (NodeState.GONE, "preemption")
    assert Counter(resource.kind for resource in cloud.alive()) == {"node": 1, "disk": 1, "group": 1}


def test_a_stopped_node_still_exists(cloud: FakeProvider, clock: FakeClock) -> None:
    nodes = cloud.launch(launch_request(offer(), nodes=1))
    clock.advance("1m")
    cloud.stop(nodes[0].id)
    assert cloud.nodes(FIRST)[0].state is NodeState.STOPPED
    assert nodes[0].id in {resource.id for resource in cloud.alive()}


# --- scarcity ---------------------------------------------------------------------------------------------------------


def test_capacity_includes_running_nodes(cloud: FakeProvider, clock: FakeClock) -> None:
    cloud.set_capacity("big.8", "r1a", 3)
    cloud.launch(launch_request(offer(), nodes=2))
    with pytest.raises(errors.CapacityError):
        cloud.launch(launch_request(offer(), nodes=2, token="t2"))
    cloud.launch(launch_request(offer(), nodes=1, token="t3"))
    cloud.terminate(FIRST)
    clock.advance("1m")
    assert len(cloud.launch(launch_request(offer(), nodes=3, token="t4"))) == 3


def test_parts_of_one_gang_share_the_capacity_of_their_zone(cloud: FakeProvider) -> None:
    cloud.set_capacity("big.8", "r1a", 3)
    parts = (Part(offer(), 2), Part(offer(purchase="spot"), 2))
    with pytest.raises(errors.CapacityError):
        cloud.launch(replace(launch_request(offer()), parts=parts))
    assert cloud.running_ids() == []


@pytest.mark.parametrize("place", ["r1a", "r1", "r*", "*"])
def test_a_capacity_rule_applies_to_a_zone_a_region_or_a_glob(cloud: FakeProvider, place: str) -> None:
    cloud.set_capacity("big.*", place, 0)
    with pytest.raises(errors.CapacityError):
        cloud.launch(launch_request(offer("r1a")))
    assert len(cloud.launch(launch_request(offer("r1a", instance=SMALL), token="t2"))) == 2


def test_the_last_capacity_rule_takes_precedence(cloud: FakeProvider) -> None:
    cloud.set_capacity("*", "*", 0)
    cloud.set_capacity("big.8", "r1b", 2)
    with pytest.raises(errors.CapacityError):
        cloud.launch(launch_request(offer("r1a")))
    assert len(cloud.launch(launch_request(offer("r1b"), token="t2"))) == 2


def test_capacity_can_be_limited_for_one_purchase(cloud: FakeProvider) -> None:
    cloud.set_capacity("big.8", "r1a", 0, purchase="spot")
    with pytest.raises(errors.CapacityError):
        cloud.launch(launch_request(offer(purchase="spot")))
    assert len(cloud.launch(launch_request(offer(), token="t2"))) == 2


def test_a_lack_of_capacity_names_the_zones_that_have_some(cloud: FakeProvider) -> None:
    cloud.set_capacity("big.8", "r1a", 0)
    cloud.set_capacity("big.8", "r1b", 1)
    cloud.set_capacity("big.8", "r1c", 8)
    cloud.set_capacity("big.8", "r2a", 8)
    with pytest.raises(errors.CapacityError) as caught:
        cloud.launch(launch_request(offer(), nodes=2))
    assert caught.value.zones_with_capacity == ("r1c",)
    assert (caught.value.scope, caught.value.code) == ("zone", "capacity")
    assert "fake r1a" in str(caught.value)
    assert "big.8" in str(caught.value)


@pytest.mark.parametrize(("unit", "limit"), [("vcpus", 192), ("accelerators", 16), ("nodes", 2)])
def test_a_quota_counts_running_nodes_in_its_unit(cloud: FakeProvider, unit: str, limit: float) -> None:
    cloud.set_quota(Quota("big ones", "*", "on_demand", ("big.*",), limit=limit, used=0, unit=unit))
    cloud.launch(launch_request(offer(), nodes=1))
    cloud.launch(launch_request(offer(), nodes=1, token="t2"))
    with pytest.raises(errors.QuotaError, match="big ones"):
        cloud.launch(launch_request(offer("r1b"), nodes=1, token="t3"))
    cloud.launch(launch_request(offer("r2a"), nodes=1, token="t4"))
    cloud.launch(launch_request(offer(purchase="spot"), nodes=1, token="t5"))
    cloud.launch(launch_request(offer(instance=SMALL), nodes=1, token="t6"))
    known = cloud.quotas("r1").quotas
    assert [(quota.region, quota.limit, quota.used) for quota in known] == [("r1", limit, limit)]


def test_a_reservation_is_separate_from_capacity_and_can_be_used_up(cloud: FakeProvider) -> None:
    held = cloud.add_reservation(offer(), 2)
    cloud.set_capacity("big.8", "r1a", 1)
    parts = (Part(offer(), 2, reservation=held), Part(offer(), 1))
    nodes = cloud.launch(replace(launch_request(offer()), parts=parts))
    assert [node.hourly_cost for node in nodes] == [0.0, 0.0, 10.0]
    with pytest.raises(errors.CapacityError, match="fewer nodes left"):
        cloud.launch(replace(launch_request(offer(), token="t2"), parts=(Part(offer(), 1, reservation=held),)))


def test_a_spot_price_above_max_price_is_a_lack_of_capacity(cloud: FakeProvider) -> None:
    spot = offer(purchase="spot")
    cloud.set_price(spot, 12.0)
    with pytest.raises(errors.CapacityError, match="spot price"):
        cloud.launch(replace(launch_request(spot), max_price=11.0))
    assert cloud.quotes([spot])[spot].hourly_cost == 12.0
    assert len(cloud.launch(replace(launch_request(spot), max_price=12.0))) == 2


# --- faults -----------------------------------------------------------------------------------------------------------


def test_a_fault_hits_the_place_that_it_names(cloud: FakeProvider) -> None:
    cloud.faults.fail("launch", "quota", where={"zone": "r1a"})
    assert len(cloud.launch(launch_request(offer("r1b")))) == 2
    with pytest.raises(errors.QuotaError):
        cloud.launch(launch_request(offer("r1a"), token="t2"))


@pytest.mark.parametrize("operation", ["nodes", "resources", "terminate"])
def test_every_operation_on_a_cluster_can_fail(cloud: FakeProvider, operation: str) -> None:
    cloud.faults.throttle(operation, retry_after=timedelta(seconds=7))
    with pytest.raises(errors.ThrottledError) as caught:
        getattr(cloud, operation)(replace(FIRST, region="r1"))
    assert (caught.value.provider, caught.value.region, caught.value.retry_after) == ("fake", "r1", 7.0)
    getattr(cloud, operation)(FIRST)
    assert cloud.faults.count(operation) == 2


def test_a_dropped_call_does_nothing_and_a_lost_answer_comes_after_the_work(cloud: FakeProvider) -> None:
    cloud.faults.drop("launch")
    with pytest.raises(errors.TransientError, match="before the call"):
        cloud.launch(launch_request(offer()))
    assert cloud.alive() == []
    cloud.faults.lose_answer("launch")
    with pytest.raises(errors.TransientError, match="before the answer"):
        cloud.launch(launch_request(offer()))
    assert Counter(resource.kind for resource in cloud.alive()) == {"node": 2, "disk": 2, "group": 1}


def test_a_token_that_has_launched_nodes_is_never_refused(cloud: FakeProvider) -> None:
    cloud.faults.lose_answer("launch")
    with pytest.raises(errors.TransientError):
        cloud.launch(launch_request(offer()))
    cloud.faults.fail("launch", "capacity")
    assert len(cloud.launch(launch_request(offer()))) == 2


def test_a_slow_answer_takes_only_virtual_time(cloud: FakeProvider, clock: FakeClock) -> None:
    before = clock.now()
    cloud.faults.delay("nodes", timedelta(minutes=3))
    assert cloud.nodes(FIRST) == ()
    assert clock.now() - before == timedelta(minutes=3)


@pytest.mark.parametrize(("code", "cause"), [("capacity", "capacity"), ("quota", "quota"), ("invalid", "request")])
def test_a_node_can_fail_to_start(cloud: FakeProvider, clock: FakeClock, code: str, cause: str) -> None:
    cloud.faults.fail("boot", code, message="the rack burns")
    cloud.launch(launch_request(offer()))
    clock.advance("1m")
    failed, fine = cloud.nodes(FIRST)
    assert (failed.state, failed.reason, failed.cause) == (NodeState.GONE, f"{code}: the rack burns", cause)
    assert fine.state is NodeState.RUNNING


def test_an_unreadable_quota_is_a_note_and_a_failed_check_a_finding(cloud: FakeProvider) -> None:
    cloud.faults.fail("quotas", "denied")
    answer = cloud.quotas("r1")
    assert answer.quotas == ()
    assert "not allowed" in answer.notes[0]
    cloud.faults.fail("check", "auth")
    finding = cloud.check()[0]
    assert not finding.ok
    assert finding.hint == "renew the credentials"


def test_a_code_for_a_lack_in_the_region_blocks_the_region(cloud: FakeProvider) -> None:
    cloud.faults.fail("launch", "capacity-region")
    with pytest.raises(errors.CapacityError) as caught:
        cloud.launch(launch_request(offer()))
    assert caught.value.scope == "region"


# --- strictness -------------------------------------------------------------------------------------------------------


def wrong_requests() -> list[tuple[str, LaunchRequest]]:
    fine = launch_request(offer())
    elsewhere = Offer(replace(BIG, provider="other"), "r1", "r1a", "on_demand", offer().quote)
    return [
        ("needs parts", replace(fine, parts=())),
        ("at least one node", replace(fine, parts=(Part(offer(), 0),))),
        ("not one of fake", replace(fine, parts=(Part(elsewhere, 1),))),
        ("in one region", replace(fine, parts=(Part(offer("r1a"), 1), Part(offer("r2a"), 1)))),
        ("multicompute-attempt", replace(fine, token="another")),
        ("multicompute-expires-at", replace(fine, expires_at=datetime.fromisoformat("2027-01-01T00:00:00+00:00"))),
        ("has no fabric", replace(launch_request(offer(instance=SMALL)), fabric=True)),
        ("reservation nope does not exist", replace(fine, parts=(Part(offer(), 1, reservation="nope"),))),
    ]


@pytest.mark.parametrize(("says", "request_"), wrong_requests(), ids=[says for says, _ in wrong_requests()])
def test_a_request_that_no_cloud_accepts_is_refused_and_creates_nothing(
    cloud: FakeProvider, says: str, request_: LaunchRequest
) -> None:
    with pytest.raises(errors.InvalidRequestError, match=says):
        cloud.launch(request_)
    assert cloud.alive() == []


@pytest.mark.parametrize(
    ("says", "tags"),
    [
        ("4 tags of the user", {f"k{number}": "v" for number in range(3)}),
        ("'kkkkkkkkk' is too long", {"kkkkkkkkk": "v"}),
        ("'k' is too long", {"k": "v" * 9}),
        ("reserved prefix", {"Own:x": "v"}),
    ],
)
def test_tags_beyond_the_limits_of_the_cloud_are_refused(says: str, tags: dict[str, str]) -> None:
    limits = TagLimits(count=3, key_length=8, value_length=8, reserved_prefixes=("own:",))
    cloud = FakeProvider("fake", tag_limits=limits)
    request = launch_request(offer())
    assert len(cloud.launch(request)) == 2
    request = launch_request(offer(), token="t2")
    with pytest.raises(errors.InvalidRequestError, match=says):
        cloud.launch(replace(request, tags={**request.tags, **tags}))


@pytest.mark.parametrize("purchase", ["spot", "flex_start"])
def test_purchases_that_are_not_declared_are_refused(purchase: Purchase) -> None:
    cloud = FakeProvider("fake", capabilities=())
    with pytest.raises(errors.InvalidRequestError, match="does not declare"):
        cloud.launch(launch_request(offer(purchase=purchase)))
    assert cloud.quotes([offer()]) == {}
    assert cloud.quotas("r1").notes


def test_a_token_stands_for_one_launch(cloud: FakeProvider) -> None:
    cloud.launch(launch_request(offer(), nodes=2))
    with pytest.raises(errors.InvalidRequestError, match="was used for another launch"):
        cloud.launch(launch_request(offer(), nodes=3))


def test_a_teardown_without_a_cluster_or_a_token_is_refused(cloud: FakeProvider) -> None:
    cloud.launch(launch_request(offer()))
    with pytest.raises(errors.InvalidRequestError, match="must name a cluster or a token"):
        cloud.terminate(Selector(owner="conformance"))
    assert len(cloud.alive()) == 5


def test_ids_are_the_same_in_every_run(cloud: FakeProvider) -> None:
    assert [node.id for node in cloud.launch(launch_request(offer()))] == ["fake-node-1", "fake-node-2"]


def test_no_two_nodes_share_an_address(cloud: FakeProvider) -> None:
    nodes = cloud.launch(launch_request(offer(), nodes=3000))
    assert len({node.private_ip for node in nodes}) == len({node.public_ip for node in nodes}) == 3000


# --- whatever the order -----------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.integers(0, 12))
def test_concurrent_launches_never_exceed_the_capacity(gangs: list[int], capacity: int) -> None:
    cloud = FakeProvider("fake")
    cloud.set_capacity("big.8", "r1a", capacity)

    def launch(number: int) -> int:
        try:
            return len(cloud.launch(launch_request(offer(), nodes=gangs[number], token=f"t{number}")))
        except errors.CapacityError:
            return 0

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(launch, range(len(gangs))))
    assert all(nodes in (0, wanted) for nodes, wanted in zip(got, gangs, strict=True))
    assert sum(1 for resource in cloud.alive() if resource.kind == "node") == sum(got) <= capacity


class AnyOrder(RuleBasedStateMachine):
    """After any calls in any order the cloud is consistent and can be emptied."""

    tokens = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.cloud = FakeProvider("fake", clock=self.clock)
        self.cloud.set_capacity("*", "*", 6)
        self.cloud.add_foreign()
        self.count = 0
        self.bought: dict[str, set[str]] = {}

    @rule(target=tokens, nodes=st.integers(1, 4), zone=st.sampled_from(["r1a", "r1b", "r2a"]), lost=st.booleans())
    def launch(self, nodes: int, zone: str, lost: bool) -> LaunchRequest:
        self.count += 1
        request = launch_request(offer(zone), nodes=nodes, cluster=f"c{self.count % 2}", token=f"t{self.count}")
        if lost:
            self.cloud.faults.lose_answer("launch")
        self.again(request)
        self.cloud.faults.clear()
        return request

    @rule(request=tokens)
    def again(self, request: LaunchRequest) -> None:
        try:
            nodes = {node.id for node in self.cloud.launch(request)}
        except (errors.CapacityError, errors.TransientError):
            return
        assert self.bought.setdefault(request.token, nodes) == nodes

    @rule(by=st.timedeltas(timedelta(seconds=1), timedelta(hours=2)))
    def wait(self, by: timedelta) -> None:
        self.clock.advance(by)

    @rule(lag=st.timedeltas(timedelta(0), timedelta(minutes=1)))
    def be_slow(self, lag: timedelta) -> None:
        self.cloud.lag = lag

    @rule(request=tokens, hours=st.none() | st.integers(0, 3))
    def set_expiry(self, request: LaunchRequest, hours: int | None) -> None:
        ends = None if hours is None else self.clock.now() + timedelta(hours=hours)
        self.cloud.set_expiry(Selector(token=request.token), ends)

    @rule(request=tokens, is_complete=st.booleans())
    def terminate(self, request: LaunchRequest, is_complete: bool) -> None:
        selector = Selector(cluster_id=request.cluster_id) if is_complete else Selector(token=request.token)
        self.cloud.terminate(selector)

    @invariant()
    def no_zone_has_more_than_it_can(self) -> None:
        alive = [node for node in self.cloud.nodes(Selector()) if node.state is not NodeState.GONE]
        assert all(count <= 6 for count in Counter(node.zone for node in alive).values())

    @invariant()
    def what_is_listed_exists_and_what_is_foreign_is_left_alone(self) -> None:
        alive = {resource.id for resource in self.cloud.alive()}
        assert {resource.id for resource in self.cloud.resources(Selector(owner="conformance"))} <= alive
        assert self.cloud.foreign_intact()

    def teardown(self) -> None:
        for _ in range(4):
            for cluster in ("id-c0", "id-c1"):
                self.cloud.terminate(Selector(cluster_id=cluster))
            self.clock.advance("1m")
        assert self.cloud.resources(Selector(owner="conformance")) == ()
        assert self.cloud.foreign_intact()


AnyOrder.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase


def test_every_capability_is_declared_by_default(cloud: FakeProvider) -> None:
    assert cloud.capabilities == frozenset(Capability)


def test_the_hosts_of_a_slice_are_nodes_that_start_and_end_together() -> None:
    with fake_cloud("gcp") as cloud:
        cloud.gcp.set_capacity("v5p-128", "*", 2)
        cluster = Cluster.request(type="v5p-128", nodes=2, spot="prefer")
        assert len(cluster.nodes) == 2 * 16
        assert cluster.gpus == 2 * 64
        assert cluster.hourly_cost == pytest.approx(cluster.plan.candidates[0].hourly_cost)
        with pytest.raises(errors.CapacityError):
            Cluster.request(type="v5p-128", regions=[str(cluster.region)], clouds=["gcp"])
        cloud.gcp.preempt(cluster.nodes[3].id)
        assert len(cluster.refresh().nodes) == 16
        assert len(cluster.heal().nodes) == 32
        cluster.terminate()
        assert cloud.alive() == []
