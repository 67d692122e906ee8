"""The additions of an account to the prices that everyone can read."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from multicompute.price_feed import Interruption, PricedType

_NAMED: Final = 3


@dataclass(slots=True)
class Additions:
    """The additions of an account; see `FoundPrices` for the attributes."""

    types: list[PricedType] = field(default_factory=list)
    interruptions: list[Interruption] | None = None
    unreadable: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def about_unknown(sizes: Collection[str]) -> Iterator[str]:
    """Yield a sentence about sizes that have prices but no known shape, if there are any."""
    shown = sorted(sizes)
    if shown:
        more = ", ..." if len(shown) > _NAMED else ""
        yield (
            f"{len(shown)} priced sizes with accelerators are not in the tables, because their shapes are not known: "
            f"{', '.join(shown[:_NAMED])}{more}"
        )
