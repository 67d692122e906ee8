"""The rest of Microsoft.Compute: disks, proximity groups, capacity reservations, usages, SKUs and images."""

from collections.abc import Mapping
from datetime import timedelta

from multicompute_azure.local import hardware, images
from multicompute_azure.local.admission import REGIONAL, SPOT, Admission
from multicompute_azure.local.arm import (
    SUBSCRIPTION,
    ArmError,
    ArmResponse,
    Json,
    check_tags,
    dig,
    group_id,
    invalid,
    missing,
    not_found,
)
from multicompute_azure.local.capabilities import capabilities
from multicompute_azure.local.documents import check_location, crud_handlers, find, find_or_none, render
from multicompute_azure.local.hardware import Size
from multicompute_azure.local.listing import Listing
from multicompute_azure.local.operations import Operations
from multicompute_azure.local.relations import detach, refuse_if_used
from multicompute_azure.local.routes import Call, Handler
from multicompute_azure.local.state import (
    DISK,
    PLACEMENT_GROUP,
    RESERVATION,
    RESERVATION_GROUP,
    ArmResource,
    State,
    properties,
)

_TYPES = {"disks": DISK, "proximityPlacementGroups": PLACEMENT_GROUP, "capacityReservationGroups": RESERVATION_GROUP}
GALLERY = "Microsoft.Compute/galleries"
_KEPT = ("sku", "zones", "properties")


