"""Flows and tasks on a real Prefect server: the context manager, the tasks, transactions, hooks, artifacts and logs."""

import asyncio
import threading
from typing import Any

import pytest
from prefect import flow, task
from prefect.exceptions import MissingContextError
from prefect.transactions import transaction

from multicompute import Cluster, errors
from multicompute.integrations.prefect import (
    arequest_cluster,
    aterminate_cluster,
    cluster,
    ends_its_clusters,
    request_cluster,
    terminate_cluster,
    terminate_clusters,
)
from multicompute.node import Event
from multicompute.testing import FakeCloud
from tests.integrations.prefect.run_pages import page, run_id


def test_a_flow_has_its_cluster_for_a_block_and_shows_plan_cost_and_events(fake_cloud: FakeCloud) -> None:
    seen: list[str] = []

    @flow
    def train() -> None:
        with cluster(gpus=16, type="h100", tags={"team": "nlp"}) as fleet:
            assert len(fleet.nodes) == 2
            assert fleet.tags == {"prefect-flow": "train", "prefect-flow-run": run_id(), "team": "nlp"}
            seen.extend([run_id(), fleet.name])

    train()
    assert fake_cloud.alive() == []
    artifacts, log = page(seen[0])
    assert artifacts["multicompute-plan"].type == "table"
    assert '"hourly_usd"' in artifacts["multicompute-plan"].data
    assert seen[1] in artifacts["multicompute-cost"].data and "| cost | $" in artifacts["multicompute-cost"].data
    assert "launched 2 x" in log and f"{seen[1]}: TERMINATED" in log


def test_a_flow_that_fails_in_the_block_leaves_nothing(fake_cloud: FakeCloud) -> None:
    @flow
    def train() -> None:
        with cluster(gpus=8, type="h100"):
            assert fake_cloud.alive() != []
            raise ValueError("nan")

    with pytest.raises(ValueError, match="nan"):
        train()
    assert fake_cloud.alive() == []


def test_an_async_flow_waits_for_clouds_outside_of_its_event_loop(fake_cloud: FakeCloud) -> None:
    threads: set[int] = set()
    kinds: list[str] = []

    def notice(event: Event) -> None:
        threads.add(threading.get_ident())
        kinds.append(event.kind)

    @flow
    async def train() -> None:
        threads.clear()
        async with cluster(gpus=8, type="h100", progress=notice) as fleet:
            assert fleet.head.rank == 0
        assert threading.get_ident() not in threads
        handle = await arequest_cluster(8, "a100")
        assert fake_cloud.clusters_alive() == [handle["name"]]
        ended = await aterminate_cluster(handle)
        assert ended["state"] == "TERMINATED"

    asyncio.run(train())
    assert "ready" in kinds
    assert fake_cloud.alive() == []


def test_a_call_that_would_block_an_event_loop_is_refused_before_anything_is_launched(fake_cloud: FakeCloud) -> None:
    @flow
    async def train() -> None:
        with pytest.raises(errors.SpecError, match="would block the event loop"), cluster(gpus=8, type="h100"):
            pass
        with pytest.raises(errors.SpecError, match="would block the event loop"):
            request_cluster(8, "h100")

    asyncio.run(train())
    assert Cluster.list(include_ended=True) == []


def test_a_cluster_can_not_be_requested_outside_of_a_run(fake_cloud: FakeCloud) -> None:
    with pytest.raises(MissingContextError, match="only inside a flow or a task"), cluster(gpus=8, type="h100"):
        pass
    assert fake_cloud.alive() == []


def test_a_task_can_have_its_own_cluster(fake_cloud: FakeCloud) -> None:
    @task
    def evaluate() -> dict[str, str]:
        with cluster(gpus=8, type="h100") as fleet:
            return fleet.tags

    @flow
    def main() -> tuple[str, dict[str, str], dict[str, str]]:
        return run_id(), evaluate(), evaluate.submit().result()

    flow_run, tags, submitted = main()
    assert tags == submitted == {"prefect-flow": "main", "prefect-flow-run": flow_run, "prefect-task": "evaluate"}
    assert fake_cloud.alive() == []


def test_steps_share_a_cluster_between_request_and_terminate(fake_cloud: FakeCloud) -> None:
    @task
    def step(handle: dict[str, Any]) -> int:
        return len(Cluster.get(handle["name"]).nodes)

    @flow
    def train() -> int:
        handle = request_cluster(16, "h100")
        found = step(handle)
        terminate_cluster(handle)
        terminate_cluster(str(handle["name"]))
        return found

    assert train() == 2
    assert fake_cloud.alive() == []


