"""Lists and deletes our managed instance groups, their resize requests and their instance templates, which flex-start gangs are made of.

None of them can have labels: their tags are in their descriptions, and their names are made from tokens.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any, Final

from google.api_core import exceptions as sdk

from multicompute.errors import AccessDeniedError
from multicompute.node import Node, NodeState
from multicompute.provider import TAG_ATTEMPT, Resource, Selector
from multicompute.provider_kit.tags import is_selected as has_selected_tags
from multicompute.provider_kit.vendor_errors import Place, VendorAnswer
from multicompute_gcp._errors import answer_of, cause_of, log, main_error, translate_errors
from multicompute_gcp._names import attempt_pattern, last_segment, region_of, token_of
from multicompute_gcp._session import CALL, PAGE, Clients
from multicompute_gcp._tags import described_tags

ACTIVE: Final = ("CREATING", "ACCEPTED")
"""The states of a resize request that may still create instances."""
_REASONS: Final = {
    "CREATING": "being added to the queue",
    "ACCEPTED": "in the queue until there is capacity for all nodes",
}
_GROUP_FIELDS: Final = "name,zone,description,instanceTemplate"
_TEMPLATE_FIELDS: Final = "name,region,description"
_COMPLETENESS: Final = "items/*/warning/code,nextPageToken,unreachables"
# Codes of a deletion that is not possible yet: instances are still created, or the group still exists.
_NOT_YET: Final = (
    "resourceNotReady",
    "resourceInUseByAnotherResource",
    "RESOURCE_NOT_READY",
    "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE",
)
Item = dict[str, Any]


def groups(clients: Clients, selector: Selector, place: Place) -> list[Item]:
    """Return the selected groups, as Google describes them."""
    return _selected(clients, "instanceGroupManagers", _GROUP_FIELDS, selector, place)


def _selected(clients: Clients, kind: str, fields: str, selector: Selector, place: Place) -> list[Item]:
    if selector.only:
        return []
    listed = clients.aggregated(kind, place, fields=f"items/*/{kind}({fields}),{_COMPLETENESS}")
    return [item for item in listed if selector.region in (None, _region(item)) and _is_selected(item, selector)]


def _is_selected(item: Item, selector: Selector) -> bool:
    """Return whether something is ours, by its name and its description: a description alone may have been copied (I9)."""
    tags, name = described_tags(item.get("description")), str(item["name"])
    if token_of(name, selector.tokens):
        return True
    is_ours = re.fullmatch(attempt_pattern(tags.get(TAG_ATTEMPT, "")), name) is not None
    return is_ours and has_selected_tags(tags, selector)


def _region(item: Item) -> str:
    zone = last_segment(item.get("zone", ""))
    return region_of(zone) if zone else last_segment(item.get("region", ""))


def resize_requests(clients: Clients, group: Item, place: Place) -> list[Item]:
    """Return the resize requests of a group."""
    url = clients.compute_url(
        "zones", last_segment(group["zone"]), "instanceGroupManagers", str(group["name"]), "resizeRequests"
    )
    page = clients.get(url, "instanceGroupManagerResizeRequests.list", place, maxResults=PAGE) or {}
    return list(page.get("items", ()))


def resources(clients: Clients, selector: Selector, place: Place) -> list[Resource]:
    """Return the selected groups with their requests, and the selected templates; nothing where listing them is not allowed.

    An identity that may not list groups has not launched any: a launch of a group lists them first.
    """
    try:
        found = groups(clients, selector, place)
        made = [_resource("instance-group-manager", item) for item in found]
        for item in found:
            for request in resize_requests(clients, item, place):
                made.append(_resource("resize-request", {**request, "zone": item["zone"]}))
        templates = _selected(clients, "instanceTemplates", _TEMPLATE_FIELDS, selector, place)
    except AccessDeniedError as error:
        log.info("%s: managed instance groups are not listed: %s", place, error.message)
        return []
    return made + [_resource("instance-template", item) for item in templates]


def _resource(kind: str, item: Item) -> Resource:
    tags = described_tags(item.get("description"))
    return Resource("gcp", kind, str(item["name"]), _region(item), billable=False, tags=tags)


def delete(clients: Clients, selector: Selector, place: Place, *, zones: Collection[str] = ()) -> list[Resource]:
    """Take one step of the deletion of the selected groups and templates, and return what still exists.

    A request that waits in the queue is withdrawn first: otherwise it would create instances after the teardown.

    Args:
        clients: The clients.
        selector: What is selected.
        place: The place for errors.
        zones: The only zones to delete in, if any.
    """
    try:
        found = [item for item in groups(clients, selector, place) if not zones or last_segment(item["zone"]) in zones]
        templates = _selected(clients, "instanceTemplates", _TEMPLATE_FIELDS, selector, place)
    except AccessDeniedError as error:
        log.info("%s: managed instance groups are not listed: %s", place, error.message)
        return []
    if not found and not templates:
        return []
    for item in found:
        _withdraw(clients, item, place)
        where = {"project": clients.project, "zone": last_segment(item["zone"])}
        call = {**where, "instance_group_manager": str(item["name"])}
        _unless_busy("instanceGroupManagers.delete", clients.groups().delete_unary, call, place)
    for item in templates:
        where = {"project": clients.project, "region": last_segment(item.get("region", ""))}
        call = {**where, "instance_template": str(item["name"])}
        _unless_busy("regionInstanceTemplates.delete", clients.templates().delete_unary, call, place)
    return resources(clients, selector, place)


def _withdraw(clients: Clients, group: Item, place: Place) -> None:
    """Cancel the requests of a group that may still create instances; one that is just being created can't be cancelled yet."""
    for request in resize_requests(clients, group, place):
        if request.get("state") in ACTIVE:
            call = {**_within(clients, group), "resize_request": str(request["name"])}
            operation = "instanceGroupManagerResizeRequests.cancel"
            _unless_busy(operation, clients.resize_requests().cancel_unary, call, place, or_invalid=True)


