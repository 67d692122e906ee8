"""Checks the promises of this package in a real account, with the cheapest machine that will do."""
