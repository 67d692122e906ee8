"""Moves the end of life of nodes: the label that others read, and the metadata that the node itself reads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from multicompute.clock import Clock
from multicompute.errors import InvalidRequestError
from multicompute.provider import TAG_EXPIRES_AT, Selector, expiry_tag
from multicompute_gcp._discover import disks, instances
from multicompute_gcp._errors import Place, log, refused, retryable, translate_errors
from multicompute_gcp._labels import last_of, region_of
from multicompute_gcp._operation import wait
from multicompute_gcp._session import CALL, Clients
from multicompute_gcp._teardown import AT_ONCE
from multicompute_gcp._tpu_discover import find, labels_in, zone_of
from multicompute_gcp._tpu_launch import is_over

if TYPE_CHECKING:
    from google.cloud.compute_v1 import Operation

Begin = Callable[[], "Operation"]
"""Asks for a change that takes its time."""
_ENDING: Final = ("STOPPING", "DEPROVISIONING", "TERMINATED", "DELETING")
# Labels and metadata are written within seconds.
_MOVED_WITHIN: Final = timedelta(seconds=45)
_LOOK_EVERY: Final = timedelta(milliseconds=200)


def move_machines(
    clients: Clients, selector: Selector, expires_at: datetime | None, place: Place, *, clock: Clock
) -> None:
    """Move the end of the selected machines, and in the labels of their disks, which may outlive them.

    Raises:
        InvalidRequestError: Compute Engine itself ends one of them earlier, and that can't be moved while it runs.
        MulticomputeError: one of the changes was refused, or taken and then failed; others may be made.
    """
    found = [item for item in instances(clients, selector, place, with_lease=True) if item.get("status") not in _ENDING]
    for item in found:
        _check_limit(item, expires_at)
    value = expiry_tag(expires_at)
    calls: list[Begin] = []
    for item in found:
        calls += [_relabel(clients, item, value, place), _remember(clients, item, value, place)]
    if found:
        calls += [_relabel_disk(clients, item, value, place) for item in disks(clients, selector, place)]
    _run([partial(_to_its_end, clients, begin, place, clock) for begin in calls])


def _to_its_end(clients: Clients, begin: Begin, place: Place, clock: Clock) -> None:
    """Make a change and wait until it is made: Compute Engine may take it and fail afterwards, and the node would end at its old time."""
    done, said = wait(clients, begin(), place, clock=clock, at_most=_MOVED_WITHIN)
    if said is not None:
        raise refused(said, operation="set the end of life", place=place)
    if not done:
        raise retryable("the new end of life is not written yet", code="NotReady", place=place)


def _check_limit(item: dict[str, Any], expires_at: datetime | None) -> None:
    """Hold the new end against the time limit that the machine was made with."""
    stamp = ((item.get("resourceStatus") or {}).get("scheduling") or {}).get("terminationTimestamp")
    if not stamp:
        return
    limit = datetime.fromisoformat(str(stamp))
    name, zone = str(item["name"]), last_of(item["zone"])
    if expires_at is None:
        log.warning("gcp %s: %s has no end of life any more, but Compute Engine deletes it at %s", zone, name, limit)
    elif expires_at > limit:
        raise InvalidRequestError(
            f"gcp {zone}: {name} can't live until {expires_at:%Y-%m-%d %H:%M} UTC: Compute Engine deletes it at "
            f"{limit:%Y-%m-%d %H:%M}, a limit that can't be moved while it runs",
            provider="gcp",
            region=region_of(zone),
            zone=zone,
            code="MaxRunDuration",
            hint="launch with a longer ttl=, or set [providers.gcp] extension_room before the launch",
        )


def _relabel(clients: Clients, item: dict[str, Any], value: str, place: Place) -> Begin:
    call = {**_address(clients, item), "instances_set_labels_request_resource": _labelled(item, value)}

    def set_labels() -> "Operation":
        with translate_errors("instances.setLabels", place):
            return clients.instances().set_labels_unary(request=call, **CALL)

    return set_labels


def _relabel_disk(clients: Clients, item: dict[str, Any], value: str, place: Place) -> Begin:
    call = {
        "project": clients.project,
        "zone": last_of(item["zone"]),
        "resource": str(item["name"]),
        "zone_set_labels_request_resource": _labelled(item, value),
    }

    def set_labels() -> "Operation":
        with translate_errors("disks.setLabels", place):
            return clients.disks().set_labels_unary(request=call, **CALL)

    return set_labels


def _labelled(item: dict[str, Any], value: str) -> dict[str, Any]:
    """Labels are set as a whole; the fingerprint makes sure that nobody has changed them meanwhile."""
    labels = {**(item.get("labels") or {}), TAG_EXPIRES_AT: value}
    return {"labels": labels, "label_fingerprint": item.get("labelFingerprint", "")}


def _remember(clients: Clients, item: dict[str, Any], value: str, place: Place) -> Begin:
    metadata = item.get("metadata") or {}
    kept = [entry for entry in metadata.get("items") or () if entry.get("key") != TAG_EXPIRES_AT]
    body = {
        "fingerprint": metadata.get("fingerprint", ""),
        "items": [{"key": entry["key"], "value": entry.get("value", "")} for entry in kept]
        + [{"key": TAG_EXPIRES_AT, "value": value}],
    }
    call = {**_address(clients, item), "metadata_resource": body}

    def set_metadata() -> "Operation":
        with translate_errors("instances.setMetadata", place):
            return clients.instances().set_metadata_unary(request=call, **CALL)

    return set_metadata


def _address(clients: Clients, item: dict[str, Any]) -> dict[str, Any]:
    return {"project": clients.project, "zone": last_of(item["zone"]), "instance": str(item["name"])}


def move_slices(
    clients: Clients, selector: Selector, expires_at: datetime | None, place: Place, *, clock: Clock
) -> None:
    """Move the end of the selected slices; one that is still in the queue takes it from the ledger when it is there."""
    value = expiry_tag(expires_at)
    found = [item for item in find(clients, selector, place).nodes if item.get("state") not in _ENDING]
    _run([_update(clients, item, value, Place(region_of(zone_of(item)), zone_of(item)), clock) for item in found])


def _update(clients: Clients, item: dict[str, Any], value: str, place: Place, clock: Clock) -> Callable[[], object]:
    node = {
        "name": str(item["name"]),
        "labels": {**labels_in(item), TAG_EXPIRES_AT: value},
        "metadata": {**(item.get("metadata") or {}), TAG_EXPIRES_AT: value},
    }
    call = {"node": node, "update_mask": {"paths": ["labels", "metadata"]}}

    def update() -> None:
        with translate_errors("nodes.patch", place):
            name = clients.tpu().update_node(request=call, **CALL).operation.name
        end = clock.now() + _MOVED_WITHIN
        while not is_over(clients, str(name), "nodes.patch", place):
            if clock.now() >= end:
                raise retryable("the new end of life is not written yet", code="NotReady", place=place)
            clock.sleep(_LOOK_EVERY)

    return update


def _run(calls: list[Callable[[], object]]) -> None:
    if len(calls) < 2:
        for call in calls:
            call()
        return
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="multicompute-gcp") as pool:
        for task in [pool.submit(call) for call in calls]:
            task.result()
