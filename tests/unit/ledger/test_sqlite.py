"""The ledger in a file: its permissions, when it waits for the disk, and the errors for an unusable file."""

import sqlite3
import stat
from pathlib import Path

import pytest

from multicompute import ClusterState, errors
from multicompute.ledger import Ledger
from tests.unit.ledger.ledger_records import attempt, cluster, event


@pytest.fixture
def engine() -> str:
    return "sqlite"


def test_only_the_owner_can_read_its_file_and_folder(ledger: Ledger, file: Path) -> None:
    ledger.claim(cluster())
    for path in file.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_an_intent_waits_for_the_disk_and_an_event_does_not(ledger: Ledger) -> None:
    def waits() -> bool:
        return int(ledger._database.read("PRAGMA synchronous")[0][0]) == 2  # FULL

    assert ledger._database.read("PRAGMA journal_mode")[0][0] == "wal"
    ledger.append(event())
    assert not waits()
    ledger.claim(cluster())
    assert waits()
    ledger.append(event())
    ledger.open_attempt(attempt(), event())
    assert waits()
    ledger.append(event())
    ledger.record_launch(attempt(), [], event())
    assert waits()
    ledger.append(event())
    ledger.update_cluster("c-1", state=ClusterState.TERMINATING)
    assert waits()


def test_the_error_for_a_file_that_is_not_a_ledger_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(errors.LedgerError, match="not a database") as caught:
        Ledger(f"sqlite:///{tmp_path}/state.db")
    assert "multicompute reconcile" in str(caught.value)


def test_a_damaged_ledger_is_refused(ledger: Ledger, file: Path) -> None:
    for number in range(50):
        ledger.claim(cluster(number, name=f"name-{number}"))
    ledger.close()
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(bytes(content))
    with pytest.raises(errors.LedgerError, match="malformed|not a database"):
        Ledger(f"sqlite:///{file}").clusters()


def test_a_folder_that_can_not_be_created_is_named() -> None:
    with pytest.raises(errors.LedgerError, match="/proc/multicompute") as caught:
        Ledger("sqlite:////proc/multicompute/state.db")
    assert "state" in (caught.value.hint or "")


def test_a_full_disk_is_named_and_keeps_what_was_written(ledger: Ledger, file: Path) -> None:
    ledger.claim(cluster())
    pages = ledger._database.read("PRAGMA page_count")[0][0]
    ledger._database.read(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(errors.LedgerError, match="full") as caught:
        for number in range(1000):
            ledger.append(event(message="x" * 1000 + str(number)))
    assert "free some space" in str(caught.value)
    assert ledger.cluster("c-1").name == "train"
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
