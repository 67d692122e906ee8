"""Runs the synchronous engine for an event loop, in one thread per operation."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from multicompute.engine.operation.cancellation import Cancellation, StopGuard

T = TypeVar("T")


async def in_thread(
    work: Callable[[], T], *, cancellation: Cancellation | None = None, undo: Callable[[T], object] | None = None
) -> T:
    """Return the result of `work`, without blocking the event loop.

    When the task is cancelled, the work is asked to stop at its next safe point and is awaited, so that its teardown is
    complete before the cancellation propagates. SIGTERM and SIGHUP end the event loop, and `asyncio.run` cancels its tasks then.

    Args:
        work: The function to run.
        cancellation: How to ask the work to stop; without it, a cancelled task only waits for the work.
        undo: Called with the result of work that had finished when the task was cancelled.
    """
    # Not asyncio.to_thread: its pool has few threads, and each of these may wait for half an hour. With hundreds of
    # clusters in one event loop, the last ones would time out before their turn.
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="multicompute")
    task = asyncio.get_running_loop().run_in_executor(pool, copy_context().run, work)
    pool.shutdown(wait=False)
    guard = StopGuard()
    guard.install()
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if cancellation is not None:
            cancellation.request(TaskCancelled())
        await asyncio.wait([task])
        if task.exception() is None and undo is not None:
            result = task.result()
            await asyncio.wait([asyncio.ensure_future(asyncio.to_thread(lambda: undo(result)))])
        raise
    finally:
        guard.uninstall()


class TaskCancelled(Exception):
    """The asyncio task that runs this operation was cancelled."""

    def __str__(self) -> str:
        """Return the reason that logs and messages show."""
        return "the task was cancelled"
