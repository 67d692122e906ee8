"""The plan of a workload against ordinary plans: each count of each accelerator is planned on its own, and its job computed."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from multicompute import accelerators
from multicompute.catalog import Catalog
from multicompute.config import Discount
from multicompute.errors import SpecError
from multicompute.offer import InstanceType, Listing, Region
from multicompute.plan import Candidate, Outage, Plan
from multicompute.price_feed import Interruption
from multicompute.provider import Availability, LifetimeLimit
from multicompute.resolver import resolve
from multicompute.resolver.discounts import Discounts, known_discounts
from multicompute.sizing import Finetuning, Inference, Training, Workload
from multicompute.sizing.interruptions import PREEMPTIONS_PER_DAY
from multicompute.sizing.optimiser import FRONT_POINTS
from multicompute.sizing.performance import Job, Shape
from multicompute.spec import ClusterSpec
from tests.unit.resolver.fake_catalog import NOW, FakeCatalog
from tests.unit.resolver.fake_catalog import line as line_of
from tests.unit.resolver.strategies import maybe

EXAMPLES = int(os.environ.get("CAMPAIGN_EXAMPLES", "40"))
"""`make campaign` sets many thousands."""
# Shrinking takes minutes, because a smaller catalog often has no job at all.
UNSHRUNK = settings(
    deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.reuse, Phase.generate)
)
MOST = 8
"""So many nodes at most, by an outage of more, or by max_hourly."""
HOURS_OF = {"hour": 1.0, "month": 730.0}

VIRGINIA = Region("aws", "us-east-1", "us", "US")
OHIO = Region("aws", "us-east-2", "us", "US")
IOWA = Region("gcp", "us-central1", "us", "US")
REGIONS = (VIRGINIA, OHIO, IOWA)

TYPES = (
    InstanceType("aws", "a.h8", "h100", 8, 80, 192, 2048, fabric="efa"),
    InstanceType("aws", "a.h4", "h100", 4, 80, 96, 1024),
    InstanceType("aws", "a.h1", "h100", 1, 80, 24, 256),
    InstanceType("gcp", "g.h8", "h100", 8, 80, 208, 1800, fabric="roce"),
    InstanceType("gcp", "g.n2", "h100-nvl", 2, 94, 80, 640),
    InstanceType("aws", "a.x8", "a100-80gb", 8, 80, 96, 1152, fabric="efa"),
    InstanceType("gcp", "g.x1", "a100-80gb", 1, 80, 12, 170),
    InstanceType("aws", "a.t1", "t4", 1, 16, 8, 32),
    InstanceType("gcp", "g.t4", "t4", 4, 16, 48, 192),
    InstanceType("gcp", "g.l8", "l40s", 8, 48, 96, 384),
    InstanceType("aws", "a.f", "l4", 0.5, 12, 8, 32),
    InstanceType("aws", "a.h8-old", "h100", 8, 80, 192, 2048, fabric="efa", retired=True),
    InstanceType("gcp", "g.v16", "tpu-v5e", 16, 16, 24, 48, hosts=2, fabric="ici"),
    InstanceType("gcp", "g.new", "chip-9000", 8, 96, 24, 48),
)


class TwoClouds(FakeCatalog):
    """A small catalog of regions for which the packaged table has prices of transfers."""

    @property
    def providers(self) -> tuple[str, ...]:
        return ("aws", "gcp")

    def regions(self) -> tuple[Region, ...]:
        return REGIONS


@dataclass(frozen=True)
class Question:
    """A request for a workload, and what is known of the clouds."""

    spec: ClusterSpec
    catalog: Catalog
    known: Mapping[str, Any] = field(default_factory=dict)
    most: int = MOST

    @property
    def settings(self) -> dict[str, Any]:
        return {"now": NOW, "configured": dict.fromkeys(self.catalog.providers, "")} | dict(self.known)

    def answer(self) -> Plan:
        return resolve(self.spec, self.catalog, **self.settings, proposes=False)


@dataclass(frozen=True)
class Gang:
    """A candidate of an ordinary plan, with the job on it."""

    candidate: Candidate
    total: float
    hours: float


GangKey = tuple[str, str, str, str, str, int]


def key_of(candidate: Candidate) -> GangKey:
    """Return what makes two candidates the same gang."""
    place = (candidate.provider, candidate.region, candidate.zone)
    return (*place, candidate.instance_type, candidate.purchase, candidate.nodes)


def family_of(accelerator: str) -> str:
    model = accelerators.get(accelerator)
    return model.family if model is not None else accelerator


class ByPlans:
    """Answers a question by ordinary plans only."""

    def __init__(self, question: Question, counts: Mapping[str, Collection[int]] | None = None) -> None:
        """Take the question, and the counts to try of each family; all of up to `most` nodes if there are none."""
        self._question = question
        self._counts = counts
        self._spec = question.spec
        self._catalog = question.catalog
        assert question.spec.workload is not None
        serve = timedelta(hours=question.spec.hours or 1)
        self._job = Job(question.spec.workload, serve=serve, across_nodes=question.spec.interconnect == "any")

    @cached_property
    def names(self) -> dict[str, list[str]]:
        """Family -> the names to ask for: those of the request, or all accelerators of the family in the catalog."""
        found: dict[str, list[str]] = {}
        for name in self._spec.type or self._catalog.accelerators():
            models = [model.family for model in accelerators.find(name)]
            types = [family_of(item.accelerator) for item in self._catalog.instances(name)]
            for family in dict.fromkeys(models or types or [name]):
                found.setdefault(family, []).append(name)
        return found

    def counts(self, family: str) -> list[int]:
        """Return the numbers of accelerators that some number of nodes has."""
        if self._spec.gpus is not None:
            return [self._spec.gpus]
        if self._counts is not None:
            return sorted(self._counts[family])
        sizes = {
            line.instance.accelerators
            for accelerator in self._catalog.accelerators()
            if family_of(accelerator) == family
            for line in self._catalog.listings(accelerator)
            if line.instance.accelerators >= 1
        }
        return sorted({round(size * nodes) for size in sizes for nodes in range(1, self._question.most + 1)})

    def plan(self, family: str, gpus: int, **changes: Any) -> Plan | None:
        """Return the ordinary plan for so many accelerators; None if it is refused."""
        settings = self._question.settings
        ttl = self._spec.ttl_with(settings.get("default_ttl"))
        without = {"workload": None, "deadline": None, "budget": None, "type": self.names[family], "gpus": gpus}
        try:
            # With data, an ordinary plan needs hours, which only order it.
            spec = self._spec.replace(**without, ttl="none" if ttl is None else ttl, hours=1)
            return resolve(spec, self._catalog, **(settings | changes), proposes=False)
        except SpecError:
            return None

    def candidates(self, family: str, **changes: Any) -> Iterator[Candidate]:
        for gpus in self.counts(family):
            plan = self.plan(family, gpus, **changes)
            for candidate in plan.candidates if plan is not None else ():
                # What has a surplus is complete with another count.
                if self._spec.gpus is not None or candidate.accelerators == gpus:
                    yield candidate

    @cached_property
    def gangs(self) -> dict[GangKey, Gang]:
        """All gangs that do the job within all limits."""
        found: dict[GangKey, Gang] = {}
        for family in self.names:
            joined = self._joined(family)
            for candidate in self.candidates(family):
                gang = self._gang(candidate) if joined(candidate) else None
                if gang is not None:
                    found[key_of(candidate)] = gang
        return found

    def _joined(self, family: str) -> Any:
        """Return the rule for the fabric: it is decided for a family of accelerators, whatever the count."""
        sold = [*self.candidates(family, outages=(), fabric_limits={})]
        linked = [each.instance for each in sold if is_linked(each.instance)]
        has_fabric = any(instance.fabric for instance in linked)
        largest = max((instance.accelerators for instance in linked), default=0)

        def joined(candidate: Candidate) -> bool:
            instance = candidate.instance
            if candidate.nodes == 1 or self._spec.interconnect == "any" or instance.fabric or not is_linked(instance):
                return True
            return not has_fabric and candidate.accelerators > largest

        return joined

    def _gang(self, candidate: Candidate) -> Gang | None:
        instance, spec = candidate.instance, self._spec
        model = accelerators.get(instance.accelerator)
        if model is None or instance.accelerators < 1 or candidate.nodes > self._most(candidate):
            return None
        shape = Shape(model, round(instance.accelerators), bool(instance.fabric), instance.hosts)
        on = self._job.on(shape)
        done = on if isinstance(on, str) else on.performance(candidate.nodes, self._preemptions(candidate))
        if done is None or isinstance(done, str):
            return None
        longest = spec.deadline or (timedelta(days=365) if spec.gpus is None else None)
        limits = [each / timedelta(hours=1) for each in (longest, candidate.max_lifetime) if each is not None]
        assert candidate.transfer_cost is not None
        total = round(done.hours * candidate.hourly_cost + candidate.transfer_cost, 6)
        if done.hours > min(limits, default=float("inf")) or (spec.budget is not None and total > spec.budget):
            return None
        return Gang(candidate, total, done.hours)

    def _most(self, candidate: Candidate) -> float:
        """Return how many nodes share a fabric, and are in the inventory."""
        instance = candidate.instance
        limits = self._question.known.get("fabric_limits", {}).get(instance.provider, {})
        owned = [
            line.machines
            for line in self._catalog.listings(instance.accelerator)
            if line.instance == instance
            and line.region.name == candidate.region
            and line.purchase == candidate.purchase
            if line.machines is not None
        ]
        return min([limits.get(instance.fabric, float("inf")) if instance.fabric else float("inf"), *owned])

    def _preemptions(self, candidate: Candidate) -> float:
        workload, rate = self._spec.workload, candidate.interruption
        if candidate.purchase != "spot" or isinstance(workload, Inference):
            return 0.0
        assert isinstance(workload, (Training, Finetuning))
        if workload.preemptions_per_day is not None:
            return workload.preemptions_per_day
        return PREEMPTIONS_PER_DAY if rate is None else 24 * (rate.low + rate.high) / 2 / HOURS_OF[rate.period]


def is_linked(instance: InstanceType) -> bool:
    model = accelerators.get(instance.accelerator)
    return model is not None and model.linked


def front_of(points: set[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return what no other point beats, by going through the points in order of cost."""
    found: list[tuple[float, float]] = []
    for cost, hours in sorted(points):
        if not found or hours < found[-1][1]:
            found.append((cost, hours))
    return found


