"""The picture of the options."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from multicompute.errors import ConfigError, SpecError
from multicompute.sizing import JobLimits, JobOptions, Training, optimise, plot
from tests.unit.sizing.machines import machine

MACHINES = [
    machine("h100", 8, price=55.0, fabric="fast", max_nodes=40),
    machine("a100-80gb", 8, price=27.0, fabric="fast", max_nodes=40),
]


@pytest.fixture(scope="module")
def plan() -> JobOptions:
    return optimise(Training(params=7e9, tokens=1e12), MACHINES, JobLimits(deadline=timedelta(days=60)))


@pytest.mark.parametrize(("name", "start"), [("options.png", b"\x89PNG"), ("options.SVG", b"<?xml")])
def test_the_ending_of_the_file_sets_the_format(plan: JobOptions, name: str, start: bytes, tmp_path: Path) -> None:
    written = plot(plan, tmp_path / name)
    assert written == tmp_path / name
    assert written.read_bytes().startswith(start)


def test_the_picture_names_the_accelerators_and_the_axes(plan: JobOptions, tmp_path: Path) -> None:
    text = plot(plan, tmp_path / "options.svg").read_text()
    words = ["h100", "a100-80gb", "deadline", "cost of the complete job", "training of 7B parameters on 1,000B tokens"]
    fastest = plan.options[plan.pareto[0]]
    words.append(f"{fastest.nodes} x {fastest.machine.offer.instance.name}")
    for word in words:
        assert f"<!-- {word} -->" in text


def test_a_file_that_can_not_be_written_is_named(plan: JobOptions, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="missing/options.png.*: can't be written: No such file or directory"):
        plot(plan, tmp_path / "missing" / "options.png")


def test_a_plan_draws_itself_and_writes_the_file_if_it_is_given_one(plan: JobOptions, tmp_path: Path) -> None:
    picture = plan.plot()
    assert picture.axes[0].get_xlabel() == "hours"
    # What a notebook shows.
    assert picture._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]  # declared as matplotlib's own type
    plan.plot(tmp_path / "options.svg")
    assert (tmp_path / "options.svg").exists()


def test_another_ending_is_refused(plan: JobOptions, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="must end in .png or .svg"):
        plot(plan, tmp_path / "options.pdf")


def test_a_plan_without_options_has_no_picture(tmp_path: Path) -> None:
    none = optimise(Training(params=7e9, tokens=1e12), MACHINES, JobLimits(deadline=timedelta(seconds=1)))
    with pytest.raises(SpecError, match="no option to draw"):
        plot(none, tmp_path / "options.png")


def test_without_matplotlib_the_extra_is_named(
    plan: JobOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # None in sys.modules is how Python itself says that a module can't be imported.
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "multicompute.sizing.picture", raising=False)
    with pytest.raises(ConfigError, match=r"pip install \"multicompute\[plot\]\""):
        plot(plan, tmp_path / "options.png")


def test_sizing_loads_no_drawing_library_and_the_package_no_sizing(tmp_path: Path) -> None:
    script = (
        "import multicompute, sys; from multicompute import Cluster; print([m for m in sys.modules if 'sizing' in m]); "
    )
    script += "import multicompute.sizing; print([m for m in sys.modules if m.startswith('matplotlib')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["[]", "[]"]
