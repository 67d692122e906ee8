"""`Cluster.request` on Fourth, from plan to teardown, with the real engine, ledger and SDK, on the local cloud."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fourth_cloud.local import FourthLocalCloud

from fourth_cloud import plugin
from multicompute import Cluster, errors
from multicompute.config import Config
from multicompute.session import Session, use_session
from multicompute.testing import FakeClock

NOW = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.fixture(name="cloud")
def _cloud(tmp_path: Path) -> Iterator[FourthLocalCloud]:
    """A local Fourth in virtual time, as the only cloud."""
    clock = FakeClock(NOW)
    cloud = FourthLocalCloud(clock=clock)
    cloud.start()
    config = Config(
        state=f"sqlite:///{tmp_path}/state.db",
        default_ttl=timedelta(hours=24),
        catalog=None,
        owner="tester@fourth",
        path=tmp_path / "config.toml",
        environment=cloud.environment,
    )
    session = Session(config=config, plugins={"fourth": plugin}, clock=clock)
    try:
        with use_session(session):
            yield cloud
    finally:
        session.close()
        cloud.stop()


def test_a_request_is_planned_launched_and_torn_down(cloud: FourthLocalCloud) -> None:
    with Cluster.request(gpus=16, type="h100", clouds=["fourth"], ttl="12h", tags={"team": "nlp"}) as cluster:
        assert (cluster.provider, cluster.zone, cluster.hourly_cost) == ("fourth", "north-1a", 2 * 19.12)
        running = {resource.id: resource for resource in cloud.alive() if resource.billable}
        assert {node.id for node in cluster.nodes} == running.keys()
        assert {resource.tags["team"] for resource in cloud.alive()} == {"nlp"}
    assert cloud.alive() == []


def test_servers_that_fail_while_they_are_created_send_the_request_to_the_next_zone(cloud: FourthLocalCloud) -> None:
    cloud.faults.fail("Boot", "out_of_stock", where={"zone": "north-1a"})
    with Cluster.request(gpus=16, type="h100", clouds=["fourth"]) as cluster:
        assert cluster.zone == "north-1b"
        lacking = [event.message for event in cluster.events() if event.kind == "capacity"]
        assert len(lacking) == 1 and "north-1a" in lacking[0]
    assert cloud.alive() == []


def test_a_launch_whose_answer_is_lost_is_not_bought_twice(cloud: FourthLocalCloud) -> None:
    cloud.faults.lose_answer("CreateServers")
    with Cluster.request(gpus=16, type="h100", clouds=["fourth"]):
        assert sum(resource.billable for resource in cloud.alive()) == 2
    assert cloud.alive() == []


def test_if_no_zone_has_capacity_the_error_names_each_attempt_and_nothing_is_left(cloud: FourthLocalCloud) -> None:
    for zone in ("north-1a", "north-1b", "west-1a", "west-1b"):
        cloud.set_capacity("h100x8", zone, 0)
    with pytest.raises(errors.CapacityError) as caught:
        Cluster.request(gpus=16, type="h100x8", clouds=["fourth"])
    assert [attempt.zone for attempt in caught.value.attempts] == ["north-1a", "north-1b", "west-1a", "west-1b"]
    assert cloud.alive() == []


def test_the_cloud_enforces_the_lease_when_no_process_of_ours_runs(cloud: FourthLocalCloud) -> None:
    cluster = Cluster.request(gpus=8, type="h100", clouds=["fourth"], ttl="2h")
    cluster.extend("2h")
    cloud.clock.sleep(timedelta(hours=3))
    assert any(resource.billable for resource in cloud.alive())
    cloud.clock.sleep(timedelta(hours=2))
    assert not any(resource.billable for resource in cloud.alive())
    cluster.terminate()
    assert cloud.alive() == []
