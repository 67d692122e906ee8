"""The node that is blamed when mpirun fails."""

from types import SimpleNamespace
from typing import cast

import pytest

from multicompute.errors import RunError
from multicompute.remote.launchers.job import Job
from multicompute.remote.launchers.mpirun import Mpirun, attributed
from multicompute.remote.results import RunResult, error_of

JOB = cast("Job", SimpleNamespace(nodes=SimpleNamespace(name=lambda rank: f"node{rank}")))
NOTICE = """prterun detected that one or more processes exited with non-zero status, thus causing
the job to be terminated. The first process to do so was:

   Process name: [prterun-host0-7@1,3]
   Exit code:    5
"""


def blamed(stderr: str, *, options: Mpirun | None = None) -> RunError:
    failed = RunResult(0, 5, stderr=stderr)
    return attributed(error_of(failed, [failed], name="node0"), JOB, [2, 2, 2], options or Mpirun())


@pytest.mark.parametrize(
    "stderr",
    [
        f"[1,0]<stderr>: a warning\n[1,3]<stderr>: the mesh is broken\n{NOTICE}",
        # The notice is missing, and only one process has written to stderr.
        "[1,3]<stderr>: a traceback\n[1,3]<stderr>: the mesh is broken\n",
    ],
    ids=["notice", "no notice"],
)
def test_the_node_of_the_process_that_failed_is_blamed(stderr: str) -> None:
    error = blamed(stderr)
    assert error.rank == 1
    assert "MPI process 3 failed with status 5" in str(error)
    assert "the mesh is broken" in str(error)


def test_without_a_notice_nobody_is_blamed_if_several_processes_have_written() -> None:
    error = blamed("[1,0]<stderr>: a warning\n[1,3]<stderr>: the mesh is broken\n")
    assert error.rank == 0
    assert "exit status 5" in str(error)


def test_with_a_mapping_of_the_user_s_own_no_node_is_blamed() -> None:
    assert blamed(NOTICE, options=Mpirun(options=("--map-by", "numa"))).rank == 0
