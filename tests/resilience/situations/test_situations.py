"""Every operation in every situation that others bring about, with the real SDKs on the local clouds: no machine is lost.

`make campaign` runs all cases. Otherwise each situation has some of the operations on each cloud, others on other clouds.
`tests/unit/engine/test_situations.py` has all of them on clouds in memory.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.config import apply_environment
from multicompute.engine.operation.coverage import Coverage
from multicompute.engine.recovery.reap import reap
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.engine.upkeep.refresh import refresh_all
from multicompute.monitor.supervise import supervise
from multicompute.session import open_session
from multicompute.testing import local_clouds
from multicompute.testing.local.cloud import LocalCloud

EVERY: Final = "CAMPAIGN_EXAMPLES" in os.environ
RESULTS: Final = os.environ.get("CAMPAIGN_RESULTS")
"""The folder to write results to, for the table in docs/reliability.md."""
PAGE: Final = Path(__file__).parents[3] / "docs" / "reliability.md"
SHARE: Final = 3
"""How many operations each situation has on each cloud if not all are tried."""
NAME: Final = "train-1"


class Kind(NamedTuple):
    """A kind of nodes: the request, another account, and the cloud's refusals."""

    provider: str
    request: dict[str, Any]
    account: str
    denied: tuple[str, int]
    expired: tuple[str, int]


_GOOGLE: Final = ("other-project", ("forbidden", 403), ("UNAUTHENTICATED", 401))
KINDS: Final = {
    "aws": Kind(
        "aws",
        {"gpus": 16, "type": "h100", "regions": ["us-east-1"]},
        "210987654321",
        ("UnauthorizedOperation", 403),
        ("AuthFailure", 401),
    ),
    "azure": Kind(
        "azure",
        {"gpus": 16, "type": "h100", "regions": ["eastus"]},
        "00000000-0000-0000-0000-00000000b0b0",
        ("AuthorizationFailed", 403),
        ("ExpiredAuthenticationToken", 401),
    ),
    "gcp": Kind("gcp", {"gpus": 2, "type": "g2-standard-4", "regions": ["us-central1"]}, *_GOOGLE),
    "tpu": Kind("gcp", {"type": "v5litepod-8", "nodes": 2, "regions": ["gcp:us-west4"]}, *_GOOGLE),
}


@contextmanager
def other_account(cloud: LocalCloud, kind: Kind) -> Iterator[None]:
    """Use the credentials of another account, in which nothing of ours is."""
    with apply_environment(cloud.add_account(kind.account)):
        yield


@contextmanager
def tags_removed(cloud: LocalCloud, kind: Kind) -> Iterator[None]:
    for name in cloud.running_ids():
        cloud.remove_tags(name)
    yield


@contextmanager
def a_node_stopped(cloud: LocalCloud, kind: Kind) -> Iterator[None]:
    cloud.stop_node(cloud.running_ids()[0])
    yield


@contextmanager
def all_nodes_stopped(cloud: LocalCloud, kind: Kind) -> Iterator[None]:
    for name in cloud.running_ids():
        cloud.stop_node(name)
    yield


@contextmanager
def a_node_protected(cloud: LocalCloud, kind: Kind) -> Iterator[None]:
    name = cloud.running_ids()[0]
    cloud.protect(name)
    yield
    cloud.protect(name, is_protected=False)


@contextmanager
def region_denied(cloud: LocalCloud, kind: Kind) -> Iterator[None]:
    """Refuse every call, as a policy that was attached after the launch."""
    code, status = kind.denied
    cloud.faults.fail("*", code, status=status, times=None)
    yield
    cloud.faults.clear()


@contextmanager
def credentials_expired(cloud: LocalCloud, kind: Kind) -> Iterator[None]:
    """Reject the credentials from the second call on."""
    code, status = kind.expired
    calls = iter(range(1_000_000))

    def expire(_: object) -> None:
        if next(calls) == 1:
            cloud.faults.fail("*", code, status=status, times=None)

    cloud.faults.hook("*", expire)
    yield
    cloud.faults.clear()


