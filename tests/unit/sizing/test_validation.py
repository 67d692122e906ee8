"""The predictions against published runs and documented fits."""

from types import ModuleType

import pytest

from tests.project.test_docs import DOCS, OUTDATED, tool


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    return tool("write_sizing")


def test_accelerator_hours_are_within_the_tolerance_at_the_published_mfu(writer: ModuleType) -> None:
    runs = [run for run in writer.runs() if run.tolerance is not None]
    assert len(runs) >= 10
    far = {
        run.row["model"]: run.difference
        for run in runs
        if run.difference is None or abs(run.difference) > run.tolerance
    }
    assert far == {}


def test_the_published_mfu_is_inside_of_the_default_range(writer: ModuleType) -> None:
    runs = [run for run in writer.runs() if run.mfu is not None]
    outside = {run.row["model"]: run.mfu_range for run in runs if not run.mfu_range[0] <= run.mfu <= run.mfu_range[2]}
    assert outside == {}


def test_the_smallest_count_agrees_with_every_documented_fit(writer: ModuleType) -> None:
    fits = list(writer.fits())
    assert sum(fit.row["hard"] == "yes" for fit in fits) >= 15
    assert [fit.row["id"] for fit in fits if not fit.agrees] == []


def test_the_page_is_up_to_date(writer: ModuleType) -> None:
    text = (DOCS / "sizing.md").read_text(encoding="utf-8")
    assert writer.page(text) == text, OUTDATED
