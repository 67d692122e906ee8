"""`completion`: what a shell needs to complete the commands and their arguments, made from the parsers themselves."""

import argparse
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

SHELLS: Final = ("bash", "zsh", "fish")
# What ends a description in the words of `_arguments`.
_BRACKETS: Final = str.maketrans({"[": "(", "]": ")", ":": ";"})


class _Flag(NamedTuple):
    """One flag: how it is written, whether a value follows it, which values there are, and what it is for."""

    names: Sequence[str]
    takes_value: bool
    values: Sequence[str]
    words: str


class _Shape(NamedTuple):
    """What can stand behind a command: `values` are those of its own argument, where it has fixed ones."""

    command: str
    summary: str
    flags: Sequence[_Flag]
    values: Sequence[str]


def completion_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "To have it in every new shell:\n"
        "  bash   multicompute completion bash > ~/.local/share/bash-completion/completions/multicompute\n"
        "  zsh    multicompute completion zsh > ~/.zfunc/_multicompute    (a folder in $fpath)\n"
        "  fish   multicompute completion fish > ~/.config/fish/completions/multicompute.fish\n\n"
        + (parser.epilog or "")
    )
    parser.add_argument("shell", choices=SHELLS, help="whose completion to write to stdout")


def completion(options: argparse.Namespace) -> int:
    write = {"bash": _bash, "zsh": _zsh, "fish": _fish}[options.shell]
    print("\n".join(write(list(_shapes()))))
    return 0


def _shapes() -> Iterator[_Shape]:
    from multicompute.cli.parser import COMMANDS, parser_of

    for name, command in COMMANDS.items():
        actions = parser_of(name)._actions
        flags = [_flag(action) for action in actions if action.option_strings]
        values = [str(value) for action in actions if not action.option_strings for value in action.choices or ()]
        yield _Shape(name, command.summary, flags, values)


def _flag(action: argparse.Action) -> _Flag:
    values = [str(value) for value in action.choices or ()]
    # A flag whose value may be left out, such as `--spot`, is completed as the switch that it is without one.
    takes_value = action.nargs not in (0, "?")
    return _Flag(action.option_strings, takes_value, values, (action.help or "").replace("%%", "%"))


def _bash(shapes: Sequence[_Shape]) -> Iterator[str]:
    commands = _words(shape.command for shape in shapes)
    yield "# multicompute completion for bash"
    yield "_multicompute() {"
    yield '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words="" i'
    # Behind "--" stands another program's command line.
    yield '    for ((i = 1; i < COMP_CWORD; i++)); do [ "${COMP_WORDS[i]}" != -- ] || return 0; done'
    yield f'    if [ "$COMP_CWORD" -eq 1 ]; then words="{commands} --help --version"'
    yield '    else case "${COMP_WORDS[1]} $before" in'
    for shape in shapes:
        for flag in (flag for flag in shape.flags if flag.takes_value):
            # Where nothing is known of the value, it may be a file.
            files = 'COMPREPLY=($(compgen -f -- "$word")); return'
            answer = f'words="{_words(flag.values)}"' if flag.values else files
            yield f"        {'|'.join(shlex.quote(f'{shape.command} {name}') for name in flag.names)}) {answer} ;;"
    yield '        *) case "${COMP_WORDS[1]}" in'
    for shape in shapes:
        known = _words([*shape.values, *(name for flag in shape.flags for name in flag.names)])
        yield f'            {shape.command}) words="{known}" ;;'
    yield "        esac ;;"
    yield "    esac; fi"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$word"))'
    yield "}"
    yield "complete -F _multicompute multicompute"


def _zsh(shapes: Sequence[_Shape]) -> Iterator[str]:
    yield "#compdef multicompute"
    yield "_multicompute() {"
    yield "    local -a commands"
    yield "    commands=("
    yield from (f"        {shlex.quote(f'{shape.command}:{shape.summary}')}" for shape in shapes)
    yield "    )"
    yield "    if (( CURRENT == 2 )); then _describe command commands; return; fi"
    yield "    shift words; (( CURRENT-- ))"
    yield '    case "$words[1]" in'
    for shape in shapes:
        yield f"        {shape.command}) _arguments \\"
        for flag in shape.flags:
            # The star: a flag may come again.
            words = flag.words.translate(_BRACKETS)
            value = f":value:{_zsh_values(flag.values, otherwise='_files')}" if flag.takes_value else ""
            yield from (f"            {shlex.quote(f'*{name}[{words}]{value}')} \\" for name in flag.names)
        yield f"            {shlex.quote(f'*:argument:{_zsh_values(shape.values, otherwise=chr(32))}')} ;;"
    yield "    esac"
    yield "}"
    # From a folder in $fpath this file is the body of the function itself; sourced, it has to be made known.
    yield 'if [ "$funcstack[1]" = _multicompute ]; then _multicompute "$@"; else compdef _multicompute multicompute; fi'


def _zsh_values(values: Sequence[str], *, otherwise: str) -> str:
    return f"({_words(values)})" if values else otherwise


def _fish(shapes: Sequence[_Shape]) -> Iterator[str]:
    yield "# multicompute completion for fish"
    yield "complete -c multicompute -f"
    for shape in shapes:
        what = f"-a {shape.command} -d {_fish_quoted(shape.summary)}"
        yield f"complete -c multicompute -n __fish_use_subcommand {what}"
    for shape in shapes:
        start = f"complete -c multicompute -n '__fish_seen_subcommand_from {shape.command}'"
        if shape.values:
            yield f"{start} -a '{_words(shape.values)}'"
        for flag in shape.flags:
            names = _words(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names)
            value = f"-x -a '{_words(flag.values)}' " if flag.values else "-r -F "
            yield f"{start} {names} {value if flag.takes_value else ''}-d {_fish_quoted(flag.words)}"


def _fish_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _words(words: Iterable[str]) -> str:
    return " ".join(words)
