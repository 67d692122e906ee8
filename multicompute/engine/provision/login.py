"""The key pair of a cluster, and the wait until the nodes of a launch can be logged in to."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import Final

from multicompute.engine.operation.operation import Operation
from multicompute.errors import MulticomputeError, ProviderError, ProvisionTimeout, RunError, SpecError
from multicompute.node import Node
from multicompute.provider_kit.calls import in_parallel
from multicompute.remote.keys import is_usable
from multicompute.remote.nodes import RemoteNodes
from multicompute.remote.pins import Pins
from multicompute.remote.places import PUBLIC_KEY, cluster_folder, make_key
from multicompute.remote.reach import Reached, reach
from multicompute.remote.wire import answers
from multicompute.session import Session
from multicompute.spec import SSH_KEY_AUTO, ClusterSpec
from multicompute.units import format_duration

_PATIENCE: Final = timedelta(minutes=10)
"""The longest time from a running node to an answer of its SSH server."""
_FIRST_PAUSE: Final = timedelta(milliseconds=100)
_LONGEST_PAUSE: Final = timedelta(seconds=10)
_AT_ONCE: Final = 64


def require_key_maker(session: Session, spec: ClusterSpec) -> None:
    """Check that a key pair can be made, if the request asks for one.

    Raises:
        SpecError: It can't.
    """
    if spec.ssh_key != SSH_KEY_AUTO:
        return
    if find_spec("asyncssh") is None:
        raise SpecError('ssh_key="auto": needs asyncssh', hint='pip install "multicompute[ssh]"', argument="ssh_key")
    if cluster_folder(session, "any") is None:
        raise SpecError('ssh_key="auto": neither XDG_DATA_HOME nor HOME is set, so there is no place for the key')


def made_key(op: Operation) -> dict[str, str]:
    """Make the key pair of a cluster whose request names no key, and return its public half as data of an event.

    Raises:
        MulticomputeError: It can't be written, and the request asks for it.
    """
    if op.spec.ssh_key not in (None, SSH_KEY_AUTO):
        return {}
    try:
        public = make_key(op.session, op.cluster_id, op.name)
    except MulticomputeError as error:
        if op.spec.ssh_key == SSH_KEY_AUTO:
            raise
        op.events.add("note", f"no key pair was made, so nothing can be run on the nodes: {error.message}")
        return {}
    return {} if public is None else {PUBLIC_KEY: public}


def wait_until_ssh_answers(op: Operation, found: Sequence[Sequence[Node]]) -> None:
    """Wait until the SSH servers of nodes that run answer, if the request names a key; log in where the private key is here.

    Raises:
        TerminationRequested: Another process requested the termination of the cluster.
        LeaseLost: Another process took the cluster over.
        ProvisionTimeout: None answers, so the way to them is closed; or the time of the request has run out.
        ProviderError: Some do not answer, and others do.
    """
    checked = _checked(op, [node for group in found for node in group])
    started, pause = op.clock.now(), _FIRST_PAUSE
    waiting = [each for each in checked if each.is_direct]
    while waiting := _silent(waiting):
        op.heartbeat()
        _check_time(op, waiting, checked, since=started)
        op.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    _log_in(op, [each for each in checked if _can_log_in(each)])


def is_ssh_closed(op: Operation, found: Sequence[Sequence[Node]]) -> bool:
    """Return whether the SSH server of a node does not answer yet, although the request names a key."""
    return bool(_silent([each for each in _checked(op, [node for group in found for node in group]) if each.is_direct]))


def _silent(nodes: Sequence[Reached]) -> list[Reached]:
    """Return those of the nodes whose SSH servers do not answer."""
    ready = in_parallel(
        lambda each: answers(each.target.host.address, each.target.host.port or 22), nodes, at_once=_AT_ONCE
    )
    return [each for each, is_ready in zip(nodes, ready, strict=True) if not is_ready]


def _checked(op: Operation, nodes: Sequence[Node]) -> list[Reached]:
    """Return the nodes that can be reached from here, as far as is known; none if the request names no key."""
    if op.spec.ssh_key is None:
        return []
    found = reach(op.session, op.reload(), [replace(node, rank=rank) for rank, node in enumerate(nodes)])
    unreachable = [each for each in found if each.why_not is not None]
    if unreachable:
        op.events.add("note", f"not checked whether SSH answers: {unreachable[0].why_not}")
    return [each for each in found if each.why_not is None]


def _can_log_in(reached: Reached) -> bool:
    """Return whether the private key can be read: the agent is not asked before something is run."""
    identity = reached.target.host.identity
    return identity is not None and is_usable(identity)


def _check_time(op: Operation, waiting: Sequence[Reached], checked: Sequence[Reached], *, since: datetime) -> None:
    now = op.clock.now()
    is_over = op.deadline is not None and now >= op.deadline
    limit = op.spec.attempt_timeout or _PATIENCE
    if not is_over and now < since + limit:
        return
    first = waiting[0]
    text = f"{len(waiting)} of {len(checked)} nodes run, but SSH does not answer at {first.target.host.address}:{first.target.host.port or 22}"
    if is_over or len(waiting) == len(checked):
        raise ProvisionTimeout(
            f"{text} after {format_duration(now - since)}",
            provider=first.node.provider,
            region=first.node.region,
            hint="let port 22 through (`ssh_from`, your own rules), or leave out ssh_key",
        )
    raise ProviderError(
        f"{text} after {format_duration(limit)}", provider=first.node.provider, region=first.node.region
    )


def _log_in(op: Operation, checked: Sequence[Reached]) -> None:
    """Log in once to nodes, and pin their host keys; a key that is installed late in the boot is waited for."""
    if not checked or find_spec("asyncssh") is None:
        return
    # `connect` waits itself, for as long as the request allows.
    targets = [replace(each.target, patience=timedelta(0)) for each in checked]
    ids = {each.target.rank: each.node.id for each in checked}
    with RemoteNodes(targets, check_cancelled=op.heartbeat, random=op.session.random) as nodes:
        try:
            nodes.connect(within=op.spec.attempt_timeout or _PATIENCE)
        except RunError as error:
            raise ProvisionTimeout(
                f"the nodes run, but nobody can log in: {error.message}", hint="check ssh_key and ssh_user"
            ) from error
        finally:
            keys = {ids[rank]: key for rank, key in nodes.host_keys.items()}
            Pins(cluster_folder(op.session, op.cluster_id)).add(keys, nodes.jump_host_keys)
