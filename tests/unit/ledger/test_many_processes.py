"""Fifty processes on one ledger: no write is lost, no name is claimed twice, nobody waits for ever."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from multicompute.ledger import Ledger
from tests.unit.ledger.ledger_records import NOW

ROOT = Path(__file__).parents[3]
PROGRAM = ("-m", "tests.unit.ledger.forked")
SIZE = 50


def run(*arguments: str) -> Any:
    command = [sys.executable, *PROGRAM, *arguments]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture(name="after")
def _after(url: str) -> tuple[Any, Ledger]:
    return run("crowd", url, str(SIZE)), Ledger(url)


def test_fifty_processes_claim_lease_and_write_side_by_side(after: tuple[Any, Ledger]) -> None:
    answer, ledger = after
    assert answer["statuses"] == [0] * SIZE
    assert answer["seconds"] < 60
    told: dict[str, list[list[Any]]] = defaultdict(list)
    for line in (line for lines in answer["told"] for line in lines):
        told[line[0]].append(line[1:])

    # Each name belongs to one cluster, and everybody was told the same (I6).
    owners = defaultdict(set)
    for name, cluster_id in told["claimed"]:
        owners[name].add(cluster_id)
    assert len(told["claimed"]) == 3 * SIZE
    assert {name: list(ids) for name, ids in owners.items()} == {each.name: [each.id] for each in ledger.clusters()}

    # What was acknowledged is there, once: attempts, their nodes, and lines of the story.
    ids = [each.id for each in ledger.clusters()]
    opened = sorted([each.cluster_id, each.number, each.token] for id in ids for each in ledger.attempts(id))
    assert opened == sorted(told["opened"])
    assert {node.token for id in ids for node in ledger.nodes(id)} == {token for _, _, token in opened}
    for cluster_id in ids:
        attempts = ledger.attempts(cluster_id)
        assert [each.number for each in attempts] == list(range(1, len(attempts) + 1))
        story = ledger.events(cluster_id)
        notes = [each.message for each in story if each.kind == "note"]
        assert sorted(notes) == sorted(me for id, me in told["noted"] if id == cluster_id)
        # Whoever had the lease was alone until it gave it back (I7).
        work = [(each.kind, each.message) for each in story if each.kind != "note"]
        turns = [work[first : first + 3] for first in range(0, len(work), 3)]
        assert all([kind for kind, _ in turn] == ["enter", "attempt", "leave"] for turn in turns)
        assert all(len({who for _, who in turn}) == 1 for turn in turns)
    assert len(ledger.outages(now=NOW)) == 3
    ledger.close()
