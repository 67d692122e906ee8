"""Every command at the widths of small terminals: lines fit, and names, ids and addresses stay in one piece."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final

import pytest

from multicompute import Cluster
from multicompute.cli.parser import COMMANDS
from multicompute.errors import CapacityError
from multicompute.testing import FakeCloud

Run = Callable[..., Any]
NAME: Final = "llama-70b-pretraining-run-12"
REQUEST: Final = ("--gpus", "16", "--type", "h100", "--spot=prefer")
CASES: Final[dict[str, tuple[str, ...]]] = {
    "offers": ("h100", "--limit", "0"),
    "size": ("--params", "70e9", "--tokens", "2e12", "--deadline", "30d", "--spot=prefer", "--explain"),
    "plan": (*REQUEST, "--limit", "0"),
    "up": (*REQUEST, "--name", "second", "--quiet"),
    "ls": ("--all",),
    "show": (NAME,),
    "wait": (NAME,),
    "nodes": (NAME,),
    "events": (NAME,),
    "watch": (NAME, "--once"),
    "extend": (NAME, "1h"),
    "heal": (NAME,),
    "down": (NAME, "--yes"),
    "cost": (),
    "reconcile": ("--dry-run",),
    "reap": (),
    "outages": (),
    "supervise": ("--once",),
    "catalog": ("info",),
    "doctor": (),
}
"""Command -> the arguments that it is rendered with."""
DOCUMENTS: Final = {"schema", "init", "verify", "local", "completion"}
"""Commands that print a document, a script or another program's output, and no table."""
NODES: Final = {"run", "put", "get", "ssh", "torchrun", "jax", "mpirun", "ray", "hosts"}
"""Commands that need nodes to log in to: tests/remote and tests/cli/test_hosts.py render them."""
TABLES: Final = (
    "offers",
    "plan",
    "ls",
    "show",
    "wait",
    "nodes",
    "events",
    "heal",
    "cost",
    "catalog",
    "doctor",
    "reconcile",
    "reap",
    "outages",
)


@pytest.fixture(name="cluster")
def _cluster(fake_cloud: FakeCloud) -> Iterator[Cluster]:
    """A cluster with a long name and a tag, and an event log with a failure."""
    fake_cloud.set_capacity("p5.48xlarge", "us-east-1a", 0)
    cluster = Cluster.request(
        gpus=16, type="h100", name=NAME, clouds=["aws"], tags={"team": "nlp"}, ttl="12h", budget=5000
    )
    fake_cloud.advance("90m")
    with pytest.raises(CapacityError):
        Cluster.request(nodes=2, type="p5.48xlarge", name="failed", regions=["us-east-1a"], clouds=["aws"])
    yield cluster
    for each in Cluster.list():
        each.terminate()


def too_long(text: str, width: int) -> list[str]:
    """Return the lines that do not fit, except a single word that is longer than any line, such as the path of a test's folder."""
    return [line for line in text.splitlines() if len(line) > width and len(line.split()) > 1]


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("command", CASES)
def test_the_lines_of_a_command_fit(
    run: Run, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, command: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    done = run(command, *CASES[command])
    assert too_long(done.out, width) == []
    if command in ("ls", "show", "extend", "down", "cost"):
        assert NAME in done.out
    if command in ("show", "nodes", "watch", "heal"):
        for node in cluster.nodes:
            assert re.search(rf"(^|\s){re.escape(node.id)}(\s|$)", done.out, re.MULTILINE)


def test_every_command_is_rendered() -> None:
    assert set(CASES) | DOCUMENTS | NODES == set(COMMANDS)


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_fits(run: Run, monkeypatch: pytest.MonkeyPatch, command: str, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    usage, _, text = run(command, "--help").out.partition("\n\n")
    # argparse keeps two options that exclude each other in one piece.
    lines = [*(usage.splitlines() if width == 80 else ()), *text.splitlines()]
    # Commands are on indented lines of their own, and stay in one piece.
    assert [line for line in lines if len(line) > width and "multicompute " not in line] == []


@pytest.mark.parametrize("command", TABLES)
def test_a_table_is_also_written_wide_as_json_and_as_csv(
    run: Run, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    narrow, wide = run(command, *CASES[command]), run(command, *CASES[command], "--wide")
    assert len(wide.out.splitlines()[0]) >= len(narrow.out.splitlines()[0]) if narrow.out else wide.out == ""
    document = run(command, *CASES[command], "--json").document
    assert type(run(command, *CASES[command], "--output", "json").document) is type(document)
    header, *lines = csv.reader(io.StringIO(run(command, *CASES[command], "--output", "csv").out)) or ([], [])
    assert header
    assert {len(line) for line in lines} <= {len(header)}
    if isinstance(document, list):
        assert header == list(document[0])
        assert len(lines) == len(document)


def test_nodes_drop_columns_in_a_fixed_order(run: Run, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    titles = []
    for width in (120, 80, 60, 45):
        monkeypatch.setenv("COLUMNS", str(width))
        titles.append(re.split("  +", run("nodes", NAME).out.splitlines()[0].strip()))
    every = ["rank", "node", "state", "instance type", "zone", "private address", "public address"]
    assert titles[0] == every
    for more, fewer in pairwise(titles):
        assert [title for title in more if title in fewer] == fewer
    assert titles[-1] == ["rank", "node", "state", "private address"]


def test_the_columns_of_all_commands_have_the_same_names(run: Run, cluster: Cluster) -> None:
    def titles(*arguments: str) -> set[str]:
        lines = (line for line in run(*arguments, "--wide").out.splitlines() if "  " in line and "$/h" in line)
        return set(re.split("  +", next(lines).strip()))

    offered, planned, listed = titles("offers", "h100"), titles("plan", *REQUEST), titles("ls")
    assert planned - offered == {"#"}
    assert {"place", "nodes", "acc", "$/h"} <= offered & planned & listed


@pytest.mark.parametrize("command", ["ls", "nodes"])
def test_an_empty_list_in_csv_has_the_header_of_one_that_is_not(run: Run, cluster: Cluster, command: str) -> None:
    arguments = () if command == "ls" else (NAME,)
    header = run(command, *arguments, "--output", "csv").out.splitlines()[0]
    cluster.terminate()
    assert run(command, *arguments, "--output", "csv").out == f"{header}\n"
