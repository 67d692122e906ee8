"""Tests of launches: gangs, all or nothing, and the token."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from multicompute import errors
from multicompute.node import NodeState
from multicompute.offer import Part
from multicompute.provider import Capability, Selector
from multicompute.testing.conformance.probes import FIRST, billable, eventually, ids_of, until_running
from multicompute.testing.provider_harness import ProviderHarness, launch_request


class LaunchConformance:
    """Tests of launches: gangs, all or nothing, and the token."""

    # --- launch -------------------------------------------------------------------------------------------------------

    def test_it_declares_its_name_its_capabilities_and_its_timing(self, harness: ProviderHarness) -> None:
        """Read the attributes that the engine needs before the first call."""
        provider = harness.provider
        assert provider.name == harness.offer().provider
        assert all(isinstance(capability, Capability) for capability in provider.capabilities)
        assert timedelta(0) < provider.poll_interval < provider.attempt_timeout
        assert timedelta(0) <= provider.consistency_window < provider.attempt_timeout

    def test_a_launch_returns_every_node_of_the_gang(self, harness: ProviderHarness) -> None:
        """Launch three nodes and compare type, region, zone and token of each with the request."""
        offer = harness.offer()
        nodes = harness.provider.launch(launch_request(offer, nodes=3))
        assert len({node.id for node in nodes}) == 3
        for node in nodes:
            assert (node.provider, node.instance_type, node.region) == (
                offer.provider,
                offer.instance_type,
                offer.region,
            )
            assert node.zone == offer.zone
            assert node.token == "attempt-1"
            assert node.state in (NodeState.PENDING, NodeState.RUNNING)

    def test_launched_nodes_run_after_a_while_and_have_an_address(self, harness: ProviderHarness) -> None:
        """List until all nodes run; a ready node must be reachable by the other nodes."""
        launched = harness.provider.launch(launch_request(harness.offer()))
        running = until_running(harness, FIRST, count=2)
        assert {node.id for node in running} == {node.id for node in launched}
        assert all(node.private_ip for node in running)

    def test_a_private_gang_has_no_public_address(self, harness: ProviderHarness) -> None:
        """Launch with `private` and expect no public address on a running node."""
        harness.provider.launch(replace(launch_request(harness.offer()), private=True))
        assert [node.public_ip for node in until_running(harness, FIRST, count=2)] == [None, None]

    def test_without_capacity_for_the_whole_gang_nothing_is_launched(self, harness: ProviderHarness) -> None:
        """Leave capacity for two of three nodes; a gang is launched completely or not at all."""
        before, offer = ids_of(harness.alive()), harness.offer()
        harness.limit_capacity(offer, 2)
        with pytest.raises(errors.CapacityError) as caught:
            harness.provider.launch(launch_request(offer, nodes=3))
        assert (caught.value.region, caught.value.zone) == (offer.region, offer.zone)
        assert caught.value.instance_type == offer.instance_type
        assert eventually(harness, lambda: not billable(harness, before))
        assert not [node for node in harness.provider.nodes(FIRST) if node.state is not NodeState.GONE]

    def test_without_capacity_for_the_second_part_the_first_is_terminated_too(self, harness: ProviderHarness) -> None:
        """Refuse the second of two parts; the nodes of the first must not keep running."""
        before, here, there = ids_of(harness.alive()), harness.offer(), harness.offer(zone=1)
        harness.limit_capacity(there, 0)
        request = replace(launch_request(here), parts=(Part(here, 1), Part(there, 1)))
        with pytest.raises(errors.CapacityError):
            harness.provider.launch(request)
        assert eventually(harness, lambda: not billable(harness, before))

    def test_parts_in_two_zones_are_one_gang(self, harness: ProviderHarness) -> None:
        """Launch one request with parts in two zones and expect the nodes of both."""
        here, there = harness.offer(), harness.offer(zone=1)
        nodes = harness.provider.launch(replace(launch_request(here), parts=(Part(here, 1), Part(there, 2))))
        assert sorted(node.zone for node in nodes) == sorted([here.zone, there.zone, there.zone])

    def test_after_a_lack_of_capacity_in_one_zone_a_launch_in_the_next_zone_succeeds(
        self, harness: ProviderHarness
    ) -> None:
        """Fail over to the next zone as the engine does, with a new token."""
        harness.limit_capacity(harness.offer(), 0)
        with pytest.raises(errors.CapacityError):
            harness.provider.launch(launch_request(harness.offer()))
        nodes = harness.provider.launch(launch_request(harness.offer(zone=1), token="attempt-2"))
        assert {node.zone for node in nodes} == {harness.offer(zone=1).zone}

    # --- token --------------------------------------------------------------------------------------------------------

    def test_the_same_token_again_gives_the_same_nodes_and_buys_nothing(self, harness: ProviderHarness) -> None:
        """Repeat a launch before and after its nodes run; every call must be safe to repeat (I5)."""
        request = launch_request(harness.offer(), nodes=3)
        first = harness.provider.launch(request)
        existing = ids_of(harness.alive())
        assert {node.id for node in harness.provider.launch(request)} == {node.id for node in first}
        until_running(harness, FIRST, count=3)
        assert {node.id for node in harness.provider.launch(request)} == {node.id for node in first}
        assert ids_of(harness.alive()) == existing

    def test_a_launch_whose_answer_was_lost_is_the_same_launch_when_repeated(self, harness: ProviderHarness) -> None:
        """Lose the answer of a launch and repeat it; the repeated call must not buy again (I5)."""
        before, request = ids_of(harness.alive()), launch_request(harness.offer(), nodes=3)
        harness.lose_launch_answer()
        with pytest.raises(errors.TransientError):
            harness.provider.launch(request)
        bought = billable(harness, before)
        nodes = harness.provider.launch(request)
        assert len(nodes) == 3
        assert bought and billable(harness, before) == bought

    def test_a_launch_whose_answer_was_lost_is_found_by_its_token(self, harness: ProviderHarness) -> None:
        """Lose the answer of a launch and list by token, as the engine does after a crash (I3)."""
        harness.lose_launch_answer()
        with pytest.raises(errors.TransientError):
            harness.provider.launch(launch_request(harness.offer()))
        assert eventually(harness, lambda: len(harness.provider.nodes(Selector(token="attempt-1"))) == 2)

    def test_two_launches_of_one_token_at_once_buy_once(self, harness: ProviderHarness) -> None:
        """Launch with one token from four threads and expect one gang."""
        request = launch_request(harness.offer())
        with ThreadPoolExecutor(4) as pool:
            answers = [task.result() for task in [pool.submit(harness.provider.launch, request) for _ in range(4)]]
        assert len({node.id for nodes in answers for node in nodes}) == 2
        assert len(until_running(harness, FIRST, count=2)) == 2

    def test_launches_of_several_clusters_at_once_do_not_mix(self, harness: ProviderHarness) -> None:
        """Launch four clusters at once and list each by its id."""
        names = [f"c{number}" for number in range(4)]
        requests = [launch_request(harness.offer(), cluster=name, token=f"token-{name}") for name in names]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(harness.provider.launch, requests))
        for name, launched in zip(names, answers, strict=True):
            selector = Selector(cluster_id=f"id-{name}")
            assert ids_of(until_running(harness, selector, count=2)) == ids_of(launched)
