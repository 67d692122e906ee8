"""Plans: candidates in the order in which they will be tried, and the reasons for rejecting all other offers."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, overload

from multicompute.errors import NoOfferError, SpecError
from multicompute.offer import InstanceType, Offer, Part, PriceBasis, Purchase
from multicompute.units import format_duration, format_instant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.figure import Figure

    from multicompute.price_feed import Interruption
    from multicompute.sizing.options import Option
    from multicompute.spec import ClusterSpec

_SHOWN_BY_STR: Final = 10


@functools.cache
def exact_accelerators(accelerators: float) -> tuple[int, int]:
    """Return a number of accelerators as an exact fraction: the tables round 1/3 to 0.3333, but three of them are one."""
    fractions = ((round(accelerators * denominator), denominator) for denominator in range(1, 33))
    # Not fractions.Fraction: importing it takes as long as making a plan.
    return next(
        (pair for pair in fractions if abs(pair[0] / pair[1] - accelerators) < 5e-4), (round(accelerators * 1000), 1000)
    )


@dataclass(frozen=True, slots=True)
class Outage:
    """A remembered failure: what is not worth trying until when.

    Attributes:
        place: A zone, a region, or "" for the complete provider.
        instance_type: The vendor's name, or "*" for all types.
        purchase: The purchase type that failed.
        reason: "capacity", "quota", "not offered" or "access".
        until: When the outage ends, in UTC.
        nodes: The outage covers gangs of this many nodes or more; a smaller gang may still fit.
        consecutive_failures: How often in a row the attempt failed; the outage lasts longer each time.
    """

    provider: str
    place: str
    instance_type: str
    purchase: Purchase
    reason: str
    until: datetime
    nodes: int = 1
    consecutive_failures: int = 1

    def to_dict(self) -> dict[str, object]:
        """Return the form that the command line prints as JSON."""
        return {
            "provider": self.provider,
            "place": self.place,
            "instance_type": self.instance_type,
            "purchase": self.purchase,
            "nodes": self.nodes,
            "reason": self.reason,
            "until": format_instant(self.until),
        }

    def covers(self, offer: Offer, *, nodes: int, now: datetime) -> bool:
        """Return whether the outage covers an attempt to launch `nodes` of `offer` at `now`."""
        return (
            self.provider == offer.provider
            and self.place in ("", offer.region, offer.zone)
            and self.purchase == offer.purchase
            and nodes >= self.nodes
            and now < self.until
            and (self.instance_type == offer.instance_type or fnmatchcase(offer.instance_type, self.instance_type))
        )


@dataclass(frozen=True, slots=True, repr=False)
class Candidate:
    """An offer times the number of nodes that meets the spec, with its total price.

    A gang that combines several offers (a reservation and further nodes, or a spread placement) has several `parts`.
    Properties such as `zone` and `instance_type` then describe the first part.

    Attributes:
        parts: The nodes to launch, all or nothing.
        is_stale: Whether a price is out of date: older than 30 days, or 1 day for spot, or than
            `max_price_age` in the configuration.
        is_configured: Whether the provider can be used now.
        max_lifetime: How long the cloud lets its nodes live at most; None for no limit.
        ends_early: Whether that is shorter than the ttl of the spec, so that the cluster expires earlier.
        outage: The remembered outage because of which a request does not try it now; None for none.
        hours: How many hours the cluster is expected to run, or its workload takes; None if that is not known.
        transfer_cost: USD to transfer the data of the request to it, once, at list egress prices; None if a price is not known.
        interruption: How often its spot nodes are interrupted, as the vendor publishes it; None for other nodes, or if it does not.
        interruption_cost: USD per hour that the request adds to the price, in the order only, for work that interruptions lose.
    """

    parts: tuple[Part, ...]
    is_stale: bool = False
    is_configured: bool = True
    max_lifetime: timedelta | None = None
    ends_early: bool = False
    outage: Outage | None = None
    hours: float | None = None
    transfer_cost: float | None = 0.0
    interruption: "Interruption | None" = None
    interruption_cost: float = 0.0

    @property
    def provider(self) -> str:
        """The name of the provider."""
        return self.parts[0].offer.instance.provider

    @property
    def region(self) -> str:
        """The region of the first part."""
        return self.parts[0].offer.region

    @property
    def zone(self) -> str:
        """The zone of the first part; "" if the cloud chooses it."""
        return self.parts[0].offer.zone

    @property
    def instance(self) -> InstanceType:
        """The instance type of the first part."""
        return self.parts[0].offer.instance

    @property
    def instance_type(self) -> str:
        """The vendor's name of the instance type of the first part."""
        return self.parts[0].offer.instance.name

    @property
    def purchase(self) -> Purchase:
        """The purchase type of the first part."""
        return self.parts[0].offer.purchase

    @property
    def nodes(self) -> int:
        """The number of nodes; a slice counts as one."""
        return sum(part.nodes for part in self.parts)

    @property
    def accelerators(self) -> float:
        """The total number of accelerators, including any surplus."""
        amount = 0.0
        for part in self.parts:
            numerator, denominator = exact_accelerators(part.offer.instance.accelerators)
            amount += part.nodes * numerator / denominator
        return round(amount, 6)

    @property
    def hourly_cost(self) -> float:
        """USD per hour for the complete gang."""
        return round(sum(part.nodes * part.offer.quote.hourly_cost for part in self.parts), 6)

    @property
    def list_hourly_cost(self) -> float:
        """USD per hour for the complete gang without discounts."""
        return round(sum(part.nodes * part.offer.quote.list_hourly_cost for part in self.parts), 6)

    @property
    def discount(self) -> str:
        """The configured discounts in its price; "" if there are none."""
        found = (part.offer.quote.discount for part in self.parts)
        return "; ".join(dict.fromkeys(discount.text for discount in found if discount is not None))

    @property
    def total_cost(self) -> float | None:
        """USD for all hours and the transfer of the data; None if the hours or the price of the transfer are not known."""
        if self.hours is None or self.transfer_cost is None:
            return None
        return round(self.hours * self.hourly_cost + self.transfer_cost, 6)

    @property
    def ranking_cost(self) -> float:
        """USD by which it ranks: price and lost work for its hours (for one if they are not known), and the transfer."""
        return (self.hourly_cost + self.interruption_cost) * (self.hours or 1.0) + (self.transfer_cost or 0.0)

    @property
    def price_per_accelerator(self) -> float:
        """USD per accelerator-hour; 0 without accelerators."""
        return round(self.hourly_cost / self.accelerators, 6) if self.accelerators else 0.0

    @property
    def price_as_of(self) -> date:
        """The date of its oldest price."""
        return min(part.offer.quote.as_of for part in self.parts)

    @property
    def price_source(self) -> str:
        """The source of the price of the first part."""
        return self.parts[0].offer.quote.source

    @property
    def price_basis(self) -> PriceBasis:
        """The basis of its prices: "estimate" if at least one is an estimate, otherwise "list"."""
        return "estimate" if any(part.offer.quote.basis == "estimate" for part in self.parts) else "list"

    def __repr__(self) -> str:
        """Return the candidate in one line."""
        from multicompute.plan_text import candidate_text

        return f"<Candidate {candidate_text(self)}>"

    def to_dict(self) -> dict[str, object]:
        """Return the form that the command line prints as JSON."""
        return {
            "provider": self.provider,
            "region": self.region,
            "zone": self.zone,
            "instance_type": self.instance_type,
            "nodes": self.nodes,
            "accelerators": self.accelerators,
            "purchase": self.purchase,
            "hourly_usd": self.hourly_cost,
            "list_hourly_usd": self.list_hourly_cost,
            "discount": self.discount,
            "usd_per_accelerator_hour": self.price_per_accelerator,
            "price_as_of": self.price_as_of.isoformat(),
            "price_source": self.price_source,
            "price_basis": self.price_basis,
            "max_lifetime": None if self.max_lifetime is None else format_duration(self.max_lifetime),
            "ends_early": self.ends_early,
            "outage": None if self.outage is None else self.outage.to_dict(),
            "transfer_usd": self.transfer_cost,
            "total_usd": self.total_cost,
            "interruption": None if self.interruption is None else interruption_to_dict(self.interruption),
        }


