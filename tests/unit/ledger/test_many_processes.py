"""Fifty processes on one ledger: no write is lost, no name is claimed twice, and no process waits without end."""

from collections import defaultdict
from typing import Any

import pytest

from multicompute.ledger import Ledger
from tests.unit.ledger import scenarios
from tests.unit.ledger.ledger_records import NOW

SIZE = 50


@pytest.fixture(name="after")
def _after(url: str) -> tuple[Any, Ledger]:
    return scenarios.run("crowd", url, str(SIZE)), Ledger(url)


def test_fifty_processes_claim_lease_and_write_at_once(after: tuple[Any, Ledger]) -> None:
    answer, ledger = after
    assert answer["statuses"] == [0] * SIZE
    assert answer["seconds"] < 60
    reports: dict[str, list[list[Any]]] = defaultdict(list)
    for line in (line for lines in answer["reports"] for line in lines):
        reports[line[0]].append(line[1:])

    # Each name belongs to one cluster, and every process got the same one (I6).
    owners = defaultdict(set)
    for name, cluster_id in reports["claimed"]:
        owners[name].add(cluster_id)
    assert len(reports["claimed"]) == 3 * SIZE
    assert {name: list(ids) for name, ids in owners.items()} == {each.name: [each.id] for each in ledger.clusters()}

    # Everything that was acknowledged exists once: attempts, their nodes, and events.
    ids = [each.id for each in ledger.clusters()]
    opened = sorted([each.cluster_id, each.number, each.token] for id in ids for each in ledger.attempts(id))
    assert opened == sorted(reports["opened"])
    assert {node.token for id in ids for node in ledger.nodes(id)} == {token for _, _, token in opened}
    for cluster_id in ids:
        attempts = ledger.attempts(cluster_id)
        assert [each.number for each in attempts] == list(range(1, len(attempts) + 1))
        events = ledger.events(cluster_id)
        notes = [each.message for each in events if each.kind == "note"]
        assert sorted(notes) == sorted(me for id, me in reports["noted"] if id == cluster_id)
        # The holder of the lease worked alone until it released it (I7).
        work = [(each.kind, each.message) for each in events if each.kind != "note"]
        turns = [work[first : first + 3] for first in range(0, len(work), 3)]
        assert all([kind for kind, _ in turn] == ["enter", "attempt", "leave"] for turn in turns)
        assert all(len({who for _, who in turn}) == 1 for turn in turns)
    assert len(ledger.outages(now=NOW)) == 3
    ledger.close()
