"""The interface between the core and a cloud: what a provider declares, does and exchanges.

The core reaches a provider through its plug-in object, which an entry point of the group `multicompute.providers` names.
The plug-in imports without the cloud's SDK. `multicompute.testing.ProviderConformance` tests everything that the docstrings
here promise.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from multicompute.hosts import HostBook, HostStatus, OwnOffers
from multicompute.node import Node, Sample
from multicompute.offer import InstanceType, Offer, Part, Purchase, Quote

if TYPE_CHECKING:
    # Plug-ins import it from here for annotations, since they may import the seam but not `multicompute.testing`.
    from multicompute.testing.local.cloud import LocalCloud as LocalCloud  # noqa: PLC0414 - mypy exports a name only in this form


_log = logging.getLogger("multicompute")


class Capability(StrEnum):
    """An ability that a provider declares once, and that the engine and the conformance suite read."""

    SPOT = "spot"
    """Launches offers with `purchase="spot"` and reports a preempted node with the cause "preemption"."""
    FLEX_START = "flex_start"
    """Launches offers with `purchase="flex_start"`, for which the cloud queues until it has capacity."""
    RESERVATIONS = "reservations"
    """Launches into the reservation that a part names, and finds named reservations in `quotas`."""
    PLACEMENT = "placement"
    """Places a gang close together and connects its nodes by the fabric of their instance type."""
    QUOTAS = "quotas"
    """Reads the account's quotas before a launch."""
    LIVE_PRICES = "live_prices"
    """Reads today's price of an offer."""
    SPOT_PRICES = "spot_prices"
    """Reads how the price of running spot nodes changes."""
    AVAILABILITY = "availability"
    """Reads which regions, zones and instance types the account can use."""
    EXPIRY = "expiry"
    """Terminates a node at its expiry even if no multicompute process runs anywhere."""
    METRICS = "metrics"
    """Reads the utilization of nodes from the cloud's monitoring."""
    HEALTH_CHECKS = "health_checks"
    """Reports machines that fail the cloud's own health checks."""
    GLOBAL_LISTING = "global_listing"
    """Lists the nodes of all regions at the cost of one region."""
    RESTART = "restart"
    """Starts stopped nodes again."""
    DEPENDENT_RESOURCES = "dependent_resources"
    """Creates resources in addition to nodes (security groups, placement groups, ...), which a teardown must delete."""
    SSH = "ssh"
    """Reports how to log in to its nodes, and lets the caller in."""


TAG_CLUSTER = "multicompute-cluster"
TAG_ID = "multicompute-id"
TAG_ATTEMPT = "multicompute-attempt"
TAG_OWNER = "multicompute-owner"
TAG_EXPIRES_AT = "multicompute-expires-at"
RESERVED_TAG_PREFIX = "multicompute-"


def expiry_tag(expires_at: datetime | None) -> str:
    """Return the value of the expiry tag: epoch seconds, or "never"."""
    return "never" if expires_at is None else str(int(expires_at.timestamp()))


@dataclass(frozen=True, slots=True)
class TagLimits:
    """The limits of a cloud on the user's tags, in addition to the five tags of multicompute.

    Attributes:
        count: How many tags the user may set.
        key_length, value_length: How many characters a key and a value may have.
        reserved_prefixes: Prefixes that no key may start with, in lower case.
        key_pattern: A regular expression that a key must match in full; "" for any.
    """

    count: int
    key_length: int
    value_length: int
    reserved_prefixes: tuple[str, ...] = ()
    key_pattern: str = ""


@dataclass(frozen=True, slots=True)
class LifetimeLimit:
    """A limit of a cloud on how long machines live.

    Attributes:
        longest: How long they live at most, from their launch.
        purchases: The purchase types that it applies to; () for all.
        families: Globs on the names of the instance types that it applies to.
        without_expiry: Whether it also applies to machines that are launched without an expiry.
    """

    longest: timedelta
    purchases: tuple[Purchase, ...] = ()
    families: tuple[str, ...] = ("*",)
    without_expiry: bool = False

    def applies(self, instance: InstanceType, purchase: Purchase, *, has_expiry: bool) -> bool:
        """Return whether it applies to machines of this type that are bought in this way."""
        return (
            (has_expiry or self.without_expiry)
            and (not self.purchases or purchase in self.purchases)
            and any(fnmatchcase(instance.name, family) for family in self.families)
        )


