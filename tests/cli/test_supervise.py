"""`supervise` and `ls --live`, on clouds in memory, and `supervise` as a process."""

import logging
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from multicompute import Cluster
from multicompute.testing import FakeCloud
from tests.cli.processes import started

Run = Callable[..., Any]


def test_once_terminates_clusters_over_their_limits_and_logs_each_action_to_stderr(
    run: Run, fake_cloud: FakeCloud
) -> None:
    Cluster.request(gpus=8, type="h100", budget=100, ttl="7d", name="train-1", clouds=["aws"])
    fake_cloud.advance("3h")
    done = run("supervise", "--once")
    assert (done.status, done.out) == (0, "")
    actions = [line.split(" ", 1)[1] for line in done.err.splitlines()]
    assert actions == [
        *(f"train-1: {percent} % of the budget of $100.00 is spent" for percent in (50, 80, 100)),
        "train-1: terminated: budget of $100.00 reached",
    ]
    assert fake_cloud.alive() == []


def test_once_returns_status_6_if_a_cloud_cannot_be_asked_and_1_if_something_else_failed(
    run: Run, fake_cloud: FakeCloud
) -> None:
    cluster = Cluster.request(gpus=8, type="h100", name="train-1", clouds=["aws"])
    fake_cloud.aws.faults.fail("nodes", "denied", times=None)
    done = run("supervise", "--once")
    assert done.status == 6
    assert done.err.count("could not be listed") == 1
    fake_cloud.aws.faults.clear()
    cluster.terminate()
    fake_cloud.aws.capabilities -= {"expiry"}
    other = Cluster.request(gpus=8, type="h100", name="train-2", clouds=["aws"], ttl="1h")
    fake_cloud.advance("2h")
    fake_cloud.aws.faults.fail("terminate", "denied", times=1)
    assert run("supervise", "--once").status == 1
    other.terminate()


def test_a_signal_ends_it_with_status_0(run: Run, fake_cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", name="train-1", clouds=["aws"])
    fake_cloud.aws.faults.hook("nodes", lambda call: signal.raise_signal(signal.SIGTERM))
    done = run("supervise", "--interval", "30s")
    assert done.status == 0
    assert done.err.splitlines()[0] == "running a round every 30s; Ctrl-C stops"
    assert done.err.splitlines()[-1].endswith(" stopped")
    cluster.terminate()


def test_supervise_restores_the_configuration_of_logging(run: Run, fake_cloud: FakeCloud) -> None:
    logger = logging.getLogger("multicompute")
    before = (logger.level, list(logger.handlers))
    assert run("supervise", "--once").status == 0
    assert (logger.level, logger.handlers) == before


def test_the_address_of_the_metrics_is_printed(run: Run, fake_cloud: FakeCloud) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("supervise", "--once", "--metrics", f"127.0.0.1:{port}")
        assert done.status == 2
        assert f"--metrics 127.0.0.1:{port}: in use by another process" in done.err
    done = run("supervise", "--once", "--metrics", f"127.0.0.1:{port}")
    assert done.status == 0
    assert done.err.splitlines()[0] == f"serving metrics at http://127.0.0.1:{port}/metrics"


@pytest.mark.parametrize("arguments", [("--metrics", "9464"), ("--interval", "0s"), ("--interval", "0.1s")])
def test_a_wrong_argument_is_refused_before_any_call(
    run: Run, fake_cloud: FakeCloud, arguments: tuple[str, ...]
) -> None:
    done = run("supervise", "--once", *arguments)
    assert done.status == 2
    assert fake_cloud.aws.faults.count() == 0


def test_ls_live_refreshes_first(run: Run, fake_cloud: FakeCloud) -> None:
    cluster = Cluster.request(gpus=16, type="h100", name="train-1", clouds=["aws"])
    fake_cloud.advance("5m")
    fake_cloud.aws.preempt(cluster.nodes[1].id)
    assert run("ls", "--json").document[0]["state"] == "READY"
    live = run("ls", "--live", "--json").document[0]
    assert (live["state"], len(live["nodes"])) == ("DEGRADED", 1)
    cluster.terminate()


def test_ls_live_lists_the_last_known_state_with_a_note_if_a_cloud_cannot_be_asked(
    run: Run, fake_cloud: FakeCloud
) -> None:
    cluster = Cluster.request(gpus=8, type="h100", name="train-1", clouds=["aws"])
    fake_cloud.aws.faults.fail("nodes", "denied", times=1)
    done = run("ls", "--live", "--json")
    assert (done.status, done.document[0]["state"]) == (6, "READY")
    assert done.err.startswith("note: aws us-east-1: could not be listed")
    cluster.terminate()


def test_ls_live_without_a_ledger_creates_none(run: Run, fake_cloud: FakeCloud) -> None:
    assert run("ls", "--live", "--json").document == []
    assert not fake_cloud.session.has_ledger


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_exits_with_status_0_on_a_signal_and_prints_no_traceback(tmp_path: Path, number: int) -> None:
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true"}
    environment |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    with started("supervise", environment=environment) as child:
        assert child.stderr is not None
        assert child.stderr.readline() == "running a round every 1m; Ctrl-C stops\n"
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (0, "")
    assert "Traceback" not in err
