"""Write the tables of docs/accelerators.md: the accelerators with their names, and the names of other tools."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from multicompute import accelerators
from multicompute.aliases import CORES_PER_CHIP, read_names

PAGE = Path(__file__).parents[1] / "docs" / "accelerators.md"
MARK = "<!-- The rest is written by `make docs`. Change the tables in multicompute/data instead. -->\n"
UNITS: Mapping[int, str] = {1: "chips", 2: "TensorCores, two per chip"}


def tables() -> str:
    """Return the generated part of the page."""
    names = read_names()
    known = [[f"`{name}`", f"`{alias.means}`", alias.tool, alias.source] for name, alias in names if alias.means]
    refused = [
        [f"`{name}`", _code(alias.instead), alias.why, alias.tool, alias.source] for name, alias in names if alias.why
    ]
    slices = [[f"`{kind}-*`", UNITS[cores]] for kind, cores in CORES_PER_CHIP.items()]
    return (
        "\n## Accelerators\n\n"
        + _table(["name", "family", "memory", "other names"], [_row(item) for item in accelerators.known()])
        + "\n## Slice types\n\n"
        + _table(["name", "the number counts"], slices)
        + "\n## Names of other tools\n\n"
        + _table(["name", "means", "printed or accepted by", "source"], known)
        + "\n## Refused names\n\n"
        + _table(["name", "write instead", "reason: the name ...", "printed or accepted by", "source"], refused)
    )


def _row(accelerator: accelerators.Accelerator) -> list[str]:
    name, family = f"`{accelerator.name}`", f"`{accelerator.family}`"
    return [name, family, f"{accelerator.memory_gib:g} GiB", _code(accelerator.aliases)]


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page(kept: str) -> str:
    """Return the complete page: the text that was written by hand, and the tables."""
    return kept.partition(MARK)[0] + MARK + tables()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
