"""Own machines next to a cloud: used while enough of them are free, and what they can't take goes to the cloud."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from multicompute import Cluster
from multicompute.clock import SystemClock
from multicompute.config import checked, read
from multicompute.plugins import discover
from multicompute.session import Session, use_session
from multicompute.testing import local_clouds


@pytest.fixture(autouse=True)
def _own_machines_and_a_cloud(inventory: Path) -> Iterator[None]:
    with local_clouds("aws") as clouds:
        own = {
            "HOME": str(inventory.parent),
            "MULTICOMPUTE_CLOUDS": "aws,static",
            "MULTICOMPUTE_STATIC__INVENTORY": str(inventory),
            "MULTICOMPUTE_STATIC__SSH_CONFIG": "none",
        }
        plugins = {name: plugin for name, plugin in discover().items() if name in ("aws", "static")}
        session = Session(config=checked(read({**clouds.environment, **own})), plugins=plugins, clock=SystemClock())
        with use_session(session):
            yield
        session.close()


def test_a_request_goes_to_the_cloud_when_own_machines_are_taken() -> None:
    # Three own machines of 8, at no cost.
    plan = Cluster.plan(gpus=16, type="h100", ttl="1h")
    assert (plan.best.provider, plan.best.hourly_cost) == ("static", 0)
    assert {"aws", "static"} <= {candidate.provider for candidate in plan}
    with Cluster.request(gpus=16, type="h100", ttl="1h") as first:
        assert first.provider == "static"
        with Cluster.request(gpus=16, type="h100", ttl="1h") as second:
            assert second.provider == "aws"
            assert {node.provider for node in second.nodes} == {"aws"}
            assert any("static" in event.message and "leased" in event.message for event in second.events())


def test_a_gang_that_is_larger_than_all_own_machines_is_bought() -> None:
    with Cluster.request(gpus=32, type="h100", ttl="1h") as cluster:
        assert cluster.provider == "aws"
