"""`watch`, on fake clouds whose clock advances when it sleeps."""

import io
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from multicompute import Cluster
from multicompute.cli import main
from multicompute.node import Metric
from multicompute.testing import FakeCloud

Run = Callable[..., Any]
ALTERNATE_SCREEN = "\x1b[?1049h"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Terminal(io.StringIO):
    """A stdout that is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(name="cluster")
def _cluster(fake_cloud: FakeCloud) -> Iterator[Cluster]:
    cluster = Cluster.request(gpus=16, type="h100", clouds=["aws"], name="train-1", ttl="1h")
    for node in cluster.nodes:
        fake_cloud.aws.set_load(node.id, {Metric.CPU: 40.0, Metric.ACCELERATOR: 93.0})
    fake_cloud.advance("5m")
    yield cluster
    cluster.terminate()
    assert fake_cloud.alive() == []


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make stdout a terminal. Not in a fixture: pytest sets its own stdout between a fixture and its test."""
    terminal = Terminal()
    # A known size: the tests may run in a terminal of any size, or in none.
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", terminal)
    return terminal


def test_once_prints_the_view_once_as_plain_text(run: Run, cluster: Cluster) -> None:
    done = run("watch", "train-1", "--once")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("train-1  READY  aws us-east-1a  2 nodes\n")
    assert done.out.count(cluster.nodes[1].id) == 1
    assert " 93% ###" in done.out
    assert "\x1b" not in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_the_view_is_refreshed_until_the_cluster_ends(run: Run, cluster: Cluster, fake_cloud: FakeCloud) -> None:
    done = run("watch", "train-1", "--interval", "10m")
    assert done.status == 0
    assert done.out.count("train-1  READY") == 6
    assert done.out.count("train-1  TERMINATED") == 1
    assert "all its nodes are gone" in done.out


def test_a_cluster_that_has_ended_is_shown_once(run: Run, cluster: Cluster) -> None:
    cluster.terminate()
    done = run("watch", "train-1")
    assert (done.status, done.out.count("train-1  TERMINATED")) == (0, 1)


def test_ctrl_c_closes_the_view_with_status_0_and_leaves_the_cluster(
    run: Run, cluster: Cluster, fake_cloud: FakeCloud
) -> None:
    fake_cloud.aws.faults.hook("nodes", lambda call: signal.raise_signal(signal.SIGINT))
    done = run("watch", "train-1")
    assert (done.status, done.err) == (0, "")
    assert done.out.count("train-1  READY") == 1
    assert len(fake_cloud.aws.running_ids()) == 2


def test_sigterm_terminates_it_like_every_command(run: Run, cluster: Cluster, fake_cloud: FakeCloud) -> None:
    fake_cloud.aws.faults.hook("nodes", lambda call: signal.raise_signal(signal.SIGTERM))
    assert run("watch", "train-1").status == 143
    assert len(fake_cloud.aws.running_ids()) == 2


def test_a_terminal_is_drawn_in_place_and_left_as_it_was(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    assert main(["watch", "train-1", "--interval", "20m"]) == 0
    drawn = terminal.getvalue()
    assert ALTERNATE_SCREEN not in drawn
    assert drawn.count(HIDE_CURSOR) == drawn.count(SHOW_CURSOR) == 1
    assert drawn.rindex(SHOW_CURSOR) > drawn.rindex(HIDE_CURSOR)
    assert "██▊" in drawn
    assert "TERMINATED" in drawn


def test_ctrl_c_gives_the_cursor_back(cluster: Cluster, fake_cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    fake_cloud.aws.faults.hook("nodes", lambda call: signal.raise_signal(signal.SIGINT))
    assert main(["watch", "train-1"]) == 0
    drawn = terminal.getvalue()
    assert drawn.rindex(SHOW_CURSOR) > drawn.rindex(HIDE_CURSOR)


@pytest.mark.parametrize("operation", ["nodes", "metrics"])
def test_a_cloud_that_cannot_be_asked_is_noted_and_asked_again(
    run: Run, cluster: Cluster, fake_cloud: FakeCloud, operation: str
) -> None:
    fake_cloud.aws.faults.fail(operation, "denied", times=1)
    done = run("watch", "train-1", "--interval", "10m")
    assert done.status == 0
    assert done.out.count("the cloud can't be asked now") == 1
    assert done.out.index("can't be asked") < done.out.index("TERMINATED")


def test_metrics_are_read_once_a_minute_at_any_interval(run: Run, cluster: Cluster, fake_cloud: FakeCloud) -> None:
    before = fake_cloud.aws.faults.count("metrics")
    assert run("watch", "train-1", "--interval", "5s").status == 0
    minutes = 55
    assert minutes <= fake_cloud.aws.faults.count("metrics") - before <= minutes + 1
    assert fake_cloud.aws.faults.count("nodes") > 10 * minutes


def test_an_unknown_name_and_a_wrong_interval_are_refused(run: Run, fake_cloud: FakeCloud) -> None:
    assert run("watch", "nobody").status == 8
    assert run("watch", "nobody", "--interval", "0.5s").status == 2
    assert run("watch", "nobody", "--interval", "often").status == 2
