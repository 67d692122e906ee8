"""Azure Monitor, Resource Health and batches of requests of the local Azure."""

from datetime import timedelta
from typing import Any

import pytest

from multicompute.node import Metric
from multicompute.testing import FakeClock
from multicompute_azure.local import AzureLocalCloud
from tests.providers.azure.local.raw_arm import Answer, Arm, Site

MONITOR, HEALTH, BATCH = "2024-02-01", "2025-05-01", "2020-06-01"
NAMESPACE = "Microsoft.Compute/virtualMachines"


@pytest.fixture
def vm(site: Site, cloud: AzureLocalCloud) -> str:
    site.outcome(site.launch(2))
    return cloud.running_ids()[0]


def window(clock: FakeClock) -> dict[str, str]:
    now = clock.now()
    return {"starttime": (now - timedelta(minutes=5)).isoformat(), "endtime": now.isoformat()}


def many(arm: Arm, clock: FakeClock, body: Any, **changes: str) -> Answer:
    query = {"metricnamespace": NAMESPACE, "metricnames": "Percentage CPU", "aggregation": "average"}
    return arm("POST", "/metrics:getBatch", body, version=MONITOR, **(query | window(clock) | changes))


def test_minutes_without_a_value_are_listed_without_a_value(
    arm: Arm, cloud: AzureLocalCloud, clock: FakeClock, vm: str
) -> None:
    cloud.measure(vm, {Metric.CPU: 40.0}, minutes=2)
    answer = many(arm, clock, {"resourceids": [vm]})
    (series,) = answer.body["values"][0]["value"][0]["timeseries"]
    values = [point.get("average") for point in series["data"]]
    assert [value for value in values if value is not None] == [40.0, 40.0]
    assert values[0] is None


@pytest.mark.parametrize(
    ("body", "changes", "words"),
    [
        ({"resourceIds": ["x"]}, {}, "lower case"),
        ({"resourceids": []}, {}, "lower case"),
        ({"resourceids": [f"/{number}" for number in range(51)]}, {}, "limit of 50"),
        ({"resourceids": ["VM"]}, {"metricnamespace": "Telegraf/nvidia-smi"}, "custom metrics are not supported"),
        ({"resourceids": ["VM"]}, {"metricnames": "Percentage GPU"}, "Valid metrics: Percentage CPU"),
        ({"resourceids": ["VM"]}, {"interval": "PT7M"}, "PT1M"),
        ({"resourceids": ["VM"]}, {"starttime": "yesterday"}, "invalid time"),
        ({"resourceids": ["VM"]}, {"filter": "colour eq 'red'"}, "not supported"),
    ],
)
def test_a_malformed_metrics_batch_is_refused(
    arm: Arm, clock: FakeClock, vm: str, body: dict[str, list[str]], changes: dict[str, str], words: str
) -> None:
    sent = {name: [vm if each == "VM" else each for each in ids] for name, ids in body.items()}
    answer = many(arm, clock, sent, **changes)
    assert (answer.status, answer.code) == (400, "BadRequest")
    assert words in answer.message


def test_a_machine_without_an_agent_has_no_agent_metrics(
    arm: Arm, cloud: AzureLocalCloud, clock: FakeClock, vm: str
) -> None:
    path = vm.partition(f"/subscriptions/{cloud.subscription_id}")[2] + "/providers/Microsoft.Insights/metrics"
    now = clock.now()
    query = {
        "metricnamespace": "Telegraf/nvidia-smi",
        "metricnames": "utilization_gpu",
        "aggregation": "average",
        "$filter": "index eq '*'",
        "timespan": f"{(now - timedelta(minutes=5)).isoformat()}/{now.isoformat()}",
    }
    assert "metricnamespace" in arm("GET", path, version=MONITOR, **query).message
    cloud.measure(vm, {Metric.ACCELERATOR: 90.0}, accelerator=3)
    (series,) = arm("GET", path, version=MONITOR, **query).body["value"][0]["timeseries"]
    assert series["metadatavalues"][0]["value"] == "3"


def test_each_request_of_a_batch_has_its_own_status(arm: Arm, cloud: AzureLocalCloud) -> None:
    group = f"/subscriptions/{cloud.subscription_id}/resourceGroups/none?api-version=2024-03-01"
    locations = f"/subscriptions/{cloud.subscription_id}?api-version=2022-12-01"
    requests = [
        {"name": name, "httpMethod": "GET", "url": url} for name, url in (("missing", group), ("there", locations))
    ]
    answer = arm.url("POST", f"/batch?api-version={BATCH}", {"requests": requests})
    assert [(one["name"], one["httpStatusCode"]) for one in answer.body["responses"]] == [
        ("missing", 404),
        ("there", 200),
    ]
    assert answer.body["responses"][0]["content"]["error"]["code"] == "ResourceGroupNotFound"


@pytest.mark.parametrize("names", [[], ["same", "same"], [""], [str(number) for number in range(21)]])
def test_a_batch_has_one_to_twenty_requests_with_unique_names(arm: Arm, names: list[str]) -> None:
    requests = [{"name": name, "httpMethod": "GET", "url": "/subscriptions"} for name in names]
    answer = arm.url("POST", f"/batch?api-version={BATCH}", {"requests": requests})
    assert (answer.status, answer.code) == (400, "InvalidRequestContent")


def test_the_health_of_every_machine_of_every_group_is_listed_page_by_page(
    arm: Arm, cloud: AzureLocalCloud, vm: str
) -> None:
    cloud.page_size = 1
    cloud.impair(vm, "Degraded")
    cloud.stop_node(cloud.running_ids()[1])
    found = arm.all("/providers/Microsoft.ResourceHealth/availabilityStatuses", version=HEALTH)
    told = [(one["properties"]["availabilityState"], one["properties"].get("context")) for one in found]
    assert told == [("Degraded", "Platform Initiated"), ("Unavailable", "Customer Initiated")]


def test_a_version_that_was_never_published_is_refused(arm: Arm) -> None:
    answer = arm("GET", "/providers/Microsoft.ResourceHealth/availabilityStatuses", version="2001-01-01")
    assert answer.code == "InvalidApiVersionParameter"
