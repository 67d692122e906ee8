"""Deletes what is selected: instances first, then what was made beside them; asks EC2 after the last delete."""

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from multicompute.provider import Resource, Selector, Teardown
from multicompute_aws._discover import (
    alive,
    instance_resource,
    instances,
    network_interfaces,
    placement_groups,
    security_groups,
    spot_requests,
    volumes,
)
from multicompute_aws._errors import Place, code_of, message_of, translate_errors
from multicompute_aws._tags import tag_filters

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# EC2 advises against more in one call.
BATCH: Final = 1000
_INSTANCE_ID: Final = re.compile(r"\bi-[0-9a-f]{8,17}\b")
# Refusals that are about single instances of a batch, and must not save the others.
_ABOUT_SOME: Final = frozenset({"InvalidInstanceID.NotFound", "OperationNotPermitted", "IncorrectInstanceState"})
_GONE: Final = re.compile(r"\.(NotFound|Unknown)$")
# Answers that mean "not yet"; the caller comes again.
_NOT_YET: Final = frozenset(
    {
        *("DependencyViolation", "InvalidPlacementGroup.InUse", "InvalidGroup.InUse", "VolumeInUse", "IncorrectState"),
        *("InvalidNetworkInterface.InUse", "InvalidParameterValue"),
    }
)

Lister = Callable[["EC2Client", Selector, Place], list[Resource]]


def tear_down(ec2: "EC2Client", selector: Selector, place: Place) -> Teardown:
    """One step of the teardown of what is selected in one region; see `Provider.terminate`."""
    found = _not_gone(ec2, selector, place)
    running = [item.id for item in found if item.billable]
    refused = ""
    if running:
        refused = terminate_instances(ec2, running, place)
        found = _not_gone(ec2, selector, place)
    if found:
        # What lies beside them is in use until they are gone; listing it now would only cost calls.
        return Teardown(tuple(found), refused or f"{len(found)} instances in {place.region} to terminate")
    return _delete_beside(ec2, selector, place)


def _not_gone(ec2: "EC2Client", selector: Selector, place: Place) -> list[Resource]:
    """The selected instances that live, and those known from a launch that no listing shows: not shown is not gone (I4)."""
    if not selector.node_ids or selector.region is None:
        return [instance_resource(item, place) for item in alive(ec2, selector, place)]
    # Without a filter on the state: an instance that is listed as terminated is gone, one that is not listed may only be late.
    listed = list(instances(ec2, tag_filters(selector), place))
    shown = {item["InstanceId"] for item in listed}
    found = [instance_resource(item, place) for item in listed if item["State"]["Name"] != "terminated"]
    hidden = [item for item in selector.node_ids if item not in shown]
    return found + [Resource("aws", "instance", item, place.region, billable=True) for item in hidden]


def terminate_instances(ec2: "EC2Client", ids: Iterable[str], place: Place) -> str:
    """Terminate instances, in batches; one that EC2 does not know or protects does not save the others.

    Returns:
        What EC2 said about those that it did not terminate, or "". "Not found" is no proof of gone: the next listing tells.
    """
    known, refused = list(ids), ""
    work = [known[start : start + BATCH] for start in range(0, len(known), BATCH)]
    while work:
        batch = work.pop()
        with translate_errors("TerminateInstances", place):
            try:
                ec2.terminate_instances(InstanceIds=batch)
            except ClientError as error:
                if code_of(error) not in _ABOUT_SOME:
                    raise
                work += _without_refused(batch, str(error))
                refused = f"{code_of(error)}: {message_of(error)}"
    return refused


def _without_refused(batch: list[str], message: str) -> list[list[str]]:
    """What to ask for again: all but those that the message names, or halves where it names none; a single one is given up."""
    named = set(_INSTANCE_ID.findall(message)) & set(batch)
    if named:
        rest = [item for item in batch if item not in named]
        return [rest] if rest else []
    middle = len(batch) // 2
    return [batch[:middle], batch[middle:]] if middle else []


def _delete_beside(ec2: "EC2Client", selector: Selector, place: Place) -> Teardown:
    """Delete what no instance uses any more; the groups belong to the cluster, and stay when only an attempt is meant."""
    kinds: list[tuple[Lister, Callable[[str], Any]]] = [
        (spot_requests, lambda name: ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=[name])),
        (volumes, lambda name: ec2.delete_volume(VolumeId=name)),
        (network_interfaces, lambda name: ec2.delete_network_interface(NetworkInterfaceId=name)),
    ]
    if selector.token is None:
        kinds += [
            (security_groups, lambda name: ec2.delete_security_group(GroupId=name)),
            (placement_groups, lambda name: ec2.delete_placement_group(GroupName=name)),
        ]
    remaining: list[Resource] = []
    said = ""
    for listed, delete in kinds:
        items = listed(ec2, selector, place)
        for item in items:
            said = _delete(delete, item, place) or said
        if items:
            remaining += listed(ec2, selector, place)
    waiting_for = said or f"{len(remaining)} deletes in {place.region}"
    return Teardown(tuple(remaining), waiting_for if remaining else "")


def _delete(delete: Callable[[str], Any], item: Resource, place: Place) -> str:
    """Delete one resource; returns why not yet, or ""."""
    with translate_errors(f"delete {item.kind} {item.id}", place):
        try:
            delete(item.id)
        except ClientError as error:
            code = code_of(error)
            if _GONE.search(code):
                return ""
            if code in _NOT_YET:
                return f"{item.kind} {item.id} is still in use"
            raise
    return ""
