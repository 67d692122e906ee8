"""The provider: the nine methods of the seam, in Fourth's terms."""

import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from fourth_sdk import MOST_IDS, ApiError, Client, Firewall, Server

from fourth_cloud._errors import MEANINGS, translate_errors
from fourth_cloud._settings import FourthSettings
from multicompute.errors import AccessDeniedError
from multicompute.node import Node, NodeState, Sample
from multicompute.offer import Offer, Part, Quote
from multicompute.provider import (
    TAG_ATTEMPT,
    TAG_EXPIRES_AT,
    TAG_ID,
    Account,
    Availability,
    Capability,
    Check,
    LaunchRequest,
    PriceChange,
    Quotas,
    Resource,
    Selector,
    Settings,
    Teardown,
    expiry_tag,
)
from multicompute.provider_kit.calls import all_pages, batches
from multicompute.provider_kit.endpoints import LOCAL_POLL_INTERVAL, is_loopback
from multicompute.provider_kit.seam import all_or_nothing, finding, require_selection, unlisted
from multicompute.provider_kit.tags import selected_tags
from multicompute.provider_kit.vendor_errors import Place, VendorAnswer, cause_of

_Item = TypeVar("_Item")
_Lister = Callable[[Mapping[str, str | None], str | None, str], tuple[list[_Item], str]]

_STATES: Final = {"creating": NodeState.PENDING, "running": NodeState.RUNNING, "deleting": NodeState.STOPPING}
"""With any other status the server is deleted for good, and listed for an hour more."""
_IMAGE: Final = "ubuntu-24.04-cuda"


