"""Virtual machines: their creation from a profile, their documents, and their deletion."""

import functools
import itertools
from collections.abc import Mapping
from datetime import timedelta

from multicompute_azure.local import hardware
from multicompute_azure.local.admission import Admission, Demand
from multicompute_azure.local.arm import ArmError, ArmResponse, Json, check_tags, dig, instant, invalid
from multicompute_azure.local.documents import find, find_or_none
from multicompute_azure.local.listing import Listing
from multicompute_azure.local.network import public_address
from multicompute_azure.local.operations import Operations
from multicompute_azure.local.relations import detach
from multicompute_azure.local.routes import Call, Handler
from multicompute_azure.local.state import (
    DISK,
    NIC,
    PUBLIC_IP,
    SCALE_SET,
    UNIFORM_DISK,
    UNIFORM_IP,
    UNIFORM_NIC,
    UNIFORM_VM,
    VM,
    ArmResource,
    Group,
    Machine,
    State,
    machine_of,
    vm_id,
)

_SET_FILTER = "'virtualmachinescaleset/id' eq "
_PLURALS = ("virtualMachines", "virtualMachineScaleSetVMs")
_DISPLAY = {
    "running": "VM running",
    "starting": "VM starting",
    "stopped": "VM stopped",
    "deallocated": "VM deallocated",
}