def _line(instance: InstanceType, region: Region, price: float, purchase: str, zones: str, basis: str) -> Listing:
    place = region if region.provider == instance.provider else IOWA if instance.provider == "gcp" else VIRGINIA
    return line_of(instance, price * max(instance.accelerators, 1), place, zones, purchase=purchase, basis=basis)


LINES = st.lists(
    st.builds(
        _line,
        st.sampled_from(TYPES),
        st.sampled_from(REGIONS),
        st.integers(20, 90).map(lambda tenths: tenths / 10),
        st.sampled_from(("on_demand", "on_demand", "on_demand", "spot", "spot", "flex_start")),
        st.sampled_from(("a", "ab", "ab", "")),
        st.sampled_from(("list", "list", "estimate")),
    ),
    min_size=2,
    max_size=8,
    unique_by=lambda line: (line.instance, line.region.name, line.purchase),
)
WORKLOADS: st.SearchStrategy[Workload] = (
    st.builds(
        lambda params, tokens, zero, mfu, rate: Training.model_validate(
            {"params": params, "tokens": tokens, "zero": zero, "mfu": mfu, "preemptions_per_day": rate}
        ),
        st.floats(1e8, 3e10),
        st.floats(1e8, 2e10),
        st.integers(0, 3),
        st.sampled_from((None, None, 0.4)),
        st.sampled_from((None, None, 0.0, 2.0)),
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
        st.floats(1e9, 7e10),
        st.sampled_from((None, 500, 20_000)),
        st.sampled_from((None, 1e8)),
    )
)


