"""The specs that the resolver refuses, its error when no offer meets a spec, and that the suggested change works."""

import ast
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings

from multicompute.catalog import Catalog
from multicompute.errors import NoOfferError, SpecError
from multicompute.plan import Outage, Plan
from multicompute.resolver import require, resolve
from multicompute.spec import ClusterSpec
from tests.unit.resolver.fake_catalog import BIG, FakeCatalog, line, plan
from tests.unit.resolver.strategies import SLICES, TYPES, arguments

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
PROVIDERS = Path(__file__).parents[3] / "providers"
CATALOG = Catalog({name: PROVIDERS / f"multicompute_{name}" / "data" for name in ("aws", "gcp", "azure")})


def real(**values: Any) -> Plan:
    return resolve(ClusterSpec.of(values), CATALOG, now=NOW, configured=dict.fromkeys(CATALOG.providers, ""))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gpus": 4, "type": "A10G:4"}, 'write type="a10g", gpus_per_node=4 and the total as gpus'),
        ({"gpus": 4, "type": "h1000"}, "did you mean h100"),
        ({"gpus": 4, "type": "p5.49xlarge"}, "p5.48xlarge"),
        ({"gpus": 4, "type": "h100", "regions": ["us-eats-1"]}, "did you mean us-east-1"),
        ({"gpus": 4, "type": "h100", "regions": ["asw:us-*"]}, "did you mean aws:us-*"),
        ({"gpus": 4, "type": "h100", "regions": ["aws"]}, "write regions='aws:*'"),
        (
            {"gpus": 4, "type": "h100", "exclude": ["p5.49xlarge"]},
            "no such region, zone or instance type; did you mean",
        ),
        ({"gpus": 4, "type": "h100", "exclude": ["nowhere-zz"]}, "exclude='nowhere-zz': no such region"),
        ({"gpus": 4, "type": "h100", "clouds": ["was"]}, "no such cloud; did you mean aws?"),
        ({"gpus": 4, "type": "h100", "clouds": ["gcp"], "regions": ["aws:us-*"]}, "clouds=['gcp'] excludes"),
        ({"type": "h100"}, "gpus: missing"),
        ({"nodes": 2, "type": ["v5p-128", "h100"]}, "gpus: missing"),
        ({"gpus": 4, "type": "c6i.12xlarge"}, "has no accelerators"),
        ({"reservations": ["cr-1"]}, "the instance type of reservation cr-1 is unknown"),
    ],
)
def test_an_unknown_name_or_a_contradiction_is_refused_with_what_to_write(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        real(**values)


def test_a_slice_by_name_and_its_chips_by_number_have_the_same_best() -> None:
    assert real(type="v5p-128").best == real(gpus=64, type="tpu-v5p").best
    assert real(type="v5p-128").best is not None


def test_a_family_means_all_its_variants_and_a_variant_only_itself() -> None:
    both = {item.instance.accelerator for item in real(gpus=8, type="a100")}
    assert both == {"a100", "a100-80gb"}
    assert {item.instance.accelerator for item in real(gpus=8, type="A100 80GB")} == {"a100-80gb"}


@pytest.mark.parametrize(
    ("values", "argument"),
    [
        ({"gpus": 64, "type": "h100", "max_price": 3.9}, "max_price=6.88"),
        ({"gpus": 64, "type": "h100", "max_hourly": 400}, "max_hourly=440.32"),
        ({"gpus": 64, "type": "h100", "vcpus": 500}, "vcpus=208"),
        ({"gpus": 64, "type": "h100", "min_gpu_memory": "100GiB"}, "min_gpu_memory=80"),
        ({"gpus": 64, "type": "trn2"}, "spot='prefer'"),
        ({"gpus": 64, "type": "h200", "clouds": ["gcp"], "interconnect": "rdma", "estimates": False}, "clouds=['aws']"),
        ({"gpus": 8, "type": "p4de.24xlarge", "regions": ["us-east-1e"]}, "regions=['us-east-1b']"),
        ({"gpus": 8, "type": "v6e-8", "regions": ["eastus-1"]}, "regions=['southamerica-west1']"),
        ({"gpus": 64, "type": "h100", "regions": ["il"], "max_price": 1}, "regions=['us-east-1'] with max_price=6.88"),
    ],
)
def test_the_error_names_the_constraint_and_the_nearest_change(values: dict[str, Any], argument: str) -> None:
    found = real(**values)
    with pytest.raises(NoOfferError) as caught:
        require(found)
    assert caught.value.plan is found
    assert f"{argument} would have one: " in str(caught.value)
    names = [change.partition("=")[0] for change in argument.split(" with ")]
    ruled_out = str(caught.value).partition(" rule")[0]
    assert all(f"{name}=" in ruled_out or f"buying without {name}" in ruled_out for name in names)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"gpus": 8, "type": "h100", "clouds": ["aws"], "max_price": 0.01}, {"max_price"}),
        ({"gpus": 8, "type": "h100", "clouds": ["gcp"], "regions": ["us-central1"], "max_price": 1}, {"max_price"}),
        ({"gpus": 1, "type": "t4", "clouds": ["aws"], "max_hourly": 0.1, "vcpus": 4}, {"max_hourly"}),
        ({"gpus": 8, "type": "h100", "regions": ["us-east-1"], "vcpus": 500}, {"vcpus"}),
        (
            {"gpus": 8, "type": "h100", "clouds": ["aws"], "min_gpu_memory": "200GiB", "max_price": 1},
            {"min_gpu_memory", "max_price"},
        ),
    ],
)
def test_places_that_were_not_asked_for_are_no_reason_and_no_proposal(values: dict[str, Any], names: set[str]) -> None:
    found = real(**values)
    with pytest.raises(NoOfferError) as caught:
        require(found)
    message = str(caught.value)
    assert not any(f"{name}=" in message for name in {"clouds", "regions", "exclude"} - names)
    assert all(f"{name}=" in message.partition(" rule")[0] for name in names)
    assert {change.partition("=")[0] for change in str(found.nearest).partition(" would")[0].split(" with ")} == names


