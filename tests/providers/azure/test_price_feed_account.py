"""What an account adds to Azure's prices: the shapes of new sizes and the eviction rates of spot machines."""

from datetime import timedelta
from typing import Any

import pytest

from multicompute.offer import InstanceType
from multicompute.price_feed import FoundPrices, Interruption, PricedType, PriceQuery
from multicompute.provider import Settings
from multicompute.testing import FakeClock
from multicompute_azure._feed import AzurePriceFeed
from multicompute_azure._series import series_of
from multicompute_azure._shapes import shape_of
from multicompute_azure._sizes import Size
from multicompute_azure.local import AzureLocalCloud
from multicompute_azure.local.graph import RATES

GRAPH, SKUS = "resourceGraph.resources", "skus.list"
ND = InstanceType("azure", "Standard_ND96isr_H100_v5", "h100", 8, 80.0, 96, 1900)
T4 = InstanceType("azure", "Standard_NC4as_T4_v3", "t4", 1, 16.0, 4, 28)
H200 = InstanceType("azure", "Standard_ND96isr_H200_v5", "h200", 8, 141.0, 96, 1900)
A10 = [
    InstanceType("azure", f"Standard_NV{vcpus}ads_A10_v5", "a10", count, 24.0, vcpus, 4)
    for vcpus, count in ((6, 0.1667), (12, 0.3333), (18, 0.5), (36, 1), (72, 2))
]
RTX = [
    InstanceType("azure", f"Standard_NC{vcpus}lds_xl_RTXPRO6000BSE_v6", "rtx-pro-6000", count, 96.0, vcpus, 4)
    for vcpus, count in ((24, 0.25), (36, 0.25), (72, 0.5))
]
B200 = {"vCPUs": "96", "MemoryGB": "1900", "GPUs": "8", "RdmaEnabled": "True", "CpuArchitectureType": "x64"}


@pytest.fixture
def feed(cloud: AzureLocalCloud, clock: FakeClock) -> AzurePriceFeed:
    return AzurePriceFeed(Settings({"endpoint_url": cloud.endpoint_url}, cloud.environment), clock=clock)


def fetch(
    feed: AzurePriceFeed, *types: InstanceType, regions: tuple[str, ...] = ("westus3", "eastus2"), **values: Any
) -> FoundPrices:
    values.setdefault("accelerators", {each.accelerator for each in types or (ND, H200)})
    query = PriceQuery(tuple(map(PricedType, types or (ND, H200))), regions, **values)
    return feed.fetch(query, progress=lambda share: None)


# --- eviction rates ---------------------------------------------------------------------------------------------------


def test_eviction_rates_are_shares_per_hour(cloud: AzureLocalCloud, feed: AzurePriceFeed) -> None:
    cloud.set_eviction_rate(ND.name, "westus3", "20+")
    cloud.set_eviction_rate(H200.name, "eastus2", "5-10")
    rates = fetch(feed).interruptions
    assert rates is not None
    assert Interruption(ND.name, "westus3", 0.2, 1.0, "hour") in rates
    assert Interruption(H200.name, "eastus2", 0.05, 0.1, "hour") in rates
    assert {(each.instance_type, each.region) for each in rates} == {
        (size, region) for size in (ND.name, H200.name) for region in ("westus3", "eastus2")
    }


