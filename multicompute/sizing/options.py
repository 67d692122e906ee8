"""The allowed machines of a job, its limits, and the options that are found."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self, overload

from multicompute.offer import Listing, Offer, Part, Quote
from multicompute.plan import Candidate, Rejection
from multicompute.sizing.memory import GIB, Layout
from multicompute.sizing.performance import Job, OnShape, Performance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from multicompute.price_feed import Interruption

LONGEST: Final = timedelta(days=365)
"""A job without a deadline, and without a number of accelerators, takes at most a year, as a cluster may live."""
MAX_ACCELERATORS: Final = 16_384
"""The largest gang that is considered by default: Llama 3.1 405B was trained on 16,384 GPUs."""
MAX_NODES: Final = 2_048
"""The same in nodes."""
NO_FIT: Final = "the model does not fit"
"""The reason for leaving out machines with too little memory in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """An offer that a job may be run on.

    Attributes:
        offer: What is bought, in the first of its zones.
        zones: All zones that sell it alike; () for that of the offer alone.
        max_nodes: So many at most, by quota, capacity or inventory; None if nothing is known. With 0, it only counts for the
            fabric rule: nodes of others are not to be joined without a fabric because this one is out of capacity.
        limited_by: What sets `max_nodes`, for messages.
        max_hours: For how many hours its cloud lets nodes live at most.
        group: The accelerators for which the fabric rule is decided together; the family of the accelerator by default.
        transfer_usd: What it costs once to bring the data there.
        ends_early: Whether that is shorter than the ttl of the request.
        preemptions_per_day: How often the cloud takes one of these spot nodes back; None if that is not known.
        interruption: The same as its vendor publishes it.
        quote_for: Returns the price per node-hour of a number of nodes, where a discount covers only some of them; `offer` then has
            the lowest. None where the price does not depend on it.
    """

    offer: Offer
    zones: tuple[str, ...] = ()
    max_nodes: int | None = None
    limited_by: str = "quota"
    max_hours: float = math.inf
    group: str = ""
    transfer_usd: float = 0.0
    ends_early: bool = False
    preemptions_per_day: float | None = None
    interruption: "Interruption | None" = None
    quote_for: Callable[[int], Quote] | None = None

    @classmethod
    def of(cls, listing: Listing) -> Self:
        """Return a line of an offer table as a machine, in the first of its zones."""
        zones = tuple(sorted(listing.zones)) or ("",)
        offer = Offer(listing.instance, listing.region.name, zones[0], listing.purchase, listing.quote)
        return cls(offer=offer, zones=zones, max_nodes=listing.machines, limited_by="the inventory")

    @property
    def is_spot(self) -> bool:
        """Return whether its cloud may take the nodes back."""
        return self.offer.purchase == "spot"

    def hourly_usd(self, nodes: int) -> float:
        """Return USD per hour of a number of nodes."""
        quote = self.offer.quote if self.quote_for is None else self.quote_for(nodes)
        return nodes * quote.hourly_cost

    def offer_for(self, nodes: int) -> Offer:
        """Return the offer at the price that a number of nodes pays."""
        return self.offer if self.quote_for is None else replace(self.offer, quote=self.quote_for(nodes))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimits:
    """The limits that an option must respect.

    Attributes:
        deadline: How long the job may take.
        gpus: How many accelerators; as many as it takes if left out.
        max_accelerators: The most that are considered.
        max_hourly: USD per hour of the gang.
        budget: USD of the complete job.
        interconnect: Whether nodes need an RDMA fabric: "auto" for linked accelerators where there is one.
        serve: For how long a model is served that has no number of tokens to generate.
    """

    deadline: timedelta | None = None
    gpus: int | None = None
    max_accelerators: int = MAX_ACCELERATORS
    max_hourly: float | None = None
    budget: float | None = None
    interconnect: Literal["auto", "any", "rdma"] = "auto"
    serve: timedelta = timedelta(hours=1)

    @property
    def max_hours(self) -> float:
        """Hours that a job may take."""
        if self.deadline is not None:
            return self.deadline.total_seconds() / 3600
        return math.inf if self.gpus is not None else LONGEST.total_seconds() / 3600


