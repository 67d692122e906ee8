"""`multicompute.catalog.refresh`: what is asked, what replaces the tables, and what stays."""

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from multicompute.catalog import Catalog, refresh, reset
from multicompute.config import load
from multicompute.errors import AuthError, CatalogError, ProviderError, SpecError
from multicompute.session import Session
from tests.unit.price_refresh.conftest import Clouds, config_of


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_todays_prices_replace_those_of_the_tables_in_the_next_plan(clouds: Clouds) -> None:
    assert clouds.price("big", "east") == 80
    clouds.north.sold["big", "h100", "east", "on_demand"] = {"east-a": 72.5, "east-b": 72.5}
    report = clouds.refresh()
    assert (report.changed, report.added, report.removed, report.ok) == (1, 0, 0, True)
    assert (report.offers, report.as_of) == (12, clouds.north.today)
    assert clouds.price("big", "east") == 72.5
    (move,) = report.moves
    assert (move.before, move.after, move.zones, move.is_accepted) == (80, 72.5, ("east-a", "east-b"), True)
    assert report.call_count == 2


def test_the_tables_are_where_a_configuration_could_name_them(clouds: Clouds) -> None:
    clouds.refresh()
    assert (clouds.folder / "north" / "shards.csv").exists()
    assert Catalog.at(clouds.folder).providers == ("north",)


def test_every_cloud_is_refreshed_and_one_that_fails_keeps_its_prices(clouds: Clouds) -> None:
    clouds.north.sold["big", "h100", "west", "on_demand"] = {"": 91}
    clouds.south.error = AuthError("no credentials were found", hint="sign in")
    report = refresh()
    assert (report.ok, report.clouds["north"].ok) == (False, True)
    assert [(cloud, each.region, each.error) for cloud, each in report.errors] == [
        ("south", "", "no credentials were found (sign in)")
    ]
    assert clouds.price("big", "west") == 91
    assert report.clouds["south"].offers == 12
    assert not (clouds.folder / "south").exists()
    assert report.to_dict()["clouds"]["south"]["failed"] == [
        {"region": "", "error": "no credentials were found (sign in)"}
    ]


@pytest.mark.parametrize(
    ("feed", "error"),
    [
        (None, "can't ask for prices"),
        (AuthError("no key"), "no key"),
        (KeyError("bug"), "unexpected KeyError: 'bug'; --debug logs it in full"),
        (ImportError("no module"), "can't be loaded: no module"),
    ],
)
def test_a_cloud_that_can_not_be_asked_is_reported(clouds: Clouds, feed: BaseException | None, error: str) -> None:
    clouds.plugins["north"].feed = feed
    report = clouds.refresh()
    assert [failed.region for failed in report.failed] == [""]
    assert error in report.failed[0].error
    assert clouds.price("big", "east") == 80


def test_a_region_that_fails_keeps_its_rows(clouds: Clouds) -> None:
    clouds.north.failed["west"] = "no answer"
    clouds.north.sold["big", "h100", "west", "on_demand"] = {"": 1}
    clouds.north.sold["big", "h100", "east", "on_demand"] = {"": 81}
    report = clouds.refresh()
    assert [(failed.region, failed.error) for failed in report.failed] == [("west", "no answer")]
    assert (clouds.price("big", "east"), clouds.price("big", "west"), report.changed) == (81, 90, 1)
    lines = clouds.session.catalog.listings("h100", provider="north")
    assert {line.quote.as_of.isoformat() for line in lines if line.region.name == "west"} == {"2026-01-01"}


def test_a_second_run_on_the_same_day_changes_nothing(clouds: Clouds) -> None:
    clouds.north.sold["big", "h100", "east", "spot"] = {"east-a": 31, "east-b": 33}
    assert clouds.refresh().changed == 2
    before, link = files(clouds.folder), os.readlink(clouds.folder / "north")
    report = clouds.refresh()
    assert (report.changed, report.added, report.removed, report.is_swapped, report.moves) == (0, 0, 0, False, ())
    assert (files(clouds.folder), os.readlink(clouds.folder / "north")) == (before, link)


def test_on_another_day_only_the_dates_move(clouds: Clouds) -> None:
    clouds.refresh()
    clouds.next_day()
    report = clouds.refresh()
    assert (report.changed, report.added, report.removed, report.is_swapped) == (0, 0, 0, True)
    assert {str(line.quote.as_of) for line in clouds.session.catalog.listings("h100", provider="north")} == {
        "2026-11-30"
    }


