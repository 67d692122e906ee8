"""The local Cloud Monitoring answers in Google's format, and refuses what Google refuses."""

from collections.abc import Callable

import pytest

from multicompute.node import Metric
from multicompute_gcp.local import GcpLocalCloud
from tests.providers.gcp.local.bare_google import PROJECT, Api, Json

Launch = Callable[..., Json]
PATH = f"/v3/projects/{PROJECT}/timeSeries"
CPU = 'metric.type="compute.googleapis.com/instance/cpu/utilization"'
# The virtual time is noon.
NOON = {"interval.startTime": "2026-11-24T11:50:00Z", "interval.endTime": "2026-11-24T12:00:00Z"}


def test_series_are_listed_newest_point_first_and_in_googles_shape(
    cloud: GcpLocalCloud, api: Api, launch: Launch
) -> None:
    launch(count=2)
    cloud.measure("gang-0001", {Metric.CPU: 50.0}, minutes=3)
    (series,) = api.ok("GET", PATH, filter=CPU, **NOON)["timeSeries"]
    assert series["metric"]["labels"] == {"instance_name": "gang-0001"}
    assert series["resource"]["type"] == "gce_instance"
    ends = [point["interval"]["endTime"] for point in series["points"]]
    assert ends == sorted(ends, reverse=True) and len(ends) == 3
    assert {point["value"]["doubleValue"] for point in series["points"]} == {0.5}


def test_a_window_begins_after_its_start_and_has_its_end(cloud: GcpLocalCloud, api: Api, launch: Launch) -> None:
    launch(count=1)
    cloud.measure("gang-0001", {Metric.CPU: 50.0}, minutes=3)
    window = NOON | {"interval.startTime": "2026-11-24T11:58:00Z"}
    (series,) = api.ok("GET", PATH, filter=CPU, **window)["timeSeries"]
    assert [point["interval"]["endTime"][11:16] for point in series["points"]] == ["12:00", "11:59"]


@pytest.mark.parametrize(
    ("expression", "status", "says"),
    [
        ('metric.type=one_of("tpu.googleapis.com/cpu/utilization","compute.x")', 400, "more than one metric"),
        ('resource.type="gce_instance"', 400, "must name a metric.type"),
        (f"{CPU} AND nonsense", 400, "Could not parse filter"),
        (CPU + " AND resource.labels.zone=one_of(" + '"a",' * 100 + '"a")', 400, "one_of takes"),
        ('metric.type="agent.googleapis.com/gpu/utilization"', 404, "Cannot find metric(s) that match type"),
    ],
)
def test_a_filter_that_google_refuses_is_refused(api: Api, expression: str, status: int, says: str) -> None:
    answered, answer = api.ask("GET", PATH, filter=expression, **NOON)
    assert answered == status
    assert says in answer["error"]["message"]


def test_a_window_that_ends_before_it_begins_is_refused(api: Api) -> None:
    window = NOON | {"interval.endTime": "2026-11-24T11:00:00Z"}
    assert api.ask("GET", PATH, filter=CPU, **window)[0] == 400


def test_only_existing_machines_can_be_measured(cloud: GcpLocalCloud) -> None:
    for name in ("nothing", "nothing/0"):
        with pytest.raises(ValueError, match="nothing"):
            cloud.measure(name, {Metric.CPU: 1.0})


def test_guest_attributes_need_the_metadata_flag_and_a_script_that_writes_them(cloud: GcpLocalCloud, api: Api) -> None:
    node = {"acceleratorType": "v5litepod-8", "runtimeVersion": "v2-alpha-tpuv5-lite"}
    script = "curl -X PUT metadata/guest-attributes/mine/worker-0"
    for name, metadata in (("mute", {}), ("told", {"startup-script": script, "enable-guest-attributes": "TRUE"})):
        api.tpu("POST", "us-central1-a/nodes", {**node, "metadata": metadata}, nodeId=name)
    asked = {"queryPath": "mine/"}
    assert api.refused("POST", "us-central1-a/nodes/mute:getGuestAttributes", asked)[0] == 404
    told = api.tpu("POST", "us-central1-a/nodes/told:getGuestAttributes", asked)["guestAttributes"]
    assert [entry["key"] for one in told for entry in one["queryValue"]["items"]] == ["worker-0"]
