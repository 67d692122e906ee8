"""What the nodes of a cluster know of each other."""

import pytest

from multicompute.errors import SpecError
from multicompute.remote.launchers.layout import Layout, Member, hostfile, network_of, slots_of, variables


def layout(*addresses: str, accelerators: int = 8) -> Layout:
    members = (Member(rank, address, accelerators) for rank, address in enumerate(addresses))
    return Layout("demo", tuple(members))


def test_every_rank_knows_itself_the_head_and_all_others() -> None:
    assert variables(layout("10.0.0.1", "10.0.0.2"), 1) == {
        "MULTICOMPUTE_RANK": "1",
        "MULTICOMPUTE_NODES": "2",
        "MULTICOMPUTE_GPUS_PER_NODE": "8",
        "MULTICOMPUTE_HEAD_ADDR": "10.0.0.1",
        "MULTICOMPUTE_NODE_ADDRS": "10.0.0.1,10.0.0.2",
        "MULTICOMPUTE_CLUSTER": "demo",
    }


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("mpi", "10.0.0.1 slots=8\n10.0.0.2 slots=8\n"),
        ("mpich", "10.0.0.1:8\n10.0.0.2:8\n"),
        ("plain", "10.0.0.1\n10.0.0.2\n"),
    ],
)
def test_host_files_come_in_the_styles_of_the_engines(style: str, text: str) -> None:
    assert hostfile(layout("10.0.0.1", "10.0.0.2"), style) == text  # type: ignore[arg-type]


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(SpecError, match="style='slurm'"):
        hostfile(layout("10.0.0.1"), "slurm")  # type: ignore[arg-type]


def test_a_node_without_accelerators_has_a_slot_all_the_same() -> None:
    assert slots_of(layout("10.0.0.1", accelerators=0), None) == [1]
    assert slots_of(layout("10.0.0.1", "10.0.0.2"), 3) == [3, 3]


@pytest.mark.parametrize(
    ("addresses", "network"),
    [
        (("10.0.0.11", "10.0.0.12"), "10.0.0.8/29"),
        (("10.0.1.5", "10.0.2.9"), "10.0.0.0/22"),
        (("10.0.0.1",), "10.0.0.1/32"),
        (("fd00::1", "fd00::2"), "fd00::/126"),
        # Nothing that all of them are in is small enough to leave anything out.
        (("10.0.0.1", "172.16.0.1"), ""),
        (("10.0.0.1", "fd00::1"), ""),
        (("node-0", "node-1"), ""),
    ],
)
def test_the_network_of_the_nodes_is_the_smallest_that_has_all(addresses: tuple[str, ...], network: str) -> None:
    assert network_of(layout(*addresses)) == network


def test_slices_are_counted() -> None:
    members = (Member(0, "a", 4, 0), Member(1, "b", 4, 0), Member(2, "c", 4, 1), Member(3, "d", 4, 1))
    assert Layout("demo", members).slices == 2
