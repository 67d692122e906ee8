"""Writes the tables of docs/what-you-get.md from the adapters: images, disks, network interfaces, time limits and tags of nodes."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import multicompute_aws
import multicompute_azure
import multicompute_gcp
from multicompute import accelerators
from multicompute.catalog import Catalog
from multicompute.errors import InvalidRequestError
from multicompute.offer import InstanceType
from multicompute.provider_kit.plugin import Plugin
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws import _boot as aws_boot
from multicompute_aws import _cards as aws_cards
from multicompute_aws import _image as aws_image
from multicompute_aws import _launch as aws_launch
from multicompute_aws._provider import AwsProvider
from multicompute_azure import _boot as azure_boot
from multicompute_azure import _image as azure_image
from multicompute_azure import _scale_set as azure_scale_set
from multicompute_azure._provider import AzureProvider
from multicompute_gcp import _boot as gcp_boot
from multicompute_gcp import _image as gcp_image
from multicompute_gcp import _interfaces as gcp_interfaces
from multicompute_gcp import _launch as gcp_launch
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.tpu._types import is_slice, runtime_of

PAGE = Path(__file__).parents[1] / "docs" / "what-you-get.md"
MARK = "<!-- The rest is written by `make docs`. Change the adapters, or the table of images in tools/write_what_you_get.py, instead. -->\n"
TABLES: Final = {
    plugin.name: plugin.tables
    for plugin in (multicompute_aws.plugin, multicompute_gcp.plugin, multicompute_azure.plugin)
}
NO_IMAGE = "none: pass `image=`"
INTERFACES: Final = {"interface": "ENA", "efa": "EFA", "efa-only": "EFA"}


@dataclass(frozen=True)
class Image:
    """The published facts about an image.

    Attributes:
        name: What the tables of machines call it.
        reference: A glob on what the adapter passes to the cloud.
        content: Driver and CUDA versions as published, with date and source, else how to find them.
    """

    name: str
    reference: str
    content: str


IMAGES: Final = (
    Image(
        "AWS NVIDIA",
        "/aws/service/deeplearning/*",
        "arm64 image of 2026-10-06: driver 595.91.07, CUDA 13.2 by default and 12.8, 12.9, 13.0, EFA 1.50.0 ([release notes](https://docs.amazonaws.cn/dlami/latest/devguide/aws-deep-learning-ami-gpubaseossarm64-ul2404-2026-10-08.html)); "
        "x86_64 has [release notes](https://docs.aws.amazon.com/dlami/latest/devguide/) of its own",
    ),
    Image(
        "AWS Neuron",
        "/aws/service/neuron/*",
        "the Neuron driver and tools of the newest release, see the [release notes](https://awsdocs-neuron.readthedocs-hosted.com/); on a node: `neuron-ls`",
    ),
    Image("AWS Ubuntu", "/aws/service/canonical/*", "no driver"),
    Image(
        "Google NVIDIA",
        "projects/ubuntu-os-accelerator-images/*",
        "driver branch 580, as its name says; no published list of its packages was found, so on a node: `nvidia-smi`, `ls -d /usr/local/cuda-*`",
    ),
    Image(
        "Google Deep Learning",
        "projects/deeplearning-platform-release/*",
        "CUDA 12.8 and driver branch 570, as its name says ([list](https://cloud.google.com/deep-learning-vm/docs/images))",
    ),
    Image("Google Ubuntu", "projects/ubuntu-os-cloud/*", "no driver"),
    Image(
        "TPU runtime",
        "*tpu*",
        "the TPU driver; `setup` installs JAX or PyTorch ([list](https://cloud.google.com/tpu/docs/runtimes))",
    ),
    Image(
        "Azure HPC",
        "microsoft-dsvm:ubuntu-hpc:2204:latest",
        "driver 580.126.16 in its scripts of 2026-02-18 ([azhpc-images#488](https://github.com/Azure/azhpc-images/pull/488)); "
        "CUDA and later versions are in the [releases](https://github.com/Azure/azhpc-images/releases); on a node: `nvidia-smi`",
    ),
    Image(
        "Azure HPC V100",
        "microsoft-dsvm:ubuntu-hpc:2204-v100:latest",
        "as Azure HPC, with the closed kernel modules; driver 580.126.16 in its scripts of 2026-02-18 ([azhpc-images#488](https://github.com/Azure/azhpc-images/pull/488))",
    ),
    Image(
        "Azure HPC ROCm",
        "microsoft-dsvm:ubuntu-hpc:2204-rocm:latest",
        "AMD's driver and ROCm; versions are in the [releases](https://github.com/Azure/azhpc-images/releases); on a node: `rocm-smi`",
    ),
    Image("Azure Ubuntu", "Canonical:*", "no driver"),
)


@dataclass(frozen=True)
class Machine:
    """The parts of a node of an instance type.

    Attributes:
        reference: Its default image, as it is passed to the cloud; "" if it has none.
        disk: Its boot disk.
        fabric: Its connection to the other nodes of a gang.
    """

    reference: str
    disk: str
    fabric: str


def on_aws(instance: InstanceType) -> Machine:
    """Return what an instance of EC2 has."""
    cards = aws_cards.documented_cards(instance) if instance.fabric else ()
    found = aws_cards.interfaces(cards, subnet="", groups=())
    kinds = Counter(INTERFACES[str(item.get("InterfaceType", "interface"))] for item in found)
    fabric = "one" if len(found) == 1 else " and ".join(f"{count} {kind}" for kind, count in kinds.items())
    disk = f"{aws_launch.default_disk_gib(instance.accelerator)} GiB gp3"
    return Machine(_reference(lambda: aws_image.default_parameter(instance)), disk, fabric)


def on_gcp(instance: InstanceType) -> Machine:
    """Return what an instance of Compute Engine, or a host of a TPU slice, has."""
    if is_slice(instance):
        return Machine(
            _reference(lambda: runtime_of(instance, None)),
            "Google's default; `disk` has no effect",
            "ICI, within the slice",
        )
    plain, rdma = gcp_interfaces.additional(instance)
    parts = [f"{plain} gVNIC"] * bool(plain) + [f"{rdma} RDMA"] * bool(rdma)
    disk = f"{gcp_launch.default_disk_gib(instance.accelerator)} GiB {gcp_image.disk_type_of(instance)}"
    return Machine(_reference(lambda: gcp_image.image_of(instance, None)), disk, " and ".join(parts) or "none")


def on_azure(instance: InstanceType) -> Machine:
    """Return what a machine of Azure has."""

    def reference() -> str:
        required = multicompute_azure.plugin.image_required
        is_left_out = any(fnmatchcase(instance.name, types) for types in required)
        found = azure_image.find_image(instance, Place("azure"), named=None, is_confidential=is_left_out)
        return ":".join(str(found.reference[key]) for key in ("publisher", "offer", "sku", "version"))

    most = multicompute_azure.plugin.fabric_limits.get(instance.fabric)
    fabric = f"InfiniBand, up to {most} nodes" if most else "none"
    return Machine(_reference(reference), f"{azure_scale_set.default_disk_gib(instance.accelerator)} GiB", fabric)


def _reference(find: Callable[[], str]) -> str:
    try:
        return find()
    except InvalidRequestError:
        return ""


CLOUDS: Final[Mapping[str, tuple[str, str, Callable[[InstanceType], Machine]]]] = {
    "aws": ("AWS", "network interfaces in a gang", on_aws),
    "gcp": ("Google Cloud", "additional interfaces in a gang", on_gcp),
    "azure": ("Azure", "fabric of a gang", on_azure),
}


def tables() -> str:
    """Return the generated part of the page."""
    catalog = Catalog(TABLES)
    machines = {cloud: dict(_machines(catalog, cloud)) for cloud in CLOUDS}
    parts = ["\n## Images\n\n", _table(["image", "name", "driver and CUDA"], _images(machines))]
    for cloud, (title, fabric, _) in CLOUDS.items():
        rows = _rows(machines[cloud])
        parts.append(f"\n## {title}\n\n" + _table(["accelerators", "image", "boot disk", fabric], rows))
    titles = ["", *(title for title, _, _ in CLOUDS.values())]
    parts.append("\n## Limits\n\n" + _table(titles, _limits()))
    return "".join(parts)


def _machines(catalog: Catalog, cloud: str) -> Iterator[tuple[InstanceType, Machine]]:
    """Yield the types that can be requested, each with what it has."""
    for name in ("", *(item.name for item in accelerators.known())):
        for instance in dict.fromkeys(line.instance for line in catalog.listings(name, provider=cloud)):
            yield instance, CLOUDS[cloud][2](instance)


def _images(machines: Mapping[str, Mapping[InstanceType, Machine]]) -> Iterator[list[str]]:
    found = {machine.reference for cloud in machines.values() for machine in cloud.values() if machine.reference}
    for image in IMAGES:
        names = sorted(reference for reference in found if fnmatchcase(reference, image.reference))
        yield [image.name, "<br>".join(f"`{name}`" for name in names), image.content]


def _rows(machines: Mapping[InstanceType, Machine]) -> Iterator[list[str]]:
    """Yield one row for everything that has the same, those with accelerators first."""
    types: dict[str, list[str]] = {}
    for instance in machines:
        types.setdefault(instance.accelerator, []).append(instance.name)
    groups: dict[tuple[str, str, str], list[InstanceType]] = {}
    for instance, machine in machines.items():
        groups.setdefault((image_name(machine.reference), machine.disk, machine.fabric), []).append(instance)
    largest: Counter[str] = Counter()
    for instances in groups.values():
        largest |= Counter(instance.accelerator for instance in instances)
    for key, instances in sorted(groups.items(), key=lambda item: not item[1][0].accelerator):
        by_accelerator: dict[str, list[str]] = {}
        for instance in instances:
            by_accelerator.setdefault(instance.accelerator, []).append(instance.name)
        named = [_named(name, own, types[name], largest[name]) for name, own in by_accelerator.items()]
        yield [", ".join(named), *key]


def _named(accelerator: str, own: Sequence[str], types: Sequence[str], largest: int) -> str:
    """Return the name of an accelerator, with its types where others of its types have something else."""
    name = f"`{accelerator}`" if accelerator else "without accelerators"
    if len(own) == len(types):
        return name
    if len(own) == largest > 1:
        return f"{name} (other types)"
    found = []
    for family in dict.fromkeys(map(_family, own)):
        members = [item for item in own if _family(item) == family]
        is_complete = len(members) > 1 and len(members) == sum(_family(item) == family for item in types)
        found.extend([f"{family}*"] if is_complete else members)
    return f"{name} ({', '.join(f'`{item}`' for item in found)})"


def _family(instance_type: str) -> str:
    """Return the start of the name that the types of a family share: "g6f." or "g4-"."""
    return re.split(r"(?<=[.-])", instance_type)[0]


def image_name(reference: str) -> str:
    """Return what the tables call an image.

    Raises:
        StopIteration: `IMAGES` does not have it.
    """
    return next(item.name for item in IMAGES if fnmatchcase(reference, item.reference)) if reference else NO_IMAGE


def _limits() -> Iterator[list[str]]:
    plugins: tuple[Plugin, ...] = (multicompute_aws.plugin, multicompute_gcp.plugin, multicompute_azure.plugin)
    kinds = (AwsProvider, GcpProvider, AzureProvider)
    yield ["time until every node is READY", *(_minutes(kind.attempt_timeout) for kind in kinds)]
    yield ["longer for", *(_slow(getattr(kind, "attempt_timeouts", {})) for kind in kinds)]
    scripts = (aws_boot.LIMIT, gcp_boot.LIMIT, azure_boot.LIMIT)
    packed = (", compressed", "", ", compressed")
    sizes = [f"{round(limit / 1024)} KiB{how}" for limit, how in zip(scripts, packed, strict=True)]
    yield ["boot script with `setup`", *sizes]
    yield ["tags of your own", *(str(plugin.tag_limits.count) for plugin in plugins if plugin.tag_limits)]


def _slow(timeouts: Mapping[str, timedelta]) -> str:
    return "<br>".join(f"`{types}`: {_minutes(longer)}" for types, longer in timeouts.items())


def _minutes(duration: timedelta) -> str:
    return f"{duration // timedelta(minutes=1)} min"


def _table(titles: Sequence[str], rows: Iterator[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page(kept: str) -> str:
    """Return the complete page: the text that was written by hand, and the tables."""
    return kept.partition(MARK)[0] + MARK + tables()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
