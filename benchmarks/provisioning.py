"""The cost of a request for the client, compared with the minimal boto3 flow: CPU time, API calls, memory, time to the next attempt.

Run: python benchmarks/provisioning.py [NODES ...]. Both sides use the same local AWS, which runs in its own process. Each run is a
new process, the sides alternate, and the figures are medians. Targets: at most 1.3 times the CPU time, and a number of additional
calls that does not grow with the number of nodes.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Self

SIZES = (8, 64, 256, 1000)
TYPE = "g6.12xlarge"
ACCELERATORS = 4
ZONE, REGION = "us-east-1a", "us-east-1"
RESULTS = Path(__file__).parent / "results" / "provisioning.txt"


def bare(nodes: int, image: str) -> None:
    """Run the minimal flow: launch, list until all instances run, terminate, list."""
    import boto3

    ec2 = boto3.client("ec2", region_name=REGION)
    launched = ec2.run_instances(
        ImageId=image,
        InstanceType=TYPE,
        MinCount=nodes,
        MaxCount=nodes,
        Placement={"AvailabilityZone": ZONE},
        TagSpecifications=[
            {"ResourceType": kind, "Tags": [{"Key": "cluster", "Value": "bare"}, {"Key": "owner", "Value": "me"}]}
            for kind in ("instance", "volume", "network-interface")
        ],
    )
    ids = [instance["InstanceId"] for instance in launched["Instances"]]
    pages = ec2.get_paginator("describe_instances")

    def states() -> list[str]:
        found = pages.paginate(Filters=[{"Name": "tag:cluster", "Values": ["bare"]}])
        return [i["State"]["Name"] for page in found for r in page["Reservations"] for i in r["Instances"]]

    while states().count("running") < nodes:
        time.sleep(0.05)
    ec2.terminate_instances(InstanceIds=ids)
    while any(state != "terminated" for state in states()):
        time.sleep(0.05)


def ours(nodes: int, _image: str) -> None:
    """Do the same through the public API."""
    from multicompute import Cluster

    cluster = Cluster.request(
        gpus=nodes * ACCELERATORS, type=TYPE, regions=[f"aws:{REGION}"], ttl="1h", progress=False, interconnect="any"
    )
    assert len(cluster.nodes) == nodes
    cluster.terminate()


def failover(_nodes: int, _image: str) -> None:
    """Measure the time from the answer "no capacity" to the launch in the next zone, without calls of the cloud."""
    import botocore.endpoint

    from multicompute import Cluster

    ends: list[float] = []
    gaps: list[float] = []
    send = botocore.endpoint.Endpoint._send_request

    def timed(self: object, *arguments: object) -> object:
        if ends:
            gaps.append(time.perf_counter() - ends[-1])
        try:
            return send(self, *arguments)
        finally:
            ends.append(time.perf_counter())

    botocore.endpoint.Endpoint._send_request = timed
    attempts: list[int] = []

    def watch(event: object) -> None:
        if getattr(event, "kind", "") == "capacity":
            attempts.append(len(gaps))

    Cluster.request(gpus=8, type="h100", nodes=1, regions=[f"aws:{REGION}"], ttl="1h", progress=watch).terminate()
    # The gap that follows the answer of each failed attempt.
    print(json.dumps([gaps[index] * 1e3 for index in attempts]))


class Cloud:
    """A local cloud in its own process."""

    def __init__(self, name: str = "aws") -> None:
        self.name = name

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "serve", self.name], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.endpoint, self.environment = json.loads(self.process.stdout.readline())
        self.url = self.endpoint + "/_local/"
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(20)

    def post(self, name: str, **values: object) -> None:
        """Send a command to its admin interface."""
        urllib.request.urlopen(self.url + name, data=json.dumps(values).encode()).read()

    def calls(self) -> "Counter[str]":
        """Return the number of calls since the last `clear`, by operation."""
        with urllib.request.urlopen(self.url + "calls") as answer:
            return Counter(call["operation"] for call in json.load(answer))


def serve(name: str) -> None:
    from multicompute.plugins import discover

    cloud = discover()[name].local()
    cloud.start()
    print(json.dumps([cloud.endpoint_url, dict(cloud.environment)]), flush=True)
    sys.stdin.read()
    cloud.stop()


def run(
    cloud: Cloud, side: str, nodes: int, image: str = "", *, script: str = __file__
) -> tuple[dict[str, float], "Counter[str]", str]:
    """Run one flow in a new process; return its CPU seconds and peak MiB, its calls, and its output."""
    cloud.post("clear")
    with tempfile.TemporaryDirectory() as folder:
        mine = {"MULTICOMPUTE_STATE": f"sqlite:///{folder}/state.db", "MULTICOMPUTE_CONFIG": os.devnull}
        command = [sys.executable, script, side, str(nodes), image]
        environment = {**os.environ, **cloud.environment, **mine}
        # After the first run, users have compiled files.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    *printed, last = done.stdout.splitlines()
    return json.loads(last), cloud.calls(), "\n".join(printed)


def client(side: str, nodes: int, image: str) -> None:
    {"bare": bare, "ours": ours, "failover": failover}[side](nodes, image)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "mib": used.ru_maxrss / 1024}))


def compare(cloud: Cloud, nodes: int, rounds: int) -> str:
    """Return a line of the table, with the number of calls in addition to those of the minimal flow."""
    image = "ami-12c6146b"  # one that moto ships
    times: dict[str, list[dict[str, float]]] = {"bare": [], "ours": []}
    calls: dict[str, Counter[str]] = {}
    for _ in range(rounds):
        for side, runs in times.items():
            figures, calls[side], _printed = run(cloud, side, nodes, image)
            runs.append(figures)
    cpu = {side: statistics.median(each["cpu"] for each in runs) for side, runs in times.items()}
    mib = {side: statistics.median(each["mib"] for each in runs) for side, runs in times.items()}
    ratio = statistics.median(o["cpu"] / b["cpu"] for o, b in zip(times["ours"], times["bare"], strict=True))
    more = calls["ours"].total() - calls["bare"].total()
    return (
        f"{nodes:6} {cpu['bare']:9.3f} {cpu['ours']:9.3f} {ratio:7.2f} {mib['bare']:9.0f} {mib['ours']:9.0f}"
        f" {calls['bare'].total():7} {calls['ours'].total():7} {more:+6}"
    )


def main(sizes: tuple[int, ...]) -> None:
    lines = [f"request + terminate of N {TYPE} against the same local AWS; medians of complete client processes", ""]
    lines.append("     N   bare s    ours s   ratio  bare MiB  ours MiB   calls    ours   more")
    with Cloud() as cloud:
        for nodes in sizes:
            lines.append(compare(cloud, nodes, rounds=7 if nodes < 500 else 5))
        _figures, made, _printed = run(cloud, "ours", sizes[0])
        lines += ["", "our calls: " + ", ".join(f"{name} {count}" for name, count in made.items())]
        for zone in "abc":
            cloud.post("capacity", instance_type="p5.48xlarge", place=f"{REGION}{zone}", nodes=0)
        _figures, _made, printed = run(cloud, "failover", 1)
        gaps = json.loads(printed)
        lines += [
            "",
            f"from the answer to a failed attempt to the next call: {', '.join(f'{gap:.1f}' for gap in gaps)} ms",
        ]
    text = "\n".join(lines)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
    elif sys.argv[1:2] and sys.argv[1] in ("bare", "ours", "failover"):
        client(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    else:
        main(tuple(map(int, sys.argv[1:])) or SIZES)
