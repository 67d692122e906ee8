"""Several processes act on the same clusters at the same moment: cloud, ledger and callers agree on one outcome."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from multicompute import Cluster, ClusterState
from multicompute.config import load
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.plugins import discover
from multicompute.provider import TAG_EXPIRES_AT, TAG_ID
from multicompute.session import Session, open_session, use_session
from multicompute.testing import FakeClock, LocalClouds
from tests.resilience.races.crowd import Crowd, Interruption

ACTIONS = ("request", "request", "request", "terminate", "end", "extend", "refresh", "reconcile", "reap")


def errors_of(done: list[dict[str, Any]]) -> list[str]:
    return [each["error"] for each in done]


def expired(name: str) -> None:
    """Request a cluster as of yesterday, whose lease has ended."""
    yesterday = FakeClock(datetime.now(UTC) - timedelta(hours=25))
    session = Session(config=load(), plugins=discover(), clock=yesterday)
    with use_session(session):
        Cluster.request(gpus=16, type="h100", name=name, clouds=["aws"], regions=["us-east-1"], ttl="24h")
    session.close()


# At the same moment


@pytest.mark.parametrize("count", [2, 8])
def test_processes_that_make_the_same_request_get_one_cluster_bought_once(
    clouds: LocalClouds, crowd: Crowd, count: int
) -> None:
    done = crowd.do(*[("request", "one", 16)] * count)
    assert errors_of(done) == [""] * count
    nodes = [node.id for node in Cluster.get("one").nodes]
    assert [each["value"] for each in done] == [{"id": Cluster.get("one").id, "state": "READY", "nodes": nodes}] * count
    assert sorted(clouds.aws.running_ids()) == sorted(nodes)
    assert clouds.aws.faults.count("RunInstances") == 1


def test_one_of_two_different_requests_of_one_name_is_refused_and_buys_nothing(
    clouds: LocalClouds, crowd: Crowd
) -> None:
    done = crowd.do(("request", "one", 16), ("request", "one", 8))
    assert sorted(errors_of(done)) == ["", "ClusterExists"]
    (winner,) = [each for each in done if not each["error"]]
    assert sorted(clouds.aws.running_ids()) == sorted(winner["value"]["nodes"])
    assert len(winner["value"]["nodes"]) == (2, 1)[winner["action"]]


def test_processes_that_terminate_the_same_cluster_all_return_it_as_terminated(
    clouds: LocalClouds, crowd: Crowd
) -> None:
    crowd.do(("request", "one", 16))
    done = crowd.do(*[("terminate", "one")] * 4)
    assert [(each["error"], each["value"]) for each in done] == [("", "TERMINATED")] * 4
    assert [event.kind for event in Cluster.get("one").events()].count("terminated") == 1
    assert clouds.alive() == []


# During a cloud call


@pytest.mark.parametrize("moment", ["DescribeSubnets", "CreateSecurityGroup", "RunInstances", "DescribeInstances"])
def test_a_cluster_whose_termination_is_requested_while_it_comes_up_is_gone(
    clouds: LocalClouds, crowd: Crowd, others: Crowd, moment: str
) -> None:
    interruption = Interruption(clouds, moment, others, ("end", "one"))
    (request,) = crowd.do(("request", "one", 16))
    assert [(each["error"], each["value"]) for each in interruption.done] == [("", "TERMINATING")]
    assert (request["error"], "nothing is left running" in request["value"]) == ("ClusterNotFound", True)
    assert Cluster.get("one").state.has_ended
    assert clouds.alive() == []


def test_a_process_that_terminates_a_cluster_that_another_one_brings_up_waits_for_its_end(
    clouds: LocalClouds, crowd: Crowd, others: Crowd
) -> None:
    clouds.aws.boot_delay = timedelta(minutes=5)
    Interruption(clouds, "RunInstances", others, ("terminate", "one"), is_awaited=False)
    (request,) = crowd.do(("request", "one", 16))
    clouds.aws.boot_delay = timedelta(0)
    (terminated,) = others.finish()
    assert request["error"] == "ClusterNotFound"
    assert (terminated["error"], terminated["value"]) == ("", Cluster.get("one").state)
    assert Cluster.get("one").state.has_ended
    assert clouds.alive() == []


@pytest.mark.parametrize("moment", ["CreateSecurityGroup", "RunInstances", "DescribeInstances"])
def test_a_reconcile_leaves_a_cluster_alone_that_another_process_brings_up(
    clouds: LocalClouds, crowd: Crowd, others: Crowd, moment: str
) -> None:
    interruption = Interruption(clouds, moment, others, ("reconcile",))
    (request,) = crowd.do(("request", "one", 16))
    assert (request["error"], request["value"].get("state")) == ("", "READY")
    (report,) = [each["value"] for each in interruption.done]
    assert (report["clusters"], report["terminated"], report["orphans"]) == (["one"], [], [])
    assert sorted(clouds.aws.running_ids()) == sorted(request["value"]["nodes"])
    assert clouds.aws.faults.count("RunInstances") == 1


def test_an_expired_cluster_that_is_being_extended_is_not_reaped(
    clouds: LocalClouds, crowd: Crowd, others: Crowd
) -> None:
    expired("one")
    interruption = Interruption(clouds, "CreateTags", others, ("reap",))
    (extended,) = crowd.do(("extend", "one"))
    assert extended["error"] == ""
    assert [each["value"]["terminated"] for each in interruption.done] == [[]]
    cluster = Cluster.get("one")
    assert cluster.state is ClusterState.READY
    assert cluster.expires_at is not None and cluster.expires_at.timestamp() == extended["value"]
    ends = {item.tags.get(TAG_EXPIRES_AT) for item in clouds.alive() if item.kind == "instance"}
    assert ends == {str(int(extended["value"]))}
    assert crowd.do(("reap",))[0]["value"]["terminated"] == []
    assert len(clouds.aws.running_ids()) == 2


def test_a_cluster_that_is_being_reaped_can_not_be_extended(clouds: LocalClouds, crowd: Crowd, others: Crowd) -> None:
    expired("one")
    Interruption(clouds, "TerminateInstances", others, ("extend", "one"), is_awaited=False)
    (reaped,) = crowd.do(("reap",))
    (extended,) = others.finish()
    assert reaped["value"]["terminated"] == ["one"]
    assert extended["error"] == "ClusterNotFound"
    assert clouds.alive() == []


# Random actions at once


@pytest.mark.parametrize("seed", range(4))
def test_ledger_and_cloud_agree_after_whatever_eight_processes_do_at_once(
    clouds: LocalClouds, crowd: Crowd, seed: int
) -> None:
    random = Random(seed)
    for _ in range(3):
        kinds = [random.choice(ACTIONS) for _ in range(8)]
        actions = [(kind, *_arguments(kind, random)) for kind in kinds]
        done = crowd.do(*actions)
        assert set(errors_of(done)) <= {"", "ClusterExists", "ClusterNotFound"}, done
    report = reconcile(open_session())
    assert (report.orphans, report.in_doubt, report.notes) == ([], [], [])
    nodes: dict[str, set[str]] = {}
    for item in clouds.alive():
        if item.kind == "instance":
            nodes.setdefault(item.tags[TAG_ID], set()).add(item.id)
    assert nodes == {cluster.id: {node.id for node in cluster.nodes} for cluster in Cluster.list()}
    assert all(cluster.state is ClusterState.READY for cluster in Cluster.list())
    for cluster in Cluster.list(include_ended=True):
        kinds = [event.kind for event in cluster.events()]
        assert kinds.count("terminated") + kinds.count("failed") == (0 if cluster.state.is_live else 1)


def _arguments(kind: str, random: Random) -> tuple[Any, ...]:
    if kind in ("reconcile", "reap"):
        return ()
    name = random.choice(("ada", "bob"))
    return (name, random.choice((8, 16))) if kind == "request" else (name,)
