"""Logs every call of a cloud at debug level: its number in this process, operation, place, duration, and the ids of its requests.

Only these are logged. Arguments, headers, bodies and URLs may hold credentials or tokens.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Final

from multicompute.clock import monotonic

_calls: Final = count(1)
_ids: Final[ContextVar[list[str] | None]] = ContextVar("multicompute_request_ids", default=None)


def note_request(request_id: object) -> None:
    """Add the id of a request to the record of the call that is being made; for the hooks of an SDK."""
    ids = _ids.get()
    if ids is not None and request_id and str(request_id) not in ids:
        ids.append(str(request_id))


@contextmanager
def logged_call(log: logging.Logger, operation: str, provider: str, place: str) -> Iterator[None]:
    """Log a call when it ends; `extra` has the same facts as the message.

    Args:
        log: The adapter's logger, "multicompute.NAME".
        operation: The vendor's name of the operation.
        provider: The provider's name.
        place: Where the call is made, in words.
    """
    if not log.isEnabledFor(logging.DEBUG):
        yield
        return
    ids: list[str] = []
    # Not `reset`: a generator may end in another context than it began in.
    outer = _ids.get()
    _ids.set(ids)
    began, outcome = monotonic(), "ok"
    try:
        yield
    except BaseException as error:
        outcome = str(getattr(error, "code", None) or type(error).__name__)
        raise
    finally:
        _ids.set(outer)
        seconds = monotonic() - began
        number = next(_calls)
        facts = {"provider": provider, "place": place, "operation": operation, "outcome": outcome}
        log.debug(
            "call %d: %s: %s: %s in %.3f s%s",
            number,
            place,
            operation,
            outcome,
            seconds,
            f", request {' '.join(ids)}" if ids else "",
            extra={**facts, "call": number, "seconds": seconds, "request_ids": tuple(ids)},
        )
