"""The documents of resources, the resources that a call names, and the operations that all types have."""

import re
from collections.abc import Callable, Mapping

from multicompute_azure.local import hardware
from multicompute_azure.local.arm import ArmError, ArmResponse, Json, group_id, not_found
from multicompute_azure.local.listing import Listing
from multicompute_azure.local.routes import Call, Handler
from multicompute_azure.local.state import ArmResource, State

_NAME = re.compile(r"[A-Za-z0-9_][-A-Za-z0-9._]{0,79}")


def render(item: ArmResource) -> Json:
    """Return the document of a resource: as it was sent, with the fields that the service adds."""
    document: Json = {"id": item.id, "name": item.name, "type": item.type, "location": item.location}
    if item.tags:
        document["tags"] = dict(item.tags)
    document.update(item.body)
    document["properties"] = {**(item.body.get("properties") or {}), "provisioningState": item.state}
    return document


def crud_handlers(
    plural: str,
    type_: str,
    state: State,
    listing: Listing,
    document: Callable[[ArmResource], Json],
    put: Callable[[Call, str], ArmResponse],
    patch: Callable[[Call, str], ArmResponse],
    delete: Callable[[Call, str], ArmResponse],
) -> Mapping[str, Handler]:
    """Return the handlers of the six operations that a type of resource has."""

    def list_page(call: Call) -> ArmResponse:
        return listing.of_type(call, type_, document)

    return {
        f"{plural}.createOrUpdate": lambda call: put(call, type_),
        f"{plural}.get": lambda call: ArmResponse(200, document(find(state, call, type_))),
        f"{plural}.update": lambda call: patch(call, type_),
        f"{plural}.delete": lambda call: delete(call, type_),
        f"{plural}.list": list_page,
        f"{plural}.listAll": list_page,
    }


def find(state: State, call: Call, type_: str) -> ArmResource:
    """Return the resource that a call's path names."""
    group = state.group(call.group)
    parent = call.params.get("parent")
    above, _, last = type_.rpartition("/")
    path = f"{above}/{parent}/{last}" if parent else type_
    key = f"{group_id(group.name)}/providers/{path}/{call.name}".lower()
    found = group.items.get(key)
    if found is None:
        raise not_found(above if parent else type_, f"{parent}/{last}/{call.name}" if parent else call.name, group.name)
    return found


def find_or_none(state: State, call: Call, type_: str) -> ArmResource | None:
    """Return the resource that a call's path names, or None if it does not exist."""
    try:
        return find(state, call, type_)
    except ArmError as error:
        if error.code != "ResourceNotFound":
            raise
        return None


def check_location(call: Call, type_: str, existing: ArmResource | None) -> str:
    """Return the region of a document; refuse an unknown region, or one that an existing resource is not in."""
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


def find_reference(
    state: State, resource_id: str, *, by: str, location: str, code: str = "InvalidResourceReference"
) -> ArmResource:
    """Return the resource that another refers to; refuse one that does not exist, is elsewhere, or is not provisioned."""
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
