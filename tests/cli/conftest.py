"""Runs commands in this process."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from multicompute.cli import main


class Done(NamedTuple):
    """How a command ended and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What `--json` wrote: one document, and nothing beside it."""
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run `multicompute ARGUMENTS...`."""

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        status = main(arguments)
        out, err = capsys.readouterr()
        return Done(status, out, err)

    return run
