"""The adapter on a local Google Cloud that has state: complete gangs of instances, from the launch until nothing is left."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from multicompute import errors
from multicompute.node import NodeState
from multicompute.offer import InstanceType, Offer, Part, Purchase
from multicompute.provider import LaunchRequest, Selector
from multicompute.provider_kit.tags import encode_tag
from multicompute.provider_kit.vendor_errors import Place
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp._reservations import find_reservation
from multicompute_gcp._session import unreachable_in
from multicompute_gcp.local import GcpLocalCloud
from tests.providers.gcp.teardown import tear_down

Request = Callable[..., LaunchRequest]
Opened = Callable[..., GcpProvider]
HERE = Selector(region="us-central1", cluster_id="id-1")
KEY = "ssh-ed25519 AAAA me@host"


def _of(offer: Offer, name: str, **changes: Any) -> Offer:
    return replace(offer, instance=replace(offer.instance, name=name, **changes))


def test_64_h100_with_placement_and_ssh_come_up_and_leave_nothing(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    request = request_of(parts=(Part(offer, 8),), fabric=True, ssh_public_key=KEY, setup="echo ready")
    launched = provider.launch(request)
    nodes = provider.nodes(HERE)
    assert [node.id for node in nodes] == [node.id for node in launched]
    assert {node.state for node in nodes} == {NodeState.RUNNING}
    kinds = Counter(item.kind for item in cloud.alive())
    assert kinds == {"instance": 8, "disk": 8, "firewall": 1, "resource-policy": 1}
    assert {item.id for item in provider.resources(HERE)} == {item.id for item in cloud.alive()}
    tear_down(provider, HERE)
    assert cloud.alive() == []


def test_a_launch_of_a_hundred_nodes_costs_two_calls_and_a_refresh_of_them_one_listing(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    # The routes of the network are read once per process.
    provider.launch(request_of(token="earlier"))
    cloud.faults.clear()
    nodes = provider.launch(request_of(parts=(Part(offer, 100),)))
    assert Counter(call.operation for call in cloud.faults.calls) in (
        {"instances.bulkInsert": 1},
        {"instances.bulkInsert": 1, "zoneOperations.wait": 1},
    )
    cloud.faults.clear()
    provider.nodes(replace(HERE, node_ids=tuple(node.id for node in nodes)))
    assert [call.operation for call in cloud.faults.calls] == ["instances.aggregatedList"]


@pytest.mark.parametrize(
    ("types", "calls"),
    [
        (("a3-highgpu-8g",), ["instances.aggregatedList"]),
        (("v5p-32",), ["tpu.queuedResources.list", "tpu.nodes.list"]),
        ((), ["instances.aggregatedList", "tpu.queuedResources.list", "tpu.nodes.list"]),
    ],
)
def test_a_refresh_calls_only_the_services_of_the_types_that_it_is_for(
    cloud: GcpLocalCloud, provider: GcpProvider, types: tuple[str, ...], calls: list[str]
) -> None:
    provider.nodes(replace(HERE, instance_types=types))
    assert [call.operation for call in cloud.faults.calls] == calls


def test_a_teardown_and_a_listing_of_everything_call_both_services_whatever_types_are_named(
    cloud: GcpLocalCloud, provider: GcpProvider
) -> None:
    for ask in (provider.resources, provider.terminate):
        cloud.faults.clear()
        ask(replace(HERE, instance_types=("a3-highgpu-8g",)))
        called = {call.operation for call in cloud.faults.calls}
        assert {"instances.aggregatedList", "disks.aggregatedList", "tpu.nodes.list"} <= called


@pytest.mark.parametrize("has_status", [True, False])
@pytest.mark.parametrize("ghosts", [timedelta(0), timedelta(milliseconds=40)])
def test_a_stockout_inside_an_operation_is_a_lack_of_capacity_and_leaves_no_instances(
    cloud: GcpLocalCloud,
    provider: GcpProvider,
    request_of: Request,
    offer: Offer,
    *,
    has_status: bool,
    ghosts: timedelta,
) -> None:
    cloud.stockout_has_status, cloud.ghost_time = has_status, ghosts
    cloud.set_capacity(offer.instance_type, offer.zone, 1)
    with pytest.raises(errors.CapacityError) as caught:
        provider.launch(request_of())
    assert caught.value.zone == "us-central1-a"
    assert [item for item in cloud.alive() if item.billable] == []


def test_a_stockout_of_the_call_itself_is_a_lack_of_capacity(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    cloud.stockout_is_upfront = True
    cloud.set_capacity(offer.instance_type, offer.zone, 1)
    with pytest.raises(errors.CapacityError):
        provider.launch(request_of())
    assert cloud.alive() == []


def test_a_quota_that_is_exhausted_inside_the_operation_is_a_quota(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    cloud.faults.fail(
        "instances.bulkInsert",
        "QUOTA_EXCEEDED",
        status=403,
        message="Quota 'X' exceeded.  Limit: 8.0 in region us-central1.",
    )
    with pytest.raises(errors.QuotaError) as caught:
        provider.launch(request_of())
    assert caught.value.scope == "region"
    assert cloud.alive() == []


def test_operations_that_take_a_while_are_waited_for(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    cloud.set_delays(operation=0.05, boot=0.05, shutdown=0.05)
    launched = provider.launch(request_of())
    assert {node.state for node in launched} == {NodeState.PENDING}
    while not all(node.state is NodeState.RUNNING for node in provider.nodes(HERE)):
        provider._clock.sleep(provider.poll_interval)
    assert tear_down(provider, HERE) > 1
    assert cloud.alive() == []


def test_a_zone_that_a_listing_can_not_reach_does_not_prove_that_its_instances_are_gone(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    cloud.unreachable = {"us-central1-a"}
    with pytest.raises(errors.TransientError, match="us-central1-a"):
        provider.nodes(HERE)
    with pytest.raises(errors.TransientError):
        provider.terminate(HERE)


def test_an_outage_of_another_region_delays_neither_a_refresh_nor_a_teardown(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    provider.launch(request_of())
    cloud.unreachable = {"europe-west4-a"}
    assert len(provider.nodes(HERE)) == 2
    with pytest.raises(errors.TransientError, match="europe-west4-a"):
        provider.nodes(replace(HERE, region=None))
    tear_down(provider, HERE)
    assert cloud.alive() == []


@pytest.mark.parametrize(
    ("page", "missing"),
    [
        ({"items": {"zones/us-central1-a": {"warning": {"code": "UNREACHABLE"}}}}, ["zones/us-central1-a"]),
        ({"items": {"regions/us-central1": {"warning": {"code": "PARTIAL_SUCCESS"}}}}, ["regions/us-central1"]),
        ({"items": {"zones/us-central1-a": {"warning": {"code": "NO_RESULTS_ON_PAGE"}}}}, []),
        ({"items": {"zones/us-east1-b": {"warning": {"code": "UNREACHABLE"}}}}, []),
        ({"unreachable": ["projects/p/locations/us-central1-a"]}, ["projects/p/locations/us-central1-a"]),
        ({"items": [{"name": "a-rule"}]}, []),
    ],
)
def test_a_warning_in_place_of_a_zones_items_does_not_prove_that_there_are_none(
    page: dict[str, object], missing: list[str]
) -> None:
    assert unreachable_in(page, Place("gcp", "us-central1")) == missing


def test_a_preempted_instance_that_is_deleted_is_gone_for_that_reason(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    nodes = provider.launch(request_of(parts=(Part(replace(offer, purchase="spot"), 2),)))
    cloud.preempt(nodes[0].id)
    seen = {node.id: node for node in provider.nodes(replace(HERE, node_ids=tuple(node.id for node in nodes)))}
    assert seen[nodes[0].id].state is NodeState.GONE
    assert seen[nodes[0].id].cause == "preemption"
    assert seen[nodes[1].id].state is NodeState.RUNNING


def test_an_open_zone_is_found_and_the_next_one_is_tried_if_it_has_no_capacity(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    cloud.set_capacity(offer.instance_type, "us-central1-a", 0)
    nodes = provider.launch(request_of(parts=(Part(replace(offer, zone=""), 2),)))
    assert {node.zone for node in nodes} == {"us-central1-b"}
    again = provider.launch(request_of(parts=(Part(replace(offer, zone=""), 2),)))
    assert [node.id for node in again] == [node.id for node in nodes]
    assert len(cloud.running_ids()) == 2


def test_a_region_that_does_not_sell_the_machine_type_differs_from_one_that_is_sold_out(
    provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    nowhere = replace(offer, region="africa-south1", zone="")
    with pytest.raises(errors.CapacityError) as caught:
        provider.launch(request_of(parts=(Part(nowhere, 1),)))
    assert not caught.value.is_offered
    assert caught.value.scope == "region"


@pytest.mark.parametrize(
    ("name", "accelerator", "accelerators", "zone"),
    [
        ("g2-standard-96", "l4", 8, "us-central1-a"),
        ("a2-highgpu-8g", "a100", 8, "us-central1-a"),
        ("a2-ultragpu-8g", "a100-80gb", 8, "us-central1-a"),
        ("n1-standard-16", "t4", 2, "us-central1-a"),
    ],
)
def test_every_family_is_accepted_by_a_cloud_that_checks_requests(
    cloud: GcpLocalCloud,
    provider: GcpProvider,
    request_of: Request,
    offer: Offer,
    name: str,
    accelerator: str,
    accelerators: int,
    zone: str,
) -> None:
    instance = InstanceType("gcp", name, accelerator, accelerators, attached=name.startswith("n1"))
    part = Part(replace(offer, instance=instance, zone=zone), 1)
    assert len(provider.launch(request_of(parts=(part,), disk_gib=300))) == 1
    assert len(cloud.running_ids()) == 1


@pytest.mark.parametrize(("purchase", "days"), [("flex_start", 7), ("on_demand", 120), ("spot", 120)])
def test_a_launch_with_an_expiry_beyond_the_limit_of_its_purchase_is_refused(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer, purchase: Purchase, days: int
) -> None:
    parts = (Part(replace(offer, purchase=purchase), 1),)
    begin = provider._clock.now()
    with pytest.raises(errors.InvalidRequestError, match=f"{days} days"):
        provider.launch(request_of(parts=parts, expires_at=begin + timedelta(days=days, minutes=1)))
    assert cloud.alive() == []
    provider.launch(request_of(parts=parts, expires_at=begin + timedelta(days=days)))
    assert len(cloud.running_ids()) == 1


def test_the_instances_of_a_calendar_reservation_are_deleted_at_its_end_which_the_provider_reports(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    end = provider._clock.now().replace(microsecond=0) + timedelta(hours=5)
    name = cloud.add_reservation(offer.instance_type, offer.zone, 2, ends_at=end)
    (held,) = provider.quotas(offer.region, reservations=[name]).reservations
    assert (held.ends_at, held.available) == (end, 2)
    part = Part(replace(offer, purchase="reserved"), 2, reservation=name)
    provider.launch(request_of(parts=(part,), expires_at=end))
    cloud.pass_time(timedelta(hours=4))
    assert len(cloud.running_ids()) == 2
    cloud.pass_time(timedelta(hours=2))
    assert cloud.running_ids() == []


def test_a_node_that_can_not_stop_itself_is_deleted_by_compute_engine(
    cloud: GcpLocalCloud, provider_of: Opened, request_of: Request
) -> None:
    provider = provider_of(extension_room="1h")
    provider.launch(request_of(expires_at=provider._clock.now() + timedelta(hours=3)))
    cloud.pass_time(timedelta(hours=3, minutes=30))
    assert len(cloud.running_ids()) == 2
    cloud.pass_time(timedelta(hours=1))
    assert cloud.alive() == []


def test_a_lease_can_be_extended_within_its_room_and_not_beyond(
    cloud: GcpLocalCloud, provider_of: Opened, request_of: Request
) -> None:
    provider = provider_of(extension_room="1h")
    ends = provider._clock.now() + timedelta(hours=3)
    provider.launch(request_of(expires_at=ends))
    provider.set_expiry(HERE, ends + timedelta(minutes=50))
    moved = {item.tags["multicompute-expires-at"] for item in cloud.alive()}
    assert moved == {str(int((ends + timedelta(minutes=50)).timestamp()))}
    with pytest.raises(errors.InvalidRequestError, match="can't be changed") as caught:
        provider.set_expiry(HERE, ends + timedelta(hours=2))
    assert "extension_room" in (caught.value.hint or "")
    assert {item.tags["multicompute-expires-at"] for item in cloud.alive()} == moved


def test_the_firewall_rule_allows_the_caller_and_exists_only_if_a_key_may_log_in(
    cloud: GcpLocalCloud, provider_of: Opened, request_of: Request
) -> None:
    provider = provider_of(ssh_from=["203.0.113.0/24"])
    provider.launch(request_of(private=True, ssh_public_key=KEY))
    assert [item for item in cloud.alive() if item.kind == "firewall"] == []
    provider.launch(request_of(token="tok2", ssh_public_key=KEY))
    rules = [item for item in cloud.alive() if item.kind == "firewall"]
    assert [rule.id for rule in rules] == ["id-1-us-central1-ssh"]
    provider.launch(request_of(token="tok3", ssh_public_key=KEY))
    assert len([item for item in cloud.alive() if item.kind == "firewall"]) == 1


def test_another_process_uses_the_rule_and_the_policy_that_the_first_has_created(
    cloud: GcpLocalCloud, provider_of: Opened, request_of: Request
) -> None:
    provider_of().launch(request_of(fabric=True, ssh_public_key=KEY))
    provider_of().launch(request_of(token="tok2", fabric=True, ssh_public_key=KEY))
    kinds = Counter(item.kind for item in cloud.alive())
    assert (kinds["firewall"], kinds["resource-policy"], kinds["instance"]) == (1, 1, 4)


def test_a_teardown_of_one_attempt_leaves_what_belongs_to_the_cluster(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    provider.launch(request_of(fabric=True, ssh_public_key=KEY))
    tear_down(provider, replace(HERE, token="tok"))
    assert {item.kind for item in cloud.alive()} == {"firewall", "resource-policy"}
    tear_down(provider, HERE)
    assert cloud.alive() == []


def test_a_teardown_can_begin_while_the_launch_still_runs(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    cloud.lag = timedelta(milliseconds=100)
    nodes = provider.launch(request_of())
    known = tuple(node.id for node in nodes)
    assert not provider.terminate(replace(HERE, token="tok", node_ids=known)).is_done
    tear_down(provider, replace(HERE, token="tok", node_ids=known))
    assert cloud.alive() == []


def test_instances_of_a_reservation_have_its_placement_policy_and_do_not_delete_it(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, offer: Offer
) -> None:
    policy = {"name": "theirs", "group_placement_policy": {"collocation": "COLLOCATED"}}
    call = {"project": cloud.project, "region": offer.region, "resource_policy_resource": policy}
    provider._clients.policies().insert_unary(request=call)
    reserved = cloud.add_reservation(offer.instance_type, offer.zone, 2, policies=["theirs"])
    provider.launch(request_of(parts=(Part(offer, 2, reserved),), fabric=True))
    assert len(cloud.running_ids()) == 2
    tear_down(provider, HERE)
    assert [item.id for item in cloud.alive()] == ["theirs"]


def test_a_reservation_of_another_project_has_the_name_that_affinity_needs(provider: GcpProvider) -> None:
    place = Place("gcp", "us-central1", "us-central1-a")
    for path in ("projects/other/reservations/r", "projects/other/zones/us-central1-a/reservations/r"):
        found = find_reservation(provider._clients, path, place)
        assert found.name == "projects/other/reservations/r"


def test_quotas_are_those_of_the_region(cloud: GcpLocalCloud, provider: GcpProvider) -> None:
    cloud.set_quota("NVIDIA_L4_GPUS", "us-central1", 16)
    cloud.set_quota("PREEMPTIBLE_NVIDIA_L4_GPUS", "us-central1", 0)
    found = {(quota.name, quota.purchase): quota for quota in provider.quotas("us-central1").quotas}
    assert found["NVIDIA_L4_GPUS", "on_demand"].limit == 16
    # Without a quota of its own, spot counts against the standard one.
    assert found["NVIDIA_L4_GPUS", "spot"].limit == 16


def test_the_quota_of_the_project_counts_in_every_region(cloud: GcpLocalCloud, provider: GcpProvider) -> None:
    cloud.set_quota("GPUS_ALL_REGIONS", "global", 32)
    (found,) = (quota for quota in provider.quotas("us-central1").quotas if quota.name == "GPUS_ALL_REGIONS")
    assert (found.region, found.limit, found.purchase) == ("", 32, "on_demand")


def test_attached_accelerators_count_against_the_quota_of_their_own_type(
    cloud: GcpLocalCloud, provider: GcpProvider
) -> None:
    cloud.set_quota("NVIDIA_T4_GPUS", "us-central1", 1)
    cloud.set_quota("PREEMPTIBLE_NVIDIA_V100_GPUS", "us-central1", 4)
    quotas = {(quota.name, quota.purchase): quota for quota in provider.quotas("us-central1").quotas}
    t4 = InstanceType("gcp", "n1-standard-8", "t4", 1, attached=True)
    v100, plain = replace(t4, accelerator="v100"), replace(t4, accelerator="", accelerators=0)
    standard, spot = quotas["NVIDIA_T4_GPUS", "on_demand"], quotas["PREEMPTIBLE_NVIDIA_V100_GPUS", "spot"]
    assert (standard.limit, spot.limit) == (1, 4)
    assert [standard.counts(one) for one in (t4, v100, plain)] == [True, False, False]
    assert [spot.counts(one) for one in (t4, v100, plain)] == [False, True, False]


def test_flex_start_counts_against_the_preemptible_quota(cloud: GcpLocalCloud, provider: GcpProvider) -> None:
    cloud.set_quota("PREEMPTIBLE_NVIDIA_L4_GPUS", "us-central1", 2)
    found = {quota.purchase: quota for quota in provider.quotas("us-central1").quotas if "L4" in quota.name}
    assert (found["flex_start"].name, found["flex_start"].limit) == ("PREEMPTIBLE_NVIDIA_L4_GPUS", 2)


def test_a_launch_with_a_fabric_but_without_subnetworks_for_it_logs_a_warning(
    provider: GcpProvider, request_of: Request, caplog: pytest.LogCaptureFixture
) -> None:
    provider.launch(request_of(fabric=True))
    assert "gpu_subnetworks" in caplog.text


def test_quotas_that_can_not_be_read_are_a_note(cloud: GcpLocalCloud, provider: GcpProvider) -> None:
    cloud.faults.fail("regions.get", "forbidden", status=403, message="Required 'compute.regions.get' permission")
    answer = provider.quotas("us-central1")
    assert not answer.quotas
    assert "compute.regions.get" in answer.notes[0]


def test_a_gang_of_instances_and_slices_is_refused(provider: GcpProvider, request_of: Request, offer: Offer) -> None:
    tpu = _of(offer, "v6e-8", accelerator="tpu-v6e")
    with pytest.raises(errors.InvalidRequestError, match="TPU"):
        provider.launch(request_of(parts=(Part(offer, 1), Part(tpu, 1))))


def test_tags_that_labels_do_not_allow_are_readable_in_google_and_listed_unchanged(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    request = request_of()
    tags = {
        "Cost Center": "R&D / Vision",
        "cost_center": "42",
        "note": "Ä" * 30,
        "kubernetes.io/owner": "NLP",
        "2026": "",
    }
    provider.launch(replace(request, tags={**request.tags, **tags}))
    assert {kind for kind, *_ in {(item.kind, item.id) for item in cloud.alive()}} == {"instance", "disk"}
    for item in cloud.alive():
        assert item.tags["cost_center"] == "42"
        assert item.tags["kubernetes_io_owner"] == "nlp"
        assert next(value for key, value in item.tags.items() if key.startswith("cost_center-")) == "r_d___vision"
    for listed in provider.resources(HERE):
        assert {**listed.tags, "multicompute-expires-at": "never"} == {**request.tags, **tags}


def test_owners_whose_labels_are_equal_are_told_apart_by_the_exact_value(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request
) -> None:
    request = request_of()
    provider.launch(request)
    other = {**request.tags, "multicompute-owner": "ME_host", "multicompute-id": "id-2", "multicompute-attempt": "tok2"}
    provider.launch(replace(request, token="tok2", cluster_id="id-2", owner="ME_host", tags=other))
    cloud.faults.clear()
    assert {node.token for node in provider.nodes(Selector(owner="me@host"))} == {"tok"}
    assert {node.token for node in provider.nodes(Selector(owner="ME_host"))} == {"tok2"}
    filters = [str(call.fields["filter"]) for call in cloud.faults.calls if "filter" in call.fields]
    assert filters and all('labels.multicompute-owner = "me_host"' in text for text in filters)


def test_a_cluster_of_an_earlier_version_is_found_and_torn_down(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As earlier versions wrote them: labels with escapes, and no description of instances and disks.
    def old_labels(tags: Mapping[str, str]) -> dict[str, str]:
        names = {key: encode_tag(key) for key in tags}
        return {name if name[0].isalpha() else f"k__00{name}": encode_tag(tags[key]) for key, name in names.items()}

    with monkeypatch.context() as patch:
        patch.setattr("multicompute_gcp._launch.labels_of", old_labels)
        patch.setattr("multicompute_gcp._launch.description_of", lambda _: "")
        request = request_of()
        provider.launch(replace(request, tags={**request.tags, "Team": "NLP/vision"}))
    assert {item.tags["multicompute-owner"] for item in cloud.alive()} == {"me__40host"}
    assert len(provider.nodes(Selector(owner="me@host"))) == 2
    assert provider.nodes(Selector(owner="me_host")) == ()
    assert {item.tags["Team"] for item in provider.resources(HERE)} == {"NLP/vision"}
    tear_down(provider, HERE)
    assert cloud.alive() == []


def test_instances_do_not_need_the_tpu_api(cloud: GcpLocalCloud, provider: GcpProvider, request_of: Request) -> None:
    message = "Cloud TPU API has not been used in project 1 before or it is disabled."
    cloud.faults.fail("tpu.queuedResources.list", "SERVICE_DISABLED", status=403, message=message, times=None)
    provider.launch(request_of())
    assert len(provider.nodes(HERE)) == 2
    tear_down(provider, HERE)
    assert cloud.alive() == []
