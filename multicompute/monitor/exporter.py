"""Exports metrics of clusters to Prometheus, updated after each round of the supervisor."""

import errno
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from multicompute.cost.billing import cost_of, hourly_cost_of, minimums
from multicompute.cost.forecast import Account
from multicompute.errors import ConfigError, SpecError
from multicompute.ledger import ClusterRecord
from multicompute.monitor.supervise import Round
from multicompute.node import ClusterState, Metric, Sample
from multicompute.session import Session

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

DEFAULT_ADDRESS: Final = "127.0.0.1:9464"
_CLUSTER: Final = ("cluster", "provider", "region")


@dataclass(frozen=True, slots=True)
class Gauge:
    """A gauge with a value for each combination of labels.

    Attributes:
        name: Its name, without the prefix `multicompute_`.
        help: What it measures.
        labels: The names of its labels.
        values: Label values, in the order of `labels` -> the value.
    """

    name: str
    help: str
    labels: tuple[str, ...]
    values: Mapping[tuple[str, ...], float]


def gauges(session: Session, last: Round) -> list[Gauge]:
    """Return the current values, from the ledger and the last round, without calling a cloud."""
    now = session.clock.now()
    records = session.ledger.clusters()
    # With `since=now`, only the nodes of live clusters.
    nodes = {record.id: nodes for record, nodes in session.ledger.spending(since=now)}
    accounts = [(record, nodes.get(record.id, [])) for record in records]
    return [
        *_counts(accounts),
        *_costs(accounts, minimums(session), now),
        *_accelerators(accounts, last.readings),
        *_of_round(last, now),
    ]


def _counts(accounts: Sequence[Account]) -> Iterator[Gauge]:
    states = Counter(record.state.value for record, _ in accounts)
    live = [state for state in ClusterState if state.is_live]
    # States without a cluster have the value 0: a missing value can't be compared.
    yield Gauge("clusters", "Live clusters by state", ("state",), {(s.value,): float(states[s.value]) for s in live})
    nodes = Counter(
        (node.provider, node.region, node.state) for _, nodes in accounts for node in nodes if node.ended_at is None
    )
    labels = ("provider", "region", "state")
    yield Gauge("nodes", "Nodes of live clusters", labels, {key: float(count) for key, count in nodes.items()})


def _costs(accounts: Iterable[Account], least: Mapping[str, timedelta], now: datetime) -> Iterator[Gauge]:
    hourly, accrued, expiries = {}, {}, {}
    for record, nodes in accounts:
        labels = _labels(record)
        hourly[labels] = float(hourly_cost_of(nodes))
        accrued[labels] = float(cost_of(nodes, minimums=least, now=now))
        if record.expires_at is not None:
            expiries[labels] = record.expires_at.timestamp()
    yield Gauge("cluster_hourly_cost_usd", "USD per hour for the live nodes", _CLUSTER, hourly)
    yield Gauge("cluster_accrued_cost_usd", "USD since the cluster began", _CLUSTER, accrued)
    yield Gauge(
        "cluster_expires_timestamp_seconds", "When the lease ends; missing if it has no end", _CLUSTER, expiries
    )


def _accelerators(accounts: Iterable[Account], readings: Mapping[str, Sequence[Sample]]) -> Iterator[Gauge]:
    shares = {}
    for record, nodes in accounts:
        latest: dict[tuple[str, int | None], Sample] = {}
        for sample in (one for node in nodes if node.ended_at is None for one in readings.get(node.id, ())):
            if sample.metric is Metric.ACCELERATOR:
                # Samples are sorted, oldest first.
                latest[sample.node, sample.accelerator] = sample
        if latest:
            shares[_labels(record)] = sum(sample.value for sample in latest.values()) / len(latest) / 100
    text = "Share of the time in which accelerators were busy, mean of the measured ones"
    yield Gauge("cluster_accelerator_utilisation_ratio", text, _CLUSTER, shares)


def _of_round(last: Round, now: datetime) -> Iterator[Gauge]:
    figures = (
        ("round_duration_seconds", "How long the last round took", last.took.total_seconds()),
        ("round_errors", "Failures in the last round", float(last.errors)),
        ("round_timestamp_seconds", "When the last round ended", now.timestamp()),
        ("rounds", "Rounds since the supervisor started", float(last.number + 1)),
    )
    for name, text, value in figures:
        yield Gauge(name, text, (), {(): value})


def _labels(record: ClusterRecord) -> tuple[str, ...]:
    return record.name, record.provider or "", record.region or ""


class Exporter:
    """The collector for prometheus-client. A scrape returns the values of the last round and calls neither cloud nor ledger.

    Attributes:
        address: Where they are served, "127.0.0.1:9464".
    """

    def __init__(self) -> None:
        """Create an exporter without gauges that does not serve yet."""
        self.address = ""
        self._gauges: Sequence[Gauge] = ()

    def update(self, gauges: Sequence[Gauge]) -> None:
        """Replace the gauges."""
        self._gauges = tuple(gauges)

    def collect(self) -> "Iterator[Family]":
        """Yield the gauges; prometheus-client calls this at each scrape."""
        from prometheus_client.core import GaugeMetricFamily

        for gauge in self._gauges:
            family = GaugeMetricFamily(f"multicompute_{gauge.name}", gauge.help, labels=gauge.labels)
            for labels, value in gauge.values.items():
                family.add_metric(labels, value)
            yield family


@contextmanager
def serve(address: str) -> Iterator[Exporter]:
    """Serve metrics on this address, and on no other, inside the block.

    Args:
        address: "127.0.0.1:9464", "[::1]:9464"; port 0 for a free one.

    Raises:
        SpecError: `address` is not an address and a port, or can't be bound.
        ConfigError: Prometheus-client is not installed.
    """
    host, port = parse_address(address)
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        raise ConfigError("prometheus-client is not installed", hint='pip install "multicompute[metrics]"') from error
    exporter = Exporter()
    # A registry of our own: the default one also exports metrics of this process.
    registry = CollectorRegistry()
    registry.register(exporter)
    try:
        server, thread = start_http_server(port, host, registry)
    except (OSError, UnicodeError) as error:
        # UnicodeError: a name of a host that is too long for the resolver.
        is_used = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        why = "in use by another process" if is_used else f"can't be bound: {getattr(error, 'strerror', '') or error}"
        hint = "choose another port, or port 0 for a free one" if is_used else "use an address of this machine"
        raise SpecError(f"metrics={address!r}: {why}", argument="metrics", hint=hint) from error
    try:
        exporter.address = f"[{host}]:{server.server_port}" if ":" in host else f"{host}:{server.server_port}"
        yield exporter
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of "127.0.0.1:9464" or "[::1]:9464".

    Raises:
        SpecError: It does not have that form. A host is required, because without one all addresses of the machine would be used.
    """
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    is_host = bool(bare) and ((":" in bare) == (host != bare)) and not set("[]") & set(bare)
    if not colon or not is_host or not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise SpecError(
            f"metrics={address!r}: not an address and a port; write {DEFAULT_ADDRESS}",
            hint="with another address of this machine, other machines can read the metrics",
        )
    return bare, int(port)
