"""A refresh that is killed at any file operation leaves the old or the new tables, and the next refresh works."""

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from multicompute.catalog import Catalog
from multicompute.catalog.checks import problems
from multicompute.catalog.location import in_use
from tests.unit.price_refresh.scripted_feed import write_tables

ROOT = Path(__file__).parents[3]
SAMPLES = int(os.environ.get("CAMPAIGN_EXAMPLES", "12"))


def run(tmp_path: Path, *, price: float, day: int, limit: int = 0) -> tuple[int, str]:
    script = Path(__file__).with_name("killed_refresh.py")
    command = [sys.executable, script, tmp_path / "packaged", tmp_path / "data", str(price), str(day), str(limit)]
    environment = {"PATH": "", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    done = subprocess.run([str(each) for each in command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 9), done.stderr
    return done.returncode, done.stdout


def prices(tmp_path: Path) -> set[float]:
    """Return the prices of `big` on demand in the tables in use, which must be complete."""
    found = in_use(str(tmp_path / "data/multicompute/catalog"), "north")
    path = Path(found) if found else tmp_path / "packaged"
    assert list(problems("north", path, accelerators={"h100", "l4", "t4"}, today=date(2026, 11, 30))) == []
    lines = Catalog({"north": path}).listings("h100")
    return {x.quote.hourly_cost for x in lines if x.instance.name == "big" and x.purchase == "on_demand"}


@pytest.mark.timeout(600)
def test_a_kill_at_any_moment_leaves_complete_tables(tmp_path: Path) -> None:
    write_tables(tmp_path / "packaged")
    assert prices(tmp_path) == {80, 90}
    _, count = run(tmp_path, price=85, day=27)
    assert prices(tmp_path) == {85}
    before, seen = {85.0}, set[frozenset[float]]()
    total = int(count)
    points = (
        range(1, total + 1)
        if total <= SAMPLES
        else sorted({1 + n * (total - 1) // (SAMPLES - 1) for n in range(SAMPLES)})
    )
    for number, point in enumerate(points):
        # The prices of the killed process are others, so it is known which tables it left.
        price = 86.0 + number
        status, _ = run(tmp_path, price=price, day=28, limit=point)
        found = prices(tmp_path)
        assert found in (before, {price}), f"killed at operation {point} of {total}"
        assert status == 9 or found == {price}
        before = found
        seen.add(frozenset(found))
    run(tmp_path, price=70, day=29)
    assert prices(tmp_path) == {70}
    versions = tmp_path / "data/multicompute/catalog/.versions/north"
    assert [name for name in os.listdir(versions) if name.startswith("unfinished")] == []
    assert {name for name in os.listdir(versions.parents[1])} == {"north", ".versions", ".locks"}
