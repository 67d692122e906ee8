"""Run every `bash` and `python` block in the README and in docs/, as it is written."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import pytest

from multicompute.config import load
from multicompute.plugins import discover
from multicompute.session import Session
from multicompute.sizing.text import HEADERS, LEGEND
from multicompute.testing import local_clouds
from multicompute_static._inventory import read_inventory

ROOT = Path(__file__).parents[2]
# This page shows parts of an example; tests/project/test_fourth_cloud.py compares them.
ELSEWHERE_TESTED = {"write-a-provider.md"}
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name not in ELSEWHERE_TESTED),
]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ELSEWHERE = re.compile(r"make \w+")
"""Commands that are not run here, because .ci/run runs them, and `make test` would run this test again."""
ENGINES = re.compile(r"cluster\.(torchrun|jax|mpirun|ray)\(")
"""Code that needs an engine on the nodes. tests/remote/engines runs it on hosts that have one."""

MACHINES = re.compile(r'clouds=\["static"\]|^multicompute hosts\b', re.MULTILINE)
"""What needs machines of the user. tests/providers/static/test_how_to.py runs it on some."""


def blocks(language: str) -> list[tuple[str, str]]:
    """Return the fenced blocks of a language, each with its page and line."""
    return [
        (f"{page.relative_to(ROOT)}:{page.read_text()[: match.start()].count(chr(10)) + 1}", match[2])
        for page in PAGES
        for match in FENCE.finditer(page.read_text())
        if match[1] == language
    ]


def all_blocks() -> list[tuple[str, str]]:
    """Return the language and the text of every fenced block."""
    return [(match[1], match[2]) for page in PAGES for match in FENCE.finditer(page.read_text())]


def run(
    command: list[str], folder: Path, variables: Mapping[str, str] = MappingProxyType({})
) -> "subprocess.CompletedProcess[str]":
    """Run a command in an empty home folder, with this environment's scripts first on the path."""
    environment = {
        **variables,
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
    if MACHINES.search(text):
        assert place.startswith("docs/how-to/own-machines.md")
        return
    done = run(["bash", "-euo", "pipefail", "-c", text], tmp_path)
    assert done.returncode == 0, f"{place}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(("place", "text"), blocks("python"), ids=[place for place, _ in blocks("python")])
def test_code_of_the_docs_works_as_written(place: str, text: str, tmp_path: Path) -> None:
    if ENGINES.search(text):
        assert place.startswith("README.md"), "tests/remote/engines/test_readme.py runs that of the README only"
        assert [name for name in ours(text) if not is_defined(*name)] == []
        return
    if MACHINES.search(text):
        assert place.startswith("docs/how-to/own-machines.md")
        return
    absent = [name for name in imported(text) if find_spec(name.partition(".")[0]) is None]
    if absent:
        # A scheduler with a separate environment, in which its example is run. Here, check only that our names exist.
        assert [name for name in ours(text) if not is_defined(*name)] == []
        return
    if "def test_" in text:
        done = run_as_tests(text, tmp_path)
    elif "local_clouds" in text or "fake_cloud" in text:
        done = run_as_script(text, tmp_path)
    else:
        # As `multicompute local -- python shown.py` does; here, the clouds start in milliseconds.
        with local_clouds() as clouds:
            done = run_as_script(text, tmp_path, clouds.environment)
    assert done.returncode == 0, f"{place}\n{done.stdout}\n{done.stderr}"


def run_as_tests(text: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    (folder / "test_shown.py").write_text(text)
    arguments = ["-q", "-c", os.devnull, "--rootdir", str(folder), "test_shown.py"]
    return run([sys.executable, "-m", "pytest", *arguments], folder)


def run_as_script(
    text: str, folder: Path, variables: Mapping[str, str] = MappingProxyType({})
) -> "subprocess.CompletedProcess[str]":
    (folder / "shown.py").write_text(text)
    return run([sys.executable, "shown.py"], folder, variables)


def imports(text: str) -> Iterator[ast.Import | ast.ImportFrom]:
    return (node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.Import, ast.ImportFrom)))


def imported(text: str) -> list[str]:
    """Return the names of the imported modules."""
    return [
        name
        for node in imports(text)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [item.name for item in node.names])
    ]


def ours(text: str) -> list[tuple[str, str]]:
    """Return the imported modules of this package, with the imported names."""
    return [
        (node.module, item.name)
        for node in imports(text)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("multicompute")
        for item in node.names
    ]


def is_defined(module: str, name: str) -> bool:
    folder = ROOT.joinpath(*module.split("."))
    source = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    return source.exists() and re.search(rf"\b{name}\b", source.read_text()) is not None


@pytest.mark.parametrize(("place", "text"), blocks("toml"), ids=[place for place, _ in blocks("toml")])
def test_a_configuration_in_the_docs_is_valid(place: str, text: str, tmp_path: Path) -> None:
    assert tomllib.loads(text)
    (tmp_path / "config.toml").write_text(text)
    if "[[hosts]]" in text:
        # An inventory, which is a file of its own.
        assert read_inventory(tmp_path / "config.toml")
        return
    config = load({"HOME": str(tmp_path), "MULTICOMPUTE_CONFIG": str(tmp_path / "config.toml")})
    # Every provider reads its settings, and refuses unknown ones.
    assert set(Session(config=config, plugins=discover()).usable) >= set(config.providers)


def test_every_column_and_mark_of_the_options_of_a_workload_is_explained() -> None:
    page = (ROOT / "docs" / "how-to" / "size-a-model.md").read_text()
    section = page.partition("\n## Read the table\n")[2].partition("\n## ")[0]
    assert [name for name in HEADERS if name and f"\n| {name} | " not in section] == []
    assert [mark for mark in LEGEND if mark not in section] == []


def test_the_pages_have_blocks_to_run() -> None:
    assert len(blocks("bash")) >= 4
    assert len(blocks("python")) >= 3
    # Blocks that cannot be run here, such as an installation, are `sh`. There must be few of them.
    assert len(blocks("sh")) < 10
    assert {language for language, _ in all_blocks()} <= {"bash", "python", "toml", "sh", "text"}


@pytest.mark.parametrize(
    "page", [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.name
)
def test_a_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
