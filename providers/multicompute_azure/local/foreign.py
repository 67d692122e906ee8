"""Foreign resources for the local Azure."""

from collections.abc import Mapping

from multicompute.testing import foreign
from multicompute_azure.local import hardware
from multicompute_azure.local.admission import Demand
from multicompute_azure.local.machines import Machines
from multicompute_azure.local.state import (
    DISK,
    NETWORK,
    PLACEMENT_GROUP,
    PUBLIC_IP,
    SCALE_SET,
    SECURITY_GROUP,
    SUBNET,
    AddressPool,
    Group,
    State,
)

_SIZE = "Standard_D2s_v5"


def seed(state: State, machines: Machines, region: str, group_name: str = "") -> None:
    """Create a resource group with one of everything for each kind of foreign tags, and once with a name like ours.

    The caller holds the lock. With a `group_name`, everything goes into this group, which exists.
    """
    for number, tags in enumerate((*foreign.ALL, {})):
        name = group_name or (f"foreign-{region}-{number}" if tags else f"{foreign.LIKE_OURS}-{region}")
        group = state.groups.setdefault(name.lower(), Group(name, region, dict(tags), state.now()))
        _fill(state, machines, group, region, number, tags)


def _fill(state: State, machines: Machines, group: Group, region: str, number: int, tags: Mapping[str, str]) -> None:
    def add(type_: str, name: str) -> str:
        return state.add(group, type_, f"foreign-{name}-{number}", region, dict(tags), {"properties": {}}).id

    network = add(NETWORK, "net")
    subnet = state.put(group, f"{network}/subnets/default", SUBNET, "default", region, {})
    subnet.body = {"properties": {"addressPrefix": "10.90.0.0/24"}}
    state.addresses[subnet.key] = AddressPool("10.90.0.0/24")
    for type_, name in ((SECURITY_GROUP, "nsg"), (PUBLIC_IP, "ip"), (PLACEMENT_GROUP, "ppg"), (DISK, "disk")):
        add(type_, name)
    config = {
        "name": "nic",
        "tags": dict(tags),
        "properties": {"ipConfigurations": [{"name": "ip", "properties": {"subnet": {"id": subnet.id}}}]},
    }
    profile = {
        "storageProfile": {"osDisk": {"deleteOption": "Delete"}},
        "networkProfile": {"networkInterfaceConfigurations": [config]},
    }
    body = {"sku": {"name": _SIZE, "capacity": 1}, "properties": {"virtualMachineProfile": profile}}
    owner = state.add(group, SCALE_SET, f"foreign-set-{number}", region, dict(tags), body)
    demand = Demand(hardware.sizes()[_SIZE.lower()], region, (), 1, spot=False, is_colocated=False)
    machines.create(group, owner, demand, 0, dict(tags))
