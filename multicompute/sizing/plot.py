"""Draws the options of a job: cost against time, with the front. Needs `pip install "multicompute[plot]"`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from multicompute.errors import ConfigError, SpecError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from multicompute.sizing.options import JobOptions

FORMATS: Final = ("png", "svg")
_KINDS: Final = 7
"""Accelerators with a colour of their own; the others are grey, as the eighth colour is."""
_NAMED: Final = 5
"""So many points of the front are named at most."""


def plot(plan: "JobOptions", path: str | Path) -> Path:
    """Write a picture of cost against time for every option, one colour for each accelerator, and the front as a line.

    Args:
        plan: The options.
        path: The file to write; its ending, .png or .svg, sets the format.

    Returns:
        The path that was written.

    Raises:
        SpecError: The ending is another one, the file can't be written, or there is no option to draw.
        ConfigError: Matplotlib is not installed.
    """
    target, kind = check_ending(path)
    # Without a date in it, the same plan gives the same file.
    picture = draw(plan)
    try:
        picture.savefig(target, metadata={"Date": None} if kind == "svg" else None, dpi=150)
    except OSError as error:
        raise SpecError(f"plot={str(path)!r}: can't be written: {error.strerror or error}") from error
    return target


def check_ending(path: str | Path) -> tuple[Path, str]:
    """Return the path of a picture, and its format.

    Raises:
        SpecError: The ending is not that of a format.
    """
    target = Path(path).expanduser()
    kind = target.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise SpecError(f"plot={str(path)!r}: must end in .png or .svg")
    return target, kind


def draw(plan: "JobOptions") -> "Figure":
    """Return the picture as a figure of matplotlib, which notebooks show.

    Raises:
        SpecError: There is no option to draw.
        ConfigError: Matplotlib is not installed.
    """
    if not plan.options:
        raise SpecError("plot: there is no option to draw")
    try:
        from multicompute.sizing.picture import Picture
    except ImportError as error:
        raise ConfigError("matplotlib is not installed", hint='pip install "multicompute[plot]"') from error
    figure = Picture(figsize=(9, 5.5), layout="constrained")
    _draw(figure.add_subplot(), plan)
    return figure


def _draw(axes: Any, plan: "JobOptions") -> None:
    names = list(dict.fromkeys(option.accelerator for option in plan.options))
    for name in names[:_KINDS]:
        _scatter(axes, plan, [name], label=name, colour=None)
    if len(names) > _KINDS:
        _scatter(axes, plan, names[_KINDS:], label="others", colour="0.7")
    front = [plan.options[index] for index in plan.pareto]
    axes.plot(
        [o.hours for o in front], [o.total_usd for o in front], color="black", linewidth=1, label="front", zorder=3
    )
    if plan.limits.deadline is not None:
        axes.axvline(plan.limits.max_hours, color="red", linestyle="--", linewidth=1, label="deadline")
    for option in front[:: -(-len(front) // _NAMED)] if front else ():
        name = f"{option.nodes:,} x {option.machine.offer.instance.name}"
        axes.annotate(
            name,
            (option.hours, option.total_usd),
            xytext=(-4, -10),
            textcoords="offset points",
            fontsize="x-small",
            ha="right",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda usd, _: f"${usd:,.0f}")
    axes.set_xlabel("hours")
    axes.set_ylabel("cost of the complete job")
    axes.set_title(str(plan.job.workload))
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small")


def _scatter(axes: Any, plan: "JobOptions", names: list[str], *, label: str, colour: str | None) -> None:
    shown = [option for option in plan.options if option.accelerator in names]
    axes.scatter([o.hours for o in shown], [o.total_usd for o in shown], s=14, alpha=0.6, label=label, color=colour)
