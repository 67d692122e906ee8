"""`offers`, `plan` and `catalog` over the packaged tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from multicompute.testing import FakeCloud

Run = Callable[..., Any]
CANDIDATE = {
    *("provider", "region", "zone", "instance_type", "nodes", "accelerators", "purchase", "hourly_usd"),
    *("usd_per_accelerator_hour", "price_as_of", "price_source", "price_basis", "max_lifetime", "ends_early", "outage"),
}


@pytest.fixture(autouse=True)
def _clouds(fake_cloud: FakeCloud) -> FakeCloud:
    return fake_cloud


def test_offers_are_ordered_by_the_price_of_one_accelerator(run: Run) -> None:
    offers = run("offers", "h100", "--limit", "0", "--json").document
    prices = [offer["usd_per_accelerator_hour"] for offer in offers]
    assert prices == sorted(prices)
    assert {offer["provider"] for offer in offers} == {"aws", "azure", "gcp"}
    assert {offer["purchase"] for offer in offers} == {"on_demand"}
    assert all(set(offer) == CANDIDATE for offer in offers)


def test_offers_for_a_number_are_ordered_by_their_total(run: Run) -> None:
    offers = run("offers", "h100", "--gpus", "16", "--limit", "0", "--json").document
    totals = [offer["hourly_usd"] for offer in offers]
    assert totals == sorted(totals)
    assert all(offer["accelerators"] >= 16 for offer in offers)


def test_offers_can_be_filtered_and_a_limit_is_noted(run: Run) -> None:
    done = run("offers", "h100", "--spot", "--cloud", "aws", "--region", "us-*", "--limit", "3", "--json")
    assert len(done.document) == 3
    assert all(o["purchase"] == "spot" and o["provider"] == "aws" for o in done.document)
    assert "--limit 0 lists all" in done.err


def test_offers_for_people_are_a_table_with_one_line_for_zones_of_the_same_price(run: Run) -> None:
    done = run("offers", "h100", "--limit", "5")
    lines = done.out.splitlines()
    assert lines[0].split() == ["place", "nodes", "acc", "purchase", "$/h", "$/acc-h"]
    assert lines[6] == ""
    assert lines[1].startswith("aws us-east-1a +5  1 x p5.4xlarge ")
    assert lines[7:9] == ["+N  in N other zones of the region as well", "S  stale price"]
    wide = run("offers", "h100", "--limit", "5", "--wide").out.splitlines()
    assert wide[0].split() == [*lines[0].split(), "price", "date", "src"]


def test_offers_of_a_slice_or_an_instance_type_need_no_number(run: Run) -> None:
    assert run("offers", "v5p-128", "--json").document[0]["accelerators"] == 64
    assert run("offers", "p5.48xlarge", "--json").document[0]["accelerators"] == 8


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("offers", "h1000"), 2, "did you mean h100"),
        (("offers", "h100", "--limit", "-1"), 2, "--limit -1"),
        (("offers", "h100", "--limit", "many"), 2, "--limit"),
        (("offers", "h100", "--cloud", "azur"), 2, "azur"),
        (("plan", "--gpus", "0", "--type", "h100"), 2, "--gpus 0: must be at least 1"),
        (("plan", "--gpus", "64", "--type", "h100", "--gpus-per-node", "6"), 2, "not a multiple"),
        (("plan", "--gpus", "64", "--type", "h100", "--max-price", "0.01"), 3, "--max-price 0.01 rules out"),
        (("catalog", "inf"), 2, "invalid choice"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_a_status(
    run: Run, arguments: tuple[str, ...], status: int, message: str
) -> None:
    done = run(*arguments)
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith("multicompute: ")
    assert done.err.count("\n") == 1
    assert message in done.err


def test_plan_is_the_document_of_the_contract(run: Run) -> None:
    plan = run("plan", "--gpus", "64", "--type", "h100", "--json").document
    assert set(plan) == {"spec", "candidates", "rejected"}
    assert all(set(candidate) == CANDIDATE for candidate in plan["candidates"])
    assert plan["spec"]["gpus"] == 64
    assert all(isinstance(count, int) for count in plan["rejected"].values())


def test_plan_for_people_is_explained(run: Run) -> None:
    done = run("plan", "--gpus", "64", "--type", "h100")
    assert done.status == 0
    assert "p5.48xlarge" in done.out
    assert "rejected offers" in done.out


def test_a_plan_without_a_candidate_still_gives_its_reasons_to_a_program(run: Run) -> None:
    done = run("plan", "--gpus", "64", "--type", "h100", "--max-price", "0.01", "--json")
    assert done.status == 3
    assert done.document["candidates"] == []
    assert sum(done.document["rejected"].values()) > 1000


def test_plan_launches_nothing(run: Run, fake_cloud: FakeCloud) -> None:
    assert run("plan", "--gpus", "64", "--type", "h100").status == 0
    assert fake_cloud.alive() == []


def test_catalog_info_has_number_and_age_of_the_offers(run: Run) -> None:
    document = run("catalog", "info", "--json").document
    assert document["offers"] == sum(table["offers"] for table in document["providers"]) > 10_000
    assert all(table["oldest_price"] <= table["newest_price"] for table in document["providers"])
    assert "newest price" in run("catalog", "info").out


def test_catalog_path_names_the_folders(run: Run) -> None:
    folders = run("catalog", "path").out.splitlines()
    assert len(folders) == 3
    assert all(Path(folder, "shards.csv").is_file() for folder in folders)
    assert list(run("catalog", "path", "--json").document.values()) == folders


@pytest.mark.parametrize(
    ("arguments", "reason", "change"),
    [
        (("--cloud", "aws", "--max-price", "0.01"), "--max-price 0.01 rules out", "--max-price 6.88 would have one"),
        (
            ("--region", "us-east-1", "--max-hourly", "9"),
            "--max-hourly 9 rules out",
            "--max-hourly 55.04 would have one",
        ),
        (("--cloud", "azure", "--vcpus", "999"), "--vcpus 999 rules out", "--vcpus 96 would have one"),
    ],
)
def test_a_plan_without_offers_names_what_binds_and_the_change_as_the_user_would_type_it(
    run: Run, fake_cloud: FakeCloud, arguments: tuple[str, ...], reason: str, change: str
) -> None:
    done = run("plan", "--gpus", "8", "--type", "h100", *arguments)
    assert done.status == 3
    assert reason in done.err and change in done.err
    assert len(done.err) <= 320
    flag, value = change.split()[:2]
    others = list(arguments)
    others[others.index(flag) + 1] = value
    assert run("plan", "--gpus", "8", "--type", "h100", *others).status == 0


def test_a_limit_holds_for_the_list_of_accelerators_too(run: Run) -> None:
    every, three = run("offers", "--json").document, run("offers", "--limit", "3")
    assert len(three.out.splitlines()) == 1 + 3
    assert f"3 of {len(every)} types; --limit 0 lists all" in three.err
    assert run("offers", "--limit", "3", "--json").document == every[:3]
    assert run("offers", "--limit", "0", "--json").document == every


def test_offers_without_a_type_list_the_accelerators_with_memory_clouds_and_lowest_price(run: Run) -> None:
    done = run("offers", "--json")
    found = {each["type"]: each for each in done.document}
    assert {"h100", "a100-80gb", "t4", "tpu-v5p"} <= set(found)
    assert (found["h100"]["memory_gib"], found["h100"]["clouds"]) == (80, ["aws", "azure", "gcp"])
    best = run("offers", "h100", "--limit", "1", "--json").document[0]
    assert found["h100"]["usd_per_accelerator_hour"] == best["usd_per_accelerator_hour"]
    only = run("offers", "--cloud", "gcp", "--spot", "--region", "eu", "--json").document
    assert {cloud for each in only for cloud in each["clouds"]} == {"gcp"}
    assert "`multicompute offers TYPE`" in run("offers").err
    assert run("offers", "--gpus", "8").status == 2
    assert run("offers", "--region", "mars").status == 2
