"""Deletes orphans in the clouds."""

from collections.abc import Sequence

from multicompute.engine.operation.retry import call_provider
from multicompute.engine.recovery.inventory import Orphan
from multicompute.engine.teardown import TEARDOWN_TIMEOUT
from multicompute.errors import MulticomputeError
from multicompute.provider import Selector
from multicompute.session import Session
from multicompute.units import counted


def remove(session: Session, orphans: Sequence[Orphan], *, thoroughly: bool = False) -> list[tuple[Orphan, str]]:
    """Delete orphans concurrently: nodes, and the resources that belong to their launches.

    With `thoroughly`, continue for as long as the teardown of a cluster does, until the cloud, asked in all its regions after
    its consistency window, shows nothing (I4). Else stop after one consistency window; the next call continues.

    Returns:
        The orphans that may not be deleted completely, and why.
    """
    removals = [_Removal(session, orphan, thoroughly=thoroughly) for orphan in orphans]
    while pending := [removal for removal in removals if not removal.is_over]:
        for removal in pending:
            removal.step()
        pauses = [removal.provider.poll_interval for removal in pending if not removal.is_over]
        if pauses:
            session.clock.sleep(max(pauses))
    return [(removal.orphan, removal.problem) for removal in removals if removal.problem]


class _Removal:
    """The progress in deleting one orphan.

    Attributes:
        is_over: Whether no further step is needed or allowed.
        problem: Why something may be left, "" if nothing is.
    """

    def __init__(self, session: Session, orphan: Orphan, *, thoroughly: bool) -> None:
        self.orphan, self.provider = orphan, session.provider(orphan.provider)
        self.is_over, self.problem = False, ""
        self._session = session
        self._is_thorough = thoroughly
        self._open = set(orphan.regions)
        self._refused: dict[str, str] = {}
        started = session.clock.now()
        self._settled_at = started + self.provider.consistency_window
        self._deadline = started + TEARDOWN_TIMEOUT if thoroughly else self._settled_at

    def step(self) -> None:
        """Delete in the regions where something was left, and list whether anything still is."""
        now = self._session.clock.now()
        waiting_for = [reason for region in sorted(self._open) if (reason := self._delete_in(region))]
        if not self._open and self._is_thorough:
            waiting_for = ["its cloud may still list more"] if now < self._settled_at else self._list_everywhere()
        self.problem = "; ".join([*self._refused.values(), *waiting_for])
        self.is_over = not waiting_for or now >= self._deadline

    def _delete_in(self, region: str) -> str:
        """Return why something is left in a region; "" if nothing is, or if the cloud refuses."""
        selector = Selector(region=region, cluster_id=self.orphan.cluster_id)
        try:
            left = call_provider(self._session, self.orphan.provider, lambda provider: provider.terminate(selector))
        except MulticomputeError as error:
            # An error in one region must not keep nodes running in the others.
            self._refused[region] = f"{self.provider.name} {region}: {error}"
            self._open.discard(region)
            return ""
        if left.is_done:
            self._open.discard(region)
            return ""
        what = left.waiting_for or f"{counted(len(left.remaining), 'resource')} left"
        return f"{self.provider.name} {region}: {what}"

    def _list_everywhere(self) -> list[str]:
        selector = Selector(cluster_id=self.orphan.cluster_id)
        try:
            left = call_provider(self._session, self.orphan.provider, lambda provider: provider.resources(selector))
        except MulticomputeError as error:
            self._refused[""] = f"{self.provider.name}: {error}"
            return []
        self._open = {resource.region for resource in left} - self._refused.keys()
        return [f"{resource.kind} {resource.id} is left" for resource in left if resource.region in self._open]
