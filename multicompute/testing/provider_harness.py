"""The harness of the conformance suite: a provider, and the test cloud that it is connected to."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from multicompute import errors
from multicompute.clock import Clock
from multicompute.node import Metric, Node
from multicompute.offer import Offer, Part, Purchase
from multicompute.provider import (
    TAG_ATTEMPT,
    TAG_CLUSTER,
    TAG_EXPIRES_AT,
    TAG_ID,
    TAG_OWNER,
    LaunchRequest,
    Provider,
    Resource,
    expiry_tag,
)


class FailureKind(StrEnum):
    """A way in which a cloud refuses a launch; `EXPECTED` has the error of each."""

    CAPACITY = "capacity"
    NOT_OFFERED = "not-offered"
    """The place does not sell the instance type."""
    QUOTA = "quota"
    THROTTLED = "throttled"
    TRANSIENT = "transient"
    AUTH = "auth"
    DENIED = "denied"
    INVALID = "invalid"
    UNKNOWN = "unknown"
    """A code that the provider does not know."""


EXPECTED: Mapping[FailureKind, type[errors.MulticomputeError]] = MappingProxyType(
    {
        FailureKind.CAPACITY: errors.CapacityError,
        FailureKind.NOT_OFFERED: errors.CapacityError,
        FailureKind.QUOTA: errors.QuotaError,
        FailureKind.THROTTLED: errors.ThrottledError,
        FailureKind.TRANSIENT: errors.TransientError,
        FailureKind.AUTH: errors.AuthError,
        FailureKind.DENIED: errors.AccessDeniedError,
        FailureKind.INVALID: errors.InvalidRequestError,
        FailureKind.UNKNOWN: errors.ProviderError,
    }
)


class ProviderHarness(Protocol):
    """A provider and the test cloud that it is connected to, which has no resource of multicompute when a test begins.

    `multicompute.testing.LocalCloudHarness` implements it for any provider with a `LocalCloud`. Properties may be attributes.
    """

    @property
    def provider(self) -> Provider:
        """Return the provider under test."""
        ...

    @property
    def clock(self) -> Clock:
        """Return the clock of the cloud; its `sleep` may return at once."""
        ...

    @property
    def page_nodes(self) -> int:
        """Return how many nodes are more than one page of a listing."""
        ...

    def offer(self, purchase: Purchase = "on_demand", *, zone: int = 0, region: int = 0) -> Offer:
        """Return an offer of one instance type in zone 0 or 1 of region 0 or 1."""
        ...

    def alive(self) -> Sequence[Resource]:
        """Return everything that exists, whoever owns it and whether or not a listing shows it."""
        ...

    def limit_capacity(self, offer: Offer, nodes: int) -> None:
        """Limit how many nodes the zone of `offer` has in total."""
        ...

    def refuse_launch(self, kind: FailureKind) -> None:
        """Refuse the next launch in this way, with the real cloud's code and message; nothing is launched.

        Raises:
            NotImplementedError: The cloud never refuses in this way; the message says why.
        """
        ...

    def lose_launch_answer(self) -> None:
        """Do the next launch, and lose its answer."""
        ...

    def delay_listing(self) -> None:
        """Omit new nodes from listings for a while, shorter than the consistency window."""
        ...

    def add_foreign(self) -> None:
        """Create foreign resources of every kind that the provider creates."""
        ...

    def foreign_intact(self) -> bool:
        """Return whether every foreign resource exists unchanged."""
        ...

    def other_account(self) -> Provider:
        """Return a provider for the same cloud with the credentials of another account, which has no resources."""
        ...

    def stop(self, node_id: str) -> None:
        """Stop a node without deleting it, as a user can in the vendor's console."""
        ...

    def remove_tags(self, node_id: str) -> None:
        """Remove all tags of a node, as another tool of the organisation can."""
        ...

    def protect(self, node_id: str) -> None:
        """Protect a node from deletion in the cloud's own way."""
        ...

    def unprotect(self, node_id: str) -> None:
        """Remove the protection of a node."""
        ...

    def reach_expiry(self) -> None:
        """Reach the expiry of the nodes, and do what the cloud or the node then does.

        Called only if the provider declares EXPIRY.
        """
        ...

    def preempt(self, node_id: str) -> None:
        """Take a spot node back; called only if the provider declares SPOT."""
        ...

    def measure(self, node: Node, load: Mapping[Metric, float]) -> None:
        """Add measurements of a node for some minutes; accelerator metrics are about accelerator 0.

        A metric that is not in `load` was not measured. Called only if the provider declares METRICS.
        """
        ...

    def impair(self, node: Node) -> None:
        """Make the cloud's health check of a running node fail; called only if the provider declares HEALTH_CHECKS."""
        ...

    def reserve(self, offer: Offer, nodes: int) -> str:
        """Reserve capacity for `nodes` of `offer`, and return the id; called only if the provider declares RESERVATIONS."""
        ...


def launch_request(
    offer: Offer, *, nodes: int = 2, cluster: str = "first", token: str = "attempt-1", owner: str = "conformance"
) -> LaunchRequest:
    """Return a request for `nodes` of `offer` with the tags that the engine sets."""
    tags = {
        TAG_CLUSTER: cluster,
        TAG_ID: f"id-{cluster}",
        TAG_ATTEMPT: token,
        TAG_OWNER: owner,
        TAG_EXPIRES_AT: expiry_tag(None),
        "team": "nlp",
    }
    return LaunchRequest(token, f"id-{cluster}", cluster, owner, (Part(offer, nodes),), tags)
