"""The cheapest way to run a job, against trying everything."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multicompute import accelerators
from multicompute.accelerators import Accelerator
from multicompute.catalog import Catalog
from multicompute.sizing import Finetuning, Inference, JobLimits, Machine, Training, Workload, optimise
from multicompute.sizing.flops import total_flops
from multicompute.sizing.interruptions import PREEMPTIONS_PER_DAY
from multicompute.sizing.memory import footprint, usable_memory
from multicompute.sizing.mfu import peak_tflops
from multicompute.sizing.optimiser import FRONT_POINTS, node_counts
from multicompute.sizing.performance import Job, Shape
from tests.unit.sizing.machines import machine

PROVIDERS = Path(__file__).parents[3] / "providers"

MACHINES = st.lists(
    st.builds(
        machine,
        st.sampled_from(("h100", "a100-80gb", "a100", "v100-32gb", "t4", "l40s", "tpu-v5e", "mi300x")),
        st.sampled_from((1, 2, 4, 8)),
        price=st.integers(1, 200).map(lambda tenths: tenths / 10),
        fabric=st.sampled_from(("", "fast")),
        purchase=st.sampled_from(("on_demand", "spot")),
        max_nodes=st.integers(1, 16),
        region=st.sampled_from(("r1", "r2")),
        transfer_usd=st.sampled_from((0.0, 25.0)),
    ),
    min_size=1,
    max_size=6,
)
WORKLOADS: st.SearchStrategy[Workload] = (
    st.builds(
        lambda params, tokens, zero, mfu: Training.model_validate(
            {"params": params, "tokens": tokens, "zero": zero, "mfu": mfu}
        ),
        st.floats(1e8, 2e10),
        st.floats(1e9, 1e11),
        st.integers(0, 3),
        st.sampled_from((None, 0.4)),
    )
    | st.builds(
        lambda params, mfu: Finetuning(params=params, tokens=1e9, method="lora", mfu=mfu),
        st.floats(1e9, 7e10),
        st.sampled_from((None, 0.3)),
    )
    | st.builds(
        lambda params, rate, tokens: Inference(
            params=params, concurrency=8, context=2048, tokens_per_second=rate, tokens=tokens
        ),
        st.floats(1e9, 3e10),
        st.sampled_from((None, 500, 20_000)),
        st.sampled_from((None, 1e8)),
    )
)
LIMITS = st.builds(
    JobLimits,
    deadline=st.sampled_from((None, timedelta(hours=2), timedelta(days=2), timedelta(days=60))),
    gpus=st.sampled_from((None, None, 1, 8, 24)),
    max_hourly=st.sampled_from((None, None, 40.0)),
    budget=st.sampled_from((None, None, 2000.0)),
    interconnect=st.sampled_from(("auto", "any", "rdma")),
)


def model_of(each: Machine) -> Accelerator:
    found = accelerators.get(each.offer.instance.accelerator)
    assert found is not None
    return found


def may_be_bought(each: Machine, nodes: int, limits: JobLimits) -> bool:
    instance, price = each.offer.instance, each.offer.quote.hourly_cost
    if limits.gpus is not None and nodes != math.ceil(limits.gpus / instance.accelerators):
        return False
    return limits.max_hourly is None or nodes * price <= limits.max_hourly + 1e-9


def is_joined(each: Machine, nodes: int, limits: JobLimits, family: set[tuple[bool, float]]) -> bool:
    """Return whether so many nodes have the fabric that a plan would ask for."""
    instance = each.offer.instance
    if nodes == 1 or instance.fabric or limits.interconnect == "any":
        return True
    better = any(fabric or count >= nodes * instance.accelerators for fabric, count in family)
    return limits.interconnect == "auto" and not (model_of(each).linked and better)


def every_gang(job: Job, machines: Sequence[Machine], limits: JobLimits) -> Iterator[tuple[Machine, int, float, float]]:
    """Try every node count of every machine: yields machine, nodes, cost and hours of those that are allowed."""
    families: dict[str, set[tuple[bool, float]]] = {}
    for each in machines:
        instance, family = each.offer.instance, families.setdefault(model_of(each).family, set())
        # What costs more in an hour than is allowed, on the fewest nodes, is no choice to wait for.
        if may_be_bought(each, math.ceil((limits.gpus or 1) / instance.accelerators), limits):
            family.add((bool(instance.fabric), instance.accelerators))
    for each in machines:
        model = model_of(each)
        offer, per_node = each.offer, round(each.offer.instance.accelerators)
        on = job.on(Shape(model, per_node, bool(offer.instance.fabric)))
        if isinstance(on, str):
            continue
        for nodes in range(1, (each.max_nodes or 0) + 1):
            if not may_be_bought(each, nodes, limits) or not is_joined(each, nodes, limits, families[model.family]):
                continue
            done = on.performance(nodes, PREEMPTIONS_PER_DAY if each.is_spot else 0.0)
            if done is None or done.hours > limits.max_hours:
                continue
            cost = done.hours * nodes * offer.quote.hourly_cost + each.transfer_usd
            if limits.budget is None or round(cost, 6) <= limits.budget:
                yield each, nodes, cost, done.hours


def front_of(points: set[tuple[float, float]]) -> set[tuple[float, float]]:
    """Return what no other point beats, by going through the points in order of cost."""
    found: list[tuple[float, float]] = []
    for cost, hours in sorted(points):
        if not found or hours < found[-1][1]:
            found.append((cost, hours))
    return set(found)


@settings(max_examples=100, deadline=None)
@given(workload=WORKLOADS, machines=MACHINES, limits=LIMITS)
def test_the_cheapest_option_is_the_cheapest_of_all_gangs(
    workload: Workload, machines: list[Machine], limits: JobLimits
) -> None:
    plan = optimise(workload, machines, limits)
    job = Job(workload, serve=limits.serve, across_nodes=limits.interconnect == "any")
    tried = list(every_gang(job, machines, limits))
    if not tried:
        assert plan.best is None or not plan.best.performance.fits
        return
    assert plan.best is not None
    assert plan.best.performance.fits
    assert plan.best.total_usd == pytest.approx(min(cost for _, _, cost, _ in tried), rel=1e-6)
    for option in plan.options:
        assert any(each is option.machine and nodes == option.nodes for each, nodes, _, _ in tried)
    # Every machine that can do it is listed, at its own cheapest count.
    for each in {id(item): item for item, _, _, _ in tried}.values():
        cheapest = min(cost for item, _, cost, _ in tried if item is each)
        listed = min(option.total_usd for option in plan.options if option.machine is each)
        assert listed == pytest.approx(cheapest, rel=1e-6)


@settings(max_examples=100, deadline=None)
@given(workload=WORKLOADS, machines=MACHINES, limits=LIMITS)
def test_the_front_is_that_of_all_gangs(workload: Workload, machines: list[Machine], limits: JobLimits) -> None:
    plan = optimise(workload, machines, limits)
    job = Job(workload, serve=limits.serve, across_nodes=limits.interconnect == "any")
    points = {(round(cost, 6), hours) for _, _, cost, hours in every_gang(job, machines, limits)}
    listed = {(round(option.total_usd, 6), option.hours) for option in plan.options if option.performance.fits}
    chosen = {(round(plan.options[index].total_usd, 6), plan.options[index].hours) for index in plan.pareto}
    assert chosen == front_of(listed)
    expected = front_of(points)
    if workload.mfu is None and len(expected) <= FRONT_POINTS:
        assert chosen == expected


@settings(max_examples=60, deadline=None)
@given(
    params=st.floats(1e8, 2e10),
    tokens=st.floats(1e9, 1e11),
    mfu=st.floats(0.1, 0.6),
    machines=MACHINES,
    hours=st.sampled_from((None, 24, 500)),
)
def test_at_a_given_mfu_hours_and_cost_are_those_of_the_formula(
    params: float, tokens: float, mfu: float, machines: list[Machine], hours: int | None
) -> None:
    job = Training(params=params, tokens=tokens, mfu=mfu)
    plan = optimise(job, machines, JobLimits(deadline=timedelta(hours=hours) if hours else None, interconnect="any"))
    found = {(id(option.machine), option.nodes): option for option in plan.options}
    memory, shape = footprint(job), job.shape
    for each in machines:
        instance = each.offer.instance
        model = model_of(each)
        peak = peak_tflops(model, "bf16")
        assert peak is not None
        enough = []
        for nodes in range(1, (each.max_nodes or 0) + 1):
            count = round(nodes * instance.accelerators)
            fits = any(
                memory.bytes_on(t, p, count // (t * p), 1) <= usable_memory(model.memory_gib)
                for t in range(1, shape.heads + 1)
                if shape.heads % t == 0
                for p in range(1, shape.layers + 1)
                if count % (t * p) == 0
            )
            took = total_flops(job) / (count * peak * 1e12 * mfu * 3600)
            if fits and took <= (hours or 365 * 24):
                enough.append((nodes, took, took * nodes * each.offer.quote.hourly_cost + each.transfer_usd))
        if each.offer.purchase == "spot":
            continue
        if enough:
            nodes, took, cost = enough[0]
            option = found[id(each), nodes]
            assert option.hours == pytest.approx(took, rel=1e-9)
            assert option.total_usd == pytest.approx(cost, rel=1e-9)
            assert option.performance.accelerator_hours == pytest.approx(
                took * option.performance.accelerators, rel=1e-9
            )
        else:
            assert all(option.machine is not each for option in plan.options)


@settings(max_examples=100, deadline=None)
@given(workload=WORKLOADS, one=MACHINES.map(lambda found: found[0]), preemptions=st.sampled_from((0.0, 0.01, 0.2, 3.0)))
def test_the_bound_that_ends_a_search_is_never_more_than_what_a_gang_takes(
    workload: Workload, one: Machine, preemptions: float
) -> None:
    model = model_of(one)
    on = Job(workload).on(Shape(model, round(one.offer.instance.accelerators), bool(one.offer.instance.fabric)))
    assert not isinstance(on, str)
    bounds = [on.least_node_hours(nodes, preemptions) for nodes in (1, 2, 3, 8, 40, 200, 1500)]
    assert bounds == sorted(bounds)
    for nodes in (1, 2, 3, 8, 40, 200, 1500):
        done = on.performance(nodes, preemptions)
        if done is not None:
            assert on.least_nodes is not None
            assert nodes >= on.least_nodes
            assert done.hours * nodes >= on.least_node_hours(nodes, preemptions) * (1 - 1e-9)


def packaged_machines() -> list[Machine]:
    catalog = Catalog({name: PROVIDERS / f"multicompute_{name}" / "data" for name in ("aws", "azure", "gcp")})
    lines = [line for name in catalog.accelerators() for line in catalog.listings(name)]
    return [Machine.of(line) for line in lines if not line.instance.retired and line.instance.accelerators >= 1]


def test_on_the_packaged_catalog_the_cheapest_option_and_the_front_are_those_of_all_gangs() -> None:
    job = Training(params=70e9, tokens=2e12)
    names = ("h100", "h100-nvl", "h200", "b200")
    machines = [
        replace(each, max_nodes=150) for each in packaged_machines() if each.offer.instance.accelerator in names
    ]
    limits = JobLimits(deadline=timedelta(days=60))
    plan = optimise(job, machines, limits)
    assert plan.best is not None
    tried = list(every_gang(Job(job), machines, limits))
    assert len(tried) > 10_000
    assert plan.best.total_usd == pytest.approx(min(cost for _, _, cost, _ in tried), rel=1e-6)
    front = sorted(front_of({(round(cost, 6), hours) for _, _, cost, hours in tried}))
    for index in plan.pareto:
        option = plan.options[index]
        cheapest = min(cost for cost, hours in front if hours <= option.hours)
        # Counts beyond 32 are looked into in steps of 1/16, which costs next to nothing.
        assert option.total_usd == pytest.approx(cheapest, rel=0.01)


def test_at_a_given_mfu_the_cheapest_accelerator_hour_wins_on_the_packaged_catalog() -> None:
    job = Training(params=7e9, tokens=1e12, mfu=0.4)
    machines = [
        each
        for each in packaged_machines()
        if each.offer.purchase == "on_demand" and each.offer.instance.accelerator == "h100"
    ]
    plan = optimise(job, machines, JobLimits(deadline=timedelta(days=30)))
    assert plan.best is not None
    cheapest = min(
        each.offer.quote.hourly_cost / each.offer.instance.accelerators
        for each in machines
        if each.offer.instance.fabric
    )
    assert plan.best.total_usd == pytest.approx(plan.best.performance.accelerator_hours * cheapest, rel=1e-6)


def test_a_deadline_asks_for_the_fewest_nodes_that_keep_it() -> None:
    job = Training(params=7e9, tokens=1e12, mfu=0.4)
    plan = optimise(job, [machine("h100", 8, price=50.0, fabric="fast")], JobLimits(deadline=timedelta(days=10)))
    assert plan.best is not None
    hours = total_flops(job) / (989.4e12 * 0.4 * 3600)
    assert plan.best.nodes == math.ceil(hours / 240 / 8)
    assert plan.best.hours <= 240


def test_without_a_given_mfu_more_nodes_are_faster_and_dearer() -> None:
    plan = optimise(Training(params=7e9, tokens=1e12), [machine("h100", 8, price=50.0, fabric="fast", max_nodes=32)])
    chosen = [plan.options[index] for index in plan.pareto]
    assert 10 < len(chosen) <= FRONT_POINTS
    costs, hours = [each.total_usd for each in chosen], [each.hours for each in chosen]
    assert costs == sorted(costs)
    assert hours == sorted(hours, reverse=True)
    assert [each.nodes for each in chosen][-1] == 32


def test_spot_nodes_take_longer_by_what_preemptions_cost() -> None:
    job = Training(params=7e9, tokens=1e12, mfu=0.4)
    demand, spot = (
        machine("h100", 8, price=50.0, fabric="fast", purchase=purchase) for purchase in ("on_demand", "spot")
    )
    plan = optimise(job, [demand, spot], JobLimits(gpus=512))
    hours = {option.machine.offer.purchase: option.hours for option in plan.options}
    assert hours["spot"] / hours["on_demand"] == pytest.approx(1 / (1 - 0.14), abs=0.01)
    assert plan.best is not None
    assert plan.best.machine.offer.purchase == "on_demand"


def test_a_limit_on_nodes_is_named_where_it_is_what_leaves_a_machine_out() -> None:
    plan = optimise(
        Training(params=70e9, tokens=2e12),
        [machine("h100", 8, price=50.0, fabric="fast", max_nodes=4)],
        JobLimits(deadline=timedelta(days=30)),
    )
    assert plan.best is None
    assert list(plan.rejected) == ["not done by the deadline with the nodes that quota allows"]
    assert plan.outcomes == {"h100": "not done by the deadline with the nodes that quota allows"}


@pytest.mark.parametrize(
    ("one", "limits", "reason"),
    [
        (machine("unheard-of", 8, price=1.0), JobLimits(), "no accelerator that is known here"),
        (machine("l4", 0.5, price=1.0), JobLimits(), "a fraction of an accelerator"),
        (machine("rtx-pro-4500", 8, price=1.0), JobLimits(), "no peak in bf16 is published"),
        (machine("h100", 1, price=1.0), JobLimits(gpus=8, interconnect="rdma"), "no fabric between nodes"),
        (machine("t4", 1, price=1.0), JobLimits(gpus=1), "the model does not fit"),
        (machine("h100", 8, price=90.0, fabric="fast"), JobLimits(budget=10.0), "more than the budget"),
        (
            machine("h100", 8, price=90.0, fabric="fast"),
            JobLimits(max_hourly=50.0),
            "more nodes than max_hourly allows",
        ),
        (
            machine("h100", 8, price=9.0, fabric="fast", purchase="spot", hosts=5000),
            JobLimits(),
            "interrupted too often to make progress",
        ),
    ],
)
def test_what_leaves_a_machine_out_is_counted(one: Machine, limits: JobLimits, reason: str) -> None:
    plan = optimise(Training(params=7e9, tokens=1e12), [one], limits)
    assert list(plan.rejected) == [reason]
    assert plan.rejected[reason].count == 1
    assert plan.rejected[reason].examples[0].startswith("fake r1-a ")


def test_a_replica_does_not_span_nodes_without_a_fabric() -> None:
    job = Inference(params=70e9)
    assert "a replica does not fit on one node" in next(iter(optimise(job, [machine("h100", 1, price=5.0)]).rejected))
    plan = optimise(job, [machine("h100", 1, price=5.0, fabric="fast")])
    assert plan.best is not None
    assert plan.best.nodes == 2


def test_throughput_beyond_one_replica_comes_from_replicas() -> None:
    one, many = (Inference(params=8e9, concurrency=16, tokens_per_second=rate) for rate in (1, 10_000))
    shapes = [machine("h100", 1, price=5.0)]
    least, most = optimise(one, shapes).best, optimise(many, shapes).best
    assert least is not None
    assert most is not None
    assert most.nodes == math.ceil(10_000 / least.performance.tokens_per_second)
    assert most.performance.layout.data == most.nodes


def test_a_served_model_costs_what_its_nodes_cost_in_that_time() -> None:
    plan = optimise(Inference(params=8e9), [machine("h100", 1, price=5.0)], JobLimits(serve=timedelta(days=30)))
    assert plan.best is not None
    assert plan.best.total_usd == 5.0 * 30 * 24


def test_counts_are_tried_one_by_one_and_then_in_steps_of_a_sixteenth() -> None:
    counts = list(node_counts(5, 400))
    assert counts[:33] == list(range(5, 38))
    assert all(1 <= after - before <= max(1, before // 16) for before, after in itertools.pairwise(counts))
    assert counts[-1] <= 400
