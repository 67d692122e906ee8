"""The seam between the core and a cloud: what a provider must do, declare and exchange.

A provider is reached through its plug-in object, which the entry-point group `multicompute.providers` names and which
imports without the cloud's SDK. Tests for a provider's author are in `multicompute.testing.conformance`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from multicompute.node import Node, Sample
from multicompute.offer import InstanceType, Offer, Part, Purchase, Quote

if TYPE_CHECKING:
    # Exported for the annotations of plug-ins, which know the seam but not `multicompute.testing`.
    from multicompute.testing.local.cloud import LocalCloud as LocalCloud  # noqa: PLC0414


class Capability(StrEnum):
    """What a provider can do; declared once, read by the engine and by the conformance suite."""

    SPOT = "spot"
    FLEX_START = "flex_start"
    RESERVATIONS = "reservations"
    PLACEMENT = "placement"
    """Puts a gang close together and gives it the fabric between nodes."""
    QUOTAS = "quotas"
    """Can tell what the account may have, before it is asked for."""
    LIVE_PRICES = "live_prices"
    """Can tell today's price of an offer."""
    EXPIRY = "expiry"
    """Ends a node at its expiry although nobody of us is alive."""
    METRICS = "metrics"
    """Can tell how busy nodes are."""
    HEALTH_CHECKS = "health_checks"
    """Checks machines by itself, and can tell which fail."""
    GLOBAL_LISTING = "global_listing"
    """Lists nodes of all regions in one answer, for which it costs as much to be asked of one."""
    DEPENDENT_RESOURCES = "dependent_resources"
    """Makes resources beside machines (security groups, placement groups, ...) that teardown must remove."""


TAG_CLUSTER = "multicompute-cluster"
TAG_ID = "multicompute-id"
TAG_ATTEMPT = "multicompute-attempt"
TAG_OWNER = "multicompute-owner"
TAG_EXPIRES_AT = "multicompute-expires-at"
RESERVED_TAG_PREFIX = "multicompute-"


def expiry_tag(expires_at: datetime | None) -> str:
    """The value of the expiry tag: epoch seconds, or "never"."""
    return "never" if expires_at is None else str(int(expires_at.timestamp()))


