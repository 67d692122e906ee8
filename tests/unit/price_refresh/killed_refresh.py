"""Refreshes scripted prices in a process that ends at its n-th file operation, for test_killed.

    python killed_refresh.py PACKAGED DATA PRICE DAY OPERATION

Prints the number of file operations below DATA, if it was not killed before.
"""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from multicompute.catalog import refresh
from multicompute.session import Session, use_session
from multicompute.testing import FakeClock, FakeProvider
from tests.unit.price_refresh.conftest import config_of
from tests.unit.price_refresh.scripted_feed import FeedPlugin, ScriptedFeed

OPERATIONS = {"open", "os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "os.link", "shutil.rmtree"}


def main(packaged: str, data: str, price: str, day: str, limit: str) -> None:
    clock = FakeClock(datetime(2026, 11, int(day), 12, tzinfo=UTC))
    feed = ScriptedFeed(clock)
    feed.sell_as_in_the_tables()
    for key, zones in feed.sold.items():
        if key[:2] == ("big", "h100") and key[3] == "on_demand":
            feed.sold[key] = dict.fromkeys(zones, float(price))
    plugin = FeedPlugin("north", Path(packaged), FakeProvider("north", clock=clock), feed)
    session = Session(config=config_of(Path(data)), plugins={"north": plugin}, clock=clock, random=Random(int(day)))
    count = 0

    def kill(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event in OPERATIONS and any(str(each).startswith(data) for each in arguments[:2]):
            count += 1
            if count == int(limit):
                # Like SIGKILL: nothing is flushed, and no handler runs.
                os._exit(9)

    sys.addaudithook(kill)
    with use_session(session):
        report = refresh()
    assert report.ok, list(report.errors)
    sys.stdout.write(f"{count}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
