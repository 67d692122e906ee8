"""Writes the end of life into the tags of what is selected, where nodes and the reaper read it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from multicompute.errors import MulticomputeError
from multicompute.node import NodeState
from multicompute.provider import TAG_EXPIRES_AT, Selector
from multicompute_azure._discover import Discovery
from multicompute_azure._errors import Place, asking, is_gone
from multicompute_azure._inventory import Inventory
from multicompute_azure._session import Clients

# Azure has no call that tags many resources: one for each, some at a time.
_AT_ONCE: Final = 16


def set_expiry(clients: Clients, discovery: Discovery, inventory: Inventory, selector: Selector, value: str) -> None:
    """Write the tag on the selected nodes, on their scale sets and on the resource group, leaving all others as they are."""
    sets = discovery.scale_sets(selector)
    targets: list[tuple[str, Place]] = []
    for item in sets:
        living = [node for node in discovery.nodes_of(item) if node.state is not NodeState.GONE]
        targets += [(node.id, item.place) for node in living]
        targets.append((item.id, item.place))
    if selector.token is None:
        targets += [(str(group["id"]), Place(str(group.get("location") or ""))) for group in inventory.groups(selector)]
    body = {"operation": "Merge", "properties": {"tags": {TAG_EXPIRES_AT: value}}}

    def write(target: tuple[str, Place]) -> None:
        resource_id, place = target
        tags: Any = clients.resources.tags
        try:
            with asking("write the tags", place):
                tags.begin_update_at_scope(resource_id.lstrip("/"), body, polling=False)
        except MulticomputeError as error:
            # What has gone meanwhile has reached its end.
            if not is_gone(error.code):
                raise

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="multicompute-azure") as pool:
        list(pool.map(write, targets))