def longest_life(
    limits: Sequence[LifetimeLimit], instance: InstanceType, purchase: Purchase, *, has_expiry: bool
) -> timedelta | None:
    """Return how long machines live at most under these limits, or None if no limit applies."""
    applying = (limit.longest for limit in limits if limit.applies(instance, purchase, has_expiry=has_expiry))
    return min(applying, default=None)


@dataclass(frozen=True, slots=True)
class Account:
    """The account that credentials belong to: an AWS account, a Google Cloud project, an Azure subscription.

    Attributes:
        ids: Every id by which the cloud knows the account. Two accounts are the same if they share one.
        label: Its name in messages, such as "AWS account 123456789012".
    """

    ids: tuple[str, ...]
    label: str

    def is_same(self, other: "Account") -> bool:
        """Return whether both are the same account."""
        return not set(self.ids).isdisjoint(other.ids)


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """A request to launch the gang of an attempt.

    Attributes:
        token: The idempotency key; the same token always means the same launch.
        cluster_id, cluster_name, owner: The values of the tags that identify the cluster.
        parts: The nodes to launch, all or nothing. All parts have the same provider and region.
        tags: Every tag that each resource gets, those of multicompute and the user's.
        expires_at: When the nodes must be terminated; None for never.
        fabric: Whether the gang needs close placement and the RDMA fabric of its instance type.
        image: The image id; None for the provider's default for the instance type.
        setup: A shell script that runs as root at the first boot; "" for none.
        ssh_public_key: The OpenSSH public key that may log in; None to allow no SSH at all.
        opens_later: Whether the key is only installed, and port 22 stays closed until `Provider.open_ssh` is called.
        private: Whether the nodes get no public address and no port that is open from outside.
        disk_gib: The size of the boot disk; None for the provider's default.
        max_price: The highest price of a spot node in USD per node-hour; None for no limit.
        peers: The tokens of the cluster's other launches that run, where the new nodes must share a fabric with their nodes.
        attempt_timeout: How long the engine waits until the gang is ready, where the user has set it. A request that waits
            in a queue of the cloud can be withdrawn after this time.
        restart: Start the stopped nodes of this launch, which was made before, and launch nothing new.
        warn: Reports what the user has to know about these nodes although they are launched, such as that they have no way to
            the internet. The engine adds it to the event log.
    """

    token: str
    cluster_id: str
    cluster_name: str
    owner: str
    parts: tuple[Part, ...]
    tags: Mapping[str, str]
    expires_at: datetime | None = None
    fabric: bool = False
    image: str | None = None
    setup: str = field(default="", repr=False)
    ssh_public_key: str | None = None
    opens_later: bool = False
    private: bool = False
    disk_gib: float | None = None
    max_price: float | None = None
    peers: tuple[str, ...] = ()
    attempt_timeout: timedelta | None = None
    restart: bool = False
    warn: Callable[[str], None] = field(default=_log.warning, repr=False, compare=False)

    @property
    def region(self) -> str:
        """The region of all parts."""
        return self.parts[0].offer.region

    @property
    def node_count(self) -> int:
        """The number of nodes in all parts."""
        return sum(part.nodes for part in self.parts)

    @property
    def opens_ssh(self) -> bool:
        """True if the launch opens port 22 to the caller."""
        return bool(self.ssh_public_key) and not self.private and not self.opens_later


