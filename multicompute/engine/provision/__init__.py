"""Launch clusters: claim a name, try one candidate after another, and wait until the gang runs."""
