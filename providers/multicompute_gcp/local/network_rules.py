"""The rules for the network interfaces of a request for instances."""

import ipaddress
from collections.abc import Mapping

from multicompute_gcp.local.records import PROJECT, ComputeResource
from multicompute_gcp.local.references import split_url
from multicompute_gcp.local.responses import GcpError, Json, invalid
from multicompute_gcp.local.state import State

# RFC 2544: addresses for benchmarks, which no router forwards.
_PUBLIC = int(ipaddress.IPv4Address("198.18.0.1"))
_PRIVATE = int(ipaddress.IPv4Address("10.128.0.2"))


# https://cloud.google.com/compute/docs/gpus/gpu-network-bandwidth: the network interfaces of a machine type, and how many of them are RDMA.
_INTERFACES: Mapping[str, tuple[int, int]] = {
    "a3-highgpu-8g": (5, 0),
    "a3-edgegpu-8g": (5, 0),
    "a3-megagpu-8g": (9, 0),
    "a3-ultragpu-8g": (10, 8),
    "a4-highgpu-8g": (10, 8),
    "a4x-highgpu-4g": (6, 4),
}
# https://cloud.google.com/vpc/docs/create-use-multiple-interfaces: up to eight, by the number of vCPUs.
_OTHERS = 8


def read_interfaces(state: State, place: str, zone: str, machine_type: str, properties: Json) -> list[Json]:
    """Read the field `networkInterfaces`; each instance gets its addresses later.

    Raises:
        GcpError: Compute Engine would refuse the field.
    """
    field, given = f"{place}.networkInterfaces", properties.get("networkInterfaces", [])
    if not given:
        raise invalid(field, "", "At least one network interface is required.")
    most, rdma = _INTERFACES.get(machine_type.removesuffix("-nolssd"), (_OTHERS, 0))
    remote = [item for item in given if item.get("nicType") == "MRDMA"]
    if len(given) > most or len(remote) > rdma:
        text = f"{machine_type} can have {most} network interfaces, of which {rdma} are RDMA interfaces."
        raise invalid(field, f"{len(given)}, of which {len(remote)} are MRDMA", text)
    found = [_interface(state, f"{field}[{index}]", zone, item, index) for index, item in enumerate(given)]
    # The interfaces of the RDMA fabric share one network; each has a subnetwork of its own.
    networks = [item["subnetwork" if item.get("nicType") == "MRDMA" else "network"] for item in found]
    if len(set(networks)) != len(networks):
        raise invalid(field, networks, "Networks must be distinct for NICs attached to a VM.")
    return found


def _interface(state: State, field: str, zone: str, given: Json, index: int) -> Json:
    subnetwork = _subnetwork(state, field, zone.rpartition("-")[0], given)
    _check_profile(state, field, zone, given, subnetwork)
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


def _check_profile(state: State, field: str, zone: str, given: Json, subnetwork: ComputeResource) -> None:
    """Refuse an interface that does not fit the RDMA profile of its network, which is bound to a zone.

    https://cloud.google.com/vpc/docs/rdma-network-profiles: instances must be in the zone of the profile; a RoCE network has MRDMA
    interfaces only, and all others are in regular networks. The text is the one that dstack looks for in its Google backend.
    """
    path, is_remote = subnetwork.body["network"], given.get("nicType") == "MRDMA"
    network = next(one for store in state.stores["network"].values() for one in store if one.body["selfLink"] == path)
    profile = network.body.get("networkProfile", "").rpartition("/")[2]
    if bool(profile) != is_remote:
        text = "RDMA network interfaces need a network with an RDMA network profile, and only they can be in one."
        raise invalid(f"{field}.nicType", given.get("nicType", ""), text)
    if profile and not profile.startswith(f"{zone}-vpc-"):
        only = profile.partition("-vpc-")[0]
        text = f"Network profile only allows resource creation in location {only}; {zone} was requested."
        raise invalid(f"{field}.subnetwork", subnetwork.body["selfLink"], text)


def _subnetwork(state: State, field: str, region: str, given: Json) -> ComputeResource:
    scope = f"regions/{region}"
    if given.get("subnetwork"):
        project, rest = split_url(f"{field}.subnetwork", given["subnetwork"])
        key = scope if project == PROJECT else f"{project}/{scope}"
        found = state.store("subnetwork", key).find(rest.removeprefix(f"{scope}/subnetworks/"))
        if found is None:
            raise invalid(
                f"{field}.subnetwork", given["subnetwork"], "The referenced subnetwork resource cannot be found."
            )
        check_in_network(f"{field}.subnetwork", given, found)
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


def check_in_network(field: str, given: Json, subnetwork: ComputeResource) -> None:
    """Refuse a subnetwork that is in another network than the one that is given as well."""
    network = given.get("network")
    if network and not subnetwork.body["network"].endswith("/".join(split_url(field, network))):
        text = f"Subnetwork should be in network '{network}', but it is in '{subnetwork.body['network']}'."
        raise invalid(field, given["subnetwork"], text)


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