@st.composite
def outages(draw: st.DrawFn, lines: Sequence[Listing]) -> Outage:
    line = draw(st.sampled_from(lines))
    place = draw(st.sampled_from(("", line.region.name, *line.zones, *line.zones)))
    until = NOW + timedelta(minutes=draw(st.sampled_from((0, 600, 600))))
    name = draw(st.sampled_from((line.instance.name, line.instance.name, "a.*")))
    nodes = draw(st.sampled_from((1, 1, 2, 4)))
    return Outage(line.instance.provider, place, name, line.purchase, "capacity", until, nodes=nodes)


@st.composite
def discounts(draw: st.DrawFn, lines: Sequence[Listing]) -> Discount:
    line = draw(st.sampled_from(lines))
    price = draw(
        st.fixed_dictionaries({"percent": st.sampled_from((10, 32.5, 60, 100))})
        | st.fixed_dictionaries({"usd_per_accelerator_hour": st.sampled_from((0.5, 2.125, 9))})
        | st.fixed_dictionaries({"hourly_usd": st.sampled_from((0, 3.3, 60))})
    )
    return Discount(
        cloud=line.instance.provider,
        instance_type=draw(st.sampled_from(("*", line.instance.name))),
        regions=draw(st.sampled_from(((), (line.region.name,)))),
        purchase=line.purchase,
        nodes=draw(st.sampled_from((None, 1, 3, 6))),
        **price,
    )


