"""The inventory of the local Azure, whether or not listings show it."""

import base64
from collections.abc import Iterator

from multicompute.provider import Resource
from multicompute_azure.local.arm import group_id
from multicompute_azure.local.state import BILLABLE, PARTS, SUBNET, UNIFORM_VM, ArmResource, State, vm_id

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
            if item.type not in PARTS or item.type in (SUBNET, UNIFORM_VM):
                yield Resource(
                    "azure",
                    kind_of(item),
                    name_of(item),
                    item.location,
                    billable=_is_billed(item),
                    tags=_tags(state, item),
                )


def name_of(item: ArmResource) -> str:
    """Return the id that tells a resource from all others. Uniform scale sets may use the id of an instance again, so its vmId is added."""
    return f"{item.id}@{vm_id(item)}" if item.type == UNIFORM_VM else item.id


def _tags(state: State, item: ArmResource) -> dict[str, str]:
    """Return the tags of a resource; for an instance of a Uniform scale set those of the scale set, and "name=value" in its user data."""
    machine = item.machine
    if item.type != UNIFORM_VM or machine is None:
        return dict(item.tags)
    owner = state.find(machine.scale_set)
    lines = base64.b64decode(machine.user_data).decode().splitlines()
    own = dict(line.split("=", 1) for line in lines if "=" in line)
    return {**(owner.tags if owner is not None else {}), **own}


def kind_of(item: ArmResource) -> str:
    """Return the kind of a resource: the last part of its type."""
    return item.type.rsplit("/", 1)[-1]


def _is_billed(item: ArmResource) -> bool:
    is_deallocated = item.machine is not None and item.machine.power == "deallocated"
    return item.type in BILLABLE and not is_deallocated
