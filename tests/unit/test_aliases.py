"""The names that other tools print or accept for accelerators, slices and instance types, through the public API."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute import Cluster, accelerators, aliases
from multicompute.aliases import CORES_PER_CHIP, TABLE, exact_name, find, find_accelerators, read_table, split_count
from multicompute.errors import CatalogError, NoOfferError, SpecError
from multicompute.plan import Plan

ACCELERATORS = {
    "nvidia-smi, torch.cuda.get_device_name": {
        "Tesla K80": "k80",
        "Tesla M60": "m60",
        "Tesla P4": "p4",
        "Tesla P100-PCIE-16GB": "p100",
        "Tesla V100-SXM2-16GB": "v100",
        "Tesla V100-SXM2-32GB": "v100-32gb",
        "Tesla V100-PCIE-16GB": "v100",
        "Tesla T4": "t4",
        "NVIDIA T4G": "t4g",
        "NVIDIA A10": "a10",
        "NVIDIA A10G": "a10g",
        "NVIDIA A100-SXM4-40GB": "a100",
        "A100-SXM4-40GB": "a100",
        "NVIDIA A100-SXM4-80GB": "a100-80gb",
        "NVIDIA A100 80GB PCIe": "a100-80gb",
        "NVIDIA H100 80GB HBM3": "h100",
        "NVIDIA H100 NVL": "h100-nvl",
        "NVIDIA H200": "h200",
        "NVIDIA B200": "b200",
        "NVIDIA GB200": "gb200",
        "NVIDIA B300 SXM6 AC": "b300",
        "NVIDIA GB300": "gb300",
        "NVIDIA L4": "l4",
        "NVIDIA L40S": "l40s",
        "NVIDIA RTX PRO 6000 Blackwell Server Edition": "rtx-pro-6000",
        "NVIDIA RTX PRO 4500 Blackwell Server Edition": "rtx-pro-4500",
    },
    "nvidia-smi -L": {
        "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-9f3c5a1e-1d2b-4c3d-8e4f-5a6b7c8d9e0f)": "h100",
        "GPU 7: Tesla T4 (UUID: GPU-9f3c5a1e-1d2b-4c3d-8e4f-5a6b7c8d9e0f)": "t4",
        "GPU 3: NVIDIA A100-SXM4-40GB": "a100",
    },
    "GPU feature discovery, nvidia.com/gpu.product": {
        "NVIDIA-H100-80GB-HBM3": "h100",
        "Tesla-T4": "t4",
        "Tesla-V100-SXM2-16GB": "v100",
        "NVIDIA-A100-SXM4-40GB": "a100",
        "NVIDIA-A100-80GB-PCIe": "a100-80gb",
        "NVIDIA-H200": "h200",
        "NVIDIA-L40S": "l40s",
        "NVIDIA-A10G": "a10g",
        "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition": "rtx-pro-6000",
    },
    "rocm-smi, torch, AMD GPU node labeller": {
        "AMD Instinct MI300X": "mi300x",
        "AMD Instinct MI300X VF": "mi300x",
        "AMD_Instinct_MI300X_OAM": "mi300x",
        "AMD-MI300X-192G": "mi300x",
    },
    "SkyPilot": {
        "A100-80GB": "a100-80gb",
        "A100-80GB-SXM": "a100-80gb",
        "V100-32GB": "v100-32gb",
        "H100-SXM": "h100",
        "H100-MEGA-80GB": "h100",
        "RTXPRO6000": "rtx-pro-6000",
        "Gaudi HL-205": "gaudi",
        "Radeon Pro V520": "radeon-pro-v520",
        "Radeon MI25": "mi25",
        "Inferentia2": "inferentia2",
        "Trainium2": "trainium2",
    },
    "dstack": {
        "A100:80GB": "a100-80gb",
        "A100:40GB": "a100",
        "H100:80GB": "h100",
        "H100:94GB": "h100-nvl",
        "nvidia:A100:80GB": "a100-80gb",
        "amd:MI300X": "mi300x",
        "L4:24GB": "l4",
    },
    "GKE labels, Compute Engine accelerator types": {
        "nvidia-tesla-t4": "t4",
        "nvidia-tesla-v100": "v100",
        "nvidia-tesla-p100": "p100",
        "nvidia-tesla-a100": "a100",
        "nvidia-a100-80gb": "a100-80gb",
        "nvidia-l4": "l4",
        "nvidia-h100-80gb": "h100",
        "nvidia-h100-mega-80gb": "h100",
        "nvidia-h200-141gb": "h200",
        "nvidia-b200": "b200",
        "nvidia-gb200": "gb200",
        "nvidia-rtx-pro-6000": "rtx-pro-6000",
        "tpu-v3-device": "tpu-v3",
        "tpu-v4-podslice": "tpu-v4",
        "tpu-v5-lite-device": "tpu-v5e",
        "tpu-v5-lite-podslice": "tpu-v5e",
        "tpu-v5p-slice": "tpu-v5p",
        "tpu-v6e-slice": "tpu-v6e",
        "tpu7x": "tpu7x",
    },
    "Karpenter, EC2 AcceleratorNames": {
        "t4g": "t4g",
        "l40s": "l40s",
        "radeon-pro-v520": "radeon-pro-v520",
        "V100": "v100 v100-32gb",
        "A100": "a100 a100-80gb",
        "h100": "h100 h100-nvl",
        "inferentia": "inferentia1 inferentia2",
        "trainium": "trainium1 trainium2",
    },
    "Neuron, EC2 families": {"inf2": "inferentia2", "trn1": "trainium1", "trn2": "trainium2"},
    "Vertex AI": {
        "NVIDIA_TESLA_T4": "t4",
        "NVIDIA_A100_80GB": "a100-80gb",
        "NVIDIA_H100_80GB": "h100",
        "TPU_V5_LITEPOD": "tpu-v5e",
        "TPU_V4_POD": "tpu-v4",
    },
    "JAX device_kind": {
        "TPU v2": "tpu-v2",
        "TPU v3": "tpu-v3",
        "TPU v4": "tpu-v4",
        "TPU v5 lite": "tpu-v5e",
        "TPU v5e": "tpu-v5e",
        "TPU v5p": "tpu-v5p",
        "TPU v6 lite": "tpu-v6e",
        "TPU v6e": "tpu-v6e",
        "TPU7x": "tpu7x",
    },
}
"""Tool -> name -> the canonical names of the accelerators that it means."""

INSTANCES = {
    "SkyPilot, Ray": {
        "tpu-v2-8": "v2-8",
        "tpu-v3-32": "v3-32",
        "TPU-v4-16": "v4-16",
        "tpu-v5litepod-16": "v5litepod-16",
        "tpu-v5p-8": "v5p-8",
        "tpu-v6e-8": "v6e-8",
    },
    "Cloud TPU, xpk, MaxText": {
        "v5e-16": "v5litepod-16",
        "tpu-v5e-8": "v5litepod-8",
        "V5LITEPOD-16": "v5litepod-16",
        "v5p-128": "v5p-128",
        "tpu7x-128": "tpu7x-128",
        "tpu-7x-16": "tpu7x-16",
    },
    "xpk --device-type": {
        "l4-1": "g2-standard-12",
        "a100-40gb-8": "a2-highgpu-8g",
        "h100-80gb-8": "a3-highgpu-8g",
        "h100-mega-80gb-8": "a3-megagpu-8g",
        "h200-141gb-8": "a3-ultragpu-8g",
        "b200-8": "a4-highgpu-8g",
    },
    "Azure": {
        "ND96isr_H100_v5": "Standard_ND96isr_H100_v5",
        "nd96isr_h100_v5": "Standard_ND96isr_H100_v5",
        "STANDARD_ND96ISR_H100_V5": "Standard_ND96isr_H100_v5",
        "Standard NC24ads A100 v4": "Standard_NC24ads_A100_v4",
        "NC40ads H100 v5": "Standard_NC40ads_H100_v5",
    },
    "instance types in another case": {"P5.48XLARGE": "p5.48xlarge", "A3-HighGPU-8G": "a3-highgpu-8g"},
}
"""Tool -> name -> the instance type or slice type that it means."""

REFUSED = {
    "SkyPilot": {"H100:8": 'type="h100", gpus_per_node=8', "A100-80GB:4": 'type="a100-80gb", gpus_per_node=4'},
    "SkyPilot, a slice": {"tpu-v5p-8:2": 'type="v5p-8", nodes=2'},
    "dstack": {
        "H100:80GB:8": 'type="h100-80gb", gpus_per_node=8',
        "A100:80GB:2..4": 'type="a100-80gb", gpus_per_node=2',
        "H100:2..": 'type="h100", gpus_per_node=2',
        "nvidia:L4:..2": 'type="l4", gpus_per_node=1',
    },
    "RunPod, Vast": {"8xH100": 'type="h100", gpus_per_node=8', "H100 x 4": 'type="h100", gpus_per_node=4'},
    "GPU feature discovery": {
        "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb": 'MIG partition of a GPU, and only complete GPUs can be requested; write type="a100-40gb"',
        "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-SHARED": 'type="a100-40gb"',
        "NVIDIA-H100-80GB-HBM3-SHARED": 'time-shared GPU, and only complete GPUs can be requested; write type="h100-80gb"',
        "Tesla-T4-SHARED": 'type="t4"',
    },
    "MIG profiles": {
        "1g.10gb": 'an accelerator such as type="h100"',
        "MIG 3g.40gb": 'an accelerator such as type="h100"',
        "nvidia.com/mig-1g.5gb": 'an accelerator such as type="h100"',
    },
    "vGPU profiles": {"NVIDIA A10-24Q": 'type="a10"', "GRID A100-10C": 'type="a100"', "GRID T4-16Q": 'type="t4"'},
    "nvidia-smi, models that are not in the tables": {
        "NVIDIA H100 PCIe": 'type="h100-80gb" or type="h100-nvl"',
        "NVIDIA A100-PCIE-40GB": 'type="a100-40gb"',
        "NVIDIA L40": "did you mean l40s",
    },
    "ROCm": {"gfx942": 'type="mi300x"'},
    "JAX device_kind": {"TPU v5": 'type="tpu-v5p" or type="tpu-v5e"'},
    "Compute Engine machine types of TPU hosts": {
        "ct4p-hightpu-4t": 'type="tpu-v4" or type="v4-8"',
        "ct5lp-hightpu-1t": 'type="tpu-v5e" or type="v5litepod-1"',
        "ct5lp-hightpu-4t": 'type="tpu-v5e" or type="v5litepod-4"',
        "ct5lp-hightpu-8t": 'type="tpu-v5e" or type="v5litepod-8"',
        "ct5p-hightpu-4t": 'type="tpu-v5p" or type="v5p-8"',
        "ct6e-standard-4t": 'type="tpu-v6e" or type="v6e-4"',
        "ct6e-standard-8t": 'type="tpu-v6e" or type="v6e-8"',
        "tpu7x-standard-4t": 'type="tpu7x" or type="tpu7x-8"',
    },
    "Compute Engine accelerator types": {"nvidia-tesla-t4-vws": 'type="t4"'},
    "xpk, slices by topology": {
        "v5p-2x2x4": 'type="v5p-32"',
        "v5e-4x4": 'type="v5litepod-16"',
        "v6e-3x3": 'names a topology of 9 chips; write type="v6e-8" or type="v6e-16"',
    },
    "sizes that do not exist": {
        "v5e-17": "did you mean v5litepod-16 or v5litepod-32?",
        "tpu-v6e-9": "did you mean v6e-8 or v6e-16?",
        "v5p-100000": "did you mean v5p-12288?",
    },
}
"""Tool -> name -> what the error tells the user to write."""


def get(name: str) -> accelerators.Accelerator:
    found = accelerators.get(name)
    assert found is not None
    return found


def cases(table: dict[str, dict[str, str]]) -> list[object]:
    return [
        pytest.param(name, means, id=f"{tool}: {name}")
        for tool, names in table.items()
        for name, means in names.items()
    ]


def plan(name: str, **arguments: Any) -> Plan:
    """Return the plan with everything allowed that could exclude an offer, without candidates if none is sold now."""
    try:
        return Cluster.plan(type=name, spot="prefer", flex_start=True, interconnect="any", **arguments)
    except NoOfferError as error:
        assert isinstance(error.plan, Plan)
        return error.plan


def test_more_than_a_hundred_names_are_tried() -> None:
    assert sum(len(names) for table in (ACCELERATORS, INSTANCES, REFUSED) for names in table.values()) > 130


@pytest.mark.parametrize(("name", "means"), cases(ACCELERATORS))
def test_a_name_of_another_tool_means_an_accelerator(name: str, means: str) -> None:
    canonical = set(means.split())
    assert {item.name for item in find_accelerators(name)} >= canonical
    # Not every accelerator has an offer: some are retired, or sold as reserved capacity only.
    offered = {item.instance.accelerator for each in canonical for item in plan(exact_name(get(each)), gpus=8)}
    assert {item.instance.accelerator for item in plan(name, gpus=8)} == offered


@pytest.mark.parametrize(("name", "means"), cases(INSTANCES))
def test_a_name_of_another_tool_means_an_instance_type_or_slice(name: str, means: str) -> None:
    assert {candidate.instance_type for candidate in plan(name)} == {means}


@pytest.mark.parametrize(("name", "instead"), cases(REFUSED))
def test_a_name_with_no_single_meaning_is_refused_with_what_to_write(name: str, instead: str) -> None:
    with pytest.raises(SpecError, match=re.escape(instead)) as caught:
        plan(name, gpus=8)
    assert len(str(caught.value)) <= 300
    # Every name in the message is known.
    for written in re.findall(r'type="([^"]+)"', str(caught.value)):
        assert plan(written, gpus=8).spec.type == (written,)


@pytest.mark.parametrize(
    ("name", "chips"),
    [
        ("tpu-v2-32", 16),
        ("tpu-v3-32", 16),
        ("tpu-v4-32", 16),
        ("tpu-v5p-32", 16),
        ("tpu-7x-32", 16),
        ("v5e-32", 32),
        ("tpu-v5e-32", 32),
        ("tpu-v5litepod-32", 32),
        ("tpu-v6e-32", 32),
    ],
)
def test_the_number_of_a_slice_counts_tensorcores_or_chips_by_generation(name: str, chips: int) -> None:
    # Cloud TPU documentation, "TPU versions": v2, v3, v4, v5p and TPU7x chips have two TensorCores, v5e and v6e chips one.
    (best, *_) = plan(name).candidates
    assert best.accelerators == chips
    assert CORES_PER_CHIP[best.instance_type.rpartition("-")[0]] * chips == 32


def test_every_row_of_the_table_has_one_meaning_and_a_source() -> None:
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({aliases._normalize(row["name"]) for row in rows}) == len(rows) == len(read_table())
    for row in rows:
        assert row["tool"] and row["source"]
        assert bool(row["means"]) is not bool(row["instead"] and row["why"]), row
        # The table is read last, so a name that is known without it would never be found in it.
        assert accelerators.find(row["name"]) == (), row
        for name in (row["means"], *row["instead"].split(";")):
            if name and not name.endswith("-*"):
                assert len(plan(name, gpus=8).spec.type) == 1
                assert len(accelerators.find(name)) <= 1, f"{name} is ambiguous"


@pytest.mark.parametrize("accelerator", accelerators.known(), ids=lambda item: item.name)
def test_the_exact_name_of_an_accelerator_means_no_other(accelerator: accelerators.Accelerator) -> None:
    assert accelerators.find(exact_name(accelerator)) == (accelerator,)


@pytest.mark.parametrize("name", ["", ":", "::8", "GPU 0:", "unheard-of", "unheard-of:80GB", "gh200", "-*", "v5e-*"])
def test_an_unknown_name_means_nothing(name: str) -> None:
    found = find(name)
    assert found is None or not accelerators.find(found.means)


@pytest.mark.parametrize(("name", "parts"), [("unheard-of:4", ("unheard-of", "4")), ("h100", None), (":4", None)])
def test_a_count_is_split_from_a_name(name: str, parts: tuple[str, str] | None) -> None:
    assert split_count(name) == parts


def test_a_type_without_an_offer_is_known_too() -> None:
    assert find("gb200-4") == read_table()["gb2004"]
    with pytest.raises(NoOfferError, match="a4x-highgpu-4g|gb200-4"):
        Cluster.plan(type="gb200-4")


def test_a_plain_name_does_not_read_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AssertionError("read_table was called")

    monkeypatch.setattr(aliases, "read_table", fail)
    for name in ("h100", "NVIDIA L4", "p5.48xlarge", "v5p-128", "ND96isr_H100_v5"):
        assert plan(name, gpus=64).candidates


@given(st.text("GPU 0123456789:-_.xvepglitoda()hsn", max_size=30) | st.text(max_size=30))
def test_any_text_is_accepted_without_an_error(name: str) -> None:
    found = find(name)
    assert found is None or bool(found.means) is not bool(found.why)
    assert split_count(name) is None or all(split_count(name) or ())


@pytest.mark.parametrize("content", [None, "name,means\n"])
def test_a_missing_or_malformed_table_is_an_error_that_names_it(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "aliases.csv"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(aliases, "TABLE", path)
    read_table.cache_clear()
    try:
        with pytest.raises(CatalogError, match=re.escape(str(path))):
            read_table()
    finally:
        read_table.cache_clear()
