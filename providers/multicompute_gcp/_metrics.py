"""Reads the metrics of nodes: which metrics of Cloud Monitoring they are, and which series belongs to which node."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from multicompute.node import Metric, Node, Sample
from multicompute.provider_kit.seam import sorted_samples
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._monitoring import Series, Window, series
from multicompute_gcp._session import Clients
from multicompute_gcp.tpu._workers import Workers


class _Measure(NamedTuple):
    """A metric of Google's: its type, ours, and the factor to our unit where Google names no unit."""

    metric_type: str
    metric: Metric
    factor: float = 1.0


# https://cloud.google.com/monitoring/api/metrics_gcp_c#gcp-compute: measured outside of the instance, for every instance.
_OF_INSTANCES: Final = (
    _Measure("compute.googleapis.com/instance/cpu/utilization", Metric.CPU, 100.0),
    _Measure("compute.googleapis.com/instance/network/received_bytes_count", Metric.NETWORK_RECEIVED),
    _Measure("compute.googleapis.com/instance/network/sent_bytes_count", Metric.NETWORK_SENT),
)
# https://cloud.google.com/monitoring/api/metrics_opsagent: from the Ops Agent on the instance, and its DCGM receiver if it is configured.
# Energy is a counter in joules; its rate per second is the power in watts.
_OF_GPUS: Final = (
    _Measure("agent.googleapis.com/gpu/utilization", Metric.ACCELERATOR),
    _Measure("workload.googleapis.com/gpu.dcgm.temperature", Metric.ACCELERATOR_TEMPERATURE),
    _Measure("workload.googleapis.com/gpu.dcgm.energy_consumption", Metric.ACCELERATOR_POWER),
)
_GPU_MEMORY: Final = "agent.googleapis.com/gpu/memory/bytes_used"
# https://cloud.google.com/monitoring/api/metrics_gcp_t_z#gcp-tpu
_OF_HOSTS: Final = (
    _Measure("tpu.googleapis.com/cpu/utilization", Metric.CPU),
    _Measure("tpu.googleapis.com/network/received_bytes_count", Metric.NETWORK_RECEIVED),
    _Measure("tpu.googleapis.com/network/sent_bytes_count", Metric.NETWORK_SENT),
)
_DUTY_CYCLE: Final = "tpu.googleapis.com/accelerator/duty_cycle"
_TPU_MEMORY: Final = {
    "used": "tpu.googleapis.com/accelerator/memory_used",
    "total": "tpu.googleapis.com/accelerator/memory_total",
}
_BYTES: Final = (Metric.NETWORK_RECEIVED, Metric.NETWORK_SENT)

_Nodes = Mapping[tuple[str, str], Node]
"""Nodes by their zone and id."""


class _Collected:
    """The values that were read, before they are merged into samples."""

    def __init__(self) -> None:
        self._values: dict[tuple[Metric, str, int | None, datetime], list[float]] = defaultdict(list)

    def add(self, metric: Metric, node: Node, at: datetime, value: float, accelerator: int | None = None) -> None:
        self._values[metric, node.id, accelerator, at].append(value)

    def add_series(
        self,
        measure: _Measure,
        found: Iterable[Series],
        node_of: Callable[[Series], Node | None],
        *,
        of_gpu: bool = False,
    ) -> None:
        """Add the values of the series that belong to one of the nodes."""
        for one in found:
            node, accelerator = node_of(one), _number(one.labels.get("gpu_number")) if of_gpu else None
            if node is None or (of_gpu and accelerator is None):
                continue
            factor = one.percent if measure.metric.unit == "%" and one.percent is not None else measure.factor
            for at, value in one.values:
                self.add(measure.metric, node, at, value * factor, accelerator)

    def samples(self) -> tuple[Sample, ...]:
        """Return one sample per instant: bytes are added up, since Google counts them by their source; the rest is averaged."""
        return sorted_samples(
            Sample(metric, node, at, sum(values) / (1 if metric in _BYTES else len(values)), accelerator)
            for (metric, node, accelerator, at), values in self._values.items()
        )


def metrics(
    clients: Clients, workers: Workers, nodes: Sequence[Node], *, since: datetime, until: datetime
) -> tuple[Sample, ...]:
    """Return what was measured of `nodes`, see `Provider.metrics`; the calls are in proportion to hundreds of instances and of slices."""
    collected, window = _Collected(), Window(since, until)
    if since >= until:
        return ()
    instances = {(node.zone, node.id): node for node in nodes if "/" not in node.id}
    hosts = {(node.zone, node.id): node for node in nodes if "/" in node.id}
    if instances:
        ids = _read_instances(clients, instances, window, collected)
        _read_gpus(clients, ids, window, collected)
    if hosts:
        _read_hosts(clients, hosts, window, collected)
        _read_chips(clients, workers, hosts, window, collected)
    return collected.samples()


# --- instances --------------------------------------------------------------------------------------------------------


def _read_instances(clients: Clients, instances: _Nodes, window: Window, collected: _Collected) -> dict[str, Node]:
    """Read the metrics of instances by their names, and return the instances that have any by their numeric ids."""
    ids: dict[str, Node] = {}

    def by_name(one: Series) -> Node | None:
        node = instances.get((one.resource.get("zone", ""), one.labels.get("instance_name", "")))
        if node is not None:
            ids[one.resource.get("instance_id", "")] = node
        return node

    where = ("metric.labels.instance_name", sorted({name for _, name in instances}))
    for measure in _OF_INSTANCES:
        found = series(clients, measure.metric_type, "gce_instance", where, window, _place(instances.values()))
        collected.add_series(measure, found, by_name)
    return ids


