"""The adapter on a local AWS that keeps state: complete gangs, from launch to teardown."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from multicompute import errors
from multicompute.node import NodeState
from multicompute.offer import InstanceType, Offer, Part
from multicompute.provider import LaunchRequest, Selector, Settings
from multicompute.testing import FakeClock
from multicompute_aws._provider import AwsProvider
from multicompute_aws.local import AwsLocalCloud

Request = Callable[..., LaunchRequest]
HERE = Selector(region="us-east-1", cluster_id="id-1")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cloud(clock: FakeClock) -> Iterator[AwsLocalCloud]:
    """A local AWS in virtual time, so that no test depends on the speed of the machine."""
    cloud = AwsLocalCloud(clock=clock)
    cloud.start()
    yield cloud
    cloud.stop()


@pytest.fixture
def local(cloud: AwsLocalCloud, clock: FakeClock) -> AwsProvider:
    return AwsProvider(Settings({"regions": ["us-east-1", "us-west-2"]}, cloud.environment), clock=clock)


def _end(provider: AwsProvider, selector: Selector) -> int:
    """Repeat the teardown until it is done, and return how many steps it took."""
    for step in range(1, 50):
        if provider.terminate(selector).is_done:
            return step
    raise AssertionError("the teardown does not finish")


def test_64_h100_with_efa_come_up_and_leave_nothing(
    cloud: AwsLocalCloud, local: AwsProvider, request_of: Request, offer: Offer
) -> None:
    launched = local.launch(request_of(parts=(Part(offer, 8),), fabric=True, setup="echo ready"))
    nodes = local.nodes(HERE)
    assert [node.id for node in nodes] == [node.id for node in launched]
    assert {(node.state, node.zone) for node in nodes} == {(NodeState.RUNNING, "us-east-1a")}
    kinds = [item.kind for item in cloud.alive()]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "instance": 8,
        "volume": 8,
        # A card with two interfaces, one for IP and one for EFA, and 31 for EFA only.
        "network-interface": 8 * 33,
        "elastic-ip": 8,
        "security-group": 1,
        "placement-group": 1,
    }
    _end(local, HERE)
    assert cloud.alive() == []


def test_a_zone_without_capacity_names_those_that_have_it(
    cloud: AwsLocalCloud, local: AwsProvider, request_of: Request, offer: Offer
) -> None:
    cloud.set_capacity("p5.48xlarge", "us-east-1a", 1)
    with pytest.raises(errors.CapacityError) as caught:
        local.launch(request_of(fabric=True))
    assert caught.value.zones_with_capacity and "us-east-1a" not in caught.value.zones_with_capacity
    there = replace(offer, zone=caught.value.zones_with_capacity[0])
    assert len(local.launch(request_of(token="tok-2", parts=(Part(there, 2),), fabric=True))) == 2
    assert cloud.faults.count("RunInstances") == 2


def test_a_launch_without_an_answer_is_the_same_launch_when_repeated(
    cloud: AwsLocalCloud, local: AwsProvider, request_of: Request
) -> None:
    cloud.faults.lose_answer("RunInstances")
    with pytest.raises(errors.TransientError):
        local.launch(request_of(fabric=True))
    nodes = local.launch(request_of(fabric=True))
    assert [node.id for node in nodes] == cloud.running_ids()


@pytest.mark.parametrize(
    "operation", ["GetParameter", "CreateSecurityGroup", "AuthorizeSecurityGroupEgress", "CreatePlacementGroup"]
)
def test_an_answer_lost_before_the_launch_is_recovered_by_repeating_the_launch(
    cloud: AwsLocalCloud, local: AwsProvider, request_of: Request, operation: str
) -> None:
    cloud.faults.lose_answer(operation)
    with pytest.raises(errors.TransientError):
        local.launch(request_of(fabric=True))
    assert len(local.launch(request_of(fabric=True))) == 2
    _end(local, HERE)
    assert cloud.alive() == []


@pytest.mark.parametrize(
    "operation", ["TerminateInstances", "DeleteSecurityGroup", "DeletePlacementGroup", "DescribeInstances"]
)
def test_an_answer_lost_in_a_teardown_is_recovered_by_repeating_the_teardown(
    cloud: AwsLocalCloud, local: AwsProvider, request_of: Request, operation: str
) -> None:
    local.launch(request_of(fabric=True))
    cloud.faults.lose_answer(operation)
    with pytest.raises(errors.TransientError):
        _end(local, HERE)
    _end(local, HERE)
    assert cloud.alive() == []


def test_groups_wait_until_their_instances_have_shut_down(
    cloud: AwsLocalCloud, local: AwsProvider, clock: FakeClock, request_of: Request
) -> None:
    local.launch(request_of(fabric=True))
    cloud.shutdown_delay = timedelta(minutes=1)
    first = local.terminate(HERE)
    assert {item.kind for item in first.remaining} == {"instance"}
    clock.advance("1m")
    _end(local, HERE)
    assert cloud.alive() == []


def test_a_launch_from_many_threads_creates_one_group_and_buys_each_gang_once(
    cloud: AwsLocalCloud, local: AwsProvider, request_of: Request
) -> None:
    requests = [request_of(token=f"tok-{number % 4}", fabric=True) for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        launches = list(pool.map(local.launch, requests))
    assert len({node.id for nodes in launches for node in nodes}) == 8
    assert sorted(item.kind for item in cloud.alive() if item.kind.endswith("group")) == [
        "placement-group",
        "security-group",
    ]


def test_the_number_of_calls_does_not_grow_with_the_nodes(
    cloud: AwsLocalCloud, local: AwsProvider, request_of: Request, offer: Offer
) -> None:
    plain = replace(offer, instance=InstanceType("aws", "g6.xlarge", "l4", 1))
    counts = []
    for nodes in (2, 900):
        before = len(cloud.faults.calls)
        local.launch(request_of(parts=(Part(plain, nodes),), token=f"tok-{nodes}"))
        assert len(local.nodes(HERE)) >= nodes
        _end(local, HERE)
        counts.append(len(cloud.faults.calls) - before)
    assert counts[1] <= counts[0]


def test_an_expiry_that_was_moved_is_in_the_tags_that_the_nodes_read(
    cloud: AwsLocalCloud, local: AwsProvider, request_of: Request
) -> None:
    local.launch(request_of())
    local.set_expiry(HERE, None)
    assert {item.tags["multicompute-expires-at"] for item in cloud.alive() if item.kind == "instance"} == {"never"}


def test_every_type_with_a_fabric_gets_it_on_its_own_network_cards(
    cloud: AwsLocalCloud, local: AwsProvider, request_of: Request, offer: Offer
) -> None:
    for number, (name, accelerator, cards, interfaces) in enumerate(
        [
            ("p4d.24xlarge", "a100", 4, 5),
            ("p5en.48xlarge", "h200", 16, 17),
            ("p6-b200.48xlarge", "b200", 8, 9),
            ("p6-b300.48xlarge", "b300", 16, 17),
            ("g5.48xlarge", "a10g", 1, 1),
            ("p5.48xlarge", "h100", 32, 33),
        ]
    ):
        instance = InstanceType("aws", name, accelerator, 8, fabric="efa", network_cards=cards)
        # The catalog knows where each type is sold; the local cloud refuses a type that a zone does not sell.
        launched = _first_zone(local, request_of, replace(offer, instance=instance), token=f"tok-{number}")
        assert launched, name
        of_it = [item for item in cloud.alive() if item.kind == "network-interface"]
        mine = [item for item in of_it if item.tags["multicompute-attempt"] == f"tok-{number}"]
        assert (name, len(mine)) == (name, interfaces)


def _first_zone(local: AwsProvider, request_of: Request, offer: Offer, *, token: str) -> bool:
    for region in ("us-east-1", "us-west-2", "us-east-2"):
        for letter in "abcdef":
            placed = replace(offer, region=region, zone=f"{region}{letter}")
            tags = {**request_of().tags, "multicompute-attempt": token}
            try:
                local.launch(request_of(parts=(Part(placed, 1),), token=token, fabric=True, tags=tags))
            except errors.CapacityError:
                continue
            return True
    return False
