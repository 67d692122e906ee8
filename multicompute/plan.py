"""What is intended: candidates in the order in which they will be tried, and why everything else lost."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from multicompute.offer import InstanceType, Offer, Part, PriceBasis, Purchase

if TYPE_CHECKING:
    from multicompute.spec import ClusterSpec

_SHOWN_BY_STR: Final = 10


@functools.cache
def exact_accelerators(accelerators: float) -> tuple[int, int]:
    """A number of accelerators as numerator and denominator: tables round a third of one to 0.3333, but three are one."""
    near = ((round(accelerators * denominator), denominator) for denominator in range(1, 33))
    # Not fractions.Fraction: importing it takes as long as making a plan.
    return next(
        (pair for pair in near if abs(pair[0] / pair[1] - accelerators) < 5e-4), (round(accelerators * 1000), 1000)
    )


@dataclass(frozen=True, slots=True)
class Outage:
    """A remembered lack: what is not worth asking for until when.

    Attributes:
        place: a zone, a region, or "" for the whole provider.
        instance_type: the vendor's name, or a glob ("p5.*") where the answer rules out more than one type.
        purchase: the way of buying that failed.
        reason: "capacity", "quota", "not offered", "access".
        until: when it is forgotten, in UTC.
        nodes: gangs of this many nodes or more are ruled out; smaller ones may still fit.
        consecutive_failures: how often in a row it was met; each time it lasts longer.
    """

    provider: str
    place: str
    instance_type: str
    purchase: Purchase
    reason: str
    until: datetime
    nodes: int = 1
    consecutive_failures: int = 1

    def covers(self, offer: Offer, *, nodes: int, now: datetime) -> bool:
        """Whether `nodes` of `offer` are not worth asking for at `now`."""
        return (
            self.provider == offer.provider
            and self.place in ("", offer.region, offer.zone)
            and self.purchase == offer.purchase
            and nodes >= self.nodes
            and now < self.until
            and (self.instance_type == offer.instance_type or fnmatchcase(offer.instance_type, self.instance_type))
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """An offer times the number of nodes that meets the spec, with its total price.

    A gang that is filled from several offers (a reservation and the rest, or a spread placement) has several `parts`; the
    single-valued properties then describe the first.

    Attributes:
        parts: what is launched, all of it or nothing.
        is_stale: whether a price is older than it may be (on demand 30 days, spot 1 day).
        is_configured: whether the provider can be used here and now.
    """

    parts: tuple[Part, ...]
    is_stale: bool = False
    is_configured: bool = True

    @property
    def provider(self) -> str:
        return self.parts[0].offer.instance.provider

    @property
    def region(self) -> str:
        return self.parts[0].offer.region

    @property
    def zone(self) -> str:
        return self.parts[0].offer.zone

    @property
    def instance(self) -> InstanceType:
        return self.parts[0].offer.instance

    @property
    def instance_type(self) -> str:
        return self.parts[0].offer.instance.name

    @property
    def purchase(self) -> Purchase:
        return self.parts[0].offer.purchase

    @property
    def nodes(self) -> int:
        return sum(part.nodes for part in self.parts)

    @property
    def accelerators(self) -> float:
        """Accelerators in all, surplus included."""
        amount = 0.0
        for part in self.parts:
            numerator, denominator = exact_accelerators(part.offer.instance.accelerators)
            amount += part.nodes * numerator / denominator
        return round(amount, 6)

    @property
    def hourly_cost(self) -> float:
        """USD per hour for the whole gang."""
        return round(sum(part.nodes * part.offer.quote.hourly_cost for part in self.parts), 6)

    @property
    def price_per_accelerator(self) -> float:
        """USD per accelerator-hour; 0 where it has no accelerators."""
        return round(self.hourly_cost / self.accelerators, 6) if self.accelerators else 0.0

    @property
    def price_as_of(self) -> date:
        """The date of the oldest price in it."""
        return min(part.offer.quote.as_of for part in self.parts)

    @property
    def price_source(self) -> str:
        return self.parts[0].offer.quote.source

    @property
    def price_basis(self) -> PriceBasis:
        """ "estimate" as soon as one price in it is."""
        return "estimate" if any(part.offer.quote.basis == "estimate" for part in self.parts) else "list"

    def to_dict(self) -> dict[str, object]:
        """The JSON form that the command line prints."""
        return {
            "provider": self.provider,
            "region": self.region,
            "zone": self.zone,
            "instance_type": self.instance_type,
            "nodes": self.nodes,
            "accelerators": self.accelerators,
            "purchase": self.purchase,
            "hourly_usd": self.hourly_cost,
            "usd_per_accelerator_hour": self.price_per_accelerator,
            "price_as_of": self.price_as_of.isoformat(),
            "price_source": self.price_source,
            "price_basis": self.price_basis,
        }


@dataclass(frozen=True, slots=True)
class Rejection:
    """How many offers one reason left out, with a few of them and what would let them in."""

    count: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptReport:
    """What one try at one candidate came to; `code` and `message` are the cloud's words."""

    provider: str
    region: str
    zone: str
    instance_type: str
    purchase: Purchase
    nodes: int
    outcome: str
    code: str | None = None
    message: str = ""

    def __str__(self) -> str:
        place = self.zone or self.region
        said = f" ({self.code}: {self.message})" if self.code else f" ({self.message})" if self.message else ""
        what = f"{self.nodes} x {self.instance_type} {self.purchase.replace('_', ' ')}"
        return f"{self.provider} {place} {what}: {self.outcome}{said}"


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """The candidates, cheapest first, and the reasons for what was left out.

    Attributes:
        spec: what was asked for.
        candidates: in the order in which they will be tried.
        rejected: reason -> how many offers it left out, and examples.
        notes: what the reader should know: cheaper offers passed over for want of a fabric, stale prices, unconfigured clouds.
        nearest: when there is no candidate, the nearest change of the spec that has one.
    """

    spec: "ClusterSpec"
    candidates: Sequence[Candidate]
    rejected: Mapping[str, Rejection]
    notes: tuple[str, ...] = ()
    nearest: str | None = None

    @property
    def best(self) -> Candidate | None:
        """The first candidate, or None."""
        return self.candidates[0] if self.candidates else None

    def __len__(self) -> int:
        return len(self.candidates)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.candidates)

    def __str__(self) -> str:
        from multicompute.plan_text import render

        return render(self, limit=_SHOWN_BY_STR, reasons=False)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from multicompute.plan_text import render_html

        return render_html(self, limit=_SHOWN_BY_STR)

    def explain(self, *, limit: int = 20) -> str:
        """The plan for people: the candidates as a table, the notes, and why everything else was left out.

        Args:
            limit: how many candidates to show.

        Returns:
            Plain text, at most 100 characters a line.
        """
        from multicompute.plan_text import render

        return render(self, limit=limit, reasons=True)

    def to_dict(self) -> dict[str, object]:
        """The JSON form that the command line prints."""
        return {
            "spec": self.spec.to_public_dict(),
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "rejected": {reason: rejection.count for reason, rejection in self.rejected.items()},
        }
