"""A teardown that a cloud blocks for an hour shows its reason and cost, and a later reap completes it."""

from collections.abc import Iterator

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.config import apply_environment, load
from multicompute.engine.recovery.reap import reap
from multicompute.plugins import discover
from multicompute.session import Session, use_session
from multicompute.testing import FakeClock, LocalClouds, local_clouds

REGION = {"aws": "us-east-1", "gcp": "us-central1", "azure": "eastus"}
BLOCKERS = [
    ("aws", "TerminateInstances", "UnauthorizedOperation", 403),
    ("aws", "TerminateInstances", "RequestLimitExceeded", 503),
    ("aws", "DeleteSecurityGroup", "DependencyViolation", 400),
    ("gcp", "instances.delete", "rateLimitExceeded", 403),
    ("azure", "resourceGroups.delete", "AuthorizationFailed", 403),
    ("azure", "resourceGroups.delete.operation", "Conflict", 409),
]
"""Cloud, call, code and status: refused, throttled, in use, failed halfway."""


@pytest.fixture(name="clock")
def _clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(name="clouds")
def _clouds(clock: FakeClock, cloud: str) -> Iterator[LocalClouds]:
    with local_clouds(cloud) as clouds, apply_environment({"MULTICOMPUTE_AWS__REGIONS": REGION["aws"]}):
        session = Session(config=load(), plugins=discover(), clock=clock)
        with use_session(session):
            yield clouds
        session.close()


@pytest.mark.parametrize(("cloud", "operation", "code", "status"), BLOCKERS)
def test_a_cluster_that_a_cloud_does_not_delete_stays_visible_until_it_does(
    clouds: LocalClouds, clock: FakeClock, cloud: str, operation: str, code: str, status: int
) -> None:
    cluster = Cluster.request(gpus=16, type="h100", name="stuck", clouds=[cloud], regions=[REGION[cloud]])
    clouds[cloud].faults.fail(operation, code, status=status, times=None)
    with pytest.raises(errors.MulticomputeError):
        cluster.terminate()
    for _ in range(4):
        clock.advance("15m")
        report = reap(cluster._session)
        assert (list(report.failed), report.terminated) == (["stuck"], [])
    stuck = Cluster.get("stuck")
    assert stuck.state is ClusterState.TERMINATING
    assert code in stuck.blocked_on or "not deleted" in stuck.blocked_on
    assert stuck.accrued_cost >= stuck.hourly_cost > 0
    assert {event.kind for event in stuck.events()}.isdisjoint({"terminated", "failed"})
    assert clouds.alive() != []

    clouds[cloud].faults.clear()
    assert reap(cluster._session).terminated == ["stuck"]
    assert Cluster.get("stuck").state is ClusterState.TERMINATED
    assert clouds.alive() == []
