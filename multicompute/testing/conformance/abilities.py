"""Tests of errors, of the expiry, and of what a provider declares as capabilities."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from multicompute import errors
from multicompute.node import Metric, Node, NodeState, Sample
from multicompute.offer import Part
from multicompute.provider import TAG_EXPIRES_AT, Capability, Selector, expiry_tag
from multicompute.testing.conformance.probes import (
    FIRST,
    billable,
    eventually,
    expiries_of,
    ids_of,
    live_nodes,
    needs,
    tear_down,
    until_running,
)
from multicompute.testing.provider_harness import EXPECTED, FailureKind, ProviderHarness, launch_request


class AbilityConformance:
    """Tests of errors, of the expiry, and of what a provider declares as capabilities."""

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
        before = ids_of(harness.alive())
        harness.refuse_launch(kind)
        with pytest.raises(EXPECTED[kind]):
            harness.provider.launch(launch_request(harness.offer()))
        assert billable(harness, before) == set()

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

    # --- expiry -------------------------------------------------------------------------------------------------------

    def test_the_expiry_of_a_cluster_is_moved_in_the_tags_of_its_nodes_only(self, harness: ProviderHarness) -> None:
        """Move the expiry of one of two clusters, then remove it."""
        nodes = harness.provider.launch(launch_request(harness.offer()))
        other = harness.provider.launch(launch_request(harness.offer(), cluster="second", token="attempt-2"))
        until_running(harness, Selector(), count=4)
        later = harness.clock.now() + timedelta(hours=5)
        harness.provider.set_expiry(FIRST, later)
        assert expiries_of(harness, nodes) == {expiry_tag(later)}
        assert expiries_of(harness, other) == {"never"}
        harness.provider.set_expiry(FIRST, None)
        assert expiries_of(harness, nodes) == {"never"}

    def test_moving_the_expiry_of_a_cluster_without_nodes_does_nothing(self, harness: ProviderHarness) -> None:
        """Set the expiry of a cluster that has no nodes and expect no change in the cloud."""
        before = ids_of(harness.alive())
        harness.provider.set_expiry(FIRST, harness.clock.now() + timedelta(hours=1))
        assert ids_of(harness.alive()) == before

    @needs(Capability.EXPIRY)
    def test_a_node_is_terminated_at_its_expiry_without_a_call(self, harness: ProviderHarness) -> None:
        """Reach the expiry without any call of ours; the cloud or the node itself must terminate the node."""
        ends = harness.clock.now() + timedelta(hours=1)
        request = launch_request(harness.offer())
        tags = {**request.tags, TAG_EXPIRES_AT: expiry_tag(ends)}
        harness.provider.launch(replace(request, expires_at=ends, tags=tags))
        harness.provider.launch(launch_request(harness.offer(), cluster="second", token="attempt-2"))
        until_running(harness, Selector(), count=4)
        harness.reach_expiry()
        assert eventually(harness, lambda: not live_nodes(harness, FIRST))
        assert len(live_nodes(harness, Selector(cluster_id="id-second"))) == 2

    @needs(Capability.EXPIRY)
    def test_a_node_whose_expiry_was_removed_keeps_running(self, harness: ProviderHarness) -> None:
        """Remove the expiry of running nodes and pass the old one."""
        ends = harness.clock.now() + timedelta(hours=1)
        request = launch_request(harness.offer())
        tags = {**request.tags, TAG_EXPIRES_AT: expiry_tag(ends)}
        harness.provider.launch(replace(request, expires_at=ends, tags=tags))
        until_running(harness, FIRST, count=2)
        harness.provider.set_expiry(FIRST, None)
        harness.reach_expiry()
        assert len(live_nodes(harness, FIRST)) == 2

    # --- capabilities -------------------------------------------------------------------------------------------------

    @needs(Capability.SPOT)
    def test_a_preempted_spot_node_has_a_reason_and_the_cause_preemption(self, harness: ProviderHarness) -> None:
        """Preempt one of two spot nodes and list both."""
        nodes = harness.provider.launch(launch_request(harness.offer("spot")))
        until_running(harness, FIRST, count=2)
        harness.preempt(nodes[0].id)
        assert eventually(harness, lambda: nodes[0].id not in ids_of(live_nodes(harness, FIRST)))
        seen = [node for node in harness.provider.nodes(FIRST) if node.id == nodes[0].id]
        assert all(node.reason and node.cause == "preemption" for node in seen)
        assert ids_of(live_nodes(harness, FIRST)) == {nodes[1].id}

    @needs(Capability.METRICS)
    def test_metrics_returns_the_measurements_of_the_given_nodes_and_nothing_else(
        self, harness: ProviderHarness
    ) -> None:
        """Measure two of three nodes and read one of them and the silent one."""
        harness.provider.launch(launch_request(harness.offer(), nodes=3))
        busy, other, silent = until_running(harness, FIRST, count=3)
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
        (node,) = until_running(harness, FIRST, count=1)
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

        assert eventually(harness, is_there), "nothing was measured"
        return found

    @needs(Capability.HEALTH_CHECKS)
    def test_a_node_that_fails_the_clouds_health_check_is_impaired_if_health_is_requested(
        self, harness: ProviderHarness
    ) -> None:
        """Fail the health check of one of two nodes and list with `with_health`."""
        harness.provider.launch(launch_request(harness.offer()))
        failing, healthy = until_running(harness, FIRST, count=2)
        harness.impair(failing)
        with_health = replace(FIRST, with_health=True)

        def states() -> dict[str, NodeState]:
            return {node.id: node.state for node in harness.provider.nodes(with_health)}

        assert eventually(harness, lambda: states() == {failing.id: NodeState.IMPAIRED, healthy.id: NodeState.RUNNING})
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
        before, offer = ids_of(harness.alive()), harness.offer()
        held = harness.reserve(offer, 1)
        with pytest.raises(errors.CapacityError):
            harness.provider.launch(replace(launch_request(offer), parts=(Part(offer, 2, reservation=held),)))
        assert eventually(harness, lambda: not billable(harness, before))

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

    @needs(Capability.AVAILABILITY)
    def test_an_offer_is_in_a_zone_that_the_account_can_use(self, harness: ProviderHarness) -> None:
        """Read the region of an offer that can be launched, and expect its zone with its instance type, where they are known."""
        offer = harness.offer()
        found = harness.provider.availability(offer.region)
        assert (found.region, found.refused) == (offer.region, "")
        assert found.zones is None or offer.zone in ("", *found.zones.values())
        assert found.offered is None or offer.zone in ("", *found.offered[offer.instance_type])

    @needs(Capability.SPOT_PRICES)
    def test_spot_prices_are_in_order_and_only_of_the_given_offers(self, harness: ProviderHarness) -> None:
        """Ask for the prices of a spot offer in the last hour and expect at least the one that holds now."""
        offer, now = harness.offer("spot"), harness.clock.now()
        found = harness.provider.spot_prices([offer], since=now - timedelta(hours=1))
        assert set(found) == {offer}
        instants = [change.at for change in found[offer]]
        assert instants == sorted(instants) and instants[-1] <= now
        assert all(change.hourly_cost > 0 for change in found[offer])

    def test_check_finds_no_problem(self, harness: ProviderHarness) -> None:
        """Check a cloud that works and expect findings, all of them good."""
        findings = harness.provider.check()
        assert findings
        assert [finding for finding in findings if not finding.ok] == []

    # --- SSH ----------------------------------------------------------------------------------------------------------

    @needs(Capability.SSH)
    def test_access_and_the_port_belong_to_nodes_that_run(self, harness: ProviderHarness) -> None:
        """Launch with a key that opens no port, ask for the way to each node, and open the port twice."""
        key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me"
        request = replace(launch_request(harness.offer()), ssh_public_key=key, opens_later=True)
        harness.provider.launch(request)
        nodes = until_running(harness, FIRST, count=2)
        for node in nodes:
            access = harness.provider.access(node)
            assert access.address or access.problem
        assert set(harness.provider.host_keys(nodes)) <= ids_of(nodes)
        for _ in range(2):
            harness.provider.open_ssh(request.region, request.tags)
        tear_down(harness, FIRST)
