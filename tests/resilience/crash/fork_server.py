"""A process that has imported everything and forks a child for each command, so that a command takes milliseconds.

Run it as a script with the file of the clock. Each line on stdin is a command in JSON. Two lines answer it: the process id of
the child, and its exit status when it has ended.
"""

import gc
import http.client
import json
import os
import signal
import sqlite3
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from multicompute.cli import main
from multicompute.clock import SystemClock
from tests.resilience.crash.shared_clock import SharedClock

LONGEST_SECONDS = 30


def serve(clock: SharedClock) -> None:
    """Run commands until stdin ends."""
    # Patched, since the package has no setting for the clock: its system clock becomes the shared one.
    SystemClock.now = lambda self: clock.now()  # type: ignore[method-assign]
    SystemClock.sleep = lambda self, duration: clock.sleep(duration)  # type: ignore[method-assign]
    for line in sys.stdin.buffer:
        command = json.loads(line)
        if command["is_warm_up"]:
            send({"status": warm_up(command)})
            continue
        child = os.fork()
        if child == 0:
            run(command)
        send({"child": child})
        _, status = os.waitpid(child, 0)
        send({"status": os.waitstatus_to_exitcode(status)})


def send(message: dict[str, int]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def warm_up(command: dict[str, Any]) -> int:
    """Run a command in this process, so that children inherit its imports and service descriptions; no thread may remain."""
    os.environ.update(command["environment"])
    kept = os.dup(1)
    with Path(command["folder"], "warm-up").open("wb") as output:
        os.dup2(output.fileno(), 1)
        try:
            status = main(command["arguments"])
        finally:
            sys.stdout.flush()
            os.dup2(kept, 1)
            os.close(kept)
    gc.collect()
    gc.freeze()
    if threading.active_count() != 1:
        raise RuntimeError(f"a fork needs a process of one thread: {threading.enumerate()}")
    return status


def run(command: dict[str, Any]) -> None:
    """Run the command in the child, and exit."""
    signal.alarm(LONGEST_SECONDS)
    os.environ.update(command["environment"])
    folder = Path(command["folder"])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        opened = os.open(os.devnull if name == "stdin" else folder / name, os.O_CREAT | os.O_TRUNC | os.O_RDWR)
        os.dup2(opened, number)
        os.close(opened)
    if command["kill_at"]:
        SelfKill(**command["kill_at"]).install()
    status = main(command["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class SelfKill:
    """Kills this process at one of its writes to the ledger.

    Args:
        moment: "answered": before a write that follows an answer of the cloud; "committed": after a write.
        number: which of those writes, from 1.
    """

    def __init__(self, moment: str, number: int) -> None:
        self.moment = moment
        self.left = number
        self.is_answered = False

    def install(self) -> None:
        """Intercept answers of clouds and writes to the ledger."""
        getresponse, reach, state = http.client.HTTPConnection.getresponse, self.reach, self

        def answered(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
            response = getresponse(connection)
            state.is_answered = True
            return response

        class Connection(sqlite3.Connection):
            def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
                if statement.startswith("BEGIN") and state.is_answered:
                    state.is_answered = False
                    reach("answered")
                cursor = super().execute(statement, *values)
                if statement == "COMMIT":
                    reach("committed")
                return cursor

        # All SDKs call through the first class, and the ledger writes through the second; neither is ours.
        patched: Any = http.client.HTTPConnection
        patched.getresponse = answered
        sqlite3.connect = partial(sqlite3.connect, factory=Connection)  # type: ignore[assignment]

    def reach(self, moment: str) -> None:
        """Reach such a moment."""
        self.left -= moment == self.moment
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    serve(SharedClock(Path(sys.argv[1])))
