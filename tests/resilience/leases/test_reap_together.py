"""Several processes act at once at the end of a lease, with one local cloud over HTTP and one ledger file."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from multicompute import Cluster, ClusterState
from multicompute.config import apply_environment, state_file
from multicompute.engine.recovery.reap import reap
from multicompute.session import open_session
from multicompute.testing import Call, FakeCloud, LocalClouds, fake_cloud, local_clouds

PROCESSES = 4


@pytest.fixture(name="clouds")
def _clouds() -> Iterator[LocalClouds]:
    with local_clouds("aws") as clouds, apply_environment({"MULTICOMPUTE_AWS__REGIONS": "us-east-1"}):
        yield clouds


def expired(*names: str) -> list[Cluster]:
    """Request clusters and wait until their leases have ended."""
    clusters = [Cluster.request(gpus=16, type="h100", name=name, ttl="4s") for name in names]
    for cluster in clusters:
        _until_expired(cluster)
    return clusters


def _until_expired(cluster: Cluster) -> None:
    clock = open_session().clock
    assert cluster.expires_at is not None
    clock.sleep(max(cluster.expires_at - clock.now(), timedelta(0)))


def command(*words: str) -> subprocess.Popen[str]:
    """Start the command line in a process of its own, whose environment leads to the local clouds."""
    return subprocess.Popen(
        [sys.executable, "-m", "multicompute", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Return exit status, stdout and stderr of each process, when all have exited."""
    outputs = [process.communicate(timeout=90) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def ends_of(cluster: Cluster) -> list[str]:
    return [event.kind for event in cluster.events() if event.kind in ("terminating", "terminated", "failed")]


def test_four_processes_that_reap_at_once_end_an_expired_cluster_once(clouds: LocalClouds) -> None:
    (cluster,) = expired("over")
    living = Cluster.request(gpus=8, type="h100", name="living", ttl="2h")
    answers = ended([command("reap", "--json") for _ in range(PROCESSES)])
    assert [status for status, _, _ in answers] == [0] * PROCESSES, answers
    reports = [json.loads(output) for _, output, _ in answers]
    assert [name for report in reports for name in report["terminated"]] == ["over"]
    assert {name for report in reports for name in report["failed"]} == set()
    assert ends_of(cluster) == ["terminating", "terminated"]
    assert "expired at" in Cluster.get("over").reason
    assert clouds.aws.running_ids() == [node.id for node in living.nodes]
    living.terminate()
    assert clouds.alive() == []


def test_processes_that_reap_many_clusters_share_the_work(clouds: LocalClouds) -> None:
    clusters = expired("over-1", "over-2", "over-3", "over-4", "over-5")
    answers = ended([command("reap", "--json") for _ in range(PROCESSES)])
    assert [status for status, _, _ in answers] == [0] * PROCESSES, answers
    names = [name for _, output, _ in answers for name in json.loads(output)["terminated"]]
    # A cluster that was skipped while another process finished it is left to the next reap; none is terminated twice.
    names += reap(open_session()).terminated
    assert sorted(names) == [cluster.name for cluster in clusters]
    assert all(ends_of(cluster) == ["terminating", "terminated"] for cluster in clusters)
    assert clouds.alive() == []


def test_processes_that_terminate_at_once_end_a_cluster_once(clouds: LocalClouds) -> None:
    cluster = Cluster.request(gpus=16, type="h100", name="unwanted", ttl="2h")
    answers = ended([command("down", "unwanted", "--yes") for _ in range(PROCESSES)])
    assert [status for status, _, _ in answers] == [0] * PROCESSES, answers
    assert ends_of(cluster).count("terminated") == 1
    assert Cluster.get("unwanted").state is ClusterState.TERMINATED
    assert clouds.alive() == []


def test_extensions_of_several_processes_at_once_all_count(clouds: LocalClouds) -> None:
    cluster = Cluster.request(gpus=16, type="h100", name="longer", ttl="2h")
    before = cluster.expires_at
    assert before is not None
    answers = ended([command("extend", "longer", "1h") for _ in range(PROCESSES)])
    assert [status for status, _, _ in answers] == [0] * PROCESSES, answers
    after = before + timedelta(hours=PROCESSES)
    assert Cluster.get("longer").expires_at == after
    tags = {item.tags["multicompute-expires-at"] for item in clouds.alive() if item.id in clouds.aws.running_ids()}
    assert tags == {str(int(after.timestamp()))}
    cluster.terminate()
    assert clouds.alive() == []


def test_a_process_that_extends_while_others_reap_keeps_its_cluster(clouds: LocalClouds) -> None:
    (cluster,) = expired("late")
    running = clouds.aws.running_ids()
    reaps: list[subprocess.Popen[str]] = []

    def reap_meanwhile(call: Call) -> None:
        if not reaps:
            reaps.extend(command("reap", "--json") for _ in range(PROCESSES))
            # They read the old expiry before the extension continues.
            answers.extend(ended(reaps))

    answers: list[tuple[int, str, str]] = []
    clouds.aws.faults.hook("CreateTags", reap_meanwhile)
    cluster.extend("2h")
    assert len(answers) == PROCESSES
    for status, output, errors in answers:
        report = json.loads(output)
        assert (status, report["terminated"]) == (0, []), errors
        assert "late: another process works on it" in report["notes"]
    assert cluster.refresh().state is ClusterState.READY
    assert clouds.aws.running_ids() == running
    cluster.terminate()
    assert clouds.alive() == []


def test_a_cluster_that_was_extended_after_it_was_listed_as_expired_lives(clouds: LocalClouds) -> None:
    _, second = expired("first", "second")
    clouds.aws.faults.hook("TerminateInstances", lambda call: _extend_once(second))
    assert reap(open_session()).terminated == ["first"]
    assert second.refresh().state is ClusterState.READY
    assert clouds.aws.running_ids() == [node.id for node in second.nodes]
    second.terminate()
    assert clouds.alive() == []


def _extend_once(cluster: Cluster) -> None:
    now = datetime.now(UTC)
    if (Cluster.get(cluster.name).expires_at or now) <= now:
        answers = ended([command("extend", cluster.name, "2h")])
        assert answers[0][0] == 0, answers


def test_a_cluster_of_a_process_that_was_killed_is_ended_when_it_expires(clouds: LocalClouds) -> None:
    script = (
        "import os, signal; from multicompute import Cluster; "
        "Cluster.request(gpus=16, type='h100', name='widow', ttl='3s'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    child = subprocess.run([sys.executable, "-c", script], env=dict(os.environ), capture_output=True, check=False)
    assert child.returncode == -9
    widow = Cluster.get("widow")
    assert len(clouds.aws.running_ids()) == 2
    _until_expired(widow)
    assert reap(open_session()).terminated == ["widow"]
    assert clouds.alive() == []


def test_a_spent_budget_ends_the_cluster_in_its_cloud(clouds: LocalClouds) -> None:
    cluster = Cluster.request(gpus=16, type="h100", name="dear", ttl="2h", budget=5)
    # A request with a budget below the billing minimum is refused, and this one lasts for minutes.
    with closing(sqlite3.connect(str(state_file(os.environ["MULTICOMPUTE_STATE"])))) as ledger, ledger:
        ledger.execute("UPDATE clusters SET spec = json_set(spec, '$.budget', 0.0001)")
    answers = ended([command("reap", "--json") for _ in range(PROCESSES)])
    names = [name for _, output, _ in answers for name in json.loads(output)["terminated"]]
    assert names == ["dear"]
    assert ends_of(cluster) == ["terminating", "terminated"]
    assert "budget of $0.00 reached" in Cluster.get("dear").reason
    assert clouds.alive() == []


@pytest.fixture(name="memory")
def _memory() -> Iterator[FakeCloud]:
    with fake_cloud("aws", "gcp", "azure") as memory:
        yield memory


@pytest.mark.parametrize("cloud", ["aws", "gcp", "azure"])
def test_threads_that_reap_at_once_terminate_an_expired_cluster_once(memory: FakeCloud, cloud: str) -> None:
    clusters = [Cluster.request(gpus=16, type="h100", name=name, ttl="1h", clouds=[cloud]) for name in ("a1", "a2")]
    memory.advance("61m")
    with ThreadPoolExecutor(PROCESSES) as pool:
        reports = [task.result() for task in [pool.submit(reap, memory.session) for _ in range(PROCESSES)]]
    assert sorted(name for report in reports for name in report.terminated) == ["a1", "a2"]
    assert [report.failed for report in reports] == [{}] * PROCESSES
    assert all(ends_of(cluster) == ["terminating", "terminated"] for cluster in clusters)
    assert memory.alive() == []
