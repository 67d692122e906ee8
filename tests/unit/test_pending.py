"""A request of `arequest` can be awaited, entered, and given to asyncio; `with` in an event loop warns."""

import asyncio
import warnings

import pytest

from multicompute import Cluster, ClusterState
from multicompute.errors import SpecError
from multicompute.testing import FakeCloud


def test_arequest_is_entered_without_await(fake_cloud: FakeCloud) -> None:
    async def main() -> Cluster:
        async with Cluster.arequest(gpus=8, type="h100") as cluster:
            assert cluster.state is ClusterState.READY
        return cluster

    assert asyncio.run(main()).state is ClusterState.TERMINATED


def test_arequest_is_awaited_and_entered_as_before(fake_cloud: FakeCloud) -> None:
    async def main() -> Cluster:
        async with await Cluster.arequest(gpus=8, type="h100") as cluster:
            assert cluster.state is ClusterState.READY
        return cluster

    assert asyncio.run(main()).state is ClusterState.TERMINATED


def test_an_error_in_the_block_terminates_the_cluster(fake_cloud: FakeCloud) -> None:
    async def main() -> None:
        async with Cluster.arequest(gpus=8, type="h100"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
    assert Cluster.list() == []


def test_asyncio_takes_it_for_a_coroutine(fake_cloud: FakeCloud) -> None:
    async def main() -> list[Cluster]:
        task = asyncio.create_task(Cluster.arequest(gpus=8, type="h100", name="one"))
        others = await asyncio.gather(Cluster.arequest(gpus=8, type="h100", name="two"))
        return [await task, *others, await asyncio.wait_for(Cluster.arequest(gpus=8, type="h100", name="six"), 60)]

    clusters = asyncio.run(main())
    assert [cluster.name for cluster in clusters] == ["one", "two", "six"]
    for cluster in clusters:
        cluster.terminate()
    assert asyncio.run(Cluster.arequest(gpus=8, type="h100")).terminate().state is ClusterState.TERMINATED


def test_a_request_that_is_not_awaited_is_closed_or_warns(fake_cloud: FakeCloud) -> None:
    Cluster.arequest(gpus=8, type="h100").close()
    with pytest.warns(RuntimeWarning, match="never awaited"):
        Cluster.arequest(gpus=8, type="h100")
    assert Cluster.list() == []


def test_a_wrong_argument_is_refused_at_once(fake_cloud: FakeCloud) -> None:
    with pytest.raises(SpecError, match="did you mean gpus"):
        Cluster.arequest(gpu=8, type="h100")  # type: ignore[call-arg]


def test_with_in_a_running_event_loop_warns(fake_cloud: FakeCloud) -> None:
    async def main() -> None:
        with (
            pytest.warns(RuntimeWarning, match="`with` blocks the running event loop"),
            Cluster.request(gpus=8, type="h100"),
        ):
            pass

    asyncio.run(main())


def test_with_outside_of_an_event_loop_does_not_warn(fake_cloud: FakeCloud) -> None:
    with warnings.catch_warnings(record=True) as caught, Cluster.request(gpus=8, type="h100"):
        warnings.simplefilter("always")
    assert caught == []
