"""Every example is run, as a newcomer would run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(command: list[str], folder: Path) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_quickstart_shows_the_whole_path(tmp_path: Path) -> None:
    shown = run([sys.executable, str(EXAMPLES / "quickstart.py")], tmp_path)
    assert "64 x h100" in shown
    for cloud in ("aws", "azure", "gcp"):
        assert re.search(rf"^  {cloud} .*\$[\d,.]+/h", shown, re.MULTILINE)
    assert "(not configured)" in shown
    # It met a lack of capacity, said so, and went on to another zone.
    assert "InsufficientInstanceCapacity" in shown
    assert len(re.findall(r"^  rank \d", shown, re.MULTILINE)) == 8
    assert shown.rstrip().endswith("Left in the cloud: nothing")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("test_*.py")), ids=lambda path: path.name)
def test_an_example_of_a_test_passes(path: Path, tmp_path: Path) -> None:
    shown = run([sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", str(path)], tmp_path)
    assert " passed" in shown


def test_no_example_is_left_out() -> None:
    shown = {"quickstart.py", "my_pipeline.py"} | {path.name for path in EXAMPLES.glob("test_*.py")}
    assert {path.name for path in EXAMPLES.glob("*.py")} == shown
