"""Writes docs/cli.md from the parsers of the command line."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from multicompute.cli.parser import COMMANDS, parser_of

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
INTRODUCTION = """<!-- Written by `make docs`. Change the code instead. -->

# Command line

All commands and their arguments. `multicompute COMMAND --help` shows the same in a terminal.
"""


def page() -> str:
    """Return the complete page, with one section per command."""
    return INTRODUCTION + "".join("".join(_section(name, parser_of(name))) for name in COMMANDS)


def _section(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    arguments = [action for action in parser._actions if action.dest != "help"]
    yield f"\n## multicompute {name}\n\n{parser.description}\n\n"
    if parser.usage:
        yield f"Usage: `{parser.usage}`\n\n"
    if arguments:
        yield "| argument | meaning |\n| --- | --- |\n"
        yield from (f"| `{_form(action)}` | {_cell(action.help or '')} |\n" for action in arguments)
        yield "\n"
    notes, _, example = (parser.epilog or "").rpartition("example:\n")
    for paragraph in notes.strip().split("\n\n"):
        if paragraph:
            # Indented lines are aligned by hand.
            yield f"```text\n{paragraph}\n```\n\n" if "\n  " in paragraph else f"{' '.join(paragraph.split())}\n\n"
    yield f"Example:\n\n```text\n{example.strip()}\n```\n"


def _form(action: argparse.Action) -> str:
    """Return how an argument is written: `--gpus N`, `--spot [prefer]`, `TYPE`."""
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
    value = action.metavar if isinstance(action.metavar, str) else choices or action.dest.upper()
    if action.nargs == "?":
        value = f"[{value}]"
    elif action.nargs in ("+", "*"):
        value = f"{value}..."
    if not action.option_strings:
        return value
    return ", ".join(action.option_strings) + ("" if action.nargs == 0 else f" {value}")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page())