class Compute:
    """The operations of Microsoft.Compute, except those on machines and scale sets."""

    def __init__(self, state: State, listing: Listing, operations: Operations, admission: Admission) -> None:
        """Answer from `state`; `admission` has the quotas in use."""
        self._state = state
        self._listing = listing
        self._operations = operations
        self._admission = admission

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        found: dict[str, Handler] = {
            "capacityReservations.createOrUpdate": self._put_reservation,
            "capacityReservations.get": self._get_reservation,
            "capacityReservations.delete": self._delete_reservation,
            "capacityReservations.list": self._list_reservations,
            "usages.list": self._usages,
            "skus.list": self._skus,
            "galleryImages.get": self._gallery_image,
            "virtualMachineImages.list": _image_versions,
            "virtualMachineImages.get": _image_version,
        }
        for plural, type_ in _TYPES.items():
            found |= crud_handlers(
                plural, type_, self._state, self._listing, self._document, self._put, self._patch, self._delete
            )
        return found | {"capacityReservationGroups.get": self._get_group}

    def _get_group(self, call: Call) -> ArmResponse:
        item = find(self._state, call, RESERVATION_GROUP)
        found = self._document(item)
        if _wants_view(call):
            views = [{"name": each.name, **self._view(each)} for each in self._reservations(item)]
            found["properties"]["instanceView"] = {"capacityReservations": views}
        return ArmResponse(200, found)

    def _document(self, item: ArmResource) -> Json:
        found = render(item)
        if item.type == RESERVATION_GROUP:
            found["properties"].pop("provisioningState", None)
            found["properties"]["capacityReservations"] = [{"id": each.id} for each in self._reservations(item)]
        elif item.type == DISK and not item.attached_to:
            found.pop("managedBy", None)
            found["properties"]["diskState"] = "Unattached"
        return found

    def _put(self, call: Call, type_: str) -> ArmResponse:
        group = self._state.open_group(call.group)
        existing = find_or_none(self._state, call, type_)
        location = check_location(call, type_, existing)
        tags = check_tags(call.document.get("tags"))
        body = {name: value for name, value in call.document.items() if name in _KEPT}
        if (
            type_ == RESERVATION_GROUP
            and existing is not None
            and set(existing.body.get("zones") or ()) - set(body.get("zones") or ())
        ):
            raise ArmError(
                "PropertyChangeNotAllowed",
                "The zones of a capacity reservation group can't be changed.",
                409,
                target="zones",
            )
        item = existing or self._state.add(group, type_, call.name, location, tags)
        item.tags = tags
        item.body = {**item.body, **body} if type_ == DISK else body
        return self._created(call, item, is_new=existing is None, is_long=type_ == DISK)

    def _created(self, call: Call, item: ArmResource, *, is_new: bool, is_long: bool) -> ArmResponse:
        headers = {}
        if is_long:
            headers = self._operations.headers(
                call, self._operations.start(call, item.location, timedelta(0), lambda: None)
            )
        return ArmResponse(201 if is_new else 200, self._document(item), headers)

    def _patch(self, call: Call, type_: str) -> ArmResponse:
        item = find(self._state, call, type_)
        if call.document.get("tags") is not None:
            item.tags = check_tags(call.document["tags"])
        return ArmResponse(200, self._document(item))

    def _delete(self, call: Call, type_: str) -> ArmResponse:
        self._state.group(call.group)
        item = find_or_none(self._state, call, type_)
        if item is None:
            return ArmResponse(204)
        if type_ == RESERVATION_GROUP and self._reservations(item):
            raise ArmError(
                "OperationNotAllowed",
                f"Capacity Reservation Group {item.name} cannot be deleted: it has capacity reservations.",
                409,
            )
        refuse_if_used(self._state, item)
        if type_ != DISK:
            detach(self._state, item)
            return ArmResponse(200)
        operation = self._operations.start(
            call, item.location, self._state.timing.shutdown, lambda: detach(self._state, item), failure=call.failure()
        )
        return ArmResponse(202, None, self._operations.headers(call, operation))

    # --- capacity reservations ----------------------------------------------------------------------------------------

    def _reservations(self, group: ArmResource) -> list[ArmResource]:
        return [item for item in self._state.items(RESERVATION) if item.key.startswith(group.key + "/")]

    def _put_reservation(self, call: Call) -> ArmResponse:
        group = self._state.open_group(call.group)
        parent_id = f"{group_id(group.name)}/providers/{RESERVATION_GROUP}/{call.params['parent']}"
        parent = group.items.get(parent_id.lower())
        if parent is None:
            raise ArmError("ParentResourceNotFound", f"The parent resource '{parent_id}' could not be found.", 404)
        existing = find_or_none(self._state, call, RESERVATION)
        location = check_location(call, RESERVATION, existing)
        size = hardware.size_of(str(dig(call.document, "sku", "name") or ""))
        if size is None or not hardware.is_sold(size, location):
            raise invalid(
                "sku.name", f"The value {dig(call.document, 'sku', 'name')} provided for the VM size is not valid."
            )
        if dig(call.document, "sku", "capacity") is None:
            raise missing("sku.capacity")
        id_ = f"{parent.id}/capacityReservations/{call.name}"
        tags = check_tags(call.document.get("tags"))
        item = existing or self._state.put(group, id_, RESERVATION, call.name, location, tags)
        item.tags = tags
        item.body = {name: value for name, value in call.document.items() if name in _KEPT}
        operation = self._operations.start(
            call, location, self._state.timing.operation, lambda: None, failure=call.failure()
        )
        return ArmResponse(200 if existing else 201, self._reservation(item), self._operations.headers(call, operation))

    def _get_reservation(self, call: Call) -> ArmResponse:
        item = find(self._state, call, RESERVATION)
        found = self._reservation(item)
        if _wants_view(call):
            found["properties"]["instanceView"] = self._view(item)
        return ArmResponse(200, found)

    def _reservation(self, item: ArmResource) -> Json:
        found = render(item)
        found["properties"]["virtualMachinesAssociated"] = [{"id": user.id} for user in self._users(item)]
        return found

    def _users(self, item: ArmResource) -> list[ArmResource]:
        group = item.id.rsplit("/capacityReservations/", 1)[0]
        return self._admission.users(group, dig(item.body, "sku", "name"))

    def _view(self, item: ArmResource) -> Json:
        """Return the instance view of a reservation: its capacity and its users."""
        return {
            "utilizationInfo": {
                "currentCapacity": dig(item.body, "sku", "capacity"),
                "virtualMachinesAllocated": [{"id": user.id} for user in self._users(item)],
            },
            "statuses": [
                {"code": "ProvisioningState/succeeded", "level": "Info", "displayStatus": "Provisioning succeeded"}
            ],
        }

    def _list_reservations(self, call: Call) -> ArmResponse:
        group = self._state.group(call.group)
        prefix = f"{group_id(group.name)}/providers/{RESERVATION_GROUP}/{call.params['parent']}/".lower()
        found = [item for item in group.items.values() if item.type == RESERVATION and item.key.startswith(prefix)]
        return self._listing.page_of(call, found, self._reservation)

    def _delete_reservation(self, call: Call) -> ArmResponse:
        item = find_or_none(self._state, call, RESERVATION)
        if item is None:
            return ArmResponse(204)
        if self._users(item):
            raise ArmError(
                "OperationNotAllowed",
                f"Capacity reservation {item.name} cannot be deleted: it has virtual machines.",
                409,
            )
        operation = self._operations.start(
            call, item.location, self._state.timing.shutdown, lambda: self._state.remove(item)
        )
        return ArmResponse(202, None, self._operations.headers(call, operation))

    def reserve(self, group: str, location: str, zone: str, size: Size, count: int, tags: dict[str, str]) -> str:
        """Create a capacity reservation in a new reservation group, and return the id of that group."""
        number = self._state.number()
        owner = self._state.add(self._state.group(group), RESERVATION_GROUP, f"reserved-{number:x}", location, tags)
        if zone:
            owner.body["zones"] = [zone]
        name = f"of-{size.name.lower().replace('_', '-')}"
        item = self._state.put(
            self._state.group(group), f"{owner.id}/capacityReservations/{name}", RESERVATION, name, location, dict(tags)
        )
        item.body = {"sku": {"name": size.name, "capacity": count}, "zones": [zone] if zone else None}
        properties(item)["provisioningTime"] = None
        return owner.id

    # --- offerings ----------------------------------------------------------------------------------------------

    def _usages(self, call: Call) -> ArmResponse:
        region = _region(call)
        used = self._admission.usage(region)
        families = sorted({size.family for size in hardware.sizes().values() if hardware.is_sold(size, region)})
        named = [(REGIONAL, "Total Regional vCPUs"), (SPOT, "Total Regional Low-priority vCPUs")]
        named += [(family, f"{family} vCPUs") for family in families]
        value = [
            {
                "limit": self._admission.limit(region, name),
                "unit": "Count",
                "currentValue": used.get(name, 0),
                "name": {"value": name, "localizedValue": title},
            }
            for name, title in named
        ]
        return ArmResponse(200, {"value": value})

    def _skus(self, call: Call) -> ArmResponse:
        text = call.query.get("$filter", "")
        wanted = ""
        if text:
            head, _, tail = text.strip().partition(" eq ")
            if head.strip().lower() != "location" or not tail.strip().startswith("'"):
                raise invalid(
                    "$filter", f"The filter '{text}' is not supported; SKUs can be filtered by location only."
                )
            wanted = tail.strip().strip("'").lower()
        entries = [
            (size, region)
            for size in hardware.sizes().values()
            for region in hardware.regions()
            if wanted in ("", region) and hardware.is_sold(size, region)
        ]
        items = [
            ArmResource(
                f"{region}/{size.name}",
                f"{size.name.lower()}/{region}",
                size.name,
                "",
                region,
                {},
                self._state.now(),
                number,
            )
            for number, (size, region) in enumerate(entries, start=1)
        ]
        return self._listing.page_of(
            call, items, lambda item: self._sku(hardware.sizes()[item.name.lower()], item.location)
        )

    def _gallery_image(self, call: Call) -> ArmResponse:
        path = f"{group_id(call.group)}/providers/{GALLERY}/{call.params['parent']}/images/{call.name}"
        details = self._state.gallery_images.get(path.lower())
        if details is None:
            raise not_found(GALLERY, f"{call.params['parent']}/images/{call.name}", call.group)
        found: Json = {"hyperVGeneration": "V2", "osType": "Linux", "features": details.features}
        if details.plan:
            found["purchasePlan"] = dict(details.plan)
        return ArmResponse(200, {"id": path, "name": call.name, "properties": found})

    def _sku(self, size: Size, region: str) -> Json:
        zones = [] if (region, size.name) in self._state.without_zones else list(hardware.zones_of(region))
        return {
            "resourceType": "virtualMachines",
            "name": size.name,
            "tier": "Standard",
            "size": size.name.removeprefix("Standard_"),
            "family": size.family,
            "locations": [region],
            "locationInfo": [{"location": region, "zones": zones, "zoneDetails": []}],
            "capabilities": [{"name": name, "value": value} for name, value in capabilities(size, region).items()],
            "restrictions": self._admission.restrictions_of(size, region),
        }


