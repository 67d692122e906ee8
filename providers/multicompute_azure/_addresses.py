"""Finds the addresses of nodes, which stay with an instance for its life, so each is read once."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

from multicompute.node import Node, NodeState
from multicompute.provider_kit.vendor_errors import Place
from multicompute_azure._session import NETWORK, Clients, path_of

_INTERFACES: Final = f"{NETWORK}/networkInterfaces"
_PUBLIC_ADDRESSES: Final = f"{NETWORK}/publicIPAddresses"
_KEPT: Final = 50_000


class Addresses:
    """The private and the public address of each instance, by its id in lower case, as far as they are known."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._known: dict[str, tuple[str, str | None]] = {}

    def added_to(self, nodes: list[Node], groups: Collection[str], place: Place) -> list[Node]:
        """Return `nodes` with their addresses, which are only read again if one that runs has none yet.

        Args:
            nodes: The nodes.
            groups: The resource groups that they are in.
            place: The place to name in messages.
        """
        if any(node.state is NodeState.RUNNING and node.id.lower() not in self._known for node in nodes):
            self._refresh(next(iter(groups)) if len(groups) == 1 else None, place)
        return [self._added(node) for node in nodes]

    def _added(self, node: Node) -> Node:
        found = self._known.get(node.id.lower())
        return node if found is None else replace(node, private_ip=found[0], public_ip=found[1])

    def _refresh(self, group: str | None, place: Place) -> None:
        """Read the addresses of the instances of a resource group, or of all; one that has no public address yet is left out."""
        private: dict[str, tuple[str, str]] = {}
        for item in self._clients.list_all("networkInterfaces.list", place, path_of(group, _INTERFACES)):
            properties = item.get("properties") or {}
            owner = (properties.get("virtualMachine") or {}).get("id")
            address, public = _first_address(properties)
            if owner and address:
                private[self._clients.canonical(owner).lower()] = (address, public)
        public_ips = self._public_addresses(group, place) if any(public for _, public in private.values()) else {}
        if len(self._known) > _KEPT:
            self._known.clear()
        for owner, (address, public) in private.items():
            if not public or public in public_ips:
                self._known[owner] = (address, public_ips.get(public))

    def _public_addresses(self, group: str | None, place: Place) -> dict[str, str]:
        """Return the public addresses by the ids of their resources."""
        return {
            str(item["id"]).lower(): str(item["properties"]["ipAddress"])
            for item in self._clients.list_all("publicIPAddresses.list", place, path_of(group, _PUBLIC_ADDRESSES))
            if (item.get("properties") or {}).get("ipAddress")
        }


def _first_address(interface: Any) -> tuple[str, str]:
    """Return the private address of an interface and the id of its public one, "" where there is none."""
    configurations = interface.get("ipConfigurations") or [{}]
    properties = configurations[0].get("properties") or {}
    public = (properties.get("publicIPAddress") or {}).get("id") or ""
    return str(properties.get("privateIPAddress") or ""), str(public).lower()
