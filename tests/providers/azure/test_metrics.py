"""Metrics from Azure Monitor, and Resource Health: in our units, in few calls, and nothing that was not measured."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ServiceRequestError

from multicompute import Cluster, errors
from multicompute.node import ClusterState, Metric, Node, NodeState, Sample
from multicompute.offer import Offer, Part
from multicompute.provider import LaunchRequest, Selector, Settings
from multicompute.testing import LocalClouds, local_clouds
from multicompute_azure._provider import AzureProvider
from multicompute_azure.local import AzureLocalCloud

Request = Callable[..., LaunchRequest]
CLUSTER = Selector(region="eastus", cluster_id="id-1", with_health=True)
BATCH, METRICS = "metrics.getBatch", "metrics.list"
HEALTH, GROUP_HEALTH = "availabilityStatuses.list", "availabilityStatuses.listByResourceGroup"
LOAD = {
    Metric.CPU: 40.0,
    Metric.NETWORK_RECEIVED: 1_000_000.0,
    Metric.NETWORK_SENT: 2_000_000.0,
    Metric.ACCELERATOR: 90.0,
    Metric.ACCELERATOR_MEMORY: 75.0,
    Metric.ACCELERATOR_TEMPERATURE: 61.0,
    Metric.ACCELERATOR_POWER: 650.0,
}


def read(provider: AzureProvider, nodes: Sequence[Node]) -> tuple[Sample, ...]:
    now = provider._clients.clock.now()
    return provider.metrics(nodes, since=now - timedelta(minutes=5), until=now)


def launched(provider: AzureProvider, request_of: Request, count: int = 2) -> tuple[Node, ...]:
    """Launch nodes, and return them once they run."""
    offer = request_of().parts[0].offer
    provider.launch(request_of(parts=(Part(offer, count),)))
    nodes = provider.nodes(CLUSTER)
    assert [node.state for node in nodes] == [NodeState.RUNNING] * count
    return nodes


def states(provider: AzureProvider, selector: Selector = CLUSTER) -> list[NodeState]:
    return [node.state for node in provider.nodes(selector)]


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_everything_that_is_measured_is_returned_in_our_units_with_the_end_of_its_minute(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    node, _ = launched(provider, request_of)
    cloud.measure(node.id, LOAD, minutes=2)
    samples = read(provider, [node])
    assert {(sample.node, sample.metric): sample.value for sample in samples} == {
        (node.id, metric): pytest.approx(value) for metric, value in LOAD.items()
    }
    assert len(samples) == 2 * len(LOAD)
    assert all(sample.at.second == 0 and sample.at.tzinfo is UTC for sample in samples)
    of_accelerators = {sample.metric for sample in samples if sample.accelerator == 0}
    assert of_accelerators == {metric for metric in LOAD if metric.startswith("accelerator")}
    assert {sample.accelerator for sample in samples if sample.metric not in of_accelerators} == {None}


def test_each_accelerator_of_a_node_has_its_own_samples(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    node, _ = launched(provider, request_of)
    for gpu in range(8):
        load = {Metric.ACCELERATOR: 10.0 * gpu, Metric.ACCELERATOR_MEMORY: 5.0}
        cloud.measure(node.id, load, accelerator=gpu, minutes=1)
    found = {(one.accelerator, one.metric): one.value for one in read(provider, [node])}
    assert found == {
        (gpu, metric): pytest.approx(value)
        for gpu in range(8)
        for metric, value in ((Metric.ACCELERATOR, 10.0 * gpu), (Metric.ACCELERATOR_MEMORY, 5.0))
    }


def test_without_an_agent_accelerators_have_no_samples_and_an_idle_cpu_has_zeros(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    nodes = launched(provider, request_of)
    cloud.measure(nodes[0].id, {Metric.CPU: 0.0}, minutes=1)
    assert [(one.node, one.metric, one.value) for one in read(provider, nodes)] == [(nodes[0].id, Metric.CPU, 0.0)]


@pytest.mark.parametrize("begin", [0, 30])
def test_the_minutes_that_end_in_the_period_are_returned_and_no_others(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, begin: int
) -> None:
    node, _ = launched(provider, request_of)
    cloud.measure(node.id, {Metric.CPU: 40.0, Metric.ACCELERATOR: 80.0}, minutes=10)
    last = provider._clients.clock.now().replace(second=0, microsecond=0) - timedelta(minutes=1)
    samples = provider.metrics([node], since=last - timedelta(minutes=3, seconds=begin), until=last)
    expected = [last - timedelta(minutes=count) for count in (3, 2, 1, 0)]
    for metric in (Metric.CPU, Metric.ACCELERATOR):
        assert [one.at for one in samples if one.metric is metric] == expected


def test_one_call_reads_fifty_nodes_and_another_the_accelerators_of_twenty(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    nodes = launched(provider, request_of, 100)
    for node in nodes:
        cloud.measure(node.id, {Metric.CPU: 1.0, Metric.ACCELERATOR: 2.0}, minutes=1)
    cloud.faults.clear()
    samples = read(provider, nodes)
    assert {(one.node, one.metric) for one in samples} == {
        (node.id, metric) for node in nodes for metric in (Metric.CPU, Metric.ACCELERATOR)
    }
    assert (cloud.faults.count(BATCH), cloud.faults.count("batch")) == (2, 5)
    cloud.faults.clear()
    without = [replace(node, instance_type="Standard_D4s_v5") for node in nodes]
    assert {one.metric for one in read(provider, without)} == {Metric.CPU}
    assert [call.operation for call in cloud.faults.calls] == [BATCH] * 2


def test_nodes_of_several_regions_are_each_read_in_their_own_region(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    here = launched(provider, request_of)
    there = replace(offer, region="westus2", zone="westus2-1")
    provider.launch(request_of(token="tok-2", parts=(Part(there, 2),)))
    nodes = [*here, *provider.nodes(replace(CLUSTER, region="westus2"))]
    for node in nodes:
        cloud.measure(node.id, {Metric.CPU: 5.0}, minutes=1)
    cloud.faults.clear()
    assert {one.node for one in read(provider, nodes)} == {node.id for node in nodes}
    assert cloud.faults.count(BATCH) == 2


def test_no_nodes_and_nodes_that_are_gone_cause_no_call(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    nodes = launched(provider, request_of)
    cloud.faults.clear()
    assert read(provider, []) == ()
    assert read(provider, [replace(node, state=NodeState.GONE) for node in nodes]) == ()
    assert cloud.faults.calls == []


@pytest.mark.parametrize("operation", [BATCH, METRICS, "batch"])
@pytest.mark.parametrize(("code", "status"), [("TooManyRequests", 429), ("Throttled", 529)])
def test_throttling_is_recognized_in_every_call(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, operation: str, code: str, status: int
) -> None:
    nodes = launched(provider, request_of)
    cloud.faults.fail(operation, code, status=status)
    with pytest.raises(errors.ThrottledError, match=f"azure eastus.*{code}"):
        read(provider, nodes)
    assert read(provider, nodes) == ()


# The metrics API answers with 401 and an unknown code if a permission is missing ("401 authorization errors").
@pytest.mark.parametrize(
    ("operation", "code", "status"),
    [(BATCH, "AuthorizationFailed", 403), (BATCH, "Unauthorized", 401), (METRICS, "AuthorizationFailed", 403)],
)
def test_a_missing_permission_is_named(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, operation: str, code: str, status: int
) -> None:
    nodes = launched(provider, request_of)
    cloud.faults.fail(operation, code, status=status, message="not allowed")
    with pytest.raises(errors.AccessDeniedError, match="not allowed") as caught:
        read(provider, nodes)
    assert "Microsoft.Insights/metrics/read" in (caught.value.hint or "")
    assert (caught.value.code, caught.value.region) == (code, "eastus")


def test_an_expired_token_is_not_a_missing_permission(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    nodes = launched(provider, request_of)
    # Twice: after the first rejection the credentials are read again, and the call is repeated.
    cloud.faults.fail(BATCH, "ExpiredAuthenticationToken", status=401, times=2)
    with pytest.raises(errors.AuthError, match="ExpiredAuthenticationToken"):
        read(provider, nodes)


def test_the_hint_for_a_missing_registration_names_the_resource_provider(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    nodes = launched(provider, request_of)
    message = (
        "The subscription is not registered to use namespace 'Microsoft.Insights'. See https://aka.ms/rps-not-found."
    )
    cloud.faults.fail(METRICS, "MissingSubscriptionRegistration", status=409, message=message)
    with pytest.raises(errors.AccessDeniedError) as caught:
        read(provider, nodes)
    assert "az provider register --namespace Microsoft.Insights" in (caught.value.hint or "")


class Unreachable:
    """A credential whose tokens are named after their scope, and a transport that records calls and reaches nothing."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(" ".join(scopes), int(datetime(2100, 1, 1, tzinfo=UTC).timestamp()))

    def send(self, request: Any, **options: Any) -> Any:
        self.calls.append((str(request.url).partition("?")[0], str(request.headers["Authorization"])))
        raise ServiceRequestError("unreachable")


