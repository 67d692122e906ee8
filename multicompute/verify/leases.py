"""Checks of running clusters: listing, the expiry, and a node that is terminated from outside."""

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from multicompute.errors import MulticomputeError
from multicompute.node import ClusterState
from multicompute.provider import TAG_EXPIRES_AT, Capability, Selector, expiry_tag
from multicompute.units import counted, format_duration
from multicompute.verify.findings import Failed, NotChecked
from multicompute.verify.launching import require_single_hosts
from multicompute.verify.purchase import EXTENSION
from multicompute.verify.run import Run, ids_of

if TYPE_CHECKING:
    from multicompute.cluster import Cluster


def listing(run: Run) -> str:
    """Check that each cluster is listed completely, and without the nodes of the other."""
    problems = [
        problem
        for key in ("one", "gang")
        for problem in _listing_problems(run, run.clusters[key], what=f"the {key} cluster")
    ]
    if problems:
        raise Failed("; ".join(problems))
    return "nodes and resources of both clusters, by cluster, token and owner"


def _listing_problems(run: Run, cluster: "Cluster", *, what: str) -> list[str]:
    region, known = cluster.region, {node.id for node in cluster.nodes}
    selectors = {
        "cluster": Selector(region=region, cluster_id=cluster.id),
        "token": Selector(region=region, token=run.open_attempt(cluster).token),
        "owner and cluster": Selector(region=region, cluster_id=cluster.id, owner=run.record(cluster).owner),
    }
    problems = []
    for by, selector in selectors.items():

        def are_listed(selector: Selector = selector) -> bool:
            return ids_of(run.live_nodes(selector)) == known

        if not run.until(are_listed, within=run.provider.consistency_window):
            found = ids_of(run.live_nodes(selector))
            problems.append(f"nodes of {what} by {by}: {len(known - found)} missing, {len(found - known)} of others")
    resources = ids_of(run.resources(selectors["cluster"]))
    if not known <= resources:
        problems.append(f"resources of {what}: {counted(len(known - resources), 'node')} missing")
    return problems


def expiry_moved(run: Run) -> str:
    """Extend the lease of one cluster, and read the expiry of the nodes of both in the cloud."""
    one, gang = run.clusters["one"], run.clusters.get("gang")
    before = _expiries(run, gang) if gang is not None else set()
    later = expiry_tag(one.extend(EXTENSION))
    if not run.until(lambda: _expiries(run, one) == {later}, within=run.provider.consistency_window):
        raise Failed("the cloud shows another expiry than the ledger after an extension")
    if gang is not None and _expiries(run, gang) != before:
        raise Failed("the extension of one cluster has changed the expiry of another")
    return f"extended by {format_duration(EXTENSION)}, in the cloud as well"


def _expiries(run: Run, cluster: "Cluster") -> set[str]:
    """Return the expiry tags of the nodes of a cluster."""
    known = {node.id for node in cluster.nodes}
    resources = run.resources(Selector(region=cluster.region, cluster_id=cluster.id))
    return {resource.tags.get(TAG_EXPIRES_AT, "") for resource in resources if resource.id in known}


def ended_from_outside(run: Run) -> str:
    """Terminate a node of the gang behind the engine's back, and check that a refresh shows it."""
    gang = run.clusters["gang"]
    require_single_hosts(run)
    victim = gang.nodes[-1]
    selector = Selector(region=victim.region, cluster_id=gang.id, only=(victim.id,))
    terminate = partial(run.call, lambda provider: provider.terminate(selector))

    def is_seen() -> bool:
        gang.refresh()
        return gang.state is ClusterState.DEGRADED and victim.id not in {node.id for node in gang.nodes}

    limit = run.provider.attempt_timeout
    run.until(lambda: terminate().is_done, within=limit)
    if not run.until(is_seen, within=limit):
        raise Failed(f"a node that was terminated from outside is still listed as running; the gang is {gang.state}")
    return "the gang is DEGRADED, and the node is no longer listed as running"


def expiry_enforced(run: Run) -> str:
    """Move the expiry of a cluster to now, and wait until its node ends without a call of ours."""
    require_single_hosts(run)
    one = run.clusters["one"]
    is_promised = Capability.EXPIRY in run.provider.capabilities
    selector = run.selector(one)
    try:
        run.call(lambda provider: provider.set_expiry(selector, _now(run)))
    except MulticomputeError as error:
        raise Failed(run.describe(error)) from error
    if run.until(lambda: not run.live_nodes(selector), within=run.provider.attempt_timeout):
        return "the node has ended by itself at its expiry" + (
            "" if is_promised else "; it may stay billed until it is deleted"
        )
    if not is_promised:
        raise NotChecked("the node did not end by itself, which this cloud does not promise: run `multicompute reap`")
    raise Failed("the node still runs after its expiry")


def _now(run: Run) -> datetime:
    return run.session.clock.now()
