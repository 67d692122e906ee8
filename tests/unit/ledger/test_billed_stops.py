"""A machine that was stopped and is billed all the same, as one that was shut down from inside is on Azure."""

from datetime import UTC, datetime, timedelta

import pytest

from multicompute.cost.billing import billed, hourly_cost_of
from multicompute.ledger import NodeRecord
from multicompute.ledger._rows import node_of, node_row
from multicompute.node import NodeState

START = datetime(2026, 11, 27, tzinfo=UTC)
NODE = NodeRecord("vm-1", 0, "t", "azure", "Standard", "eastus", "", NodeState.RUNNING, START, hourly_cost=10.0)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def stopped(node: NodeRecord, minutes: float, *, is_billed: bool) -> NodeRecord:
    return node.observed(NodeState.STOPPED, at=at(minutes), is_lost=False, is_billed=is_billed)


def minutes_billed(node: NodeRecord) -> float:
    return billed(node, minimum=timedelta(0), now=at(60)) / timedelta(minutes=1)


def test_a_stop_that_is_billed_costs_what_the_machine_costs() -> None:
    node = stopped(NODE, 10, is_billed=True)
    assert (node.is_stopped, node.is_machine_billed, node.as_node().is_billed) == (True, True, True)
    assert node.as_node().hourly_cost == hourly_cost_of([node]) == 10
    assert minutes_billed(node) == 60


def test_only_from_its_deallocation_on_a_machine_costs_nothing() -> None:
    node = stopped(stopped(NODE, 10, is_billed=True), 40, is_billed=False)
    assert (node.is_stopped, node.is_machine_billed, node.as_node().hourly_cost) == (True, False, 0.0)
    assert minutes_billed(node) == 40
    again = node.observed(NodeState.RUNNING, at=at(50), is_lost=False)
    assert (again.is_stopped, minutes_billed(again)) == (False, 50)


@pytest.mark.parametrize("minutes", [5, 60])
def test_a_stop_does_not_count_towards_the_billing_minimum(minutes: float) -> None:
    node = stopped(NODE, 0.5, is_billed=False)
    minimum = timedelta(minutes=1)
    assert billed(node, minimum=minimum, now=at(minutes)) == minimum
    halves = [
        billed(node, minimum=minimum, now=at(minutes), until=at(0.25)),
        billed(node, minimum=minimum, now=at(minutes), since=at(0.25)),
    ]
    assert sum(halves, timedelta(0)) == minimum
    again = node.observed(NodeState.RUNNING, at=at(2), is_lost=False)
    assert billed(again, minimum=minimum, now=at(4)) == timedelta(minutes=2.5)


def test_the_ledger_keeps_whether_a_stop_is_billed_and_reads_those_written_before() -> None:
    node = stopped(NODE, 10, is_billed=True)
    row = node_row("c-1", node)
    assert node_of({**row, "started_at": "2026-11-27T00:00:00Z", "ended_at": None}).stops == node.stops
    before = {
        **row,
        "started_at": "2026-11-27T00:00:00Z",
        "ended_at": None,
        "stops": '[["2026-11-27T00:10:00Z", null]]',
    }
    assert [stop.is_billed for stop in node_of(before).stops] == [False]
