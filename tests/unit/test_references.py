"""A cluster that is pickled or copied is a reference to the cluster in the ledger."""

import copy
import pickle

import pytest

from multicompute import Cluster, errors
from multicompute.config import load
from multicompute.session import Session, use_session
from multicompute.testing import FakeCloud


@pytest.fixture(name="cluster")
def _cluster(fake_cloud: FakeCloud) -> Cluster:
    return Cluster.request(gpus=8, type="h100", name="train", clouds=["aws"])


def test_a_pickled_cluster_is_the_cluster_as_the_ledger_has_it_when_it_is_unpickled(cluster: Cluster) -> None:
    text = pickle.dumps(cluster)
    assert len(text) < 200
    assert pickle.loads(text).nodes == cluster.nodes
    cluster.terminate()
    found = pickle.loads(text)
    assert isinstance(found, Cluster)
    assert (found.name, found.id, found.state) == ("train", cluster.id, "TERMINATED")


def test_a_newer_cluster_of_the_same_name_is_not_the_one_that_was_pickled(cluster: Cluster) -> None:
    text = pickle.dumps(cluster)
    cluster.terminate()
    newer = Cluster.request(gpus=8, type="h100", name="train", clouds=["aws"])
    assert pickle.loads(text).id == cluster.id != newer.id
    newer.terminate()


def test_a_copy_refers_to_the_same_cluster_and_leaving_it_alone_terminates_nothing(
    cluster: Cluster, fake_cloud: FakeCloud
) -> None:
    for other in (copy.copy(cluster), copy.deepcopy(cluster)):
        assert (other is not cluster, other.id) == (True, cluster.id)
        del other
    assert len(fake_cloud.aws.running_ids()) == 1
    cluster.terminate()


def test_a_reference_of_another_ledger_names_the_cluster_and_the_remedy(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = pickle.dumps(cluster)
    cluster.terminate()
    other = load(with_file=False).model_copy(update={"state": f"sqlite:///{tmp_path_factory.mktemp('other')}/state.db"})
    session = Session(config=other)
    with (
        use_session(session),
        pytest.raises(errors.ClusterNotFound, match="train: the cluster of this reference") as caught,
    ):
        pickle.loads(text)
    session.close()
    assert "MULTICOMPUTE_STATE" in str(caught.value)
