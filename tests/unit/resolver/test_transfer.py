"""The table of egress prices, and what data costs to transfer, compared with sums by hand."""

from pathlib import Path

import pytest

from multicompute.catalog import Catalog
from multicompute.resolver._transfer import TABLE, Transfers, egress_prices
from multicompute.spec import ClusterSpec

PROVIDERS = Path(__file__).parents[3] / "providers"
TIB = 1024
CATALOG = Catalog({name: PROVIDERS / f"multicompute_{name}" / "data" for name in ("aws", "gcp", "azure")})


def cost(place: str, to: str, size: str = "20TiB") -> float | None:
    """Return what it costs to transfer data between two places."""
    provider, region = to.split(":")
    spec = ClusterSpec(gpus=8, type="h100", data=[("s3://bucket/tokens", place, size)])
    return Transfers(spec, CATALOG).cost((provider, region))


@pytest.mark.parametrize(
    ("place", "to", "expected"),
    [
        ("aws:us-east-1", "aws:us-east-1", 0),
        ("aws:us-east-1", "aws:us-east-2", 20 * TIB * 0.01),
        ("aws:us-east-1", "aws:eu-west-1", 20 * TIB * 0.02),
        ("aws:ap-northeast-1", "aws:us-east-1", 20 * TIB * 0.09),
        ("aws:us-east-1", "gcp:us-central1", (10 * TIB - 100) * 0.09 + 10 * TIB * 0.085),
        ("azure:eastus", "azure:westus2", 20 * TIB * 0.02),
        ("azure:eastus", "azure:westeurope", 20 * TIB * 0.05),
        ("azure:brazilsouth", "azure:eastus", 20 * TIB * 0.16),
        ("gcp:us-central1", "gcp:us-east4", 20 * TIB * 0.02),
        ("gcp:us-central1", "gcp:europe-west4", 20 * TIB * 0.05),
        ("gcp:us-central1", "aws:us-east-1", (TIB - 1) * 0.12 + 9 * TIB * 0.11 + 10 * TIB * 0.08),
        ("gcp:us-central1", "aws:ap-southeast-2", 20 * TIB * 0.19),
    ],
)
def test_a_transfer_costs_the_list_price_of_its_route(place: str, to: str, expected: float) -> None:
    assert cost(place, to) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("place", "to"), [("aws:il-central-1", "aws:us-east-1"), ("gcp:asia-southeast2", "gcp:us-east4")]
)
def test_a_price_that_is_not_known_is_not_guessed(place: str, to: str) -> None:
    assert cost(place, to) is None


def test_data_of_one_region_shares_its_tiers() -> None:
    one = ClusterSpec(gpus=8, type="h100", data=[("a", "aws:us-east-1", "20TiB")])
    two = one.replace(data=[("a", "aws:us-east-1", "5TiB"), ("b", "AWS:us-east-1", 15 * TIB)])
    place = ("azure", "eastus")
    assert Transfers(two, CATALOG).cost(place) == Transfers(one, CATALOG).cost(place)


def test_every_price_has_a_date_a_basis_and_a_source() -> None:
    lines = [line.split(",", 7) for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]]
    assert lines
    for provider, _, _, _, price, as_of, basis, source in lines:
        assert provider in CATALOG.providers
        assert basis in ("list", "estimate")
        assert source
        assert bool(as_of) == bool(price)


def test_the_tiers_of_a_route_begin_at_zero_and_never_cost_more_for_more_after_the_free_one() -> None:
    for tiers in egress_prices().values():
        prices = [tier.price for tier in tiers if tier.price]
        assert tiers[0].above == 0
        assert prices == sorted(prices, reverse=True)


def test_origins_and_destinations_are_regions_or_areas() -> None:
    regions = {region.name for region in CATALOG.regions()}
    areas = {"na", "sa", "eu", "as", "oc", "me", "af"}
    for _, origin, destination in egress_prices():
        assert origin in regions | areas
        assert destination in regions | areas | {"other", "internet", "internet:oc"}
