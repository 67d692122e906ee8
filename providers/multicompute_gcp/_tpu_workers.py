"""Knows which machine a host of a slice is: Cloud Monitoring tells of TPU chips by the number of the machine that they are in.

The TPU API has those numbers nowhere, so each host writes its own where the API can read it (see `_startup`).
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Final

from multicompute.errors import MulticomputeError
from multicompute.node import Node
from multicompute_gcp._errors import Place, translate_errors
from multicompute_gcp._labels import region_of
from multicompute_gcp._session import CALL, Clients
from multicompute_gcp._startup import GUEST_KEY, GUEST_NAMESPACE

# Nothing was written, or the slice is gone.
_NOTHING: Final = ("NOT_FOUND", "FAILED_PRECONDITION", "INVALID_ARGUMENT", "notFound")


class Workers:
    """The numbers of the machines, asked once for each slice."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], dict[str, str]] = {}

    def numbers(self, hosts: Mapping[tuple[str, str], Node]) -> dict[str, Node]:
        """The hosts by the numbers of their machines; those that never wrote theirs are missing.

        Raises:
            MulticomputeError: the TPU API can't be asked.
        """
        found: dict[str, Node] = {}
        for (zone, node_id), node in hosts.items():
            slice_name, _, worker = node_id.partition("/")
            with self._lock:
                known = self._known.get((zone, slice_name))
            if known is None:
                known = self._asked(zone, slice_name)
                with self._lock:
                    self._known[zone, slice_name] = known
            if number := known.get(worker):
                found[number] = node
        return found

    def forget(self, node_ids: Iterable[str]) -> None:
        """Ask again next time: nothing is told under these numbers. A host that was repaired is on another machine."""
        names = {node_id.partition("/")[0] for node_id in node_ids}
        with self._lock:
            self._known = {key: known for key, known in self._known.items() if key[1] not in names}

    def _asked(self, zone: str, name: str) -> dict[str, str]:
        path = f"projects/{self._clients.project}/locations/{zone}/nodes/{name}"
        request = {"name": path, "query_path": f"{GUEST_NAMESPACE}/"}
        try:
            with translate_errors("nodes.getGuestAttributes", Place(region_of(zone), zone)):
                answer = self._clients.tpu().get_guest_attributes(request=request, **CALL)
        except MulticomputeError as error:
            if error.code in _NOTHING:
                return {}
            raise
        return {
            entry.key.removeprefix(GUEST_KEY): entry.value
            for attributes in answer.guest_attributes
            for entry in attributes.query_value.items
            if entry.namespace == GUEST_NAMESPACE and entry.key.startswith(GUEST_KEY)
        }
