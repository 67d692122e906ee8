"""Reads the metrics of instances from CloudWatch: EC2's own, and what the CloudWatch agent measures of NVIDIA GPUs."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from multicompute.node import Metric, Node, Sample
from multicompute.provider_kit.calls import batches
from multicompute.provider_kit.seam import sorted_samples
from multicompute.provider_kit.vendor_errors import Place, retryable
from multicompute_aws._errors import translate_errors
from multicompute_aws._session import Clients

# EC2 measures every five minutes, with detailed monitoring every minute, and does not report which. An interval of five minutes is
# complete in both cases, so a sum divided by it is a rate ("CloudWatch metrics that are available for your instances", EC2 user guide).
_PERIOD: Final = timedelta(minutes=5)
# With detailed monitoring an interval that has just ended still lacks its last minutes: its mean is usable, its sum not yet.
_SETTLING: Final = timedelta(minutes=3)
# The most that one GetMetricData call takes.
_QUERIES_AT_ONCE: Final = 500
# The only value of ListMetrics' RecentlyActive; without it, metrics that ended up to two weeks ago are listed, too.
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
    """A series of CloudWatch: the metric's name there, the node, and the index of the accelerator, if any."""

    name: str
    node: str
    accelerator: int | None = None


@dataclass(frozen=True, slots=True)
class _Window:
    """The intervals that end within a period: the start of the first, and the end of the last."""

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
    """Return what was measured of `nodes` in the intervals of five minutes that ended in the period, see `Provider.metrics`."""
    window = _Window.of(since, min(until, now))
    ids: dict[str, dict[str, None]] = defaultdict(dict)
    for node in nodes:
        ids[node.region][node.id] = None
    found: list[Sample] = []
    if window.start < window.end:
        for region, of_region in ids.items():
            place = Place("aws", region)
            cloudwatch = clients.cloudwatch(region)
            queries = _of_instances(of_region)
            queries |= _of_agents(cloudwatch, of_region, place, is_recent=window.start >= now - _RECENTLY)
            found += _samples(_values(cloudwatch, queries, window, place), settled=now - _SETTLING)
    return sorted_samples(found)


def _of_instances(ids: Mapping[str, None]) -> dict[_Source, dict[str, Any]]:
    """Return the queries for EC2's own metrics."""
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
    """Return the queries for the agents' metrics. Which exist, and with which dimensions, depends on each agent's configuration."""
    listing: dict[str, Any] = {"Namespace": _AGENT, "Dimensions": [{"Name": _INSTANCE}, {"Name": _INDEX}]}
    if is_recent:
        listing["RecentlyActive"] = "PT3H"
    found: dict[_Source, dict[str, Any]] = {}
    with translate_errors("ListMetrics", place):
        for page in cloudwatch.get_paginator("list_metrics").paginate(**listing):
            for item in page["Metrics"]:
                source = _source(item)
                if source is not None and source.node in ids:
                    # An agent may publish the same metric with several sets of dimensions.
                    found.setdefault(source, _stat(item, "Average"))
    return found


def _source(item: Mapping[str, Any]) -> _Source | None:
    """Return the source of an agent's series, or None if it is not one of those that are read."""
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
    """Return the values of each series, by the end of their interval."""
    sources = list(queries)
    found: dict[_Source, dict[datetime, float]] = defaultdict(dict)
    for some in batches(sources, _QUERIES_AT_ONCE):
        batch = {f"m{number}": source for number, source in enumerate(some)}
        query = {
            "MetricDataQueries": [{"Id": key, "MetricStat": queries[source]} for key, source in batch.items()],
            "StartTime": window.start,
            "EndTime": window.end,
        }
        with translate_errors("GetMetricData", place):
            pages = list(cloudwatch.get_paginator("get_metric_data").paginate(**query))
        for result in (result for page in pages for result in page["MetricDataResults"]):
            if result.get("StatusCode") == "InternalError":
                text = "CloudWatch could not read all of the metrics"
                raise retryable(text, code="InternalError", place=place)
            for at, value in zip(result["Timestamps"], result["Values"], strict=True):
                found[batch[result["Id"]]][at.astimezone(UTC) + _PERIOD] = value
    return found


def _samples(values: Mapping[_Source, Mapping[datetime, float]], *, settled: datetime) -> Iterator[Sample]:
    """Yield the measurements in our units."""
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
