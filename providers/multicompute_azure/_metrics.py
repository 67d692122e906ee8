"""Tells how busy nodes are: Azure Monitor's own figures fifty machines a call, an agent's twenty a call."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import groupby
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from multicompute.errors import AccessDeniedError, AuthError
from multicompute.node import Metric, Node, NodeState, Sample
from multicompute_azure._errors import MEANINGS, Place, needing, refused
from multicompute_azure._session import COMPUTE, Clients

log = logging.getLogger(__name__)

_RIGHT: Final = "Microsoft.Insights/metrics/read on the whole subscription, and there the provider Microsoft.Insights"
_AT_ONCE: Final = 8
# Both are the most that one call may ask about ("How to migrate from the metrics API to the getBatch API"; of more than twenty requests in
# one Resource Manager makes an operation).
_MACHINES: Final = 50
_REQUESTS: Final = 20
_MINUTE: Final = timedelta(minutes=1)


class Measure(NamedTuple):
    """A metric of Azure's: what it is to us, the aggregation that tells it, and what makes our unit of a minute's value."""

    metric: Metric
    aggregation: str = "average"
    factor: float = 1.0


# https://learn.microsoft.com/azure/azure-monitor/reference/supported-metrics/microsoft-compute-virtualmachines-metrics: what the host sees
# of every machine. Accelerators are not among it.
_HOST: Final[Mapping[str, Measure]] = {
    "Percentage CPU": Measure(Metric.CPU),
    "Network In Total": Measure(Metric.NETWORK_RECEIVED, "total", 1 / 60),
    "Network Out Total": Measure(Metric.NETWORK_SENT, "total", 1 / 60),
}
# What the Telegraf agent sends of each GPU where somebody has set it up ("Monitor HPC and AI workloads on Azure VMs and Virtual Machine
# Scale Set(s) using Telegraf and Azure Monitor"). Its share of memory is not asked for: it is the time in which memory was busy.
_AGENT_NAMESPACE: Final = "Telegraf/nvidia-smi"
_AGENT: Final[Mapping[str, Measure]] = {
    "utilization_gpu": Measure(Metric.ACCELERATOR),
    "temperature_gpu": Measure(Metric.ACCELERATOR_TEMPERATURE),
    "power_draw": Measure(Metric.ACCELERATOR_POWER),
}
_MEMORY_USED: Final = "memory_used"
_MEMORY_TOTAL: Final = "memory_total"
_AGENT_VERSION: Final = "2024-02-01"
# The dimension that tells a machine's GPUs apart, and more of them than any machine has.
_INDEX: Final = "index"
_GPUS: Final = 32
# Sizes with accelerators are of Azure's N family ("Virtual machine naming conventions").
_GPU_SIZES: Final = "standard_n"


class Window(NamedTuple):
    """Between which instants something was measured."""

    since: datetime
    until: datetime

    @property
    def begin(self) -> str:
        """From when on to ask: Azure names a minute by its begin, we by its end."""
        return _written(self.since - _MINUTE)

    @property
    def end(self) -> str:
        return _written(self.until)

    def values(self, series: Mapping[str, Any], measure: Measure) -> Iterator[tuple[datetime, float]]:
        """The end of each minute that has a value, and the value in our unit; Azure lists minutes without one, too."""
        for point in series.get("data") or ():
            at, value = _read(str(point["timeStamp"])) + _MINUTE, point.get(measure.aggregation)
            if value is not None and self.since <= at <= self.until:
                yield at, float(value) * measure.factor


Question = tuple[Callable[[Clients, str, Sequence[Node], Window], list[Sample]], str, Sequence[Node]]


def metrics(clients: Clients, nodes: Sequence[Node], since: datetime, until: datetime) -> tuple[Sample, ...]:
    """What was measured of these nodes, oldest first.

    Raises:
        MulticomputeError: Azure Monitor can't be asked.
    """
    window, there = Window(since, until), [node for node in nodes if node.state is not NodeState.GONE]
    with_gpus = [node for node in there if node.instance_type.lower().startswith(_GPU_SIZES)]
    questions = [(_of_machines, *batch) for batch in _batches(there, _MACHINES)]
    questions += [(_of_gpus, *batch) for batch in _batches(with_gpus, _REQUESTS)]

    def asked(question: Question) -> list[Sample]:
        ask, region, batch = question
        return ask(clients, region, batch, window)

    with needing(_RIGHT), ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="multicompute-azure") as pool:
        found = [sample for samples in pool.map(asked, questions) for sample in samples]
    return tuple(sorted(found, key=lambda one: (one.at, one.node, one.metric, one.accelerator or 0)))


def _batches(nodes: Sequence[Node], size: int) -> Iterator[tuple[str, Sequence[Node]]]:
    """The nodes region by region, so many at once."""
    for region, there in groupby(sorted(nodes, key=lambda node: node.region), key=lambda node: node.region):
        listed = list(there)
        for begin in range(0, len(listed), size):
            yield region, listed[begin : begin + size]


# --- what the host sees -----------------------------------------------------------------------------------------------


def _of_machines(clients: Clients, region: str, nodes: Sequence[Node], window: Window) -> list[Sample]:
    query = {
        "metricnamespace": f"{COMPUTE}/virtualMachines",
        "metricnames": ",".join(_HOST),
        "aggregation": "average,total",
        "interval": "PT1M",
        "starttime": window.begin,
        "endtime": window.end,
    }
    ids = {node.id.lower(): node.id for node in nodes}
    try:
        document = {"resourceids": list(ids.values())}
        answer = clients.measured("ask for the metrics", Place(region), document, query)
    except AuthError as error:
        if error.code in MEANINGS:
            raise
        # Who is known, and may not read the metrics of the whole subscription, is told so with 401 (same page, "401 authorization errors").
        raise AccessDeniedError(error.message, provider="azure", region=region, code=error.code) from error
    found: list[Sample] = []
    for one in answer.get("values") or ():
        node_id = ids.get(str(one.get("resourceid")).lower())
        if node_id is not None:
            found += _told_by_host(node_id, one, window)
    return found


def _told_by_host(node_id: str, document: Mapping[str, Any], window: Window) -> Iterator[Sample]:
    for name, series in _series(document):
        if name in _HOST:
            for at, value in window.values(series, _HOST[name]):
                yield Sample(_HOST[name].metric, node_id, at, value)


def _series(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every time series in an answer, with the name of its metric."""
    for metric in document.get("value") or ():
        if metric.get("errorCode", "Success") != "Success":
            log.debug("%s: %s", metric["errorCode"], metric.get("errorMessage"))
        for series in metric.get("timeseries") or ():
            yield str((metric.get("name") or {}).get("value")), series


