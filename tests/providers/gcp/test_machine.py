"""What Compute Engine is asked for, per way of buying and kind of machine."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from multicompute.offer import Offer, Part
from multicompute.provider import LaunchRequest, Settings
from multicompute_gcp._access import GcpSettings
from multicompute_gcp._machine import names_of, properties
from multicompute_gcp._reserved import Reserved, is_by_calendar

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
Request = Callable[..., LaunchRequest]


def _asked(
    request: LaunchRequest, reserved: Reserved | None = None, policies: tuple[str, ...] = (), **values: object
) -> Any:
    settings = GcpSettings.of(Settings(values))
    return properties(request, request.parts[0], settings, project="p", policies=policies, reserved=reserved, now=NOW)


def _with(request_of: Request, offer: Offer, **changes: Any) -> LaunchRequest:
    instance = replace(offer.instance, **changes)
    return request_of(parts=(Part(replace(offer, instance=instance), 1),))


def test_names_come_from_the_token_in_the_order_of_the_nodes(request_of: Request) -> None:
    request = request_of()
    assert names_of(request, 0, request.parts[0]) == ["tok-0-0001", "tok-0-0002"]


def test_labels_are_on_the_machine_and_on_its_disk_which_goes_with_it(request_of: Request) -> None:
    asked = _asked(request_of())
    disk = asked["disks"][0]
    assert asked["labels"]["multicompute-owner"] == "me__40host"
    assert disk["initialize_params"]["labels"] == asked["labels"]
    assert disk["auto_delete"] is True


def test_an_on_demand_machine_is_asked_for_plainly(request_of: Request) -> None:
    asked = _asked(request_of())
    assert asked["machine_type"] == "a3-highgpu-8g"
    assert asked["scheduling"] == {
        "automatic_restart": False,
        "on_host_maintenance": "TERMINATE",
        "provisioning_model": "STANDARD",
    }
    assert asked["reservation_affinity"] == {"consume_reservation_type": "NO_RESERVATION"}
    assert "service_accounts" not in asked
    assert "guest_accelerators" not in asked


def test_a_spot_machine_is_deleted_when_it_is_taken_back(request_of: Request, offer: Offer) -> None:
    asked = _asked(request_of(parts=(Part(replace(offer, purchase="spot"), 1),)))
    assert asked["scheduling"]["provisioning_model"] == "SPOT"
    assert asked["scheduling"]["instance_termination_action"] == "DELETE"


def test_compute_engine_s_own_limit_lies_beyond_the_lease_by_the_room_for_extensions(request_of: Request) -> None:
    request = request_of(expires_at=NOW + timedelta(hours=12))
    scheduling = _asked(request)["scheduling"]
    assert scheduling["max_run_duration"] == {"seconds": (7 * 24 + 12) * 3600}
    assert scheduling["instance_termination_action"] == "DELETE"
    assert _asked(request, extension_room="0s")["scheduling"]["max_run_duration"] == {"seconds": 12 * 3600}


def test_the_limit_keeps_within_what_compute_engine_takes(request_of: Request) -> None:
    far = request_of(expires_at=NOW + timedelta(days=400))
    past = request_of(expires_at=NOW - timedelta(days=400))
    assert _asked(far)["scheduling"]["max_run_duration"] == {"seconds": 120 * 86400}
    assert _asked(past)["scheduling"]["max_run_duration"] == {"seconds": 30}


@pytest.mark.parametrize(
    ("ttl", "limit"),
    [
        (None, timedelta(days=7)),
        (timedelta(days=30), timedelta(days=7)),
        (timedelta(days=1), timedelta(days=1)),
        (timedelta(minutes=5), timedelta(minutes=10)),
    ],
)
def test_flex_start_always_has_a_limit_of_ten_minutes_to_seven_days(
    request_of: Request, offer: Offer, ttl: timedelta | None, limit: timedelta
) -> None:
    flex = Part(replace(offer, purchase="flex_start"), 1)
    asked = _asked(request_of(parts=(flex,), expires_at=ttl and NOW + ttl))
    assert asked["scheduling"]["provisioning_model"] == "FLEX_START"
    assert asked["scheduling"]["max_run_duration"] == {"seconds": int(limit.total_seconds())}
    assert asked["reservation_affinity"] == {"consume_reservation_type": "NO_RESERVATION"}


def test_a_reservation_is_named_and_one_with_an_end_binds(request_of: Request) -> None:
    asked = _asked(request_of(), Reserved("mine", is_bound=False))
    assert asked["reservation_affinity"] == {
        "consume_reservation_type": "SPECIFIC_RESERVATION",
        "key": "compute.googleapis.com/reservation-name",
        "values": ["mine"],
    }
    assert asked["scheduling"]["provisioning_model"] == "STANDARD"
    bound = _asked(request_of(), Reserved("mine", is_bound=True))["scheduling"]
    assert bound["provisioning_model"] == "RESERVATION_BOUND"
    assert bound["instance_termination_action"] == "DELETE"


def test_an_n1_gets_its_accelerators_attached(request_of: Request, offer: Offer) -> None:
    request = _with(request_of, offer, name="n1-standard-16", accelerator="t4", accelerators=2, attached=True)
    assert _asked(request)["guest_accelerators"] == [{"accelerator_type": "nvidia-tesla-t4", "accelerator_count": 2}]


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
def test_the_image_and_the_disk_fit_the_machine(
    request_of: Request, offer: Offer, name: str, accelerator: str, arch: str, image: str, disk: str
) -> None:
    asked = _asked(_with(request_of, offer, name=name, accelerator=accelerator, arch=arch))
    assert asked["disks"][0]["initialize_params"]["source_image"].endswith(f"/family/{image}")
    assert asked["disks"][0]["initialize_params"]["disk_type"] == disk


@pytest.mark.parametrize(
    ("named", "path"), [("mine", "global/images/mine"), ("projects/x/global/images/y", "projects/x/global/images/y")]
)
def test_an_image_may_be_named(request_of: Request, named: str, path: str) -> None:
    assert _asked(request_of(image=named))["disks"][0]["initialize_params"]["source_image"] == path


def test_an_image_of_the_user_s_own_is_not_held_to_boot_as_ours_do(request_of: Request) -> None:
    assert _asked(request_of())["shielded_instance_config"] == {
        "enable_vtpm": True,
        "enable_integrity_monitoring": True,
    }
    assert "shielded_instance_config" not in _asked(request_of(image="mine"))


@pytest.mark.parametrize(
    ("machine_type", "delete_at", "is_bound"),
    [
        ("a3-highgpu-8g", "2026-12-01T00:00:00Z", True),
        ("a4x-highgpu-4g", "2026-12-01T00:00:00Z", True),
        ("a3-highgpu-8g", None, False),
        # Any reservation may be deleted by itself at some time: its machines then run on.
        ("a2-highgpu-1g", "2026-12-01T00:00:00Z", False),
    ],
)
def test_machines_end_with_a_reservation_that_was_bought_by_calendar(
    machine_type: str, delete_at: str | None, *, is_bound: bool
) -> None:
    item = {"deleteAtTime": delete_at, "specificReservation": {"instanceProperties": {"machineType": machine_type}}}
    assert is_by_calendar(item) is is_bound


def test_machines_have_the_placement_policies_of_their_reservation(request_of: Request) -> None:
    assert _asked(request_of(), policies=("close",))["resource_policies"] == ["close"]


def test_a_disk_may_be_asked_for_and_is_rounded_up(request_of: Request) -> None:
    assert _asked(request_of(disk_gib=100.5))["disks"][0]["initialize_params"]["disk_size_gb"] == 101


def test_a_private_machine_has_no_public_address(request_of: Request) -> None:
    assert _asked(request_of())["network_interfaces"][0]["access_configs"]
    assert "access_configs" not in _asked(request_of(private=True))["network_interfaces"][0]


def test_further_interfaces_are_there_where_subnetworks_are_named_and_the_fabric_is_wanted(
    request_of: Request, offer: Offer
) -> None:
    named: dict[str, Any] = {"subnetwork": "main", "gpu_subnetworks": ["g0", "g1"]}
    plain = _asked(request_of(), **named)["network_interfaces"]
    assert [item["subnetwork"] for item in plain] == ["projects/p/regions/us-central1/subnetworks/main"]
    tcpx = _asked(request_of(fabric=True), **named)["network_interfaces"]
    assert [item["nic_type"] for item in tcpx] == ["GVNIC"] * 3
    roce = replace(_with(request_of, offer, name="a4-highgpu-8g", fabric="roce"), fabric=True)
    assert [item["nic_type"] for item in _asked(roce, **named)["network_interfaces"]] == ["GVNIC", "GVNIC", "MRDMA"]


def test_a_service_account_gets_the_scopes_of_a_node_and_not_of_the_cloud(request_of: Request) -> None:
    account = _asked(request_of(), service_account="sa@p.iam.gserviceaccount.com")["service_accounts"][0]
    assert account["email"].startswith("sa@")
    assert not any("cloud-platform" in scope or "/compute" in scope for scope in account["scopes"])


def test_the_key_that_may_log_in_is_the_only_one(request_of: Request) -> None:
    items = {
        item["key"]: item["value"]
        for item in _asked(request_of(ssh_public_key="ssh-ed25519 AA me"))["metadata"]["items"]
    }
    assert items["ssh-keys"] == "ubuntu:ssh-ed25519 AA me"
    assert items["block-project-ssh-keys"] == "TRUE"
    assert items["enable-oslogin"] == "FALSE"