class FourthProvider:
    """Fourth, opened; see `multicompute.provider.Provider` for what each method promises.

    It keeps no state: everything is found by its labels, so another process, or this one after a crash, finds the same.
    """

    name: str = "fourth"
    capabilities: frozenset[Capability] = frozenset(
        {Capability.SPOT, Capability.PLACEMENT, Capability.EXPIRY, Capability.DEPENDENT_RESOURCES}
    )
    # Fourth's reference: "a new server may be missing from listings for up to a minute".
    consistency_window: timedelta = timedelta(minutes=1)
    # Servers run after three minutes; one that takes ten does not come up.
    attempt_timeout: timedelta = timedelta(minutes=10)

    def __init__(self, settings: Settings) -> None:
        read = FourthSettings.of(settings)
        self._client = Client(read.endpoint, read.key or "anonymous")
        self.poll_interval: timedelta = LOCAL_POLL_INTERVAL if is_loopback(read.endpoint) else timedelta(seconds=5)

    @functools.cached_property
    def account(self) -> Account:
        """The project that the API key belongs to."""
        with translate_errors("GetAccount", Place(self.name)):
            project = self._client.account().project
        return Account((project,), f"Fourth project {project}")

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch one order of servers per part, each all or nothing, and delete the others if one is refused."""
        self._create_firewall(request)
        launched: list[Server] = []

        def roll_back() -> None:
            self._delete_servers([server.id for server in launched], request.region)

        with all_or_nothing(Place(self.name, request.region), roll_back):
            for index, part in enumerate(request.parts):
                launched += self._order(request, index, part)
        return tuple(_node(server) for server in launched)

    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        """Return our servers, by label, in the order of their ids, with those that ended within the hour and the reason."""
        return tuple(_node(server) for server in self._servers(selector))

    def resources(self, selector: Selector) -> tuple[Resource, ...]:
        """Return our servers that exist, and the firewalls."""
        servers = self._servers(selector)
        live = [_resource("server", server, billable=True) for server in servers if server.status in _STATES]
        hidden = [
            Resource(self.name, "server", server_id, selector.region or "", billable=True)
            for server_id in unlisted(selector, {server.id for server in servers})
        ]
        firewalls = [_resource("firewall", firewall, billable=False) for firewall in self._firewalls(selector)]
        return (*live, *hidden, *firewalls)

    def terminate(self, selector: Selector) -> Teardown:
        """Delete servers and, once none of the cluster is left, its firewalls."""
        require_selection(selector, provider=self.name)
        servers = self._servers(selector)
        live = [server.id for server in servers if server.status in ("creating", "running")]
        hidden = unlisted(selector, {server.id for server in servers})
        self._delete_servers([*live, *hidden], selector.region or "")
        if not selector.only and not any(server.status in _STATES for server in servers):
            for firewall in self._firewalls(selector):
                self._delete_firewall(firewall)
        # Listed again, after the last delete: what was listed before and is not now is gone (I4).
        remaining = self.resources(selector)
        kinds = sorted({resource.kind for resource in remaining})
        return Teardown(remaining, f"{len(remaining)} to be deleted: {', '.join(kinds)}" if remaining else "")

    def set_expiry(
        self, selector: Selector, expires_at: datetime | None, *, restore: Mapping[str, str] | None = None
    ) -> None:
        """Move the end of life in the label, and in the server's `delete_at`, which Fourth enforces; restore labels that were removed."""
        expiry, delete_at = {TAG_EXPIRES_AT: expiry_tag(expires_at)}, _epoch(expires_at)
        live = [server for server in self._servers(selector) if server.status in _STATES]
        # Only what one of our tokens has created is ours beyond doubt.
        bare = {each.id for each in live if TAG_ID not in each.labels and _token(each) in selector.tokens}
        tagged = [each.id for each in live if each.id not in bare]
        for members, labels in ((tagged, expiry), (sorted(bare), {**(restore or {}), **expiry})):
            for ids in batches(members, MOST_IDS):
                with translate_errors("UpdateServers", Place(self.name, selector.region or "")):
                    self._client.update_servers(ids, labels, delete_at)

    def quotes(self, offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
        """Return nothing: Fourth has no price API, so LIVE_PRICES is not declared."""
        return {}

    def quotas(self, region: str, *, reservations: Sequence[str] = ()) -> Quotas:
        """Return a note only: Fourth has no API for quotas, so QUOTAS is not declared, and it has no reservations."""
        return Quotas(notes=("fourth: quotas can't be read before a launch",))

    def availability(self, region: str) -> Availability:
        """Return nothing: every account of Fourth can use every zone, so AVAILABILITY is not declared."""
        return Availability(region)

    def spot_prices(self, offers: Sequence[Offer], *, since: datetime) -> Mapping[Offer, tuple[PriceChange, ...]]:
        """Return nothing: Fourth has no spot machines, so SPOT_PRICES is not declared."""
        return {}

    def metrics(self, nodes: Sequence[Node], *, since: datetime, until: datetime) -> tuple[Sample, ...]:
        """Return nothing: Fourth measures nothing, so METRICS is not declared."""
        return ()

    def check(self) -> tuple[Check, ...]:
        """Return who the key belongs to, and whether it may create servers."""

        def account() -> str:
            with translate_errors("GetAccount", Place(self.name)):
                found = self._client.account()
            if "servers:write" not in found.rights:
                raise AccessDeniedError("fourth: the key may not create servers", hint="the key needs servers:write")
            return f"project {found.project}: {', '.join(found.rights)}"

        return (finding("credentials", account),)

    # --- launching ----------------------------------------------------------------------------------------------------

    def _order(self, request: LaunchRequest, index: int, part: Part) -> list[Server]:
        """Order the servers of one part; Fourth answers at once, while they are still being created."""
        offer = part.offer
        with translate_errors("CreateServers", Place.of(offer)):
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

    def _create_firewall(self, request: LaunchRequest) -> None:
        """Create the cluster's firewall. It is named after the cluster's id, so repeated calls create only one."""
        allow = ["internal"]
        if request.ssh_public_key is not None and not request.private:
            allow.append("tcp:22")
        offer = request.parts[0].offer
        # With the servers' zone and type, although a firewall has neither: the error is about the launch.
        with translate_errors("CreateFirewall", Place.of(offer)):
            try:
                self._client.create_firewall(_firewall_name(request.cluster_id), offer.region, request.tags, allow)
            except ApiError as error:
                if error.code != "already_exists":
                    raise

    def _delete_servers(self, ids: Sequence[str], region: str) -> None:
        for batch in batches(ids, MOST_IDS):
            with translate_errors("DeleteServers", Place(self.name, region)):
                self._client.delete_servers(batch)

    # --- finding ------------------------------------------------------------------------------------------------------

    def _servers(self, selector: Selector) -> list[Server]:
        found = {} if selector.only else {each.id: each for each in _listed(self._client.list_servers, selector)}
        # Labels can be removed, so what the ledger knows and no label has shown is looked up by its id, and by its token.
        known = [name for name in (*selector.known_ids, *selector.only) if name not in found]
        lookups: list[Mapping[str, Sequence[str]]] = [{"ids": ids} for ids in batches(known, MOST_IDS)]
        if selector.tokens and not selector.only:
            lookups.append({"requests": [f"{token}-" for token in selector.tokens]})
        for lookup in lookups:
            with translate_errors("FindServers", Place(self.name, selector.region or "")):
                found |= {server.id: server for server in self._client.find_servers(**lookup)}
        here = (server for server in found.values() if selector.region in (None, server.region))
        return sorted(here, key=lambda server: server.id)

    def _firewalls(self, selector: Selector) -> list[Firewall]:
        # A firewall belongs to the cluster: the teardown of an attempt, or of single nodes, must not take it from the others.
        if selector.token is not None or selector.only:
            return []
        return _listed(self._client.list_firewalls, selector)

    def _delete_firewall(self, firewall: Firewall) -> None:
        with translate_errors("DeleteFirewall", Place(self.name, firewall.region)):
            try:
                self._client.delete_firewall(firewall.id)
            except ApiError as error:
                # One that is gone counts as deleted (I5). One in use remains, and the next step tries again.
                if error.code not in ("not_found", "in_use"):
                    raise


def _listed(list_page: _Lister[_Item], selector: Selector) -> list[_Item]:
    def fetch(page: str) -> tuple[list[_Item], str]:
        with translate_errors("List", Place("fourth", selector.region or "")):
            return list_page(_labels(selector), selector.region, page)

    return list(all_pages(fetch))


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
        token=_token(server),
        is_tagged=TAG_ID in server.labels,
        reason=f"{server.code}: {server.message}" if server.code else None,
        cause=cause_of(MEANINGS, VendorAnswer(server.code)),
    )


def _token(server: Server) -> str:
    """Return the token of the attempt that created a server; its request id, unlike its labels, can't be removed."""
    return server.labels.get(TAG_ATTEMPT) or server.request_id.rpartition("-")[0]


def _resource(kind: str, item: Server | Firewall, *, billable: bool) -> Resource:
    return Resource("fourth", kind, item.id, item.region, billable, item.labels)


def _labels(selector: Selector) -> dict[str, str | None]:
    """Return the labels to list by. The cluster's id is always one, with any value at least, so only what is ours is found (I9)."""
    return {TAG_ID: None, **selected_tags(selector)}


def _firewall_name(cluster_id: str) -> str:
    return f"multicompute-{cluster_id}"


def _epoch(instant: datetime | None) -> int | None:
    return None if instant is None else int(instant.timestamp())
