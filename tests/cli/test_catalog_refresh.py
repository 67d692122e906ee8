"""`catalog refresh`, `catalog reset` and `catalog info`."""

from collections.abc import Callable
from typing import Any

import pytest

from multicompute.errors import AuthError
from tests.unit.price_refresh.conftest import Clouds, clouds, config_of

__all__ = ["clouds"]
Run = Callable[..., Any]


def test_a_refresh_prints_the_document_of_the_contract(run: Run, clouds: Clouds) -> None:
    clouds.north.sold["big", "h100", "east", "on_demand"] = {"": 72.5}
    done = run("catalog", "refresh", "--json")
    assert done.status == 0
    assert set(done.document) == {"clouds", "path"}
    assert done.document["path"] == str(clouds.folder)
    north = done.document["clouds"]["north"]
    assert {key: north[key] for key in ("offers", "changed", "added", "removed", "as_of", "failed", "notes")} == {
        "offers": 12,
        "changed": 1,
        "added": 0,
        "removed": 0,
        "as_of": "2026-11-29",
        "failed": [],
        "notes": [],
    }
    assert set(north) - {"offers", "changed", "added", "removed", "as_of", "failed", "notes"} == {
        "unreadable",
        "moves",
        "calls",
        "seconds",
    }
    assert north["calls"] == {"ListPrices": 2}
    assert (
        run("plan", "--gpus", "8", "--type", "h100", "--cloud", "north", "--json").document["candidates"][0][
            "hourly_usd"
        ]
        == 72.5
    )


def test_a_refresh_for_people_shows_rows_changes_and_calls(run: Run, clouds: Clouds) -> None:
    clouds.north.sold["big", "h100", "east", "on_demand"] = {"": 130}
    clouds.north.sold["big", "h100", "west", "on_demand"] = {"": 85}
    clouds.north.second["big", "h100", "east", "on_demand"] = dict.fromkeys(("", "east-a", "east-b"))
    clouds.north.unreadable = {"a row without a unit, such as X": 2}
    done = run("catalog", "refresh", "--wide")
    lines = done.out.splitlines()
    assert lines[0].split() == [
        "cloud",
        "offers",
        "changed",
        "added",
        "removed",
        "newest",
        "price",
        "calls",
        "seconds",
        "result",
    ]
    assert lines[1].split()[:5] == ["north", "12", "1", "0", "0"]
    assert lines[1].endswith("refreshed")
    (line,) = [line for line in lines if "not confirmed" in line and "+1" in line]
    assert line.split() == ["north", "east-a", "+1", "big", "on_demand", "80.00", "130.00", "+62%", "not", "confirmed"]
    assert "north: 2 calls: ListPrices 2" in lines
    assert "north: 2 rows left out: a row without a unit, such as X" in lines
    assert "north: asking" in done.err.splitlines()
    assert "unchanged" in run("catalog", "refresh").out


def test_a_cloud_that_fails_is_exit_status_1_and_the_others_are_in_use(run: Run, clouds: Clouds) -> None:
    clouds.north.error = AuthError("no credentials were found")
    clouds.south.failed["west"] = "no answer"
    clouds.south.sold["big", "h100", "east", "on_demand"] = {"": 79}
    done = run("catalog", "refresh", "--json")
    assert done.status == 1
    assert done.document["clouds"]["north"]["failed"] == [{"region": "", "error": "no credentials were found"}]
    assert done.document["clouds"]["south"]["failed"] == [{"region": "west", "error": "no answer"}]
    assert done.document["clouds"]["south"]["changed"] == 1
    assert "multicompute: north: no credentials were found\n" in done.err
    assert "multicompute: south west: no answer\n" in done.err
    out = run("catalog", "refresh").out
    assert "failed" in out
    assert "1 region failed" in out
    assert run("catalog", "refresh", "--cloud", "south", "--region", "east").status == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("refresh", "--cloud", "mars"),
            "--cloud mars: no cloud with offer tables is named so; known clouds: north, south",
        ),
        (("refresh", "--cloud", "nort"), "did you mean north?"),
        (("refresh", "--region", "mars"), "--region mars: no such region"),
        (("refresh", "--accelerator", "mars"), "--accelerator mars: no such accelerator"),
        (("refresh", "--accelerator", "h10"), "did you mean h100"),
        (("reset", "--cloud", "mars"), "--cloud mars"),
        (("reset", "--region", "east"), "--region: not an option of `catalog reset`"),
        (("info", "--cloud", "north"), "--cloud: not an option of `catalog info`"),
        (("refrsh",), "invalid choice"),
    ],
)
def test_wrong_input_is_exit_status_2_with_the_nearest_name(
    run: Run, clouds: Clouds, arguments: tuple[str, ...], message: str
) -> None:
    done = run("catalog", *arguments)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert clouds.north.queries == []


def test_info_shows_which_tables_are_used_how_old_they_are_and_their_sources(run: Run, clouds: Clouds) -> None:
    run("catalog", "refresh", "--cloud", "north", "--accelerator", "h100")
    clouds.next_day(3)
    records = {each["provider"]: each for each in run("catalog", "info", "--json").document["providers"]}
    assert (records["north"]["tables"], records["south"]["tables"]) == ("refreshed", "packaged")
    assert (records["north"]["days_old"], records["north"]["newest_price"]) == (3, "2026-11-29")
    assert records["north"]["sources"] == [
        {
            "source": "the price list",
            "basis": "list",
            "prices": 6,
            "oldest_price": "2026-11-29",
            "newest_price": "2026-11-29",
        },
        {
            "source": "a list of last year",
            "basis": "list",
            "prices": 4,
            "oldest_price": "2026-01-01",
            "newest_price": "2026-01-01",
        },
    ]
    lines = run("catalog", "info", "--wide").out.splitlines()
    assert lines[1].split()[:2] == ["north", "refreshed"]
    assert any("the price list" in line for line in lines)
    assert run("catalog", "path").out.splitlines()[0].startswith(str(clouds.folder))
    clouds.session.config = config_of(clouds.data, catalog=str(clouds.data.parent / "packaged"))
    assert {each["tables"] for each in run("catalog", "info", "--json").document["providers"]} == {"configured"}


def test_reset_goes_back(run: Run, clouds: Clouds) -> None:
    run("catalog", "refresh")
    assert run("catalog", "reset", "--json").document == {"clouds": ["north", "south"], "path": str(clouds.folder)}
    assert run("catalog", "reset").out == "no refreshed tables were in use\n"


def test_a_plan_that_refreshes_says_so_on_stderr_and_its_document_stays_clean(run: Run, clouds: Clouds) -> None:
    clouds.session.config = config_of(clouds.data, auto_refresh="daily")
    clouds.north.sold["big", "h100", "east", "on_demand"] = {"": 72.5}
    command = ("plan", "--gpus", "8", "--type", "h100", "--region", "north:east", "--json")
    done = run(*command)
    assert done.document["candidates"][0]["hourly_usd"] == 72.5
    assert done.err == "refreshing prices that are too old: north h100\nnorth: 1 price changed\n"
    assert run(*command).err == ""
    clouds.north.error = AuthError("no network")
    clouds.next_day()
    done = run(*command)
    assert done.status == 0
    assert "north: prices could not be refreshed: no network" in done.err
    assert "prices could not be refreshed" in run(*command[:-1]).out
