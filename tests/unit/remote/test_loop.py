"""The event loop in a thread of its own."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from multicompute.remote.loop import LoopThread


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    thread = LoopThread()
    thread.start()
    yield thread
    thread.stop()
    assert "multicompute-ssh" not in {found.name for found in threading.enumerate()}


async def value(result: int) -> int:
    await asyncio.sleep(0.01)
    return result


def test_it_returns_what_the_coroutine_returns(loop: LoopThread) -> None:
    assert loop.call(value(3), check_cancelled=lambda: None) == 3


def test_it_raises_what_the_coroutine_raises(loop: LoopThread) -> None:
    async def fail() -> None:
        raise TimeoutError("inside")

    with pytest.raises(TimeoutError, match="inside"):
        loop.call(fail(), check_cancelled=lambda: None)


def test_it_works_where_an_event_loop_runs_already(loop: LoopThread) -> None:
    async def inside() -> int:
        return loop.call(value(4), check_cancelled=lambda: None)

    assert asyncio.run(inside()) == 4


def test_an_interrupted_wait_cancels_the_coroutine_and_lets_it_clean_up(loop: LoopThread) -> None:
    cleaned = threading.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            cleaned.set()

    count = iter(range(100))

    def check() -> None:
        if next(count) > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.call(work(), check_cancelled=check)
    assert cleaned.is_set()


def test_the_end_cancels_what_still_runs() -> None:
    thread, cancelled = LoopThread(), threading.Event()
    thread.start()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    call = thread.submit(work())
    assert not call.wait(0.05)
    thread.stop()
    assert cancelled.is_set()
