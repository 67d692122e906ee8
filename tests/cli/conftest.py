"""Runs commands in this process."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from multicompute.cli import main


class Done(NamedTuple):
    """The exit status of a command and its output."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The document that `--json` printed, and nothing else."""
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