def availability(lines: Sequence[Listing]) -> st.SearchStrategy[dict[tuple[str, str], Availability]]:
    """Return what the account can use: nothing in a region, or some types in some zones."""

    def of(region: Region) -> st.SearchStrategy[Availability]:
        names = sorted({line.instance.name for line in lines})
        zones = st.sampled_from((("",), (f"{region.name}a",), (f"{region.name}b", f"{region.name}z"), ()))
        offered = st.none() | st.dictionaries(st.sampled_from(names), zones, min_size=1)
        return st.builds(
            Availability, st.just(region.name), refused=st.sampled_from(("", "", "not enabled")), offered=offered
        )

    return st.fixed_dictionaries({}, optional={(each.provider, each.name): of(each) for each in REGIONS})


LIMITED_LIVES = st.dictionaries(
    st.sampled_from(("aws", "gcp")),
    st.builds(
        LifetimeLimit,
        longest=st.sampled_from((timedelta(hours=12), timedelta(days=7))),
        purchases=st.sampled_from(((), ("spot",), ("flex_start", "on_demand"))),
        families=st.sampled_from((("*",), ("a.h*", "g.*"))),
        without_expiry=st.booleans(),
    ).map(lambda limit: (limit,)),
)
PLACES = ("us-east-1", "us-east-*", "us-east-1a", "us-central1", "gcp:*")
DATA = st.lists(
    st.tuples(
        st.just("s3://bucket/tokens"),
        st.sampled_from(("aws:us-east-1", "gcp:us-central1")),
        st.sampled_from(("500GiB", "20TiB")),
    ),
    min_size=1,
    max_size=2,
)


