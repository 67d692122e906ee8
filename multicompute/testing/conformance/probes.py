"""The capability mark of the conformance suite, and what its tests read from a harness."""

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Protocol, TypeVar

import pytest

from multicompute.node import Node, NodeState
from multicompute.provider import TAG_EXPIRES_AT, Capability, Selector
from multicompute.testing.provider_harness import ProviderHarness

_Result = TypeVar("_Result")
_Test = TypeVar("_Test", bound=Callable[..., object])


def needs(capability: Capability) -> Callable[[_Test], _Test]:
    """Mark a test as a test of `capability`; it is skipped if the provider does not declare the capability."""

    def mark(test: _Test) -> _Test:
        test.needs = capability  # type: ignore[attr-defined] # the suite's fixture reads it
        return test

    return mark


FIRST = Selector(cluster_id="id-first")


class Identified(Protocol):
    """A node or a resource."""

    @property
    def id(self) -> str:
        """The vendor's id."""
        ...


def ids_of(found: Collection[Identified]) -> set[str]:
    """Return the ids of nodes or resources."""
    return {each.id for each in found}


def eventually(harness: ProviderHarness, condition: Callable[[], bool], *, within: timedelta | None = None) -> bool:
    """Return whether the condition becomes true within the time that the provider allows."""
    deadline = harness.clock.now() + (within or harness.provider.attempt_timeout)
    while not condition():
        if harness.clock.now() >= deadline:
            return False
        harness.clock.sleep(harness.provider.poll_interval)
    return True


def live_nodes(harness: ProviderHarness, selector: Selector) -> list[Node]:
    """Return the selected nodes that run or will run."""
    return [node for node in harness.provider.nodes(selector) if node.state in (NodeState.PENDING, NodeState.RUNNING)]


def until_running(harness: ProviderHarness, selector: Selector, *, count: int) -> tuple[Node, ...]:
    """Wait until `count` nodes run, and return them."""

    def all_run() -> bool:
        return [node.state for node in harness.provider.nodes(selector)] == [NodeState.RUNNING] * count

    assert eventually(harness, all_run), f"not {count} running: {harness.provider.nodes(selector)}"
    return harness.provider.nodes(selector)


def tear_down(harness: ProviderHarness, selector: Selector) -> None:
    """Repeat a teardown until nothing remains; fail if something does."""
    assert eventually(harness, lambda: harness.provider.terminate(selector).is_done), harness.provider.resources(
        selector
    )


def billable(harness: ProviderHarness, before: Collection[str]) -> set[str]:
    """Return the ids of billable resources that did not exist before."""
    return {resource.id for resource in harness.alive() if resource.billable and resource.id not in before}


def or_skip(action: Callable[..., _Result]) -> Callable[..., _Result]:
    """Return the action; it skips the test if the cloud has no such thing."""

    def act(*args: object) -> _Result:
        try:
            return action(*args)
        except NotImplementedError as reason:
            pytest.skip(str(reason))

    return act


def states_of(harness: ProviderHarness, selector: Selector) -> set[NodeState]:
    """Return the states of the selected nodes."""
    return {node.state for node in harness.provider.nodes(selector)}


def expiries_of(harness: ProviderHarness, nodes: Sequence[Node]) -> set[str]:
    """Return the expiry tags of nodes in the cloud."""
    ids = ids_of(nodes)
    return {resource.tags.get(TAG_EXPIRES_AT, "none") for resource in harness.alive() if resource.id in ids}
