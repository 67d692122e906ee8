"""The instances of Uniform scale sets, which are parts of their scale set and have calls of their own.

They have no tags of their own ("Orchestration modes for Virtual Machine Scale Sets": no Azure Resource Manager tagging; an update with tags is
accepted and ignored, Azure/azure-sdk-for-go#18278). What an instance has of its own is its user data: new instances get that of the scale
set's model, it can be changed without a restart, and the node reads it from the metadata service ("User data for Azure Virtual Machine").
So it has the token that an instance was launched with, and its expiry.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from multicompute.errors import MulticomputeError
from multicompute.node import Node
from multicompute.provider import TAG_ATTEMPT, TAG_EXPIRES_AT, expiry_tag
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place, retryable
from multicompute_azure._errors import failed_operation, is_gone, translate_errors
from multicompute_azure._names import arm_id, instance_node_id, instance_number, parse_id
from multicompute_azure._operations import Operation
from multicompute_azure._session import Clients, path_of
from multicompute_azure._sets import SCALE_SETS, ScaleSet

_AT_ONCE: Final = 8
_UPDATE: Final = "virtualMachineScaleSetVMs.update"
_DELETE: Final = "virtualMachineScaleSetVMs.delete"
# An update of user data takes some seconds.
_PATIENCE: Final = timedelta(seconds=30)
# What Azure reports of an instance, and does not take back.
_REPORTED: Final = (
    *("instanceView", "provisioningState", "latestModelApplied", "vmId", "timeCreated", "modelDefinitionApplied"),
    *("resilientVMDeletionStatus", "virtualMachineResourceId"),
)


def record(token: str, expires_at: datetime | None) -> str:
    """Return the user data of an instance: the token of its launch and its expiry, in base64."""
    text = f"{TAG_ATTEMPT}={token}\n{TAG_EXPIRES_AT}={expiry_tag(expires_at)}\n"
    return base64.b64encode(text.encode()).decode()


def token_in(user_data: str) -> str:
    """Return the token in the user data of an instance, "" if it has none."""
    try:
        lines = base64.b64decode(user_data, validate=True).decode().splitlines()
    except (binascii.Error, ValueError):
        return ""
    prefix = f"{TAG_ATTEMPT}="
    return next((line.removeprefix(prefix) for line in lines if line.startswith(prefix)), "")


def instances(clients: Clients, scale_set: ScaleSet) -> list[dict[str, Any]]:
    """Return the documents of the instances of a scale set, with their states, and with `_token` where several launches share it."""
    path = f"{path_of(scale_set.group, SCALE_SETS, scale_set.name)}/virtualMachines"
    listed = clients.list_all("virtualMachineScaleSetVMs.list", scale_set.place, path, _expand="instanceView")
    found = list(listed)
    if not scale_set.is_shared:
        return found
    tokens = in_parallel(partial(_token, clients, scale_set), found, at_once=_AT_ONCE)
    return [{**item, "_token": token} for item, token in zip(found, tokens, strict=True)]


def _token(clients: Clients, scale_set: ScaleSet, item: Mapping[str, Any]) -> str:
    """Return the token in the user data of an instance, which is read once for each: no listing has it, and it stays the same."""
    key = str((item.get("properties") or {}).get("vmId") or "")
    known = clients.instance_tokens.get(key, "")
    if known:
        return known
    found = _document(clients, str(item["id"]), scale_set.place) or {}
    token = token_in(str((found.get("properties") or {}).get("userData") or ""))
    if key and token:
        clients.instance_tokens[key] = token
    return token


def _document(clients: Clients, instance_id: str, place: Place) -> dict[str, Any] | None:
    """Return the document of an instance with its user data, or None if it does not exist."""
    owner, number = instance_number(instance_id)
    path = f"{path_of(parse_id(instance_id).group, SCALE_SETS, owner)}/virtualMachines/{number}"
    return clients.find("virtualMachineScaleSetVMs.get", place, path, _expand="userData")


def _current(clients: Clients, node_id: str, place: Place) -> dict[str, Any] | None:
    """Return the document of the node, or None if it is gone and perhaps another instance has its number."""
    found = _document(clients, arm_id(node_id), place)
    if found is None:
        return None
    own = str((found.get("properties") or {}).get("vmId") or "")
    return found if instance_node_id(arm_id(node_id), own) == node_id else None


def write_expiry(clients: Clients, node: Node, expires_at: datetime | None) -> MulticomputeError | None:
    """Write the expiry of a node into its user data, from which its timer reads it.

    Returns:
        None if it is written; the answer of Azure if it does not find the node.

    Raises:
        TransientError: The update has not finished; others: it was refused or has failed.
    """
    place = Place("azure", node.region, node.zone, node.instance_type)
    document = _current(clients, node.id, place)
    if document is None:
        return retryable(f"{node.id} was not found", code="ResourceNotFound", place=place)
    properties = {name: value for name, value in document["properties"].items() if name not in _REPORTED}
    token = node.token or token_in(str(properties.get("userData") or ""))
    body = {
        "location": document.get("location") or node.region,
        "properties": {**properties, "userData": record(token, expires_at)},
    }
    (owner, number), operation = instance_number(node.id), clients.operation()
    update: Any = clients.compute.virtual_machine_scale_set_vms.begin_update
    try:
        with translate_errors(_UPDATE, place):
            update(parse_id(node.id).group, owner, number, body, polling=operation)
    except MulticomputeError as error:
        if not is_gone(error.code):
            raise
        return error
    _wait(clients, operation, place)
    return None


def _wait(clients: Clients, operation: Operation, place: Place) -> None:
    deadline = clients.clock.now() + _PATIENCE
    while not operation.finished() and clients.clock.now() < deadline:
        clients.clock.sleep(clients.step)
        operation.refresh(_UPDATE, place)
    if operation.failure is not None:
        raise failed_operation(operation.failure, _UPDATE, place)
    if not operation.finished():
        raise retryable(f"{_UPDATE} has not finished after {_PATIENCE}", code="InProgress", place=place)


def delete_instance(clients: Clients, node_id: str, place: Place) -> None:
    """Begin to delete an instance, which lowers the capacity of its scale set by one; nothing if the node is gone.

    Raises:
        MulticomputeError: The call was refused.
    """
    if _current(clients, node_id, place) is None:
        return
    owner, number = instance_number(node_id)
    vms: Any = clients.compute.virtual_machine_scale_set_vms
    with translate_errors(_DELETE, place):
        vms.begin_delete(parse_id(node_id).group, owner, number, force_deletion=True, polling=False)


def begin_start(clients: Clients, node: Node, operation: Operation) -> None:
    """Begin to start a stopped node."""
    owner, number = instance_number(node.id)
    vms: Any = clients.compute.virtual_machine_scale_set_vms
    vms.begin_start(parse_id(node.id).group, owner, number, polling=operation)


def lower_capacity(clients: Clients, scale_set: ScaleSet, to: int) -> None:
    """Lower the capacity of a scale set to the number of instances that it has, so that Azure creates none that was given up.

    The scale set removes its newest instances first, so those that came before a given up launch would be the last to go.

    Raises:
        MulticomputeError: The call was refused, perhaps because the scale set has changed since it was read.
    """
    update: Any = clients.compute.virtual_machine_scale_sets.begin_update
    with translate_errors("virtualMachineScaleSets.update", scale_set.place):
        update(
            scale_set.group,
            scale_set.name,
            {"sku": {"name": scale_set.instance_type, "tier": "Standard", "capacity": to}},
            polling=False,
            **unchanged(scale_set),
        )


def unchanged(scale_set: ScaleSet) -> dict[str, Any]:
    """Return the arguments of a call that is refused if the scale set has changed since it was read."""
    from azure.core import MatchConditions

    return {"etag": scale_set.etag, "match_condition": MatchConditions.IfNotModified} if scale_set.etag else {}


def interface_documents(clients: Clients, group: str, owner: str, place: Place) -> tuple[list[Any], list[Any]]:
    """Return the documents of the interfaces and of the public addresses of a scale set's instances."""
    path = path_of(group, SCALE_SETS, owner)
    parts: Sequence[tuple[str, str]] = (
        ("virtualMachineScaleSets.listNetworkInterfaces", "networkInterfaces"),
        ("virtualMachineScaleSets.listPublicIPAddresses", "publicipaddresses"),
    )
    nics, ips = (list(clients.list_all(operation, place, f"{path}/{part}")) for operation, part in parts)
    return nics, ips
