"""What others do to a cluster on Azure: its tags are replaced, its machines stopped or locked, the credentials rotated or exchanged."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from multicompute import Cluster, errors
from multicompute.cli import main
from multicompute.clock import SystemClock
from multicompute.node import NodeState
from multicompute.provider import Selector, Settings
from multicompute.session import open_session
from multicompute.testing import LocalClouds, local_clouds
from multicompute_azure._errors import answer_in
from multicompute_azure._provider import AzureProvider
from multicompute_azure.local import AzureLocalCloud

SIZE = "Standard_ND96isr_H100_v5"
OTHER = "00000000-0000-0000-0000-00000000b0b0"
POLICY = {"costcenter": "7"}


@pytest.fixture
def clouds() -> Iterator[LocalClouds]:
    with local_clouds("azure") as running:
        yield running


@pytest.fixture
def cloud(clouds: LocalClouds) -> AzureLocalCloud:
    return clouds.of(AzureLocalCloud)


def request(**changes: object) -> Cluster:
    arguments: dict[str, object] = {"gpus": 16, "type": SIZE, "regions": ["eastus"], "progress": False}
    return Cluster.request(name="train-1", **(arguments | changes))  # type: ignore[arg-type]


def replace_tags(cloud: AzureLocalCloud, *types: str) -> None:
    """Replace the tags of groups ("group") and of resources of these kinds, as `az ... update --tags` and tag policies do."""
    with cloud._state.lock:
        for group in cloud._state.groups.values():
            if "group" in types:
                group.tags = dict(POLICY)
            for item in group.items.values():
                if item.type.rpartition("/")[2] in types:
                    item.tags = dict(POLICY)


def eventually(condition: Callable[[], bool]) -> bool:
    clock = SystemClock()
    deadline = clock.now() + timedelta(seconds=10)
    while not condition():
        if clock.now() > deadline:
            return False
        clock.sleep(timedelta(milliseconds=20))
    return True


# --- tags ---------------------------------------------------------------------------------------------------------------

EVERYTHING = (
    *("group", "virtualMachineScaleSets", "virtualMachines", "networkInterfaces", "publicIPAddresses", "disks"),
    *("networkSecurityGroups", "virtualNetworks"),
)


@pytest.mark.parametrize(
    "types", [("group",), ("group", "virtualMachineScaleSets", "virtualMachines"), ("virtualMachines",), EVERYTHING]
)
def test_down_deletes_what_lost_its_tags(clouds: LocalClouds, cloud: AzureLocalCloud, types: tuple[str, ...]) -> None:
    cluster = request()
    replace_tags(cloud, *types)
    assert cluster.terminate().state == "TERMINATED"
    assert clouds.alive() == []


@pytest.mark.parametrize("types", [("group",), ("virtualMachineScaleSets",), EVERYTHING])
def test_a_refresh_sets_replaced_tags_again_and_reports_it_once(
    clouds: LocalClouds, cloud: AzureLocalCloud, types: tuple[str, ...]
) -> None:
    cluster = request()
    before = {item.id: dict(item.tags) for item in cloud.alive()}
    replace_tags(cloud, *types)
    assert cluster.refresh().state == "READY"
    cluster.refresh()
    assert [event.kind for event in cluster.events()].count("untagged") == 1
    for item in cloud.alive():
        assert before[item.id].items() <= item.tags.items(), item
    assert any(item.tags.get("costcenter") for item in cloud.alive()), "the tags of others stay"
    cluster.terminate()
    assert clouds.alive() == []


def test_in_a_group_of_the_users_only_what_is_named_after_the_cluster_is_deleted_without_tags(
    clouds: LocalClouds, cloud: AzureLocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    client: Any = AzureProvider(Settings(environment=cloud.environment, values=_values(cloud)))._clients.resources
    client.resource_groups.create_or_update("team", {"location": "eastus"})
    cloud.seed_foreign(resource_group="team")
    before = {item.id for item in cloud.alive()}
    monkeypatch.setenv("MULTICOMPUTE_AZURE__RESOURCE_GROUP", "team")
    cluster = request()
    ours = {item.id for item in cloud.alive()} - before
    with cloud._state.lock:
        for item in cloud._state.items():
            if item.id in ours:
                item.tags = {}
    assert cluster.terminate().state == "TERMINATED"
    assert {item.id for item in cloud.alive()} == before
    assert cloud.foreign_intact()


def test_machines_launched_before_the_setting_of_the_group_changed_are_deleted_by_their_ids(
    clouds: LocalClouds, cloud: AzureLocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = request()
    client: Any = AzureProvider(Settings(environment=cloud.environment, values=_values(cloud)))._clients.resources
    client.resource_groups.create_or_update("team", {"location": "eastus"})
    monkeypatch.setenv("MULTICOMPUTE_AZURE__RESOURCE_GROUP", "team")
    assert Cluster.get(cluster.name).terminate().state == "TERMINATED"
    assert cloud.running_ids() == []


# --- stopped machines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interconnect", "start"), [("any", "virtualMachines.start"), ("rdma", "virtualMachineScaleSetVMs.start")]
)
def test_deallocated_machines_cost_nothing_and_heal_starts_them(
    clouds: LocalClouds, cloud: AzureLocalCloud, interconnect: str, start: str
) -> None:
    cluster = request(interconnect=interconnect)
    price = cluster.hourly_cost
    for node in cluster.nodes:
        cloud.stop_node(node.id)
    assert cluster.refresh().state == "DEGRADED"
    assert {node.state for node in cluster.nodes} == {NodeState.STOPPED}
    assert cluster.hourly_cost == 0
    assert cluster.heal().state == "READY"
    assert (cluster.hourly_cost, cloud.faults.count(start)) == (price, 2)
    assert cloud.faults.count("virtualMachineScaleSets.createOrUpdate") == 1
    cluster.terminate()
    assert clouds.alive() == []


def test_a_machine_that_was_shut_down_is_stopped_and_still_billed(clouds: LocalClouds, cloud: AzureLocalCloud) -> None:
    cluster = request()
    price = cluster.hourly_cost
    cloud.shut_down(cluster.nodes[0].id)
    assert cluster.refresh().state == "DEGRADED"
    assert (cluster.nodes[0].state, cluster.nodes[0].is_billed) == (NodeState.STOPPED, True)
    assert cluster.hourly_cost == price
    assert any("bills it as if it ran" in event.message for event in cluster.events())
    cloud.stop_node(cluster.nodes[0].id)
    assert cluster.refresh().hourly_cost == price / 2
    assert cluster.heal().state == "READY"
    cluster.terminate()


def test_a_start_without_capacity_is_a_lack_of_capacity_and_the_other_machines_start(
    clouds: LocalClouds, cloud: AzureLocalCloud
) -> None:
    cluster = request()
    for node in cluster.nodes:
        cloud.stop_node(node.id)

    cloud.set_capacity(SIZE, "eastus", 0)
    with pytest.raises(errors.CapacityError, match="virtualMachines.start"):
        cluster.heal(timeout="20s")
    cloud.set_capacity(SIZE, "eastus", None)
    assert cluster.heal().state == "READY"
    cluster.terminate()


def test_stopped_machines_are_replaced_if_asked(clouds: LocalClouds, cloud: AzureLocalCloud) -> None:
    cluster = request()
    stopped, kept = cluster.nodes
    cloud.stop_node(stopped.id)
    assert cluster.heal(stopped="replace").state == "READY"
    assert {node.id for node in cluster.nodes} == set(cloud.running_ids())
    assert kept.id in cloud.running_ids() and stopped.id not in {item.id for item in cloud.alive()}
    cluster.terminate()
    assert clouds.alive() == []


# --- locks, policies, and other users -------------------------------------------------------------------------------------


def steps_until_blocked(provider: AzureProvider, selector: Selector, text: str) -> None:
    assert eventually(lambda: text in provider.terminate(selector).blocked_by)


@pytest.fixture
def cluster(clouds: LocalClouds) -> Cluster:
    # Without a fabric: the machines of a Uniform scale set are no resources that could be locked one by one.
    return request(interconnect="any")


@pytest.fixture
def provider(cluster: Cluster) -> AzureProvider:
    found = open_session().provider("azure")
    assert isinstance(found, AzureProvider)
    return found


@pytest.mark.parametrize("kind", ["CanNotDelete", "ReadOnly", "denyAction", "denyAssignment"])
def test_what_keeps_a_machine_is_named_and_the_others_are_deleted(
    clouds: LocalClouds, cloud: AzureLocalCloud, cluster: Cluster, provider: AzureProvider, kind: Any
) -> None:
    first, second = cluster.nodes
    selector = Selector(region="eastus", cluster_id=cluster.id)
    cloud.protect(first.id, kind=kind)
    step = provider.terminate(selector)
    assert {"CanNotDelete": "remove the lock", "ReadOnly": "remove the lock", "denyAction": "policy"}.get(
        kind, "deny assignment"
    ) in step.blocked_by
    assert eventually(lambda: cloud.running_ids() == [first.id] and not provider.terminate(selector).is_done)
    steps_until_blocked(provider, selector, first.id)
    assert second.id not in {item.id for item in cloud.alive()}
    cloud.protect(first.id, is_protected=False)
    cluster.terminate()
    assert clouds.alive() == []


@pytest.mark.parametrize("scope", ["group", "subscription", "disk"])
def test_a_lock_on_a_group_a_subscription_or_a_disk_is_named(
    clouds: LocalClouds, cloud: AzureLocalCloud, cluster: Cluster, provider: AzureProvider, scope: str
) -> None:
    found = {
        "group": next(item.id for item in cloud.alive() if item.kind == "resourceGroups"),
        "subscription": f"/subscriptions/{cloud.subscription_id}",
        "disk": next(item.id for item in cloud.alive() if item.kind == "disks"),
    }[scope]
    cloud.protect(found)
    selector = Selector(region="eastus", cluster_id=cluster.id)
    assert found in provider.terminate(selector).blocked_by
    cloud.protect(found, is_protected=False)
    cluster.terminate()
    assert clouds.alive() == []


def test_a_security_group_that_others_use_is_named_with_its_user(
    clouds: LocalClouds, cloud: AzureLocalCloud, cluster: Cluster, provider: AzureProvider
) -> None:
    selector = Selector(region="eastus", cluster_id=cluster.id)
    group = next(item.id for item in cloud.alive() if item.kind == "networkSecurityGroups")
    cloud.seed_foreign()
    with cloud._state.lock:
        user = next(item for item in cloud._state.items("Microsoft.Network/networkInterfaces") if "foreign" in item.id)
        kept = dict(user.body["properties"])
        user.body["properties"]["networkSecurityGroup"] = {"id": group}
    steps_until_blocked(provider, selector, user.id)
    assert cloud.running_ids() == []
    with cloud._state.lock:
        user.body["properties"] = kept
    cluster.terminate()
    assert clouds.alive() == []
    assert cloud.foreign_intact()


# --- credentials ----------------------------------------------------------------------------------------------------------


def _values(cloud: AzureLocalCloud) -> dict[str, object]:
    return {"endpoint_url": cloud.endpoint_url}


def test_a_rotated_token_file_is_read_again_and_a_with_block_still_tears_down(
    clouds: LocalClouds, cloud: AzureLocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    use_token_file(cloud.rotate_credentials(), file, monkeypatch)
    with request() as cluster:
        assert cluster.refresh().state == "READY"
        old = Cluster.get(cluster.name)
        file.write_text(cloud.rotate_credentials()["AZURE_CLIENT_SECRET"])
        assert cluster.refresh().state == "READY"
        file.write_text(cloud.rotate_credentials(code="InvalidAuthenticationToken")["AZURE_CLIENT_SECRET"])
        assert old.refresh().state == "READY"
        file.write_text(cloud.rotate_credentials(code="AuthenticationFailed")["AZURE_CLIENT_SECRET"])
    assert clouds.alive() == []


def test_supervise_survives_a_rotation(
    clouds: LocalClouds,
    cloud: AzureLocalCloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "token"
    use_token_file(cloud.rotate_credentials(), file, monkeypatch)
    cluster = request()
    file.write_text(cloud.rotate_credentials()["AZURE_CLIENT_SECRET"])
    assert run(capsys, "supervise", "--once")[0] == 0
    assert Cluster.get(cluster.name).state == "READY"
    cluster.terminate()
    assert clouds.alive() == []


def use_token_file(environment: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(environment["AZURE_CLIENT_SECRET"])
    for name in ("AZURE_AUTHORITY_HOST", "AZURE_CLIENT_ID"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(file))


def test_a_secret_that_is_not_accepted_any_more_is_an_authentication_error_after_one_more_try(
    cloud: AzureLocalCloud,
) -> None:
    environment = cloud.rotate_credentials()
    provider = AzureProvider(Settings(_values(cloud), environment))
    assert provider.nodes(Selector()) == ()
    cloud.rotate_credentials()
    with pytest.raises(errors.AuthError, match="AADSTS7000222"):
        provider.nodes(Selector())


def test_two_identities_in_one_process_use_their_own_credentials(cloud: AzureLocalCloud) -> None:
    cloud.add_account(OTHER)
    mine, theirs = cloud.rotate_credentials(), cloud.rotate_credentials(OTHER)
    first, second = (AzureProvider(Settings(_values(cloud), environment)) for environment in (mine, theirs))
    assert (first.account.ids, second.account.ids) == ((cloud.subscription_id,), (OTHER,))
    assert first.nodes(Selector()) == second.nodes(Selector()) == ()
    crossed = AzureProvider(Settings(_values(cloud), {**mine, "AZURE_SUBSCRIPTION_ID": OTHER}))
    with pytest.raises(errors.AccessDeniedError):
        crossed.nodes(Selector())


# --- what only one region refuses or lacks --------------------------------------------------------------------------------

IMAGE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/galleries/team/images/torch"


@pytest.mark.parametrize("code", ["RequestDisallowedByPolicy", "RequestDisallowedByAzure"])
def test_a_region_that_a_policy_refuses_costs_only_itself(
    clouds: LocalClouds, cloud: AzureLocalCloud, code: str
) -> None:
    cloud.close_region("eastus", code)
    with request(regions=["eastus", "westus3"]) as cluster:
        assert cluster.region == "westus3"
        assert any(code in event.message for event in cluster.events())
    assert cluster.state == "TERMINATED"
    assert clouds.alive() == []


def test_a_cluster_in_a_region_that_was_closed_later_is_torn_down(clouds: LocalClouds, cloud: AzureLocalCloud) -> None:
    with request():
        cloud.close_region("eastus")
    assert clouds.alive() == []


def test_without_any_open_region_the_policy_is_named(cloud: AzureLocalCloud) -> None:
    cloud.close_region("eastus")
    with pytest.raises(errors.MulticomputeError) as caught:
        request()
    assert "RequestDisallowedByPolicy" in str(caught.value)


@pytest.mark.parametrize("image", [IMAGE, f"{IMAGE}/versions/1.2.0"])
def test_an_image_that_is_not_replicated_to_a_region_costs_only_that_region(
    clouds: LocalClouds, cloud: AzureLocalCloud, image: str
) -> None:
    cloud.replicate_image(image, "westus3")
    with request(regions=["eastus", "westus3"], image=image) as cluster:
        assert cluster.region == "westus3"
    assert clouds.alive() == []


def test_an_image_that_no_region_has_is_an_invalid_request(cloud: AzureLocalCloud) -> None:
    cloud.replicate_image(IMAGE, "westus3")
    with pytest.raises(errors.InvalidRequestError, match="Shared Image Gallery images"):
        request(image=IMAGE)


def test_a_subnet_that_is_full_costs_only_its_region(
    clouds: LocalClouds, cloud: AzureLocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = "Subnet nodes with address prefix 10.0.0.0/16 does not have enough capacity for 2 IP addresses."
    cloud.faults.fail(
        "virtualMachineScaleSets.createOrUpdate", "SubnetIsFull", status=400, message=full, where={"region": "eastus"}
    )
    with request(regions=["eastus", "westus3"]) as cluster:
        assert cluster.region == "westus3"
    assert clouds.alive() == []


def test_the_reason_in_a_wrapper_is_read_from_its_text() -> None:
    text = '{"error": {"code": "SubnetIsFull", "message": "Subnet a has no room.", "details": []}}'
    found = answer_in(
        {"code": "DeploymentFailed", "message": "see details", "details": [{"code": "BadRequest", "message": text}]}
    )
    assert found is not None and found.code == "SubnetIsFull"


# --- another subscription -------------------------------------------------------------------------------------------------

COMMANDS = (
    ("ls", "--live"),
    ("down", "train-1", "--yes"),
    ("heal", "train-1"),
    ("extend", "train-1", "1h"),
)


@pytest.fixture
def in_other_account(cloud: AzureLocalCloud, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in cloud.add_account(OTHER).items():
        monkeypatch.setenv(name, value)
    yield
    monkeypatch.undo()


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    status = main(arguments)
    out, err = capsys.readouterr()
    return status, out + err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.usefixtures("in_other_account")
def test_a_command_with_another_subscription_names_both_and_changes_nothing(
    cloud: AzureLocalCloud, cluster: Cluster, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    before, events = cloud.running_ids(), cluster.events()
    status, text = run(capsys, *command)
    assert cloud.subscription_id in text and OTHER in text, text
    assert status == 6
    assert Cluster.get("train-1").state == "READY"
    assert Cluster.get("train-1").events() == events
    assert cloud.running_ids() == before


@pytest.mark.parametrize("command", [("reconcile",), ("reconcile", "--dry-run"), ("reap",), ("supervise", "--once")])
@pytest.mark.usefixtures("in_other_account")
def test_a_recovery_with_another_subscription_skips_the_cluster(
    cloud: AzureLocalCloud, cluster: Cluster, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    before = cloud.running_ids()
    _, text = run(capsys, *command)
    if command[0] != "reap":
        assert cloud.subscription_id in text and OTHER in text, text
    assert Cluster.get("train-1").state == "READY"
    assert cloud.running_ids() == before


def test_after_commands_with_another_subscription_down_with_the_first_one_works(
    clouds: LocalClouds, cloud: AzureLocalCloud, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.add_account(OTHER).items():
            patch.setenv(name, value)
        assert run(capsys, "down", "train-1", "--yes")[0] == 6
    assert run(capsys, "down", "train-1", "--yes")[0] == 0
    assert clouds.alive() == []
