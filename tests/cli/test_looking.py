"""Commands that look at clouds: what was not asked is never reported as clean."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from multicompute import Cluster
from multicompute.provider import Configured, Settings
from multicompute.session import Session, use_session
from multicompute.testing import FakeCloud
from multicompute.testing.fake.session import FakePlugin

Run = Callable[..., Any]
NO_CREDENTIALS = "no credentials found"
LOOKING = {
    "reap": ("reap",),
    "reap --dry-run": ("reap", "--dry-run"),
    "reconcile": ("reconcile",),
    "reconcile --dry-run": ("reconcile", "--dry-run"),
    "ls --live": ("ls", "--live"),
    "show": ("show", "train-1"),
    "nodes": ("nodes", "train-1"),
    "watch --once": ("watch", "train-1", "--once"),
    "supervise --once": ("supervise", "--once"),
    "doctor": ("doctor",),
}
CLEAN = ("no live clusters", "no resources left", "nothing of ours")


class _Unconfigured(FakePlugin):
    """The plug-in of a cloud without credentials."""

    def configured(self, settings: Settings) -> Configured:
        return Configured(ok=False, why=NO_CREDENTIALS)

    def open(self, settings: Settings) -> Any:
        from multicompute.errors import AuthError

        raise AuthError(f"{self.name}: {NO_CREDENTIALS}", provider=self.name)


@contextmanager
def without_credentials(cloud: FakeCloud, *names: str) -> Iterator[None]:
    """Use the same ledger without credentials for some clouds."""
    plugins = {**cloud.session.plugins}
    for name in names:
        plugins[name] = _Unconfigured(name, tables=plugins[name].tables, provider=cloud[name])
    session = Session(config=cloud.session.config, plugins=plugins, clock=cloud.clock, random=cloud.session.random)
    try:
        with use_session(session):
            yield
    finally:
        session.close()


@pytest.fixture
def cluster(fake_cloud: FakeCloud) -> Iterator[Cluster]:
    cluster = Cluster.request(gpus=16, type="h100", name="train-1", clouds=["aws"], ttl="10h")
    yield cluster
    cluster.terminate()


@pytest.mark.parametrize("command", LOOKING)
def test_a_cloud_with_a_live_cluster_and_no_credentials_is_status_6_and_is_named(
    run: Run, fake_cloud: FakeCloud, cluster: Cluster, command: str
) -> None:
    with without_credentials(fake_cloud, "aws"):
        done = run(*LOOKING[command])
    text = done.out + done.err
    assert done.status == 6
    assert "aws" in text and NO_CREDENTIALS in text
    assert not any(words in text for words in CLEAN)


@pytest.mark.parametrize(
    "command", ["reap", "reap --dry-run", "reconcile", "reconcile --dry-run", "supervise --once", "doctor"]
)
def test_without_any_credentials_an_empty_ledger_is_not_clean_either(
    run: Run, fake_cloud: FakeCloud, command: str
) -> None:
    with without_credentials(fake_cloud, *fake_cloud.providers):
        done = run(*LOOKING[command])
    assert done.status == 6
    assert all(name in done.out + done.err for name in fake_cloud.providers)
    assert "no resources left" not in done.err


@pytest.mark.parametrize(
    ("command", "call"),
    [
        *((command, "resources") for command in ("reap", "reconcile --dry-run", "supervise --once")),
        *((command, "nodes") for command in ("reconcile", "reconcile --dry-run", "ls --live", "show", "nodes")),
        *((command, "nodes") for command in ("watch --once", "supervise --once")),
    ],
)
def test_a_cloud_that_gives_no_answer_is_status_6_and_is_named(
    run: Run, fake_cloud: FakeCloud, cluster: Cluster, command: str, call: str
) -> None:
    fake_cloud.aws.faults.fail(call, "denied", times=None)
    done = run(*LOOKING[command])
    fake_cloud.aws.faults.clear()
    assert done.status == 6
    assert "not allowed" in done.out + done.err


@pytest.mark.parametrize("command", LOOKING)
def test_status_0_means_that_every_cloud_was_asked(
    run: Run, fake_cloud: FakeCloud, cluster: Cluster, command: str
) -> None:
    before = fake_cloud.aws.faults.count()
    assert run(*LOOKING[command]).status == 0
    assert fake_cloud.aws.faults.count() > before


def test_a_reap_says_what_is_not_due_and_what_it_asked(run: Run, fake_cloud: FakeCloud, cluster: Cluster) -> None:
    done = run("reap")
    assert "not due" in done.out and "train-1" in done.out
    asked = ", ".join(sorted(fake_cloud.providers))
    assert f"asked: {asked}" in done.err
    document = run("reap", "--json").document
    assert (document["not_due"], document["asked"]) == (["train-1"], sorted(fake_cloud.providers))


def test_a_dry_run_reports_only_clusters_as_live_that_the_cloud_has(
    run: Run, fake_cloud: FakeCloud, cluster: Cluster
) -> None:
    assert run("reconcile", "--dry-run", "--json").document["clusters"] == ["train-1"]
    with without_credentials(fake_cloud, "aws"):
        document = run("reconcile", "--dry-run", "--json").document
        assert (document["clusters"], list(document["unknown"]), list(document["not_asked"])) == (
            [],
            ["train-1"],
            ["aws"],
        )
    fake_cloud.advance("1h")
    for node in cluster.nodes:
        fake_cloud.aws.preempt(node.id)
    fake_cloud.advance("1h")
    done = run("reconcile", "--dry-run", "--json")
    assert (done.status, done.document["terminated"]) == (9, ["train-1"])


def test_a_leak_counts_more_than_a_cloud_that_was_not_asked(run: Run, fake_cloud: FakeCloud) -> None:
    from tests.cli.test_recovery import launch_unrecorded

    launch_unrecorded(fake_cloud)
    fake_cloud.gcp.faults.fail("resources", "denied", times=1)
    assert run("reconcile", "--dry-run").status == 9
    assert run("reconcile", "--terminate").status == 0


def test_an_unused_cloud_without_credentials_is_named_and_no_failure(run: Run, fake_cloud: FakeCloud) -> None:
    with without_credentials(fake_cloud, "azure"):
        done = run("reap")
    assert done.status == 0
    assert "not set up here: azure" in done.err


def test_costs_say_that_no_cloud_was_asked(run: Run, cluster: Cluster) -> None:
    assert "no cloud was asked" in run("cost").err


# A request that does not wait

UP = (
    "up",
    "--gpus",
    "16",
    "--type",
    "h100",
    "--cloud",
    "aws",
    "--no-progress",
    "--name",
    "later",
    "--no-wait",
    "--yes",
)


@pytest.mark.parametrize(
    "command", [("show", "later"), ("ls", "--live"), ("watch", "later", "--once"), ("wait", "later")]
)
def test_a_cluster_that_was_not_waited_for_is_moved_on_by_every_command_that_looks(
    run: Run, fake_cloud: FakeCloud, command: tuple[str, ...]
) -> None:
    up = run(*UP)
    assert up.status == 0
    assert "PROVISIONING" in up.out
    assert "`multicompute wait later`" in up.err
    fake_cloud.advance("10m")
    done = run(*command)
    assert done.status == 0
    assert "READY" in done.out
    assert run("ls", "--json").document[0]["state"] == "READY"
    assert len(fake_cloud.aws.running_ids()) == 2
    assert run("down", "later", "--yes").status == 0


def test_a_cluster_whose_nodes_do_not_run_yet_stays_and_says_how_to_wait(run: Run, fake_cloud: FakeCloud) -> None:
    run(*UP)
    done = run("show", "later")
    assert done.status == 0
    assert "`multicompute wait later`" in done.err or "READY" in done.out
    assert run("wait", "later", "--json").document["state"] == "READY"
    assert run("wait", "later").status == 0
    assert run("down", "later", "--yes").status == 0
    assert run("wait", "later").status == 8
    assert run("wait", "nobody").status == 8


def test_a_slice_shows_the_number_of_its_chips(run: Run, fake_cloud: FakeCloud) -> None:
    done = run("up", "--type", "v5p-16", "--no-progress", "--name", "slice", "--json")
    assert done.document["gpus"] == 8
    assert run("show", "slice", "--json").document["gpus"] == 8
    assert "8 v5p-16" in run("show", "slice").out
    assert run("down", "slice", "--yes").status == 0
    assert run("show", "slice", "--json").document["gpus"] == 8
