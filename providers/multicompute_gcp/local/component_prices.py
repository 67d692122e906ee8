"""Prices of components of which the packaged prices of machine types are sums, so that the local price list agrees with the tables."""

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final

from multicompute.offer import InstanceType
from multicompute_gcp.local.hardware import CPU, rows
from multicompute_gcp.prices._rates import parts_of

Key = tuple[str, str, str]
"""A component, a region and a purchase."""
Parts = Mapping[str, float]
"""The number of units of each component in a machine."""
Equation = tuple[Parts, float]
"""The parts of a machine, and its price."""
Prior = Callable[[str, str, str], Decimal]

# Keeps rates that the prices leave open near the prior ones. So small that it changes no price.
_PULL: Final = 1e-12
_SSD: Final = "ssd"
_NANO: Final = Decimal("1e-9")


def fitted(prior: Prior, purchase: str) -> dict[Key, Decimal]:
    """Return the rates of one purchase, in USD per hour and core, GiB, GPU, slice or chip; regions without an offer are missing.

    Local SSDs keep their prior price, because machines of many families have them.

    Args:
        prior: Component, region and purchase -> a rate. The prices of machines leave some rates open: where all sizes have as many GiB per
            core, any split will do. Of all rates that fit, those nearest to the prior ones are used.
        purchase: The purchase.
    """
    equations: dict[tuple[str, str], list[Equation]] = defaultdict(list)
    for parts, region, usd in _offers().get(purchase, ()):
        # Cores and RAM connect the machines of a series.
        disks = parts.get(_SSD, 0.0) and parts[_SSD] * float(prior(_SSD, region, purchase))
        equations[next(iter(parts)), region].append((parts, usd - disks))
    found: dict[Key, Decimal] = {}
    for (_, region), group in equations.items():
        before = {name: float(prior(name, region, purchase)) for parts, _ in group for name in parts if name != _SSD}
        found |= {(name, region, purchase): usd for name, usd in _rounded(group, before).items()}
    return found


@functools.cache
def _offers() -> Mapping[str, list[tuple[Parts, str, float]]]:
    """Return purchase -> the parts, the region and the price of each packaged offer whose parts are known."""
    found: dict[str, list[tuple[Parts, str, float]]] = defaultdict(list)
    for shard in (row["shard"] for row in rows("shards.csv")):
        types = {(row["instance_type"], row["accelerators"]): _parts(row, shard) for row in rows(f"{shard}/types.csv")}
        for row in rows(f"{shard}/offers.csv"):
            if parts := types[row["instance_type"], row["accelerators"]]:
                found[row["purchase"]].append((parts, row["region"], float(row["hourly_usd"])))
    return found


def _parts(row: Mapping[str, str], shard: str) -> Parts:
    instance = InstanceType(
        "gcp",
        row["instance_type"],
        "" if shard == CPU else shard,
        float(row["accelerators"]),
        vcpus=int(float(row["vcpus"])),
        memory_gib=float(row["memory_gib"]),
        hosts=int(row["hosts"]),
    )
    return {component: float(count) for component, count in parts_of(instance)}


def _rounded(equations: Sequence[Equation], before: Mapping[str, float]) -> dict[str, Decimal]:
    """Return the rates that solve the equations in whole nanodollars.

    Each is rounded before the next one is computed, so that the errors do not add up. RAM is the first: a machine has thousands of GiB.
    """
    found: dict[str, Decimal] = {}
    names = sorted(before)
    while names:
        last = names.pop()
        usd = _nearest(equations, [*names, last], [before[name] for name in (*names, last)])[-1]
        found[last] = Decimal(usd).quantize(_NANO)
        equations = [(parts, price - parts.get(last, 0.0) * float(found[last])) for parts, price in equations]
    return found


def _nearest(equations: Sequence[Equation], names: Sequence[str], before: Sequence[float]) -> list[float]:
    """Return the rates that solve the equations best, and of those the nearest to the ones before, by ridge regression."""
    top = max(price for _, price in equations)
    size = len(names)
    matrix = [[_PULL if row == column else 0.0 for column in range(size + 1)] for row in range(size)]
    for parts, price in equations:
        terms = [parts.get(name, 0.0) * rate / top for name, rate in zip(names, before, strict=True)]
        gaps = [*terms, price / top - sum(terms)]
        for row, term in enumerate(terms):
            if term:
                matrix[row] = [cell + term * gap for cell, gap in zip(matrix[row], gaps, strict=True)]
    return [rate * (1 + change) for rate, change in zip(before, _solved(matrix), strict=True)]


def _solved(matrix: list[list[float]]) -> list[float]:
    """Return the solution of linear equations, by Gauss-Jordan elimination; the last column has the right sides."""
    size = len(matrix)
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(matrix[row][column]))
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        matrix[column] = [cell / matrix[column][column] for cell in matrix[column]]
        for row in range(size):
            if row != column and (factor := matrix[row][column]):
                matrix[row] = [cell - factor * other for cell, other in zip(matrix[row], matrix[column], strict=True)]
    return [row[-1] for row in matrix]