@dataclass(frozen=True, slots=True)
class TagLimits:
    """What a cloud accepts as user tags beside ours."""

    count: int
    key_length: int
    value_length: int
    reserved_prefixes: tuple[str, ...] = ()
    key_pattern: str = ""
    """A regular expression that a name must match in full; "" for any."""


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """One attempt: everything a provider needs to launch a gang, all or nothing.

    Attributes:
        token: the idempotency key; the same token is the same launch, for good.
        cluster_id, cluster_name, owner: go into the tags, see `tags`.
        parts: what to launch; all of it, or nothing. All parts are of one provider and one region.
        tags: every tag of every resource, ours and the user's.
        expires_at: hard end of life, None for none.
        fabric: whether the gang needs the RDMA-class fabric of its instance type and close placement.
        image: image id, or None for the provider's default for the instance type.
        setup: shell script that runs as root at first boot, or "".
        ssh_public_key: an OpenSSH public key line that may log in, or None for no SSH at all.
        private: no public address, and no port open from outside.
        disk_gib: boot disk, or None for the provider's default.
        max_price: USD per node-hour that a spot node may cost at most, or None.
        attempt_timeout: how long the attempt may stay unready before the engine gives it up, as far as the user has said; what
            waits in a cloud's own queue need not wait longer.
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
    private: bool = False
    disk_gib: float | None = None
    max_price: float | None = None
    attempt_timeout: timedelta | None = None

    @property
    def region(self) -> str:
        return self.parts[0].offer.region

    @property
    def node_count(self) -> int:
        return sum(part.nodes for part in self.parts)


@dataclass(frozen=True, slots=True)
class Selector:
    """Which of our resources are meant. Fields that are None do not narrow it.

    Attributes:
        region: one region, or None for every region that the provider works in.
        cluster_id, token, owner: the values of our tags.
        node_ids: ids known from a launch so recent that a listing may not show them yet: beside what the tags find, they are
            selected too, and one that the cloud does not show counts as still there (I4).
        instance_types: the instance types of what is looked for, where the caller knows them: a provider that keeps machines in
            several services need ask only the services of these types; () asks all. It narrows nothing else.
        with_health: ask also for the cloud's own checks of its machines: a node that fails them is IMPAIRED, not RUNNING.
    """

    region: str | None = None
    cluster_id: str | None = None
    token: str | None = None
    owner: str | None = None
    node_ids: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()
    with_health: bool = False


@dataclass(frozen=True, slots=True)
class Resource:
    """Anything that carries our tags or is named from a token: a node, a disk, a security group, ...

    Attributes:
        kind: the vendor's word: "instance", "volume", "security-group", "placement-group", ...
        billable: whether it costs money by itself.
        tags: as the cloud reports them.
    """

    provider: str
    kind: str
    id: str
    region: str
    billable: bool
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Teardown:
    """How far a teardown has come. Not finished is a result, not an error: call again."""

    remaining: tuple[Resource, ...] = ()
    waiting_for: str = ""

    @property
    def is_done(self) -> bool:
        """Whether the cloud, asked after the last delete, has nothing left."""
        return not self.remaining


@dataclass(frozen=True, slots=True)
class Quota:
    """What the account may still have, in the cloud's own unit.

    Attributes:
        name: the cloud's name of it, "Running On-Demand P instances".
        region: where it counts.
        purchase: which way of buying counts against it.
        families: which instance types count, as globs on their names ("p*", "trn*").
        limit, used: in `unit`.
        unit: "vcpus", "accelerators" or "nodes".
        accelerator: counts only types with this accelerator, where the name of a type does not tell; "" for any.
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
        """Whether nodes of this instance type count against it."""
        return self.accelerator in ("", instance.accelerator) and any(
            fnmatchcase(instance.name, family) for family in self.families
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """Capacity secured beforehand, as the cloud reports it; `hourly_cost` is USD per node-hour on top (0: paid already)."""

    provider: str
    id: str
    region: str
    zone: str
    instance_type: str
    available: int
    kind: str = "reservation"
    hourly_cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Quotas:
    """The answer of `Provider.quotas`: what could be read, and notes on what could not."""

    quotas: tuple[Quota, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One finding of `doctor`: what was looked at, whether it is well, and what to do if not."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


class Provider(Protocol):
    """A cloud, opened. Every method may be called from several threads, raises only errors of `multicompute.errors`
    with place and vendor code attached, waits for nothing but the one answer, and can be repeated safely (I5).
    """

    name: str
    capabilities: frozenset[Capability]
    consistency_window: timedelta
    """For so long after a call "not found" is no proof of gone (I4)."""
    attempt_timeout: timedelta
    """How long an attempt may stay unready before it counts as a lack of capacity, by default."""
    poll_interval: timedelta
    """How often to look while waiting, at most."""

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        """Launch the gang, all or nothing, tagged at birth (I2); returns the nodes, which may still be pending.

        The same token again returns the same nodes and buys nothing. What has to be made beside machines is made here
        first, tagged or named from the token. When it raises CapacityError, QuotaError, InvalidRequestError, AuthError or
        AccessDeniedError, no node of this token lives or will; after ThrottledError or TransientError that is not known,
        and the engine repeats the call with the same token.
        """
        ...

    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        """Our nodes, by tag, listed to the last page, in a stable order; those long gone may be missing.

        Each host of a slice is a node, in the order of the slices and of their worker numbers.

        A node just launched may be missing for the consistency window.
        """
        ...

    def resources(self, selector: Selector) -> tuple[Resource, ...]:
        """Everything of ours that still exists, nodes included, by tag and by name; nothing that is gone."""
        ...

    def terminate(self, selector: Selector) -> Teardown:
        """Delete what is selected, first nodes and then what was made beside them; one step, does not wait.

        `selector` names a cluster id or a token. Returns what the cloud still shows afterwards; the engine calls again until
        nothing remains. What is already gone counts as deleted. Nothing without our tags or name is touched (I9).
        """
        ...

    def set_expiry(self, selector: Selector, expires_at: datetime | None) -> None:
        """Move the end of life of the selected nodes, in tags and wherever the cloud enforces it."""
        ...

    def quotes(self, offers: Sequence[Offer]) -> Mapping[Offer, Quote]:
        """Today's prices of these offers, as far as the cloud can be asked; the others are missing."""
        ...

    def quotas(self, region: str, *, reservations: Sequence[str] = ()) -> Quotas:
        """What the account may have in `region`, and those of the named reservations that are there.

        What can't be read (a missing right, say) is a note in the answer, not an error.
        """
        ...

    def metrics(self, nodes: Sequence[Node], *, since: datetime, until: datetime) -> tuple[Sample, ...]:
        """What the cloud's monitoring has measured of these nodes between two instants, oldest first.

        Asked in batches, not node by node. What was not measured is missing: it is never a zero. Monitoring lags by some minutes.
        """
        ...

    def check(self) -> tuple[Check, ...]:
        """Ask the cloud who we are and whether the main rights are there; for `doctor`."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """What a plug-in is opened with: its table of the configuration, and the environment to look for credentials in."""

    values: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Configured:
    """Whether a provider can be opened, and if not, why and what would mend it. Told without a network call."""

    ok: bool
    why: str = ""
    regions: tuple[str, ...] = ()
    """The only regions that are to be used, where the settings name some: nothing is bought where nobody would look for it."""


class ProviderPlugin(Protocol):
    """What the entry point names: imports without the SDK, and opens the provider when it is needed."""

    name: str
    extra: str
    """The extra that installs the SDK: `pip install "multicompute[<extra>]"`."""
    modules: tuple[str, ...]
    """Modules of the SDK whose absence means that the extra is not installed."""
    can_launch: bool
    """False while only the offer tables are there."""
    tables: Path | None
    """Folder with the offer tables (`shards.csv`, `index.csv`, `regions.csv`, `sources.csv`, and `types.csv` and `offers.csv` for each
    accelerator; the catalog's design note describes them), or None for a cloud without prices."""
    tag_limits: TagLimits
    setting_names: tuple[str, ...]
    """The keys that `[providers.<name>]` may have."""
    billing_minimum: timedelta
    """For how long a machine is billed at least, however soon it ends; what runs longer is billed by the second."""

    def configured(self, settings: Settings) -> Configured: ...

    def open(self, settings: Settings) -> Provider:
        """Open the provider; raises AuthError when `configured` is not ok."""
        ...

    def local(self) -> "LocalCloud | None":
        """A local cloud that has not been started, or None where the provider brings none."""
        ...
