"""`watch`, on clouds in memory: time passes when it sleeps."""

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
    """A stdout that somebody looks at."""

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
    """From now on stdout is one. Not in a fixture: between that and the test pytest puts its own stdout in place."""
    terminal = Terminal()
    # A terminal of a known size; the one that the tests are run in is none, or any.
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", terminal)
    return terminal


def test_once_draws_it_once_and_plainly(run: Run, cluster: Cluster) -> None:
    done = run("watch", "train-1", "--once")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("train-1  READY  aws us-east-1a  2 nodes\n")
    assert done.out.count(cluster.nodes[1].id) == 1
    assert " 93% ###" in done.out
    assert "\x1b" not in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_it_looks_again_and_again_until_the_cluster_ends_and_shows_its_end(
    run: Run, cluster: Cluster, fake_cloud: FakeCloud
) -> None:
    done = run("watch", "train-1", "--interval", "10m")
    assert done.status == 0
    assert done.out.count("train-1  READY") == 6
    assert done.out.count("train-1  TERMINATED") == 1
    assert "all its nodes are gone" in done.out


def test_what_has_ended_is_shown_once(run: Run, cluster: Cluster) -> None:
    cluster.terminate()
    done = run("watch", "train-1")
    assert (done.status, done.out.count("train-1  TERMINATED")) == (0, 1)


def test_ctrl_c_ends_the_view_well_and_leaves_the_cluster(run: Run, cluster: Cluster, fake_cloud: FakeCloud) -> None:
    fake_cloud.aws.faults.hook("nodes", lambda call: signal.raise_signal(signal.SIGINT))
    done = run("watch", "train-1")
    assert (done.status, done.err) == (0, "")
    assert done.out.count("train-1  READY") == 1
    assert len(fake_cloud.aws.running_ids()) == 2


def test_sigterm_ends_it_as_it_ends_every_command(run: Run, cluster: Cluster, fake_cloud: FakeCloud) -> None:
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
def test_a_cloud_that_cannot_be_asked_is_said_so_and_asked_again(
    run: Run, cluster: Cluster, fake_cloud: FakeCloud, operation: str
) -> None:
    fake_cloud.aws.faults.fail(operation, "denied", times=1)
    done = run("watch", "train-1", "--interval", "10m")
    assert done.status == 0
    assert done.out.count("for now it can't be asked") == 1
    assert done.out.index("can't be asked") < done.out.index("TERMINATED")


def test_monitoring_is_asked_once_a_minute_however_often_it_looks(
    run: Run, cluster: Cluster, fake_cloud: FakeCloud
) -> None:
    before = fake_cloud.aws.faults.count("metrics")
    assert run("watch", "train-1", "--interval", "5s").status == 0
    minutes = 55
    assert minutes <= fake_cloud.aws.faults.count("metrics") - before <= minutes + 1
    assert fake_cloud.aws.faults.count("nodes") > 10 * minutes


def test_a_name_that_is_none_and_an_interval_that_is_none_are_refused(run: Run, fake_cloud: FakeCloud) -> None:
    assert run("watch", "nobody").status == 8
    assert run("watch", "nobody", "--interval", "0.5s").status == 2
    assert run("watch", "nobody", "--interval", "often").status == 2
