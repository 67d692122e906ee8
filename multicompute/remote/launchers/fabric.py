"""Decides which variables the fabric of a node needs, from what was found on it. Pure, but for the table that it reads."""

import csv
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final, NamedTuple

_NO_VALUES: Final[Mapping[str, str]] = MappingProxyType({})
_VIRTUAL: Final = ("lo", "docker", "veth", "br-", "virbr", "cni", "flannel", "cali")
_TCPXO_NAMES: Final = frozenset({"enp0s12", "enp6s0", "enp7s0", "enp13s0", "enp14s0", "enp134s0", "enp135s0"})
# p4d, p4de and the p5 and p6 families: GPUDirect RDMA over EFA.
_RDMA_READ: Final = ("p4d", "p5", "p6")


class Row(NamedTuple):
    """One line of the table of variables.

    Attributes:
        place: Where it holds, for readers.
        when: The tags that a node must have, separated by spaces.
        variable: The name, for some kinds several or a pattern.
        value: The value, with `{interface}` and the like to be filled; for some kinds a description.
        kind: Always, set, prepend (to a path), sourced (taken from a vendor's script), launcher (set by a launcher),
            avoid and advice (only for readers).
        purpose: What it is for.
        source: Who documents it.
    """

    place: str
    when: str
    variable: str
    value: str
    kind: str
    purpose: str
    source: str


class Address(NamedTuple):
    """An address of an interface."""

    interface: str
    address: str


class RdmaDevice(NamedTuple):
    """A device of `/sys/class/infiniband`."""

    name: str
    driver: str
    link_layer: str


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts that the probe found on a node.

    Attributes:
        cpus, nvidia, neuron: How many there are.
        is_tpu: Whether it has TPU chips.
        vendor, product: Of the machine, as its firmware says.
        system: The id and version of the operating system, "ubuntu 22.04".
        links: The names of all network interfaces.
        addresses: Their addresses.
        rdma: Its RDMA devices.
        ofi_version: Of the plug-in between NCCL and libfabric, "" where there is none.
        folders: The folders of vendors' plug-ins, by name.
        mpirun: The path of Open MPI's launcher, "" where there is none.
        conf: What NCCL's configuration files set.
        preset: What is set in the environment of every command already.
        sourced: What the vendor's own script sets.
    """

    cpus: int = 1
    nvidia: int = 0
    neuron: int = 0
    is_tpu: bool = False
    vendor: str = ""
    product: str = ""
    system: str = ""
    links: frozenset[str] = frozenset()
    addresses: tuple[Address, ...] = ()
    rdma: tuple[RdmaDevice, ...] = ()
    ofi_version: str = ""
    folders: Mapping[str, str] = field(default_factory=lambda: _NO_VALUES)
    mpirun: str = ""
    conf: Mapping[str, str] = field(default_factory=lambda: _NO_VALUES)
    preset: Mapping[str, str] = field(default_factory=lambda: _NO_VALUES)
    sourced: Mapping[str, str] = field(default_factory=lambda: _NO_VALUES)

    def interface_of(self, address: str) -> str:
        """Return the name of the interface that has an address, "" where none has."""
        return next((found.interface for found in self.addresses if found.address == address), "")


class Setting(NamedTuple):
    """A variable that a node needs, and who says so."""

    name: str
    value: str
    source: str


@cache
def table() -> tuple[Row, ...]:
    """Return the table of all variables that are set on nodes, in the order in which they are tried."""
    text = files("multicompute.remote").joinpath("data", "variables.csv").read_text(encoding="utf-8")
    header, *rows = csv.reader(text.splitlines())
    assert tuple(header) == Row._fields
    return tuple(Row(*row) for row in rows)


def parse(report: str) -> Facts:
    """Read what the probe printed; lines of the login shell's own are skipped."""
    found: dict[str, list[str]] = {}
    for line in report.splitlines():
        word, _, rest = line.partition(" ")
        found.setdefault(word, []).append(rest.strip())

    def first(word: str) -> str:
        return next(iter(found.get(word, [])), "")

    def pairs(word: str) -> Mapping[str, str]:
        return MappingProxyType(dict(line.split("=", 1) for line in found.get(word, []) if "=" in line))

    addresses = (line.split() for line in found.get("address", []))
    devices = (f"{line} - -".split() for line in found.get("rdma", []))
    return Facts(
        cpus=_count(first("cpus"), default=1),
        nvidia=_count(first("nvidia")),
        neuron=_count(first("neuron")),
        is_tpu="tpu" in found,
        vendor=first("vendor"),
        product=first("product"),
        system=first("system"),
        links=frozenset(found.get("link", [])),
        addresses=tuple(Address(words[0], words[1].partition("/")[0]) for words in addresses if len(words) == 2),
        rdma=tuple(RdmaDevice(*words[:3]) for words in devices),
        ofi_version=first("ofi"),
        folders=MappingProxyType({name: first(name) for name in ("gib", "tcpxo") if first(name)}),
        mpirun=first("mpirun"),
        conf=pairs("conf"),
        preset=pairs("preset"),
        sourced=pairs("sourced"),
    )


