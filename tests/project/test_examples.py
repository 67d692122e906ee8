"""Run every example, as a new user would."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.remote.hosts import missing

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CHANGING = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d|h100-64-\w+|i-\w{17}|172[.\d]+")
"""Text that differs in every run: expiry, generated name, machines."""
RUN = re.compile(r"\nRun on all nodes:\n((?:  .*\n)+)")
"""What the nodes wrote; it depends on whether sshd is installed."""


def run(command: list[str], folder: Path) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_quickstart_shows_all_steps_from_plan_to_teardown(tmp_path: Path) -> None:
    shown = run([sys.executable, str(EXAMPLES / "quickstart.py")], tmp_path)
    assert "64 x h100" in shown
    for cloud in ("aws", "azure", "gcp"):
        assert re.search(rf"^  {cloud} .*\$[\d,.]+/h", shown, re.MULTILINE)
    assert "(not configured)" in shown
    # There was no capacity in the first zone; the error is shown, and another zone is used.
    assert "InsufficientInstanceCapacity" in shown
    assert len(re.findall(r"^  rank \d", shown, re.MULTILINE)) == 8
    assert "\nLeft in the cloud: nothing\n" in shown
    # Each node of the local cloud has a shell where sshd is installed.
    ran = RUN.search(shown)
    assert ran is not None
    lines = [f"  [{rank}] rank {rank} of 8 has 8 accelerators" for rank in range(8)]
    assert ran[1].splitlines() == lines if not missing() else ran[1].startswith("  nothing: ")
    recorded = (ROOT / "docs" / "images" / "quickstart.txt").read_text().partition("\n")[2]
    assert CHANGING.sub("", RUN.sub("", recorded)) == CHANGING.sub("", RUN.sub("", shown)), "run `make picture`"
    assert RUN.search(recorded)


def test_the_commands_that_the_quickstart_ends_with_get_and_terminate_a_cluster(tmp_path: Path) -> None:
    recorded = (ROOT / "docs" / "images" / "quickstart.txt").read_text()
    commands = re.findall(r"^  (\.venv/bin/multicompute .*)$", recorded, re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["doctor", "up", "nodes", "down"]
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    script = "\n".join(commands)
    shown = run([".venv/bin/multicompute", "local", "--", "bash", "-e", "-c", script], tmp_path)
    assert "first" in shown
    assert "TERMINATED" in shown


def test_the_example_of_a_model_shows_all_steps_from_sizing_to_the_bill(tmp_path: Path) -> None:
    shown = run([sys.executable, str(EXAMPLES / "plan_a_model.py")], tmp_path)
    steps = [part.split()[0] for part in re.split(r"^\d\. ", shown, flags=re.MULTILINE)[1:]]
    assert steps == ["SIZE", "CHOOSE", "REQUEST", "CONFIGURE", "RUN", "WATCH", "ACCOUNT"]
    # Figures have a source, and what was guessed is named; the plan explains itself, and is drawn.
    assert "assumed: guessed from the parameter count: layers, hidden" in shown
    assert re.search(r"^  flops = 9\.65e\+21 FLOP = .*\n.*\n.*source: ", shown, re.MULTILINE)
    assert "\nwhy not fewer:\n" in shown
    assert "\nwhy not other accelerators:\n" in shown
    assert len(re.findall(r"^\* .*\$[\d,]+  on demand", shown, re.MULTILINE)) > 1
    assert "<svg" in (tmp_path / "plan_a_model.svg").read_text()
    # The first candidate has no capacity, and the next one is bought.
    tried = re.findall(r"^  attempt    trying (\d+) x (\S+) on demand in (\w+ \S+) ", shown, re.MULTILINE)
    nodes = int(tried[-1][0])
    assert len(tried) == 2
    assert tried[0][2] != tried[1][2]
    # The script gets a layout of all accelerators.
    layout = {name: int(degree) for name, degree in re.findall(r"(data|tensor|pipeline) (\d+)", shown)}
    assert layout["data"] * layout["tensor"] * layout["pipeline"] == nodes * 8
    assert f"--tensor-model-parallel-size {layout['tensor']} --pipeline-model-parallel-size" in shown
    lines = [f"  rank {rank} of {nodes}, 8 accelerators: pretrain.py" for rank in range(nodes)]
    ran = re.search(r"RUN on all nodes at once\n\n((?:  .*\n)+)", shown)
    assert ran is not None
    assert ran[1].splitlines() == lines if not missing() else ran[1].startswith("  nothing: ")
    # A lower speed than planned takes longer and costs more; the bill so far is that of a minute for each node.
    assert "busy for 91 %" in shown
    bill = re.findall(r"^  (the plan|at the speed so far|spent so far) +\$ *([\d,.]+)", shown, re.MULTILINE)
    planned, now, spent = (float(amount.replace(",", "")) for _, amount in bill)
    assert now / planned == pytest.approx(1 / 0.9, rel=0.02)
    assert 0 < spent < planned / 1000
    assert shown.endswith("\nllm-70b is TERMINATED. Left in the clouds: nothing\n")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("test_*.py")), ids=lambda path: path.name)
def test_an_example_of_a_test_passes(path: Path, tmp_path: Path) -> None:
    shown = run([sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", str(path)], tmp_path)
    assert " passed" in shown


def test_no_example_is_left_out() -> None:
    shown = {"quickstart.py", "plan_a_model.py", "my_pipeline.py", "train.py"} | {
        path.name for path in EXAMPLES.glob("test_*.py")
    }
    assert {path.name for path in EXAMPLES.glob("*.py")} == shown


def test_an_example_for_a_scheduler_is_run_by_the_tests_of_its_integration() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "integrations").rglob("*.py"))
    schedulers = [path for path in EXAMPLES.glob("*/*.py") if path.parent.name != "fourth_cloud"]
    assert [path.name for path in schedulers if not re.search(rf"\b{path.stem}\b", tests)] == []
