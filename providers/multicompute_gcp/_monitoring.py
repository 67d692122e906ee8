"""Reads time series from Cloud Monitoring, one metric of many machines in a call."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

from multicompute.errors import MulticomputeError
from multicompute.provider_kit.calls import batches
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._session import Clients

# https://cloud.google.com/monitoring/api/v3/filters: the most values of one_of.
_VALUES_AT_ONCE: Final = 100
# projects.timeSeries.list: the most points of a page.
_PAGE: Final = 100_000
_FIELDS: Final = "timeSeries(metric,resource,metricKind,points),unit,nextPageToken,unreachable"
# Cloud Monitoring's units, and the factor that makes percent of a value.
_PERCENT: Final = {"10^2.%": 100.0, "1": 100.0, "%": 1.0, "percent": 1.0}


@dataclass(frozen=True, slots=True)
class Window:
    """A period: after `since`, up to and including `until`."""

    since: datetime
    until: datetime

    def parameters(self) -> dict[str, str]:
        """Return the period as parameters of the call."""
        return {"interval.startTime": _stamp(self.since), "interval.endTime": _stamp(self.until)}


@dataclass(frozen=True, slots=True)
class Series:
    """A time series.

    Attributes:
        resource, labels: The labels of what was measured, and those of the metric.
        values: Instants and values, as measured; of a counter (bytes, joules), the rate per second.
        percent: The factor that makes percent of a value, None if the unit is not known.
    """

    resource: dict[str, str]
    labels: dict[str, str]
    values: tuple[tuple[datetime, float], ...]
    percent: float | None


def series(
    clients: Clients, metric_type: str, resource: str, where: tuple[str, Sequence[str]], window: Window, place: Place
) -> Iterator[Series]:
    """Yield every series of one metric; none if the project has never had any.

    A call names one metric: to more, Google answers "TimeSeries data are limited to a single metric per request".

    Args:
        clients: The clients.
        metric_type: The type of the metric.
        resource: The type of what is measured.
        where: A label, and the values that it may have.
        window: The period.
        place: The place for errors.
    """
    label, wanted = where
    for some in batches(wanted, _VALUES_AT_ONCE):
        values = ",".join(f'"{value}"' for value in some)
        terms = (f'metric.type="{metric_type}"', f'resource.type="{resource}"', f"{label}=one_of({values})")
        yield from _read(_pages(clients, " AND ".join(terms), window, place))


def _pages(clients: Clients, query: str, window: Window, place: Place) -> Iterator[dict[str, Any]]:
    try:
        yield from clients.pages(
            clients.monitoring_url("timeSeries"),
            "timeSeries.list",
            place,
            filter=query,
            view="FULL",
            pageSize=_PAGE,
            fields=_FIELDS,
            **window.parameters(),
        )
    except MulticomputeError as error:
        # "Cannot find metric(s) that match type": an agent's metric is unknown until an agent of the project has sent it.
        if error.code != "NOT_FOUND":
            raise


def _read(pages: Iterable[dict[str, Any]]) -> Iterator[Series]:
    """Yield the series on these pages; the parts of a series that continues on the next page are joined."""
    joined: dict[str, tuple[dict[str, Any], list[dict[str, Any]], float | None]] = {}
    for page in pages:
        percent = _PERCENT.get(str(page.get("unit") or ""))
        for item in page.get("timeSeries", ()):
            key = json.dumps([item["resource"], item["metric"]], sort_keys=True)
            joined.setdefault(key, (item, [], percent))[1].extend(item.get("points") or ())
    for item, points, percent in joined.values():
        resource, labels = item["resource"].get("labels") or {}, item["metric"].get("labels") or {}
        yield Series(resource, labels, tuple(_values(str(item.get("metricKind")), points)), percent)


def _values(kind: str, points: Sequence[dict[str, Any]]) -> Iterator[tuple[datetime, float]]:
    """Yield the instants and values of a series, oldest first; points without a number are left out."""
    known = [
        (_instant(point["interval"].get("startTime")), _instant(point["interval"]["endTime"]), value)
        for point in reversed(points)
        if (value := _number(point["value"])) is not None
    ]
    if kind == "GAUGE":
        yield from ((end, value) for _, end, value in known if end is not None)
    elif kind == "DELTA":
        for start, end, value in known:
            if start is not None and end is not None and end > start:
                yield end, value / (end - start).total_seconds()
    elif kind == "CUMULATIVE":
        # A counter since a start: only the difference of two points belongs to an interval, and a restart begins a new count.
        for (start, before, first), (again, end, second) in pairwise(known):
            if start == again and before is not None and end is not None and end > before:
                yield end, (second - first) / (end - before).total_seconds()


def _number(value: dict[str, Any]) -> float | None:
    # In Google's JSON, a 64-bit integer is a text.
    found = value.get("doubleValue", value.get("int64Value"))
    return None if found is None else float(found)


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


def _stamp(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
