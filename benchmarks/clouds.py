"""The cost of a request on Google Cloud and Azure, compared with the minimal flow of the vendor's SDK on the same emulator.

Run: python benchmarks/clouds.py [NODES ...]. Each run is a new process, and the two sides alternate. The figures are medians of
the client's CPU time.
"""

import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

from provisioning import Cloud, run

SIZES = (8, 64, 256)
ROUNDS = 3
RESULTS = Path(__file__).parent / "results" / "clouds.txt"
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH0Ykh5pVGRkXkBkbYRhCvhqlHAXbIeNFbpC0qSEDJ1n bench"


def bare_gcp(nodes: int) -> None:
    """Bulk insert, wait, list until all instances run, delete each, list until none is left."""
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import compute_v1

    options = {
        "credentials": AnonymousCredentials(),
        "client_options": ClientOptions(api_endpoint=os.environ["MULTICOMPUTE_GCP__ENDPOINT_URL"]),
    }
    instances, operations = compute_v1.InstancesClient(**options), compute_v1.ZoneOperationsClient(**options)
    project, zone = os.environ["GOOGLE_CLOUD_PROJECT"], "us-central1-a"
    disk = {
        "boot": True,
        "auto_delete": True,
        "initialize_params": {"source_image": "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64"},
    }
    properties = {
        "machine_type": "g2-standard-4",
        "labels": {"cluster": "bare"},
        "disks": [disk],
        "network_interfaces": [{"network": "global/networks/default"}],
        "scheduling": {"on_host_maintenance": "TERMINATE"},
    }
    request = {"count": nodes, "min_count": nodes, "name_pattern": "bare-####", "instance_properties": properties}
    operation = instances.bulk_insert_unary(project=project, zone=zone, bulk_insert_instance_resource_resource=request)
    operations.wait(project=project, zone=zone, operation=operation.name)

    def listed() -> list[tuple[str, str]]:
        query = {"project": project, "filter": "labels.cluster=bare", "max_results": 500}
        pages = instances.aggregated_list(request=query)
        return [(item.name, item.status) for _, scope in pages for item in scope.instances]

    while sum(status == "RUNNING" for _, status in listed()) < nodes:
        time.sleep(0.05)
    for name, _ in listed():
        instances.delete_unary(project=project, zone=zone, instance=name)
    while listed():
        time.sleep(0.05)


def bare_azure(nodes: int) -> None:
    """Create a group, a network and a Flexible scale set, list until all machines exist, delete the group."""
    from azure.core.credentials import AccessToken
    from azure.core.pipeline.policies import SansIOHTTPPolicy
    from azure.mgmt.compute import ComputeManagementClient
    from azure.mgmt.network import NetworkManagementClient
    from azure.mgmt.resource.resources import ResourceManagementClient

    class AnonymousCredential:
        def get_token(self, *_scopes: str, **_options: object) -> AccessToken:
            return AccessToken("none", 2**31)

    subscription = os.environ["AZURE_SUBSCRIPTION_ID"]
    options = {
        "base_url": os.environ["MULTICOMPUTE_AZURE__ENDPOINT_URL"],
        "authentication_policy": SansIOHTTPPolicy(),
        "polling_interval": 0.05,
    }
    groups = ResourceManagementClient(AnonymousCredential(), subscription, **options).resource_groups
    groups.create_or_update("bare", {"location": "eastus", "tags": {"cluster": "bare"}})
    network = NetworkManagementClient(AnonymousCredential(), subscription, **options)
    prefix = {"addressPrefix": "10.0.0.0/16"}
    vnet = {
        "location": "eastus",
        "properties": {
            "addressSpace": {"addressPrefixes": ["10.0.0.0/16"]},
            "subnets": [{"name": "nodes", "properties": prefix}],
        },
    }
    made = network.virtual_networks.begin_create_or_update("bare", "bare", vnet).result()
    compute = ComputeManagementClient(AnonymousCredential(), subscription, **options)
    compute.virtual_machine_scale_sets.begin_create_or_update(
        "bare", "bare", _scale_set(nodes, made.subnets[0].id)
    ).result()
    while len(list(compute.virtual_machines.list("bare"))) < nodes:
        time.sleep(0.05)
    groups.begin_delete("bare").result()


