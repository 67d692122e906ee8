"""Integrations with schedulers; each needs its own extra."""
