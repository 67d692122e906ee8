"""Measures cold starts against an import of pydantic: alternating processes, medians of the ratios within a round.

The bounds: importing `Cluster` at most 1.5 times `from pydantic import BaseModel`; a cold `offers` or `plan` at most 2.2
times; `--help`, `ls` and `nodes` at most 1.2 times. `nodes` of a live cluster also asks its cloud, with the cloud's SDK;
here the cluster has ended.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from multicompute.ledger import ClusterRecord, Ledger, NodeRecord
from multicompute.node import ClusterState
from multicompute.spec import ClusterSpec
from multicompute.units import parse_instant

ROUNDS = 25
PEER = "from pydantic import BaseModel"
RESULTS = Path(__file__).parent / "results" / "imports.txt"
BOUNDS = {"Cluster": 1.5, "offers": 2.2, "plan": 2.2, "--help": 1.2, "ls": 1.2, "nodes": 1.2}
"""The name of a measurement -> the highest allowed ratio to the peer."""


def commands() -> dict[str, tuple[list[str], float | None]]:
    """Return what is measured, by name, with its bound; the second is the peer."""
    script = str(Path(sys.executable).parent / "multicompute")
    python = [sys.executable, "-c"]
    found: dict[str, tuple[list[str], float | None]] = {
        "python alone": ([*python, "pass"], None),
        PEER: ([*python, PEER], None),
        "import multicompute": ([*python, "import multicompute"], None),
        "from multicompute import Cluster": ([*python, "from multicompute import Cluster"], BOUNDS["Cluster"]),
        "from multicompute import ClusterSpec": ([*python, "from multicompute import ClusterSpec"], None),
    }
    lines = ["offers h100", "plan --gpus 64 --type h100", "--help", "ls", "nodes train-1", "plan --help"]
    for line in lines:
        bound = BOUNDS.get(line.partition(" ")[0]) if line != "plan --help" else None
        found[f"multicompute {line}"] = ([script, *line.split()], bound)
    return found


def measure(command: list[str], environment: Mapping[str, str]) -> float:
    """Return the seconds from start to end of one process."""
    start = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def write_ledger(state: str) -> None:
    """Write a ledger with a live cluster of one node, and one that has ended."""
    ledger, now = Ledger(state), parse_instant("2026-11-24T00:00:00Z")
    spec = ClusterSpec(gpus=8, type="h100", tags={"team": "nlp"})
    for name, cluster_state in (("train-1", ClusterState.TERMINATED), ("train-2", ClusterState.READY)):
        record = ClusterRecord(name, name, cluster_state, "me", spec.to_dict(), "{}", now, provider="aws")
        place = ("aws", "p5.48xlarge", "us-east-1", "us-east-1a")
        node = NodeRecord(f"i-{name}", 0, "token", *place, "running", now, accelerators=8.0, hourly_cost=55.04)
        ledger.adopt(record, (), (node,))
    ledger.close()


def report(rounds: int = ROUNDS) -> str:
    """Return the table of medians, and of the medians of the ratios to the peer in the same round."""
    measured = commands()
    taken: dict[str, list[float]] = {name: [] for name in measured}
    with tempfile.TemporaryDirectory() as folder:
        state = f"sqlite:///{folder}/state.db"
        write_ledger(state)
        environment = {**os.environ, "MULTICOMPUTE_STATE": state, "MULTICOMPUTE_CONFIG": os.devnull}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # users have compiled files after the first run
        for turn in range(rounds + 1):
            for name, (command, _) in measured.items():
                seconds = measure(command, environment)
                if turn:  # the first round fills caches
                    taken[name].append(seconds)
    lines = [f"Python {sys.version.split()[0]}, {rounds} alternating rounds; medians of complete processes", ""]
    lines += [f"{'':<48} {'ms':>7} {'x pydantic':>10} {'at most':>8}"]
    for name, (_, bound) in measured.items():
        ratio = statistics.median(own / peer for own, peer in zip(taken[name], taken[PEER], strict=True))
        limit = f"{bound:>8.2f}" if bound else ""
        lines.append(f"{name:<48} {1000 * statistics.median(taken[name]):>7.1f} {ratio:>10.2f} {limit}".rstrip())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = report()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text)
    print(text, end="")