def arguments(workload: Workload) -> st.SearchStrategy[dict[str, Any]]:
    """Return the arguments of a request for a workload."""
    is_endless = isinstance(workload, Inference) and workload.tokens is None
    deadlines, hours = maybe(st.sampled_from(("12h", "5d", "60d")), 1), maybe(st.sampled_from((2, 700)), 1)
    return st.fixed_dictionaries(
        {
            "gpus": maybe(st.sampled_from((1, 4, 8, 16, 24)), 4),
            "type": st.sampled_from(
                (*[()] * 6, ("h100",), ("h100-nvl", "t4"), ("a.h1", "a.h8-old"), ("a.f", "a100"), ("a.h8",))
            ),
            "allow_surplus": st.sampled_from((False, False, True)),
            "gpus_per_node": maybe(st.sampled_from((1, 8)), 7),
            "min_gpu_memory": maybe(st.sampled_from((40, 90)), 7),
            "spot": st.sampled_from((False, "prefer", "prefer", "prefer", True)),
            "flex_start": st.booleans(),
            "estimates": st.sampled_from((True, True, True, False)),
            "clouds": maybe(st.sampled_from((["aws"], ["gcp"])), 9),
            "regions": maybe(st.lists(st.sampled_from(PLACES), min_size=1, max_size=2), 7),
            "exclude": maybe(st.lists(st.sampled_from((*PLACES, "a.h*", "g.n2")), min_size=1, max_size=2), 7),
            "interconnect": st.sampled_from(("auto", "auto", "auto", "any", "rdma")),
            "max_price": maybe(st.sampled_from((4.0, 6.0)), 6),
            "budget": maybe(st.sampled_from((300.0, 3000.0, 20_000.0)), 5),
            "deadline": st.none() if is_endless else deadlines,
            "hours": hours if is_endless else st.none(),
            "ttl": maybe(st.sampled_from(("10h", "10d", "none")), 2),
            "strict_ttl": maybe(st.just(value=True), 4),
            "data": maybe(DATA, 3),
        }
    ).map(lambda found: {name: value for name, value in found.items() if value not in (None, ())})


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """Draw a small catalog, a request, and what is known of the clouds, all with at most `MOST` nodes."""
    lines = draw(LINES)
    owned = draw(st.sampled_from((None, None, 1, 3)))
    if owned is not None:
        # Own machines: their number is known, and they cost nothing.
        first = lines[0]
        lines[0] = replace(first, machines=owned, quote=replace(first.quote, hourly_cost=0.0), purchase="on_demand")
        lines = [*lines[:1], *(each for each in lines[1:] if described(each) != described(lines[0]))]
    catalog = TwoClouds(*lines, more=TYPES)
    keys = [(line.instance.provider, line.instance.name, line.region.name) for line in lines]
    rates = st.builds(
        Interruption, st.just("x"), st.just("y"), st.just(0.05), st.just(0.2), st.sampled_from(("month", "hour"))
    )
    catalog.rates = draw(st.dictionaries(st.sampled_from(keys), rates, max_size=3))
    workload = draw(WORKLOADS)
    values = {"workload": workload, **draw(arguments(workload))}
    known: dict[str, Any] = {"default_ttl": draw(st.sampled_from((None, timedelta(hours=24))))}
    until, most = NOW + timedelta(hours=1), MOST
    if draw(st.booleans()):
        # All lines cost 2 dollars at least.
        values["max_hourly"] = draw(st.sampled_from((2.0 * MOST, 60.0)))
        most = round(values["max_hourly"] / 2)
        known["ceiling"] = draw(st.sampled_from((None, 10.0, 100.0)))
    else:
        drawn = draw(st.lists(outages(lines), max_size=4))
        large = [
            Outage(name, "", "*", purchase, "capacity", until, nodes=MOST + 1)
            for name in catalog.providers
            for purchase in ("on_demand", "spot", "flex_start")
        ]
        known["outages"] = (*drawn, *large)
        values["max_hourly"] = draw(maybe(st.sampled_from((30.0, 150.0)), 3))
        terms = tuple(draw(st.lists(discounts(lines), max_size=2)))
        used = {position: draw(st.sampled_from((0, 2))) for position in range(len(terms))}
        known["discounts"] = Discounts(known_discounts(terms, catalog, catalog.providers), used) if terms else None  # type: ignore[arg-type]
    known["fabric_limits"] = draw(st.sampled_from(({}, {"aws": {"efa": 2}}, {"gcp": {"roce": 1, "ici": 4}})))
    known["lifetime_limits"] = draw(LIMITED_LIVES)
    known["availability"] = draw(st.just({}) | availability(lines))
    if (values.get("gpus") or 0) % (values.get("gpus_per_node") or 1):
        del values["gpus_per_node"]
    spec = ClusterSpec.of({name: value for name, value in values.items() if value is not None})
    return Question(spec, catalog, known, most)  # type: ignore[arg-type]


