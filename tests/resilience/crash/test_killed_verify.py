"""A verification that is killed at any moment leaves nothing that `reconcile` and `reap` do not find and terminate."""

import itertools
import json
import os
from collections.abc import Callable
from datetime import timedelta
from zlib import crc32

import pytest

from multicompute.testing.local.machines import Machines
from tests.resilience.crash.crash_site import WINDOW, CrashSite, Kill
from tests.resilience.crash.test_killed import MOMENTS, SOON

CLOUDS = ("aws", "azure", "gcp")
MOST = 1000
"""More moments of one kind than a verification has."""
EVERY = "CAMPAIGN_EXAMPLES" in os.environ
SAMPLES = 3
"""How many moments of each kind are tried by default, spread over the whole verification."""
LAST = {"before": 90, "after": 90, "answered": 30, "committed": 30}
"""By default, no later moment is tried."""


def numbers(cloud: str, moment: str) -> list[int]:
    """Return the moments to kill at, in equal distances from a first one that differs by cloud and kind."""
    step = LAST[moment] // SAMPLES
    first = 1 + crc32(f"{cloud} {moment}".encode()) % step
    return list(range(first, LAST[moment], step))


# Dozens of processes each.
@pytest.mark.timeout(3000 if EVERY else 600)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_verification_that_is_killed_at_any_moment_is_cleaned_up_by_others(
    site_of: Callable[[str], CrashSite],
    record_property: Callable[[str, object], None],
    cloud: str,
    moment: str,
) -> None:
    failures = []
    tried = 0
    for number in itertools.count(1) if EVERY else numbers(cloud, moment):
        site = site_of(cloud)
        try:
            is_killed = kill_and_clean_up(site, cloud, Kill(moment, number))
        except AssertionError as error:
            site.is_dirty = True
            failures.append(f"{cloud}, {moment} {number}: {error}")
            is_killed = True
        tried += is_killed
        if not is_killed or len(failures) == 3:
            break
        assert number < MOST
    record_property("killed", [cloud, tried])
    assert failures == []
    assert tried > 0


def kill_and_clean_up(site: CrashSite, cloud: str, kill: Kill) -> bool:
    """Kill a verification, and let others clean up after its ttl; return False if it completed before the kill."""
    site.begin()
    Machines(site.cloud, site.clock).install()
    ended = site.run(("verify", cloud, "--yes", "--json"), kill=kill)
    assert ended.is_killed or ended.status == 0, ended.stderr
    if not ended.is_killed:
        assert site.cloud.alive() == []
    site.list_soon()
    for _ in range(2):
        report = json.loads(site.run_ok(("reconcile", "--json")))
        assert report["orphans"] == []
        site.clock.sleep(WINDOW)
    clusters = site.clusters()
    assert all(cluster["name"].startswith("verify-") and cluster["expires_at"] for cluster in clusters)
    assert site.cluster_ids() <= {cluster["id"] for cluster in clusters}
    # Longer than the ttl of any cluster, extended.
    site.clock.sleep(timedelta(hours=1))
    for _ in range(2):
        site.run_ok(("reap", "--json"))
        site.clock.sleep(SOON)
    assert site.cloud.alive() == []
    assert site.clusters() == []
    assert site.cloud.foreign_intact()
    return ended.is_killed