def _read_gpus(clients: Clients, ids: Mapping[str, Node], window: Window, collected: _Collected) -> None:
    """Read what an agent on the instances measures, if there is one; an agent knows its instance by the numeric id only."""
    place, where = _place(ids.values()), ("resource.labels.instance_id", sorted(ids))

    def by_id(one: Series) -> Node | None:
        return ids.get(one.resource.get("instance_id", ""))

    for measure in _OF_GPUS:
        found = series(clients, measure.metric_type, "gce_instance", where, window, place)
        collected.add_series(measure, found, by_id, of_gpu=True)
    parts: list[tuple[str, Node, int, Series]] = []
    for one in series(clients, _GPU_MEMORY, "gce_instance", where, window, place):
        node, gpu = by_id(one), _number(one.labels.get("gpu_number"))
        if node is not None and gpu is not None:
            parts.append((one.labels.get("memory_state", ""), node, gpu, one))
    for node, gpu, at, by_state in _joined(parts):
        if {"used", "free"} <= set(by_state) and (total := by_state["used"] + by_state["free"]) > 0:
            collected.add(Metric.ACCELERATOR_MEMORY, node, at, 100.0 * by_state["used"] / total, gpu)


# --- TPU slices -------------------------------------------------------------------------------------------------------


def _read_hosts(clients: Clients, hosts: _Nodes, window: Window, collected: _Collected) -> None:
    """Read the metrics of hosts, which are known by zone, slice and number of the worker."""

    def by_worker(one: Series) -> Node | None:
        name = f"{one.resource.get('node_id', '')}/{one.resource.get('worker_id', '')}"
        return hosts.get((one.resource.get("zone", ""), name))

    where = ("resource.labels.node_id", sorted({name.partition("/")[0] for _, name in hosts}))
    for measure in _OF_HOSTS:
        found = series(clients, measure.metric_type, "tpu_worker", where, window, _place(hosts.values()))
        collected.add_series(measure, found, by_worker)


def _read_chips(clients: Clients, workers: Workers, hosts: _Nodes, window: Window, collected: _Collected) -> None:
    """Read the metrics of chips, which are known by the id of the host's machine only, see `Workers`."""
    place, by_id = _place(hosts.values()), workers.by_machine_id(hosts)
    where = ("resource.labels.worker_id", sorted(by_id))
    found: dict[str, list[tuple[Node, Series]]] = {}
    for metric_type in (_DUTY_CYCLE, *_TPU_MEMORY.values()):
        listed = series(clients, metric_type, "tpu.googleapis.com/GceTpuWorker", where, window, place)
        with_nodes = ((by_id.get(one.resource.get("worker_id", "")), one) for one in listed)
        found[metric_type] = [(node, one) for node, one in with_nodes if node is not None]
    chips = _chip_numbers(pair for pairs in found.values() for pair in pairs)
    for node, one in found[_DUTY_CYCLE]:
        for at, value in one.values:
            collected.add(Metric.ACCELERATOR, node, at, value * (one.percent or 1.0), chips[node.id, _chip(one)])
    parts = [
        (part, node, chips[node.id, _chip(one)], one)
        for part, metric_type in _TPU_MEMORY.items()
        for node, one in found[metric_type]
    ]
    for node, chip, at, by_part in _joined(parts):
        if "used" in by_part and by_part.get("total", 0.0) > 0:
            collected.add(Metric.ACCELERATOR_MEMORY, node, at, 100.0 * by_part["used"] / by_part["total"], chip)
    # A host without any value may be on another machine by now.
    with_values = {node_id for node_id, _ in chips}
    workers.forget(node_id for _, node_id in hosts if node_id not in with_values)


def _chip(one: Series) -> str:
    return one.labels.get("accelerator_id", "")


def _chip_numbers(found: Iterable[tuple[Node, Series]]) -> dict[tuple[str, str], int]:
    """Return the number of each chip on its host: ids count over the complete slice, so their order on the host gives it."""
    ids: dict[str, set[str]] = defaultdict(set)
    for node, one in found:
        ids[node.id].add(_chip(one))
    return {
        (node_id, chip): number
        for node_id, on_host in ids.items()
        for number, chip in enumerate(sorted(on_host, key=lambda chip: (len(chip), chip)))
    }


# --- both -------------------------------------------------------------------------------------------------------------


def _joined(
    parts: Iterable[tuple[str, Node, int, Series]],
) -> Iterator[tuple[Node, int, datetime, dict[str, float]]]:
    """Yield the values of one accelerator in one minute together, by the name of the part that each is."""
    minutes: dict[tuple[str, int, datetime], dict[str, float]] = defaultdict(dict)
    ends: dict[tuple[str, int, datetime], tuple[Node, datetime]] = {}
    for part, node, accelerator, one in parts:
        for at, value in one.values:
            key = (node.id, accelerator, at.replace(second=0, microsecond=0))
            minutes[key][part] = value
            ends[key] = (node, max(at, ends[key][1]) if key in ends else at)
    for key, by_part in minutes.items():
        node, at = ends[key]
        yield node, key[1], at, by_part


def _place(nodes: Iterable[Node]) -> Place:
    regions = {node.region for node in nodes}
    return Place("gcp", regions.pop() if len(regions) == 1 else "")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
