"""Finds which machine each host of a slice is: Cloud Monitoring identifies TPU chips by the id of the machine that they are in.

The TPU API has no such id, so each host publishes its own in its guest attributes at boot.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Final

from multicompute.errors import MulticomputeError
from multicompute.node import Node
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._boot import GUEST_KEY, GUEST_NAMESPACE
from multicompute_gcp._errors import translate_errors
from multicompute_gcp._names import region_of
from multicompute_gcp._session import CALL, Clients

# No host has published its id, or the slice is gone.
_NONE: Final = ("NOT_FOUND", "FAILED_PRECONDITION", "INVALID_ARGUMENT", "notFound")


class Workers:
    """The machine ids of the hosts, read once for each slice."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._lock = threading.Lock()
        # By zone and slice: the ids by the number of the worker.
        self._known: dict[tuple[str, str], dict[str, str]] = {}

    def by_machine_id(self, hosts: Mapping[tuple[str, str], Node]) -> dict[str, Node]:
        """Return the hosts by the ids of their machines; those that have not published theirs are missing.

        Args:
            hosts: The hosts by their zone and id.
        """
        found: dict[str, Node] = {}
        for (zone, node_id), node in hosts.items():
            slice_name, _, worker = node_id.partition("/")
            with self._lock:
                known = self._known.get((zone, slice_name))
            if known is None:
                known = self._read(zone, slice_name)
                with self._lock:
                    self._known[zone, slice_name] = known
            if machine_id := known.get(worker):
                found[machine_id] = node
        return found

    def forget(self, node_ids: Iterable[str]) -> None:
        """Read the ids of these hosts again next time: after a repair, a host is on another machine."""
        names = {node_id.partition("/")[0] for node_id in node_ids}
        with self._lock:
            self._known = {key: known for key, known in self._known.items() if key[1] not in names}

    def _read(self, zone: str, name: str) -> dict[str, str]:
        request = {"name": self._clients.tpu_name(zone, "nodes", name), "query_path": f"{GUEST_NAMESPACE}/"}
        try:
            with translate_errors("nodes.getGuestAttributes", Place("gcp", region_of(zone), zone)):
                answer = self._clients.tpu().get_guest_attributes(request=request, **CALL)
        except MulticomputeError as error:
            if error.code in _NONE:
                return {}
            raise
        return {
            entry.key.removeprefix(GUEST_KEY): entry.value
            for attributes in answer.guest_attributes
            for entry in attributes.query_value.items
            if entry.namespace == GUEST_NAMESPACE and entry.key.startswith(GUEST_KEY)
        }
