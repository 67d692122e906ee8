"""Machines that belong to the user: their offers, who has leased which, and what is known of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from multicompute.offer import Listing
from multicompute.units import format_instant

HostState = Literal["free", "leased", "set aside"]


class OwnOffers(NamedTuple):
    """The offers of the user's machines, and the file that describes them."""

    inventory: Path
    listings: tuple[Listing, ...]


@dataclass(frozen=True, slots=True)
class HostLease:
    """The lease of a machine: which launch uses it.

    Attributes:
        host: The id of the machine.
        region, instance_type: Its place and type when it was leased.
        token: The token of the launch.
        tags: All tags of the launch.
        taken_at: When it was leased.
        address: The address at which the other nodes reach it; "" until the machine was asked.
        is_marked: Whether the machine may carry the marker of the lease, so that it has to be asked before the lease can end.
    """

    host: str
    region: str
    instance_type: str
    token: str
    tags: Mapping[str, str]
    taken_at: datetime
    address: str = ""
    is_marked: bool = False


@dataclass(frozen=True, slots=True)
class HostNote:
    """The facts about a machine that do not depend on its lease.

    Attributes:
        host: The id of the machine.
        host_key: The public host key that it showed on first contact; "" before.
        until: Until when it is set aside; None if it is not.
        reason: Why it is set aside.
    """

    host: str
    host_key: str = ""
    until: datetime | None = None
    reason: str = ""

    def is_aside(self, now: datetime) -> bool:
        """Return whether it is set aside now."""
        return self.until is not None and now < self.until


class HostBook(Protocol):
    """The records of a provider's machines in the ledger, which all processes share that use the same ledger."""

    def leases(self) -> tuple[HostLease, ...]:
        """Return all leases, in the order of the machines' ids."""
        ...

    def exchange(self, token: str, before: Sequence[HostLease], after: Sequence[HostLease]) -> bool:
        """Replace the leases of a launch by others, in one step.

        Args:
            token: The token of the launch.
            before: Its leases as the caller knows them.
            after: Its leases from now on; () to end them.

        Returns:
            False, and nothing is written, if the launch has other leases than `before`, or another launch has leased one of the
            machines in `after`.
        """
        ...

    def notes(self) -> Mapping[str, HostNote]:
        """Return what is known of the machines, by their ids."""
        ...

    def write(self, note: HostNote) -> None:
        """Record what is known of a machine, in place of what was known before."""
        ...

    def forget(self, host: str) -> bool:
        """Delete the lease of a machine and what is known of it; return whether there was anything."""
        ...


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A machine of the user, for `multicompute hosts`.

    Attributes:
        id: The id of the machine, which is that of its node.
        address, port, user: Where and as whom to log in; "" for the user of the SSH configuration.
        region: The site.
        instance_type: Its type, such as "8xh100".
        hourly_cost: USD per hour.
        labels: The labels of the inventory.
        state: "free", "leased" or "set aside".
        cluster, cluster_id, owner, expires_at: The cluster that has leased it; "" if none has.
        reason: Why it is set aside, or what is wrong with a leased one; "" for nothing.
        until: Until when it is set aside; None if it is not.
        is_checked: Whether it was asked now.
        has_failed: Whether it failed the check.
    """

    id: str
    address: str
    port: int
    user: str
    region: str
    instance_type: str
    hourly_cost: float
    labels: Mapping[str, str] = field(default_factory=dict)
    state: HostState = "free"
    cluster: str = ""
    cluster_id: str = ""
    owner: str = ""
    expires_at: str = ""
    reason: str = ""
    until: datetime | None = None
    is_checked: bool = False
    has_failed: bool = False

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        lease = {
            "cluster": self.cluster,
            "cluster_id": self.cluster_id,
            "owner": self.owner,
            "expires_at": self.expires_at,
        }
        return {
            "host": self.id,
            "address": self.address,
            "port": self.port,
            "user": self.user,
            "site": self.region,
            "instance_type": self.instance_type,
            "hourly_usd": self.hourly_cost,
            "labels": dict(self.labels),
            "state": self.state.replace(" ", "_"),
            "lease": lease if self.cluster_id else None,
            "reason": self.reason,
            "until": self.until and format_instant(self.until),
            "checked": self.is_checked,
            "ok": None if not self.is_checked else not self.has_failed,
        }
