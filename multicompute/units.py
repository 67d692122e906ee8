"""Durations, sizes, instants and money: parsing what users write ("12h", "80GiB") and formatting it."""

import math
import re
from datetime import UTC, datetime, timedelta

from multicompute.errors import SpecError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)", re.IGNORECASE)
_LONGEST = timedelta(days=730_000)
"""Two thousand years. Instants that are farther away can't be computed."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZE = r"(\d+(?:\.\d+)?)\s*(g|gb|gib|t|tb|tib|m|mb|mib)?"
_GIB = {"m": 1 / 1024, "mib": 1 / 1024, "mb": 1e6 / 2**30, "g": 1.0, "gib": 1.0, "gb": 1e9 / 2**30}
_GIB |= {"t": 1024.0, "tib": 1024.0, "tb": 1e12 / 2**30}


def parse_duration(value: str | timedelta, *, what: str) -> timedelta:
    """Parse a duration such as "90m", "12h", "1h30m" or "7d".

    Args:
        value: The text, or a timedelta that is returned as it is.
        what: The name of the argument, for the message.

    Raises:
        SpecError: `value` is not a duration, not positive, or longer than 2,000 years.
    """
    if isinstance(value, timedelta):
        duration = value
    elif isinstance(value, str) and value.lstrip().startswith("-"):
        raise SpecError(f"{what}={value!r}: must be longer than zero")
    elif isinstance(value, str) and value.strip() and not _DURATION.sub("", value).strip():
        seconds = sum(float(number) * _SECONDS[unit.lower()] for number, unit in _DURATION.findall(value))
        duration = timedelta(seconds=min(seconds, 1e12))
    else:
        raise SpecError(f'{what}={value!r}: not a duration; write "90m", "12h" or "7d"')
    if duration <= timedelta(0):
        raise SpecError(f"{what}={value!r}: must be longer than zero")
    if duration > _LONGEST:
        raise SpecError(f"{what}={value!r}: longer than 2,000 years")
    return duration


def parse_gib(value: str | float, *, what: str) -> float:
    """Parse a size such as "80GiB" or "1TiB" into GiB.

    Args:
        value: The text, or a number of GiB.
        what: The name of the argument, for the message.

    Raises:
        SpecError: `value` is not a size, or not positive and finite.
    """
    if isinstance(value, str):
        match = re.fullmatch(_SIZE, value.strip(), re.IGNORECASE)
        if match is None:
            raise SpecError(f'{what}={value!r}: not a size; write "80GiB", "1TiB" or a number of GiB')
        size = float(match[1]) * _GIB[(match[2] or "gib").lower()]
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SpecError(f'{what}={value!r}: not a size; write "80GiB", "1TiB" or a number of GiB')
    else:
        size = float(value)
    if not math.isfinite(size) or size <= 0:
        raise SpecError(f"{what}={value!r}: must be a positive size")
    return size


def format_duration(duration: timedelta) -> str:
    """Return the shortest exact way to write `duration`: "90m", "12h", "7d"."""
    seconds, rest = divmod(duration, timedelta(seconds=1))
    if rest:
        return f"{seconds}.{rest.microseconds:06}".rstrip("0") + "s"
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"


def format_instant(instant: datetime) -> str:
    """Format an instant as RFC 3339 in UTC, to the second: "2026-11-24T15:27:31Z"."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_instant(text: str) -> datetime:
    """Parse an instant in ISO 8601; without a time zone it is in UTC."""
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def format_usd(amount: float) -> str:
    """Format an amount in USD with thousands separators: "$1,440.32"."""
    return f"${amount:,.2f}"


def counted(count: int, noun: str) -> str:
    """Return a number of things in words: "1 node", "1,024 nodes"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
