"""Runs the synchronous engine for an event loop: in a thread of its own, with a cancelled task seen through to the end."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from multicompute.engine.interrupt import Stop

T = TypeVar("T")


async def in_thread(work: Callable[[], T], *, stop: Stop | None = None, undo: Callable[[T], object] | None = None) -> T:
    """Return what `work` returns, without blocking the loop.

    When the task is cancelled the work is asked to stop at its next safe point and waited for, so that its teardown is
    through when the cancellation goes on. Work that was through already is undone; work that knows no `stop` is only
    waited for.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if stop is not None:
            stop.wish(Cancelled())
        await asyncio.wait([task])
        if task.exception() is None and undo is not None:
            result = task.result()
            await asyncio.wait([asyncio.ensure_future(asyncio.to_thread(lambda: undo(result)))])
        raise


class Cancelled(Exception):
    """The task that asked for this work was cancelled."""

    def __str__(self) -> str:
        return "the task was cancelled"
