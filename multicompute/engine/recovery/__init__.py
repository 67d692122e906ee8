"""Recover from lost processes and ledgers: compare ledger and clouds, adopt clusters, and reap what has expired."""
