"""Brings a cluster up: claims its name, checks quotas and prices, launches candidates in order, and rolls back failures."""
