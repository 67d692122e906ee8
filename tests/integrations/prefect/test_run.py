"""The task that runs a command on the nodes of a cluster, with a real SSH server for each node of a local cloud."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from prefect import flow

from multicompute import errors
from multicompute.integrations.prefect import (
    arequest_cluster,
    arun_on_cluster,
    aterminate_cluster,
    request_cluster,
    run_on_cluster,
    terminate_cluster,
)
from multicompute.testing import LocalClouds
from tests.integrations.prefect.run_pages import page, run_id
from tests.remote.hosts import missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
REQUEST: dict[str, Any] = {"gpus": 16, "type": "h100", "ttl": "2h", "clouds": ["aws"]}


@pytest.fixture(autouse=True)
def _cloud(clouds: LocalClouds) -> Iterator[None]:
    yield
    assert clouds.alive() == []


def test_a_command_runs_on_all_nodes_and_its_output_is_in_the_log_of_the_run() -> None:
    seen: list[str] = []

    @flow
    def train() -> list[str]:
        seen.append(run_id())
        fleet = request_cluster(**REQUEST)
        try:
            results = run_on_cluster(
                fleet, "echo $WORD $MULTICOMPUTE_RANK of $MULTICOMPUTE_NODES", env={"WORD": "rank"}
            )
            return [result.stdout for result in results]
        finally:
            terminate_cluster(fleet)

    assert train() == ["rank 0 of 2\n", "rank 1 of 2\n"]
    _, log = page(seen[0])
    assert "[0] rank 0 of 2" in log and "[1] rank 1 of 2" in log


def test_a_rank_that_fails_fails_the_task() -> None:
    @flow
    def train() -> None:
        fleet = request_cluster(**REQUEST)
        try:
            run_on_cluster(fleet, "test $MULTICOMPUTE_RANK = 0 || exit 3")
        finally:
            terminate_cluster(fleet)

    with pytest.raises(errors.RunError, match="rank 1 .*exit status 3"):
        train()


def test_an_async_flow_runs_a_command_and_the_synchronous_task_is_refused_there() -> None:
    @flow
    async def train() -> list[str]:
        fleet = await arequest_cluster(**REQUEST)
        try:
            with pytest.raises(errors.SpecError, match="arun_on_cluster"):
                run_on_cluster(fleet, "true")
            results = await arun_on_cluster(fleet, ["echo", "$HOME"], ranks=[1])
            return [result.stdout for result in results]
        finally:
            await aterminate_cluster(fleet)

    assert asyncio.run(train()) == ["$HOME\n"]
