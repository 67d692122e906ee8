"""Processes that write to one ledger, forked from this small one: `python -m tests.unit.ledger.scenarios NAME URL ...`.

The writers are forked, so that fifty of them start within a second. They are not forked from the test process, because a process
with threads must not be forked.
"""

import importlib
import json
import logging
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from multicompute import errors
from multicompute.ledger import Ledger
from tests.unit.ledger.ledger_records import NOW, attempt, cluster, event, node, outage

NAMES = ("train", "eval", "tune")
LENGTH = timedelta(minutes=2)
UNPRIVILEGED = 65534
PRELOADED = psycopg.__name__
"""Imported before the fork: fifty imports would take longer than the scenario."""
ROOT = Path(__file__).parents[3]

Report = Callable[[Any], object]


def command(scenario: str, *arguments: str) -> list[str]:
    """Return the command that runs a scenario in a process of its own; its working directory must be ROOT."""
    return [sys.executable, "-m", "tests.unit.ledger.scenarios", scenario, *arguments]


def run(scenario: str, *arguments: str) -> Any:
    """Run a scenario to its end and return what it printed."""
    done = subprocess.run(command(scenario, *arguments), cwd=ROOT, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), arguments
    return json.loads(done.stdout)


def fork(work: Callable[[Report], None]) -> tuple[int, int]:
    """Run `work` in a child; return its process id and the pipe on which it reports lines."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child:
        os.close(write_end)
        return child, read_end
    status = 1
    try:
        os.close(read_end)
        # A single write of less than a page is atomic, whenever the child dies.
        work(lambda line: os.write(write_end, json.dumps(line).encode() + b"\n"))
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


def reported(pipe: int) -> list[Any]:
    """Return all lines that a child has reported."""
    with os.fdopen(pipe, "rb") as lines:
        return [json.loads(line) for line in lines.read().splitlines()]


def print_json(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def crowd(url: str, size: str) -> None:
    """Let many processes claim, take leases and write attempts, events and outages at once, on a ledger that does not exist."""
    start_signal, gate = os.pipe()

    def work(report: Report, number: int) -> None:
        os.close(gate)
        os.read(start_signal, 1)
        ledger = Ledger(url)
        for turn in range(3):
            name = NAMES[(number + turn) % len(NAMES)]
            mine = ledger.claim(cluster(100 * number + turn, name=name))
            report(["claimed", name, mine.id])
            me = f"{number}.{turn}"
            while ledger.take_lease(mine.id, me, now=NOW, length=LENGTH) != me:
                time.sleep(random.uniform(0.01, 0.05))
            ledger.append(event("enter", me, mine.id))
            token = f"token-{me}"
            count = ledger.count_attempts(mine.id)
            opened = attempt(count + 1, cluster_id=mine.id, token=token)
            assert ledger.open_attempt(opened, event("attempt", me, mine.id))
            report(["opened", mine.id, count + 1, token])
            ledger.put_nodes(mine.id, [node(count, token=token)])
            lack = outage(place=f"zone-{turn}", consecutive_failures=number + 1)
            ledger.close_attempt(opened, at=NOW, outcome="capacity", event=event("leave", me, mine.id), outage=lack)
            ledger.drop_lease(mine.id, me)
            # Notes need no lease.
            ledger.append(event("note", me, mine.id))
            report(["noted", mine.id, me])
        ledger.close()

    children = [fork(partial(work, number=number)) for number in range(int(size))]
    start = time.monotonic()
    os.close(gate)
    reports = [reported(pipe) for _, pipe in children]
    statuses = [os.waitpid(child, 0)[1] for child, _ in children]
    print_json({"reports": reports, "statuses": statuses, "seconds": time.monotonic() - start})


def write_until_killed(url: str, number: str) -> None:
    """Write attempts, launches and events without end, and print each write that was acknowledged."""
    ledger = Ledger(url)
    mine = ledger.claim(cluster(int(number), name=f"name-{number}")).id
    print_json(["claimed", mine])
    _write(ledger, mine, print_json)


def _write(ledger: Ledger, mine: str, report: Report) -> None:
    turn = 0
    while True:
        turn += 1
        token = f"{mine}-{turn}"
        try:
            ledger.open_attempt(attempt(turn, cluster_id=mine, token=token), event("attempt", token, mine))
            report(["opened", token])
            gang = [node(4 * turn + rank, token=token) for rank in range(4)]
            ledger.record_launch(attempt(turn, cluster_id=mine, token=token), gang, event("launched", token, mine))
            report(["launched", token])
            ledger.append(event("note", token, mine))
            report(["noted", token])
        except errors.LedgerError as error:
            report(["failed", token, str(error)])


def killed(url: str, rounds: str, seed: str) -> None:
    """Start writers again and again, and kill each at a random moment."""
    chance = random.Random(int(seed))
    Ledger(url).close()
    reports: dict[str, list[Any]] = {}
    for turn in range(int(rounds)):
        children = []
        for number in range(3):
            mine = f"c-{10 * turn + number}"

            def work(report: Report, mine: str = mine, number: int = 10 * turn + number) -> None:
                ledger = Ledger(url)
                ledger.claim(cluster(number, name=f"name-{number}"))
                _write(ledger, mine, report)

            children.append((mine, *fork(work)))
        for mine, child, pipe in chance.sample(children, len(children)):
            time.sleep(chance.uniform(0.005, 0.06))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            reports[mine] = reported(pipe)
    print_json(reports)


def no_room(url: str) -> None:
    """Limit the size of the file, write until that fails, lift the limit and write again."""
    ledger = Ledger(url)
    ledger.claim(cluster())
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    written, message = 0, ""
    try:
        while written < 10_000:
            ledger.append(event(message="x" * 500))
            written += 1
    except errors.LedgerError as error:
        message = str(error)
    readable = [ledger.find("train").id, len(ledger.events("c-1"))]
    try:
        is_refused = not ledger.open_attempt(attempt(), event())
    except errors.LedgerError:
        is_refused = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    ledger.append(event(message="there is room again"))
    afterwards = len(ledger.events("c-1"))
    ledger.close()
    file = sqlite3.connect(url.removeprefix("sqlite:///"))
    check = file.execute("PRAGMA integrity_check").fetchall()
    file.close()
    print_json(
        {
            "written": written,
            "message": message,
            "readable": readable,
            "is_refused": is_refused,
            "afterwards": afterwards,
            "check": check,
        }
    )


def read_only(url: str, what: str) -> None:
    """Make the file or its folder read-only, then open, read and write as an unprivileged user."""
    file = Path(url.removeprefix("sqlite:///"))
    ledger = Ledger(url)
    ledger.claim(cluster())
    ledger.close()
    (file if what == "file" else file.parent).chmod(0o444 if what == "file" else 0o555)
    if os.geteuid() == 0:
        # Imported as root: the other user may not be able to read the checkout.
        importlib.import_module("multicompute.ledger.read_only")
        # File modes do not restrict root.
        for path in (file, file.parent):
            os.chown(path, UNPRIVILEGED, UNPRIVILEGED)
        os.setuid(UNPRIVILEGED)
    answer: dict[str, Any] = {"logged": []}
    keeper = logging.Handler()
    keeper.emit = lambda record: answer["logged"].append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("multicompute").addHandler(keeper)
    works: dict[str, Callable[[Ledger], object]] = {
        "read": lambda mine: mine.find("train").id,
        "write": lambda mine: mine.append(event()),
    }
    for verb, work in works.items():
        try:
            mine = Ledger(url)
            try:
                answer[verb] = work(mine)
            finally:
                mine.close()
        except errors.LedgerError as error:
            answer[verb] = str(error)
    print_json(answer)


if __name__ == "__main__":
    scenarios = (crowd, write_until_killed, killed, no_room, read_only)
    next(each for each in scenarios if each.__name__ == sys.argv[1])(*sys.argv[2:])
