"""The modules that each use of the package may load, so that no use pays for what it does not need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from multicompute import ClusterSpec
from multicompute.ledger import ClusterRecord, Ledger, NodeRecord
from multicompute.node import ClusterState
from multicompute.units import parse_instant

SDKS = {"boto3", "botocore", "google.cloud", "google.auth", "azure", "moto"}
HEAVY = {
    "rich",
    "tenacity",
    "sqlite3",
    "pydantic",
    "asyncio",
    "email",
    "ssl",
    "http",
    "logging.config",
    "tomllib",
    "unittest",
}
PROBE = """
import runpy, sys
{statement}
print("\\n".join(sys.modules), file=sys.stderr)
"""


def loaded_by(statement: str, folder: Path) -> set[str]:
    """Return the modules in a fresh process after `statement`, which may print to stdout."""
    environment = {
        "HOME": str(folder),
        "PATH": "",
        "MULTICOMPUTE_STATE": f"sqlite:///{folder}/state.db",
        "MULTICOMPUTE_CONFIG": os.devnull,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(statement=statement)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    return set(done.stderr.split())


def write_ledger(state: str) -> None:
    """Write a ledger with a live cluster of one node, and one that has ended."""
    ledger, now = Ledger(state), parse_instant("2026-11-24T00:00:00Z")
    spec = ClusterSpec(gpus=8, type="h100", tags={"team": "nlp"})
    for name, cluster_state in (("train-1", ClusterState.TERMINATED), ("train-2", ClusterState.READY)):
        record = ClusterRecord(name, name, cluster_state, "me", spec.to_dict(), "{}", now, provider="aws")
        place = ("aws", "p5.48xlarge", "us-east-1", "us-east-1a")
        node = NodeRecord(f"i-{name}", 0, "token", *place, "running", now, accelerators=8.0, hourly_cost=55.04)
        ledger.adopt(record, (), (node,))
    ledger.close()


def command(*arguments: str) -> str:
    return f"from multicompute.cli import main; assert main({list(arguments)!r}) == 0"


def within(modules: set[str], packages: set[str]) -> set[str]:
    return {name for name in modules if any(name == p or name.startswith(f"{p}.") for p in packages)}


def test_importing_the_package_loads_none_of_its_modules(tmp_path: Path) -> None:
    loaded = within(loaded_by("import multicompute", tmp_path), {"multicompute"})
    assert loaded == {"multicompute"}


def test_importing_cluster_loads_no_sdk_no_pydantic_and_no_engine(tmp_path: Path) -> None:
    loaded = loaded_by("from multicompute import Cluster", tmp_path)
    assert within(loaded, SDKS | HEAVY) == set()
    assert (
        within(loaded, {"multicompute.testing", "multicompute.cli", "multicompute.engine", "multicompute_aws"}) == set()
    )


@pytest.mark.parametrize("arguments", [("--help",), ("ls",), ("ls", "--json"), ("nodes", "train-1"), ("ls", "--help")])
def test_help_ls_and_nodes_load_neither_pydantic_nor_an_sdk(arguments: tuple[str, ...], tmp_path: Path) -> None:
    write_ledger(f"sqlite:///{tmp_path}/state.db")
    loaded = loaded_by(command(*arguments), tmp_path)
    assert within(loaded, {"pydantic", "pydantic_core", "importlib.metadata", "multicompute.engine.planning"}) == set()
    assert within(loaded, SDKS | {"rich", "multicompute.resolver", "multicompute.catalog"}) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ("offers", "h100", "--json"),
        ("plan", "--gpus", "64", "--type", "h100", "--json"),
        ("plan", "--gpus", "64", "--type", "h100"),
        ("catalog", "info"),
    ],
    ids=" ".join,
)
def test_offers_plan_and_catalog_load_no_sdk_and_build_no_schema(arguments: tuple[str, ...], tmp_path: Path) -> None:
    loaded = loaded_by(command(*arguments), tmp_path)
    assert within(loaded, SDKS) == set()
    # Without a ledger and a terminal, none of these is needed. The last two are what building a pydantic schema loads.
    assert within(loaded, {"rich", "tenacity", "sqlite3", "asyncio", "subprocess"}) == set()
    assert within(loaded, {"importlib.metadata", "pydantic.plugin._loader"}) == set()


def test_the_pytest_plug_in_loads_nothing_before_it_is_used(tmp_path: Path) -> None:
    loaded = loaded_by("import pytest; before = set(sys.modules); import multicompute.testing.pytest_plugin", tmp_path)
    assert within(loaded, SDKS | {"sqlite3"}) == set()
    assert within(loaded, {"multicompute.cluster", "multicompute.engine"}) == set()
