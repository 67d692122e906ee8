"""The field `scheduling`: how instances are bought, how long they may run, and what happens then."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from multicompute_gcp.local.hardware import MachineType
from multicompute_gcp.local.responses import GcpError, Json, invalid

# https://cloud.google.com/compute/docs/instances/limit-vm-runtime
_SHORTEST_RUN, _LONGEST_RUN = timedelta(seconds=30), timedelta(days=120)
# https://cloud.google.com/compute/docs/instances/about-flex-start-vms
_SHORTEST_FLEX, _LONGEST_FLEX = timedelta(minutes=10), timedelta(days=7)
_PURCHASES: Mapping[str, str] = {
    "STANDARD": "on_demand",
    "SPOT": "spot",
    "FLEX_START": "flex_start",
    "RESERVATION_BOUND": "reserved",
}


@dataclass(frozen=True, slots=True)
class Schedule:
    """The parsed field; `body` is its form in responses."""

    model: str
    action: str
    run_limit: timedelta | None
    end: datetime | None
    body: Json

    @property
    def is_spot(self) -> bool:
        """Return whether the instances are spot instances."""
        return self.model == "SPOT"

    @property
    def purchase(self) -> str:
        """The way of purchase as the offer tables name it."""
        return _PURCHASES[self.model]


def read_scheduling(place: str, given: Json, machine: MachineType, gpu: str, reservation: str | None) -> Schedule:
    """Read and check the field.

    Raises:
        GcpError: Compute Engine would refuse the field.
    """
    field = f"{place}.scheduling"
    legacy = given.get("preemptible", False)
    model = given.get("provisioningModel", "SPOT" if legacy else "STANDARD")
    maintenance = _maintenance(field, given, model, gpu)
    _check_restart(field, given, model)
    limit, end = _run_limit(field, given), _end(field, given)
    if model == "FLEX_START" and (limit is None or not _SHORTEST_FLEX <= limit <= _LONGEST_FLEX):
        raise invalid(
            f"{field}.maxRunDuration", limit, "Flex-start VMs must have a run duration of 10 minutes to 7 days."
        )
    if model == "SPOT" and reservation is not None:
        raise GcpError("invalid", "Spot VMs can't consume a specific reservation.", 400)
    if legacy and limit is not None:
        raise invalid(f"{field}.maxRunDuration", limit, "Preemptible VMs can't have a time limit; use Spot VMs.")
    action = given.get("instanceTerminationAction", "DELETE" if model == "FLEX_START" else "STOP")
    body = {
        **given,
        "provisioningModel": model,
        "preemptible": model == "SPOT",
        "onHostMaintenance": maintenance,
        "automaticRestart": given.get("automaticRestart", model not in ("SPOT", "FLEX_START")),
    }
    if model == "SPOT" or limit is not None or end is not None:
        body["instanceTerminationAction"] = action
    return Schedule(model, action, limit, end, body)


def check_flex_start(model: str, properties: Json) -> None:
    """Refuse what flex-start instances can't have.

    https://github.com/GoogleCloudPlatform/cluster-toolkit/blob/main/docs/slurm-dws-flex.md: not "in tandem with a reservation or placement
    policy". https://github.com/skypilot-org/skypilot/issues/9607: NO_RESERVATION is required.
    """
    if model != "FLEX_START":
        return
    affinity = properties.get("reservationAffinity", {}).get("consumeReservationType")
    if affinity != "NO_RESERVATION":
        raise invalid("reservationAffinity", affinity, "Flex-start VMs can't consume reservations: use NO_RESERVATION.")
    if properties.get("resourcePolicies"):
        raise invalid(
            "resourcePolicies", properties["resourcePolicies"], "Flex-start VMs can't have placement policies."
        )


def _maintenance(field: str, given: Json, model: str, gpu: str) -> str:
    """Return the host maintenance behaviour; with GPUs only TERMINATE is possible, and must be requested."""
    default = "TERMINATE" if model == "SPOT" else "MIGRATE"
    chosen: str = given.get("onHostMaintenance", default)
    if gpu and chosen != "TERMINATE":
        raise GcpError("invalid", "Instances with guest accelerators do not support live migration.", 400)
    if model == "SPOT" and chosen != "TERMINATE":
        raise invalid(f"{field}.onHostMaintenance", chosen, "Spot VMs can't be migrated: TERMINATE is the only option.")
    return chosen


def _check_restart(field: str, given: Json, model: str) -> None:
    if model == "SPOT" and given.get("automaticRestart"):
        raise invalid(
            f"{field}.automaticRestart", "true", "Scheduling must have automaticRestart be false for Spot VMs."
        )
    if (
        given.get("instanceTerminationAction")
        and model == "STANDARD"
        and not (given.get("maxRunDuration") or given.get("terminationTime"))
    ):
        raise invalid(
            f"{field}.instanceTerminationAction",
            given["instanceTerminationAction"],
            "It needs the provisioning model SPOT, or a time limit.",
        )


def _run_limit(field: str, given: Json) -> timedelta | None:
    duration = given.get("maxRunDuration")
    if duration is None:
        return None
    limit = timedelta(seconds=int(duration.get("seconds", 0)))
    if not _SHORTEST_RUN <= limit <= _LONGEST_RUN:
        raise invalid(f"{field}.maxRunDuration", limit, "It must be from 30 seconds to 120 days.")
    return limit


def _end(field: str, given: Json) -> datetime | None:
    text = given.get("terminationTime")
    if text is None:
        return None
    if given.get("maxRunDuration") is not None:
        raise invalid(f"{field}.terminationTime", text, "It can't be given together with maxRunDuration.")
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        raise invalid(f"{field}.terminationTime", text, "It must be an RFC 3339 timestamp.") from None
    if end.tzinfo is None:
        raise invalid(f"{field}.terminationTime", text, "It must have an offset.")
    return end