def test_each_region_has_an_endpoint_for_metrics_with_tokens_of_its_own(
    provider: AzureProvider, request_of: Request
) -> None:
    nodes, unreachable = launched(provider, request_of), Unreachable()
    public = AzureProvider(Settings(values={"subscription_id": "sub"}))
    public._clients._credential = public._clients._transport = unreachable
    for _ in range(2):
        with pytest.raises(errors.TransientError):
            read(public, [replace(nodes[0], instance_type="Standard_D4s_v5")])
    with pytest.raises(errors.TransientError):
        public.nodes(CLUSTER)
    metrics = "https://eastus.metrics.monitor.azure.com/subscriptions/sub/metrics:getBatch"
    assert unreachable.calls[:2] == [(metrics, "Bearer https://metrics.monitor.azure.com/.default")] * 2
    assert {token for _, token in unreachable.calls[2:]} == {"Bearer https://management.azure.com/.default"}


# --- health -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["Unavailable", "Degraded"])
def test_a_node_that_azure_finds_unhealthy_is_impaired_until_it_recovers(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, state: str
) -> None:
    impaired, healthy = launched(provider, request_of)
    cloud.impair(impaired.id, state)
    found = {node.id: node for node in provider.nodes(CLUSTER)}
    assert found[impaired.id].state is NodeState.IMPAIRED
    assert (found[impaired.id].reason or "").startswith(f"{state}: ")
    assert (found[healthy.id].state, found[healthy.id].reason) == (NodeState.RUNNING, None)
    cloud.impair(impaired.id, "Available")
    assert states(provider) == [NodeState.RUNNING] * 2


