"""Firewall rules, placement policies, networks and reservations of the local Compute Engine."""

import json
from typing import Any

import pytest

from multicompute_gcp.local import GcpLocalCloud
from tests.providers.gcp.local.bare_google import ZONE, Api, bulk

BULK = f"zones/{ZONE}/instances/bulkInsert"
POLICIES = "regions/us-central1/resourcePolicies"
SSH = {"name": "ssh", "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}], "description": json.dumps({"team": "nlp"})}


def test_a_firewall_rule_is_created_found_and_deleted(api: Api, cloud: GcpLocalCloud) -> None:
    api.done(api.compute("POST", "global/firewalls", SSH))
    assert api.refused("POST", "global/firewalls", SSH)[:2] == (409, "alreadyExists")
    rule = api.compute("GET", "global/firewalls/ssh")
    assert (rule["direction"], rule["sourceRanges"]) == ("INGRESS", ["0.0.0.0/0"])
    assert [item["name"] for item in api.compute("GET", "global/firewalls")["items"]] == ["ssh"]
    [alive] = cloud.alive()
    assert (alive.kind, alive.id, alive.billable, alive.tags) == ("firewall", "ssh", False, {"team": "nlp"})
    api.done(api.compute("DELETE", "global/firewalls/ssh"))
    assert cloud.alive() == []
    assert api.refused("DELETE", "global/firewalls/ssh")[:2] == (404, "notFound")


@pytest.mark.parametrize(
    "change",
    [
        {"allowed": []},
        {"denied": SSH["allowed"]},
        {"allowed": [{}]},
        {"network": "global/networks/none"},
        {"name": "SSH"},
    ],
)
def test_a_malformed_firewall_rule_is_refused(api: Api, change: dict[str, Any]) -> None:
    assert api.refused("POST", "global/firewalls", SSH | change)[0] == 400


def test_a_placement_policy_in_use_cannot_be_deleted(api: Api, cloud: GcpLocalCloud, launch: Any) -> None:
    policy = {"name": "near", "groupPlacementPolicy": {"collocation": "COLLOCATED", "vmCount": 2}}
    api.done(api.compute("POST", POLICIES, policy))
    launch(2, resourcePolicies=["near"])
    assert "is for 2 VMs" in api.refused("POST", BULK, bulk(1, resourcePolicies=["near"]))[2]
    assert api.refused("DELETE", f"{POLICIES}/near")[1] == "resourceInUseByAnotherResource"
    for name in api.names():
        api.compute("DELETE", f"zones/{ZONE}/instances/{name}")
    listed = api.compute("GET", "aggregated/resourcePolicies")["items"]["regions/us-central1"]
    assert [item["name"] for item in listed["resourcePolicies"]] == ["near"]
    api.done(api.compute("DELETE", f"{POLICIES}/near"))
    assert "items" not in api.compute("GET", POLICIES)
    assert cloud.alive() == []


def test_a_policy_has_one_purpose_and_some_machines_cannot_be_in_a_group(api: Api) -> None:
    assert api.refused("POST", POLICIES, {"name": "none"})[0] == 400
    group = {"collocation": "COLLOCATED"}
    assert api.refused("POST", POLICIES, {"name": "x", "groupPlacementPolicy": group, "workloadPolicy": {}})[0] == 400
    api.compute("POST", POLICIES, {"name": "near", "groupPlacementPolicy": group})
    body = bulk(1, machineType="n1-standard-8", scheduling={}, resourcePolicies=["near"])
    assert "not supported for machine type" in api.refused("POST", BULK, body)[2]
    assert api.compute("GET", f"{POLICIES}/near")["status"] == "READY"


def test_there_is_a_default_network_with_a_subnetwork_in_every_region(api: Api) -> None:
    network = api.compute("GET", "global/networks/default")
    assert len(network["subnetworks"]) == len(api.compute("GET", "regions")["items"])
    assert api.compute("GET", "global/networks")["items"] == [network]
    subnetwork = api.compute("GET", "regions/us-central1/subnetworks/default")
    assert subnetwork["network"] == network["selfLink"]
    assert api.compute("GET", "regions/us-central1/subnetworks")["items"] == [subnetwork]
    assert "regions/us-central1" in api.compute("GET", "aggregated/subnetworks")["items"]
    assert api.refused("GET", "global/networks/none")[:2] == (404, "notFound")


def _reserved(name: str) -> dict[str, Any]:
    return {
        "consumeReservationType": "SPECIFIC_RESERVATION",
        "key": "compute.googleapis.com/reservation-name",
        "values": [name],
    }


def test_a_reservation_has_capacity_of_its_own_and_no_more_than_it_holds(
    api: Api, cloud: GcpLocalCloud, launch: Any
) -> None:
    name = cloud.add_reservation("a3-highgpu-8g", ZONE, 2)
    cloud.set_capacity("a3-highgpu-8g", ZONE, 0)
    assert "error" not in launch(2, reservationAffinity=_reserved(name))
    path = f"zones/{ZONE}/reservations"
    sku = api.compute("GET", f"{path}/{name}")["specificReservation"]
    assert (sku["count"], sku["inUseCount"], sku["instanceProperties"]["machineType"]) == ("2", "2", "a3-highgpu-8g")
    assert "error" in launch(1, reservationAffinity=_reserved(name))
    assert [item["name"] for item in api.compute("GET", path)["items"]] == [name]
    assert len(api.compute("GET", "aggregated/reservations")["items"][f"zones/{ZONE}"]["reservations"]) == 1
    assert cloud.alive() and all(resource.kind != "reservation" for resource in cloud.alive())


def test_a_reservation_is_for_one_machine_type_and_not_for_spot(api: Api, cloud: GcpLocalCloud) -> None:
    name = cloud.add_reservation("a3-highgpu-8g", ZONE, 2, name="held", tags={"team": "nlp"})
    spot = {"provisioningModel": "SPOT", "onHostMaintenance": "TERMINATE"}
    for changes, says in (
        ({"reservationAffinity": _reserved("none")}, "was not found"),
        ({"reservationAffinity": _reserved(name), "scheduling": spot}, "can't consume"),
        ({"reservationAffinity": _reserved(name), "machineType": "g2-standard-4"}, "is for a3-highgpu-8g"),
        ({"reservationAffinity": _reserved(name) | {"values": []}}, "one value"),
    ):
        assert says in api.refused("POST", BULK, bulk(1, **changes))[2]
    assert api.refused("GET", f"zones/{ZONE}/reservations/none")[:2] == (404, "notFound")
    with pytest.raises(ValueError, match="not offered"):
        cloud.add_reservation("a4-highgpu-8g", ZONE, 1)
