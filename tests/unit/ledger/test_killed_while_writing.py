"""Writers that die at any moment, killed or cut off: what was acknowledged is there, and nothing is half there."""

import json
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

from multicompute import Event
from multicompute.ledger import AttemptState, Ledger
from tests.unit.ledger.postgres_server import server

ROOT = Path(__file__).parents[3]
PROGRAM = ("-m", "tests.unit.ledger.forked")
ROUNDS = 200 if "MULTICOMPUTE_CAMPAIGN_EXAMPLES" in os.environ else 8


def assert_whole(ledger: Ledger, cluster_id: str, told: list[Any]) -> None:
    """Every acknowledged write is there, and each transaction is there with all its parts or with none."""
    story = ledger.events(cluster_id)
    attempts = {each.token: each for each in ledger.attempts(cluster_id)}
    nodes = ledger.nodes(cluster_id)

    def tokens(events: list[Event], kind: str) -> set[str]:
        return {each.message for each in events if each.kind == kind}

    acknowledged = {kind: {line[1] for line in told if line[0] == kind} for kind in ("opened", "launched", "noted")}
    assert acknowledged["opened"] <= attempts.keys()
    assert acknowledged["launched"] <= tokens(story, "launched")
    assert acknowledged["noted"] <= tokens(story, "note")
    assert tokens(story, "attempt") == attempts.keys()
    assert tokens(story, "launched") == {each.token for each in nodes}
    assert tokens(story, "launched") == {token for token in attempts if attempts[token].state is AttemptState.LAUNCHED}
    assert all(sum(node.token == token for node in nodes) == 4 for token in tokens(story, "launched"))


def test_writers_that_are_killed_lose_nothing_that_was_acknowledged(url: str) -> None:
    seed = str(random.randrange(10**9))
    command = [sys.executable, *PROGRAM, "killed", url, str(ROUNDS), seed]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), seed
    told = json.loads(done.stdout)
    ledger = Ledger(url)
    found = {each.id for each in ledger.clusters()}
    for cluster_id, lines in told.items():
        if cluster_id in found:
            assert_whole(ledger, cluster_id, lines)
        else:
            assert lines == [], seed
    assert sum(len(lines) for lines in told.values()) > ROUNDS, "they were killed before they wrote anything"
    ledger.close()
    if url.startswith("sqlite"):
        file = sqlite3.connect(url.removeprefix("sqlite:///"))
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        file.close()


def test_a_writer_whose_session_the_server_ends_again_and_again_is_told_the_truth_each_time() -> None:
    url = server().url()
    command = [sys.executable, *PROGRAM, "write_until_killed", url, "1"]
    writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    told = [json.loads(writer.stdout.readline())]
    for turn in range(ROUNDS):
        for _ in range(turn % 7):
            told.append(json.loads(writer.stdout.readline()))
        server().kill_clients()
    writer.kill()
    told += [json.loads(line) for line in writer.communicate()[0].splitlines() if line.endswith("]")]
    ledger = Ledger(url)
    assert_whole(ledger, "c-1", told)
    # An error means that it is not there: after one, nothing more was written of that token.
    done = {kind: {line[1] for line in told if line[0] == kind} for kind in ("failed", "opened", "launched")}
    story = {(each.kind, each.message) for each in ledger.events("c-1")}
    for token in done["failed"]:
        assert ("attempt" in {kind for kind, about in story if about == token}) == (token in done["opened"])
        assert (("launched", token) in story) == (token in done["launched"])
        assert ("note", token) not in story
    ledger.close()
