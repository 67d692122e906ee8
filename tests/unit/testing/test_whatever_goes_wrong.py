"""Whatever fails in the clouds, and in any order, a request ends with a complete gang or with nothing that runs."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multicompute import Cluster, ClusterState, errors
from multicompute.node import NodeState
from multicompute.testing import Call, FakeCloud, Faults, fake_cloud

OPERATIONS = ["launch", "nodes", "terminate", "resources", "boot"]
CODES = [
    "capacity",
    "capacity-region",
    "not-offered",
    "quota",
    "throttled",
    "transient",
    "auth",
    "denied",
    "invalid",
    "?",
]
KINDS = ["fail", "lose_answer", "drop", "delay"]

trouble = st.tuples(st.sampled_from(OPERATIONS), st.sampled_from(KINDS), st.sampled_from(CODES), st.integers(1, 12))


def prepare(faults: Faults, troubles: Sequence[tuple[str, str, str, int]]) -> None:
    for operation, kind, code, times in troubles:
        if kind == "fail" or operation == "boot":
            faults.fail(operation, code, times=times)
        elif kind == "lose_answer":
            faults.lose_answer(operation, times)
        elif kind == "drop":
            faults.drop(operation, times)
        else:
            faults.delay(operation, timedelta(minutes=3), times)


def running(cloud: FakeCloud) -> set[str]:
    return {node_id for provider in cloud.providers.values() for node_id in provider.running_ids()}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    troubles=st.lists(trouble, max_size=6),
    lag=st.sampled_from([0, 3, 45]),
    spot=st.sampled_from([False, True, "prefer"]),
    is_split=st.booleans(),
)
def test_a_request_gets_a_complete_gang_or_leaves_nothing(
    troubles: list[tuple[str, str, str, int]], lag: int, spot: bool | Literal["prefer"], is_split: bool
) -> None:
    with fake_cloud() as cloud:
        for provider in cloud.providers.values():
            provider.lag = timedelta(seconds=lag)
            prepare(provider.faults, troubles)
        regions = ["us-east-*"] if is_split else []
        try:
            cluster = Cluster.request(gpus=32, type="h100", spot=spot, regions=regions, name="tried", timeout="4h")
        except errors.MulticomputeError:
            tried = Cluster.get("tried")
        else:
            assert cluster.state is ClusterState.READY
            assert {node.id for node in cluster.nodes} == running(cloud)
            assert all(node.state is NodeState.RUNNING for node in cluster.nodes)
            tried = cluster
        for provider in cloud.providers.values():
            provider.faults.clear()
        if tried.state.is_live:
            tried.terminate()
        assert cloud.alive() == []


class Interruption:
    """Raises KeyboardInterrupt at the n-th call of any cloud."""

    def __init__(self, at: int, error: type[BaseException]) -> None:
        self.left = at
        self.error = error
        self.operation = ""

    def __call__(self, call: Call) -> None:
        self.left -= 1
        if self.left == 0:
            self.operation = call.operation
            raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
@pytest.mark.parametrize("at", range(1, 9))
def test_an_interruption_at_any_call_leaves_nothing(at: int, error: type[BaseException]) -> None:
    with fake_cloud() as cloud:
        interruption = Interruption(at, error)
        for provider in cloud.providers.values():
            provider.faults.fail("launch", "capacity", times=2)
            provider.faults.hook("*", interruption)
        with suppress(error), Cluster.request(gpus=32, type="h100", name="tried"):
            # A fault of an SDK that reads quotas, which are advice, ends no launch.
            assert error is RuntimeError and interruption.operation == "quotas"
        if Cluster.get("tried").state.is_live:
            Cluster.get("tried").terminate()
        assert cloud.alive() == []
