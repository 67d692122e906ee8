"""Measures the client's CPU and memory for a command on 256 nodes, next to asyncssh alone in the same run.

To reach: at most 1.3 times the CPU of asyncssh alone, and less than 200 MB of memory. The nodes are 32 real sshd on
127.0.0.1, eight connections each; they share the machine, so that only the client's CPU is compared, not the time.
Every measurement is a process of its own, alternating; medians. `Cluster.run` opens connections for each call, and asks
the nodes what they have when it first runs there; with asyncssh alone, that is to connect and to run a command.
"""

import asyncio
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

NODES = 256
SERVERS = 32
ROUNDS = 2
WARM = 1
LINES = 2000
RESULTS = Path(__file__).parent / "results" / "remote.txt"
COMMAND = ["printf", "%s", "done"]
STREAM = ["seq", "-f", "%g of the lines that a program writes while it trains", str(LINES)]
STEPS = ("connect and run", "run again", f"{LINES} lines each, streamed")


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def alone(hosts: list[dict[str, object]]) -> list[float]:
    """Do with asyncssh alone what `ours` does with this package."""
    import shlex

    import asyncssh

    key = asyncssh.read_private_key(str(hosts[0]["identity"]))
    slots = asyncio.Semaphore(32)
    per_server = {host["port"]: asyncio.Semaphore(8) for host in hosts}

    async def connect(host: dict[str, object]) -> asyncssh.SSHClientConnection:
        async with slots, per_server[host["port"]]:
            return await asyncssh.connect(
                str(host["address"]),
                int(str(host["port"])),
                username=str(host["user"]),
                client_keys=[key],
                agent_path=None,
                config=None,
                known_hosts=([asyncssh.import_public_key(str(host["host_key"]))], [], []),
                keepalive_interval=2.5,
            )

    marks = [cpu()]
    connections = await asyncio.gather(*(connect(host) for host in hosts))
    for step, count in enumerate((1, WARM, 1)):
        command = shlex.join(STREAM if step == 2 else COMMAND)
        for _ in range(count):
            done = await asyncio.gather(*(one.run(command, encoding=None) for one in connections))
            if step == 2:
                # By line and with the rank, as users see it.
                for rank, result in enumerate(done):
                    prefix = f"[{rank}] "
                    text = bytes(result.stdout or b"").decode("utf-8", "replace")
                    sys.stdout.write(prefix + text[:-1].replace("\n", f"\n{prefix}") + "\n")
            assert all(result.exit_status == 0 for result in done)
        marks.append(cpu())
    for one in connections:
        one.close()
    await asyncio.gather(*(one.wait_closed() for one in connections))
    return [after - before for before, after in itertools.pairwise(marks)]


def ours(hosts: list[dict[str, object]]) -> list[float]:
    from multicompute.remote.nodes import RemoteNodes
    from multicompute.remote.output import PrefixedOutput
    from multicompute.remote.target import SshHost, Target

    targets = [
        Target(
            rank,
            SshHost(
                str(host["address"]),
                int(str(host["port"])),
                str(host["user"]),
                Path(str(host["identity"])),
                str(host["host_key"]),
            ),
            name=f"node {rank}",
        )
        for rank, host in enumerate(hosts)
    ]
    # What only the first use imports is not the price of 256 nodes.
    import multicompute.remote._connections
    import multicompute.remote._execution  # noqa: F401 - loaded before the measurement begins

    marks = [cpu()]
    with RemoteNodes(targets) as nodes:
        for step, count in enumerate((1, WARM, 1)):
            for _ in range(count):
                output = PrefixedOutput(sys.stdout, sys.stderr) if step == 2 else None
                nodes.run(STREAM if step == 2 else COMMAND, output=output)
            marks.append(cpu())
    return [after - before for before, after in itertools.pairwise(marks)]