def test_only_the_wanted_sizes_and_regions_are_asked_for_page_by_page(
    cloud: AzureLocalCloud, feed: AzurePriceFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multicompute_azure._feed_account._PAGE", 1)
    found = fetch(feed)
    assert found.interruptions is not None
    assert len(found.interruptions) == 4
    assert found.calls[GRAPH] == 4 == cloud.faults.count(GRAPH)


@pytest.mark.parametrize(
    ("rate", "limits"),
    [
        ("0-5", (0.0, 0.05)),
        ("0-5%", (0.0, 0.05)),
        ("5% - 10%", (0.05, 0.1)),
        ("20+", (0.2, 1.0)),
        ("20%+", (0.2, 1.0)),
        ("", None),
        ("high", None),
        ("10-5", None),
        ("5", None),
        ("90-120", None),
    ],
)
def test_a_rate_that_is_no_range_is_counted_and_not_guessed(
    cloud: AzureLocalCloud, feed: AzurePriceFeed, rate: str, limits: tuple[float, float] | None
) -> None:
    cloud._state.eviction_rates["westus3", ND.name] = rate or "?"
    found = fetch(feed, ND, regions=("westus3",))
    expected = [] if limits is None else [Interruption(ND.name, "westus3", *limits, period="hour")]
    assert found.interruptions == expected
    assert list(found.unreadable.values()) == ([1] if limits is None else [])


@pytest.mark.parametrize(("code", "status"), [("AuthorizationFailed", 403), ("BadRequest", 400)])
def test_rates_that_may_not_be_read_are_a_note_and_no_failure(
    cloud: AzureLocalCloud, feed: AzurePriceFeed, code: str, status: int
) -> None:
    cloud.faults.fail(GRAPH, code, status=status, times=None)
    found = fetch(feed)
    assert found.prices and found.interruptions is None and found.failed == []
    assert any("eviction rates" in note and code in note for note in found.notes)


def test_a_throttled_query_for_rates_is_repeated(cloud: AzureLocalCloud, feed: AzurePriceFeed) -> None:
    cloud.faults.throttle(GRAPH, times=2, retry_after=timedelta(seconds=5))
    found = fetch(feed)
    assert found.interruptions
    assert found.calls[GRAPH] == 3


def test_every_range_of_azure_has_limits(cloud: AzureLocalCloud, feed: AzurePriceFeed) -> None:
    for rate in RATES:
        cloud.set_eviction_rate(ND.name, "westus3", rate)
        assert fetch(feed, ND, regions=("westus3",)).interruptions
    with pytest.raises(ValueError, match="must be one of"):
        cloud.set_eviction_rate(ND.name, "westus3", "5")


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_a_new_size_is_found_with_its_shape_and_its_prices(cloud: AzureLocalCloud, feed: AzurePriceFeed) -> None:
    cloud.list_size("Standard_ND96isr_B200_v6", {"eastus2": 130.5}, spot_prices={"eastus2": 40.25}, capabilities=B200)
    found = fetch(feed, accelerators={"h100", "h200", "b200"})
    (new,) = found.types
    assert new.instance == InstanceType(
        "azure", "Standard_ND96isr_B200_v6", "b200", 8, new.instance.accelerator_memory_gib, 96, 1900,
        fabric="infiniband",
    )  # fmt: skip
    assert new.instance.accelerator_memory_gib > 100
    assert (new.source, new.purchases) == ("Azure Resource SKUs API", frozenset())
    of_it = {
        (each.region, each.purchase): each.quote.hourly_cost
        for each in found.prices
        if each.instance_type == new.instance.name
    }
    assert of_it == {("eastus2", "on_demand"): 130.5, ("eastus2", "spot"): 40.25}
    # The one region that has it is enough; the other is not read.
    assert [call.region for call in cloud.faults.calls if call.operation == SKUS] == [""]


def test_a_new_size_with_another_accelerator_than_the_wanted_one_is_left_out(
    cloud: AzureLocalCloud, feed: AzurePriceFeed
) -> None:
    cloud.list_size("Standard_ND96isr_B200_v6", {"westus3": 130.5}, capabilities=B200)
    found = fetch(feed, ND, accelerators={"h100"})
    assert (found.types, {each.instance_type for each in found.prices}) == ([], {ND.name})
    assert len(fetch(feed, ND, accelerators={"h100", "b200"}).types) == 1


def test_a_size_whose_shape_is_not_known_is_named_and_has_no_price(
    cloud: AzureLocalCloud, feed: AzurePriceFeed
) -> None:
    without = {name: value for name, value in B200.items() if name != "GPUs"}
    cloud.list_size("Standard_ND96isr_B200_v6", {"westus3": 130.5}, capabilities=without)
    found = fetch(feed, accelerators={"h100", "h200", "b200"})
    assert found.types == []
    assert any("Standard_ND96isr_B200_v6" in note for note in found.notes)


def test_shapes_that_may_not_be_read_are_a_note(cloud: AzureLocalCloud, feed: AzurePriceFeed) -> None:
    cloud.list_size("Standard_ND96isr_B200_v6", {"westus3": 130.5}, capabilities=B200)
    cloud.faults.fail(SKUS, "AuthorizationFailed", status=403, times=None)
    found = fetch(feed, accelerators={"h100", "h200", "b200"})
    assert found.prices and found.types == []
    assert any("shapes" in note and "AuthorizationFailed" in note for note in found.notes)


def test_no_list_of_skus_is_read_for_sizes_with_other_accelerators(
    cloud: AzureLocalCloud, feed: AzurePriceFeed
) -> None:
    found = fetch(feed, ND)
    assert (cloud.faults.count(SKUS), found.types) == (0, [])
    assert [note for note in found.notes if "not in the tables" in note] == []


def size(name: str, **capabilities: str) -> Size:
    return Size(name, capabilities={"vCPUs": "36", "MemoryGB": "440", **capabilities})


@pytest.mark.parametrize(
    ("listed", "known", "accelerator", "count"),
    [
        (size("Standard_ND96isr_B200_v6", GPUs="8"), [], "b200", 8),
        (size("Standard_ND96isr_H200_v9", GPUs="8"), [], "h200", 8),
        (size("Standard_NC16as_T4_v3", GPUs="1"), [T4], "t4", 1),
        # An A10 that is divided counts as one in the list; the vCPUs say how much of it there is.
        (size("Standard_NV24ads_A10_v5", GPUs="1", vCPUs="24"), A10, "a10", 0.6667),
        (size("Standard_NV144ads_A10_v5", GPUs="4", vCPUs="144"), A10, "a10", 4),
        # The vCPUs of this series do not say it.
        (size("Standard_NC48lds_xl_RTXPRO6000BSE_v6", GPUs="1", vCPUs="48"), RTX, "", 0),
        # One GPU of a series that is not known may be a part of one.
        (size("Standard_NV6ads_L40S_v6", GPUs="1"), [], "", 0),
        # GB200, GB300 and MI300X lack the number.
        (size("Standard_ND128isr_GB300_v7"), [], "", 0),
        (size("Standard_ND96is_MI300X_v5"), [], "", 0),
        (size("Standard_ND96isr_H100_v5", GPUs="eight"), [ND], "", 0),
        # The name of the A100 does not tell the memory.
        (size("Standard_ND96amsr_A100_v9", GPUs="8"), [], "", 0),
        (size("Standard_NM16ads_MA35D", GPUs="2"), [], "", 0),
        (size("Standard_ND96isr_B200_v6", GPUs="8", MemoryGB=""), [], "", 0),
        (size("Standard_ND96isr_B200_v6", GPUs="8", vCPUs="many"), [], "", 0),
    ],
)
def test_a_shape_is_read_and_never_guessed(
    listed: Size, known: list[InstanceType], accelerator: str, count: float
) -> None:
    found = shape_of(listed, known)
    assert (found.instance.accelerator, found.instance.accelerators) == (accelerator, count) if found else not count


@pytest.mark.parametrize(
    ("name", "series"),
    [
        ("Standard_NC24ads_A100_v4", "nc_a100_v4"),
        ("standard_nc80adis_h100_v5", "nc_h100_v5"),
        ("Standard_NCC40ads_H100_v5", "ncc_h100_v5"),
        ("Standard_ND96asr_v4", "nd_v4"),
        ("Standard_NP10s", "np"),
        ("Standard_E4-2ds_v5", "e_v5"),
        ("Standard_NC24lds_xl_RTXPRO6000BSE_v6", "nc_xl_rtxpro6000bse_v6"),
        ("other", "other"),
    ],
)
def test_the_series_of_a_size_is_its_name_without_numbers_of_vcpus_and_features(name: str, series: str) -> None:
    assert series_of(name) == series
