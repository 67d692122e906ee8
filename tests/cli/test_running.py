"""`run`, `put`, `get`, `ssh` and the launchers without a node: wrong usage, and clusters on which nothing can run."""

from collections.abc import Callable, Iterator

import pytest

from multicompute import Cluster
from multicompute.testing import fake_cloud
from tests.cli.conftest import Done

Run = Callable[..., Done]


@pytest.fixture(autouse=True)
def _cloud() -> Iterator[None]:
    with fake_cloud("aws"):
        yield


def test_a_command_is_needed(run: Run) -> None:
    for done in (
        run("run", "gang"),
        run("torchrun", "gang"),
        run("jax", "gang", "--"),
        run("mpirun", "gang"),
        run("ray", "gang"),
    ):
        assert done.status == 2
        assert "no command given (write it after --" in done.err


def test_a_cluster_that_does_not_exist_is_an_error(run: Run) -> None:
    for done in (
        run("run", "none", "--", "true"),
        run("put", "none", ".", "code"),
        run("get", "none", "logs", "results"),
        run("ssh", "none"),
        run("torchrun", "none", "--", "train.py"),
        run("jax", "none", "--", "train.py"),
        run("mpirun", "none", "--", "a.out"),
        run("ray", "none", "--", "true"),
    ):
        assert done.status == 8
        assert "none: no cluster of this name" in done.err


def test_nothing_runs_on_a_cluster_that_is_not_up(run: Run) -> None:
    Cluster.request(gpus=8, type="h100", name="early", wait=False)
    for done in (run("run", "early", "--", "true"), run("ssh", "early"), run("jax", "early", "--", "train.py")):
        assert done.status == 8
        assert "early: nothing can run on it: it is PROVISIONING" in done.err
        assert "`multicompute wait early` waits until it is READY" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "gang", "--env", "A", "--", "true"), "'A' is not a variable; write --env NAME=VALUE"),
        (("run", "gang", "--rank", "x", "--", "true"), "--rank"),
        (("run", "gang", "--timeout", "soon", "--", "true"), "--timeout"),
        (("run", "gang", "--input", "/none/x", "--", "true"), "--input /none/x: can't be read"),
        (("run", "gang", "--rank", "7", "--", "true"), "gang: has no rank 7 (its ranks are 0 to 1)"),
        (("run", "gang", "--env", "1x=y", "--", "true"), "'1x' can't be the name of a variable"),
        (("torchrun", "gang", "--nproc-per-node", "some", "--", "x.py"), "'some' is neither a number nor auto"),
        (("ssh", "gang", "7"), "gang: has no rank 7 (its ranks are 0 to 1)"),
        (("ray", "gang", "--within", "soon", "--", "true"), "within"),
    ],
)
def test_wrong_usage_is_refused_before_a_node_is_asked(run: Run, arguments: tuple[str, ...], message: str) -> None:
    Cluster.request(gpus=16, type="h100", gpus_per_node=8, name="gang")
    done = run(*arguments)
    assert done.status == 2
    assert message in done.err
