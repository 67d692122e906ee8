"""The interface of every local cloud."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from multicompute.offer import Purchase
from multicompute.provider import Resource
from multicompute.testing.faults import Faults
from multicompute.testing.local.measurements import Load


class LocalCloud(Protocol):
    """A cloud on 127.0.0.1 for tests, created by `ProviderPlugin.local`.

    After `start` the cloud has unlimited capacity, nothing takes time and nothing fails. A test changes these conditions, or
    changes nodes from outside, as the cloud itself or another user of the account can.

    The local cloud of a provider can subclass this class. The methods for abilities that some clouds lack then raise
    NotImplementedError, unless the subclass overrides them.

    Attributes:
        name: The provider's name.
        faults: The faults that wait for calls, and a record of every call.
        lag: How long listings omit a new resource.
        boot_delay: How long a node is pending.
        shutdown_delay: How long a termination takes.

    Example:
        >>> def sell_out(cloud: LocalCloud) -> None:
        ...     cloud.set_capacity("p5.48xlarge", "us-east-1a", 0)
        ...     cloud.faults.throttle("DescribeInstances", times=2)
    """

    name: str
    faults: Faults
    lag: timedelta
    boot_delay: timedelta
    shutdown_delay: timedelta

    # --- the server ---------------------------------------------------------------------------------------------------

    @property
    def endpoint_url(self) -> str:
        """The URL of the cloud's API; only after `start`."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables that connect any process to this cloud, and to no real account."""
        ...

    def start(self) -> None:
        """Start the server and return when it answers."""
        ...

    def stop(self) -> None:
        """Stop the server and delete everything in the cloud; does nothing if the server does not run."""
        ...

    # --- conditions ---------------------------------------------------------------------------------------------------

    def set_capacity(self, instance_type: str, place: str, nodes: int | None) -> None:
        """Limit how many nodes of an instance type a place has.

        Args:
            instance_type: The vendor's name of the machine type or slice type.
            place: A zone; a region in clouds whose nodes need no zone.
            nodes: How many in total, nodes that run included; None for no limit.

        Raises:
            ValueError: The place does not sell the instance type.
        """
        ...

    def set_quota(self, quota: str, region: str, value: float) -> None:
        """Limit what the account may use.

        Args:
            quota: The vendor's name of the quota.
            region: The region that it applies to.
            value: The limit, in the quota's own unit.

        Raises:
            ValueError: The cloud has no such quota.
        """
        raise _unsupported(self, "quotas")

    def set_price(
        self, instance_type: str, region: str, hourly_usd: float | None, *, purchase: Purchase = "on_demand"
    ) -> None:
        """Set what an instance type costs in a region, in the price interfaces of the cloud.

        Args:
            instance_type: The vendor's name of the machine type or slice type.
            region: The region; a spot price holds in all its zones.
            hourly_usd: The price of a node in USD per hour; None for a type that is not in the price list, though it can be launched.
            purchase: How it is bought.

        Raises:
            ValueError: The region does not sell the type in this way, or the cloud can't have this price.
        """
        raise _unsupported(self, "prices that change")

    def add_reservation(
        self, instance_type: str, place: str, nodes: int, *, tags: Mapping[str, str] | None = None
    ) -> str:
        """Add a reservation with capacity of its own, and return the id by which a request names it."""
        raise _unsupported(self, "reservations")

    def set_delays(self, *, lag: float = 0, boot: float = 0, shutdown: float = 0) -> None:
        """Set `lag`, `boot_delay` and `shutdown_delay` in seconds."""
        self.lag = timedelta(seconds=lag)
        self.boot_delay, self.shutdown_delay = timedelta(seconds=boot), timedelta(seconds=shutdown)

    # --- outside actors -----------------------------------------------------------------------------------------------

    def preempt(self, node_id: str) -> None:
        """Take a spot node back, as the cloud does when it needs the capacity.

        Raises:
            ValueError: The cloud has no such spot node.
        """
        ...

    def stop_node(self, node_id: str) -> None:
        """Stop a node without deleting it, as a user can in the vendor's console."""
        raise _unsupported(self, "stopped nodes")

    def start_node(self, node_id: str) -> None:
        """Start a stopped node again, as a user can in the vendor's console."""
        raise _unsupported(self, "stopped nodes")

    def power_off(self, node_id: str) -> None:
        """Power a node off from inside, as `shutdown` on it does; the cloud then does what the launch asked for."""
        raise _unsupported(self, "nodes that power off")

    def remove_tags(self, node_id: str) -> None:
        """Remove all tags of a node, as another tool of the organisation can."""
        raise _unsupported(self, "tags that are removed from outside")

    def protect(self, node_id: str, *, is_protected: bool = True) -> None:
        """Protect a node from deletion in the cloud's own way, or remove the protection."""
        raise _unsupported(self, "protection from deletion")

    def add_account(self, account: str) -> Mapping[str, str]:
        """Add an account without resources, and return the environment variables with which a process uses it.

        Args:
            account: The id of an AWS account, a Google Cloud project or an Azure subscription.
        """
        raise _unsupported(self, "other accounts")

    def terminate_node(self, node_id: str) -> None:
        """Terminate a node at once, as a user can in the vendor's console."""
        raise _unsupported(self, "nodes that are terminated from outside")

    def impair(self, node_id: str) -> None:
        """Make the cloud's own health check of a node fail."""
        raise _unsupported(self, "health checks")

    def measure(self, node_id: str, load: Load) -> None:
        """Add measurements to the cloud's monitoring.

        Args:
            node_id: The node that was measured.
            load: Metric -> its value in the last minutes, in the metric's unit. A metric that is missing was not measured.
        """
        raise _unsupported(self, "metrics")

    # --- what exists --------------------------------------------------------------------------------------------------

    def alive(self) -> Sequence[Resource]:
        """Return everything that exists in this cloud, whoever owns it, as the account would be billed for it.

        Listings may omit a resource for a while (`lag`); this method never does.
        """
        ...

    def running_ids(self) -> list[str]:
        """Return the ids of the nodes that run, in the order of their creation."""
        ...

    def boot_script(self, node_id: str) -> str:
        """Return the boot script of a node as the launch sent it; in base64 if the vendor's API takes base64."""
        raise _unsupported(self, "boot scripts")

    def authorized_keys(self, node_id: str) -> Sequence[str]:
        """Return the public keys that the launch of a node allows to log in."""
        raise _unsupported(self, "keys that may log in")

    def seed_foreign(self) -> None:
        """Create foreign resources of every kind that the provider creates: some untagged, some of another owner.

        Whatever the provider does, they must survive unchanged (I9).
        """
        ...

    def foreign_intact(self) -> bool:
        """Return whether every foreign resource still exists with the tags it was created with."""
        ...


def _unsupported(cloud: LocalCloud, what: str) -> NotImplementedError:
    return NotImplementedError(f"the local cloud of {cloud.name} has no {what}")
