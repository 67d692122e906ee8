"""What a use of the package may load: nobody pays for what they do not use."""

import subprocess
import sys
from pathlib import Path

import pytest

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
    """The modules in a fresh process after `statement`, which may print to stdout as it likes."""
    environment = {
        "HOME": str(folder),
        "PATH": "",
        "MULTICOMPUTE_STATE": f"sqlite:///{folder}/state.db",
        "MULTICOMPUTE_CONFIG": str(folder / "none.toml"),
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


def command(*arguments: str) -> str:
    return f"from multicompute.cli import main; assert main({list(arguments)!r}) == 0"


def within(modules: set[str], packages: set[str]) -> set[str]:
    return {name for name in modules if any(name == p or name.startswith(f"{p}.") for p in packages)}


def test_importing_the_package_loads_nothing_of_it_but_its_name(tmp_path: Path) -> None:
    loaded = within(loaded_by("import multicompute", tmp_path), {"multicompute"})
    assert loaded == {"multicompute"}


def test_importing_cluster_loads_neither_sdk_nor_what_only_acting_needs(tmp_path: Path) -> None:
    loaded = loaded_by("from multicompute import Cluster", tmp_path)
    assert within(loaded, SDKS | HEAVY) == set()
    assert within(loaded, {"multicompute.testing", "multicompute.cli", "multicompute_aws"}) == set()


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
def test_a_question_about_prices_loads_no_sdk(arguments: tuple[str, ...], tmp_path: Path) -> None:
    loaded = loaded_by(command(*arguments), tmp_path)
    assert within(loaded, SDKS) == set()
    # Where there is no ledger yet and nobody to draw a table for, neither of these is needed.
    assert within(loaded, {"rich", "tenacity", "sqlite3", "asyncio", "subprocess"}) == set()


def test_the_pytest_plug_in_costs_a_test_run_nothing(tmp_path: Path) -> None:
    loaded = loaded_by("import pytest; before = set(sys.modules); import multicompute.testing.pytest_plugin", tmp_path)
    assert within(loaded, SDKS | {"sqlite3"}) == set()
    assert within(loaded, {"multicompute.cluster", "multicompute.engine"}) == set()
