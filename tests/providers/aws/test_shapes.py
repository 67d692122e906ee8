"""Shapes of instance types, from EC2's descriptions of them."""

from pathlib import Path
from typing import Any

import pytest
from moto.ec2.models.instance_types import INSTANCE_TYPES

import multicompute_aws
from multicompute.catalog.tables import Tables
from multicompute.offer import InstanceType
from multicompute_aws._shapes import UnknownShapeError, changed, purchases_of, shape_of

TABLES = Tables("aws", Path(multicompute_aws.__file__).parent / "data")
KNOWN = {item.name: item for shard in TABLES.shards for item in TABLES.types(shard).values()}
DESCRIBED = sorted(KNOWN.keys() & INSTANCE_TYPES.keys())


def described(name: str = "p9.48xlarge", **parts: Any) -> dict[str, Any]:
    plain = {
        "InstanceType": name,
        "VCpuInfo": {"DefaultVCpus": 8},
        "MemoryInfo": {"SizeInMiB": 65536},
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        "NetworkInfo": {"NetworkPerformance": "Up to 10 Gigabit", "NetworkCards": [{"BaselineBandwidthInGbps": 2.5}]},
    }
    return {key: value for key, value in {**plain, **parts}.items() if value is not None}


def gpu(name: str, mib: int, count: float = 1, **more: Any) -> dict[str, Any]:
    return {"GpuInfo": {"Gpus": [{"Name": name, "Count": count, "MemoryInfo": {"SizeInMiB": mib}, **more}]}}


@pytest.mark.parametrize("name", DESCRIBED)
def test_what_ec2_says_is_what_the_tables_have(name: str) -> None:
    assert changed(KNOWN[name], shape_of(INSTANCE_TYPES[name])) is None
    if name != "trn2u.48xlarge":
        # EC2 lists no accelerators of this one; the tables keep theirs.
        found = shape_of(INSTANCE_TYPES[name])
        assert (found.accelerator, found.accelerators) == (KNOWN[name].accelerator, KNOWN[name].accelerators)


@pytest.mark.parametrize(
    ("name", "mib", "expected"),
    [
        ("A100", 40960, "a100"),
        ("A100", 81920, "a100-80gb"),
        ("V100", 16384, "v100"),
        ("V100", 32768, "v100-32gb"),
        ("H100", 81920, "h100"),
        ("L4", 22888, "l4"),
        ("A10G", 22888, "a10g"),
        ("Radeon Pro V520", 8192, "radeon-pro-v520"),
        ("RTX PRO Server 6000", 98304, "rtx-pro-6000"),
    ],
)
def test_the_memory_tells_the_variant(name: str, mib: int, expected: str) -> None:
    assert shape_of(described(**gpu(name, mib))).accelerator == expected


@pytest.mark.parametrize("with_size", [True, False])
@pytest.mark.parametrize(("mib", "fraction"), [(2861, 0.125), (5722, 0.25), (11444, 0.5)])
def test_a_fraction_has_the_count_0_and_a_part_of_the_memory(mib: int, fraction: float, *, with_size: bool) -> None:
    size = {"GpuPartitionSize": fraction} if with_size else {}
    found = shape_of(described("g6f.large", **gpu("L4", mib, 0, **size)))
    assert (found.accelerator, found.accelerators) == ("l4", fraction)
    assert found.accelerator_memory_gib == round(mib / 1024, 2)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"NeuronInfo": {"NeuronDevices": [{"Name": "Trainium2", "Count": 16, "MemoryInfo": {"SizeInMiB": 98304}}]}},
            ("trainium2", 16),
        ),
        (
            {
                "FpgaInfo": {
                    "Fpgas": [{"Name": "Virtex UltraScale+ (VU9P)", "Count": 8, "MemoryInfo": {"SizeInMiB": 65536}}]
                }
            },
            ("fpga-vu9p", 8),
        ),
        (
            {
                "MediaAcceleratorInfo": {
                    "Accelerators": [{"Name": "U30", "Count": 2, "MemoryInfo": {"SizeInMiB": 24576}}]
                }
            },
            ("alveo-u30", 2),
        ),
        (
            {
                "InferenceAcceleratorInfo": {
                    "Accelerators": [{"Name": "Inferentia", "Count": 4, "MemoryInfo": {"SizeInMiB": 8192}}]
                }
            },
            ("inferentia1", 4),
        ),
        (
            {"GpuInfo": {"Gpus": [{"Name": "Gaudi HL-205", "Count": 8, "MemoryInfo": {"SizeInMiB": 32768}}]}},
            ("gaudi", 8),
        ),
    ],
)
def test_accelerators_are_in_one_of_five_structures(part: dict[str, Any], expected: tuple[str, int]) -> None:
    found = shape_of(described(**part))
    assert (found.accelerator, found.accelerators) == expected


