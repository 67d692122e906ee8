"""The cost of refreshing a thousand clusters, compared with a plain paginated listing by the vendor's SDK on the same local cloud.

Run: python benchmarks/refresh.py [CLUSTERS [NODES_OF_EACH]]. Each run is a new process, and the sides alternate. The figures are
medians of the client's CPU time, including imports. Target: no more CPU time than the plain listing. The instances are launched
in the local cloud, and the clusters recorded in the ledger, before the measurement.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from provisioning import Cloud

CLUSTERS, NODES = 1000, 10
ROUNDS = 3
RESULTS = Path(__file__).parent / "results" / "refresh.txt"
PLACES = {
    "aws": ("us-east-1", "us-east-2", "us-west-2", "eu-central-1", "ap-northeast-1"),
    "gcp": ("us-central1-a", "us-east4-a", "us-west1-a", "europe-west4-a", "asia-northeast1-a"),
}
TYPES = {"aws": "g6.12xlarge", "gcp": "g2-standard-4"}


def tags_of(number: int) -> dict[str, str]:
    """Return the tags of the instances of one cluster."""
    return {
        "multicompute-cluster": f"bench-{number}",
        "multicompute-id": f"id-{number}",
        "multicompute-attempt": f"attempt-{number}",
        "multicompute-owner": "bench",
        "multicompute-expires-at": "never",
    }


def launch_aws(clusters: int, nodes: int) -> None:
    import boto3

    clients = {region: boto3.client("ec2", region_name=region) for region in PLACES["aws"]}
    images = {}
    for region, client in clients.items():
        images[region] = client.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    for number in range(clusters):
        region = PLACES["aws"][number % len(clients)]
        tags = [{"Key": key, "Value": value} for key, value in tags_of(number).items()]
        clients[region].run_instances(
            ImageId=images[region],
            InstanceType=TYPES["aws"],
            MinCount=nodes,
            MaxCount=nodes,
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )


def gcp_clients() -> dict[str, object]:
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials

    options = ClientOptions(api_endpoint=os.environ["MULTICOMPUTE_GCP__ENDPOINT_URL"])
    return {"credentials": AnonymousCredentials(), "client_options": options}


def launch_gcp(clusters: int, nodes: int) -> None:
    from google.cloud import compute_v1

    instances = compute_v1.InstancesClient(**gcp_clients())
    image = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64"
    for number in range(clusters):
        properties = {
            "machine_type": TYPES["gcp"],
            "labels": tags_of(number),
            "disks": [{"boot": True, "auto_delete": True, "initialize_params": {"source_image": image}}],
            "network_interfaces": [{"network": "global/networks/default"}],
            "scheduling": {"on_host_maintenance": "TERMINATE"},
        }
        request = {
            "count": nodes,
            "min_count": nodes,
            "name_pattern": f"bench-{number}-####",
            "instance_properties": properties,
        }
        zone = PLACES["gcp"][number % len(PLACES["gcp"])]
        project = os.environ["GOOGLE_CLOUD_PROJECT"]
        instances.bulk_insert_unary(project=project, zone=zone, bulk_insert_instance_resource_resource=request)


def seed(cloud: str, clusters: int, nodes: int) -> None:
    """Launch the instances in the cloud and record them in the ledger."""
    from multicompute.ledger import ClusterRecord, NodeRecord
    from multicompute.node import ClusterState
    from multicompute.provider import Selector
    from multicompute.session import open_session

    {"aws": launch_aws, "gcp": launch_gcp}[cloud](clusters, nodes)
    session = open_session()
    regions = PLACES[cloud] if cloud == "aws" else tuple(zone.rpartition("-")[0] for zone in PLACES[cloud])
    now = datetime.now(UTC) - timedelta(hours=1)
    members: dict[str, list[NodeRecord]] = {}
    for region in regions:
        for node in session.provider(cloud).nodes(Selector(region=region, instance_types=(TYPES[cloud],))):
            records = members.setdefault(node.token, [])
            place = (cloud, node.instance_type, node.region, node.zone)
            addresses = {"private_ip": node.private_ip, "public_ip": node.public_ip}
            records.append(NodeRecord(node.id, len(records), node.token, *place, node.state, now, **addresses))
    assert sum(map(len, members.values())) == clusters * nodes
    for token, records in members.items():
        number = token.rpartition("-")[2]
        head = records[0]
        record = ClusterRecord(
            id=f"id-{number}",
            name=f"bench-{number}",
            state=ClusterState.READY,
            owner="bench",
            spec={"gpus": nodes, "type": [TYPES[cloud]]},
            identity="{}",
            created_at=now,
            provider=cloud,
            region=head.region,
            zone=head.zone,
        )
        session.ledger.adopt(record, [], records)


def bare(cloud: str) -> int:
    """Count the running instances by the vendor's paginated listing."""
    return sum(state.lower() == "running" for state in {"aws": bare_aws, "gcp": bare_gcp}[cloud]())


