"""The metrics for Prometheus, read as Prometheus reads them, and the address on which they are served."""

import builtins
import socket
import sys
import threading
import urllib.request
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from multicompute import Cluster, errors
from multicompute.monitor.exporter import gauges, parse_address, serve
from multicompute.monitor.supervise import Round, supervise
from multicompute.node import Metric
from multicompute.testing import FakeCloud

Metrics = Mapping[str, Mapping[tuple[str, ...], float]]


def scraped(cloud: FakeCloud, *, rounds: int = 1) -> Metrics:
    """Return the metrics after some rounds, over HTTP: name -> label values -> value."""
    with serve("127.0.0.1:0") as exporter:
        supervise(cloud.session, rounds=rounds, on_round=lambda last: exporter.update(gauges(cloud.session, last)))
        with urllib.request.urlopen(f"http://{exporter.address}/metrics") as answer:
            text = answer.read().decode()
    return {
        family.name.removeprefix("multicompute_"): {tuple(s.labels.values()): s.value for s in family.samples}
        for family in text_string_to_metric_families(text)
    }


def test_a_scrape_returns_states_nodes_costs_and_utilisation(fake_cloud: FakeCloud) -> None:
    here = Cluster.request(gpus=16, type="h100", name="here", clouds=["aws"], ttl="10h")
    there = Cluster.request(gpus=8, type="h100", name="there", clouds=["gcp"], ttl=None)
    for node, percent in zip(here.nodes, (90.0, 30.0), strict=True):
        fake_cloud.aws.set_load(node.id, {Metric.ACCELERATOR: percent})
    fake_cloud.advance("1h")
    fake_cloud.gcp.impair(there.nodes[0].id)
    found = scraped(fake_cloud)
    assert found["clusters"] == {
        ("REQUESTED",): 0,
        ("PROVISIONING",): 0,
        ("TERMINATING",): 0,
        ("READY",): 1,
        ("DEGRADED",): 1,
    }
    assert found["nodes"] == {("aws", here.region, "running"): 2, ("gcp", there.region, "impaired"): 1}
    mine, theirs = ("here", "aws", here.region), ("there", "gcp", there.region)
    assert found["cluster_hourly_cost_usd"] == {
        mine: pytest.approx(here.hourly_cost),
        theirs: pytest.approx(there.hourly_cost),
    }
    assert found["cluster_accrued_cost_usd"] == {
        mine: pytest.approx(here.accrued_cost, abs=1e-6),
        theirs: pytest.approx(there.accrued_cost, abs=1e-6),
    }
    assert here.expires_at is not None
    assert found["cluster_expires_timestamp_seconds"] == {mine: here.expires_at.timestamp()}
    # A cluster that was not measured has no value, and never a zero.
    assert found["cluster_accelerator_utilisation_ratio"] == {mine: pytest.approx(0.6)}
    here.terminate()
    there.terminate()
    assert fake_cloud.alive() == []


def test_a_lost_node_is_no_longer_counted_or_billed(fake_cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=16, type="h100", clouds=["aws"])
    before = cluster.hourly_cost
    fake_cloud.aws.set_load(cluster.nodes[1].id, {Metric.ACCELERATOR: 50.0})
    fake_cloud.advance("1h")
    fake_cloud.aws.preempt(cluster.nodes[1].id)
    found = scraped(fake_cloud)
    assert found["nodes"] == {("aws", cluster.region, "running"): 1}
    assert list(found["cluster_hourly_cost_usd"].values()) == [pytest.approx(before / 2)]
    assert found.get("cluster_accelerator_utilisation_ratio", {}) == {}
    cluster.terminate()


def test_a_scrape_returns_rounds_and_their_errors(fake_cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", clouds=["aws"])
    fake_cloud.advance("5m")
    found = scraped(fake_cloud, rounds=3)
    assert (found["rounds"], found["round_errors"]) == ({(): 3}, {(): 0})
    assert found["round_timestamp_seconds"] == {(): fake_cloud.clock.now().timestamp()}
    fake_cloud.aws.faults.fail("nodes", "denied", times=1)
    assert scraped(fake_cloud)["round_errors"][()] >= 1
    cluster.terminate()


def test_a_gauge_has_the_duration_of_the_last_round(fake_cloud: FakeCloud) -> None:
    last = Round(4, fake_cloud.clock.now(), took=timedelta(seconds=2.5), errors=7)
    found = {gauge.name: gauge.values for gauge in gauges(fake_cloud.session, last)}
    assert (found["round_duration_seconds"], found["round_errors"], found["rounds"]) == ({(): 2.5}, {(): 7}, {(): 5})


def test_accelerators_are_measured_every_five_minutes_and_not_in_every_round(fake_cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", clouds=["aws"])
    fake_cloud.aws.set_load(cluster.nodes[0].id, {Metric.ACCELERATOR: 50.0})
    fake_cloud.advance("5m")
    found = scraped(fake_cloud, rounds=10)
    assert fake_cloud.aws.faults.count("metrics") == 2
    assert list(found["cluster_accelerator_utilisation_ratio"].values()) == [0.5]
    cluster.terminate()


def test_a_scrape_calls_no_cloud(fake_cloud: FakeCloud) -> None:
    with serve("127.0.0.1:0") as exporter:
        before = fake_cloud.aws.faults.count()
        with urllib.request.urlopen(f"http://{exporter.address}/metrics") as answer:
            assert answer.read() == b""
        assert fake_cloud.aws.faults.count() == before


def test_metrics_are_served_on_the_given_address_only_until_the_block_ends(fake_cloud: FakeCloud) -> None:
    threads = threading.active_count()
    with serve("127.0.0.1:0") as exporter:
        port = int(exporter.address.rpartition(":")[2])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=5)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("[::1]:80", ("::1", 80)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, parsed: tuple[str, int]) -> None:
    assert parse_address(address) == parsed


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":",
        ":9464",
        "9464",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:70000",
        "::1:80",
        "[]:80",
        "[a]b]:80",
    ],
)
def test_anything_but_a_host_and_a_port_is_refused(address: str) -> None:
    with pytest.raises(errors.SpecError, match=r"write 127\.0\.0\.1:9464"):
        parse_address(address)


def test_without_prometheus_client_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def absent(name: str, *arguments: Any) -> object:
        if name.partition(".")[0] == "prometheus_client":
            raise ModuleNotFoundError("No module named 'prometheus_client'", name="prometheus_client")
        return load(name, *arguments)

    for name in [name for name in sys.modules if name.partition(".")[0] == "prometheus_client"]:
        monkeypatch.delitem(sys.modules, name)
    # The environment of the tests has the extra installed.
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(errors.ConfigError, match=r'pip install "multicompute\[metrics\]"'), serve("127.0.0.1:0"):
        pass
