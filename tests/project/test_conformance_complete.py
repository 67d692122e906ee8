"""Every provider that can launch runs the complete conformance suite, and skips only capabilities that it does not declare."""

import ast
import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

import pytest

from multicompute.plugins import discover
from multicompute.provider import Provider
from multicompute.testing import ProviderConformance

ROOT = Path(__file__).parents[2]
SUITES = sorted((ROOT / "tests" / "conformance").glob("test_*.py"))
TESTS = {
    name: inspect.getattr_static(ProviderConformance, name)
    for name in dir(ProviderConformance)
    if name.startswith("test_")
}
PARTS = sorted((ROOT / "multicompute" / "testing" / "conformance").glob("*.py"))


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"conformance_of_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def suites(path: Path) -> list[type[ProviderConformance]]:
    """Return the subclasses of the suite that pytest collects from a module."""
    return [
        value
        for name, value in vars(load(path)).items()
        if name.startswith("Test") and isinstance(value, type) and issubclass(value, ProviderConformance)
    ]


def test_every_provider_that_can_launch_has_its_own_suite() -> None:
    covered = {vars(suite)["provider_name"] for path in SUITES for suite in suites(path)}
    launching = {name for name, plugin in discover().items() if plugin.can_launch}
    assert launching | {"fake"} <= covered


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_a_suite_runs_every_test_unchanged(path: Path) -> None:
    found = suites(path)
    assert found
    for suite in found:
        for name, test in TESTS.items():
            assert inspect.getattr_static(suite, name) is test, f"{suite.__name__} replaces {name}"
        assert not {"_skip_what_is_not_declared", "_skip_what_the_cloud_lacks"} & vars(suite).keys()
        assert not getattr(suite, "pytestmark", []), f"{suite.__name__} has a mark on the class"


@pytest.mark.parametrize("paths", [SUITES, PARTS], ids=["suites", "parts"])
def test_a_test_is_skipped_only_for_a_missing_capability_or_a_thing_that_the_cloud_lacks(paths: list[Path]) -> None:
    called = [
        function.name
        for path in paths
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and node.attr in {"skip", "skipif", "xfail", "importorskip"}
    ]
    # The walk visits a nested function and the function around it.
    assert set(called) == ({"_skip_what_is_not_declared", "or_skip", "act"} if paths is PARTS else set())


def test_every_method_of_the_provider_is_called() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in PARTS)
    methods = [name for name, value in vars(Provider).items() if inspect.isfunction(value) and name[0] != "_"]
    assert len(methods) == 14
    assert [name for name in methods if f"provider.{name}" not in source] == []
