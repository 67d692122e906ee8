"""A process that has imported everything and done nothing else yet: each child that it forks runs one command, in milliseconds.

Run as a script with the file of the clock. Each line on stdin is a command in JSON, which is answered by two lines: the child's id, and
its status once it has ended.
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
    # Where the product asks the system for the time, it is told the shared one: there is no switch for that in the product.
    SystemClock.now = lambda self: clock.now()  # type: ignore[method-assign]
    SystemClock.sleep = lambda self, duration: clock.sleep(duration)  # type: ignore[method-assign]
    for line in sys.stdin.buffer:
        command = json.loads(line)
        if command["is_warm_up"]:
            answer({"status": warm_up(command)})
            continue
        child = os.fork()
        if child == 0:
            run(command)
        answer({"child": child})
        _, status = os.waitpid(child, 0)
        answer({"status": os.waitstatus_to_exitcode(status)})


def answer(message: dict[str, int]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def warm_up(command: dict[str, Any]) -> int:
    """Run a command in this process, for what it imports and for the descriptions of services that it reads; no thread stays."""
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
    """Be the child: run the command, and end."""
    signal.alarm(LONGEST_SECONDS)
    os.environ.update(command["environment"])
    folder = Path(command["folder"])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        opened = os.open(os.devnull if name == "stdin" else folder / name, os.O_CREAT | os.O_TRUNC | os.O_RDWR)
        os.dup2(opened, number)
        os.close(opened)
    if command["kill_at"]:
        Suicide(**command["kill_at"]).prepare()
    status = main(command["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class Suicide:
    """Kills this process at one of its writes to the ledger.

    Args:
        moment: "answered": before a write that follows upon an answer of the cloud; "committed": after a write.
        number: at which of those, from 1.
    """

    def __init__(self, moment: str, number: int) -> None:
        self.moment = moment
        self.left = number
        self.is_answered = False

    def prepare(self) -> None:
        """Watch answers and writes."""
        ask, reach, suicide = http.client.HTTPConnection.getresponse, self.reach, self

        def answered(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
            response = ask(connection)
            suicide.is_answered = True
            return response

        class Connection(sqlite3.Connection):
            def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
                if statement.startswith("BEGIN") and suicide.is_answered:
                    suicide.is_answered = False
                    reach("answered")
                cursor = super().execute(statement, *values)
                if statement == "COMMIT":
                    reach("committed")
                return cursor

        # All SDKs ask through this class, and the ledger is written through that one: neither is ours.
        http.client.HTTPConnection.getresponse = answered  # type: ignore[method-assign]
        sqlite3.connect = partial(sqlite3.connect, factory=Connection)  # type: ignore[assignment]

    def reach(self, moment: str) -> None:
        """Come to such a moment."""
        self.left -= moment == self.moment
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    serve(SharedClock(Path(sys.argv[1])))
