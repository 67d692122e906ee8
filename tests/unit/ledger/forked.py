"""Processes that write into one ledger, forked from this small one: python forked.py SCENARIO URL ARGUMENTS.

Forked, so that fifty of them cost a second; from a process of its own, since one with threads must not be forked.
"""

import json
import os
import random
import resource
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from multicompute import errors
from multicompute.ledger import Ledger
from tests.unit.ledger.ledger_records import NOW, attempt, cluster, event, node, outage

NAMES = ("train", "eval", "tune")
LENGTH = timedelta(minutes=2)
NOBODY = 65534
WARM = psycopg.__name__
"""Loaded before the fork: fifty imports would take longer than what is tested."""

Say = Callable[[Any], object]


def fork(work: Callable[[Say], None]) -> tuple[int, int]:
    """Run `work` in a child; returns its id, and the end of a pipe on which it says lines."""
    heard, said = os.pipe()
    child = os.fork()
    if child:
        os.close(said)
        return child, heard
    status = 1
    try:
        os.close(heard)
        # One write of less than a page: whole or not at all, whenever the child dies.
        work(lambda line: os.write(said, json.dumps(line).encode() + b"\n"))
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


def lines(pipe: int) -> list[Any]:
    with os.fdopen(pipe, "rb") as heard:
        return [json.loads(line) for line in heard.read().splitlines()]


def tell(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def crowd(url: str, size: str) -> None:
    """Fifty at once, on a ledger that is not there yet: claim, lease, attempts, events, outages. Tells what each was told."""
    go, gate = os.pipe()

    def work(say: Say, number: int) -> None:
        os.close(gate)
        os.read(go, 1)
        ledger = Ledger(url)
        for turn in range(3):
            name = NAMES[(number + turn) % len(NAMES)]
            mine = ledger.claim(cluster(100 * number + turn, name=name))
            say(["claimed", name, mine.id])
            me = f"{number}.{turn}"
            while ledger.take_lease(mine.id, me, now=NOW, length=LENGTH) != me:
                time.sleep(random.uniform(0.01, 0.05))
            ledger.append(event("enter", me, mine.id))
            token = f"token-{me}"
            count = ledger.count_attempts(mine.id)
            opened = attempt(count + 1, cluster_id=mine.id, token=token)
            assert ledger.open_attempt(opened, event("attempt", me, mine.id))
            say(["opened", mine.id, count + 1, token])
            ledger.put_nodes(mine.id, [node(count, token=token)])
            ledger.append(event("leave", me, mine.id))
            ledger.drop_lease(mine.id, me)
            # Without the lease, which any process may do.
            lack = outage(place=f"zone-{turn}", consecutive_failures=number + 1)
            note = event("note", me, mine.id)
            ledger.close_attempt(opened, at=NOW, outcome="no capacity", event=note, outage=lack)
            say(["noted", mine.id, me])
        ledger.close()

    children = [fork(lambda say, number=number: work(say, number)) for number in range(int(size))]  # type: ignore[misc]
    start = time.monotonic()
    os.close(gate)
    told = [lines(pipe) for _, pipe in children]
    statuses = [os.waitpid(child, 0)[1] for child, _ in children]
    tell({"told": told, "statuses": statuses, "seconds": time.monotonic() - start})


def write_until_killed(url: str, number: str) -> None:
    """Write attempts, launches and lines of the story for ever, and say of each when it is written."""
    ledger = Ledger(url)
    mine = ledger.claim(cluster(int(number), name=f"name-{number}")).id
    tell(["claimed", mine])
    _write(ledger, mine, tell)


def _write(ledger: Ledger, mine: str, say: Say) -> None:
    turn = 0
    while True:
        turn += 1
        token = f"{mine}-{turn}"
        try:
            ledger.open_attempt(attempt(turn, cluster_id=mine, token=token), event("attempt", token, mine))
            say(["opened", token])
            gang = [node(4 * turn + rank, token=token) for rank in range(4)]
            ledger.record_launch(attempt(turn, cluster_id=mine, token=token), gang, event("launched", token, mine))
            say(["launched", token])
            ledger.append(event("note", token, mine))
            say(["noted", token])
        except errors.LedgerError as error:
            say(["failed", token, str(error)])


def killed(url: str, rounds: str, seed: str) -> None:
    """Some write, and each is killed at a moment of its own, again and again. Tells what each had been told."""
    chance = random.Random(int(seed))
    Ledger(url).close()
    told: dict[str, list[Any]] = {}
    for turn in range(int(rounds)):
        children = []
        for number in range(3):
            mine = f"c-{10 * turn + number}"

            def work(say: Say, mine: str = mine, number: int = 10 * turn + number) -> None:
                ledger = Ledger(url)
                ledger.claim(cluster(number, name=f"name-{number}"))
                _write(ledger, mine, say)

            children.append((mine, *fork(work)))
        for mine, child, pipe in chance.sample(children, len(children)):
            time.sleep(chance.uniform(0.005, 0.06))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            told[mine] = lines(pipe)
    tell(told)


def no_room(url: str, _: str) -> None:
    """The file may not grow any more, then it may again. Tells how many lines were written, and what the error said."""
    ledger = Ledger(url)
    ledger.claim(cluster())
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    written, said = 0, ""
    try:
        while written < 10_000:
            ledger.append(event(message="x" * 500))
            written += 1
    except errors.LedgerError as error:
        said = str(error)
    still = [ledger.find("train").id, len(ledger.events("c-1"))]
    try:
        refused = not ledger.open_attempt(attempt(), event())
    except errors.LedgerError:
        refused = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    ledger.append(event(message="there is room again"))
    again = len(ledger.events("c-1"))
    ledger.close()
    file = sqlite3.connect(url.removeprefix("sqlite:///"))
    check = file.execute("PRAGMA integrity_check").fetchall()
    file.close()
    answer = {"written": written, "said": said, "still": still, "refused": refused, "again": again, "check": check}
    tell(answer)


def read_only(url: str, what: str) -> None:
    """Its file or its folder can't be written. Tells what opening, reading and writing came to."""
    file = Path(url.removeprefix("sqlite:///"))
    ledger = Ledger(url)
    ledger.claim(cluster())
    ledger.close()
    (file if what == "file" else file.parent).chmod(0o444 if what == "file" else 0o555)
    if os.geteuid() == 0:
        # No mode stops root.
        for path in (file, file.parent):
            os.chown(path, NOBODY, NOBODY)
        os.setuid(NOBODY)
    answer = {}
    for verb, work in (("read", lambda mine: mine.find("train").id), ("write", lambda mine: mine.append(event()))):
        try:
            mine = Ledger(url)
            try:
                answer[verb] = work(mine)
            finally:
                mine.close()
        except errors.LedgerError as error:
            answer[verb] = str(error)
    tell(answer)


if __name__ == "__main__":
    scenarios = (crowd, write_until_killed, killed, no_room, read_only)
    next(each for each in scenarios if each.__name__ == sys.argv[1])(*sys.argv[2:])
