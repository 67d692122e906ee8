"""The commands, and the parser that is made for the one that was asked for."""

import argparse
import difflib
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple, NoReturn

from multicompute.errors import SpecError


class Command(NamedTuple):
    """A line of the table of commands.

    Attributes:
        room: the module under `multicompute.cli` that has the command as a function of its name, and its arguments in
            one called `<name>_arguments`. Only that one is imported: a cold `offers` pays nothing for `local`.
    """

    room: str
    summary: str
    example: str


COMMANDS = {
    "offers": Command(
        "prices", "list what can be bought, cheapest first", "multicompute offers h100 --gpus 8 --region eu"
    ),
    "plan": Command(
        "prices",
        "rank every way to meet a request; touches no cloud",
        "multicompute plan --gpus 64 --type h100 --region 'us-*' --spot=prefer",
    ),
    "up": Command(
        "clusters",
        "bring a cluster up, all of it or nothing",
        "multicompute up --gpus 64 --type h100 --ttl 12h --tag team=nlp --name train-1",
    ),
    "ls": Command("clusters", "list the clusters that live", "multicompute ls --json"),
    "show": Command("clusters", "show one cluster", "multicompute show train-1"),
    "nodes": Command("clusters", "list the nodes of a cluster", "multicompute nodes train-1 --json"),
    "events": Command("clusters", "tell the story of a cluster", "multicompute events train-1"),
    "watch": Command("watch", "draw what a cluster is doing, again and again", "multicompute watch train-1"),
    "extend": Command("clusters", "move the end of a cluster's life", "multicompute extend train-1 2h"),
    "heal": Command("clusters", "replace the nodes that a cluster has lost", "multicompute heal train-1"),
    "down": Command(
        "clusters", "tear clusters down and wait until nothing is left", "multicompute down train-1 train-2 --yes"
    ),
    "cost": Command(
        "cost", "tell what clusters have cost and will come to", "multicompute cost --since 30d --by tag:team"
    ),
    "reconcile": Command(
        "recovery",
        "compare the ledger with the clouds and mend what differs",
        "multicompute reconcile --dry-run --json",
    ),
    "reap": Command("recovery", "end what has outlived its ttl", "multicompute reap"),
    "supervise": Command(
        "supervise",
        "enforce ttl, budget and idle_timeout of every cluster, round after round",
        "multicompute supervise --metrics 127.0.0.1:9464",
    ),
    "catalog": Command("prices", "tell where the prices come from and how old they are", "multicompute catalog info"),
    "init": Command("init", "write a configuration file with what is found on this machine", "multicompute init --yes"),
    "doctor": Command("doctor", "check providers, credentials, ledger and configuration", "multicompute doctor --json"),
    "local": Command(
        "local",
        "start clouds on this machine, for tests and for trying out",
        "multicompute local -- multicompute doctor",
    ),
    "completion": Command(
        "completion", "write the completion of commands and arguments for a shell", "multicompute completion bash"
    ),
}


class _Parser(argparse.ArgumentParser):
    """Reports misuse as SpecError, so that it leaves by the same door as every other error."""

    def error(self, message: str) -> NoReturn:
        raise SpecError(message, hint=f"see `{self.prog} --help`")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; `run` of the answer is the function to call with it.

    Raises:
        SpecError: the command or an argument is unknown (the nearest known one is named), missing or not of its kind.
        SystemExit: help or the version was asked for, and has been printed.
    """
    if not argv or argv[0] not in COMMANDS:
        _explain(argv)
    parser = parser_of(argv[0])
    # What stands behind "--" is another program's command line; argparse's own treatment of it changed with 3.13.
    own, dashes, foreign = _split(list(argv[1:]))
    options, unknown = parser.parse_known_args(own)
    if unknown or (dashes and not hasattr(options, "command")):
        _refuse(parser, [*unknown, *dashes])
    if hasattr(options, "command"):
        options.command = foreign
    return options


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    command = COMMANDS[name]
    room = import_module(f"multicompute.cli.{command.room}")
    parser = _Parser(
        prog=f"multicompute {name}",
        description=f"{command.summary[0].upper()}{command.summary[1:]}.",
        epilog=f"example:\n  {command.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    getattr(room, f"{name}_arguments")(parser)
    parser.set_defaults(run=getattr(room, name))
    return parser


def _split(argv: list[str]) -> tuple[list[str], list[str], list[str]]:
    if "--" not in argv:
        return argv, [], []
    at = argv.index("--")
    return argv[:at], ["--"], argv[at + 1 :]


def _refuse(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> NoReturn:
    """Name the first unknown argument, and the known one that it is nearest to."""
    given = next((item for item in unknown if item.startswith("-") and item != "--"), unknown[0]).partition("=")[0]
    known = [flag for action in parser._actions for flag in action.option_strings]
    near = difflib.get_close_matches(given, known, n=1) if given.startswith("-") else []
    raise SpecError(
        f"{given}: unknown argument" + (f"; did you mean {near[0]}?" if near else ""),
        hint=f"see `{parser.prog} --help`",
    )


def _explain(argv: Sequence[str]) -> NoReturn:
    """Answer a command line that names no command."""
    if argv and argv[0] not in ("-h", "--help", "--version"):
        near = difflib.get_close_matches(argv[0], COMMANDS, n=1)
        raise SpecError(
            f"{argv[0]}: no such command" + (f"; did you mean {near[0]}?" if near else ""),
            hint="see `multicompute --help`",
        )
    if not argv:
        raise SpecError("no command given", hint="see `multicompute --help`")
    width = max(map(len, COMMANDS))
    parser = _Parser(
        prog="multicompute",
        usage="multicompute COMMAND ...",
        description="Accelerator fleets from any cloud: the cheapest offer, all or nothing, and nothing left running.",
        epilog="commands:\n"
        + "\n".join(f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items())
        + "\n\n`multicompute COMMAND --help` tells more.\n\nexample:\n  multicompute plan --gpus 64 --type h100",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    from multicompute._version import __version__

    parser.add_argument("--version", action="version", version=f"multicompute {__version__}")
    parser.parse_args(argv[:1])
    raise SystemExit(0)
