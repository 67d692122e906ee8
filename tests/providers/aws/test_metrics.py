"""Metrics from CloudWatch and EC2's status checks: in our units, in few calls, and nothing that was not measured."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from multicompute import Cluster, ClusterState, errors
from multicompute.node import Metric, Node, NodeState, Sample
from multicompute.offer import Offer, Part
from multicompute.provider import LaunchRequest, Selector, Settings
from multicompute.testing import FakeClock, local_clouds
from multicompute_aws._provider import AwsProvider
from multicompute_aws.local import AwsLocalCloud
from tests.aws_client import aws_client
from tests.providers.aws.scripted_aws import (
    Answer,
    Request,
    ScriptedAws,
    described,
    instance_xml,
    json_refusal,
    refusal,
)

START = datetime(2026, 11, 26, 12, 3, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
HERE = Selector(region="us-east-1", cluster_id="id-1", with_health=True)
LOAD = {
    Metric.CPU: 40.0,
    Metric.NETWORK_RECEIVED: 2e9,
    Metric.NETWORK_SENT: 1e6,
    Metric.ACCELERATOR: 90.0,
    Metric.ACCELERATOR_MEMORY: 25.0,
    Metric.ACCELERATOR_TEMPERATURE: 61.0,
    Metric.ACCELERATOR_POWER: 640.0,
}
Launch = Callable[..., LaunchRequest]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture(params=["own", "moto"])
def cloud(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[AwsLocalCloud]:
    cloud = AwsLocalCloud(store=request.param, clock=clock)
    cloud.start()
    yield cloud
    cloud.stop()


@pytest.fixture
def local(cloud: AwsLocalCloud, clock: FakeClock) -> AwsProvider:
    return AwsProvider(Settings({"regions": ["us-east-1", "us-west-2"]}, cloud.environment), clock=clock)


@pytest.fixture
def scripted(aws: ScriptedAws, clock: FakeClock) -> AwsProvider:
    aws.answers |= {"ListMetrics": json.dumps({"Metrics": []}), "GetMetricData": json.dumps({"MetricDataResults": []})}
    return AwsProvider(Settings(environment=aws.environment), clock=clock)


def _node(node_id: str = "i-1", region: str = "us-east-1") -> Node:
    return Node(node_id, 0, "aws", "p5.48xlarge", region, f"{region}a", NodeState.RUNNING)


def _last_hour(provider: AwsProvider, clock: FakeClock, *nodes: Node) -> tuple[Sample, ...]:
    return provider.metrics(nodes, since=clock.now() - HOUR, until=clock.now())


def _client(cloud: AwsLocalCloud, service: str) -> Any:
    return aws_client(service, cloud.endpoint_url)


# --- what was measured ------------------------------------------------------------------------------------------------


def test_everything_that_is_measured_is_returned_in_our_units_with_the_end_of_its_interval(
    cloud: AwsLocalCloud, local: AwsProvider, clock: FakeClock, request_of: Launch
) -> None:
    node, _ = local.launch(request_of())
    clock.advance("30m")
    cloud.measure(node.id, LOAD, minutes=10)
    samples = _last_hour(local, clock, node)
    end = datetime(2026, 11, 26, 12, 30, tzinfo=UTC)
    assert max(sample.at for sample in samples) == end
    newest = {sample.metric: sample for sample in samples if sample.at == end}
    assert {metric: sample.value for metric, sample in newest.items()} == pytest.approx(LOAD)
    about = {metric: sample.accelerator for metric, sample in newest.items()}
    assert about == {metric: 0 if metric.startswith("accelerator") else None for metric in LOAD}
    assert {sample.node for sample in samples} == {node.id}
    assert [sample.at for sample in samples] == sorted(sample.at for sample in samples)


@pytest.mark.parametrize("detailed", [False, True])
def test_traffic_is_the_same_rate_with_basic_and_with_detailed_monitoring(
    cloud: AwsLocalCloud, local: AwsProvider, clock: FakeClock, request_of: Launch, detailed: bool
) -> None:
    image = _client(cloud, "ssm").get_parameter(
        Name="/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
    )
    (item,) = _client(cloud, "ec2").run_instances(
        ImageId=image["Parameter"]["Value"],
        InstanceType="g6.xlarge",
        MinCount=1,
        MaxCount=1,
        Monitoring={"Enabled": detailed},
    )["Instances"]
    node = _node(item["InstanceId"])
    clock.advance("1h")
    cloud.measure(node.id, {Metric.NETWORK_RECEIVED: 2e9, Metric.CPU: 40.0}, minutes=30)
    samples = [sample for sample in _last_hour(local, clock, node) if sample.at > clock.now() - timedelta(minutes=25)]
    assert {sample.at.minute % 5 for sample in samples} == {0}
    expected = {Metric.CPU: pytest.approx(40.0), Metric.NETWORK_RECEIVED: pytest.approx(2e9)}
    assert {sample.metric for sample in samples} == set(expected)
    assert [sample for sample in samples if sample.value != expected[sample.metric]] == []


def test_a_sum_is_returned_only_once_its_last_minutes_have_arrived_and_a_mean_at_once(
    cloud: AwsLocalCloud, local: AwsProvider, clock: FakeClock, request_of: Launch
) -> None:
    node, _ = local.launch(request_of())
    clock.advance("3m")
    cloud.measure(node.id, {Metric.CPU: 40.0, Metric.NETWORK_SENT: 3e6}, minutes=10)
    assert clock.now().minute == 6
    ended = datetime(2026, 11, 26, 12, 5, tzinfo=UTC)
    assert {sample.metric for sample in _last_hour(local, clock, node) if sample.at == ended} == {Metric.CPU}
    clock.advance("2m")
    now_told = {sample.metric for sample in _last_hour(local, clock, node) if sample.at == ended}
    assert now_told == {Metric.CPU, Metric.NETWORK_SENT}


def test_an_interval_that_is_not_over_is_not_returned(
    cloud: AwsLocalCloud, local: AwsProvider, clock: FakeClock, request_of: Launch
) -> None:
    node, _ = local.launch(request_of())
    cloud.measure(node.id, {Metric.ACCELERATOR: 90.0}, minutes=3)
    until = clock.now() + HOUR
    assert local.metrics([node], since=datetime(2026, 11, 26, 12, 1, tzinfo=UTC), until=until) == ()
    clock.advance("5m")
    (sample,) = local.metrics([node], since=datetime(2026, 11, 26, 12, 1, tzinfo=UTC), until=until)
    assert sample.at == datetime(2026, 11, 26, 12, 5, tzinfo=UTC)


def test_each_accelerator_has_its_own_samples_whatever_dimensions_its_agent_uses(
    cloud: AwsLocalCloud, local: AwsProvider, clock: FakeClock, request_of: Launch
) -> None:
    node, _ = local.launch(request_of())
    clock.advance("30m")
    cloudwatch = _client(cloud, "cloudwatch")
    at = datetime(2026, 11, 26, 12, 27, tzinfo=UTC)

    def put(metric: str, value: float, **dimensions: str) -> None:
        named = [{"Name": key, "Value": text} for key, text in dimensions.items()]
        datum = {"MetricName": metric, "Dimensions": named, "Timestamp": at, "Value": value}
        cloudwatch.put_metric_data(Namespace="CWAgent", MetricData=[datum])

    for index in ("0", "7"):
        busy = 10.0 + int(index)
        put("nvidia_smi_utilization_gpu", busy, InstanceId=node.id, index=index, name="NVIDIA H100 80GB HBM3")
        put("nvidia_smi_utilization_gpu", busy, InstanceId=node.id, index=index)
    put("nvidia_smi_utilization_gpu", 99.0, InstanceId=node.id)
    put("nvidia_smi_utilization_gpu", 99.0, host="ip-10-0-0-1", index="0")
    samples = _last_hour(local, clock, node)
    assert [(sample.accelerator, sample.value) for sample in samples] == [(0, 10.0), (7, 17.0)]


@pytest.mark.parametrize(
    "published", [["nvidia_smi_utilization_memory"], ["nvidia_smi_memory_used"], ["nvidia_smi_memory_total"]]
)
def test_memory_use_is_computed_only_from_both_used_and_total_and_never_from_memory_activity(
    cloud: AwsLocalCloud, local: AwsProvider, clock: FakeClock, request_of: Launch, published: list[str]
) -> None:
    node, _ = local.launch(request_of())
    clock.advance("30m")
    dimensions = [{"Name": "InstanceId", "Value": node.id}, {"Name": "index", "Value": "0"}]
    at = datetime(2026, 11, 26, 12, 27, tzinfo=UTC)
    data = [{"MetricName": name, "Dimensions": dimensions, "Timestamp": at, "Value": 50.0} for name in published]
    _client(cloud, "cloudwatch").put_metric_data(Namespace="CWAgent", MetricData=data)
    assert _last_hour(local, clock, node) == ()


def test_nodes_of_several_regions_are_each_read_in_their_own_region(
    cloud: AwsLocalCloud, local: AwsProvider, clock: FakeClock, request_of: Launch, offer: Offer
) -> None:
    here, _ = local.launch(request_of())
    west = replace(offer, region="us-west-2", zone="us-west-2a")
    (there,) = local.launch(request_of(token="west", parts=(Part(west, 1),)))
    clock.advance("30m")
    cloud.measure(here.id, {Metric.CPU: 1.0})
    cloud.measure(there.id, {Metric.CPU: 2.0})
    samples = _last_hour(local, clock, here, there)
    assert {(sample.node, sample.value) for sample in samples} == {(here.id, 1.0), (there.id, 2.0)}


# --- calls to CloudWatch ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "calls"), [(0, 0), (1, 1), (166, 1), (167, 2), (1000, 6)])
def test_one_call_reads_five_hundred_series_of_any_nodes(
    aws: ScriptedAws, scripted: AwsProvider, clock: FakeClock, count: int, calls: int
) -> None:
    _last_hour(scripted, clock, *(_node(f"i-{number}") for number in range(count)))
    assert len(aws.sent("GetMetricData")) == calls
    assert len(aws.sent("ListMetrics")) == min(count, 1)
    asked = [len(request.params["MetricDataQueries"]) for request in aws.sent("GetMetricData")]
    assert sum(asked) == 3 * count
    assert max(asked, default=0) <= 500


def test_metrics_and_their_data_are_read_to_the_last_page(
    aws: ScriptedAws, scripted: AwsProvider, clock: FakeClock
) -> None:
    def listed(index: int) -> dict[str, Any]:
        dimensions = [{"Name": "InstanceId", "Value": "i-1"}, {"Name": "index", "Value": str(index)}]
        return {"Namespace": "CWAgent", "MetricName": "nvidia_smi_utilization_gpu", "Dimensions": dimensions}

    aws.answers["ListMetrics"] = [
        json.dumps({"Metrics": [listed(0)], "NextToken": "more"}),
        json.dumps({"Metrics": [listed(1)]}),
    ]
    pages: list[str] = []

    def answer(request: Request) -> str:
        at = START.replace(minute=45, second=0, hour=11).timestamp() + 300 * len(pages)
        pages.append(request.params.get("NextToken", ""))
        ids = [query["Id"] for query in request.params["MetricDataQueries"]]
        results = [{"Id": key, "Timestamps": [at], "Values": [5.0], "StatusCode": "PartialData"} for key in ids]
        return json.dumps({"MetricDataResults": results} | ({"NextToken": str(len(pages))} if len(pages) < 3 else {}))

    aws.answers["GetMetricData"] = answer
    samples = _last_hour(scripted, clock, _node())
    assert pages == ["", "1", "2"]
    busy = [sample for sample in samples if sample.metric is Metric.ACCELERATOR]
    assert [sample.accelerator for sample in busy] == [0, 1] * 3
    assert sorted({sample.at.minute for sample in samples}) == [0, 50, 55]


def test_series_that_ended_long_ago_are_listed_only_for_a_period_that_includes_them(
    aws: ScriptedAws, scripted: AwsProvider, clock: FakeClock
) -> None:
    _last_hour(scripted, clock, _node())
    scripted.metrics([_node()], since=clock.now() - timedelta(days=1), until=clock.now())
    assert [request.params.get("RecentlyActive") for request in aws.sent("ListMetrics")] == ["PT3H", None]


def test_a_period_in_which_no_interval_ends_causes_no_call(
    aws: ScriptedAws, scripted: AwsProvider, clock: FakeClock
) -> None:
    since = clock.now() - timedelta(minutes=1)
    assert scripted.metrics([_node()], since=since, until=clock.now()) == ()
    assert aws.actions == []


def _no(action: str) -> str:
    return f"User: arn:aws:iam::1:user/me is not authorized to perform: cloudwatch:{action}"


@pytest.mark.parametrize("action", ["GetMetricData", "ListMetrics"])
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (json_refusal("Throttling", "Rate exceeded"), errors.ThrottledError),
        (json_refusal("ThrottlingException", "Rate exceeded"), errors.ThrottledError),
        (json_refusal("InternalServiceError", "", 500), errors.TransientError),
        (json_refusal("InvalidClientTokenId", "no", 403), errors.AuthError),
        (json_refusal("ValidationError", "no"), errors.InvalidRequestError),
        (json_refusal("UnknownCode", "no"), errors.ProviderError),
        ((0, ""), errors.TransientError),
    ],
)
def test_an_error_of_cloudwatch_has_its_kind(
    aws: ScriptedAws, scripted: AwsProvider, clock: FakeClock, action: str, answer: Answer, kind: type[Exception]
) -> None:
    aws.answers[action] = answer
    with pytest.raises(errors.MulticomputeError) as caught:
        _last_hour(scripted, clock, _node())
    assert type(caught.value) is kind
    assert caught.value.region == "us-east-1"


@pytest.mark.parametrize("action", ["GetMetricData", "ListMetrics"])
@pytest.mark.parametrize("is_named", [True, False])
def test_a_missing_permission_is_named(
    aws: ScriptedAws, scripted: AwsProvider, clock: FakeClock, action: str, is_named: bool
) -> None:
    aws.answers[action] = json_refusal("AccessDenied", _no(action) if is_named else "no", 403)
    with pytest.raises(errors.AccessDeniedError) as caught:
        _last_hour(scripted, clock, _node())
    assert f"cloudwatch:{action}" in (caught.value.hint or "")


def test_data_that_cloudwatch_could_not_read_does_not_count_as_not_measured(
    aws: ScriptedAws, scripted: AwsProvider, clock: FakeClock
) -> None:
    result = {"Id": "m0", "Timestamps": [], "Values": [], "StatusCode": "InternalError"}
    aws.answers["GetMetricData"] = json.dumps({"MetricDataResults": [result]})
    with pytest.raises(errors.TransientError):
        _last_hour(scripted, clock, _node())


# --- status checks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("check", "named"), [("system", "system"), ("instance", "instance"), ("attached-ebs", "EBS")])
def test_a_node_that_fails_a_status_check_is_impaired_with_the_check_and_since_when_as_its_reason(
    cloud: AwsLocalCloud, local: AwsProvider, request_of: Launch, check: Any, named: str
) -> None:
    sick, sound = local.launch(request_of())
    cloud.impair(sick.id, check=check)
    found = {node.id: node for node in local.nodes(HERE)}
    assert {key: node.state for key, node in found.items()} == {
        sick.id: NodeState.IMPAIRED,
        sound.id: NodeState.RUNNING,
    }
    reason = found[sick.id].reason or ""
    assert named in reason and "reachability failed since 2026-11-26 12:03 UTC" in reason
    assert found[sound.id].reason is None
    cloud.impair(sick.id, check=check, fails=False)
    assert {node.state for node in local.nodes(HERE)} == {NodeState.RUNNING}


def test_a_node_that_is_shutting_down_is_stopping_and_not_impaired(aws: ScriptedAws, provider: AwsProvider) -> None:
    aws.answers["DescribeInstances"] = described(instance_xml("i-1", state="shutting-down"), instance_xml("i-2"))
    failing = "<item><instanceId>i-1</instanceId><systemStatus><status>impaired</status></systemStatus></item>"
    aws.answers["DescribeInstanceStatus"] = lambda request: f"<R><instanceStatusSet>{failing}</instanceStatusSet></R>"
    states = {node.id: (node.state, node.reason) for node in provider.nodes(HERE)}
    assert states == {"i-1": (NodeState.STOPPING, None), "i-2": (NodeState.RUNNING, None)}


def test_health_costs_three_calls_per_region_for_any_number_of_nodes_and_none_if_not_requested(
    cloud: AwsLocalCloud, local: AwsProvider, request_of: Launch, offer: Offer
) -> None:
    def calls(selector: Selector) -> tuple[int, int]:
        before = [cloud.faults.count(name) for name in ("DescribeInstances", "DescribeInstanceStatus")]
        local.nodes(selector)
        after = [cloud.faults.count(name) for name in ("DescribeInstances", "DescribeInstanceStatus")]
        return after[0] - before[0], after[1] - before[1]

    assert calls(HERE) == (1, 0), "nothing runs"
    local.launch(request_of(parts=(Part(offer, 20),)))
    assert calls(HERE) == (1, 3)
    assert calls(replace(HERE, with_health=False)) == (1, 0)


def test_failing_instances_are_listed_to_the_last_page_without_foreign_ones(
    aws: ScriptedAws, provider: AwsProvider
) -> None:
    def page(instance_id: str, more: str = "") -> str:
        token = f"<nextToken>{more}</nextToken>" if more else ""
        failing = "<systemStatus><status>impaired</status></systemStatus>"
        item = f"<item><instanceId>{instance_id}</instanceId>{failing}</item>"
        return f"<R><instanceStatusSet>{item}</instanceStatusSet>{token}</R>"

    none = "<R><instanceStatusSet/></R>"
    aws.answers["DescribeInstances"] = described(instance_xml("i-1"), instance_xml("i-2"))
    aws.answers["DescribeInstanceStatus"] = [page("i-foreign", "more"), page("i-2"), none, none]
    states = [(node.id, node.state, node.reason) for node in provider.nodes(HERE)]
    assert states == [
        ("i-1", NodeState.RUNNING, None),
        ("i-2", NodeState.IMPAIRED, "the system status check fails"),
    ]
    assert [request.params.get("NextToken") for request in aws.sent("DescribeInstanceStatus")] == [
        None,
        "more",
        None,
        None,
    ]


def test_the_missing_permission_to_read_status_checks_is_named(aws: ScriptedAws, provider: AwsProvider) -> None:
    aws.answers["DescribeInstances"] = described(instance_xml("i-1"))
    aws.answers["DescribeInstanceStatus"] = refusal("UnauthorizedOperation", "no", 403)
    with pytest.raises(errors.AccessDeniedError) as caught:
        provider.nodes(HERE)
    assert "ec2:DescribeInstanceStatus" in (caught.value.hint or "")


# --- through the engine -----------------------------------------------------------------------------------------------


def test_a_cluster_is_degraded_by_the_first_refresh_after_a_check_fails_and_still_has_metrics() -> None:
    with (
        local_clouds("aws") as clouds,
        Cluster.request(gpus=16, type="h100", clouds=["aws"], regions=["us-east-1"]) as cluster,
    ):
        head, other = cluster.nodes
        clouds.aws.measure(head.id, LOAD)
        samples = cluster.metrics("15m")
        assert {sample.metric for sample in samples} == set(LOAD)
        assert {sample.node for sample in samples} == {head.id}
        clouds.of(AwsLocalCloud).impair(other.id, check="system")
        assert cluster.refresh().state is ClusterState.DEGRADED
        (event,) = [event for event in cluster.events() if event.kind == "degraded"]
        assert other.id in event.message and "system status check fails" in event.message
        clouds.of(AwsLocalCloud).impair(other.id, check="system", fails=False)
        assert cluster.refresh().state is ClusterState.READY
        cluster.terminate()
        assert clouds.alive() == []


# --- the local cloud --------------------------------------------------------------------------------------------------


def _query(key: str = "m0", period: int = 300) -> dict[str, Any]:
    metric = {"Namespace": "AWS/EC2", "MetricName": "CPUUtilization"}
    return {"Id": key, "MetricStat": {"Metric": metric, "Period": period, "Stat": "Average"}}


@pytest.mark.parametrize(
    "queries",
    [[_query(f"m{number}") for number in range(501)], [_query(), _query()], [_query("M0")], [_query(period=90)]],
    ids=["too many", "twice", "capital", "period"],
)
def test_the_local_cloudwatch_refuses_what_cloudwatch_refuses(
    cloud: AwsLocalCloud, queries: list[dict[str, Any]]
) -> None:
    with pytest.raises(ClientError, match="ValidationError"):
        _client(cloud, "cloudwatch").get_metric_data(MetricDataQueries=queries, StartTime=START - HOUR, EndTime=START)


def test_the_local_ec2_refuses_filters_that_ec2_does_not_have(cloud: AwsLocalCloud) -> None:
    with pytest.raises(ClientError, match="InvalidParameterValue"):
        _client(cloud, "ec2").describe_instance_status(Filters=[{"Name": "tag:team", "Values": ["nlp"]}])


def test_a_machine_that_does_not_exist_can_not_be_impaired(
    cloud: AwsLocalCloud, local: AwsProvider, request_of: Launch
) -> None:
    node, _ = local.launch(request_of())
    with pytest.raises(ValueError, match="attached-ebs"):
        cloud.impair(node.id, check="mood")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no such instance"):
        cloud.impair("i-0")
