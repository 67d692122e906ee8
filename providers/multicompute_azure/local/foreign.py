"""Resources of somebody else, which nobody may touch; and the proof that nobody did."""

from collections.abc import Mapping

from multicompute.testing import foreign
from multicompute_azure.local import hardware
from multicompute_azure.local.admission import Demand
from multicompute_azure.local.arm import group_id
from multicompute_azure.local.machines import Machines
from multicompute_azure.local.state import (
    DISK,
    NETWORK,
    PLACEMENT_GROUP,
    PUBLIC_IP,
    SCALE_SET,
    SECURITY_GROUP,
    SUBNET,
    Group,
    Pool,
    State,
)

_SIZE = "Standard_D2s_v5"


class ForeignResources:
    """A resource group with one of everything for each kind of foreign resource, and once named like ours without tags.

    Attributes:
        ids: the ids of all of them.
    """

    def __init__(self, state: State, machines: Machines) -> None:
        self._state = state
        self._machines = machines
        self._expected: dict[str, Mapping[str, str]] = {}
        self.ids: set[str] = set()

    def forget(self) -> None:
        """Know of none any more."""
        self._expected.clear()
        self.ids.clear()

    def seed(self, region: str, group_name: str = "") -> None:
        """Make them in a region; inside a group that is there already, where one is named."""
        for number, tags in enumerate((*foreign.ALL, {})):
            name = group_name or (f"foreign-{region}-{number}" if tags else f"{foreign.LIKE_OURS}-{region}")
            before = set(self._found())
            group = self._state.groups.setdefault(name.lower(), Group(name, region, dict(tags), self._state.now()))
            self._make(group, region, number, tags)
            made = {key: found for key, found in self._found().items() if key not in before}
            self._expected |= made
            self.ids |= set(made)

    def are_intact(self) -> bool:
        """Whether all of them live and have their tags."""
        found = self._found()
        return all(found.get(identifier) == tags for identifier, tags in self._expected.items())

    def _make(self, group: Group, region: str, number: int, tags: Mapping[str, str]) -> None:
        state = self._state

        def plain(type_: str, name: str) -> str:
            return state.add(group, type_, f"foreign-{name}-{number}", region, dict(tags), {"properties": {}}).id

        network = plain(NETWORK, "net")
        subnet = state.put(group, f"{network}/subnets/default", SUBNET, "default", region, {})
        subnet.body = {"properties": {"addressPrefix": "10.90.0.0/24"}}
        state.addresses[subnet.key] = Pool("10.90.0.0/24")
        for type_, name in ((SECURITY_GROUP, "nsg"), (PUBLIC_IP, "ip"), (PLACEMENT_GROUP, "ppg"), (DISK, "disk")):
            plain(type_, name)
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
        demand = Demand(hardware.sizes()[_SIZE.lower()], region, (), 1, spot=False, is_close=False)
        self._machines.make(group, owner, demand, 0, dict(tags))

    def _found(self) -> dict[str, Mapping[str, str]]:
        """Id -> tags of everything."""
        found: dict[str, Mapping[str, str]] = {
            group_id(group.name): dict(group.tags) for group in self._state.groups.values()
        }
        return found | {item.id: dict(item.tags) for item in self._state.items()}
