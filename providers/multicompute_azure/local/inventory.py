"""What exists, as the subscription would be billed for it."""

from collections.abc import Iterator

from multicompute.provider import Resource
from multicompute_azure.local.arm import group_id
from multicompute_azure.local.state import BILLABLE, SUBNET, VM, State

RESERVED = "local-reservations"
"""How the names of the groups begin that reservations of the harness are in."""


def existing(state: State) -> Iterator[Resource]:
    """Every resource group and every resource of any owner, but for what `RESERVED` groups hold."""
    for group in state.groups.values():
        if group.name.startswith(RESERVED):
            continue
        yield Resource(
            "azure", "resourceGroups", group_id(group.name), group.location, billable=False, tags=dict(group.tags)
        )
        for item in group.items.values():
            if item.type == SUBNET:
                # Neither tagged nor listed: a part of its network.
                continue
            is_billed = item.type in BILLABLE and not (
                item.type == VM and item.machine and item.machine.power == "deallocated"
            )
            kind = item.type.rsplit("/", 1)[-1]
            yield Resource("azure", kind, item.id, item.location, billable=is_billed, tags=dict(item.tags))
