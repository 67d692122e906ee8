"""What every operation on a cluster shares: its lease, cancellation, retries and event log."""
