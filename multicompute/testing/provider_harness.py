"""What the conformance suite runs in: a provider, and the test cloud that it talks to."""

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
    """The ways in which a cloud refuses a launch, and the error each must become."""

    CAPACITY = "capacity"
    NOT_OFFERED = "not-offered"
    """The place does not sell it at all."""
    QUOTA = "quota"
    THROTTLED = "throttled"
    TRANSIENT = "transient"
    AUTH = "auth"
    DENIED = "denied"
    INVALID = "invalid"
    UNKNOWN = "unknown"
    """A code that the provider has never heard of."""


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
    """A provider and the test cloud that it talks to, which is empty of our resources when a test begins.

    Attributes:
        provider: what is tested.
        clock: how time passes in that cloud; `sleep` on it may return at once.
        page_nodes: so many nodes are more than one page of a listing.
    """

    provider: Provider
    clock: Clock
    page_nodes: int

    def offer(self, purchase: Purchase = "on_demand", *, zone: int = 0, region: int = 0) -> Offer:
        """An offer of one instance type; zones 0 and 1, and regions 0 and 1, are different ones."""
        ...

    def alive(self) -> Sequence[Resource]:
        """Everything that exists, of any owner, whether or not a listing shows it: the ground truth."""
        ...

    def limit_capacity(self, offer: Offer, nodes: int) -> None:
        """From now on the zone of `offer` has `nodes` of it in all."""
        ...

    def refuse_launch(self, kind: FailureKind) -> None:
        """Let the next launch be refused in this way, as the real cloud words it; nothing is launched."""
        ...

    def lose_launch_answer(self) -> None:
        """Let the next launch be done, and its answer be lost."""
        ...

    def delay_listing(self) -> None:
        """From now on a new node is missing from listings for a while, shorter than the consistency window."""
        ...

    def add_foreign(self) -> None:
        """Make resources that are not ours, of every kind that we make."""
        ...

    def foreign_intact(self) -> bool:
        """Whether all of them are there and as they were."""
        ...

    def reach_expiry(self) -> None:
        """Let the time come at which our nodes expire, and happen what the cloud or the node then does by itself."""
        ...

    def preempt(self, node_id: str) -> None:
        """Take a spot node back."""
        ...

    def measure(self, node: Node, load: Mapping[Metric, float]) -> None:
        """Let the cloud's monitoring have measured this of a node, of its accelerator 0 where it is about one, for some minutes.

        Asked only of a provider that declares METRICS; what is not in `load` was not measured.
        """
        ...

    def impair(self, node: Node) -> None:
        """Let the cloud's own check of a running node fail; asked only of a provider that declares HEALTH_CHECKS."""
        ...

    def reserve(self, offer: Offer, nodes: int) -> str:
        """Secure capacity for `nodes` of `offer`; returns the reservation's id."""
        ...


def launch_request(
    offer: Offer, *, nodes: int = 2, cluster: str = "first", token: str = "attempt-1", owner: str = "conformance"
) -> LaunchRequest:
    """A plain request for `nodes` of `offer`, with the tags that the engine would give it."""
    tags = {
        TAG_CLUSTER: cluster,
        TAG_ID: f"id-{cluster}",
        TAG_ATTEMPT: token,
        TAG_OWNER: owner,
        TAG_EXPIRES_AT: expiry_tag(None),
        "team": "nlp",
    }
    return LaunchRequest(token, f"id-{cluster}", cluster, owner, (Part(offer, nodes),), tags)
