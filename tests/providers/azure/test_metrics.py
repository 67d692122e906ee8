"""What Azure measures of nodes, and which it finds unwell: in few calls, in our units, and nothing that was not measured."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ServiceRequestError

from multicompute import Cluster, errors
from multicompute.clock import SystemClock
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
    now = SystemClock().now()
    return provider.metrics(nodes, since=now - timedelta(minutes=5), until=now)


def made(provider: AzureProvider, request_of: Request, count: int = 2) -> tuple[Node, ...]:
    """That many nodes, which run."""
    offer = request_of().parts[0].offer
    provider.launch(request_of(parts=(Part(offer, count),)))
    nodes = provider.nodes(CLUSTER)
    assert [node.state for node in nodes] == [NodeState.RUNNING] * count
    return nodes


def states(provider: AzureProvider, selector: Selector = CLUSTER) -> list[NodeState]:
    return [node.state for node in provider.nodes(selector)]


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_everything_that_is_measured_comes_in_our_units_at_the_end_of_its_minute(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    node, _ = made(provider, request_of)
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


def test_each_accelerator_of_a_node_is_measured_by_itself(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    node, _ = made(provider, request_of)
    for gpu in range(8):
        load = {Metric.ACCELERATOR: 10.0 * gpu, Metric.ACCELERATOR_MEMORY: 5.0}
        cloud.measure(node.id, load, accelerator=gpu, minutes=1)
    found = {(one.accelerator, one.metric): one.value for one in read(provider, [node])}
    assert found == {
        (gpu, metric): pytest.approx(value)
        for gpu in range(8)
        for metric, value in ((Metric.ACCELERATOR, 10.0 * gpu), (Metric.ACCELERATOR_MEMORY, 5.0))
    }


def test_without_an_agent_accelerators_are_absent_and_an_idle_cpu_is_a_zero(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    nodes = made(provider, request_of)
    cloud.measure(nodes[0].id, {Metric.CPU: 0.0}, minutes=1)
    assert [(one.node, one.metric, one.value) for one in read(provider, nodes)] == [(nodes[0].id, Metric.CPU, 0.0)]


@pytest.mark.parametrize("begin", [0, 30])
def test_a_window_includes_the_minutes_that_end_in_it_and_no_other(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, begin: int
) -> None:
    node, _ = made(provider, request_of)
    cloud.measure(node.id, {Metric.CPU: 40.0, Metric.ACCELERATOR: 80.0}, minutes=10)
    last = SystemClock().now().replace(second=0, microsecond=0) - timedelta(minutes=1)
    samples = provider.metrics([node], since=last - timedelta(minutes=3, seconds=begin), until=last)
    expected = [last - timedelta(minutes=count) for count in (3, 2, 1, 0)]
    for metric in (Metric.CPU, Metric.ACCELERATOR):
        assert [one.at for one in samples if one.metric is metric] == expected


def test_calls_grow_with_fifties_of_nodes_and_twenties_of_those_with_accelerators(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    nodes = made(provider, request_of, 100)
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


def test_nodes_of_two_regions_are_asked_for_region_by_region(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, offer: Offer
) -> None:
    here = made(provider, request_of)
    there = replace(offer, region="westus2", zone="westus2-1")
    provider.launch(request_of(token="tok-2", parts=(Part(there, 2),)))
    nodes = [*here, *provider.nodes(replace(CLUSTER, region="westus2"))]
    for node in nodes:
        cloud.measure(node.id, {Metric.CPU: 5.0}, minutes=1)
    cloud.faults.clear()
    assert {one.node for one in read(provider, nodes)} == {node.id for node in nodes}
    assert cloud.faults.count(BATCH) == 2


def test_nobody_is_asked_about_no_nodes_or_about_those_that_are_gone(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    nodes = made(provider, request_of)
    cloud.faults.clear()
    assert read(provider, []) == ()
    assert read(provider, [replace(node, state=NodeState.GONE) for node in nodes]) == ()
    assert cloud.faults.calls == []


@pytest.mark.parametrize("operation", [BATCH, METRICS, "batch"])
@pytest.mark.parametrize(("code", "status"), [("TooManyRequests", 429), ("Throttled", 529)])
def test_too_many_questions_are_throttling_whoever_answers(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, operation: str, code: str, status: int
) -> None:
    nodes = made(provider, request_of)
    cloud.faults.fail(operation, code, status=status)
    with pytest.raises(errors.ThrottledError, match=f"azure eastus.*{code}"):
        read(provider, nodes)
    assert read(provider, nodes) == ()


# The metrics API tells of a missing right with 401 and without a known code ("401 authorization errors").
@pytest.mark.parametrize(
    ("operation", "code", "status"),
    [(BATCH, "AuthorizationFailed", 403), (BATCH, "Unauthorized", 401), (METRICS, "AuthorizationFailed", 403)],
)
def test_a_missing_right_is_named(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, operation: str, code: str, status: int
) -> None:
    nodes = made(provider, request_of)
    cloud.faults.fail(operation, code, status=status, message="not allowed")
    with pytest.raises(errors.AccessDeniedError, match="not allowed") as caught:
        read(provider, nodes)
    assert "Microsoft.Insights/metrics/read" in (caught.value.hint or "")
    assert (caught.value.code, caught.value.region) == (code, "eastus")


def test_an_expired_token_is_no_missing_right(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    nodes = made(provider, request_of)
    cloud.faults.fail(BATCH, "ExpiredAuthenticationToken", status=401)
    with pytest.raises(errors.AuthError, match="ExpiredAuthenticationToken"):
        read(provider, nodes)


def test_a_provider_that_is_not_registered_is_named_in_the_line_that_registers_it(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    nodes = made(provider, request_of)
    message = (
        "The subscription is not registered to use namespace 'Microsoft.Insights'. See https://aka.ms/rps-not-found."
    )
    cloud.faults.fail(METRICS, "MissingSubscriptionRegistration", status=409, message=message)
    with pytest.raises(errors.AccessDeniedError) as caught:
        read(provider, nodes)
    assert "az provider register --namespace Microsoft.Insights" in (caught.value.hint or "")


class Nobody:
    """A credential that gives tokens in the name of their scope, and a connection that leads nowhere; notes who was called with what."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(" ".join(scopes), int(datetime(2100, 1, 1, tzinfo=UTC).timestamp()))

    def send(self, request: Any, **options: Any) -> Any:
        self.calls.append((str(request.url).partition("?")[0], str(request.headers["Authorization"])))
        raise ServiceRequestError("nobody there")