@pytest.mark.parametrize(("state", "context"), [("Unknown", ""), ("Unavailable", "Customer Initiated")])
def test_an_unknown_status_and_a_restart_by_the_customer_are_not_failures(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, state: str, context: str
) -> None:
    node, _ = launched(provider, request_of)
    cloud.impair(node.id, state, context)
    assert states(provider) == [NodeState.RUNNING] * 2


def test_a_node_that_was_stopped_is_stopped_and_not_impaired(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    nodes = launched(provider, request_of)
    cloud.impair(nodes[0].id)
    cloud.stop_node(nodes[0].id)
    assert sorted(states(provider)) == [NodeState.RUNNING, NodeState.STOPPED]


def test_health_is_read_only_if_it_is_requested_and_a_node_runs(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    nodes = launched(provider, request_of)
    cloud.faults.clear()
    assert states(provider, replace(CLUSTER, with_health=False)) == [NodeState.RUNNING] * 2
    for node in nodes:
        cloud.stop_node(node.id)
    assert states(provider) == [NodeState.STOPPED] * 2
    assert cloud.faults.count(GROUP_HEALTH) + cloud.faults.count(HEALTH) == 0


def test_one_listing_has_the_health_of_all_nodes_of_all_clusters(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    launched(provider, request_of, 5)
    tags = {**request_of().tags, "multicompute-id": "id-2", "multicompute-attempt": "tok-2"}
    provider.launch(request_of(cluster_id="id-2", token="tok-2", tags=tags))
    (impaired, *_) = provider.nodes(Selector(cluster_id="id-2"))
    cloud.impair(impaired.id)
    cloud.page_size = 4
    cloud.faults.clear()
    found = provider.nodes(Selector(region="eastus", with_health=True))
    assert [node.id for node in found if node.state is NodeState.IMPAIRED] == [impaired.id]
    # Two pages of seven machines.
    assert (cloud.faults.count(HEALTH), cloud.faults.count(GROUP_HEALTH)) == (2, 0)


def test_in_a_configured_group_the_health_of_that_group_is_read(
    cloud: AzureLocalCloud, open_with: Callable[..., AzureProvider], request_of: Request
) -> None:
    provider = open_with(resource_group="Team")
    resources: Any = provider._clients.resources
    resources.resource_groups.create_or_update("Team", {"location": "eastus"})
    impaired, _ = launched(provider, request_of)
    cloud.impair(impaired.id)
    cloud.faults.clear()
    assert sorted(states(provider)) == [NodeState.IMPAIRED, NodeState.RUNNING]
    assert (cloud.faults.count(HEALTH), cloud.faults.count(GROUP_HEALTH)) == (0, 1)


def test_a_missing_permission_to_read_health_is_named_and_does_not_count_as_healthy(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    launched(provider, request_of)
    cloud.faults.fail(GROUP_HEALTH, "AuthorizationFailed", status=403)
    with pytest.raises(errors.AccessDeniedError) as caught:
        provider.nodes(CLUSTER)
    assert "Microsoft.ResourceHealth/availabilityStatuses/read" in (caught.value.hint or "")


def test_a_throttled_health_listing_is_a_throttled_error(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    launched(provider, request_of)
    cloud.faults.throttle(GROUP_HEALTH)
    with pytest.raises(errors.ThrottledError):
        provider.nodes(CLUSTER)


# --- through the engine -----------------------------------------------------------------------------------------------


@pytest.fixture
def clouds() -> Iterator[LocalClouds]:
    with local_clouds("azure") as running:
        yield running


def test_a_cluster_is_degraded_by_the_first_refresh_after_a_node_is_impaired_and_still_has_metrics(
    clouds: LocalClouds,
) -> None:
    azure = clouds.of(AzureLocalCloud)
    with Cluster.request(gpus=16, type="h100", regions=["eastus"], progress=False) as cluster:
        busy, impaired = cluster.nodes
        azure.measure(busy.id, LOAD, minutes=1)
        assert {one.metric: one.value for one in cluster.metrics()} == {
            metric: pytest.approx(value) for metric, value in LOAD.items()
        }
        azure.impair(impaired.id)
        assert cluster.refresh().state is ClusterState.DEGRADED
        assert {node.id: node.state for node in cluster.nodes}[impaired.id] is NodeState.IMPAIRED
        azure.impair(impaired.id, "Available")
        assert cluster.refresh().state is ClusterState.READY
    assert clouds.alive() == []
