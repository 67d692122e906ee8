"""The double of a provider: a cloud in memory, for fast tests."""
