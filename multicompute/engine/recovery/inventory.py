"""Finds what carries our tags in the clouds (I3), tells what no ledger row that lives owns, and removes what it is told to."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from multicompute.engine.operation.cancellation import Cancellation
from multicompute.engine.operation.retry import call_with_retry
from multicompute.engine.teardown import PATIENCE
from multicompute.errors import ClusterNotFound, MulticomputeError, SpecError
from multicompute.provider import TAG_CLUSTER, TAG_EXPIRES_AT, TAG_ID, Provider, Resource, Selector
from multicompute.session import Session

EVERY: Final = ("*",)
"""Chooses every orphan; no cluster can be called so."""
_POOL: Final = 8

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Orphan:
    """What carries our tags in one cloud and belongs to no live cluster of the ledger.

    Attributes:
        is_known: whether the ledger has its cluster, as one that has ended.
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
        """Where something of it is."""
        return sorted({resource.region for resource in self.resources})

    def to_dict(self) -> dict[str, object]:
        """In JSON terms."""
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
    """Everything of this owner that the clouds show.

    Attributes:
        orphans: what no live cluster of the ledger owns.
        clusters: the id of each live cluster of the ledger -> what is there of it.
    """

    orphans: tuple[Orphan, ...]
    clusters: Mapping[str, tuple[Resource, ...]]


def expiry_of(resources: Iterable[Resource]) -> str:
    """The end of life by the tags of what belongs together: epoch seconds, or "never" where no tag names one.

    The latest counts: an extension moves it on machines, and leaves the tags of what stands beside them as they were born.
    """
    tags = {tag for resource in resources if (tag := resource.tags.get(TAG_EXPIRES_AT))}
    ends = [int(tag) for tag in tags if tag.isascii() and tag.isdigit()]
    return "never" if "never" in tags or not ends else str(max(ends))


def take_inventory(session: Session, notes: list[str]) -> Inventory:
    """Ask every usable cloud, in all its regions, for what carries this owner's tags; one that can't be asked becomes a note."""
    usable = [name for name, why_not in session.usable.items() if why_not == "" and session.plugins[name].can_launch]
    if not usable:
        return Inventory((), {})
    live = {record.id for record in session.ledger.clusters()}

    def look_at(name: str) -> tuple[str, tuple[Resource, ...]]:
        try:
            provider = session.provider(name)
            return name, ask(session, provider, lambda: provider.resources(Selector(owner=session.config.owner)))
        except MulticomputeError as error:
            notes.append(f"{name}: could not be asked: {error}")
            return name, ()

    with ThreadPoolExecutor(min(_POOL, len(usable))) as pool:
        answers = list(pool.map(look_at, usable))
    # Read again: a cluster that was requested meanwhile is no orphan.
    live |= {record.id for record in session.ledger.clusters()}
    orphans: list[Orphan] = []
    clusters: dict[str, tuple[Resource, ...]] = {}
    for provider, resources in answers:
        for cluster_id, found in _grouped(resources).items():
            if cluster_id in live:
                clusters[cluster_id] = (*clusters.get(cluster_id, ()), *found)
            else:
                name = next((tag for each in found if (tag := each.tags.get(TAG_CLUSTER))), cluster_id)
                orphans.append(Orphan(provider, cluster_id, name, found, is_known(session, cluster_id)))
    return Inventory(tuple(orphans), clusters)


def _grouped(resources: Iterable[Resource]) -> dict[str, tuple[Resource, ...]]:
    groups: dict[str, tuple[Resource, ...]] = {}
    for resource in resources:
        if cluster_id := resource.tags.get(TAG_ID):
            groups[cluster_id] = (*groups.get(cluster_id, ()), resource)
    return groups


def is_known(session: Session, cluster_id: str) -> bool:
    """Whether the ledger has a cluster of this id, live or ended."""
    try:
        session.ledger.cluster(cluster_id)
    except ClusterNotFound:
        return False
    return True


def choose(
    orphans: Sequence[Orphan], *, adopt: Collection[str], terminate: Collection[str]
) -> tuple[set[str], set[str]]:
    """The ids of the clusters that are meant by name or id, to be adopted and to be terminated.

    Raises:
        ClusterNotFound: a name is no orphan; lists those that there are.
        SpecError: the same cluster is meant by both, or a name to be terminated is that of several.
    """
    to_adopt = {cluster_id for name in adopt for cluster_id in _meant(orphans, name)}
    to_end: set[str] = set()
    for name in terminate:
        ids = _meant(orphans, name)
        if len(ids) > 1 and name not in EVERY:
            raise SpecError(f"{name}: {len(ids)} orphans have this name", hint=f"name the id: {', '.join(sorted(ids))}")
        to_end |= ids
    if both := to_adopt & to_end:
        names = ", ".join(sorted({orphan.name for orphan in orphans if orphan.cluster_id in both}))
        raise SpecError(f"{names}: can't be both adopted and terminated", hint="name it in one of the two")
    return to_adopt, to_end


