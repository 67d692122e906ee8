"""`cost` from the command line, on fake clouds."""

import contextlib
import csv
import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from multicompute import Cluster
from multicompute.cli import main
from multicompute.testing import FakeCloud

Run = Callable[..., Any]


class Terminal(io.TextIOWrapper):
    """A stdout that is a terminal."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        self.seek(0)
        return self.read()


@pytest.fixture(name="spent")
def _spent(fake_cloud: FakeCloud) -> Any:
    """Two live clusters, the second at a third of the price and with a budget, and one that has ended."""
    with Cluster.request(gpus=8, type="h100", name="gone", clouds=["aws"], regions=["us-east-1"], tags={"team": "nlp"}):
        fake_cloud.advance("1h")
    arguments: dict[str, Any] = {"type": "h100", "clouds": ["aws"], "regions": ["us-east-1"]}
    with (
        Cluster.request(gpus=24, name="big", tags={"team": "nlp"}, **arguments) as big,
        Cluster.request(gpus=8, name="small", budget=600, **arguments) as small,
    ):
        fake_cloud.advance(timedelta(hours=5, seconds=1))
        yield big, small


def test_the_table_in_a_pipe_is_plain_with_bars_and_a_total(run: Run, spent: Any) -> None:
    done = run("cost")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split() == ["cluster", "node-h", "acc-h", "cost", "share"]
    assert [line.split()[0] for line in lines[1:5]] == ["big", "small", "gone", "total"]
    big = lines[1].split()
    # Three nodes for a little over five hours, with eight accelerators each.
    assert big[1:3] == ["15.1", "120.4"]
    assert big[3] == f"${spent[0].accrued_cost:,.2f}"
    assert big[5] == "#" * round(float(big[4].rstrip("%")) / 100 * 12)
    assert lines[4].split()[4] == "100.0%"
    assert lines[4].isascii()


def test_live_clusters_have_a_forecast_and_a_warning_if_the_budget_ends_first(run: Run, spent: Any) -> None:
    done = run("cost")
    forecast = done.out.split("\n\n")[1].splitlines()
    assert forecast[0].split() == ["running", "$/h", "so", "far", "forecast", "total", "expires"]
    assert [line.split()[0] for line in forecast[1:]] == ["big", "small"]
    assert forecast[2].split()[4] == "$600.00"
    assert "small reaches its budget of $600.00 at 2027-01-01T11:" in done.err
    assert "big reaches" not in done.err


def test_a_terminal_gets_bars_of_blocks_and_one_that_can_not_draw_them_gets_ascii(
    spent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    shown = {}
    for encoding in ("utf-8", "ascii"):
        stream = Terminal(encoding)
        with contextlib.redirect_stdout(stream):
            assert main(["cost"]) == 0
        shown[encoding] = stream.text()
    assert "████" in shown["utf-8"]
    assert "####" not in shown["utf-8"]
    assert "####" in shown["ascii"]


def test_no_color_leaves_the_bars_and_takes_the_colours(spent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal("utf-8")
    with contextlib.redirect_stdout(stream):
        assert main(["cost"]) == 0
    assert "████" in stream.text()
    assert "\x1b[3" not in stream.text()


def test_json_is_one_document_with_the_costs_of_the_clusters(run: Run, spent: Any) -> None:
    done = run("cost", "--json")
    assert done.err == ""
    document = done.document
    assert set(document) == {"by", "timezone", "since", "until", "rows", "total", "forecasts"}
    assert (document["by"], document["since"]) == ("cluster", None)
    costs = {row["group"]: row["cost_usd"] for row in document["rows"]}
    for name in ("big", "small", "gone"):
        assert costs[name] == run("show", name, "--json").document["accrued_usd"]
    assert document["total"]["cost_usd"] == pytest.approx(sum(costs.values()), abs=2e-6)
    assert {forecast["cluster"]: forecast["in_all_usd"] for forecast in document["forecasts"]}["small"] == 600


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("owner", {"tester@fake"}),
        ("cloud", {"aws"}),
        ("day", {"2027-01-01"}),
        ("tag:team", {"nlp", None}),
        ("cluster", {"big", "small", "gone"}),
    ],
)
def test_each_way_to_group_has_the_same_total(run: Run, spent: Any, by: str, groups: set[str | None]) -> None:
    document = run("cost", "--by", by, "--json").document
    assert {row["group"] for row in document["rows"]} == groups
    assert document["total"] == run("cost", "--json").document["total"]


def test_csv_has_a_header_and_a_line_for_each_row(run: Run, spent: Any) -> None:
    done = run("cost", "--by", "tag:team", "--csv")
    lines = list(csv.reader(io.StringIO(done.out)))
    assert lines[0] == ["tag:team", "node_hours", "accelerator_hours", "cost_usd"]
    rows = run("cost", "--by", "tag:team", "--json").document["rows"]
    assert [(line[0], float(line[3])) for line in lines[1:]] == [(row["group"] or "", row["cost_usd"]) for row in rows]
    assert done.err == ""


@pytest.mark.parametrize(("options", "zone"), [([], "UTC"), (["--timezone", "Europe/Berlin"], "Europe/Berlin")])
def test_days_name_the_time_zone_in_every_form(run: Run, spent: Any, options: list[str], zone: str) -> None:
    command = ("cost", "--by", "day", *options)
    assert run(*command).out.startswith(f"day ({zone}) ")
    assert run(*command, "--json").document["timezone"] == zone
    header, *lines = csv.reader(io.StringIO(run(*command, "--csv").out))
    assert header == ["day", "node_hours", "accelerator_hours", "cost_usd", "timezone"]
    assert {line[-1] for line in lines} == {zone}


def test_clusters_without_the_tag_have_a_row_of_their_own(run: Run, spent: Any) -> None:
    lines = run("cost", "--by", "tag:team").out.splitlines()
    assert lines[0].split()[0] == "team"
    assert [line.split()[0] for line in lines[1:4]] == ["nlp", "-", "total"]


def test_since_and_a_name_narrow_it(run: Run, spent: Any) -> None:
    recent = run("cost", "--since", "1h", "--json").document
    assert {row["group"]: row["node_hours"] for row in recent["rows"]} == {"big": 3, "small": 1}
    assert {row["group"] for row in run("cost", "gone", "--json").document["rows"]} == {"gone"}
    assert run("cost", "gone", "--json").document["forecasts"] == []


def test_an_empty_report_says_so(run: Run, fake_cloud: FakeCloud) -> None:
    done = run("cost", "--since", "30d")
    assert (done.status, done.out) == (0, "")
    assert "nothing was spent since 2026-12-02" in done.err
    assert run("cost", "--csv").out == "cluster,node_hours,accelerator_hours,cost_usd\n"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--since", "tomorrow"], 2, "since='tomorrow': not a duration"),
        (["--since", "0d"], 2, "since='0d'"),
        (
            ["--by", "nonsense"],
            2,
            "by='nonsense': unknown grouping (known are cluster, owner, cloud, day and tag:KEY)",
        ),
        (["--by", "tag"], 2, "by='tag'"),
        (["nobody"], 8, "nobody: no cluster of this name"),
        (["--json", "--csv"], 2, "not allowed with argument"),
        (["--by", "day", "--timezone", "Europ/Berlin"], 2, "no such time zone; did you mean Europe/Berlin?"),
        (["--timezone", "UTC"], 2, "--timezone UTC: only --by day has days"),
    ],
)
def test_a_wrong_argument_is_reported_in_one_line(
    run: Run, fake_cloud: FakeCloud, arguments: list[str], status: int, said: str
) -> None:
    done = run("cost", *arguments)
    assert (done.status, done.out) == (status, "")
    assert said in done.err
