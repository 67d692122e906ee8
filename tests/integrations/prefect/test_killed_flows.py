"""Flows whose process is killed or whose run is cancelled: nothing is left, and a run that is started again pays once."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Scheduled

from multicompute import Cluster
from multicompute.node import ClusterState
from multicompute.testing import LocalClouds

TIMEOUT = 150


_T = TypeVar("_T")


def until(read: Callable[[], _T], runner: Path) -> _T:
    """Call `read` until its result is true, and return the result."""
    deadline = time.monotonic() + TIMEOUT
    while not (answer := read()):
        assert time.monotonic() < deadline, runner.read_text()
        time.sleep(0.2)
    return answer


async def _begin(flow: str, note: Path) -> FlowRun:
    async with get_client() as client:
        deployment = await client.read_deployment_by_name(f"{flow}/here")
        return await client.create_flow_run_from_deployment(deployment.id, parameters={"note": str(note)})


async def _set(run: FlowRun, state: State[Any]) -> None:
    async with get_client() as client:
        await client.set_flow_run_state(run.id, state, force=True)


async def _type_of(run: FlowRun) -> str:
    async with get_client() as client:
        state = (await client.read_flow_run(run.id)).state
        return state.type.value if state else ""


async def _is_served(flow: str) -> bool:
    async with get_client() as client:
        try:
            return bool(await client.read_deployment_by_name(f"{flow}/here"))
        except ObjectNotFound:
            return False


class Watched:
    """A run of a flow that the runner serves."""

    def __init__(self, flow: str, note: Path, runner: Path) -> None:
        flow = flow.replace("_", "-")
        until(lambda: asyncio.run(_is_served(flow)), runner)
        self.note, self.runner = note, runner
        self.run = asyncio.run(_begin(flow, note))

    def noted(self) -> dict[str, Any]:
        until(self.note.exists, self.runner)
        return dict(json.loads(self.note.read_text()))

    def ends_as(self, kind: str) -> bool:
        until(lambda: asyncio.run(_type_of(self.run)) in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"), self.runner)
        return asyncio.run(_type_of(self.run)) == kind


@pytest.fixture(name="begin")
def _begin_flow(runner: Path, clouds: LocalClouds, tmp_path: Path) -> Iterator[Callable[[str], Watched]]:
    yield lambda flow: Watched(flow, tmp_path / "note", runner)
    for cluster in Cluster.list():
        cluster.terminate()


def states(names: list[str]) -> set[ClusterState]:
    return {Cluster.get(name).state for name in names}


def test_a_killed_flow_and_its_subflow_leave_nothing_because_the_hook_runs_in_the_runner(
    begin: Callable[[str], Watched], clouds: LocalClouds
) -> None:
    watched = begin("trains")
    note = watched.noted()
    assert len(note["names"]) == 2 and states(note["names"]) == {ClusterState.READY}
    os.kill(note["pid"], signal.SIGKILL)
    assert watched.ends_as("CRASHED")
    assert until(lambda: clouds.alive() == [], watched.runner)
    assert until(lambda: states(note["names"]) == {ClusterState.TERMINATED}, watched.runner)


def test_a_flow_that_is_killed_between_the_launch_and_its_answer_leaves_nothing(
    begin: Callable[[str], Watched], clouds: LocalClouds
) -> None:
    before = len(Cluster.list(include_ended=True))
    watched = begin("dies_while_it_launches")
    assert watched.ends_as("CRASHED")
    assert len(Cluster.list(include_ended=True)) == before + 1
    assert until(lambda: clouds.alive() == [] and Cluster.list() == [], watched.runner)


def test_a_cancelled_flow_leaves_neither_the_cluster_of_its_block_nor_others(
    begin: Callable[[str], Watched], clouds: LocalClouds
) -> None:
    watched = begin("trains_in_a_block")
    names = watched.noted()["names"]
    assert len(names) == 2 and states(names) == {ClusterState.READY}
    asyncio.run(_set(watched.run, Cancelling()))
    assert watched.ends_as("CANCELLED")
    assert until(lambda: clouds.alive() == [], watched.runner)
    assert states(names) == {ClusterState.TERMINATED}


def test_a_killed_flow_run_that_is_started_again_gets_the_cluster_that_it_had(
    begin: Callable[[str], Watched], clouds: LocalClouds
) -> None:
    watched = begin("is_begun_again")
    note = watched.noted()
    machines = clouds.aws.running_ids()
    os.kill(note["pid"], signal.SIGKILL)
    assert watched.ends_as("CRASHED")
    watched.note.unlink()
    Path(f"{watched.note}.go").touch()
    asyncio.run(_set(watched.run, Scheduled()))
    assert watched.noted()["names"] == note["names"]
    assert until(lambda: asyncio.run(_type_of(watched.run)) == "COMPLETED", watched.runner)
    assert clouds.aws.running_ids() == machines != []
    Cluster.get(*note["names"]).terminate()
    assert clouds.alive() == []
