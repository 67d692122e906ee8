"""The rules for the network interfaces of a request for instances."""

import ipaddress

from multicompute_gcp.local.records import PROJECT, ComputeResource, url_of
from multicompute_gcp.local.references import split_url
from multicompute_gcp.local.responses import GcpError, Json, invalid
from multicompute_gcp.local.state import State

# RFC 2544: addresses for benchmarks, which no router forwards.
_PUBLIC = int(ipaddress.IPv4Address("198.18.0.1"))
_PRIVATE = int(ipaddress.IPv4Address("10.128.0.2"))


def read_interfaces(state: State, place: str, region: str, properties: Json) -> list[Json]:
    """Read the field `networkInterfaces`; each instance gets its addresses later.

    Raises:
        GcpError: Compute Engine would refuse the field.
    """
    field, given = f"{place}.networkInterfaces", properties.get("networkInterfaces", [])
    if not given:
        raise invalid(field, "", "At least one network interface is required.")
    found = [_interface(state, f"{field}[{index}]", region, item, index) for index, item in enumerate(given)]
    # The interfaces of the RDMA fabric share one network; each has a subnetwork of its own.
    networks = [item["subnetwork" if item.get("nicType") == "MRDMA" else "network"] for item in found]
    if len(set(networks)) != len(networks):
        raise invalid(field, networks, "Networks must be distinct for NICs attached to a VM.")
    return found


def _interface(state: State, field: str, region: str, given: Json, index: int) -> Json:
    subnetwork = _subnetwork(state, field, region, given)
    configs = given.get("accessConfigs", [])
    if len(configs) > 1:
        raise invalid(f"{field}.accessConfigs", len(configs), "At most one access config currently supported.")
    found: Json = {
        **{name: given[name] for name in ("nicType", "stackType", "queueCount") if name in given},
        "kind": "compute#networkInterface",
        "name": f"nic{index}",
        "network": subnetwork.body["network"],
        "subnetwork": subnetwork.body["selfLink"],
    }
    if configs:
        found["accessConfigs"] = [
            {"type": "ONE_TO_ONE_NAT", "name": "external-nat", "networkTier": "PREMIUM", **configs[0]}
        ]
    return found


def _subnetwork(state: State, field: str, region: str, given: Json) -> ComputeResource:
    scope = f"regions/{region}"
    if given.get("subnetwork"):
        project, rest = split_url(f"{field}.subnetwork", given["subnetwork"])
        found = state.store("subnetwork", scope).find(rest.removeprefix(f"{scope}/subnetworks/"))
        if project != PROJECT or found is None:
            raise invalid(
                f"{field}.subnetwork", given["subnetwork"], "The referenced subnetwork resource cannot be found."
            )
        return found
    # Without network and subnetwork it is the default network.
    value = given.get("network", "global/networks/default")
    project, rest = split_url(f"{field}.network", value)
    network = state.store("network", "global").find(rest.removeprefix("global/networks/"))
    if project != PROJECT or network is None:
        raise invalid(f"{field}.network", value, "The referenced network resource cannot be found.")
    for subnetwork in state.store("subnetwork", scope):
        if subnetwork.body["network"] == network.body["selfLink"]:
            return subnetwork
    raise GcpError(
        "invalid", f"Network interface must specify a subnet if the network '{value}' has none in {region}.", 400
    )


def addressed(interfaces: list[Json], number: int) -> list[Json]:
    """Return the interfaces with the addresses of one instance."""
    found = []
    for index, interface in enumerate(interfaces):
        address = str(ipaddress.IPv4Address(_PRIVATE + number + index * 2**20))
        item = {**interface, "networkIP": address, "fingerprint": "AAAAAAAAAAA="}
        if "accessConfigs" in interface:
            public = str(ipaddress.IPv4Address(_PUBLIC + number % 2**16))
            item["accessConfigs"] = [{**interface["accessConfigs"][0], "kind": "compute#accessConfig", "natIP": public}]
        found.append(item)
    return found


def add_network(state: State, name: str, regions: list[str], first: int = 128) -> None:
    """Add a network with a subnetwork of the same name in each region."""
    link = url_of("global", "networks", name)
    links = [url_of(f"regions/{region}", "subnetworks", name) for region in regions]
    body: Json = {"kind": "compute#network", "name": name, "selfLink": link, "autoCreateSubnetworks": True, "mtu": 1460}
    number = state.new_id()
    body |= {"id": str(number), "subnetworks": links, "routingConfig": {"routingMode": "REGIONAL"}}
    state.store("network", "global").add(ComputeResource(name, number, "global", "network", body))
    for index, region in enumerate(regions):
        scope = f"regions/{region}"
        number = state.new_id()
        subnetwork: Json = {
            "kind": "compute#subnetwork",
            "id": str(number),
            "name": name,
            "network": link,
            "region": url_of(scope),
            "selfLink": url_of(scope, "subnetworks", name),
            "ipCidrRange": f"10.{first + index}.0.0/20",
            "gatewayAddress": f"10.{first + index}.0.1",
            "purpose": "PRIVATE",
            "stackType": "IPV4_ONLY",
        }
        state.store("subnetwork", scope).add(ComputeResource(name, number, scope, "subnetwork", subnetwork))
