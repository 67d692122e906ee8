"""The conformance suite: pytest tests of every promise of `Provider`, for a provider's author to subclass.

    from multicompute.testing import ProviderConformance, ProviderHarness

    class TestMyCloud(ProviderConformance):
        @pytest.fixture
        def harness(self) -> Iterator[ProviderHarness]:
            with my_local_cloud() as cloud:
                yield MyHarness(cloud)

A test is skipped only if the provider does not declare the capability that it is about, or if its cloud has no such thing: the
method of the harness then raises NotImplementedError, with the reason.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

import pytest

from multicompute import errors
from multicompute.node import Metric, Node, NodeState, Sample
from multicompute.offer import Part
from multicompute.provider import TAG_EXPIRES_AT, TAG_ID, Capability, Selector, expiry_tag
from multicompute.testing.provider_harness import EXPECTED, FailureKind, ProviderHarness, launch_request

_Result = TypeVar("_Result")
_Test = TypeVar("_Test", bound=Callable[..., object])


def needs(capability: Capability) -> Callable[[_Test], _Test]:
    """Mark a test as a test of `capability`; it is skipped if the provider does not declare the capability."""

    def mark(test: _Test) -> _Test:
        test.needs = capability  # type: ignore[attr-defined]
        return test

    return mark


FIRST = Selector(cluster_id="id-first")


class ProviderConformance:
    """Tests of every promise of `Provider`, through the provider and against the resources of its test cloud."""

    @pytest.fixture
    def harness(self) -> Iterator[ProviderHarness]:
        """Return the harness; the subclass overrides this fixture, and creates a new harness for each test."""
        raise NotImplementedError("a subclass of ProviderConformance must override the fixture `harness`")

    @pytest.fixture(autouse=True)
    def _skip_what_is_not_declared(self, request: pytest.FixtureRequest, harness: ProviderHarness) -> None:
        capability = getattr(request.function, "needs", None)
        if capability is not None and capability not in harness.provider.capabilities:
            pytest.skip(f"{harness.provider.name} does not declare the capability {capability}")

    @pytest.fixture(autouse=True)
    def _skip_what_the_cloud_lacks(self, harness: ProviderHarness, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("other_account", "stop", "remove_tags", "protect", "unprotect"):
            monkeypatch.setattr(harness, name, _or_skip(getattr(harness, name)))

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
        running = _until_running(harness, FIRST, count=2)
        assert {node.id for node in running} == {node.id for node in launched}
        assert all(node.private_ip for node in running)

    def test_a_private_gang_has_no_public_address(self, harness: ProviderHarness) -> None:
        """Launch with `private` and expect no public address on a running node."""
        harness.provider.launch(replace(launch_request(harness.offer()), private=True))
        assert [node.public_ip for node in _until_running(harness, FIRST, count=2)] == [None, None]

    def test_without_capacity_for_the_whole_gang_nothing_is_launched(self, harness: ProviderHarness) -> None:
        """Leave capacity for two of three nodes; a gang is launched completely or not at all."""
        before, offer = _ids(harness.alive()), harness.offer()
        harness.limit_capacity(offer, 2)
        with pytest.raises(errors.CapacityError) as caught:
            harness.provider.launch(launch_request(offer, nodes=3))
        assert (caught.value.region, caught.value.zone) == (offer.region, offer.zone)
        assert caught.value.instance_type == offer.instance_type
        assert _eventually(harness, lambda: not _billable(harness, before))
        assert not [node for node in harness.provider.nodes(FIRST) if node.state is not NodeState.GONE]

    def test_without_capacity_for_the_second_part_the_first_is_terminated_too(self, harness: ProviderHarness) -> None:
        """Refuse the second of two parts; the nodes of the first must not keep running."""
        before, here, there = _ids(harness.alive()), harness.offer(), harness.offer(zone=1)
        harness.limit_capacity(there, 0)
        request = replace(launch_request(here), parts=(Part(here, 1), Part(there, 1)))
        with pytest.raises(errors.CapacityError):
            harness.provider.launch(request)
        assert _eventually(harness, lambda: not _billable(harness, before))

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

    # --- the token ----------------------------------------------------------------------------------------------------

    def test_the_same_token_again_gives_the_same_nodes_and_buys_nothing(self, harness: ProviderHarness) -> None:
        """Repeat a launch before and after its nodes run; every call must be safe to repeat (I5)."""
        request = launch_request(harness.offer(), nodes=3)
        first = harness.provider.launch(request)
        existing = _ids(harness.alive())
        assert {node.id for node in harness.provider.launch(request)} == {node.id for node in first}
        _until_running(harness, FIRST, count=3)
        assert {node.id for node in harness.provider.launch(request)} == {node.id for node in first}
        assert _ids(harness.alive()) == existing

    def test_a_launch_whose_answer_was_lost_is_the_same_launch_when_repeated(self, harness: ProviderHarness) -> None:
        """Lose the answer of a launch and repeat it; the repeated call must not buy again (I5)."""
        before, request = _ids(harness.alive()), launch_request(harness.offer(), nodes=3)
        harness.lose_launch_answer()
        with pytest.raises(errors.TransientError):
            harness.provider.launch(request)
        bought = _billable(harness, before)
        nodes = harness.provider.launch(request)
        assert len(nodes) == 3
        assert bought and _billable(harness, before) == bought

    def test_a_launch_whose_answer_was_lost_is_found_by_its_token(self, harness: ProviderHarness) -> None:
        """Lose the answer of a launch and list by token, as the engine does after a crash (I3)."""
        harness.lose_launch_answer()
        with pytest.raises(errors.TransientError):
            harness.provider.launch(launch_request(harness.offer()))
        assert _eventually(harness, lambda: len(harness.provider.nodes(Selector(token="attempt-1"))) == 2)

    def test_two_launches_of_one_token_at_once_buy_once(self, harness: ProviderHarness) -> None:
        """Launch with one token from four threads and expect one gang."""
        request = launch_request(harness.offer())
        with ThreadPoolExecutor(4) as pool:
            answers = [task.result() for task in [pool.submit(harness.provider.launch, request) for _ in range(4)]]
        assert len({node.id for nodes in answers for node in nodes}) == 2
        assert len(_until_running(harness, FIRST, count=2)) == 2

    def test_launches_of_several_clusters_at_once_do_not_mix(self, harness: ProviderHarness) -> None:
        """Launch four clusters at once and list each by its id."""
        names = [f"c{number}" for number in range(4)]
        requests = [launch_request(harness.offer(), cluster=name, token=f"token-{name}") for name in names]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(harness.provider.launch, requests))
        for name, launched in zip(names, answers, strict=True):
            selector = Selector(cluster_id=f"id-{name}")
            assert _ids(_until_running(harness, selector, count=2)) == _ids(launched)

    # --- tags and listings --------------------------------------------------------------------------------------------

    def test_everything_that_a_launch_creates_is_tagged_at_its_creation(self, harness: ProviderHarness) -> None:
        """Compare the tags of every new resource with the request: a crash must not leave untagged resources (I2)."""
        before, request = _ids(harness.alive()), launch_request(harness.offer())
        harness.provider.launch(request)
        created = [resource for resource in harness.alive() if resource.id not in before]
        assert len(created) >= 2
        for resource in created:
            assert request.tags.items() <= resource.tags.items(), f"{resource.kind} {resource.id} lacks tags"

    def test_resources_lists_everything_of_ours_and_nothing_else(self, harness: ProviderHarness) -> None:
        """List by cluster and by owner, next to foreign resources that must not be listed (I3, I9)."""
        before = _ids(harness.alive())
        harness.add_foreign()
        foreign = _ids(harness.alive()) - before
        harness.provider.launch(launch_request(harness.offer()))
        _until_running(harness, FIRST, count=2)
        listed = harness.provider.resources(FIRST)
        assert _ids(listed) == _ids(harness.alive()) - before - foreign
        assert all(resource.tags[TAG_ID] == "id-first" for resource in listed)
        # If the ledger is lost, only the owner is known.
        assert _ids(harness.provider.resources(Selector(owner="conformance"))) == _ids(listed)
        assert _ids(harness.provider.nodes(Selector(owner="conformance"))) == _ids(harness.provider.nodes(FIRST))
        assert sum(1 for resource in listed if resource.billable) >= 2

    def test_nodes_are_found_by_cluster_by_token_and_by_owner(self, harness: ProviderHarness) -> None:
        """List three launches by each field of a selector, and by two fields that contradict each other."""
        launch = harness.provider.launch
        one = launch(launch_request(harness.offer(), nodes=1))
        two = launch(launch_request(harness.offer(), nodes=1, token="attempt-2"))
        other = launch(launch_request(harness.offer(), nodes=1, cluster="second", token="attempt-3", owner="another"))
        _until_running(harness, Selector(), count=3)
        found = harness.provider.nodes
        assert _ids(found(FIRST)) == _ids(one + two)
        assert _ids(found(Selector(token="attempt-2"))) == _ids(two)
        assert _ids(found(Selector(owner="another"))) == _ids(other)
        assert _ids(found(Selector(cluster_id="id-first", token="attempt-3"))) == set()
        assert _ids(found(Selector())) == _ids(one + two + other)
        assert {node.token for node in found(FIRST)} == {"attempt-1", "attempt-2"}

    def test_a_listing_of_one_region_shows_only_the_nodes_in_that_region(self, harness: ProviderHarness) -> None:
        """Launch in two regions and list each region and both."""
        near, far = harness.offer(), harness.offer(region=1)
        one = harness.provider.launch(launch_request(near, nodes=1))
        two = harness.provider.launch(launch_request(far, nodes=1, token="attempt-2"))
        _until_running(harness, FIRST, count=2)
        assert _ids(harness.provider.nodes(replace(FIRST, region=near.region))) == _ids(one)
        assert _ids(harness.provider.nodes(replace(FIRST, region=far.region))) == _ids(two)
        assert _ids(harness.provider.nodes(FIRST)) == _ids(one + two)

    @needs(Capability.GLOBAL_LISTING)
    def test_one_listing_of_all_regions_shows_the_same_nodes_as_a_listing_of_each_region(
        self, harness: ProviderHarness
    ) -> None:
        """Compare the two listings that the engine chooses between."""
        places = (harness.offer(), harness.offer(region=1))
        for number, offer in enumerate(places):
            harness.provider.launch(launch_request(offer, nodes=1, token=f"attempt-{number}"))
        _until_running(harness, FIRST, count=2)
        everywhere = Selector(instance_types=tuple({offer.instance_type for offer in places}), with_health=True)
        each = [node for offer in places for node in harness.provider.nodes(replace(everywhere, region=offer.region))]
        assert len(each) == 2
        assert {node.id: node for node in harness.provider.nodes(everywhere)} == {node.id: node for node in each}

    def test_a_listing_reads_every_page_and_has_a_stable_order(self, harness: ProviderHarness) -> None:
        """Launch more nodes than a page holds, and list them twice."""
        launched = harness.provider.launch(launch_request(harness.offer(), nodes=harness.page_nodes))
        listed = _until_running(harness, FIRST, count=harness.page_nodes)
        assert _ids(listed) == _ids(launched)
        assert [node.id for node in harness.provider.nodes(FIRST)] == [node.id for node in listed]

    def test_known_ids_are_a_hint_and_do_not_change_the_result(self, harness: ProviderHarness) -> None:
        """List with and without the ids of the nodes and expect the same states."""
        launched = harness.provider.launch(launch_request(harness.offer()))
        listed = _until_running(harness, FIRST, count=2)
        hinted = harness.provider.nodes(replace(FIRST, node_ids=tuple(node.id for node in launched)))
        assert {(node.id, node.state) for node in hinted} == {(node.id, node.state) for node in listed}

    def test_known_instance_types_are_a_hint_and_do_not_change_the_result(self, harness: ProviderHarness) -> None:
        """List with and without the instance types and expect the same states."""
        offer = harness.offer()
        harness.provider.launch(launch_request(offer))
        listed = _until_running(harness, FIRST, count=2)
        hinted = harness.provider.nodes(replace(FIRST, region=offer.region, instance_types=(offer.instance_type,)))
        assert {(node.id, node.state) for node in hinted} == {(node.id, node.state) for node in listed}

    def test_a_node_that_listings_do_not_show_yet_appears_within_the_consistency_window(
        self, harness: ProviderHarness
    ) -> None:
        """Delay the listing of new nodes and list until the window has passed."""
        harness.delay_listing()
        launched = harness.provider.launch(launch_request(harness.offer()))
        within = harness.provider.consistency_window
        assert _eventually(harness, lambda: _ids(harness.provider.nodes(FIRST)) == _ids(launched), within=within)

    def test_a_node_that_listings_do_not_show_yet_is_not_treated_as_gone(self, harness: ProviderHarness) -> None:
        """Tear down nodes that no listing shows yet; the teardown must not be done before they are gone (I4)."""
        before = _ids(harness.alive())
        harness.delay_listing()
        launched = harness.provider.launch(launch_request(harness.offer()))
        known = tuple(node.id for node in launched)
        _tear_down(harness, Selector(region=harness.offer().region, token="attempt-1", node_ids=known))
        assert _billable(harness, before) == set()

    # --- teardown -----------------------------------------------------------------------------------------------------

    def test_a_teardown_ends_with_nothing_left_in_the_cloud(self, harness: ProviderHarness) -> None:
        """Tear down running nodes and compare the cloud with its state before the launch."""
        before = _ids(harness.alive())
        harness.provider.launch(launch_request(harness.offer(), nodes=3))
        _until_running(harness, FIRST, count=3)
        _tear_down(harness, FIRST)
        assert _ids(harness.alive()) == before
        assert harness.provider.resources(FIRST) == ()

    def test_a_teardown_of_nodes_that_do_not_run_yet_ends_with_nothing_left(self, harness: ProviderHarness) -> None:
        """Tear down directly after the launch, while nodes are still being created."""
        before = _ids(harness.alive())
        harness.provider.launch(launch_request(harness.offer()))
        _tear_down(harness, FIRST)
        assert _ids(harness.alive()) == before

    def test_a_step_of_a_teardown_reports_what_remains(self, harness: ProviderHarness) -> None:
        """Expect a reason to wait, and every node that still exists, from a single step."""
        harness.provider.launch(launch_request(harness.offer()))
        _until_running(harness, FIRST, count=2)
        step = harness.provider.terminate(FIRST)
        assert step.is_done or step.waiting_for
        assert _ids(step.remaining) >= {
            node.id for node in harness.provider.nodes(FIRST) if node.state is not NodeState.GONE
        }

    def test_a_teardown_may_be_repeated(self, harness: ProviderHarness) -> None:
        """Tear down what is already gone and what never existed (I5)."""
        harness.provider.launch(launch_request(harness.offer()))
        _tear_down(harness, FIRST)
        assert harness.provider.terminate(FIRST).is_done
        assert harness.provider.terminate(Selector(cluster_id="id-never-was")).is_done
        assert harness.provider.terminate(Selector(token="never-was")).is_done

    def test_a_teardown_without_a_cluster_or_a_token_is_refused(self, harness: ProviderHarness) -> None:
        """Refuse a selector that could match the clusters of a complete ledger."""
        launched = harness.provider.launch(launch_request(harness.offer()))
        with pytest.raises(errors.MulticomputeError):
            harness.provider.terminate(Selector(owner="conformance"))
        assert _ids(_until_running(harness, FIRST, count=2)) == _ids(launched)

    def test_a_teardown_changes_neither_other_clusters_nor_foreign_resources(self, harness: ProviderHarness) -> None:
        """Tear down one of two clusters, next to foreign resources (I9)."""
        harness.add_foreign()
        harness.provider.launch(launch_request(harness.offer()))
        other = harness.provider.launch(launch_request(harness.offer(), cluster="second", token="attempt-2"))
        _tear_down(harness, FIRST)
        second = harness.provider.nodes(Selector(cluster_id="id-second"))
        assert _ids(second) == _ids(other)
        assert all(node.state in (NodeState.PENDING, NodeState.RUNNING) for node in second)
        assert harness.foreign_intact()

    def test_a_teardown_by_token_leaves_the_rest_of_the_cluster(self, harness: ProviderHarness) -> None:
        """Tear down one of two launches of a cluster, as after a failed replacement of nodes."""
        kept = harness.provider.launch(launch_request(harness.offer()))
        harness.provider.launch(launch_request(harness.offer(), token="attempt-2"))
        _until_running(harness, FIRST, count=4)
        _tear_down(harness, Selector(token="attempt-2"))
        alive = [node for node in harness.provider.nodes(FIRST) if node.state is not NodeState.GONE]
        assert _ids(alive) == _ids(kept)
        assert {node.state for node in alive} == {NodeState.RUNNING}

    def test_a_teardown_by_region_leaves_the_other_region(self, harness: ProviderHarness) -> None:
        """Tear down one of two regions of a cluster."""
        near, far = harness.offer(), harness.offer(region=1)
        harness.provider.launch(launch_request(near))
        kept = harness.provider.launch(launch_request(far, token="attempt-2"))
        _tear_down(harness, replace(FIRST, region=near.region))
        alive = [node for node in harness.provider.nodes(FIRST) if node.state is not NodeState.GONE]
        assert _ids(alive) == _ids(kept)

    def test_a_teardown_deletes_what_a_refused_launch_left_behind(self, harness: ProviderHarness) -> None:
        """Tear down after a launch that created dependent resources and no nodes."""
        before = _ids(harness.alive())
        harness.limit_capacity(harness.offer(), 0)
        with pytest.raises(errors.CapacityError):
            harness.provider.launch(launch_request(harness.offer()))
        _tear_down(harness, FIRST)
        assert _ids(harness.alive()) == before

    def test_a_teardown_finds_nodes_whose_launch_was_never_answered(self, harness: ProviderHarness) -> None:
        """Tear down by cluster id, with no knowledge of the nodes (I3)."""
        before = _ids(harness.alive())
        harness.lose_launch_answer()
        with pytest.raises(errors.TransientError):
            harness.provider.launch(launch_request(harness.offer()))
        _until_running(harness, FIRST, count=2)
        _tear_down(harness, FIRST)
        assert _ids(harness.alive()) == before

    @needs(Capability.DEPENDENT_RESOURCES)
    def test_dependent_resources_exist_until_the_nodes_are_gone_and_are_then_deleted(
        self, harness: ProviderHarness
    ) -> None:
        """Expect security groups, disks and the like while nodes run, and none after the teardown (I8)."""
        before = _ids(harness.alive())
        # With a key that may log in: some providers create dependent resources only to let it in.
        request = replace(launch_request(harness.offer()), ssh_public_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== me")
        nodes = harness.provider.launch(request)
        _until_running(harness, FIRST, count=2)
        dependent = {resource.id for resource in harness.provider.resources(FIRST) if not resource.billable} - _ids(
            nodes
        )
        assert dependent
        _tear_down(harness, Selector(token="attempt-1"))
        _tear_down(harness, FIRST)
        assert _ids(harness.alive()) == before

    # --- errors -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", list(FailureKind))
    def test_a_refusal_becomes_the_error_of_its_kind_with_place_and_code(
        self, harness: ProviderHarness, kind: FailureKind
    ) -> None:
        """Refuse a launch for each reason; the engine decides by the type of the error."""
        harness.refuse_launch(kind)
        with pytest.raises(errors.MulticomputeError) as caught:
            harness.provider.launch(launch_request(harness.offer()))
        assert type(caught.value) is EXPECTED[kind]
        assert caught.value.provider == harness.provider.name
        assert caught.value.region == harness.offer().region
        assert caught.value.code or kind is FailureKind.TRANSIENT
        assert harness.provider.name in caught.value.message
        if isinstance(caught.value, errors.CapacityError):
            assert caught.value.is_offered is (kind is not FailureKind.NOT_OFFERED)

    @pytest.mark.parametrize("kind", list(FailureKind))
    def test_a_refused_launch_leaves_no_node(self, harness: ProviderHarness, kind: FailureKind) -> None:
        """Refuse a launch for each reason and expect no billable resource."""
        before = _ids(harness.alive())
        harness.refuse_launch(kind)
        with pytest.raises(EXPECTED[kind]):
            harness.provider.launch(launch_request(harness.offer()))
        assert _billable(harness, before) == set()

    @pytest.mark.parametrize("kind", [FailureKind.THROTTLED, FailureKind.TRANSIENT])
    def test_after_a_temporary_failure_the_same_token_succeeds(
        self, harness: ProviderHarness, kind: FailureKind
    ) -> None:
        """Repeat a launch after a throttled and after a failed call."""
        request = launch_request(harness.offer())
        harness.refuse_launch(kind)
        with pytest.raises(EXPECTED[kind]):
            harness.provider.launch(request)
        assert len(harness.provider.launch(request)) == 2

    # --- changes from outside -----------------------------------------------------------------------------------------

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
        _until_running(harness, FIRST, count=2)
        assert not [*harness.other_account().resources(FIRST), *harness.other_account().nodes(FIRST)]

    def test_a_node_that_was_stopped_is_listed_as_stopped(self, harness: ProviderHarness) -> None:
        """A stopped node exists and can be started again, so it is not lost."""
        nodes = harness.provider.launch(launch_request(harness.offer()))
        _until_running(harness, FIRST, count=2)
        for node in nodes:
            harness.stop(node.id)
        assert _eventually(harness, lambda: _states(harness, FIRST) == {NodeState.STOPPED})
        assert not any(node.is_lost for node in harness.provider.nodes(FIRST))
        assert _ids(harness.provider.resources(FIRST)) >= _ids(nodes)

    def test_a_stopped_node_is_torn_down_like_the_others(self, harness: ProviderHarness) -> None:
        """A teardown deletes stopped nodes (I8)."""
        before = _ids(harness.alive())
        nodes = harness.provider.launch(launch_request(harness.offer()))
        _until_running(harness, FIRST, count=2)
        harness.stop(nodes[0].id)
        _tear_down(harness, FIRST)
        assert _ids(harness.alive()) == before

    @needs(Capability.RESTART)
    def test_a_launch_with_restart_starts_the_stopped_nodes_and_buys_nothing(self, harness: ProviderHarness) -> None:
        """A launch with `restart` starts stopped nodes and launches none."""
        request = launch_request(harness.offer())
        nodes = harness.provider.launch(request)
        _until_running(harness, FIRST, count=2)
        existing = _ids(harness.alive())
        harness.stop(nodes[0].id)
        assert _eventually(harness, lambda: NodeState.STOPPED in _states(harness, FIRST))
        started = harness.provider.launch(replace(request, restart=True))
        assert _ids(started) == _ids(nodes)
        assert _ids(_until_running(harness, FIRST, count=2)) == _ids(nodes)
        assert _ids(harness.alive()) == existing

    def test_a_node_without_tags_is_found_by_its_id_and_by_its_token(self, harness: ProviderHarness) -> None:
        """A listing finds nodes by what the ledger knows of them."""
        region = harness.offer().region
        nodes = harness.provider.launch(launch_request(harness.offer()))
        _until_running(harness, FIRST, count=2)
        harness.remove_tags(nodes[0].id)
        by_id = replace(FIRST, region=region, known_ids=(nodes[0].id,))
        by_token = replace(FIRST, region=region, tokens=("attempt-1",), known_ids=tuple(node.id for node in nodes))
        for selector in (by_id, by_token):
            found = {node.id: node for node in harness.provider.nodes(selector)}
            assert found.keys() == _ids(nodes)
            assert {name: node.is_tagged for name, node in found.items()} == {nodes[0].id: False, nodes[1].id: True}
            assert found[nodes[0].id].state is NodeState.RUNNING

    def test_a_known_node_that_does_not_exist_is_not_listed(self, harness: ProviderHarness) -> None:
        """A known id that the cloud does not show is gone."""
        region = harness.offer().region
        nodes = harness.provider.launch(launch_request(harness.offer()))
        _until_running(harness, FIRST, count=2)
        _tear_down(harness, replace(FIRST, region=region))
        selector = replace(FIRST, region=region, known_ids=tuple(node.id for node in nodes), tokens=("attempt-1",))
        assert {node.state for node in harness.provider.nodes(selector)} <= {NodeState.GONE}
        assert harness.provider.terminate(selector).is_done

    def test_tags_are_restored_on_nodes_that_lack_them(self, harness: ProviderHarness) -> None:
        """`set_expiry` sets removed tags again."""
        request = launch_request(harness.offer())
        nodes = harness.provider.launch(request)
        _until_running(harness, FIRST, count=2)
        harness.remove_tags(nodes[0].id)
        known = replace(
            FIRST,
            region=harness.offer().region,
            known_ids=tuple(node.id for node in nodes),
            tokens=("attempt-1",),
        )
        harness.provider.set_expiry(known, None, restore=request.tags)
        assert _eventually(harness, lambda: _ids(harness.provider.nodes(FIRST)) == _ids(nodes))
        assert all(node.is_tagged and node.token == "attempt-1" for node in harness.provider.nodes(FIRST))
        tags = {resource.id: resource.tags for resource in harness.alive()}
        assert request.tags.items() <= tags[nodes[0].id].items()

    def test_a_teardown_deletes_nodes_without_tags_by_their_ids(self, harness: ProviderHarness) -> None:
        """A teardown deletes nodes by what the ledger knows of them (I8)."""
        before = _ids(harness.alive())
        nodes = harness.provider.launch(launch_request(harness.offer()))
        _until_running(harness, FIRST, count=2)
        for node in nodes:
            harness.remove_tags(node.id)
        known = tuple(node.id for node in nodes)
        _tear_down(harness, replace(FIRST, region=harness.offer().region, known_ids=known, tokens=("attempt-1",)))
        assert _ids(harness.alive()) == before

    def test_a_teardown_of_single_nodes_leaves_the_others(self, harness: ProviderHarness) -> None:
        """A teardown with `only` deletes nothing else."""
        before = _ids(harness.alive())
        nodes = harness.provider.launch(launch_request(harness.offer(), nodes=3))
        _until_running(harness, FIRST, count=3)
        _tear_down(harness, replace(FIRST, region=harness.offer().region, only=(nodes[1].id,)))
        assert _ids(_live_nodes(harness, FIRST)) == {nodes[0].id, nodes[2].id}
        assert nodes[1].id not in _ids(harness.alive())
        _tear_down(harness, FIRST)
        assert _ids(harness.alive()) == before

    def test_a_protected_node_blocks_the_teardown_which_names_it_at_once(self, harness: ProviderHarness) -> None:
        """A teardown reports at once what refuses a delete."""
        before = _ids(harness.alive())
        nodes = harness.provider.launch(launch_request(harness.offer()))
        _until_running(harness, FIRST, count=2)
        harness.protect(nodes[0].id)
        step = harness.provider.terminate(FIRST)
        assert not step.is_done
        assert nodes[0].id in step.blocked_by
        harness.unprotect(nodes[0].id)
        _tear_down(harness, FIRST)
        assert _ids(harness.alive()) == before

    # --- expiry ----------------------------------------------------------------------------------------------

    def test_the_expiry_of_a_cluster_is_moved_in_the_tags_of_its_nodes_only(self, harness: ProviderHarness) -> None:
        """Move the expiry of one of two clusters, then remove it."""
        nodes = harness.provider.launch(launch_request(harness.offer()))
        other = harness.provider.launch(launch_request(harness.offer(), cluster="second", token="attempt-2"))
        _until_running(harness, Selector(), count=4)
        later = harness.clock.now() + timedelta(hours=5)
        harness.provider.set_expiry(FIRST, later)
        assert _expiries(harness, nodes) == {expiry_tag(later)}
        assert _expiries(harness, other) == {"never"}
        harness.provider.set_expiry(FIRST, None)
        assert _expiries(harness, nodes) == {"never"}

    def test_moving_the_expiry_of_a_cluster_without_nodes_does_nothing(self, harness: ProviderHarness) -> None:
        """Set the expiry of a cluster that has no nodes and expect no change in the cloud."""
        before = _ids(harness.alive())
        harness.provider.set_expiry(FIRST, harness.clock.now() + timedelta(hours=1))
        assert _ids(harness.alive()) == before

    @needs(Capability.EXPIRY)
    def test_a_node_is_terminated_at_its_expiry_without_a_call(self, harness: ProviderHarness) -> None:
        """Reach the expiry without any call of ours; the cloud or the node itself must terminate the node."""
        ends = harness.clock.now() + timedelta(hours=1)
        request = launch_request(harness.offer())
        tags = {**request.tags, TAG_EXPIRES_AT: expiry_tag(ends)}
        harness.provider.launch(replace(request, expires_at=ends, tags=tags))
        harness.provider.launch(launch_request(harness.offer(), cluster="second", token="attempt-2"))
        _until_running(harness, Selector(), count=4)
        harness.reach_expiry()
        assert _eventually(harness, lambda: not _live_nodes(harness, FIRST))
        assert len(_live_nodes(harness, Selector(cluster_id="id-second"))) == 2

    @needs(Capability.EXPIRY)
    def test_a_node_whose_expiry_was_removed_keeps_running(self, harness: ProviderHarness) -> None:
        """Remove the expiry of running nodes and pass the old one."""
        ends = harness.clock.now() + timedelta(hours=1)
        request = launch_request(harness.offer())
        tags = {**request.tags, TAG_EXPIRES_AT: expiry_tag(ends)}
        harness.provider.launch(replace(request, expires_at=ends, tags=tags))
        _until_running(harness, FIRST, count=2)
        harness.provider.set_expiry(FIRST, None)
        harness.reach_expiry()
        assert len(_live_nodes(harness, FIRST)) == 2

    # --- capabilities -------------------------------------------------------------------------------------------------

    @needs(Capability.SPOT)
    def test_a_preempted_spot_node_has_a_reason_and_the_cause_preemption(self, harness: ProviderHarness) -> None:
        """Preempt one of two spot nodes and list both."""
        nodes = harness.provider.launch(launch_request(harness.offer("spot")))
        _until_running(harness, FIRST, count=2)
        harness.preempt(nodes[0].id)
        assert _eventually(harness, lambda: nodes[0].id not in _ids(_live_nodes(harness, FIRST)))
        seen = [node for node in harness.provider.nodes(FIRST) if node.id == nodes[0].id]
        assert all(node.reason and node.cause == "preemption" for node in seen)
        assert _ids(_live_nodes(harness, FIRST)) == {nodes[1].id}

    @needs(Capability.METRICS)
    def test_metrics_returns_the_measurements_of_the_given_nodes_and_nothing_else(
        self, harness: ProviderHarness
    ) -> None:
        """Measure two of three nodes and read one of them and the silent one."""
        harness.provider.launch(launch_request(harness.offer(), nodes=3))
        busy, other, silent = _until_running(harness, FIRST, count=3)
        began = harness.clock.now()
        harness.measure(busy, {Metric.CPU: 40.0, Metric.ACCELERATOR: 90.0})
        harness.measure(other, {Metric.CPU: 10.0})
        samples = self._measured(harness, [busy, silent], began, Metric.ACCELERATOR)
        assert {sample.node for sample in samples} == {busy.id}
        assert {sample.metric for sample in samples} == {Metric.CPU, Metric.ACCELERATOR}
        expected = {Metric.CPU: pytest.approx(40.0), Metric.ACCELERATOR: pytest.approx(90.0)}
        assert [sample for sample in samples if sample.value != expected[sample.metric]] == []
        assert [sample.at for sample in samples] == sorted(sample.at for sample in samples)

    @needs(Capability.METRICS)
    def test_measurements_outside_the_time_window_are_left_out(self, harness: ProviderHarness) -> None:
        """Read a window without measurements, and no nodes at all."""
        harness.provider.launch(launch_request(harness.offer(), nodes=1))
        (node,) = _until_running(harness, FIRST, count=1)
        began = harness.clock.now()
        harness.measure(node, {Metric.CPU: 40.0})
        assert self._measured(harness, [node], began, Metric.CPU)
        long_ago = began - timedelta(days=2)
        assert harness.provider.metrics([node], since=long_ago, until=long_ago + timedelta(hours=1)) == ()
        assert harness.provider.metrics([], since=began, until=harness.clock.now()) == ()

    @staticmethod
    def _measured(
        harness: ProviderHarness, nodes: Sequence[Node], began: datetime, awaited: Metric
    ) -> tuple[Sample, ...]:
        """Return the measurements since shortly before `began`, after `awaited` is among them."""
        found: tuple[Sample, ...] = ()

        def is_there() -> bool:
            nonlocal found
            since, until = began - timedelta(minutes=5), harness.clock.now() + timedelta(minutes=5)
            found = harness.provider.metrics(nodes, since=since, until=until)
            return any(sample.metric is awaited for sample in found)

        assert _eventually(harness, is_there), "nothing was measured"
        return found

    @needs(Capability.HEALTH_CHECKS)
    def test_a_node_that_fails_the_clouds_health_check_is_impaired_if_health_is_requested(
        self, harness: ProviderHarness
    ) -> None:
        """Fail the health check of one of two nodes and list with `with_health`."""
        harness.provider.launch(launch_request(harness.offer()))
        failing, healthy = _until_running(harness, FIRST, count=2)
        harness.impair(failing)
        with_health = replace(FIRST, with_health=True)

        def states() -> dict[str, NodeState]:
            return {node.id: node.state for node in harness.provider.nodes(with_health)}

        assert _eventually(harness, lambda: states() == {failing.id: NodeState.IMPAIRED, healthy.id: NodeState.RUNNING})
        (found,) = [node for node in harness.provider.nodes(with_health) if node.id == failing.id]
        assert found.reason

    @needs(Capability.RESERVATIONS)
    def test_a_launch_into_a_reservation_succeeds_without_other_capacity(self, harness: ProviderHarness) -> None:
        """Launch into a reservation in a zone that has no other capacity."""
        offer = harness.offer()
        held = harness.reserve(offer, 2)
        harness.limit_capacity(offer, 0)
        known = harness.provider.quotas(offer.region, reservations=[held]).reservations
        assert [(item.id, item.available, item.zone) for item in known] == [(held, 2, offer.zone)]
        request = launch_request(offer)
        nodes = harness.provider.launch(replace(request, parts=(Part(offer, 2, reservation=held),)))
        assert len(nodes) == 2
        assert harness.provider.quotas(offer.region, reservations=[held]).reservations[0].available == 0

    @needs(Capability.RESERVATIONS)
    def test_a_launch_of_more_nodes_than_the_reservation_holds_is_refused(self, harness: ProviderHarness) -> None:
        """Launch two nodes into a reservation for one; no part of the gang may be bought elsewhere."""
        before, offer = _ids(harness.alive()), harness.offer()
        held = harness.reserve(offer, 1)
        with pytest.raises(errors.CapacityError):
            harness.provider.launch(replace(launch_request(offer), parts=(Part(offer, 2, reservation=held),)))
        assert _eventually(harness, lambda: not _billable(harness, before))

    def test_quotas_are_read_or_it_is_noted_why_not(self, harness: ProviderHarness) -> None:
        """Expect quotas or a note: an unreadable quota must not look like an unlimited one."""
        answer = harness.provider.quotas(harness.offer().region)
        assert answer.quotas or answer.notes
        assert all(quota.limit >= 0 and quota.used >= 0 and quota.families for quota in answer.quotas)

    def test_a_reservation_that_does_not_exist_is_left_out(self, harness: ProviderHarness) -> None:
        """Ask for an unknown reservation and expect no error."""
        assert harness.provider.quotas(harness.offer().region, reservations=["no-such-reservation"]).reservations == ()

    def test_quotes_has_prices_only_for_the_given_offers(self, harness: ProviderHarness) -> None:
        """Ask for the prices of two offers; a price may be missing, but must not be another offer's."""
        offers = [harness.offer(), harness.offer(zone=1)]
        quotes = harness.provider.quotes(offers)
        assert set(quotes) <= set(offers)
        assert all(quote.hourly_cost > 0 and quote.source for quote in quotes.values())

    @needs(Capability.LIVE_PRICES)
    def test_quotes_has_todays_price_of_an_offer(self, harness: ProviderHarness) -> None:
        """Expect a price from a provider that declares live prices."""
        offer = harness.offer()
        assert harness.provider.quotes([offer])[offer].hourly_cost > 0

    def test_check_finds_no_problem(self, harness: ProviderHarness) -> None:
        """Check a cloud that works and expect findings, all of them good."""
        findings = harness.provider.check()
        assert findings
        assert [finding for finding in findings if not finding.ok] == []


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


