"""Whom an error blames, and what it says."""

import pytest

from multicompute.errors import HostKeyError, MulticomputeError, RunError, RunTimeout
from multicompute.remote.results import (
    Outcome,
    RunResult,
    error_of,
    first_culprit,
)


def failed(rank: int, *, stderr: str = "", outcome: Outcome = "exited", error: str = "", status: int = 1) -> RunResult:
    return RunResult(rank, status, stderr=stderr, seconds=12.3, outcome=outcome, error=error)


def test_where_all_is_fine_there_is_no_one_to_blame() -> None:
    assert first_culprit([RunResult(0, 0), RunResult(1, 0)]) is None


def test_the_first_that_failed_is_to_blame() -> None:
    culprit = first_culprit([RunResult(0, 0), failed(2, status=3), failed(1)])
    assert culprit is not None and culprit.rank == 2


def test_ranks_that_we_stopped_are_not_to_blame() -> None:
    culprit = first_culprit([failed(0, outcome="stopped", status=137), failed(1)])
    assert culprit is not None and culprit.rank == 1


def test_a_lost_node_is_to_blame_before_its_peers_that_noticed_first() -> None:
    culprit = first_culprit([failed(0, stderr="Connection reset"), failed(1, outcome="lost", error="lost")])
    assert culprit is not None and culprit.rank == 1


@pytest.mark.parametrize(
    "line",
    [
        "RuntimeError: Connection closed by peer [10.0.0.2]:36541",
        "ConnectionResetError: [Errno 104] Connection reset by peer",
        "torch.distributed.DistNetworkError: Broken pipe",
        "Terminating process because the JAX distributed service detected fatal errors: coordination service",
    ],
)
def test_a_rank_that_reports_the_failure_of_a_peer_is_blamed_last(line: str) -> None:
    culprit = first_culprit([failed(0, stderr=line), failed(1, stderr="ValueError: boom")])
    assert culprit is not None and culprit.rank == 1


def test_a_peer_is_recognised_below_the_report_that_torchrun_prints() -> None:
    report = "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n" + "=====\n" * 30
    peer = "[rank0]: RuntimeError: gloo: Connection closed by peer\n" + report
    culprit = first_culprit([failed(0, stderr=peer), failed(1, stderr="[rank1]: ValueError: boom\n" + report)])
    assert culprit is not None and culprit.rank == 1


def test_the_error_names_rank_status_and_last_lines() -> None:
    results = [failed(2, stderr="first\n\nalmost last\nlast\n\n", status=3), failed(0, outcome="stopped")]
    error = error_of(results[0], results, name="rank 2 (10.0.0.3)")
    assert str(error) == (
        "rank 2 (10.0.0.3): exit status 3 after 12 s; 1 other rank was stopped\n  almost last\n  last"
    )
    assert error.rank == 2
    assert [result.rank for result in error.results] == [0, 2]
    assert isinstance(error, MulticomputeError)


def test_of_a_traceback_the_exception_is_shown() -> None:
    stderr = "Traceback\n  File\n[rank1]: ValueError: boom\ntorch.distributed.elastic.E: x\n====="
    assert str(error_of(failed(1, stderr=stderr), [], name="rank 1")).endswith("s\n  [rank1]: ValueError: boom")


def test_stdout_is_shown_where_stderr_is_empty() -> None:
    result = RunResult(0, 1, stdout="only this\n")
    assert str(error_of(result, [result], name="rank 0")).endswith("\n  only this")


def test_a_message_stays_short() -> None:
    result = failed(0, stderr="x" * 500 + "\n" + "y" * 500)
    assert len(str(error_of(result, [result], name="rank 0 (10.0.0.1)"))) <= 300


def test_a_timeout_and_a_changed_host_key_are_errors_of_their_own() -> None:
    late = failed(1, outcome="timed_out", error="still running after 60 s; ended")
    error = error_of(late, [late, failed(0, outcome="timed_out")], name="rank 1 (x)")
    assert isinstance(error, RunTimeout) and isinstance(error, TimeoutError)
    assert str(error) == "rank 1 (x) and 1 other: still running after 60 s; ended"
    untrusted = failed(1, outcome="untrusted", error="the host key is not the pinned one")
    assert isinstance(error_of(untrusted, [untrusted], name="rank 1"), HostKeyError)
    assert issubclass(HostKeyError, RunError)


def test_a_command_is_fine_only_if_it_exited_with_zero() -> None:
    assert RunResult(0, 0).is_ok
    assert not RunResult(0, 1).is_ok
    assert not RunResult(0, 0, outcome="stopped").is_ok
