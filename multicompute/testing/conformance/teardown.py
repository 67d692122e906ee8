"""Tests of teardowns."""

from dataclasses import replace

import pytest

from multicompute import errors
from multicompute.node import NodeState
from multicompute.provider import Capability, Selector
from multicompute.testing.conformance.probes import FIRST, ids_of, needs, tear_down, until_running
from multicompute.testing.provider_harness import ProviderHarness, launch_request


class TeardownConformance:
    """Tests of teardowns."""

    def test_a_teardown_ends_with_nothing_left_in_the_cloud(self, harness: ProviderHarness) -> None:
        """Tear down running nodes and compare the cloud with its state before the launch."""
        before = ids_of(harness.alive())
        harness.provider.launch(launch_request(harness.offer(), nodes=3))
        until_running(harness, FIRST, count=3)
        tear_down(harness, FIRST)
        assert ids_of(harness.alive()) == before
        assert harness.provider.resources(FIRST) == ()

    def test_a_teardown_of_nodes_that_do_not_run_yet_ends_with_nothing_left(self, harness: ProviderHarness) -> None:
        """Tear down directly after the launch, while nodes are still being created."""
        before = ids_of(harness.alive())
        harness.provider.launch(launch_request(harness.offer()))
        tear_down(harness, FIRST)
        assert ids_of(harness.alive()) == before

    def test_a_step_of_a_teardown_reports_what_remains(self, harness: ProviderHarness) -> None:
        """Expect a reason to wait, and every node that still exists, from a single step."""
        harness.provider.launch(launch_request(harness.offer()))
        until_running(harness, FIRST, count=2)
        step = harness.provider.terminate(FIRST)
        assert step.is_done or step.waiting_for
        assert ids_of(step.remaining) >= {
            node.id for node in harness.provider.nodes(FIRST) if node.state is not NodeState.GONE
        }

    def test_a_teardown_may_be_repeated(self, harness: ProviderHarness) -> None:
        """Tear down what is already gone and what never existed (I5)."""
        harness.provider.launch(launch_request(harness.offer()))
        tear_down(harness, FIRST)
        assert harness.provider.terminate(FIRST).is_done
        assert harness.provider.terminate(Selector(cluster_id="id-never-was")).is_done
        assert harness.provider.terminate(Selector(token="never-was")).is_done

    def test_a_teardown_without_a_cluster_or_a_token_is_refused(self, harness: ProviderHarness) -> None:
        """Refuse a selector that could match the clusters of a complete ledger."""
        launched = harness.provider.launch(launch_request(harness.offer()))
        with pytest.raises(errors.MulticomputeError):
            harness.provider.terminate(Selector(owner="conformance"))
        assert ids_of(until_running(harness, FIRST, count=2)) == ids_of(launched)

    def test_a_teardown_changes_neither_other_clusters_nor_foreign_resources(self, harness: ProviderHarness) -> None:
        """Tear down one of two clusters, next to foreign resources (I9)."""
        harness.add_foreign()
        harness.provider.launch(launch_request(harness.offer()))
        other = harness.provider.launch(launch_request(harness.offer(), cluster="second", token="attempt-2"))
        tear_down(harness, FIRST)
        second = harness.provider.nodes(Selector(cluster_id="id-second"))
        assert ids_of(second) == ids_of(other)
        assert all(node.state in (NodeState.PENDING, NodeState.RUNNING) for node in second)
        assert harness.foreign_intact()

    def test_a_teardown_by_token_leaves_the_rest_of_the_cluster(self, harness: ProviderHarness) -> None:
        """Tear down one of two launches of a cluster, as after a failed replacement of nodes."""
        kept = harness.provider.launch(launch_request(harness.offer()))
        harness.provider.launch(launch_request(harness.offer(), token="attempt-2"))
        until_running(harness, FIRST, count=4)
        tear_down(harness, Selector(token="attempt-2"))
        alive = [node for node in harness.provider.nodes(FIRST) if node.state is not NodeState.GONE]
        assert ids_of(alive) == ids_of(kept)
        assert {node.state for node in alive} == {NodeState.RUNNING}

    def test_a_teardown_by_region_leaves_the_other_region(self, harness: ProviderHarness) -> None:
        """Tear down one of two regions of a cluster."""
        near, far = harness.offer(), harness.offer(region=1)
        harness.provider.launch(launch_request(near))
        kept = harness.provider.launch(launch_request(far, token="attempt-2"))
        tear_down(harness, replace(FIRST, region=near.region))
        alive = [node for node in harness.provider.nodes(FIRST) if node.state is not NodeState.GONE]
        assert ids_of(alive) == ids_of(kept)

    def test_a_teardown_deletes_what_a_refused_launch_left_behind(self, harness: ProviderHarness) -> None:
        """Tear down after a launch that created dependent resources and no nodes."""
        before = ids_of(harness.alive())
        harness.limit_capacity(harness.offer(), 0)
        with pytest.raises(errors.CapacityError):
            harness.provider.launch(launch_request(harness.offer()))
        tear_down(harness, FIRST)
        assert ids_of(harness.alive()) == before

    def test_a_teardown_finds_nodes_whose_launch_was_never_answered(self, harness: ProviderHarness) -> None:
        """Tear down by cluster id, with no knowledge of the nodes (I3)."""
        before = ids_of(harness.alive())
        harness.lose_launch_answer()
        with pytest.raises(errors.TransientError):
            harness.provider.launch(launch_request(harness.offer()))
        until_running(harness, FIRST, count=2)
        tear_down(harness, FIRST)
        assert ids_of(harness.alive()) == before

    @needs(Capability.DEPENDENT_RESOURCES)
    def test_dependent_resources_exist_until_the_nodes_are_gone_and_are_then_deleted(
        self, harness: ProviderHarness
    ) -> None:
        """Expect security groups, disks and the like while nodes run, and none after the teardown (I8)."""
        before = ids_of(harness.alive())
        # With a key that may log in: some providers create dependent resources only to let it in.
        request = replace(launch_request(harness.offer()), ssh_public_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== me")
        nodes = harness.provider.launch(request)
        until_running(harness, FIRST, count=2)
        dependent = {resource.id for resource in harness.provider.resources(FIRST) if not resource.billable} - ids_of(
            nodes
        )
        assert dependent
        tear_down(harness, Selector(token="attempt-1"))
        tear_down(harness, FIRST)
        assert ids_of(harness.alive()) == before
