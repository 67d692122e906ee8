"""Random specs, outages and reservations around real offers, for the comparison with the oracle."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from multicompute import accelerators
from multicompute.catalog import Catalog
from multicompute.errors import SpecError
from multicompute.offer import Listing
from multicompute.plan import Outage
from multicompute.provider import LifetimeLimit, Reservation
from multicompute.spec import ClusterSpec

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
CONFIGURED = {
    "aws": ["us-east-1", "eu-west-1"],
    "azure": ["eastus", "westeurope"],
    "gcp": ["us-central1-a", "us-central1-b", "europe-west4"],
}
"""The regions and zones that a configuration may restrict a provider to."""


@dataclass(frozen=True)
class Question:
    spec: ClusterSpec
    unusable: frozenset[str] = frozenset()
    outages: tuple[Outage, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    only: dict[str, list[str]] = field(default_factory=dict)
    lifetime_limits: dict[str, tuple[LifetimeLimit, ...]] = field(default_factory=dict)
    default_ttl: timedelta | None = None


FAMILIES = (
    "h100",
    "a100",
    "v100",
    "t4",
    "l4",
    "a10",
    "a10g",
    "l40s",
    "h200",
    "b200",
    "gb200",
    "mi300x",
    "trn1",
    "inf2",
)
VARIANTS = (
    "a100-80gb",
    "h100-nvl",
    "A100 40GB",
    "V100 32GB",
    "NVIDIA H100",
    "tpu-v5p",
    "v6e",
    "v5e",
    "v2",
    "rtx-pro-6000",
    "mi25",
)
SLICES = ("v5p-128", "v5litepod-16", "v6e-8", "v2-8", "v4-32", "v3-8")
TYPES = (
    "p5.48xlarge",
    "p4d.24xlarge",
    "a3-highgpu-8g",
    "a3-megagpu-8g",
    "g6f.xlarge",
    "g5.xlarge",
    "n1-standard-8",
    "p3.2xlarge",
    "Standard_ND96isr_H100_v5",
    "Standard_NV12ads_A10_v5",
    "standard_nv6ads_a10_v5",
    "trn1.32xlarge",
    "g2-standard-4",
)
CPU_TYPES = ("c6i.12xlarge", "Standard_B2ms", "n1-standard-8")
REGIONS: tuple[str, ...] = (
    "us-*",
    "eu",
    "us",
    "aws:us-east-?",
    "gcp:*",
    "europe-west*",
    "eastus",
    "us-east-1",
    "jp",
    "azure:*us*",
    "*-1",
    "aws:eu",
)
ZONES = (
    "us-east-1a",
    "us-east-1[abc]",
    "aws:us-east-1?",
    "US-West-2B",
    "us-central1-a",
    "us-central1-?",
    "europe-west4-*",
    "eastus-1",
    "eastus-[23]",
    "azure:eastus2-*",
    "*-1a",
    "*-b",
)
REGIONS += ZONES
EXCLUDED = (*REGIONS, "p5.*", "*nvl*", "p5.48xlarge", "a3-*", "Standard_NC*", "g5.*", "v5p-*")


def maybe(strategy: st.SearchStrategy[Any], weight: int = 4) -> st.SearchStrategy[Any]:
    """Return None most of the time, so that specs with a single constraint are frequent."""
    return st.integers(0, weight).flatmap(lambda roll: strategy if roll == weight else st.none())


def several(values: tuple[str, ...], weight: int = 4) -> st.SearchStrategy[Any]:
    return maybe(st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True), weight)


@st.composite
def arguments(draw: st.DrawFn, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the arguments of a request, without those that were not drawn."""
    kind = draw(st.sampled_from(("accelerators", "types", "cpu", "mixed")))
    chosen = {"accelerators": FAMILIES + VARIANTS, "types": SLICES + TYPES + names, "cpu": CPU_TYPES}.get(kind)
    pool = chosen or FAMILIES + VARIANTS + SLICES + TYPES + CPU_TYPES
    values: dict[str, Any] = {"type": draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3, unique=True))}
    if kind in ("accelerators", "mixed") or (kind == "types" and draw(st.booleans())):
        values["gpus"] = draw(st.one_of(st.integers(1, 16), st.sampled_from((24, 32, 64, 100, 128, 256, 1000))))
    values["nodes"] = draw(maybe(st.sampled_from((1, 2, 4, 8, 16)), 5))
    if values.get("gpus") and not values["nodes"]:
        values["gpus_per_node"] = draw(maybe(st.sampled_from([n for n in (1, 2, 4, 8) if values["gpus"] % n == 0]), 5))
    if values.get("gpus") and values["nodes"]:
        values["gpus"] = max(values["gpus"], values["nodes"])
    options: dict[str, st.SearchStrategy[Any]] = {
        "order": st.sampled_from(("price", "given")),
        "min_gpu_memory": maybe(st.sampled_from((4, 8, 16, 24, 40, 80, 80.5, 94, 141)), 6),
        "vcpus": maybe(st.sampled_from((4, 8, 48, 96, 192)), 6),
        "memory": maybe(st.sampled_from((16, 64, 256, 1024, 2000)), 6),
        "spot": st.sampled_from((False, True, "prefer", "prefer")),
        "flex_start": maybe(st.just(True)),
        "estimates": maybe(st.just(False)),
        "clouds": several(("aws", "gcp", "azure"), 5),
        "regions": several(REGIONS),
        "exclude": several(EXCLUDED),
        "placement": st.sampled_from(("zone", "zone", "region", "cloud", "any")),
        "interconnect": st.sampled_from(("auto", "auto", "any", "rdma")),
        "max_price": maybe(st.floats(0.2, 15), 5),
        "max_hourly": maybe(st.floats(1, 1000), 5),
        "allow_surplus": maybe(st.just(value=True), 2),
        "budget": maybe(st.floats(10, 10_000), 5),
        "ttl": maybe(st.sampled_from(("90m", "12h", "7d", "none", "20d")), 2),
        "strict_ttl": maybe(st.just(True), 2),
    }
    values |= {name: draw(strategy) for name, strategy in options.items()}
    return {name: value for name, value in values.items() if value is not None}


