"""Checkpoint intervals and lost time."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multicompute.errors import SpecError
from multicompute.sizing import Training
from multicompute.sizing.interruptions import (
    PREEMPTIONS_PER_DAY,
    checkpoint_hours,
    daly_interval,
    hours_between,
    lost_share,
    young_interval,
)

JOB = Training(params=70e9, tokens=2e12)


def test_one_preemption_in_five_days_stops_64_nodes_every_two_hours() -> None:
    between = hours_between(JOB, nodes=64, accelerators=512, preemptions=PREEMPTIONS_PER_DAY, failures=False)
    assert between == pytest.approx(1.875)
    # A checkpoint of two minutes and a restart of ten: 9 + 9 + 9 %.
    assert young_interval(2 / 60, between) * 60 == pytest.approx(21, abs=0.5)
    assert lost_share(2 / 60, between, 10 / 60) == pytest.approx(0.28, abs=0.01)
    eight = hours_between(JOB, nodes=8, accelerators=64, preemptions=PREEMPTIONS_PER_DAY, failures=False)
    assert lost_share(2 / 60, eight, 10 / 60) == pytest.approx(0.08, abs=0.005)


def test_16384_gpus_fail_every_three_hours() -> None:
    # 419 unexpected interruptions in 54 days (arXiv 2407.21783, section 3.3.4).
    between = hours_between(JOB, nodes=2048, accelerators=16384, preemptions=0)
    assert between == pytest.approx(54 * 24 / 419, rel=0.02)


@settings(max_examples=60, deadline=None)
@given(checkpoint=st.floats(0.001, 1), between=st.floats(2.5, 10_000))
def test_the_interval_loses_less_than_a_shorter_or_longer_one(checkpoint: float, between: float) -> None:
    def loss(interval: float) -> float:
        # The exact model of Daly 2006, equation 20, without restarts.
        return between * (math.exp((interval + checkpoint) / between) - 1) / interval

    best = daly_interval(checkpoint, between)
    assert loss(best) <= loss(best * 0.8) * 1.001
    assert loss(best) <= loss(best * 1.25) * 1.001


def test_a_checkpoint_longer_than_two_interruptions_is_taken_once_between_them() -> None:
    assert daly_interval(5.0, 2.0) == 2.0


def test_nothing_is_lost_without_interruptions_and_never_more_than_all() -> None:
    assert lost_share(1.0, math.inf, 1.0) == 0.0
    assert lost_share(1.0, 0.5, 1.0) == 1.0
    none = Training(params=70e9, tokens=2e12, failures_per_accelerator_hour=0)
    assert hours_between(none, nodes=8, accelerators=64, preemptions=0) == math.inf


def test_checkpoints_are_written_by_all_nodes() -> None:
    # 70B parameters of 14 bytes, 1 GB/s on each of 8 nodes: about two minutes.
    assert checkpoint_hours(JOB, 14 * 70e9, 8) * 60 == pytest.approx(2.04, abs=0.01)
    assert checkpoint_hours(JOB, 1e6, 8) * 3600 == pytest.approx(10)


@pytest.mark.parametrize(
    "arguments", [{"preemptions_per_day": -1}, {"restart_minutes": math.nan}, {"storage_gb_per_second": 0}]
)
def test_rates_that_can_not_be_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(SpecError, match=f"{next(iter(arguments))}="):
        Training.model_validate({"params": 70e9, "tokens": 2e12, **arguments})
