"""Scale sets, which create up to 1,000 machines in one call: Flexible ones, and Uniform ones with up to 100 in one placement group."""

from collections.abc import Mapping

from multicompute_azure.local import images, launch_rules, security
from multicompute_azure.local.admission import Admission, Demand
from multicompute_azure.local.arm import ArmError, ArmResponse, Json, check_tags, dig, group_id, invalid
from multicompute_azure.local.documents import check_location, find, find_or_none, find_reference, render
from multicompute_azure.local.instances import check_user_data
from multicompute_azure.local.listing import Listing
from multicompute_azure.local.machines import Machines
from multicompute_azure.local.network import Networks
from multicompute_azure.local.operations import Operations
from multicompute_azure.local.routes import Call, Handler
from multicompute_azure.local.state import SCALE_SET, ArmResource, Group, State

_SECRETS = ("adminPassword", "customData")
_PROFILE = "virtualMachineProfile"


class ScaleSets:
    """The scale sets and the operations on them.

    Attributes:
        partial: Whether a scale set that fails for lack of capacity keeps the machines that it got, billed.
    """

    def __init__(
        self,
        state: State,
        listing: Listing,
        operations: Operations,
        admission: Admission,
        machines: Machines,
        networks: Networks,
    ) -> None:
        """Answer from `state`; `machines` creates the instances that `admission` allows, on `networks`."""
        self._state = state
        self._listing = listing
        self._operations = operations
        self._admission = admission
        self._machines = machines
        self._networks = networks
        self.partial = True

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {
            "virtualMachineScaleSets.createOrUpdate": self._put,
            "virtualMachineScaleSets.get": lambda call: ArmResponse(200, document(find(self._state, call, SCALE_SET))),
            "virtualMachineScaleSets.update": self._patch,
            "virtualMachineScaleSets.delete": self._delete,
            "virtualMachineScaleSets.list": lambda call: self._listing.of_type(call, SCALE_SET, document),
            "virtualMachineScaleSets.listAll": lambda call: self._listing.of_type(call, SCALE_SET, document),
        }

    def members(self, scale_set: ArmResource) -> list[ArmResource]:
        """Return the machines of a scale set, except those that are being deleted."""
        return [
            item
            for item, machine in self._state.machines(scale_set.location)
            if machine.scale_set == scale_set.id and not machine.is_deleting
        ]

    def _put(self, call: Call) -> ArmResponse:
        group = self._state.open_group(call.group)
        existing = find_or_none(self._state, call, SCALE_SET)
        _refuse_unmet(call, existing)
        location = check_location(call, SCALE_SET, existing)
        tags = check_tags(call.document.get("tags"))
        if dig(call.document, "properties", "orchestrationMode") == "Flexible":
            # "This value will be added to VMSS Flex VM tags" (the SDK's `VirtualMachineScaleSetVMProfile.time_created`).
            check_tags({**tags, "timeCreated": ""})
        _refuse_while_deleting(existing)
        id_ = f"{group_id(group.name)}/providers/{SCALE_SET}/{call.name}"
        demand = self._check(call.document, call.name, id_, location, version=call.version)
        if existing is not None:
            launch_rules.refuse_changes(existing.body, call.document)
        live = len(self.members(existing)) if existing is not None else 0
        wanted = Demand(
            demand.size,
            location,
            demand.zones,
            max(demand.count - live, 0),
            demand.spot,
            demand.is_colocated,
            demand.reservation_group,
        )
        count, lack = self._admit(wanted)
        failure = call.failure()
        item = existing or self._state.put(group, id_, SCALE_SET, call.name, location, tags)
        item.tags, item.body = tags, _kept(call.document, existing)
        item.state = "Creating" if existing is None else "Updating"
        self._grow(group, item, wanted, count)
        for surplus in self.members(item)[demand.count :]:
            self._machines.delete(surplus)
        item.body["sku"]["capacity"] = demand.count
        return self._started(call, item, failure or lack, is_new=existing is None)

    def _admit(self, demand: Demand) -> tuple[int, ArmError | None]:
        """Return how many machines to create, and the error if these are not all."""
        if not demand.count:
            return 0, None
        self._admission.check_sold(demand)
        self._admission.check_quota(demand)
        count, lack = self._admission.allocate(demand)
        return (count if lack is None or self.partial else 0), lack

    def _grow(self, group: Group, item: ArmResource, demand: Demand, count: int) -> None:
        for number in range(count):
            self._machines.create(group, item, demand, number, item.tags)

    def _started(self, call: Call, item: ArmResource, failure: ArmError | None, *, is_new: bool) -> ArmResponse:
        def finish() -> None:
            item.state = "Succeeded" if failure is None else "Failed"

        delay = max(self._state.timing.operation, self._state.timing.boot)
        operation = self._operations.start(call, item.location, delay, finish, failure=failure)
        return ArmResponse(201 if is_new else 200, document(item), self._operations.headers(call, operation))

    def _check(self, given: Json, name: str, id_: str, location: str, *, version: str) -> Demand:
        """Check the document of a scale set, and return its demand."""
        launch_rules.check_shape(name, given)
        zones = tuple(given.get("zones") or ())
        size = launch_rules.check_size(dig(given, "sku", "name"), location, zones, f"{SCALE_SET}/{name}")
        if zones and (location, size.name) in self._state.without_zones:
            raise launch_rules.no_zones(zones, f"{SCALE_SET}/{name}", location)
        properties = given["properties"]
        profile = properties["virtualMachineProfile"]
        spot_price = self._state.prices.get((location, size.name, "spot"), size.spot_prices.get(location, 0.0))
        launch_rules.check_profile(profile, size, spot_price, mode=properties["orchestrationMode"])
        reference = dig(profile, "storageProfile", "imageReference") or {}
        details = images.details_of(reference, self._state.gallery_images)
        images.check_plan(details, given.get("plan"))
        security.check(profile, size, location, version, details)
        self._check_replication(reference, location)
        count = given["sku"]["capacity"]
        for config in profile["networkProfile"]["networkInterfaceConfigurations"]:
            self._check_network(config, id_, location, count)
        close = dig(properties, "proximityPlacementGroup", "id")
        if close:
            find_reference(self._state, close, by=id_, location=location)
        reservations = dig(profile, "capacityReservation", "capacityReservationGroup", "id") or ""
        is_colocated = bool(close) or bool(properties.get("singlePlacementGroup"))
        if reservations:
            find_reference(self._state, reservations, by=id_, location=location)
            self._check_reserved(reservations, size.name, zones, is_colocated=is_colocated)
        return Demand(
            size, location, zones, count, profile.get("priority") in ("Spot", "Low"), is_colocated, reservations
        )

    def _check_replication(self, image: Json, location: str) -> None:
        """Refuse a gallery image that is not in the region: pulumi/pulumi-aws#5129 and Azure/bicep-registry-modules#462 have the errors."""
        name = image.get("id") or image.get("sharedGalleryImageId") or image.get("communityGalleryImageId") or ""
        if location in self._state.image_regions.get(name.lower(), frozenset({location})):
            return
        if "/versions/" in name.lower():
            text = f"The gallery image {name} is not available in {location} region. Please contact image owner to replicate to this region, or change your requested region."
            raise ArmError("GalleryImageNotFound", text, 404, target="imageReference")
        text = f"In region {location}, the following list of Shared Image Gallery images referenced from the deployment template were not found: {name}."
        raise ArmError("InvalidParameter", text, target="imageReference")

    def _check_reserved(self, group: str, size: str, zones: tuple[str, ...], *, is_colocated: bool) -> None:
        """Refuse what a reservation excludes according to "On-demand capacity reservation" in Microsoft's documentation."""
        if is_colocated:
            raise ArmError(
                "OperationNotAllowed",
                "A capacity reservation can be used neither with a proximity placement group nor with a single placement group.",
                409,
            )
        if not self._admission.reserved(group, size, zones):
            raise ArmError(
                "OperationNotAllowed",
                f"The capacity reservation group {group} has no reservation for {size} there.",
                409,
            )

    def _check_network(self, config: Json, id_: str, location: str, count: int) -> None:
        security_group = dig(config, "properties", "networkSecurityGroup", "id")
        if security_group:
            find_reference(self._state, security_group, by=id_, location=location)
        check_tags(config.get("tags"))
        for entry in config["properties"]["ipConfigurations"]:
            subnet = find_reference(self._state, entry["properties"]["subnet"]["id"], by=id_, location=location)
            self._networks.pool(subnet.id, 0 if self._state.find(id_) else count)
            check_tags(dig(entry, "properties", "publicIPAddressConfiguration", "tags"))

    def _patch(self, call: Call) -> ArmResponse:
        group = self._state.open_group(call.group)
        item = find(self._state, call, SCALE_SET)
        _refuse_while_deleting(item)
        _refuse_stale(call, item)
        launch_rules.check_update(call.document)
        tags = item.tags if call.document.get("tags") is None else check_tags(call.document["tags"])
        if call.document.get("sku") is None:
            item.tags = tags
            _change_model(item, call.document)
            return ArmResponse(200, document(item))
        merged = {**item.body, "location": item.location, "sku": {**item.body["sku"], **call.document["sku"]}}
        demand = self._check(merged, call.name, item.id, item.location, version=call.version)
        members = self.members(item)
        wanted = Demand(
            demand.size,
            item.location,
            demand.zones,
            max(demand.count - len(members), 0),
            demand.spot,
            demand.is_colocated,
            demand.reservation_group,
        )
        count, lack = self._admit(wanted)
        item.tags = tags
        _change_model(item, call.document)
        item.state = "Updating"
        self._grow(group, item, wanted, count)
        for surplus in members[demand.count :]:
            self._machines.delete(surplus)
        item.body["sku"] = {**item.body["sku"], "capacity": demand.count}
        return self._started(call, item, call.failure() or lack, is_new=False)

    def _delete(self, call: Call) -> ArmResponse:
        self._state.group(call.group)
        item = find_or_none(self._state, call, SCALE_SET)
        if item is None:
            return ArmResponse(204)
        failure = call.failure()
        item.state = "Deleting"
        members = self.members(item)
        for member in members:
            if member.machine is not None:
                member.machine.is_deleting = True

        def finish() -> ArmError | None:
            return self._finish_deletion(item, members, failure)

        operation = self._operations.start(call, item.location, self._state.timing.shutdown, finish, failure=failure)
        return ArmResponse(202, None, self._operations.headers(call, operation))

    def _finish_deletion(
        self, item: ArmResource, members: list[ArmResource], failure: ArmError | None
    ) -> ArmError | None:
        """Delete the machines and the scale set. A failed deletion stops half way, and machines that are guarded stay."""
        kept = [member for member in members if not self._state.guards.allow_delete(member.id)]
        gone = members if failure is None else members[: len(members) // 2]
        for member in members:
            if member.machine is not None:
                member.machine.is_deleting = False
        for member in gone:
            if member not in kept and self._state.find(member.id) is member:
                self._machines.delete(member)
        if failure is None and not kept:
            self._state.remove(item)
            return None
        item.state = "Failed"
        return failure or self._state.guards.refusal_of(kept[0].id)


def _refuse_unmet(call: Call, existing: ArmResource | None) -> None:
    """Refuse a PUT whose condition does not hold: with "If-None-Match: *" it creates a scale set and changes none."""
    condition = call.request.headers.get("if-none-match", "")
    if condition not in ("", "*"):
        raise invalid(
            "If-None-Match", f"The value '{condition}' of the header 'If-None-Match' is not supported; use '*'."
        )
    if condition and existing is not None:
        raise ArmError(
            "PreconditionFailed", f"The resource {existing.id} exists, and the request asks that it does not.", 412
        )


def _refuse_stale(call: Call, item: ArmResource) -> None:
    """Refuse a change of a version that is not the present one: the header If-Match has the etag of the document that was read."""
    wanted = call.request.headers.get("if-match", "")
    if wanted not in ("", "*", etag_of(item)):
        text = f"The resource {item.id} has changed: its etag is {etag_of(item)}, and the request is for {wanted}."
        raise ArmError("PreconditionFailed", text, 412)


def _change_model(item: ArmResource, given: Json) -> None:
    """Change what new instances are created from; those that exist keep their own ("Modify a Virtual Machine Scale Set")."""
    item.body["_version"] = int(item.body.get("_version") or 0) + 1
    profile = dig(given, "properties", "virtualMachineProfile") or {}
    custom, user = dig(profile, "osProfile", "customData"), profile.get("userData")
    if custom is None and user is None:
        return
    item.body["_model"] = int(item.body.get("_model") or 0) + 1
    if custom is not None:
        item.body["_customData"] = custom
    if user is not None:
        check_user_data(user)
        old = item.body["properties"]
        item.body["properties"] = {**old, _PROFILE: {**old[_PROFILE], "userData": user}}


def etag_of(item: ArmResource) -> str:
    """Return the etag of a scale set, which every change of it changes."""
    return f'"{int(item.body.get("_version") or 0)}"'


def _refuse_while_deleting(item: ArmResource | None) -> None:
    if item is not None and item.state == "Deleting":
        raise ArmError(
            "OperationNotAllowed", f"The operation cannot be performed because {item.id} is marked for deletion.", 409
        )


def _kept(given: Json, existing: ArmResource | None) -> Json:
    """Return a copy of the parts of a PUT that the scale set stores."""
    version = int(existing.body.get("_version") or 0) + 1 if existing is not None else 1
    kept = {name: value for name, value in given.items() if name in ("sku", "plan", "zones", "identity", "placement")}
    properties = dict(given["properties"])
    profile = dict(properties["virtualMachineProfile"])
    profile["osProfile"] = {name: value for name, value in profile["osProfile"].items() if name not in _SECRETS}
    kept["_customData"] = given["properties"]["virtualMachineProfile"]["osProfile"].get("customData") or ""
    properties["virtualMachineProfile"] = profile
    kept["sku"] = dict(given["sku"])
    kept |= {"_version": version, "_model": version}
    return kept | {"properties": properties}


def document(item: ArmResource) -> Json:
    """Return the document of a scale set."""
    found = {name: value for name, value in render(item).items() if not name.startswith("_")}
    found["etag"] = etag_of(item)
    found["properties"] = {**found["properties"], "uniqueId": f"{item.number:08x}-0000-4000-a000-{item.number:012x}"}
    profile = found["properties"].get(_PROFILE) or {}
    found["properties"][_PROFILE] = {name: value for name, value in profile.items() if name != "userData"}
    return found
