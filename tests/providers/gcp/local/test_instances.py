"""Existing instances and disks on the local Compute Engine: changes, deletion, preemption, time limits."""

from typing import Any

import pytest

from multicompute.testing.clock import FakeClock
from multicompute_gcp.local import GcpLocalCloud
from tests.providers.gcp.local.bare_google import IMAGE, ZONE, Api, alone, bulk, seconds

ONE = f"zones/{ZONE}/instances/gang-0001"
SPOT = {"provisioningModel": "SPOT", "onHostMaintenance": "TERMINATE", "instanceTerminationAction": "DELETE"}


def _ids(cloud: GcpLocalCloud) -> list[tuple[str, str]]:
    return [(resource.kind, resource.id) for resource in cloud.alive()]


def test_a_deletion_takes_its_time_and_the_disk_with_it(
    api: Api, cloud: GcpLocalCloud, clock: FakeClock, launch: Any
) -> None:
    launch(1)
    cloud.shutdown_delay = seconds(30)
    operation = api.compute("DELETE", ONE)
    assert api.instances()[0]["status"] == "STOPPING"
    assert _ids(cloud) == [("disk", "gang-0001"), ("instance", "gang-0001")]
    assert api.compute("DELETE", ONE)["status"] == "RUNNING"
    clock.sleep(seconds(30))
    assert api.done(operation)["status"] == "DONE"
    assert cloud.alive() == []
    assert api.refused("DELETE", ONE)[:2] == (404, "notFound")


def test_a_disk_without_auto_delete_stays_is_billed_and_blocks_the_name(
    api: Api, cloud: GcpLocalCloud, launch: Any
) -> None:
    disks = [{"boot": True, "initializeParams": {"sourceImage": IMAGE, "labels": {"team": "nlp"}}}]
    launch(1, disks=disks)
    disk = f"zones/{ZONE}/disks/gang-0001"
    status, reason, _ = api.refused("DELETE", disk)
    assert (status, reason) == (400, "resourceInUseByAnotherResource")
    api.compute("DELETE", ONE)
    [left] = cloud.alive()
    assert (left.kind, left.id, left.billable, left.tags) == ("disk", "gang-0001", True, {"team": "nlp"})
    operation = launch(1, disks=disks)
    assert operation["error"]["errors"][1]["code"] == "RESOURCE_ALREADY_EXISTS"
    api.compute("DELETE", disk)
    assert "error" not in launch(1, disks=disks)


def test_an_existing_disk_with_a_given_name_is_attached(api: Api, cloud: GcpLocalCloud) -> None:
    api.compute("POST", f"zones/{ZONE}/disks", {"name": "mine", "sizeGb": "20"})
    boot = {"boot": True, "initializeParams": {"sourceImage": IMAGE, "diskName": "mine"}}
    api.done(api.compute("POST", f"zones/{ZONE}/instances", alone() | {"disks": [boot]}))
    assert _ids(cloud) == [("disk", "mine"), ("instance", "one")]
    source = {"source": f"zones/{ZONE}/disks/mine", "boot": True}
    second = alone("two") | {"disks": [source]}
    assert api.refused("POST", f"zones/{ZONE}/instances", second)[1] == "resourceInUseByAnotherResource"
    missing = alone("two") | {"disks": [source | {"source": f"zones/{ZONE}/disks/none"}]}
    assert "cannot be found" in api.refused("POST", f"zones/{ZONE}/instances", missing)[2]


def test_labels_change_only_with_the_current_fingerprint(api: Api, launch: Any) -> None:
    launch(1)
    for path, of in ((ONE, ONE), (f"zones/{ZONE}/disks/gang-0001", f"zones/{ZONE}/disks/gang-0001")):
        before = api.compute("GET", of)
        for stale in ({}, {"labelFingerprint": "AAAAAAAAAAA="}):
            assert api.refused("POST", f"{path}/setLabels", {"labels": {"a": "b"}} | stale)[:2] == (
                412,
                "conditionNotMet",
            )
        fresh = {"labels": {"a": "b"}, "labelFingerprint": before["labelFingerprint"]}
        api.done(api.compute("POST", f"{path}/setLabels", fresh))
        assert api.compute("GET", of)["labels"] == {"a": "b"}
        assert api.refused("POST", f"{path}/setLabels", fresh)[0] == 412
    assert api.names("labels.a=b") == ["gang-0001"]