def _ids(found: Collection[_Identified]) -> set[str]:
    return {each.id for each in found}


def _eventually(harness: ProviderHarness, condition: Callable[[], bool], *, within: timedelta | None = None) -> bool:
    """Return whether the condition becomes true within the time that the provider allows."""
    deadline = harness.clock.now() + (within or harness.provider.attempt_timeout)
    while not condition():
        if harness.clock.now() >= deadline:
            return False
        harness.clock.sleep(harness.provider.poll_interval)
    return True


def _live_nodes(harness: ProviderHarness, selector: Selector) -> list[Node]:
    return [node for node in harness.provider.nodes(selector) if node.state in (NodeState.PENDING, NodeState.RUNNING)]


def _until_running(harness: ProviderHarness, selector: Selector, *, count: int) -> tuple[Node, ...]:
    """Wait until `count` nodes run, and return them."""

    def all_run() -> bool:
        return [node.state for node in harness.provider.nodes(selector)] == [NodeState.RUNNING] * count

    assert _eventually(harness, all_run), f"not {count} running: {harness.provider.nodes(selector)}"
    return harness.provider.nodes(selector)


def _tear_down(harness: ProviderHarness, selector: Selector) -> None:
    assert _eventually(harness, lambda: harness.provider.terminate(selector).is_done), harness.provider.resources(
        selector
    )


def _billable(harness: ProviderHarness, before: Collection[str]) -> set[str]:
    """Return the ids of billable resources that did not exist before."""
    return {resource.id for resource in harness.alive() if resource.billable and resource.id not in before}


def _or_skip(action: Callable[..., _Result]) -> Callable[..., _Result]:
    """Return the action; it skips the test if the cloud has no such thing."""

    def act(*args: object) -> _Result:
        try:
            return action(*args)
        except NotImplementedError as reason:
            pytest.skip(str(reason))

    return act


def _states(harness: ProviderHarness, selector: Selector) -> set[NodeState]:
    return {node.state for node in harness.provider.nodes(selector)}


def _expiries(harness: ProviderHarness, nodes: Sequence[Node]) -> set[str]:
    """Return the expiry tags of nodes in the cloud."""
    ids = _ids(nodes)
    return {resource.tags.get(TAG_EXPIRES_AT, "none") for resource in harness.alive() if resource.id in ids}
