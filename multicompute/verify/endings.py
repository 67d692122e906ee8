"""Checks of teardowns, and the teardown of everything that a run has launched."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from multicompute.engine.recovery.inventory import Orphan
from multicompute.engine.recovery.removal import remove
from multicompute.engine.teardown import terminate
from multicompute.errors import MulticomputeError
from multicompute.node import ClusterState
from multicompute.provider import Resource
from multicompute.units import counted
from multicompute.verify.findings import Failed
from multicompute.verify.run import Run, ids_of

if TYPE_CHECKING:
    from multicompute.ledger import ClusterRecord


def teardown(run: Run) -> str:
    """Terminate the gang, and check that the cloud shows none of its nodes running."""
    gang = run.clusters["gang"]
    gang.terminate()
    record = run.record(gang)
    if running := [node for selector in run.selectors(record) for node in run.live_nodes(selector)]:
        _remove(run, record)
        raise Failed(
            f"the cloud accepted the teardown, and {counted(len(running), 'node')} ran on; they were terminated again"
        )
    return "the gang is TERMINATED, and none of its nodes runs"


def others_untouched(run: Run) -> str:
    """Check that the teardown of the gang has left the other cluster as it was."""
    one = run.clusters["one"]
    before = {node.id for node in one.nodes}
    one.refresh()
    found = ids_of(run.live_nodes(run.selector(one)))
    if one.state is not ClusterState.READY or found != before:
        raise Failed(f"the other cluster is {one.state} after it, and {len(before - found)} of its nodes are gone")
    return "the other cluster is READY and has the same nodes"


def nothing_left(run: Run) -> str:
    """Terminate every cluster of the run, and list what the cloud still has of them, after its consistency window (I4)."""
    errors = terminate_all(run)
    wait = run.settled_at() - run.session.clock.now()
    run.session.clock.sleep(wait)
    left = {record.id: _listed(run, record) for record in run.records()}
    found = [resource for resources in left.values() for resource in resources]
    if found:
        for record in run.records():
            # The teardown of a live cluster is continued by `reap`; another half hour of waiting changes nothing.
            if left[record.id] and record.state.has_ended:
                _remove(run, record)
    run.left = tuple(_still_left(run))
    if errors or found:
        deleted = "" if run.left else "; deleted by a second call"
        raise Failed("; ".join([*errors, *([f"left: {_kinds(found)}{deleted}"] if found else [])]))
    return "the cloud lists nothing of the run"


def terminate_all(run: Run) -> list[str]:
    """Terminate every cluster of the run that is live, and return the error of each that could not be terminated.

    A signal does not keep the others from being terminated: it is raised after the last.
    """
    errors: list[str] = []
    stopped: BaseException | None = None
    for record in run.records():
        if record.state.has_ended:
            continue
        try:
            terminate(run.session, record.id, reason="the verification has ended")
        except MulticomputeError as error:
            errors.append(run.describe(error))
        except (KeyboardInterrupt, SystemExit) as stop:
            stopped = stop
    if stopped is not None:
        raise stopped
    return errors


def still_live(run: Run) -> list[str]:
    """Return the names of the clusters of the run whose teardown is not complete."""
    return [record.name for record in run.records() if record.state.is_live]


def _still_left(run: Run) -> list[str]:
    """Return the names of the clusters of which something is left, in the ledger or in the cloud."""
    return [record.name for record in run.records() if record.state.is_live or _listed(run, record)]


def _listed(run: Run, record: "ClusterRecord") -> list[Resource]:
    return [resource for selector in run.selectors(record) for resource in run.resources(selector)]


def _remove(run: Run, record: "ClusterRecord") -> None:
    """Delete what the cloud lists of a cluster that the ledger has closed; what can't be deleted is found by the last listing."""
    if found := _listed(run, record):
        orphan = Orphan(run.name, record.id, record.name, tuple(found), is_known=True)
        remove(run.session, [orphan], thoroughly=True)


def _kinds(resources: Iterable[Resource] | Sequence[Resource]) -> str:
    """Return how many resources of each kind these are: "2 instance, 1 security-group"."""
    counts = Counter(resource.kind for resource in resources)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
