"""A node whose timer can't work is terminated by reap with its dependent resources, in every cloud."""

import pytest

from multicompute import Cluster, ClusterState
from multicompute.config import apply_environment, load
from multicompute.engine.recovery.reap import reap
from multicompute.plugins import discover
from multicompute.session import Session, use_session
from multicompute.testing import FakeClock, local_clouds

KINDS = {"aws": ("aws", "h100"), "gcp": ("gcp", "h100"), "tpu": ("gcp", "v5p-16"), "azure": ("azure", "h100")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_that_is_cut_off_is_terminated_by_reap_with_its_dependent_resources(kind: str) -> None:
    cloud, accelerator = KINDS[kind]
    clock = FakeClock()
    with local_clouds(cloud) as clouds, apply_environment({"MULTICOMPUTE_AWS__REGIONS": "us-east-1"}):
        session = Session(config=load(), plugins=discover(), clock=clock)
        with use_session(session):
            gpus = None if kind == "tpu" else 16
            cluster = Cluster.request(gpus=gpus, type=accelerator, name="cut-off", ttl="1h", clouds=[cloud])
            clock.advance("50m")
            cluster.extend("1h")
            clock.advance("69m")
            assert reap(session).terminated == []
            assert set(clouds[cloud].running_ids()) == {node.id for node in cluster.nodes}
            clock.advance("2m")
            assert reap(session).terminated == ["cut-off"]
        session.close()
        assert Cluster.get("cut-off").state is ClusterState.TERMINATED
        assert clouds.alive() == []
