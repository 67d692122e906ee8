"""`local`: clouds on this machine, for a command or for as long as one likes."""

import argparse
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from multicompute.cli.output import tell

NOT_EXECUTABLE = 126
NOT_FOUND = 127
"""What a shell reports for a command that can't be run, or isn't there."""


def local_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "multicompute local [-h] [-- COMMAND ...]"
    parser.epilog = (
        "Behind -- stands a command that is run with the environment set; the clouds stop after it, and its exit status\n"
        "is ours. Without one, the environment is printed and the clouds run until Ctrl-C.\n\n" + (parser.epilog or "")
    )
    parser.set_defaults(command=())


def local(options: argparse.Namespace) -> int:
    from multicompute.testing import local_clouds

    with _stoppable(), local_clouds() as clouds:
        if options.command:
            return _run(options.command)
        _wait(clouds.environment)
    return 0


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end the `with` in order, so that no local cloud is left behind."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _wait(environment: Mapping[str, str]) -> None:
    try:
        for name, value in environment.items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        tell("The local clouds run. Paste these lines into another shell to use them; Ctrl-C stops them.")
        threading.Event().wait()
    except KeyboardInterrupt:
        # The way in which this command is meant to end.
        tell("stopped")


def _run(command: Sequence[str]) -> int:
    """Run `command` to its end; `local_clouds` has put its variables into our environment, which the child inherits."""
    try:
        child = subprocess.Popen(list(command))
    except FileNotFoundError:
        tell(f"multicompute: {command[0]}: no such command")
        return NOT_FOUND
    except OSError as error:
        tell(f"multicompute: {command[0]}: {error.strerror}")
        return NOT_EXECUTABLE
    try:
        status = _status(child)
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()
    return status if status >= 0 else 128 - status


def _status(child: "subprocess.Popen[bytes]") -> int:
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            # The terminal sent Ctrl-C to the command as well: how to end is its decision.
            continue
