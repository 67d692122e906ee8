"""A cloud that says how long to wait is asked again then, and not before."""

from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.resilience.faults.campaign import clean_up
from tests.resilience.faults.harnesses import WORLDS
from tests.resilience.faults.operations import assert_whole, have_one, refresh
from tests.resilience.faults.troubles import RETRY_AFTER

LISTINGS = {
    "aws": "DescribeInstances",
    "gcp": "instances.aggregatedList",
    "tpu": "tpu.nodes.list",
    "azure": "virtualMachineScaleSets.list",
}


@pytest.mark.parametrize("world", WORLDS)
def test_a_call_that_is_told_to_wait_is_made_again_when_the_wait_is_over(campaigns: Any, world: str) -> None:
    with campaigns[world].world.scene() as scene:
        have_one(scene)
        made: list[datetime] = []
        scene.cloud.faults.clear()
        scene.cloud.faults.hook(LISTINGS[world], lambda call: made.append(scene.clock.now()))
        scene.cloud.faults.fail(LISTINGS[world], "", status=429, retry_after=RETRY_AFTER, times=2)
        refresh(scene)
        assert_whole(scene)
        waits = [later - earlier for earlier, later in pairwise(made)]
        assert len(waits) == 2
        assert all(RETRY_AFTER <= wait < 1.5 * RETRY_AFTER for wait in waits), waits
        clean_up(scene)
