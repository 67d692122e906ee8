"""TPU slices on a local Cloud TPU: queued, direct, with many hosts, several slices, and every way in which they end."""

import base64
import csv
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from multicompute import errors
from multicompute.node import NodeState
from multicompute.offer import InstanceType, Offer, Part, Quote
from multicompute.provider import LaunchRequest, Selector, Settings
from multicompute.testing import FakeClock
from multicompute_gcp import plugin
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.local import GcpLocalCloud
from multicompute_gcp.tpu._types import hosts_of, is_slice, runtime_of
from tests.providers.gcp.teardown import tear_down

Request = Callable[..., LaunchRequest]
Opened = Callable[..., GcpProvider]
HERE = Selector(region="us-east5", cluster_id="id-1")
POD = InstanceType("gcp", "v5p-32", "tpu-v5p", 16, 95, 208, 448, hosts=4)


def _part(nodes: int = 1, *, instance: InstanceType = POD, **changes: Any) -> Part:
    offer = Offer(instance, "us-east5", "us-east5-a", "on_demand", Quote(67.2, date(2026, 9, 17), "list"))
    return Part(replace(offer, **changes), nodes)


def _written(cloud: GcpLocalCloud, name: str) -> str:
    """Return the contents of the files that a slice writes at boot."""
    found = re.findall(r"echo (\S+) \| base64", cloud.boot_script(name))
    return "".join(base64.b64decode(text).decode() for text in found)


@pytest.fixture
def pod(request_of: Request) -> LaunchRequest:
    return request_of(parts=(_part(),))


def test_every_host_of_a_pod_is_a_node_with_its_worker_number(
    cloud: GcpLocalCloud, provider: GcpProvider, pod: LaunchRequest
) -> None:
    launched = provider.launch(pod)
    assert [node.id for node in launched] == [f"tok-0/{worker}" for worker in range(4)]
    nodes = provider.nodes(HERE)
    assert [node.id for node in nodes] == [node.id for node in launched]
    assert len({node.private_ip for node in nodes}) == 4
    assert {node.state for node in nodes} == {NodeState.RUNNING}
    tear_down(provider, HERE)
    assert cloud.alive() == []


@pytest.mark.parametrize("create", ["queued", "direct"])
def test_several_slices_are_listed_slice_by_slice(
    cloud: GcpLocalCloud, provider_of: Opened, request_of: Request, create: str
) -> None:
    provider = provider_of(tpu_create=create)
    provider.launch(request_of(parts=(_part(3),)))
    ids = [node.id for node in provider.nodes(HERE)]
    assert ids == [f"tok-0-{number}/{worker}" for number in range(3) for worker in range(4)]
    tear_down(provider, HERE)
    assert cloud.alive() == []


def test_a_launch_returns_slices_that_listings_do_not_show_yet(
    cloud: GcpLocalCloud, provider_of: Opened, request_of: Request
) -> None:
    created: list[object] = []

    def hide_all_but_the_first(call: object) -> None:
        created.append(call)
        cloud.lag = timedelta(0) if len(created) == 1 else timedelta(hours=1)

    cloud.faults.hook("tpu.nodes.create", hide_all_but_the_first)
    provider = provider_of(tpu_create="direct")
    launched = provider.launch(request_of(parts=(_part(3),)))
    assert {node.id for node in provider.nodes(HERE)} == {f"tok-0-0/{worker}" for worker in range(4)}
    assert {node.id for node in launched} == {f"tok-0-{slice_}/{worker}" for slice_ in range(3) for worker in range(4)}
    cloud.pass_time(timedelta(hours=1))
    tear_down(provider, HERE)
    assert cloud.alive() == []


def test_a_slice_in_the_queue_is_pending_and_its_reason_says_so(
    cloud: GcpLocalCloud, provider: GcpProvider, pod: LaunchRequest
) -> None:
    cloud.set_capacity("v5p-32", "us-east5-a", 0)
    launched = provider.launch(pod)
    assert [(node.state, node.cause) for node in launched] == [(NodeState.PENDING, "")] * 4
    assert all((node.reason or "").startswith("WAITING_FOR_RESOURCES: ") for node in launched)
    cloud.set_capacity("v5p-32", "us-east5-a", None)
    assert {node.state for node in provider.nodes(HERE)} == {NodeState.RUNNING}


def test_a_slice_that_waited_too_long_is_gone_for_a_lack_of_capacity(
    cloud: GcpLocalCloud, provider: GcpProvider, pod: LaunchRequest
) -> None:
    cloud.set_capacity("v5p-32", "us-east5-a", 0)
    provider.launch(pod)
    cloud.pass_time(provider.attempt_timeout)
    lost = provider.nodes(HERE)
    assert {(node.state, node.cause) for node in lost} == {(NodeState.GONE, "capacity")}
    assert (lost[0].reason or "").startswith("RESOURCE_EXHAUSTED: There is no more capacity")
    tear_down(provider, HERE)
    assert cloud.alive() == []