def settings(facts: Facts, *, address: str, nodes: int) -> list[Setting]:
    """Return the variables that a node's fabric needs and that nothing on the node has set.

    Args:
        facts: What was found on the node.
        address: The address at which the other nodes reach it.
        nodes: How many nodes the cluster has.
    """
    tags = tags_of(facts, address=address, nodes=nodes)
    chosen: dict[str, Setting] = {}
    for row in table():
        if row.kind in ("set", "prepend", "sourced") and set(row.when.split()) <= tags:
            for setting in _settings(row, facts, address):
                is_preset = setting.name in facts.preset and row.kind != "prepend"
                if not is_preset and setting.name not in facts.conf:
                    # The later rows are the more special ones.
                    chosen[setting.name] = setting
    return list(chosen.values())


def _settings(row: Row, facts: Facts, address: str) -> Iterator[Setting]:
    if row.kind == "sourced":
        for name, value in facts.sourced.items():
            yield Setting(name, value, row.source)
        return
    devices = ",".join(f"{device.name}:1" for device in facts.rdma if device.link_layer == "InfiniBand")
    value = row.value.format(interface=facts.interface_of(address), devices=devices, **facts.folders)
    present = facts.preset.get(row.variable, "")
    if row.kind == "prepend" and present:
        value = f"{value}:{present}"
    yield Setting(row.variable, value, row.source)


def tags_of(facts: Facts, *, address: str, nodes: int) -> frozenset[str]:
    """Return the tags that the table's conditions are made of."""
    version = _version(facts.ofi_version)
    has_efa = any(device.driver == "efa" for device in facts.rdma)
    networks = {found.interface for found in facts.addresses if _is_outward(found)}
    tags = {
        "several-nodes": nodes > 1,
        "interface": bool(facts.interface_of(address)),
        "one-network": len(networks) < 2,
        "several-networks": len(networks) > 1,
        "nvidia": facts.nvidia > 0,
        "neuron": facts.neuron > 0,
        "efa": has_efa,
        "ofi-old": bool(version) and version < (1, 6),
        "ofi-1.6": (1, 6) <= version < (1, 7),
        # Where the plug-in does not say how old it is, only what is harmless for all.
        "ofi-new": not version or version >= (1, 7),
        "rdma-read": facts.product.startswith(_RDMA_READ),
        "fork-unsafe": facts.system == "amzn 2",
        "gib": "gib" in facts.folders and bool(facts.rdma),
        "tcpxo": "tcpxo" in facts.folders,
        "tcpxo-names": _TCPXO_NAMES <= facts.links,
        "infiniband": any(device.link_layer == "InfiniBand" and device.driver != "efa" for device in facts.rdma),
        "hyperv": facts.product == "Virtual Machine",
        "plain-image": "NCCL_TOPO_FILE" not in facts.conf,
    }
    return frozenset(tag for tag, holds in tags.items() if holds)


def _is_outward(found: Address) -> bool:
    address = ipaddress.ip_address(found.address)
    return not found.interface.startswith(_VIRTUAL) and not address.is_loopback and not address.is_link_local


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _count(text: str, *, default: int = 0) -> int:
    return int(text) if text.isdigit() else default