def test_a_retried_flow_gets_the_cluster_that_it_had(fake_cloud: FakeCloud) -> None:
    names: list[str] = []

    @flow(retries=1)
    def train() -> None:
        names.append(str(request_cluster(8, "h100")["name"]))
        if len(names) == 1:
            raise ValueError("once")
        terminate_cluster(names[-1])

    train()
    assert names[0] == names[1]
    assert len(Cluster.list(include_ended=True)) == 1
    assert fake_cloud.alive() == []


def test_a_retried_task_gets_the_cluster_that_it_had(fake_cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[str] = []
    original = Cluster.to_dict

    def lose_the_answer_once(self: Cluster) -> dict[str, object]:
        if not lost:
            lost.append(self.name)
            raise ConnectionError("the result store is unreachable")
        return original(self)

    # The cluster is up, but the task fails afterwards. Patched, because no test double covers the code after the request.
    monkeypatch.setattr(Cluster, "to_dict", lose_the_answer_once)

    @flow
    def train() -> str:
        handle = request_cluster.with_options(retries=1)(8, "h100")
        terminate_cluster(handle)
        return str(handle["name"])

    assert train() == lost[0]
    assert len(Cluster.list(include_ended=True)) == 1
    assert fake_cloud.alive() == []


def test_equal_requests_get_different_clusters(fake_cloud: FakeCloud) -> None:
    @flow
    def train() -> None:
        handles = [future.result() for future in request_cluster.map([8, 8, 16], ["h100", "h100", "h100"])]
        names = sorted(str(handle["name"]) for handle in handles)
        assert len(set(names)) == 3
        with cluster(gpus=8, type="h100") as outer, cluster(gpus=8, type="h100") as inner:
            assert fake_cloud.clusters_alive() == sorted([*names, outer.name, inner.name])
        assert fake_cloud.clusters_alive() == names
        terminate_cluster.map(handles).wait()

    train()
    assert fake_cloud.alive() == []


@pytest.mark.parametrize("is_async", [False, True])
def test_a_failed_transaction_terminates_the_cluster_that_was_requested_in_it(
    is_async: bool, fake_cloud: FakeCloud
) -> None:
    @flow
    def train() -> None:
        with transaction():
            request_cluster(8, "h100")
            assert fake_cloud.alive() != []
            raise ValueError("nan")

    @flow
    async def atrain() -> None:
        with transaction():
            await arequest_cluster(8, "h100")
            assert fake_cloud.alive() != []
            raise ValueError("nan")

    with pytest.raises(ValueError, match="nan"):
        asyncio.run(atrain()) if is_async else train()
    assert fake_cloud.alive() == []


def test_a_failed_request_leaves_nothing_and_reports_its_attempts(fake_cloud: FakeCloud) -> None:
    fake_cloud.set_capacity("*", "*", 0)

    @flow
    def train() -> None:
        request_cluster(8, "h100", timeout="5m")

    with pytest.raises(errors.CapacityError) as caught:
        train()
    assert caught.value.attempts
    assert fake_cloud.alive() == []


@pytest.mark.parametrize("ending", ["completed", "failed"])
def test_a_flow_that_ends_its_clusters_leaves_none(ending: str, fake_cloud: FakeCloud) -> None:
    @flow
    def inner() -> None:
        request_cluster(8, "a100")

    @ends_its_clusters
    @flow
    def train() -> None:
        request_cluster(8, "h100")
        inner()
        assert len(fake_cloud.clusters_alive()) == 2
        if ending == "failed":
            raise ValueError("nan")

    state = train(return_state=True)
    assert state.is_completed() is (ending == "completed")
    assert fake_cloud.alive() == []


def test_the_hooks_of_a_flow_run_do_not_change_the_clusters_of_others(fake_cloud: FakeCloud) -> None:
    @ends_its_clusters
    @flow
    async def short() -> None:
        await arequest_cluster(8, "h100")

    @flow(on_completion=[terminate_clusters])
    def train() -> None:
        mine = request_cluster(8, "h100")
        asyncio.run(short())
        assert fake_cloud.clusters_alive() == [mine["name"], other.name]

    with Cluster.request(gpus=8, type="h100", name="z-other") as other:
        train()
        assert fake_cloud.clusters_alive() == ["z-other"]
    assert fake_cloud.alive() == []