def test_inferentia_in_two_structures_counts_once() -> None:
    entry = {"Name": "Inferentia2", "Count": 12, "MemoryInfo": {"SizeInMiB": 32768}}
    both: dict[str, Any] = {
        "NeuronInfo": {"NeuronDevices": [entry]},
        "InferenceAcceleratorInfo": {"Accelerators": [entry]},
    }
    assert shape_of(described(**both)).accelerators == 12


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        (gpu("NVIDIA", 144384), "NVIDIA is not known"),
        (gpu("", 1), "without a name"),
        (gpu("A100", 10240), "memory of no A100"),
        (gpu("L4", 100, 0), "fraction"),
        ({"GpuInfo": {"Gpus": [{"Name": "L4", "Count": 1}, {"Name": "T4", "Count": 1}]}}, "several kinds"),
        ({"VCpuInfo": None}, "vCPUs"),
        ({"MemoryInfo": {}}, "memory"),
    ],
)
def test_a_type_that_can_not_be_identified_is_refused(parts: dict[str, Any], problem: str) -> None:
    with pytest.raises(UnknownShapeError, match=problem):
        shape_of(described(**parts))


def test_the_memory_of_a_complete_ultraserver_is_not_that_of_a_chip() -> None:
    entry = {"Name": "Trainium2", "Count": 1, "MemoryInfo": {"SizeInMiB": 524288}}
    found = shape_of(described("trn2.3xlarge", NeuronInfo={"NeuronDevices": [entry]}))
    assert found.accelerator_memory_gib == 96


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ({"NetworkPerformance": "3200 Gigabit"}, 3200),
        ({"NetworkPerformance": "4x 100 Gigabit"}, 400),
        ({"NetworkPerformance": "Up to 10 Gigabit", "NetworkCards": [{"BaselineBandwidthInGbps": 1.5}]}, 1.5),
        ({}, 0),
    ],
)
def test_the_sustained_network_rate_is_read(network: dict[str, Any], expected: float) -> None:
    assert shape_of(described(NetworkInfo=network)).network_gbps == expected


def test_a_changed_shape_keeps_what_ec2_does_not_say() -> None:
    known = InstanceType("aws", "p9.48xlarge", vcpus=4, memory_gib=64, network_gbps=2.5, retired=True)
    found = changed(known, shape_of(described()))
    assert found is not None and (found.vcpus, found.retired) == (8, True)
    assert changed(found, shape_of(described())) is None


def test_other_accelerators_than_in_the_tables_change_nothing() -> None:
    known = InstanceType("aws", "p9.48xlarge", "l4", 1, 22.35, vcpus=4, memory_gib=64)
    assert changed(known, shape_of(described(**gpu("T4", 16384)))) is None


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["on-demand", "spot"], set()),
        (["capacity-block", "on-demand", "spot"], set()),
        (["capacity-block"], {"reserved"}),
        (["on-demand"], {"on_demand"}),
        (None, set()),
    ],
)
def test_how_a_type_is_sold(classes: list[str] | None, expected: set[str]) -> None:
    assert purchases_of(described(SupportedUsageClasses=classes)) == expected