def test_a_request_that_fails_while_the_launch_watches_is_refused_and_leaves_nothing(
    cloud: GcpLocalCloud, provider: GcpProvider, pod: LaunchRequest
) -> None:
    cloud.tpu_fails_without_capacity = True
    cloud.set_capacity("v5p-32", "us-east5-a", 0)
    with pytest.raises(errors.CapacityError) as caught:
        provider.launch(pod)
    assert (caught.value.zone, caught.value.code) == ("us-east5-a", "RESOURCE_EXHAUSTED")
    assert cloud.alive() == []


def test_a_launch_ends_with_a_listing_that_begins_after_the_wait_however_late_the_answers_are(
    pod: LaunchRequest,
) -> None:
    clock = FakeClock()
    cloud = GcpLocalCloud(clock=clock)
    cloud.start()
    try:
        settings = {"endpoint_url": cloud.endpoint_url, "project": cloud.project, "queue_wait": "0.2s"}
        provider = GcpProvider(Settings(settings, cloud.environment), clock=clock)
        cloud.set_capacity("v5p-32", "us-east5-a", 0)
        # Queued resources are listed while the request waits, and nodes only after it has failed and the wait is over.
        cloud.faults.delay("tpu.nodes.list", timedelta(seconds=1))
        with pytest.raises(errors.CapacityError):
            provider.launch(pod)
        assert cloud.alive() == []
    finally:
        cloud.stop()


def test_a_node_whose_operation_fails_is_a_lack_of_capacity_and_the_others_are_deleted(
    cloud: GcpLocalCloud, provider_of: Opened, request_of: Request
) -> None:
    cloud.set_capacity("v5p-32", "us-east5-a", 2)
    with pytest.raises(errors.CapacityError):
        provider_of(tpu_create="direct").launch(request_of(parts=(_part(3),)))
    assert cloud.alive() == []


