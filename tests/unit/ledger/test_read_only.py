"""A ledger in a file that can't be written is read as completely as its disk allows, and written again once it can be."""

import logging
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from multicompute import errors
from multicompute.ledger import Ledger, read_only, schema
from tests.cli.disks import can_mount, run_on
from tests.unit.ledger.ledger_records import cluster, event

FIXTURES = sorted(Path(__file__).parent.glob("fixtures/version*.sql"))
READ = """
import sys
from multicompute.ledger import Ledger
ledger = Ledger("sqlite:///" + sys.argv[1])
print([each.message for each in ledger.events(ledger.find("train").id)])
"""


@pytest.fixture
def engine() -> str:
    return "sqlite"


def killed_writer(folder: Path) -> Path:
    """Make a ledger whose last events are in the write-ahead log only, as after a process was killed."""
    script = f"""
import os
from multicompute.ledger import Ledger
from tests.unit.ledger.ledger_records import cluster, event
ledger = Ledger("sqlite:///{folder}/state.db")
ledger.claim(cluster())
ledger.append(event(message="first"))
ledger._database._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
ledger.append(event(message="second"))
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[3])
    return folder / "state.db"


def read(file: Path, disk: str) -> tuple[str, str]:
    """Return what a process on such a disk reads, and what it logs."""
    done = run_on(disk, file.parent, [sys.executable, "-c", READ, str(file)], environment={})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


@pytest.mark.skipif(not can_mount(), reason="needs root, to mount disks")
@pytest.mark.parametrize("disk", ["full", "read-only folder", "read-only file"])
@pytest.mark.parametrize("lost", [(), ("-shm",)], ids=["all files", "no index"])
def test_the_log_of_a_killed_process_is_read(tmp_path: Path, disk: str, lost: tuple[str, ...]) -> None:
    file = killed_writer(tmp_path)
    for suffix in lost:
        Path(f"{file}{suffix}").unlink()
    seen, logged = read(file, disk)
    assert seen == "['first', 'second']"
    # On a full disk, a ledger whose index exists is read as it is, and nothing is known of its disk.
    assert logged.count("can't be written (") == (disk != "full" or bool(lost))


@pytest.mark.skipif(not can_mount(), reason="needs root, to mount disks")
@pytest.mark.parametrize("disk", ["full", "read-only folder", "read-only file"])
def test_a_lost_log_costs_only_what_was_in_it(tmp_path: Path, disk: str) -> None:
    file = killed_writer(tmp_path)
    for suffix in ("-wal", "-shm"):
        Path(f"{file}{suffix}").unlink()
    assert read(file, disk)[0] == "['first']"


@pytest.mark.skipif(not can_mount(), reason="needs root, to mount disks")
@pytest.mark.parametrize("disk", ["full", "read-only folder", "read-only file"])
@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.stem)
def test_an_earlier_version_is_upgraded_in_memory(tmp_path: Path, disk: str, fixture: Path) -> None:
    file = tmp_path / "state.db"
    old = sqlite3.connect(file)
    old.executescript(fixture.read_text())
    version = int(fixture.stem.removeprefix("version"))
    old.execute(f"PRAGMA user_version = {version}")
    old.execute("PRAGMA journal_mode = WAL")
    old.close()
    script = (
        "import sys; from multicompute.ledger import Ledger; ledger = Ledger('sqlite:///' + sys.argv[1]); "
        "print([len(ledger.nodes(each.id)) for each in ledger.clusters(include_ended=True)])"
    )
    done = run_on(disk, tmp_path, [sys.executable, "-c", script, str(file)], environment={})
    assert done.returncode == 0, done.stderr
    assert "1" in done.stdout
    unchanged = sqlite3.connect(file)
    assert unchanged.execute("PRAGMA user_version").fetchone()[0] == version
    unchanged.close()


def test_a_log_that_cannot_be_copied_is_left_out_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = killed_writer(tmp_path)

    def full(file: Path) -> sqlite3.Connection:
        raise OSError(28, "No space left on device")

    # Every disk of the machine is full, which a test can't arrange.
    monkeypatch.setattr(read_only, "_copied", full)
    connection, age = read_only._in_memory(file, None)
    assert age == "the latest changes may be missing"
    assert [row["message"] for row in connection.execute("SELECT message FROM events")] == ["first"]
    connection.close()


def test_it_is_written_again_as_soon_as_it_can_be(
    file: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.claim(cluster())
    # Root may write what its mode forbids, so the file system's answer is replaced.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with caplog.at_level(logging.WARNING, "multicompute"):
        other = Ledger(f"sqlite:///{file}")
    assert caplog.text.count("can't be written (the file is readonly)") == 1
    with pytest.raises(errors.LedgerError, match="change the permissions"):
        other.append(event())
    # What another process writes is seen.
    ledger.append(event(message="seen"))
    assert other.events("c-1")[-1].message == "seen"
    monkeypatch.undo()
    other.append(event(message="written"))
    assert ledger.events("c-1")[-1].message == "written"
    other.close()


def test_a_damaged_or_newer_ledger_is_not_read_at_all(file: Path, ledger: Ledger) -> None:
    ledger.close()
    raw = sqlite3.connect(file)
    raw.execute(f"PRAGMA user_version = {len(schema.UPGRADES) + 1}")
    raw.close()
    with pytest.raises(errors.LedgerError, match="newer version"):
        Ledger(f"sqlite:///{file}")


@pytest.mark.skipif(not can_mount(), reason="needs root, to mount disks")
@pytest.mark.parametrize("disk", ["full", "read-only folder"])
def test_a_ledger_that_cannot_be_created_is_an_error(tmp_path: Path, disk: str) -> None:
    done = run_on(disk, tmp_path, [sys.executable, "-c", READ, str(tmp_path / "state.db")], environment={})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"multicompute.errors.LedgerError: ledger {tmp_path}/state.db: can't"
    )
