"""Tests of tags and listings."""

from dataclasses import replace

from multicompute.provider import TAG_ID, Capability, Selector
from multicompute.testing.conformance.probes import FIRST, billable, eventually, ids_of, needs, tear_down, until_running
from multicompute.testing.provider_harness import ProviderHarness, launch_request


class ListingConformance:
    """Tests of tags and listings."""

    def test_everything_that_a_launch_creates_is_tagged_at_its_creation(self, harness: ProviderHarness) -> None:
        """Compare the tags of every new resource with the request: a crash must not leave untagged resources (I2)."""
        before, request = ids_of(harness.alive()), launch_request(harness.offer())
        harness.provider.launch(request)
        created = [resource for resource in harness.alive() if resource.id not in before]
        assert len(created) >= 2
        for resource in created:
            assert request.tags.items() <= resource.tags.items(), f"{resource.kind} {resource.id} lacks tags"

    def test_resources_lists_everything_of_ours_and_nothing_else(self, harness: ProviderHarness) -> None:
        """List by cluster and by owner, next to foreign resources that must not be listed (I3, I9)."""
        before = ids_of(harness.alive())
        harness.add_foreign()
        foreign = ids_of(harness.alive()) - before
        harness.provider.launch(launch_request(harness.offer()))
        until_running(harness, FIRST, count=2)
        listed = harness.provider.resources(FIRST)
        assert ids_of(listed) == ids_of(harness.alive()) - before - foreign
        assert all(resource.tags[TAG_ID] == "id-first" for resource in listed)
        # If the ledger is lost, only the owner is known.
        assert ids_of(harness.provider.resources(Selector(owner="conformance"))) == ids_of(listed)
        assert ids_of(harness.provider.nodes(Selector(owner="conformance"))) == ids_of(harness.provider.nodes(FIRST))
        assert sum(1 for resource in listed if resource.billable) >= 2

    def test_nodes_are_found_by_cluster_by_token_and_by_owner(self, harness: ProviderHarness) -> None:
        """List three launches by each field of a selector, and by two fields that contradict each other."""
        launch = harness.provider.launch
        one = launch(launch_request(harness.offer(), nodes=1))
        two = launch(launch_request(harness.offer(), nodes=1, token="attempt-2"))
        other = launch(launch_request(harness.offer(), nodes=1, cluster="second", token="attempt-3", owner="another"))
        until_running(harness, Selector(), count=3)
        found = harness.provider.nodes
        assert ids_of(found(FIRST)) == ids_of(one + two)
        assert ids_of(found(Selector(token="attempt-2"))) == ids_of(two)
        assert ids_of(found(Selector(owner="another"))) == ids_of(other)
        assert ids_of(found(Selector(cluster_id="id-first", token="attempt-3"))) == set()
        assert ids_of(found(Selector())) == ids_of(one + two + other)
        assert {node.token for node in found(FIRST)} == {"attempt-1", "attempt-2"}

    def test_a_listing_of_one_region_shows_only_the_nodes_in_that_region(self, harness: ProviderHarness) -> None:
        """Launch in two regions and list each region and both."""
        near, far = harness.offer(), harness.offer(region=1)
        one = harness.provider.launch(launch_request(near, nodes=1))
        two = harness.provider.launch(launch_request(far, nodes=1, token="attempt-2"))
        until_running(harness, FIRST, count=2)
        assert ids_of(harness.provider.nodes(replace(FIRST, region=near.region))) == ids_of(one)
        assert ids_of(harness.provider.nodes(replace(FIRST, region=far.region))) == ids_of(two)
        assert ids_of(harness.provider.nodes(FIRST)) == ids_of(one + two)

    @needs(Capability.GLOBAL_LISTING)
    def test_one_listing_of_all_regions_shows_the_same_nodes_as_a_listing_of_each_region(
        self, harness: ProviderHarness
    ) -> None:
        """Compare the two listings that the engine chooses between."""
        places = (harness.offer(), harness.offer(region=1))
        for number, offer in enumerate(places):
            harness.provider.launch(launch_request(offer, nodes=1, token=f"attempt-{number}"))
        until_running(harness, FIRST, count=2)
        everywhere = Selector(instance_types=tuple({offer.instance_type for offer in places}), with_health=True)
        each = [node for offer in places for node in harness.provider.nodes(replace(everywhere, region=offer.region))]
        assert len(each) == 2
        assert {node.id: node for node in harness.provider.nodes(everywhere)} == {node.id: node for node in each}

    def test_a_listing_reads_every_page_and_has_a_stable_order(self, harness: ProviderHarness) -> None:
        """Launch more nodes than a page holds, and list them twice."""
        launched = harness.provider.launch(launch_request(harness.offer(), nodes=harness.page_nodes))
        listed = until_running(harness, FIRST, count=harness.page_nodes)
        assert ids_of(listed) == ids_of(launched)
        assert [node.id for node in harness.provider.nodes(FIRST)] == [node.id for node in listed]

    def test_known_ids_are_a_hint_and_do_not_change_the_result(self, harness: ProviderHarness) -> None:
        """List with and without the ids of the nodes and expect the same states."""
        launched = harness.provider.launch(launch_request(harness.offer()))
        listed = until_running(harness, FIRST, count=2)
        hinted = harness.provider.nodes(replace(FIRST, node_ids=tuple(node.id for node in launched)))
        assert {(node.id, node.state) for node in hinted} == {(node.id, node.state) for node in listed}

    def test_known_instance_types_are_a_hint_and_do_not_change_the_result(self, harness: ProviderHarness) -> None:
        """List with and without the instance types and expect the same states."""
        offer = harness.offer()
        harness.provider.launch(launch_request(offer))
        listed = until_running(harness, FIRST, count=2)
        hinted = harness.provider.nodes(replace(FIRST, region=offer.region, instance_types=(offer.instance_type,)))
        assert {(node.id, node.state) for node in hinted} == {(node.id, node.state) for node in listed}

    def test_a_node_that_listings_do_not_show_yet_appears_within_the_consistency_window(
        self, harness: ProviderHarness
    ) -> None:
        """Delay the listing of new nodes and list until the window has passed."""
        harness.delay_listing()
        launched = harness.provider.launch(launch_request(harness.offer()))
        within = harness.provider.consistency_window
        assert eventually(harness, lambda: ids_of(harness.provider.nodes(FIRST)) == ids_of(launched), within=within)

    def test_a_node_that_listings_do_not_show_yet_is_not_treated_as_gone(self, harness: ProviderHarness) -> None:
        """Tear down nodes that no listing shows yet; the teardown must not be done before they are gone (I4)."""
        before = ids_of(harness.alive())
        harness.delay_listing()
        launched = harness.provider.launch(launch_request(harness.offer()))
        known = tuple(node.id for node in launched)
        tear_down(harness, Selector(region=harness.offer().region, token="attempt-1", node_ids=known))
        assert billable(harness, before) == set()
