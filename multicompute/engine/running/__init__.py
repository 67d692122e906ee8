"""Runs commands and distributed engines on the nodes of clusters that are up."""
