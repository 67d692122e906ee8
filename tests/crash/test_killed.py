"""A process that is killed at any call of a request or a teardown leaves nothing that nobody knows of.

The local cloud kills the child at its k-th call: before the cloud has done the work, or after it and before the answer. Then another
process reconciles. `make test` takes a sample of the calls, `make campaign` every one.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from multicompute import Cluster, ClusterState
from multicompute.config import apply_environment
from multicompute.engine.reap import reap
from multicompute.engine.reconcile import ReconcileReport, reconcile
from multicompute.engine.session import open_session
from multicompute.provider import TAG_ID
from multicompute.testing import Call, LocalClouds, local_clouds

CALLS = 40
"""More than a request and its teardown make; a child that ends before its call comes has survived, which must be well, too."""
SAMPLES = {"aws": (0, 3, 7, 9, 10, 11, 12, 13, 15, 18, 22), "gcp": (1, 3, 5, 7, 9, 12), "azure": (2, 4, 6, 8, 10, 12)}
EVERY = "MULTICOMPUTE_CAMPAIGN_EXAMPLES" in os.environ
POINTS = [(cloud, at) for cloud, sample in SAMPLES.items() for at in (range(CALLS) if EVERY else sample)]

CHILD = """
from multicompute import Cluster
with Cluster.request(gpus=16, type="h100", name="crash", ttl="2h", clouds=[{cloud!r}]):
    pass
"""


@pytest.fixture(name="clouds")
def _clouds() -> Iterator[LocalClouds]:
    with local_clouds("aws") as clouds, apply_environment({"MULTICOMPUTE_AWS__REGIONS": "us-east-1"}):
        yield clouds


def run_and_kill(clouds: LocalClouds, folder: Path, at: int, *, before_the_work: bool) -> int:
    """Run the child until its call number `at`, and return its status."""
    (cloud,) = clouds.names
    faults = clouds[cloud].faults
    script = folder / "child.py"
    script.write_text(CHILD.format(cloud=cloud))
    child = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen = []

    def kill(call: Call) -> None:
        seen.append(call)
        if len(seen) == at + 1 and child.poll() is None:
            if before_the_work:
                faults.drop(call.operation)
            child.send_signal(signal.SIGKILL)
            child.wait()

    faults.hook("*", kill)
    status = child.wait(timeout=60)
    # The server may still be at the work of the call at which its client died.
    time.sleep(0.02)
    faults.clear()
    return status


def reconcile_until_sure() -> ReconcileReport:
    """Reconcile, and again while something may still appear; the local cloud's consistency window is a second."""
    session = open_session()
    report = reconcile(session)
    end = time.monotonic() + 20
    while report.in_doubt and time.monotonic() < end:
        session.clock.sleep(timedelta(milliseconds=100))
        report = reconcile(session)
    return report


@pytest.mark.parametrize("before_the_work", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(("cloud", "at"), POINTS)
def test_a_kill_at_any_call_leaves_nothing_that_nobody_knows_of(
    tmp_path: Path, cloud: str, at: int, before_the_work: bool
) -> None:
    with local_clouds(cloud) as clouds, apply_environment({"MULTICOMPUTE_AWS__REGIONS": "us-east-1"}):
        _kill_and_make_up(clouds, tmp_path, at, before_the_work=before_the_work)


def _kill_and_make_up(clouds: LocalClouds, tmp_path: Path, at: int, *, before_the_work: bool) -> None:
    (cloud,) = clouds.names
    status = run_and_kill(clouds, tmp_path, at, before_the_work=before_the_work)
    assert status == -signal.SIGKILL or (at > max(SAMPLES[cloud]) and status == 0)
    report = reconcile_until_sure()
    assert report.notes == []
    assert report.orphans == []
    assert report.in_doubt == []
    known = {cluster.id for cluster in Cluster.list()}
    assert {item.tags.get(TAG_ID) for item in clouds.alive() if item.billable} <= known

    # The same request again is one cluster, whether the first was taken back or is gone.
    again = Cluster.request(gpus=16, type="h100", name="crash", ttl="2h", clouds=[cloud])
    assert again.state is ClusterState.READY
    assert len(clouds[cloud].running_ids()) == 2
    assert [cluster.name for cluster in Cluster.list()] == ["crash"]
    again.terminate()
    assert clouds.alive() == []


def test_a_request_goes_on_where_a_killed_one_stopped(clouds: LocalClouds, tmp_path: Path) -> None:
    run_and_kill(clouds, tmp_path, 11, before_the_work=False)
    cluster = Cluster.request(gpus=16, type="h100", name="crash", ttl="2h", clouds=["aws"])
    assert len(clouds.aws.running_ids()) == len(cluster.nodes) == 2
    cluster.terminate()
    assert clouds.alive() == []


def test_a_lost_ledger_hides_no_machine(clouds: LocalClouds) -> None:
    Cluster.request(gpus=16, type="h100", name="forgotten", ttl="2h")
    clouds.aws.seed_foreign()
    session = open_session()
    session.close()
    elsewhere = session.config.state + ".new"
    with apply_environment({"MULTICOMPUTE_STATE": elsewhere}):
        report = reconcile(open_session(), dry_run=True)
        assert [orphan.name for orphan in report.orphans] == ["forgotten"]
        assert report.is_leak
        assert len(clouds.aws.running_ids()) == 2
        # Not expired: another ledger may know it.
        assert reap(open_session()).orphans == []
        assert len(clouds.aws.running_ids()) == 2
    assert clouds.aws.foreign_intact()
    assert open_session().ledger.find("forgotten").name == "forgotten"
    Cluster.get("forgotten").terminate()
    assert clouds.alive() == []
    assert clouds.aws.foreign_intact()
