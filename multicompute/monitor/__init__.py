"""Monitor clusters: measure nodes, find idle clusters, export metrics, and supervise."""
