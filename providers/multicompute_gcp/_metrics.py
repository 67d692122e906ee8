"""Tells how busy nodes are: which of Cloud Monitoring's metrics means what, and which series is whose."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from multicompute.node import Metric, Node, Sample
from multicompute_gcp._errors import Place
from multicompute_gcp._monitoring import Series, Window, series
from multicompute_gcp._session import Clients
from multicompute_gcp._tpu_workers import Workers


class Measure(NamedTuple):
    """A metric of Google's: its type, what it is to us, and what makes our unit of a value where Google tells no unit."""

    kind: str
    metric: Metric
    factor: float = 1.0


# https://cloud.google.com/monitoring/api/metrics_gcp_c#gcp-compute: measured from outside, of every machine.
_MACHINE: Final = (
    Measure("compute.googleapis.com/instance/cpu/utilization", Metric.CPU, 100.0),
    Measure("compute.googleapis.com/instance/network/received_bytes_count", Metric.NETWORK_RECEIVED),
    Measure("compute.googleapis.com/instance/network/sent_bytes_count", Metric.NETWORK_SENT),
)
# https://cloud.google.com/monitoring/api/metrics_opsagent: by the Ops Agent on the machine, and where its DCGM receiver is set up. Energy
# is counted up in joules: so many in a second are watts.
_GPU: Final = (
    Measure("agent.googleapis.com/gpu/utilization", Metric.ACCELERATOR),
    Measure("workload.googleapis.com/gpu.dcgm.temperature", Metric.ACCELERATOR_TEMPERATURE),
    Measure("workload.googleapis.com/gpu.dcgm.energy_consumption", Metric.ACCELERATOR_POWER),
)
_GPU_MEMORY: Final = "agent.googleapis.com/gpu/memory/bytes_used"
# https://cloud.google.com/monitoring/api/metrics_gcp_t_z#gcp-tpu
_HOST: Final = (
    Measure("tpu.googleapis.com/cpu/utilization", Metric.CPU),
    Measure("tpu.googleapis.com/network/received_bytes_count", Metric.NETWORK_RECEIVED),
    Measure("tpu.googleapis.com/network/sent_bytes_count", Metric.NETWORK_SENT),
)
_DUTY_CYCLE: Final = "tpu.googleapis.com/accelerator/duty_cycle"
_TPU_MEMORY: Final = {
    "used": "tpu.googleapis.com/accelerator/memory_used",
    "total": "tpu.googleapis.com/accelerator/memory_total",
}
_COUNTED: Final = (Metric.NETWORK_RECEIVED, Metric.NETWORK_SENT)

Whose = Callable[[Series], Node | None]


class Found:
    """What was measured, put together from the series that tell it."""

    def __init__(self) -> None:
        self._values: dict[tuple[Metric, str, int | None, datetime], list[float]] = defaultdict(list)

    def add(self, metric: Metric, node: Node, at: datetime, value: float, accelerator: int | None = None) -> None:
        self._values[metric, node.id, accelerator, at].append(value)

    def take(self, measure: Measure, found: Iterable[Series], whose: Whose, *, of_gpu: bool = False) -> None:
        """Add what these series say of our nodes."""
        for one in found:
            node, accelerator = whose(one), _number(one.labels.get("gpu_number")) if of_gpu else None
            if node is None or (of_gpu and accelerator is None):
                continue
            factor = one.percent if measure.metric.unit == "%" and one.percent is not None else measure.factor
            for at, value in one.values:
                self.add(measure.metric, node, at, value * factor, accelerator)

    def samples(self) -> tuple[Sample, ...]:
        """One sample for each instant, oldest first. Bytes are counted apart by where they came from; a CPU perhaps core by core."""
        told = [
            Sample(metric, node, at, sum(values) / (1 if metric in _COUNTED else len(values)), accelerator)
            for (metric, node, accelerator, at), values in self._values.items()
        ]
        return tuple(sorted(told, key=lambda one: (one.at, one.node, one.metric, one.accelerator or 0)))


def metrics(
    clients: Clients, workers: Workers, nodes: Sequence[Node], since: datetime, until: datetime
) -> tuple[Sample, ...]:
    """What was measured of these nodes: calls in proportion to hundreds of machines, and to hundreds of slices.

    Raises:
        MulticomputeError: Cloud Monitoring can't be asked.
    """
    found, window = Found(), Window(since, until)
    if since >= until:
        return ()
    machines = {(node.zone, node.id): node for node in nodes if "/" not in node.id}
    hosts = {(node.zone, node.id): node for node in nodes if "/" in node.id}
    if machines:
        _of_machines(clients, machines, window, found)
    if hosts:
        _of_hosts(clients, hosts, window, found)
        _of_chips(clients, workers, hosts, window, found)
    return found.samples()


# --- virtual machines -------------------------------------------------------------------------------------------------


