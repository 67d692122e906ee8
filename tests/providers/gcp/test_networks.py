"""The networks of the nodes: interfaces by machine type and zone, Shared VPC, and whether nodes can be reached."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import requests

from multicompute import errors
from multicompute.offer import InstanceType, Offer, Part, Purchase
from multicompute.provider import LaunchRequest, Selector
from multicompute_gcp._interfaces import path_of
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.local import GcpLocalCloud

Request = Callable[..., LaunchRequest]
Open = Callable[..., GcpProvider]
KEY = "ssh-ed25519 AAAA me"
ULTRA = InstanceType("gcp", "a3-ultragpu-8g", "h200", 8, 141, 224, 2952, fabric="roce")
MEGA = InstanceType("gcp", "a3-megagpu-8g", "h100", 8, 80, 208, 1872, fabric="gpudirect-tcpxo")
SLICE = InstanceType("gcp", "v6e-8", "tpu-v6e", 8)


def _read(cloud: GcpLocalCloud, path: str) -> Any:
    url = f"{cloud.endpoint_url}/compute/v1/projects/{cloud.project}/{path}"
    return requests.get(url, timeout=10).json()


def _interfaces(cloud: GcpLocalCloud, zone: str, name: str = "tok-0-0001") -> list[dict[str, Any]]:
    return list(_read(cloud, f"zones/{zone}/instances/{name}")["networkInterfaces"])


def _firewalls(cloud: GcpLocalCloud) -> list[dict[str, Any]]:
    return list(_read(cloud, "global/firewalls").get("items", ()))


def _gang(request_of: Request, offer: Offer, instance: InstanceType, zone: str, nodes: int = 2, **changes: Any) -> Any:
    purchase: Purchase = "spot" if instance is ULTRA else "on_demand"
    placed = replace(offer, instance=instance, region=zone[:-2], zone=zone, purchase=purchase)
    return request_of(parts=(Part(placed, nodes),), fabric=True, **changes)


def _lay_out_gpu_networks(cloud: GcpLocalCloud, region: str) -> list[str]:
    for number in range(9):
        cloud.add_network(f"gpu-{number}", [region])
    return [f"gpu-{number}" for number in range(9)]


def _lay_out_roce(cloud: GcpLocalCloud, zone: str) -> list[str]:
    names = [f"roce-{zone}-{number}" for number in range(8)]
    cloud.add_network(f"roce-{zone}", [zone[:-2]], rdma_zone=zone, subnetworks=names)
    return names


# --- interfaces by machine type -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("instance", "zone", "count"), [(None, "us-central1-a", 5), (MEGA, "us-east4-b", 9)])
def test_one_list_of_subnetworks_is_cut_to_what_the_machine_type_has_interfaces_for(
    cloud: GcpLocalCloud,
    provider_of: Open,
    request_of: Request,
    offer: Offer,
    instance: InstanceType | None,
    zone: str,
    count: int,
) -> None:
    names = _lay_out_gpu_networks(cloud, zone[:-2])
    provider_of(gpu_subnetworks=names).launch(_gang(request_of, offer, instance or offer.instance, zone))
    found = _interfaces(cloud, zone)
    assert [item["nicType"] for item in found] == ["GVNIC"] * count


def test_a_machine_type_with_rdma_has_one_more_gvnic_and_eight_interfaces_of_its_zones_network(
    cloud: GcpLocalCloud, provider_of: Open, request_of: Request, offer: Offer
) -> None:
    plain = _lay_out_gpu_networks(cloud, "us-central1")
    here, elsewhere = _lay_out_roce(cloud, "us-central1-b"), _lay_out_roce(cloud, "us-central1-c")
    named = {
        "a3-highgpu": plain,
        "a3-ultragpu": [plain[0], *elsewhere],
        "a3-ultragpu/us-central1-b": [plain[0], *here],
        "a4": plain,
    }
    provider_of(gpu_subnetworks=named).launch(_gang(request_of, offer, ULTRA, "us-central1-b"))
    found = _interfaces(cloud, "us-central1-b")
    assert [item["nicType"] for item in found] == ["GVNIC"] * 2 + ["MRDMA"] * 8
    assert [item["subnetwork"].rpartition("/")[2] for item in found[2:]] == here


def test_a_machine_type_without_a_fabric_gets_one_interface_and_a_type_that_is_not_named_none_for_its_fabric(
    cloud: GcpLocalCloud, provider_of: Open, request_of: Request, offer: Offer, caplog: pytest.LogCaptureFixture
) -> None:
    names = _lay_out_gpu_networks(cloud, "us-central1")
    g2 = InstanceType("gcp", "g2-standard-4", "l4", 1)
    provider_of(gpu_subnetworks=names).launch(request_of(parts=(Part(replace(offer, instance=g2), 1),)))
    assert len(_interfaces(cloud, "us-central1-a")) == 1
    provider_of(gpu_subnetworks={"a4": names}).launch(
        _gang(request_of, offer, offer.instance, "us-central1-a", token="tok2")
    )
    assert len(_interfaces(cloud, "us-central1-a", "tok2-0-0001")) == 1
    assert "have no fabric" in caplog.text


def test_a_roce_network_of_another_zone_costs_only_this_zone(
    cloud: GcpLocalCloud, provider_of: Open, request_of: Request, offer: Offer
) -> None:
    plain = _lay_out_gpu_networks(cloud, "us-central1")
    there = _lay_out_roce(cloud, "us-central1-c")
    provider = provider_of(gpu_subnetworks=[plain[0], *there])
    with pytest.raises(errors.ProviderError, match="gpu_subnetworks") as refused:
        provider.launch(_gang(request_of, offer, ULTRA, "us-central1-b"))
    assert refused.value.scope == "zone"
    assert cloud.running_ids() == []


@pytest.mark.parametrize("value", [{"a4": [1]}, {"a4": 7}, 7])
def test_malformed_subnetworks_are_refused(provider_of: Open, value: object) -> None:
    with pytest.raises(errors.ConfigError, match="gpu_subnetworks"):
        provider_of(gpu_subnetworks=value)


# --- a subnetwork without its network, and Shared VPC ---------------------------------------------------------------------


def test_the_rule_for_ssh_is_in_the_network_of_the_named_subnetwork(
    cloud: GcpLocalCloud, provider_of: Open, request_of: Request
) -> None:
    cloud.add_network("ours", subnetworks=["nodes"])
    provider_of(subnetwork="nodes").launch(request_of(ssh_public_key=KEY))
    (rule,) = _firewalls(cloud)
    assert rule["network"].endswith("/global/networks/ours")
    assert _interfaces(cloud, "us-central1-a")[0]["network"] == rule["network"]


def test_a_shared_network_gets_no_rule_which_is_said_with_the_tag_to_allow(
    cloud: GcpLocalCloud, provider_of: Open, request_of: Request, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.add_network("shared", ["us-central1"], project="host-1")
    provider = provider_of(subnetwork="projects/host-1/regions/us-central1/subnetworks/shared")
    provider.launch(request_of(ssh_public_key=KEY))
    assert len(cloud.running_ids()) == 2 and _firewalls(cloud) == []
    assert "projects/host-1/global/networks/shared is a network of another project" in caplog.text
    assert "network tag id-1" in caplog.text
    assert _read(cloud, "zones/us-central1-a/instances/tok-0-0001")["tags"]["items"] == ["id-1"]


def test_slices_are_in_the_network_of_the_named_subnetwork(
    cloud: GcpLocalCloud, provider_of: Open, request_of: Request, offer: Offer
) -> None:
    cloud.add_network("shared", ["us-east5"], project="host-1")
    path = "projects/host-1/regions/us-east5/subnetworks/shared"
    part = Part(replace(offer, instance=SLICE, region="us-east5", zone="us-east5-a"), 1)
    provider_of(subnetwork=path).launch(request_of(parts=(part,)))
    url = f"{cloud.endpoint_url}/v2/projects/{cloud.project}/locations/us-east5-a/nodes/tok-0"
    network = requests.get(url, timeout=10).json()["networkConfig"]
    assert (network["network"], network["subnetwork"]) == ("projects/host-1/global/networks/shared", path)


def test_a_subnetwork_that_does_not_exist_in_a_region_costs_only_this_region(
    provider_of: Open, request_of: Request
) -> None:
    with pytest.raises(errors.ProviderError, match="subnetworks/nowhere") as refused:
        provider_of(subnetwork="nowhere").launch(request_of())
    assert refused.value.scope == "region"


def test_a_subnetwork_that_may_not_be_read_is_used_and_what_is_missing_is_said(
    cloud: GcpLocalCloud, provider_of: Open, request_of: Request, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.add_network("ours", subnetworks=["nodes"])
    denied = "Required 'compute.subnetworks.get' permission for 'projects/p/regions/us-central1/subnetworks/nodes'"
    cloud.faults.fail("subnetworks.get", "forbidden", status=403, message=denied)
    provider_of(subnetwork="nodes").launch(request_of(ssh_public_key=KEY))
    assert len(cloud.running_ids()) == 2 and _firewalls(cloud) == []
    assert "no port is opened for SSH" in caplog.text


@pytest.mark.parametrize(
    "name",
    [
        "n",
        "global/networks/n",
        "projects/p/global/networks/n",
        "https://www.googleapis.com/compute/v1/projects/p/global/networks/n",
    ],
)
def test_a_network_may_be_given_by_name_path_or_url(name: str) -> None:
    assert path_of(name, "global/networks", project="p") == "projects/p/global/networks/n"


# --- reachable when READY -------------------------------------------------------------------------------------------------


def test_nodes_with_addresses_in_a_network_without_a_route_to_the_internet_are_refused_before_they_are_bought(
    cloud: GcpLocalCloud, provider_of: Open, request_of: Request
) -> None:
    cloud.add_network("closed", has_internet=False)
    provider = provider_of(network="closed")
    with pytest.raises(errors.ProviderError, match="no default route to the internet") as refused:
        provider.launch(request_of())
    assert refused.value.scope == "region" and "default-internet-gateway" in (refused.value.hint or "")
    assert cloud.alive() == []
    provider.launch(request_of(private=True))
    assert len(cloud.running_ids()) == 2


@pytest.mark.parametrize("has_nat", [True, False])
def test_private_nodes_without_cloud_nat_are_launched_and_what_they_lack_is_said(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, caplog: pytest.LogCaptureFixture, has_nat: bool
) -> None:
    if has_nat:
        cloud.add_nat("default", "us-central1")
    provider.launch(request_of(private=True))
    assert len(cloud.running_ids()) == 2
    assert ("no way to the internet" in caplog.text) is not has_nat


def test_a_slice_in_a_network_without_a_route_to_the_internet_is_refused(
    cloud: GcpLocalCloud, provider_of: Open, request_of: Request, offer: Offer
) -> None:
    cloud.add_network("closed", has_internet=False)
    part = Part(replace(offer, instance=SLICE, region="us-east5", zone="us-east5-a"), 1)
    with pytest.raises(errors.ProviderError, match="no default route"):
        provider_of(network="closed").launch(request_of(parts=(part,)))
    assert cloud.alive() == []


@pytest.mark.parametrize("call", ["routes.list", "routers.list"])
def test_routes_that_may_not_be_listed_do_not_keep_nodes_from_being_launched(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, call: str
) -> None:
    cloud.faults.fail(call, "forbidden", status=403, message=f"Required 'compute.{call}' permission", times=9)
    provider.launch(request_of(private=True))
    assert len(cloud.running_ids()) == 2


def test_the_routes_of_a_network_are_read_once(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    for token in ("one", "two"):
        provider.launch(request_of(token=token))
    assert [call.operation for call in cloud.faults.calls].count("routes.list") == 1


def test_nodes_get_addresses_and_a_rule_for_ssh_unless_they_are_private(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    provider.launch(request_of(ssh_public_key=KEY))
    assert all(node.public_ip for node in provider.nodes(Selector(token="tok")))
    assert len(_firewalls(cloud)) == 1
    provider.launch(request_of(ssh_public_key=KEY, private=True, token="tok2", cluster_id="id-2"))
    assert not any(node.public_ip for node in provider.nodes(Selector(token="tok2")))
    assert len(_firewalls(cloud)) == 1


def test_flex_start_gangs_are_checked_and_opened_like_all_others(
    cloud: GcpLocalCloud, provider_of: Open, request_of: Request, offer: Offer
) -> None:
    cloud.add_network("closed", has_internet=False)
    flex = (Part(replace(offer, purchase="flex_start"), 2),)
    with pytest.raises(errors.ProviderError, match="no default route"):
        provider_of(network="closed").launch(request_of(parts=flex))
    assert cloud.alive() == []
    provider = provider_of()
    ends = provider._clock.now() + timedelta(hours=1)
    provider.launch(request_of(parts=flex, ssh_public_key=KEY, expires_at=ends))
    assert all(node.public_ip for node in provider.nodes(Selector(token="tok")))
    assert len(_firewalls(cloud)) == 1