def test_metadata_changes_only_with_its_fingerprint(api: Api, cloud: GcpLocalCloud, launch: Any) -> None:
    launch(1, metadata={"items": [{"key": "startup-script", "value": "echo"}]})
    assert cloud.boot_script("gang-0001") == "echo"
    items = [{"key": "startup-script", "value": "true"}]
    assert api.refused("POST", f"{ONE}/setMetadata", {"items": items})[:2] == (412, "conditionNotMet")
    current = api.compute("GET", ONE)["metadata"]["fingerprint"]
    api.compute("POST", f"{ONE}/setMetadata", {"items": items, "fingerprint": current})
    assert cloud.boot_script("gang-0001") == "true"


def test_scheduling_changes_only_on_a_stopped_instance(api: Api, launch: Any) -> None:
    launch(1)
    change = {"onHostMaintenance": "TERMINATE", "automaticRestart": False}
    assert "stopped" in api.refused("POST", f"{ONE}/setScheduling", change)[2]
    api.compute("POST", f"{ONE}/stop")
    api.compute("POST", f"{ONE}/setScheduling", change)
    assert api.compute("GET", ONE)["scheduling"]["automaticRestart"] is False


def test_a_stopped_instance_exists_frees_its_capacity_and_keeps_its_disk(
    api: Api, cloud: GcpLocalCloud, launch: Any
) -> None:
    cloud.set_capacity("a3-highgpu-8g", ZONE, 1)
    launch(1)
    api.done(api.compute("POST", f"{ONE}/stop"))
    assert api.instances()[0]["status"] == "TERMINATED"
    assert [(one.kind, one.billable) for one in cloud.alive()] == [("disk", True), ("instance", False)]
    launch(1, pattern="other-#")
    assert api.done(api.compute("POST", f"{ONE}/start"))["error"]["errors"][0]["code"].startswith("ZONE_RESOURCE")
    api.compute("DELETE", f"zones/{ZONE}/instances/other-1")
    api.done(api.compute("POST", f"{ONE}/start"))
    assert api.instances()[0]["status"] == "RUNNING"


def test_a_suspended_instance_is_resumed_and_not_started(api: Api, launch: Any) -> None:
    launch(1)
    api.compute("POST", f"{ONE}/suspend")
    assert api.instances()[0]["status"] == "SUSPENDED"
    assert api.refused("POST", f"{ONE}/start")[0] == 400
    api.compute("POST", f"{ONE}/resume")
    assert api.instances()[0]["status"] == "RUNNING"
    assert api.refused("POST", f"{ONE}/resume")[0] == 400


def test_a_protected_instance_is_not_deleted(api: Api, launch: Any) -> None:
    launch(1)
    api.compute("POST", f"{ONE}/setDeletionProtection", deletionProtection="true")
    assert "protected" in api.refused("DELETE", ONE)[2]
    assert "invalidResourceUsage" in api.refused("DELETE", ONE)
    api.compute("POST", f"{ONE}/setDeletionProtection", deletionProtection="false")
    api.compute("DELETE", ONE)
    assert api.names() == []


@pytest.mark.parametrize(("action", "left"), [("DELETE", []), ("STOP", ["TERMINATED"])])
def test_a_time_limit_stops_or_deletes_an_instance(
    api: Api, cloud: GcpLocalCloud, clock: FakeClock, launch: Any, action: str, left: list[str]
) -> None:
    cloud.boot_delay = seconds(60)
    limit = {"onHostMaintenance": "TERMINATE", "maxRunDuration": {"seconds": "3600"}}
    launch(1, scheduling=limit | {"instanceTerminationAction": action})
    clock.sleep(seconds(60))
    shown = api.instances()[0]["resourceStatus"]["scheduling"]["terminationTimestamp"]
    # The limit starts when the instance runs.
    assert shown == "2026-11-24T13:01:00.000+00:00"
    clock.sleep(seconds(3599))
    assert api.instances()[0]["status"] == "RUNNING"
    clock.sleep(seconds(1))
    assert [one["status"] for one in api.instances()] == left