@dataclass(frozen=True, slots=True)
class Selector:
    """A filter for resources that multicompute created. A field that is None selects everything.

    Attributes:
        region: One region; None for every region that the provider works in.
        cluster_id, token, owner: The values of the tags to filter by.
        node_ids: Nodes that were launched so recently that a listing may not show them yet. They are selected in addition
            to those found by tag, and a node that the cloud does not show counts as still existing (I4).
        known_ids: Further nodes of the ledger. They are selected in addition to those found by tag, since tags can be
            removed; a node that the cloud does not show is gone.
        tokens: The tokens of the attempts of the cluster. What is named from one of them, or was launched with it as the
            vendor's client token, is selected in addition to what is found by tag.
        only: Select nothing but these nodes, by id, and what is deleted with them.
        instance_types: A hint: the instance types of the nodes, if the caller knows them. A provider whose nodes are
            spread over several services may list only those with these types. It never excludes a resource.
        with_health: Whether to read the cloud's health checks as well. A node that fails them is IMPAIRED, not RUNNING.
    """

    region: str | None = None
    cluster_id: str | None = None
    token: str | None = None
    owner: str | None = None
    node_ids: tuple[str, ...] = ()
    known_ids: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()
    with_health: bool = False


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource with the tags of multicompute, or named from a token: a node, a disk, a security group, ...

    Attributes:
        kind: The vendor's term: "instance", "volume", "security-group", "placement-group", ...
        billable: Whether the resource itself costs money.
        tags: The tags as the cloud reports them.
    """

    provider: str
    kind: str
    id: str
    region: str
    billable: bool
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Teardown:
    """The progress of a teardown. "Not finished" is a result and not an error: call `terminate` again.

    Attributes:
        remaining: What the cloud still shows after the last delete.
        waiting_for: What the teardown is waiting for, for the event log; "" if it waits for nothing.
        blocked_by: What refuses a delete and does not pass by itself, and what to do about it: a termination protection, a
            lock, a policy, another user of a disk; "" for nothing.
    """

    remaining: tuple[Resource, ...] = ()
    waiting_for: str = ""
    blocked_by: str = ""

    @property
    def is_done(self) -> bool:
        """Return whether a listing after the last delete shows that nothing is left."""
        return not self.remaining


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit of the account, in the cloud's own unit.

    Attributes:
        name: The cloud's name for it, such as "Running On-Demand P instances".
        region: The region that it applies to, or "" if it applies to all regions of the account or project.
        purchase: The purchase type that counts against it.
        families: Globs on the names of the instance types that count ("p*", "trn*").
        limit: The maximum, in `unit`.
        used: What is in use now, in `unit`.
        unit: "vcpus", "accelerators" or "nodes".
        accelerator: The accelerator whose instance types count, where their names do not show it; "" for any.
    """

    name: str
    region: str
    purchase: Purchase
    families: tuple[str, ...]
    limit: float
    used: float
    unit: str = "vcpus"
    accelerator: str = ""

    def counts(self, instance: InstanceType) -> bool:
        """Return whether nodes of this instance type count against the quota."""
        return self.accelerator in ("", instance.accelerator) and any(
            fnmatchcase(instance.name, family) for family in self.families
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """Reserved capacity as the cloud reports it.

    Attributes:
        id: The cloud's id, which the user names in `reservations`.
        available: How many nodes can still be launched into it.
        kind: The vendor's term for this kind of reservation.
        hourly_cost: USD per node-hour in addition to what has been paid; 0 if it is paid in full.
        ends_at: When the cloud begins to terminate the nodes in it; None if they outlive it, or if it has no end.
    """

    provider: str
    id: str
    region: str
    zone: str
    instance_type: str
    available: int
    kind: str = "reservation"
    hourly_cost: float = 0.0
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Quotas:
    """The answer of `Provider.quotas`.

    Attributes:
        quotas: The quotas that could be read.
        reservations: Those of the named reservations that exist in the region.
        notes: One sentence for everything that could not be read.
        unreadable: Those of the named reservations that these credentials may not read. They may be in the region, and may be
            used without being read.
    """

    quotas: tuple[Quota, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    notes: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Availability:
    """The places and instance types of a region that an account can use, as the cloud reports them.

    Attributes:
        region: The name of the region.
        refused: Why the account can launch nothing in the region, such as "not enabled in this account"; "" if it can.
        zones: Zone id -> the name of the zone in this account, or the name itself in a cloud without zone ids; None if the
            cloud was not asked or can't tell.
        offered: Instance type -> the names of the zones that sell it to this account, ("",) in a region whose nodes need no
            zone. It has every instance type with accelerators that the region sells; others may be missing. None if the
            cloud was not asked or can't tell.
        notes: One sentence for everything that could not be read.
    """

    region: str
    refused: str = ""
    zones: Mapping[str, str] | None = None
    offered: Mapping[str, tuple[str, ...]] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Access:
    """The way to log in to a node.

    Attributes:
        address: The name or address of its SSH server, as seen from here.
        port: The port of its SSH server; None for the usual one.
        user: The login user; "" for the one in the user's SSH configuration, else the local user.
        internal: The address at which other nodes of the cluster reach it; "" for its private address.
        host_key: Its host key, "ssh-ed25519 AAAA...", where it is known without a call; "" for none.
        identity: The file of the private key; "" for the key of the cluster.
        jump: The jump host, "user@host:port"; "head" for the head of the cluster; "" for none.
        proxy_command: A command whose stdin and stdout lead to the node, with the placeholders %h, %p, %r, {instance_id},
            {region} and {zone}; "" for none.
        is_configured: Whether the settings say how the node is reached, so that nothing else is tried.
        remedy: What to do if `address` can't be reached from here; "" if it can be reached from anywhere.
        problem: Why the node has no SSH server at all; "" if it has one.
        is_own: Whether it is a machine of the user, which accepts the user's own keys, with the user's known hosts, and not the key
            of the cluster.
        ssh_config: The OpenSSH configuration that applies to an own machine; "" for none.
    """

    address: str
    port: int | None = None
    user: str = ""
    internal: str = ""
    host_key: str = ""
    identity: str = ""
    jump: str = ""
    proxy_command: str = ""
    is_configured: bool = False
    remedy: str = ""
    problem: str = ""
    is_own: bool = False
    ssh_config: str = ""


@dataclass(frozen=True, slots=True)
class PriceChange:
    """A price in USD per node-hour, and since when it holds; the list price, too, if a discount is in it."""

    at: datetime
    hourly_cost: float
    list_hourly_cost: float | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A result of `multicompute doctor`.

    Attributes:
        name: What was checked.
        ok: Whether the check passed.
        detail: What the check found.
        hint: How to fix a failure; "" if the check passed.
    """

    name: str
    ok: bool
    detail: str
    hint: str = ""


class Provider(Protocol):
    """An opened cloud.

    These rules apply to every method:

    - It can be called from several threads at once.
    - It can be repeated safely (I5).
    - It raises only errors of `multicompute.errors`, with the place and the vendor's code.
    - It waits only for the answers to its own calls and never sleeps. The engine does the polling, with its own clock,
      deadlines and backoff.
    - It finds resources in the cloud by tag or name and keeps no state of its own, because another process may continue
      the work (I3).

    Every method may raise these errors in addition to those that it documents:

    - `AuthError` and `AccessDeniedError`: the credentials are rejected or lack a permission.
    - `ThrottledError` and `TransientError`: the call can be repeated.
    - `InvalidRequestError`: the cloud rejects the call as invalid.
    - `ProviderError`: any answer that fits no other error.

    Attributes:
        name: The name that users write in `clouds` and in the configuration, such as "aws".
        capabilities: The abilities of this provider.
        consistency_window: How long after a call "not found" does not prove that a resource is gone (I4).
        attempt_timeout: How long an attempt may stay unready before it counts as a lack of capacity, by default.
        attempt_timeouts: A mapping from globs on names of instance types to the same for these types, where it is longer.
            Optional; `attempt_timeout_of` reads both.
        poll_interval: The longest pause between two listings while the engine waits.
    """

    name: str
    capabilities: frozenset[Capability]
    consistency_window: timedelta
    attempt_timeout: timedelta
    poll_interval: timedelta

    @property
    def account(self) -> Account:
        """The account that the credentials belong to, with one call when it is first read.

        The engine records it for every attempt, and uses the provider for a cluster only if the cluster is in this account.
        """
        ...

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch the gang, all nodes or none, and return the nodes without waiting until they run.

        Every resource is tagged in the call that creates it (I2); a resource that can't carry tags is named from the
        token or the cluster id. Resources that the nodes depend on are created first.

        Repeating: a call with a token that was used before returns the nodes of the first call and buys nothing. That is
        also true if the answer to the first call was lost, and if several threads make the call at once.

        With `request.restart`, the nodes of the earlier launch that are stopped are started, all that can be. An error then
        means that some are still stopped. Called only if the provider declares RESTART.

        Args:
            request: What to launch.

        Returns:
            The nodes, running or pending. A launch that fails after it was accepted is reported by `nodes`.

        Raises:
            CapacityError: The cloud has no capacity, or does not sell the instance type there (`is_offered=False`).
            QuotaError: The account's quota is too small.
            InvalidRequestError: The cloud rejects the request as invalid.
            AuthError, AccessDeniedError: The credentials are rejected or lack a permission. After this error and those
                above, no node with this token exists or will appear.
            ThrottledError, TransientError: It is unknown whether nodes exist. The engine repeats the call with the same
                token. Raise `TransientError` also if part of a refused gang could not be terminated.
        """
        ...

    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        """List the selected nodes in a stable order, reading every page.

        Each host of a slice is a node; hosts are ordered by slice and worker number. A node that has ended is listed as
        GONE, with the reason and cause, for as long as the cloud shows it. A node that a user or the cloud has stopped is
        listed as STOPPED, for as long as it can be started again. A node that is selected by its id or name and lacks the
        tags of multicompute has `is_tagged=False`.

        Not found: a node may be missing for `consistency_window` after its launch. A node that was terminated some time
        ago may be missing for good.
        """
        ...

    def resources(self, selector: Selector) -> tuple[Resource, ...]:
        """List everything that still exists of what is selected, nodes included, by tag and by name.

        Not found: a resource that is gone is not listed. A resource may be missing for `consistency_window` after it was
        created.
        """
        ...

    def terminate(self, selector: Selector) -> Teardown:
        """Take one step of a teardown and return what the cloud still shows, without waiting.

        Each call deletes what can be deleted now: first the nodes, then the resources that they used. A resource that is
        still in use remains for a later call and is not an error. The engine repeats the call until nothing remains.

        A selector with a token selects one attempt. Resources that belong to the complete cluster stay until a call
        selects the cluster. Resources without the tags or names of multicompute are never changed (I9).

        Not found: a resource that does not exist counts as deleted, except for `selector.node_ids`: these are terminated
        by id, and those that a listing does not show yet are returned as remaining.

        Args:
            selector: Names a cluster id or a token.

        Returns:
            The resources that a listing after the last delete shows, and what they are waiting for.

        Raises:
            InvalidRequestError: The selector names neither a cluster id nor a token, so nothing was deleted.
        """
        ...

    def set_expiry(
        self, selector: Selector, expires_at: datetime | None, *, restore: Mapping[str, str] | None = None
    ) -> None:
        """Change the expiry of the selected nodes, in the expiry tag and wherever the cloud enforces it.

        Not found: if no node is selected, the call does nothing.

        Args:
            selector: The nodes.
            expires_at: The new expiry, in UTC; None for never.
            restore: Tags to set again on selected nodes that lack the tags of multicompute; other nodes keep theirs.
        """
        ...

    def quotes(self, offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
        """Return today's prices of these offers.

        Not found: an offer for which the cloud gives no price is missing from the result.
        """
        ...

    def quotas(self, region: str, *, reservations: Sequence[str] = ()) -> Quotas:
        """Return the account's quotas in a region, and those of the named reservations that exist there.

        Not found: a reservation that does not exist in the region is missing from the result. A quota that can't be
        read, because a permission is missing for example, is a note in the result and not an error.

        Args:
            region: The region to read.
            reservations: The ids of reservations to find.
        """
        ...

    def availability(self, region: str) -> Availability:
        """Return what the account can use in a region.

        Called only if the provider declares AVAILABILITY. A part of the answer that can't be read, because a permission is
        missing for example, is None, with a note in the result, and not an error.

        Args:
            region: The region to read.
        """
        ...

    def spot_prices(self, offers: Sequence[Offer], *, since: datetime) -> Mapping[Offer, tuple[PriceChange, ...]]:
        """Return the prices of spot offers from `since` until now, oldest first.

        Called only if the provider declares SPOT_PRICES. The first price holds at `since`, where the cloud knows it.

        Not found: an offer without a known price is missing from the result.

        Args:
            offers: Offers with `purchase="spot"`.
            since: The start of the interval, in UTC.
        """
        ...

    def metrics(self, nodes: Sequence[Node], *, since: datetime, until: datetime) -> tuple[Sample, ...]:
        """Return what the cloud's monitoring measured on these nodes, oldest first.

        The provider queries the nodes in batches and not one by one. Monitoring lags behind by some minutes.

        Not found: a value that was not measured is missing from the result. It is never reported as zero.

        Args:
            nodes: The nodes to read.
            since: The start of the interval, in UTC.
            until: The end of the interval, in UTC.
        """
        ...

    def access(self, node: Node) -> Access:
        """Return how to log in to a node, without a call of the cloud's API.

        Called only if the provider declares SSH.
        """
        ...

    def host_keys(self, nodes: Sequence[Node]) -> Mapping[str, str]:
        """Return the host keys that the cloud itself has received from these nodes, by id: "ssh-ed25519 AAAA...".

        Called only if the provider declares SSH, for nodes whose host key is not known yet.

        Not found: a node that has not reported a host key yet, or whose report can't be read, is missing from the result.
        """
        ...

    def open_ssh(self, region: str, tags: Mapping[str, str]) -> None:
        """Let the caller reach port 22 of a cluster's nodes in a region, as a launch with a key does.

        Called only if the provider declares SSH, and never for private nodes. It opens the port to the addresses that are
        configured, else to the caller's own, and does nothing where the user has configured the rules.

        Args:
            region: The region.
            tags: The tags of the cluster, for what is created; TAG_ID names the cluster.
        """
        ...

    def check(self) -> tuple[Check, ...]:
        """Check the credentials and the main permissions, for `multicompute doctor`.

        A failed check is part of the result and not an error.
        """
        ...


class HostProvider(Provider, Protocol):
    """A provider of machines that belong to the user."""

    def hosts(self, *, check: bool = False) -> tuple[HostStatus, ...]:
        """Return all machines in the order of the inventory, with who uses them and what is wrong with them.

        Args:
            check: Whether to log in to each of them and check it, as before a launch. One that fails is set aside, and one that
                was set aside and passes is not any more.
        """
        ...

    def forget(self, host: str) -> None:
        """Delete what the ledger knows of a machine that is gone for good or was rebuilt: its lease, its host key, its state.

        Raises:
            InvalidRequestError: Neither the inventory nor the ledger has such a machine.
        """
        ...


def attempt_timeout_of(provider: Provider, instance_types: Iterable[str]) -> timedelta:
    """Return how long an attempt with nodes of these types may stay unready, unless the user sets a time."""
    slow: Mapping[str, timedelta] = getattr(provider, "attempt_timeouts", {})
    names = tuple(instance_types)
    longer = (longest for glob, longest in slow.items() if any(fnmatchcase(name, glob) for name in names))
    return max([provider.attempt_timeout, *longer])


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that a plug-in is opened with.

    Attributes:
        values: The provider's table of the configuration, `[providers.<name>]`; not in the repr, because it may hold a secret.
        environment: The environment variables; a plug-in must not read `os.environ` itself.
        host_book: Opens the records of the plug-in's own machines in the ledger; None where there is no ledger.
    """

    values: Mapping[str, object] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    host_book: Callable[[], HostBook] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Configured:
    """The answer of a plug-in to whether it can be opened with some settings, found without a network call.

    Attributes:
        ok: Whether credentials or an endpoint were found.
        why: Where the credentials come from or, if `ok` is False, what is missing and how to fix it.
        regions: The only regions to use, where the settings name some. Nothing is launched elsewhere, because no listing
            would find it there.
        is_local: Whether the endpoint is on this machine: a local cloud, whose machines start within seconds.
    """

    ok: bool
    why: str = ""
    regions: tuple[str, ...] = ()
    is_local: bool = False


class ProviderPlugin(Protocol):
    """The object that the entry point names. It imports without the SDK and opens the provider when needed.

    Attributes:
        name: The provider's name.
        extra: The extra that installs the SDK: `pip install "multicompute[<extra>]"`.
        modules: Modules of the SDK; if one is missing, the extra is not installed.
        can_launch: False if the provider has offer tables only.
        tables: The folder with the offer tables (`shards.csv`, `index.csv`, `regions.csv`, `sources.csv`, and `types.csv`
            and `offers.csv` for each accelerator; the catalog's design note describes them); None for a cloud without
            prices.
        tag_limits: The limits on the user's tags.
        setting_names: The keys that `[providers.<name>]` may have.
        image_required: Globs on the names of the instance types that have no default image, so a request without an image
            can't launch them. Optional: a plug-in without this attribute has none.
        billing_minimum: The shortest time that a machine is billed for. Longer times are billed by the second.
        lifetime_limits: How long machines live at most, a tuple of `LifetimeLimit`. Optional: a plug-in without this
            attribute has no limits.
        fabric_limits: Fabric ("infiniband") -> the most nodes of a gang that can share one, all of one instance type, zone,
            purchase and reservation. Optional: a fabric that is not in it, or a plug-in without this attribute, has no limit.
        usual_launch: How long a launch usually takes until the nodes run; a shorter ttl is refused. Optional: a plug-in without
            this attribute refuses none.
        has_hosts: Whether its machines belong to the user, so that the provider is a `HostProvider`, and the plug-in has the
            methods of `HostPlugin`. Optional: a plug-in without this attribute has none.

    Optional: `open_price_feed(settings)` returns the `multicompute.price_feed.PriceFeed` of the vendor, or None. It raises AuthError if
    the price interfaces need credentials and none are found, and ConfigError for a setting with an invalid value. The tables of a plug-in
    without this method can't be refreshed.
    """

    name: str
    extra: str
    modules: tuple[str, ...]
    can_launch: bool
    tables: Path | None
    tag_limits: TagLimits
    billing_minimum: timedelta

    @property
    def setting_names(self) -> tuple[str, ...]:
        """Return the keys that `[providers.<name>]` may have."""
        ...

    def configured(self, settings: Settings) -> Configured:
        """Return whether the provider can be opened with these settings, without a network call."""
        ...

    def open(self, settings: Settings) -> Provider:
        """Open the provider.

        Raises:
            AuthError: `configured` is not ok.
            ConfigError: A setting has an invalid value.
        """
        ...

    def local(self) -> "LocalCloud | None":
        """Return a local cloud that is not started yet, or None if the provider has none."""
        ...


class HostPlugin(ProviderPlugin, Protocol):
    """A plug-in whose machines belong to the user, so that its offers depend on the settings."""

    def own_offers(self, settings: Settings, *, today: date) -> OwnOffers | None:
        """Return the offers of the user's machines, in place of `tables`; None if there is no inventory.

        Raises:
            ConfigError: The inventory can't be read, or an entry is wrong; the message names file, line and machine.
        """
        ...
