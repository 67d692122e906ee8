"""The metrics of instances and slices, as Cloud Monitoring has them, and their health, as the listings have it."""

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, timedelta

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.node import Metric, Node, NodeState, Sample
from multicompute.offer import InstanceType, Offer, Part, Quote
from multicompute.provider import LaunchRequest, Selector
from multicompute.testing import LocalClouds, local_clouds
from multicompute.testing.local.server import Request as HttpRequest
from multicompute.testing.local.server import Response, Server
from multicompute_gcp._boot import startup_script
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.local import GcpLocalCloud

Request = Callable[..., LaunchRequest]
OURS = Selector(cluster_id="id-1")
WITH_HEALTH = replace(OURS, with_health=True)
POD = InstanceType("gcp", "v5p-32", "tpu-v5p", 16, 95, 208, 448, hosts=4)
BUSY = {
    Metric.CPU: 12.5,
    Metric.NETWORK_RECEIVED: 4e9,
    Metric.NETWORK_SENT: 2e6,
    Metric.ACCELERATOR: 97.0,
    Metric.ACCELERATOR_MEMORY: 62.5,
    Metric.ACCELERATOR_TEMPERATURE: 71.0,
    Metric.ACCELERATOR_POWER: 655.0,
}
SERIES = "monitoring.timeSeries.list"


def _pod(slices: int = 1) -> Part:
    return Part(Offer(POD, "us-east5", "us-east5-a", "on_demand", Quote(67.2, date(2026, 9, 17), "list")), slices)


def _measured(provider: GcpProvider, nodes: Sequence[Node]) -> tuple[Sample, ...]:
    now = provider._clock.now()
    return provider.metrics(nodes, since=now - timedelta(minutes=10), until=now + timedelta(minutes=1))


def _latest(samples: Sequence[Sample]) -> dict[Metric, float]:
    return {sample.metric: sample.value for sample in samples}


def _approximately(load: Mapping[Metric, float]) -> dict[Metric, object]:
    return {metric: pytest.approx(value) for metric, value in load.items()}


@pytest.fixture(name="clouds")
def _clouds() -> Iterator[LocalClouds]:
    with local_clouds("gcp") as clouds:
        yield clouds


# --- instances ---------------------------------------------------------------------------------------------------------


