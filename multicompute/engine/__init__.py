"""The only code that changes clouds. Import from its modules, so that a plan does not load what only a launch needs."""
