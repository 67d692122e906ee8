"""Published rates of interruptions: in the tables, in plans, and in the order of a plan that weighs them."""

from datetime import timedelta
from pathlib import Path
from shutil import copytree

import pytest

from multicompute.catalog import Catalog
from multicompute.errors import CatalogError
from multicompute.plan_text import render
from multicompute.price_feed import Interruption
from tests.unit.resolver.fake_catalog import BIG, GREEN, NORTH, FakeCatalog, line, plan, shown

PROVIDERS = Path(__file__).parents[3] / "providers"
HEADER = "instance_type,region,low,high,period\n"


def catalog() -> FakeCatalog:
    """Return a catalog with a cheap place that is interrupted often, a dearer one that is not, and one on demand."""
    made = FakeCatalog(
        line(BIG, 20.0, zones="a", purchase="spot"),
        line(GREEN, 21.0, NORTH, zones="a", purchase="spot"),
        line(BIG, 30.0, zones="a"),
    )
    made.rates = {
        ("blue", "b8", "east-1"): Interruption("b8", "east-1", 0.2, 1.0, "month"),
        ("green", "g8", "north-1"): Interruption("g8", "north-1", 0.0, 0.05, "month"),
    }
    return made


def test_plans_show_the_rate_of_spot_candidates_only() -> None:
    found = plan(catalog(), gpus=8, type="h100", spot="prefer")
    assert [candidate.to_dict()["interruption"] for candidate in found] == [
        {"low": 0.2, "high": 1.0, "period": "month"},
        {"low": 0.0, "high": 0.05, "period": "month"},
        None,
    ]
    text = render(found, limit=10, reasons=False, width=None)
    assert ">20%/mo" in text
    assert "<5%/mo" in text


def test_lost_work_counts_only_if_the_request_says_how_much_is_lost() -> None:
    cheapest_first = ["1 x b8 east-1a", "1 x g8 north-1a", "1 x b8 east-1a"]
    assert shown(plan(catalog(), gpus=8, type="h100", spot="prefer")) == cheapest_first
    weighed = plan(catalog(), gpus=8, type="h100", spot="prefer", interruption_cost_hours=100)
    assert shown(weighed)[0] == "1 x g8 north-1a"
    # Interruptions per hour x hours x price: the middle of the range, and a month of 730 hours.
    costs = {candidate.hourly_cost: candidate.interruption_cost for candidate in weighed}
    assert costs == {21.0: pytest.approx(21 * 100 * 0.025 / 730), 20.0: pytest.approx(20 * 100 * 0.6 / 730), 30.0: 0}


def test_an_unknown_rate_counts_as_the_highest_range_of_a_month() -> None:
    known, unknown = catalog(), catalog()
    del unknown.rates["blue", "b8", "east-1"]
    for each in (known, unknown):
        first = plan(each, gpus=8, type="h100", spot=True, clouds=["blue"], interruption_cost_hours=2).best
        assert first.interruption_cost == pytest.approx(20 * 2 * 0.6 / 730)


def test_the_weight_is_part_of_the_total_by_which_a_plan_with_hours_is_ordered() -> None:
    known = {"default_ttl": timedelta(hours=24)}
    found = plan(catalog(), known=known, gpus=8, type="h100", spot=True, interruption_cost_hours=100, hours=10)
    assert [candidate.total_cost for candidate in found] == [210, 200]


def test_the_tables_of_a_shard_may_have_rates(tmp_path: Path) -> None:
    copytree(PROVIDERS / "multicompute_aws" / "data", tmp_path / "aws")
    (tmp_path / "aws" / "h100" / "interruptions.csv").write_text(f"{HEADER}p5.48xlarge,us-east-1,0.05,0.1,month\n")
    tables = Catalog.at(tmp_path)
    rate = Interruption("p5.48xlarge", "us-east-1", 0.05, 0.1, "month")
    assert tables.interruptions("h100") == {("aws", "p5.48xlarge", "us-east-1"): rate}
    assert tables.interruptions("a100") == tables.interruptions("no-such") == {}


@pytest.mark.parametrize(
    "row",
    [
        "p5.48xlarge,us-east-1,0.2,0.1,month",
        "p5.48xlarge,us-east-1,0,2,month",
        "p5.48xlarge,us-east-1,0,1,week",
        "p5,us-east-1,x,1,hour",
    ],
)
def test_a_malformed_rate_is_an_error_that_names_the_line(tmp_path: Path, row: str) -> None:
    copytree(PROVIDERS / "multicompute_aws" / "data", tmp_path / "aws")
    (tmp_path / "aws" / "h100" / "interruptions.csv").write_text(f"{HEADER}{row}\n")
    with pytest.raises(CatalogError, match="interruptions.csv, line 2"):
        Catalog.at(tmp_path).interruptions("h100")
