"""A process that is killed at any moment leaves nothing that nobody knows of.

Every operation on every cloud runs in a process of its own, again and again, each time with the next moment as its last: before a call is
worked on, after the cloud has done the work and before the answer, after an answer and before the next write to the ledger, and after each
write to the ledger. Once it is through unkilled, all moments were tried. After each death other processes make up for it. `make test` tries two
moments of each kind, `make kill` and CI every one.
"""

import itertools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32

import pytest

from tests.resilience.crash.crash_site import KINDS, NAME, WINDOW, CrashSite, Kill

SOON = timedelta(seconds=2)
"""Longer than any cloud here hides what it has made, while nobody tells it to."""
MOMENTS = ("before", "after", "answered", "committed")
MOST = 200
"""More moments of one kind than any operation has: one that comes to no end must not keep the suite from ending."""
EVERY = "MULTICOMPUTE_CAMPAIGN_EXAMPLES" in os.environ
SHARE = 4
"""After one death in so many, all that follows is tried; else only that for which the operation is the likeliest to go wrong."""


def nothing(site: CrashSite) -> None:
    """A cloud without anything of ours."""


def a_cluster(site: CrashSite) -> None:
    site.done(site.up)
    site.clock.sleep(SOON)


def an_expired_cluster(site: CrashSite) -> None:
    site.done(site.up)
    site.clock.sleep(timedelta(hours=3))


def a_whole_gang_without_its_process(site: CrashSite) -> None:
    """The gang is there, and the answer that told so was lost together with the process."""
    assert site.run(site.up, kill=Kill("after", 1, site.kind.launching)).is_killed
    site.show_all()
    site.clock.sleep(SOON)
    # A cloud's queue moves on when somebody looks.
    site.machines()
    site.clock.sleep(SOON)
    assert len(site.machines()) == site.kind.nodes


def an_intent_without_its_process(site: CrashSite) -> None:
    """The process ended when it was about to launch, longer ago than any cloud hides anything."""
    assert site.run(site.up, kill=Kill("before", 1, site.kind.launching)).is_killed
    site.show_all()
    site.clock.sleep(timedelta(minutes=5))


def half_a_gang_without_its_process(site: CrashSite) -> None:
    """As the whole one, but a machine of it has ended; of a slice, which ends as a whole, its place in the queue is left."""
    a_whole_gang_without_its_process(site)
    site.cloud.terminate_node(site.machines()[0])
    site.clock.sleep(WINDOW)


@dataclass(frozen=True)
class Operation:
    """A command, what is there when it begins, and whether it may make machines."""

    command: Callable[[CrashSite], tuple[str, ...]]
    given: Callable[[CrashSite], None]
    makes: bool = False


OPERATIONS = {
    "request": Operation(lambda site: site.up, nothing, makes=True),
    "resume": Operation(lambda site: site.up, an_intent_without_its_process, makes=True),
    "terminate": Operation(lambda site: site.down, a_cluster),
    "extend": Operation(lambda _: ("extend", NAME, "2h"), a_cluster),
    "reconcile-half": Operation(lambda _: ("reconcile", "--json"), half_a_gang_without_its_process, makes=True),
    "reconcile-whole": Operation(lambda _: ("reconcile", "--json"), a_whole_gang_without_its_process, makes=True),
    "reap": Operation(lambda _: ("reap", "--json"), an_expired_cluster),
}


# Dozens of processes each.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("cloud", KINDS)
def test_a_kill_at_any_moment_leaves_nothing_that_nobody_knows_of(
    site_of: Callable[[str], CrashSite],
    record_property: Callable[[str, object], None],
    cloud: str,
    operation: str,
    moment: str,
) -> None:
    failures = []
    tried = 0
    # By default the first, and one more, another one for each operation.
    one = 2 + crc32(f"{cloud} {operation} {moment}".encode()) % 12
    for number in itertools.count(1) if EVERY else (1, one):
        site = site_of(cloud)
        try:
            is_killed = kill_and_make_up(site, OPERATIONS[operation], Kill(moment, number))
        except AssertionError as error:
            site.is_spoilt = True
            failures.append(f"{cloud}, {operation}, {moment} {number}: {error}")
            is_killed = True
        tried += is_killed
        if not is_killed or len(failures) == 5:
            break
        assert number < MOST
    record_property("killed", [cloud, tried])
    assert failures == []
    # The operation has calls and writes, so it was killed.
    assert tried > 0


def kill_and_make_up(site: CrashSite, operation: Operation, kill: Kill) -> bool:
    """Let the operation be killed, see that others make up for it; False where it was through before its last moment came."""
    site.begin()
    operation.given(site)
    ended = site.run(operation.command(site), kill=kill)
    assert ended.is_killed or ended.status == 0, ended.stderr
    reconcile(site)
    clusters = match(site)
    agree(site, clusters)
    is_sampled = kill.number % SHARE == 1 or not ended.is_killed
    if clusters and (operation.makes or is_sampled):
        ask_again(site, clusters)
    end(site)
    if is_sampled or (operation.makes and not clusters):
        ask_again(site, [])
        end(site)
    return ended.is_killed


def reconcile(site: CrashSite) -> None:
    """Reconcile, and again while something may still appear."""
    for _ in range(10):
        report = json.loads(site.done(("reconcile", "--json")))
        # Whoever is killed between moving the end in the cloud and in the ledger has the ledger brought in line, and said so.
        assert [note for note in report["notes"] if "by its tags" not in note] == []
        assert report["orphans"] == []
        if not report["in_doubt"]:
            break
        site.clock.sleep(WINDOW / 4)
    assert report["in_doubt"] == []
    site.show_all()
    site.clock.sleep(SOON)


def match(site: CrashSite) -> list[dict[str, Any]]:
    """The cloud has what the ledger says, and nothing else of ours; returns what that is."""
    clusters = site.clusters()
    assert site.machines() == sorted(node["id"] for cluster in clusters for node in cluster["nodes"])
    assert site.owners() <= {cluster["id"] for cluster in clusters}
    assert site.cloud.foreign_intact()
    return clusters


def agree(site: CrashSite, clusters: list[dict[str, Any]]) -> None:
    """No machine ends before the ledger says so."""
    ends = [datetime.fromisoformat(cluster["expires_at"]).timestamp() for cluster in clusters]
    assert all(tag >= int(end) for tag in site.ends() for end in ends)


def ask_again(site: CrashSite, before: list[dict[str, Any]]) -> None:
    """The same request again is one cluster, READY and whole: the one from before, where it lives."""
    cluster = json.loads(site.done(site.up))
    assert cluster["state"] == "READY"
    assert len(site.machines()) == site.kind.nodes
    assert match(site) == [cluster]
    assert [each["id"] for each in before] in ([], [cluster["id"]])


def end(site: CrashSite) -> None:
    """End what lives, and see it gone."""
    if site.cloud.alive():
        site.done(site.down)
    assert site.cloud.alive() == []
    assert site.clusters() == []
    assert site.cloud.foreign_intact()
