"""The cost of a refresh of the offer tables from local clouds: calls, CPU time, memory; and of plans on refreshed tables.

Run: python benchmarks/catalog_refresh.py [CLOUD ...]. Each refresh is a new process with an empty data folder, in turns: everything, and
one accelerator. CPU and memory are those of the refreshing process; the local clouds run in another one. "Answers" is the time on a
network with 50 ms per round trip, if every call of a cloud came after the other; clouds are asked at once, so the slowest one counts.
The bounds: under 300 MB; a plan on refreshed tables at most 0.5 ms when warm, and at most 5 % slower than on the packaged tables when cold.
Cold processes alternate, and the ratio is the median of the ratios within a round.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ACCELERATOR = "h100"
ROUNDS, COLD_ROUNDS = 3, 25
ROUND_TRIP = 0.05
PLAN = ("plan", "--gpus", "64", "--type", "h100", "--json")
RESULTS = Path(__file__).parent / "results" / "catalog_refresh.txt"
SCRIPT = str(Path(sys.executable).parent / "multicompute")


def environment(folder: str) -> dict[str, str]:
    """Return variables with a data folder of its own; local clouds keep theirs."""
    mine = {
        "XDG_DATA_HOME": folder,
        "MULTICOMPUTE_STATE": f"sqlite:///{folder}/state.db",
        "MULTICOMPUTE_CONFIG": os.devnull,
    }
    variables = {**os.environ, **mine}
    # After the first run, users have compiled files.
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    return variables


def peak_mib() -> float:
    """Return the peak of this process's memory. Not `ru_maxrss`, which a process inherits from the one that started it."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def refresh_once(clouds: list[str], accelerators: list[str]) -> None:
    """Refresh, and print what it took as JSON."""
    from multicompute import catalog

    started = time.perf_counter()
    report = catalog.refresh(clouds or None, None, accelerators or None)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "seconds": seconds,
        "cpu": used.ru_utime + used.ru_stime,
        "mib": peak_mib(),
        "calls": {name: each.call_count for name, each in report.clouds.items()},
        "offers": sum(each.offers for each in report.clouds.values()),
        "failed": [f"{cloud} {each.region}: {each.error}" for cloud, each in report.errors],
    }
    print(json.dumps(found))


def run_refresh(folder: str, clouds: list[str], accelerators: list[str]) -> dict[str, object]:
    command = [sys.executable, __file__, "refresh", ",".join(clouds), ",".join(accelerators)]
    done = subprocess.run(command, env=environment(folder), stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["failed"], found["failed"]
    return found


def refreshes(clouds: list[str]) -> list[str]:
    lines = ["                  seconds   CPU s      MB   calls  answers s  calls of each cloud"]
    for title, accelerators in (("everything", []), (ACCELERATOR, [ACCELERATOR])):
        rounds = []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                rounds.append(run_refresh(folder, clouds, accelerators))
        middle = {key: statistics.median(each[key] for each in rounds) for key in ("seconds", "cpu", "mib")}
        calls = rounds[-1]["calls"]
        assert isinstance(calls, dict)
        slowest = max(calls.values()) * ROUND_TRIP
        each = ", ".join(f"{name} {count}" for name, count in calls.items())
        lines.append(
            f"{title:<15} {middle['seconds']:>9.2f} {middle['cpu']:>7.2f} {middle['mib']:>7.0f} {sum(calls.values()):>7}"
            f" {slowest:>10.1f}  {each}"
        )
        assert middle["mib"] < 300
    return lines


def cold(folder: str) -> float:
    """Return the CPU seconds of a cold plan."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([SCRIPT, *PLAN], env=environment(folder), stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def warm(folder: str) -> float:
    """Return the milliseconds of a warm plan, measured in a process of its own."""
    command = [sys.executable, __file__, "warm"]
    return float(subprocess.run(command, env=environment(folder), stdout=subprocess.PIPE, text=True, check=True).stdout)


def measure_warm() -> None:
    from multicompute import Cluster

    times = []
    for _ in range(300):
        start = time.perf_counter()
        Cluster.plan(gpus=64, type="h100")
        times.append(time.perf_counter() - start)
    print(1000 * statistics.median(times[20:]))


def plans(clouds: list[str]) -> list[str]:
    """Compare plans on the packaged tables with plans on tables that a refresh has just written."""
    with tempfile.TemporaryDirectory() as packaged, tempfile.TemporaryDirectory() as refreshed:
        run_refresh(refreshed, clouds, [])
        for folder in (packaged, refreshed):
            cold(folder)
        rounds = [(cold(packaged), cold(refreshed)) for _ in range(COLD_ROUNDS)]
        before, after = warm(packaged), warm(refreshed)
    ratio = statistics.median(new / old for old, new in rounds)
    middle = [1000 * statistics.median(column) for column in zip(*rounds, strict=True)]
    return [
        "plan for 64 h100         packaged  refreshed  ratio",
        f"cold, ms of CPU time    {middle[0]:>9.1f} {middle[1]:>10.1f} {ratio:>6.3f}",
        f"warm, ms                {before:>9.3f} {after:>10.3f} {after / before:>6.3f}",
    ]


def main(clouds: list[str]) -> None:
    from multicompute.testing import local_clouds

    with local_clouds():
        lines = [*refreshes(clouds), "", *plans(clouds)]
    text = "\n".join(lines)
    if not clouds:
        RESULTS.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["refresh"]:
        refresh_once(*([name for name in argument.split(",") if name] for argument in sys.argv[2:4]))
    elif sys.argv[1:2] == ["warm"]:
        measure_warm()
    else:
        main(sys.argv[1:])
