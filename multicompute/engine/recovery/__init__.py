"""Recovers from lost processes and ledgers: compares ledger and clouds, adopts clusters, and reaps what has expired."""
