"""Tests of changes that others make: accounts, stopped nodes, removed tags, protections."""

from dataclasses import replace

from multicompute.node import NodeState
from multicompute.provider import Capability
from multicompute.testing.conformance.probes import (
    FIRST,
    eventually,
    ids_of,
    live_nodes,
    needs,
    states_of,
    tear_down,
    until_running,
)
from multicompute.testing.provider_harness import ProviderHarness, launch_request


class OutsideConformance:
    """Tests of changes that others make: accounts, stopped nodes, removed tags, protections."""

    def test_the_account_is_the_one_of_the_credentials(self, harness: ProviderHarness) -> None:
        """Two sets of credentials of two accounts are told apart."""
        mine, other = harness.provider.account, harness.other_account().account
        assert mine.ids and all(mine.ids) and mine.label
        assert mine.is_same(harness.provider.account)
        assert not mine.is_same(other)
        assert mine.label != other.label

    def test_another_account_shows_nothing_of_ours(self, harness: ProviderHarness) -> None:
        """Credentials of another account list none of the cluster."""
        harness.provider.launch(launch_request(harness.offer()))
        until_running(harness, FIRST, count=2)
        assert not [*harness.other_account().resources(FIRST), *harness.other_account().nodes(FIRST)]

    def test_a_node_that_was_stopped_is_listed_as_stopped(self, harness: ProviderHarness) -> None:
        """A stopped node exists and can be started again, so it is not lost."""
        nodes = harness.provider.launch(launch_request(harness.offer()))
        until_running(harness, FIRST, count=2)
        for node in nodes:
            harness.stop(node.id)
        assert eventually(harness, lambda: states_of(harness, FIRST) == {NodeState.STOPPED})
        assert not any(node.is_lost for node in harness.provider.nodes(FIRST))
        assert ids_of(harness.provider.resources(FIRST)) >= ids_of(nodes)

    def test_a_stopped_node_is_torn_down_like_the_others(self, harness: ProviderHarness) -> None:
        """A teardown deletes stopped nodes (I8)."""
        before = ids_of(harness.alive())
        nodes = harness.provider.launch(launch_request(harness.offer()))
        until_running(harness, FIRST, count=2)
        harness.stop(nodes[0].id)
        tear_down(harness, FIRST)
        assert ids_of(harness.alive()) == before

    @needs(Capability.RESTART)
    def test_a_launch_with_restart_starts_the_stopped_nodes_and_buys_nothing(self, harness: ProviderHarness) -> None:
        """A launch with `restart` starts stopped nodes and launches none."""
        request = launch_request(harness.offer())
        nodes = harness.provider.launch(request)
        until_running(harness, FIRST, count=2)
        existing = ids_of(harness.alive())
        harness.stop(nodes[0].id)
        assert eventually(harness, lambda: NodeState.STOPPED in states_of(harness, FIRST))
        started = harness.provider.launch(replace(request, restart=True))
        assert ids_of(started) == ids_of(nodes)
        assert ids_of(until_running(harness, FIRST, count=2)) == ids_of(nodes)
        assert ids_of(harness.alive()) == existing

    def test_a_node_without_tags_is_found_by_its_id_and_by_its_token(self, harness: ProviderHarness) -> None:
        """A listing finds nodes by what the ledger knows of them."""
        region = harness.offer().region
        nodes = harness.provider.launch(launch_request(harness.offer()))
        until_running(harness, FIRST, count=2)
        harness.remove_tags(nodes[0].id)
        by_id = replace(FIRST, region=region, known_ids=(nodes[0].id,))
        by_token = replace(FIRST, region=region, tokens=("attempt-1",), known_ids=tuple(node.id for node in nodes))
        for selector in (by_id, by_token):
            found = {node.id: node for node in harness.provider.nodes(selector)}
            assert found.keys() == ids_of(nodes)
            assert {name: node.is_tagged for name, node in found.items()} == {nodes[0].id: False, nodes[1].id: True}
            assert found[nodes[0].id].state is NodeState.RUNNING

    def test_a_known_node_that_does_not_exist_is_not_listed(self, harness: ProviderHarness) -> None:
        """A known id that the cloud does not show is gone."""
        region = harness.offer().region
        nodes = harness.provider.launch(launch_request(harness.offer()))
        until_running(harness, FIRST, count=2)
        tear_down(harness, replace(FIRST, region=region))
        selector = replace(FIRST, region=region, known_ids=tuple(node.id for node in nodes), tokens=("attempt-1",))
        assert {node.state for node in harness.provider.nodes(selector)} <= {NodeState.GONE}
        assert harness.provider.terminate(selector).is_done

    def test_tags_are_restored_on_nodes_that_lack_them(self, harness: ProviderHarness) -> None:
        """`set_expiry` sets removed tags again."""
        request = launch_request(harness.offer())
        nodes = harness.provider.launch(request)
        until_running(harness, FIRST, count=2)
        harness.remove_tags(nodes[0].id)
        known = replace(
            FIRST,
            region=harness.offer().region,
            known_ids=tuple(node.id for node in nodes),
            tokens=("attempt-1",),
        )
        harness.provider.set_expiry(known, None, restore=request.tags)
        assert eventually(harness, lambda: ids_of(harness.provider.nodes(FIRST)) == ids_of(nodes))
        assert all(node.is_tagged and node.token == "attempt-1" for node in harness.provider.nodes(FIRST))
        tags = {resource.id: resource.tags for resource in harness.alive()}
        assert request.tags.items() <= tags[nodes[0].id].items()

    def test_a_teardown_deletes_nodes_without_tags_by_their_ids(self, harness: ProviderHarness) -> None:
        """A teardown deletes nodes by what the ledger knows of them (I8)."""
        before = ids_of(harness.alive())
        nodes = harness.provider.launch(launch_request(harness.offer()))
        until_running(harness, FIRST, count=2)
        for node in nodes:
            harness.remove_tags(node.id)
        known = tuple(node.id for node in nodes)
        tear_down(harness, replace(FIRST, region=harness.offer().region, known_ids=known, tokens=("attempt-1",)))
        assert ids_of(harness.alive()) == before

    def test_a_teardown_of_single_nodes_leaves_the_others(self, harness: ProviderHarness) -> None:
        """A teardown with `only` deletes nothing else."""
        before = ids_of(harness.alive())
        nodes = harness.provider.launch(launch_request(harness.offer(), nodes=3))
        until_running(harness, FIRST, count=3)
        tear_down(harness, replace(FIRST, region=harness.offer().region, only=(nodes[1].id,)))
        assert ids_of(live_nodes(harness, FIRST)) == {nodes[0].id, nodes[2].id}
        assert nodes[1].id not in ids_of(harness.alive())
        tear_down(harness, FIRST)
        assert ids_of(harness.alive()) == before

    def test_a_protected_node_blocks_the_teardown_which_names_it_at_once(self, harness: ProviderHarness) -> None:
        """A teardown reports at once what refuses a delete."""
        before = ids_of(harness.alive())
        nodes = harness.provider.launch(launch_request(harness.offer()))
        until_running(harness, FIRST, count=2)
        harness.protect(nodes[0].id)
        step = harness.provider.terminate(FIRST)
        assert not step.is_done
        assert nodes[0].id in step.blocked_by
        harness.unprotect(nodes[0].id)
        tear_down(harness, FIRST)
        assert ids_of(harness.alive()) == before
