"""Compare the ledger with the clouds: reconcile, adopt and reap."""
