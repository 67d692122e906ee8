"""Reports which clouds a command has asked, and which it could not ask."""

from typing import TYPE_CHECKING, Final

from multicompute.cli.output import write_message
from multicompute.text import shortened

if TYPE_CHECKING:
    from multicompute.engine.operation.coverage import Coverage

NOT_ASKED: Final = 6
"""The status if a cloud that should have been asked could not be: what it has is unknown."""
_LONGEST: Final = 240


def write_coverage(coverage: "Coverage", *, is_terse: bool = False) -> None:
    """Write to stderr what could not be asked and, unless it is to be terse, what was."""
    for line in coverage.problems():
        write_message(f"note: {shortened(' '.join(line.split()), _LONGEST)}")
    if is_terse:
        return
    asked = f"asked: {', '.join(sorted(coverage.asked))}" if coverage.asked else "no cloud was asked"
    write_message(f"{asked}; not set up here: {', '.join(coverage.unused)}" if coverage.unused else asked)
