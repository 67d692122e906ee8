"""Moves the end of life of nodes, in the tags that their timers and the reaper read."""

from datetime import datetime
from typing import Any, Final

from multicompute.errors import MulticomputeError
from multicompute.node import NodeState
from multicompute.provider import TAG_EXPIRES_AT, Selector, expiry_tag
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place, retryable
from multicompute_azure._errors import is_gone, translate_errors
from multicompute_azure._list import nodes_of, scale_sets
from multicompute_azure._resources import owned_groups
from multicompute_azure._session import Clients

# Azure has no call that tags many resources.
_AT_ONCE: Final = 16
_Target = tuple[str, Place]


def set_expiry(clients: Clients, selector: Selector, expires_at: datetime | None) -> None:
    """Write the expiry tag of the selected nodes, their scale sets and the resource group, see `Provider.set_expiry`.

    Raises:
        TransientError: Azure did not find one of them when its tag was written, but lists it.
        MulticomputeError: a call failed, or was refused; others may have succeeded.
    """
    body = {"operation": "Merge", "properties": {"tags": {TAG_EXPIRES_AT: expiry_tag(expires_at)}}}

    def write(target: _Target) -> MulticomputeError | None:
        resource_id, place = target
        tags: Any = clients.resources.tags
        try:
            with translate_errors("tags.updateAtScope", place):
                tags.begin_update_at_scope(resource_id.lstrip("/"), body, polling=False)
        except MulticomputeError as error:
            if not is_gone(error.code):
                raise
            return error
        return None

    targets = _targets(clients, selector)
    answers = zip(targets, in_parallel(write, targets, at_once=_AT_ONCE), strict=True)
    missed = {target: error for target, error in answers if error}
    if not missed:
        return
    # One that is gone by now needs no tag. One that is still listed would be terminated at its old expiry.
    for target in _targets(clients, selector):
        if error := missed.get(target):
            resource_id, place = target
            text = f"{resource_id} exists, but was not found when its tags were written"
            raise retryable(text, code=error.code or "", place=place) from error


def _targets(clients: Clients, selector: Selector) -> list[_Target]:
    targets: list[_Target] = []
    for item in scale_sets(clients, selector):
        live = [node for node in nodes_of(clients, item) if node.state is not NodeState.GONE]
        targets += [(node.id, item.place) for node in live]
        targets.append((item.id, item.place))
    if selector.token is None:
        groups = owned_groups(clients, selector)
        targets += [(str(group["id"]), Place("azure", str(group.get("location") or ""))) for group in groups]
    return targets
