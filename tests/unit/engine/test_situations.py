"""Every operation in every situation that others bring about: no machine is lost, and what is recorded as ended is gone."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import product

import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.engine.recovery.reap import reap
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.engine.upkeep.refresh import refresh_all
from multicompute.monitor.supervise import supervise
from multicompute.session import Session, use_session
from multicompute.testing import FakeCloud, fake_cloud
from multicompute.testing.fake.provider import FakeProvider
from multicompute.testing.fake.session import FakePlugin

CLOUDS = ("aws", "gcp", "azure")
NAME = "train-1"


@contextmanager
def other_account(cloud: FakeCloud, provider: FakeProvider) -> Iterator[None]:
    """Use credentials of another account, in which nothing of ours is."""
    plugins = {**cloud.session.plugins}
    other = FakeProvider(provider.name, clock=cloud.clock, account="other")
    plugins[provider.name] = FakePlugin(provider.name, tables=plugins[provider.name].tables, provider=other)
    session = Session(config=cloud.session.config, plugins=plugins, clock=cloud.clock, random=cloud.session.random)
    with use_session(session):
        yield
    session.close()


@contextmanager
def tags_removed(cloud: FakeCloud, provider: FakeProvider) -> Iterator[None]:
    for name in provider.running_ids():
        provider.remove_tags(name)
    yield


@contextmanager
def a_node_stopped(cloud: FakeCloud, provider: FakeProvider) -> Iterator[None]:
    provider.stop(provider.running_ids()[0])
    yield


@contextmanager
def all_nodes_stopped(cloud: FakeCloud, provider: FakeProvider) -> Iterator[None]:
    for name in provider.running_ids():
        provider.stop(name)
    yield


@contextmanager
def a_node_protected(cloud: FakeCloud, provider: FakeProvider) -> Iterator[None]:
    name = provider.running_ids()[0]
    provider.protect(name)
    yield
    provider.protect(name, is_protected=False)


@contextmanager
def region_denied(cloud: FakeCloud, provider: FakeProvider) -> Iterator[None]:
    """Refuse every call, as a policy that was attached after the launch."""
    provider.faults.fail("*", "denied-region", times=None)
    yield
    provider.faults.clear()


@contextmanager
def credentials_expired(cloud: FakeCloud, provider: FakeProvider) -> Iterator[None]:
    """Reject the credentials from the second call on."""
    calls = iter(range(1_000_000))

    def expire(_: object) -> None:
        if next(calls) == 0:
            provider.faults.fail("*", "auth", times=None)

    for operation in ("nodes", "resources", "terminate", "set_expiry", "launch"):
        provider.faults.hook(operation, expire)
    yield
    provider.faults.clear()


Situation = Callable[[FakeCloud, FakeProvider], AbstractContextManager[None]]
SITUATIONS: tuple[Situation, ...] = (
    other_account,
    tags_removed,
    a_node_stopped,
    all_nodes_stopped,
    a_node_protected,
    region_denied,
    credentials_expired,
)
OPERATIONS: dict[str, Callable[[Session], object]] = {
    "refresh": lambda session: Cluster.get(NAME).refresh(),
    "ls --live": refresh_all,
    "heal": lambda session: Cluster.get(NAME).heal("2m"),
    "heal by replacement": lambda session: Cluster.get(NAME).heal("2m", stopped="replace"),
    "extend": lambda session: Cluster.get(NAME).extend("1h"),
    "wait_for": lambda session: Cluster.get(NAME).wait_for("DEGRADED", timeout="1m"),
    "terminate": lambda session: Cluster.get(NAME).terminate(),
    "terminate without waiting": lambda session: Cluster.get(NAME).terminate(wait=False),
    "reconcile": reconcile,
    "reconcile --dry-run": lambda session: reconcile(session, dry_run=True),
    "reap": reap,
    "supervise": lambda session: supervise(session, rounds=1),
    "the same request": lambda session: Cluster.request(gpus=16, type="h100", name=NAME, clouds=[_cloud_of()]),
}


def _cloud_of() -> str:
    provider = Cluster.get(NAME).spec.clouds
    assert provider is not None
    return provider[0]


def require_nothing_lost(cloud: FakeCloud) -> None:
    """Check that the ledger has a live cluster for everything that exists."""
    record = cloud.session.ledger.find(NAME)
    assert record.state.is_live or not cloud.alive(), f"{record.state}, and {cloud.alive()} exist"


@pytest.mark.parametrize(
    ("name", "situation", "operation"),
    [*product(CLOUDS, SITUATIONS, OPERATIONS)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_no_machine_is_lost_in_any_situation(name: str, situation: Situation, operation: str) -> None:
    with fake_cloud(name) as cloud:
        provider = cloud[name]
        Cluster.request(gpus=16, type="h100", name=NAME, clouds=[name])
        cloud.advance("5m")
        machines = provider.running_ids()
        with situation(cloud, provider):
            with suppress(errors.MulticomputeError):
                OPERATIONS[operation](_session_of(cloud))
            require_nothing_lost(cloud)
            if not operation.startswith(("terminate", "heal")):
                assert {item.id for item in cloud.alive()} >= set(machines), "only a teardown or a replacement deletes"
        with suppress(errors.CapacityError):
            Cluster.get(NAME).terminate()
        assert cloud.alive() == []
        assert Cluster.get(NAME).state is ClusterState.TERMINATED


def _session_of(cloud: FakeCloud) -> Session:
    from multicompute.session import open_session

    return open_session()
