"""Repeats a call of a cloud where that can help: the same call, with the same token."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from multicompute.clock import Clock
from multicompute.engine.operation.cancellation import Cancellation
from multicompute.errors import MulticomputeError, ThrottledError, TransientError

if TYPE_CHECKING:
    from tenacity import Retrying

_TRIES: Final = {ThrottledError: 8, TransientError: 5}
_LONGEST: Final = 30.0

T = TypeVar("T")


def call_with_retry(
    call: Callable[[], T],
    *,
    clock: Clock,
    stop: Cancellation,
    base: timedelta,
    on_retry: Callable[[MulticomputeError, float], None],
) -> T:
    """Return what `call` returns; wait and repeat it while the cloud throttles it or can't be reached.

    Args:
        base: the first wait is between nothing and twice this; each next one is twice as long, at most 30 s, and never
            shorter than the cloud asked for.
        on_retry: told of each error and the wait in seconds before the wait begins.

    Raises:
        ThrottledError, TransientError: it did not help, eight or five times. What became of the call is not known.
    """
    failed: list[MulticomputeError] = []

    def again() -> T:
        # The first try was made already: its outcome is the first that the schedule sees.
        if failed:
            raise failed.pop()
        return call()

    try:
        return call()
    except (ThrottledError, TransientError) as error:
        failed.append(error)
    return _schedule(clock, stop, base, on_retry)(again)


def _schedule(
    clock: Clock, stop: Cancellation, base: timedelta, on_retry: Callable[[MulticomputeError, float], None]
) -> "Retrying":
    # Here, not above: tenacity imports asyncio, 22 ms that a request without trouble need not pay.
    from tenacity import RetryCallState, Retrying, wait_exponential, wait_random

    first = min(base.total_seconds(), 1.0)
    backoff = wait_exponential(multiplier=first, max=_LONGEST) + wait_random(0, first)

    def error_of(state: RetryCallState) -> BaseException | None:
        return state.outcome.exception() if state.outcome else None

    def wait(state: RetryCallState) -> float:
        error = error_of(state)
        return max(backoff(state), getattr(error, "retry_after", None) or 0.0)

    def is_over(state: RetryCallState) -> bool:
        error = error_of(state)
        return state.attempt_number >= next((n for kind, n in _TRIES.items() if isinstance(error, kind)), 1)

    def tell(state: RetryCallState) -> None:
        error = error_of(state)
        if isinstance(error, MulticomputeError) and state.next_action is not None:
            on_retry(error, state.next_action.sleep)

    return Retrying(
        stop=is_over,
        wait=wait,
        retry=lambda state: isinstance(error_of(state), (ThrottledError, TransientError)),
        before_sleep=tell,
        sleep=lambda seconds: stop.sleep(clock, timedelta(seconds=seconds)),
        reraise=True,
    )
