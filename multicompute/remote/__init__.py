"""Runs commands on nodes, copies files and starts distributed engines there, over SSH."""
