"""Clusters for the schedulers that people have already; each needs its own extra."""
