"""Splits a job over accelerators: the layouts that are possible, the one to take, and the smallest count that fits."""

import functools
import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

from multicompute.sizing.memory import Footprint, Layout

MAX_TENSOR: Final = 128
"""Largest tensor parallel degree that is considered: more heads than any published run gives an accelerator of their own."""
MAX_COUNT: Final = 1_000_000
"""The count at which the search for one that fits stops."""


@functools.lru_cache(maxsize=4096)
def divisors(number: int) -> tuple[int, ...]:
    """Return the divisors of `number` in ascending order."""
    small = [each for each in range(1, int(number**0.5) + 1) if number % each == 0]
    return tuple(small + [number // each for each in reversed(small) if each * each != number])


Split = tuple[int, int, int]
"""Tensor, pipeline and data parallel degree."""


@dataclass(frozen=True, slots=True)
class Splits:
    """The ways to split a job over a number of accelerators.

    Attributes:
        inside: With tensor parallelism inside of a node, by rising model parallelism, and then fewer stages first.
        across: The others, in the same order.
        inside_sizes, across_sizes: Tensor x pipeline of each.
    """

    inside: tuple[Split, ...]
    across: tuple[Split, ...]
    inside_sizes: tuple[int, ...]
    across_sizes: tuple[int, ...]


def spans_nodes(tensor: int, per_node: int, accelerators: int) -> bool:
    """Return whether a group of tensor parallelism has members in several nodes.

    Groups follow each other, so that those of six straddle the border of nodes of eight, unless there is one node only.
    """
    return tensor > per_node or (per_node % tensor != 0 and accelerators > per_node)


@functools.lru_cache(maxsize=65536)
def splits(accelerators: int, heads: int, layers: int, per_node: int) -> Splits:
    """Return the ways to split a job over `accelerators`.

    Tensor parallelism divides the heads, a pipeline has at most one stage per layer. Less model parallelism communicates
    less; of the same, tensor parallelism inside of a node is preferred to a pipeline, and a pipeline to tensor
    parallelism across nodes (Narayanan et al. 2021, arXiv 2104.04473, section 3, takeaways 1 to 3).

    Args:
        accelerators: How many there are.
        heads: Attention heads of the model.
        layers: Layers of the model.
        per_node: Accelerators of one node.
    """
    found: tuple[list[tuple[int, int, int]], ...] = ([], [])
    for tensor in divisors(accelerators):
        if tensor > min(heads, MAX_TENSOR):
            break
        if heads % tensor == 0:
            block = found[spans_nodes(tensor, per_node, accelerators)]
            block += [(tensor * each, each, tensor) for each in divisors(accelerators // tensor) if each <= layers]
    inside, across = (sorted(block) for block in found)
    return Splits(
        tuple((tensor, pipeline, accelerators // size) for size, pipeline, tensor in inside),
        tuple((tensor, pipeline, accelerators // size) for size, pipeline, tensor in across),
        tuple(size for size, _, _ in inside),
        tuple(size for size, _, _ in across),
    )


def layouts(accelerators: int, *, heads: int, layers: int, per_node: int, zero: int) -> tuple[Layout, ...]:
    """Return the layouts of a job over `accelerators`, the ones to prefer first."""
    found = splits(accelerators, heads, layers, per_node)
    return tuple(
        Layout(data=data, tensor=tensor, pipeline=pipeline, zero=zero)
        for tensor, pipeline, data in (*found.inside, *found.across)
    )


class LayoutFinder:
    """Finds how a job is split over any number of accelerators of any size.

    The layout to take is the first one that fits and has no data-parallel rank without work. In addition, a higher ZeRO
    stage never needs more memory than a lower one, so that a layout must also stay within what the lower stage needs.

    Args:
        footprint: The memory of the job.
        heads: Attention heads of the model.
        zero: ZeRO stage.
        max_data: How many data-parallel ranks have work.
    """

    def __init__(self, footprint: Footprint, *, heads: int, zero: int, max_data: float = math.inf) -> None:
        """Compute the memory that each ZeRO stage shares between the ranks."""
        self._footprint = footprint
        self._heads = heads
        self._zero = zero
        self._max_data = max_data
        self._parts = footprint.sequence_parts
        parts = (footprint.weights, footprint.gradients, footprint.optimizer)
        # ZeRO shares the optimizer first, then gradients, then weights.
        self._states = [(sum(parts[: 3 - stage]), sum(parts[3 - stage :])) for stage in range(zero + 1)]
        self._terms: tuple[dict[tuple[int, int], tuple[float, float, float, float]], ...] = tuple(
            {} for _ in range(zero + 1)
        )

    def find(self, accelerators: int, per_node: int, room: float) -> Layout | None:
        """Return the layout to take, or None if none fits.

        Args:
            accelerators: How many there are.
            per_node: Accelerators of one node.
            room: Bytes that may be filled on each accelerator.
        """
        found = splits(accelerators, self._heads, self._footprint.layers, per_node)
        best = self._best(found, accelerators, room, accelerators / self._max_data)
        if best is None and accelerators > self._max_data:
            best = self._best(found, accelerators, room, 1)
        return best and Layout(data=best[2], tensor=best[0], pipeline=best[1], zero=self._zero)

    def _best(self, found: Splits, accelerators: int, room: float, least: float) -> Split | None:
        """Return the split to take of those with a model parallelism of at least `least`."""
        best: Split | None = None
        limit = room
        for stage in range(self._zero + 1):
            best = self._within(found, accelerators, stage, limit, least)
            if best is None and limit < room:
                # On few ranks, the layers that stage 3 gathers can be more than what it shards.
                best = self._within(found, accelerators, stage, room, least)
            limit = room if best is None else self._needed(best, stage)
        return best

    def _within(self, found: Splits, accelerators: int, stage: int, room: float, least: float) -> Split | None:
        """Return the first split that stays within `room`, None if there is none."""
        # States alone take fixed / (t p) + shared / n, so that smaller splits need not be tried.
        fixed, shared = self._states[stage]
        left = room - shared / accelerators
        if left <= 0:
            return None
        size = max(least, fixed / left) * (1 - 1e-12)
        for block, sizes in ((found.inside, found.inside_sizes), (found.across, found.across_sizes)):
            for index in range(bisect_left(sizes, size), len(block)):
                if self._needed(block[index], stage) <= room:
                    return block[index]
        return None

    def _needed(self, split: Split, stage: int) -> float:
        """Return the bytes on an accelerator: a + b / d + c / parts for d ranks from two on, worked out once for each stage, t and p."""
        tensor, pipeline, data = split
        terms = self._terms[stage].get((tensor, pipeline))
        if terms is None:
            memory = self._footprint
            alone, two, four = (memory.held(tensor, pipeline, ranks, stage) for ranks in (1, 2, 4))
            shared, worked_on = 4 * (two - four), memory.worked_on(tensor, pipeline)
            terms = self._terms[stage][tensor, pipeline] = (alone + worked_on, two - shared / 2, shared, worked_on)
        if data == 1:
            return terms[0]
        return terms[1] + terms[2] / data + terms[3] / math.gcd(data, self._parts)


def tightest_layout(footprint: Footprint, accelerators: int, *, heads: int, per_node: int, zero: int) -> Layout:
    """Return the layout that needs the least memory, whether it fits or not."""
    every = layouts(accelerators, heads=heads, layers=footprint.layers, per_node=per_node, zero=zero)
    return min(every, key=footprint.per_accelerator)


def min_accelerators(
    footprint: Footprint, *, heads: int, zero: int, room: float, per_node: int = MAX_TENSOR
) -> int | None:
    """Return the smallest count on which the job fits with some layout, or None if no count does.

    Args:
        footprint: The memory of the job.
        heads: Attention heads of the model.
        zero: ZeRO stage.
        room: Bytes that may be filled on each accelerator.
        per_node: Accelerators of one node; any number by default.
    """
    widest = max(degree for degree in divisors(heads) if degree <= MAX_TENSOR)
    # What no split over more ranks makes smaller; a power of two, so that ranks share sequences as far as they can be split.
    least = Layout(data=2**20, tensor=widest, pipeline=footprint.layers, zero=zero)
    if footprint.per_accelerator(least) > room:
        return None
    finder = LayoutFinder(footprint, heads=heads, zero=zero)
    count = max(1, int(footprint.states / room))
    while count <= MAX_COUNT:
        if finder.find(count, per_node, room):
            return count
        count += 1
    return None
