"""Asks CloudWatch what instances are doing: EC2's own metrics, and those that its agent takes of NVIDIA GPUs."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from multicompute.node import Metric, Node, Sample
from multicompute_aws._errors import Place, retryable, translate_errors
from multicompute_aws._session import Clients

# EC2 measures every five minutes, and with detailed monitoring every minute; it does not say which. Intervals of five minutes are whole
# in both, so that a sum divided by them is a rate ("CloudWatch metrics that are available for your instances", EC2 user guide).
_PERIOD: Final = timedelta(minutes=5)
# With detailed monitoring an interval that has just ended still lacks its last minutes: its mean may be told, its sum not yet.
_SETTLING: Final = timedelta(minutes=3)
# The most that one GetMetricData call takes.
_QUERIES_AT_ONCE: Final = 500
# What ListMetrics' RecentlyActive can narrow to; without it also shows what ended up to two weeks ago.
_RECENTLY: Final = timedelta(hours=3)

_EC2: Final = "AWS/EC2"
_INSTANCE: Final = "InstanceId"
_OF_INSTANCES: Final = {"CPUUtilization": Metric.CPU}
_BYTES_OF_INSTANCES: Final = {"NetworkIn": Metric.NETWORK_RECEIVED, "NetworkOut": Metric.NETWORK_SENT}

# "Collect NVIDIA GPU metrics", CloudWatch user guide. Its utilization_memory is how often the memory was busy, not how full it is.
_AGENT: Final = "CWAgent"
_INDEX: Final = "index"
_USED: Final = "nvidia_smi_memory_used"
_TOTAL: Final = "nvidia_smi_memory_total"
_OF_ACCELERATORS: Final = {
    "nvidia_smi_utilization_gpu": Metric.ACCELERATOR,
    "nvidia_smi_temperature_gpu": Metric.ACCELERATOR_TEMPERATURE,
    "nvidia_smi_power_draw": Metric.ACCELERATOR_POWER,
}


@dataclass(frozen=True, slots=True)
class _Source:
    """What one series of CloudWatch is about: CloudWatch's name, of which node, of which of its accelerators."""

    name: str
    node: str
    accelerator: int | None = None


@dataclass(frozen=True, slots=True)
class _Window:
    """The intervals that end in the window asked for: the start of the first, and the end of the last."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, since: datetime, until: datetime) -> "_Window":
        first, last = -(-since.timestamp() // _SECONDS), until.timestamp() // _SECONDS
        return cls(
            datetime.fromtimestamp((first - 1) * _SECONDS, UTC),
            datetime.fromtimestamp(last * _SECONDS, UTC),
        )


_SECONDS: Final = int(_PERIOD.total_seconds())


def metrics(
    clients: Clients, nodes: Sequence[Node], *, since: datetime, until: datetime, now: datetime
) -> tuple[Sample, ...]:
    """What was measured of `nodes` in the intervals of five minutes that ended in the window; what was not is missing."""
    window = _Window.of(since, min(until, now))
    ids: dict[str, dict[str, None]] = defaultdict(dict)
    for node in nodes:
        ids[node.region][node.id] = None
    found: list[Sample] = []
    if window.start < window.end:
        for region, of_region in ids.items():
            place = Place(region)
            cloudwatch = clients.cloudwatch(region)
            queries = _of_instances(of_region)
            queries |= _of_agents(cloudwatch, of_region, place, is_recent=window.start >= now - _RECENTLY)
            found += _samples(_values(cloudwatch, queries, window, place), settled=now - _SETTLING)
    return tuple(sorted(found, key=lambda sample: (sample.at, sample.node, sample.metric, sample.accelerator or 0)))


def _of_instances(ids: Mapping[str, None]) -> dict[_Source, dict[str, Any]]:
    """What to ask of EC2's own metrics."""
    stats = dict.fromkeys(_OF_INSTANCES, "Average") | dict.fromkeys(_BYTES_OF_INSTANCES, "Sum")
    return {
        _Source(name, node): _stat(
            {"Namespace": _EC2, "MetricName": name, "Dimensions": [{"Name": _INSTANCE, "Value": node}]}, stat
        )
        for node in ids
        for name, stat in stats.items()
    }


