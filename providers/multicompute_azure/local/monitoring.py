"""Azure Monitor and Resource Health of the local Azure: what a test says was measured of machines, and which are unwell."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from multicompute.node import Metric
from multicompute_azure.local.arm import Answer, ArmError, Json, instant
from multicompute_azure.local.listing import Listing
from multicompute_azure.local.routes import Call, Handler
from multicompute_azure.local.state import VM, Item, State, machine_of

_MINUTE = timedelta(minutes=1)
_MACHINES = 50
_GPU_MEMORY = 80.0
_NAMESPACE = "Telegraf/nvidia-smi"
_AGGREGATIONS = ("average", "minimum", "maximum", "total", "count")
_SPLIT = re.compile(r"index eq '\*'", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A metric as Azure names it: what it is of ours, its unit, and how often its value is in ours within a minute."""

    metric: Metric
    unit: str
    factor: float = 1.0


# In Azure's unit a minute's network is the bytes of that minute. Of the machine's memory the agent tells how much is used, and of how much.
_HOST = {
    "Percentage CPU": _Kind(Metric.CPU, "Percent"),
    "Network In Total": _Kind(Metric.NETWORK_RECEIVED, "Bytes", 60),
    "Network Out Total": _Kind(Metric.NETWORK_SENT, "Bytes", 60),
}
_AGENT = {
    "utilization_gpu": _Kind(Metric.ACCELERATOR, "Unspecified"),
    "temperature_gpu": _Kind(Metric.ACCELERATOR_TEMPERATURE, "Unspecified"),
    "power_draw": _Kind(Metric.ACCELERATOR_POWER, "Unspecified"),
    "memory_used": _Kind(Metric.ACCELERATOR_MEMORY, "Unspecified", _GPU_MEMORY / 100),
    "memory_total": _Kind(Metric.ACCELERATOR_MEMORY, "Unspecified", 0),
}


@dataclass(frozen=True, slots=True)
class _Said:
    """What was measured in the minute that ends at `end`; `gpu` is the accelerator that it is about, where it is about one."""

    end: datetime
    load: Mapping[Metric, float]
    gpu: int


