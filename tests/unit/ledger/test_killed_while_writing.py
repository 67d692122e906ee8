"""Writers that are killed or disconnected at any moment: acknowledged writes exist, and no transaction is half written."""

import json
import os
import random
import sqlite3
import subprocess
from typing import Any

from multicompute import Event
from multicompute.ledger import AttemptState, Ledger
from tests.unit.ledger import scenarios
from tests.unit.ledger.postgres_server import server

ROUNDS = 200 if "CAMPAIGN_EXAMPLES" in os.environ else 8


def assert_complete(ledger: Ledger, cluster_id: str, reports: list[Any]) -> None:
    """Assert that every acknowledged write exists, and that each transaction exists completely or not at all."""
    events = ledger.events(cluster_id)
    attempts = {each.token: each for each in ledger.attempts(cluster_id)}
    nodes = ledger.nodes(cluster_id)

    def tokens(events: list[Event], kind: str) -> set[str]:
        return {each.message for each in events if each.kind == kind}

    acknowledged = {kind: {line[1] for line in reports if line[0] == kind} for kind in ("opened", "launched", "noted")}
    assert acknowledged["opened"] <= attempts.keys()
    assert acknowledged["launched"] <= tokens(events, "launched")
    assert acknowledged["noted"] <= tokens(events, "note")
    assert tokens(events, "attempt") == attempts.keys()
    assert tokens(events, "launched") == {each.token for each in nodes}
    assert tokens(events, "launched") == {token for token in attempts if attempts[token].state is AttemptState.LAUNCHED}
    assert all(sum(node.token == token for node in nodes) == 4 for token in tokens(events, "launched"))


def test_writers_that_are_killed_lose_nothing_that_was_acknowledged(url: str) -> None:
    seed = str(random.randrange(10**9))
    reports = scenarios.run("killed", url, str(ROUNDS), seed)
    ledger = Ledger(url)
    found = {each.id for each in ledger.clusters()}
    for cluster_id, lines in reports.items():
        if cluster_id in found:
            assert_complete(ledger, cluster_id, lines)
        else:
            assert lines == [], seed
    assert sum(len(lines) for lines in reports.values()) > ROUNDS, "the writers were killed before they wrote anything"
    ledger.close()
    if url.startswith("sqlite"):
        file = sqlite3.connect(url.removeprefix("sqlite:///"))
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        file.close()


def test_a_writer_whose_sessions_the_server_ends_gets_the_true_outcome_each_time() -> None:
    url = server().url()
    command = scenarios.command("write_until_killed", url, "1")
    writer = subprocess.Popen(command, cwd=scenarios.ROOT, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    reports = [json.loads(writer.stdout.readline())]
    for turn in range(ROUNDS):
        for _ in range(turn % 7):
            reports.append(json.loads(writer.stdout.readline()))
        server().kill_clients()
    writer.kill()
    reports += [json.loads(line) for line in writer.communicate()[0].splitlines() if line.endswith("]")]
    ledger = Ledger(url)
    assert_complete(ledger, "c-1", reports)
    # An error means that the write does not exist; after it, nothing more was written for that token.
    done = {kind: {line[1] for line in reports if line[0] == kind} for kind in ("failed", "opened", "launched")}
    events = {(each.kind, each.message) for each in ledger.events("c-1")}
    for token in done["failed"]:
        assert ("attempt" in {kind for kind, about in events if about == token}) == (token in done["opened"])
        assert (("launched", token) in events) == (token in done["launched"])
        assert ("note", token) not in events
    ledger.close()
