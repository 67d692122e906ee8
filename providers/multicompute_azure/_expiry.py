"""Moves the end of life of nodes, in the tags that their timers and the reaper read, and sets tags again that were removed."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, NamedTuple

from multicompute.errors import MulticomputeError
from multicompute.node import NodeState
from multicompute.provider import TAG_EXPIRES_AT, TAG_ID, Selector, expiry_tag
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place, retryable
from multicompute_azure._errors import is_gone, translate_errors
from multicompute_azure._list import listed_nodes, named_tokens, scale_sets
from multicompute_azure._names import parse_id, set_names, token_of
from multicompute_azure._resources import named_resources, owned_groups
from multicompute_azure._session import Clients
from multicompute_azure._tags import has_tag

# Azure has no call that tags many resources.
_AT_ONCE: Final = 16


class _Target(NamedTuple):
    """A resource whose tags are written."""

    id: str
    place: Place
    is_restored: bool = False
    is_node: bool = False


def set_expiry(
    clients: Clients, selector: Selector, expires_at: datetime | None, restore: Mapping[str, str] | None = None
) -> None:
    """Write the expiry tag of the selected nodes, their scale sets and the resource group, see `Provider.set_expiry`.

    With `restore`, what lacks our tags gets all of them again, if it is named from a token or the cluster's id: also the disks, interfaces
    and addresses of the nodes.

    Raises:
        TransientError: Azure did not find one of them when its tag was written, but lists it.
        MulticomputeError: A call failed, or was refused; others may have succeeded.
    """
    expiry = {TAG_EXPIRES_AT: expiry_tag(expires_at)}

    def write(target: _Target) -> MulticomputeError | None:
        tags: Any = clients.resources.tags
        body = {
            "operation": "Merge",
            "properties": {"tags": {**(restore or {}), **expiry} if target.is_restored else expiry},
        }
        try:
            with translate_errors("tags.updateAtScope", target.place):
                tags.begin_update_at_scope(target.id.lstrip("/"), body, polling=False)
        except MulticomputeError as error:
            if not is_gone(error.code):
                raise
            return error
        return None

    targets = _targets(clients, selector, restores=restore is not None)
    # What is restored comes last for nodes: a process that dies in between leaves nodes without tags, which show what is missing.
    last = [target for target in targets if target.is_restored and target.is_node]
    missed: dict[str, MulticomputeError] = {}
    for step in ([target for target in targets if target not in last], last):
        answers = zip(step, in_parallel(write, step, at_once=_AT_ONCE), strict=True)
        missed |= {target.id: error for target, error in answers if error}
    if not missed:
        return
    # One that is gone by now needs no tag. One that is still listed would be terminated at its old expiry.
    for target in _targets(clients, selector, restores=restore is not None):
        if error := missed.get(target.id):
            text = f"{target.id} exists, but was not found when its tags were written"
            raise retryable(text, code=error.code or "", place=target.place) from error


def _targets(clients: Clients, selector: Selector, *, restores: bool) -> list[_Target]:
    names = set_names(named_tokens(selector))
    targets = [
        _Target(item.id, item.place, restores and bool(item.token) and not has_tag(item.tags, TAG_ID))
        for item in scale_sets(clients, selector)
    ]
    for node in listed_nodes(clients, selector):
        if node.state is not NodeState.GONE:
            is_named = bool(token_of(parse_id(node.id).name, names))
            is_restored = restores and is_named and not node.is_tagged
            targets.append(_Target(node.id, Place("azure", node.region), is_restored, is_node=True))
    if selector.token is None or restores:
        for group in owned_groups(clients, replace(selector, token=None)):
            is_restored = restores and not has_tag(group.get("tags") or {}, TAG_ID)
            if selector.token is None or is_restored:
                place = Place("azure", str(group.get("location") or ""))
                targets.append(_Target(clients.canonical(group["id"]), place, is_restored))
    if restores:
        listed = {target.id.lower() for target in targets}
        untagged = [item for item in named_resources(clients, selector) if not has_tag(item.tags, TAG_ID)]
        targets += [
            _Target(item.id, Place("azure", item.region), is_restored=True)
            for item in untagged
            if item.id.lower() not in listed
        ]
    return targets
