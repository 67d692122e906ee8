"""Writes docs/cli.md from the parsers of the command line and docs/api.md from the docstrings of the public names."""

import inspect
import os
from dataclasses import is_dataclass
from pathlib import Path

import multicompute
from multicompute.cli.parser import COMMANDS, parser_of

DOCS = Path(__file__).parents[1] / "docs"
NOTE = "<!-- Written by `make docs`; change the code instead. -->\n\n"


def command_line() -> str:
    """The page on the command line: each command's own help."""
    parts = [NOTE, "# The command line\n\nWhat every command shows with `--help`.\n"]
    for name in COMMANDS:
        parts.append(f"\n## multicompute {name}\n\n```text\n{parser_of(name).format_help().rstrip()}\n```\n")
    return "".join(parts)


def public_names() -> str:
    """The page on the public names: signatures and docstrings."""
    parts = [NOTE, "# Public names\n\n`from multicompute import ...`\n"]
    for name in multicompute.__all__:
        value = getattr(multicompute, name)
        if inspect.isclass(value):
            parts.append(f"\n## {name}\n\n```text\n{inspect.getdoc(value)}\n```\n")
            if not is_dataclass(value):
                parts.extend(_members(value))
        elif inspect.ismodule(value):
            parts.append(f"\n## {name}\n\n```text\n{inspect.getdoc(value)}\n```\n")
    return "".join(parts)


def _members(owner: type) -> list[str]:
    """Return one section for each public method that a class of this package defines."""
    parts = []
    members: dict[str, object] = {}
    for base in reversed(owner.__mro__):
        members |= vars(base) if base.__module__.startswith("multicompute") else {}
    for name, member in members.items():
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        words = (inspect.getdoc(function) or "").rstrip()
        parts.append(f"\n### {owner.__name__}.{name}\n\n```text\n{name}{_signature(function)}\n\n{words}\n```\n")
    return parts


def _signature(function: object) -> str:
    """The parameters, one on each line where there are many; types are in the code."""
    assert callable(function)
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
    ]
    shown = [str(parameter) for parameter in parameters if parameter.name not in ("self", "cls")]
    return f"({', '.join(shown)})" if len(shown) < 5 else "(\n    " + ",\n    ".join(shown) + ",\n)"


if __name__ == "__main__":
    # argparse folds lines at the width of the terminal; the page must not depend on whose it was.
    os.environ["COLUMNS"] = "100"  # noqa: TID251
    (DOCS / "cli.md").write_text(command_line())
    (DOCS / "api.md").write_text(public_names())
