"""Clusters of a fake cloud whose nodes are reached at real hosts."""

import itertools
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from multicompute import Cluster
from multicompute.ledger import ClusterRecord
from multicompute.remote.target import SshHost, Target
from multicompute.session import Session
from multicompute.testing import fake_cloud
from tests.remote.hosts import Host

ROOT = Path(__file__).parents[2]
COMMAND_LINE = """
import sys
sys.path.insert(0, {root!r})
from multicompute.cli import main
from tests.remote.clusters import read, up
with up(read({hosts!r})):
    sys.exit(main({arguments!r}))
"""


@contextmanager
def up(targets: Sequence[Target], *, name: str = "gang", accelerators: int = 8) -> Iterator[Cluster]:
    """A cluster that is READY, with one node for each target, which has so many accelerators of the fake cloud.

    In which way nodes are reached is decided elsewhere, with tests of its own: here they are where `targets` says.
    """
    addresses = itertools.cycle(target.host.address for target in targets)

    def reach(session: Session, cluster: ClusterRecord, ranks: Sequence[int]) -> list[Target]:
        return [targets[rank] for rank in ranks]

    with (
        fake_cloud("aws"),
        patch("multicompute.testing.fake.provider.private_address", lambda number: next(addresses)),
        patch("multicompute.remote.reach.targets", reach),
    ):
        yield Cluster.request(
            gpus=accelerators * len(targets),
            type="h100",
            gpus_per_node=accelerators,
            interconnect="any",
            name=name,
        )


@contextmanager
def on(hosts: Sequence[Host], *, accelerators: int = 8) -> Iterator[Cluster]:
    """A cluster whose nodes are these hosts."""
    with up([host.target() for host in hosts], accelerators=accelerators) as cluster:
        yield cluster


def written(hosts: Sequence[Host]) -> str:
    """Return hosts as text, for another process."""
    known = []
    for host in hosts:
        target = host.target()
        login = target.host
        known.append([target.rank, login.address, login.port, login.user, str(login.identity), login.host_key])
    return json.dumps(known)


def read(text: str) -> list[Target]:
    """Return the targets that `written` wrote."""
    return [
        Target(rank, SshHost(address, port, user, Path(identity), key), name=address)
        for rank, address, port, user, identity, key in json.loads(text)
    ]


def command_line(hosts: Sequence[Host], *arguments: str) -> "subprocess.Popen[str]":
    """Start `multicompute ARGUMENTS...` in a process of its own, with the cluster "gang" on these hosts."""
    code = textwrap.dedent(COMMAND_LINE).format(root=str(ROOT), hosts=written(hosts), arguments=list(arguments))
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
