"""The behaviour that every provider owes: a pytest suite that a provider's author subclasses.

    from multicompute.testing import ProviderConformance, ProviderHarness

    class TestMyCloud(ProviderConformance):
        @pytest.fixture
        def world(self) -> Iterator[ProviderHarness]:
            with my_local_cloud() as cloud:
                yield MyWorld(cloud)

A test is skipped only where the provider does not declare the capability that it is about.
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

_Test = TypeVar("_Test", bound=Callable[..., object])


def needs(capability: Capability) -> Callable[[_Test], _Test]:
    """Mark a test as being about `capability`: it is skipped where the provider does not declare it."""

    def mark(test: _Test) -> _Test:
        test.needs = capability  # type: ignore[attr-defined]
        return test

    return mark


FIRST = Selector(cluster_id="id-first")


class ProviderConformance:
    """Every promise of `Provider`, tested through it and against the ground truth of its test cloud."""

    @pytest.fixture
    def world(self) -> Iterator[ProviderHarness]:
        """To be given by the subclass, fresh for each test."""
        raise NotImplementedError("a subclass of ProviderConformance must give the fixture `world`")

    @pytest.fixture(autouse=True)
    def _skip_what_is_not_declared(self, request: pytest.FixtureRequest, world: ProviderHarness) -> None:
        capability = getattr(request.function, "needs", None)
        if capability is not None and capability not in world.provider.capabilities:
            pytest.skip(f"{world.provider.name} does not declare the capability {capability}")

    # --- launch -------------------------------------------------------------------------------------------------------

    def test_it_declares_its_name_its_capabilities_and_how_long_things_take(self, world: ProviderHarness) -> None:
        provider = world.provider
        assert provider.name == world.offer().provider
        assert all(isinstance(capability, Capability) for capability in provider.capabilities)
        assert timedelta(0) < provider.poll_interval < provider.attempt_timeout
        assert timedelta(0) <= provider.consistency_window < provider.attempt_timeout

    def test_a_launch_gives_every_node_of_the_gang(self, world: ProviderHarness) -> None:
        offer = world.offer()
        nodes = world.provider.launch(launch_request(offer, nodes=3))
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

    def test_launched_nodes_come_to_run_and_have_an_address(self, world: ProviderHarness) -> None:
        launched = world.provider.launch(launch_request(world.offer()))
        running = _until_running(world, FIRST, count=2)
        assert {node.id for node in running} == {node.id for node in launched}
        assert all(node.private_ip for node in running)

    def test_a_private_gang_has_no_public_address(self, world: ProviderHarness) -> None:
        world.provider.launch(replace(launch_request(world.offer()), private=True))
        assert [node.public_ip for node in _until_running(world, FIRST, count=2)] == [None, None]

    def test_without_capacity_for_the_whole_gang_nothing_is_launched(self, world: ProviderHarness) -> None:
        before, offer = _ids(world.alive()), world.offer()
        world.limit_capacity(offer, 2)
        with pytest.raises(errors.CapacityError) as caught:
            world.provider.launch(launch_request(offer, nodes=3))
        assert (caught.value.region, caught.value.zone) == (offer.region, offer.zone)
        assert caught.value.instance_type == offer.instance_type
        assert _eventually(world, lambda: not _billable(world, before))
        assert not [node for node in world.provider.nodes(FIRST) if node.state is not NodeState.GONE]

    def test_a_second_part_without_capacity_takes_the_first_down_with_it(self, world: ProviderHarness) -> None:
        before, here, there = _ids(world.alive()), world.offer(), world.offer(zone=1)
        world.limit_capacity(there, 0)
        request = replace(launch_request(here), parts=(Part(here, 1), Part(there, 1)))
        with pytest.raises(errors.CapacityError):
            world.provider.launch(request)
        assert _eventually(world, lambda: not _billable(world, before))

    def test_parts_in_two_zones_are_one_gang(self, world: ProviderHarness) -> None:
        here, there = world.offer(), world.offer(zone=1)
        nodes = world.provider.launch(replace(launch_request(here), parts=(Part(here, 1), Part(there, 2))))
        assert sorted(node.zone for node in nodes) == sorted([here.zone, there.zone, there.zone])

    def test_after_a_lack_in_one_zone_the_next_zone_serves(self, world: ProviderHarness) -> None:
        world.limit_capacity(world.offer(), 0)
        with pytest.raises(errors.CapacityError):
            world.provider.launch(launch_request(world.offer()))
        nodes = world.provider.launch(launch_request(world.offer(zone=1), token="attempt-2"))
        assert {node.zone for node in nodes} == {world.offer(zone=1).zone}

    # --- the token ----------------------------------------------------------------------------------------------------

    def test_the_same_token_again_gives_the_same_nodes_and_buys_nothing(self, world: ProviderHarness) -> None:
        request = launch_request(world.offer(), nodes=3)
        first = world.provider.launch(request)
        existing = _ids(world.alive())
        assert {node.id for node in world.provider.launch(request)} == {node.id for node in first}
        _until_running(world, FIRST, count=3)
        assert {node.id for node in world.provider.launch(request)} == {node.id for node in first}
        assert _ids(world.alive()) == existing

    def test_a_launch_whose_answer_was_lost_is_the_same_launch_when_repeated(self, world: ProviderHarness) -> None:
        before, request = _ids(world.alive()), launch_request(world.offer(), nodes=3)
        world.lose_launch_answer()
        with pytest.raises(errors.TransientError):
            world.provider.launch(request)
        bought = _billable(world, before)
        nodes = world.provider.launch(request)
        assert len(nodes) == 3
        assert bought and _billable(world, before) == bought

    def test_a_launch_whose_answer_was_lost_is_found_by_its_token(self, world: ProviderHarness) -> None:
        world.lose_launch_answer()
        with pytest.raises(errors.TransientError):
            world.provider.launch(launch_request(world.offer()))
        assert _eventually(world, lambda: len(world.provider.nodes(Selector(token="attempt-1"))) == 2)

    def test_two_launches_of_one_token_at_once_buy_once(self, world: ProviderHarness) -> None:
        request = launch_request(world.offer())
        with ThreadPoolExecutor(4) as pool:
            answers = [task.result() for task in [pool.submit(world.provider.launch, request) for _ in range(4)]]
        assert len({node.id for nodes in answers for node in nodes}) == 2
        assert len(_until_running(world, FIRST, count=2)) == 2

    def test_launches_of_several_clusters_at_once_do_not_mix(self, world: ProviderHarness) -> None:
        names = [f"c{number}" for number in range(4)]
        requests = [launch_request(world.offer(), cluster=name, token=f"token-{name}") for name in names]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(world.provider.launch, requests))
        for name, launched in zip(names, answers, strict=True):
            selector = Selector(cluster_id=f"id-{name}")
            assert _ids(_until_running(world, selector, count=2)) == _ids(launched)

    # --- tags and listings --------------------------------------------------------------------------------------------

    def test_everything_that_a_launch_makes_is_tagged_when_it_is_born(self, world: ProviderHarness) -> None:
        before, request = _ids(world.alive()), launch_request(world.offer())
        world.provider.launch(request)
        made = [resource for resource in world.alive() if resource.id not in before]
        assert len(made) >= 2
        for resource in made:
            assert request.tags.items() <= resource.tags.items(), f"{resource.kind} {resource.id} lacks tags"

    def test_resources_lists_everything_of_ours_and_nothing_else(self, world: ProviderHarness) -> None:
        before = _ids(world.alive())
        world.add_foreign()
        foreign = _ids(world.alive()) - before
        world.provider.launch(launch_request(world.offer()))
        _until_running(world, FIRST, count=2)
        listed = world.provider.resources(FIRST)
        assert _ids(listed) == _ids(world.alive()) - before - foreign
        assert all(resource.tags[TAG_ID] == "id-first" for resource in listed)
        # All that is known when the ledger is lost is the owner.
        assert _ids(world.provider.resources(Selector(owner="conformance"))) == _ids(listed)
        assert _ids(world.provider.nodes(Selector(owner="conformance"))) == _ids(world.provider.nodes(FIRST))
        assert sum(1 for resource in listed if resource.billable) >= 2

    def test_nodes_are_found_by_cluster_by_token_and_by_owner(self, world: ProviderHarness) -> None:
        launch = world.provider.launch
        one = launch(launch_request(world.offer(), nodes=1))
        two = launch(launch_request(world.offer(), nodes=1, token="attempt-2"))
        other = launch(launch_request(world.offer(), nodes=1, cluster="second", token="attempt-3", owner="somebody"))
        _until_running(world, Selector(), count=3)
        found = world.provider.nodes
        assert _ids(found(FIRST)) == _ids(one + two)
        assert _ids(found(Selector(token="attempt-2"))) == _ids(two)
        assert _ids(found(Selector(owner="somebody"))) == _ids(other)
        assert _ids(found(Selector(cluster_id="id-first", token="attempt-3"))) == set()
        assert _ids(found(Selector())) == _ids(one + two + other)
        assert {node.token for node in found(FIRST)} == {"attempt-1", "attempt-2"}

    def test_a_listing_goes_by_region_where_one_is_named(self, world: ProviderHarness) -> None:
        near, far = world.offer(), world.offer(region=1)
        one = world.provider.launch(launch_request(near, nodes=1))
        two = world.provider.launch(launch_request(far, nodes=1, token="attempt-2"))
        _until_running(world, FIRST, count=2)
        assert _ids(world.provider.nodes(replace(FIRST, region=near.region))) == _ids(one)
        assert _ids(world.provider.nodes(replace(FIRST, region=far.region))) == _ids(two)
        assert _ids(world.provider.nodes(FIRST)) == _ids(one + two)

    @needs(Capability.GLOBAL_LISTING)
    def test_one_listing_of_all_regions_tells_what_those_of_each_region_tell(self, world: ProviderHarness) -> None:
        places = (world.offer(), world.offer(region=1))
        for number, offer in enumerate(places):
            world.provider.launch(launch_request(offer, nodes=1, token=f"attempt-{number}"))
        _until_running(world, FIRST, count=2)
        all_of_them = Selector(instance_types=tuple({offer.instance_type for offer in places}), with_health=True)
        each = [node for offer in places for node in world.provider.nodes(replace(all_of_them, region=offer.region))]
        assert len(each) == 2
        assert {node.id: node for node in world.provider.nodes(all_of_them)} == {node.id: node for node in each}

    def test_a_listing_goes_to_its_last_page_in_a_stable_order(self, world: ProviderHarness) -> None:
        launched = world.provider.launch(launch_request(world.offer(), nodes=world.page_nodes))
        listed = _until_running(world, FIRST, count=world.page_nodes)
        assert _ids(listed) == _ids(launched)
        assert [node.id for node in world.provider.nodes(FIRST)] == [node.id for node in listed]

    def test_known_ids_are_a_hint_and_change_nothing_in_what_is_found(self, world: ProviderHarness) -> None:
        launched = world.provider.launch(launch_request(world.offer()))
        listed = _until_running(world, FIRST, count=2)
        hinted = world.provider.nodes(replace(FIRST, node_ids=tuple(node.id for node in launched)))
        assert {(node.id, node.state) for node in hinted} == {(node.id, node.state) for node in listed}

    def test_known_instance_types_are_a_hint_and_change_nothing_in_what_is_found(self, world: ProviderHarness) -> None:
        offer = world.offer()
        world.provider.launch(launch_request(offer))
        listed = _until_running(world, FIRST, count=2)
        hinted = world.provider.nodes(replace(FIRST, region=offer.region, instance_types=(offer.instance_type,)))
        assert {(node.id, node.state) for node in hinted} == {(node.id, node.state) for node in listed}

    def test_a_node_that_listings_do_not_show_yet_appears_within_the_consistency_window(
        self, world: ProviderHarness
    ) -> None:
        world.delay_listing()
        launched = world.provider.launch(launch_request(world.offer()))
        within = world.provider.consistency_window
        assert _eventually(world, lambda: _ids(world.provider.nodes(FIRST)) == _ids(launched), within=within)

    def test_a_node_that_listings_do_not_show_yet_is_not_taken_for_gone(self, world: ProviderHarness) -> None:
        before = _ids(world.alive())
        world.delay_listing()
        launched = world.provider.launch(launch_request(world.offer()))
        known = tuple(node.id for node in launched)
        _tear_down(world, Selector(region=world.offer().region, token="attempt-1", node_ids=known))
        assert _billable(world, before) == set()

    # --- teardown -----------------------------------------------------------------------------------------------------

    def test_a_teardown_ends_with_nothing_left_in_the_cloud(self, world: ProviderHarness) -> None:
        before = _ids(world.alive())
        world.provider.launch(launch_request(world.offer(), nodes=3))
        _until_running(world, FIRST, count=3)
        _tear_down(world, FIRST)
        assert _ids(world.alive()) == before
        assert world.provider.resources(FIRST) == ()

    def test_a_teardown_of_nodes_that_do_not_run_yet_ends_with_nothing_left(self, world: ProviderHarness) -> None:
        before = _ids(world.alive())
        world.provider.launch(launch_request(world.offer()))
        _tear_down(world, FIRST)
        assert _ids(world.alive()) == before

    def test_a_step_of_a_teardown_tells_what_remains(self, world: ProviderHarness) -> None:
        world.provider.launch(launch_request(world.offer()))
        _until_running(world, FIRST, count=2)
        step = world.provider.terminate(FIRST)
        assert step.is_done or step.waiting_for
        assert _ids(step.remaining) >= {
            node.id for node in world.provider.nodes(FIRST) if node.state is not NodeState.GONE
        }

    def test_a_teardown_may_be_repeated(self, world: ProviderHarness) -> None:
        world.provider.launch(launch_request(world.offer()))
        _tear_down(world, FIRST)
        assert world.provider.terminate(FIRST).is_done
        assert world.provider.terminate(Selector(cluster_id="id-never-was")).is_done
        assert world.provider.terminate(Selector(token="never-was")).is_done

    def test_a_teardown_of_nobody_in_particular_is_refused(self, world: ProviderHarness) -> None:
        launched = world.provider.launch(launch_request(world.offer()))
        with pytest.raises(errors.MulticomputeError):
            world.provider.terminate(Selector(owner="conformance"))
        assert _ids(_until_running(world, FIRST, count=2)) == _ids(launched)

    def test_a_teardown_touches_neither_other_clusters_nor_what_is_not_ours(self, world: ProviderHarness) -> None:
        world.add_foreign()
        world.provider.launch(launch_request(world.offer()))
        other = world.provider.launch(launch_request(world.offer(), cluster="second", token="attempt-2"))
        _tear_down(world, FIRST)
        second = world.provider.nodes(Selector(cluster_id="id-second"))
        assert _ids(second) == _ids(other)
        assert all(node.state in (NodeState.PENDING, NodeState.RUNNING) for node in second)
        assert world.foreign_intact()

    def test_a_teardown_by_token_leaves_the_rest_of_the_cluster(self, world: ProviderHarness) -> None:
        kept = world.provider.launch(launch_request(world.offer()))
        world.provider.launch(launch_request(world.offer(), token="attempt-2"))
        _until_running(world, FIRST, count=4)
        _tear_down(world, Selector(token="attempt-2"))
        alive = [node for node in world.provider.nodes(FIRST) if node.state is not NodeState.GONE]
        assert _ids(alive) == _ids(kept)
        assert {node.state for node in alive} == {NodeState.RUNNING}

    def test_a_teardown_by_region_leaves_the_other_region(self, world: ProviderHarness) -> None:
        near, far = world.offer(), world.offer(region=1)
        world.provider.launch(launch_request(near))
        kept = world.provider.launch(launch_request(far, token="attempt-2"))
        _tear_down(world, replace(FIRST, region=near.region))
        alive = [node for node in world.provider.nodes(FIRST) if node.state is not NodeState.GONE]
        assert _ids(alive) == _ids(kept)

    def test_what_a_refused_launch_left_behind_goes_with_the_cluster(self, world: ProviderHarness) -> None:
        before = _ids(world.alive())
        world.limit_capacity(world.offer(), 0)
        with pytest.raises(errors.CapacityError):
            world.provider.launch(launch_request(world.offer()))
        _tear_down(world, FIRST)
        assert _ids(world.alive()) == before

    def test_a_teardown_finds_nodes_whose_launch_was_never_answered(self, world: ProviderHarness) -> None:
        before = _ids(world.alive())
        world.lose_launch_answer()
        with pytest.raises(errors.TransientError):
            world.provider.launch(launch_request(world.offer()))
        _until_running(world, FIRST, count=2)
        _tear_down(world, FIRST)
        assert _ids(world.alive()) == before

    @needs(Capability.DEPENDENT_RESOURCES)
    def test_what_was_made_beside_the_nodes_stays_until_they_are_gone_and_then_goes(
        self, world: ProviderHarness
    ) -> None:
        before = _ids(world.alive())
        # A key that may log in: where nothing else is made beside machines, the way in for it is.
        request = replace(launch_request(world.offer()), ssh_public_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== me")
        nodes = world.provider.launch(request)
        _until_running(world, FIRST, count=2)
        beside = {resource.id for resource in world.provider.resources(FIRST) if not resource.billable} - _ids(nodes)
        assert beside
        _tear_down(world, Selector(token="attempt-1"))
        _tear_down(world, FIRST)
        assert _ids(world.alive()) == before

    # --- errors -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", list(FailureKind))
    def test_a_refusal_becomes_the_error_of_its_kind_with_place_and_code(
        self, world: ProviderHarness, kind: FailureKind
    ) -> None:
        world.refuse_launch(kind)
        with pytest.raises(errors.MulticomputeError) as caught:
            world.provider.launch(launch_request(world.offer()))
        assert type(caught.value) is EXPECTED[kind]
        assert caught.value.provider == world.provider.name
        assert caught.value.region == world.offer().region
        assert caught.value.code or kind is FailureKind.TRANSIENT
        assert world.provider.name in caught.value.message
        if isinstance(caught.value, errors.CapacityError):
            assert caught.value.is_offered is (kind is not FailureKind.NOT_OFFERED)

    @pytest.mark.parametrize("kind", list(FailureKind))
    def test_a_refused_launch_leaves_no_node(self, world: ProviderHarness, kind: FailureKind) -> None:
        before = _ids(world.alive())
        world.refuse_launch(kind)
        with pytest.raises(EXPECTED[kind]):
            world.provider.launch(launch_request(world.offer()))
        assert _billable(world, before) == set()

    @pytest.mark.parametrize("kind", [FailureKind.THROTTLED, FailureKind.TRANSIENT])
    def test_after_a_passing_failure_the_same_token_succeeds(self, world: ProviderHarness, kind: FailureKind) -> None:
        request = launch_request(world.offer())
        world.refuse_launch(kind)
        with pytest.raises(EXPECTED[kind]):
            world.provider.launch(request)
        assert len(world.provider.launch(request)) == 2

    # --- the end of life ----------------------------------------------------------------------------------------------

    def test_the_expiry_of_a_cluster_is_moved_in_the_tags_of_its_nodes_only(self, world: ProviderHarness) -> None:
        nodes = world.provider.launch(launch_request(world.offer()))
        other = world.provider.launch(launch_request(world.offer(), cluster="second", token="attempt-2"))
        _until_running(world, Selector(), count=4)
        later = world.clock.now() + timedelta(hours=5)
        world.provider.set_expiry(FIRST, later)
        assert _expiries(world, nodes) == {expiry_tag(later)}
        assert _expiries(world, other) == {"never"}
        world.provider.set_expiry(FIRST, None)
        assert _expiries(world, nodes) == {"never"}

    def test_moving_the_expiry_of_what_is_not_there_does_nothing(self, world: ProviderHarness) -> None:
        before = _ids(world.alive())
        world.provider.set_expiry(FIRST, world.clock.now() + timedelta(hours=1))
        assert _ids(world.alive()) == before

    @needs(Capability.EXPIRY)
    def test_a_node_past_its_expiry_ends_without_us(self, world: ProviderHarness) -> None:
        ends = world.clock.now() + timedelta(hours=1)
        request = launch_request(world.offer())
        tags = {**request.tags, TAG_EXPIRES_AT: expiry_tag(ends)}
        world.provider.launch(replace(request, expires_at=ends, tags=tags))
        world.provider.launch(launch_request(world.offer(), cluster="second", token="attempt-2"))
        _until_running(world, Selector(), count=4)
        world.reach_expiry()
        assert _eventually(world, lambda: not _living(world, FIRST))
        assert len(_living(world, Selector(cluster_id="id-second"))) == 2

    @needs(Capability.EXPIRY)
    def test_a_node_whose_expiry_was_lifted_does_not_end(self, world: ProviderHarness) -> None:
        ends = world.clock.now() + timedelta(hours=1)
        request = launch_request(world.offer())
        tags = {**request.tags, TAG_EXPIRES_AT: expiry_tag(ends)}
        world.provider.launch(replace(request, expires_at=ends, tags=tags))
        _until_running(world, FIRST, count=2)
        world.provider.set_expiry(FIRST, None)
        world.reach_expiry()
        assert len(_living(world, FIRST)) == 2

    # --- capabilities -------------------------------------------------------------------------------------------------

    @needs(Capability.SPOT)
    def test_a_spot_node_that_was_preempted_is_seen_as_such_with_a_reason(self, world: ProviderHarness) -> None:
        nodes = world.provider.launch(launch_request(world.offer("spot")))
        _until_running(world, FIRST, count=2)
        world.preempt(nodes[0].id)
        assert _eventually(world, lambda: nodes[0].id not in _ids(_living(world, FIRST)))
        seen = [node for node in world.provider.nodes(FIRST) if node.id == nodes[0].id]
        assert all(node.reason and node.cause == "preemption" for node in seen)
        assert _ids(_living(world, FIRST)) == {nodes[1].id}

    @needs(Capability.METRICS)
    def test_what_was_measured_of_the_nodes_that_are_asked_for_is_told_and_nothing_else(
        self, world: ProviderHarness
    ) -> None:
        world.provider.launch(launch_request(world.offer(), nodes=3))
        busy, other, silent = _until_running(world, FIRST, count=3)
        began = world.clock.now()
        world.measure(busy, {Metric.CPU: 40.0, Metric.ACCELERATOR: 90.0})
        world.measure(other, {Metric.CPU: 10.0})
        samples = self._measured(world, [busy, silent], began, Metric.ACCELERATOR)
        assert {sample.node for sample in samples} == {busy.id}
        assert {sample.metric for sample in samples} == {Metric.CPU, Metric.ACCELERATOR}
        expected = {Metric.CPU: pytest.approx(40.0), Metric.ACCELERATOR: pytest.approx(90.0)}
        assert [sample for sample in samples if sample.value != expected[sample.metric]] == []
        assert [sample.at for sample in samples] == sorted(sample.at for sample in samples)

    @needs(Capability.METRICS)
    def test_what_was_measured_before_or_after_the_window_is_left_out(self, world: ProviderHarness) -> None:
        world.provider.launch(launch_request(world.offer(), nodes=1))
        (node,) = _until_running(world, FIRST, count=1)
        began = world.clock.now()
        world.measure(node, {Metric.CPU: 40.0})
        assert self._measured(world, [node], began, Metric.CPU)
        long_ago = began - timedelta(days=2)
        assert world.provider.metrics([node], since=long_ago, until=long_ago + timedelta(hours=1)) == ()
        assert world.provider.metrics([], since=began, until=world.clock.now()) == ()

    @staticmethod
    def _measured(
        world: ProviderHarness, nodes: Sequence[Node], began: datetime, awaited: Metric
    ) -> tuple[Sample, ...]:
        """What was measured since shortly before `began`, once `awaited` is among it."""
        found: tuple[Sample, ...] = ()

        def is_there() -> bool:
            nonlocal found
            since, until = began - timedelta(minutes=5), world.clock.now() + timedelta(minutes=5)
            found = world.provider.metrics(nodes, since=since, until=until)
            return any(sample.metric is awaited for sample in found)

        assert _eventually(world, is_there), "nothing was measured"
        return found

    @needs(Capability.HEALTH_CHECKS)
    def test_a_node_that_fails_the_clouds_checks_is_impaired_where_health_is_asked_for(
        self, world: ProviderHarness
    ) -> None:
        world.provider.launch(launch_request(world.offer()))
        sick, sound = _until_running(world, FIRST, count=2)
        world.impair(sick)
        with_health = replace(FIRST, with_health=True)

        def states() -> dict[str, NodeState]:
            return {node.id: node.state for node in world.provider.nodes(with_health)}

        assert _eventually(world, lambda: states() == {sick.id: NodeState.IMPAIRED, sound.id: NodeState.RUNNING})
        (found,) = [node for node in world.provider.nodes(with_health) if node.id == sick.id]
        assert found.reason

    @needs(Capability.RESERVATIONS)
    def test_a_reservation_serves_where_nothing_else_is_left(self, world: ProviderHarness) -> None:
        offer = world.offer()
        held = world.reserve(offer, 2)
        world.limit_capacity(offer, 0)
        known = world.provider.quotas(offer.region, reservations=[held]).reservations
        assert [(item.id, item.available, item.zone) for item in known] == [(held, 2, offer.zone)]
        request = launch_request(offer)
        nodes = world.provider.launch(replace(request, parts=(Part(offer, 2, reservation=held),)))
        assert len(nodes) == 2
        assert world.provider.quotas(offer.region, reservations=[held]).reservations[0].available == 0

    @needs(Capability.RESERVATIONS)
    def test_a_reservation_gives_no_more_than_it_holds(self, world: ProviderHarness) -> None:
        before, offer = _ids(world.alive()), world.offer()
        held = world.reserve(offer, 1)
        with pytest.raises(errors.CapacityError):
            world.provider.launch(replace(launch_request(offer), parts=(Part(offer, 2, reservation=held),)))
        assert _eventually(world, lambda: not _billable(world, before))

    def test_quotas_are_read_or_it_is_noted_why_not(self, world: ProviderHarness) -> None:
        answer = world.provider.quotas(world.offer().region)
        assert answer.quotas or answer.notes
        assert all(quota.limit >= 0 and quota.used >= 0 and quota.families for quota in answer.quotas)

    def test_a_reservation_that_is_not_there_is_left_out(self, world: ProviderHarness) -> None:
        assert world.provider.quotas(world.offer().region, reservations=["no-such-reservation"]).reservations == ()

    def test_prices_are_given_for_offers_that_were_asked_for_only(self, world: ProviderHarness) -> None:
        offers = [world.offer(), world.offer(zone=1)]
        quotes = world.provider.quotes(offers)
        assert set(quotes) <= set(offers)
        assert all(quote.hourly_cost > 0 and quote.source for quote in quotes.values())

    @needs(Capability.LIVE_PRICES)
    def test_the_price_of_an_offer_can_be_asked_for_today(self, world: ProviderHarness) -> None:
        offer = world.offer()
        assert world.provider.quotes([offer])[offer].hourly_cost > 0

    def test_the_check_finds_everything_well(self, world: ProviderHarness) -> None:
        findings = world.provider.check()
        assert findings
        assert [finding for finding in findings if not finding.ok] == []


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


def _ids(things: Collection[_Identified]) -> set[str]:
    return {thing.id for thing in things}


def _eventually(world: ProviderHarness, is_so: Callable[[], bool], *, within: timedelta | None = None) -> bool:
    """Whether it comes to be so in the time that the provider allows."""
    deadline = world.clock.now() + (within or world.provider.attempt_timeout)
    while not is_so():
        if world.clock.now() >= deadline:
            return False
        world.clock.sleep(world.provider.poll_interval)
    return True


def _living(world: ProviderHarness, selector: Selector) -> list[Node]:
    return [node for node in world.provider.nodes(selector) if node.state in (NodeState.PENDING, NodeState.RUNNING)]


def _until_running(world: ProviderHarness, selector: Selector, *, count: int) -> tuple[Node, ...]:
    """The nodes, once all of them run."""

    def all_run() -> bool:
        return [node.state for node in world.provider.nodes(selector)] == [NodeState.RUNNING] * count

    assert _eventually(world, all_run), f"not {count} running: {world.provider.nodes(selector)}"
    return world.provider.nodes(selector)


def _tear_down(world: ProviderHarness, selector: Selector) -> None:
    assert _eventually(world, lambda: world.provider.terminate(selector).is_done), world.provider.resources(selector)


def _billable(world: ProviderHarness, before: Collection[str]) -> set[str]:
    """What costs money and was not there before."""
    return {resource.id for resource in world.alive() if resource.billable and resource.id not in before}


def _expiries(world: ProviderHarness, nodes: Sequence[Node]) -> set[str]:
    """The expiry tags of these nodes, as the cloud has them."""
    ids = _ids(nodes)
    return {resource.tags.get(TAG_EXPIRES_AT, "none") for resource in world.alive() if resource.id in ids}