Situation = Callable[[LocalCloud, Kind], AbstractContextManager[None]]
SITUATIONS: Final[tuple[Situation, ...]] = (
    other_account,
    tags_removed,
    a_node_stopped,
    all_nodes_stopped,
    a_node_protected,
    region_denied,
    credentials_expired,
)
OPERATIONS: Final[dict[str, Callable[[], object]]] = {
    "refresh": lambda: Cluster.get(NAME).refresh(),
    "terminate": lambda: Cluster.get(NAME).terminate(wait=False),
    "reconcile": lambda: reconcile(open_session(), wait=False),
    "heal": lambda: Cluster.get(NAME).heal("10s"),
    "ls --live": lambda: refresh_all(open_session()),
    "extend": lambda: Cluster.get(NAME).extend("1h"),
    "reap": lambda: reap(open_session(), wait=False),
    "heal by replacement": lambda: Cluster.get(NAME).heal("10s", stopped="replace"),
    "supervise": lambda: supervise(open_session(), rounds=1),
    "reconcile --dry-run": lambda: reconcile(open_session(), dry_run=True),
    "wait_for": lambda: Cluster.get(NAME).wait_for("DEGRADED", timeout="1s"),
}


UNREADABLE: Final = (other_account, region_denied)
REPORTING: Final = ("ls --live", "reconcile", "reconcile --dry-run", "supervise")


def cases() -> list[tuple[str, Situation, str]]:
    """Return all cases, or some operations for each cloud and situation so that all operations occur."""
    operations = cycle(OPERATIONS)
    count = len(OPERATIONS) if EVERY else SHARE
    return [
        (name, situation, operation)
        for situation in SITUATIONS
        for name in KINDS
        for operation in islice(operations, count)
    ]


@pytest.mark.parametrize(
    ("name", "situation", "operation"), cases(), ids=lambda value: getattr(value, "__name__", value)
)
def test_no_machine_is_lost_in_any_situation(name: str, situation: Situation, operation: str) -> None:
    kind = KINDS[name]
    with local_clouds(kind.provider) as clouds:
        cloud = clouds[kind.provider]
        Cluster.request(**kind.request, name=NAME)
        machines = set(cloud.running_ids())
        try:
            context = situation(cloud, kind)
            with context:
                outcome = _outcome_of(operation)
                record = Cluster.get(NAME)
                left = clouds.alive()
                assert record.state.is_live or not left, f"{record.state}, and {left} exist"
                if not operation.startswith(("terminate", "heal")):
                    assert {item.id for item in left} >= machines, "only a teardown or a replacement deletes"
                result = f"{outcome}, {record.state}"
                if situation in UNREADABLE and operation in REPORTING:
                    assert outcome == "noted", "what could not be read is never reported as clean"
        except NotImplementedError as lack:
            Cluster.get(NAME).terminate()
            pytest.skip(str(lack))
        Cluster.get(NAME).terminate()
        assert clouds.alive() == []
        assert Cluster.get(NAME).state is ClusterState.TERMINATED
    case = {"cloud": name, "situation": situation.__name__, "operation": operation, "result": result}
    if RESULTS is not None:
        folder = Path(RESULTS, "situations")
        folder.mkdir(exist_ok=True)
        (folder / f"{name}-{situation.__name__}-{operation}.json".replace(" ", "_")).write_text(json.dumps(case))
    else:
        assert result == documented(name, situation.__name__, operation), "run `make reliability`"


def _outcome_of(operation: str) -> str:
    """Carry the operation out, and return the class of its error, "noted" if its report has a note, or "ok"."""
    try:
        report = OPERATIONS[operation]()
    except errors.MulticomputeError as error:
        return type(error).__name__
    is_noted = any(getattr(report, name, None) for name in ("notes", "skipped", "failed", "errors", "unknown"))
    is_noted |= not getattr(report, "coverage", Coverage()).is_complete
    return "noted" if is_noted else "ok"


def documented(cloud: str, situation: str, operation: str) -> str:
    """Return the result of a case by the page."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n### {cloud}, situations\n")[2].partition("\n### ")[0]
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in section.strip().splitlines())
    row = next(cells for cells in rows if cells[0] == f"`{operation}`")
    return row[header.index(situation.replace("_", " "))]
