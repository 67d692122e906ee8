"""A process that is killed at any moment leaves nothing unknown behind.

Every operation runs on every cloud in a process of its own, again and again, and is killed one moment later each time: before a
call is processed, after the cloud has processed it and before the answer, after an answer and before the next write to the
ledger, and after each write to the ledger. When it completes without being killed, all moments were tried. After each kill, other
processes repair what it left. `make test` tries two moments of each kind, `make kill` and CI all of them.
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
"""Longer than a cloud hides new resources, unless a test makes it list them late."""
MOMENTS = ("before", "after", "answered", "committed")
MOST = 200
"""More moments of one kind than any operation has, so that an operation that never ends fails the test."""
EVERY = "CAMPAIGN_EXAMPLES" in os.environ
SHARE = 4
"""After one kill in four, all follow-ups are tried; else only those that are most likely to fail after this operation."""


def nothing(site: CrashSite) -> None:
    """Leave the cloud without resources of ours."""


def a_cluster(site: CrashSite) -> None:
    site.run_ok(site.up)
    site.clock.sleep(SOON)


def an_expired_cluster(site: CrashSite) -> None:
    site.run_ok(site.up)
    site.clock.sleep(timedelta(hours=3))


def a_complete_gang_without_its_process(site: CrashSite) -> None:
    """Launch a gang whose process was killed before it had the answer."""
    assert site.run(site.up, kill=Kill("after", 1, site.kind.launching)).is_killed
    site.list_soon()
    site.clock.sleep(SOON)
    # The queue of the cloud advances when it is listed.
    site.nodes()
    site.clock.sleep(SOON)
    assert len(site.nodes()) == site.kind.nodes


def an_intent_without_its_process(site: CrashSite) -> None:
    """Open an attempt whose process was killed before the launch, longer ago than the cloud hides anything."""
    assert site.run(site.up, kill=Kill("before", 1, site.kind.launching)).is_killed
    site.list_soon()
    site.clock.sleep(timedelta(minutes=5))


def half_a_gang_without_its_process(site: CrashSite) -> None:
    """Launch a gang without its process and end one of its nodes; of a slice, only the queued resource is left then."""
    a_complete_gang_without_its_process(site)
    site.cloud.terminate_node(site.nodes()[0])
    site.clock.sleep(WINDOW)


def a_cluster_with_a_stopped_node(site: CrashSite) -> None:
    a_cluster(site)
    site.cloud.stop_node(site.nodes()[0])
    site.clock.sleep(WINDOW)


def a_cluster_with_a_lost_node(site: CrashSite) -> None:
    a_cluster(site)
    site.cloud.terminate_node(site.nodes()[0])
    site.clock.sleep(WINDOW)


def a_cluster_with_a_node_without_tags(site: CrashSite) -> None:
    a_cluster(site)
    site.cloud.remove_tags(site.nodes()[0])
    site.clock.sleep(WINDOW)


@dataclass(frozen=True)
class Operation:
    """A command and the state in which it begins.

    Attributes:
        launches: whether it may launch nodes.
        repairs: whether it repairs a cluster, and has to be repeated after a kill to complete that.
        clouds: where it can be tried.
    """

    command: Callable[[CrashSite], tuple[str, ...]]
    prepare: Callable[[CrashSite], None]
    launches: bool = False
    repairs: bool = False
    clouds: tuple[str, ...] = tuple(KINDS)


INSTANCES = ("aws", "gcp", "azure")
"""Clouds whose nodes can be stopped, lost and replaced one by one; a slice is indivisible."""


OPERATIONS = {
    "request": Operation(lambda site: site.up, nothing, launches=True),
    "resume": Operation(lambda site: site.up, an_intent_without_its_process, launches=True),
    "terminate": Operation(lambda site: site.down, a_cluster),
    "extend": Operation(lambda _: ("extend", NAME, "2h"), a_cluster),
    "reconcile-half": Operation(lambda _: ("reconcile", "--json"), half_a_gang_without_its_process, launches=True),
    "reconcile-complete": Operation(
        lambda _: ("reconcile", "--json"), a_complete_gang_without_its_process, launches=True
    ),
    "reap": Operation(lambda _: ("reap", "--json"), an_expired_cluster),
    "heal-start": Operation(lambda _: ("heal", NAME), a_cluster_with_a_stopped_node, repairs=True, clouds=INSTANCES),
    "heal-replace": Operation(
        lambda _: ("heal", NAME), a_cluster_with_a_lost_node, launches=True, repairs=True, clouds=INSTANCES
    ),
    "restore-tags": Operation(
        lambda _: ("reconcile", "--json"), a_cluster_with_a_node_without_tags, repairs=True, clouds=INSTANCES
    ),
}


# Dozens of processes each.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    ("cloud", "operation"),
    [(cloud, name) for cloud in KINDS for name, operation in OPERATIONS.items() if cloud in operation.clouds],
)
def test_a_kill_at_any_moment_leaves_nothing_unknown(
    site_of: Callable[[str], CrashSite],
    record_property: Callable[[str, object], None],
    cloud: str,
    operation: str,
    moment: str,
) -> None:
    failures = []
    tried = 0
    # By default the first moment, and one more that differs by operation.
    another = 2 + crc32(f"{cloud} {operation} {moment}".encode()) % 12
    for number in itertools.count(1) if EVERY else (1, another):
        site = site_of(cloud)
        try:
            is_killed = kill_and_repair(site, OPERATIONS[operation], Kill(moment, number))
        except AssertionError as error:
            site.is_dirty = True
            failures.append(f"{cloud}, {operation}, {moment} {number}: {error}")
            is_killed = True
        tried += is_killed
        if not is_killed or len(failures) == 5:
            break
        assert number < MOST
    record_property("killed", [cloud, tried])
    assert failures == []
    # Every operation has calls and writes to be killed at.
    assert tried > 0


def kill_and_repair(site: CrashSite, operation: Operation, kill: Kill) -> bool:
    """Kill the operation and let others repair what it left; return False if it completed before the kill."""
    site.begin()
    operation.prepare(site)
    ended = site.run(operation.command(site), kill=kill)
    assert ended.is_killed or ended.status == 0, ended.stderr
    reconcile(site)
    if operation.repairs:
        check_that_all_is_known(site)
        site.run_ok(operation.command(site))
        site.clock.sleep(SOON)
    clusters = check_resources(site)
    check_expiries(site, clusters)
    is_sampled = kill.number % SHARE == 1 or not ended.is_killed
    if clusters and (operation.launches or is_sampled):
        request_again(site, clusters)
    terminate(site)
    if is_sampled or (operation.launches and not clusters):
        request_again(site, [])
        terminate(site)
    return ended.is_killed


def reconcile(site: CrashSite) -> None:
    """Reconcile until nothing is in doubt."""
    for _ in range(10):
        report = json.loads(site.run_ok(("reconcile", "--json")))
        # A process killed between extending in the cloud and in the ledger leaves a difference, which is fixed and noted.
        assert [note for note in report["notes"] if "by its tags" not in note] == []
        assert report["orphans"] == []
        if not report["in_doubt"]:
            break
        site.clock.sleep(WINDOW / 4)
    assert report["in_doubt"] == []
    site.list_soon()
    site.clock.sleep(SOON)


def check_that_all_is_known(site: CrashSite) -> None:
    """Check that every node in the cloud is in the ledger, which may have more: nodes that are stopped."""
    assert set(site.nodes()) <= {node["id"] for cluster in site.clusters() for node in cluster["nodes"]}
    assert site.cloud.foreign_intact()


def check_resources(site: CrashSite) -> list[dict[str, Any]]:
    """Check that the cloud has the clusters of the ledger and nothing else of ours; return these clusters."""
    clusters = site.clusters()
    assert site.nodes() == sorted(node["id"] for cluster in clusters for node in cluster["nodes"])
    assert site.cluster_ids() <= {cluster["id"] for cluster in clusters}
    assert site.cloud.foreign_intact()
    return clusters


def check_expiries(site: CrashSite, clusters: list[dict[str, Any]]) -> None:
    """Check that no node expires before the ledger says so."""
    ends = [datetime.fromisoformat(cluster["expires_at"]).timestamp() for cluster in clusters]
    assert all(tag >= int(end) for tag in site.expiries() for end in ends)


def request_again(site: CrashSite, before: list[dict[str, Any]]) -> None:
    """Check that the same request returns one complete cluster: the one from before, if it lives."""
    cluster = json.loads(site.run_ok(site.up))
    assert cluster["state"] == "READY"
    assert len(site.nodes()) == site.kind.nodes
    assert check_resources(site) == [cluster]
    assert [each["id"] for each in before] in ([], [cluster["id"]])


def terminate(site: CrashSite) -> None:
    """Terminate what lives, and check that nothing is left."""
    if site.cloud.alive():
        site.run_ok(site.down)
    assert site.cloud.alive() == []
    assert site.clusters() == []
    assert site.cloud.foreign_intact()
