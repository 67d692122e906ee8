"""`init`: a configuration file that says what was found on this machine, and what could be set."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from multicompute.cli.output import tell
from multicompute.errors import AuthError, SpecError

if TYPE_CHECKING:
    from multicompute.provider import ProviderPlugin
    from multicompute.session import Session


def init_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Every line of the file is commented out: what it shows holds anyway. No credential is written to it. Then `doctor`\n"
        "is run, and its exit status is ours.\n\n" + (parser.epilog or "")
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--force", action="store_true", help="overwrite the file that is there")


def init(options: argparse.Namespace) -> int:
    from multicompute.cli.doctor import doctor
    from multicompute.config import load
    from multicompute.plugins import discover
    from multicompute.session import Session

    # As if there were no file: it is to be replaced, and need not even be readable.
    session = Session(config=load(with_file=False), plugins=discover())
    path = session.config.path
    _refuse_to_overwrite(path, force=options.force)
    for plugin in session.plugins.values():
        tell(f"{plugin.name}: {_finding(session, plugin)}")
    if not options.yes and not _confirmed(path):
        tell("nothing was written")
        return 0
    _write(path, "\n".join(_lines(session)) + "\n", force=options.force)
    tell(f"{path} is written\n")
    status = doctor(argparse.Namespace(json=False))
    tell(
        "\nnext: `multicompute plan --gpus 8 --type h100` shows what it would cost, `multicompute up` with the same arguments gets it"
        if status == 0
        else "\nnext: mend what says no, and look again with `multicompute doctor`; `multicompute local` needs no account"
    )
    return status


def _refuse_to_overwrite(path: Path, *, force: bool) -> None:
    if os.path.lexists(path) and not force:
        raise SpecError(
            f"{path}: is there already, and was left as it is",
            hint="`multicompute doctor` checks it; `multicompute init --force` overwrites it",
        )


def _confirmed(path: Path) -> bool:
    """Whether to write; where there is nobody to ask, writing a new file of comments is what the command is for."""
    if not sys.stdin.isatty():
        return True
    tell(f"Write {path}? [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _finding(session: "Session", plugin: "ProviderPlugin") -> str:
    """What there is to reach a provider with, or what is missing and what would mend it."""
    settings = session.settings(plugin.name)
    why_not = session.usable[plugin.name]
    if not why_not:
        return f"found, {plugin.configured(settings).why}".rstrip(", ")
    if plugin.configured(settings).ok:
        return f"not usable: {why_not}"
    try:
        plugin.open(settings)
    except AuthError as error:
        return f"not found: {why_not}" + (f"; {error.hint}" if error.hint else "")
    return f"not found: {why_not}"


def _lines(session: "Session") -> Iterator[str]:
    from multicompute.config import without_password
    from multicompute.units import format_duration

    config = session.config
    yield "# Written by `multicompute init`. Every line is a comment: what it shows holds anyway. Take the # away to change it."
    yield "# A variable such as MULTICOMPUTE_STATE wins over this file. Credentials do not belong here."
    yield ""
    yield "# The ledger; postgresql://... for one that several machines share."
    yield _setting("state", without_password(config.state))
    yield '# The end of life of clusters that name none; "none" for none.'
    yield _setting("default_ttl", format_duration(config.default_ttl) if config.default_ttl else "none")
    yield "# Whose the resources are, in a tag on each of them."
    yield _setting("owner", config.owner)
    for plugin in session.plugins.values():
        yield ""
        yield f"# {plugin.name}: {_finding(session, plugin)}"
        yield f"# [providers.{plugin.name}]"
        # A setting that is empty counts as none, so that a line may be taken in before its value is known.
        yield from (_setting(key, "") for key in plugin.setting_names)


def _setting(key: str, value: str) -> str:
    # A text of JSON is one of TOML.
    return f"# {key} = {json.dumps(value)}"


def _write(path: Path, text: str, *, force: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if force:
        path.unlink(missing_ok=True)
    # A link or a file that came in between is refused, and nobody else may read it: people write addresses of ledgers here.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
