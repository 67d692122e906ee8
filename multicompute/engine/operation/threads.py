"""Runs the synchronous engine for an event loop: in a thread of its own, with a cancelled task seen through to the end."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from multicompute.engine.operation.cancellation import Cancellation

T = TypeVar("T")


async def in_thread(
    work: Callable[[], T], *, stop: Cancellation | None = None, undo: Callable[[T], object] | None = None
) -> T:
    """Return what `work` returns, without blocking the loop.

    When the task is cancelled the work is asked to stop at its next safe point and waited for, so that its teardown is
    through when the cancellation goes on. Work that was through already is undone; work that knows no `stop` is only
    waited for.
    """
    # Not asyncio.to_thread: its pool has a handful of threads, and each of these may wait for half an hour. Where hundreds of
    # clusters are waited for in one loop, the last would find their time over before their turn came.
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="multicompute")
    task = asyncio.get_running_loop().run_in_executor(pool, copy_context().run, work)
    pool.shutdown(wait=False)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if stop is not None:
            stop.request(Cancelled())
        await asyncio.wait([task])
        if task.exception() is None and undo is not None:
            result = task.result()
            await asyncio.wait([asyncio.ensure_future(asyncio.to_thread(lambda: undo(result)))])
        raise


class Cancelled(Exception):
    """The task that asked for this work was cancelled."""

    def __str__(self) -> str:
        return "the task was cancelled"
