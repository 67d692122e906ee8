"""Runs a command and turns however it ends into one line and an exit status."""

import os
import sys

from multicompute import errors
from multicompute.cli.output import tell
from multicompute.cli.parser import parse

OK = 0
UNEXPECTED = 1
INTERRUPTED = 130
READER_GONE = 141
"""What a shell reports for a program that SIGPIPE ended."""

_STATUSES: tuple[tuple[type[errors.MulticomputeError], int], ...] = (
    (errors.SpecError, 2),
    (errors.NoOfferError, 3),
    (errors.CapacityError, 4),
    (errors.QuotaError, 5),
    (errors.AuthError, 6),
    (errors.AccessDeniedError, 6),
    (errors.ProvisionTimeout, 7),
    (errors.ClusterNotFound, 8),
    (errors.ClusterExists, 8),
)


def exit_status(error: BaseException) -> int:
    """The exit status that stands for `error`."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), UNEXPECTED)


def one_line(error: BaseException) -> str:
    """The message of `error` with its hint and notes, on one line; where it lists what was tried, semicolons part the tries."""
    words = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
    lines = [" ".join(line.split()) for line in "\n".join((words, *_notes(error))).splitlines() if line.strip()]
    return "; ".join(lines).replace(":; ", ": ")


def _notes(error: BaseException) -> list[str]:
    # What the engine adds where a teardown is not through: never to be lost, whatever ends the command.
    return getattr(error, "__notes__", [])


def guarded(argv: list[str]) -> int:
    """Run the command in `argv`; a bug surfaces with its traceback, every known error as one line."""
    _open_streams()
    try:
        options = parse(argv)
        status: int = options.run(options)
        # Here and not at exit, so that a reader who has gone is met inside the try.
        sys.stdout.flush()
    except SystemExit as stop:
        for note in _notes(stop):
            tell(f"multicompute: {note}")
        return stop.code if isinstance(stop.code, int) else OK if stop.code is None else UNEXPECTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more when it ends; give it somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except (errors.MulticomputeError, OSError, KeyboardInterrupt) as error:
        tell(f"multicompute: {one_line(error)}")
        return exit_status(error)
    return status


def _open_streams() -> None:
    """Write to nowhere where there is no stdout or stderr, as under `>&-` and some schedulers: Python has None there."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
