"""The predictions against published runs and documented fits."""

from types import ModuleType

import pytest

from multicompute.sizing import size
from tests.project.test_docs import DOCS, OUTDATED, tool


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    return tool("write_sizing")


def test_accelerator_hours_are_within_the_tolerance_at_the_published_mfu(writer: ModuleType) -> None:
    runs = [run for run in writer.runs() if run.tolerance is not None]
    assert len(runs) >= 30
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


def test_the_guess_from_parameters_alone_is_within_the_tolerance_too(writer: ModuleType) -> None:
    runs = [run for run in writer.runs() if run.tolerance is not None]
    far = {
        run.row["model"]: run.guessed_difference
        for run in runs
        if run.guessed_difference is None or abs(run.guessed_difference) > run.tolerance
    }
    assert far == {}


def test_the_published_mfu_is_inside_of_the_range_on_the_published_count(writer: ModuleType) -> None:
    runs = [run for run in writer.runs() if run.mfu is not None and run.row["accelerator_count"]]
    assert len(runs) >= 30
    outside = {}
    for run in runs:
        unknown, count = run.workload.model_copy(update={"mfu": None}), int(run.row["accelerator_count"])
        found = size(unknown, run.row["accelerator"], gpus=count)
        if not (found.fits and found.mfu.low <= run.mfu <= found.mfu.high):
            outside[run.row["model"]] = (found.layout, found.mfu.low, found.mfu.high)
    assert outside == {}


def test_the_published_mfu_is_inside_of_the_range_where_no_count_is_given(writer: ModuleType) -> None:
    runs = [run for run in writer.runs() if run.mfu is not None]
    found = {
        run.row["model"]: size(run.workload.model_copy(update={"mfu": None}), run.row["accelerator"]).mfu
        for run in runs
    }
    assert [
        run.row["model"] for run in runs if not found[run.row["model"]].low <= run.mfu <= found[run.row["model"]].high
    ] == []


def test_the_smallest_count_agrees_with_every_documented_fit(writer: ModuleType) -> None:
    fits = list(writer.fits())
    hard = [fit for fit in fits if fit.row["hard"] == "yes"]
    assert len(hard) >= 65
    assert sum(fit.row["verdict"] == "out_of_memory" for fit in hard) >= 12
    assert [fit.row["id"] for fit in hard if not fit.agrees] == []
    # Limits of a library, not of the memory; their notes say which.
    no_rule = {"falcon-40b-lora-4xa100-40", "bloom-bf16-bs256-8xa100"}
    assert {fit.row["id"] for fit in fits if not fit.agrees} == no_rule
    assert all(fit.row["notes"] for fit in fits if not fit.agrees)


def test_the_page_is_up_to_date(writer: ModuleType) -> None:
    text = (DOCS / "sizing.md").read_text(encoding="utf-8")
    assert writer.page(text) == text, OUTDATED
