"""The instances of Uniform scale sets, which have operations of their own below their scale set."""

import base64
import binascii
from collections.abc import Mapping

from multicompute_azure.local.arm import ArmError, ArmResponse, Json, dig, invalid
from multicompute_azure.local.documents import find, render
from multicompute_azure.local.listing import Listing
from multicompute_azure.local.machines import Machines
from multicompute_azure.local.operations import Operations
from multicompute_azure.local.routes import Call, Handler
from multicompute_azure.local.state import (
    SCALE_SET,
    UNIFORM_IP,
    UNIFORM_NIC,
    UNIFORM_VM,
    ArmResource,
    State,
    machine_of,
)

# "User data for Azure Virtual Machine": 64 KB.
_MOST_USER_DATA = 64 * 1024
# What an update of an instance may change; the rest of a document that is sent back is compared and must be equal.
_CHANGEABLE = "userData"


class Instances:
    """The operations on the instances of Uniform scale sets, and on their interfaces and addresses."""

    def __init__(self, state: State, listing: Listing, operations: Operations, machines: Machines) -> None:
        """Answer from `state`, with pages by `listing`; `machines` has what all machines have in common."""
        self._state = state
        self._listing = listing
        self._operations = operations
        self._machines = machines

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {
            "virtualMachineScaleSetVMs.list": self._list,
            "virtualMachineScaleSetVMs.get": self._get,
            "virtualMachineScaleSetVMs.update": self._update,
            "virtualMachineScaleSets.deleteInstances": self._delete_many,
            "virtualMachineScaleSets.listNetworkInterfaces": lambda call: self._parts(call, UNIFORM_NIC),
            "virtualMachineScaleSets.listPublicIPAddresses": lambda call: self._parts(call, UNIFORM_IP),
        }

    def _list(self, call: Call) -> ArmResponse:
        owner = self._owner(call)
        expand = call.query.get("$expand", "").lower()
        if expand not in ("", "instanceview"):
            # "Virtual Machine Scale Set VMs - List": "The expand expression to apply to the operation. Allowed values are 'instanceView'."
            raise invalid("$expand", f"The value '{expand}' of parameter '$expand' is invalid.")

        def keep(item: ArmResource) -> bool:
            return item.type == UNIFORM_VM and machine_of(item).scale_set == owner.id

        def show(item: ArmResource) -> Json:
            return self.document(item, with_view=expand == "instanceview")

        return self._listing.page(call, keep, show, self._state.group(call.group))

    def _owner(self, call: Call) -> ArmResource:
        """Return the scale set in the path; refuse a Flexible one, whose machines are resources of their own."""
        owner = find(self._state, call, SCALE_SET)
        if dig(owner.body, "properties", "orchestrationMode") != "Uniform":
            text = "This operation is not supported for Virtual Machine Scale Sets with Flexible orchestration mode in the local Azure."
            raise ArmError("OperationNotAllowed", text, 409)
        return owner

    def _get(self, call: Call) -> ArmResponse:
        item = find(self._state, call, UNIFORM_VM)
        expand = call.query.get("$expand", "").lower()
        if expand not in ("", "instanceview", "userdata"):
            raise invalid("$expand", f"The value '{expand}' of parameter '$expand' is invalid.")
        document = self.document(item, with_view=expand == "instanceview")
        if expand == "userdata":
            document["properties"]["userData"] = machine_of(item).user_data
        return ArmResponse(200, document)

    def document(self, item: ArmResource, *, with_view: bool) -> Json:
        """Return the document of an instance: that of a machine, with the differences of "Virtual Machine Scale Set VMs - Get"."""
        document, machine = self._machines.document(item, with_view=with_view), machine_of(item)
        properties = document["properties"]
        for name in ("virtualMachineScaleSet", "priority", "evictionPolicy", "billingProfile"):
            properties.pop(name, None)
        owner = self._state.find(machine.scale_set)
        tags = {"tags": dict(item.tags)} if item.tags else {}
        del document["tags"]
        properties |= {
            "latestModelApplied": owner is None or dig(owner.body, "_model") == machine.model,
            "modelDefinitionApplied": "VirtualMachineScaleSet",
            "hardwareProfile": {},
        }
        return {
            **document,
            **tags,
            "type": UNIFORM_VM,
            "instanceId": machine.instance_id,
            "sku": {"name": machine.size, "tier": "Standard"},
            "properties": properties,
        }

    def _update(self, call: Call) -> ArmResponse:
        """Change the user data of an instance, which needs no restart ("User data for Azure Virtual Machine").

        Tags in the document are ignored: reported in Azure/azure-sdk-for-go#18278 and Azure/azure-libraries-for-net#1299.
        """
        item = find(self._state, call, UNIFORM_VM)
        machine = machine_of(item)
        given, known = call.document.get("properties") or {}, self.document(item, with_view=False)["properties"]
        for name in ("osProfile", "storageProfile", "networkProfile", "networkProfileConfiguration"):
            if given.get(name, known.get(name)) != known.get(name):
                raise ArmError("OperationNotAllowed", f"The local Azure changes no {name} of an instance.", 409)
        if _CHANGEABLE in given:
            check_user_data(given[_CHANGEABLE])
        failure = call.failure()

        def finish() -> None:
            if failure is None and _CHANGEABLE in given:
                machine.user_data = given[_CHANGEABLE] or ""

        operation = self._operations.start(call, item.location, self._state.timing.operation, finish, failure=failure)
        return ArmResponse(200, self.document(item, with_view=False), self._operations.headers(call, operation))

    def _delete_many(self, call: Call) -> ArmResponse:
        owner = find(self._state, call, SCALE_SET)
        numbers = [str(number) for number in call.document.get("instanceIds") or ()]
        found = [self._state.find(f"{owner.id}/virtualMachines/{number}") for number in numbers]
        missing = [number for number, item in zip(numbers, found, strict=True) if item is None]
        if missing or not numbers:
            names = ", ".join(missing) or "no instance"
            text = f"The provided instanceId {names} is not an active Virtual Machine Scale Set VM instanceId."
            raise invalid("instanceIds", text)
        return self._machines.begin_deletion(call, [item for item in found if item is not None])

    def _parts(self, call: Call, type_: str) -> ArmResponse:
        owner = self._owner(call)

        def keep(item: ArmResource) -> bool:
            return item.type == type_ and item.key.startswith(owner.key + "/")

        return self._listing.page(call, keep, self._part, self._state.group(call.group))

    def _part(self, item: ArmResource) -> Json:
        document = render(item)
        if item.type == UNIFORM_NIC:
            document["properties"]["virtualMachine"] = {"id": item.attached_to}
        # Neither has a type or a location in these listings.
        return {name: value for name, value in document.items() if name not in ("type", "location", "tags")}


def check_user_data(data: object) -> None:
    """Refuse user data that is not base64, or too long."""
    if data in (None, ""):
        return
    try:
        base64.b64decode(str(data), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("userData", "User data must be in Base64 encoding.") from None
    if len(str(data)) > _MOST_USER_DATA:
        raise invalid("userData", f"User data has a maximum length of {_MOST_USER_DATA} characters.")
