"""What the fixtures of the pytest plug-in do: make clusters, end them, and tell which a test has left behind."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

from multicompute.cluster import Cluster
from multicompute.cluster_requests import RequestArguments
from multicompute.config import load
from multicompute.engine.recovery.inventory import Orphan, remove
from multicompute.errors import LedgerError, MulticomputeError
from multicompute.plugins import discover
from multicompute.provider import TAG_CLUSTER, TAG_ID, Resource
from multicompute.session import Session
from multicompute.units import format_usd

if TYPE_CHECKING:
    from multicompute.testing.fake_session import FakeCloud
    from multicompute.testing.local import LocalClouds


class ClusterFactory:
    """Makes clusters for a test and ends them after it: what the fixture `cluster_factory` gives.

    Example:
        >>> def test_nodes_are_ranked(cluster_factory: ClusterFactory) -> None:
        ...     cluster = cluster_factory(gpus=16, type="h100")
        ...     assert [node.rank for node in cluster.nodes] == [0, 1]
    """

    def __init__(self) -> None:
        self._made: list[Cluster] = []

    def __call__(
        self, gpus: int | None = None, type: str | Sequence[str] = (), **arguments: Unpack[RequestArguments]
    ) -> Cluster:
        """Request a cluster; takes the arguments of `Cluster.request` and raises what it raises. Without any, 8 H100."""
        if gpus is None and not type and "reservations" not in arguments:
            gpus, type = 8, "h100"
        cluster = Cluster.request(gpus, type, **arguments)
        self._made.append(cluster)
        return cluster

    def end(self) -> list[str]:
        """End all that were made, the last one first; returns what went wrong, for each that could not be ended."""
        return _end(reversed(self._made))


def left_in_memory(cloud: "FakeCloud") -> list[str]:
    """A line for each cluster that a test has left in these clouds; when it returns nothing of them is left."""
    lines = _lines(cloud.session, cloud.alive())
    if lines:
        # The weather that the test made is over.
        for provider in cloud.providers.values():
            provider.faults.clear()
        lines += _end(_known(cloud.session).values())
        lines += [f"{orphan.name}: {why}" for orphan, why in remove(cloud.session, _orphans(cloud.alive()))]
    return lines


def left_on_the_wire(clouds: "LocalClouds") -> list[str]:
    """A line for each cluster that a test has left in these clouds; they are stopped next, with everything in them."""
    # By their own variables: the ledger that the test has led the environment to may be somebody's.
    session = Session(config=load(clouds.environment), plugins=discover())
    try:
        return _lines(session, clouds.alive())
    finally:
        session.close()


def _lines(session: Session, alive: Iterable[Resource]) -> list[str]:
    """What is left: live by the ledger, or there by what the clouds say, whatever the ledger says."""
    known = _known(session)
    live = [cluster for cluster in known.values() if cluster.state.is_live]
    lines = [_line(cluster) for cluster in live]
    for orphan in _orphans(alive, but={cluster.id for cluster in live}):
        lines.append(_orphan_line(orphan, known.get(orphan.cluster_id)))
    return sorted(lines)


def _orphans(alive: Iterable[Resource], *, but: Collection[str] = ()) -> list[Orphan]:
    """What belongs together by its tags, cloud by cloud; `but` has the ids of clusters that are left out."""
    found: dict[tuple[str, str, str], list[Resource]] = {}
    for resource in alive:
        if name := resource.tags.get(TAG_CLUSTER):
            found.setdefault((resource.provider, resource.tags.get(TAG_ID, name), name), []).append(resource)
    return [Orphan(*key, tuple(there), is_known=False) for key, there in found.items() if key[1] not in but]


def _known(session: Session) -> Mapping[str, Cluster]:
    if not session.has_ledger:
        return {}
    try:
        return {record.id: Cluster(session, record) for record in session.ledger.clusters(include_ended=True)}
    except LedgerError:
        # A test may have spoilt it: then the clouds alone tell.
        return {}


def _line(cluster: Cluster) -> str:
    place = f" in {cluster.provider} {cluster.zone or cluster.region}" if cluster.provider else ""
    count = len(cluster.nodes)
    costs = f"{count} node{'s' * (count != 1)}{place}, {format_usd(cluster.hourly_cost)} per hour"
    return f'{cluster.name}: {cluster.state}, {costs}; Cluster.get("{cluster.name}").terminate() ends it'


def _orphan_line(orphan: Orphan, ended: Cluster | None) -> str:
    things = ", ".join(f"{resource.kind} {resource.id}" for resource in orphan.resources)
    state = f"{ended.state} by the ledger" if ended else "in no ledger"
    how = "reconcile" if ended else f"reconcile --terminate {orphan.name}"
    places = ", ".join(orphan.regions)
    return (
        f"{orphan.name}: {state}, and there is {things} in {orphan.provider} {places}; `multicompute {how}` deletes it"
    )


def _end(clusters: Iterable[Cluster]) -> list[str]:
    """End all of them; returns what went wrong, for each that could not be ended."""
    troubles = []
    for cluster in clusters:
        try:
            cluster.terminate()
        except MulticomputeError as error:
            # The others are ended all the same.
            troubles.append(f"{cluster.name}: {error}")
    return troubles
