"""Discounts, data and hours on the command line and in request files."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from multicompute.config import Config
from multicompute.testing import FakeCloud

Run = Callable[..., Any]
REQUEST = ("--gpus", "8", "--type", "p5.48xlarge", "--region", "us-east-1", "--region", "us-west-2")
DATA = "s3://bucket/key=1/tokens=aws:us-west-2:20TiB"


@pytest.fixture(autouse=True)
def _clouds(fake_cloud: FakeCloud) -> FakeCloud:
    return fake_cloud


def discount(cloud: FakeCloud, **terms: Any) -> None:
    values = dict(cloud.session.config) | {"discounts": [{"cloud": "aws"} | terms]}
    cloud.session.__dict__["config"] = Config(**values)


def test_plan_takes_data_and_hours(run: Run) -> None:
    first, *others = run("plan", *REQUEST, "--data", DATA, "--hours", "200", "--json").document["candidates"]
    assert (first["region"], first["transfer_usd"], first["total_usd"]) == ("us-west-2", 0, 200 * 55.04)
    moved = next(candidate for candidate in others if candidate["region"] == "us-east-1")
    assert moved["transfer_usd"] == pytest.approx(409.6)
    assert moved["total_usd"] == pytest.approx(200 * 55.04 + 409.6)
    out = run("plan", *REQUEST, "--data", DATA, "--hours", "200").out
    assert "the cheapest in total first" in out
    assert "transfer $" in out
    assert "409.60" in out


@pytest.mark.parametrize(
    "text",
    [
        'data = [["s3://bucket/tokens", "aws:us-west-2", "20TiB"]]\nhours = 200\n',
        'data = ["s3://bucket/tokens=aws:us-west-2:20TiB"]\nhours = 200\n',
    ],
)
def test_a_request_file_has_data_and_hours(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "job.toml").write_text(text)
    plan = run("plan", *REQUEST, "--file", str(tmp_path / "job.toml"), "--json").document
    assert plan["spec"]["data"] == [["s3://bucket/tokens", "aws:us-west-2", 20480.0]]
    assert plan["candidates"][0]["region"] == "us-west-2"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--data", "s3://bucket/tokens"), "URL=PROVIDER:REGION:SIZE"),
        (("--data", "s3://b=aws:us-east-1:20XB"), "not a size"),
        (("--data", "s3://b=aws:us-esat-1:1TB"), "us-east-1"),
        (("--hours", "0"), "positive number of hours"),
        (("--hours", "soon"), "positive number of hours"),
        (("--interruption-cost-hours", "-1"), "number of hours"),
    ],
)
def test_wrong_data_and_hours_are_refused(run: Run, option: tuple[str, str], message: str) -> None:
    done = run("plan", *REQUEST, *option)
    assert done.status == 2
    assert message in done.err


def test_plan_offers_and_cost_show_net_and_list_price(run: Run, fake_cloud: FakeCloud) -> None:
    discount(fake_cloud, instance_type="p5.48*", percent=50)
    best = run("plan", *REQUEST, "--json").document["candidates"][0]
    assert (best["hourly_usd"], best["list_hourly_usd"], best["discount"]) == (27.52, 55.04, "aws p5.48*: 50% off")
    out = run("plan", *REQUEST).out
    assert "list $/h" in out
    assert "27.52" in out
    assert run("offers", "p5.48xlarge", "--cloud", "aws", "--json").document[0]["discount"]
    assert run("up", *REQUEST, "--yes", "--quiet", "--name", "train").status == 0
    fake_cloud.advance(timedelta(hours=1))
    total = run("cost", "--json").document["total"]
    assert total["list_cost_usd"] == pytest.approx(2 * total["cost_usd"])
    assert "list cost" in run("cost").out
    assert run("cost", "--csv").out.splitlines()[0].endswith(",cost_usd,list_cost_usd")
    assert run("down", "train", "--yes").status == 0
