"""Terminates what is selected: instances first, then what was created with them; lists again after the last deletion."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from botocore.exceptions import ClientError

from multicompute.provider import Resource, Selector, Teardown
from multicompute.provider_kit.calls import batches
from multicompute.provider_kit.seam import merge_teardowns, unlisted
from multicompute.provider_kit.vendor_errors import Place, one_line
from multicompute_aws._addresses import release_unused
from multicompute_aws._blockers import blocker_of, denial, protection
from multicompute_aws._errors import code_of, is_denial, message_of, translate_errors
from multicompute_aws._list import dependent_kinds, dependents, instance_resource, live_instances, selected_instances
from multicompute_aws._session import Clients

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# EC2 advises against more in one call.
_TERMINATED_AT_ONCE: Final = 1000
_INSTANCE_ID: Final = re.compile(r"\bi-[0-9a-f]{8,17}\b")
# Refusals because of single instances of a batch: the others must be terminated all the same.
_ABOUT_SOME: Final = frozenset({"InvalidInstanceID.NotFound", "OperationNotPermitted", "IncorrectInstanceState"})
# After so many instances that a policy denies in one step, the rest waits for the next step.
_DENIALS_AT_ONCE: Final = 20
_GONE: Final = re.compile(r"\.(NotFound|Unknown)$")
# Codes of a deletion that is not possible yet; the engine repeats the teardown.
_NOT_YET: Final = frozenset(
    {
        *("DependencyViolation", "InvalidPlacementGroup.InUse", "InvalidGroup.InUse", "VolumeInUse", "IncorrectState"),
        *("InvalidNetworkInterface.InUse", "InvalidParameterValue", "InvalidIPAddress.InUse"),
    }
)


def terminate(clients: Clients, selector: Selector) -> Teardown:
    """Take one step of the teardown of what is selected, see `Provider.terminate`."""

    def in_region(ec2: "EC2Client", place: Place) -> Teardown:
        found = _live(ec2, selector, place)
        running = [item.id for item in found if item.billable]
        refused = Refusals()
        if running:
            refused = terminate_instances(ec2, running, place)
            found = _live(ec2, selector, place)
        if found:
            # What instances use can't be deleted until they are gone; listing it now would only cost calls.
            waiting_for = refused.waiting_for or f"{len(found)} instances in {place.region} to terminate"
            return Teardown(tuple(found), waiting_for, refused.blocked_by(place))
        if selector.only:
            release_unused(ec2, selector, lambda: live_instances(ec2, replace(selector, only=()), place), place)
            return Teardown()
        return _delete_dependents(ec2, selector, place)

    return merge_teardowns(clients.in_regions(selector.region, in_region))


def _live(ec2: "EC2Client", selector: Selector, place: Place) -> list[Resource]:
    """Return the selected instances that exist, and those known from a launch that no listing shows: not listed is not gone (I4)."""
    if not selector.node_ids or selector.region is None:
        return [instance_resource(item, place) for item in live_instances(ec2, selector, place)]
    # Without a filter on the state: an instance that is listed as terminated is gone, one that is not listed may only be late.
    known = replace(selector, known_ids=(*selector.node_ids, *selector.known_ids))
    listed = {item["InstanceId"]: item for item in selected_instances(ec2, known, place)}
    found = [instance_resource(item, place) for item in listed.values() if item["State"]["Name"] != "terminated"]
    hidden = unlisted(selector, listed)
    return found + [Resource("aws", "instance", item, place.region, billable=True) for item in hidden]


class Refusals:
    """The answers of EC2 about instances that it did not terminate.

    Attributes:
        waiting_for: What passes by itself; "" for nothing. "Not found" does not prove that an instance is gone: the next
            listing does.
    """

    def __init__(self) -> None:
        self.waiting_for = ""
        self._protected: list[str] = []
        self._denied: list[str] = []
        self._denial = ""

    @property
    def denied(self) -> int:
        """The number of instances that a policy does not allow to terminate."""
        return len(self._denied)

    def add(self, error: ClientError, names: Iterable[str]) -> None:
        """Note a refusal of these instances."""
        code, message = code_of(error), message_of(error)
        if code == "OperationNotPermitted":
            self._protected += names
        elif is_denial(code):
            self._denied += names
            self._denial = message
        else:
            self.waiting_for = one_line(f"{code}: {message}", 300)

    def blocked_by(self, place: Place) -> str:
        """Return what does not pass by itself, and what to do about it; "" for nothing."""
        found = (protection(self._protected, place), denial(self._denied, self._denial))
        return "; ".join(text for text in found if text)


def terminate_instances(ec2: "EC2Client", ids: Iterable[str], place: Place) -> Refusals:
    """Terminate instances, in batches; one that EC2 does not know, protects or denies does not keep the others from being terminated.

    Raises:
        AccessDeniedError: Instances can't be terminated at all, as far as the answer tells.
    """
    work = [list(batch) for batch in batches(list(ids), _TERMINATED_AT_ONCE)]
    refused = Refusals()
    while work:
        batch = work.pop()
        with translate_errors("TerminateInstances", place):
            try:
                ec2.terminate_instances(InstanceIds=batch)
            except ClientError as error:
                named = set(_INSTANCE_ID.findall(str(error))) & set(batch)
                # A policy that denies single instances names them.
                if code_of(error) not in _ABOUT_SOME and not (is_denial(code_of(error)) and named):
                    raise
                refused.add(error, named or batch)
                if refused.denied < _DENIALS_AT_ONCE:
                    work += _without_refused(batch, named)
    return refused


def _without_refused(batch: list[str], named: set[str]) -> list[list[str]]:
    """Return the batches to try next: all but the instances that the answer named, or halves if it named none; a single one is given up."""
    if named:
        rest = [item for item in batch if item not in named]
        return [rest] if rest else []
    middle = len(batch) // 2
    return [batch[:middle], batch[middle:]] if middle else []


def _delete_dependents(ec2: "EC2Client", selector: Selector, place: Place) -> Teardown:
    """Delete what no instance uses any more; the groups belong to the cluster and stay if the selector names an attempt."""
    delete: dict[str, Callable[[str], Any]] = {
        "spot-instances-request": lambda name: ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=[name]),
        "elastic-ip": lambda name: ec2.release_address(AllocationId=name),
        "volume": lambda name: ec2.delete_volume(VolumeId=name),
        "network-interface": lambda name: ec2.delete_network_interface(NetworkInterfaceId=name),
        "security-group": lambda name: ec2.delete_security_group(GroupId=name),
        "placement-group": lambda name: ec2.delete_placement_group(GroupName=name),
    }
    remaining: list[Resource] = []
    in_use: list[Resource] = []
    blocked: list[str] = []
    for kind in dependent_kinds(selector):
        items = dependents(ec2, kind, selector, place)
        for item in items:
            answer = _delete(delete[kind], item, place)
            if is_denial(answer.code):
                blocked.append(denial([f"{kind} {item.id}"], answer.message))
            elif answer.code:
                in_use.append(item)
        if items:
            remaining += dependents(ec2, kind, selector, place)
    if not remaining:
        return Teardown()
    blocked += [text for item in in_use if (text := blocker_of(ec2, item, selector, place))]
    waiting_for = f"{in_use[-1].kind} {in_use[-1].id} is still in use" if in_use else ""
    return Teardown(tuple(remaining), waiting_for or f"{len(remaining)} deletes in {place.region}", "; ".join(blocked))


class _Answer(NamedTuple):
    """EC2's refusal of a deletion; without a code it was accepted, or nothing was left to delete."""

    code: str = ""
    message: str = ""


def _delete(delete: Callable[[str], Any], item: Resource, place: Place) -> _Answer:
    """Delete one resource; return why it can't be deleted now, if so."""
    with translate_errors(f"delete {item.kind} {item.id}", place):
        try:
            delete(item.id)
        except ClientError as error:
            code = code_of(error)
            if _GONE.search(code):
                return _Answer()
            if code in _NOT_YET or is_denial(code):
                return _Answer(code, message_of(error))
            raise
    return _Answer()
