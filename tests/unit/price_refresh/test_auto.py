"""Plans that refresh old prices first, as the configuration asks."""

import time
from datetime import timedelta

import pytest

from multicompute import Cluster
from multicompute.errors import ProviderError, SpecError
from multicompute.plan import Plan
from multicompute.price_refresh import auto
from tests.unit.price_refresh.conftest import Clouds, config_of

WANTED = {"gpus": 8, "type": "h100", "regions": ["north:east"], "interconnect": "any"}


def configure(clouds: Clouds, **changes: str) -> None:
    clouds.session.config = config_of(clouds.data, **changes)


def plan(**changes: object) -> Plan:
    return Cluster.plan(**{**WANTED, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{}, {"auto_refresh": "off"}, {"auto_refresh": "off", "max_price_age": "1d"}])
def test_without_the_setting_a_plan_asks_nothing(clouds: Clouds, settings: dict[str, str]) -> None:
    configure(clouds, **settings)
    assert plan().best.is_stale
    assert clouds.north.queries == []


@pytest.mark.parametrize("settings", [{"auto_refresh": "daily"}, {"max_price_age": "12h"}, {"max_price_age": "7d"}])
def test_a_plan_on_old_prices_refreshes_what_it_needs_and_nothing_else(
    clouds: Clouds, settings: dict[str, str]
) -> None:
    configure(clouds, **settings)
    clouds.north.sold["huge", "h100", "east", "on_demand"] = {"": 70}
    found = plan()
    assert (found.best.instance_type, found.best.hourly_cost, found.best.is_stale) == ("huge", 70, False)
    (query,) = clouds.north.queries
    assert (list(query.regions), query.accelerators) == (["east"], frozenset({"h100"}))
    assert clouds.south.queries == []
    assert plan().best.hourly_cost == 70
    assert len(clouds.north.queries) == 1


def test_prices_are_refreshed_once_a_day(clouds: Clouds) -> None:
    configure(clouds, auto_refresh="daily")
    for hours, queries in ((0, 1), (6, 1), (12, 1), (6, 2), (23, 2), (1, 3)):
        clouds.clock.advance(timedelta(hours=hours, seconds=1))
        plan()
        assert len(clouds.north.queries) == queries, hours


def test_prices_that_are_younger_than_max_price_age_are_used(clouds: Clouds) -> None:
    configure(clouds, max_price_age="3d")
    plan()
    clouds.next_day(2)
    assert not plan().best.is_stale
    assert len(clouds.north.queries) == 1
    clouds.next_day(2)
    plan()
    assert len(clouds.north.queries) == 2


def test_another_place_or_type_is_refreshed_when_a_plan_needs_it(clouds: Clouds) -> None:
    configure(clouds, auto_refresh="daily")
    plan()
    plan(regions=["north:west"])
    plan(gpus=1, type="t4")
    asked = [(list(query.regions), set(query.accelerators or ())) for query in clouds.north.queries]
    assert asked == [(["east"], {"h100"}), (["west"], {"h100"}), (["east"], {"t4"})]


def test_without_an_answer_the_plan_continues_with_stale_prices_and_does_not_ask_every_time(clouds: Clouds) -> None:
    configure(clouds, auto_refresh="daily")
    clouds.north.error = ProviderError("the network is down")
    for _ in range(3):
        found = plan()
        assert found.best.is_stale
        assert any(
            "north: prices could not be refreshed (the network is down); tried again after 13:00 UTC" in note
            for note in found.notes
        )
    assert len(clouds.north.queries) == 1
    clouds.north.error = None
    clouds.clock.advance(timedelta(minutes=61))
    assert not plan().best.is_stale
    assert len(clouds.north.queries) == 2


def test_a_plan_does_not_wait_for_a_vendor_that_is_slow(clouds: Clouds, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(clouds, auto_refresh="daily")
    # The time limit is in real time, which no fake clock has.
    monkeypatch.setattr(auto, "_DEADLINE", timedelta(seconds=0.3))
    clouds.north.before_answer = lambda: time.sleep(1.5)
    started = time.monotonic()
    assert plan().best.is_stale
    assert time.monotonic() - started < 1.4
    time.sleep(1.6)
    # What comes too late is dropped.
    assert clouds.price("big", "east") == 80
    assert not (clouds.folder / "north").exists()


def test_a_request_refreshes_old_prices_too(clouds: Clouds) -> None:
    configure(clouds, auto_refresh="daily")
    clouds.north.sold["huge", "h100", "east", "on_demand"] = {"": 70}
    with Cluster.request(**WANTED) as cluster:  # type: ignore[arg-type]
        assert cluster.nodes[0].instance_type == "huge"
    assert len(clouds.north.queries) == 1


def test_tables_of_the_configuration_are_never_refreshed(clouds: Clouds) -> None:
    configure(clouds, auto_refresh="daily", catalog=str(clouds.data.parent / "packaged"))
    plan()
    assert clouds.north.queries == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"auto_refresh": "weekly"}, "auto_refresh"),
        ({"max_price_age": "soon"}, "max_price_age"),
        ({"max_price_age": "0h"}, "max_price_age"),
    ],
)
def test_wrong_settings_are_refused(clouds: Clouds, settings: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        configure(clouds, **settings)
