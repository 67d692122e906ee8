"""The uses between resources: what blocks a deletion, and what a deletion detaches or deletes too."""

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
    UNIFORM_NIC,
    ArmResource,
    State,
)


def references(item: ArmResource) -> set[str]:
    """Return the ids, in lower case, of the network resources and groups that a resource refers to."""
    found: set[str] = set()
    if item.type in (NIC, UNIFORM_NIC, SUBNET):
        found |= _network_references(item.body.get("properties") or {})
    elif item.type == SCALE_SET:
        for config in (
            dig(item.body, "properties", "virtualMachineProfile", "networkProfile", "networkInterfaceConfigurations")
            or ()
        ):
            found |= _network_references(config.get("properties") or {})
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


def _network_references(properties: Json) -> set[str]:
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
_DEFAULT_ERROR = ("OperationNotAllowed", "{id} cannot be deleted because it is in use by {user}.", 409)
_ERRORS = {
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


def blockers(state: State, item: ArmResource) -> Iterator[ArmResource]:
    """Yield the resources that use a resource, so that it cannot be deleted."""
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


def subnets(state: State, network: ArmResource) -> list[ArmResource]:
    """Return the subnets of a network."""
    return [item for item in state.items(SUBNET) if item.key.startswith(network.key + "/")]


def refuse_if_used(state: State, item: ArmResource) -> None:
    """Refuse to delete a resource that is in use, with the error of its type."""
    if item.reserved_until is not None and item.reserved_until > state.now():
        raise ArmError(
            "NicReservedForAnotherVm",
            "Nic(s) in request is reserved for another Virtual Machine for 180 seconds. Please provide another nic(s) or retry "
            f"after 180 seconds. Reserved VM: {item.reserved_for}",
        )
    user = next(blockers(state, item), None)
    if user is None:
        return
    code, message, status = _ERRORS.get(item.type, _DEFAULT_ERROR)
    raise ArmError(code, message.format(id=item.id, name=item.name, user=user.id), status)


def detach(state: State, item: ArmResource) -> None:
    """Delete a resource; what it uses is deleted too or detached, according to its delete option."""
    state.remove(item)
    if item.machine is not None:
        for used in (*item.machine.nics, *item.machine.disks):
            _release(state, used, item)
    elif item.type in (NIC, UNIFORM_NIC):
        release_addresses(state, item.body)
        for config in dig(item.body, "properties", "ipConfigurations") or ():
            address = state.find(dig(config, "properties", "publicIPAddress", "id") or "")
            if address is not None and address.attached_to == item.id:
                _release(state, address, item)


def parts_of(state: State, vm: ArmResource) -> Iterator[ArmResource]:
    """Yield a machine, its disks, its interfaces and their addresses."""
    yield vm
    if vm.machine is None:
        return
    yield from vm.machine.disks
    for nic in vm.machine.nics:
        yield nic
        yield from (item for item in state.items(PUBLIC_IP) if item.attached_to == nic.id)


def _release(state: State, used: ArmResource, by: ArmResource) -> None:
    used.attached_to = ""
    if used.delete_option == "Delete" and state.guards.allow_delete(used.id):
        detach(state, used)
    elif used.type == NIC and state.nic_reservation > timedelta(0):
        used.reserved_until = state.now() + state.nic_reservation
        used.reserved_for = by.id


def release_addresses(state: State, nic: Json) -> None:
    """Release the private addresses in the document of a network interface."""
    for config in dig(nic, "properties", "ipConfigurations") or ():
        pool = state.addresses.get((dig(config, "properties", "subnet", "id") or "").lower())
        if pool is not None:
            pool.release(config["properties"]["privateIPAddress"])
