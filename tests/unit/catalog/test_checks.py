"""The problems that the checks find in tables that can be read."""

from datetime import date
from pathlib import Path

import pytest

from multicompute.catalog.checks import problems

TODAY = date(2026, 11, 24)


def found(folder: Path, provider: str = "north") -> list[str]:
    return list(problems(provider, folder / provider, accelerators={"h100", "t4", "gb300"}, today=TODAY))


def test_correct_tables_have_no_problems(folder: Path) -> None:
    assert found(folder) == []
    assert found(folder, "south") == []


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("h100/offers.csv", "n-west,on_demand", "n-east,on_demand", "Big.8 in n-east, on_demand: more than one price"),
        ("h100/offers.csv", "31.5", "88.01", "Big.8 in n-east, spot: 88.01 is more than the on-demand price of 88.0"),
        ("h100/offers.csv", "spot,31.5,2026-11-01", "spot,31.5,2062-11-01", "which is in the future"),
        ("h100/offers.csv", "n-east-a;n-east-b", "n-east-b;n-east-a", "must be sorted and unique"),
        ("h100/offers.csv", "n-east-a;n-east-b", "n-east-a;n-east-a", "must be sorted and unique"),
        ("h100/offers.csv", "n-west-a", "s-west-a", "zone s-west-a is not in region n-west"),
        ("h100/offers.csv", "n-west-a", "n-west-a;n-west-b", "offers=4"),
        ("h100/types.csv", "false,,page", "false,reserved;spot,page", "on_demand: is sold only as reserved, spot"),
        ("h100/types.csv", "Big.8,8,80", "Big.8,8,", "Big.8: 0 GiB of accelerator memory"),
        ("h100/types.csv", "192,2048,1", "0,2048,1", "Big.8: 0 vCPUs on 1 hosts"),
        ("cpu/types.csv", "flex.1,0,", "flex.1,0,8", "flex.1: 8 GiB of accelerator memory"),
        ("index.csv", "Big.8,h100\n", "", "big.8 is in only one of index.csv and h100/types.csv"),
        ("index.csv", "Big.8,h100\n", "Big.8,h100\nbig.8,h100\n", "big.8 in h100 is listed 2 times in index.csv"),
        ("sources.csv", '"North price page, read by hand"', " ", "the price has no source"),
        ("shards.csv", "2026-10-01", "2026-10-02", "but the shard contains"),
        ("h100/offers.csv", ",80,", ",0,", "hourly_usd '0' must be a positive number"),
    ],
)
def test_a_problem_is_found_and_named(folder: Path, file: str, old: str, new: str, problem: str) -> None:
    path = folder / "north" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert problem in "\n".join(found(folder))


def test_an_accelerator_that_no_table_knows_is_found(folder: Path) -> None:
    wrong = list(problems("north", folder / "north", accelerators={"h100"}, today=TODAY))
    assert wrong == ["north: shard t4: no such accelerator"]


def test_a_folder_that_no_index_names_is_found(folder: Path) -> None:
    (folder / "north/l4").mkdir()
    assert found(folder) == ["north: folder l4 is not in shards.csv"]


def test_zones_that_do_not_start_with_their_region_are_accepted_if_none_does(folder: Path) -> None:
    path = folder / "south/h100/offers.csv"
    path.write_text(path.read_text().replace(",q,\n", ",q,1\n"))
    assert found(folder, "south") == []
