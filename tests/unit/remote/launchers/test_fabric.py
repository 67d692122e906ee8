"""Which variables a node's fabric gets, from what was found on it."""

import subprocess
from importlib.resources import files
from types import MappingProxyType

import pytest

from multicompute.remote.launchers.fabric import Address, Facts, RdmaDevice, parse, settings, table, tags_of
from multicompute.remote.launchers.job import environment
from multicompute.remote.launchers.layout import Layout, Member

ADDRESS = "10.0.0.5"
ONE = (Address("lo", "127.0.0.1"), Address("ens5", ADDRESS), Address("docker0", "172.17.0.1"))
EFA = tuple(RdmaDevice(f"rdmap{number}s0", "efa", "Unspecified") for number in range(4))
INFINIBAND = tuple(RdmaDevice(f"mlx5_ib{number}", "mlx5_core", "InfiniBand") for number in range(2))


def chosen(facts: Facts, *, nodes: int = 2) -> dict[str, str]:
    return {setting.name: setting.value for setting in settings(facts, address=ADDRESS, nodes=nodes)}


def gpu(**found: object) -> Facts:
    return Facts(**{"nvidia": 8, "addresses": ONE, **found})  # type: ignore[arg-type]


SOCKETS = {"NCCL_SOCKET_IFNAME": "^lo,docker,veth", "GLOO_SOCKET_IFNAME": "ens5"}


def test_a_plain_gpu_node_keeps_nccl_from_bridges() -> None:
    assert chosen(gpu()) == SOCKETS


def test_a_node_with_several_networks_uses_the_one_of_its_private_address() -> None:
    facts = gpu(addresses=(*ONE, Address("ens6", "10.1.0.5")))
    assert chosen(facts) == {"NCCL_SOCKET_IFNAME": "ens5", "GLOO_SOCKET_IFNAME": "ens5"}


def test_a_node_without_gpus_needs_no_nccl() -> None:
    assert chosen(Facts(addresses=ONE)) == {"GLOO_SOCKET_IFNAME": "ens5"}


def test_a_single_node_needs_nothing() -> None:
    assert chosen(gpu(), nodes=1) == {}


def test_an_address_that_no_interface_has_gives_no_name_of_an_interface() -> None:
    assert chosen(gpu(addresses=(Address("ens5", "10.9.9.9"),))) == {}


@pytest.mark.parametrize(
    ("version", "product", "expected"),
    [
        ("1.9.1", "p5.48xlarge", {"FI_PROVIDER": "efa"}),
        ("", "p5.48xlarge", {"FI_PROVIDER": "efa"}),
        ("1.6.0", "p4d.24xlarge", {"FI_EFA_USE_DEVICE_RDMA": "1"}),
        ("1.6.0", "g5.48xlarge", {}),
        ("1.5.0", "p4d.24xlarge", {"FI_PROVIDER": "efa", "FI_EFA_USE_DEVICE_RDMA": "1", "NCCL_PROTO": "simple"}),
        ("1.4.0", "g5.48xlarge", {"FI_PROVIDER": "efa", "NCCL_PROTO": "simple"}),
    ],
)
def test_what_efa_needs_depends_on_the_age_of_its_plug_in(version: str, product: str, expected: dict[str, str]) -> None:
    assert chosen(gpu(rdma=EFA, ofi_version=version, product=product)) == {**SOCKETS, **expected}


def test_trainium_over_efa() -> None:
    facts = Facts(neuron=16, rdma=EFA, addresses=ONE, system="ubuntu 22.04")
    expected = {"GLOO_SOCKET_IFNAME": "ens5", "FI_PROVIDER": "efa", "FI_EFA_USE_DEVICE_RDMA": "1"}
    assert chosen(facts) == expected
    old = Facts(neuron=16, rdma=EFA, addresses=ONE, system="amzn 2")
    assert chosen(old) == {**expected, "FI_EFA_FORK_SAFE": "1"}
    newer = Facts(neuron=16, rdma=EFA, addresses=ONE, system="amzn 2023")
    assert chosen(newer) == expected


def test_the_network_plug_in_of_gib_only_where_rdma_devices_are() -> None:
    found = {
        "folders": MappingProxyType({"gib": "/usr/local/gib"}),
        "sourced": MappingProxyType({"NCCL_IB_TC": "52"}),
    }
    roce = (RdmaDevice("rocep145s0", "mlx5_core", "Ethernet"),)
    expected = {"NCCL_NET": "gIB", "NCCL_IB_TC": "52", "LD_LIBRARY_PATH": "/usr/local/gib/lib64"}
    assert chosen(gpu(rdma=roce, **found)) == {**SOCKETS, **expected}
    assert chosen(gpu(folders=found["folders"])) == SOCKETS


def test_a_library_folder_goes_before_those_that_are_there() -> None:
    facts = gpu(
        rdma=(RdmaDevice("rocep145s0", "mlx5_core", "Ethernet"),),
        folders=MappingProxyType({"gib": "/usr/local/gib"}),
        preset=MappingProxyType({"LD_LIBRARY_PATH": "/opt/lib"}),
    )
    assert chosen(facts)["LD_LIBRARY_PATH"] == "/usr/local/gib/lib64:/opt/lib"


