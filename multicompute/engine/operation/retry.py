"""Repeats a cloud call that was throttled or failed for a transient reason, with the same arguments and token."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from multicompute.clock import Clock
from multicompute.engine.operation.cancellation import Cancellation
from multicompute.errors import MulticomputeError, ThrottledError, TransientError
from multicompute.provider import Provider
from multicompute.session import Session

if TYPE_CHECKING:
    from tenacity import Retrying

_TRIES: Final = {ThrottledError: 8, TransientError: 5}
_LONGEST_BACKOFF: Final = 30.0
PRICE_WAIT: Final = timedelta(seconds=5)
"""The longest time that a launch waits for prices, in all. Without an answer it goes on at the price of the tables."""

T = TypeVar("T")
RetryCallback = Callable[[MulticomputeError, float], None]


def call_with_retry(
    call: Callable[[], T],
    *,
    provider: Provider,
    clock: Clock,
    cancellation: Cancellation | None = None,
    on_retry: RetryCallback | None = None,
    longest: timedelta | None = None,
) -> T:
    """Return the result of `call`, repeating it while the cloud throttles it or can't be reached.

    The first backoff lasts one to two poll intervals of the provider, and at most two seconds. Each following one is twice
    as long, up to about 30 seconds, and never shorter than the cloud asked for.

    Args:
        call: Calls the cloud once.
        provider: The provider that `call` uses.
        clock: The clock to sleep with.
        cancellation: Ends the backoff when it is requested.
        on_retry: Called with each error and the seconds until the next try.
        longest: Give up instead of waiting longer than this in all.

    Raises:
        ThrottledError: The call was throttled eight times, or the next try is too far away.
        TransientError: The call failed five times, or the next try is too far away; its outcome is unknown.
    """
    failed: list[MulticomputeError] = []

    def again() -> T:
        # The first try was made below: the schedule sees its error first.
        if failed:
            raise failed.pop()
        return call()

    try:
        return call()
    except (ThrottledError, TransientError) as error:
        failed.append(error)
    return _schedule(provider, clock, cancellation or Cancellation(), on_retry, longest)(again)


def call_provider(session: Session, name: str, call: Callable[[Provider], T], *, longest: timedelta | None = None) -> T:
    """Return the result of a call to the provider of this name, with retry, outside of an operation on a cluster.

    Raises:
        MulticomputeError: As for `call_with_retry`, or the provider can't be opened.
    """
    provider = session.provider(name)
    return call_with_retry(lambda: call(provider), provider=provider, clock=session.clock, longest=longest)


def _schedule(
    provider: Provider,
    clock: Clock,
    cancellation: Cancellation,
    on_retry: RetryCallback | None,
    longest: timedelta | None,
) -> "Retrying":
    # Not at module level: tenacity imports asyncio, which costs 22 ms that a request without errors need not pay.
    from tenacity import RetryCallState, Retrying, wait_exponential, wait_random

    first = min(provider.poll_interval.total_seconds(), 1.0)
    backoff = wait_exponential(multiplier=first, max=_LONGEST_BACKOFF) + wait_random(0, first)

    def error_of(state: RetryCallState) -> BaseException | None:
        return state.outcome.exception() if state.outcome else None

    def wait(state: RetryCallState) -> float:
        return max(backoff(state), getattr(error_of(state), "retry_after", None) or 0.0)

    def is_last(state: RetryCallState) -> bool:
        error = error_of(state)
        is_late = longest is not None and state.idle_for + wait(state) > longest.total_seconds()
        return is_late or state.attempt_number >= next((n for kind, n in _TRIES.items() if isinstance(error, kind)), 1)

    def before_sleep(state: RetryCallState) -> None:
        error = error_of(state)
        if on_retry is not None and isinstance(error, MulticomputeError) and state.next_action is not None:
            on_retry(error, state.next_action.sleep)

    return Retrying(
        stop=is_last,
        wait=wait,
        retry=lambda state: isinstance(error_of(state), (ThrottledError, TransientError)),
        before_sleep=before_sleep,
        sleep=lambda seconds: cancellation.sleep(clock, timedelta(seconds=seconds)),
        reraise=True,
    )
