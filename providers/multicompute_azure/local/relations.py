"""Which resources use which others, and what becomes of those when one goes."""

from collections.abc import Iterator
from datetime import timedelta

from multicompute_azure.local.arm import ArmError, Json, dig
from multicompute_azure.local.state import (
    DISK,
    NETWORK,
    NIC,
    PLACEMENT_GROUP,
    PUBLIC_IP,
    RESERVATION_GROUP,
    SCALE_SET,
    SECURITY_GROUP,
    SUBNET,
    Item,
    State,
)


def references(item: Item) -> set[str]:
    """The ids, in lower case, of the network resources and groups that a resource's document names."""
    found: set[str] = set()
    if item.type in (NIC, SUBNET):
        found |= _named(item.body.get("properties") or {})
    elif item.type == SCALE_SET:
        for config in (
            dig(item.body, "properties", "virtualMachineProfile", "networkProfile", "networkInterfaceConfigurations")
            or ()
        ):
            found |= _named(config.get("properties") or {})
        for path in (
            ("proximityPlacementGroup",),
            ("virtualMachineProfile", "capacityReservation", "capacityReservationGroup"),
        ):
            group = dig(item.body, "properties", *path, "id")
            if group:
                found.add(group.lower())
    elif item.machine is not None:
        found |= {entry.lower() for entry in (item.machine.placement_group, item.machine.reservation) if entry}
    return found


def _named(properties: Json) -> set[str]:
    ids = [dig(properties, "networkSecurityGroup", "id")]
    for config in properties.get("ipConfigurations") or ():
        ids += [dig(config, "properties", "subnet", "id"), dig(config, "properties", "publicIPAddress", "id")]
    return {entry.lower() for entry in ids if entry}


_USERS = {
    SECURITY_GROUP: (NIC, SUBNET, SCALE_SET),
    SUBNET: (NIC, SCALE_SET),
    PUBLIC_IP: (NIC,),
    PLACEMENT_GROUP: (SCALE_SET, "Microsoft.Compute/virtualMachines"),
    RESERVATION_GROUP: (SCALE_SET, "Microsoft.Compute/virtualMachines"),
}


_SUBNET_IN_USE = (
    "InUseSubnetCannotBeDeleted",
    (
        "Subnet {name} is in use by {user} and cannot be deleted. In order to delete the subnet, delete all the resources within the "
        "subnet. See aka.ms/deletesubnet."
    ),
    400,
)
_REFUSAL = ("OperationNotAllowed", "{id} cannot be deleted because it is in use by {user}.", 409)
_REFUSALS = {
    NETWORK: _SUBNET_IN_USE,
    SUBNET: _SUBNET_IN_USE,
    NIC: (
        "NicInUse",
        (
            "Network Interface {id} is used by existing resource {user}. In order to delete the network interface, it must be "
            "dissociated from the resource. To learn more, see aka.ms/deletenic."
        ),
        400,
    ),
    SECURITY_GROUP: (
        "InUseNetworkSecurityGroupCannotBeDeleted",
        (
            "Network security group {id} cannot be deleted because it is in use by the following resources: {user}. In order to delete "
            "the Network security group, remove the association with the resource(s). To learn how to do this, see aka.ms/deletensg."
        ),
        400,
    ),
    PUBLIC_IP: (
        "PublicIPAddressCannotBeDeleted",
        (
            "Public IP address {id} can not be deleted since it is still allocated to resource {user}. In order to delete the public IP, "
            "disassociate/detach the Public IP address from the resource. To learn how to do this, see aka.ms/deletepublicip."
        ),
        400,
    ),
    DISK: ("OperationNotAllowed", "Disk {name} is attached to VM {user}.", 409),
}


def blockers(state: State, item: Item) -> Iterator[Item]:
    """The resources that use this one, so that it can't be deleted."""
    if item.type == NETWORK:
        for subnet in subnets(state, item):
            yield from blockers(state, subnet)
    elif item.type in (NIC, DISK):
        owner = state.find(item.attached_to) if item.attached_to else None
        if owner is not None:
            yield owner
    elif item.type in _USERS:
        for user in state.items(*_USERS[item.type]):
            if item.key in references(user):
                yield user


def subnets(state: State, network: Item) -> list[Item]:
    """The subnets of a network."""
    return [item for item in state.items(SUBNET) if item.key.startswith(network.key + "/")]


def refuse_if_used(state: State, item: Item) -> None:
    """Refuse to delete what is in use, in the words of its kind."""
    if item.reserved_until is not None and item.reserved_until > state.now():
        raise ArmError(
            "NicReservedForAnotherVm",
            "Nic(s) in request is reserved for another Virtual Machine for 180 seconds. Please provide another nic(s) or retry "
            f"after 180 seconds. Reserved VM: {item.reserved_for}",
        )
    user = next(blockers(state, item), None)
    if user is None:
        return
    code, words, status = _REFUSALS.get(item.type, _REFUSAL)
    raise ArmError(code, words.format(id=item.id, name=item.name, user=user.id), status)


def detach(state: State, item: Item) -> None:
    """Let a resource be gone, and with it what was to go with it; the rest of what it used is free again."""
    state.remove(item)
    if item.machine is not None:
        for used in (*item.machine.nics, *item.machine.disks):
            _release(state, used, item)
    elif item.type == NIC:
        release_addresses(state, item.body)
        for config in dig(item.body, "properties", "ipConfigurations") or ():
            address = state.find(dig(config, "properties", "publicIPAddress", "id") or "")
            if address is not None and address.attached_to == item.id:
                _release(state, address, item)


def _release(state: State, used: Item, by: Item) -> None:
    used.attached_to = ""
    if used.delete_option == "Delete":
        detach(state, used)
    elif used.type == NIC and state.nic_reservation > timedelta(0):
        used.reserved_until = state.now() + state.nic_reservation
        used.reserved_for = by.id


def release_addresses(state: State, nic: Json) -> None:
    """Give the private addresses in an interface's document back to its subnet."""
    for config in dig(nic, "properties", "ipConfigurations") or ():
        pool = state.addresses.get((dig(config, "properties", "subnet", "id") or "").lower())
        if pool is not None:
            pool.give_back(config["properties"]["privateIPAddress"])
