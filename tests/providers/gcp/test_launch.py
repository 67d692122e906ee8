"""The request for instances, for each purchase and machine type."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from multicompute.offer import InstanceType, Offer, Part
from multicompute.provider import LaunchRequest, Settings, longest_life
from multicompute_gcp import plugin
from multicompute_gcp._launch import instance_properties
from multicompute_gcp._names import instance_names
from multicompute_gcp._reservations import HeldReservation, is_by_calendar, reservations_of
from multicompute_gcp._settings import GcpSettings

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
Request = Callable[..., LaunchRequest]


def _properties(
    request: LaunchRequest, held: HeldReservation | None = None, policies: tuple[str, ...] = (), **values: object
) -> Any:
    settings = GcpSettings.of(Settings(values))
    return instance_properties(request, request.parts[0], settings, project="p", policies=policies, held=held, now=NOW)


def _with(request_of: Request, offer: Offer, **changes: Any) -> LaunchRequest:
    instance = replace(offer.instance, **changes)
    return request_of(parts=(Part(replace(offer, instance=instance), 1),))


def test_names_come_from_the_token_in_the_order_of_the_nodes(request_of: Request) -> None:
    request = request_of()
    assert instance_names(request, 0, request.parts[0]) == ["tok-0-0001", "tok-0-0002"]


def test_labels_are_on_the_instance_and_on_its_disk_which_is_deleted_with_it(request_of: Request) -> None:
    properties = _properties(request_of())
    disk = properties["disks"][0]
    assert properties["labels"]["multicompute-owner"] == "me_host"
    assert disk["initialize_params"]["labels"] == properties["labels"]
    assert disk["initialize_params"]["description"] == properties["description"]
    assert json.loads(properties["description"])["multicompute-owner"] == "me@host"
    assert disk["auto_delete"] is True


def test_an_on_demand_instance_is_requested_without_options(request_of: Request) -> None:
    properties = _properties(request_of())
    assert properties["machine_type"] == "a3-highgpu-8g"
    assert properties["scheduling"] == {
        "automatic_restart": False,
        "on_host_maintenance": "TERMINATE",
        "provisioning_model": "STANDARD",
    }
    assert properties["reservation_affinity"] == {"consume_reservation_type": "NO_RESERVATION"}
    assert "service_accounts" not in properties
    assert "guest_accelerators" not in properties


def test_a_spot_instance_is_deleted_when_it_is_preempted(request_of: Request, offer: Offer) -> None:
    properties = _properties(request_of(parts=(Part(replace(offer, purchase="spot"), 1),)))
    assert properties["scheduling"]["provisioning_model"] == "SPOT"
    assert properties["scheduling"]["instance_termination_action"] == "DELETE"


def test_compute_engines_own_limit_is_later_than_the_lease_by_the_room_for_extensions(request_of: Request) -> None:
    request = request_of(expires_at=NOW + timedelta(hours=12))
    scheduling = _properties(request)["scheduling"]
    assert scheduling["max_run_duration"] == {"seconds": (7 * 24 + 12) * 3600}
    assert scheduling["instance_termination_action"] == "DELETE"
    assert _properties(request, extension_room="0s")["scheduling"]["max_run_duration"] == {"seconds": 12 * 3600}


def test_the_room_for_extensions_stays_within_what_compute_engine_accepts(request_of: Request) -> None:
    far = request_of(expires_at=NOW + timedelta(days=119))
    past = request_of(expires_at=NOW - timedelta(days=400))
    assert _properties(far)["scheduling"]["max_run_duration"] == {"seconds": 120 * 86400}
    assert _properties(past)["scheduling"]["max_run_duration"] == {"seconds": 30}


def test_a_lease_that_is_longer_than_possible_is_not_shortened_silently(request_of: Request, offer: Offer) -> None:
    # The tags would promise the complete lease; Compute Engine refuses such a run duration.
    far = request_of(expires_at=NOW + timedelta(days=200))
    assert _properties(far)["scheduling"]["max_run_duration"] == {"seconds": 200 * 86400}
    flex = request_of(parts=(Part(replace(offer, purchase="flex_start"), 1),), expires_at=NOW + timedelta(days=30))
    assert _properties(flex)["scheduling"]["max_run_duration"] == {"seconds": 30 * 86400}


@pytest.mark.parametrize(
    ("ttl", "limit"),
    [
        (None, timedelta(days=7)),
        (timedelta(days=7), timedelta(days=7)),
        (timedelta(days=1), timedelta(days=1)),
        (timedelta(minutes=5), timedelta(minutes=10)),
    ],
)
def test_flex_start_always_has_a_limit_of_ten_minutes_to_seven_days(
    request_of: Request, offer: Offer, ttl: timedelta | None, limit: timedelta
) -> None:
    flex = Part(replace(offer, purchase="flex_start"), 1)
    properties = _properties(request_of(parts=(flex,), expires_at=ttl and NOW + ttl))
    assert properties["scheduling"]["provisioning_model"] == "FLEX_START"
    assert properties["scheduling"]["max_run_duration"] == {"seconds": int(limit.total_seconds())}
    assert properties["reservation_affinity"] == {"consume_reservation_type": "NO_RESERVATION"}


def test_a_reservation_is_named_and_one_with_an_end_binds_its_instances(request_of: Request) -> None:
    properties = _properties(request_of(), HeldReservation("mine", is_bound=False))
    assert properties["reservation_affinity"] == {
        "consume_reservation_type": "SPECIFIC_RESERVATION",
        "key": "compute.googleapis.com/reservation-name",
        "values": ["mine"],
    }
    assert properties["scheduling"]["provisioning_model"] == "STANDARD"
    bound = _properties(request_of(), HeldReservation("mine", is_bound=True))["scheduling"]
    assert bound["provisioning_model"] == "RESERVATION_BOUND"
    assert bound["instance_termination_action"] == "DELETE"


def test_accelerators_are_attached_to_an_n1_instance(request_of: Request, offer: Offer) -> None:
    request = _with(request_of, offer, name="n1-standard-16", accelerator="t4", accelerators=2, attached=True)
    assert _properties(request)["guest_accelerators"] == [
        {"accelerator_type": "nvidia-tesla-t4", "accelerator_count": 2}
    ]


@pytest.mark.parametrize(
    ("name", "accelerator", "arch", "image", "disk"),
    [
        ("a3-highgpu-8g", "h100", "x86_64", "ubuntu-accelerator-2404-amd64-with-nvidia-580", "pd-balanced"),
        ("a4-highgpu-8g", "b200", "x86_64", "ubuntu-accelerator-2404-amd64-with-nvidia-580", "hyperdisk-balanced"),
        ("a4x-highgpu-4g", "gb200", "arm64", "ubuntu-accelerator-2404-arm64-with-nvidia-580", "hyperdisk-balanced"),
        ("a3-ultragpu-8g", "h200", "x86_64", "ubuntu-accelerator-2404-amd64-with-nvidia-580", "hyperdisk-balanced"),
        ("n1-standard-8", "v100", "x86_64", "common-cu128-ubuntu-2204-nvidia-570", "pd-balanced"),
        ("n2-standard-8", "", "x86_64", "ubuntu-2404-lts-amd64", "pd-balanced"),
    ],
)
def test_the_image_and_the_disk_fit_the_machine_type(
    request_of: Request, offer: Offer, name: str, accelerator: str, arch: str, image: str, disk: str
) -> None:
    properties = _properties(_with(request_of, offer, name=name, accelerator=accelerator, arch=arch))
    assert properties["disks"][0]["initialize_params"]["source_image"].endswith(f"/family/{image}")
    assert properties["disks"][0]["initialize_params"]["disk_type"] == disk


@pytest.mark.parametrize(
    ("named", "path"), [("mine", "global/images/mine"), ("projects/x/global/images/y", "projects/x/global/images/y")]
)
def test_the_user_may_name_an_image(request_of: Request, named: str, path: str) -> None:
    assert _properties(request_of(image=named))["disks"][0]["initialize_params"]["source_image"] == path


def test_an_image_of_the_user_need_not_support_the_boot_options_of_ours(request_of: Request) -> None:
    assert _properties(request_of())["shielded_instance_config"] == {
        "enable_vtpm": True,
        "enable_integrity_monitoring": True,
    }
    assert "shielded_instance_config" not in _properties(request_of(image="mine"))


@pytest.mark.parametrize(
    ("machine_type", "delete_at", "is_bound"),
    [
        ("a3-highgpu-8g", "2026-12-01T00:00:00Z", True),
        ("a4x-highgpu-4g", "2026-12-01T00:00:00Z", True),
        ("a3-highgpu-8g", None, False),
        # Any reservation may have an end of its own; its instances then continue to run.
        ("a2-highgpu-1g", "2026-12-01T00:00:00Z", False),
    ],
)
def test_instances_end_with_a_reservation_that_was_bought_by_calendar(
    machine_type: str, delete_at: str | None, *, is_bound: bool
) -> None:
    item = {"deleteAtTime": delete_at, "specificReservation": {"instanceProperties": {"machineType": machine_type}}}
    assert is_by_calendar(item) is is_bound


def test_the_end_of_a_reservation_is_known_if_its_instances_are_deleted_with_it() -> None:
    def item(machine_type: str) -> dict[str, object]:
        instances = {"count": "2", "instanceProperties": {"machineType": machine_type}}
        return {"zone": "us-central1-a", "deleteAtTime": "2026-12-01T00:00:00Z", "specificReservation": instances}

    (calendar,) = reservations_of(item("a3-highgpu-8g"), "mine")
    (other,) = reservations_of(item("a2-highgpu-1g"), "mine")
    assert calendar is not None
    assert calendar.ends_at == datetime(2026, 12, 1, tzinfo=UTC)
    assert other is not None
    assert other.ends_at is None


def test_the_plug_in_declares_what_the_local_cloud_enforces() -> None:
    machine, slice_type = InstanceType("gcp", "a3-highgpu-8g"), InstanceType("gcp", "v5p-128")
    limits = plugin.lifetime_limits
    week, months = timedelta(days=7), timedelta(days=120)
    assert longest_life(limits, machine, "flex_start", has_expiry=False) == week
    assert longest_life(limits, slice_type, "flex_start", has_expiry=True) == week
    assert {longest_life(limits, machine, how, has_expiry=True) for how in ("on_demand", "spot", "reserved")} == {
        months
    }
    assert longest_life(limits, machine, "on_demand", has_expiry=False) is None
    assert longest_life(limits, slice_type, "on_demand", has_expiry=True) is None


def test_instances_have_the_placement_policies_of_their_reservation(request_of: Request) -> None:
    assert _properties(request_of(), policies=("close",))["resource_policies"] == ["close"]


def test_the_size_of_the_disk_is_rounded_up(request_of: Request) -> None:
    assert _properties(request_of(disk_gib=100.5))["disks"][0]["initialize_params"]["disk_size_gb"] == 101


def test_a_private_instance_has_no_public_address(request_of: Request) -> None:
    assert _properties(request_of())["network_interfaces"][0]["access_configs"]
    assert "access_configs" not in _properties(request_of(private=True))["network_interfaces"][0]


def test_additional_interfaces_need_named_subnetworks_and_a_request_for_the_fabric(
    request_of: Request, offer: Offer
) -> None:
    named: dict[str, Any] = {"subnetwork": "main", "gpu_subnetworks": ["g0", "g1"]}
    plain = _properties(request_of(), **named)["network_interfaces"]
    assert [item["subnetwork"] for item in plain] == ["projects/p/regions/us-central1/subnetworks/main"]
    tcpx = _properties(request_of(fabric=True), **named)["network_interfaces"]
    assert [item["nic_type"] for item in tcpx] == ["GVNIC"] * 3
    roce = replace(_with(request_of, offer, name="a4-highgpu-8g", fabric="roce"), fabric=True)
    assert [item["nic_type"] for item in _properties(roce, **named)["network_interfaces"]] == [
        "GVNIC",
        "GVNIC",
        "MRDMA",
    ]


def test_a_service_account_gets_the_scopes_of_a_node_and_not_of_the_cloud(request_of: Request) -> None:
    account = _properties(request_of(), service_account="sa@p.iam.gserviceaccount.com")["service_accounts"][0]
    assert account["email"].startswith("sa@")
    assert not any("cloud-platform" in scope or "/compute" in scope for scope in account["scopes"])


def test_no_other_key_may_log_in(request_of: Request) -> None:
    items = {
        item["key"]: item["value"]
        for item in _properties(request_of(ssh_public_key="ssh-ed25519 AA me"))["metadata"]["items"]
    }
    assert items["ssh-keys"] == "ubuntu:ssh-ed25519 AA me"
    assert items["block-project-ssh-keys"] == "TRUE"
    assert items["enable-oslogin"] == "FALSE"
