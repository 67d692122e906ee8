"""Reads the arguments of a request from a TOML or JSON file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multicompute.arguments import read_table
from multicompute.cli.spelling import as_options
from multicompute.errors import SpecError
from multicompute.spec import ClusterSpec


def with_file(path: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments in a file, overridden by those given on the command line.

    Raises:
        SpecError: The file can't be read, or a key or value in it is wrong.
    """
    table = read_table(Path(path))
    arguments = {**table, **given}
    try:
        ClusterSpec.of(arguments)
    except SpecError as error:
        if not given or error.argument in table.keys() - given.keys():
            raise SpecError(f"{path}: {error.message}", argument=error.argument) from None
        raise SpecError(as_options(error.message), argument=error.argument) from None
    return arguments
