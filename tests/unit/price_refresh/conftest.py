"""Two clouds with small tables and scripted price interfaces, in the session that the public calls use."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from multicompute.catalog import CloudReport
from multicompute.catalog import refresh as refresh_prices
from multicompute.config import Config, load
from multicompute.session import Session, use_session
from multicompute.testing import FakeClock, FakeProvider
from tests.unit.price_refresh.scripted_feed import FeedPlugin, ScriptedFeed, write_tables

START = datetime(2026, 11, 29, 12, tzinfo=UTC)


@dataclass
class Clouds:
    """The fake clouds `north` and `south`, which have the same tables."""

    clock: FakeClock
    session: Session
    north: ScriptedFeed
    south: ScriptedFeed
    plugins: dict[str, FeedPlugin]
    data: Path

    @property
    def folder(self) -> Path:
        """The folder of the refreshed tables."""
        return self.data / "multicompute" / "catalog"

    def refresh(self, **arguments: object) -> CloudReport:
        """Refresh `north`."""
        return refresh_prices(clouds=["north"], **arguments).clouds["north"]  # type: ignore[arg-type]

    def price(
        self, name: str, region: str, purchase: str = "on_demand", *, zone: str = "", shard: str = "h100"
    ) -> float:
        """Return the price that a plan would use in `north`; 0 if nothing is sold."""
        found = [
            line.quote.hourly_cost
            for line in self.session.catalog.listings(shard, provider="north")
            if (line.instance.name, line.region.name, line.purchase) == (name, region, purchase)
            and (not zone or not line.zones or zone in line.zones)
        ]
        assert len(set(found)) <= 1
        return found[0] if found else 0.0

    def next_day(self, days: int = 1) -> None:
        self.clock.advance(timedelta(days=days))


def config_of(data: Path, **changes: str) -> Config:
    """Return a configuration whose data folder is `data`."""
    variables = {"XDG_DATA_HOME": str(data), "HOME": str(data), "MULTICOMPUTE_STATE": f"sqlite:///{data}/state.db"}
    return load(
        {**variables, **{f"MULTICOMPUTE_{key.upper()}": value for key, value in changes.items()}}, with_file=False
    )


@pytest.fixture
def clouds(tmp_path: Path) -> Iterator[Clouds]:
    clock = FakeClock(START)
    feeds = {name: ScriptedFeed(clock) for name in ("north", "south")}
    for feed in feeds.values():
        feed.sell_as_in_the_tables()
    plugins = {
        name: FeedPlugin(name, write_tables(tmp_path / "packaged" / name), FakeProvider(name, clock=clock), feed)
        for name, feed in feeds.items()
    }
    session = Session(config=config_of(tmp_path / "data"), plugins=plugins, clock=clock, random=Random(0))
    with use_session(session):
        yield Clouds(clock, session, feeds["north"], feeds["south"], plugins, tmp_path / "data")
    session.close()
