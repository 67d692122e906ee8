"""Monitors clusters: measures nodes, finds idle clusters, exports metrics, and supervises."""
