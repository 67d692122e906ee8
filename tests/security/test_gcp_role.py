"""The role in the documentation has exactly the permissions that the calls need."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from multicompute import errors
from multicompute.node import Metric
from multicompute.offer import InstanceType, Offer, Part, Quote
from multicompute.price_feed import PricedType, PriceQuery
from multicompute.provider import LaunchRequest, Selector, Settings
from multicompute.provider_kit.vendor_errors import Place
from multicompute.testing.provider_harness import launch_request
from multicompute_gcp import plugin
from multicompute_gcp._errors import answer_of_response, refusal
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp._tags import labels_of
from multicompute_gcp.local import GcpLocalCloud

ROLE = Path(__file__).parents[2] / "docs" / "permissions" / "gcp-role.yaml"
COMPUTE = "https://cloud.google.com/compute/docs/reference/rest/v1/"
TPU = "https://cloud.google.com/tpu/docs/reference/rest/v2/projects.locations"
MONITORING = "https://cloud.google.com/monitoring/access-control"
# Method -> its documentation page, and the permissions in the page's section "IAM Permissions" for the fields that we send.
METHODS: Mapping[str, tuple[str, set[str]]] = {
    "projects.get": (COMPUTE + "projects/get", {"compute.projects.get"}),
    "regions.get": (COMPUTE + "regions/get", {"compute.regions.get"}),
    "zones.list": (COMPUTE + "zones/list", {"compute.zones.list"}),
    "machineTypes.aggregatedList": (COMPUTE + "machineTypes/aggregatedList", {"compute.machineTypes.list"}),
    "networks.get": (COMPUTE + "networks/get", {"compute.networks.get"}),
    "instances.bulkInsert": (
        COMPUTE + "instances/bulkInsert",
        {
            "compute.instances.create",
            "compute.instances.setLabels",
            "compute.instances.setMetadata",
            "compute.instances.setServiceAccount",
            "compute.instances.setTags",
            "compute.disks.create",
            "compute.disks.setLabels",
            "compute.images.useReadOnly",
            "compute.networks.use",
            "compute.networks.useExternalIp",
            "compute.subnetworks.use",
            "compute.subnetworks.useExternalIp",
            "compute.resourcePolicies.use",
        },
    ),
    "instances.aggregatedList": (COMPUTE + "instances/aggregatedList", {"compute.instances.list"}),
    "instances.get": (COMPUTE + "instances/get", {"compute.instances.get"}),
    "instances.getGuestAttributes": (
        COMPUTE + "instances/getGuestAttributes",
        {"compute.instances.getGuestAttributes"},
    ),
    "instances.delete": (COMPUTE + "instances/delete", {"compute.instances.delete"}),
    "instances.start": (COMPUTE + "instances/start", {"compute.instances.start"}),
    "instances.resume": (COMPUTE + "instances/resume", {"compute.instances.resume"}),
    "instances.setLabels": (COMPUTE + "instances/setLabels", {"compute.instances.setLabels"}),
    "instances.setMetadata": (COMPUTE + "instances/setMetadata", {"compute.instances.setMetadata"}),
    "disks.aggregatedList": (COMPUTE + "disks/aggregatedList", {"compute.disks.list"}),
    "disks.setLabels": (COMPUTE + "disks/setLabels", {"compute.disks.setLabels"}),
    "disks.delete": (COMPUTE + "disks/delete", {"compute.disks.delete"}),
    "reservations.aggregatedList": (COMPUTE + "reservations/aggregatedList", {"compute.reservations.list"}),
    "reservationBlocks.get": (COMPUTE + "reservationBlocks/get", {"compute.reservationBlocks.get"}),
    "reservations.get": (COMPUTE + "reservations/get", {"compute.reservations.get"}),
    "firewalls.insert": (COMPUTE + "firewalls/insert", {"compute.firewalls.create", "compute.networks.updatePolicy"}),
    "firewalls.get": (COMPUTE + "firewalls/get", {"compute.firewalls.get"}),
    "firewalls.list": (COMPUTE + "firewalls/list", {"compute.firewalls.list"}),
    "firewalls.delete": (COMPUTE + "firewalls/delete", {"compute.firewalls.delete", "compute.networks.updatePolicy"}),
    "resourcePolicies.insert": (COMPUTE + "resourcePolicies/insert", {"compute.resourcePolicies.create"}),
    "resourcePolicies.get": (COMPUTE + "resourcePolicies/get", {"compute.resourcePolicies.get"}),
    "resourcePolicies.aggregatedList": (
        COMPUTE + "resourcePolicies/aggregatedList",
        {"compute.resourcePolicies.list"},
    ),
    "resourcePolicies.delete": (COMPUTE + "resourcePolicies/delete", {"compute.resourcePolicies.delete"}),
    "zoneOperations.wait": (COMPUTE + "zoneOperations/wait", {"compute.zoneOperations.get"}),
    "regionOperations.wait": (COMPUTE + "regionOperations/wait", {"compute.regionOperations.get"}),
    # It is read for the operations of machines, which are zonal.
    "globalOperations.aggregatedList": (
        COMPUTE + "globalOperations/aggregatedList",
        {"compute.globalOperations.list", "compute.zoneOperations.list"},
    ),
    "instances.insert": (COMPUTE + "instances/insert", {"compute.instances.create"}),
    "instanceTemplates.aggregatedList": (
        COMPUTE + "instanceTemplates/aggregatedList",
        {"compute.instanceTemplates.list"},
    ),
    "regionInstanceTemplates.insert": (
        COMPUTE + "regionInstanceTemplates/insert",
        {"compute.instanceTemplates.create"},
    ),
    "regionInstanceTemplates.get": (COMPUTE + "regionInstanceTemplates/get", {"compute.instanceTemplates.get"}),
    "regionInstanceTemplates.delete": (
        COMPUTE + "regionInstanceTemplates/delete",
        {"compute.instanceTemplates.delete"},
    ),
    "instanceGroupManagers.insert": (
        COMPUTE + "instanceGroupManagers/insert",
        {"compute.instanceGroupManagers.create", "compute.instanceTemplates.useReadOnly"},
    ),
    "instanceGroupManagers.get": (COMPUTE + "instanceGroupManagers/get", {"compute.instanceGroupManagers.get"}),
    "instanceGroupManagers.aggregatedList": (
        COMPUTE + "instanceGroupManagers/aggregatedList",
        {"compute.instanceGroupManagers.list"},
    ),
    "instanceGroupManagers.delete": (
        COMPUTE + "instanceGroupManagers/delete",
        {"compute.instanceGroupManagers.delete"},
    ),
    "instanceGroupManagers.deleteInstances": (
        COMPUTE + "instanceGroupManagers/deleteInstances",
        {"compute.instanceGroupManagers.update"},
    ),
    **{
        f"instanceGroupManagerResizeRequests.{method}": (
            COMPUTE + f"instanceGroupManagerResizeRequests/{method}",
            {f"compute.instanceGroupManagers.{'get' if method in ('get', 'list') else 'update'}"},
        )
        for method in ("insert", "cancel", "delete", "get", "list")
    },
    "subnetworks.get": (COMPUTE + "subnetworks/get", {"compute.subnetworks.get"}),
    "routes.list": (COMPUTE + "routes/list", {"compute.routes.list"}),
    "routers.list": (COMPUTE + "routers/list", {"compute.routers.list"}),
    "monitoring.timeSeries.list": (MONITORING, {"monitoring.timeSeries.list"}),
    "tpu.locations.list": (TPU + "/list", {"tpu.locations.list"}),
    "tpu.acceleratorTypes.list": (TPU + ".acceleratorTypes/list", {"tpu.acceleratortypes.list"}),
    "tpu.nodes.create": (TPU + ".nodes/create", {"tpu.nodes.create"}),
    "tpu.nodes.get": (TPU + ".nodes/get", {"tpu.nodes.get"}),
    "tpu.nodes.list": (TPU + ".nodes/list", {"tpu.nodes.list"}),
    "tpu.nodes.start": (TPU + ".nodes/start", {"tpu.nodes.start"}),
    "tpu.nodes.patch": (TPU + ".nodes/patch", {"tpu.nodes.update"}),
    "tpu.nodes.delete": (TPU + ".nodes/delete", {"tpu.nodes.delete"}),
    "tpu.nodes.getGuestAttributes": (TPU + ".nodes/getGuestAttributes", {"tpu.nodes.get"}),
    "tpu.queuedResources.create": (TPU + ".queuedResources/create", {"tpu.queuedresources.create"}),
    "tpu.queuedResources.get": (TPU + ".queuedResources/get", {"tpu.queuedresources.get"}),
    "tpu.queuedResources.list": (TPU + ".queuedResources/list", {"tpu.queuedresources.list"}),
    "tpu.queuedResources.delete": (TPU + ".queuedResources/delete", {"tpu.queuedresources.delete"}),
    "tpu.operations.get": (TPU + ".operations/get", {"tpu.operations.get"}),
    # Its page has a section on scopes and none on permissions: the price lists are public.
    "cloudbilling.skus.list": ("https://cloud.google.com/billing/docs/reference/rest/v1/services.skus/list", set()),
}
PUBLIC = {"cloudbilling.skus.list"}
A3 = InstanceType("gcp", "a3-highgpu-8g", "h100", 8, 80.0, vcpus=208, memory_gib=1872, fabric="gpudirect-tcpx")
OFFER = Offer(A3, "us-central1", "us-central1-a", "on_demand", Quote(88.49, date(2026, 8, 3), "test"))
SLICE = replace(OFFER, instance=InstanceType("gcp", "v6e-8", "tpu-v6e", 8), region="us-east5", zone="us-east5-a")
ACT_AS = "iam.serviceAccounts.actAs"
QUOTA_PROJECT = "serviceusage.services.use"
ALL = Selector(cluster_id="id-first")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me"


@pytest.fixture(name="cloud")
def _cloud() -> Iterator[GcpLocalCloud]:
    cloud = GcpLocalCloud()
    cloud.start()
    yield cloud
    cloud.stop()


def opened(cloud: GcpLocalCloud, **values: object) -> GcpProvider:
    return GcpProvider(
        Settings({"endpoint_url": cloud.endpoint_url, "project": cloud.project, **values}, cloud.environment)
    )


def request(token: str, part: Part, **changes: Any) -> LaunchRequest:
    return replace(launch_request(part.offer, token=token), parts=(part,), **changes)


def use_everything(cloud: GcpLocalCloud) -> None:
    """Make every kind of call of the provider once, including those after a failure."""
    provider, later = opened(cloud), datetime.now(UTC) + timedelta(hours=1)
    provider.check()
    held = cloud.add_reservation("a3-highgpu-8g", "us-central1-a", 4)
    provider.quotas("us-central1", reservations=[held, "none", f"{held}/reservationBlocks/none"])
    provider.availability("us-east5")
    # Price lists need no permission.
    assert opened(cloud, api_key=cloud.api_key).quotes([OFFER, SLICE]).keys() == {OFFER, SLICE}
    gang = request("t-1", Part(OFFER, 2), fabric=True, ssh_public_key=KEY, setup="true")
    provider.launch(gang)
    # Another process that adds nodes to the same cluster finds its dependent resources.
    opened(cloud).launch(request("t-2", Part(OFFER, 1), fabric=True, ssh_public_key=KEY))
    provider.launch(request("t-3", Part(OFFER, 2, reservation=held)))
    provider.launch(request("t-4", Part(replace(OFFER, zone=""), 1)))
    cloud.set_capacity("a3-highgpu-8g", "us-central1-c", 0)
    with pytest.raises(errors.CapacityError):
        provider.launch(request("t-5", Part(replace(OFFER, zone="us-central1-c"), 1)))
        provider.nodes(replace(ALL, token="t-5"))
        raise errors.CapacityError("reported by the nodes")
    provider.launch(request("t-6", Part(replace(SLICE, zone=""), 1)))
    provider.launch(request("t-6", Part(SLICE, 1)))
    opened(cloud, tpu_create="direct").launch(request("t-7", Part(SLICE, 1)))
    opened(cloud, tpu_create="direct").launch(request("t-7", Part(SLICE, 1)))
    opened(cloud, service_account="nodes@project.iam").launch(request("t-8", Part(OFFER, 1)))
    nodes = provider.nodes(replace(ALL, with_health=True))
    for node in nodes:
        cloud.measure(node.id, {Metric.ACCELERATOR: 50.0})
    provider.metrics(nodes, since=datetime.now(UTC) - timedelta(minutes=5), until=datetime.now(UTC))
    provider.resources(ALL)
    assert {node.id for node in nodes if "/" not in node.id} == set(provider.host_keys(nodes)) | {
        node.id for node in nodes if node.token not in ("t-1", "t-2") and "/" not in node.id
    }
    cloud.stop_node("t-1-0-0001")
    cloud.suspend_node("t-1-0-0002")
    provider.launch(replace(gang, restart=True))
    cloud.stop_node("t-6-0/0")
    provider.launch(request("t-6", Part(SLICE, 1), restart=True))
    provider.set_expiry(ALL, later)
    leave_a_disk(cloud, gang)
    tear_down(provider, ALL)
    # A node that no listing shows is looked up by name before it counts as gone.
    tear_down(provider, replace(ALL, region="us-central1", node_ids=("multicompute-never-was",)))
    for node in nodes:
        if node.instance_type == "v6e-8":
            tear_down(provider, replace(ALL, region="us-east5", token=node.token, node_ids=(node.id,)))
    use_flex_start(cloud)
    assert cloud.alive() == []


def use_flex_start(cloud: GcpLocalCloud) -> None:
    """Launch gangs that wait in the queue of Google, in a subnetwork of the user, with each outcome of a resize request."""
    cloud.add_network("ours", subnetworks=["nodes"])
    provider, ends = opened(cloud, subnetwork="nodes"), datetime.now(UTC) + timedelta(hours=3)
    offer = replace(OFFER, zone="us-central1-b", purchase="flex_start")

    def flex(token: str, nodes: int) -> LaunchRequest:
        return request(token, Part(offer, nodes), fabric=True, private=True, expires_at=ends)

    provider.launch(flex("f-1", 2))
    provider.launch(flex("f-2", 1))
    provider.terminate(replace(ALL, region="us-central1", tokens=("f-1",), only=("f-1-0-0001",)))
    cloud.set_capacity("a3-highgpu-8g", "us-central1-b", 0)
    waiting = tuple(node.id for node in provider.launch(flex("f-3", 2)))
    provider.nodes(replace(ALL, token="f-3", node_ids=waiting))
    cloud.fail_resize_request("f-3-0", "INTERNAL_ERROR", "try again")
    with pytest.raises(errors.TransientError):
        provider.launch(flex("f-3", 2))
    provider.launch(flex("f-3", 2))
    tear_down(provider, replace(ALL, tokens=("f-1", "f-2", "f-3")))


def leave_a_disk(cloud: GcpLocalCloud, made_for: LaunchRequest) -> None:
    """Create a disk that outlived its machine."""
    url = f"{cloud.endpoint_url}/compute/v1/projects/{cloud.project}/zones/us-central1-a/disks"
    body: Any = {"name": "left-over", "sizeGb": "10", "labels": labels_of(made_for.tags)}
    requests.post(url, json=body, timeout=10).raise_for_status()
    cloud.faults.calls.pop()


def tear_down(provider: GcpProvider, selector: Selector) -> None:
    assert any(provider.terminate(selector).is_done for _ in range(50))


def permissions() -> set[str]:
    lines = ROLE.read_text().splitlines()
    return {line.strip().removeprefix("- ") for line in lines if line.strip().startswith("- ")}


def test_the_role_has_exactly_what_the_calls_need(cloud: GcpLocalCloud) -> None:
    use_everything(cloud)
    called = {call.operation for call in cloud.faults.calls}
    assert called - METHODS.keys() == set(), "called, and its permissions are not in the table above"
    needed = {permission for method in called for permission in METHODS[method][1]}
    # Of credentials, not of calls.
    needed.add(QUOTA_PROJECT)
    assert needed - permissions() == set(), "needed, and not in docs/permissions/gcp-role.yaml"
    assert permissions() - needed == set(), "in docs/permissions/gcp-role.yaml, and not needed"


def test_the_role_and_the_right_to_act_as_the_nodes_account_are_enough_and_nothing_in_it_is_unused(
    cloud: GcpLocalCloud,
) -> None:
    cloud.role = frozenset({*permissions(), ACT_AS})
    use_everything(cloud)
    requests.get(
        f"{cloud.endpoint_url}/compute/v1/projects/{cloud.project}",
        headers={"X-Goog-User-Project": cloud.project},
        timeout=10,
    ).raise_for_status()
    assert cloud.used_permissions == cloud.role


def test_the_role_is_enough_for_a_refresh_of_the_prices_and_price_lists_need_no_permission(
    cloud: GcpLocalCloud,
) -> None:
    cloud.role = frozenset(permissions())
    values = {"endpoint_url": cloud.endpoint_url, "project": cloud.project, "api_key": cloud.api_key}
    feed = plugin.open_price_feed(Settings(values, cloud.environment))
    assert feed is not None
    query = PriceQuery(
        [PricedType(replace(A3, memory_gib=1872)), PricedType(SLICE.instance)], ["us-central1", "us-east5"]
    )
    found = feed.fetch(query, progress=lambda _: None)
    feed.confirm(found.prices)
    assert {price.instance_type for price in found.prices} >= {"a3-highgpu-8g", "v6e-8"}
    assert not [note for note in found.notes if "could not be read" in note]
    assert cloud.used_permissions == {
        "compute.machineTypes.list",
        "tpu.locations.list",
        "tpu.acceleratortypes.list",
    }


@pytest.mark.parametrize(
    ("missing", "part", "setting", "hint"),
    [
        ("compute.instances.setServiceAccount", Part(OFFER, 1), "nodes@project.iam", "gcp-role.yaml"),
        (ACT_AS, Part(OFFER, 1), "nodes@project.iam", "roles/iam.serviceAccountUser"),
        (ACT_AS, Part(SLICE, 1), None, "roles/iam.serviceAccountUser"),
    ],
)
def test_a_launch_without_a_right_on_the_nodes_account_is_refused_with_the_role_that_has_it(
    cloud: GcpLocalCloud, missing: str, part: Part, setting: str | None, hint: str
) -> None:
    cloud.role = frozenset({*permissions(), ACT_AS} - {missing})
    values = {"service_account": setting} if setting else {}
    with pytest.raises(errors.AccessDeniedError) as caught:
        opened(cloud, **values).launch(request("t-1", part))
    assert hint in (caught.value.hint or "")
    assert cloud.alive() == []
    # Without an account, instances need neither.
    opened(cloud).launch(request("t-2", Part(OFFER, 1)))


def test_credentials_whose_quota_project_may_not_be_used_are_refused_with_the_role_that_allows_it(
    cloud: GcpLocalCloud,
) -> None:
    cloud.role = frozenset(permissions() - {QUOTA_PROJECT})
    url = f"{cloud.endpoint_url}/compute/v1/projects/{cloud.project}"
    response = requests.get(url, headers={"X-Goog-User-Project": "billed"}, timeout=10)
    error = refusal(answer_of_response(response), "projects.get", Place("gcp"))
    assert isinstance(error, errors.AccessDeniedError)
    assert "roles/serviceusage.serviceUsageConsumer" in (error.hint or "")


def test_every_method_of_the_table_has_its_documentation_page() -> None:
    for method, (page, needed) in METHODS.items():
        assert page.startswith("https://cloud.google.com/") and bool(needed) == (method not in PUBLIC)
        assert page.endswith(("access-control", method.rpartition(".")[2]))
