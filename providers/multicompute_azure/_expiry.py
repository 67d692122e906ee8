"""Writes the end of life into the tags of what is selected, where nodes and the reaper read it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from multicompute.errors import MulticomputeError
from multicompute.node import NodeState
from multicompute.provider import TAG_EXPIRES_AT, Selector
from multicompute_azure._discover import Discovery
from multicompute_azure._errors import Place, is_gone, retryable, translate_errors
from multicompute_azure._inventory import Inventory
from multicompute_azure._session import Clients

# Azure has no call that tags many resources: one for each, some at a time.
_AT_ONCE: Final = 16
_Target = tuple[str, Place]


def set_expiry(clients: Clients, discovery: Discovery, inventory: Inventory, selector: Selector, value: str) -> None:
    """Write the tag on the selected nodes, on their scale sets and on the resource group, leaving all others as they are.

    Raises:
        TransientError: one of them can't be found for its tag, and lives.
        MulticomputeError: of the kind that an answer means; some may have the tag.
    """
    body = {"operation": "Merge", "properties": {"tags": {TAG_EXPIRES_AT: value}}}

    def write(target: _Target) -> MulticomputeError | None:
        resource_id, place = target
        tags: Any = clients.resources.tags
        try:
            with translate_errors("write the tags", place):
                tags.begin_update_at_scope(resource_id.lstrip("/"), body, polling=False)
        except MulticomputeError as error:
            if not is_gone(error.code):
                raise
            return error
        return None

    targets = _targets(discovery, inventory, selector)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="multicompute-azure") as pool:
        missed = {target: error for target, error in zip(targets, pool.map(write, targets), strict=True) if error}
    if not missed:
        return
    # What has gone meanwhile has reached its end; what is listed as before would end at its old one.
    for target in _targets(discovery, inventory, selector):
        if error := missed.get(target):
            resource_id, place = target
            raise retryable(f"{resource_id} is not found for its tags, and exists", error.code or "", place) from error


def _targets(discovery: Discovery, inventory: Inventory, selector: Selector) -> list[_Target]:
    targets: list[_Target] = []
    for item in discovery.scale_sets(selector):
        living = [node for node in discovery.nodes_of(item) if node.state is not NodeState.GONE]
        targets += [(node.id, item.place) for node in living]
        targets.append((item.id, item.place))
    if selector.token is None:
        targets += [(str(group["id"]), Place(str(group.get("location") or ""))) for group in inventory.groups(selector)]
    return targets
