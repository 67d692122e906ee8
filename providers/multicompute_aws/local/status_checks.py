"""DescribeInstanceStatus, the same for both stores, because moto's status checks never fail."""

from collections.abc import Mapping
from datetime import datetime

from multicompute_aws.local import rendering, wire
from multicompute_aws.local.filters import Getter, select
from multicompute_aws.local.instances import Call, Handler, candidates
from multicompute_aws.local.state import STATE_CODES, Instance, State
from multicompute_aws.local.wire import AwsError

# DescribeInstanceStatus, EC2 API: "Maximum 100 explicitly specified instance IDs".
_MOST_IDS = 100


class StatusChecks:
    """The status checks of instances."""

    def __init__(self, state: State) -> None:
        """Answer for the instances in `state`."""
        self._state = state

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by action."""
        return {"DescribeInstanceStatus": self._status}

    def _status(self, call: Call) -> bytes:
        ids = call.params.get("InstanceIds", ())
        if len(ids) > _MOST_IDS:
            raise AwsError("InvalidParameterValue", f"At most {_MOST_IDS} instance IDs can be specified")
        now = self._state.now()
        for entry in call.params.get("Filters", ()):
            if entry.get("Name", "").startswith("tag"):
                raise AwsError("InvalidParameterValue", f"The filter '{entry['Name']}' is invalid")
        is_all = call.params.get("IncludeAllInstances")
        shown = (each for each in candidates(call, now) if is_all or each.state(now) == "running")
        page, more = select(call.params, "InstanceIds", shown, _filters_at(now))
        items = "".join(rendering.status_item(instance, now) for instance in page)
        token = f"<nextToken>{more}</nextToken>" if more else ""
        return wire.envelope(call.action, f"<instanceStatusSet>{items}</instanceStatusSet>{token}")


def _filters_at(now: datetime) -> Mapping[str, Getter[Instance]]:
    """Return the filters of DescribeInstanceStatus, which differ from those of DescribeInstances."""
    filters: dict[str, Getter[Instance]] = {
        "availability-zone": lambda instance: (instance.launch.zone,),
        "instance-state-name": lambda instance: (instance.state(now),),
        "instance-state-code": lambda instance: (str(STATE_CODES[instance.state(now)]),),
    }
    for check in rendering.STATUS_CHECKS:
        # mypy infers no type for a lambda with a default, which keeps the value of this turn of the loop.
        filters[f"{check}-status.status"] = lambda instance, check=check: (instance.status(check, now),)  # type: ignore[misc] # mypy infers no type for the default of a lambda
    return filters
