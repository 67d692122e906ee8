"""A ledger of any earlier version is upgraded when it is opened, and one of a later version is not changed."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from multicompute import ClusterState, errors
from multicompute.hosts import HostLease, HostNote
from multicompute.ledger import AttemptState, AvailabilityRecord, Ledger, schema
from multicompute.ledger.records import Stop
from multicompute.provider import Account, Availability, PriceChange
from tests.unit.ledger.ledger_records import NOW, attempt, cluster, event, node, outage

FIXTURES = sorted(Path(__file__).parent.glob("fixtures/version*.sql"))
"""Each was written by the version in its name and has one record of each kind."""


class RawDatabase:
    """The database of a ledger, read and written without the ledger."""

    def __init__(self, url: str) -> None:
        self._is_server = url.startswith("postgresql://")
        self._url = url

    def run(self, *statements: str) -> list[Any]:
        rows: list[Any] = []
        if self._is_server:
            with psycopg.connect(self._url, autocommit=True) as connection:
                for statement in statements:
                    cursor = connection.execute(statement.encode())
                    rows = cursor.fetchall() if cursor.description else []
            return rows
        file = Path(self._url.removeprefix("sqlite:///"))
        file.parent.mkdir(parents=True, exist_ok=True)
        opened = sqlite3.connect(file, isolation_level=None)
        for statement in statements:
            rows = opened.execute(statement).fetchall()
        opened.close()
        return rows

    @property
    def version(self) -> int:
        return int(self.run("SELECT version FROM ledger_version" if self._is_server else "PRAGMA user_version")[0][0])

    @version.setter
    def version(self, number: int) -> None:
        self.run(
            f"UPDATE ledger_version SET version = {number}" if self._is_server else f"PRAGMA user_version = {number}"
        )

    def load(self, fixture: Path) -> None:
        number = fixture.stem.removeprefix("version")
        mark = [f"PRAGMA user_version = {number}"]
        if self._is_server:
            mark = [
                "CREATE TABLE ledger_version (version INTEGER NOT NULL)",
                f"INSERT INTO ledger_version VALUES ({number})",
            ]
        self.run(*(part for part in fixture.read_text(encoding="utf-8").split(";\n") if part.strip()), *mark)


@pytest.fixture(name="raw")
def _raw(url: str) -> RawDatabase:
    return RawDatabase(url)


@pytest.fixture(name="upgrades")
def _upgrades(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Add two future versions: one adds a column that must be filled, the other a table."""
    later = (
        (
            "ALTER TABLE clusters ADD COLUMN colour TEXT NOT NULL DEFAULT ''",
            "UPDATE clusters SET colour = 'of ' || name",
        ),
        ("CREATE TABLE colours (name TEXT PRIMARY KEY)", "INSERT INTO colours SELECT DISTINCT colour FROM clusters"),
    )
    # Patched, because a released version must not be changed.
    monkeypatch.setattr(schema, "UPGRADES", (*schema.UPGRADES, *later))
    yield


def test_there_is_a_fixture_of_every_version() -> None:
    assert [path.stem for path in FIXTURES] == [f"version{number + 1}" for number in range(len(schema.UPGRADES))]


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.stem)
def test_a_ledger_of_an_earlier_version_is_read_correctly(raw: RawDatabase, url: str, fixture: Path) -> None:
    raw.load(fixture)
    ledger = Ledger(url)
    assert raw.version == len(schema.UPGRADES)
    ended, live = ledger.clusters(include_ended=True)
    assert (ended.id, ended.state, ended.reason, ended.ended_at) == ("c-0", ClusterState.FAILED, "no capacity", NOW)
    assert (live.id, live.state, live.spec) == ("c-1", ClusterState.PROVISIONING, {"gpus": 8})
    (found,) = ledger.attempts("c-1")
    assert (found.state, found.parts) == (AttemptState.LAUNCHED, attempt().parts)
    is_first = fixture.stem == "version1"
    assert found.account == (None if is_first else Account(("somecloud:1",), "Somecloud account 1"))
    stops = () if is_first else (Stop(NOW, NOW + timedelta(minutes=30)),)
    is_priced = fixture.stem not in ("version1", "version2")
    listed = 68.8 if fixture.stem in ("version4", "version5") else None
    prices = (PriceChange(NOW, 60.0), PriceChange(NOW + timedelta(minutes=30), 55.04, listed)) if is_priced else ()
    priced_at = NOW + timedelta(minutes=40) if is_priced else None
    expected = replace(node(0, hourly_cost=55.04), stops=stops, prices=prices, priced_at=priced_at)
    expected = replace(expected, list_hourly_cost=listed)
    assert ledger.nodes("c-1") == [expected]
    usable = Availability("north-1", zones={"n1-az1": "north-1a"}, offered={"big.8x": ("north-1a",)})
    known = [AvailabilityRecord("somecloud", "somecloud:1", NOW, usable)]
    assert ledger.availability(since=NOW) == (known if is_priced else [])
    assert ledger.events("c-1") == [event("attempt", "trying; the first"), event("launched")]
    assert ledger.outages(now=NOW) == [outage()]
    has_hosts = fixture.stem == "version5"
    lease = HostLease("10.0.0.11", "lab-1", "8xh100", "token-1", {"team": "nlp"}, NOW, "192.168.0.11", is_marked=True)
    assert ledger.host_book("own").leases() == ((lease,) if has_hosts else ())
    note = HostNote("10.0.0.12", "ssh-ed25519 AAAA", NOW + timedelta(minutes=10), "has 7 accelerators")
    assert ledger.host_book("own").notes() == ({note.host: note} if has_hosts else {})
    assert ledger.take_lease("c-1", "other", now=NOW, length=NOW - NOW) == "me"
    # It can also be written.
    assert ledger.open_attempt(attempt(2), event())
    ledger.close()


def test_each_upgrade_runs_once_and_in_order(raw: RawDatabase, url: str, upgrades: None) -> None:
    raw.load(FIXTURES[0])
    for _ in range(2):
        Ledger(url).close()
        assert raw.version == len(schema.UPGRADES)
        assert raw.run("SELECT name FROM colours ORDER BY name") == [("of old",), ("of train",)]


def test_an_upgrade_that_fails_leaves_the_ledger_as_it_was(
    raw: RawDatabase, url: str, upgrades: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw.load(FIXTURES[0])
    monkeypatch.setattr(schema, "UPGRADES", (*schema.UPGRADES, ("ALTER TABLE nowhere ADD COLUMN x TEXT",)))
    with pytest.raises(errors.LedgerError, match="nowhere"):
        Ledger(url)
    assert raw.version == 1
    monkeypatch.undo()
    ledger = Ledger(url)
    assert ledger.find("train").state is ClusterState.PROVISIONING
    ledger.close()


def test_a_newer_ledger_is_refused_and_not_changed(ledger: Ledger, raw: RawDatabase, url: str) -> None:
    ledger.claim(cluster())
    ledger.close()
    raw.version = len(schema.UPGRADES) + 1
    with pytest.raises(errors.LedgerError, match="newer version") as caught:
        Ledger(url)
    assert "install a newer version" in str(caught.value)
    assert raw.version == len(schema.UPGRADES) + 1
    assert raw.run("SELECT id FROM clusters") == [("c-1",)]
