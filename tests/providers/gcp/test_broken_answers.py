"""Answers that are cut short, and operations that are accepted and then fail, are reported as what they are."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from multicompute import errors
from multicompute.node import NodeState
from multicompute.offer import InstanceType, Offer, Part, Quote
from multicompute.provider import LaunchRequest, Selector, Settings
from multicompute.testing import FakeClock
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.local import GcpLocalCloud

Request = Callable[..., LaunchRequest]
HERE = Selector(region="us-central1", cluster_id="id-1")
LIST = "instances.aggregatedList"
LATER = datetime(2027, 1, 1, tzinfo=UTC)
POD = InstanceType("gcp", "v5p-16", "tpu-v5p", 8, 95, 208, 448, hosts=2)
SLICES = Offer(POD, "us-central1", "us-central1-a", "on_demand", Quote(33.6, date(2026, 9, 17), "list"))


@pytest.mark.parametrize("breaking", ["truncate", "reset", "lose_answer"])
def test_a_listing_that_breaks_off_may_be_repeated(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, breaking: str
) -> None:
    provider.launch(request_of())
    getattr(cloud.faults, breaking)(LIST)
    with pytest.raises(errors.TransientError):
        provider.nodes(HERE)
    assert len(provider.nodes(HERE)) == 2


@pytest.mark.parametrize("breaking", ["truncate", "reset", "lose_answer"])
def test_a_launch_whose_answer_breaks_off_is_the_same_launch_when_repeated(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, breaking: str
) -> None:
    getattr(cloud.faults, breaking)("instances.bulkInsert")
    with pytest.raises(errors.TransientError):
        provider.launch(request_of())
    assert {node.id for node in provider.launch(request_of())} == set(cloud.running_ids())
    assert len(cloud.running_ids()) == 2


@pytest.mark.parametrize("listing", [LIST, "tpu.nodes.list"])
@pytest.mark.parametrize("code", ["notFound", ""])
def test_a_listing_that_is_not_found_is_an_error_and_not_an_empty_listing(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, listing: str, code: str
) -> None:
    provider.launch(request_of())
    cloud.faults.fail(listing, code and ("NOT_FOUND" if "tpu" in listing else code), status=404, times=None)
    for ask in (provider.nodes, provider.resources, provider.terminate):
        with pytest.raises(errors.MulticomputeError):
            ask(HERE)
    assert len(cloud.running_ids()) == 2


@pytest.mark.parametrize("breaking", ["page", "half"])
def test_a_not_found_that_is_not_googles_answer_does_not_prove_that_an_instance_is_gone(
    cloud: GcpLocalCloud, provider: GcpProvider, breaking: str
) -> None:
    unlisted = replace(HERE, node_ids=("tok-0-0",))
    if breaking == "page":
        cloud.faults.fail("instances.get", "", status=404)
    else:
        cloud.faults.truncate("instances.get")
    with pytest.raises(errors.TransientError):
        provider.terminate(unlisted)
    assert provider.terminate(unlisted).is_done


@pytest.mark.parametrize(
    ("code", "kind"),
    [("INTERNAL_ERROR", errors.TransientError), ("RESOURCE_OPERATION_RATE_EXCEEDED", errors.ThrottledError)],
)
def test_a_launch_that_failed_inside_google_is_repeated_with_another_request_id(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, code: str, kind: type[Exception]
) -> None:
    cloud.faults.fail("instances.bulkInsert", code, status=400)
    with pytest.raises(kind):
        provider.launch(request_of())
    assert {node.id for node in provider.launch(request_of())} == set(cloud.running_ids())
    assert len(cloud.running_ids()) == 2


def test_a_wait_that_a_proxy_cuts_short_is_not_repeated_without_a_pause(
    cloud: GcpLocalCloud, request_of: Request
) -> None:
    clock = FakeClock()
    named = {"endpoint_url": cloud.endpoint_url, "project": cloud.project}
    provider = GcpProvider(Settings(named, cloud.environment), clock=clock)
    cloud.set_delays(operation=0.5)
    cloud.faults.fail("zoneOperations.wait", "", status=504, times=None)
    begun = clock.now()
    assert {node.state for node in provider.launch(request_of())} == {NodeState.PENDING}
    assert clock.now() - begun < timedelta(minutes=2)
    assert 1 < cloud.faults.count("zoneOperations.wait") < 20


@pytest.mark.parametrize("call", ["instances.setLabels", "instances.setMetadata", "disks.setLabels"])
def test_a_change_of_the_expiry_that_was_accepted_and_then_failed_is_an_error(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, call: str
) -> None:
    provider.launch(request_of())
    cloud.set_delays(operation=0.05)
    cloud.faults.fail(call, "INTERNAL_ERROR", status=400)
    with pytest.raises(errors.TransientError) as caught:
        provider.set_expiry(HERE, LATER)
    assert caught.value.code == "INTERNAL_ERROR"
    provider.set_expiry(HERE, LATER)
    ends = {item.tags["multicompute-expires-at"] for item in cloud.alive() if item.kind in ("instance", "disk")}
    assert ends == {str(int(LATER.timestamp()))}


def test_a_change_of_a_slices_expiry_that_was_accepted_and_then_failed_is_an_error(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    provider.launch(request_of(parts=(Part(SLICES, 1),)))
    cloud.faults.fail("tpu.nodes.patch", "INTERNAL", status=200)
    with pytest.raises(errors.TransientError):
        provider.set_expiry(HERE, LATER)
    provider.set_expiry(HERE, LATER)
    ends = {item.tags["multicompute-expires-at"] for item in cloud.alive() if item.kind == "tpu-host"}
    assert ends == {str(int(LATER.timestamp()))}


def test_the_wait_that_a_proxy_asks_for_is_reported(cloud: GcpLocalCloud, provider: GcpProvider) -> None:
    cloud.faults.fail(LIST, "", status=429, retry_after=timedelta(seconds=17))
    with pytest.raises(errors.ThrottledError) as caught:
        provider.nodes(HERE)
    assert caught.value.retry_after == 17
