"""The life of a cluster from the command line, on fake clouds."""

import contextlib
import io
import json
import logging
import re
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from multicompute.cli import main
from multicompute.session import open_session
from multicompute.testing import FakeCloud

Run = Callable[..., Any]
CLUSTER = {
    *("id", "name", "state", "provider", "region", "zone", "gpus", "type", "nodes", "hourly_usd", "accrued_usd"),
    *("created_at", "expires_at", "tags"),
}
NODE = {"id", "rank", "state", "private_ip", "public_ip", "instance_type", "zone"}


class Terminal(io.StringIO):
    """A stdin or stdout that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def up(run: Run, fake_cloud: FakeCloud) -> Any:
    """A cluster of two nodes called train-1, terminated after the test."""
    done = run(
        "up",
        "--gpus",
        "16",
        "--type",
        "h100",
        "--cloud",
        "aws",
        "--name",
        "train-1",
        "--tag",
        "team=nlp",
        "--yes",
        "--json",
    )
    assert done.status == 0, done.err
    yield done.document
    run("down", "train-1", "--yes")


def test_up_is_the_document_of_the_contract(up: Any) -> None:
    assert set(up) == CLUSTER
    assert [set(node) for node in up["nodes"]] == [NODE, NODE]
    assert (up["name"], up["state"], up["tags"]) == ("train-1", "READY", {"team": "nlp"})
    assert [node["rank"] for node in up["nodes"]] == [0, 1]


def test_up_for_people_prints_the_cluster_and_its_events_on_stderr(run: Run, fake_cloud: FakeCloud) -> None:
    done = run("up", "--gpus", "8", "--type", "h100", "--name", "train-2")
    assert "train-2" in done.out
    assert "p5.48xlarge" in done.out
    assert "`multicompute down train-2` terminates the cluster; it expires at 20" in done.err
    assert run("down", "train-2", "--yes").status == 0


def test_up_says_that_the_cluster_expires_before_its_ttl_and_why(run: Run, fake_cloud: FakeCloud) -> None:
    asked = ("--gpus", "8", "--type", "b200", "--cloud", "gcp", "--flex-start", "--ttl", "20d")
    done = run("up", *asked, "--name", "train-2")
    assert "terminates the cluster; it expires in " in done.err
    assert "earlier than its ttl of 20d: flex-start machines of gcp live at most 7d" in done.err
    assert run("down", "train-2", "--yes").status == 0
    planned = run("plan", *asked)
    assert "T  terminated by the cloud before the ttl" in planned.out
    assert "--strict-ttl" in planned.out
    assert {item["ends_early"] for item in run("plan", *asked, "--json").document["candidates"]} == {True}
    refused = run("plan", *asked, "--strict-ttl", "--json")
    assert refused.status == 3
    assert refused.document["rejected"]["terminated before the ttl"] > 0


def test_up_without_progress_prints_no_events(run: Run, fake_cloud: FakeCloud) -> None:
    done = run("up", "--gpus", "8", "--type", "h100", "--name", "train-2", "--no-progress", "--json")
    assert (done.status, done.err) == (0, "")
    assert run("down", "train-2", "--yes").status == 0


def test_up_without_capacity_leaves_nothing_and_lists_what_was_tried(run: Run, fake_cloud: FakeCloud) -> None:
    fake_cloud.set_capacity("p5.48xlarge", "us-east-1", 0)
    fake_cloud.set_capacity("p5.4xlarge", "us-east-1", 0)
    done = run("up", "--gpus", "8", "--type", "h100", "--cloud", "aws", "--region", "us-east-1", "--no-progress")
    assert (done.status, done.out) == (4, "")
    message, where = done.err.splitlines()
    assert "us-east-1a" in message
    assert "lists all 12 attempts" in where and "--verbose" in where
    assert fake_cloud.alive() == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_up_that_is_interrupted_leaves_nothing(run: Run, fake_cloud: FakeCloud, number: int, status: int) -> None:
    fake_cloud.aws.faults.hook("nodes", lambda call: signal.raise_signal(number))
    done = run("up", "--gpus", "8", "--type", "h100", "--cloud", "aws", "--no-progress", "--json")
    assert (done.status, done.out) == (status, "")
    assert fake_cloud.alive() == []
    assert [cluster["state"] for cluster in run("ls", "--all", "--json").document] == ["FAILED"]


def test_ls_lists_live_clusters_and_with_all_also_ended_ones(run: Run, up: Any) -> None:
    assert run("ls", "--json").document == [up | {"accrued_usd": pytest.approx(up["accrued_usd"], abs=100)}]
    assert "train-1" in run("ls").out
    assert run("down", "train-1", "--yes").status == 0
    assert run("ls", "--json").document == []
    assert "no live clusters" in run("ls").err
    assert [cluster["state"] for cluster in run("ls", "--all", "--json").document] == ["TERMINATED"]


def test_ls_without_a_ledger_is_an_empty_list(run: Run, fake_cloud: FakeCloud) -> None:
    assert run("ls", "--json").document == []
    assert run("ls", "--all").err == "no clusters in the ledger; `multicompute reconcile` asks the clouds\n"


def test_show_is_the_document_of_the_contract(run: Run, up: Any) -> None:
    cluster = run("show", "train-1", "--json").document
    assert set(cluster) == CLUSTER
    assert cluster["id"] == up["id"]
    shown = run("show", "train-1").out
    assert "team=nlp" in shown
    assert up["nodes"][0]["id"] in shown


def test_show_asks_the_cloud(run: Run, up: Any, fake_cloud: FakeCloud) -> None:
    fake_cloud.aws.preempt(up["nodes"][1]["id"])
    fake_cloud.advance("10m")
    cluster = run("show", "train-1", "--json").document
    assert cluster["state"] == "DEGRADED"
    assert len(cluster["nodes"]) == 1


def test_show_notes_that_the_cloud_cannot_be_asked(run: Run, up: Any, fake_cloud: FakeCloud) -> None:
    fake_cloud.aws.faults.fail("nodes", "auth")
    done = run("show", "train-1", "--json")
    assert (done.status, done.document["state"]) == (6, "READY")
    assert "as of the last refresh" in done.err


def test_nodes_are_listed_by_rank(run: Run, up: Any) -> None:
    assert run("nodes", "train-1", "--json").document == up["nodes"]
    lines = run("nodes", "train-1").out.splitlines()
    assert [line.split()[0] for line in lines] == ["rank", "0", "1"]


def test_events_are_printed_in_order(run: Run, up: Any) -> None:
    log = run("events", "train-1", "--json").document
    assert all({"at", "kind", "message", "data"} == set(line) for line in log)
    assert "ready" in [line["kind"] for line in log]
    assert [line["at"] for line in log] == sorted(line["at"] for line in log)
    assert "ready" in run("events", "train-1").out


def test_extend_moves_the_end(run: Run, up: Any) -> None:
    done = run("extend", "train-1", "2h")
    later = run("show", "train-1", "--json").document["expires_at"]
    assert done.out == f"train-1 expires at {later}\n"
    assert later > up["expires_at"]


def test_heal_replaces_nodes_that_are_gone(run: Run, up: Any, fake_cloud: FakeCloud) -> None:
    first, second = (node["id"] for node in up["nodes"])
    fake_cloud.aws.preempt(second)
    assert run("show", "train-1", "--json").document["state"] == "DEGRADED"
    healed = run("heal", "train-1", "--json").document
    assert healed["state"] == "READY"
    assert [node["rank"] for node in healed["nodes"]] == [0, 1]
    assert healed["nodes"][0]["id"] == first
    assert "READY" in run("heal", "train-1", "--timeout", "10m").out
    assert run("heal", "train-1", "--timeout", "soon").status == 2


@pytest.mark.parametrize("command", ["show", "nodes", "events", "extend", "down"])
def test_an_unknown_name_is_status_8(run: Run, fake_cloud: FakeCloud, command: str) -> None:
    done = run(command, "nobody", *(["1h"] if command == "extend" else ["--yes"] if command == "down" else []))
    assert (done.status, done.out) == (8, "")
    assert "nobody" in done.err


def test_a_live_name_with_another_spec_is_status_8(run: Run, up: Any) -> None:
    assert run("up", "--gpus", "8", "--type", "h100", "--cloud", "aws", "--name", "train-1").status == 8


def test_down_leaves_nothing_and_can_be_repeated(run: Run, up: Any, fake_cloud: FakeCloud) -> None:
    assert run("down", "train-1", "--yes").out == "train-1 TERMINATED\n"
    assert fake_cloud.alive() == []
    assert run("down", "train-1", "--yes").status == 0


def test_down_with_one_unknown_name_terminates_none(run: Run, up: Any, fake_cloud: FakeCloud) -> None:
    assert run("down", "train-1", "nobody", "--yes").status == 8
    assert fake_cloud.clusters_alive() == ["train-1"]


def test_down_without_a_terminal_requires_yes(run: Run, up: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    done = run("down", "train-1")
    assert done.status == 2
    assert "--yes" in done.err


@pytest.mark.parametrize(("answer", "left"), [("y\n", []), ("n\n", ["train-1"]), ("", ["train-1"])])
def test_down_at_a_terminal_asks(
    run: Run, up: Any, fake_cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch, answer: str, left: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    done = run("down", "train-1")
    assert "[y/N]" in done.err
    assert "train-1: 2 nodes" in done.err
    assert (done.status, fake_cloud.clusters_alive()) == (0, left)


def test_down_continues_with_the_others_when_one_fails(run: Run, up: Any, fake_cloud: FakeCloud) -> None:
    assert run("up", "--gpus", "8", "--type", "h100", "--cloud", "aws", "--name", "train-2", "--json").status == 0
    fake_cloud.aws.faults.fail("terminate", "denied", times=1)
    done = run("down", "train-1", "train-2", "--yes")
    assert done.status == 6
    assert "multicompute: train-1: " in done.err
    assert done.out == "train-2 TERMINATED\n"


def test_a_cluster_that_cannot_be_terminated_is_shown_in_red_with_cost_and_reason(
    run: Run, up: Any, fake_cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cloud.aws.faults.fail("terminate", "denied", times=None)
    assert run("down", "train-1", "--yes").status == 6
    fake_cloud.advance("1h")
    listed = run("ls")
    assert "TERMINATING" in listed.out
    assert "train-1 is not terminated yet: aws us-east-1: the teardown is not complete" in listed.err
    assert "`multicompute reap` tries again" in listed.err
    shown = run("show", "train-1").out
    assert "the teardown is not complete" in shown
    assert "$110.08 per hour" in shown
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(("ls",)) == 0
    (row,) = [line for line in terminal.getvalue().splitlines() if "train-1" in line]
    assert row.startswith("\x1b[1;31m")
    assert "110.08" in row
    monkeypatch.undo()
    assert run("reap").status == 1
    fake_cloud.aws.faults.clear()
    assert run("reap").status == 0


@pytest.fixture
def three(run: Run, up: Any) -> Any:
    """Three clusters on two clouds: train-1 and train-2 of one team, eval of another."""
    for name, cloud, team in (("train-2", "gcp", "nlp"), ("eval", "aws", "vision")):
        asked = ("--gpus", "8", "--type", "h100", "--cloud", cloud, "--tag", f"team={team}")
        assert run("up", *asked, "--name", name, "--quiet").status == 0
    yield
    run("down", "--all", "--yes")


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (["--tag", "team=nlp"], ["train-1", "train-2"]),
        (["--tag", "team=nlp", "--cloud", "gcp"], ["train-2"]),
        (["--cloud", "aws"], ["train-1", "eval"]),
        (["--cloud", "aws,gcp"], ["train-1", "train-2", "eval"]),
        (["--state", "ready"], ["train-1", "train-2", "eval"]),
        (["--state", "DEGRADED"], []),
        (["--tag", "team=nlp", "--tag", "run=7"], []),
    ],
    ids=" ".join,
)
def test_ls_lists_the_clusters_with_a_tag_in_a_state_or_of_a_cloud(
    run: Run, three: Any, chosen: list[str], names: list[str]
) -> None:
    assert [cluster["name"] for cluster in run("ls", *chosen, "--json").document] == names
    if not names:
        assert run("ls", *chosen).err == "no live clusters of this kind; --all also lists those that have ended\n"


def test_ls_of_an_unknown_cloud_or_state_names_the_known_ones(run: Run, three: Any) -> None:
    done = run("ls", "--cloud", "asw")
    assert (done.status, done.out) == (2, "")
    assert "asw: unknown cloud; did you mean aws?" in done.err
    assert run("ls", "--state", "gone").status == 2
    assert [cluster["name"] for cluster in run("ls", "--state", "terminated", "--json").document] == []


def test_down_with_a_tag_terminates_the_live_clusters_that_have_it(run: Run, three: Any, fake_cloud: FakeCloud) -> None:
    done = run("down", "--tag", "team=nlp", "--yes")
    assert (done.status, done.out) == (0, "train-1 TERMINATED\ntrain-2 TERMINATED\n")
    assert [cluster["name"] for cluster in run("ls", "--json").document] == ["eval"]
    again = run("down", "--tag", "team=nlp", "--yes")
    assert (again.status, again.out, again.err) == (0, "", "no live clusters with these tags\n")


def test_down_all_terminates_every_live_cluster_and_asks_like_down(
    run: Run, three: Any, fake_cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert run("down", "--all").status == 2
    assert len(run("ls", "--json").document) == 3
    done = run("down", "--all", "--yes")
    assert done.out.splitlines() == ["train-1 TERMINATED", "train-2 TERMINATED", "eval TERMINATED"]
    assert fake_cloud.alive() == []
    assert run("down", "--all", "--yes").err == "no live clusters\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["train-1", "--all"], "takes names, or --all or --tag, not both"), ([], "no cluster was named")],
)
def test_down_needs_names_or_a_selection(run: Run, up: Any, arguments: list[str], message: str) -> None:
    done = run("down", *arguments, "--yes")
    assert done.status == 2
    assert message in done.err
    assert len(run("ls", "--json").document) == 1


@pytest.mark.parametrize("form", [[], ["--json"], ["--wide"]])
def test_events_that_are_followed_are_printed_until_the_cluster_has_ended(
    run: Run, up: Any, fake_cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    clock = open_session().clock
    sleep, steps = clock.sleep, [("down", "train-1", "--yes"), ("extend", "train-1", "1h")]

    def act(duration: timedelta) -> None:
        sleep(duration)
        if steps:
            with contextlib.redirect_stdout(io.StringIO()):
                assert main(steps.pop()) == 0

    monkeypatch.setattr(clock, "sleep", act)
    done = run("events", "train-1", "--follow", *form)
    assert done.status == 0
    if form == ["--json"]:
        kinds = [json.loads(line)["kind"] for line in done.out.splitlines()]
    else:
        kinds = [line.split()[1] for line in done.out.splitlines() if line.startswith("20")]
    assert kinds[0] == "requested"
    assert kinds[-3:] == ["extended", "terminating", "terminated"]
    assert kinds == [event["kind"] for event in run("events", "train-1", "--json").document]


def test_ctrl_c_ends_the_events_that_are_followed_with_status_0(
    run: Run, up: Any, fake_cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_session().clock, "sleep", lambda duration: signal.raise_signal(signal.SIGINT))
    done = run("events", "train-1", "--follow")
    assert done.status == 0
    assert "requested" in done.out
    assert len(fake_cloud.aws.running_ids()) == 2


def test_quiet_prints_no_progress_and_no_hint(run: Run, fake_cloud: FakeCloud) -> None:
    asked = ("--gpus", "8", "--type", "h100", "--name", "train-2")
    done = run("up", *asked, "--quiet")
    assert (done.status, done.err) == (0, "")
    assert run("down", "train-2", "--yes").status == 0
    loud = run("up", *asked)
    assert "trying 1 x p5.48xlarge on demand in aws us-east-1a" in loud.err
    assert run("down", "train-2", "--yes").status == 0


@pytest.mark.parametrize("flag", ["--verbose", "--debug"])
def test_verbose_and_debug_log_every_step_once(run: Run, fake_cloud: FakeCloud, flag: str) -> None:
    asked = ("--gpus", "8", "--type", "h100", "--name", "train-2")
    done = run("up", *asked, flag, "--json")
    assert done.document["state"] == "READY"
    lines = [line for line in done.err.splitlines() if "trying 1 x p5.48xlarge" in line]
    assert len(lines) == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ train-2: trying .*", lines[0])
    assert logging.getLogger("multicompute").handlers == []
    assert run("down", "train-2", "--yes").err == ""
