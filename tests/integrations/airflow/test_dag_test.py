"""`dag.test()`, as the author of a DAG runs it, on a local cloud."""

import json

import pytest

from multicompute import Cluster, ClusterState
from multicompute.testing import LocalClouds
from tests.integrations.airflow.airflow_site import HERE, AirflowSite, needs_airflow
from tests.remote.hosts import missing

pytestmark = [
    needs_airflow,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("airflow"),
]


def run(site: AirflowSite, *dags: str) -> list[dict[str, str]]:
    shown = site.python(str(HERE / "dag_test_runner.py"), str(site.home / "dags"), *dags)
    found: list[dict[str, str]] = json.loads(shown.splitlines()[-1])
    return found


def test_success_failure_deferral_and_the_shipped_example(prepared: AirflowSite, cloud: LocalClouds) -> None:
    before = {cluster.id for cluster in Cluster.list(include_ended=True)}
    good, bad, deferred, example = run(prepared, "once", 'once={"fail": true}', "deferred", "airflow_fleet")
    for states in (good, deferred, example):
        assert {state for name, state in states.items() if not name.endswith(" returned")} == {"success"}
    assert (bad[""], bad["work"], bad["cluster_end"]) == ("failed", "failed", "success")
    made = [cluster for cluster in Cluster.list(include_ended=True) if cluster.id not in before]
    assert sorted(cluster.tags["airflow-dag"] for cluster in made) == ["airflow_fleet", "deferred", "once", "once"]
    assert cloud.alive() == []


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_command_runs_on_the_nodes(prepared: AirflowSite, cloud: LocalClouds) -> None:
    (states,) = run(prepared, "on_nodes")
    assert (states["ranked"], states["words"], states["failing"]) == ("success", "success", "failed")
    assert states["ranked returned"] == "rank 0 of 2 for on_nodes"
    assert states["words returned"] == "$HOME"
    assert states["cluster_end"] == "success"
    assert cloud.alive() == []


def test_a_request_that_exceeds_its_execution_timeout_tears_down_what_it_has_launched(
    prepared: AirflowSite, cloud: LocalClouds
) -> None:
    before = {cluster.id for cluster in Cluster.list(include_ended=True)}
    cloud.aws.set_delays(boot=600)
    try:
        (states,) = run(prepared, "slow")
    finally:
        cloud.aws.set_delays()
    assert states == {"": "failed", "cluster": "failed"}
    (made,) = (cluster for cluster in Cluster.list(include_ended=True) if cluster.id not in before)
    assert any(event.kind == "launched" for event in made.events()), "the timeout came before anything was launched"
    assert made.state is ClusterState.FAILED
    assert cloud.alive() == []
