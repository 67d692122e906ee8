"""A file that can't grow or is read-only: the error says so, nothing is lost, and work continues when it is writable again."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.ledger import scenarios


@pytest.fixture(name="folder")
def _folder() -> Iterator[Path]:
    """A folder outside of the home of root, so that another user can read it."""
    folder = Path(tempfile.mkdtemp(prefix="ledger-"))
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


def test_with_a_full_disk_no_attempt_is_opened_until_there_is_room(folder: Path) -> None:
    answer = scenarios.run("no_room", f"sqlite:///{folder}/state.db")
    assert answer["written"] > 10
    assert "nothing is launched that can't be recorded first" in answer["message"]
    assert answer["is_refused"]
    assert answer["readable"] == ["c-1", answer["written"]]
    assert answer["afterwards"] == answer["written"] + 1
    assert answer["check"] == [["ok"]]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_the_error_for_a_read_only_ledger_names_the_file_and_what_to_do(folder: Path, what: str) -> None:
    answer = scenarios.run("read_only", f"sqlite:///{folder}/state.db", what)
    assert str(folder / "state.db") in answer["write"]
    assert "change the permissions, or set another `state`" in answer["write"]
    assert answer["read"] == "c-1"
    # Once for each of the two times that it was opened.
    assert len(answer["logged"]) == 2
    assert answer["logged"][0].startswith(f"ledger {folder}/state.db: can't be written (")
