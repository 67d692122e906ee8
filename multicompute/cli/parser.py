"""The commands, and the parser that is created for the one that was given."""

import argparse
import re
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import NamedTuple, NoReturn

from multicompute.errors import SpecError


class Command(NamedTuple):
    """A command.

    Attributes:
        module: The module under `multicompute.cli` with the command as a function of its name, and its arguments as
            another called `<name>_arguments`. Only this module is imported: `ls` does not pay for `local`.
        summary: What it does, in half a sentence.
        example: A command line that works.
    """

    module: str
    summary: str
    example: str


COMMANDS = {
    "offers": Command(
        "prices", "list what can be bought, cheapest first", "multicompute offers h100 --gpus 8 --region eu"
    ),
    "size": Command(
        "size",
        "find how many of which accelerator a model needs, and what the complete job costs",
        "multicompute size --params 70e9 --tokens 2e12 --deadline 30d --spot=prefer",
    ),
    "plan": Command(
        "request",
        "rank the candidates for a request; calls no cloud",
        "multicompute plan --gpus 64 --type h100 --region 'us-*' --spot=prefer",
    ),
    "up": Command(
        "request",
        "launch a cluster, all nodes or none",
        "multicompute up --gpus 64 --type h100 --ttl 12h --tag team=nlp --name train-1",
    ),
    "ls": Command("clusters", "list live clusters", "multicompute ls --json"),
    "show": Command("clusters", "show one cluster", "multicompute show train-1"),
    "wait": Command("clusters", "wait until a cluster is READY", "multicompute wait train-1 --timeout 30m"),
    "nodes": Command("clusters", "list the nodes of a cluster", "multicompute nodes train-1 --json"),
    "events": Command("clusters", "print the event log of a cluster", "multicompute events train-1"),
    "watch": Command("watch", "display the state of a cluster, refreshed periodically", "multicompute watch train-1"),
    "run": Command(
        "running", "run a command on the nodes of a cluster", "multicompute run train-1 --timeout 10m -- nvidia-smi -L"
    ),
    "put": Command("running", "copy a file or folder to the nodes", "multicompute put train-1 code/ code"),
    "get": Command("running", "copy a file or folder from the nodes", "multicompute get train-1 logs results"),
    "ssh": Command("running", "open a shell on a node", "multicompute ssh train-1 3"),
    "torchrun": Command(
        "launching",
        "run a script under torchrun on all nodes",
        "multicompute torchrun train-1 --cwd code -- train.py --lr 0.1",
    ),
    "jax": Command(
        "launching", "run a script on all nodes with JAX initialized", "multicompute jax train-1 --cwd code -- train.py"
    ),
    "mpirun": Command(
        "launching", "run a program under Open MPI on all nodes", "multicompute mpirun train-1 -- ./a.out"
    ),
    "ray": Command(
        "launching", "run a command as a job of Ray on all nodes", "multicompute ray train-1 -- python train.py"
    ),
    "extend": Command("clusters", "extend the lease of a cluster", "multicompute extend train-1 2h"),
    "heal": Command("clusters", "start stopped nodes, and replace lost ones", "multicompute heal train-1"),
    "down": Command(
        "clusters", "terminate clusters and wait until nothing is left", "multicompute down train-1 train-2 --yes"
    ),
    "cost": Command(
        "cost", "report what clusters have cost and are expected to cost", "multicompute cost --since 30d --by tag:team"
    ),
    "reconcile": Command(
        "recovery", "compare the ledger with the clouds and fix differences", "multicompute reconcile --dry-run --json"
    ),
    "reap": Command("recovery", "terminate clusters whose lease has ended", "multicompute reap"),
    "supervise": Command(
        "supervise",
        "enforce ttl, budget and idle_timeout of all clusters periodically",
        "multicompute supervise --metrics 127.0.0.1:9464",
    ),
    "hosts": Command("hosts", "list your own machines, and check them", "multicompute hosts --check --json"),
    "outages": Command(
        "outages", "list what requests do not try for now, or forget it", "multicompute outages --clear us-east-1"
    ),
    "catalog": Command(
        "catalog",
        "show where prices come from and how old they are, or refresh them",
        "multicompute catalog refresh --accelerator h100 --region 'us-*'",
    ),
    "schema": Command("request", "print the JSON schema of a request", "multicompute schema > request.schema.json"),
    "init": Command("init", "write a configuration file from what this machine has", "multicompute init --yes"),
    "doctor": Command("doctor", "check providers, credentials, ledger and configuration", "multicompute doctor --json"),
    "verify": Command(
        "verify",
        "check the promises of this package in your own account, for a few cents",
        "multicompute verify CLOUD --max-spend 1.50",
    ),
    "local": Command(
        "local", "start local clouds, for tests and to try the package", "multicompute local -- multicompute doctor"
    ),
    "completion": Command("completion", "print tab completion for a shell", "multicompute completion bash"),
}


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage as SpecError, so that it is handled as every other error."""

    def format_help(self) -> str:
        # Only here, the width of the terminal matters. To read it for every argument would import shutil.
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        self.description = _rewrapped(self.description or "")
        self.epilog = _rewrapped(self.epilog or "")
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        # "argument --spot: invalid choice" names the option as if it were an argument of Python.
        message = message.removeprefix("argument ")
        if match := re.match(r"(?P<flag>--[\w-]+): invalid choice: '(?P<value>[^']*)'", message):
            hint = self._misplaced(match["flag"], match["value"])
            raise SpecError(f"{message}{hint}", hint=f"see `{self.prog} --help`")
        raise SpecError(message, hint=f"see `{self.prog} --help`")

    def _misplaced(self, flag: str, value: str) -> str:
        """Return a question if an optional value is probably another argument: `--spot h100`."""
        action = next(each for each in self._actions if flag in each.option_strings)
        if action.nargs != "?":
            return _nearest(value, [str(choice) for choice in action.choices or ()])
        near = _nearest(value, [str(choice) for choice in action.choices or ()])
        return near or f"; did you mean {flag} --type {value}?"


def _rewrapped(text: str) -> str:
    """Return `text` with its paragraphs in the width of the terminal; indented lines, which are commands and lists, stay as they are."""
    from multicompute.cli.output import terminal_width
    from multicompute.text import wrap

    lines: list[str] = []
    for line in text.splitlines():
        is_continued = lines and lines[-1] and line and not line.startswith(" ") and not lines[-1].startswith(" ")
        lines = [*lines[:-1], f"{lines[-1]} {line}"] if is_continued else [*lines, line]
    width = terminal_width()
    return "\n".join(line if line.startswith(" ") else "\n".join(wrap(line, width=width)) for line in lines)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; the attribute `run` of the result is the function to call with it.

    Raises:
        SpecError: The command or an argument is unknown (the message names the nearest known one), missing or wrong.
        SystemExit: Help or the version was requested and has been printed.
    """
    argv = _usual(argv)
    if not argv or argv[0] not in COMMANDS:
        _explain(argv)
    parser = parser_of(argv[0])
    # What follows "--" is another program's command line; argparse itself treats it differently since Python 3.13.
    own, dashes, foreign = _split(list(argv[1:]))
    options, unknown = parser.parse_known_args(own)
    if unknown or (dashes and not hasattr(options, "command")):
        _refuse(parser, [*unknown, *dashes])
    if hasattr(options, "command"):
        options.command = foreign
    return options


