"""Write the tables of docs/environment-variables.md from the packaged table of variables."""

from collections.abc import Iterable
from pathlib import Path

from multicompute.remote.launchers.fabric import Row, table

PAGE = Path(__file__).parents[1] / "docs" / "environment-variables.md"
MARK = "<!-- From here on written by `make docs`; change multicompute/remote/data/variables.csv instead. -->\n"
TAGS = {
    "several-nodes": "several nodes",
    "one-network": "one network",
    "several-networks": "several networks",
    "interface": "the interface is known",
    "nvidia": "NVIDIA GPUs",
    "neuron": "Trainium",
    "efa": "EFA devices",
    "ofi-new": "aws-ofi-nccl 1.7 or newer, or unknown",
    "ofi-1.6": "aws-ofi-nccl 1.6",
    "ofi-old": "aws-ofi-nccl up to 1.5",
    "rdma-read": "instance types p4d, p5, p6",
    "fork-unsafe": "Amazon Linux 2",
    "gib": "the plug-in gIB and RDMA devices",
    "tcpxo": "the plug-in TCPXO",
    "tcpxo-names": "the interfaces of A3 Mega",
    "infiniband": "InfiniBand",
    "hyperv": "a virtual machine of Hyper-V",
    "plain-image": "no NCCL_TOPO_FILE in nccl.conf",
}


def tables() -> str:
    """Return the generated part of the page."""
    rows = table()
    return (
        "\n## On every command\n\n"
        + _table(
            ["variable", "value", "what for"], ([_name(row), row.value, row.purpose] for row in _of(rows, "always"))
        )
        + "\n## What the fabric needs\n\nSet where the node has what the third column lists, and nothing has set it yet.\n\n"
        + _table(
            ["where", "variable", "found on the node", "what for", "source"],
            (
                [row.place, _assignment(row), _condition(row), row.purpose, row.source]
                for row in _of(rows, "set", "prepend", "sourced")
            ),
        )
        + "\n## Set by launchers\n\n"
        + _table(
            ["launcher", "variable", "value", "what for", "source"],
            ([row.place, _name(row), row.value, row.purpose, row.source] for row in _of(rows, "launcher")),
        )
        + "\n## Not set, and why\n\n"
        + _table(
            ["where", "variable", "", "source"],
            ([row.place, _name(row), _verdict(row), row.source] for row in _of(rows, "avoid", "advice")),
        )
    )


def page(kept: str) -> str:
    """Return the page: what was written by hand, and the tables."""
    return kept.partition(MARK)[0] + MARK + tables()


def _of(rows: Iterable[Row], *kinds: str) -> list[Row]:
    return [row for row in rows if row.kind in kinds]


def _name(row: Row) -> str:
    return ", ".join(f"`{name}`" for name in row.variable.split(", "))


def _assignment(row: Row) -> str:
    if row.kind == "sourced":
        return f"`{row.variable}` {row.value}"
    return f"`{row.variable}={row.value}{':...' if row.kind == 'prepend' else ''}`"


def _condition(row: Row) -> str:
    return ", ".join(TAGS[tag] for tag in row.when.split())


def _verdict(row: Row) -> str:
    return f"worth a try {row.purpose}" if row.kind == "advice" else row.purpose


def _table(titles: list[str], rows: Iterable[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
