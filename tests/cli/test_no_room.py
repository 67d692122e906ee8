"""Commands while the disk of the ledger is full or read-only: what only reads works, `down` terminates, `up` buys nothing."""

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from multicompute.testing import LocalClouds, local_clouds
from tests.cli.disks import DISKS, can_mount, run_on
from tests.cli.processes import SCRIPT

pytestmark = pytest.mark.skipif(not can_mount(), reason="needs root, to mount disks")
UP = ("up", "--gpus", "16", "--type", "h100", "--cloud", "aws", "--yes", "--no-progress")


class Site:
    """A ledger in a folder of its own, and commands that use it."""

    def __init__(self, folder: Path, cloud: LocalClouds) -> None:
        self.folder, self.cloud = folder, cloud
        self.environment = {"MULTICOMPUTE_STATE": f"sqlite:///{folder}/state.db"}
        folder.mkdir()

    def run(self, *arguments: str, disk: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command, on a disk that works or on one that does not."""
        return run_on(disk, self.folder, [SCRIPT, *arguments], environment=self.environment)

    def document(self, *arguments: str, disk: str = "") -> Any:
        """Return what a command prints with --json, after a check that it reports the ledger once."""
        done = self.run(*arguments, "--json", disk=disk)
        assert done.returncode == 0, done.stderr
        reports = done.stderr.count("can't be written (")
        # On a full disk, a ledger whose log and index exist is read as it is, and nothing is known of its disk.
        assert reports <= 1 if disk == "full" else reports == bool(disk), done.stderr
        return json.loads(done.stdout)

    @property
    def running(self) -> int:
        return len(self.cloud.aws.running_ids())


@pytest.fixture(name="cloud", scope="module")
def _cloud() -> Iterator[LocalClouds]:
    with local_clouds("aws") as clouds:
        yield clouds


@pytest.fixture(name="site")
def _site(tmp_path: Path, cloud: LocalClouds) -> Iterator[Site]:
    site = Site(tmp_path / "ledger", cloud)
    assert site.run(*UP, "--name", "train-1").returncode == 0
    yield site
    site.run("down", "train-1", "--yes")
    assert site.running == 0


@pytest.mark.parametrize("disk", DISKS)
def test_commands_that_read_work_and_report_the_ledger_once(site: Site, disk: str) -> None:
    commands = (["ls"], ["show", "train-1"], ["nodes", "train-1"], ["events", "train-1"], ["cost"], ["ls", "--live"])
    shown = {" ".join(each): site.document(*each, disk=disk) for each in commands}
    assert shown["ls"][0]["name"] == shown["ls --live"][0]["name"] == shown["show train-1"]["name"] == "train-1"
    assert shown["ls"][0]["state"] == "READY"
    assert len(shown["nodes train-1"]) == 2
    assert shown["events train-1"][-1]["kind"] == "ready"
    assert shown["cost"]["rows"][0]["group"] == "train-1"


@pytest.mark.parametrize("disk", DISKS)
def test_down_terminates_and_the_ledger_catches_up_later(site: Site, disk: str) -> None:
    done = site.run("down", "train-1", "--yes", disk=disk)
    assert site.running == 0
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "multicompute: train-1: train-1: nothing is left running, and the ledger can't record that: "
    )
    assert site.document("ls")[0]["state"] == "READY"
    command = ("reconcile",) if disk == "full" else ("ls", "--live")
    assert site.run(*command).returncode == 0
    assert site.document("show", "train-1")["state"] == "TERMINATED"


@pytest.mark.parametrize("disk", DISKS)
def test_up_refuses_before_it_buys_anything(site: Site, disk: str) -> None:
    done = site.run(*UP, "--name", "train-2", disk=disk)
    assert (done.returncode, site.running) == (1, 2)
    assert "multicompute: ledger " in done.stderr.splitlines()[-1]
    # The same request again needs no write.
    assert site.run(*UP, "--name", "train-1", disk=disk).returncode == 0


def test_a_throttled_teardown_on_a_full_disk_is_completed(site: Site) -> None:
    # Each retry is an event, which can't be stored.
    site.cloud.aws.faults.throttle("TerminateInstances", times=2)
    done = site.run("down", "train-1", "--yes", disk="full")
    assert (done.returncode, site.running) == (1, 0), done.stderr
    assert "(not stored in the ledger)" in done.stderr


@pytest.mark.parametrize("disk", DISKS)
def test_reap_continues_a_teardown(site: Site, disk: str) -> None:
    with sqlite3.connect(site.folder / "state.db") as ledger:
        ledger.execute("UPDATE clusters SET state = 'TERMINATING', reason = 'by request'")
    ledger.close()
    done = site.run("reap", disk=disk)
    assert (done.returncode, site.running) == (1, 0), done.stderr
    assert "nothing is left running, and the ledger can't record that" in " ".join(done.stdout.split())
