"""What README and docs show is run, as it is written there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "testing.md"]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ELSEWHERE = re.compile(r"make \w+")
"""Commands that stand for a whole run of their own: .ci/run has them, and here they would run this very test."""


def blocks(language: str) -> list[tuple[str, str]]:
    """Every fenced block of a language: where it stands, and its text."""
    return [
        (f"{page.name}:{page.read_text()[: match.start()].count(chr(10)) + 1}", match[2])
        for page in PAGES
        for match in FENCE.finditer(page.read_text())
        if match[1] == language
    ]


def run(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run from an empty folder, with an empty home, and with this environment's scripts first on the path."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=110, check=False
    )


@pytest.mark.parametrize(("place", "text"), blocks("bash"), ids=[place for place, _ in blocks("bash")])
def test_a_command_of_the_docs_works_as_written(place: str, text: str, tmp_path: Path) -> None:
    if all(ELSEWHERE.match(line) for line in text.splitlines()):
        targets = {line.split()[1] for line in text.splitlines()}
        rules = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert targets <= rules
        return
    done = run(["bash", "-euo", "pipefail", "-c", text], tmp_path)
    assert done.returncode == 0, f"{place}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(("place", "text"), blocks("python"), ids=[place for place, _ in blocks("python")])
def test_code_of_the_docs_works_as_written(place: str, text: str, tmp_path: Path) -> None:
    if "def test_" in text:
        (tmp_path / "test_shown.py").write_text(text)
        command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(tmp_path), "test_shown.py"]
    else:
        (tmp_path / "shown.py").write_text(text)
        command = [sys.executable, "shown.py"]
        if "local_clouds" not in text:
            command = ["multicompute", "local", "--", *command]
    done = run(command, tmp_path)
    assert done.returncode == 0, f"{place}\n{done.stdout}\n{done.stderr}"


def test_the_pages_have_blocks_to_run() -> None:
    assert len(blocks("bash")) >= 4
    assert len(blocks("python")) >= 3


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.name
)
def test_a_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