def test_tcpxo_names_its_interfaces_only_where_they_are() -> None:
    folders = MappingProxyType({"tcpxo": "/var/lib/tcpxo"})
    found = chosen(gpu(folders=folders))
    assert found["NCCL_LIB_DIR"] == "/var/lib/tcpxo/lib64"
    assert "NCCL_FASTRAK_IFNAME" not in found
    names = {"enp0s12", "enp6s0", "enp7s0", "enp13s0", "enp14s0", "enp134s0", "enp135s0", "enp141s0", "enp142s0"}
    found = chosen(gpu(folders=folders, links=frozenset(names)))
    assert found["NCCL_SOCKET_IFNAME"] == "enp0s12"
    assert found["NCCL_FASTRAK_IFNAME"].count(",") == 7


def test_infiniband_in_a_virtual_machine_needs_relaxed_ordering_unless_the_image_has_it() -> None:
    facts = gpu(rdma=INFINIBAND, product="Virtual Machine")
    assert chosen(facts) == {
        **SOCKETS,
        "NCCL_IB_PCI_RELAXED_ORDERING": "1",
        "UCX_TLS": "rc",
        "UCX_NET_DEVICES": "mlx5_ib0:1,mlx5_ib1:1",
        "OMPI_MCA_coll_hcoll_enable": "0",
    }
    conf = {"NCCL_IB_PCI_RELAXED_ORDERING": "1", "NCCL_TOPO_FILE": "/opt/topo.xml"}
    assert chosen(gpu(rdma=INFINIBAND, product="Virtual Machine", conf=MappingProxyType(conf))) == SOCKETS


def test_what_the_node_has_set_already_stays() -> None:
    assert chosen(gpu(preset=MappingProxyType({"NCCL_SOCKET_IFNAME": "bond0"}))) == {"GLOO_SOCKET_IFNAME": "ens5"}
    assert chosen(gpu(conf=MappingProxyType({"NCCL_SOCKET_IFNAME": "bond0"}))) == {"GLOO_SOCKET_IFNAME": "ens5"}


def test_the_user_s_variables_win() -> None:
    layout = Layout("demo", (Member(0, ADDRESS, 8), Member(1, "10.0.0.6", 8)))
    env = {"NCCL_SOCKET_IFNAME": "mine", "MULTICOMPUTE_CLUSTER": "mine"}
    found = environment(layout, 0, facts=gpu(), env=env)
    assert found["NCCL_SOCKET_IFNAME"] == found["MULTICOMPUTE_CLUSTER"] == "mine"
    assert found["GLOO_SOCKET_IFNAME"] == "ens5"


def test_the_report_of_the_probe_is_read() -> None:
    report = """Welcome to this machine!
cpus 192
nvidia 8
neuron 0
vendor Amazon EC2
product p5.48xlarge
system ubuntu 22.04
link lo
link enp71s0
address enp71s0 10.0.0.5/20
rdma rdmap79s0 efa Unspecified
rdma mlx5_0
ofi 1.9.1
conf NCCL_DEBUG=WARN
preset NCCL_ALGO=Ring,Tree=1
gib /usr/local/gib
sourced NCCL_IB_TC=52
mpirun /opt/amazon/openmpi/bin/mpirun
"""
    assert parse(report) == Facts(
        cpus=192,
        nvidia=8,
        vendor="Amazon EC2",
        product="p5.48xlarge",
        system="ubuntu 22.04",
        links=frozenset({"lo", "enp71s0"}),
        addresses=(Address("enp71s0", "10.0.0.5"),),
        rdma=(RdmaDevice("rdmap79s0", "efa", "Unspecified"), RdmaDevice("mlx5_0", "-", "-")),
        ofi_version="1.9.1",
        folders=MappingProxyType({"gib": "/usr/local/gib"}),
        mpirun="/opt/amazon/openmpi/bin/mpirun",
        conf=MappingProxyType({"NCCL_DEBUG": "WARN"}),
        preset=MappingProxyType({"NCCL_ALGO": "Ring,Tree=1"}),
        sourced=MappingProxyType({"NCCL_IB_TC": "52"}),
    )


def test_a_report_that_says_nothing_gives_a_node_without_anything() -> None:
    assert parse("cpus \nnvidia x\nvendor \nproduct ") == Facts()


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_probe_runs_on_this_machine(shell: str) -> None:
    script = files("multicompute.remote").joinpath("scripts", "probe.sh").read_text()
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stderr == ""
    facts = parse(done.stdout)
    assert facts.cpus >= 1
    assert "lo" in facts.links


def test_every_condition_of_the_table_is_one_that_can_hold() -> None:
    import inspect

    known = inspect.getsource(tags_of)
    words = {word for row in table() for word in row.when.split()}
    assert words
    assert [word for word in words if f'"{word}": ' not in known] == []


def test_every_row_of_the_table_says_what_for_and_who_says_so() -> None:
    kinds = {"always", "set", "prepend", "sourced", "launcher", "avoid", "advice"}
    for row in table():
        assert row.kind in kinds
        assert row.place and row.variable and row.purpose and row.source
        assert bool(row.when) == (row.kind in {"set", "prepend", "sourced"})
        assert row.value or row.kind in {"avoid", "advice"}


def test_what_a_vendor_s_own_script_finds_wins_over_the_table() -> None:
    names = {"enp0s12", "enp6s0", "enp7s0", "enp13s0", "enp14s0", "enp134s0", "enp135s0", "enp141s0", "enp142s0"}
    found = chosen(
        gpu(
            folders=MappingProxyType({"tcpxo": "/var/lib/tcpxo"}),
            links=frozenset(names),
            sourced=MappingProxyType({"NCCL_FASTRAK_IFNAME": "enp6s0f0"}),
        )
    )
    assert found["NCCL_FASTRAK_IFNAME"] == "enp6s0f0"
