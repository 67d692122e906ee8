"""Compute what clusters have cost and will cost, from the ledger."""
