"""Several processes at the same clusters at the same moment: each race has one outcome, and cloud, ledger and callers agree on it."""

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

# Tests are imported by their file (importmode=importlib), so neighbours have to be found by hand.
from tests.resilience.races.crowd import Crowd, CutIn

ENDED = (ClusterState.TERMINATED, ClusterState.FAILED)
ACTIONS = ("request", "request", "request", "terminate", "end", "extend", "refresh", "reconcile", "reap")


def errors_of(done: list[dict[str, Any]]) -> list[str]:
    return [each["error"] for each in done]


def expired(name: str) -> None:
    """A cluster that was requested yesterday, and whose time is over."""
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


def test_of_two_different_requests_of_one_name_one_is_refused_and_buys_nothing(
    clouds: LocalClouds, crowd: Crowd
) -> None:
    done = crowd.do(("request", "one", 16), ("request", "one", 8))
    assert sorted(errors_of(done)) == ["", "ClusterExists"]
    (winner,) = [each for each in done if not each["error"]]
    assert sorted(clouds.aws.running_ids()) == sorted(winner["value"]["nodes"])
    assert len(winner["value"]["nodes"]) == (2, 1)[winner["deed"]]


def test_processes_that_end_the_same_cluster_all_see_its_end(clouds: LocalClouds, crowd: Crowd) -> None:
    crowd.do(("request", "one", 16))
    done = crowd.do(*[("terminate", "one")] * 4)
    assert [(each["error"], each["value"]) for each in done] == [("", "TERMINATED")] * 4
    assert [event.kind for event in Cluster.get("one").events()].count("terminated") == 1
    assert clouds.alive() == []


# At a moment of a call


@pytest.mark.parametrize("moment", ["DescribeSubnets", "CreateSecurityGroup", "RunInstances", "DescribeInstances"])
def test_a_cluster_whose_end_is_asked_for_while_it_is_provisioned_is_gone(
    clouds: LocalClouds, crowd: Crowd, others: Crowd, moment: str
) -> None:
    cut = CutIn(clouds, moment, others, ("end", "one"))
    (request,) = crowd.do(("request", "one", 16))
    assert [(each["error"], each["value"]) for each in cut.done] == [("", "TERMINATING")]
    assert (request["error"], "nothing of it is left" in request["value"]) == ("ClusterNotFound", True)
    assert Cluster.get("one").state in ENDED
    assert clouds.alive() == []


def test_who_waits_for_the_end_of_a_cluster_that_another_one_makes_sees_it(
    clouds: LocalClouds, crowd: Crowd, others: Crowd
) -> None:
    clouds.aws.boot_delay = timedelta(minutes=5)
    CutIn(clouds, "RunInstances", others, ("terminate", "one"), is_awaited=False)
    (request,) = crowd.do(("request", "one", 16))
    clouds.aws.boot_delay = timedelta(0)
    (terminated,) = others.finish()
    assert request["error"] == "ClusterNotFound"
    assert (terminated["error"], terminated["value"]) == ("", Cluster.get("one").state)
    assert Cluster.get("one").state in ENDED
    assert clouds.alive() == []


@pytest.mark.parametrize("moment", ["CreateSecurityGroup", "RunInstances", "DescribeInstances"])
def test_a_reconcile_leaves_alone_what_another_one_is_making(
    clouds: LocalClouds, crowd: Crowd, others: Crowd, moment: str
) -> None:
    cut = CutIn(clouds, moment, others, ("reconcile",))
    (request,) = crowd.do(("request", "one", 16))
    assert (request["error"], request["value"].get("state")) == ("", "READY")
    (report,) = [each["value"] for each in cut.done]
    assert (report["clusters"], report["terminated"], report["orphans"]) == (["one"], [], [])
    assert sorted(clouds.aws.running_ids()) == sorted(request["value"]["nodes"])
    assert clouds.aws.faults.count("RunInstances") == 1


def test_a_cluster_that_is_extended_at_its_last_moment_is_not_reaped(
    clouds: LocalClouds, crowd: Crowd, others: Crowd
) -> None:
    expired("one")
    cut = CutIn(clouds, "CreateTags", others, ("reap",))
    (extended,) = crowd.do(("extend", "one"))
    assert extended["error"] == ""
    assert [each["value"]["terminated"] for each in cut.done] == [[]]
    cluster = Cluster.get("one")
    assert cluster.state is ClusterState.READY
    assert cluster.expires_at is not None and cluster.expires_at.timestamp() == extended["value"]
    ends = {item.tags.get(TAG_EXPIRES_AT) for item in clouds.alive() if item.kind == "instance"}
    assert ends == {str(int(extended["value"]))}
    assert crowd.do(("reap",))[0]["value"]["terminated"] == []
    assert len(clouds.aws.running_ids()) == 2


def test_a_cluster_that_is_being_reaped_can_not_be_extended_any_more(
    clouds: LocalClouds, crowd: Crowd, others: Crowd
) -> None:
    expired("one")
    CutIn(clouds, "TerminateInstances", others, ("extend", "one"), is_awaited=False)
    (reaped,) = crowd.do(("reap",))
    (extended,) = others.finish()
    assert reaped["value"]["terminated"] == ["one"]
    assert extended["error"] == "ClusterNotFound"
    assert clouds.alive() == []


# All at once


@pytest.mark.parametrize("seed", range(4))
def test_whatever_eight_processes_do_at_once_ledger_and_cloud_agree_afterwards(
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
    there: dict[str, set[str]] = {}
    for item in clouds.alive():
        if item.kind == "instance":
            there.setdefault(item.tags[TAG_ID], set()).add(item.id)
    assert there == {cluster.id: {node.id for node in cluster.nodes} for cluster in Cluster.list()}
    assert all(cluster.state is ClusterState.READY for cluster in Cluster.list())
    for cluster in Cluster.list(include_ended=True):
        kinds = [event.kind for event in cluster.events()]
        assert kinds.count("terminated") + kinds.count("failed") == (0 if cluster.state.is_live else 1)


def _arguments(kind: str, random: Random) -> tuple[Any, ...]:
    if kind in ("reconcile", "reap"):
        return ()
    name = random.choice(("ada", "bob"))
    return (name, random.choice((8, 16))) if kind == "request" else (name,)
