"""The ledger: records clusters, attempts, nodes, events and outages before any cloud is called. All SQL is in this package."""

from multicompute.ledger.ledger import Ledger
from multicompute.ledger.records import AttemptRecord, AttemptState, ClusterRecord, NodeRecord

__all__ = ["AttemptRecord", "AttemptState", "ClusterRecord", "Ledger", "NodeRecord"]
