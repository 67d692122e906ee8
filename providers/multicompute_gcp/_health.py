"""Reads the faults that Google reports for instances and TPU slices; both are in the listings that are made anyway."""

from collections.abc import Mapping
from typing import Any, Final

# "View and plan for host maintenance events", Compute Engine documentation: these reasons mean that a GPU, a link or a disk fails.
_FAILURE: Final = "FAILURE_"
# https://cloud.google.com/tpu/docs/reference/rest/v2/projects.locations.nodes#Health, of a node that is READY otherwise.
# A health value that Google does not define does not count as bad.
_UNHEALTHY: Final = ("TIMEOUT", "UNHEALTHY_TENSORFLOW", "UNHEALTHY_MAINTENANCE")
# The states of a slice that is being repaired, and after a repair that has failed.
_IN_REPAIR: Final = ("REPAIRING", "UNKNOWN")


def instance_fault(item: Mapping[str, Any]) -> str | None:
    """Return the fault of an instance that should run, None if it has none. Planned maintenance is not a fault."""
    status = str(item.get("status"))
    if status == "REPAIRING":
        return f"{status}: {item.get('statusMessage') or 'Google repairs the instance'}"
    planned = (item.get("resourceStatus") or {}).get("upcomingMaintenance") or {}
    faults = [str(reason) for reason in planned.get("maintenanceReasons") or () if str(reason).startswith(_FAILURE)]
    if status != "RUNNING" or not faults:
        return None
    repair = planned.get("latestWindowStartTime") or "a time that is not named"
    return f"{', '.join(faults)}: Google has found a fault, and repairs it at {repair}"


def slice_fault(item: Mapping[str, Any]) -> str | None:
    """Return the fault of a slice that should run, None if it has none."""
    state, health = str(item.get("state")), str(item.get("health") or "")
    if state == "READY" and health in _UNHEALTHY:
        code = health
    elif state in _IN_REPAIR:
        code = state
    else:
        return None
    return f"{code}: {item.get('healthDescription') or 'the slice is not healthy'}"
