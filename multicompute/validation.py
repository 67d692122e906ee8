"""Refuses arguments and values: names the nearest known argument, and puts the errors of pydantic's models into one line."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from multicompute.errors import SpecError

if TYPE_CHECKING:
    from pydantic import ValidationError

P = ParamSpec("P")
R = TypeVar("R")

_MESSAGES: Final = {
    "bool_type": "must be True or False",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:,}",
    "less_than_equal": "must be at most {le:,}",
    "literal_error": "must be {expected}",
    "string_type": "must be text",
    "missing": "is required",
}
"""pydantic's error type -> what to report, with the values of pydantic's own context."""


def unknown_name(name: str, known: Iterable[str], *, what: str = "argument") -> str:
    """Return the message for an unknown argument or key, with the nearest known one."""
    # Imported here: it takes a millisecond, and only this message needs it.
    from difflib import get_close_matches

    known = tuple(known)
    nearest = get_close_matches(name, known, n=1)
    remedy = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}"
    return f"{name}: unknown {what}; {remedy}"


def cause_of(error: "ValidationError") -> ValueError | None:
    """Return the error that one of this package's own parsers raised, None where pydantic itself refused the value."""
    cause = error.errors(include_url=False)[0].get("ctx", {}).get("error")
    return cause if isinstance(cause, ValueError) else None


def first_message(error: "ValidationError") -> str:
    """Return the first of pydantic's errors as `name=value: must be ...`; alternatives for one field are joined by "or"."""
    found = error.errors(include_url=False)
    name = str(found[0]["loc"][0]) if found[0]["loc"] else ""
    reasons = [_reason(item) for item in found if item["loc"][:1] == found[0]["loc"][:1]]
    message = " or ".join(dict.fromkeys(reasons)).replace(" or must be ", " or ")
    return f"{name}={found[0]['input']!r}: {message}" if name else message


def _reason(item: Any) -> str:
    template = _MESSAGES.get(item["type"])
    if template is None:
        return str(item["msg"]).replace("Input should be", "must be")
    return template.format(**item.get("ctx", {}))


def refuse_unknown(function: Callable[P, R]) -> Callable[P, R]:
    """Make `function` raise SpecError, with the nearest name, for an unknown argument, instead of TypeError."""
    known = [name for name in inspect.signature(function).parameters if name != "cls"]

    def check(arguments: Iterable[str]) -> None:
        for name in arguments:
            if name not in known:
                raise SpecError(unknown_name(name, known))

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        check(kwargs)
        return function(*args, **kwargs)

    @functools.wraps(function)
    async def checked_async(*args: P.args, **kwargs: P.kwargs) -> Any:
        check(kwargs)
        return await function(*args, **kwargs)  # type: ignore[misc]

    return checked_async if inspect.iscoroutinefunction(function) else checked  # type: ignore[return-value]
