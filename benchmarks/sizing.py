"""Measures the cost of sizing: the plan of a workload on the complete packaged catalog, next to trying every gang.

To reach: `Cluster.plan(workload=...)` over every machine of the catalog in 50 ms when everything is read already, for a job that was
asked before; a new job is shown next to it. Trying every gang asks the same functions for every node count up to the same limit; it is
measured on one accelerator, as it takes minutes on all of them.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from multicompute import Cluster, Plan, accelerators
from multicompute.catalog import Catalog
from multicompute.sizing import Finetuning, Inference, JobLimits, Machine, Training, Workload, optimise
from multicompute.sizing.interruptions import PREEMPTIONS_PER_DAY
from multicompute.sizing.options import MAX_NODES
from multicompute.sizing.performance import Job, Shape, job_for
from multicompute.testing import fake_cloud

PROVIDERS = Path(__file__).parents[1] / "providers"
RESULTS = Path(__file__).parent / "results" / "sizing.txt"
DEADLINE = JobLimits(deadline=timedelta(days=30))
JOBS: dict[str, tuple[Workload, JobLimits]] = {
    "70B on 2T tokens in 30 days": (Training(params=70e9, tokens=2e12), DEADLINE),
    "7B on 2T tokens in 30 days": (Training(params=7e9, tokens=2e12), DEADLINE),
    "7B on 2T tokens in 30 days, MFU given": (Training(params=7e9, tokens=2e12, mfu=0.4), DEADLINE),
    "70B on 2T tokens": (Training(params=70e9, tokens=2e12), JobLimits()),
    "70B on 2T tokens on 512": (Training(params=70e9, tokens=2e12), JobLimits(gpus=512)),
    "70B, LoRA on 1B tokens": (Finetuning(params=70e9, tokens=1e9, method="lora"), JobLimits()),
    "70B served at 5,000 tokens/s": (Inference(params=70e9, concurrency=64, tokens_per_second=5000), JobLimits()),
}


def machines(catalog: Catalog, names: Iterable[str]) -> list[Machine]:
    """Return the on-demand and spot offers of the catalog with these accelerators."""
    lines = [line for name in names for line in catalog.listings(name)]
    return [
        Machine.of(line)
        for line in lines
        if line.purchase in ("on_demand", "spot") and not line.instance.retired and line.instance.accelerators >= 1
    ]


def every_gang(job: Job, sold: Iterable[Machine], limits: JobLimits) -> float:
    """The cheapest of all node counts of all machines, by trying them."""
    best = float("inf")
    for machine in sold:
        instance, price = machine.offer.instance, machine.offer.quote.hourly_cost
        model = accelerators.get(instance.accelerator)
        assert model is not None
        on = job.on(Shape(model, round(instance.accelerators), bool(instance.fabric), instance.hosts))
        if isinstance(on, str):
            continue
        most = min(MAX_NODES, limits.max_accelerators // round(instance.accelerators))
        for nodes in range(1, most + 1 if instance.fabric else 2):
            done = on.performance(nodes, PREEMPTIONS_PER_DAY if machine.is_spot else 0.0)
            if done is not None and done.hours <= limits.max_hours:
                best = min(best, done.hours * nodes * price)
    return best


def median_ms(action: Callable[[], object], rounds: int) -> float:
    """The median of the processor's time for one call, in milliseconds, once everything is warm; it waits for nothing."""
    action()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return 1000 * statistics.median(times)


def fresh(job: Workload, sold: list[Machine], limits: JobLimits) -> object:
    """The options of a job of which nothing is kept."""
    job_for.cache_clear()
    return optimise(job, sold, limits)


def arguments(limits: JobLimits) -> dict[str, Any]:
    """The limits of a job as arguments of a request."""
    return {"deadline": limits.deadline, "gpus": limits.gpus, "spot": "prefer"}


def planned(job: Workload, limits: JobLimits, *, is_new: bool) -> Plan:
    """The plan of a job, of which nothing is kept if it is new."""
    if is_new:
        job_for.cache_clear()
    return Cluster.plan(workload=job, **arguments(limits))


def report() -> str:
    """All tables as text."""
    catalog = Catalog({name: PROVIDERS / f"multicompute_{name}" / "data" for name in ("aws", "azure", "gcp")})
    sold = machines(catalog, catalog.accelerators())
    lines = [f"Python {sys.version.split()[0]}, {len(sold):,} machines, medians of warm calls in ms", ""]
    lines += [f"{'':<40} {'again':>8} {'new job':>8} {'optimiser':>10} {'options':>8} {'front':>6}"]
    with fake_cloud():
        for name, (job, limits) in JOBS.items():
            plan = planned(job, limits, is_new=False)
            again = median_ms(partial(planned, job, limits, is_new=False), 30)
            new = median_ms(partial(planned, job, limits, is_new=True), 10)
            alone = median_ms(partial(optimise, job, sold, limits), 30)
            row = f"{again:>8.1f} {new:>8.1f} {alone:>10.1f} {len(plan.options):>8,} {len(plan.pareto):>6}"
            lines += [f"{name:<40} {row}"]
    job, limits = JOBS["70B on 2T tokens in 30 days"]
    h100 = machines(catalog, ["h100"])
    ours = median_ms(partial(fresh, job, h100, limits), 10)
    tried = median_ms(lambda: every_gang(Job(job), h100, limits), 3)
    lines += ["", f"{len(h100)} machines with h100: {ours:.1f}, every gang: {tried:.1f}, ratio {tried / ours:.0f}"]
    best = optimise(job, h100, limits).best
    assert best is not None
    lines += [f"cheapest: ${best.total_usd:,.0f}, of every gang: ${every_gang(Job(job), h100, limits):,.0f}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = report()
    print(text, end="")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")