def described(line: Listing) -> tuple[InstanceType, str, str]:
    return line.instance, line.region.name, line.purchase


@settings(UNSHRUNK, max_examples=EXAMPLES)
@given(questions())
def test_the_plan_of_a_workload_is_that_of_all_ordinary_plans(question: Question) -> None:
    try:
        plan = question.answer()
    except SpecError:
        by_plans = ByPlans(question)
        assert all(by_plans.plan(family, gpus) is None for family in by_plans.names for gpus in by_plans.counts(family))
        return
    gangs = ByPlans(question).gangs
    event("with a job" if gangs else "without a job")
    assert_same_candidates(plan, gangs)
    options = [option for option in plan.options if option.fits]
    totals = [round(option.total_usd, 6) for option in options]
    assert totals == sorted(totals)
    if not gangs:
        assert not options
        return
    assert round(options[0].total_usd, 6) == pytest.approx(min(gang.total for gang in gangs.values()), abs=3e-6)
    assert_fronts_agree(question.spec, plan, gangs)


def assert_same_candidates(plan: Plan, gangs: Mapping[GangKey, Gang]) -> None:
    """Check that each candidate is one of an ordinary plan, and that each place has its cheapest count."""
    found = {key_of(candidate) for candidate in plan.candidates}
    assert len(found) == len({key[:5] for key in found}) == len(plan.candidates)
    assert_ordinary([*plan.candidates, *candidates_of(plan)], gangs)
    assert all(each.is_stale == gangs[key_of(each)].candidate.is_stale for each in plan.candidates)
    cheapest: dict[tuple[str, ...], float] = {}
    for key, gang in gangs.items():
        cheapest[key[:5]] = min(gang.total, cheapest.get(key[:5], gang.total))
    listed: dict[tuple[str, ...], float] = {}
    for key in found:
        listed[key[:5]] = min(gangs[key].total, listed.get(key[:5], gangs[key].total))
    assert listed == {key: pytest.approx(total, rel=1e-9, abs=3e-6) for key, total in cheapest.items()}


def candidates_of(plan: Plan) -> list[Candidate]:
    """Return the options that fit as candidates, in each of their zones."""
    return [option.candidate_in(zone) for option in plan.options if option.fits for zone in option.machine.zones]


def assert_ordinary(candidates: Iterable[Candidate], gangs: Mapping[GangKey, Gang]) -> None:
    """Check that each candidate is one of an ordinary plan at the same price, with the job's time and cost."""
    for candidate in candidates:
        key = key_of(candidate)
        assert key in gangs, "an option that no ordinary plan has"
        gang = gangs[key]
        ordinary = gang.candidate
        assert candidate.hours == pytest.approx(gang.hours, rel=1e-9)
        assert candidate.total_cost == pytest.approx(gang.total, rel=1e-9, abs=3e-6)
        # On what costs nothing, a discount makes no difference.
        assert candidate.discount == ordinary.discount or not candidate.list_hourly_cost
        assert candidate.list_hourly_cost == pytest.approx(ordinary.list_hourly_cost, abs=3e-6)
        assert candidate.hourly_cost == pytest.approx(ordinary.hourly_cost, abs=3e-6)
        assert replace(candidate, parts=(), hours=None) == replace(
            ordinary, parts=(), hours=None, is_stale=candidate.is_stale
        )


