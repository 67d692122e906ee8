"""The how-to on own machines, as it is written, on three machines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.test_readme import MACHINES, blocks
from tests.providers.static.machines import Machines

SHOWN = [(place, text) for language in ("bash", "python") for place, text in blocks(language) if MACHINES.search(text)]


@pytest.mark.parametrize(("place", "text"), SHOWN, ids=[place for place, _ in SHOWN])
def test_what_the_how_to_shows_works(place: str, text: str, own: Machines, inventory: Path, tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text(text)
    command = [sys.executable, "shown.py"] if "import" in text else ["bash", "-euo", "pipefail", "-c", text]
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "MULTICOMPUTE_CLOUDS": "static",
        "MULTICOMPUTE_STATIC__INVENTORY": str(inventory),
        "MULTICOMPUTE_STATIC__SSH_CONFIG": "none",
    }
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, f"{place}\n{done.stdout}\n{done.stderr}"
    assert own.id(0) in done.stdout
    assert own.marker(0) is None


def test_the_how_to_has_code_and_commands() -> None:
    assert len(SHOWN) >= 2
