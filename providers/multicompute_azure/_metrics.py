"""Reads the metrics of nodes: Azure Monitor's own, fifty machines per call, and those of an agent, twenty per call."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import groupby
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from multicompute.errors import AccessDeniedError, AuthError
from multicompute.node import Metric, Node, NodeState, Sample
from multicompute.provider_kit.calls import batches, in_parallel
from multicompute.provider_kit.seam import sorted_samples
from multicompute.provider_kit.vendor_errors import Place
from multicompute_azure._errors import MEANINGS, log, refused_request, requiring
from multicompute_azure._names import arm_id, instance_number
from multicompute_azure._session import Clients
from multicompute_azure._sets import INSTANCES, MACHINES

_PERMISSION: Final = (
    "Microsoft.Insights/metrics/read on the complete subscription, and there the provider Microsoft.Insights"
)
_AT_ONCE: Final = 8
# Both are the most that one call may have ("How to migrate from the metrics API to the getBatch API"; with more than twenty requests
# Resource Manager answers with a long-running operation).
_MACHINES_AT_ONCE: Final = 50
_REQUESTS_AT_ONCE: Final = 20
_MINUTE: Final = timedelta(minutes=1)


class _Measure(NamedTuple):
    """A metric of Azure's: our metric for it, the aggregation to read, and the factor from its value of a minute to our unit."""

    metric: Metric
    aggregation: str = "average"
    factor: float = 1.0


# https://learn.microsoft.com/azure/azure-monitor/reference/supported-metrics/microsoft-compute-virtualmachines-metrics: what the host
# measures of every machine. Accelerators are not among it.
_OF_HOST: Final[Mapping[str, _Measure]] = {
    "Percentage CPU": _Measure(Metric.CPU),
    "Network In Total": _Measure(Metric.NETWORK_RECEIVED, "total", 1 / 60),
    "Network Out Total": _Measure(Metric.NETWORK_SENT, "total", 1 / 60),
}
# What the Telegraf agent sends of each GPU, where it is installed ("Monitor HPC and AI workloads on Azure VMs and Virtual Machine Scale
# Set(s) using Telegraf and Azure Monitor"). Its utilization_memory is how often the memory was busy, not how full it is.
_AGENT_NAMESPACE: Final = "Telegraf/nvidia-smi"
_OF_AGENT: Final[Mapping[str, _Measure]] = {
    "utilization_gpu": _Measure(Metric.ACCELERATOR),
    "temperature_gpu": _Measure(Metric.ACCELERATOR_TEMPERATURE),
    "power_draw": _Measure(Metric.ACCELERATOR_POWER),
}
_USED: Final = "memory_used"
_TOTAL: Final = "memory_total"
_MEMORY: Final = _Measure(Metric.ACCELERATOR_MEMORY)
_AGENT_VERSION: Final = "2024-02-01"
# The dimension with the index of a GPU, and more of them than any machine has.
_INDEX: Final = "index"
_MOST_GPUS: Final = 32
# Sizes with accelerators are of Azure's N family ("Virtual machine naming conventions").
_GPU_SIZES: Final = "standard_n"


class _Window(NamedTuple):
    """The period whose measurements are read."""

    since: datetime
    until: datetime

    @property
    def start(self) -> str:
        """Return the start of the first minute: Azure names a minute by its start, we by its end."""
        return _to_text(self.since - _MINUTE)

    @property
    def end(self) -> str:
        return _to_text(self.until)

    def values(self, series: Mapping[str, Any], measure: _Measure) -> Iterator[tuple[datetime, float]]:
        """Yield the end of each minute that has a value, and the value in our unit; Azure lists minutes without one, too."""
        for point in series.get("data") or ():
            at = datetime.fromisoformat(str(point["timeStamp"])).astimezone(UTC) + _MINUTE
            value = point.get(measure.aggregation)
            if value is not None and self.since <= at <= self.until:
                yield at, float(value) * measure.factor


_Reader = Callable[[Clients, Place, Sequence[Node], _Window], list[Sample]]


def metrics(clients: Clients, nodes: Sequence[Node], *, since: datetime, until: datetime) -> tuple[Sample, ...]:
    """Return what was measured of `nodes` in the minutes that ended in the period, see `Provider.metrics`.

    Raises:
        MulticomputeError: A call failed, or was refused.
    """
    window, existing = _Window(since, until), [node for node in nodes if node.state is not NodeState.GONE]
    with_gpus = [node for node in existing if node.instance_type.lower().startswith(_GPU_SIZES)]
    calls = [(_of_machines, *batch) for batch in _batches(existing, _MACHINES_AT_ONCE)]
    calls += [(_of_gpus, *batch) for batch in _batches(with_gpus, _REQUESTS_AT_ONCE)]

    def read(call: tuple[_Reader, Place, Sequence[Node]]) -> list[Sample]:
        reader, place, batch = call
        return reader(clients, place, batch, window)

    with requiring(_PERMISSION):
        found = in_parallel(read, calls, at_once=_AT_ONCE)
    return sorted_samples(sample for samples in found for sample in samples)


