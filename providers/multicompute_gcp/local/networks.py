"""The networks that a test can lay out: networks, their subnetworks and default routes, RDMA networks, Cloud NAT, and networks of other projects."""

from collections.abc import Sequence

from multicompute_gcp.local.records import PROJECT, ComputeResource, url_of
from multicompute_gcp.local.responses import Json
from multicompute_gcp.local.state import State

_API = "https://www.googleapis.com/compute/v1"


def add_network(
    state: State,
    name: str,
    regions: Sequence[str],
    *,
    has_internet: bool = True,
    rdma_zone: str = "",
    subnetworks: Sequence[str] = (),
    project: str = PROJECT,
) -> None:
    """Add a network with its subnetworks in each region, and its default route.

    Args:
        state: The state of the cloud.
        name: The name of the network.
        regions: The regions of its subnetworks.
        has_internet: Whether it has a default route to the internet, as new networks have.
        rdma_zone: The zone of its RDMA network profile; "" for a regular network.
        subnetworks: The names of the subnetworks; by default the name of the network.
        project: The project that owns it; instances in the subnetworks of another project use Shared VPC.
    """
    prefix = "" if project == PROJECT else f"{project}/"
    link = _url(project, "global", "networks", name)
    named = [(region, each) for region in regions for each in subnetworks or [name]]
    number = state.new_id()
    body: Json = {
        "kind": "compute#network",
        "id": str(number),
        "name": name,
        "selfLink": link,
        "autoCreateSubnetworks": not rdma_zone,
        "mtu": 8896 if rdma_zone else 1460,
        "subnetworks": [_url(project, f"regions/{region}", "subnetworks", each) for region, each in named],
        "routingConfig": {"routingMode": "REGIONAL"},
    }
    if rdma_zone:
        # https://cloud.google.com/vpc/docs/rdma-network-profiles: the profile ZONE-vpc-roce.
        body["networkProfile"] = _url(PROJECT, "global", "networkProfiles", f"{rdma_zone}-vpc-roce")
    state.store("network", f"{prefix}global").add(ComputeResource(name, number, "global", "network", body))
    for index, (region, each) in enumerate(named):
        _add_subnetwork(state, f"{prefix}regions/{region}", link, _url(project, f"regions/{region}"), each, index)
    if has_internet and not rdma_zone and project == PROJECT:
        _add_default_route(state, name, link)


def _add_subnetwork(state: State, key: str, network: str, region: str, name: str, index: int) -> None:
    number = state.new_id()
    body: Json = {
        "kind": "compute#subnetwork",
        "id": str(number),
        "name": name,
        "network": network,
        "region": region,
        "selfLink": f"{region}/subnetworks/{name}",
        "ipCidrRange": f"10.{(128 + index) % 256}.0.0/20",
        "gatewayAddress": f"10.{(128 + index) % 256}.0.1",
        "purpose": "PRIVATE",
        "stackType": "IPV4_ONLY",
    }
    state.store("subnetwork", key).add(ComputeResource(name, number, key, "subnetwork", body))


def _add_default_route(state: State, network: str, link: str) -> None:
    name, number = f"default-route-{network}", state.new_id()
    body: Json = {
        "kind": "compute#route",
        "id": str(number),
        "name": name,
        "network": link,
        "destRange": "0.0.0.0/0",
        "priority": 1000,
        "nextHopGateway": url_of("global", "gateways", "default-internet-gateway"),
        "selfLink": url_of("global", "routes", name),
        "routeType": "STATIC",
    }
    state.store("route", "global").add(ComputeResource(name, number, "global", "route", body))


def add_nat(state: State, network: str, region: str) -> None:
    """Add a Cloud NAT for all subnetworks of a network in a region."""
    name, number = f"router-{network}", state.new_id()
    nat = {
        "name": "nat",
        "natIpAllocateOption": "AUTO_ONLY",
        "sourceSubnetworkIpRangesToNat": "ALL_SUBNETWORKS_ALL_IP_RANGES",
    }
    body: Json = {
        "kind": "compute#router",
        "id": str(number),
        "name": name,
        "network": url_of("global", "networks", network),
        "region": url_of(f"regions/{region}"),
        "selfLink": url_of(f"regions/{region}", "routers", name),
        "nats": [nat],
    }
    state.store("router", f"regions/{region}").add(ComputeResource(name, number, f"regions/{region}", "router", body))


def _url(project: str, scope: str, collection: str = "", name: str = "") -> str:
    return "/".join(part for part in (_API, "projects", project, scope, collection, name) if part)
