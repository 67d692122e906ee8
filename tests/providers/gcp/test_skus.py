"""The SKUs of Google's price list: what each form of description, unit and price means, and what is left out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from multicompute_gcp.prices._skus import component_of
from tests.providers.gcp.price_server import (
    A2,
    A2_80,
    A3,
    A3_MEGA,
    A3_ULTRA,
    A4,
    G2,
    G4,
    IOWA,
    T4,
    costs,
    cpu,
    only,
    read,
    sku,
    tpu,
)

CORE, RAM = sku("A2 Instance Core running in Iowa", "0.03"), sku("A2 Instance Ram running in Iowa", "0.004")
GPU = sku("Nvidia Tesla A100 GPU running in Iowa", "2.9")
A2_PRICE = 12 * 0.03 + 85 * 0.004 + 2.9


@pytest.mark.parametrize(
    ("description", "component"),
    [
        ("A2 Instance Core running in Iowa", "core:a2"),
        ("a2 instance  ram Running in Sao Paulo", "ram:a2"),
        ("A3Plus Instance Core running in Iowa", "core:a3plus"),
        ("A3Ultra Instance Ram running in Iowa", "ram:a3ultra"),
        ("N1 Predefined Instance Core running in Americas", "core:n1"),
        ("Compute optimized Core running in Iowa", "core:c2"),
        ("Compute optimized Instance Ram running in Iowa", "ram:c2"),
        ("C2 Instance Core running in Zurich", "core:c2"),
        ("C4A Arm Instance Core running in Iowa", "core:c4a"),
        ("N2D AMD Instance Ram running in Iowa", "ram:n2d"),
        ("Nvidia Tesla A100 GPU running in Iowa", "gpu:a100"),
        ("Nvidia Tesla A100 80GB GPU running in Iowa", "gpu:a100-80gb"),
        ("Nvidia H100 80GB GPU running in Iowa", "gpu:h100"),
        ("Nvidia H100 80GB Mega GPU running in Tokyo", "gpu:h100-mega"),
        ("H100 80GB Plus GPU running in Iowa", "gpu:h100-mega"),
        ("H200 141GB GPU running in Iowa", "gpu:h200"),
        ("RTX 6000 96GB running in Iowa", "gpu:rtx-pro-6000"),
        ("A4 Nvidia B200 (1 gpu slice) running in Iowa", "slice:b200"),
        ("SSD backed Local Storage", "ssd"),
        ("SSD backed Local Storage in Oregon", "ssd"),
        ("C4 Instance Local SSD running in Iowa", "ssd:c4"),
        ("Tpu-v2 in USA", "tpu:v2"),
        ("Tpu-v3 Pod in Europe", "tpu-pod:v3"),
        ("Tpu-v4 Pod running in Oklahoma", "tpu-pod:v4"),
        ("TpuV5e running in Columbus", "tpu:v5e"),
        ("TpuV5p in Iowa", "tpu:v5p"),
        ("Tpu7x running in Iowa", "tpu:tpu7x"),
    ],
)
def test_a_description_names_a_component(description: str, component: str) -> None:
    assert component_of(description) == (component, "on_demand")


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("Spot Preemptible A3 Instance Core running in Iowa", ("core:a3", "spot")),
        ("Nvidia H100 80GB GPU attached to Spot Preemptible VMs running in Iowa", ("gpu:h100", "spot")),
        ("SSD backed Local Storage attached to Spot Preemptible VMs in Iowa", ("ssd", "spot")),
        ("Spot Preemptible A4 Nvidia B200 (1 gpu slice) running in Iowa", ("slice:b200", "spot")),
        ("Preemptible Tpu-v2 in USA", ("tpu:v2", "spot")),
        ("TpuV6e attached to Spot Preemptible VMs running in Columbus", ("tpu:v6e", "spot")),
        ("DWS Defined Duration A2 Core running in Iowa", ("core:a2", "flex_start")),
        ("DWS Defined Duration A3 Instance Ram running in Iowa", ("ram:a3", "flex_start")),
        ("Nvidia Tesla A100 GPU attached to DWS Defined Duration VMs running in Americas", ("gpu:a100", "flex_start")),
        ("DWS Defined Duration H100 Mega 80GB GPU running in Iowa", ("gpu:h100-mega", "flex_start")),
        ("DWS Defined Duration V6e running in Columbus", ("tpu:v6e", "flex_start")),
    ],
)
def test_the_description_decides_how_it_is_bought(description: str, expected: tuple[str, str]) -> None:
    assert component_of(description) == expected


@pytest.mark.parametrize(
    "description",
    [
        "DWS Calendar Mode A2 Instance Core running in Iowa",
        "Reserved A2 Instance Core in Calendar Mode running in Iowa",
        "Reserved A2 Instance Core in Iowa",
        "Reserved V6e running in Columbus",
        "Commitment v1: A2 Cpu in Iowa for 1 Year",
        "Commitment: Compute optimized Core in Iowa for 3 Year",
        "N1 Predefined Sole Tenancy Instance Core running in Iowa",
        "N2 Custom Instance Core running in Iowa",
        "N2 Custom Extended Instance Ram running in Iowa",
        "Custom Instance Core running in Iowa",
        "Memory Optimized Upgrade Premium for Memory-optimized Instance Core running in Iowa",
        "A2 CmtCudPremium Instance Core running in Iowa",
        "Capacity Optimized TpuV6e running in Columbus",
        "VM state: suspended A2 Instance Ram in Iowa",
        "Licensing Fee for Windows Server 2025 on VM with 4 VCPU (CPU cost)",
        "Nvidia Tesla T4 Virtual Workstation running in Iowa",
        "Nvidia Tesla A100 160GB GPU running in Iowa",
        "Network Internet Egress from Iowa to Americas",
        "V6e running in Columbus",
        "",
    ],
)
def test_what_only_reads_like_a_machine_is_left_out(description: str) -> None:
    assert component_of(description) is None


def test_what_is_left_out_changes_no_price() -> None:
    misleading = [
        sku("Reserved A2 Instance Core in Iowa", "0"),
        sku("DWS Calendar Mode A2 Instance Core running in Iowa", "0.001"),
        sku("Commitment v1: A2 Cpu in Iowa for 1 Year", "0.001"),
        sku("A2 Custom Instance Core running in Iowa", "0.001"),
        sku("VM state: suspended A2 Instance Core in Iowa", "0.001"),
        sku("A2 Sole Tenancy Instance Core running in Iowa", "0.001"),
    ]
    assert costs(read([*misleading, CORE, RAM, GPU, *misleading], A2)) == pytest.approx({"on_demand": A2_PRICE})


def test_units_and_nanos_are_added_and_may_be_text_number_or_missing() -> None:
    for usd in (("3", 670000000), (3, "670000000"), ("3", 670000000.0)):
        found = read([CORE, RAM, sku("Nvidia Tesla A100 GPU running in Iowa", usd)], A2)
        assert costs(found)["on_demand"] == pytest.approx(A2_PRICE - 2.9 + 3.67)
    found = read([CORE, RAM, sku("Nvidia Tesla A100 GPU running in Iowa", ("3", None))], A2)
    assert costs(found)["on_demand"] == pytest.approx(A2_PRICE - 2.9 + 3)


def test_a_free_amount_in_the_first_tier_is_not_the_price() -> None:
    tiers = [(100.0, "2.8"), (0.0, "0"), (1.0, "2.9")]
    assert costs(read([CORE, RAM, sku(str(GPU["description"]), tiers=tiers)], A2)) == pytest.approx(
        {"on_demand": A2_PRICE}
    )


def test_memory_by_the_gigabyte_and_disks_by_the_month_are_converted() -> None:
    c4d = [
        sku("C4D Instance Core running in Iowa", "0.03"),
        sku("C4D Instance Ram running in Iowa", "0.004", unit="GBy.h"),
    ]
    found = only(read(c4d, cpu("c4d-standard-8", 8, 31)))
    assert found.quote.hourly_cost == pytest.approx(8 * 0.03 + 31 * 1.073741824 * 0.004, abs=1e-6)
    ultra = [
        sku("A2 Instance Core running in Iowa", "0.03"),
        sku("A2 Instance Ram running in Iowa", "0.004"),
        sku("Nvidia Tesla A100 80GB GPU running in Iowa", "3.9"),
        sku("SSD backed Local Storage", "0.08", regions=("asia-east1", IOWA)),
    ]
    found = only(read(ultra, A2_80))
    assert found.quote.hourly_cost == pytest.approx(12 * 0.03 + 170 * 0.004 + 3.9 + 375 * 0.08 / 730, abs=1e-6)


def test_a_sku_of_the_region_comes_before_one_of_several_regions_whatever_the_order() -> None:
    shared = sku("Nvidia Tesla A100 GPU running in Americas", "2.5", regions=(IOWA, "us-east1"))
    for skus in ([shared, GPU], [GPU, shared]):
        found = read([CORE, RAM, *skus], A2)
        assert costs(found) == pytest.approx({"on_demand": A2_PRICE})
    assert costs(read([CORE, RAM, shared], A2)) == pytest.approx({"on_demand": A2_PRICE - 0.4})


def test_two_skus_that_differ_are_no_price_and_repeated_ones_count_once() -> None:
    other = sku("Nvidia A100 GPU running in Iowa", "3.1")
    found = read([CORE, RAM, GPU, other], A2)
    assert not found.prices
    assert ("a2-highgpu-1g", "", 1, IOWA, "on_demand") in found.incomplete
    assert costs(read([CORE, RAM, GPU, GPU, CORE], A2)) == pytest.approx({"on_demand": A2_PRICE})


@pytest.mark.parametrize("missing", [CORE, RAM, GPU])
def test_a_machine_of_which_a_part_has_no_price_has_none_and_keeps_its_old_one(missing: Any) -> None:
    skus = [one for one in (CORE, RAM, GPU) if one is not missing]
    for free in ([], [{**missing, "pricingInfo": sku("", "0")["pricingInfo"]}]):
        found = read([*skus, *free], A2)
        assert not found.prices
        assert found.incomplete == {("a2-highgpu-1g", "", 1, IOWA, "on_demand")}
        assert (IOWA, "on_demand") in found.answered
        assert "1 prices stay" in found.notes[1]


def test_a_machine_of_which_no_part_is_listed_is_no_longer_sold() -> None:
    found = read([sku("N2 Instance Core running in Iowa")], A2)
    assert not found.prices and not found.incomplete
    assert found.answered == {(IOWA, "on_demand")}


def test_a_region_without_any_sku_is_not_answered() -> None:
    found = read([CORE, RAM, GPU], A2, regions=(IOWA, "europe-west4"))
    assert {region for region, _ in found.answered} == {IOWA}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"unit": "month"}, "unit 'month'"),
        ({"currencyConversionRate": 0.92}, "not in USD"),
        ({"tiers": [(0, "-3.0")]}, "below 0"),
        ({"effectiveTime": "yesterday"}, "time 'yesterday'"),
        ({"effectiveTime": (datetime.now(UTC) + timedelta(days=2)).isoformat()}, "no price that has begun"),
        ({"pricingExpression": None}, "no pricing expression"),
        ({"pricingExpression": {"usageUnit": "h", "tieredRates": []}}, "no tier"),
        ({"pricingExpression": {"usageUnit": "h", "tieredRates": [{"unitPrice": {"units": "many"}}]}}, "number 'many'"),
    ],
)
def test_a_price_that_cannot_be_read_is_counted_and_named_and_never_guessed(change: dict[str, Any], why: str) -> None:
    found = read([CORE, RAM, sku("Nvidia Tesla A100 GPU running in Iowa", "2.9", **change)], A2)
    assert not found.prices
    [(text, count)] = found.unreadable.items()
    assert why in text and "Nvidia Tesla A100 GPU running in Iowa" in text and count == 1


def test_an_unreadable_price_of_what_is_not_needed_is_not_counted() -> None:
    found = read([CORE, RAM, GPU, sku("N4 Instance Core running in Iowa", unit="month")], A2)
    assert found.unreadable == {}


def test_a_timeline_is_read_at_its_last_price_that_has_begun() -> None:
    old, new = sku("Nvidia Tesla A100 GPU", "2.9"), sku("Nvidia Tesla A100 GPU", "9")
    times = ("2026-01-01T00:00:00Z", (datetime.now(UTC) + timedelta(days=1)).isoformat())
    timeline = [{**one["pricingInfo"][0], "effectiveTime": at} for one, at in zip((old, new), times, strict=True)]
    assert costs(read([CORE, RAM, {**old, "pricingInfo": timeline}], A2)) == pytest.approx({"on_demand": A2_PRICE})


def test_a100_of_40_and_of_80_gb_are_told_apart() -> None:
    ssd = sku("SSD backed Local Storage", "0.073")
    found = read([CORE, RAM, GPU, sku("Nvidia Tesla A100 80GB GPU running in Iowa", "3.9"), ssd], A2, A2_80)
    by_name = {price.instance_type: price.quote.hourly_cost for price in found.prices}
    assert by_name["a2-highgpu-1g"] == pytest.approx(A2_PRICE)
    assert by_name["a2-ultragpu-1g"] == pytest.approx(12 * 0.03 + 170 * 0.004 + 3.9 + 375 * 0.0001, abs=1e-6)


@pytest.mark.parametrize("name", ["H100 80GB Mega GPU", "Nvidia H100 80GB Plus GPU"])
def test_the_gpus_of_a3_mega_have_two_names_and_cores_of_their_own(name: str) -> None:
    skus = [
        sku("A3Plus Instance Core running in Iowa", "0.03"),
        sku("A3Plus Instance Ram running in Iowa", "0.002"),
        sku(f"{name} running in Iowa", "10"),
        sku("Nvidia H100 80GB GPU running in Iowa", "9"),
        sku("A3 Instance Core running in Iowa", "0.5"),
        sku("A3 Instance Ram running in Iowa", "0.5"),
        sku("SSD backed Local Storage", "0.073"),
    ]
    found = read(skus, A3_MEGA)
    assert costs(found) == pytest.approx({"on_demand": 208 * 0.03 + 1872 * 0.002 + 80 + 16 * 375 * 0.0001})
    assert only(found).quote.basis == "estimate"
    assert "composed of 4 SKUs (core, RAM, GPU, local SSD)" in only(found).quote.source


def test_what_has_a_price_but_is_not_sold_has_none_here() -> None:
    skus = [
        sku("A3Ultra Instance Core running in Iowa", "0.03"),
        sku("A3Ultra Instance Ram running in Iowa", "0.002"),
        sku("H200 141GB GPU running in Iowa", "10"),
        sku("SSD backed Local Storage", "0.073"),
        sku("A4 Nvidia B200 (1 gpu slice) running in Iowa", "16"),
    ]
    assert not read(skus, A3_ULTRA, A4).prices


def test_eight_slices_are_an_a4_and_hold_everything() -> None:
    skus = [
        sku("Spot Preemptible A4 Nvidia B200 (1 gpu slice) running in Iowa", "4.5"),
        sku("SSD backed Local Storage attached to Spot Preemptible VMs", "0.03"),
    ]
    found = read(skus, A4)
    assert costs(found) == {"spot": 36.0}
    assert (only(found).quote.basis, only(found).quote.source) == ("list", "Cloud Billing Catalog: SKU per GPU slice")


def test_what_flex_start_of_a4_and_of_built_in_disks_costs_is_not_guessed() -> None:
    skus = [
        sku("DWS Defined Duration A4 Nvidia B200 (1 gpu slice) running in Iowa", "8"),
        sku("DWS Defined Duration A3 Core running in Iowa", "0.02"),
        sku("DWS Defined Duration A3 Ram running in Iowa", "0.002"),
        sku("DWS Defined Duration H100 80GB GPU running in Iowa", "5"),
        sku("SSD backed Local Storage", "0.08"),
    ]
    found = read(skus, A4, A3)
    assert not found.prices
    assert {(name, purchase) for name, _, _, _, purchase in found.incomplete} == {
        ("a4-highgpu-8g", "flex_start"),
        ("a3-highgpu-8g", "flex_start"),
    }


def test_flex_start_is_the_defined_duration_of_the_dynamic_workload_scheduler() -> None:
    skus = [
        sku("DWS Defined Duration A2 Core running in Iowa", "0.02"),
        sku("DWS Defined Duration A2 Ram running in Iowa", "0.002"),
        sku(
            "Nvidia Tesla A100 GPU attached to DWS Defined Duration VMs running in Americas",
            "1.5",
            regions=(IOWA, "us-east1"),
        ),
        sku("DWS Calendar Mode A2 Core running in Iowa", "0.001"),
    ]
    found = only(read(skus, A2))
    assert found.purchase == "flex_start"
    assert found.quote.hourly_cost == pytest.approx(12 * 0.02 + 85 * 0.002 + 1.5)
    assert "3 DWS Defined Duration (flex-start) SKUs" in found.quote.source


def test_rtx_6000_has_no_word_gpu_and_n1_shares_its_cores() -> None:
    skus = [
        sku("G4 Instance Core running in Iowa", "0.05"),
        sku("G4 Instance Ram running in Iowa", "0.005"),
        sku("RTX 6000 96GB running in Iowa", "2.5"),
        sku("Spot Preemptible N1 Predefined Instance Core running in Iowa", "0.007", usage="Preemptible"),
        sku("Spot Preemptible N1 Predefined Instance Ram running in Iowa", "0.001", usage="Preemptible"),
        sku("Nvidia Tesla T4 GPU attached to Spot Preemptible VMs running in Iowa", "0.1", usage="OnDemand"),
    ]
    found = {price.instance_type: price for price in read(skus, G4, T4).prices}
    assert found["g4-standard-48"].quote.hourly_cost == pytest.approx(48 * 0.05 + 180 * 0.005 + 2.5)
    assert found["n1-standard-4"].purchase == "spot"
    assert found["n1-standard-4"].quote.hourly_cost == pytest.approx(4 * 0.007 + 15 * 0.001 + 0.1)


def test_shared_cores_are_billed_for_a_part_of_their_vcpus() -> None:
    skus = [sku("E2 Instance Core running in Iowa", "0.02"), sku("E2 Instance Ram running in Iowa", "0.003")]
    for name, memory, vcpus in (
        ("e2-micro", 1, 0.25),
        ("e2-small", 2, 0.5),
        ("e2-medium", 4, 1),
        ("e2-standard-2", 8, 2),
    ):
        cost = only(read(skus, cpu(name, 2, memory))).quote.hourly_cost
        assert cost == pytest.approx(vcpus * 0.02 + memory * 0.003)


@pytest.mark.parametrize(
    ("slice_type", "description", "usd", "expected"),
    [
        (tpu("v2-8", "v2", 4), "Tpu-v2 in USA", "4.5", 4.5),
        (tpu("v2-32", "v2", 16, 4), "Tpu-v2 Pod in USA", "6", 24.0),
        (tpu("v3-8", "v3", 4), "Tpu-v3 in USA", "8", 8.0),
        (tpu("v3-32", "v3", 16, 4), "Tpu-v3 Pod in Europe", "8", 32.0),
        (tpu("v4-8", "v4", 4), "Tpu-v4 Pod in USA", "12.88", 12.88),
        (tpu("v5litepod-8", "v5e", 8), "TpuV5e running in Iowa", "1.2", 9.6),
        (tpu("v5p-8", "v5p", 4), "TpuV5p running in Iowa", "4.2", 16.8),
        (tpu("v6e-8", "v6e", 8), "TpuV6e running in Iowa", "2.7", 21.6),
    ],
)
def test_a_slice_costs_its_chips(slice_type: Any, description: str, usd: str, expected: float) -> None:
    region = {"v3-32": "europe-west4", "v4-8": "us-central2"}.get(slice_type.instance.name, IOWA)
    found = only(read([sku(description, usd, regions=(region, "us-east4"))], slice_type, regions=(region,)))
    assert (found.quote.hourly_cost, found.quote.basis) == (expected, "list")
    assert found.quote.source == "Cloud Billing Catalog: SKU per TPU chip"


def test_a_pod_and_a_device_of_the_first_tpus_have_prices_of_their_own() -> None:
    device, pod = sku("Tpu-v2 in USA", "4.5"), sku("Tpu-v2 Pod in USA", "6")
    found = read([device, pod], tpu("v2-8", "v2", 4), tpu("v2-32", "v2", 16, 4))
    assert {price.instance_type: price.quote.hourly_cost for price in found.prices} == {"v2-8": 4.5, "v2-32": 24.0}
    assert not read([device], tpu("v2-32", "v2", 16, 4)).prices


def test_a_missing_price_of_the_first_tpus_does_not_end_their_sale() -> None:
    found = read(
        [sku("N2 Instance Core running in Oklahoma", regions=("us-central2",))],
        tpu("v4-8", "v4", 4),
        regions=("us-central2",),
    )
    assert ("v4-8", "", 4, "us-central2", "on_demand") in found.incomplete


def test_flex_start_of_tpus_may_be_cheaper_than_spot() -> None:
    skus = [
        sku("TpuV6e running in Columbus", "2.7", regions=("us-east5",)),
        sku("DWS Defined Duration V6e running in Columbus", "1.35", regions=("us-east5",)),
        sku("TpuV6e attached to Spot Preemptible VMs running in Columbus", "1.4033", regions=("us-east5",)),
        sku("Capacity Optimized TpuV6e running in Columbus", "2.7", regions=("us-east5",)),
    ]
    found = costs(read(skus, tpu("v6e-8", "v6e", 8), regions=("us-east5",)))
    assert found == pytest.approx({"on_demand": 21.6, "spot": 11.2264, "flex_start": 10.8})


def test_g2_is_priced_in_each_purchase() -> None:
    skus = [
        sku("G2 Instance Core running in Iowa", "0.025"),
        sku("G2 Instance Ram running in Iowa", "0.003"),
        sku("Nvidia L4 GPU running in Iowa", "0.56"),
        sku("Spot Preemptible G2 Instance Core running in Iowa", "0.01"),
        sku("Spot Preemptible G2 Instance Ram running in Iowa", "0.001"),
        sku("Nvidia L4 GPU attached to Spot Preemptible VMs running in Iowa", "0.2"),
    ]
    assert costs(read(skus, G2)) == pytest.approx({"on_demand": 0.708, "spot": 0.256})
