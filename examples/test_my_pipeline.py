"""Tests of a script that calls `Cluster.request`, with the fixture `fake_cloud`: they take milliseconds and need no cloud.

Prices and plans are real; only the machines are simulated.
"""

import pytest

from multicompute import Cluster, errors
from multicompute.testing import FakeCloud
from my_pipeline import train


def test_training_runs_on_the_complete_gang_and_leaves_nothing_running(fake_cloud: FakeCloud) -> None:
    assert "--nnodes 8 " in train(gpus=64)
    assert fake_cloud.alive() == []


def test_training_fails_over_when_the_cheapest_candidate_has_no_capacity(fake_cloud: FakeCloud) -> None:
    first, second = Cluster.plan(gpus=64, type="h100").candidates[:2]
    fake_cloud.set_capacity(first.instance_type, first.zone, 0)
    assert f"{second.provider} {second.zone}" in train(gpus=64)
    assert fake_cloud.alive() == []


def test_training_survives_a_lost_response_and_does_not_pay_twice(fake_cloud: FakeCloud) -> None:
    cloud = fake_cloud[Cluster.plan(gpus=64, type="h100").candidates[0].provider]
    running: list[int] = []
    cloud.faults.lose_answer("launch")
    cloud.faults.hook("terminate", lambda call: running.append(len(cloud.running_ids())))
    train(gpus=64)
    assert running[0] == 8
    assert fake_cloud.alive() == []


def test_training_fails_with_a_capacity_error_when_no_cloud_has_capacity(fake_cloud: FakeCloud) -> None:
    fake_cloud.set_capacity("*", "*", 0)
    with pytest.raises(errors.CapacityError):
        train(gpus=64)
    assert fake_cloud.alive() == []
