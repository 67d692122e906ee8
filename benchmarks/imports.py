"""What a cold start costs beside that of a library that everybody has: whole processes, alternating, medians.

To reach: importing Cluster at most 1.5 times, and a cold `plan` or `offers` at most 2 times `from pydantic import BaseModel`.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 25
PEER = "from pydantic import BaseModel"
RESULTS = Path(__file__).parent / "results" / "imports.txt"


def commands() -> dict[str, list[str]]:
    """What is measured, by name; the first is Python alone, the second what the others are held against."""
    script = str(Path(sys.executable).parent / "multicompute")
    python = [sys.executable, "-c"]
    return {
        "python alone": [*python, "pass"],
        PEER: [*python, PEER],
        "import multicompute": [*python, "import multicompute"],
        "from multicompute import Cluster": [*python, "from multicompute import Cluster"],
        "multicompute offers h100 --json": [script, "offers", "h100", "--json"],
        "multicompute plan --gpus 64 --type h100 --json": [script, "plan", "--gpus", "64", "--type", "h100", "--json"],
        "multicompute --help": [script, "--help"],
    }


def measure(command: list[str], environment: dict[str, str]) -> float:
    """Seconds from start to end of one process."""
    start = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def report(rounds: int = ROUNDS) -> str:
    """The table of medians and of their ratios to the peer."""
    taken: dict[str, list[float]] = {name: [] for name in commands()}
    with tempfile.TemporaryDirectory() as folder:
        state = f"sqlite:///{folder}/state.db"
        environment = {**os.environ, "MULTICOMPUTE_STATE": state, "MULTICOMPUTE_CONFIG": f"{folder}/none.toml"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # users have compiled files after the first run
        for turn in range(rounds + 1):
            for name, command in commands().items():
                seconds = measure(command, environment)
                if turn:  # the first round fills caches
                    taken[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    lines = [f"Python {sys.version.split()[0]}, {rounds} rounds, alternating; median of whole processes", ""]
    lines += [f"{'':<48} {'ms':>7} {'x pydantic':>10}"]
    lines += [f"{name:<48} {1000 * value:>7.1f} {value / medians[PEER]:>10.2f}" for name, value in medians.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = report()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text)
    print(text, end="")
