"""The ledger: records clusters, attempts, nodes, events and outages before any cloud is called. All SQL is in this package."""

from multicompute.ledger.ledger import Ledger
from multicompute.ledger.records import (
    ACCESS_DENIED,
    NOT_AUTHENTICATED,
    AttemptRecord,
    AttemptState,
    AvailabilityRecord,
    ClusterRecord,
    NodeRecord,
)

__all__ = [
    "ACCESS_DENIED",
    "NOT_AUTHENTICATED",
    "AttemptRecord",
    "AttemptState",
    "AvailabilityRecord",
    "ClusterRecord",
    "Ledger",
    "NodeRecord",
]
