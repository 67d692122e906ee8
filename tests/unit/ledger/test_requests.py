"""Complete requests and teardowns with each engine of the ledger, on clouds in memory."""

from collections.abc import Iterator
from random import Random

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.session import Session, use_session
from multicompute.testing import FakeCloud, fake_cloud
from tests.unit.ledger.postgres_server import server


def session_on(cloud: FakeCloud, url: str) -> Session:
    config = cloud.session.config.model_copy(update={"state": url})
    return Session(config=config, plugins=cloud.session.plugins, clock=cloud.clock, random=Random(0))


@pytest.fixture(name="cloud")
def _cloud(url: str) -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        session = session_on(cloud, url)
        with use_session(session):
            yield cloud
        session.close()


def test_a_gang_comes_up_completely_and_is_terminated_with_its_block(cloud: FakeCloud) -> None:
    with Cluster.request(gpus=64, type="h100", ttl="12h", tags={"team": "nlp"}) as cluster:
        assert cluster.state == "READY"
        assert [node.rank for node in cluster.nodes] == list(range(8))
        assert cluster.hourly_cost == pytest.approx(440.32)
        assert len(cloud.alive()) >= 8
    assert cluster.state is ClusterState.TERMINATED
    assert cloud.alive() == []


def test_a_lack_of_capacity_fails_over_and_is_remembered(cloud: FakeCloud) -> None:
    cloud.set_capacity("p5.48xlarge", "us-east-1a", 0)
    for _ in range(2):
        with Cluster.request(gpus=64, type="h100") as cluster:
            assert cluster.zone == "us-east-1b"
    tried = [call.fields["zone"] for call in cloud.aws.faults.calls if call.operation == "launch"]
    assert tried == ["us-east-1a", "us-east-1b", "us-east-1b"]
    assert cloud.alive() == []


def test_another_process_finds_the_cluster_by_name_and_terminates_it(cloud: FakeCloud, url: str) -> None:
    Cluster.request(gpus=8, type="h100", name="train")
    other = session_on(cloud, url)
    with use_session(other):
        assert Cluster.request(gpus=8, type="h100", name="train").id == Cluster.get("train").id
        with pytest.raises(errors.ClusterExists, match="gpus"):
            Cluster.request(gpus=16, type="h100", name="train")
        Cluster.get("train").terminate()
    other.close()
    assert Cluster.get("train").state is ClusterState.TERMINATED
    assert cloud.alive() == []


def test_a_cluster_of_a_lost_ledger_is_adopted_into_another_and_terminated_from_there(cloud: FakeCloud) -> None:
    Cluster.request(gpus=8, type="h100", name="train", ttl="1h")
    elsewhere = session_on(cloud, server().url())
    with use_session(elsewhere):
        reconcile(elsewhere, adopt=["train"])
        found = Cluster.list()
        for cluster in found:
            cluster.terminate()
    elsewhere.close()
    assert [cluster.name for cluster in found] == ["train"]
    assert cloud.alive() == []


def test_a_lost_connection_to_the_ledger_does_not_fail_a_request(cloud: FakeCloud) -> None:
    def cut(event: object) -> None:
        server().kill_clients()

    with Cluster.request(gpus=16, type="h100", progress=cut) as cluster:
        assert cluster.state is ClusterState.READY
    assert cloud.alive() == []
