"""The parts that all operations on a cluster share: lease, cancellation, cloud calls with retry, and event log."""