def _of_agents(
    cloudwatch: Any, ids: Mapping[str, None], place: Place, *, is_recent: bool
) -> dict[_Source, dict[str, Any]]:
    """What to ask of the agents' metrics: which there are, and under which dimensions, depends on how each agent is set up."""
    asked: dict[str, Any] = {"Namespace": _AGENT, "Dimensions": [{"Name": _INSTANCE}, {"Name": _INDEX}]}
    if is_recent:
        asked["RecentlyActive"] = "PT3H"
    found: dict[_Source, dict[str, Any]] = {}
    with translate_errors("ListMetrics", place):
        for page in cloudwatch.get_paginator("list_metrics").paginate(**asked):
            for item in page["Metrics"]:
                source = _source(item)
                if source is not None and source.node in ids:
                    # An agent may publish the same figure under several sets of dimensions.
                    found.setdefault(source, _stat(item, "Average"))
    return found


def _source(item: Mapping[str, Any]) -> _Source | None:
    """What a series of an agent is about; None where it is nothing of interest."""
    dimensions = {entry["Name"]: entry["Value"] for entry in item["Dimensions"]}
    name, index = item["MetricName"], dimensions.get(_INDEX, "")
    if name not in (*_OF_ACCELERATORS, _USED, _TOTAL) or not index.isdecimal():
        return None
    return _Source(name, dimensions.get(_INSTANCE, ""), int(index))


def _stat(metric: Mapping[str, Any], stat: str) -> dict[str, Any]:
    return {"Metric": metric, "Period": _SECONDS, "Stat": stat}


def _values(
    cloudwatch: Any, queries: Mapping[_Source, dict[str, Any]], window: _Window, place: Place
) -> dict[_Source, dict[datetime, float]]:
    """The values by the end of their interval."""
    sources = list(queries)
    found: dict[_Source, dict[datetime, float]] = defaultdict(dict)
    for start in range(0, len(sources), _QUERIES_AT_ONCE):
        batch = {f"m{number}": source for number, source in enumerate(sources[start : start + _QUERIES_AT_ONCE])}
        asked = {
            "MetricDataQueries": [{"Id": key, "MetricStat": queries[source]} for key, source in batch.items()],
            "StartTime": window.start,
            "EndTime": window.end,
        }
        with translate_errors("GetMetricData", place):
            pages = list(cloudwatch.get_paginator("get_metric_data").paginate(**asked))
        for result in (result for page in pages for result in page["MetricDataResults"]):
            if result.get("StatusCode") == "InternalError":
                raise retryable("CloudWatch could not read all of the metrics", "InternalError", place)
            for at, value in zip(result["Timestamps"], result["Values"], strict=True):
                found[batch[result["Id"]]][at.astimezone(UTC) + _PERIOD] = value
    return found


def _samples(values: Mapping[_Source, Mapping[datetime, float]], *, settled: datetime) -> Iterator[Sample]:
    """The measurements in our units."""
    for source, series in values.items():
        for at, value in series.items():
            metric = _OF_INSTANCES.get(source.name) or _OF_ACCELERATORS.get(source.name)
            if metric is not None:
                yield Sample(metric, source.node, at, value, source.accelerator)
            elif source.name in _BYTES_OF_INSTANCES and at <= settled:
                yield Sample(_BYTES_OF_INSTANCES[source.name], source.node, at, value / _SECONDS)
            elif source.name == _USED:
                total = values.get(_Source(_TOTAL, source.node, source.accelerator), {}).get(at)
                if total:
                    share = 100 * value / total
                    yield Sample(Metric.ACCELERATOR_MEMORY, source.node, at, share, source.accelerator)