def _usual(argv: Sequence[str]) -> Sequence[str]:
    """Return what people of other tools mean: `help up` is `up --help`, and `version` is `--version`."""
    if argv and argv[0] == "help":
        return [*argv[1:2], "--help"]
    return ["--version"] if list(argv) in (["version"], ["-V"]) else argv


def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser of one command."""
    command = COMMANDS[name]
    module = import_module(f"multicompute.cli.{command.module}")
    parser = _Parser(
        prog=f"multicompute {name}",
        description=f"{command.summary[0].upper()}{command.summary[1:]}.",
        epilog=f"example:\n  {command.example}",
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=80),
        allow_abbrev=False,
    )
    # No option begins with a digit: "-1h" is a value, which the parser of durations refuses with a reason.
    parser._negative_number_matcher = re.compile(r"-\d")
    getattr(module, f"{name}_arguments")(parser)
    level = parser.add_mutually_exclusive_group()
    level.add_argument("--verbose", action="store_true", help="log every step to stderr")
    level.add_argument(
        "--debug", action="store_true", help="log every step, and every call of a cloud with its duration and ids"
    )
    parser.set_defaults(run=getattr(module, name))
    return parser


def _split(argv: list[str]) -> tuple[list[str], list[str], list[str]]:
    if "--" not in argv:
        return argv, [], []
    at = argv.index("--")
    return argv[:at], ["--"], argv[at + 1 :]


def _refuse(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> NoReturn:
    """Raise SpecError for the first unknown argument, with the nearest known one."""
    given = next((item for item in unknown if item.startswith("-") and item != "--"), unknown[0]).partition("=")[0]
    known = [flag for action in parser._actions for flag in action.option_strings]
    nearest = _nearest(given, known) if given.startswith("-") else _as_option(given, known)
    raise SpecError(f"{given}: unknown argument{nearest}", hint=f"see `{parser.prog} --help`")


def _as_option(value: str, known: Sequence[str]) -> str:
    """Return a question if a value without an option is probably the number or the type of accelerators: `plan 8 h100`."""
    if value == "--" or not {"--gpus", "--type"} <= set(known):
        return ""
    return f"; did you mean {'--gpus' if value.isdigit() else '--type'} {value}?"


def _nearest(name: str, known: Sequence[str]) -> str:
    # Imported here: only error messages need it.
    from multicompute.validation import did_you_mean

    question = did_you_mean(name, known)
    return f"; {question}" if question else ""


def _explain(argv: Sequence[str]) -> NoReturn:
    """Handle a command line that names no command."""
    if argv and argv[0] not in ("-h", "--help", "--version"):
        raise SpecError(
            f"{argv[0]}: no such command{_nearest(argv[0], list(COMMANDS))}", hint="see `multicompute --help`"
        )
    if not argv:
        raise SpecError("no command given", hint="see `multicompute --help`")
    width = max(map(len, COMMANDS))
    parser = _Parser(
        prog="multicompute",
        usage="multicompute COMMAND ...",
        description="Accelerator clusters from any cloud: the cheapest offer, all nodes or none, and nothing left running.",
        epilog="commands:\n"
        + "\n".join(f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items())
        + "\n\nSee `multicompute COMMAND --help` for the arguments of a command.\n\n"
        + "example:\n  multicompute plan --gpus 64 --type h100",
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=80),
        allow_abbrev=False,
    )
    from multicompute._version import __version__

    parser.add_argument("--version", action="version", version=f"multicompute {__version__}")
    parser.parse_args(argv[:1])
    raise SystemExit(0)
