"""Generated pages agree with the code, and the site has all pages, no dead link, and fetches nothing."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import multicompute
from multicompute import Cluster, ClusterSpec, errors, plugins
from multicompute.cli.parser import COMMANDS, parser_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OUTDATED = "run `make docs`, and review what has changed"


def tool(name: str) -> ModuleType:
    """Import a script of tools/ without running it."""
    return load(ROOT / "tools" / f"{name}.py")


def load(path: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def error_names() -> list[str]:
    kinds = [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)]
    return [name for name in kinds if not name.startswith("_")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "--quiet",
        "--fail-on-warning",
        "--builder",
        "html",
        str(DOCS),
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ["accelerators", "prices", "troubleshooting", "what_you_get"])
def test_a_page_with_tables_from_the_code_is_up_to_date(name: str) -> None:
    text = (DOCS / f"{name.replace('_', '-')}.md").read_text()
    assert tool(f"write_{name}").page(text) == text, OUTDATED


def test_every_image_of_an_adapter_is_on_the_page_about_nodes_and_every_entry_is_an_image() -> None:
    section = (DOCS / "what-you-get.md").read_text().partition("## Images\n")[2].partition("\n## ")[0]
    assert [line for line in section.splitlines()[3:] if line and "`" not in line.split(" | ")[1]] == []
    with pytest.raises(StopIteration):
        tool("write_what_you_get").image_name("an image that has no entry")


@pytest.mark.parametrize(("title", "cloud"), [("AWS", "aws"), ("Google Cloud", "gcp"), ("Azure", "azure")])
def test_what_the_page_about_local_clouds_names_exists(title: str, cloud: str) -> None:
    section = (DOCS / "testing.md").read_text().partition(f"\n### Local {title}\n")[2].partition("\n#")[0]
    cells = [line.split(" | ")[1] for line in section.splitlines() if line.startswith("| ")]
    names = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} - {"UNSUPPORTED_OPERATION"}
    local = plugins.discover()[cloud].local()
    assert len(names) > 8
    assert [name for name in sorted(names) if not hasattr(local, name)] == []


def test_the_reference_of_the_command_line_is_up_to_date() -> None:
    assert tool("write_cli").page() == (DOCS / "cli.md").read_text(), OUTDATED


def test_every_public_name_is_in_the_python_reference(site: Path) -> None:
    page = (site / "api.html").read_text()
    names = [name for name in multicompute.__all__ if name not in ("__version__", "errors")]
    kinds = [f"errors.{name}" for name in error_names()]
    methods = [
        f"Cluster.{name}" for name in dir(Cluster) if not name.startswith("_") and callable(getattr(Cluster, name))
    ]
    assert {"Cluster.extend", "Cluster.request"} < set(methods)
    assert "errors.CapacityError" in kinds
    assert [name for name in [*names, *kinds, *methods] if f'id="multicompute.{name}"' not in page] == []


def test_every_argument_of_a_request_is_in_a_table_of_the_python_reference(site: Path) -> None:
    page = (site / "api.html").read_text().partition('id="multicompute.ClusterSpec"')[2].partition("</table>")[0]
    shown = re.findall(r'<td><span class="label">name</span><p><code[^>]*><span class="pre">(\w+)</span></code>', page)
    assert [name for name in shown if name in ClusterSpec.__annotations__] == list(ClusterSpec.__annotations__)


@pytest.mark.parametrize("method", ["request", "arequest", "plan", "aplan"])
def test_every_argument_of_a_request_is_in_its_signature_and_table_in_the_python_reference(
    site: Path, method: str
) -> None:
    page = (site / "api.html").read_text().partition(f'id="multicompute.Cluster.{method}"')[2].partition("</table>")[0]
    signature, _, table = page.partition("</dt>")
    for name in ClusterSpec.model_fields:
        assert f'<span class="n"><span class="pre">{name}</span></span>' in signature
        assert f'<span class="pre">{name}</span>' in table


def test_the_site_has_no_dead_link_and_fetches_nothing(site: Path) -> None:
    check = tool("check_site")
    assert check.fetched(site) == []
    assert check.dead_links(site) == []


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
    assert [name for name in error_names() if f"| `{name}` | " not in page] == []


def test_the_picture_is_drawn_from_a_recorded_run() -> None:
    draw = tool("draw_quickstart")
    assert draw.draw(draw.TEXT.read_text()) == draw.PICTURE.read_text(), "run `make picture`"
    assert tool("check_site").fetched(draw.PICTURE.parent) == []
    assert f"docs/images/{draw.PICTURE.name}" in (ROOT / "README.md").read_text()


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    listed = ["index", *(page for pages in load(DOCS / "conf.py").navigation.values() for page in pages)]
    assert sorted(listed) == sorted(str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md"))


def test_a_dead_link_is_refused(tmp_path: Path) -> None:
    links = (
        '<a href="more.html#there">a</a><a href="more.html#gone">b</a><a href="gone.html">c</a><a href="#gone">d</a>'
    )
    (tmp_path / "index.html").write_text(links)
    (tmp_path / "more.html").write_text('<h1 id="there">More</h1>')
    found = tool("check_site").dead_links(tmp_path)
    assert [line.partition(": ")[2] for line in found] == ["more.html#gone", "gone.html", "#gone"]


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
