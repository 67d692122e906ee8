"""Refuses unknown arguments and keys, and names the nearest known one."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ParamSpec, TypeVar, cast

from multicompute.errors import SpecError

P = ParamSpec("P")
R = TypeVar("R")


def unknown_name(name: str, known: Iterable[str], *, what: str = "argument") -> str:
    """Return the message for an unknown argument or key, with the nearest known one."""
    known = tuple(known)
    remedy = did_you_mean(name, known) or f"known are {', '.join(known)}"
    return f"{name}: unknown {what}; {remedy}"


def did_you_mean(name: str, known: Iterable[str], *, count: int = 1, cutoff: float = 0.6) -> str:
    """Return a question with the known names that resemble `name` most; "" if none does."""
    # Imported here: it takes a millisecond, and only messages need it.
    from difflib import get_close_matches

    nearest = get_close_matches(name, tuple(known), n=count, cutoff=cutoff)
    return f"did you mean {' or '.join(nearest)}?" if nearest else ""


def refuse_unknown(function: Callable[P, R]) -> Callable[P, R]:
    """Make `function` raise SpecError, with the nearest name, for an unknown argument, instead of TypeError."""
    known = [name for name in function.__annotations__ if name != "return"]

    def check(arguments: Iterable[str]) -> None:
        for name in arguments:
            if name not in known:
                raise SpecError(unknown_name(name, known), argument=name)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        check(kwargs)
        return function(*args, **kwargs)

    @functools.wraps(function)
    async def checked_async(*args: P.args, **kwargs: P.kwargs) -> Any:
        check(kwargs)
        return await cast("Callable[P, Awaitable[Any]]", function)(*args, **kwargs)

    return cast("Callable[P, R]", checked_async) if inspect.iscoroutinefunction(function) else checked