def test_a_termination_time_can_be_given(api: Api, cloud: GcpLocalCloud, launch: Any) -> None:
    end = {"onHostMaintenance": "TERMINATE", "terminationTime": "2026-11-24T15:00:00Z"}
    launch(1, scheduling=end | {"instanceTerminationAction": "DELETE"})
    cloud.pass_time(seconds(3 * 3600))
    assert api.names() == []
    path = f"zones/{ZONE}/instances/bulkInsert"
    for wrong, says in (
        ({"terminationTime": "noon"}, "RFC 3339"),
        ({"terminationTime": "2026-11-24T15:00:00"}, "offset"),
        ({"terminationTime": "2026-11-24T15:00:00Z", "maxRunDuration": {"seconds": "60"}}, "together"),
    ):
        assert says in api.refused("POST", path, bulk(scheduling={"onHostMaintenance": "TERMINATE"} | wrong))[2]


@pytest.mark.parametrize(("action", "left"), [("DELETE", []), ("STOP", ["TERMINATED"])])
def test_a_preempted_instance_is_stopped_or_deleted_and_an_operation_reports_it(
    api: Api, cloud: GcpLocalCloud, launch: Any, action: str, left: list[str]
) -> None:
    launch(1, scheduling=SPOT | {"instanceTerminationAction": action})
    cloud.preempt("gang-0001")
    assert [one["status"] for one in api.instances()] == left
    expression = 'operationType = "compute.instances.preempted"'
    [operation] = api.compute("GET", f"zones/{ZONE}/operations", filter=expression)["items"]
    assert (operation["user"], operation["statusMessage"]) == ("system", "Instance was preempted.")
    assert operation["targetLink"].endswith("/instances/gang-0001")
    listed = api.compute("GET", "aggregated/operations", filter=expression)["items"]
    assert len(listed[f"zones/{ZONE}"]["operations"]) == 1


def test_only_spot_instances_are_preempted(cloud: GcpLocalCloud, launch: Any) -> None:
    launch(1)
    for name in ("gang-0001", "nobody"):
        with pytest.raises(ValueError, match=name):
            cloud.preempt(name)


def test_instances_can_be_deleted_and_stopped_from_outside(api: Api, cloud: GcpLocalCloud, launch: Any) -> None:
    launch(2)
    cloud.terminate_node("gang-0001")
    cloud.stop_node("gang-0002")
    assert [(one["name"], one["status"]) for one in api.instances()] == [("gang-0002", "TERMINATED")]
    assert cloud.running_ids() == []


def test_an_instance_has_a_public_address_only_on_request(api: Api, launch: Any) -> None:
    launch(2, networkInterfaces=[{"network": "global/networks/default", "accessConfigs": [{}]}])
    addresses = [one["networkInterfaces"][0] for one in api.instances()]
    assert len({card["networkIP"] for card in addresses}) == 2
    assert len({card["accessConfigs"][0]["natIP"] for card in addresses}) == 2


def test_several_interfaces_are_in_several_networks(api: Api, cloud: GcpLocalCloud, launch: Any) -> None:
    cloud.add_network("rail-1", ["us-central1"])
    launch(1, networkInterfaces=[{}, {"subnetwork": "regions/us-central1/subnetworks/rail-1"}])
    assert [card["network"].rsplit("/", 1)[-1] for card in api.instances()[0]["networkInterfaces"]] == [
        "default",
        "rail-1",
    ]
    status, answer = api.ask(
        "POST",
        "/compute/v1/projects/multicompute-local/zones/europe-west4-b/instances/bulkInsert",
        bulk(1, networkInterfaces=[{"network": "global/networks/rail-1"}]),
    )
    assert status == 400 and "must specify a subnet" in answer["error"]["message"]
