"""Acts: the only code that changes clouds. Import from its modules: a plan must not pay for what only a launch needs."""