def purchases(line: Listing) -> st.SearchStrategy[Any]:
    """Return mostly the purchase type of the line: limits on reserved capacity apply only to reservations."""
    return st.sampled_from((line.purchase, line.purchase, line.purchase, "reserved"))


@st.composite
def outages(draw: st.DrawFn, lines: list[Listing]) -> Outage:
    line = draw(st.sampled_from(lines))
    place = draw(st.sampled_from(("", line.region.name, *line.zones, *line.zones)))
    kind = draw(st.sampled_from((line.instance.name, line.instance.name, line.instance.name[:3] + "*")))
    until = NOW + timedelta(minutes=draw(st.sampled_from((-5, 0, 5, 600))))
    return Outage(
        *(line.instance.provider, place, kind, draw(purchases(line)), "capacity", until),
        nodes=draw(st.sampled_from((1, 1, 2, 4, 9))),
    )


def lifetime_limits() -> st.SearchStrategy[dict[str, tuple[LifetimeLimit, ...]]]:
    """Return limits of some providers, around the ttls that are drawn."""
    one = st.builds(
        LifetimeLimit,
        longest=st.sampled_from(
            [timedelta(hours=2), timedelta(hours=12), timedelta(days=7), timedelta(days=7, hours=1)]
        ),
        purchases=st.sampled_from([(), ("on_demand",), ("spot", "flex_start"), ("reserved",)]),
        families=st.sampled_from([("*",), ("[!v]*",), ("p5.*", "a3-*")]),
        without_expiry=st.booleans(),
    )
    several_of = st.lists(one, min_size=1, max_size=2).map(tuple)
    return st.dictionaries(st.sampled_from(("aws", "gcp", "azure")), several_of, max_size=2)


def default_ttls() -> st.SearchStrategy[timedelta | None]:
    return st.sampled_from((timedelta(hours=24), None))


@st.composite
def reservations(draw: st.DrawFn, lines: list[Listing], name: str) -> Reservation:
    line = draw(st.sampled_from(lines))
    zone = draw(st.sampled_from((*line.zones, *line.zones, "", "elsewhere")))
    free = draw(st.sampled_from((0, 1, 2, 4, 8, 64)))
    kind = draw(st.sampled_from((line.instance.name, line.instance.name, "p6e-gb200.36xlarge")))
    price = draw(st.sampled_from((0.0, 0.0, 3.5, 40.0)))
    life = draw(st.sampled_from((None, None, 0, 1, 12, 24 * 7, 24 * 30)))
    return Reservation(
        line.instance.provider,
        name,
        line.region.name,
        zone,
        kind,
        free,
        hourly_cost=price,
        ends_at=None if life is None else NOW + timedelta(hours=life),
    )


