"""Checks of launches: image, tags at birth, a single node, the same token again, a gang, and the boot script."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from multicompute.engine.operation.operation import working_on
from multicompute.engine.operation.tags import tags_of
from multicompute.engine.provision.launch import launch_request
from multicompute.errors import MulticomputeError
from multicompute.node import Node, NodeState
from multicompute.provider import TAG_ATTEMPT, TAG_EXPIRES_AT, Resource, Selector
from multicompute.units import counted
from multicompute.verify.findings import Failed, NotChecked
from multicompute.verify.purchase import GANG
from multicompute.verify.run import LIVE, Run, ids_of

if TYPE_CHECKING:
    from multicompute.cluster import Cluster

POWER_OFF: Final = "systemctl poweroff || shutdown -h now"
"""The setup script of the node that shows that boot scripts run: the cloud then reports a node that has ended by itself."""
_IMAGE: Final = re.compile(r"\bimages?\b|\bAMI|NoDefaultImage|image(NotFound|reference)", re.IGNORECASE)
_OTHER_CAUSES: Final = ("capacity", "quota", "preemption", "request")
"""Causes of an end that have nothing to do with the boot script."""


def image(run: Run) -> str:
    """Launch the single node, and check that its image exists."""
    try:
        run.buy("one", nodes=1, wait=False)
    except MulticomputeError as error:
        run.launch_error = error
        if is_about_image(error):
            raise Failed(run.describe(error)) from error
        raise NotChecked("nothing was launched") from error
    return "the cloud accepts a launch with the default image"


def is_about_image(error: MulticomputeError) -> bool:
    """Return whether every refusal of a launch names the image."""
    texts = [f"{report.code or ''} {report.message}" for report in error.attempts]
    return all(_IMAGE.search(text) for text in texts or [f"{error.code or ''} {error.message}"])


def tags_at_birth(run: Run) -> str:
    """Check the tags of everything that the launch has created, before anything else is done with it."""
    cluster = run.clusters["one"]
    selector = run.selector(cluster)

    def is_listed() -> bool:
        return set(selector.known_ids) <= ids_of(run.resources(selector))

    run.until(is_listed, within=run.provider.consistency_window)
    found = run.resources(selector)
    attempt = run.open_attempt(cluster)
    expected = tags_of(run.record(cluster), cluster.spec, attempt)
    lacking = [
        f"a resource of the kind {each.kind} lacks {', '.join(missing)}"
        for each in found
        if (missing := _missing(expected, each, is_node=each.id in selector.known_ids))
    ]
    if not found or lacking:
        raise Failed("; ".join(lacking) or "nothing of the launch is listed")
    return f"{len(found)} resources have all {len(expected)} tags"


def _missing(expected: dict[str, str], resource: Resource, *, is_node: bool) -> list[str]:
    """Return the keys of the tags that a resource lacks; what several attempts share has the token and expiry of the first."""
    shared = () if is_node else (TAG_ATTEMPT, TAG_EXPIRES_AT)
    return [
        key
        for key, value in expected.items()
        if key not in resource.tags or (key not in shared and resource.tags[key] != value)
    ]


def launch(run: Run) -> str:
    """Wait until the single node runs."""
    if run.launch_error is not None:
        if is_about_image(run.launch_error):
            raise NotChecked("no launch without an image")
        raise run.launch_error
    cluster = run.clusters["one"].wait()
    return _running(run, cluster, nodes=1)


def same_token(run: Run) -> str:
    """Repeat the launch with the token of the first, and check that nothing was bought."""
    cluster = run.clusters["one"]
    before = {node.id for node in cluster.nodes}
    with working_on(run.session, cluster.id) as op:
        if op is None:
            raise NotChecked("another process works on the cluster")
        request = launch_request(op, run.open_attempt(cluster))
    answer = run.call(lambda provider: provider.launch(request))
    run.hide_nodes(answer)
    listed = run.live_nodes(Selector(region=request.region, cluster_id=cluster.id))
    # A listing that shows the nodes of others must not lead to their termination.
    extra = ids_of([*answer, *(node for node in listed if node.token == request.token)]) - before
    if extra:
        _terminate_only(run, cluster, extra)
        raise Failed(f"the same token has launched {len(extra)} more nodes; they were terminated")
    if ids_of(answer) != before:
        raise Failed(f"the repeated call returns {counted(len(answer), 'node')}, the first returned {len(before)}")
    return "the repeated launch returns the same node"


def gang(run: Run) -> str:
    """Launch the gang."""
    return _running(run, run.buy("gang", nodes=GANG), nodes=GANG)


def boot_script(run: Run) -> str:
    """Launch a node whose setup script powers it off, and wait until the cloud reports that it has ended."""
    require_single_hosts(run)
    cluster = run.buy("boot", nodes=1, wait=False, setup=POWER_OFF)
    seen: dict[str, Node] = {}

    def has_ended() -> bool:
        listed = run.nodes(run.open_attempt(cluster).selector)
        gone = {key: replace(node, state=NodeState.GONE) for key, node in seen.items()}
        seen.update(gone | {node.id: node for node in listed})
        return bool(seen) and not any(node.state in LIVE for node in seen.values())

    if not run.until(has_ended, within=run.provider.attempt_timeout):
        raise Failed("a setup script that powers the node off had no effect")
    if any(node.cause in _OTHER_CAUSES for node in seen.values()):
        raise NotChecked(f"the node ended for another reason: {_reasons(run, seen.values())}")
    states = ", ".join(sorted({node.state.value for node in seen.values()}))
    return f"the setup script has powered the node off: the cloud reports it as {states} {_reasons(run, seen.values())}".strip()


def require_single_hosts(run: Run) -> None:
    """Raise NotChecked for slices of several hosts: a host of a slice does not end alone."""
    if run.purchase.offer.instance.hosts > 1:
        raise NotChecked("a host of a slice does not end alone")


def _running(run: Run, cluster: "Cluster", *, nodes: int) -> str:
    expected = nodes * run.purchase.offer.instance.hosts
    found = cluster.nodes
    run.hide_nodes(found)
    running = [node for node in found if node.state is NodeState.RUNNING and node.private_ip]
    if len({node.id for node in running}) != expected:
        raise Failed(f"{len(running)} of {expected} nodes run and have an address")
    return f"{expected} running in {cluster.region}"


def _terminate_only(run: Run, cluster: "Cluster", ids: Iterable[str]) -> None:
    selector = Selector(region=cluster.region, cluster_id=cluster.id, only=tuple(ids))
    run.until(
        lambda: run.call(lambda provider: provider.terminate(selector)).is_done, within=run.provider.attempt_timeout
    )


def _reasons(run: Run, nodes: Iterable[Node]) -> str:
    reasons = sorted({node.reason for node in nodes if node.reason})
    return run.private.clean(f"({'; '.join(reasons)})") if reasons else ""
