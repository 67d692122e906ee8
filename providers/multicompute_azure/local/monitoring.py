"""Azure Monitor and Resource Health of the local Azure: the measurements that a test adds, and the health of machines."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from multicompute.node import Metric
from multicompute.testing.local.measurements import MINUTE, Load, Measurements
from multicompute_azure.local.arm import ArmError, ArmResponse, Json, instant
from multicompute_azure.local.listing import Listing
from multicompute_azure.local.routes import Call, Handler
from multicompute_azure.local.state import UNIFORM_VM, VM, ArmResource, State, machine_of

_MACHINES = 50
_KINDS = (VM, UNIFORM_VM)
_GPU_MEMORY = 80.0
_NAMESPACE = "Telegraf/nvidia-smi"
_AGGREGATIONS = ("average", "minimum", "maximum", "total", "count")
_SPLIT = re.compile(r"index eq '\*'", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Definition:
    """The definition of a metric: the `Metric` it reports, its unit, and the factor from the value of the `Metric`."""

    metric: Metric
    unit: str
    factor: float = 1.0


# The network metrics are the bytes of a minute. The agent reports used and total accelerator memory; a factor of 0 is the total.
_HOST = {
    "Percentage CPU": _Definition(Metric.CPU, "Percent"),
    "Network In Total": _Definition(Metric.NETWORK_RECEIVED, "Bytes", 60),
    "Network Out Total": _Definition(Metric.NETWORK_SENT, "Bytes", 60),
}
_AGENT = {
    "utilization_gpu": _Definition(Metric.ACCELERATOR, "Unspecified"),
    "temperature_gpu": _Definition(Metric.ACCELERATOR_TEMPERATURE, "Unspecified"),
    "power_draw": _Definition(Metric.ACCELERATOR_POWER, "Unspecified"),
    "memory_used": _Definition(Metric.ACCELERATOR_MEMORY, "Unspecified", _GPU_MEMORY / 100),
    "memory_total": _Definition(Metric.ACCELERATOR_MEMORY, "Unspecified", 0),
}


class Monitoring:
    """The measurements and the health of machines, and the operations that read them."""

    def __init__(self, state: State, listing: Listing) -> None:
        """Start without measurements and with every machine in `state` healthy."""
        self._state = state
        self._listing = listing
        self._measured = Measurements()
        self._health: dict[str, tuple[str, str]] = {}

    def clear(self) -> None:
        """Delete every measurement, and make every machine healthy."""
        self._measured.clear()
        self._health.clear()

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by operation."""
        return {
            "metrics.getBatch": self._of_many,
            "metrics.list": self._of_one,
            "availabilityStatuses.list": self._list_statuses,
            "availabilityStatuses.listByResourceGroup": self._list_statuses,
        }

    def measure(self, vm: ArmResource, load: Load, *, accelerator: int, minutes: int) -> None:
        """Add measurements of a machine; see `AzureLocalCloud.measure`."""
        until = self._state.now().replace(second=0, microsecond=0)
        self._measured.add(vm.key, load, until=until, minutes=minutes, accelerator=accelerator)

    def impair(self, vm: ArmResource, state: str, context: str) -> None:
        """Set the availability of a machine in Resource Health."""
        self._health[vm.key] = (state, context)

    # --- metrics ------------------------------------------------------------------------------------------------------

    def _of_many(self, call: Call) -> ArmResponse:
        ids = call.document.get("resourceids")
        if set(call.document) != {"resourceids"} or not isinstance(ids, list) or not ids:
            raise _bad("The request body must have resourceids, in lower case, and nothing else.")
        if len({str(each).lower() for each in ids}) > _MACHINES:
            raise _bad(f"The number of resource ids {len(ids)} exceeds the limit of {_MACHINES}.")
        namespace = call.query.get("metricnamespace", "")
        kind = next((kind for kind in _KINDS if kind.lower() == namespace.lower()), "")
        if not kind:
            raise _bad(f"The metric namespace must be {' or '.join(_KINDS)}; custom metrics are not supported.")
        found = [item for item in map(self._state.find, map(str, ids)) if item is not None]
        if len({item.location for item in found}) > 1 or any(item.type != kind for item in found):
            raise _bad("All resources of a batch must be of one region and of one type.")
        since, until = _time(call, "starttime"), _time(call, "endtime")
        values = [
            {
                "starttime": instant(since),
                "endtime": instant(until),
                "interval": "PT1M",
                "namespace": kind.lower(),
                "resourceregion": item.location,
                # In another case than the request: ids are case-insensitive in Azure.
                "resourceid": item.id.upper().replace("/SUBSCRIPTIONS/", "/subscriptions/"),
                "value": self._metrics(call, item, since, until, _HOST),
            }
            for item in found
        ]
        return ArmResponse(200, {"values": values})

    def _of_one(self, call: Call) -> ArmResponse:
        scope = call.params["scope"]
        item = self._state.find(scope)
        if item is None or item.type not in _KINDS:
            raise ArmError("ResourceNotFound", f"The Resource '{scope}' was not found.", 404)
        namespace = call.query.get("metricnamespace", item.type).lower()
        has_agent = any(metric.startswith("accelerator") for one in self._measured.of(item.key) for metric in one.load)
        if namespace != item.type.lower() and not (namespace == _NAMESPACE.lower() and has_agent):
            raise _bad(
                f"Detect invalid value: {namespace} for query parameter: 'metricnamespace', the value must be: {item.type} if the query "
                "parameter is provided, you can also skip this optional query parameter."
            )
        since, until = (_instant(text) for text in call.query.get("timespan", "").partition("/")[::2])
        kinds = _HOST if namespace == item.type.lower() else _AGENT
        document = {
            "cost": 0,
            "timespan": f"{instant(since)}/{instant(until)}",
            "interval": "PT1M",
            "namespace": namespace,
            "resourceregion": item.location,
            "value": self._metrics(call, item, since, until, kinds),
        }
        return ArmResponse(200, document)

    def _metrics(
        self, call: Call, item: ArmResource, since: datetime, until: datetime, kinds: Mapping[str, _Definition]
    ) -> list[Json]:
        names, aggregations = call.query.get("metricnames", "").split(","), call.query.get("aggregation", "").split(",")
        if unknown := [name for name in names if name not in kinds]:
            raise _bad(
                f"Failed to find metric configuration for provider: Microsoft.Compute, resource Type: virtualMachines, metric: "
                f"{unknown[0]}, Valid metrics: {','.join(kinds)}"
            )
        if not set(aggregations) <= set(_AGGREGATIONS) or call.query.get("interval", "PT1M") != "PT1M":
            raise _bad("The aggregation is unknown, or the interval is not PT1M.")
        return [
            {
                "id": f"{item.id}/providers/Microsoft.Insights/metrics/{name}",
                "type": "Microsoft.Insights/metrics",
                "name": {"value": name, "localizedValue": name},
                "unit": kinds[name].unit,
                "timeseries": list(self._series(call, item, name, kinds[name], aggregations, since, until)),
                "errorCode": "Success",
            }
            for name in names
        ]

    def _series(
        self,
        call: Call,
        item: ArmResource,
        name: str,
        kind: _Definition,
        aggregations: Sequence[str],
        since: datetime,
        until: datetime,
    ) -> Iterator[Json]:
        """Yield one series, or one for each GPU if the filter splits by GPU; a minute without a value is listed without one."""
        text = call.query.get("$filter", "") or call.query.get("filter", "")
        is_split = bool(_SPLIT.fullmatch(text.strip()))
        if text and not is_split:
            raise _bad(f"The filter '{text}' is not supported.")
        measured = [one for one in self._measured.of(item.key) if kind.metric in one.load]
        for gpu in sorted({one.accelerator for one in measured}) if is_split else [None]:
            values: dict[datetime, list[float]] = {}
            for one in measured:
                if gpu in (None, one.accelerator):
                    value = one.load[kind.metric] * kind.factor if kind.factor else _GPU_MEMORY
                    values.setdefault(one.end - MINUTE, []).append(value)
            data, at = [], since.replace(second=0, microsecond=0)
            while at < min(until, self._state.now()):
                data.append({"timeStamp": f"{at:%Y-%m-%dT%H:%M:%SZ}", **_aggregated(values.get(at, []), aggregations)})
                at += MINUTE
            labels = [{"name": {"value": "index", "localizedValue": "index"}, "value": str(gpu)}] if is_split else []
            if measured:
                yield {"metadatavalues": labels, "data": data}

    # --- health -------------------------------------------------------------------------------------------------------

    def _list_statuses(self, call: Call) -> ArmResponse:
        group = self._state.group(call.group) if "group" in call.params else None
        return self._listing.page(call, lambda item: item.machine is not None, self._status, group)

    def _status(self, item: ArmResource) -> Json:
        power = machine_of(item).power
        if power != "running":
            state, context = "Unavailable", "Customer Initiated"
        else:
            state, context = self._health.get(item.key, ("Available", ""))
        summaries = {
            "Available": "There aren't any known Azure platform problems affecting this virtual machine.",
            "Degraded": "The physical host on which your virtual machine is running may be degraded.",
        }
        properties: Json = {
            "availabilityState": state,
            "title": state,
            "summary": summaries.get(state, "We're sorry, your virtual machine isn't available."),
            "reasonType": "",
            "occuredTime": instant(item.created_at),
            "reasonChronicity": "Persistent",
            "reportedTime": instant(self._state.now()),
        }
        if context:
            is_planned = context == "Customer Initiated"
            properties |= {"context": context, "category": "Not Applicable" if is_planned else "Unplanned"}
        return {
            # The service writes the id of the machine in lower case, and its own part in mixed case.
            "id": f"{item.key}/providers/Microsoft.ResourceHealth/availabilityStatuses/current",
            "name": "current",
            "type": "Microsoft.ResourceHealth/AvailabilityStatuses",
            "location": item.location,
            "properties": properties,
        }


def _aggregated(values: Sequence[float], aggregations: Sequence[str]) -> dict[str, float]:
    if not values:
        return {}
    total = sum(values)
    known = {
        "average": total / len(values),
        "minimum": min(values),
        "maximum": max(values),
        "total": total,
        "count": float(len(values)),
    }
    return {name: known[name] for name in aggregations}


def _time(call: Call, name: str) -> datetime:
    return _instant(call.query.get(name, ""))


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as error:
        raise _bad(f"Detect invalid time: '{text}'.") from error


def _bad(message: str) -> ArmError:
    return ArmError("BadRequest", message)