@st.composite
def questions(draw: st.DrawFn, catalog: Catalog) -> Question:
    values = draw(arguments(names=catalog.instance_names()))
    lines = relevant(catalog, values["type"])
    ids = [f"cr-{index}" for index in range(draw(st.sampled_from((0, 0, 0, 1, 2))))] if lines else []
    reserved = tuple(draw(reservations(lines, name)) for name in ids)
    if ids:
        values["reservations"] = draw(st.permutations(ids))
        if draw(st.integers(0, 4)) == 4 and "gpus" not in values:
            del values["type"]
    active = tuple(draw(st.lists(outages(lines), max_size=8))) if bool(lines) and draw(st.booleans()) else ()
    unusable = frozenset(draw(st.sets(st.sampled_from(("aws", "gcp", "azure")))))
    try:
        spec = ClusterSpec.of(values)
    except SpecError:
        spec = ClusterSpec.of({"gpus": values.get("gpus", 8), "type": "h100"})
    only = (
        draw(st.dictionaries(st.sampled_from(tuple(CONFIGURED)), st.none(), max_size=1)) if draw(st.booleans()) else {}
    )
    regions = {name: CONFIGURED[name] for name in only}
    return Question(spec, unusable, active, reserved, regions, draw(lifetime_limits()), draw(default_ttls()))


def relevant(catalog: Catalog, names: list[str]) -> list[Listing]:
    """Return the lines that may matter for these names."""
    found: list[Listing] = []
    for name in names:
        models = [model.name for model in accelerators.find(name)]
        found += [line for model in models for line in catalog.listings(model)]
        if not models:
            shards = {instance.accelerator for instance in catalog.instances(name)}
            found += [
                line
                for shard in shards
                for line in catalog.listings(shard)
                if line.instance.name.lower() == name.lower()
            ]
    return found


@st.composite
def tight_questions(draw: st.DrawFn, catalog: Catalog) -> Question:
    """Draw questions that limits and reservations decide: gangs of several nodes, with few other constraints."""
    names = draw(
        st.lists(
            st.sampled_from(("t4", "l4", "a10g", "h100", "a100", "g5.xlarge", "l40s")),
            min_size=1,
            max_size=2,
            unique=True,
        )
    )
    gpus = draw(st.sampled_from((4, 8, 16, 64)))
    spot = draw(st.sampled_from((False, True, "prefer")))
    lines = [line for line in relevant(catalog, names) if line.purchase == ("spot" if spot is True else "on_demand")]
    # Draw from the cheapest offers, where a limit changes the answer.
    lines = sorted(lines, key=lambda line: line.quote.hourly_cost / line.instance.accelerators)[:60]
    values: dict[str, Any] = {"type": names, "gpus": gpus, "spot": spot}
    values["placement"] = draw(st.sampled_from(("region", "cloud", "any", "any", "zone")))
    values["interconnect"] = draw(st.sampled_from(("any", "any", "auto", "rdma")))
    values["order"] = draw(st.sampled_from(("price", "given")))
    values["gpus_per_node"] = draw(maybe(st.sampled_from((1, 2)), 3))
    values["max_hourly"] = draw(maybe(st.floats(5, 300), 5))
    values["max_price"] = draw(maybe(st.floats(0.3, 4), 5))
    values["estimates"] = draw(st.sampled_from((True, True, False)))
    values["strict_ttl"] = draw(st.sampled_from((True, False, False)))
    ids = [f"cr-{index}" for index in range(draw(st.sampled_from((0, 0, 1, 2))))]
    reserved = tuple(draw(reservations(lines, name)) for name in ids)
    if bool(reserved) and draw(st.booleans()):
        # Two reservations in one place are used together.
        reserved = tuple(replace(reserved[0], id=name, available=draw(st.sampled_from((1, 2, 5)))) for name in ids)
    values["reservations"] = ids
    active = tuple(draw(st.lists(outages(lines), min_size=1, max_size=16)))
    unusable = frozenset(draw(st.sets(st.sampled_from(("aws", "gcp", "azure")))))
    spec = ClusterSpec.of({name: value for name, value in values.items() if value is not None})
    return Question(spec, unusable, active, reserved, {}, draw(lifetime_limits()), draw(default_ttls()))
