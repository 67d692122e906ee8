"""Remembered outages: plans show what they rule out, and `outages` lists and forgets them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from multicompute import Cluster, errors
from multicompute.testing import FakeCloud

Run = Callable[..., Any]
REQUEST = ("--gpus", "8", "--type", "p5.48xlarge", "--cloud", "aws", "--region", "us-east-1")


@pytest.fixture
def sold_out(run: Run, fake_cloud: FakeCloud) -> Any:
    """Launch in a region that has no capacity, so that it is remembered."""
    fake_cloud.set_capacity("p5.48xlarge", "us-east-1", 0)
    return run("up", *REQUEST, "--no-progress", "--name", "first")


def test_a_plan_shows_candidates_in_an_outage_with_the_reason_and_until_when(
    run: Run, fake_cloud: FakeCloud, sold_out: Any
) -> None:
    assert sold_out.status == 4
    done = run("plan", *REQUEST)
    assert done.status == 0
    assert "p5.48xlarge" in done.out
    assert "not tried before 2027-01-01 00:0" in done.out
    assert "capacity, aws us-east-1" in done.out
    assert "`multicompute outages --clear` forgets them" in " ".join(done.out.split())
    candidates = run("plan", *REQUEST, "--json").document["candidates"]
    assert {candidate["outage"]["reason"] for candidate in candidates} == {"capacity"}
    assert all(candidate["outage"]["until"].startswith("2027-01-01T00:0") for candidate in candidates)


def test_candidates_that_can_be_tried_come_before_cheaper_ones_in_an_outage(
    run: Run, fake_cloud: FakeCloud, sold_out: Any
) -> None:
    candidates = run("plan", "--gpus", "8", "--type", "p5.48xlarge", "--json").document["candidates"]
    marks = [candidate["outage"] is not None for candidate in candidates]
    assert marks == sorted(marks) and {False, True} == set(marks)
    plan = Cluster.plan(gpus=8, type="p5.48xlarge")
    assert plan.best is not None and plan.best.outage is None
    shown = run("plan", "--gpus", "8", "--type", "p5.48xlarge", "--limit", "1").out
    assert "ruled out by remembered outages" in " ".join(shown.split())
    assert "O  not tried before 2027-01-01 00:0" in shown


def test_a_request_that_only_outages_prevent_says_until_when_and_what_to_do(
    run: Run, fake_cloud: FakeCloud, sold_out: Any
) -> None:
    again = run("up", *REQUEST, "--no-progress", "--name", "second")
    assert again.status == 4
    assert "the first ends at 2027-01-01 00:0" in again.err
    assert "`multicompute outages --clear`" in again.err and "--keep-trying 2h" in again.err
    assert len(again.err) <= 320
    with pytest.raises(errors.CapacityError, match="keep_trying='2h'"):
        Cluster.request(gpus=8, type="p5.48xlarge", clouds=["aws"], regions=["us-east-1"])


@pytest.mark.parametrize("place", ["", "aws", "us-east-1", "us-east-1?", "aws:us-*"])
def test_outages_are_listed_and_forgotten_by_place(run: Run, fake_cloud: FakeCloud, sold_out: Any, place: str) -> None:
    listed = run("outages", "--json").document
    assert listed
    assert set(listed[0]) == {"provider", "place", "instance_type", "purchase", "nodes", "reason", "until"}
    shown = run("outages")
    assert shown.status == 0
    assert "us-east-1a" in shown.out and "capacity" in shown.out
    assert run("outages", "--clear", "gcp").err == "forgotten: 0 outages in gcp\n"
    assert run("outages", "--json").document == listed
    cleared = run("outages", "--clear", *filter(None, [place]))
    assert cleared.status == 0
    assert f"forgotten: {len(listed)} outage" in cleared.err
    assert run("outages", "--json").document == []
    fake_cloud.set_capacity("p5.48xlarge", "us-east-1", None)
    assert run("up", *REQUEST, "--no-progress", "--name", "third").status == 0
    assert run("down", "third", "--yes").status == 0


def test_a_forgotten_outage_does_not_make_the_next_one_longer(run: Run, fake_cloud: FakeCloud, sold_out: Any) -> None:
    fake_cloud.advance("6m")
    assert run("outages").err == "no remembered outages; no cloud was asked\n"
    assert run("outages", "--clear").status == 0
    now = fake_cloud.clock.now()
    run("up", *REQUEST, "--no-progress", "--name", "next")
    lengths = [outage.until - now for outage in fake_cloud.session.ledger.outages(now=now)]
    assert lengths and all(length.total_seconds() < 9 * 60 for length in lengths)


def test_an_unknown_place_is_refused_with_the_nearest(run: Run, fake_cloud: FakeCloud, sold_out: Any) -> None:
    done = run("outages", "--clear", "us-east-11")
    assert done.status == 2
    assert "us-east-1" in done.err
    assert run("outages", "--json").document


def test_without_a_ledger_there_are_no_outages_and_none_is_created(run: Run, fake_cloud: FakeCloud) -> None:
    assert run("outages", "--json").document == []
    assert run("outages", "--clear").status == 0
    assert not fake_cloud.session.has_ledger


def test_the_docs_say_how_long_each_outage_lasts() -> None:
    from multicompute.engine.provision.failover import DURATIONS
    from multicompute.units import format_duration

    text = (Path(__file__).parents[2] / "docs" / "concepts.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    documented = {row[0].strip("`"): (row[-2], row[-1]) for row in rows if row[0].strip("`") in DURATIONS}
    assert documented == {
        reason: (format_duration(first), format_duration(longest)) for reason, (first, longest) in DURATIONS.items()
    }


def test_a_request_that_fails_everywhere_is_three_lines_and_verbose_lists_every_attempt(
    run: Run, fake_cloud: FakeCloud
) -> None:
    fake_cloud.set_capacity("p5.48xlarge", "*", 0)
    arguments = ("up", "--gpus", "8", "--type", "p5.48xlarge", "--cloud", "aws", "--no-progress", "--yes")
    done = run(*arguments, "--name", "nowhere")
    assert done.status == 4
    assert len(done.err.splitlines()) <= 3 and max(map(len, done.err.splitlines())) <= 320
    assert "tries" in done.err and "`multicompute events nowhere` lists all" in done.err
    assert run("outages", "--clear").status == 0
    again = run(*arguments, "--name", "elsewhere", "--verbose")
    listed = [line for line in again.err.splitlines() if line.startswith("  aws ")]
    assert len(listed) > 20
    assert all("no capacity" in line for line in listed)
    assert sum(event["kind"] == "attempt" for event in run("events", "nowhere", "--json").document) == len(listed)