def bare_aws() -> Iterator[str]:
    import boto3

    for region in PLACES["aws"]:
        pages = boto3.client("ec2", region_name=region).get_paginator("describe_instances")
        ours = [{"Name": "tag-key", "Values": ["multicompute-id"]}]
        for page in pages.paginate(Filters=ours, PaginationConfig={"PageSize": 1000}):
            yield from (i["State"]["Name"] for reservation in page["Reservations"] for i in reservation["Instances"])


def bare_gcp() -> Iterator[str]:
    from google.cloud import compute_v1

    request = {
        "project": os.environ["GOOGLE_CLOUD_PROJECT"],
        "filter": "labels.multicompute-id:*",
        "max_results": 500,
    }
    for _, scope in compute_v1.InstancesClient(**gcp_clients()).aggregated_list(request=request):
        yield from (item.status for item in scope.instances)


def ours(_cloud: str) -> int:
    """Refresh all clusters, which have not changed, and count the nodes in the ledger."""
    from multicompute.engine.upkeep.refresh import refresh_all
    from multicompute.session import open_session

    session = open_session()
    seen = refresh_all(session)
    assert (seen.changed, seen.notes) == ([], [])
    return len(session.ledger.nodes_up())


def run(cloud: Cloud, state: Path, *arguments: object) -> dict[str, float]:
    """Run one side in a new process; return its CPU seconds, peak MiB, count of nodes, and number of calls."""
    cloud.post("clear")
    mine = {"MULTICOMPUTE_STATE": f"sqlite:///{state}", "MULTICOMPUTE_CONFIG": os.devnull}
    environment = {**os.environ, **cloud.environment, **mine}
    # After the first run, users have compiled files.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1]) | {"calls": cloud.calls().total()}


def client(side: str, cloud: str, *counts: str) -> None:
    if side == "seed":
        seed(cloud, *map(int, counts))
        found = 0
    else:
        found = {"bare": bare, "ours": ours}[side](cloud)
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {"cpu": used.ru_utime + used.ru_stime, "mib": used.ru_maxrss / 1024, "found": found}
    print(json.dumps(figures))


def compare(name: str, clusters: int, nodes: int) -> str:
    with Cloud(name) as cloud, tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.db"
        run(cloud, state, "seed", name, clusters, nodes)
        rounds = [{side: run(cloud, state, side, name) for side in ("bare", "ours")} for _ in range(ROUNDS)]
    assert {figures["found"] for each in rounds for figures in each.values()} == {clusters * nodes}
    middle = {
        side: {figure: statistics.median(each[side][figure] for each in rounds) for figure in ("cpu", "mib", "calls")}
        for side in ("bare", "ours")
    }
    ratio = statistics.median(each["ours"]["cpu"] / each["bare"]["cpu"] for each in rounds)
    before, after = middle["bare"], middle["ours"]
    return (
        f"{name:6} {clusters:8} {clusters * nodes:6} {before['cpu']:8.2f} {after['cpu']:8.2f} {ratio:6.2f}"
        f" {before['calls']:7.0f} {after['calls']:7.0f} {before['mib']:8.0f} {after['mib']:8.0f}"
    )


def main(clusters: int, nodes: int) -> None:
    lines = [
        "refresh of every cluster, compared with a plain paginated listing; medians of CPU seconds of complete processes; peak MiB",
        "",
    ]
    lines.append("cloud  clusters  nodes   bare s   ours s  ratio   calls    ours bare MiB ours MiB")
    lines += [compare(name, clusters, nodes) for name in PLACES]
    text = "\n".join(lines)
    if (clusters, nodes) == (CLUSTERS, NODES):
        RESULTS.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    if sys.argv[1:2] and not sys.argv[1].isdigit():
        client(*sys.argv[1:])
    else:
        given = [int(argument) for argument in sys.argv[1:]]
        main(*given, *(CLUSTERS, NODES)[len(given) :])
