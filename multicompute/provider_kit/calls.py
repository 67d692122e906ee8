"""Calls to a cloud's API: page by page, in batches, and several at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def all_pages(fetch: Callable[[str], tuple[Iterable[Item], str]]) -> Iterator[Item]:
    """Yield the items of a listing, to the last page.

    Args:
        fetch: Gets the token of a page, "" for the first, and returns its items and the token of the next page, "" after the last.
    """
    token = ""
    while True:
        items, token = fetch(token)
        yield from items
        if not token:
            return


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield `items` in order, at most `size` at a time, as many as one call of the API takes."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def in_parallel(call: Callable[[Item], Answer], items: Iterable[Item], *, at_once: int) -> list[Answer]:
    """Call `call` for each item, at most `at_once` at a time, and return the answers in the order of the items.

    Every call is made, even if one fails: a deletion that is refused must not keep the others from being made. The first failure, in the
    order of the items, is raised after the last call has returned. A single call is made in the calling thread.
    """
    work = list(items)
    if len(work) <= 1:
        return [call(item) for item in work]
    # Imported here, because many processes make one call only.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(at_once, len(work)), thread_name_prefix="multicompute-provider") as pool:
        tasks = [_submit(pool, call, item) for item in work]
    return [task.result() for task in tasks]


def _submit(pool: "Executor", call: Callable[[Item], Answer], item: Item) -> "Future[Answer]":
    from concurrent.futures import Future

    try:
        return pool.submit(call, item)
    except RuntimeError:
        # No thread can be started while the interpreter exits: a teardown at exit makes its calls one after another.
        done: Future[Answer] = Future()
        try:
            done.set_result(call(item))
        except BaseException as error:  # noqa: BLE001 - raised by `result`, as a pool does it
            done.set_exception(error)
        return done
