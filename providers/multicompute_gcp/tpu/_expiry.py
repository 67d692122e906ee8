"""Moves the end of life of slices, in the labels that listings show and in the metadata that the timers of the hosts read."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from multicompute.clock import Clock
from multicompute.errors import CapacityError
from multicompute.provider import TAG_EXPIRES_AT, Selector, expiry_tag
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place, retryable
from multicompute_gcp._errors import WHILE_PREEMPTED, translate_errors
from multicompute_gcp._gang import AT_ONCE
from multicompute_gcp._names import last_segment, region_of, token_of
from multicompute_gcp._operations import CHANGED_WITHIN, Outcome
from multicompute_gcp._session import CALL, Clients
from multicompute_gcp._tags import labels_of
from multicompute_gcp.tpu._list import find, has_tags, labels_in, zone_of
from multicompute_gcp.tpu._operations import is_finished

_POLL_INTERVAL: Final = timedelta(milliseconds=200)
_OPERATION: Final = "nodes.patch"
# A node that does not run can't be changed: "update is not supported while in state PREEMPTED" (SkyPilot's `_gcp_handler`).
_ENDING: Final = ("STOPPING", "STOPPED", "TERMINATED", "PREEMPTED", "DELETING", "HIDING", "HIDDEN")
# "Cloud TPU API does not allow setting labels on pending instances" (`GCPTPUVMInstance.set_labels` in SkyPilot's
# sky/provision/gcp/instance_utils.py, with these states). The timer of such a node has the old expiry.
_PENDING: Final = ("CREATING", "STARTING", "RESTARTING", "REPAIRING")


def set_expiry(
    clients: Clients,
    selector: Selector,
    expires_at: datetime | None,
    place: Place,
    *,
    clock: Clock,
    restore: Mapping[str, str] | None = None,
) -> None:
    """Write the expiry of the selected slices, see `Provider.set_expiry`.

    A slice that is still in the queue has no node, so its expiry can't be changed.

    Raises:
        TransientError: A slice is being created or started, and can be changed only when it runs; the others have the new expiry.
    """
    value = expiry_tag(expires_at)

    def update(item: dict[str, Any]) -> None:
        try:
            change(item)
        except CapacityError as error:
            # Preempted since it was listed: it does not come back.
            if not re.search(WHILE_PREEMPTED, error.vendor_message or ""):
                raise

    def change(item: dict[str, Any]) -> None:
        node = {"name": str(item["name"]), "metadata": {**(item.get("metadata") or {}), TAG_EXPIRES_AT: value}}
        if has_tags(item, selector):
            node["labels"] = {**labels_in(item), TAG_EXPIRES_AT: value}
        elif restore and token_of(last_segment(item["name"]), selector.tokens):
            node["labels"] = {**labels_in(item), **labels_of(restore), TAG_EXPIRES_AT: value}
        request = {"node": node, "update_mask": {"paths": ["labels", "metadata"] if "labels" in node else ["metadata"]}}
        zone = Place("gcp", region_of(zone_of(item)), zone_of(item))
        with translate_errors(_OPERATION, zone):
            name = str(clients.tpu().update_node(request=request, **CALL).operation.name)
        end = clock.now() + CHANGED_WITHIN
        while not is_finished(clients, name, _OPERATION, zone):
            if clock.now() >= end:
                Outcome(is_done=False).check(_OPERATION, zone)
            clock.sleep(_POLL_INTERVAL)

    found = [item for item in find(clients, selector, place).nodes if item.get("state") not in _ENDING]
    pending = [item for item in found if item.get("state") in _PENDING]
    in_parallel(update, [item for item in found if item not in pending], at_once=AT_ONCE)
    for item in pending:
        text = f"{last_segment(item['name'])} is {str(item['state']).lower()}: its expiry can be changed when it runs"
        raise retryable(text, code="NotReady", place=Place("gcp", region_of(zone_of(item)), zone_of(item)))
