"""Bring a cluster up: claim its name, check quotas and prices, launch candidates in order, and roll back failures."""
