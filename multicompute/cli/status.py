"""Runs a command, and turns its errors into one line and an exit status."""

import argparse
import os
import sys
from contextlib import AbstractContextManager, nullcontext

from multicompute import errors
from multicompute.cli.output import drop_output, is_closed, write_message
from multicompute.cli.parser import parse

OK = 0
_SUMMED_UP = 2
"""So many attempts are not all in the message of their error."""
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
    options = argparse.Namespace()
    try:
        options = parse(_decoded(argv))
        with _log(options):
            status: int = options.run(options)
        # Flush here and not at exit, so that a closed reader is detected inside the try.
        sys.stdout.flush()
    except SystemExit as stop:
        return _stopped(stop)
    except OSError as error:
        if not is_closed(sys.stdout, error):
            return _failed(error, options)
        drop_output(sys.stdout)
        # A view fails to close after SIGHUP, because its terminal is closed: the signal decides the status.
        return _stopped(error.__context__) if isinstance(error.__context__, SystemExit) else READER_GONE
    except (errors.MulticomputeError, KeyboardInterrupt) as error:
        return _failed(error, options)
    return status


def _log(options: argparse.Namespace) -> AbstractContextManager[None]:
    """Log to stderr inside the block, if the options ask for it."""
    if not (options.verbose or options.debug):
        return nullcontext()
    # Imported here: importing logging takes 10 ms.
    from multicompute.cli.logs import requested_log

    return requested_log(options)


def _failed(error: BaseException, options: argparse.Namespace) -> int:
    write_message(f"multicompute: {one_line(error)}")
    _write_attempts(error, is_verbose=getattr(options, "verbose", False) or getattr(options, "debug", False))
    return exit_status(error)


def _write_attempts(error: BaseException, *, is_verbose: bool) -> None:
    """Write the attempts that the message of `error` sums up, or which command lists them."""
    attempts = error.attempts if isinstance(error, errors.MulticomputeError) else ()
    if len(attempts) < _SUMMED_UP:
        return
    if is_verbose:
        for attempt in attempts:
            write_message(f"  {' '.join(str(attempt).split())}")
        return
    cluster = getattr(error, "cluster", None)
    listed = f"`multicompute events {cluster}` lists all {len(attempts)} attempts" if cluster else ""
    write_message("; ".join(filter(None, (listed, "--verbose prints them with the error"))))


def _stopped(stop: SystemExit) -> int:
    for note in _notes(stop):
        write_message(f"multicompute: {note}")
    return stop.code if isinstance(stop.code, int) else OK if stop.code is None else UNEXPECTED


def _open_streams() -> None:
    """Open missing streams on the null device, and let the others write any text.

    Under `>&-` and some schedulers Python sets missing streams to None. Their descriptors are the lowest free ones: without
    this, the next file that is opened, such as the ledger, would get what a library writes to stderr. Characters that the
    locale can't encode are written as escapes.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            flags = os.O_RDONLY if mode == "r" else os.O_WRONLY
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, errors="backslashreplace"))
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _decoded(argv: list[str]) -> list[str]:
    """Return the arguments as text in UTF-8, also where the locale's encoding is another, except those of another program.

    Raises:
        SpecError: One of them is not text.
    """
    own = argv.index("--") if "--" in argv else len(argv)
    return [*map(_as_text, argv[:own]), *argv[own:]]


def _as_text(argument: str) -> str:
    try:
        argument.encode()
    except UnicodeEncodeError:
        # What the locale could not decode is kept as bytes.
        try:
            return os.fsencode(argument).decode()
        except UnicodeError:
            shown = argument.encode("ascii", "backslashreplace").decode()
            raise errors.SpecError(f"{shown}: not text in UTF-8") from None
    return argument