def _batches(nodes: Sequence[Node], size: int) -> Iterator[tuple[Place, Sequence[Node]]]:
    """Yield the nodes of each region and type of machine, at most `size` at a time."""

    def kind(node: Node) -> tuple[str, str]:
        return node.region, _type_of(node)

    for (region, _), group in groupby(sorted(nodes, key=kind), key=kind):
        for batch in batches(list(group), size):
            yield Place("azure", region), batch


def _type_of(node: Node) -> str:
    """Return the type of a machine, which is also the namespace of its metrics; those of both types have the same names."""
    return INSTANCES if instance_number(node.id)[1] else MACHINES


# --- what the host measures -------------------------------------------------------------------------------------------


def _of_machines(clients: Clients, place: Place, nodes: Sequence[Node], window: _Window) -> list[Sample]:
    query = {
        "metricnamespace": _type_of(nodes[0]),
        "metricnames": ",".join(_OF_HOST),
        "aggregation": "average,total",
        "interval": "PT1M",
        "starttime": window.start,
        "endtime": window.end,
    }
    ids = {arm_id(node.id).lower(): node.id for node in nodes}
    named = [arm_id(node_id) for node_id in ids.values()]
    try:
        answer = clients.metrics("metrics.getBatch", place, {"resourceids": named}, query)
    except AuthError as error:
        if error.code in MEANINGS:
            raise
        # An identity that may not read the metrics of the complete subscription gets 401 (same page, "401 authorization errors").
        raise AccessDeniedError(error.message, provider="azure", region=place.region, code=error.code) from error
    found: list[Sample] = []
    for item in answer.get("values") or ():
        node_id = ids.get(str(item.get("resourceid")).lower())
        if node_id is not None:
            found += _samples_of_host(node_id, item, window)
    return found


def _samples_of_host(node_id: str, document: Mapping[str, Any], window: _Window) -> Iterator[Sample]:
    for name, series in _series(document):
        if name in _OF_HOST:
            for at, value in window.values(series, _OF_HOST[name]):
                yield Sample(_OF_HOST[name].metric, node_id, at, value)


def _series(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every time series in an answer, with the name of its metric."""
    for metric in document.get("value") or ():
        if metric.get("errorCode", "Success") != "Success":
            log.debug("%s: %s", metric["errorCode"], metric.get("errorMessage"))
        for series in metric.get("timeseries") or ():
            yield str((metric.get("name") or {}).get("value")), series


# --- what an agent sends ----------------------------------------------------------------------------------------------


def _of_gpus(clients: Clients, place: Place, nodes: Sequence[Node], window: _Window) -> list[Sample]:
    """Return what an agent on the nodes has sent. Azure refuses the request for a node without one, because the namespace is missing."""
    query = {
        "api-version": _AGENT_VERSION,
        "metricnamespace": _AGENT_NAMESPACE,
        "metricnames": ",".join([*_OF_AGENT, _USED, _TOTAL]),
        "aggregation": "average",
        "interval": "PT1M",
        "timespan": f"{window.start}/{window.end}",
        "$filter": f"{_INDEX} eq '*'",
        "top": str(_MOST_GPUS),
    }
    options = urlencode(query, quote_via=quote)
    requests = [
        {
            "name": str(number),
            "httpMethod": "GET",
            "url": f"{quote(arm_id(node.id))}/providers/Microsoft.Insights/metrics?{options}",
        }
        for number, node in enumerate(nodes)
    ]
    found: list[Sample] = []
    for answer in clients.batch("batch", place, requests):
        node, status = nodes[int(answer["name"])], int(answer["httpStatusCode"])
        content = answer.get("content")
        document: Mapping[str, Any] = content if isinstance(content, Mapping) else {}
        if status == HTTPStatus.OK:
            found += _samples_of_agent(node.id, document, window)
        elif status not in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND):
            raise refused_request(status, document, "metrics.list", place)
        else:
            log.debug("%s: no agent: %s", node.id, document)
    return found


def _samples_of_agent(node_id: str, document: Mapping[str, Any], window: _Window) -> Iterator[Sample]:
    memory: dict[str, dict[tuple[int, datetime], float]] = {_USED: {}, _TOTAL: {}}
    for name, series in _series(document):
        gpu = _index(series)
        if gpu is None:
            continue
        if name in memory:
            memory[name] |= {(gpu, at): value for at, value in window.values(series, _MEMORY)}
        elif name in _OF_AGENT:
            for at, value in window.values(series, _OF_AGENT[name]):
                yield Sample(_OF_AGENT[name].metric, node_id, at, value, gpu)
    for (gpu, at), used in memory[_USED].items():
        total = memory[_TOTAL].get((gpu, at), 0.0)
        if total > 0:
            yield Sample(_MEMORY.metric, node_id, at, 100 * used / total, gpu)


def _index(series: Mapping[str, Any]) -> int | None:
    """Return the index of the GPU that a series is about; the case of a dimension's name has no meaning."""
    for item in series.get("metadatavalues") or ():
        if str((item.get("name") or {}).get("value")).lower() == _INDEX and str(item.get("value")).isdigit():
            return int(item["value"])
    return None


def _to_text(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
