"""CloudWatch: moto stores the metrics; this module adds a test's measurements and the checks that moto lacks."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from multicompute.node import Metric
from multicompute_aws.local.moto_cloud import Moto
from multicompute_aws.local.state import Instance
from multicompute_aws.local.wire import AwsError

_MOST_QUERIES = 500
_ID = re.compile(r"[a-z][A-Za-z0-9_]*")
_SHORT_PERIODS = (1, 5, 10, 20, 30)
_MINUTE = timedelta(minutes=1)
# With basic monitoring EC2 measures every five minutes; the CloudWatch agent measures every minute by default.
_BASIC = timedelta(minutes=5)
_BYTES = {Metric.NETWORK_RECEIVED: "NetworkIn", Metric.NETWORK_SENT: "NetworkOut"}
_AGENT_NAMES = {
    Metric.ACCELERATOR: "nvidia_smi_utilization_gpu",
    Metric.ACCELERATOR_TEMPERATURE: "nvidia_smi_temperature_gpu",
    Metric.ACCELERATOR_POWER: "nvidia_smi_power_draw",
}
_MEMORY_MIB = 81559.0
"""The memory of an H100 as the agent reports it."""


def check_queries(region: str, params: Mapping[str, Any]) -> None:
    """Refuse a GetMetricData that CloudWatch would refuse; moto answers all others.

    Raises:
        AwsError: There are too many queries, or one is malformed.
    """
    queries = params.get("MetricDataQueries", ())
    if len(queries) > _MOST_QUERIES:
        raise AwsError("ValidationError", f"The collection MetricDataQueries must not exceed {_MOST_QUERIES} items.")
    ids = [query.get("Id", "") for query in queries]
    if len(set(ids)) < len(ids) or not all(_ID.fullmatch(key) for key in ids):
        raise AwsError("ValidationError", "The Ids in MetricDataQueries must be unique and start with a small letter.")
    for query in queries:
        period = query.get("MetricStat", {}).get("Period", 60)
        if period not in _SHORT_PERIODS and (period < 60 or period % 60):
            raise AwsError("ValidationError", f"The period {period} is not a multiple of 60.")


def put_measurements(
    moto: Moto, instance: Instance, load: Mapping[Metric, float], *, accelerator: int, lasted: timedelta, now: datetime
) -> None:
    """Add the metrics of an instance for every interval in the time `lasted` before `now`."""
    of_ec2 = _MINUTE if instance.launch.monitoring else _BASIC
    data: dict[str, list[dict[str, Any]]] = {"AWS/EC2": [], "CWAgent": []}
    dimensions = {"InstanceId": instance.id}
    for start in _starts(of_ec2, lasted, now):
        for name, value, unit in _of_ec2(load, of_ec2):
            data["AWS/EC2"].append(_datum(name, value, unit, dimensions, start))
    dimensions |= {"index": str(accelerator), "name": "NVIDIA H100 80GB HBM3", "arch": "Hopper"}
    for start in _starts(_MINUTE, lasted, now):
        for name, value in _of_agent(load):
            data["CWAgent"].append(_datum(name, value, "None", dimensions, start))
    for namespace, items in data.items():
        moto.cloudwatch(instance.launch.region).put_metric_data(namespace, items)


def _starts(interval: timedelta, lasted: timedelta, now: datetime) -> Iterator[datetime]:
    seconds = interval.total_seconds()
    at = datetime.fromtimestamp(now.timestamp() // seconds * seconds, UTC) - interval
    while at >= now - lasted:
        yield at
        at -= interval


def _of_ec2(load: Mapping[Metric, float], interval: timedelta) -> Iterator[tuple[str, float, str]]:
    if Metric.CPU in load:
        yield "CPUUtilization", load[Metric.CPU], "Percent"
    for metric, name in _BYTES.items():
        if metric in load:
            yield name, load[metric] * interval.total_seconds(), "Bytes"


def _of_agent(load: Mapping[Metric, float]) -> Iterator[tuple[str, float]]:
    for metric, name in _AGENT_NAMES.items():
        if metric in load:
            yield name, load[metric]
    if Metric.ACCELERATOR_MEMORY in load:
        yield "nvidia_smi_memory_used", _MEMORY_MIB * load[Metric.ACCELERATOR_MEMORY] / 100
        yield "nvidia_smi_memory_total", _MEMORY_MIB


def _datum(name: str, value: float, unit: str, dimensions: Mapping[str, str], at: datetime) -> dict[str, Any]:
    return {
        "MetricName": name,
        "Value": value,
        "Unit": unit,
        # moto compares them with its own, which are naive and in UTC.
        "Timestamp": at.replace(tzinfo=None),
        "Dimensions": [{"Name": key, "Value": text} for key, text in dimensions.items()],
    }