def test_only_the_named_part_is_asked_for_and_replaced(clouds: Clouds) -> None:
    for key in clouds.north.sold:
        clouds.north.sold[key] = {"": 0.9 * next(iter(clouds.north.sold[key].values()))}
    report = clouds.refresh(regions=["east"], accelerators=["H100"])
    assert report.changed == 3
    assert (clouds.price("big", "east"), clouds.price("big", "west")) == (72, 90)
    assert clouds.price("node", "east", shard="t4") == 0.5
    (query,) = clouds.north.queries
    assert ({each.instance.name for each in query.types}, list(query.regions)) == ({"big", "huge"}, ["east"])
    assert query.accelerators == frozenset({"h100", "h100-nvl"})


def test_types_without_accelerators_are_called_cpu(clouds: Clouds) -> None:
    clouds.north.sold["box", "", "east", "on_demand"] = {"": 0.21}
    assert clouds.refresh(accelerators=["cpu"]).changed == 1
    assert {each.instance.name for each in clouds.north.queries[0].types} == {"box"}


def test_regions_of_another_partition_are_not_asked(clouds: Clouds) -> None:
    clouds.refresh()
    (query,) = clouds.north.queries
    assert list(query.regions) == ["east", "west"]
    assert query.zones == {"east": ("east-a", "east-b"), "west": ("west-a",)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clouds": ["mars"]}, "clouds='mars': no cloud with offer tables is named so; known clouds: north, south"),
        ({"clouds": ["nort"]}, "did you mean north?"),
        ({"clouds": "north"}, "must be a list of names"),
        ({"clouds": []}, "must be a list of names"),
        ({"regions": ["easter"]}, "did you mean east"),
        ({"regions": ["mars"]}, "regions='mars': no such region"),
        ({"clouds": ["north"], "regions": ["south:east"]}, "north has no such region"),
        ({"accelerators": ["mars"]}, "accelerators='mars': no such accelerator"),
        ({"accelerators": ["h10"]}, "did you mean h100"),
    ],
)
def test_a_name_that_does_not_exist_is_refused_with_the_nearest_one(
    clouds: Clouds, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        refresh(**arguments)
    assert message in str(caught.value)
    assert clouds.north.queries == clouds.south.queries == []


def test_regions_may_be_globs_residencies_and_of_one_cloud(clouds: Clouds) -> None:
    refresh(regions=["eu", "south:eas*"])
    assert [list(query.regions) for query in clouds.north.queries] == [["west"]]
    assert [list(query.regions) for query in clouds.south.queries] == [["east", "west"]]


def test_reset_returns_to_the_packaged_tables(clouds: Clouds) -> None:
    clouds.north.sold["big", "h100", "east", "on_demand"] = {"": 79}
    refresh()
    assert clouds.price("big", "east") == 79
    assert reset(["north"]) == ("north",)
    assert clouds.price("big", "east") == 80
    assert (reset(), reset()) == (("south",), ())


def test_configured_tables_win_over_refreshed_ones_and_the_report_says_so(clouds: Clouds, tmp_path: Path) -> None:
    clouds.north.sold["big", "h100", "east", "on_demand"] = {"": 79}
    session = clouds.session
    session.config = config_of(clouds.data, catalog=str(tmp_path / "packaged"))
    report = clouds.refresh()
    assert clouds.price("big", "east") == 80
    assert "plans do not use these tables" in report.notes[-1]


def test_another_process_sees_the_new_prices_at_its_next_plan(clouds: Clouds) -> None:
    other = Session(config=config_of(clouds.data), plugins=clouds.plugins, clock=clouds.clock)
    before = other.catalog
    assert other.catalog is before
    clouds.refresh()
    assert other.catalog is not before
    # A version that was replaced stays readable for those that still use it.
    assert before.listings("h100", provider="north")


def test_versions_are_deleted_a_day_after_they_were_replaced(clouds: Clouds) -> None:
    for _ in range(4):
        clouds.refresh()
        clouds.next_day()
    versions = sorted(os.listdir(clouds.folder / ".versions" / "north"))
    assert [version[2:10] for version in versions] == ["20261130", "20261201", "20261202"]


def test_tables_of_another_layout_are_not_used(clouds: Clouds) -> None:
    clouds.refresh()
    link = clouds.folder / "north"
    target = Path(os.readlink(link))
    newer = target.with_name(f"2{target.name[1:]}")
    (clouds.folder / target).rename(clouds.folder / newer)
    link.unlink()
    link.symlink_to(newer)
    assert {str(line.quote.as_of) for line in clouds.session.catalog.listings("h100", provider="north")} == {
        "2026-01-01"
    }
    assert clouds.refresh().is_swapped


def test_refreshed_tables_that_can_not_be_read_are_made_again_from_the_packaged_ones(clouds: Clouds) -> None:
    clouds.refresh()
    path = clouds.folder / "north" / "h100" / "offers.csv"
    path.write_text("nonsense")
    with pytest.raises(CatalogError):
        clouds.price("big", "east")
    report = clouds.refresh()
    assert "the packaged ones are the basis" in report.notes[0]
    assert clouds.price("big", "east") == 80


def test_what_newer_packaged_tables_add_is_in_the_next_refresh(clouds: Clouds, tmp_path: Path) -> None:
    clouds.refresh()
    path = tmp_path / "packaged" / "north" / "h100" / "types.csv"
    path.write_text(
        path.read_text().replace("huge,8,80,192,4096", "huge,8,80,192,8192")
        + path.read_text().splitlines()[1].replace("big", "next")
        + "\n"
    )
    index = tmp_path / "packaged" / "north" / "index.csv"
    index.write_text(index.read_text() + "next,h100\n")
    clouds.next_day()
    clouds.refresh()
    found = {
        each.name: each
        for name in ("huge", "next")
        for each in clouds.session.catalog.instances(name)
        if each.provider == "north"
    }
    assert (found["huge"].memory_gib, found["next"].memory_gib) == (8192, 2048)


def test_two_refreshes_at_once_come_one_after_the_other(clouds: Clouds) -> None:
    started, go_on, steps = threading.Event(), threading.Event(), list[str]()
    running: list[int] = []

    def answer() -> None:
        running.append(1)
        assert len(running) == 1
        started.set()
        assert go_on.wait(20)
        running.pop()

    clouds.north.before_answer = answer
    first = threading.Thread(target=clouds.refresh)
    first.start()
    assert started.wait(20)

    def progress(cloud: str, share: float, what: str) -> None:
        steps.append(what)
        if what.startswith("waiting"):
            go_on.set()

    report = clouds.refresh(progress=progress)
    first.join()
    assert report.ok
    assert "waiting for another refresh" in steps
    assert steps[-1] == "done"
    assert len(clouds.north.queries) == 2


def test_a_full_disk_or_a_folder_that_can_not_be_written_leaves_the_old_tables(clouds: Clouds) -> None:
    clouds.data.mkdir()
    (clouds.data / "multicompute").write_text("a file where a folder should be")
    report = clouds.refresh()
    assert "refreshed tables can't be written" in report.failed[0].error
    assert "XDG_DATA_HOME" in report.failed[0].error
    assert clouds.price("big", "east") == 80


def test_the_data_folder_is_that_of_the_user(tmp_path: Path) -> None:
    def folder(**variables: str) -> Path:
        return Session(config=load({"HOME": "/home/ada", **variables}, with_file=False)).refreshed_folder

    assert folder() == Path("/home/ada/.local/share/multicompute/catalog")
    assert folder(XDG_DATA_HOME="/data") == Path("/data/multicompute/catalog")
    assert folder(XDG_DATA_HOME="relative") == Path("/home/ada/.local/share/multicompute/catalog")


def test_an_error_of_the_second_query_keeps_the_old_price_and_the_others_are_used(clouds: Clouds) -> None:
    clouds.north.sold["big", "h100", "east", "on_demand"] = {"": 300}
    clouds.north.sold["big", "h100", "west", "on_demand"] = {"": 95}
    clouds.north.confirm_error = ProviderError("throttled")
    report = clouds.refresh()
    assert report.ok
    assert (clouds.price("big", "east"), clouds.price("big", "west")) == (80, 95)
    assert "1 price moved by more than half and no second query confirmed it" in report.notes[0]
    assert report.notes[1] == "the second query failed: throttled"


def test_a_full_disk_leaves_the_old_tables(clouds: Clouds, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # A file system of a few kilobytes needs rights that tests do not have.
    monkeypatch.setattr(os, "fsync", full)
    report = clouds.refresh()
    assert "No space left on device; the tables in use stay (free space on the disk" in report.failed[0].error
    assert clouds.price("big", "east") == 80
    assert os.listdir(clouds.folder / ".versions" / "north") == []