def assert_fronts_agree(spec: ClusterSpec, plan: Plan, gangs: Mapping[GangKey, Gang]) -> None:
    """Check that the front is that of all gangs, or at a given MFU that of the options that are listed."""
    assert spec.workload is not None
    chosen = [plan.options[index] for index in plan.pareto]
    if spec.workload.mfu is not None or spec.gpus is not None:
        listed = {key_of(candidate) for candidate in plan.candidates}
        gangs = {key: gang for key, gang in gangs.items() if key in listed}
    front = front_of({(gang.total, gang.hours) for gang in gangs.values()})
    if len(front) <= FRONT_POINTS:
        assert [each.total_usd for each in chosen] == pytest.approx([cost for cost, _ in front], abs=3e-6)
        assert [each.hours for each in chosen] == pytest.approx([hours for _, hours in front])


JOBS: tuple[dict[str, Any], ...] = (
    {"workload": Training(params=70e9, tokens=2e12), "deadline": "30d", "spot": "prefer"},
    {"workload": Training(params=7e9, tokens=1e11, mfu=0.4), "deadline": "10d"},
    {"workload": Finetuning(params=8e9, tokens=1e9, method="qlora"), "spot": True, "regions": ["eu"]},
    {"workload": Inference(params=70e9, concurrency=64, tokens_per_second=5000), "hours": 720, "max_hourly": 300},
)


