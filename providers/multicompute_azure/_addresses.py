"""Finds the addresses of nodes, which stay with an instance for its life, so each is read once."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from multicompute.node import Node, NodeState
from multicompute.provider_kit.vendor_errors import Place
from multicompute_azure._names import arm_id, instance_number, parse_id
from multicompute_azure._session import NETWORK, Clients, path_of
from multicompute_azure._uniform import interface_documents

_INTERFACES: Final = f"{NETWORK}/networkInterfaces"
_PUBLIC_ADDRESSES: Final = f"{NETWORK}/publicIPAddresses"
_KEPT: Final = 50_000
_UNREACHABLE: Final = "it runs, but has no public address yet"


class Addresses:
    """The private and the public address of each instance, by its id in lower case, as far as they are known."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._known: dict[str, tuple[str, str | None]] = {}

    def added_to(self, nodes: list[Node], place: Place, *, public: frozenset[str] = frozenset()) -> list[Node]:
        """Return `nodes` with their addresses, which are only read again if one that runs has none yet.

        A node that must have a public address, and that runs without one, is still PENDING: it can't be reached.

        Args:
            nodes: The nodes.
            place: The place to name in messages.
            public: The ids of the nodes that must have a public address.
        """
        unknown = [node for node in nodes if node.state is NodeState.RUNNING and not self._is_known(node, public)]
        if unknown:
            self._refresh(nodes, unknown, place)
        return [self._added(node, public) for node in nodes]

    def _is_known(self, node: Node, public: frozenset[str]) -> bool:
        found = self._known.get(node.id.lower())
        return found is not None and (found[1] is not None or node.id not in public)

    def _added(self, node: Node, public: frozenset[str]) -> Node:
        found = self._known.get(node.id.lower())
        if found is not None:
            node = replace(node, private_ip=found[0], public_ip=found[1])
        if node.state is NodeState.RUNNING and node.id in public and node.public_ip is None:
            return replace(node, state=NodeState.PENDING, reason=_UNREACHABLE)
        return node

    def _refresh(self, nodes: list[Node], unknown: list[Node], place: Place) -> None:
        """Read the addresses of the instances of a resource group, or of all, and those of each Uniform scale set with unknown ones."""
        if len(self._known) > _KEPT:
            self._known.clear()
        parts = {(parse_id(node.id).group, instance_number(node.id)[0]) for node in unknown}
        if any(not owner for _, owner in parts):
            groups = {parse_id(node.id).group for node in nodes}
            self._read_machines(next(iter(groups)) if len(groups) == 1 else None, place)
        # The number of an instance can be that of another that is gone, so its addresses are kept by the id of the node.
        ids = {arm_id(node.id).lower(): node.id.lower() for node in nodes}
        for group, owner in sorted(part for part in parts if part[1]):
            nics, ips = interface_documents(self._clients, group, owner, place)
            found = self._of_owners(_private(nics), _by_id(ips))
            self._known |= {ids[own]: address for own, address in found.items() if own in ids}

    def _read_machines(self, group: str | None, place: Place) -> None:
        private = _private(self._clients.list_all("networkInterfaces.list", place, path_of(group, _INTERFACES)))
        public: dict[str, str] = {}
        if any(name for _, _, name in private):
            public = _by_id(self._clients.list_all("publicIPAddresses.list", place, path_of(group, _PUBLIC_ADDRESSES)))
        self._known |= self._of_owners(private, public)

    def _of_owners(
        self, private: list[tuple[str, str, str]], public: dict[str, str]
    ) -> dict[str, tuple[str, str | None]]:
        """Return the addresses by the ids of the machines; one whose public address is not assigned yet is left out."""
        return {
            self._clients.canonical(owner).lower(): (address, public.get(name))
            for owner, address, name in private
            if not name or name in public
        }


def _private(nics: Iterable[Any]) -> list[tuple[str, str, str]]:
    """Return the machine, the private address and the id of the public one, "" for none, of each interface that is in use."""
    found = []
    for item in nics:
        properties = item.get("properties") or {}
        owner = (properties.get("virtualMachine") or {}).get("id")
        address, public = _first_address(properties)
        if owner and address:
            found.append((str(owner), address, public))
    return found


def _by_id(items: Iterable[Any]) -> dict[str, str]:
    """Return the public addresses by the ids of their resources."""
    return {
        str(item["id"]).lower(): str(item["properties"]["ipAddress"])
        for item in items
        if (item.get("properties") or {}).get("ipAddress")
    }


def _first_address(interface: Any) -> tuple[str, str]:
    """Return the private address of an interface and the id of its public one, "" where there is none."""
    configurations = interface.get("ipConfigurations") or [{}]
    properties = configurations[0].get("properties") or {}
    public = (properties.get("publicIPAddress") or {}).get("id") or ""
    return str(properties.get("privateIPAddress") or ""), str(public).lower()
