"""Moves the end of life of instances, in the labels that listings show and in the metadata that the node's timer reads."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from multicompute.clock import Clock
from multicompute.provider import TAG_EXPIRES_AT, Selector, expiry_tag
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place, invalid_request
from multicompute_gcp._errors import log, translate_errors
from multicompute_gcp._gang import AT_ONCE
from multicompute_gcp._list import disks, has_tags, instances, zone_of
from multicompute_gcp._names import region_of, token_of
from multicompute_gcp._operations import wait
from multicompute_gcp._session import CALL, Clients
from multicompute_gcp._tags import labels_of

_ENDING: Final = ("STOPPING", "DEPROVISIONING")
"""The states of instances that are about to stop or end. Stopped instances may be started again, so they get the new expiry."""


class _Change(NamedTuple):
    """A call that changes a label or the metadata."""

    operation: str
    call: Callable[..., Any]
    request: dict[str, Any]


def set_expiry(
    clients: Clients,
    selector: Selector,
    expires_at: datetime | None,
    place: Place,
    *,
    clock: Clock,
    restore: Mapping[str, str] | None = None,
) -> None:
    """Write the expiry of the selected instances, and of their disks, which may outlive them; see `Provider.set_expiry`.

    Raises:
        InvalidRequestError: Compute Engine itself deletes one of them earlier, which can't be changed while it runs.
        MulticomputeError: A change was refused, or accepted and then failed; the others may be made.
    """
    found = [item for item in instances(clients, selector, place, for_expiry=True) if item.get("status") not in _ENDING]
    for item in found:
        _check_limit(item, expires_at)
    value = expiry_tag(expires_at)

    def labels(item: dict[str, Any]) -> dict[str, str] | None:
        if has_tags(item, selector):
            return {TAG_EXPIRES_AT: value}
        # Without the name that follows from our token it is not beyond doubt that the resource is ours.
        is_ours = token_of(str(item["name"]), selector.tokens) != ""
        return {**labels_of(restore), TAG_EXPIRES_AT: value} if restore and is_ours else None

    changes = [change for item in found for change in _changes_of(clients, item, value, labels(item))]
    of_disks = [
        _disk_change(clients, item, changed)
        for item in (disks(clients, selector, place) if found else ())
        if (changed := labels(item)) is not None
    ]

    def make(change: _Change) -> None:
        with translate_errors(change.operation, place):
            operation = change.call(request=change.request, **CALL)
        # Compute Engine may accept a change and fail afterwards; then the node would stop at its old expiry.
        wait(clients, operation, place, clock=clock).check(change.operation, place)

    # What is restored comes last for instances: a process that dies in between leaves instances without labels, which show what is missing.
    for step in (of_disks, changes) if restore else ([*changes, *of_disks],):
        in_parallel(make, step, at_once=AT_ONCE)


def _check_limit(item: dict[str, Any], expires_at: datetime | None) -> None:
    """Compare the new expiry with the time limit with which the instance was created."""
    stamp = ((item.get("resourceStatus") or {}).get("scheduling") or {}).get("terminationTimestamp")
    if not stamp:
        return
    limit = datetime.fromisoformat(str(stamp))
    name, zone = str(item["name"]), zone_of(item)
    if expires_at is None:
        log.warning("gcp %s: %s has no expiry any more, but Compute Engine deletes it at %s", zone, name, limit)
    elif expires_at > limit:
        raise invalid_request(
            f"{name} can't run until {expires_at:%Y-%m-%d %H:%M} UTC: Compute Engine deletes it at "
            f"{limit:%Y-%m-%d %H:%M}, which can't be changed while it runs",
            code="MaxRunDuration",
            place=Place("gcp", region_of(zone), zone),
            hint="launch with a longer ttl=, or set [providers.gcp] extension_room before the launch",
        )


def _changes_of(clients: Clients, item: dict[str, Any], value: str, labels: Mapping[str, str] | None) -> list[_Change]:
    """Return the changes of an instance; `labels` are the labels to set, None for none."""
    where = {"project": clients.project, "zone": zone_of(item), "instance": str(item["name"])}
    service, metadata = clients.instances(), item.get("metadata") or {}
    entries = [
        {"key": entry["key"], "value": entry.get("value", "")}
        for entry in metadata.get("items") or ()
        if entry.get("key") != TAG_EXPIRES_AT
    ]
    body = {
        "fingerprint": metadata.get("fingerprint", ""),
        "items": [*entries, {"key": TAG_EXPIRES_AT, "value": value}],
    }
    changes = [_Change("instances.setMetadata", service.set_metadata_unary, {**where, "metadata_resource": body})]
    if labels is not None:
        request = {**where, "instances_set_labels_request_resource": _labels(item, labels)}
        changes.insert(0, _Change("instances.setLabels", service.set_labels_unary, request))
    return changes


def _disk_change(clients: Clients, item: dict[str, Any], labels: Mapping[str, str]) -> _Change:
    where = {"project": clients.project, "zone": zone_of(item), "resource": str(item["name"])}
    request = {**where, "zone_set_labels_request_resource": _labels(item, labels)}
    return _Change("disks.setLabels", clients.disks().set_labels_unary, request)


def _labels(item: dict[str, Any], changed: Mapping[str, str]) -> dict[str, Any]:
    """Return all labels, because they can only be set together; Google refuses them if another process has changed them since."""
    return {"labels": {**(item.get("labels") or {}), **changed}, "label_fingerprint": item.get("labelFingerprint", "")}
