"""Listings are read to the last page, and calls are made in batches and in parallel."""

import threading
from collections.abc import Sequence

import pytest

from multicompute.provider_kit.calls import all_pages, batches, in_parallel


def test_a_listing_is_read_to_its_last_page_and_an_empty_page_is_not_the_last() -> None:
    pages = {"": ([1, 2], "second"), "second": ([], "third"), "third": ([3], "")}
    asked: list[str] = []

    def fetch(token: str) -> tuple[list[int], str]:
        asked.append(token)
        return pages[token]

    assert list(all_pages(fetch)) == [1, 2, 3]
    assert asked == ["", "second", "third"]


def test_pages_are_fetched_when_they_are_needed() -> None:
    found = all_pages(lambda token: ([token], f"{token}x"))
    assert [next(found) for _ in range(3)] == ["", "x", "xx"]


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (100, [100]), (101, [100, 1]), (250, [100, 100, 50])])
def test_batches_are_as_large_as_a_call_takes_and_keep_the_order(count: int, sizes: Sequence[int]) -> None:
    found = list(batches(range(count), 100))
    assert [len(batch) for batch in found] == sizes
    assert [item for batch in found for item in batch] == list(range(count))


def test_answers_come_in_the_order_of_the_items_however_long_each_takes() -> None:
    second_is_done = threading.Event()

    def call(item: int) -> int:
        if item == 1:
            assert second_is_done.wait(10)
        else:
            second_is_done.set()
        return item * 10

    assert in_parallel(call, [1, 2], at_once=2) == [10, 20]


def test_no_more_calls_are_made_at_once_than_allowed() -> None:
    lock, running, most = threading.Lock(), 0, 0
    together = threading.Barrier(3)

    def call(item: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(10)
        with lock:
            running -= 1

    in_parallel(call, range(9), at_once=3)
    assert most == 3


def test_every_call_is_made_although_one_fails_and_the_first_failure_is_raised() -> None:
    made: list[int] = []

    def call(item: int) -> None:
        made.append(item)
        if item in (2, 4):
            raise ValueError(item)

    with pytest.raises(ValueError, match="2"):
        in_parallel(call, range(6), at_once=2)
    assert sorted(made) == list(range(6))


def test_a_single_call_needs_no_thread() -> None:
    assert in_parallel(lambda _: threading.current_thread(), ["one"], at_once=8) == [threading.current_thread()]
    assert in_parallel(str, [], at_once=8) == []
