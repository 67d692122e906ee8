"""Cloud Monitoring of the local Google Cloud: time series of the values that a test has set, by filter and by page."""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from multicompute.node import Metric
from multicompute.testing.local.measurements import MINUTE, Load, Measurement, Measurements
from multicompute_gcp.local.calls import Call, Handler
from multicompute_gcp.local.inventory import Inventory
from multicompute_gcp.local.records import PROJECT, PROJECT_NUMBER, timestamp
from multicompute_gcp.local.responses import GcpError, Json
from multicompute_gcp.local.state import State
from multicompute_gcp.local.tpu_records import TpuNode

_GIB: Final = 2**30
_LARGEST_PAGE: Final = 100_000
_MOST_VALUES: Final = 100
# Google's own metrics exist in every project, those of an agent once an agent has sent one.
_BUILT_IN: Final = ("compute.googleapis.com/", "tpu.googleapis.com/")
_TERM: Final = re.compile(r'([\w.]+)\s*=\s*(?:"([^"]*)"|one_of\(([^)]*)\))')
_QUOTED: Final = re.compile(r'"([^"]*)"')
_GPU_MEMORY: Final = 80 * _GIB
_HBM: Final = 32 * _GIB


@dataclass(frozen=True, slots=True)
class _Descriptor:
    """The descriptor of a metric."""

    name: str
    resource: str
    kind: str = "GAUGE"
    value: str = "doubleValue"
    unit: str = "%"


_CPU = _Descriptor("compute.googleapis.com/instance/cpu/utilization", "gce_instance", unit="10^2.%")
_TPU_CPU = _Descriptor("tpu.googleapis.com/cpu/utilization", "tpu_worker")
_GPU = _Descriptor("agent.googleapis.com/gpu/utilization", "gce_instance")
_MEMORY = _Descriptor("agent.googleapis.com/gpu/memory/bytes_used", "gce_instance", unit="By")
_TEMPERATURE = _Descriptor("workload.googleapis.com/gpu.dcgm.temperature", "gce_instance", unit="Cel")
_ENERGY = _Descriptor("workload.googleapis.com/gpu.dcgm.energy_consumption", "gce_instance", "CUMULATIVE", unit="J")
_WORKER = "tpu.googleapis.com/GceTpuWorker"
_DUTY = _Descriptor("tpu.googleapis.com/accelerator/duty_cycle", _WORKER)
_HBM_USED = _Descriptor("tpu.googleapis.com/accelerator/memory_used", _WORKER, value="int64Value", unit="By")
_HBM_TOTAL = _Descriptor("tpu.googleapis.com/accelerator/memory_total", _WORKER, value="int64Value", unit="By")


def _network(base: str, word: str, resource: str) -> _Descriptor:
    return _Descriptor(f"{base}/network/{word}_bytes_count", resource, "DELTA", "int64Value", "By")


