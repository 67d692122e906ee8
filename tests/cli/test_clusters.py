"""The life of a cluster from the command line, on clouds in memory."""

import io
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from multicompute.cli import main
from multicompute.testing import FakeCloud

Run = Callable[..., Any]
CLUSTER = {
    *("id", "name", "state", "provider", "region", "zone", "gpus", "type", "nodes", "hourly_usd", "accrued_usd"),
    *("created_at", "expires_at", "tags"),
}
NODE = {"id", "rank", "state", "private_ip", "public_ip", "instance_type", "zone"}


class Terminal(io.StringIO):
    """A stdin that somebody sits at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def up(run: Run, fake_cloud: FakeCloud) -> Any:
    """A cluster of two nodes called train-1; whatever is left of it is torn down afterwards."""
    done = run(
        "up", "--gpus", "16", "--type", "h100", "--cloud", "aws", "--name", "train-1", "--tag", "team=nlp", "--json"
    )
    assert done.status == 0, done.err
    yield done.document
    run("down", "train-1", "--yes")


def test_up_is_the_document_of_the_contract(up: Any) -> None:
    assert set(up) == CLUSTER
    assert [set(node) for node in up["nodes"]] == [NODE, NODE]
    assert (up["name"], up["state"], up["tags"]) == ("train-1", "READY", {"team": "nlp"})
    assert [node["rank"] for node in up["nodes"]] == [0, 1]


def test_up_for_people_shows_the_cluster_and_tells_its_story_on_stderr(run: Run, fake_cloud: FakeCloud) -> None:
    done = run("up", "--gpus", "8", "--type", "h100", "--name", "train-2")
    assert "train-2" in done.out
    assert "p5.48xlarge" in done.out
    assert "`multicompute down train-2` tears it down; it ends by itself at 20" in done.err
    assert run("down", "train-2", "--yes").status == 0


def test_up_without_progress_tells_no_story(run: Run, fake_cloud: FakeCloud) -> None:
    done = run("up", "--gpus", "8", "--type", "h100", "--name", "train-2", "--no-progress", "--json")
    assert (done.status, done.err) == (0, "")
    assert run("down", "train-2", "--yes").status == 0


def test_up_that_finds_no_capacity_leaves_nothing_and_says_what_was_tried(run: Run, fake_cloud: FakeCloud) -> None:
    fake_cloud.set_capacity("p5.48xlarge", "us-east-1", 0)
    fake_cloud.set_capacity("p5.4xlarge", "us-east-1", 0)
    done = run("up", "--gpus", "8", "--type", "h100", "--cloud", "aws", "--region", "us-east-1", "--no-progress")
    assert (done.status, done.out) == (4, "")
    assert done.err.count("\n") == 1
    assert "us-east-1a" in done.err
    assert fake_cloud.alive() == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_up_that_is_interrupted_leaves_nothing(run: Run, fake_cloud: FakeCloud, number: int, status: int) -> None:
    fake_cloud.aws.faults.hook("nodes", lambda call: signal.raise_signal(number))
    done = run("up", "--gpus", "8", "--type", "h100", "--cloud", "aws", "--no-progress", "--json")
    assert (done.status, done.out) == (status, "")
    assert fake_cloud.alive() == []
    assert [cluster["state"] for cluster in run("ls", "--all", "--json").document] == ["FAILED"]


def test_ls_lists_what_lives_and_with_all_what_has_ended(run: Run, up: Any) -> None:
    assert run("ls", "--json").document == [up | {"accrued_usd": pytest.approx(up["accrued_usd"], abs=100)}]
    assert "train-1" in run("ls").out
    assert run("down", "train-1", "--yes").status == 0
    assert run("ls", "--json").document == []
    assert "no cluster lives" in run("ls").err
    assert [cluster["state"] for cluster in run("ls", "--all", "--json").document] == ["TERMINATED"]


def test_ls_where_there_was_never_a_cluster_is_an_empty_list(run: Run, fake_cloud: FakeCloud) -> None:
    assert run("ls", "--json").document == []
    assert run("ls", "--all").err == "no cluster\n"


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


def test_show_says_so_where_the_cloud_cannot_be_asked(run: Run, up: Any, fake_cloud: FakeCloud) -> None:
    fake_cloud.aws.faults.fail("nodes", "auth")
    done = run("show", "train-1", "--json")
    assert done.document["state"] == "READY"
    assert "as of the last look" in done.err


def test_nodes_lists_them_by_rank(run: Run, up: Any) -> None:
    assert run("nodes", "train-1", "--json").document == up["nodes"]
    lines = run("nodes", "train-1").out.splitlines()
    assert [line.split()[0] for line in lines] == ["rank", "0", "1"]


def test_events_tell_the_story_in_order(run: Run, up: Any) -> None:
    story = run("events", "train-1", "--json").document
    assert all({"at", "kind", "message", "data"} == set(line) for line in story)
    assert "ready" in [line["kind"] for line in story]
    assert [line["at"] for line in story] == sorted(line["at"] for line in story)
    assert "ready" in run("events", "train-1").out


def test_extend_moves_the_end(run: Run, up: Any) -> None:
    done = run("extend", "train-1", "2h")
    later = run("show", "train-1", "--json").document["expires_at"]
    assert done.out == f"train-1 ends {later}\n"
    assert later > up["expires_at"]


def test_heal_replaces_what_is_gone(run: Run, up: Any, fake_cloud: FakeCloud) -> None:
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
def test_a_name_that_nobody_has_is_status_8(run: Run, fake_cloud: FakeCloud, command: str) -> None:
    done = run(command, "nobody", *(["1h"] if command == "extend" else ["--yes"] if command == "down" else []))
    assert (done.status, done.out) == (8, "")
    assert "nobody" in done.err


def test_a_name_that_lives_with_another_spec_is_status_8(run: Run, up: Any) -> None:
    assert run("up", "--gpus", "8", "--type", "h100", "--cloud", "aws", "--name", "train-1").status == 8


def test_down_leaves_nothing_and_may_be_said_twice(run: Run, up: Any, fake_cloud: FakeCloud) -> None:
    assert run("down", "train-1", "--yes").out == "train-1 TERMINATED\n"
    assert fake_cloud.alive() == []
    assert run("down", "train-1", "--yes").status == 0


def test_down_with_one_unknown_name_ends_none(run: Run, up: Any, fake_cloud: FakeCloud) -> None:
    assert run("down", "train-1", "nobody", "--yes").status == 8
    assert fake_cloud.clusters_alive() == ["train-1"]


def test_down_without_a_terminal_wants_to_be_told_yes(run: Run, up: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_down_goes_on_with_the_others_when_one_fails(run: Run, up: Any, fake_cloud: FakeCloud) -> None:
    assert run("up", "--gpus", "8", "--type", "h100", "--cloud", "aws", "--name", "train-2", "--json").status == 0
    fake_cloud.aws.faults.fail("terminate", "denied", times=1)
    done = run("down", "train-1", "train-2", "--yes")
    assert done.status == 6
    assert "multicompute: train-1: " in done.err
    assert done.out == "train-2 TERMINATED\n"


def test_a_cluster_that_will_not_go_stands_in_red_with_its_cost_and_the_reason(
    run: Run, up: Any, fake_cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cloud.aws.faults.fail("terminate", "denied", times=None)
    assert run("down", "train-1", "--yes").status == 6
    fake_cloud.advance("1h")
    listed = run("ls")
    assert "TERMINATING" in listed.out
    assert "train-1 is not gone yet: aws us-east-1: the teardown is not complete" in listed.err
    assert "`multicompute reap` goes on" in listed.err
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
