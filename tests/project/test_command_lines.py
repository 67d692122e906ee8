"""Every command line in the pages, in messages and in examples is one that the parser of the command line takes."""

import ast
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from multicompute.cli.arguments import request_arguments
from multicompute.cli.parser import COMMANDS, parse
from multicompute.errors import SpecError
from multicompute.spec import ClusterSpec

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = [
    path for folder in ("multicompute", "providers", "examples") for path in sorted((ROOT / folder).rglob("*.py"))
]
INSERTED = "NAME"
FENCE = re.compile(r"^```(?:bash|sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(r"(?<![\w.-])multicompute ([a-z][\w-]*.*)")
PLACEHOLDERS = {"COMMAND": "ls", "N": "8", "RANK": "3", "SHELL": "bash"}
"""Words of pages and messages that stand for a value, where the parser takes only some values."""


class Written(NamedTuple):
    """A command line without the name of the program, and where it is written."""

    place: str
    text: str
    is_mention: bool
    """True for a command in the middle of a sentence, which may leave out arguments."""

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


def of_page(page: Path) -> Iterator[Written]:
    """Yield what a page shows: lines of its blocks, and code in its sentences."""
    place, text = str(page.relative_to(ROOT)), page.read_text()
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if found := COMMAND.search(line.partition(" #")[0]):
                yield Written(place, found[1], is_mention=False)
    yield from mentions(place, FENCE.sub("", text))


def of_source(path: Path) -> Iterator[Written]:
    """Yield what a module prints: code in messages and docstrings, and lines of examples."""
    place = str(path.relative_to(ROOT))
    for text in strings(ast.parse(path.read_text())):
        yield from mentions(place, " ".join(text.split()))
        for line in SPAN.sub("", text).splitlines():
            found = None if line.startswith("#") else COMMAND.search(line)
            # In other lines, the name of the package is part of a sentence.
            if found and found[1].split()[0] in COMMANDS:
                yield Written(place, found[1], is_mention=False)


def mentions(place: str, text: str) -> Iterator[Written]:
    """Yield the command lines in backticks, also without the name of the program if an option follows: `ls --live`."""
    for span in SPAN.findall(text):
        if span.startswith("multicompute ") and span != f"multicompute {INSERTED}":
            yield Written(place, span.removeprefix("multicompute "), is_mention=True)
        elif (found := re.match(r"([a-z]+) .*--\w", span)) and found[1] in COMMANDS:
            yield Written(place, span, is_mention=True)


def strings(node: ast.AST) -> Iterator[str]:
    """Yield every string in the code; what an f-string inserts is a placeholder."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else INSERTED for part in node.values)
    else:
        for child in ast.iter_child_nodes(node):
            yield from strings(child)


def words(text: str) -> list[str]:
    """Return the words of the first command, without what a shell does with its input and output."""
    lexer = shlex.shlex(re.sub(r"\$\w+", "1", re.sub(r"[\[\]]|\.\.\.", "", text)), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[str] = []
    for word in lexer:
        if set(word) <= set("<>|&;()"):
            break
        found.append(PLACEHOLDERS.get(word, word))
    return found


def check(argv: list[str], *, is_mention: bool = False) -> None:
    """Parse a command line as the program does, and the request in it.

    Raises:
        SpecError: The command line or the request is wrong.
    """
    try:
        options = parse(argv)
    except SystemExit as stop:
        assert not stop.code
        return
    except SpecError as error:
        if is_mention and re.search(r"arguments are required|expected one argument", error.message):
            return
        raise
    command = getattr(options, "command", [])
    if command[:1] == ["multicompute"]:
        check(command[1:])
    if argv[0] in ("up", "plan") and not options.file and (given := request_arguments(options)):
        given.pop("setup", None)
        ClusterSpec.of(given if not is_mention else {"gpus": 8, "type": "h100", **given})


def wrong(found: Iterable[Written]) -> list[str]:
    """Return the command lines that the program refuses, with the reason."""
    refused = []
    for written in found:
        try:
            check(words(written.text), is_mention=written.is_mention)
        except SpecError as error:
            refused.append(f"{written}: {error}")
    return refused


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_command_line_on_a_page_is_one_that_the_program_takes(page: Path) -> None:
    assert wrong(of_page(page)) == []


def test_a_command_line_in_a_message_or_an_example_is_one_that_the_program_takes() -> None:
    found = [written for path in SOURCES for written in of_source(path)]
    assert wrong(found) == []
    places = {written.place for written in found}
    assert {"multicompute/cli/parser.py", "multicompute/engine/outages.py", "examples/quickstart.py"} <= places
    assert len(found) > 80


def test_command_lines_are_found_on_pages() -> None:
    found = [str(written) for page in PAGES for written in of_page(page)]
    assert "docs/quickstart.md: offers h100 --gpus 8 --spot --region eu --limit 5" in found
    assert len(found) > 120


@pytest.mark.parametrize(
    "text",
    [
        "up --gpu 8",
        "frobnicate",
        "plan --gpus many --type h100",
        "plan --gpus 8 --type h100 --ttl soon",
        "show",
        "local -- multicompute ls --every",
    ],
)
def test_a_wrong_command_line_is_found(text: str) -> None:
    with pytest.raises(SpecError):
        check(words(text))
