"""Situations that others bring about, on every local cloud."""
