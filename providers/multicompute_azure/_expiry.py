"""Moves the end of life of nodes, in the tags that their timers and the reaper read, and sets tags again that were removed."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from multicompute.errors import MulticomputeError
from multicompute.node import Node, NodeState
from multicompute.provider import TAG_EXPIRES_AT, TAG_ID, Selector, expiry_tag
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place, retryable
from multicompute_azure._errors import failed_operation, is_gone, translate_errors
from multicompute_azure._list import listed_nodes, named_tokens, scale_sets
from multicompute_azure._names import instance_number, parse_id, set_names, token_of
from multicompute_azure._operations import Operation
from multicompute_azure._resources import named_resources, owned_groups
from multicompute_azure._session import Clients
from multicompute_azure._tags import has_tag
from multicompute_azure._uniform import write_expiry

_UPDATE: Final = "tags.updateAtScope"
# Azure has no call that tags many resources.
_AT_ONCE: Final = 16
# How long a write of tags may take; one that takes longer is repeated by the engine.
_PATIENCE: Final = timedelta(seconds=60)
_LONGEST_PAUSE: Final = timedelta(seconds=5)


class _Target(NamedTuple):
    """A resource whose tags are written."""

    id: str
    place: Place
    is_restored: bool = False
    instance: Node | None = None
    is_node: bool = False


class _Write(NamedTuple):
    """A write of tags: its operation, or the error if the resource was not found."""

    target: _Target
    operation: Operation | None
    missed: MulticomputeError | None = None


def set_expiry(
    clients: Clients, selector: Selector, expires_at: datetime | None, restore: Mapping[str, str] | None = None
) -> None:
    """Write the expiry of the selected nodes, their scale sets and the resource group, see `Provider.set_expiry`.

    It is a tag; for an instance of a Uniform scale set, which has no tags of its own, it is in the user data as well.

    With `restore`, what lacks our tags gets all of them again, if it is named from a token or the cluster's id: also the disks, interfaces
    and addresses of the nodes.

    Raises:
        TransientError: Azure did not find one of them when its tag was written, but lists it; or a write takes too long.
        MulticomputeError: A call failed, or was refused; others may have succeeded.
    """
    expiry = {TAG_EXPIRES_AT: expiry_tag(expires_at)}

    def begin(target: _Target) -> _Write:
        if target.instance is not None:
            return _Write(target, None, write_expiry(clients, target.instance, expires_at))
        tags: Any = clients.resources.tags
        body = {
            "operation": "Merge",
            "properties": {"tags": {**(restore or {}), **expiry} if target.is_restored else expiry},
        }
        operation = clients.operation()
        try:
            with translate_errors(_UPDATE, target.place):
                tags.begin_update_at_scope(target.id.lstrip("/"), body, polling=operation)
        except MulticomputeError as error:
            if not is_gone(error.code):
                raise
            return _Write(target, None, error)
        return _Write(target, operation)

    targets = _targets(clients, selector, restores=restore is not None)
    # What is restored comes last for nodes: a process that dies in between leaves nodes without tags, which show what is missing.
    last = [target for target in targets if target.is_restored and target.is_node]
    missed: dict[str, MulticomputeError] = {}
    for step in ([target for target in targets if target not in last], last):
        writes = in_parallel(begin, step, at_once=_AT_ONCE)
        missed |= {write.target.id: write.missed for write in _finished(clients, writes) if write.missed}
    if not missed:
        return
    # One that is gone by now needs no tag. One that is still listed would be terminated at its old expiry.
    for target in _targets(clients, selector, restores=restore is not None):
        if error := missed.get(target.id):
            text = f"{target.id} exists, but was not found when its tags were written"
            raise retryable(text, code=error.code or "", place=target.place) from error


def _finished(clients: Clients, writes: list[_Write]) -> list[_Write]:
    """Wait for the writes to finish, and return them with those added to the missed ones whose resource is gone.

    Azure answers an update of tags with 200, or with 202 and an operation that may still fail ("Tags - Update At Scope").

    Raises:
        MulticomputeError: A write failed.
        TransientError: One has not finished in time, so it is not known whether the new expiry holds.
    """
    clock = clients.clock
    deadline, pause = clock.now() + _PATIENCE, clients.step
    while under_way := [write for write in writes if write.operation and not write.operation.finished()]:
        if clock.now() >= deadline:
            text = f"the tags of {under_way[0].target.id} are still being written after {_PATIENCE}"
            raise retryable(text, code="InProgress", place=under_way[0].target.place)
        clock.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
        writes = in_parallel(_refreshed, writes, at_once=_AT_ONCE)
    return writes


def _refreshed(write: _Write) -> _Write:
    if write.operation is None:
        return write
    try:
        write.operation.refresh(_UPDATE, write.target.place)
        if failure := write.operation.failure:
            raise failed_operation(failure, _UPDATE, write.target.place)
    except MulticomputeError as error:
        if not is_gone(error.code):
            raise
        return _Write(write.target, None, error)
    return write


def _targets(clients: Clients, selector: Selector, *, restores: bool) -> list[_Target]:
    names = set_names(named_tokens(selector))
    targets = [
        _Target(item.id, item.place, restores and bool(item.token) and not has_tag(item.tags, TAG_ID))
        for item in scale_sets(clients, selector)
    ]
    for node in listed_nodes(clients, selector):
        if node.state is NodeState.GONE:
            continue
        if instance_number(node.id)[1]:
            targets.append(_Target(node.id, Place("azure", node.region), instance=node))
        else:
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
