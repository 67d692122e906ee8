"""The pages that come from the code say what the code says, and the site has all pages and fetches nothing."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from multicompute import errors
from multicompute.cli.parser import COMMANDS, parser_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OUTDATED = "run `make docs`, and look at what has changed"


def tool(name: str) -> ModuleType:
    """A script of tools/, imported without being run."""
    found = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def words(text: str) -> list[str]:
    return re.sub(r"[\[\]|]", " ", text).split()


@pytest.mark.parametrize("name", ["prices", "troubleshooting"])
def test_a_page_with_tables_from_the_code_is_up_to_date(name: str) -> None:
    text = (DOCS / f"{name}.md").read_text()
    assert tool(f"write_{name}").page(text) == text, OUTDATED


@pytest.mark.parametrize(("page", "writer"), [("cli.md", "command_line"), ("api.md", "public_names")])
def test_a_reference_is_up_to_date(page: str, writer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    write: Callable[[], str] = getattr(tool("write_reference"), writer)
    # Versions of Python fold and bracket the usage of a command in ways of their own.
    assert sorted(set(words(write()))) == sorted(set(words((DOCS / page).read_text()))), OUTDATED


def test_every_code_that_an_adapter_knows_is_in_the_troubleshooting() -> None:
    page = (DOCS / "troubleshooting.md").read_text()
    for title, tables in tool("write_troubleshooting").TABLES.items():
        section = page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        for module, name in tables.items():
            codes = getattr(importlib.import_module(module), name)
            assert codes
            assert [code for code in codes if f"| `{code}` |" not in section] == []


def test_every_error_and_its_exit_status_is_in_the_troubleshooting() -> None:
    page = (DOCS / "troubleshooting.md").read_text()
    kinds = [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert [name for name in kinds if not name.startswith("_") and f"| `{name}` | " not in page] == []


def test_the_picture_is_drawn_from_a_recorded_run() -> None:
    draw = tool("draw_quickstart")
    assert draw.draw(draw.TEXT.read_text()) == draw.PICTURE.read_text(), "run `make picture`"
    assert tool("check_site").fetched(draw.PICTURE.parent) == []
    assert f"docs/images/{draw.PICTURE.name}" in (ROOT / "README.md").read_text()


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    # By hand: `make docs` finds it too, but has an environment of its own.
    listed = re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize(
    "line",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="https://fonts.example/css">',
        "<link href=//fonts.example rel=preconnect>",
        "@import url(https://fonts.example/css);",
        '<img alt="" src="http://badge.example/x.svg">',
    ],
)
def test_a_site_that_fetches_something_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<a href="https://example.com">a link is none</a><script src="x.js"></script>')
    check = tool("check_site")
    assert check.fetched(tmp_path) == []
    (tmp_path / "more.html").write_text(f"<p>{line}</p>")
    assert len(check.fetched(tmp_path)) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_shows_an_example_that_its_parser_takes(command: str) -> None:
    assert f"example:\n  {COMMANDS[command].example}" in parser_of(command).format_help()


def test_the_site_takes_no_font_from_elsewhere() -> None:
    assert "font: false" in (ROOT / "mkdocs.yml").read_text()