def _within(clients: Clients, group: Item) -> dict[str, str]:
    zone = last_segment(group["zone"])
    return {"project": clients.project, "zone": zone, "instance_group_manager": str(group["name"])}


def _unless_busy(operation: str, call: Any, request: Item, place: Place, *, or_invalid: bool = False) -> None:
    """Make a call, unless what it is about is gone or not ready for it; `or_invalid` also allows Google to find the call invalid."""
    with translate_errors(operation, place):
        try:
            call(request=request, **CALL)
        except sdk.NotFound:
            return
        except sdk.GoogleAPICallError as error:
            is_busy = answer_of(error).code in _NOT_YET
            if not is_busy and not (or_invalid and isinstance(error, sdk.BadRequest)):
                raise


def delete_member(clients: Clients, name: str, zone: str, place: Place) -> Any:
    """Delete a member of a group through the group, which then does not expect it any more; return the operation.

    Returns:
        The operation; None if no group has this instance.
    """
    group, _, _ = name.rpartition("-")
    url = f"zones/{zone}/instances/{name}"
    call = {
        "project": clients.project,
        "zone": zone,
        "instance_group_manager": group,
        "instance_group_managers_delete_instances_request_resource": {
            "instances": [url],
            "skip_instances_on_validation_error": True,
        },
    }
    with translate_errors("instanceGroupManagers.deleteInstances", place):
        try:
            return clients.groups().delete_instances_unary(request=call, **CALL)
        except sdk.NotFound:
            return None


# --- the queue ----------------------------------------------------------------------------------------------------------


def queued_nodes(clients: Clients, selector: Selector, listed: Collection[str], place: Place) -> list[Node]:
    """Return the nodes of selected resize requests that are in no listing: they wait in the queue, or the request has failed."""
    try:
        found = groups(clients, selector, place)
    except AccessDeniedError:
        return []
    nodes: list[Node] = []
    for group in found:
        for request in resize_requests(clients, group, place):
            missing = [name for name in _names(request) if name not in listed]
            if missing and request.get("state") != "SUCCEEDED":
                machine_type = _machine_type(clients, group, place)
                nodes += [_queued(name, request, group, machine_type) for name in missing]
    return nodes


def _names(request: Item) -> list[str]:
    return [str(item.get("name", "")) for item in request.get("instances") or ()]


def _machine_type(clients: Clients, group: Item, place: Place) -> str:
    url = clients.compute_url("regions", _region(group), "instanceTemplates", last_segment(group["instanceTemplate"]))
    template = clients.get(url, "regionInstanceTemplates.get", place, fields="properties(machineType)") or {}
    return str((template.get("properties") or {}).get("machineType", ""))


def _queued(name: str, request: Item, group: Item, machine_type: str) -> Node:
    zone, state = last_segment(group["zone"]), str(request.get("state"))
    answer = answer_of_request(request)
    if state in ACTIVE:
        text = f"{state}: {_REASONS[state]}" + (f"; {answer.code}: {answer.message}" if answer else "")
    else:
        answer = answer or VendorAnswer(state, "the resize request has ended without instances")
        text = f"{answer.code}: {answer.message}"
    return Node(
        id=name,
        rank=-1,
        provider="gcp",
        instance_type=machine_type,
        region=region_of(zone),
        zone=zone,
        state=NodeState.PENDING if state in ACTIVE else NodeState.GONE,
        token=described_tags(group.get("description")).get(TAG_ATTEMPT, ""),
        reason=text,
        cause="" if state in ACTIVE else cause_of(answer or VendorAnswer(state)),
    )


def answer_of_request(request: Item) -> VendorAnswer | None:
    """Return the error with which a resize request, or the last attempt to fulfil it, has failed; None if there is none."""
    status = request.get("status") or {}
    errors: Sequence[Item] = (status.get("error") or {}).get("errors") or (
        (status.get("lastAttempt") or {}).get("error") or {}
    ).get("errors", ())
    if not errors:
        return None
    return VendorAnswer(*main_error([(str(e.get("code", "")), str(e.get("message", ""))) for e in errors]))
