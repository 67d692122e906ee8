"""The cheapest way to run a job: over accelerators, counts, purchase and place, within a deadline and limits.

Rules:

- A machine is one offer: an instance type in one place, bought in one way. A gang is a number of nodes of one machine.
- With `gpus`, a gang has the fewest nodes that have so many accelerators, as in a plan. Without, the counts of a machine
  are the 32 from the first that can be enough, and then steps of 1/16.
- Of counts and of machines that cost the same, the fewest nodes are taken. At a given MFU the cost of on-demand nodes does not depend on
  the count, and a deadline only asks for enough. Otherwise more nodes cost more: the MFU falls and interruptions grow.
- The front of cost against time is over all machines and counts. At a given MFU more nodes are faster at the same cost
  without end, so that only the cheapest count of each machine is compared.
- Between nodes, the fabric rule of a plan holds: linked accelerators need a fabric if any machine of their group has one,
  or if one node has as many accelerators. Machines that none may be bought of now count, those over `max_hourly` do not.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from multicompute import accelerators
from multicompute.offer import InstanceType
from multicompute.plan import Rejection
from multicompute.sizing.interruptions import PREEMPTIONS_PER_DAY
from multicompute.sizing.options import MAX_NODES, NO_FIT, JobLimits, JobOptions, Machine, Options
from multicompute.sizing.performance import Job, OnShape, Performance, Shape, job_for
from multicompute.workloads import Finetuning, Training, Workload

FRONT_POINTS: Final = 24
"""So many points of the front are listed at most, evenly over the time that they take."""
COUNTS_IN_A_ROW: Final = 32

NO_ACCELERATOR: Final = "no accelerator that is known here"
FRACTION: Final = "a fraction of an accelerator"
TOO_SLOW: Final = "not done by the deadline"
TOO_LONG: Final = "not done within a year"
ENDS_EARLY: Final = "terminated by its cloud before the job is done"
TOO_FEW: Final = "more nodes than may be bought"
OVER_BUDGET: Final = "more than the budget"
INTERRUPTED: Final = "interrupted too often to make progress"
NO_FABRIC: Final = "no fabric between nodes"

_EXAMPLES: Final = 3
_TIE: Final = 1e-9

Scored = tuple[float, float, int, Machine, Performance, OnShape, float]
"""Total cost, hours and accelerators, and what an `Option` is made of."""
_COST: Final = itemgetter(0)
_RANK: Final = itemgetter(0, 1, 2)
"""By which the front is found."""


def optimise(
    workload: Workload,
    machines: Iterable[Machine],
    limits: JobLimits | None = None,
) -> JobOptions:
    """Find the cheapest way to run a job, and the front of cost against time.

    Args:
        workload: The job.
        machines: What can be bought, where and how; see the rules at the top of this module.
        limits: Deadline, number of accelerators, and limits on money.

    Returns:
        The options. If `gpus` is given and the model fits on none of them, the options are those that do not fit.
    """
    limits = limits or JobLimits()
    job = job_for(workload, limits.serve, across_nodes=limits.interconnect == "any")
    search = _Search(job, machines, limits)
    items = search.cheapest(must_fit=True)
    rejected, outcomes = search.rejections(), search.outcomes()
    if not items and limits.gpus is not None:
        items = search.cheapest(must_fit=False)
    elif workload.mfu is None and limits.gpus is None:
        listed = {(id(item[3]), item[2]) for item in items}
        items += [item for item in thin(search.front(), FRONT_POINTS) if (id(item[3]), item[2]) not in listed]
    items.sort(key=_order)
    pareto = _indices_of_front(items) if items and items[0][4].fits else ()
    return JobOptions(job, limits, Options([item[3:] for item in items]), pareto, rejected, outcomes)


def _scored(machine: Machine, done: Performance, each: "_Class") -> Scored:
    total = done.hours * machine.hourly_usd(done.nodes) + machine.transfer_usd
    # Rounded, so that rounding errors do not decide between counts that cost the same.
    return (round(total, 6), done.hours, done.accelerators, machine, done, each.on, each.preemptions)


def _order(item: Scored) -> tuple[float, int, int]:
    """Return by what options are ordered: of those that cost the same, the fewest nodes and accelerators come first."""
    return item[0], item[4].nodes, item[2]


def _indices_of_front(items: Sequence[Scored]) -> tuple[int, ...]:
    """Return the indices of the front of options in their order."""
    order = sorted(range(len(items)), key=lambda index: _RANK(items[index]))
    return tuple(order[index] for index in _pareto([items[index] for index in order]))


def _pareto(items: Sequence[Scored]) -> tuple[int, ...]:
    """Return the indices of the front of items that are sorted by cost and then time."""
    found, fastest = [], math.inf
    for index, item in enumerate(items):
        if item[1] < fastest:
            found.append(index)
            fastest = item[1]
    return tuple(found)


def pareto_front(items: Iterable[Scored]) -> list[Scored]:
    """Return the items that no other one beats in cost or time without being worse in the other, cheapest first."""
    ordered = sorted(items, key=_RANK)
    return [ordered[index] for index in _pareto(ordered)]


def thin(items: Sequence[Scored], count: int) -> list[Scored]:
    """Return at most `count` points of a front: its ends, and what is nearest to even steps of the logarithm of time."""
    if len(items) <= count:
        return list(items)
    logs = [-math.log(item[1]) for item in items]
    step = (logs[-1] - logs[0]) / (count - 1)
    kept = {0, len(items) - 1, *(bisect_right(logs, logs[0] + step * index) - 1 for index in range(1, count - 1))}
    return [items[index] for index in sorted(kept)]


def node_counts(least: int, most: int) -> Iterator[int]:
    """Yield the node counts that are evaluated: `COUNTS_IN_A_ROW`, and then steps of 1/16."""
    count = least
    while count <= most:
        yield count
        count += 1 if count < least + COUNTS_IN_A_ROW else max(1, count // 16)


@dataclass(frozen=True, slots=True)
class _Class:
    """Machines on which a job performs alike: the same shape, preemptions, lifetime and fabric rule.

    A machine whose price depends on the number of nodes is a class of its own.

    Attributes:
        on: The job on this shape.
        preemptions: How often a node is preempted in a day.
        group: For the fabric rule.
        max_hours: For how long the job may run.
        most: How many nodes are considered.
        machines: The lowest hourly cost of a node, how many may be bought, and the machine; the cheapest first.
    """

    on: OnShape
    preemptions: float
    group: str
    max_hours: float
    most: int
    machines: list[tuple[float, int, Machine]]

    @property
    def price(self) -> float:
        """The lowest USD per node-hour of the cheapest machine."""
        return self.machines[0][0]

    def least_node_hours(self, nodes: int) -> float:
        """Return what `nodes` or more take at least, in nodes x hours."""
        return self.on.least_node_hours(nodes, self.preemptions)

    @property
    def unit(self) -> float:
        """The lowest cost of a node-hour in the unit of `per_hour`."""
        return 1.0 if self.machines[0][2].quote_for is None else self.price

    def per_hour(self, nodes: int) -> float:
        """Return by what the cost of an hour on so many nodes is compared: nodes where all cost the same, else USD."""
        machine = self.machines[0][2]
        return nodes if machine.quote_for is None else machine.hourly_usd(nodes)

    def cheapest(self, nodes: int, hours: float) -> Machine | None:
        """Return the machine on which so many nodes cost least for so long, None if none allows as many."""
        best, least = None, math.inf
        for price, most, machine in self.machines:
            # Transfer only adds to what the nodes cost.
            if price * nodes * hours >= least:
                break
            total = machine.hourly_usd(nodes) * hours + machine.transfer_usd
            if nodes <= most and total < least:
                best, least = machine, total
        return best


class _Search:
    """Sorts machines into classes and searches each for counts."""

    def __init__(self, job: Job, machines: Iterable[Machine], limits: JobLimits) -> None:
        self._job = job
        self._limits = limits
        self._max_hours = limits.max_hours
        self._rejected: dict[str, list[Machine]] = {}
        self._classes = self._sort(machines)
        self._fabric: set[str] = set()
        self._largest: dict[str, int] = {}
        for each in self._classes:
            shape = each.on.shape
            if shape.accelerator.linked and self._is_affordable(each):
                self._largest[each.group] = max(self._largest.get(each.group, 0), shape.per_node)
                if shape.fabric:
                    self._fabric.add(each.group)

    def _is_affordable(self, each: _Class) -> bool:
        """Return whether the smallest gang of a class costs no more in an hour than is allowed."""
        limit = self._limits.max_hourly
        return limit is None or each.machines[0][2].hourly_usd(self._first(each)) <= limit + _TIE

    def _first(self, each: _Class) -> int:
        """Return the fewest nodes that have as many accelerators as asked for."""
        gpus = self._limits.gpus
        return 1 if gpus is None else -(-gpus // each.on.shape.per_node)

    def _sort(self, machines: Iterable[Machine]) -> list[_Class]:
        shapes: dict[tuple[object, ...], OnShape | str] = {}
        # Lines of a table share their instance type: looking it up by identity is much faster than by its fields.
        instances: dict[int, OnShape | str] = {}
        found: dict[tuple[object, ...], _Class] = {}
        given = self._given_preemptions()
        for machine in machines:
            offer = machine.offer
            instance = offer.instance
            on = instances.get(id(instance))
            if on is None:
                key = (instance.accelerator, instance.accelerators, bool(instance.fabric), instance.hosts)
                on = instances[id(instance)] = shapes[key] = shapes.get(key) or self._on(instance)
            if isinstance(on, str):
                self._reject(on, machine)
                continue
            rate = 0.0
            if offer.purchase == "spot":
                rate = PREEMPTIONS_PER_DAY if machine.preemptions_per_day is None else machine.preemptions_per_day
                rate = rate if given is None else given
            group = (id(on), rate, machine.group, machine.max_hours, machine.quote_for and id(machine))
            item = found.get(group)
            if item is None:
                family, hours = machine.group or on.shape.accelerator.family, min(self._max_hours, machine.max_hours)
                item = found[group] = _Class(on, rate, family, hours, self._most(on.shape.per_node), [])
            price, most = offer.quote.hourly_cost, item.most
            if machine.max_nodes is not None or self._limits.max_hourly is not None:
                most = self._allowance(most, price, machine)
            item.machines.append((price, most, machine))
        for item in found.values():
            item.machines.sort(key=itemgetter(0))
        return list(found.values())

    def _given_preemptions(self) -> float | None:
        """Return how often a spot node is preempted in a day, as the job says; a served model loses nothing by it."""
        workload = self._job.workload
        return workload.preemptions_per_day if isinstance(workload, (Training, Finetuning)) else 0.0

    def _on(self, instance: InstanceType) -> OnShape | str:
        accelerator = accelerators.get(instance.accelerator)
        if accelerator is None or not instance.accelerators:
            return NO_ACCELERATOR
        if instance.accelerators < 1:
            return FRACTION
        return self._job.on(Shape(accelerator, round(instance.accelerators), bool(instance.fabric), instance.hosts))

    def cheapest(self, *, must_fit: bool) -> list[Scored]:
        """Return the cheapest count of every machine."""
        items = []
        for each in self._classes:
            found: dict[int, Performance | str] = {}
            for _, most, machine in each.machines:
                if machine.max_nodes == 0:
                    continue
                best = found.get(most)
                if best is None:
                    best = found[most] = self._best(each, most, must_fit=must_fit)
                if isinstance(best, str):
                    self._reject(self._named(best, each, most, machine), machine)
                    continue
                item = _scored(machine, best, each)
                if self._is_over_budget(item):
                    self._reject(OVER_BUDGET, machine)
                else:
                    items.append(item)
        return items

    def front(self) -> list[Scored]:
        """Return the front of cost against time over all machines and counts."""
        found: list[Scored] = []
        for each in sorted(self._classes, key=lambda item: item.price * item.least_node_hours(1)):
            fresh = list(self._candidates_for(found, each))
            if fresh:
                found = pareto_front([*found, *fresh])
        return found

    def _candidates_for(self, found: Sequence[Scored], each: _Class) -> Iterator[Scored]:
        """Yield the counts of a class that nothing on the front `found` is known to beat."""
        most = max(most for _, most, _ in each.machines)
        least = each.on.least_nodes
        if least is None or least > most:
            return
        least = self._enough(each, least, most)
        node_hours = each.least_node_hours(least)
        if least > most or _fastest(found, each.price * node_hours) <= node_hours / most:
            return
        beaten = 0.0
        for nodes in self._counts(each, least, most):
            if nodes <= beaten:
                continue
            node_hours = each.least_node_hours(nodes)
            hours = _fastest(found, each.price * node_hours)
            if hours <= node_hours / nodes:
                # More nodes cost no less, so that the same point also beats all that take as long.
                beaten = node_hours / hours
                continue
            done = each.on.performance(nodes, each.preemptions)
            if done is None or done.hours > each.max_hours:
                continue
            machine = each.cheapest(nodes, done.hours)
            if machine is None:
                continue
            item = _scored(machine, done, each)
            if not self._is_over_budget(item):
                yield item

    def _most(self, per_node: int) -> int:
        """Return how many nodes of a shape are considered."""
        if self._limits.gpus is not None:
            return -(-self._limits.gpus // per_node)
        return min(MAX_NODES, self._limits.max_accelerators // per_node)

    def _allowance(self, most: int, price: float, machine: Machine) -> int:
        """Return how many nodes of a machine may be bought, of `most` that are considered."""
        limit = self._limits.max_hourly
        if limit is not None and machine.quote_for is not None:
            most = bisect_right(range(1, most + 1), limit + _TIE, key=machine.hourly_usd)
        elif limit is not None and price:
            most = min(most, int(limit / price + _TIE))
        return most if machine.max_nodes is None else min(most, machine.max_nodes)

    def _best(self, each: _Class, most: int, *, must_fit: bool) -> Performance | str:
        """Return the cheapest of up to `most` nodes, the fewest of equal ones; or why there is none."""
        on, first = each.on, self._first(each)
        if most < first:
            return TOO_FEW
        if must_fit:
            if on.least_nodes is None:
                return on.obstacle or NO_FIT
            if on.least_nodes > most:
                return NO_FIT
            first = max(first, on.least_nodes)
        if math.isinf(each.least_node_hours(first)):
            return INTERRUPTED
        first = self._enough(each, first, most) if must_fit else first
        return self._scan(each, first, most, must_fit=must_fit) if first <= most else self._too_slow(each)

    def _too_slow(self, each: _Class) -> str:
        if each.max_hours < self._max_hours:
            return ENDS_EARLY
        return TOO_SLOW if self._limits.deadline is not None else TOO_LONG

    def _scan(self, each: _Class, first: int, most: int, *, must_fit: bool) -> Performance | str:
        best: Performance | None = None
        reason, cost = NO_FABRIC, math.inf
        for nodes in self._counts(each, first, most):
            if each.least_node_hours(nodes) * each.unit >= cost * (1 - _TIE):
                break
            if reason == NO_FABRIC:
                reason = NO_FIT
            done = each.on.performance(nodes, each.preemptions, must_fit=must_fit)
            # What does not fit is shown for its memory, whatever time it would take.
            if done is None or done.fits != must_fit:
                continue
            if must_fit and done.hours > each.max_hours * (1 + _TIE):
                reason = self._too_slow(each)
            elif done.hours * each.per_hour(nodes) < cost * (1 - _TIE):
                best, cost = done, done.hours * each.per_hour(nodes)
        return best or reason

    def _enough(self, each: _Class, first: int, most: int) -> int:
        """Return a number of nodes, at least `first`, below which the job can't be done by the deadline."""
        limit = each.max_hours
        if math.isinf(limit):
            return first
        while first <= most:
            least = each.least_node_hours(first)
            if least <= first * limit * (1 + _TIE):
                break
            first = math.ceil(least / limit - _TIE) if least < math.inf else most + 1
        return first

    def _counts(self, each: _Class, first: int, most: int) -> Iterator[int]:
        """Yield the counts that are evaluated, as far as the fabric rule of a plan allows them."""
        shape, rule = each.on.shape, self._limits.interconnect
        if shape.fabric or rule == "any":
            yield from node_counts(first, most)
            return
        if first == 1 <= most:
            yield 1
        if rule == "rdma" or (shape.accelerator.linked and each.group in self._fabric):
            return
        largest = self._largest.get(each.group, 0) if shape.accelerator.linked else 0
        yield from node_counts(max(first, 2, largest // shape.per_node + 1), most)

    def _is_over_budget(self, item: Scored) -> bool:
        return self._limits.budget is not None and item[0] > self._limits.budget

    def _named(self, reason: str, each: _Class, most: int, machine: Machine) -> str:
        """Return a reason with what limits the number of nodes, if that is why the job can't be done."""
        if most == each.most or reason not in (TOO_SLOW, TOO_LONG, ENDS_EARLY, TOO_FEW, NO_FIT):
            return reason
        limit = machine.limited_by if machine.max_nodes == most else "max_hourly"
        return (
            f"more nodes than {limit} allows" if reason == TOO_FEW else f"{reason} with the nodes that {limit} allows"
        )

    def _reject(self, reason: str, machine: Machine) -> None:
        self._rejected.setdefault(reason, []).append(machine)

    def rejections(self) -> dict[str, Rejection]:
        """Return the reasons why machines were left out, the most frequent first."""
        ordered = sorted(self._rejected.items(), key=lambda item: -len(item[1]))
        return {
            reason: Rejection(sum(len(each.zones) or 1 for each in left), tuple(map(_describe, left[:_EXAMPLES])))
            for reason, left in ordered
        }

    def outcomes(self) -> dict[str, str]:
        """Return, for each accelerator, the reason that left most of its machines out."""
        counted: dict[str, dict[str, int]] = {}
        for reason, left in self._rejected.items():
            for machine in left:
                reasons = counted.setdefault(machine.offer.instance.accelerator, {})
                reasons[reason] = reasons.get(reason, 0) + 1
        return {name: max(reasons, key=lambda reason: reasons[reason]) for name, reasons in sorted(counted.items())}


def _fastest(found: Sequence[Scored], cost: float) -> float:
    """Return the hours of the fastest point of a front that costs no more; infinity if there is none."""
    index = bisect_right(found, cost, key=_COST) - 1
    return found[index][1] if index >= 0 else math.inf


def _describe(machine: Machine) -> str:
    offer = machine.offer
    return f"{offer.provider} {offer.zone or offer.region} {offer.instance.name} {offer.purchase.replace('_', ' ')}"