def _wants_view(call: Call) -> bool:
    return call.query.get("$expand", "").lower() == "instanceview"


def _region(call: Call) -> str:
    region = call.params["location"].lower().replace(" ", "")
    if region not in hardware.regions():
        raise ArmError(
            "NoRegisteredProviderFound",
            f"No registered resource provider found for location '{region}' and API version '{call.version}' for type 'locations'.",
        )
    return region


def _image_versions(call: Call) -> ArmResponse:
    names = (call.params["publisher"], call.params["offer"], call.params["sku"])
    region = _region(call)
    found = list(images.versions(*names))
    if not found:
        raise _no_image(call)
    if call.query.get("$orderby", "").lower() == "name desc":
        found.reverse()
    top = call.query.get("$top", "")
    found = found[: int(top)] if top.isdigit() else found
    return ArmResponse(200, [images.document(*names, region, version) for version in found])


def _image_version(call: Call) -> ArmResponse:
    names = (call.params["publisher"], call.params["offer"], call.params["sku"])
    region, version = _region(call), call.name
    versions = images.versions(*names)
    if version == "latest" and versions:
        version = versions[-1]
    if version not in versions:
        raise _no_image(call)
    document = images.document(*names, region, version)
    details = images.details_of(dict(zip(("publisher", "offer", "sku"), names, strict=True)), {})
    properties: Json = {
        "hyperVGeneration": "V2",
        "architecture": images.architecture(*names),
        "osDiskImage": {"operatingSystem": "Linux"},
        "features": details.features,
    }
    if details.plan:
        properties["plan"] = dict(details.plan)
    return ArmResponse(200, document | {"properties": properties})


def _no_image(call: Call) -> ArmError:
    wanted = "/".join(call.params[name] for name in ("publisher", "offer", "sku"))
    return ArmError("ImageNotFound", f"The image {wanted} was not found in subscription {SUBSCRIPTION}.", 404)
