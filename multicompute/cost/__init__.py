"""Computes what clusters have cost and will cost, from the ledger and without calling a cloud."""
