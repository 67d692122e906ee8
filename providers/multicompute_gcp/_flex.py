"""Launches flex-start nodes: one with instances.insert, several with a managed instance group and a resize request.

https://cloud.google.com/compute/docs/instances/about-flex-start-vms names these ways; bulkInsert is none of them.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from google.api_core import exceptions as sdk

from multicompute.clock import Clock
from multicompute.errors import (
    AccessDeniedError,
    InvalidRequestError,
    MulticomputeError,
    QuotaError,
    ThrottledError,
    TransientError,
)
from multicompute.node import Node
from multicompute.offer import Part
from multicompute.provider import LaunchRequest
from multicompute.provider_kit.vendor_errors import Place, VendorAnswer, meaning_of, retryable, unavailable_here
from multicompute_gcp._errors import MEANINGS, refusal, translate_errors
from multicompute_gcp._gang import attempt_of
from multicompute_gcp._groups import ACTIVE, Item, answer_of_request, groups
from multicompute_gcp._list import pending_node
from multicompute_gcp._names import instance_names, last_segment, part_name, request_id
from multicompute_gcp._network import Network
from multicompute_gcp._operations import wait
from multicompute_gcp._session import CALL, Clients
from multicompute_gcp._tags import description_of

if TYPE_CHECKING:
    from google.cloud.compute_v1 import Operation

# https://cloud.google.com/compute/docs/instances/create-flex-start-vm: how long a request for one instance may wait for capacity.
_SHORTEST_WAIT: Final = timedelta(seconds=90)
_LONGEST_WAIT: Final = timedelta(hours=2)
# How long a launch watches a resize request. If there is capacity, it leaves the queue within seconds; later changes are seen by listings.
_WATCHED_FOR: Final = timedelta(seconds=15)
_LOCAL_WATCHED_FOR: Final = timedelta(milliseconds=500)
_POLL_INTERVAL: Final = timedelta(seconds=1)
_LOCAL_POLL_INTERVAL: Final = timedelta(milliseconds=20)
# https://cloud.google.com/compute/docs/instance-groups/about-workload-policies
_WORKLOAD_TYPES: Final = ("a3-highgpu-8g", "a3-megagpu-", "a3-ultragpu-", "a4-", "a4x-", "h4d-")
_RESIZE: Final = "instanceGroupManagerResizeRequests.insert"
# Errors of the last attempt that more waiting does not change.
_FINAL: Final = (QuotaError, AccessDeniedError, InvalidRequestError)


def is_flex_start(part: Part) -> bool:
    """Return whether a part is bought as flex-start."""
    return part.offer.purchase == "flex_start" and part.reservation is None


def single_insert(
    clients: Clients, request: LaunchRequest, part: Part, name: str, properties: Item, *, failures: int, wait: timedelta
) -> "Operation | None":
    """Request one instance, which waits for capacity for at most `wait` if it is the complete gang.

    Otherwise the nodes of another part would run, and be billed, while this one waits.

    Args:
        clients: The clients.
        request: The launch.
        part: A part with one node.
        name: The name of the instance.
        properties: Its properties, as bulkInsert takes them.
        failures: How many calls for this launch failed for a reason that passes.
        wait: How long the engine waits for the node.

    Returns:
        The operation; None if an instance of this name exists, which only an earlier launch with this token can have created.
    """
    place = Place.of(part.offer)
    valid = min(max(request.attempt_timeout or wait, _SHORTEST_WAIT), _LONGEST_WAIT)
    body = {**_with_urls(properties, place.zone), "name": name}
    if len(request.parts) == 1:
        body["params"] = {"request_valid_for_duration": {"seconds": int(valid.total_seconds())}}
    call = {
        "project": clients.project,
        "zone": place.zone,
        "request_id": request_id("insert", request.token, name, place.zone, str(failures)),
        "instance_resource": body,
    }
    with translate_errors("instances.insert", place):
        try:
            return clients.instances().insert_unary(request=call, **CALL)
        except sdk.Conflict as error:
            if "already exists" not in str(error.message):
                raise
            return None


def _with_urls(properties: Item, zone: str) -> Item:
    """Return the properties with partial URLs in place of the names of types, as instances.insert takes them."""
    found = {**properties, "machine_type": f"zones/{zone}/machineTypes/{properties['machine_type']}"}
    found["disks"] = [
        {**disk, "initialize_params": {**made, "disk_type": f"zones/{zone}/diskTypes/{made['disk_type']}"}}
        for disk in properties["disks"]
        for made in (disk["initialize_params"],)
    ]
    return found


class GroupLauncher:
    """A launcher of flex-start gangs, all or nothing: a group without instances, and a request for all of them at once."""

    def __init__(self, clients: Clients, network: Network, clock: Clock) -> None:
        self._clients = clients
        self._network = network
        self._clock = clock
        self._failures: Counter[str] = Counter()
        is_local = clients.settings.is_local
        self._watched_for = _LOCAL_WATCHED_FOR if is_local else _WATCHED_FOR
        self._poll_interval = _LOCAL_POLL_INTERVAL if is_local else _POLL_INTERVAL

    def used_zones(self, request: LaunchRequest) -> set[str]:
        """Return the zones in which an earlier launch with this token made a group."""
        place = Place("gcp", request.region)
        return {last_segment(item["zone"]) for item in groups(self._clients, attempt_of(request), place)}

    def start(self, request: LaunchRequest, index: int, part: Part, properties: Item) -> None:
        """Make the template, the group and the resize request of a part, as far as an earlier launch with this token has not made them.

        Raises:
            AccessDeniedError: Groups can't be listed, so that one that is made could not be found again.
        """
        place, name = Place.of(part.offer), part_name(request.token, index)
        groups(self._clients, attempt_of(request), place)
        project, description = self._clients.project, description_of(request.tags)
        template = {"name": name, "description": description, "properties": properties}
        where = {"project": project, "region": place.region}
        self._make(
            "regionInstanceTemplates.insert",
            self._clients.templates().insert_unary,
            {**where, "instance_template_resource": template},
            request,
            place,
        )
        zonal = {"project": project, "zone": place.zone}
        group = self._group(request, name, description, place)
        self._make(
            "instanceGroupManagers.insert",
            self._clients.groups().insert_unary,
            {**zonal, "instance_group_manager_resource": group},
            request,
            place,
        )
        # Named one by one, as Google's own Slurm does it (mig_flex.py in cluster-toolkit), so that listings find the nodes of the launch.
        resize = {
            "name": name,
            "description": description,
            "instances": [{"name": each} for each in instance_names(request, index, part)],
            "requested_run_duration": properties["scheduling"]["max_run_duration"],
        }
        self._make(
            _RESIZE,
            self._clients.resize_requests().insert_unary,
            {**zonal, "instance_group_manager": name, "instance_group_manager_resize_request_resource": resize},
            request,
            place,
        )

    def _group(self, request: LaunchRequest, name: str, description: str, place: Place) -> Item:
        group: Item = {
            "name": name,
            "description": description,
            "base_instance_name": name,
            "instance_template": f"projects/{self._clients.project}/regions/{place.region}/instanceTemplates/{name}",
            "target_size": 0,
            # Otherwise the group makes a node again that was terminated.
            "instance_lifecycle_policy": {"default_action_on_failure": "DO_NOTHING"},
            "update_policy": {"type_": "OPPORTUNISTIC"},
        }
        if request.fabric and place.instance_type.startswith(_WORKLOAD_TYPES):
            policy = self._network.workload_policy(request, place)
            path = f"projects/{self._clients.project}/regions/{place.region}/resourcePolicies/{policy}"
            group["resource_policies"] = {"workload_policy": path}
        return group

    def _make(self, operation: str, call: Callable[..., Any], body: Item, request: LaunchRequest, place: Place) -> None:
        """Make a call that creates something, and wait until it exists; something of this name is from an earlier launch."""
        key = _key(operation, request, place)
        unique = request_id(operation, request.token, place.zone, str(body), str(self._failures[key]))
        with translate_errors(operation, place):
            try:
                started = call(request={**body, "request_id": unique}, **CALL)
            except sdk.Conflict as error:
                if "already exists" not in str(error.message):
                    raise
                return
        outcome = wait(self._clients, started, place, clock=self._clock)
        # For the request id of a call that failed, Google would only report that failure again.
        self._failures[key] += outcome.error is not None
        outcome.check(operation, place)

    def outcome(self, request: LaunchRequest, index: int, part: Part) -> list[Node]:
        """Return the nodes of a part as soon as it is known that there is capacity for them, or after some seconds.

        Raises:
            MulticomputeError: The request has failed, or waits for something that waiting does not give.
        """
        place, name = Place.of(part.offer), part_name(request.token, index)
        end = self._clock.now() + self._watched_for
        while True:
            # Read before the request: an answer that takes long must not be the last one if it may show an earlier state.
            is_last = self._clock.now() >= end
            found = self._read(name, place)
            state, answer = str(found.get("state")), answer_of_request(found)
            if state in ("FAILED", "CANCELLED"):
                answer = answer or VendorAnswer(state, "the request has ended without instances")
                raise self._failure(answer, name, request, place)
            if state in ACTIVE and answer is not None and meaning_of(MEANINGS, answer).kind in _FINAL:
                raise self._failure(answer, name, request, place)
            if is_last and state in ACTIVE and len(request.parts) > 1:
                raise _still_waiting(answer, place)
            if state == "SUCCEEDED" or is_last:
                return [pending_node(each, request, part) for each in instance_names(request, index, part)]
            self._clock.sleep(self._poll_interval)

    def _read(self, name: str, place: Place) -> Item:
        url = self._clients.compute_url("zones", place.zone, "instanceGroupManagers", name, "resizeRequests", name)
        found = self._clients.get(url, "instanceGroupManagerResizeRequests.get", place)
        if found is None:
            raise retryable(f"the resize request {name} is not found yet", code="notFound", place=place)
        return found

    def _failure(self, answer: VendorAnswer, name: str, request: LaunchRequest, place: Place) -> MulticomputeError:
        """Return the error for a failed request; if it may be repeated, the request is deleted to make its name free."""
        error = refusal(answer, _RESIZE, place)
        if isinstance(error, (ThrottledError, TransientError)):
            self._failures[_key(_RESIZE, request, place)] += 1
            where = {"project": self._clients.project, "zone": place.zone, "instance_group_manager": name}
            with translate_errors("instanceGroupManagerResizeRequests.delete", place), suppress(sdk.NotFound):
                self._clients.resize_requests().delete_unary(request={**where, "resize_request": name}, **CALL)
        return error


def _still_waiting(answer: VendorAnswer | None, place: Place) -> MulticomputeError:
    """Return the error for a part that waits while the nodes of other parts may run and be billed."""
    text = "one part of the gang waits for capacity, and the others would be billed meanwhile"
    text += f": {answer.code}: {answer.message}" if answer else ""
    hint = "another zone, region, instance type or purchase may have it; keep_trying= waits for it"
    return unavailable_here(text, code="Queued", place=place, scope="zone", hint=hint)


def _key(operation: str, request: LaunchRequest, place: Place) -> str:
    return f"{operation} {request.token} {place.zone}"