@settings(UNSHRUNK, max_examples=max(EXAMPLES // 10, 1))
@given(arguments=st.sampled_from(JOBS), data=st.data())
def test_on_the_packaged_catalog_nothing_is_cheaper_than_the_first_option_and_the_front(
    arguments: dict[str, Any], data: st.DataObject, catalog: Catalog
) -> None:
    question = Question(ClusterSpec.of(arguments), catalog, {"default_ttl": timedelta(hours=24)})
    plan = question.answer()
    options = list(plan.options)
    names = sorted({family_of(name) for name in catalog.accelerators()})
    drawn = data.draw(st.lists(st.sampled_from(names), min_size=6, max_size=6, unique=True))
    front = [options[index] for index in plan.pareto]
    tried = {family_of(front[0].accelerator), *drawn}
    nodes = data.draw(st.lists(st.integers(1, 40) | st.integers(41, 600), min_size=3, max_size=3))
    counts = {family: {8 * each for each in nodes} for family in tried}
    chosen = data.draw(st.lists(st.integers(0, len(options) - 1), min_size=6, max_size=6))
    for option in [*(options[index] for index in chosen), *front[:4]]:
        counts.setdefault(family_of(option.accelerator), set()).add(option.performance.accelerators)
    by_plans = ByPlans(question, counts | {name: () for name in names if name not in counts})
    gangs = by_plans.gangs
    among = [
        each
        for each in candidates_of(plan)
        if each.accelerators in counts.get(family_of(each.instance.accelerator), ())
    ]
    assert among
    assert_ordinary(among, gangs)
    for gang in gangs.values():
        assert gang.total >= options[0].total_usd - 3e-6
        slower = [option.total_usd for option in front if option.hours >= gang.hours]
        # Beyond 32, counts are evaluated in steps of 1/16. Only some points of the front are listed.
        if arguments["workload"].mfu is None and slower:
            assert gang.total >= min(slower) * 0.99


TRAINING = Training(params=7e9, tokens=1e10)
LINKED, LOOSE = line_of(TYPES[0], 60.0, VIRGINIA), line_of(TYPES[2], 3.0, VIRGINIA)


def asked(*lines: Listing, known: Mapping[str, Any] | None = None, **arguments: Any) -> Plan:
    """Return the plan of a workload on these lines."""
    question = Question(ClusterSpec.of({"workload": TRAINING} | arguments), TwoClouds(*lines), known or {})  # type: ignore[arg-type]
    return question.answer()


def machines_of(plan: Plan) -> set[tuple[str, int]]:
    return {(each.instance_type, each.nodes) for each in plan.candidates}


def test_a_machine_without_a_fabric_does_not_take_the_place_of_one_that_is_out_of_capacity() -> None:
    outage = Outage("aws", "", "a.h8", "on_demand", "capacity", NOW + timedelta(hours=1))
    plan = asked(LINKED, LOOSE, known={"outages": [outage]})
    assert not plan.candidates
    assert {reason: each.count for reason, each in plan.rejected.items()} == {"outage": 2, "no fabric between nodes": 2}
    assert machines_of(asked(LINKED, LOOSE, known={"outages": [outage]}, interconnect="any")) >= {("a.h1", 4)}


def test_a_machine_with_a_fabric_that_costs_too_much_an_hour_rules_out_no_other() -> None:
    plan = asked(LINKED, LOOSE, max_hourly=50)
    assert {name for name, _ in machines_of(plan)} == {"a.h1"}
    assert list(plan.rejected) == ["more nodes than max_hourly allows"]


def test_nodes_that_a_discount_does_not_cover_count_for_max_hourly() -> None:
    terms = (Discount(cloud="aws", hourly_usd=0, nodes=2),)
    free = Discounts(known_discounts(terms, TwoClouds(LINKED), ("aws",)))  # type: ignore[arg-type]
    plan = asked(LINKED, max_hourly=100, known={"discounts": free})
    assert {each.nodes: each.hourly_usd for each in plan.options} == {1: 0.0, 2: 0.0, 3: 60.0}
    late = asked(LINKED, max_hourly=100, deadline="4h", known={"discounts": free})
    assert list(late.rejected) == ["not done by the deadline with the nodes that max_hourly allows"]


def test_the_published_rate_of_interruptions_counts_unless_the_workload_has_its_own() -> None:
    spot = replace(LINKED, purchase="spot")
    dear = line_of(TYPES[0], 61.0, OHIO, purchase="spot")

    def hours(rates: Mapping[str, float], **changes: Any) -> dict[str, float]:
        catalog = TwoClouds(spot, dear)
        for region, share in rates.items():
            catalog.rates["aws", "a.h8", region] = Interruption("a.h8", region, share, share, "month")
        job = Training(params=7e9, tokens=1e12, mfu=0.4, **changes)
        spec = ClusterSpec.of({"workload": job, "gpus": 512, "spot": True})
        plan = Question(spec, catalog).answer()  # type: ignore[arg-type]
        assert {each.region for each in plan.candidates if each.interruption is not None} == set(rates)
        return {option.candidate.region: option.hours for option in plan.options}

    unknown, published = hours({}), hours({"us-east-1": 0.9, "us-east-2": 0.05})
    # One in five days where nothing is published, which is more often than nine in ten in a month.
    assert unknown["us-east-1"] == unknown["us-east-2"] > published["us-east-1"] > published["us-east-2"]
    assert hours({"us-east-2": 0.05}) == {"us-east-1": unknown["us-east-1"], "us-east-2": published["us-east-2"]}
    given = hours({"us-east-1": 0.9, "us-east-2": 0.05}, preemptions_per_day=0.2)
    assert given == pytest.approx(unknown)
    never = hours({"us-east-1": 0.9}, preemptions_per_day=0)
    assert never["us-east-1"] == never["us-east-2"] < published["us-east-2"]


def test_of_options_that_cost_the_same_the_fewest_nodes_come_first_and_the_fastest_is_on_the_front() -> None:
    slices = [
        InstanceType("gcp", f"v5p-{2 * chips}", "tpu-v5p", chips, 95, 208, 448, hosts=chips // 4, fabric="")
        for chips in (16, 4, 64)
    ]
    lines = [line_of(each, 4.0 * each.accelerators, IOWA, "a") for each in slices]
    job = Training(params=1e9, tokens=1e10, mfu=0.4)
    plan = asked(*lines, workload=job, deadline="3d")
    assert [(option.nodes, option.performance.accelerators) for option in plan.options] == [(1, 4), (1, 16), (1, 64)]
    assert len({round(option.total_usd, 6) for option in plan.options}) == 1
    assert plan.pareto == (2,)
    # Small slices are joined only where no slice is as large.
    soon = asked(*lines, workload=job, deadline="1d")
    assert [(option.nodes, option.performance.accelerators) for option in soon.options] == [(1, 16), (1, 64), (17, 68)]
