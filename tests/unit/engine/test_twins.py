"""The async twins behave as their originals, and block no loop."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from multicompute import Cluster, ClusterState, Event, errors
from multicompute.testing import FakeCloud, fake_cloud

pytestmark = pytest.mark.asyncio


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        yield cloud


async def test_a_request_and_its_block_work_in_a_loop(cloud: FakeCloud) -> None:
    async with await Cluster.arequest(gpus=64, type="h100") as cluster:
        assert cluster.state is ClusterState.READY
        assert len(cloud.aws.running_ids()) == 8
        before = cluster.expires_at
        assert before is not None
        assert await cluster.aextend("1h") > before
        assert (await cluster.arefresh()).state is ClusterState.READY
    assert cluster.state is ClusterState.TERMINATED
    assert cloud.alive() == []


async def test_two_requests_run_at_the_same_time(cloud: FakeCloud) -> None:
    first, second = await asyncio.gather(Cluster.arequest(gpus=8, type="h100"), Cluster.arequest(gpus=16, type="h100"))
    assert len(cloud.aws.running_ids()) == 3
    await asyncio.gather(first.aterminate(), second.aterminate())
    assert cloud.alive() == []


async def test_errors_are_the_same(cloud: FakeCloud) -> None:
    cloud.aws.faults.fail("launch", "invalid")
    with pytest.raises(errors.InvalidRequestError, match="nothing of it is left"):
        await Cluster.arequest(gpus=8, type="h100")
    with pytest.raises(errors.SpecError):
        await Cluster.arequest(gpus=0, type="h100")


@pytest.mark.parametrize("when", ["attempt", "launched", "waiting"])
async def test_a_cancelled_request_is_torn_down_before_the_cancellation_goes_on(cloud: FakeCloud, when: str) -> None:
    loop = asyncio.get_running_loop()
    reached = asyncio.Event()

    def watch(event: Event) -> None:
        if event.kind == when:
            loop.call_soon_threadsafe(reached.set)

    cloud.aws.boot_time = timedelta(minutes=8)
    task = asyncio.ensure_future(Cluster.arequest(gpus=8, type="h100", name="cancelled", progress=watch))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cloud.alive() == []


async def test_an_exception_in_the_block_ends_the_cluster(cloud: FakeCloud) -> None:
    with pytest.raises(ZeroDivisionError):
        async with await Cluster.arequest(gpus=8, type="h100"):
            raise ZeroDivisionError
    assert cloud.alive() == []


async def test_a_wait_in_a_loop_brings_up_what_was_not_waited_for(cloud: FakeCloud) -> None:
    cluster = await Cluster.arequest(gpus=8, type="h100", wait=False)
    assert (await cluster.await_()).state is ClusterState.READY
    await cluster.aterminate()
    assert cloud.alive() == []
