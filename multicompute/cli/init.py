"""`init`: writes a configuration file that shows what was found on this machine, and what can be set."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from multicompute.cli.output import confirm, write_message
from multicompute.cli.tables import explain
from multicompute.errors import AuthError, SpecError

if TYPE_CHECKING:
    from multicompute.provider import ProviderPlugin
    from multicompute.session import Session


def init_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `init`."""
    explain(
        parser,
        "Every line of the file is commented out and shows the default. No credential is written to it. The command then\n"
        "runs `doctor` and returns its exit status.",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def init(options: argparse.Namespace) -> int:
    """Write the file and check the result."""
    from multicompute.cli.doctor import doctor
    from multicompute.config import load
    from multicompute.plugins import discover
    from multicompute.session import Session

    # Ignore the existing file: it will be replaced, and may not even be valid.
    session = Session(config=load(with_file=False), plugins=discover())
    path = session.config.path
    _refuse_to_overwrite(path, force=options.force)
    for plugin in session.plugins.values():
        write_message(f"{plugin.name}: {_finding(session, plugin)}")
    if not options.yes and not _confirmed(path):
        write_message("nothing was written")
        return 0
    _write(path, "\n".join(_lines(session)) + "\n", force=options.force)
    write_message(f"wrote {path}\n")
    status = doctor(argparse.Namespace(json=False, output="table", wide=False))
    write_message(
        "\nnext: `multicompute plan --gpus 8 --type h100` shows prices, `multicompute up` with the same arguments launches"
        if status == 0
        else "\nnext: fix what is not ok, and check with `multicompute doctor`; `multicompute local` needs no account"
    )
    return status


def _refuse_to_overwrite(path: Path, *, force: bool) -> None:
    if os.path.lexists(path) and not force and not _is_empty(path):
        raise SpecError(
            f"{path}: exists already, and was not changed",
            hint="`multicompute doctor` checks it; `multicompute init --force` overwrites it",
        )


def _is_empty(path: Path) -> bool:
    """Return whether a file has nothing to lose, such as the one that `MULTICOMPUTE_CONFIG` names on local clouds."""
    return path.is_file() and not path.is_symlink() and not path.stat().st_size


def _confirmed(path: Path) -> bool:
    """Ask whether to write, if there is a terminal. Without one, write: the new file holds only comments."""
    return not sys.stdin.isatty() or confirm(f"Write {path}?")


def _finding(session: "Session", plugin: "ProviderPlugin") -> str:
    """Return how a provider is reached, or what is missing and how to fix it."""
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
    yield "# Written by `multicompute init`. Every line is a comment that shows the default. Remove the # to change it."
    yield "# Variables such as MULTICOMPUTE_STATE override this file. Do not write credentials here."
    yield ""
    yield "# URL of the ledger; postgresql://... for one that several machines share."
    yield _setting("state", without_password(config.state))
    yield '# Lifetime of clusters whose request names none; "none" for no limit.'
    yield _setting("default_ttl", format_duration(config.default_ttl) if config.default_ttl else "none")
    yield "# Owner of the resources, in a tag on each of them."
    yield _setting("owner", config.owner)
    yield "# The only clouds to use; all if empty."
    yield _setting("clouds", list(config.clouds))
    yield "# USD per hour above which `up` without a terminal requires --yes."
    yield _setting("confirm_above", config.confirm_above)
    yield "# USD per hour that no cluster may cost; no ceiling if empty."
    yield _setting("max_hourly", config.max_hourly or "")
    for plugin in session.plugins.values():
        yield ""
        yield f"# {plugin.name}: {_finding(session, plugin)}"
        yield f"# [providers.{plugin.name}]"
        # An empty setting counts as none, so that a line can be enabled before its value is known.
        yield from (_setting(key, "") for key in plugin.setting_names)


def _setting(key: str, value: str | float | list[str]) -> str:
    # JSON of a string, a number or a list of strings is also TOML.
    return f"# {key} = {json.dumps(value)}"


def _write(path: Path, text: str, *, force: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if force or _is_empty(path):
        path.unlink(missing_ok=True)
    # Refuse a link or file created meanwhile. Only the owner may read it: people write URLs of ledgers here.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
