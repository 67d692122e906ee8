"""Asks Cloud Monitoring for time series, one kind of metric for many machines in a call, and reads what they say."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

from multicompute.errors import AccessDeniedError, MulticomputeError
from multicompute_gcp._errors import Place
from multicompute_gcp._session import Clients

# https://cloud.google.com/monitoring/api/v3/filters: one_of takes a hundred texts.
BATCH: Final = 100
# projects.timeSeries.list: the most points that a page may have.
_PAGE: Final = 100_000
_FIELDS: Final = "timeSeries(metric,resource,metricKind,points),unit,nextPageToken,unreachable"
_RIGHT: Final = "monitoring.timeSeries.list"
# As Cloud Monitoring writes units, and what makes percent of them.
_PERCENT: Final = {"10^2.%": 100.0, "1": 100.0, "%": 1.0, "percent": 1.0}


@dataclass(frozen=True, slots=True)
class Window:
    """When: after `since`, up to and with `until`."""

    since: datetime
    until: datetime

    def parameters(self) -> dict[str, str | int]:
        return {"interval.startTime": _stamp(self.since), "interval.endTime": _stamp(self.until)}


@dataclass(frozen=True, slots=True)
class Series:
    """A time series.

    Attributes:
        resource, labels: the labels of what was measured, and of the metric.
        values: instants and values, as they were measured; of what is counted (bytes, joules) so much per second.
        percent: what makes percent of a value, as far as the unit says so.
    """

    resource: dict[str, str]
    labels: dict[str, str]
    values: tuple[tuple[datetime, float], ...]
    percent: float | None


def series(
    clients: Clients, kind: str, resource: str, where: tuple[str, Sequence[str]], window: Window, place: Place
) -> Iterator[Series]:
    """Every series of one kind of metric; nothing where the project has never had one of it.

    A call names one kind of metric: "TimeSeries data are limited to a single metric per request" is what Google answers to more.

    Args:
        clients: who asks.
        kind: the type of the metric.
        resource: the type of what is measured.
        where: a label, and the values that it may have.
        window: when.
        place: what errors are about.

    Raises:
        AccessDeniedError: the right to read time series is missing.
        MulticomputeError: of the kind that the answer means.
    """
    label, wanted = where
    for begin in range(0, len(wanted), BATCH):
        named = ",".join(f'"{value}"' for value in wanted[begin : begin + BATCH])
        words = (f'metric.type="{kind}"', f'resource.type="{resource}"', f"{label}=one_of({named})")
        yield from _read(_pages(clients, " AND ".join(words), window, place))


def _pages(clients: Clients, words: str, window: Window, place: Place) -> Iterator[dict[str, Any]]:
    try:
        yield from clients.pages(
            clients.monitoring_url("timeSeries"),
            "timeSeries.list",
            place,
            filter=words,
            view="FULL",
            pageSize=_PAGE,
            fields=_FIELDS,
            **window.parameters(),
        )
    except AccessDeniedError as error:
        if error.code != "SERVICE_DISABLED":
            error.hint = f"give this identity the right {_RIGHT}; the role in docs/permissions/gcp-role.yaml has it"
        raise
    except MulticomputeError as error:
        # "Cannot find metric(s) that match type": of an agent's metrics Google knows only once an agent has sent one.
        if error.code != "NOT_FOUND":
            raise


def _read(pages: Iterable[dict[str, Any]]) -> Iterator[Series]:
    """The series on these pages; one that a page break cuts through is put together again."""
    whole: dict[str, tuple[dict[str, Any], list[dict[str, Any]], float | None]] = {}
    for page in pages:
        percent = _PERCENT.get(str(page.get("unit") or ""))
        for item in page.get("timeSeries", ()):
            key = json.dumps([item["resource"], item["metric"]], sort_keys=True)
            whole.setdefault(key, (item, [], percent))[1].extend(item.get("points") or ())
    for item, points, percent in whole.values():
        resource, labels = item["resource"].get("labels") or {}, item["metric"].get("labels") or {}
        yield Series(resource, labels, tuple(_values(str(item.get("metricKind")), points)), percent)


def _values(kind: str, points: Sequence[dict[str, Any]]) -> Iterator[tuple[datetime, float]]:
    """What the points of a series say, oldest first; those without a number say nothing."""
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
        # Of what is counted up since a start, only the step from one point to the next belongs to an interval; a restart begins anew.
        for (start, before, first), (again, end, second) in pairwise(known):
            if start == again and before is not None and end is not None and end > before:
                yield end, (second - first) / (end - before).total_seconds()


def _number(value: dict[str, Any]) -> float | None:
    # A 64-bit integer is a text in Google's JSON.
    found = value.get("doubleValue", value.get("int64Value"))
    return None if found is None else float(found)


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


def _stamp(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