def interruption_to_dict(rate: "Interruption") -> dict[str, object]:
    """Return a published rate of interruptions in the form that the command line prints as JSON."""
    return {"low": rate.low, "high": rate.high, "period": rate.period}


@dataclass(frozen=True, slots=True)
class Rejection:
    """The number of offers that are rejected for a reason, with a few examples."""

    count: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptReport:
    """The outcome of one attempt at one candidate; `code` and `message` are the vendor's."""

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
        """Return the attempt in one line: place, nodes, outcome and the answer of the cloud."""
        place = self.zone or self.region
        answer = ": ".join(filter(None, (self.code, self.message)))
        what = f"{self.nodes} x {self.instance_type} {self.purchase.replace('_', ' ')}"
        return f"{self.provider} {place} {what}: {self.outcome}{f' ({answer})' if answer else ''}"


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """The candidates for a request, cheapest first, and the reasons for rejecting all other offers.

    Attributes:
        spec: The request.
        candidates: The candidates in the order in which they will be tried. Those that a remembered outage rules out for now
            come last; `outage` says until when.
        rejected: Reason -> how many offers are rejected for it, with examples.
        notes: Remarks for the reader, such as cheaper offers without a fabric, prices that are out of date, or clouds that
            are not configured.
        nearest: If there is no candidate, the nearest change of the request that has one.
        binding: What rules out the offers that this change would allow; "" if it is not an argument.
    """

    spec: "ClusterSpec"
    candidates: Sequence[Candidate]
    rejected: Mapping[str, Rejection]
    notes: tuple[str, ...] = ()
    nearest: str | None = None
    binding: str = ""

    @property
    def best(self) -> Candidate:
        """The first candidate.

        Raises:
            NoOfferError: There is no candidate. `Cluster.plan` raises it itself, so the plans that it returns have one.
        """
        if not self.candidates:
            raise NoOfferError(self._title(), plan=self, hint=self.nearest)
        return self.candidates[0]

    @property
    def options(self) -> "Sequence[Option]":
        """The hours, cost and fit of the workload of the request on each machine, the cheapest first; empty without a workload."""
        return ()

    @property
    def pareto(self) -> tuple[int, ...]:
        """Indices of the options that no other one beats in cost or time without being worse in the other."""
        return ()

    def plot(self, path: "str | Path | None" = None) -> "Figure":
        """Draw cost against time for the options of a workload; needs `pip install "multicompute[plot]"`.

        Args:
            path: Also write the picture to this file, .png or .svg.

        Raises:
            SpecError: The request has no workload, the file has another ending, or there is no option to draw.
            ConfigError: Matplotlib is not installed.
        """
        raise SpecError(
            "plot: the request has no workload, so that there is no time to draw the cost against",
            hint="plan with a workload, such as Training(params=70e9, tokens=2e12)",
        )

    def __len__(self) -> int:
        """Return how many candidates there are."""
        return len(self.candidates)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Candidate]: ...

    def __getitem__(self, index: int | slice) -> Candidate | Sequence[Candidate]:
        """Return a candidate by its position, from 0, or several for a slice."""
        return self.candidates[index]

    def __iter__(self) -> Iterator[Candidate]:
        """Iterate over the candidates, the best first."""
        return iter(self.candidates)

    def __str__(self) -> str:
        """Return the first candidates as a table."""
        return self.render(limit=_SHOWN_BY_STR, reasons=False)

    def __repr__(self) -> str:
        """Return what is asked for, the number of candidates and the best one, in one line."""
        best = f"; {self.candidates[0]!r}" if self.candidates else ""
        return f"<Plan {self._title()}{best}>"

    def _title(self) -> str:
        from multicompute.plan_text import heading

        return heading(self)

    def _repr_html_(self) -> str:
        from multicompute.plan_text import render_html

        return render_html(self, limit=_SHOWN_BY_STR)

    def explain(self, *, limit: int = 20, width: int | None = 80) -> str:
        """Return the plan as text: a table of the candidates, the notes, and the reasons for rejecting other offers.

        Args:
            limit: How many lines of candidates to show; those that differ only in the zone share a line. The best candidate of each
                cloud is always shown.
            width: The maximum number of characters per line; columns that do not fit are left out. None shows all columns.

        Returns:
            Plain text.
        """
        return self.render(limit=limit, width=width)

    def render(
        self,
        *,
        limit: int = 20,
        reasons: bool = True,
        width: int | None = 80,
        spelled: "Callable[[str], str]" = str,
    ) -> str:
        """Return the plan as text.

        Args:
            limit: As for `explain`.
            reasons: Whether to show why all other offers were rejected.
            width: As for `explain`.
            spelled: Returns a text with the arguments in it as the reader writes them.
        """
        from multicompute.plan_text import render

        return render(self, limit=limit, reasons=reasons, width=width, spelled=spelled)

    def to_dict(self) -> dict[str, object]:
        """Return the form that the command line prints as JSON."""
        return {
            "spec": self.spec.to_public_dict(),
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "rejected": {reason: rejection.count for reason, rejection in self.rejected.items()},
        }
