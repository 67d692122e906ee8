"""What every resource's document has, and where a resource may be made."""

import re

from multicompute_azure.local import hardware
from multicompute_azure.local.arm import ArmError, Json, group_id, not_found
from multicompute_azure.local.routes import Call
from multicompute_azure.local.state import Item, State

_NAME = re.compile(r"[A-Za-z0-9_][-A-Za-z0-9._]{0,79}")


def render(item: Item) -> Json:
    """The document of a resource that is kept as it was sent, with what the service adds."""
    document: Json = {"id": item.id, "name": item.name, "type": item.type, "location": item.location}
    if item.tags:
        document["tags"] = dict(item.tags)
    document.update(item.body)
    document["properties"] = {**(item.body.get("properties") or {}), "provisioningState": item.state}
    return document


def find(state: State, call: Call, type_: str) -> Item:
    """The resource that a call's path names."""
    group = state.group(call.group)
    parent = call.params.get("parent")
    above, _, last = type_.rpartition("/")
    path = f"{above}/{parent}/{last}" if parent else type_
    key = f"{group_id(group.name)}/providers/{path}/{call.name}".lower()
    found = group.items.get(key)
    if found is None:
        raise not_found(above if parent else type_, f"{parent}/{last}/{call.name}" if parent else call.name, group.name)
    return found


def known(state: State, call: Call, type_: str) -> Item | None:
    """The resource that a call's path names, None where there is none yet."""
    try:
        return find(state, call, type_)
    except ArmError as error:
        if error.code != "ResourceNotFound":
            raise
        return None


def place(call: Call, type_: str, existing: Item | None) -> str:
    """The region of a document, refused where there is no such region or where the resource is in another."""
    location = str(call.document.get("location") or "").lower().replace(" ", "")
    if not location:
        raise ArmError("LocationRequired", "The location property is required for this definition.")
    if location not in hardware.regions():
        raise ArmError(
            "LocationNotAvailableForResourceType",
            f"The provided location '{location}' is not available for resource type '{type_}'. "
            f"List of available regions for the resource type is '{','.join(hardware.regions())}'.",
        )
    if existing is not None and existing.location != location:
        raise ArmError(
            "InvalidResourceLocation",
            f"The resource '{existing.name}' already exists in location '{existing.location}' in resource group '{call.group}'. "
            f"A resource with the same name cannot be created in location '{location}'. Please select a new resource name.",
            409,
        )
    if not _NAME.fullmatch(call.name):
        raise ArmError("InvalidResourceName", f"Resource name {call.name} is invalid.")
    return location


def refer(state: State, resource_id: str, *, by: str, location: str, code: str = "InvalidResourceReference") -> Item:
    """The resource that another names, refused where it does not exist, is elsewhere or is not made yet."""
    found = state.find(resource_id)
    if found is None or found.location != location:
        raise ArmError(
            code,
            f"Resource {resource_id} referenced by resource {by} was not found. Please make sure that the referenced resource "
            "exists, and that both resources are in the same region.",
        )
    if found.state in ("Updating", "Creating", "Deleting"):
        raise ArmError(
            "ReferencedResourceNotProvisioned",
            f"Cannot proceed with operation because resource {found.id} used by resource {by} is not in Succeeded state. "
            f"Resource is in {found.state} state.",
            409,
        )
    return found
