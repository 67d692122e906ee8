"""Remembers clusters, attempts, nodes, events and outages, on disk before any cloud hears of them. The only SQL."""

from multicompute.ledger.ledger import Ledger
from multicompute.ledger.records import AttemptRecord, AttemptState, ClusterRecord, NodeRecord

__all__ = ["AttemptRecord", "AttemptState", "ClusterRecord", "Ledger", "NodeRecord"]