def test_a_zone_without_a_queue_gets_nodes_directly(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    cloud.faults.fail(
        "tpu.queuedResources.create", "UNIMPLEMENTED", status=501, message="Operation is not implemented."
    )
    provider.launch(request_of(parts=(_part(2),)))
    assert {item.kind for item in cloud.alive()} == {"tpu-host"}
    for name in ("tok-0-0", "tok-0-1"):
        written = _written(cloud, name)
        assert f"/locations/us-east5-a/nodes/{name}" in written, "the timer of each slice deletes this slice"
        assert "queuedResources" not in written
    assert len(provider.nodes(HERE)) == 8
    tear_down(provider, HERE)
    assert cloud.alive() == []


@pytest.mark.parametrize("create", ["queued", "direct"])
def test_a_launch_with_the_same_token_returns_the_same_slices(
    cloud: GcpLocalCloud, provider_of: Opened, pod: LaunchRequest, create: str
) -> None:
    first = provider_of(tpu_create=create).launch(pod)
    again = provider_of(tpu_create=create).launch(pod)
    assert [node.id for node in again] == [node.id for node in first]
    assert len(cloud.running_ids()) == 4


def test_an_open_zone_is_found_and_a_repeated_launch_uses_the_same_one(
    cloud: GcpLocalCloud, provider_of: Opened, request_of: Request
) -> None:
    v6e = InstanceType("gcp", "v6e-8", "tpu-v6e", 8)
    request = request_of(parts=(_part(instance=v6e, zone=""),))
    cloud.tpu_fails_without_capacity = True
    cloud.set_capacity("v6e-8", "us-east5-a", 0)
    nodes = provider_of().launch(request)
    assert {node.zone for node in nodes} == {"us-east5-b"}
    cloud.set_capacity("v6e-8", "us-east5-a", None)
    assert [node.id for node in provider_of().launch(request)] == [node.id for node in nodes]
    assert len(cloud.running_ids()) == 1


def test_a_quota_differs_from_a_lack_of_capacity_by_its_message(
    cloud: GcpLocalCloud, provider: GcpProvider, pod: LaunchRequest
) -> None:
    cloud.set_quota("TPUV5PPerProjectPerZoneForTPUAPI", "us-east5-a", 8)
    with pytest.raises(errors.QuotaError):
        provider.launch(pod)
    assert cloud.alive() == []


def test_a_spot_slice_that_google_takes_back_is_a_preemption(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    provider.launch(request_of(parts=(_part(purchase="spot"),)))
    cloud.preempt("tok-0")
    assert {node.cause for node in provider.nodes(HERE)} == {"preemption"}
    assert not any(node.state is NodeState.RUNNING for node in provider.nodes(HERE))
    tear_down(provider, HERE)
    assert cloud.alive() == []


@pytest.mark.parametrize(("code", "cause"), [(8, "capacity"), (3, "request"), (7, "request"), (13, "capacity")])
def test_a_queued_resource_that_fails_later_has_a_reason_and_a_cause(
    cloud: GcpLocalCloud, provider: GcpProvider, pod: LaunchRequest, code: int, cause: str
) -> None:
    cloud.boot_delay = timedelta(hours=1)
    provider.launch(pod)
    cloud.fail_queued_resource("tok-0", code, "It has failed.")
    lost = provider.nodes(HERE)
    assert {(node.state, node.cause) for node in lost} == {(NodeState.GONE, cause)}
    assert all((node.reason or "").endswith(": It has failed.") for node in lost)


def test_a_failed_request_whose_slices_stayed_is_deleted_with_them(
    cloud: GcpLocalCloud, provider: GcpProvider, pod: LaunchRequest
) -> None:
    provider.launch(pod)
    cloud.fail_queued_resource("tok-0", 8, "no", leaves_nodes=True)
    assert not any(node.state is NodeState.RUNNING for node in provider.nodes(HERE))
    tear_down(provider, HERE)
    assert cloud.alive() == []


def test_a_slice_that_is_still_being_created_is_deleted(
    cloud: GcpLocalCloud, provider: GcpProvider, pod: LaunchRequest
) -> None:
    cloud.set_delays(boot=3600, shutdown=0.05)
    provider.launch(pod)
    assert not provider.terminate(HERE).is_done
    tear_down(provider, HERE)
    assert cloud.alive() == []


def test_a_request_that_listings_do_not_show_yet_is_deleted_by_its_name(
    cloud: GcpLocalCloud, provider: GcpProvider, pod: LaunchRequest
) -> None:
    known = tuple(node.id for node in provider.launch(pod))
    tear_down(provider, HERE)
    cloud.lag = timedelta(hours=1)
    provider.launch(replace(pod, token="tok2", tags={**pod.tags, "multicompute-attempt": "tok2"}))
    hidden = tuple(node_id.replace("tok", "tok2") for node_id in known)
    tear_down(provider, replace(HERE, token="tok2", node_ids=hidden))
    assert cloud.alive() == []


def test_the_expiry_of_a_slice_is_written_to_its_labels_and_to_what_its_timer_reads(
    cloud: GcpLocalCloud, provider: GcpProvider, pod: LaunchRequest
) -> None:
    provider.launch(pod)
    later = provider._clock.now() + timedelta(hours=5)
    provider.set_expiry(HERE, later)
    hosts = [item for item in cloud.alive() if item.kind == "tpu-host"]
    assert {item.tags["multicompute-expires-at"] for item in hosts} == {str(int(later.timestamp()))}
    assert "startup-script" in cloud.boot_script("tok-0") or cloud.boot_script("tok-0").startswith("#!")


def test_the_timer_of_a_slice_deletes_its_queued_resource_by_force(
    cloud: GcpLocalCloud, provider: GcpProvider, pod: LaunchRequest
) -> None:
    provider.launch(pod)
    target = f"/v2/projects/{cloud.project}/locations/us-east5-a/queuedResources/tok-0?force=true"
    assert target in _written(cloud, "tok-0")


def test_a_node_without_a_queue_that_listings_do_not_show_yet_is_deleted_by_its_name(
    cloud: GcpLocalCloud, provider: GcpProvider, pod: LaunchRequest
) -> None:
    for call in ("create", "get"):
        operation, message = f"tpu.queuedResources.{call}", "Operation is not implemented."
        cloud.faults.fail(operation, "UNIMPLEMENTED", status=501, message=message, times=None)
    cloud.lag = timedelta(hours=1)
    known = tuple(node.id for node in provider.launch(pod))
    assert [item.kind for item in cloud.alive()] == ["tpu-host"] * 4
    tear_down(provider, replace(HERE, token="tok", node_ids=known))
    assert cloud.alive() == []


def test_a_reservation_is_named_and_the_tier_is_guaranteed(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    part = replace(_part(), reservation="mine")
    described = provider._slices._queued_resource(request_of(parts=(part,)), 0, part)
    assert described["reservation_name"] == f"projects/{cloud.project}/locations/us-east5-a/reservations/mine"
    assert "guaranteed" in described
    assert "spot" not in described


def _slice_types() -> list[tuple[str, str, int]]:
    found: list[tuple[str, str, int]] = []
    assert plugin.tables is not None
    for table in sorted(plugin.tables.glob("tpu*/types.csv")):
        with table.open() as lines:
            found += [(row["instance_type"], table.parent.name, int(row["hosts"])) for row in csv.DictReader(lines)]
    return found


@pytest.mark.parametrize("generation", ["tpu-v2", "tpu-v3", "tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu7x"])
def test_every_slice_type_of_the_tables_has_its_hosts_and_a_runtime(generation: str) -> None:
    listed = [(name, hosts) for name, kind, hosts in _slice_types() if kind == generation]
    assert listed
    for name, hosts in listed:
        instance = InstanceType("gcp", name, generation, hosts=hosts)
        assert is_slice(instance)
        assert hosts_of(name) == hosts
        assert runtime_of(instance, None)


def test_a_generation_without_a_known_runtime_needs_one_named() -> None:
    unknown = InstanceType("gcp", "v9-8", "tpu-v9", 8)
    with pytest.raises(errors.InvalidRequestError, match="runtime"):
        runtime_of(unknown, None)
    assert runtime_of(unknown, "v9-base") == "v9-base"