class Monitoring:
    """Keeps what was measured and what is unwell; the handlers of the operations that tell of it."""

    def __init__(self, state: State, listing: Listing) -> None:
        self._state = state
        self._listing = listing
        self._said: dict[str, list[_Said]] = {}
        self._unwell: dict[str, tuple[str, str]] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._said.clear()
        self._unwell.clear()

    def handlers(self) -> Mapping[str, Handler]:
        """The handlers by operation."""
        return {
            "metrics.getBatch": self._of_many,
            "metrics.list": self._of_one,
            "availabilityStatuses.list": self._health,
            "availabilityStatuses.listByResourceGroup": self._health,
        }

    def measure(self, vm: Item, load: Mapping[Metric, float], *, gpu: int, minutes: int) -> None:
        """Let this have been measured in each of the last minutes."""
        ends = self._state.now().replace(second=0, microsecond=0)
        said = self._said.setdefault(vm.key, [])
        said += [_Said(ends - count * _MINUTE, dict(load), gpu) for count in reversed(range(minutes))]

    def impair(self, vm: Item, state: str, context: str) -> None:
        """Let Resource Health find a machine unwell from now on, or "Available" again."""
        self._unwell[vm.key] = (state, context)

    # --- metrics ------------------------------------------------------------------------------------------------------

    def _of_many(self, call: Call) -> Answer:
        ids = call.document.get("resourceids")
        if set(call.document) != {"resourceids"} or not isinstance(ids, list) or not ids:
            raise _bad("The request body must have resourceids, in lower case, and nothing else.")
        if len({str(each).lower() for each in ids}) > _MACHINES:
            raise _bad(f"The number of resource ids {len(ids)} exceeds the limit of {_MACHINES}.")
        if call.query.get("metricnamespace", "").lower() != VM.lower():
            raise _bad(f"The metric namespace must be {VM}; custom metrics are not supported.")
        found = [item for item in map(self._state.find, map(str, ids)) if item is not None]
        if len({item.location for item in found}) > 1 or any(item.type != VM for item in found):
            raise _bad("All resources of a batch must be of one region and of one type.")
        since, until = _time(call, "starttime"), _time(call, "endtime")
        values = [
            {
                "starttime": instant(since),
                "endtime": instant(until),
                "interval": "PT1M",
                "namespace": VM.lower(),
                "resourceregion": item.location,
                # In whichever case it pleases, as all of Azure's ids.
                "resourceid": item.id.upper().replace("/SUBSCRIPTIONS/", "/subscriptions/"),
                "value": self._metrics(call, item, since, until, _HOST),
            }
            for item in found
        ]
        return Answer(200, {"values": values})

    def _of_one(self, call: Call) -> Answer:
        scope = call.params["scope"]
        item = self._state.find(scope)
        if item is None or item.type != VM:
            raise ArmError("ResourceNotFound", f"The Resource '{scope}' was not found.", 404)
        namespace = call.query.get("metricnamespace", VM).lower()
        has_agent = any(
            metric.startswith("accelerator") for said in self._said.get(item.key, ()) for metric in said.load
        )
        if namespace != VM.lower() and not (namespace == _NAMESPACE.lower() and has_agent):
            raise _bad(
                f"Detect invalid value: {namespace} for query parameter: 'metricnamespace', the value must be: {VM} if the query "
                "parameter is provided, you can also skip this optional query parameter."
            )
        since, until = (_instant(text) for text in call.query.get("timespan", "").partition("/")[::2])
        kinds = _HOST if namespace == VM.lower() else _AGENT
        document = {
            "cost": 0,
            "timespan": f"{instant(since)}/{instant(until)}",
            "interval": "PT1M",
            "namespace": namespace,
            "resourceregion": item.location,
            "value": self._metrics(call, item, since, until, kinds),
        }
        return Answer(200, document)

    def _metrics(
        self, call: Call, item: Item, since: datetime, until: datetime, kinds: Mapping[str, _Kind]
    ) -> list[Json]:
        names, aggregations = call.query.get("metricnames", "").split(","), call.query.get("aggregation", "").split(",")
        if unknown := [name for name in names if name not in kinds]:
            raise _bad(
                f"Failed to find metric configuration for provider: Microsoft.Compute, resource Type: virtualMachines, metric: "
                f"{unknown[0]}, Valid metrics: {','.join(kinds)}"
            )
        if not set(aggregations) <= set(_AGGREGATIONS) or call.query.get("interval", "PT1M") != "PT1M":
            raise _bad("The aggregation is none that there is, or the interval is not PT1M.")
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
        item: Item,
        name: str,
        kind: _Kind,
        aggregations: Sequence[str],
        since: datetime,
        until: datetime,
    ) -> Iterator[Json]:
        """One series, or one for each GPU where the filter splits by it; a minute without a value is listed without one."""
        text = call.query.get("$filter", "") or call.query.get("filter", "")
        is_split = bool(_SPLIT.fullmatch(text.strip()))
        if text and not is_split:
            raise _bad(f"The filter '{text}' is not supported.")
        said = [one for one in self._said.get(item.key, ()) if kind.metric in one.load]
        for gpu in sorted({one.gpu for one in said}) if is_split else [None]:
            values: dict[datetime, list[float]] = {}
            for one in said:
                if gpu in (None, one.gpu):
                    value = one.load[kind.metric] * kind.factor if kind.factor else _GPU_MEMORY
                    values.setdefault(one.end - _MINUTE, []).append(value)
            data, at = [], since.replace(second=0, microsecond=0)
            while at < min(until, self._state.now()):
                data.append({"timeStamp": f"{at:%Y-%m-%dT%H:%M:%SZ}", **_aggregated(values.get(at, []), aggregations)})
                at += _MINUTE
            labels = [{"name": {"value": "index", "localizedValue": "index"}, "value": str(gpu)}] if is_split else []
            if said:
                yield {"metadatavalues": labels, "data": data}

    # --- health -------------------------------------------------------------------------------------------------------

    def _health(self, call: Call) -> Answer:
        group = self._state.group(call.group) if "group" in call.params else None
        return self._listing.page(call, lambda item: item.machine is not None, self._status, group)

    def _status(self, item: Item) -> Json:
        power = machine_of(item).power
        if power != "running":
            state, context = "Unavailable", "Customer Initiated"
        else:
            state, context = self._unwell.get(item.key, ("Available", ""))
        words = {
            "Available": "There aren't any known Azure platform problems affecting this virtual machine.",
            "Degraded": "The physical host on which your virtual machine is running may be degraded.",
        }
        properties: Json = {
            "availabilityState": state,
            "title": state,
            "summary": words.get(state, "We're sorry, your virtual machine isn't available."),
            "reasonType": "",
            "occuredTime": instant(item.born),
            "reasonChronicity": "Persistent",
            "reportedTime": instant(self._state.now()),
        }
        if context:
            is_planned = context == "Customer Initiated"
            properties |= {"context": context, "category": "Not Applicable" if is_planned else "Unplanned"}
        return {
            # The name of the group in lower case and the service's in its own.
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