class Machines:
    """The virtual machines and the operations on them.

    Attributes:
        copies_tags: Whether the tags of a scale set reach its machines and their disks. No page of Microsoft's says so.
        address_delay: How long a public address is not assigned yet.
    """

    def __init__(self, state: State, listing: Listing, operations: Operations, admission: Admission) -> None:
        """Answer from `state`, with pages by `listing`; changes run as `operations`, and `admission` has room for a start or not."""
        self.copies_tags = True
        self.address_delay = timedelta(0)
        self._state = state
        self._listing = listing
        self._operations = operations
        self._admission = admission

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {
            "virtualMachines.createOrUpdate": self._put,
            "virtualMachines.get": self._get,
            "virtualMachines.update": self._patch,
            "virtualMachines.list": self._list,
            "virtualMachines.listAll": self._list,
            **{f"{plural}.{name}": handler for plural in _PLURALS for name, handler in self._shared().items()},
        }

    def _shared(self) -> Mapping[str, Handler]:
        """Return the handlers of what can be done to any machine, whatever the mode of its scale set."""
        return {
            "delete": self._delete,
            "instanceView": lambda call: ArmResponse(200, self.view(find(self._state, call, _type(call)))),
            "deallocate": lambda call: self._power(call, "deallocated"),
            "powerOff": lambda call: self._power(call, "stopped"),
            "start": lambda call: self._power(call, "running"),
            "simulateEviction": self._evict,
        }

    # --- creating -------------------------------------------------------------------------------------------------------

    def create(
        self, group: Group, scale_set: ArmResource, demand: Demand, number: int, tags: dict[str, str]
    ) -> ArmResource:
        """Create one machine of a scale set, with its disk, network interfaces and addresses."""
        profile = scale_set.body["properties"]["virtualMachineProfile"]
        number_in_set = self._free_number(scale_set) if is_uniform(scale_set) else ""
        zone = demand.zones[number % len(demand.zones)] if demand.zones else ""
        suffix = number_in_set or f"{self._state.number():08x}"
        item = self._add(group, scale_set, suffix, number_in_set, tags if self.copies_tags else {})
        item.machine = Machine(
            size=demand.size.name,
            vcpus=demand.size.vcpus,
            zone=zone,
            spot=demand.spot,
            eviction_policy=profile.get("evictionPolicy") or "Deallocate",
            profile=profile,
            scale_set=scale_set.id,
            runs_at=self._state.now() + self._state.timing.boot,
            reservation=demand.reservation_group,
            placement_group=dig(scale_set.body, "properties", "proximityPlacementGroup", "id") or "",
            instance_id=number_in_set,
            user_data=profile.get("userData") or "",
            custom_data=str(scale_set.body.get("_customData") or ""),
            model=int(scale_set.body.get("_model") or 0),
        )
        if zone:
            item.body["zones"] = [zone]
        item.machine.disks.append(self._disk(group, item, zone))
        for config in profile["networkProfile"]["networkInterfaceConfigurations"]:
            item.machine.nics.append(self._nic(group, item, config, suffix))
        return item

    def _add(
        self, group: Group, scale_set: ArmResource, suffix: str, number: str, tags: Mapping[str, str]
    ) -> ArmResource:
        """Create the resource of a machine: a part of its scale set if that is Uniform, and a resource of its own if it is Flexible."""
        name = f"{scale_set.name}_{suffix}"
        if not number:
            return self._state.add(group, VM, name, scale_set.location, dict(tags))
        id_ = f"{scale_set.id}/virtualMachines/{number}"
        return self._state.put(group, id_, UNIFORM_VM, name, scale_set.location, dict(tags))

    def _free_number(self, scale_set: ArmResource) -> str:
        """Return the instance id of a new instance of a Uniform scale set.

        "Instance IDs may be reused for new instances once old instances are deleted" ("Understand names and instance IDs"), so they are
        here, at once.
        """
        numbers = (str(number) for number in itertools.count())
        return next(
            number for number in numbers if self._state.find(f"{scale_set.id}/virtualMachines/{number}") is None
        )

    def _disk(self, group: Group, vm: ArmResource, zone: str) -> ArmResource:
        storage = machine_of(vm).profile.get("storageProfile") or {}
        given = storage.get("osDisk") or {}
        name = f"{vm.name}_OsDisk_1_{vm.number:032x}"
        kind = dig(given, "managedDisk", "storageAccountType") or "Premium_LRS"
        body: Json = {
            "sku": {"name": kind},
            "managedBy": vm.id,
            "properties": {
                "osType": "Linux",
                "diskSizeGB": given.get("diskSizeGB") or 30,
                "creationData": {"createOption": "FromImage"},
                "diskState": "Attached",
                "timeCreated": instant(vm.created_at),
            },
        }
        if zone:
            body["zones"] = [zone]
        # The service copies the tags that a machine is created with to the disk that is created with it.
        if vm.type == UNIFORM_VM:
            return self._part(group, vm, UNIFORM_DISK, f"{vm.id}/disks/{name}", name, body)
        disk = self._state.add(group, DISK, name, vm.location, dict(vm.tags), body)
        # By default the disk of a machine in a flexible scale set is not deleted with it.
        disk.attached_to, disk.delete_option = vm.id, given.get("deleteOption") or "Detach"
        return disk

    def _part(
        self, group: Group, owner: ArmResource, type_: str, id_: str, name: str, body: Json | None = None
    ) -> ArmResource:
        """Create a part of an instance of a Uniform scale set, which is always deleted with it ("Orchestration modes")."""
        item = self._state.put(group, id_, type_, name, owner.location, {}, body)
        item.attached_to, item.delete_option = owner.id, "Delete"
        return item

    def _nic(self, group: Group, vm: ArmResource, config: Json, suffix: str) -> ArmResource:
        given = config.get("properties") or {}
        # A network interface has only the tags of its configuration, not those of the scale set or the machine.
        if vm.type == UNIFORM_VM:
            nic = self._part(group, vm, UNIFORM_NIC, f"{vm.id}/networkInterfaces/{config['name']}", config["name"])
        else:
            nic = self._state.add(group, NIC, f"{config['name']}-{suffix}", vm.location, dict(config.get("tags") or {}))
            nic.attached_to, nic.delete_option = vm.id, given.get("deleteOption") or "Detach"
        addresses = []
        for entry in given["ipConfigurations"]:
            addresses.append(self._address(group, nic, entry, suffix))
        nic.body = {
            "properties": {
                "primary": bool(given.get("primary", True)),
                "enableAcceleratedNetworking": bool(given.get("enableAcceleratedNetworking")),
                "ipConfigurations": addresses,
            }
        }
        if given.get("networkSecurityGroup"):
            nic.body["properties"]["networkSecurityGroup"] = given["networkSecurityGroup"]
        return nic

    def _address(self, group: Group, nic: ArmResource, entry: Json, suffix: str) -> Json:
        given = entry["properties"]
        subnet = given["subnet"]["id"]
        id_ = f"{nic.id}/ipConfigurations/{entry['name']}"
        found: Json = {
            "privateIPAddress": self._state.addresses[subnet.lower()].allocate(),
            "privateIPAllocationMethod": "Dynamic",
            "primary": bool(given.get("primary", True)),
            "subnet": {"id": subnet},
        }
        public = given.get("publicIPAddressConfiguration")
        if public:
            sku = public.get("sku") or {"name": "Standard", "tier": "Regional"}
            address = self._public_address(group, nic, id_, public, suffix)
            address.body = {
                "sku": sku,
                "properties": {
                    "publicIPAllocationMethod": "Static",
                    "publicIPAddressVersion": "IPv4",
                    "ipConfiguration": {"id": id_},
                },
            }
            if self.address_delay:
                self._state.after(self.address_delay, functools.partial(_assign, address))
            else:
                _assign(address)
            found["publicIPAddress"] = {"id": address.id}
        return {"id": id_, "name": entry["name"], "properties": found}

    def _public_address(self, group: Group, nic: ArmResource, id_: str, public: Json, suffix: str) -> ArmResource:
        if nic.type == UNIFORM_NIC:
            return self._part(group, nic, UNIFORM_IP, f"{id_}/publicIPAddresses/{public['name']}", public["name"])
        tags = dict(public.get("tags") or {})
        address = self._state.add(group, PUBLIC_IP, f"{public['name']}-{suffix}", nic.location, tags)
        address.attached_to = nic.id
        address.delete_option = dig(public, "properties", "deleteOption") or "Detach"
        return address

    # --- reading ------------------------------------------------------------------------------------------------------

    def state_of(self, item: ArmResource) -> str:
        """Return the provisioning state of a machine."""
        machine = machine_of(item)
        if machine.is_deleting:
            return "Deleting"
        if item.state != "Succeeded":
            return item.state
        if self._state.now() >= machine.runs_at or machine.power != "running":
            return "Succeeded"
        return "Updating" if machine.is_restarted else "Creating"

    def is_running(self, item: ArmResource) -> bool:
        """Return whether a machine runs."""
        return item.machine is not None and item.machine.power == "running" and self.state_of(item) == "Succeeded"

    def document(self, item: ArmResource, *, with_view: bool = False) -> Json:
        """Return the document of a machine; like Azure's, it has neither secrets nor custom data."""
        machine = machine_of(item)
        properties: Json = {
            "vmId": vm_id(item),
            "provisioningState": self.state_of(item),
            "timeCreated": instant(item.created_at),
            "hardwareProfile": {"vmSize": machine.size},
            **_parts(item, machine),
        }
        if machine.scale_set:
            properties["virtualMachineScaleSet"] = {"id": machine.scale_set}
        for name in ("securityProfile", "billingProfile", "capacityReservation"):
            if machine.profile.get(name):
                properties[name] = machine.profile[name]
        if machine.spot:
            properties |= {"priority": "Spot", "evictionPolicy": machine.eviction_policy}
        if machine.placement_group:
            properties["proximityPlacementGroup"] = {"id": machine.placement_group}
        if with_view:
            properties["instanceView"] = self.view(item)
        document: Json = {
            "id": item.id,
            "name": item.name,
            "type": VM,
            "location": item.location,
            "tags": dict(item.tags),
        }
        if machine.zone:
            document["zones"] = [machine.zone]
        return document | {"properties": properties}

    def view(self, item: ArmResource) -> Json:
        """Return the instance view of a machine."""
        state = self.state_of(item)
        power = "starting" if state in ("Creating", "Updating") else machine_of(item).power
        suffix = state.lower()
        return {
            "statuses": [
                {
                    "code": f"ProvisioningState/{suffix}",
                    "level": "Info",
                    "displayStatus": f"Provisioning {suffix}",
                    "time": instant(item.created_at),
                },
                {"code": f"PowerState/{power}", "level": "Info", "displayStatus": _DISPLAY[power]},
            ]
        }

    def _get(self, call: Call) -> ArmResponse:
        expand = call.query.get("$expand", "")
        if expand.lower() not in ("", "instanceview", "userdata"):
            raise invalid("$expand", f"The value '{expand}' of parameter '$expand' is invalid.")
        return ArmResponse(200, self.document(find(self._state, call, VM), with_view=expand.lower() == "instanceview"))

    def _list(self, call: Call) -> ArmResponse:
        wanted = _scale_set_of(call.query.get("$filter", ""))
        expand = call.query.get("$expand", "").lower()
        if expand and not wanted:
            raise ArmError(
                "InvalidParameter",
                "$expand can be used with a $filter by virtual machine scale set only.",
                target="$expand",
            )
        with_view = expand == "instanceview" or call.query.get("statusonly", "").lower() == "true"

        def keep(item: ArmResource) -> bool:
            machine = item.machine
            if machine is None or item.type != VM or not self._state.is_listed(item):
                return False
            return not wanted or machine.scale_set.lower() == wanted

        group = self._state.group(call.group) if "group" in call.params else None
        return self._listing.page(call, keep, lambda item: self.document(item, with_view=with_view), group)

    # --- changing and deleting ------------------------------------------------------------------------------------------

    def _put(self, call: Call) -> ArmResponse:
        """Change the tags of a machine; only scale sets create machines in the local Azure."""
        item = find_or_none(self._state, call, VM)
        if item is None:
            raise ArmError("OperationNotAllowed", "The local Azure creates virtual machines by scale sets only.", 409)
        item.tags = check_tags(call.document.get("tags"))
        return ArmResponse(200, self.document(item))

    def _patch(self, call: Call) -> ArmResponse:
        item = find(self._state, call, VM)
        changed = set(call.document) - {"tags"}
        if changed:
            raise ArmError(
                "OperationNotAllowed",
                f"The local Azure changes the tags of a machine only, not {', '.join(sorted(changed))}.",
                409,
            )
        if call.document.get("tags") is not None:
            item.tags = check_tags(call.document["tags"])
        return ArmResponse(200, self.document(item))

    def delete(self, item: ArmResource) -> None:
        """Delete a machine, and reduce the capacity of its scale set by one."""
        detach(self._state, item)
        owner = self._state.find(machine_of(item).scale_set)
        if owner is not None and owner.state != "Failed" and owner.body["sku"]["capacity"] > 0:
            owner.body["sku"] = {**owner.body["sku"], "capacity": owner.body["sku"]["capacity"] - 1}

    def evict(self, item: ArmResource) -> None:
        """Evict a spot machine, according to its eviction policy."""
        machine = machine_of(item)
        if machine.eviction_policy == "Delete":
            self.delete(item)
        else:
            machine.power = "deallocated"

    def _evict(self, call: Call) -> ArmResponse:
        item = find(self._state, call, _type(call))
        if item.machine is None or not item.machine.spot:
            raise ArmError(
                "OperationNotAllowed", "Simulate eviction is possible for Azure Spot Virtual Machines only.", 409
            )
        self._state.after(timedelta(0), lambda: self.evict(item))
        return ArmResponse(204)

    def _delete(self, call: Call) -> ArmResponse:
        self._state.group(call.group)
        item = find_or_none(self._state, call, _type(call))
        return ArmResponse(204) if item is None else self.begin_deletion(call, [item])

    def begin_deletion(self, call: Call, items: list[ArmResource]) -> ArmResponse:
        """Begin to delete machines of one region in one operation."""
        failure = call.failure()
        for item in items:
            machine_of(item).is_deleting = True

        def finish() -> None:
            for item in items:
                machine_of(item).is_deleting = False
                if failure is not None:
                    item.state = "Failed"
                elif self._state.find(item.id) is item:
                    self.delete(item)

        delay = self._state.timing.shutdown
        operation = self._operations.start(call, items[0].location, delay, finish, failure=failure)
        return ArmResponse(202, None, self._operations.headers(call, operation))

    def set_power(self, item: ArmResource, power: str) -> None:
        """Stop, deallocate or start a machine; one that is started boots again."""
        machine = machine_of(item)
        if power == "running" and machine.power != "running":
            machine.runs_at, machine.is_restarted = self._state.now() + self._state.timing.boot, True
        machine.power = power

    def _lack(self, item: ArmResource) -> ArmError | None:
        """Return why a machine can't be started. One that was not deallocated still has its place on a host."""
        machine = machine_of(item)
        if machine.uses_capacity:
            return None
        size = hardware.sizes()[machine.size.lower()]
        zones = (machine.zone,) if machine.zone else ()
        demand = Demand(
            size, item.location, zones, 1, machine.spot, is_colocated=False, reservation_group=machine.reservation
        )
        try:
            self._admission.check_quota(demand)
            _, lack = self._admission.allocate(demand)
        except ArmError as refusal:
            return refusal
        return lack

    def _power(self, call: Call, power: str) -> ArmResponse:
        item = find(self._state, call, _type(call))
        lack = self._lack(item) if power == "running" else None

        def finish() -> ArmError | None:
            if lack is None:
                self.set_power(item, power)
            return lack

        failure = call.failure()
        operation = self._operations.start(call, item.location, self._state.timing.operation, finish, failure=failure)
        return ArmResponse(202, None, self._operations.headers(call, operation))


