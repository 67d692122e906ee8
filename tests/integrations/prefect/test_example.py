"""The example of the documentation runs."""

import os
import subprocess
import sys
from pathlib import Path

from prefect.settings import get_current_settings

from multicompute import Cluster
from multicompute.testing import LocalClouds

ROOT = Path(__file__).parents[3]


def test_the_example_runs_and_leaves_nothing(clouds: LocalClouds) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "prefect" / "train_fleet.py")],
        env={**os.environ, **get_current_settings().to_environment_variables(exclude_unset=True)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy 0.93" in done.stdout
    assert {each.tags["prefect-flow"] for each in Cluster.list(include_ended=True)} >= {"pipeline"}
    assert clouds.alive() == []
