"""Faults by the names that Google's methods have, long or short."""

from collections.abc import Callable
from dataclasses import replace

from multicompute.testing.faults import ANY_OPERATION, Call, Fault, Faults
from multicompute_gcp.local.routes import short_name


class GcpFaults(Faults):
    """Faults that know a method by its id ("compute.instances.bulkInsert", "tpu.projects.locations.queuedResources.create")
    and by its short name ("instances.bulkInsert", "tpu.queuedResources.create"), under which calls are on record.
    """

    def add(self, fault: Fault) -> None:
        super().add(replace(fault, operation=short_name(fault.operation)))

    def hook(self, operation: str, function: Callable[[Call], object]) -> None:
        super().hook(short_name(operation), function)

    def count(self, operation: str = ANY_OPERATION) -> int:
        return super().count(short_name(operation))
