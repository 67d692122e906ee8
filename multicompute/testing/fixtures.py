"""The work of the pytest plug-in's fixtures: creates clusters, terminates them, and reports those that a test left."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

from multicompute.cluster import Cluster
from multicompute.cluster_requests import RequestArguments
from multicompute.config import load
from multicompute.engine.recovery.inventory import Orphan
from multicompute.engine.recovery.removal import remove
from multicompute.errors import LedgerError, MulticomputeError
from multicompute.plugins import discover
from multicompute.provider import TAG_CLUSTER, TAG_ID, Resource
from multicompute.session import Session
from multicompute.units import format_usd

if TYPE_CHECKING:
    from multicompute.testing.fake.session import FakeCloud
    from multicompute.testing.local.clouds import LocalClouds


class ClusterFactory:
    """Creates clusters for a test and terminates them after it: the value of the fixture `cluster_factory`.

    Example:
        >>> def test_nodes_are_ranked(cluster_factory: ClusterFactory) -> None:
        ...     cluster = cluster_factory(gpus=16, type="h100")
        ...     assert [node.rank for node in cluster.nodes] == [0, 1]
    """

    def __init__(self) -> None:
        """Start without clusters."""
        self._clusters: list[Cluster] = []

    def __call__(
        self, gpus: int | None = None, type: str | Sequence[str] = (), **arguments: Unpack[RequestArguments]
    ) -> Cluster:
        """Request a cluster with the arguments of `Cluster.request`, or one of 8 H100 without any."""
        if gpus is None and not type and "reservations" not in arguments:
            gpus, type = 8, "h100"
        cluster = Cluster.request(gpus, type, **arguments)
        self._clusters.append(cluster)
        return cluster

    def terminate(self) -> list[str]:
        """Terminate all clusters, the last one first, and return the error of each that could not be terminated."""
        return _terminate(reversed(self._clusters))


def left_in_fake_clouds(cloud: "FakeCloud") -> list[str]:
    """Return a line for each cluster that a test left in fake clouds, and remove them."""
    lines = _lines(cloud.session, cloud.alive())
    if lines:
        # The faults that the test injected must not stop the clean-up.
        for provider in cloud.providers.values():
            provider.faults.clear()
        lines += _terminate(_known(cloud.session).values())
        lines += [f"{orphan.name}: {why}" for orphan, why in remove(cloud.session, _orphans(cloud.alive()))]
    return lines


def left_in_local_clouds(clouds: "LocalClouds") -> list[str]:
    """Return a line for each cluster that a test left in local clouds, which are stopped after this."""
    # With the clouds' own variables: the test may have pointed the environment at another ledger.
    session = Session(config=load(clouds.environment), plugins=discover())
    try:
        return _lines(session, clouds.alive())
    finally:
        session.close()


def _lines(session: Session, alive: Iterable[Resource]) -> list[str]:
    """Return a line for each cluster that is live in the ledger, or has resources in the clouds."""
    known = _known(session)
    live = [cluster for cluster in known.values() if cluster.state.is_live]
    lines = [_line(cluster) for cluster in live]
    for orphan in _orphans(alive, exclude={cluster.id for cluster in live}):
        lines.append(_orphan_line(orphan, known.get(orphan.cluster_id)))
    return sorted(lines)


def _orphans(alive: Iterable[Resource], *, exclude: Collection[str] = ()) -> list[Orphan]:
    """Return the resources grouped by cluster and cloud, without the clusters whose ids are in `exclude`."""
    found: dict[tuple[str, str, str], list[Resource]] = {}
    for resource in alive:
        if name := resource.tags.get(TAG_CLUSTER):
            found.setdefault((resource.provider, resource.tags.get(TAG_ID, name), name), []).append(resource)
    return [Orphan(*key, tuple(there), is_known=False) for key, there in found.items() if key[1] not in exclude]


def _known(session: Session) -> Mapping[str, Cluster]:
    if not session.has_ledger:
        return {}
    try:
        return {record.id: Cluster(session, record) for record in session.ledger.clusters(include_ended=True)}
    except LedgerError:
        # A test may have damaged the ledger: then only the clouds are compared.
        return {}


def _line(cluster: Cluster) -> str:
    place = f" in {cluster.provider} {cluster.zone or cluster.region}" if cluster.provider else ""
    count = len(cluster.nodes)
    costs = f"{count} node{'s' * (count != 1)}{place}, {format_usd(cluster.hourly_cost)} per hour"
    return f'{cluster.name}: {cluster.state}, {costs}; terminate it with Cluster.get("{cluster.name}").terminate()'


def _orphan_line(orphan: Orphan, ended: Cluster | None) -> str:
    things = ", ".join(f"{resource.kind} {resource.id}" for resource in orphan.resources)
    state = f"{ended.state} in the ledger" if ended else "in no ledger"
    how = "reconcile" if ended else f"reconcile --terminate {orphan.name}"
    places = ", ".join(orphan.regions)
    return f"{orphan.name}: {state}, but left {things} in {orphan.provider} {places}; `multicompute {how}` deletes it"


def _terminate(clusters: Iterable[Cluster]) -> list[str]:
    """Terminate all clusters, and return the error of each that could not be terminated."""
    errors = []
    for cluster in clusters:
        try:
            cluster.terminate()
        except MulticomputeError as error:
            # Terminate the others all the same.
            errors.append(f"{cluster.name}: {error}")
    return errors
