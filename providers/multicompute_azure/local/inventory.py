"""The inventory of the local Azure, whether or not listings show it."""

from collections.abc import Iterator

from multicompute.provider import Resource
from multicompute_azure.local.arm import group_id
from multicompute_azure.local.state import BILLABLE, SUBNET, VM, ArmResource, State

RESERVED = "local-reservations"
"""The prefix of the resource groups with the reservations of a test."""
SUBNETS = SUBNET.rsplit("/", 1)[-1]
"""The kind of subnets, which are parts of their networks: neither tagged nor listed."""


def list_resources(state: State) -> Iterator[Resource]:
    """Yield every resource group and every resource, except the groups of reservations; the caller holds the lock."""
    for group in state.groups.values():
        if group.name.startswith(RESERVED):
            continue
        tags = dict(group.tags)
        yield Resource("azure", "resourceGroups", group_id(group.name), group.location, billable=False, tags=tags)
        for item in group.items.values():
            kind, tags = kind_of(item), dict(item.tags)
            yield Resource("azure", kind, item.id, item.location, billable=_is_billed(item), tags=tags)


def kind_of(item: ArmResource) -> str:
    """Return the kind of a resource: the last part of its type."""
    return item.type.rsplit("/", 1)[-1]


def _is_billed(item: ArmResource) -> bool:
    is_deallocated = item.type == VM and item.machine is not None and item.machine.power == "deallocated"
    return item.type in BILLABLE and not is_deallocated
