"""Every guarantee in docs/leases.md names a test that exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "leases.md").read_text(encoding="utf-8")
SOURCES = [*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("multicompute/testing/conformance/*.py")]
# What is not guaranteed needs no test.
DISCLAIMED = ("**Not enforced", "**Never terminated", "Stay until `reap` runs")


def guarantees() -> list[tuple[str, str, str]]:
    """Return row, column and cell of the table of guarantees."""
    section = DOCUMENT.partition("## What is guaranteed\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    columns, _, *rows = (
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.count(" | ") >= 3
    )
    return [(row[0], column, cell) for row in rows for column, cell in zip(columns[1:], row[1:], strict=True)]


@pytest.mark.parametrize(("where", "when", "cell"), guarantees())
def test_a_guarantee_names_the_test_that_shows_it(where: str, when: str, cell: str) -> None:
    named = re.findall(r"`(test_\w+)`", cell)
    assert named or cell.startswith(DISCLAIMED), f"{where}, {when}: names no test"
    defined = {name for path in SOURCES for name in re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8"))}
    assert set(named) <= defined


def test_every_cloud_and_every_case_has_its_guarantee() -> None:
    found = {(where.split(",")[0], when) for where, when, _ in guarantees()}
    cases = ("nothing of yours runs", "the node has no network", "both")
    assert found >= {(where, when) for where in ("AWS", "Google Cloud", "Azure") for when in cases}


def test_files_that_the_document_names_are_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", DOCUMENT)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
