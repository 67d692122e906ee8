"""The nodes of a cluster as engines see them: ranks, addresses between nodes, accelerators. Pure."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from multicompute.errors import SpecError

HostfileStyle = Literal["mpi", "mpich", "plain"]


@dataclass(frozen=True, slots=True)
class Member:
    """One node as the others see it.

    Attributes:
        rank: Its rank.
        address: The address at which the other nodes reach it.
        accelerators: How many accelerators it has.
        slice: The number of its TPU slice, 0 where there is only one.
    """

    rank: int
    address: str
    accelerators: int = 0
    slice: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """The nodes of a cluster, in the order of their ranks.

    Attributes:
        cluster: The name of the cluster.
        members: The nodes.
    """

    cluster: str
    members: tuple[Member, ...]

    @property
    def head(self) -> Member:
        """The node of rank 0."""
        return self.members[0]

    def member(self, rank: int) -> Member:
        """Return the node of a rank. Ranks of nodes that are gone are missing."""
        return next(member for member in self.members if member.rank == rank)

    @property
    def slices(self) -> int:
        """The number of TPU slices."""
        return len({member.slice for member in self.members})


def variables(layout: Layout, rank: int) -> dict[str, str]:
    """Return the variables that every command on a node gets."""
    return {
        "MULTICOMPUTE_RANK": str(rank),
        "MULTICOMPUTE_NODES": str(len(layout.members)),
        "MULTICOMPUTE_GPUS_PER_NODE": str(layout.member(rank).accelerators),
        "MULTICOMPUTE_HEAD_ADDR": layout.head.address,
        "MULTICOMPUTE_NODE_ADDRS": ",".join(member.address for member in layout.members),
        "MULTICOMPUTE_CLUSTER": layout.cluster,
    }


def hostfile(layout: Layout, style: HostfileStyle = "mpi", *, slots: int | Sequence[int] | None = None) -> str:
    """Return a host file.

    Args:
        layout: The nodes.
        style: "mpi" for `address slots=8` (Open MPI, DeepSpeed), "mpich" for `address:8` (MPICH, Intel MPI), "plain" for
            addresses alone.
        slots: Processes for each node, by default one for each accelerator, at least one.

    Raises:
        SpecError: There is no such style.
    """
    if style not in get_args(HostfileStyle):
        raise SpecError(f"style={style!r}: write one of {', '.join(get_args(HostfileStyle))}")
    counts = slots_of(layout, slots)
    form = {"mpi": "{} slots={}", "mpich": "{}:{}", "plain": "{}"}[style]
    lines = [form.format(member.address, count) for member, count in zip(layout.members, counts, strict=True)]
    return "\n".join(lines) + "\n"


def slots_of(layout: Layout, slots: int | Sequence[int] | None) -> list[int]:
    """Return how many processes each node gets: as given, else one for each accelerator, at least one."""
    if isinstance(slots, int):
        return [slots] * len(layout.members)
    if slots is not None:
        return list(slots)
    # "slots=0" for nodes without accelerators ended jobs elsewhere (dstackai/dstack#3434).
    return [max(member.accelerators, 1) for member in layout.members]


def network_of(layout: Layout) -> str:
    """Return the smallest network that has all private addresses, "" where there is none of use.

    Not the interfaces' own: some clouds give each interface a network of one address.
    """
    try:
        addresses = [ipaddress.ip_address(member.address) for member in layout.members]
    except ValueError:  # names
        return ""
    if len({address.version for address in addresses}) != 1:
        return ""
    lowest, highest = min(map(int, addresses)), max(map(int, addresses))
    bits = addresses[0].max_prefixlen
    prefix = bits - (lowest ^ highest).bit_length()
    # Wider than the private networks themselves (10.0.0.0/8), it would take in everything.
    if prefix < 8:
        return ""
    return str(ipaddress.ip_network((lowest, prefix), strict=False))
