"""Finds time zones by name, and the instants at which their days begin."""

from datetime import UTC, date, datetime, time, tzinfo
from functools import lru_cache

from multicompute.errors import SpecError


def find_timezone(name: str | None) -> tuple[tzinfo, str]:
    """Return a time zone and its name, UTC for None. Case does not matter.

    Raises:
        SpecError: No time zone has this name; names the nearest one.
    """
    if name is None or name.upper() == "UTC":
        # Not from the data of the system, which a small container or Windows may lack.
        return UTC, "UTC"
    # Imported here: reports in UTC need no time zone data.
    from zoneinfo import ZoneInfo, available_timezones

    known = {each.casefold(): each for each in available_timezones()}
    if found := known.get(name.casefold()):
        return ZoneInfo(found), found
    if not known:
        raise SpecError(
            f"{name}: this machine has no time zone data", hint="install it: `pip install tzdata`, or use UTC"
        )
    from difflib import get_close_matches

    # A city alone is enough to find its zone.
    cities = {each.rpartition("/")[2]: each for each in sorted(known)}
    near = get_close_matches(name.casefold(), known, n=1) or get_close_matches(name.casefold(), cities, n=1)
    hint = (
        f"did you mean {known[cities.get(near[0], near[0])]}?"
        if near
        else 'write a name such as "Europe/Berlin", or UTC'
    )
    raise SpecError(f"{name}: no such time zone; {hint}", hint=hint)


@lru_cache(maxsize=4096)
def midnight(day: date, zone: tzinfo) -> datetime:
    """Return the instant at which a day begins in a time zone, in UTC: days are 23 or 25 hours long when clocks change."""
    return datetime.combine(day, time(), zone).astimezone(UTC)
