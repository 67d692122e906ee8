"""Runs a command, and turns its errors into one line and an exit status."""

import argparse
import os
import sys
from contextlib import AbstractContextManager, nullcontext

from multicompute import errors
from multicompute.cli.output import drop_output, is_closed, write_message
from multicompute.cli.parser import parse

OK = 0
UNEXPECTED = 1
INTERRUPTED = 130
READER_GONE = 141
"""The status that shells report for a program that SIGPIPE terminated."""

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
    """Return the exit status for `error`."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), UNEXPECTED)


def one_line(error: BaseException) -> str:
    """Return the message of `error` with its hint and notes on one line; semicolons separate the attempts that it lists."""
    words = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
    lines = [" ".join(line.split()) for line in "\n".join((words, *_notes(error))).splitlines() if line.strip()]
    return "; ".join(lines).replace(":; ", ": ")


def _notes(error: BaseException) -> list[str]:
    # The engine adds notes if a teardown is incomplete; they must be printed however the command ends.
    return getattr(error, "__notes__", [])


def guarded(argv: list[str]) -> int:
    """Run the command in `argv` and return its exit status; known errors are printed as one line, bugs with a traceback."""
    _open_streams()
    try:
        options = parse(argv)
        with _log(options):
            status: int = options.run(options)
        # Flush here and not at exit, so that a closed reader is detected inside the try.
        sys.stdout.flush()
    except SystemExit as stop:
        return _stopped(stop)
    except OSError as error:
        if not is_closed(sys.stdout, error):
            return _failed(error)
        drop_output(sys.stdout)
        # A view fails to close after SIGHUP, because its terminal is closed: the signal decides the status.
        return _stopped(error.__context__) if isinstance(error.__context__, SystemExit) else READER_GONE
    except (errors.MulticomputeError, KeyboardInterrupt) as error:
        return _failed(error)
    return status


def _log(options: argparse.Namespace) -> AbstractContextManager[None]:
    """Log to stderr inside the block, if the options ask for it."""
    if not (options.verbose or options.debug):
        return nullcontext()
    # Imported here: importing logging takes 10 ms.
    from multicompute.cli.logs import requested_log

    return requested_log(options)


def _failed(error: BaseException) -> int:
    write_message(f"multicompute: {one_line(error)}")
    return exit_status(error)


def _stopped(stop: SystemExit) -> int:
    for note in _notes(stop):
        write_message(f"multicompute: {note}")
    return stop.code if isinstance(stop.code, int) else OK if stop.code is None else UNEXPECTED


def _open_streams() -> None:
    """Open missing streams on the null device: under `>&-` and some schedulers Python sets them to None."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
