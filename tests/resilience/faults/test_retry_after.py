"""A cloud that says how long to wait is called again then, and not before."""

from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.resilience.faults.campaign import clean_up
from tests.resilience.faults.harnesses import HARNESSES
from tests.resilience.faults.operations import assert_complete, bring_up, refresh
from tests.resilience.faults.troubles import RETRY_AFTER

LISTINGS = {
    "aws": "DescribeInstances",
    "gcp": "instances.aggregatedList",
    "tpu": "tpu.nodes.list",
    "azure": "virtualMachineScaleSets.list",
}


@pytest.mark.parametrize("cloud", HARNESSES)
def test_a_call_that_is_told_to_wait_is_repeated_when_the_wait_is_over(campaigns: Any, cloud: str) -> None:
    with campaigns[cloud].harness.scene() as scene:
        bring_up(scene)
        made: list[datetime] = []
        scene.cloud.faults.clear()
        scene.cloud.faults.hook(LISTINGS[cloud], lambda call: made.append(scene.clock.now()))
        scene.cloud.faults.fail(LISTINGS[cloud], "", status=429, retry_after=RETRY_AFTER, times=2)
        refresh(scene)
        assert_complete(scene)
        waits = [later - earlier for earlier, later in pairwise(made)]
        assert len(waits) == 2
        assert all(RETRY_AFTER <= wait < 1.5 * RETRY_AFTER for wait in waits), waits
        clean_up(scene)
