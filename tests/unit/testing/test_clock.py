"""Virtual time passes by a sleep or on request, and never by itself."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute.errors import SpecError
from multicompute.testing import FakeClock


def test_time_does_not_pass_by_itself() -> None:
    clock = FakeClock()
    assert clock.now() == clock.now()
    assert clock.now().tzinfo is UTC


@given(st.lists(st.timedeltas(timedelta(0), timedelta(days=30)), max_size=20))
def test_a_sleep_advances_the_time_by_its_duration(naps: list[timedelta]) -> None:
    clock = FakeClock()
    before = clock.now()
    for nap in naps:
        clock.sleep(nap)
    assert clock.now() - before == sum(naps, timedelta(0))


def test_a_negative_sleep_does_not_move_time_back() -> None:
    clock = FakeClock()
    before = clock.now()
    clock.sleep(timedelta(seconds=-5))
    assert clock.now() == before


def test_time_is_advanced_by_duration_texts_from_a_start_in_utc() -> None:
    clock = FakeClock(datetime.fromisoformat("2026-11-24"))
    assert clock.advance("1h30m") == datetime(2026, 11, 24, 1, 30, tzinfo=UTC)


def test_time_is_not_advanced_by_an_invalid_duration() -> None:
    clock = FakeClock()
    with pytest.raises(SpecError, match="by='soon'"):
        clock.advance("soon")


def test_the_sleeps_of_many_threads_add_up() -> None:
    clock = FakeClock()
    before = clock.now()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: clock.sleep(timedelta(seconds=1)), range(1000)))
    assert clock.now() - before == timedelta(seconds=1000)
