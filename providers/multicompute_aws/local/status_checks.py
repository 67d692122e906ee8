"""DescribeInstanceStatus: EC2's status checks of instances, the same for both stores, since moto has none that fail."""

from collections.abc import Mapping
from datetime import datetime

from multicompute_aws.local import describing, wire
from multicompute_aws.local.filters import Getter, matcher, page_size, paged
from multicompute_aws.local.instances import Call, Handler, known
from multicompute_aws.local.state import STATE_CODES, Instance, State
from multicompute_aws.local.wire import AwsError

# DescribeInstanceStatus, EC2 API: "Maximum 100 explicitly specified instance IDs".
_MOST_IDS = 100


class StatusChecks:
    """What the status checks say of the instances of a state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def handlers(self) -> Mapping[str, Handler]:
        """The action that is answered here."""
        return {"DescribeInstanceStatus": self.status}

    def status(self, call: Call) -> bytes:
        ids = call.params.get("InstanceIds", ())
        if len(ids) > _MOST_IDS:
            raise AwsError("InvalidParameterValue", f"At most {_MOST_IDS} instance IDs can be specified")
        size = page_size(call.params, "InstanceIds")
        now = self._state.now()
        for entry in call.params.get("Filters", ()):
            if entry.get("Name", "").startswith("tag"):
                raise AwsError("InvalidParameterValue", f"The filter '{entry['Name']}' is invalid")
        matches = matcher(call.params.get("Filters", ()), _filters_at(now), lambda instance: instance.tags)
        candidates = known(call.region, ids, now) if ids else call.region.visible(now)
        found = [instance for instance in candidates if matches(instance)]
        if not call.params.get("IncludeAllInstances"):
            found = [instance for instance in found if instance.state(now) == "running"]
        page, more = paged(found, size, call.params.get("NextToken"), lambda instance: instance.id)
        items = "".join(describing.status_item(instance, now) for instance in page)
        token = f"<nextToken>{more}</nextToken>" if more else ""
        return wire.envelope(call.action, f"<instanceStatusSet>{items}</instanceStatusSet>{token}")


def _filters_at(now: datetime) -> Mapping[str, Getter[Instance]]:
    """The filters of DescribeInstanceStatus, which are not those of DescribeInstances."""
    filters: dict[str, Getter[Instance]] = {
        "availability-zone": lambda instance: (instance.launch.zone,),
        "instance-state-name": lambda instance: (instance.state(now),),
        "instance-state-code": lambda instance: (str(STATE_CODES[instance.state(now)]),),
    }
    for check in describing.STATUS_CHECKS:
        filters[f"{check}-status.status"] = lambda instance, check=check: (instance.status(check, now),)  # type: ignore[misc]
    return filters
