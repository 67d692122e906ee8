"""The inventory is checked when it is read; an error names file, line and machine, and what to do."""

from datetime import date
from pathlib import Path

import pytest

from multicompute.errors import ConfigError
from multicompute.provider import Settings
from multicompute_static import plugin
from multicompute_static._inventory import read_inventory

TODAY = date(2026, 11, 30)
GOOD = """
[[hosts]]
address = "10.0.0.11"
user = "ubuntu"
accelerator = "H100"
accelerators = 8
vcpus = 96
memory = "1TiB"
fabric = "infiniband"
hourly_usd = 2.5
site = "lab-1"
labels = { rack = "a1" }

[[hosts]]
address = "10.0.0.12"
accelerator = "h100"
accelerators = 8
vcpus = 64
memory = "2TiB"
fabric = "infiniband"
hourly_usd = 3
site = "lab-1"

[[hosts]]
address = "cpu.lab.example"
port = 2222
vcpus = 16
site = "lab-2"
"""


def offers(path: Path) -> list[tuple[object, ...]]:
    found = plugin.own_offers(Settings(values={"inventory": str(path)}), today=TODAY)
    assert found is not None
    return [
        (
            line.region.name,
            line.zones,
            line.instance.name,
            line.instance.vcpus,
            line.instance.memory_gib,
            line.instance.fabric,
            line.quote.hourly_cost,
        )
        for line in found.listings
    ]


def test_there_is_an_offer_for_each_type_at_each_site(tmp_path: Path) -> None:
    path = tmp_path / "hosts.toml"
    path.write_text(GOOD)
    # What both machines have at least, at the higher of their rates.
    assert offers(path) == [
        ("lab-1", ("lab-1",), "8xh100", 64, 1024.0, "infiniband", 3.0),
        ("lab-2", ("lab-2",), "16xcpu", 16, 0.0, "", 0.0),
    ]
    assert [host.id for host in read_inventory(path)] == ["10.0.0.11", "10.0.0.12", "cpu.lab.example:2222"]


def test_a_fabric_counts_only_if_all_machines_of_a_type_have_it(tmp_path: Path) -> None:
    path = tmp_path / "hosts.toml"
    path.write_text(GOOD.replace('fabric = "infiniband"\n', "", 1))
    assert offers(path)[0][5] == ""


def test_the_inventory_is_read_again_after_a_change(tmp_path: Path) -> None:
    path = tmp_path / "hosts.toml"
    path.write_text(GOOD)
    assert len(read_inventory(path)) == 3
    path.write_text(GOOD + '[[hosts]]\naddress = "10.0.0.13"\n')
    assert len(read_inventory(path)) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[hosts]]\nuser = 'me'\n", "line 1: a machine has no address"),
        (
            "[[hosts]]\naddress = '10.0.0.1'\nacelerator = 'h100'\n",
            "line 1: 10.0.0.1: acelerator: unknown key; did you mean",
        ),
        ("\n[[hosts]]\naddress = '10.0.0.1'\nport = 70000\n", "line 2: 10.0.0.1: port=70000: must be a whole number"),
        ("[[hosts]]\naddress = '10.0.0.1'\naccelerator = 'h1000'\n", "accelerator='h1000': no such accelerator"),
        ("[[hosts]]\naddress = '10.0.0.1'\naccelerator = 'h100'\n", "accelerator='h100' without a number"),
        ("[[hosts]]\naddress = '10.0.0.1'\naccelerators = 8\n", "accelerators=8 of no type"),
        ("[[hosts]]\naddress = '10.0.0.1'\nhourly_usd = -1\n", "hourly_usd=-1: must be a rate in USD per hour"),
        ("[[hosts]]\naddress = '10.0.0.1'\nmemory = 'much'\n", "memory='much': must be a size"),
        ("[[hosts]]\naddress = '10.0.0.1'\nsite = 'my lab'\n", "site='my lab': must be letters"),
        ("[[hosts]]\naddress = '-oProxyCommand=x'\n", "address='-oProxyCommand=x': must be a host name"),
        ("[[hosts]]\naddress = 'a'\n[[hosts]]\naddress = 'a'\nport = 22\n", "line 1 and line 3: a is listed twice"),
        (
            "[[hosts]]\naddress = 'a'\n[[hosts]]\naddress = 'b'\narch = 'arm64'\n",
            "line 3: b: arch='arm64' differs from that of a",
        ),
        (
            "[[hosts]]\naddress = 'a'\nresidency = 'eu'\n[[hosts]]\naddress = 'b'\nresidency = 'us'\n",
            "line 4: b: residency='us' differs from that of a",
        ),
        ("[host]\naddress = 'a'\n", "host: unknown key; did you mean"),
        ("", "has no machine"),
        ("[[hosts]]\naddress = 10.0.0.1\n", "not valid TOML"),
    ],
)
def test_an_error_names_the_line_the_machine_and_the_problem(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "hosts.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_inventory(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_without_an_inventory_there_are_no_offers_and_the_reason_says_where_to_write_one(tmp_path: Path) -> None:
    settings = Settings(environment={"HOME": str(tmp_path)})
    assert plugin.own_offers(settings, today=TODAY) is None
    found = plugin.configured(settings)
    assert (found.ok, found.why) == (
        False,
        "no inventory: write your own machines into ~/.config/multicompute/hosts.toml",
    )


def test_an_inventory_that_the_configuration_names_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"inventory='.*nothing.toml': no such file"):
        plugin.configured(Settings(values={"inventory": str(tmp_path / "nothing.toml")}))


def test_the_default_inventory_is_in_the_home_folder(tmp_path: Path) -> None:
    path = tmp_path / ".config" / "multicompute" / "hosts.toml"
    path.parent.mkdir(parents=True)
    path.write_text(GOOD)
    assert plugin.configured(Settings(environment={"HOME": str(tmp_path)})).ok
