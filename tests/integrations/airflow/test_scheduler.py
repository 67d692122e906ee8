"""A real scheduler, workers and triggerer on a local cloud: every run has one cluster and leaves none, however it ends."""

import json
import os
import signal

import pytest

from multicompute import Cluster, ClusterState
from multicompute.testing import LocalClouds
from tests.integrations.airflow.airflow_site import AirflowSite, needs_airflow, until

pytestmark = [
    needs_airflow,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("airflow"),
]


def clusters(run: str) -> list[Cluster]:
    return Cluster.list(tags={"airflow-run": run}, include_ended=True)


def assert_one_and_none_left(cloud: LocalClouds, run: str) -> Cluster:
    found = clusters(run)
    assert len({cluster.id for cluster in found}) == 1
    assert not found[0].state.is_live
    assert cloud.alive() == []
    return found[0]


def up(run: str, state: ClusterState) -> Cluster:
    found = until(lambda: [each for each in clusters(run) if each.state is state and each.nodes], f"{run} is {state}")
    return found[0]


def test_a_run_that_succeeds_has_one_cluster_and_leaves_none(airflow: AirflowSite, cloud: LocalClouds) -> None:
    airflow.trigger("once", "good")
    assert set(airflow.ended("once", "good").values()) == {"success"}
    ended = assert_one_and_none_left(cloud, "good")
    assert ended.tags == {"airflow-dag": "once", "airflow-run": "good", "airflow-task": "cluster"}
    # The default ttl of the connection, not of the package.
    assert ended.spec.to_dict()["ttl"] == "3h"
    task = "dags/once/dagRuns/good/taskInstances/cluster"
    handle = airflow.get(f"{task}/xcomEntries/return_value?deserialize=true")["value"]
    assert handle["name"] == ended.name
    assert handle["gpus"] == 8
    assert len(json.dumps(handle)) < 500
    links = airflow.get(f"{task}/links")["extra_links"]
    assert links == {"Cluster": f"https://fleets.example.org/aws/{ended.name}"}


def test_a_task_that_fails_has_its_cluster_torn_down(airflow: AirflowSite, cloud: LocalClouds) -> None:
    airflow.trigger("once", "bad", fail=True)
    states = airflow.ended("once", "bad")
    assert (states[""], states["work"], states["cluster_end"]) == ("failed", "failed", "success")
    assert_one_and_none_left(cloud, "bad")


def test_a_request_without_capacity_leaves_nothing(airflow: AirflowSite, cloud: LocalClouds) -> None:
    cloud.aws.faults.fail("RunInstances", code="InsufficientInstanceCapacity", times=None)
    try:
        airflow.trigger("scarce", "nothing")
        states = airflow.ended("scarce", "nothing")
    finally:
        cloud.aws.faults.clear()
    assert (states[""], states["cluster"], states["work"]) == ("failed", "failed", "upstream_failed")
    assert assert_one_and_none_left(cloud, "nothing").state is ClusterState.FAILED


def test_a_retry_works_on_the_cluster_of_the_worker_that_was_killed(airflow: AirflowSite, cloud: LocalClouds) -> None:
    airflow.trigger("twice", "killed", waits=True)
    pid, first = airflow.at_work("killed")
    os.kill(pid, signal.SIGKILL)
    _, second = airflow.at_work("killed", tries=2)
    airflow.go("killed")
    assert set(airflow.ended("twice", "killed").values()) == {"success"}
    assert first == second == assert_one_and_none_left(cloud, "killed").id


def test_a_request_whose_worker_is_killed_is_continued_by_its_retry(airflow: AirflowSite, cloud: LocalClouds) -> None:
    cloud.aws.set_delays(boot=8)
    airflow.trigger("twice", "request-killed")
    begun = up("request-killed", ClusterState.PROVISIONING)
    os.kill(airflow.pid("twice", "request-killed", "cluster"), signal.SIGKILL)
    assert set(airflow.ended("twice", "request-killed").values()) == {"success"}
    assert assert_one_and_none_left(cloud, "request-killed").id == begun.id


