"""The longest lifetime of the nodes of candidates, compared with the ttl of a spec."""

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from multicompute.offer import InstanceType, Part, Purchase
from multicompute.plan_text import lifetime_text
from multicompute.provider import longest_life
from multicompute.resolver._context import ResolveContext
from multicompute.units import format_duration

if TYPE_CHECKING:
    from multicompute.spec import ClusterSpec


class Lifetimes:
    """The limits of the clouds, and the ttl of a spec; a ttl of None is longer than any limit."""

    def __init__(self, spec: "ClusterSpec", context: ResolveContext) -> None:
        self.ttl = spec.ttl_with(context.default_ttl)
        self.is_strict = spec.strict_ttl
        self._limits = context.lifetime_limits
        self._now = context.now

    def of(self, instance: InstanceType, purchase: Purchase) -> timedelta | None:
        """Return how long nodes of this type live at most; None for no limit."""
        limits = self._limits.get(instance.provider, ())
        return longest_life(limits, instance, purchase, has_expiry=self.ttl is not None) if limits else None

    def of_part(self, part: Part) -> timedelta | None:
        """Return how long the nodes of a part live at most; None for no limit."""
        limits = [self.of(part.offer.instance, part.offer.purchase)]
        if part.ends_at is not None:
            limits.append(timedelta(seconds=int((part.ends_at - self._now).total_seconds())))
        return min((limit for limit in limits if limit is not None), default=None)

    def of_gang(self, parts: Iterable[Part]) -> timedelta | None:
        """Return how long a complete gang lives at most; None for no limit."""
        return min((limit for part in parts if (limit := self.of_part(part)) is not None), default=None)

    def end_early(self, longest: timedelta | None) -> bool:
        """Return whether nodes that live `longest` at most end before the ttl."""
        return longest is not None and (self.ttl is None or longest < self.ttl)

    @property
    def ttl_text(self) -> str:
        """The ttl in words."""
        return "no ttl" if self.ttl is None else f"a ttl of {format_duration(self.ttl)}"

    def reason(self, parts: Iterable[Part]) -> str:
        """Return in words why a gang can't live longer."""
        limited = [(limit, part) for part in parts if (limit := self.of_part(part)) is not None]
        limit, part = min(limited, key=lambda item: item[0])
        return lifetime_text(part, limit)
