"""A file that can't grow, or can't be written at all: it is said, nothing is lost, and work goes on when it can."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = ("-m", "tests.unit.ledger.forked")


@pytest.fixture(name="folder")
def _folder() -> Iterator[Path]:
    """A folder that is not inside one of root's, so that another user may look into it."""
    folder = Path(tempfile.mkdtemp(prefix="ledger-"))
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


def run(scenario: str, folder: Path, argument: str) -> Any:
    command = [sys.executable, *PROGRAM, scenario, f"sqlite:///{folder}/state.db", argument]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_a_disk_without_room_is_said_and_no_attempt_goes_out_until_there_is_room(folder: Path) -> None:
    answer = run("no_room", folder, "")
    assert answer["written"] > 10
    assert "nothing is launched that can't be written down first" in answer["said"]
    assert answer["refused"]
    assert answer["still"] == ["c-1", answer["written"]]
    assert answer["again"] == answer["written"] + 1
    assert answer["check"] == [["ok"]]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_ledger_that_can_not_be_written_says_which_file_and_what_to_do(folder: Path, what: str) -> None:
    answer = run("read_only", folder, what)
    assert str(folder / "state.db") in answer["write"]
    assert "give yourself the right, or set another `state`" in answer["write"]
