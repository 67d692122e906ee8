"""The async twins behave as the synchronous methods, and do not block the event loop."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from multicompute import Cluster, ClusterState, Event, errors
from multicompute.testing import FakeClock, FakeCloud, fake_cloud

pytestmark = pytest.mark.asyncio


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[FakeCloud]:
    with fake_cloud("aws") as cloud:
        yield cloud


async def test_a_request_and_its_block_work_in_an_event_loop(cloud: FakeCloud) -> None:
    async with await Cluster.arequest(gpus=64, type="h100") as cluster:
        assert cluster.state == "READY"
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
    cloud.aws.faults.fail("launch", "malformed")
    with pytest.raises(errors.InvalidRequestError, match="nothing is left running"):
        await Cluster.arequest(gpus=8, type="h100")
    with pytest.raises(errors.SpecError):
        await Cluster.arequest(gpus=0, type="h100")


@pytest.mark.parametrize("when", ["attempt", "launched", "waiting"])
async def test_a_cancelled_request_is_torn_down_before_the_cancellation_propagates(cloud: FakeCloud, when: str) -> None:
    loop = asyncio.get_running_loop()
    reached = asyncio.Event()

    def callback(event: Event) -> None:
        if event.kind == when:
            loop.call_soon_threadsafe(reached.set)

    cloud.aws.boot_time = timedelta(minutes=8)
    task = asyncio.ensure_future(Cluster.arequest(gpus=8, type="h100", name="cancelled", progress=callback))
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


async def test_a_wait_in_an_event_loop_brings_up_what_was_not_waited_for(cloud: FakeCloud) -> None:
    cluster = await Cluster.arequest(gpus=8, type="h100", wait=False)
    assert (await cluster.await_()).state is ClusterState.READY
    await cluster.aterminate()
    assert cloud.alive() == []


class HeldClock(FakeClock):
    """A clock on which a sleep lasts until the test ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_reached, self.may_go = threading.Event(), threading.Event()

    def sleep(self, duration: timedelta) -> None:
        self.is_reached.set()
        assert self.may_go.wait(20)
        super().sleep(duration)


async def test_a_wait_that_is_cancelled_may_leave_the_cluster_for_another_process() -> None:
    clock = HeldClock()
    with fake_cloud("aws", clock=clock) as cloud:
        cloud.aws.boot_time = timedelta(minutes=8)
        cluster = await Cluster.arequest(gpus=8, type="h100", wait=False)
        task = asyncio.ensure_future(cluster.await_(on_stop="leave"))
        assert await asyncio.to_thread(clock.is_reached.wait, 20)
        task.cancel()
        await asyncio.sleep(0)
        clock.may_go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = Cluster.get(cluster.name)
        assert left.state is ClusterState.PROVISIONING
        assert len(cloud.aws.alive()) > 0
        assert left.wait().state is ClusterState.READY
        left.terminate()
        assert cloud.alive() == []


async def test_any_number_of_clusters_are_waited_for_at_the_same_time(cloud: FakeCloud) -> None:
    together = threading.Barrier(40)

    def wait_for_others(event: Event) -> None:
        if event.kind == "requested":
            together.wait(20)

    wanted = [Cluster.arequest(gpus=8, type="h100", name=f"one-of-{n}", progress=wait_for_others) for n in range(40)]
    clusters = await asyncio.gather(*wanted)
    assert {cluster.state for cluster in clusters} == {ClusterState.READY}
    await asyncio.gather(*(cluster.aterminate() for cluster in clusters))
    assert cloud.alive() == []