def _meant(orphans: Sequence[Orphan], name: str) -> set[str]:
    if name in EVERY:
        return {orphan.cluster_id for orphan in orphans}
    found = {orphan.cluster_id for orphan in orphans if name in (orphan.name, orphan.cluster_id)}
    if not found:
        known = sorted({f"{orphan.name} ({orphan.cluster_id})" for orphan in orphans})
        there = f"orphans are {', '.join(known)}" if known else "there is no orphan anywhere that could be asked"
        raise ClusterNotFound(f"{name}: no orphan of this name or id; {there}")
    return found


def remove(session: Session, orphans: Sequence[Orphan], *, thoroughly: bool = False) -> list[tuple[Orphan, str]]:
    """Delete orphans side by side, nodes and what stands beside them.

    Args:
        thoroughly: go on for as long as the teardown of a cluster does, and believe that nothing is left only when the cloud, asked
            in all its regions after its consistency window, shows nothing (I4). Else one window is all the patience there is,
            and the next call goes on.

    Returns:
        Those of which something may be left, and why.
    """
    removals = [
        _Removal(session, orphan, session.provider(orphan.provider), thoroughly=thoroughly) for orphan in orphans
    ]
    while pending := [removal for removal in removals if not removal.is_over]:
        for removal in pending:
            removal.step()
        pauses = [removal.provider.poll_interval for removal in pending if not removal.is_over]
        if pauses:
            session.clock.sleep(max(pauses))
    return [(removal.orphan, removal.trouble) for removal in removals if removal.trouble]


class _Removal:
    """The removal of one orphan, as far as it has come.

    Attributes:
        is_over: nothing more is to be done here.
        trouble: why something may be left, "" where nothing is.
    """

    def __init__(self, session: Session, orphan: Orphan, provider: Provider, *, thoroughly: bool) -> None:
        self.orphan, self.provider = orphan, provider
        self.is_over, self.trouble = False, ""
        self._session = session
        self._is_thorough = thoroughly
        self._open = set(orphan.regions)
        self._refused: dict[str, str] = {}
        begun = session.clock.now()
        self._settled = begun + provider.consistency_window
        self._deadline = begun + PATIENCE if thoroughly else self._settled

    def step(self) -> None:
        """Delete where something was left, and look whether anything still is."""
        now = self._session.clock.now()
        waiting_for = [words for region in sorted(self._open) if (words := self._delete_in(region))]
        if not self._open and self._is_thorough and now < self._settled:
            waiting_for = ["its cloud may be about to show more"]
        elif not self._open and self._is_thorough:
            waiting_for = self._look_everywhere()
        self.trouble = "; ".join([*self._refused.values(), *waiting_for])
        self.is_over = not waiting_for or now >= self._deadline

    def _delete_in(self, region: str) -> str:
        """Why something is left in a region; "" where nothing is, or the cloud refuses."""
        selector = Selector(region=region, cluster_id=self.orphan.cluster_id)
        try:
            left = ask(self._session, self.provider, lambda: self.provider.terminate(selector))
        except MulticomputeError as error:
            # One region that refuses must not keep the others running.
            self._refused[region] = f"{self.provider.name} {region}: {error}"
            self._open.discard(region)
            return ""
        if left.is_done:
            self._open.discard(region)
            return ""
        return f"{self.provider.name} {region}: {left.waiting_for or f'{len(left.remaining)} resources are left'}"

    def _look_everywhere(self) -> list[str]:
        selector = Selector(cluster_id=self.orphan.cluster_id)
        try:
            left = ask(self._session, self.provider, lambda: self.provider.resources(selector))
        except MulticomputeError as error:
            self._refused[""] = f"{self.provider.name}: {error}"
            return []
        self._open = {resource.region for resource in left} - self._refused.keys()
        return [f"{resource.kind} {resource.id} is left" for resource in left if resource.region in self._open]


def ask(session: Session, provider: Provider, call: Callable[[], T]) -> T:
    """Call a cloud, patiently."""
    return call_with_retry(
        call,
        clock=session.clock,
        stop=Cancellation(),
        base=provider.poll_interval,
        on_retry=lambda error, seconds: None,
    )
