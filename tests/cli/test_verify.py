"""`verify`: the question before it, the limit, the report, and what a signal leaves."""

import io
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from multicompute.config import apply_environment
from multicompute.testing import FakeCloud, LocalClouds
from tests.cli.processes import started

Run = Callable[..., Any]
OWNER = "ada.lovelace@analytical-engine"
DOCUMENT = {
    *("cloud", "result", "passed", "failed", "left", "instance_type", "accelerators", "region", "purchase"),
    *("hourly_usd", "at_most_usd", "max_spend_usd", "spent_usd", "started_at", "seconds", "versions", "checks"),
}


class Terminal(io.StringIO):
    """A stdin that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_verify_without_a_terminal_requires_yes_and_launches_nothing(
    run: Run, fake_cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    done = run("verify", "aws")
    assert (done.status, done.out) == (2, "")
    assert "--yes" in done.err
    assert fake_cloud.aws.faults.calls == []


def test_verify_says_what_it_buys_and_costs_at_most_before_it_asks(
    run: Run, fake_cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    done = run("verify", "aws", "--region", "us-east-1")
    assert (done.status, done.out) == (1, "")
    assert "four t3.micro nodes on aws, the cheapest in us-east-1 at $0.0104 per hour each" in done.err
    assert "They cost at most $0.0303" in done.err
    assert "[y/N]" in done.err and done.err.endswith("nothing was launched\n")
    assert fake_cloud.aws.faults.count("launch") == 0


def test_verify_refuses_a_machine_that_could_cost_more_than_the_limit(run: Run, fake_cloud: FakeCloud) -> None:
    done = run("verify", "aws", "--type", "h100", "--yes")
    assert done.status == 2
    assert "--max-spend 2: " in done.err
    assert fake_cloud.aws.faults.calls == []
    least = done.err.partition("allow it with --max-spend ")[2].split(",")[0]
    assert f"${float(least):.1f}"[:-1] in done.err
    assert run("verify", "aws", "--max-spend", "0", "--yes").status == 2


@pytest.mark.parametrize(
    ("arguments", "status"), [(("nimbus",), 2), (("aws", "--region", "mars-*"), 2), (("aws", "--type", "tpu-v4"), 3)]
)
def test_verify_has_the_exit_status_of_a_request_that_can_not_be_met(
    run: Run, fake_cloud: FakeCloud, arguments: tuple[str, ...], status: int
) -> None:
    assert run("verify", *arguments, "--yes").status == status


def test_verify_of_a_cloud_without_credentials_is_status_6(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "MULTICOMPUTE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    done = run("verify", "aws", "--yes", "--json")
    assert done.status == 6
    assert (done.document["result"], done.document["failed"]) == ("the cloud could not be asked", ["credentials"])
    assert {check["status"] for check in done.document["checks"][1:]} == {"not checked"}
    assert list(tmp_path.rglob("*.db")) == []


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_verify_passes_on_a_local_cloud_and_reports_nothing_private(
    run: Run, local_clouds: LocalClouds, cloud: str
) -> None:
    with apply_environment({"MULTICOMPUTE_OWNER": OWNER}):
        seen: set[str] = set()
        local_clouds[cloud].faults.hook("*", lambda call: seen.update(local_clouds[cloud].running_ids()))
        done = run("verify", cloud, "--yes")
    assert done.status == 0, done.err
    assert done.out.startswith(f"# Verification of {cloud}: passed\n")
    assert "| nothing left | passed |" in done.out
    assert len(seen) >= 3
    accounts = [
        local_clouds.environment.get(name, "") for name in ("AZURE_SUBSCRIPTION_ID", "GOOGLE_CLOUD_PROJECT")
    ] + [getattr(local_clouds[cloud], "account", "")]
    private = [*seen, *(account for account in accounts if account), *OWNER.split("@")]
    assert [text for text in private if text in done.out or text in done.err] == []
    assert local_clouds.alive() == []


def test_verify_prints_one_json_document(run: Run, local_clouds: LocalClouds) -> None:
    done = run("verify", "aws", "--region", "us-east-1", "--type", "t3.small", "--max-spend", "0.5", "--yes", "--json")
    assert done.status == 0, done.err
    assert set(done.document) == DOCUMENT
    assert done.document["instance_type"] == "t3.small"
    assert 0 < done.document["spent_usd"] < done.document["at_most_usd"] < 0.5
    assert {"multicompute", "Python", "boto3"} == set(done.document["versions"])
    assert {"name", "status", "finding", "seconds"} == set(done.document["checks"][0])


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
@pytest.mark.parametrize("after", ["launch of one node", "launch of a gang", "teardown"])
def test_verify_that_is_interrupted_leaves_nothing(
    local_clouds: LocalClouds, number: signal.Signals, status: int, after: str
) -> None:
    with started("verify", "aws", "--region", "us-east-1", "--yes") as child:
        assert child.stderr is not None
        for line in child.stderr:
            if line.startswith(f"{after}: passed"):
                child.send_signal(number)
                break
        child.communicate(timeout=60)
    assert child.returncode == status
    assert local_clouds.alive() == []
