"""Measures a plan with warm caches, compared with a plain loop over the same rows, and with growing tables.

The plain loop does what a script would that only needs the cheapest offer: nodes times price for every offer of the
accelerator, sorted. It checks nothing else, counts no reasons and makes no plan. The bounds: `Cluster.plan` for 64 H100 in
at most 0.5 ms, and a time that grows with the number of matching offers, not with the catalog.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from math import ceil
from pathlib import Path

from multicompute import Cluster
from multicompute.catalog import Catalog
from multicompute.config import apply_environment
from multicompute.ledger import Ledger
from multicompute.offer import Listing
from multicompute.plan import Plan
from multicompute.resolver import resolve
from multicompute.spec import ClusterSpec

NOW = datetime(2026, 11, 24, tzinfo=UTC)
PROVIDERS = Path(__file__).parents[1] / "providers"
RESULTS = Path(__file__).parent / "results" / "plan.txt"
FAMILY = frozenset({"h100", "h100-nvl"})
SPECS = {
    "64 x h100": ClusterSpec(gpus=64, type=("h100",)),
    "64 x h100, spot too, eu or us, at most $10": ClusterSpec(
        gpus=64, type=("h100",), spot="prefer", regions=("eu", "us"), max_price=10
    ),
    "8 x t4, spot too, any interconnect": ClusterSpec(gpus=8, type=("t4",), spot="prefer", interconnect="any"),
    "64 x tpu-v5p": ClusterSpec(gpus=64, type=("tpu-v5p",)),
    "64 x h100 or a100 or h200": ClusterSpec(gpus=64, type=("h100", "a100", "h200")),
}


class Grown(Catalog):
    """The real catalog with every line `factor` times, in regions with other names; for some accelerators, or all others."""

    def __init__(self, factor: int, *, of: frozenset[str], others: bool) -> None:
        super().__init__({name: PROVIDERS / f"multicompute_{name}" / "data" for name in ("aws", "azure", "gcp")})
        self._factor = factor
        self._of = of
        self._others = others
        self._grown: dict[str, tuple[Listing, ...]] = {}

        count = super().offer_count
        own = sum(len(line.offers) for name in of for line in super(Grown, self).listings(name))
        self._count = own + (count - own) * factor if others else count + own * (factor - 1)

    @property
    def offer_count(self) -> int:
        # Computed as in the real catalog, so that its cost is included.
        return self._count if super().offer_count else 0

    def listings(self, accelerator: str, *, provider: str | None = None) -> tuple[Listing, ...]:
        lines = super().listings(accelerator, provider=provider)
        if (accelerator in self._of) == self._others:
            return lines
        if accelerator not in self._grown:
            self._grown[accelerator] = tuple(
                replace(line, region=replace(line.region, name=f"{line.region.name}-{copy}")) if copy else line
                for copy in range(self._factor)
                for line in lines
            )
        return self._grown[accelerator]


def plan(catalog: Catalog, spec: ClusterSpec) -> Plan:
    return resolve(spec, catalog, now=NOW, configured={"aws": "", "azure": "", "gcp": ""})


def plain_loop(catalog: Catalog, spec: ClusterSpec) -> list[tuple[float, str, str, str]]:
    """Return the totals of all offers of the accelerator, cheapest first."""
    found = []
    for line in (*catalog.listings("h100"), *catalog.listings("h100-nvl")):
        total = ceil((spec.gpus or 1) / line.instance.accelerators) * line.quote.hourly_cost
        for zone in line.zones or ("",):
            found.append((total, line.region.name, zone, line.instance.name))
    return sorted(found)


def median_ms(action: Callable[[], object], rounds: int) -> float:
    """Return the median time of one warm call, in milliseconds."""
    action()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def public_calls() -> list[str]:
    """Return the times of the public calls, which also read the configuration and remembered outages."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {"MULTICOMPUTE_STATE": f"sqlite:///{folder}/state.db", "MULTICOMPUTE_CONFIG": os.devnull}
        with apply_environment(variables):
            call = partial(Cluster.plan, gpus=64, type="h100")
            lines = [f"{'Cluster.plan(64, h100), no ledger yet':<46} {median_ms(call, 300):>8.3f}"]
            Ledger(variables["MULTICOMPUTE_STATE"]).close()
            lines += [f"{'Cluster.plan(64, h100), with a ledger':<46} {median_ms(call, 300):>8.3f}"]
    return lines


def report() -> str:
    """Return all tables as text."""
    catalog = Grown(1, of=FAMILY, others=True)
    h100 = SPECS["64 x h100"]
    lines = [f"Python {sys.version.split()[0]}, {catalog.offer_count:,} offers, medians of warm calls in ms", ""]
    lines += [f"{'':<46} {'ms':>8} {'candidates':>10}"]
    for name, spec in SPECS.items():
        ms = median_ms(partial(plan, catalog, spec), 300)
        lines += [f"{name:<46} {ms:>8.3f} {len(plan(catalog, spec)):>10}"]
    lines += [f"{'plain loop over h100':<46} {median_ms(partial(plain_loop, catalog, h100), 300):>8.3f}"]
    lines += [f"{'64 x h100, every candidate read':<46} {median_ms(lambda: list(plan(catalog, h100)), 300):>8.3f}"]
    lines += public_calls()
    lines += ["", f"{'64 x h100 as the tables grow':<36} {'offers':>12} {'plan':>8} {'plain loop':>10} {'ratio':>6}"]
    for others, what in ((True, "rows of other accelerators"), (False, "rows of h100 itself")):
        for factor in (1, 10, 100):
            grown = Grown(factor, of=FAMILY, others=others)
            rounds = 300 if others else max(15, 300 // factor)
            ours = median_ms(partial(plan, grown, h100), rounds)
            loop = median_ms(partial(plain_loop, grown, h100), rounds)
            lines += [
                f"{factor:>4} x {what:<29} {grown.offer_count:>12,} {ours:>8.3f} {loop:>10.3f} {ours / loop:>6.2f}"
            ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = report()
    print(text, end="")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")
