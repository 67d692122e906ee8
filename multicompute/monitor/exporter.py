"""Tells Prometheus how clusters fare: figures taken after each round of the supervisor, served over HTTP."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from multicompute.cost.billing import EXACT, billed, exact, minimums, per_hour, spent
from multicompute.errors import ConfigError, SpecError
from multicompute.ledger import ClusterRecord, NodeRecord
from multicompute.monitor.supervise import Round
from multicompute.node import ClusterState, Metric, Sample
from multicompute.session import Session

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

DEFAULT_ADDRESS: Final = "127.0.0.1:9464"
_CLUSTER: Final = ("cluster", "provider", "region")
_NOTHING: Final = timedelta(0)


@dataclass(frozen=True, slots=True)
class Gauge:
    """One figure for each combination of label values.

    Attributes:
        name: without the prefix that all of ours have.
        labels: names of the labels.
        values: label values, in the order of `labels` -> the figure.
    """

    name: str
    help: str
    labels: tuple[str, ...]
    values: Mapping[tuple[str, ...], float]


def gauges(session: Session, last: Round) -> list[Gauge]:
    """The figures as they are now, from the ledger and the last round; asks no cloud."""
    now = session.clock.now()
    records = [*session.ledger.clusters()]
    # Since now: the nodes of clusters that live, and of no others.
    nodes = {record.id: nodes for record, nodes in session.ledger.spending(since=now)}
    accounts = [(record, nodes.get(record.id, [])) for record in records]
    return [
        *_counts(accounts),
        *_costs(accounts, minimums(session), now),
        *_accelerators(accounts, last.readings),
        *_of_round(last, now),
    ]


def _counts(accounts: Sequence[tuple[ClusterRecord, Sequence[NodeRecord]]]) -> Iterator[Gauge]:
    states = Counter(record.state.value for record, _ in accounts)
    live = [state for state in ClusterState if state.is_live]
    # States in which there is none are told, too: what is missing can't be compared with anything.
    yield Gauge(
        "clusters", "Clusters that live, by state", ("state",), {(s.value,): float(states[s.value]) for s in live}
    )
    nodes = Counter(
        (node.provider, node.region, node.state) for _, nodes in accounts for node in nodes if node.ended_at is None
    )
    labels = ("provider", "region", "state")
    yield Gauge("nodes", "Nodes of clusters that live", labels, {key: float(count) for key, count in nodes.items()})


def _costs(
    accounts: Iterable[tuple[ClusterRecord, Sequence[NodeRecord]]], least: Mapping[str, timedelta], now: datetime
) -> Iterator[Gauge]:
    hourly, accrued, ends = {}, {}, {}
    for record, nodes in accounts:
        labels = _labels(record)
        hourly[labels] = float(sum((exact(n.hourly_cost) for n in nodes if n.ended_at is None), Decimal(0)))
        amount = Decimal(0)
        for node in nodes:
            time = billed(node, minimum=least.get(node.provider, _NOTHING), now=now)
            amount = EXACT.add(amount, spent(node.hourly_cost, time))
        accrued[labels] = float(per_hour(amount))
        if record.expires_at is not None:
            ends[labels] = record.expires_at.timestamp()
    yield Gauge("cluster_hourly_cost_usd", "USD per hour for the nodes that live", _CLUSTER, hourly)
    yield Gauge("cluster_accrued_cost_usd", "USD so far, over the whole life of the cluster", _CLUSTER, accrued)
    yield Gauge("cluster_expires_timestamp_seconds", "Hard end of life; none where there is none", _CLUSTER, ends)


def _accelerators(
    accounts: Iterable[tuple[ClusterRecord, Sequence[NodeRecord]]], readings: Mapping[str, Sequence[Sample]]
) -> Iterator[Gauge]:
    shares = {}
    for record, nodes in accounts:
        latest: dict[tuple[str, int | None], Sample] = {}
        for sample in (one for node in nodes if node.ended_at is None for one in readings.get(node.id, ())):
            if sample.metric is Metric.ACCELERATOR:
                # They come oldest first.
                latest[sample.node, sample.accelerator] = sample
        if latest:
            shares[_labels(record)] = sum(sample.value for sample in latest.values()) / len(latest) / 100
    text = "Share of the time in which accelerators were at work, mean of those that are measured"
    yield Gauge("cluster_accelerator_utilisation_ratio", text, _CLUSTER, shares)


def _of_round(last: Round, now: datetime) -> Iterator[Gauge]:
    figures = (
        ("round_duration_seconds", "How long the last round took", last.took.total_seconds()),
        ("round_errors", "What failed in the last round", float(last.errors)),
        ("round_timestamp_seconds", "When the last round ended", now.timestamp()),
        ("rounds", "Rounds since the supervisor began", float(last.number + 1)),
    )
    for name, text, value in figures:
        yield Gauge(name, text, (), {(): value})


def _labels(record: ClusterRecord) -> tuple[str, ...]:
    return record.name, record.provider or "", record.region or ""


class Exporter:
    """Holds the figures of the last round; a scrape reads them and costs neither a cloud's answer nor the ledger's.

    Attributes:
        address: where it is served, "127.0.0.1:9464".
    """

    def __init__(self) -> None:
        self.address = ""
        self._gauges: Sequence[Gauge] = ()

    def show(self, gauges: Sequence[Gauge]) -> None:
        """From now on tell these."""
        self._gauges = tuple(gauges)

    def collect(self) -> "Iterator[Family]":
        """What prometheus-client asks for at each scrape."""
        from prometheus_client.core import GaugeMetricFamily

        for gauge in self._gauges:
            family = GaugeMetricFamily(f"multicompute_{gauge.name}", gauge.help, labels=gauge.labels)
            for labels, value in gauge.values.items():
                family.add_metric(labels, value)
            yield family


@contextmanager
def serve(address: str) -> Iterator[Exporter]:
    """Serve figures on this address, and on no other, while the block runs.

    Args:
        address: "127.0.0.1:9464", "[::1]:9464"; port 0 for a free one.

    Raises:
        SpecError: `address` is none.
        ConfigError: prometheus-client is not installed.
        OSError: the address can't be had.
    """
    host, port = parse_address(address)
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        raise ConfigError("prometheus-client is not installed", hint='pip install "multicompute[metrics]"') from error
    exporter = Exporter()
    # A registry of our own: what this process tells of itself by default is nobody's business here.
    registry = CollectorRegistry()
    registry.register(exporter)
    server, thread = start_http_server(port, host, registry)
    try:
        exporter.address = f"[{host}]:{server.server_port}" if ":" in host else f"{host}:{server.server_port}"
        yield exporter
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of "127.0.0.1:9464" or "[::1]:9464".

    Raises:
        SpecError: it is not of that form. Without a host it would be all that the machine has.
    """
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    is_host = bool(bare) and ((":" in bare) == (host != bare)) and not set("[]") & set(bare)
    if not colon or not is_host or not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise SpecError(
            f"metrics={address!r}: not an address and a port; write {DEFAULT_ADDRESS}",
            hint="another address of this machine lets other machines read the figures",
        )
    return bare, int(port)
