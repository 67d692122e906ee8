"""How a user tests a script that calls `Cluster.request`: with the fixture `fake_cloud`, in milliseconds, without a cloud.

The prices and the choice among all regions of all clouds are the real ones; only the machines are not.
"""

import pytest

from multicompute import Cluster, errors
from multicompute.testing import FakeCloud
from my_pipeline import train


def test_training_runs_on_the_whole_gang_and_leaves_nothing_running(fake_cloud: FakeCloud) -> None:
    assert "--nnodes 8 " in train(gpus=64)
    assert fake_cloud.alive() == []


def test_training_goes_to_the_next_place_where_the_cheapest_has_no_capacity(fake_cloud: FakeCloud) -> None:
    first, second = Cluster.plan(gpus=64, type="h100").candidates[:2]
    fake_cloud.set_capacity(first.instance_type, first.zone, 0)
    assert f"{second.provider} {second.zone}" in train(gpus=64)
    assert fake_cloud.alive() == []


def test_training_survives_an_answer_that_was_lost_and_does_not_pay_twice(fake_cloud: FakeCloud) -> None:
    cloud = fake_cloud[Cluster.plan(gpus=64, type="h100").candidates[0].provider]
    running: list[int] = []
    cloud.faults.lose_answer("launch")
    cloud.faults.hook("terminate", lambda call: running.append(len(cloud.running_ids())))
    train(gpus=64)
    assert running[0] == 8
    assert fake_cloud.alive() == []


def test_training_says_so_where_nobody_has_any(fake_cloud: FakeCloud) -> None:
    fake_cloud.set_capacity("*", "*", 0)
    with pytest.raises(errors.CapacityError):
        train(gpus=64)
    assert fake_cloud.alive() == []