def _of_machines(clients: Clients, machines: Mapping[tuple[str, str], Node], window: Window, found: Found) -> None:
    numbers: dict[str, Node] = {}

    def by_name(one: Series) -> Node | None:
        node = machines.get((one.resource.get("zone", ""), one.labels.get("instance_name", "")))
        if node is not None:
            # The agent knows machines by their numbers, which no name tells: these series have both.
            numbers[one.resource.get("instance_id", "")] = node
        return node

    where = ("metric.labels.instance_name", sorted({name for _, name in machines}))
    for measure in _MACHINE:
        told = series(clients, measure.kind, "gce_instance", where, window, _place(machines.values()))
        found.take(measure, told, by_name)
    _of_gpus(clients, numbers, window, found)


def _of_gpus(clients: Clients, numbers: Mapping[str, Node], window: Window, found: Found) -> None:
    """What an agent on the machines measures, as far as there is one."""
    place, where = _place(numbers.values()), ("resource.labels.instance_id", sorted(numbers))

    def by_number(one: Series) -> Node | None:
        return numbers.get(one.resource.get("instance_id", ""))

    for measure in _GPU:
        told = series(clients, measure.kind, "gce_instance", where, window, place)
        found.take(measure, told, by_number, of_gpu=True)
    parts: list[tuple[str, Node, int, Series]] = []
    for one in series(clients, _GPU_MEMORY, "gce_instance", where, window, place):
        node, gpu = by_number(one), _number(one.labels.get("gpu_number"))
        if node is not None and gpu is not None:
            parts.append((one.labels.get("memory_state", ""), node, gpu, one))
    for node, gpu, at, by_state in _together(parts):
        if {"used", "free"} <= set(by_state) and (whole := by_state["used"] + by_state["free"]) > 0:
            found.add(Metric.ACCELERATOR_MEMORY, node, at, 100.0 * by_state["used"] / whole, gpu)


# --- TPU slices -------------------------------------------------------------------------------------------------------


def _of_hosts(clients: Clients, hosts: Mapping[tuple[str, str], Node], window: Window, found: Found) -> None:
    """What is measured of a host is known by the names of zone and slice, and the number of the worker."""

    def by_worker(one: Series) -> Node | None:
        name = f"{one.resource.get('node_id', '')}/{one.resource.get('worker_id', '')}"
        return hosts.get((one.resource.get("zone", ""), name))

    where = ("resource.labels.node_id", sorted({name.partition("/")[0] for _, name in hosts}))
    for measure in _HOST:
        told = series(clients, measure.kind, "tpu_worker", where, window, _place(hosts.values()))
        found.take(measure, told, by_worker)


def _of_chips(
    clients: Clients, workers: Workers, hosts: Mapping[tuple[str, str], Node], window: Window, found: Found
) -> None:
    """What is measured of the chips is known by the machine's number alone, see `Workers`."""
    place, numbers = _place(hosts.values()), workers.numbers(hosts)
    where = ("resource.labels.worker_id", sorted(numbers))
    told: dict[str, list[tuple[Node, Series]]] = {}
    for kind in (_DUTY_CYCLE, *_TPU_MEMORY.values()):
        listed = series(clients, kind, "tpu.googleapis.com/GceTpuWorker", where, window, place)
        by_node = ((numbers.get(one.resource.get("worker_id", "")), one) for one in listed)
        told[kind] = [(node, one) for node, one in by_node if node is not None]
    chips = _chips([pair for pairs in told.values() for pair in pairs])
    for node, one in told[_DUTY_CYCLE]:
        for at, value in one.values:
            found.add(Metric.ACCELERATOR, node, at, value * (one.percent or 1.0), chips[node.id, _chip(one)])
    parts = [
        (part, node, chips[node.id, _chip(one)], one) for part, kind in _TPU_MEMORY.items() for node, one in told[kind]
    ]
    for node, chip, at, by_part in _together(parts):
        if "used" in by_part and by_part.get("total", 0.0) > 0:
            found.add(Metric.ACCELERATOR_MEMORY, node, at, 100.0 * by_part["used"] / by_part["total"], chip)
    heard = {node_id for node_id, _ in chips}
    workers.forget(node_id for _, node_id in hosts if node_id not in heard)


def _chip(one: Series) -> str:
    return one.labels.get("accelerator_id", "")


def _chips(told: Iterable[tuple[Node, Series]]) -> dict[tuple[str, str], int]:
    """Which chip of its host an id means: ids count over the whole slice, so that their order on the host tells."""
    names: dict[str, set[str]] = defaultdict(set)
    for node, one in told:
        names[node.id].add(_chip(one))
    return {
        (node_id, name): place
        for node_id, on_host in names.items()
        for place, name in enumerate(sorted(on_host, key=lambda name: (len(name), name)))
    }


# --- both -------------------------------------------------------------------------------------------------------------


def _together(
    parts: Iterable[tuple[str, Node, int, Series]],
) -> Iterator[tuple[Node, int, datetime, dict[str, float]]]:
    """What was measured in the same minute of one accelerator, by the name of the part that it is."""
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
    return Place(regions.pop() if len(regions) == 1 else "")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