def _assign(address: ArmResource) -> None:
    """Assign a public address to its resource."""
    address.body["properties"]["ipAddress"] = public_address(address.number)


def _type(call: Call) -> str:
    """Return the type of the machine that a call names: one in a Uniform scale set has the scale set in its path."""
    return UNIFORM_VM if "parent" in call.params else VM


def is_uniform(scale_set: ArmResource) -> bool:
    """Return whether the machines of a scale set are parts of it."""
    return bool(dig(scale_set.body, "properties", "orchestrationMode") == "Uniform")


def _parts(item: ArmResource, machine: Machine) -> Json:
    """Return the disk, the operating system and the network interfaces in a machine's document."""
    disk = machine.disks[0]
    system = machine.profile.get("osProfile") or {}
    return {
        "storageProfile": {
            "imageReference": dig(machine.profile, "storageProfile", "imageReference"),
            "osDisk": {
                "osType": "Linux",
                "name": disk.name,
                "createOption": "FromImage",
                "deleteOption": disk.delete_option,
                "managedDisk": {"id": disk.id, "storageAccountType": disk.body["sku"]["name"]},
                "diskSizeGB": disk.body["properties"]["diskSizeGB"],
            },
            "dataDisks": [],
        },
        "osProfile": {
            "computerName": item.name,
            "adminUsername": system.get("adminUsername"),
            "allowExtensionOperations": True,
        },
        "networkProfile": {
            "networkInterfaces": [
                {
                    "id": nic.id,
                    "properties": {"primary": nic.body["properties"]["primary"], "deleteOption": nic.delete_option},
                }
                for nic in machine.nics
            ]
        },
    }


def _scale_set_of(text: str) -> str:
    """Return the scale set that a filter names, "" without a filter."""
    plain = text.strip().lower()
    if not plain:
        return ""
    if not plain.startswith(_SET_FILTER):
        raise ArmError(
            "InvalidParameter",
            f"The filter '{text}' is not supported; machines can be filtered by virtualMachineScaleSet/id.",
            target="$filter",
        )
    found = plain.removeprefix(_SET_FILTER).strip().strip("'")
    if f"/providers/{SCALE_SET}/".lower() not in found:
        raise ArmError("InvalidParameter", f"The filter '{text}' names no virtual machine scale set.", target="$filter")
    return found
