"""`local`: runs local clouds for one command, or until Ctrl-C."""

import argparse
import shlex
import subprocess
import threading
from collections.abc import Mapping, Sequence

from multicompute.cli.output import write_message
from multicompute.cli.tables import explain

_WAIT_SECONDS = 1.0
NOT_EXECUTABLE = 126
NOT_FOUND = 127
"""The statuses that shells report for a command that can't be run, and for one that does not exist."""


def local_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `local`."""
    parser.usage = "multicompute local [-h] [-- COMMAND ...]"
    explain(
        parser,
        "Runs the command after -- with the environment set to the local clouds, stops them and returns the command's exit\n"
        "status. Without a command, prints the environment and runs the clouds until Ctrl-C.",
    )
    parser.set_defaults(command=())


def local(options: argparse.Namespace) -> int:
    """Run local clouds."""
    from multicompute.engine.operation.cancellation import StopGuard
    from multicompute.testing import local_clouds

    guard = StopGuard()
    guard.install()
    try:
        with local_clouds() as clouds:
            if options.command:
                return _run(options.command)
            _wait(clouds.environment)
    finally:
        guard.uninstall()
    return 0


def _wait(environment: Mapping[str, str]) -> None:
    try:
        for name, value in environment.items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        write_message(
            "The local clouds are running. Paste these lines into another shell to use them; Ctrl-C stops them."
        )
        forever = threading.Event()
        # A signal that arrives just before a wait begins does not end it, so no wait is long.
        while not forever.wait(_WAIT_SECONDS):
            pass
    except KeyboardInterrupt:
        # Ctrl-C is how users stop this command.
        write_message("stopped")


def _run(command: Sequence[str]) -> int:
    """Run `command` until it exits; it inherits the variables that `local_clouds` set."""
    try:
        child = subprocess.Popen(list(command))
    except FileNotFoundError:
        write_message(f"multicompute: {command[0]}: no such command")
        return NOT_FOUND
    except OSError as error:
        write_message(f"multicompute: {command[0]}: {error.strerror}")
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
            # The terminal sent Ctrl-C to the command as well, which decides how to exit.
            continue
