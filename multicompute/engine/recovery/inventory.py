"""Lists the resources with our tags in the clouds (I3), and separates live clusters from orphans."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from multicompute.engine.operation.coverage import Coverage, clouds_in_use
from multicompute.engine.operation.retry import call_provider
from multicompute.errors import ClusterNotFound, MulticomputeError, SpecError
from multicompute.provider import TAG_CLUSTER, TAG_EXPIRES_AT, TAG_ID, Resource, Selector
from multicompute.session import Session

EVERY: Final = ("*",)
"""Selects every orphan; no cluster can have this name."""
_POOL: Final = 8


@dataclass(frozen=True, slots=True)
class Orphan:
    """Resources of one cluster in one cloud that carry our tags and belong to no live cluster of the ledger.

    Attributes:
        is_known: Whether the ledger has the cluster, as one that has ended.
    """

    provider: str
    cluster_id: str
    name: str
    resources: tuple[Resource, ...]
    is_known: bool

    @property
    def expires_at(self) -> str:
        """The expiry tag: epoch seconds, or "never"."""
        return expiry_of(self.resources)

    @property
    def regions(self) -> list[str]:
        """The regions of its resources."""
        return sorted({resource.region for resource in self.resources})

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "provider": self.provider,
            "id": self.cluster_id,
            "name": self.name,
            "regions": self.regions,
            "resources": [f"{resource.kind} {resource.id}" for resource in self.resources],
            "billable": any(resource.billable for resource in self.resources),
            "expires_at": self.expires_at,
        }


@dataclass(frozen=True, slots=True)
class Inventory:
    """The resources with this owner's tags in the clouds.

    Attributes:
        orphans: The resources that belong to no live cluster of the ledger.
        clusters: The id of each live cluster of the ledger -> its resources.
    """

    orphans: tuple[Orphan, ...]
    clusters: Mapping[str, tuple[Resource, ...]]


def expiry_of(resources: Iterable[Resource]) -> str:
    """Return the expiry of the resources of one cluster by their tags: epoch seconds, or "never" if no tag has one.

    The latest counts: an extension changes the tags of machines, but not those of the resources they depend on.
    """
    tags = {tag for resource in resources if (tag := resource.tags.get(TAG_EXPIRES_AT))}
    ends = [int(tag) for tag in tags if tag.isascii() and tag.isdigit()]
    return "never" if "never" in tags or not ends else str(max(ends))


def list_inventory(session: Session, coverage: Coverage) -> Inventory:
    """List the resources with this owner's tags in every usable cloud, in all its regions; add to `coverage` which answered."""
    in_use = clouds_in_use(session)
    coverage.not_asked |= {name: f"not asked: {why_not}" for name, why_not in in_use.items() if why_not}
    coverage.unused = [name for name in session.plugins if name not in in_use]
    usable = [name for name, why_not in in_use.items() if not why_not]
    if not usable:
        return Inventory((), {})
    live = {record.id for record in session.ledger.clusters()}
    selector = Selector(owner=session.config.owner)

    def list_resources(name: str) -> tuple[Resource, ...]:
        try:
            found = call_provider(session, name, lambda provider: provider.resources(selector))
        except MulticomputeError as error:
            coverage.not_asked[name] = f"could not be listed: {error}"
            return ()
        coverage.asked.append(name)
        return found

    with ThreadPoolExecutor(min(_POOL, len(usable))) as pool:
        answers = list(zip(usable, pool.map(list_resources, usable), strict=True))
    # Read again: a cluster that was requested in the meantime is no orphan.
    live |= {record.id for record in session.ledger.clusters()}
    orphans: list[Orphan] = []
    clusters: dict[str, tuple[Resource, ...]] = {}
    for provider_name, resources in answers:
        for cluster_id, found in _by_cluster(resources).items():
            if cluster_id in live:
                clusters[cluster_id] = (*clusters.get(cluster_id, ()), *found)
            else:
                name = next((tag for each in found if (tag := each.tags.get(TAG_CLUSTER))), cluster_id)
                orphans.append(Orphan(provider_name, cluster_id, name, found, is_known(session, cluster_id)))
    return Inventory(tuple(orphans), clusters)


def _by_cluster(resources: Iterable[Resource]) -> dict[str, tuple[Resource, ...]]:
    groups: dict[str, tuple[Resource, ...]] = {}
    for resource in resources:
        if cluster_id := resource.tags.get(TAG_ID):
            groups[cluster_id] = (*groups.get(cluster_id, ()), resource)
    return groups


def is_known(session: Session, cluster_id: str) -> bool:
    """Return whether the ledger has a cluster of this id, live or ended."""
    try:
        session.ledger.cluster(cluster_id)
    except ClusterNotFound:
        return False
    return True


def choose(
    orphans: Sequence[Orphan], *, adopt: Collection[str], terminate: Collection[str]
) -> tuple[set[str], set[str]]:
    """Return the ids of the orphans to adopt and of those to terminate, which are chosen by name or id.

    Raises:
        ClusterNotFound: A name belongs to no orphan; the message lists the orphans.
        SpecError: A cluster is in both, or several orphans have a name in `terminate`.
    """
    to_adopt = {cluster_id for name in adopt for cluster_id in _ids_of(orphans, name)}
    to_terminate: set[str] = set()
    for name in terminate:
        ids = _ids_of(orphans, name)
        if len(ids) > 1 and name not in EVERY:
            raise SpecError(f"{name}: {len(ids)} orphans have this name", hint=f"use an id: {', '.join(sorted(ids))}")
        to_terminate |= ids
    if both := to_adopt & to_terminate:
        names = ", ".join(sorted({orphan.name for orphan in orphans if orphan.cluster_id in both}))
        raise SpecError(f"{names}: can't be both adopted and terminated", hint="name it in one of the two")
    return to_adopt, to_terminate


def _ids_of(orphans: Sequence[Orphan], name: str) -> set[str]:
    if name in EVERY:
        return {orphan.cluster_id for orphan in orphans}
    found = {orphan.cluster_id for orphan in orphans if name in (orphan.name, orphan.cluster_id)}
    if not found:
        known = sorted({f"{orphan.name} ({orphan.cluster_id})" for orphan in orphans})
        available = f"orphans are {', '.join(known)}" if known else "no cloud that answered has an orphan"
        raise ClusterNotFound(f"{name}: no orphan of this name or id; {available}")
    return found
