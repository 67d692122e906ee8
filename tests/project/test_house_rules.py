"""The rules of this project that no linter checks."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("multicompute/**/*.py"), *ROOT.glob("providers/**/*.py")])
# accelerators.py names the vendors of chips, which are not clouds there.
CORE = sorted(set(ROOT.glob("multicompute/**/*.py")) - {ROOT / "multicompute" / "accelerators.py"})
TESTS = sorted([*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("examples/test_*.py")])
SUITES = sorted(ROOT.glob("multicompute/testing/conformance/*.py"))
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
# Signatures and docstrings with one line for each argument of a request, and bodies of one line.
WRITTEN_BY_TOOLS = {ROOT / "multicompute" / "cluster_requests.py"}
CLOUDS = re.compile(r"\b(aws|gcp|azure|amazon|google|microsoft|boto3|moto)\b", re.IGNORECASE)
# A docstring says what something is or does.
QUESTION = re.compile(r"\s*(What|How|Whether|Who|Why|Where|When)\b")
WITHOUT_REASON = re.compile(r"#\s*(noqa(:[A-Z0-9, ]+)?|type: ignore(\[[a-z, -]+\])?)\s*$")
# `complete_moto` is about a test tool of one SDK by its name.
TEST_TOOLS = {
    "multicompute/testing/moto.py": frozenset({"moto", "boto3"}),
    "multicompute/testing/__init__.py": frozenset({"moto"}),
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield every statement; expressions, which contain none, are most of a tree."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, name, ())
        yield node


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in statements(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_module_is_small_enough_to_read(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions(parsed(path)) if f.end_lineno is not None}
    assert lines <= 800
    assert {function: size for function, size in long.items() if size > 60 and path not in WRITTEN_BY_TOOLS} == {}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_module_states_its_purpose_in_a_sentence(path: Path) -> None:
    assert path.stem.strip("_") not in VAGUE_NAMES
    assert path.name == "__init__.py" or ast.get_docstring(parsed(path))


def docstrings(tree: ast.Module) -> dict[int, ast.Constant]:
    """Return the constants that are statements by their ids: docstrings, also those of attributes."""
    found = [node.value for node in statements(tree) if isinstance(node, ast.Expr)]
    return {id(value): value for value in found if isinstance(value, ast.Constant)}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_docstring_does_not_open_with_a_question(path: Path) -> None:
    texts = [node.value for node in docstrings(parsed(path)).values()]
    assert [text for text in texts if isinstance(text, str) and QUESTION.match(text)] == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_what_a_check_ignores_has_a_reason(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if WITHOUT_REASON.search(line)] == []


@pytest.mark.parametrize("path", CORE, ids=name)
def test_the_core_names_no_cloud(path: Path) -> None:
    tree = parsed(path)
    described = docstrings(tree)
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described
    ]
    allowed = TEST_TOOLS.get(name(path), frozenset())
    assert [text for text in texts if {found.casefold() for found in CLOUDS.findall(text)} - allowed] == []


def asserts(function: ast.FunctionDef | ast.AsyncFunctionDef, helpers: set[str]) -> bool:
    """Return whether the body can fail: it has an assert, `raises` or `warns`, or calls a function of the file that does."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in {"raises", "warns", "fail", "fnmatch_lines"} | helpers or called.startswith("assert_"):
                return True
    return False


@pytest.mark.parametrize("path", [*TESTS, *SUITES], ids=name)
def test_every_test_can_fail(path: Path) -> None:
    every = list(functions(parsed(path)))
    helpers = {f.name for f in every if not f.name.startswith("test_") and asserts(f, set())}
    assert [f.name for f in every if f.name.startswith("test_") and not asserts(f, helpers)] == []


def test_the_rules_find_the_files_that_they_check() -> None:
    assert len(SOURCES) > 20
    assert len(TESTS) > 5
