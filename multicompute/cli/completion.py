"""`completion`: shell scripts that complete commands and arguments, made from the parsers themselves."""

import argparse
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from multicompute.cli.tables import explain

SHELLS: Final = ("bash", "zsh", "fish")
# Characters that terminate a description in zsh's `_arguments`.
_BRACKETS: Final = str.maketrans({"[": "(", "]": ")", ":": ";"})


class _Flag(NamedTuple):
    """An option: its spellings, whether a value follows, the possible values, and its help."""

    names: Sequence[str]
    takes_value: bool
    values: Sequence[str]
    help: str


class _Command(NamedTuple):
    """The completions of a command: its options, and the values of its positional argument if they are fixed."""

    name: str
    summary: str
    flags: Sequence[_Flag]
    values: Sequence[str]


def completion_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `completion`."""
    explain(
        parser,
        "To enable it in every new shell:\n"
        "  bash   multicompute completion bash > ~/.local/share/bash-completion/completions/multicompute\n"
        "  zsh    multicompute completion zsh > ~/.zfunc/_multicompute    (a folder in $fpath)\n"
        "  fish   multicompute completion fish > ~/.config/fish/completions/multicompute.fish",
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell to print completion for")


def completion(options: argparse.Namespace) -> int:
    """Print the completion script of a shell."""
    write = {"bash": _bash, "zsh": _zsh, "fish": _fish}[options.shell]
    print("\n".join(write(list(_commands()))))
    return 0


def _commands() -> Iterator[_Command]:
    from multicompute.cli.parser import COMMANDS, parser_of

    for name, command in COMMANDS.items():
        actions = parser_of(name)._actions
        flags = [_flag(action) for action in actions if action.option_strings]
        values = [str(value) for action in actions if not action.option_strings for value in action.choices or ()]
        yield _Command(name, command.summary, flags, values)


def _flag(action: argparse.Action) -> _Flag:
    values = [str(value) for value in action.choices or ()]
    # An option with an optional value, such as `--spot`, is completed as a switch.
    takes_value = action.nargs not in (0, "?")
    return _Flag(action.option_strings, takes_value, values, (action.help or "").replace("%%", "%"))


def _bash(commands: Sequence[_Command]) -> Iterator[str]:
    names = _words(command.name for command in commands)
    yield "# multicompute completion for bash"
    yield "_multicompute() {"
    yield '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words="" i'
    # After "--" comes another program's command line.
    yield '    for ((i = 1; i < COMP_CWORD; i++)); do [ "${COMP_WORDS[i]}" != -- ] || return 0; done'
    yield f'    if [ "$COMP_CWORD" -eq 1 ]; then words="{names} --help --version"'
    yield '    else case "${COMP_WORDS[1]} $before" in'
    for command in commands:
        for flag in (flag for flag in command.flags if flag.takes_value):
            # A value of which nothing is known may be a file.
            files = 'COMPREPLY=($(compgen -f -- "$word")); return'
            answer = f'words="{_words(flag.values)}"' if flag.values else files
            yield f"        {'|'.join(shlex.quote(f'{command.name} {name}') for name in flag.names)}) {answer} ;;"
    yield '        *) case "${COMP_WORDS[1]}" in'
    for command in commands:
        known = _words([*command.values, *(name for flag in command.flags for name in flag.names)])
        yield f'            {command.name}) words="{known}" ;;'
    yield "        esac ;;"
    yield "    esac; fi"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$word"))'
    yield "}"
    yield "complete -F _multicompute multicompute"


def _zsh(commands: Sequence[_Command]) -> Iterator[str]:
    yield "#compdef multicompute"
    yield "_multicompute() {"
    yield "    local -a commands"
    yield "    commands=("
    yield from (f"        {shlex.quote(f'{command.name}:{command.summary}')}" for command in commands)
    yield "    )"
    yield "    if (( CURRENT == 2 )); then _describe command commands; return; fi"
    yield "    shift words; (( CURRENT-- ))"
    yield '    case "$words[1]" in'
    for command in commands:
        yield f"        {command.name}) _arguments \\"
        for flag in command.flags:
            # The star: an option may be repeated.
            words = flag.help.translate(_BRACKETS)
            value = f":value:{_zsh_values(flag.values, otherwise='_files')}" if flag.takes_value else ""
            yield from (f"            {shlex.quote(f'*{name}[{words}]{value}')} \\" for name in flag.names)
        yield f"            {shlex.quote(f'*:argument:{_zsh_values(command.values, otherwise=chr(32))}')} ;;"
    yield "    esac"
    yield "}"
    # In a folder of $fpath this file is the body of the function itself; if sourced, the function must be registered.
    yield 'if [ "$funcstack[1]" = _multicompute ]; then _multicompute "$@"; else compdef _multicompute multicompute; fi'


def _zsh_values(values: Sequence[str], *, otherwise: str) -> str:
    return f"({_words(values)})" if values else otherwise


def _fish(commands: Sequence[_Command]) -> Iterator[str]:
    yield "# multicompute completion for fish"
    yield "complete -c multicompute -f"
    for command in commands:
        what = f"-a {command.name} -d {_fish_quoted(command.summary)}"
        yield f"complete -c multicompute -n __fish_use_subcommand {what}"
    for command in commands:
        start = f"complete -c multicompute -n '__fish_seen_subcommand_from {command.name}'"
        if command.values:
            yield f"{start} -a '{_words(command.values)}'"
        for flag in command.flags:
            names = _words(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names)
            value = f"-x -a '{_words(flag.values)}' " if flag.values else "-r -F "
            yield f"{start} {names} {value if flag.takes_value else ''}-d {_fish_quoted(flag.help)}"


def _fish_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _words(words: Iterable[str]) -> str:
    return " ".join(words)
