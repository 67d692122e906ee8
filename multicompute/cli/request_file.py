"""Reads the arguments of a request from a TOML or JSON file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multicompute.cli.spelling import as_options
from multicompute.errors import SpecError
from multicompute.spec import ClusterSpec


def with_file(path: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments in a file, overridden by those given on the command line.

    Raises:
        SpecError: The file can't be read, or a key or value in it is wrong.
    """
    table = _read(Path(path))
    arguments = {**table, **given}
    try:
        ClusterSpec.of(arguments)
    except SpecError as error:
        if not given or error.argument in table.keys() - given.keys():
            raise SpecError(f"{path}: {error.message}", argument=error.argument) from None
        raise SpecError(as_options(error.message), argument=error.argument) from None
    return arguments


def _read(path: Path) -> dict[str, Any]:
    if path.suffix not in (".toml", ".json"):
        raise SpecError(f"{path}: must be a .toml or .json file")
    try:
        table = _parsed(path.read_text(encoding="utf-8"), path.suffix)
    except (OSError, UnicodeError) as error:
        raise SpecError(f"{path}: can't be read: {error}") from error
    except ValueError as error:
        raise SpecError(f"{path}: not valid {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(table, dict):
        raise SpecError(f'{path}: must be an object whose keys are arguments, such as {{"gpus": 8}}')
    return table


def _parsed(text: str, suffix: str) -> Any:
    if suffix == ".json":
        return json.loads(text)
    import tomllib

    return tomllib.loads(text)
