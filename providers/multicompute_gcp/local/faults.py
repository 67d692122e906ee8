"""Faults that accept the long and the short names of Google's methods."""

from collections.abc import Callable
from dataclasses import replace

from multicompute.testing.faults import ANY_OPERATION, Call, Fault, Faults
from multicompute_gcp.local.routes import short_name


class GcpFaults(Faults):
    """Faults that accept a method's id or its short name.

    The ids are "compute.instances.bulkInsert" and "tpu.projects.locations.queuedResources.create"; the short names, under which
    calls are recorded, are "instances.bulkInsert" and "tpu.queuedResources.create".
    """

    def add(self, fault: Fault) -> None:
        """Add a fault; see `Faults.add`."""
        super().add(replace(fault, operation=short_name(fault.operation)))

    def hook(self, operation: str, function: Callable[[Call], object]) -> None:
        """Add a hook; see `Faults.hook`."""
        """Add a hook; see `Faults.hook`."""
        super().hook(short_name(operation), function)

    def count(self, operation: str = ANY_OPERATION) -> int:
        """Return how many calls of a method were received; see `Faults.count`."""
        """Return how many calls of a method were received; see `Faults.count`."""
        return super().count(short_name(operation))