def test_a_request_that_is_killed_and_not_retried_is_torn_down(airflow: AirflowSite, cloud: LocalClouds) -> None:
    cloud.aws.set_delays(boot=600)
    airflow.trigger("once", "lost")
    up("lost", ClusterState.PROVISIONING)
    os.kill(airflow.pid("once", "lost", "cluster"), signal.SIGKILL)
    states = airflow.ended("once", "lost")
    assert (states[""], states["cluster"], states["cluster_end"]) == ("failed", "failed", "success")
    assert_one_and_none_left(cloud, "lost")


def test_the_cluster_of_a_worker_that_is_killed_with_its_supervisor_is_torn_down(
    airflow: AirflowSite, cloud: LocalClouds
) -> None:
    cloud.aws.set_delays(boot=600)
    airflow.trigger("once", "gone")
    up("gone", ClusterState.PROVISIONING)
    pid = airflow.pid("once", "gone", "cluster")
    with open(f"/proc/{pid}/stat") as stat:
        supervisor = int(stat.read().rpartition(")")[2].split()[1])
    os.kill(supervisor, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    states = airflow.ended("once", "gone")
    assert (states[""], states["cluster_end"]) == ("failed", "success")
    assert_one_and_none_left(cloud, "gone")


def test_a_request_that_is_marked_failed_tears_down_what_it_has_launched(
    airflow: AirflowSite, cloud: LocalClouds
) -> None:
    cloud.aws.set_delays(boot=600)
    airflow.trigger("once", "marked")
    begun = up("marked", ClusterState.PROVISIONING)
    airflow.mark_failed("once", "marked", "cluster")
    assert airflow.ended("once", "marked")[""] == "failed"
    assert assert_one_and_none_left(cloud, "marked").id == begun.id
    # Terminated by the task itself or by the teardown task after it, whichever came first.
    assert any(words in begun.refresh().reason for words in ("Cancelled", "by request"))


def test_a_cleared_task_gets_a_new_cluster_and_leaves_none(airflow: AirflowSite, cloud: LocalClouds) -> None:
    airflow.trigger("once", "cleared")
    assert airflow.ended("once", "cleared")[""] == "success"
    assert_one_and_none_left(cloud, "cleared")
    airflow.clear("once", "cleared", "work")
    airflow.at_work("cleared", tries=2)
    assert set(airflow.ended("once", "cleared").values()) == {"success"}
    first, second = clusters("cleared")
    assert first.name == second.name
    assert first.id != second.id
    assert cloud.alive() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restarted_triggerer_continues_with_the_same_cluster(
    airflow: AirflowSite, cloud: LocalClouds, number: signal.Signals
) -> None:
    run = f"restarted-{number.value}"
    # Long enough to stop the triggerer before the nodes run.
    cloud.aws.set_delays(boot=20)
    airflow.trigger("deferred", run)
    begun = up(run, ClusterState.PROVISIONING)
    until(lambda: airflow.states("deferred", run)["cluster"] == "deferred", "the request is deferred")
    airflow.stop_process("triggerer", number)
    assert [each.state for each in clusters(run)] == [ClusterState.PROVISIONING]
    airflow.launch("triggerer", "--skip-serve-logs")
    assert set(airflow.ended("deferred", run).values()) == {"success"}
    assert assert_one_and_none_left(cloud, run).id == begun.id


def test_a_deferred_request_that_is_marked_failed_is_torn_down(airflow: AirflowSite, cloud: LocalClouds) -> None:
    cloud.aws.set_delays(boot=600)
    airflow.trigger("deferred", "given-up")
    up("given-up", ClusterState.PROVISIONING)
    until(lambda: airflow.states("deferred", "given-up")["cluster"] == "deferred", "the request is deferred")
    airflow.mark_failed("deferred", "given-up", "cluster")
    assert airflow.ended("deferred", "given-up")[""] == "failed"
    assert_one_and_none_left(cloud, "given-up")


def test_mapped_requests_have_a_cluster_each(airflow: AirflowSite, cloud: LocalClouds) -> None:
    airflow.trigger("mapped", "many")
    assert set(airflow.ended("mapped", "many").values()) == {"success"}
    found = clusters("many")
    assert sorted(cluster.spec.gpus or 0 for cluster in found) == [8, 16]
    assert len({cluster.name for cluster in found}) == 2
    assert cloud.alive() == []
