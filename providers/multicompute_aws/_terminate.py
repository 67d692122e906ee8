"""Terminates what is selected: instances first, then what was created with them; lists again after the last deletion."""

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from multicompute.provider import Resource, Selector, Teardown
from multicompute.provider_kit.calls import batches
from multicompute.provider_kit.seam import merge_teardowns, unlisted
from multicompute.provider_kit.vendor_errors import Place, one_line
from multicompute_aws._errors import code_of, message_of, translate_errors
from multicompute_aws._list import dependent_kinds, dependents, instance_resource, instances, live_instances
from multicompute_aws._session import Clients
from multicompute_aws._tags import tag_filters

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# EC2 advises against more in one call.
_TERMINATED_AT_ONCE: Final = 1000
_INSTANCE_ID: Final = re.compile(r"\bi-[0-9a-f]{8,17}\b")
# Refusals because of single instances of a batch: the others must be terminated all the same.
_ABOUT_SOME: Final = frozenset({"InvalidInstanceID.NotFound", "OperationNotPermitted", "IncorrectInstanceState"})
_GONE: Final = re.compile(r"\.(NotFound|Unknown)$")
# Codes of a deletion that is not possible yet; the engine repeats the teardown.
_NOT_YET: Final = frozenset(
    {
        *("DependencyViolation", "InvalidPlacementGroup.InUse", "InvalidGroup.InUse", "VolumeInUse", "IncorrectState"),
        *("InvalidNetworkInterface.InUse", "InvalidParameterValue"),
    }
)


def terminate(clients: Clients, selector: Selector) -> Teardown:
    """Take one step of the teardown of what is selected, see `Provider.terminate`."""

    def in_region(ec2: "EC2Client", place: Place) -> Teardown:
        found = _live(ec2, selector, place)
        running = [item.id for item in found if item.billable]
        refused = ""
        if running:
            refused = terminate_instances(ec2, running, place)
            found = _live(ec2, selector, place)
        if found:
            # What instances use can't be deleted until they are gone; listing it now would only cost calls.
            return Teardown(tuple(found), refused or f"{len(found)} instances in {place.region} to terminate")
        return _delete_dependents(ec2, selector, place)

    return merge_teardowns(clients.in_regions(selector.region, in_region))


def _live(ec2: "EC2Client", selector: Selector, place: Place) -> list[Resource]:
    """Return the selected instances that exist, and those known from a launch that no listing shows: not listed is not gone (I4)."""
    if not selector.node_ids or selector.region is None:
        return [instance_resource(item, place) for item in live_instances(ec2, selector, place)]
    # Without a filter on the state: an instance that is listed as terminated is gone, one that is not listed may only be late.
    listed = {item["InstanceId"]: item for item in instances(ec2, tag_filters(selector), place)}
    found = [instance_resource(item, place) for item in listed.values() if item["State"]["Name"] != "terminated"]
    hidden = unlisted(selector, listed)
    return found + [Resource("aws", "instance", item, place.region, billable=True) for item in hidden]


def terminate_instances(ec2: "EC2Client", ids: Iterable[str], place: Place) -> str:
    """Terminate instances, in batches; one that EC2 does not know, or protects, does not keep the others from being terminated.

    Returns:
        EC2's answer about those that it did not terminate, or "". "Not found" does not prove that one is gone: the next listing does.
    """
    work = [list(batch) for batch in batches(list(ids), _TERMINATED_AT_ONCE)]
    refused = ""
    while work:
        batch = work.pop()
        with translate_errors("TerminateInstances", place):
            try:
                ec2.terminate_instances(InstanceIds=batch)
            except ClientError as error:
                if code_of(error) not in _ABOUT_SOME:
                    raise
                work += _without_refused(batch, str(error))
                refused = one_line(f"{code_of(error)}: {message_of(error)}", 300)
    return refused


def _without_refused(batch: list[str], message: str) -> list[list[str]]:
    """Return the batches to try next: all but the instances that the message names, or halves if it names none; a single one is given up."""
    named = set(_INSTANCE_ID.findall(message)) & set(batch)
    if named:
        rest = [item for item in batch if item not in named]
        return [rest] if rest else []
    middle = len(batch) // 2
    return [batch[:middle], batch[middle:]] if middle else []


def _delete_dependents(ec2: "EC2Client", selector: Selector, place: Place) -> Teardown:
    """Delete what no instance uses any more; the groups belong to the cluster and stay if the selector names an attempt."""
    delete: dict[str, Callable[[str], Any]] = {
        "spot-instances-request": lambda name: ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=[name]),
        "volume": lambda name: ec2.delete_volume(VolumeId=name),
        "network-interface": lambda name: ec2.delete_network_interface(NetworkInterfaceId=name),
        "security-group": lambda name: ec2.delete_security_group(GroupId=name),
        "placement-group": lambda name: ec2.delete_placement_group(GroupName=name),
    }
    remaining: list[Resource] = []
    in_use = ""
    for kind in dependent_kinds(selector):
        items = dependents(ec2, kind, selector, place)
        for item in items:
            in_use = _delete(delete[kind], item, place) or in_use
        if items:
            remaining += dependents(ec2, kind, selector, place)
    waiting_for = in_use or f"{len(remaining)} deletes in {place.region}"
    return Teardown(tuple(remaining), waiting_for if remaining else "")


def _delete(delete: Callable[[str], Any], item: Resource, place: Place) -> str:
    """Delete one resource; return why it can't be deleted yet, or ""."""
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
