"""The arguments of a request as command-line options, made from the fields of `ClusterSpec`."""

import argparse
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from multicompute.cli.spelling import flag_of
from multicompute.cli.tables import pair
from multicompute.fields import form_of, members_of
from multicompute.spec import ClusterSpec, argument_of

Option = tuple[tuple[str, ...], dict[str, Any]]
"""The spellings of an option, and how argparse reads it."""


def add_request_arguments(parser: argparse._ActionsContainer, *, only: Collection[str] | None = None) -> None:
    """Add the options for all arguments of a request, or for those in `only`."""
    for name, field in ClusterSpec.model_fields.items():
        if only is None or name in only:
            target = parser.add_mutually_exclusive_group() if argument_of(name).text_flag else parser
            for flags, settings in _options(name, field):
                target.add_argument(*flags, dest=name, default=argparse.SUPPRESS, **settings)


def add_file_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--file`, which `request_arguments` reads."""
    parser.add_argument(
        "--file", metavar="FILE", help="read arguments from a .toml or .json file; options override those of the file"
    )


def request_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return the given arguments, by the names of the fields of `ClusterSpec`.

    Raises:
        SpecError: A key or value in the file is wrong; the message names the file and the key.
    """
    given = {name: getattr(options, name) for name in ClusterSpec.model_fields if hasattr(options, name)}
    if "tags" in given:
        given["tags"] = dict(given["tags"])
    if getattr(options, "file", None):
        # Imported here: most commands read no file.
        from multicompute.cli.request_file import with_file

        return with_file(options.file, given)
    return given


def _options(name: str, field: FieldInfo) -> Iterator[Option]:
    flag, form, members = flag_of(name), form_of(field), members_of(field.annotation)
    words = [str(word) for member in members if get_origin(member) is Literal for word in get_args(member)]
    help_text = {"help": help_of(field)}
    if bool in members and words:
        yield (flag,), {"nargs": "?", "const": True, "choices": words, "metavar": "|".join(words), **help_text}
        yield (
            (flag.replace("--", "--no-", 1),),
            {"action": "store_false", "help": f"turn {flag} off, if a file turns it on"},
        )
    elif bool in members:
        yield (flag,), {"action": argparse.BooleanOptionalAction, **help_text}
    elif form is None:
        yield (flag,), {"choices": words, **help_text}
    elif text_flag := argument_of(name).text_flag:
        text = {"help": f"the same as text; {flag} takes a file", "metavar": "TEXT"}
        yield (flag,), {"metavar": argument_of(name).metavar, "type": Path, **help_text}
        yield (text_flag,), text
    else:
        metavar = argument_of(name).metavar or form.metavar
        action = "append" if form.repeats else "store"
        help_text = {"help": f"{help_text['help']} (may be repeated)"} if form.repeats else help_text
        yield (flag,), {"action": action, "metavar": metavar, "type": _READERS.get(form.metavar, str), **help_text}


def help_of(field: FieldInfo) -> str:
    """Return the description of a field in the form of argparse's own help, with percent signs escaped."""
    sentence = field.description or ""
    # Not "zeRO stage".
    first = sentence[:1] if sentence[1:2].isupper() else sentence[:1].lower()
    return (first + sentence[1:]).removesuffix(".").replace("%", "%%")


def _whole(text: str) -> int | str:
    # Other text is passed on: `ClusterSpec` reports what is wrong with it.
    try:
        return int(text)
    except ValueError:
        return text


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


_READERS: Final = {"N": _whole, "USD": _number, "HOURS": _number, "SIZE": _number, "KEY=VALUE": pair}
"""Metavar -> how its text is read."""