def test_without_any_price_in_the_tables_there_is_no_suggestion() -> None:
    with pytest.raises(NoOfferError, match="the tables have no price for it in any region"):
        require(real(gpus=8, type="trn3"))


def test_require_returns_the_best_candidate() -> None:
    found = real(gpus=64, type="h100")
    assert require(found) == found.candidates[0]


def test_a_smaller_gang_is_the_nearest_change_if_only_that_fits() -> None:
    outage = Outage("blue", "", "b8", "on_demand", "capacity", datetime(2027, 1, 1, tzinfo=UTC), nodes=7)
    found = plan(FakeCatalog(line(BIG, 80)), known={"outages": [outage]}, gpus=64, type="h100")
    assert found.nearest is not None
    assert found.nearest.startswith("gpus=48 would have one: blue east-1a 6 x b8")
    with pytest.raises(NoOfferError, match=r"most common reason: outage, 2 offers, such as .*until 2027-01-01"):
        require(found)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(arguments(names=SLICES + TYPES))
def test_the_suggested_change_of_a_spec_without_an_offer_has_an_offer(values: dict[str, Any]) -> None:
    # Two more limits than the strategy draws, so that specs without any offer are frequent.
    try:
        found = real(**{"max_hourly": 2.0, "max_price": 0.1, **values})
    except SpecError:
        assume(condition=False)
        raise
    assume(not found.candidates and found.nearest is not None)
    changes = str(found.nearest).partition(" would have one: ")[0].split(" with ")
    names = [change.removeprefix("without ").partition("=")[0] for change in changes]
    # What is proposed is what is blamed.
    binding = found.binding.replace("at most a quarter more", "allow_surplus")
    assert not binding or all(name in binding for name in names)
    changed = found.spec.to_dict()
    for change in changes:
        name, is_set, value = change.removeprefix("without ").partition("=")
        changed[name] = ast.literal_eval(value) if is_set else [] if name == "exclude" else None
    assert real(**changed).candidates