class Monitoring:
    """The measurements, and the method that reads them.

    Attributes:
        largest_page: The largest number of points on a page, even if the request allows more.
    """

    def __init__(self, state: State, inventory: Inventory) -> None:
        """Start without measurements; `inventory` finds the nodes in `state` that are measured."""
        self._state = state
        self._inventory = inventory
        self._measured = Measurements()
        self.largest_page = _LARGEST_PAGE

    def clear(self) -> None:
        """Delete every measurement."""
        self._measured.clear()

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by method."""
        return {"monitoring.timeSeries.list": self._list_series}

    def measure(self, node_id: str, load: Load, minutes: int) -> None:
        """Add measurements of an instance or a host; see `GcpLocalCloud.measure`."""
        _ = self._slice(node_id) if "/" in node_id else self._inventory.instance(node_id)
        self._measured.add(node_id, load, until=self._state.now(), minutes=minutes)

    def _slice(self, node_id: str) -> TpuNode:
        found = self._inventory.node(node_id)
        if found is None:
            raise ValueError(f"{node_id}: no slice has such a host")
        return found

    # --- reading ------------------------------------------------------------------------------------------------------

    def _list_series(self, call: Call) -> Json:
        wanted = _terms(call.query.get("filter", ""))
        (kind,) = wanted.get("metric.type") or [""]
        since, until = (_instant(call, name) for name in ("interval.startTime", "interval.endTime"))
        if since >= until:
            raise _bad("Field interval.start_time had an invalid value: The start time must be before the end time.")
        every = [one for node_id in self._measured.nodes() for one in self._series(node_id) if one["points"]]
        if not kind.startswith(_BUILT_IN) and kind not in {one["metric"]["type"] for one in every}:
            soon = "If a metric was created recently, it could take up to 10 minutes to become available."
            raise GcpError("NOT_FOUND", f'Cannot find metric(s) that match type = "{kind}". {soon}', 404)
        found = []
        for one in every:
            points = [point for point in one["points"] if since < _read(point["interval"]["endTime"]) <= until]
            if points and all(_label(one, name) in values for name, values in wanted.items()):
                found.append(one | {"points": points})
        return self._page(call, found)

    def _page(self, call: Call, found: list[Json]) -> Json:
        size = min(int(call.query.get("pageSize") or _LARGEST_PAGE), self.largest_page)
        begin = int(base64.b64decode(call.query["pageToken"])) if call.query.get("pageToken") else 0
        page: list[Json] = []
        at = begin
        # A page counts points, not series, as Google's can: the rest of a series is on the next page.
        flat = [(one, point) for one in found for point in one["points"]]
        for one, point in flat[begin : begin + size]:
            if page and page[-1]["metric"] is one["metric"]:
                page[-1]["points"].append(point)
            else:
                page.append({**one, "points": [point]})
            at += 1
        shown: Json = {"timeSeries": page, "unit": page[0]["unit"]} if page else {}
        for one in page:
            one.pop("unit")
        if at < len(flat):
            shown["nextPageToken"] = base64.b64encode(str(at).encode()).decode()
        return shown

    # --- the time series --------------------------------------------------------------------------------------

    def _series(self, node_id: str) -> Iterator[Json]:
        measured = self._measured.of(node_id)
        if "/" in node_id:
            yield from self._of_host(node_id, measured)
            return
        try:
            instance = self._inventory.instance(node_id)
        except ValueError:
            # Deleted; Google would still list its series, but the adapter never asks for them.
            return
        resource = {"project_id": PROJECT, "instance_id": str(instance.id), "zone": instance.host.zone}
        name = {"instance_name": node_id}
        yield _gauge(_CPU, resource, name, _of(measured, Metric.CPU, 0.01))
        for word, metric in (("received", Metric.NETWORK_RECEIVED), ("sent", Metric.NETWORK_SENT)):
            kind = _network("compute.googleapis.com/instance", word, "gce_instance")
            for balanced, share in (("true", 0.25), ("false", 0.75)):
                labels = {**name, "loadbalanced": balanced}
                yield _delta(kind, resource, labels, _of(measured, metric, 60 * share))
        gpu = {"gpu_number": "0", "model": "NVIDIA", "uuid": f"GPU-{instance.id}"}
        yield _gauge(_GPU, resource, gpu, _of(measured, Metric.ACCELERATOR))
        yield _gauge(_TEMPERATURE, resource, gpu, _of(measured, Metric.ACCELERATOR_TEMPERATURE))
        yield _cumulative(_ENERGY, resource, gpu, _of(measured, Metric.ACCELERATOR_POWER, 60))
        used = _of(measured, Metric.ACCELERATOR_MEMORY, _GPU_MEMORY / 100)
        yield _gauge(_MEMORY, resource, {**gpu, "memory_state": "used"}, used)
        yield _gauge(
            _MEMORY, resource, {**gpu, "memory_state": "free"}, [(end, _GPU_MEMORY - value) for end, value in used]
        )

    def _of_host(self, node_id: str, measured: Sequence[Measurement]) -> Iterator[Json]:
        found = self._inventory.node(node_id)
        if found is None:
            return
        worker = node_id.partition("/")[2]
        resource = {"project_id": PROJECT, "zone": found.zone, "node_id": found.name, "worker_id": worker}
        yield _gauge(_TPU_CPU, resource, {}, _of(measured, Metric.CPU))
        for word, metric in (("received", Metric.NETWORK_RECEIVED), ("sent", Metric.NETWORK_SENT)):
            yield _delta(_network("tpu.googleapis.com", word, "tpu_worker"), resource, {}, _of(measured, metric, 60))
        # Chips are labelled with the machine number only, and numbered over the complete slice.
        number = found.machine_number(int(worker))
        machine = {"resource_container": PROJECT_NUMBER, "location": found.zone, "worker_id": number}
        chip = {"accelerator_id": f"{number}-{int(worker) * found.slice.chips // found.slice.hosts}"}
        yield _gauge(_DUTY, machine, chip, _of(measured, Metric.ACCELERATOR))
        used = _of(measured, Metric.ACCELERATOR_MEMORY, _HBM / 100)
        yield _gauge(_HBM_USED, machine, chip, used)
        yield _gauge(_HBM_TOTAL, machine, chip, [(end, float(_HBM)) for end, _ in used])


def _of(measured: Sequence[Measurement], metric: Metric, factor: float = 1.0) -> list[tuple[datetime, float]]:
    return [(one.end, one.load[metric] * factor) for one in measured if metric in one.load]


def _gauge(kind: _Descriptor, resource: Json, labels: Json, values: list[tuple[datetime, float]]) -> Json:
    return _as_series(kind, resource, labels, [(end, end, value) for end, value in values])


def _delta(kind: _Descriptor, resource: Json, labels: Json, values: list[tuple[datetime, float]]) -> Json:
    return _as_series(kind, resource, labels, [(end - MINUTE, end, value) for end, value in values])


def _cumulative(kind: _Descriptor, resource: Json, labels: Json, values: list[tuple[datetime, float]]) -> Json:
    """Return a counter that starts a minute before the first value, with a point at the end of each minute."""
    if not values:
        return _as_series(kind, resource, labels, [])
    start, total = values[0][0] - 2 * MINUTE, 1000.0
    points = [(start, values[0][0] - MINUTE, total)]
    for end, value in values:
        total += value
        points.append((start, end, total))
    return _as_series(kind, resource, labels, points)


def _as_series(kind: _Descriptor, resource: Json, labels: Json, points: list[tuple[datetime, datetime, float]]) -> Json:
    values: list[Any] = [str(round(value)) if kind.value == "int64Value" else value for _, _, value in points]
    return {
        "metric": {"type": kind.name, "labels": labels},
        "resource": {"type": kind.resource, "labels": resource},
        "metricKind": kind.kind,
        "valueType": "INT64" if kind.value == "int64Value" else "DOUBLE",
        "unit": kind.unit,
        # The newest first, as Google lists them.
        "points": [
            {"interval": {"startTime": timestamp(start), "endTime": timestamp(end)}, "value": {kind.value: value}}
            for (start, end, _), value in reversed(list(zip(points, values, strict=True)))
        ],
    }


def _terms(text: str) -> dict[str, list[str]]:
    """Return the terms of a filter: label -> values; as strict as Google about metric types."""
    found: dict[str, list[str]] = {}
    for term in text.split(" AND "):
        match = _TERM.fullmatch(term.strip())
        if match is None:
            raise _bad(f"Field filter had an invalid value of {text!r}: Could not parse filter.")
        name, one, several = match.groups()
        found[name] = [one] if several is None else _QUOTED.findall(several)
        if len(found[name]) > _MOST_VALUES or not found[name]:
            raise _bad(f"Field filter had an invalid value: one_of takes 1 to {_MOST_VALUES} values.")
    kinds = found.get("metric.type", [])
    if len(kinds) != 1:
        what = "matches more than one metric. TimeSeries data are limited to a single metric per request."
        raise _bad(f"The provided filter {what}" if kinds else "The filter must name a metric.type.")
    return found


def _label(one: Json, name: str) -> str | None:
    """Return the value of a series at a path such as resource.labels.zone."""
    value: Any = one
    for step in name.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else None


def _instant(call: Call, name: str) -> datetime:
    try:
        return _read(call.query[name])
    except (KeyError, ValueError):
        raise _bad(f"Field {name} had an invalid value.") from None


def _read(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _bad(message: str) -> GcpError:
    return GcpError("INVALID_ARGUMENT", message, 400)