def through_cluster(hosts: list[dict[str, object]]) -> list[float]:
    """Do the same through `Cluster.run`, on a cluster of a fake cloud."""
    import multicompute.engine.running.on_nodes
    import multicompute.remote._connections
    import multicompute.remote._execution  # noqa: F401 - loaded before the measurement begins
    from multicompute.remote.target import SshHost, Target
    from tests.remote.clusters import up

    targets = [
        Target(
            rank,
            SshHost(
                str(host["address"]),
                int(str(host["port"])),
                str(host["user"]),
                Path(str(host["identity"])),
                str(host["host_key"]),
            ),
            name=f"node {rank}",
        )
        for rank, host in enumerate(hosts)
    ]
    with up(targets) as cluster:
        marks = [cpu()]
        for command in (COMMAND, COMMAND, STREAM):
            cluster.run(command, stream=None if command is STREAM else False)
            marks.append(cpu())
    return [after - before for before, after in itertools.pairwise(marks)]


def measure(kind: str, hosts: Path) -> dict[str, object]:
    """Measure in a process of its own, whose output goes nowhere."""
    command = [sys.executable, __file__, kind, str(hosts)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stderr.splitlines()[-1]))


def child(kind: str, hosts: list[dict[str, object]]) -> None:
    start = time.perf_counter()
    # asyncio, asyncssh and the cryptography library are loaded before the clock starts.
    import asyncssh  # noqa: F401 - loaded before the measurement begins

    do = {"alone": lambda hosts: asyncio.run(alone(hosts)), "ours": ours, "cluster": through_cluster}
    steps = do[kind](hosts)
    print(json.dumps({"steps": steps, "mib": peak_mib(), "seconds": time.perf_counter() - start}), file=sys.stderr)


def report(rounds: int = ROUNDS) -> str:
    import tempfile

    from tests.remote.hosts import started

    taken: dict[str, list[dict[str, object]]] = {"alone": [], "ours": [], "cluster": []}
    with started(SERVERS, isolated=False) as servers, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hosts.json"
        hosts = []
        for rank in range(NODES):
            host = servers[rank % SERVERS].target().host
            hosts.append(
                {
                    "address": host.address,
                    "port": host.port,
                    "user": host.user,
                    "identity": str(host.identity),
                    "host_key": host.host_key,
                }
            )
        path.write_text(json.dumps(hosts))
        for _ in range(rounds):
            for kind, results in taken.items():
                results.append(measure(kind, path))
    return table(taken)


def table(taken: dict[str, list[dict[str, object]]]) -> str:
    def median(kind: str, step: int) -> float:
        return statistics.median(run["steps"][step] for run in taken[kind])  # type: ignore[index] # read from JSON

    lines = [
        f"{NODES} nodes on {SERVERS} sshd of 127.0.0.1, {len(taken['ours'])} rounds; seconds of the client's CPU",
        "",
    ]
    lines += [f"{'':<32} {'asyncssh alone':>15} {'multicompute':>13} {'ratio':>6}"]
    sums = {"alone": 0.0, "ours": 0.0}
    for step, name in enumerate(STEPS):
        before, after = median("alone", step), median("ours", step)
        sums["alone"] += before
        sums["ours"] += after
        lines.append(f"{name:<32} {before:>15.2f} {after:>13.2f} {after / before:>6.2f}")
    lines.append(f"{'all':<32} {sums['alone']:>15.2f} {sums['ours']:>13.2f} {sums['ours'] / sums['alone']:>6.2f}")
    connected, run = median("alone", 0), median("alone", 1)
    compared = {
        "Cluster.run, the first time": (connected + run, 0),
        "Cluster.run, later": (connected, 1),
        f"Cluster.run, {LINES} lines each": (connected - run + median("alone", 2), 2),
    }
    for name, (before, step) in compared.items():
        after = median("cluster", step)
        lines.append(f"{name:<32} {before:>15.2f} {after:>13.2f} {after / before:>6.2f}")
    memory = {kind: max(float(str(run["mib"])) for run in runs) for kind, runs in taken.items()}
    lines.append(f"{'peak memory, MiB':<32} {memory['alone']:>15.0f} {max(memory['ours'], memory['cluster']):>13.0f}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
    else:
        text = report()
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text)
        print(text, end="")