def test_each_region_has_an_endpoint_for_metrics_with_tokens_of_its_own(
    provider: AzureProvider, request_of: Request
) -> None:
    nodes, nobody = made(provider, request_of), Nobody()
    public = AzureProvider(Settings(values={"subscription_id": "sub"}))
    public._clients._credential = public._clients._transport = nobody
    for _ in range(2):
        with pytest.raises(errors.TransientError):
            read(public, [replace(nodes[0], instance_type="Standard_D4s_v5")])
    with pytest.raises(errors.TransientError):
        public.nodes(CLUSTER)
    metrics = "https://eastus.metrics.monitor.azure.com/subscriptions/sub/metrics:getBatch"
    assert nobody.calls[:2] == [(metrics, "Bearer https://metrics.monitor.azure.com/.default")] * 2
    assert {token for _, token in nobody.calls[2:]} == {"Bearer https://management.azure.com/.default"}


# --- health -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["Unavailable", "Degraded"])
def test_what_azure_finds_unwell_is_impaired_until_it_is_well_again(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, state: str
) -> None:
    sick, sound = made(provider, request_of)
    cloud.impair(sick.id, state)
    found = {node.id: node for node in provider.nodes(CLUSTER)}
    assert found[sick.id].state is NodeState.IMPAIRED
    assert (found[sick.id].reason or "").startswith(f"{state}: ")
    assert (found[sound.id].state, found[sound.id].reason) == (NodeState.RUNNING, None)
    cloud.impair(sick.id, "Available")
    assert states(provider) == [NodeState.RUNNING] * 2


@pytest.mark.parametrize(("state", "context"), [("Unknown", ""), ("Unavailable", "Customer Initiated")])
def test_no_news_and_a_restart_that_somebody_asked_for_are_no_failure(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request, state: str, context: str
) -> None:
    node, _ = made(provider, request_of)
    cloud.impair(node.id, state, context)
    assert states(provider) == [NodeState.RUNNING] * 2


