"""Resource groups, Resource Manager's list of resources, tags, and the description of the subscription."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta

from multicompute_azure.local import hardware
from multicompute_azure.local.arm import (
    SUBSCRIPTION,
    TENANT,
    ArmError,
    ArmResponse,
    Json,
    check_tags,
    dig,
    group_id,
    not_found,
)
from multicompute_azure.local.listing import Listing, parse_filter
from multicompute_azure.local.operations import Operations
from multicompute_azure.local.relations import blockers, detach
from multicompute_azure.local.routes import Call, Handler
from multicompute_azure.local.state import (
    NETWORK,
    PARTS,
    SCALE_SET,
    SECURITY_GROUP,
    SUBNET,
    UNIFORM_VM,
    VM,
    ArmResource,
    Group,
    Operation,
    State,
)

_NAME = re.compile(r"[-\w._()]{0,89}[-\w_()]$")
_FORCED = {"microsoft.compute/virtualmachines", "microsoft.compute/virtualmachinescalesets"}
_TAGS = "/providers/Microsoft.Resources/tags/default"
_LAST = (NETWORK, SUBNET, SECURITY_GROUP)


class Groups:
    """The operations of Microsoft.Resources."""

    def __init__(self, state: State, listing: Listing, operations: Operations) -> None:
        """Answer from `state`, with pages by `listing`; deletions run as `operations`."""
        self._state = state
        self._listing = listing
        self._operations = operations

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {
            "resourceGroups.createOrUpdate": self._put,
            "resourceGroups.get": lambda call: ArmResponse(200, render_group(self._state.group(call.group))),
            "resourceGroups.checkExistence": self._head,
            "resourceGroups.update": self._patch,
            "resourceGroups.delete": self._delete,
            "resourceGroups.list": self._list,
            "resources.list": lambda call: self._listing.resources(call, None),
            "resources.listByResourceGroup": lambda call: self._listing.resources(call, self._state.group(call.group)),
            "tags.getAtScope": self._tags,
            "tags.createOrUpdateAtScope": self._tags,
            "tags.updateAtScope": self._tags,
            "tags.deleteAtScope": self._tags,
            "providers.get": _provider,
            "providers.register": _provider,
            "subscriptions.get": lambda _: ArmResponse(200, _subscription()),
            "subscriptions.list": lambda _: ArmResponse(200, {"value": [_subscription()]}),
            "subscriptions.listLocations": lambda _: ArmResponse(200, {"value": _locations(self._state.locations)}),
        }

    def _put(self, call: Call) -> ArmResponse:
        name, key = call.group, call.group.lower()
        if not _NAME.fullmatch(name):
            raise ArmError("InvalidResourceGroup", f"The resource group name '{name}' is not valid.")
        location = str(call.document["location"]).lower().replace(" ", "")
        if location not in self._state.locations:
            raise ArmError(
                "LocationNotAvailableForResourceGroup",
                f"The provided location '{location}' is not available for resource group. "
                f"List of available regions is '{','.join(sorted(self._state.locations))}'.",
            )
        tags = check_tags(call.document.get("tags"))
        known = self._state.groups.get(key)
        if known is None:
            group = Group(name, location, tags, self._state.now(), call.document.get("managedBy") or "")
            self._state.groups[key] = group
            return ArmResponse(201, render_group(group))
        if known.location != location:
            raise ArmError(
                "InvalidResourceGroupLocation",
                f"Invalid resource group location '{location}'. The Resource group already exists in location '{known.location}'.",
                409,
            )
        self._state.open_group(name).tags = tags
        return ArmResponse(200, render_group(known))

    def _head(self, call: Call) -> ArmResponse:
        return ArmResponse(204 if call.group.lower() in self._state.groups else 404)

    def _patch(self, call: Call) -> ArmResponse:
        group = self._state.open_group(call.group)
        if call.document.get("tags") is not None:
            group.tags = check_tags(call.document["tags"])
        return ArmResponse(200, render_group(group))

    def _list(self, call: Call) -> ArmResponse:
        test, _ = parse_filter(call.query.get("$filter", ""))
        groups = [group for group in self._state.groups.values() if test(group)]
        items = [
            ArmResource(
                group_id(group.name),
                group.name.lower(),
                group.name,
                "",
                group.location,
                group.tags,
                group.created_at,
                number,
            )
            for number, group in enumerate(groups, start=1)
        ]
        return self._listing.page_of(call, items, lambda item: render_group(self._state.groups[item.key]))

    def _delete(self, call: Call) -> ArmResponse:
        group = self._state.group(call.group)
        forced = {part.strip().lower() for part in call.query.get("forcedeletiontypes", "").split(",") if part.strip()}
        if forced - _FORCED:
            raise ArmError(
                "InvalidForceDeletionTypes",
                f"The force deletion types '{', '.join(sorted(forced - _FORCED))}' are not supported.",
            )
        if group.deletion is None or group.deletion.status == "Failed":
            group.deletion = self._begin_delete(call, group)
        return ArmResponse(202, None, self._operations.headers(call, group.deletion))

    def _begin_delete(self, call: Call, group: Group) -> Operation:
        failure = call.failure()
        group.state = "Deleting"
        step = self._state.timing.shutdown / 3
        outcome: list[ArmError | None] = [None]
        for item in group.items.values():
            if item.machine is not None:
                item.machine.is_deleting = True

        def delete_machines() -> None:
            for item in [entry for entry in group.items.values() if entry.type in (VM, UNIFORM_VM, SCALE_SET)]:
                detach(self._state, item)

        def delete_rest() -> None:
            outcome[0] = failure or self._blocked(group)
            for item in list(group.items.values()):
                if outcome[0] is None and item.type not in _LAST:
                    detach(self._state, item)

        def end() -> ArmError | None:
            if outcome[0] is not None:
                group.state = "Succeeded"
                return outcome[0]
            # A new group of the same name can be created only after this.
            self._state.groups.pop(group.name.lower(), None)
            return None

        self._state.after(step, delete_machines)
        self._state.after(step * 2 + self._reserved(group), delete_rest)
        return self._operations.start(call, group.location, step * 3 + self._reserved(group), end)

    def _reserved(self, group: Group) -> timedelta:
        """Return how long network interfaces that are not deleted with their machines delay the deletion."""
        kept = any(
            nic.delete_option != "Delete"
            for item in group.items.values()
            if item.machine is not None
            for nic in item.machine.nics
        )
        return self._state.nic_reservation if kept else timedelta(0)

    def _blocked(self, group: Group) -> ArmError | None:
        used = [
            item.id
            for item in group.items.values()
            if any(b.key not in group.items for b in blockers(self._state, item))
        ]
        if not used:
            return None
        return ArmError(
            "ResourceGroupDeletionBlocked",
            f"Deletion of resource group '{group.name}' failed as resources with identifiers '{','.join(used)}' could not be "
            "deleted. The provisioning state of the resource group will be rolled back.",
            409,
        )

    def _tags(self, call: Call) -> ArmResponse:
        scope = "/" + call.params["scope"].strip("/")
        owner = self._owner(scope)
        given = check_tags(dig(call.document, "properties", "tags") or {})
        tags = _written(call, owner.tags, given)
        if call.request.method == "GET" or not self._state.timing.operation:
            if failure := call.failure():
                raise failure
            owner.tags = tags
            return ArmResponse(200, _tags_document(scope, owner.tags))
        # "Tags - Update At Scope" (Resource Manager's reference): 202, and the outcome at the URL in the header Location.
        failure = call.failure()

        def finish() -> None:
            # Merged with what is there by then, since other writes may end in between.
            owner.tags = owner.tags if failure else _written(call, owner.tags, given)

        operation = self._operations.start(call, "", self._state.timing.operation, finish, failure=failure)
        return ArmResponse(202, None, self._operations.headers(call, operation))

    def _owner(self, scope: str) -> Group | ArmResource:
        parts = scope.split("/")
        if len(parts) == 5:
            return self._state.group(parts[4])
        found = self._state.find(scope)
        # Instances of Uniform scale sets have no tags of their own: "Azure Resource Manager resource tagging" does not know them
        # ("Orchestration modes"); for what is below them it answers like this (Azure/azure-sdk-for-go#23395).
        if found is None or found.type in PARTS:
            raise not_found("/".join(parts[6:-1]), parts[-1], parts[4] if len(parts) > 4 else "")
        return found


_PATCHES: Mapping[str, Callable[[dict[str, str], dict[str, str]], dict[str, str]]] = {
    "merge": lambda old, new: old | new,
    "replace": lambda old, new: new,
    "delete": lambda old, new: {name: value for name, value in old.items() if new.get(name) != value},
}


def _written(call: Call, old: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """Return the tags after a call."""
    if call.request.method == "PATCH":
        return check_tags(_patched(old, given, str(call.document.get("operation"))))
    return {"PUT": given, "DELETE": {}}.get(call.request.method, old)


def _tags_document(scope: str, tags: dict[str, str]) -> Json:
    return {
        "id": scope + _TAGS,
        "name": "default",
        "type": "Microsoft.Resources/tags",
        "properties": {"tags": dict(tags)},
    }


def _patched(old: dict[str, str], new: dict[str, str], operation: str) -> dict[str, str]:
    return _PATCHES[operation.lower()](dict(old), new)


def render_group(group: Group) -> Json:
    """Return the document of a resource group."""
    document: Json = {
        "id": group_id(group.name),
        "name": group.name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": group.location,
        "tags": dict(group.tags),
        "properties": {"provisioningState": group.state},
    }
    if group.managed_by:
        document["managedBy"] = group.managed_by
    return document


def _subscription() -> Json:
    return {
        "id": f"/subscriptions/{SUBSCRIPTION}",
        "subscriptionId": SUBSCRIPTION,
        "tenantId": TENANT,
        "displayName": "local",
        "state": "Enabled",
        "authorizationSource": "RoleBased",
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "PayAsYouGo_2014-09-01",
            "spendingLimit": "Off",
        },
    }


def _locations(regions: frozenset[str]) -> list[Json]:
    """Return the locations of the subscription; which physical zone is its zone 1 differs between regions and subscriptions."""
    return [
        {
            "id": f"/subscriptions/{SUBSCRIPTION}/locations/{region}",
            "name": region,
            "type": "Region",
            "displayName": region,
            "regionalDisplayName": region,
            "metadata": {"regionType": "Physical"},
            "availabilityZoneMappings": [
                {"logicalZone": zone, "physicalZone": f"{region}-az{int(zone) % len(hardware.zones_of(region)) + 1}"}
                for zone in hardware.zones_of(region)
            ],
        }
        for region in hardware.regions()
        if region in regions
    ]


def _provider(call: Call) -> ArmResponse:
    namespace = call.params["namespace"]
    document = {
        "id": f"/subscriptions/{SUBSCRIPTION}/providers/{namespace}",
        "namespace": namespace,
        "registrationState": "Registered",
        "registrationPolicy": "RegistrationRequired",
        "resourceTypes": [],
    }
    return ArmResponse(200, document)