def _scale_set(nodes: int, subnet: str) -> dict[str, object]:
    address = {"name": "ip", "properties": {"subnet": {"id": subnet}}}
    card = {"name": "nic", "properties": {"primary": True, "deleteOption": "Delete", "ipConfigurations": [address]}}
    keys = {"publicKeys": [{"path": "/home/ubuntu/.ssh/authorized_keys", "keyData": SSH_KEY}]}
    image = {"publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"}
    profile = {
        "osProfile": {
            "computerNamePrefix": "bare",
            "adminUsername": "ubuntu",
            "linuxConfiguration": {"disablePasswordAuthentication": True, "ssh": keys},
        },
        "storageProfile": {
            "imageReference": image,
            "osDisk": {
                "createOption": "FromImage",
                "deleteOption": "Delete",
                "managedDisk": {"storageAccountType": "Premium_LRS"},
            },
        },
        "networkProfile": {"networkApiVersion": "2020-11-01", "networkInterfaceConfigurations": [card]},
    }
    return {
        "location": "eastus",
        "tags": {"cluster": "bare"},
        "sku": {"name": "Standard_NC4as_T4_v3", "capacity": nodes},
        "properties": {
            "orchestrationMode": "Flexible",
            "platformFaultDomainCount": 1,
            "virtualMachineProfile": profile,
        },
    }


def ours(cloud: str, nodes: int) -> None:
    """Do the same through the public API, which refreshes once more."""
    from multicompute import Cluster

    kind, region = {"gcp": ("g2-standard-4", "us-central1"), "azure": ("Standard_NC4as_T4_v3", "eastus")}[cloud]
    Cluster.request(gpus=nodes, type=kind, regions=[f"{cloud}:{region}"], ttl="1h", progress=False).terminate()


def refresh(cloud: str, nodes: int) -> None:
    """Make a request, and count the calls of one refresh after it."""
    from multicompute import Cluster

    kind, region = {"gcp": ("g2-standard-4", "us-central1"), "azure": ("Standard_NC4as_T4_v3", "eastus")}[cloud]
    cluster = Cluster.request(gpus=nodes, type=kind, regions=[f"{cloud}:{region}"], ttl="1h", progress=False)
    import urllib.request

    url = os.environ[f"MULTICOMPUTE_{cloud.upper()}__ENDPOINT_URL"] + "/_local/"
    urllib.request.urlopen(url + "clear", data=b"{}").read()
    cluster.refresh()
    with urllib.request.urlopen(url + "calls") as answer:
        print(len(json.load(answer)))
    cluster.terminate()


def client(side: str, nodes: int) -> None:
    cloud, what = side.split("-")
    if what == "bare":
        {"gcp": bare_gcp, "azure": bare_azure}[cloud](nodes)
    else:
        {"ours": ours, "refresh": refresh}[what](cloud, nodes)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "mib": used.ru_maxrss / 1024}))


def compare(cloud: Cloud, nodes: int) -> str:
    times: dict[str, list[float]] = {"bare": [], "ours": []}
    calls = {}
    for _ in range(ROUNDS):
        for what, runs in times.items():
            figures, counted, _printed = run(cloud, f"{cloud.name}-{what}", nodes, script=__file__)
            runs.append(figures["cpu"])
            calls[what] = counted.total()
    _figures, _counted, refreshed = run(cloud, f"{cloud.name}-refresh", nodes, script=__file__)
    bare, mine = statistics.median(times["bare"]), statistics.median(times["ours"])
    ratio = statistics.median(o / b for o, b in zip(times["ours"], times["bare"], strict=True))
    counts = f"{calls['bare']:7} {calls['ours']:7} {refreshed:>8}"
    return f"{cloud.name:6} {nodes:5} {bare:9.3f} {mine:9.3f} {ratio:7.2f} {counts}"


def main(sizes: tuple[int, ...]) -> None:
    lines = ["request + terminate against the same emulator; medians of the CPU time of complete client processes", ""]
    lines.append("cloud      N    bare s    ours s   ratio   calls    ours  refresh")
    for name in ("gcp", "azure"):
        with Cloud(name) as cloud:
            lines += [compare(cloud, nodes) for nodes in sizes]
    text = "\n".join(lines)
    RESULTS.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    if sys.argv[1:2] and "-" in sys.argv[1]:
        client(sys.argv[1], int(sys.argv[2]))
    else:
        main(tuple(map(int, sys.argv[1:])) or SIZES)
