"""The provider: the nine methods of the seam, in Fourth's words."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from fourth_sdk import MOST_IDS, ApiError, Client, Firewall, Server

from fourth_cloud._errors import Place, meaning_of, translate_errors
from multicompute.errors import InvalidRequestError, MulticomputeError, ThrottledError, TransientError
from multicompute.node import Node, NodeState, Sample
from multicompute.offer import Offer, Part, Quote
from multicompute.provider import (
    TAG_ATTEMPT,
    TAG_EXPIRES_AT,
    TAG_ID,
    TAG_OWNER,
    Capability,
    Check,
    LaunchRequest,
    Quotas,
    Resource,
    Selector,
    Teardown,
    expiry_tag,
)

_STATES: Final = {"creating": NodeState.PENDING, "running": NodeState.RUNNING, "deleting": NodeState.STOPPING}
"""Every other status is an end: the server is deleted for good, and shown for an hour more."""
_IMAGE: Final = "ubuntu-24.04-cuda"
_Item = TypeVar("_Item")


class FourthProvider:
    """Fourth, opened; `multicompute.provider.Provider` says what each method promises.

    No state is kept here: everything is found by its labels, so another process, or this one after a crash, sees the same.
    """

    name: str = "fourth"
    capabilities: frozenset[Capability] = frozenset(
        {Capability.SPOT, Capability.PLACEMENT, Capability.EXPIRY, Capability.DEPENDENT_RESOURCES}
    )
    # Fourth's reference: "a new server may be missing from listings for up to a minute".
    consistency_window: timedelta = timedelta(minutes=1)
    # Servers run after three minutes; those that take ten do not come.
    attempt_timeout: timedelta = timedelta(minutes=10)

    def __init__(self, client: Client, *, is_local: bool = False) -> None:
        self._client = client
        # A test on this machine should not wait for a cloud's pace.
        self.poll_interval: timedelta = timedelta(milliseconds=50) if is_local else timedelta(seconds=5)

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch one order of servers per part, each all or nothing, and take the others back where one is refused."""
        self._make_firewall(request)
        launched: list[Server] = []
        try:
            for index, part in enumerate(request.parts):
                launched += self._order(request, index, part)
        except (ThrottledError, TransientError):
            # What became of it is not known. The engine repeats the call, and each order answers to its request id.
            raise
        except MulticomputeError as refusal:
            self._take_back(launched, refusal)
            raise
        return tuple(_node(server) for server in launched)

    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        """Our servers by label, in the order of their ids; those that ended within the hour too, with the reason."""
        return tuple(_node(server) for server in self._servers(selector))

    def resources(self, selector: Selector) -> tuple[Resource, ...]:
        """Our servers that exist, and the firewalls."""
        return self._existing(selector, self._servers(selector))

    def terminate(self, selector: Selector) -> Teardown:
        """Delete servers; once none is left, the cluster's firewalls."""
        if selector.cluster_id is None and selector.token is None:
            raise InvalidRequestError(
                "fourth: terminate: neither a cluster nor a token is named, so everybody's servers would be meant",
                provider=self.name,
                code="no_selection",
                hint="name a cluster",
            )
        place, servers = Place(selector.region), self._servers(selector)
        doomed = [server.id for server in servers if server.status in ("creating", "running")]
        for ids in _batches([*doomed, *_hidden(selector, servers)]):
            with translate_errors("delete servers", place):
                self._client.delete_servers(ids)
        if not any(server.status in _STATES for server in servers):
            for firewall in self._firewalls(selector):
                self._delete_firewall(firewall)
        # Asked again, after the last delete: what is not listed now, and was there before, is gone (I4).
        remaining = self.resources(selector)
        kinds = sorted({resource.kind for resource in remaining})
        return Teardown(remaining, f"{len(remaining)} to be deleted: {', '.join(kinds)}" if remaining else "")

    def set_expiry(self, selector: Selector, expires_at: datetime | None) -> None:
        """Move the end in the label, and in the server's own `delete_at`, which Fourth enforces."""
        labels, delete_at = {TAG_EXPIRES_AT: expiry_tag(expires_at)}, _epoch(expires_at)
        alive = [server.id for server in self._servers(selector) if server.status in _STATES]
        for ids in _batches(alive):
            with translate_errors("update servers", Place(selector.region)):
                self._client.update_servers(ids, labels, delete_at)

    def quotes(self, offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
        """Nothing: Fourth has no price API (LIVE_PRICES is not declared)."""
        return {}

    def quotas(self, region: str, *, reservations: Sequence[str] = ()) -> Quotas:
        """A note only: Fourth does not tell them (QUOTAS is not declared), and has no reservations."""
        return Quotas(notes=("fourth does not tell quotas before a launch",))

    def metrics(self, nodes: Sequence[Node], *, since: datetime, until: datetime) -> tuple[Sample, ...]:
        """Nothing: Fourth measures nothing (METRICS is not declared), and what is not measured has no sample."""
        return ()

    def check(self) -> tuple[Check, ...]:
        """Ask who the key belongs to, and whether it may create servers."""
        try:
            with translate_errors("ask for the account", Place()):
                account = self._client.account()
        except MulticomputeError as error:
            return (Check("credentials", ok=False, detail=error.message, hint=error.hint or ""),)
        may_create = "servers:write" in account.rights
        return (
            Check("credentials", ok=True, detail=f"project {account.project}"),
            Check("rights", ok=may_create, detail=", ".join(account.rights), hint="the key needs servers:write"),
        )

    # --- launching ----------------------------------------------------------------------------------------------------

    def _order(self, request: LaunchRequest, index: int, part: Part) -> list[Server]:
        """One call, answered at once with servers that are still being created."""
        offer = part.offer
        with translate_errors("create servers", Place(offer.region, offer.zone, offer.instance_type)):
            return self._client.create_servers(
                f"{request.token}-{index}",
                part.nodes,
                region=offer.region,
                zone=offer.zone,
                type=offer.instance_type,
                market=offer.purchase,
                max_price=request.max_price if offer.purchase == "spot" else None,
                labels=dict(request.tags),
                delete_at=_epoch(request.expires_at),
                firewall=_firewall_name(request.cluster_id),
                fabric_group=request.cluster_id if request.fabric else None,
                image=request.image or _IMAGE,
                disk_gib=request.disk_gib,
                user_data=request.setup,
                ssh_key=request.ssh_public_key,
                has_public_ip=not request.private,
            )

    def _make_firewall(self, request: LaunchRequest) -> None:
        """The cluster's firewall; its name is made from the cluster's id, so that there is one however often this is called."""
        allow = ["internal"]
        if request.ssh_public_key is not None and not request.private:
            allow.append("tcp:22")
        offer = request.parts[0].offer
        # With the servers' zone and type, though a firewall has neither: the error is one about the launch.
        with translate_errors("create a firewall", Place(offer.region, offer.zone, offer.instance_type)):
            try:
                self._client.create_firewall(_firewall_name(request.cluster_id), offer.region, request.tags, allow)
            except ApiError as error:
                if error.code != "already_exists":
                    raise

    def _take_back(self, launched: Sequence[Server], refusal: MulticomputeError) -> None:
        """Delete the parts that came before the refused one.

        Raises:
            TransientError: that failed, so that servers of this token may live; the engine repeats the launch.
        """
        try:
            for ids in _batches([server.id for server in launched]):
                with translate_errors("delete servers", Place(launched[0].region)):
                    self._client.delete_servers(ids)
        except MulticomputeError as failure:
            raise TransientError(
                f"{refusal.message}; and the rest of the gang could not be taken back: {failure.message}",
                provider=self.name,
                region=refusal.region,
                code=failure.code,
            ) from refusal

    # --- finding ------------------------------------------------------------------------------------------------------

    def _servers(self, selector: Selector) -> list[Server]:
        found = _every(lambda page: self._client.list_servers(_labels(selector), selector.region, page), selector)
        return sorted(found, key=lambda server: server.id)

    def _firewalls(self, selector: Selector) -> list[Firewall]:
        if selector.token is not None:
            # A firewall is the cluster's; an attempt that ends must not take it from the others.
            return []
        return list(
            _every(lambda page: self._client.list_firewalls(_labels(selector), selector.region, page), selector)
        )

    def _existing(self, selector: Selector, servers: Sequence[Server]) -> tuple[Resource, ...]:
        found = [
            Resource(self.name, "server", server.id, server.region, billable=True, tags=server.labels)
            for server in servers
            if server.status in _STATES
        ]
        found += [
            Resource(self.name, "server", server_id, selector.region or "", billable=True)
            for server_id in _hidden(selector, servers)
        ]
        found += [
            Resource(self.name, "firewall", firewall.id, firewall.region, billable=False, tags=firewall.labels)
            for firewall in self._firewalls(selector)
        ]
        return tuple(found)

    def _delete_firewall(self, firewall: Firewall) -> None:
        with translate_errors("delete a firewall", Place(firewall.region)):
            try:
                self._client.delete_firewall(firewall.id)
            except ApiError as error:
                # Gone already is as good as deleted (I5); in use it stays among what remains, and the next step tries again.
                if error.code not in ("not_found", "in_use"):
                    raise


def _node(server: Server) -> Node:
    return Node(
        id=server.id,
        rank=-1,
        provider="fourth",
        instance_type=server.type,
        region=server.region,
        zone=server.zone,
        state=_STATES.get(server.status, NodeState.GONE),
        private_ip=server.private_ip,
        public_ip=server.public_ip,
        token=server.labels.get(TAG_ATTEMPT, ""),
        reason=f"{server.code}: {server.message}" if server.code else None,
        cause=meaning_of(server.code).cause,
    )


def _labels(selector: Selector) -> dict[str, str | None]:
    """The labels to list by; the cluster's id always, with any value at least, so that only what is ours is found (I9)."""
    wanted = {TAG_ATTEMPT: selector.token, TAG_OWNER: selector.owner}
    return {TAG_ID: selector.cluster_id} | {name: value for name, value in wanted.items() if value is not None}


def _hidden(selector: Selector, servers: Sequence[Server]) -> list[str]:
    """Servers that the caller knows of and the listing does not show: not yet, most likely, so not gone either (I4)."""
    listed = {server.id for server in servers}
    return [server_id for server_id in selector.node_ids if server_id not in listed]


def _every(ask: Callable[[str], tuple[list[_Item], str]], selector: Selector) -> Iterator[_Item]:
    """The items of all pages."""
    page = ""
    while True:
        with translate_errors("list", Place(selector.region)):
            items, page = ask(page)
        yield from items
        if not page:
            return


def _batches(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + MOST_IDS] for start in range(0, len(ids), MOST_IDS)]


def _firewall_name(cluster_id: str) -> str:
    return f"multicompute-{cluster_id}"


def _epoch(instant: datetime | None) -> int | None:
    return None if instant is None else int(instant.timestamp())