def test_a_node_that_somebody_stopped_is_stopped_and_not_impaired(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    nodes = made(provider, request_of)
    cloud.impair(nodes[0].id)
    cloud.stop_node(nodes[0].id)
    assert sorted(states(provider)) == [NodeState.RUNNING, NodeState.STOPPED]


def test_health_is_asked_for_only_where_it_is_wanted_and_something_runs(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    nodes = made(provider, request_of)
    cloud.faults.clear()
    assert states(provider, replace(CLUSTER, with_health=False)) == [NodeState.RUNNING] * 2
    for node in nodes:
        cloud.stop_node(node.id)
    assert states(provider) == [NodeState.STOPPED] * 2
    assert cloud.faults.count(GROUP_HEALTH) + cloud.faults.count(HEALTH) == 0


def test_one_listing_tells_the_health_of_all_nodes_of_all_clusters(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    made(provider, request_of, 5)
    tags = {**request_of().tags, "multicompute-id": "id-2", "multicompute-attempt": "tok-2"}
    provider.launch(request_of(cluster_id="id-2", token="tok-2", tags=tags))
    (sick, *_) = provider.nodes(Selector(cluster_id="id-2"))
    cloud.impair(sick.id)
    cloud.page_size = 4
    cloud.faults.clear()
    found = provider.nodes(Selector(region="eastus", with_health=True))
    assert [node.id for node in found if node.state is NodeState.IMPAIRED] == [sick.id]
    # Two pages of seven machines.
    assert (cloud.faults.count(HEALTH), cloud.faults.count(GROUP_HEALTH)) == (2, 0)


def test_in_a_group_of_the_users_health_is_asked_for_there(
    cloud: AzureLocalCloud, open_with: Callable[..., AzureProvider], request_of: Request
) -> None:
    provider = open_with(resource_group="Team")
    resources: Any = provider._clients.resources
    resources.resource_groups.create_or_update("Team", {"location": "eastus"})
    sick, _ = made(provider, request_of)
    cloud.impair(sick.id)
    cloud.faults.clear()
    assert sorted(states(provider)) == [NodeState.IMPAIRED, NodeState.RUNNING]
    assert (cloud.faults.count(HEALTH), cloud.faults.count(GROUP_HEALTH)) == (0, 1)


def test_a_missing_right_to_read_health_is_named_and_not_taken_for_good_health(
    cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request
) -> None:
    made(provider, request_of)
    cloud.faults.fail(GROUP_HEALTH, "AuthorizationFailed", status=403)
    with pytest.raises(errors.AccessDeniedError) as caught:
        provider.nodes(CLUSTER)
    assert "Microsoft.ResourceHealth/availabilityStatuses/read" in (caught.value.hint or "")


def test_throttled_health_is_throttling(cloud: AzureLocalCloud, provider: AzureProvider, request_of: Request) -> None:
    made(provider, request_of)
    cloud.faults.throttle(GROUP_HEALTH)
    with pytest.raises(errors.ThrottledError):
        provider.nodes(CLUSTER)


# --- through the engine -----------------------------------------------------------------------------------------------


@pytest.fixture
def clouds() -> Iterator[LocalClouds]:
    with local_clouds("azure") as running:
        yield running


def test_a_cluster_is_degraded_within_one_refresh_and_tells_how_busy_its_nodes_are(clouds: LocalClouds) -> None:
    with Cluster.request(gpus=16, type="h100", regions=["eastus"], progress=False) as cluster:
        busy, sick = cluster.nodes
        clouds.azure.measure(busy.id, LOAD, minutes=1)
        assert {one.metric: one.value for one in cluster.metrics()} == {
            metric: pytest.approx(value) for metric, value in LOAD.items()
        }
        clouds.azure.impair(sick.id)
        assert cluster.refresh().state is ClusterState.DEGRADED
        assert {node.id: node.state for node in cluster.nodes}[sick.id] is NodeState.IMPAIRED
        clouds.azure.impair(sick.id, "Available")
        assert cluster.refresh().state is ClusterState.READY
    assert clouds.alive() == []