def test_everything_that_is_measured_of_a_gpu_instance_is_returned_in_our_units(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    busy, _ = provider.launch(request_of())
    cloud.measure(busy.id, BUSY, minutes=3)
    samples = _measured(provider, [busy])
    assert _latest(samples) == _approximately(BUSY)
    # Bytes have two series, from behind a load balancer and from elsewhere, but one sample for each minute.
    assert len(samples) == 3 * len(BUSY)
    assert {sample.accelerator for sample in samples if sample.metric.startswith("accelerator")} == {0}
    assert {sample.accelerator for sample in samples if not sample.metric.startswith("accelerator")} == {None}
    assert all(sample.at.tzinfo is UTC for sample in samples)


def test_a_metric_that_no_agent_has_ever_sent_is_absent_and_not_an_error(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    busy, idle = provider.launch(request_of())
    cloud.measure(busy.id, {Metric.CPU: 0.0, Metric.NETWORK_SENT: 10.0})
    samples = _measured(provider, [busy, idle])
    assert _latest(samples) == _approximately({Metric.CPU: 0.0, Metric.NETWORK_SENT: 10.0})
    assert {sample.node for sample in samples} == {busy.id}


def test_an_instance_of_the_same_name_in_another_zone_is_another_instance(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    node = provider.launch(request_of())[0]
    cloud.measure(node.id, BUSY)
    assert _measured(provider, [replace(node, zone="europe-west4-b")]) == ()
    assert _measured(provider, [node])


def test_calls_grow_with_hundreds_of_instances_and_not_with_instances(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    nodes = provider.launch(request_of(parts=(Part(offer, 250),)))
    for node in nodes:
        cloud.measure(node.id, BUSY, minutes=1)
    cloud.faults.clear()
    samples = _measured(provider, nodes)
    assert {sample.node for sample in samples} == {node.id for node in nodes}
    # Seven metrics of three hundreds of instances.
    assert cloud.faults.count() == cloud.faults.count(SERIES) == 21


def test_an_answer_of_several_pages_is_read_to_the_last(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    nodes = provider.launch(request_of())
    for node in nodes:
        cloud.measure(node.id, BUSY, minutes=5)
    complete = _measured(provider, nodes)
    cloud.largest_page_of_points = 4
    assert len(complete) == 2 * 5 * len(BUSY)
    assert _measured(provider, nodes) == complete


@pytest.mark.parametrize(
    ("code", "status", "kind", "hint"),
    [
        ("PERMISSION_DENIED", 403, errors.AccessDeniedError, "monitoring.timeSeries.list"),
        ("SERVICE_DISABLED", 403, errors.AccessDeniedError, "services enable .*monitoring.googleapis.com"),
        ("RESOURCE_EXHAUSTED", 429, errors.ThrottledError, "again"),
        ("INTERNAL", 500, errors.TransientError, "again"),
    ],
)
def test_a_refusal_has_its_kind_and_its_hint_says_what_to_do(
    cloud: GcpLocalCloud,
    provider: GcpProvider,
    request_of: Request,
    code: str,
    status: int,
    kind: type[errors.MulticomputeError],
    hint: str,
) -> None:
    nodes = provider.launch(request_of())
    message = "Quota exceeded for quota metric 'Time series queries' of service 'monitoring.googleapis.com'"
    cloud.faults.fail(SERIES, code, status=status, message=message)
    with pytest.raises(kind) as caught:
        _measured(provider, nodes)
    assert type(caught.value) is kind
    assert caught.value.hint is not None
    assert re.search(hint, caught.value.hint)
    assert caught.value.region == "us-central1"


# --- slices -----------------------------------------------------------------------------------------------------------


def test_a_tpu_host_has_a_duty_cycle_and_memory_but_no_temperature(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    hosts = provider.launch(request_of(parts=(_pod(),)))
    for number, host in enumerate(hosts):
        cloud.measure(host.id, BUSY | {Metric.ACCELERATOR: 20.0 * number})
    samples = _measured(provider, hosts)
    for number, host in enumerate(hosts):
        latest = _latest([sample for sample in samples if sample.node == host.id])
        absent = (Metric.ACCELERATOR_TEMPERATURE, Metric.ACCELERATOR_POWER)
        expected = {metric: value for metric, value in BUSY.items() if metric not in absent}
        assert latest == _approximately(expected | {Metric.ACCELERATOR: 20.0 * number})
    # Google numbers chips over the complete slice, this package on their own host.
    assert {sample.accelerator for sample in samples} == {0, None}


def test_the_machine_ids_of_hosts_are_read_once_for_each_slice(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    hosts = provider.launch(request_of(parts=(_pod(2),)))
    assert len(hosts) == 8
    for host in hosts:
        cloud.measure(host.id, BUSY)
    cloud.faults.clear()
    first = _measured(provider, hosts)
    assert cloud.faults.count("tpu.nodes.getGuestAttributes") == 2
    assert cloud.faults.count(SERIES) == 6
    assert _measured(provider, hosts) == first
    assert cloud.faults.count("tpu.nodes.getGuestAttributes") == 2
    assert cloud.faults.count(SERIES) == 12


def test_the_machine_id_of_a_host_without_values_is_read_again(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    hosts = provider.launch(request_of(parts=(_pod(),)))
    assert _measured(provider, hosts) == ()
    for host in hosts:
        cloud.measure(host.id, BUSY)
    assert Metric.ACCELERATOR in _latest(_measured(provider, hosts))
    assert cloud.faults.count("tpu.nodes.getGuestAttributes") == 2


def test_a_slice_without_machine_ids_has_the_metrics_that_are_known_by_its_name(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    (host, *_) = provider.launch(request_of(parts=(_pod(),)))
    cloud.seed_foreign("us-east5")
    other = replace(host, id="foreign-0-tpu/0")
    cloud.measure(other.id, BUSY)
    assert set(_latest(_measured(provider, [other]))) == {Metric.CPU, Metric.NETWORK_RECEIVED, Metric.NETWORK_SENT}


def test_a_host_publishes_the_id_of_its_machine_at_boot_under_its_worker_number() -> None:
    written: dict[str, bytes] = {}

    def answer(received: HttpRequest) -> Response:
        name = received.path.removeprefix("/computeMetadata/v1/instance/")
        if received.headers.get("metadata-flavor") != "Google":
            return Response(403, b"")
        if received.method == "PUT":
            written[name] = received.body
            return Response(200, b"")
        known = {"attributes/agent-worker-number": b"3", "id": b"1234567890123456789"}
        return Response(200, known[name]) if name in known else Response(404, b"")

    server = Server(answer)
    server.start()
    try:
        script = startup_script(setup="", expires_at=None, of_slice=True)
        part = "#!/bin/bash\n" + script[script.index("publish_id()") :]
        part = part.replace("http://169.254.169.254", server.url)
        assert subprocess.run(["bash"], input=part.encode(), check=False, timeout=30).returncode == 0
    finally:
        server.stop()
    assert written == {"guest-attributes/multicompute/worker-3": b"1234567890123456789"}
    assert "publish_id" not in startup_script(setup="", expires_at=None)


# --- health -----------------------------------------------------------------------------------------------------------


def test_an_instance_in_which_google_has_found_a_fault_is_impaired_although_it_runs(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    sick, planned = provider.launch(request_of())
    cloud.impair(sick.id, trouble="FAILURE_GPU_XID")
    cloud.impair(planned.id, trouble="PLANNED_UPDATE")
    cloud.faults.clear()
    seen = {node.id: node for node in provider.nodes(WITH_HEALTH)}
    assert {node.id: node.state for node in provider.nodes(OURS)} == dict.fromkeys(seen, NodeState.RUNNING)
    assert (seen[sick.id].state, seen[planned.id].state) == (NodeState.IMPAIRED, NodeState.RUNNING)
    assert "FAILURE_GPU_XID" in (seen[sick.id].reason or "")
    cloud.impair(sick.id, trouble="")
    assert {node.state for node in provider.nodes(WITH_HEALTH)} == {NodeState.RUNNING}


@pytest.mark.parametrize("health", ["TIMEOUT", "UNHEALTHY_TENSORFLOW", "UNHEALTHY_MAINTENANCE"])
def test_every_host_of_a_slice_with_a_fault_is_impaired(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, health: str
) -> None:
    hosts = provider.launch(request_of(parts=(_pod(2),)))
    cloud.impair(hosts[0].id, trouble=health)
    seen = provider.nodes(WITH_HEALTH)
    assert [node.state for node in seen] == [NodeState.IMPAIRED] * 4 + [NodeState.RUNNING] * 4
    assert all((node.reason or "").startswith(health) for node in seen[:4])
    assert {node.state for node in provider.nodes(OURS)} == {NodeState.RUNNING}
    cloud.impair(hosts[0].id, trouble="HEALTH_UNSPECIFIED")
    assert {node.state for node in provider.nodes(WITH_HEALTH)} == {NodeState.RUNNING}


def test_a_refresh_of_one_call_finds_an_instance_in_repair_and_the_next_that_it_is_healthy(
    clouds: LocalClouds,
) -> None:
    with Cluster.request(gpus=2, type="g2-standard-4", regions=["gcp:us-central1"]) as cluster:
        sick = cluster.nodes[1].id
        clouds.gcp.impair(sick)
        clouds.gcp.faults.clear()
        assert cluster.refresh().state is ClusterState.DEGRADED
        assert [call.operation for call in clouds.gcp.faults.calls] == ["instances.aggregatedList"]
        clouds.of(GcpLocalCloud).impair(sick, trouble="")
        assert cluster.refresh().state is ClusterState.READY
    assert clouds.alive() == []


def test_a_slice_with_a_fault_makes_its_cluster_degraded_and_still_has_metrics(
    clouds: LocalClouds,
) -> None:
    with Cluster.request(type="v5p-32", regions=["gcp:us-east5"]) as cluster:
        for node in cluster.nodes:
            clouds.gcp.measure(node.id, {Metric.ACCELERATOR: 88.0})
        clouds.gcp.impair(cluster.nodes[0].id)
        assert cluster.refresh().state is ClusterState.DEGRADED
        samples = cluster.metrics("10m")
        assert {sample.node for sample in samples} == {node.id for node in cluster.nodes}
        assert {(sample.metric, sample.value, sample.metric.unit) for sample in samples} == {
            (Metric.ACCELERATOR, 88.0, "%")
        }
    assert clouds.alive() == []