# --- what an agent sends ----------------------------------------------------------------------------------------------


def _of_gpus(clients: Clients, region: str, nodes: Sequence[Node], window: Window) -> list[Sample]:
    """What an agent on the nodes has sent; a node without one is refused as having no such namespace, and has no samples."""
    query = {
        "api-version": _AGENT_VERSION,
        "metricnamespace": _AGENT_NAMESPACE,
        "metricnames": ",".join([*_AGENT, _MEMORY_USED, _MEMORY_TOTAL]),
        "aggregation": "average",
        "interval": "PT1M",
        "timespan": f"{window.begin}/{window.end}",
        "$filter": f"{_INDEX} eq '*'",
        "top": str(_GPUS),
    }
    options, place = urlencode(query, quote_via=quote), Place(region)
    requests = [
        {
            "name": str(number),
            "httpMethod": "GET",
            "url": f"{quote(node.id)}/providers/Microsoft.Insights/metrics?{options}",
        }
        for number, node in enumerate(nodes)
    ]
    found: list[Sample] = []
    for answer in clients.batch("ask for an agent's metrics", place, requests):
        node, status = nodes[int(answer["name"])], int(answer["httpStatusCode"])
        content = answer.get("content")
        document: Mapping[str, Any] = content if isinstance(content, Mapping) else {}
        if status == HTTPStatus.OK:
            found += _told_by_agent(node.id, document, window)
        elif status not in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND):
            raise refused(status, document, operation="ask for an agent's metrics", place=place)
        else:
            log.debug("%s: no agent: %s", node.id, document)
    return found


def _told_by_agent(node_id: str, document: Mapping[str, Any], window: Window) -> Iterator[Sample]:
    memory: dict[str, dict[tuple[int, datetime], float]] = {_MEMORY_USED: {}, _MEMORY_TOTAL: {}}
    for name, series in _series(document):
        gpu = _index(series)
        if gpu is None:
            continue
        if name in memory:
            memory[name] |= {
                (gpu, at): value for at, value in window.values(series, Measure(Metric.ACCELERATOR_MEMORY))
            }
        elif name in _AGENT:
            for at, value in window.values(series, _AGENT[name]):
                yield Sample(_AGENT[name].metric, node_id, at, value, gpu)
    for (gpu, at), used in memory[_MEMORY_USED].items():
        total = memory[_MEMORY_TOTAL].get((gpu, at), 0.0)
        if total > 0:
            yield Sample(Metric.ACCELERATOR_MEMORY, node_id, at, 100 * used / total, gpu)


def _index(series: Mapping[str, Any]) -> int | None:
    """Which GPU a series is about; names of dimensions don't differ by case."""
    for item in series.get("metadatavalues") or ():
        if str((item.get("name") or {}).get("value")).lower() == _INDEX and str(item.get("value")).isdigit():
            return int(item["value"])
    return None


# --- times ------------------------------------------------------------------------------------------------------------


def _written(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _read(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