@dataclass(frozen=True, slots=True, repr=False)
class Option:
    """A machine, how many nodes of it, and what the job costs and takes on them.

    Attributes:
        machine: What is bought.
        performance: How the job performs on so many of it.
        on: The job on this shape of machine, for other numbers of nodes.
        preemptions: How often one node is preempted in a day, as assumed here.
    """

    machine: Machine
    performance: Performance
    on: OnShape
    preemptions: float = 0.0

    def __repr__(self) -> str:
        """Return nodes, place, time and cost."""
        from multicompute.sizing.text import answer

        return f"<Option {answer(self)}>"

    @property
    def job(self) -> Job:
        """The job."""
        return self.on.job

    @property
    def layout(self) -> Layout:
        """The split of the job: tensor, pipeline and data parallel degree, and the ZeRO stage."""
        return self.performance.layout

    @property
    def accelerators(self) -> int:
        """Accelerators of the gang."""
        return self.performance.accelerators

    @property
    def nodes(self) -> int:
        """Nodes of the gang."""
        return self.performance.nodes

    @property
    def accelerator(self) -> str:
        """Canonical name of the accelerator."""
        return self.machine.offer.instance.accelerator

    @property
    def hours(self) -> float:
        """Wall hours of the job."""
        return self.performance.hours

    @property
    def hourly_usd(self) -> float:
        """USD per hour of the gang."""
        return self.machine.hourly_usd(self.nodes)

    @property
    def total_usd(self) -> float:
        """USD of the complete job: hours x hourly cost + transfer."""
        return self.hours * self.hourly_usd + self.machine.transfer_usd

    @property
    def is_spot(self) -> bool:
        """Return whether the nodes can be preempted."""
        return self.machine.is_spot

    @property
    def mfu(self) -> float:
        """Expected share of the dense peak."""
        return self.performance.mfu

    @property
    def fits(self) -> bool:
        """Return whether the accelerators have enough memory."""
        return self.performance.fits

    @property
    def candidate(self) -> Candidate:
        """The gang as a candidate of a plan, in the first zone of the machine."""
        return self.candidate_in(self.machine.offer.zone)

    def candidate_in(self, zone: str, *, is_stale: bool = False, is_configured: bool = True) -> Candidate:
        """Return the gang as a candidate of a plan.

        Args:
            zone: One of the zones of the machine.
            is_stale: Whether its price is out of date.
            is_configured: Whether its provider can be used now.
        """
        machine, nodes = self.machine, self.performance.nodes
        offer = machine.offer_for(nodes)
        return Candidate(
            (Part(offer if offer.zone == zone else replace(offer, zone=zone), nodes),),
            is_stale=is_stale,
            is_configured=is_configured,
            max_lifetime=None if math.isinf(machine.max_hours) else timedelta(hours=machine.max_hours),
            ends_early=machine.ends_early,
            hours=self.hours,
            transfer_cost=machine.transfer_usd,
            interruption=machine.interruption,
        )

    def to_dict(self) -> dict[str, object]:
        """Return the option in JSON terms: the fields of a candidate, and those of the job."""
        done = self.performance
        low, high = self.on.mfu_range(done)
        return {
            **self.candidate.to_dict(),
            "mfu": done.mfu,
            "mfu_low": low,
            "mfu_high": high,
            "goodput": done.goodput,
            "hours": done.hours,
            "total_usd": round(self.total_usd, 6),
            "accelerator_hours": done.accelerator_hours,
            "preemptions_per_node_day": self.preemptions,
            "per_accelerator_gib": self.job.footprint.per_accelerator(done.layout) / GIB,
            "fits": done.fits,
            "parallelism": done.layout.to_dict(),
        }


class Options(Sequence[Option]):
    """Options in order, made when they are looked up."""

    def __init__(self, items: Sequence[tuple[Machine, Performance, OnShape, float]]) -> None:
        """Keep what each option is made of."""
        self._items = items

    @property
    def machines(self) -> Sequence[Machine]:
        """The machine of each option; faster than making the options."""
        return [item[0] for item in self._items]

    def __len__(self) -> int:
        """Return how many options there are."""
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Option: ...
    @overload
    def __getitem__(self, index: slice) -> "Options": ...
    def __getitem__(self, index: int | slice) -> "Option | Options":
        """Make the option at this index, or the options of this slice."""
        if isinstance(index, slice):
            return Options(self._items[index])
        return Option(*self._items[index])

    def __iter__(self) -> Iterator[Option]:
        """Make the options one after the other."""
        return (Option(*item) for item in self._items)


@dataclass(frozen=True, slots=True, repr=False)
class JobOptions:
    """The options of a job, cheapest first, and why everything else was left out.

    Attributes:
        job: The workload, with what was worked out of it.
        limits: What the options keep to.
        options: The cheapest count of each machine, and points of the front; cheapest first.
        pareto: Indices of the options that no other one beats in cost or time without being worse in the other.
        rejected: Reason -> how many offers it left out, and examples.
        outcomes: Accelerator -> why it has no option, for those that have none.
    """

    job: Job
    limits: JobLimits
    options: Options
    pareto: tuple[int, ...]
    rejected: Mapping[str, Rejection] = field(default_factory=dict)
    outcomes: Mapping[str, str] = field(default_factory=dict)

    @property
    def best(self) -> Option | None:
        """The cheapest option, or None."""
        return self.options[0] if self.options else None

    def __len__(self) -> int:
        """Return how many options there are."""
        return len(self.options)

    def __iter__(self) -> Iterator[Option]:
        """Iterate over the options, the cheapest first."""
        return iter(self.options)

    def explain(self, *, limit: int = 12) -> str:
        """Return the plan for people: options, notes, and why not fewer nodes or other accelerators.

        Args:
            limit: How many options to show.
        """
        from multicompute.sizing.text import render

        return render(self, limit=limit, reasons=True)

    def plot(self, path: str | Path | None = None) -> "Figure":
        """Draw cost against time; needs `pip install "multicompute[plot]"`.

        Args:
            path: Also write the picture to this file, .png or .svg.

        Raises:
            SpecError: The file has another ending, or there is no option to draw.
            ConfigError: Matplotlib is not installed.
        """
        from multicompute.sizing.plot import draw, plot

        if path is not None:
            plot(self, path)
        return draw(self)

    def __str__(self) -> str:
        """Return the options as a table."""
        from multicompute.sizing.text import render

        return render(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from multicompute.sizing.text import render_html

        return render_html(self)
