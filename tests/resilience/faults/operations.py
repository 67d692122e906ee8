"""The operations that are disturbed: how each is prepared and done, and which ends of it are good ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from multicompute import Cluster, ClusterState, errors
from multicompute.engine.recovery.reap import reap
from multicompute.engine.recovery.reconcile import reconcile
from multicompute.ledger import ClusterRecord
from multicompute.node import NodeState
from multicompute.provider import TAG_ATTEMPT, TAG_EXPIRES_AT, TAG_ID, expiry_tag
from tests.resilience.faults.harnesses import Scene
from tests.resilience.faults.troubles import Trouble

NAME = "one"
NODE_KINDS = ("instance", "tpu-host", "virtualMachines")
STILL_THERE = "still there after"
"""What a teardown says whose deletes were taken, or put off, and not done."""


@dataclass(frozen=True)
class Happened:
    """What an operation came to: what it returned, or the error that it raised."""

    value: Any
    error: errors.MulticomputeError | None


@dataclass(frozen=True)
class Operation:
    """Something that users do.

    Attributes:
        prepare: what comes before, undisturbed.
        act: the operation.
        judge: the end that it came to, in words; raises AssertionError where that is none of the good ones.
    """

    prepare: Callable[[Scene], None]
    act: Callable[[Scene], Any]
    judge: Callable[[Scene, Happened, Trouble, bool], str]


# --- what is true of clusters and clouds ------------------------------------------------------------------------------


def record_of(scene: Scene) -> ClusterRecord:
    return scene.session.ledger.find(NAME)


def assert_whole(scene: Scene) -> None:
    """The cluster is READY with the machines that were asked for, and they are all that there is."""
    record, ledger = record_of(scene), scene.session.ledger
    assert record.state is ClusterState.READY, f"{record.state}: {record.reason}"
    nodes = [node for node in ledger.nodes(record.id) if node.ended_at is None]
    assert {node.state for node in nodes} == {NodeState.RUNNING}
    assert sum(node.accelerators for node in nodes) == scene.world.accelerators
    assert sorted(node.id for node in nodes) == sorted(scene.cloud.running_ids())
    assert_owned(scene)


def assert_owned(scene: Scene) -> None:
    """Whatever exists is of the cluster, and whatever costs money of one of its open attempts."""
    record, ledger = record_of(scene), scene.session.ledger
    tokens = {attempt.token for attempt in ledger.attempts(record.id) if attempt.is_open}
    for item in scene.cloud.alive():
        assert item.tags.get(TAG_ID) == record.id, item
        assert not item.billable or item.tags.get(TAG_ATTEMPT) in tokens, item


def assert_gone(scene: Scene, state: ClusterState) -> None:
    record = record_of(scene)
    assert record.state is state, f"{record.state}: {record.reason}"
    assert scene.cloud.alive() == []


def assert_told(happened: Happened, trouble: Trouble, scene: Scene) -> str:
    """The error says what the cloud said; returns the name of its class."""
    error = happened.error
    if isinstance(error, errors.ProvisionTimeout) and trouble.column == "not found":
        # What is not found for good never comes to run.
        return "ProvisionTimeout"
    assert isinstance(error, trouble.kinds), f"{type(error).__name__}: {error}"
    assert error.provider == scene.world.provider
    is_said = error.code == trouble.code if trouble.code and trouble.column != "conflict" else error.code
    assert is_said, f"{error.code}: {error}"
    return type(error).__name__


def assert_mentioned(words: str, trouble: Trouble) -> None:
    """A report gives the cloud's code, where the cloud gave one, or says what it waited for in vain."""
    assert words
    assert not trouble.code or trouble.code in words or STILL_THERE in words, words


def expiries(scene: Scene) -> set[str | None]:
    """The ends of life that the cloud has for the nodes; what is part of a node goes with it."""
    nodes = [item for item in scene.cloud.alive() if item.kind in NODE_KINDS]
    assert nodes
    return {item.tags.get(TAG_EXPIRES_AT) for item in nodes}


# --- request ----------------------------------------------------------------------------------------------------------


def nothing(scene: Scene) -> None:
    """Nothing comes before."""


def request(scene: Scene) -> Cluster:
    return Cluster.request(name=NAME, **scene.world.spec)


def judge_request(scene: Scene, happened: Happened, trouble: Trouble, once: bool) -> str:
    if happened.error is None:
        assert_whole(scene)
        return _placed(scene, trouble)
    told = assert_told(happened, trouble, scene)
    assert not (once and trouble.passes), f"one {trouble.name} should not end a request: {happened.error}"
    if record_of(scene).state is ClusterState.FAILED:
        assert_gone(scene, ClusterState.FAILED)
        return told
    return f"{told} {_held_up(scene, trouble, once=once)}"


def _placed(scene: Scene, trouble: Trouble) -> str:
    """Whether it took more than one try; what was learnt is remembered."""
    ledger = scene.session.ledger
    attempts = ledger.attempts(record_of(scene).id)
    if all(attempt.is_open for attempt in attempts):
        return "ok"
    if trouble.kinds in ((errors.CapacityError,), (errors.QuotaError,)):
        outages = ledger.outages(now=scene.clock.now())
        assert {outage.provider for outage in outages} == {scene.world.provider}
    places = [(attempt.region, attempt.parts[0].offer.zone) for attempt in attempts]
    assert places[-1] not in places[:-1]
    return "failover"


def _held_up(scene: Scene, trouble: Trouble, *, once: bool) -> str:
    """A teardown that could not be ended: in sight, with its reason, for `reap` to go on with."""
    record = record_of(scene)
    assert not once, f"one {trouble.name} should not hold a teardown up: {record.state}: {record.reason}"
    assert record.state is ClusterState.TERMINATING, f"{record.state}: {record.reason}"
    assert record.reason
    assert_owned(scene)
    return "held up"


# --- with a cluster that is up ----------------------------------------------------------------------------------------


def have_one(scene: Scene) -> None:
    scene.memory["cluster"] = request(scene)
    scene.memory["expires_at"] = record_of(scene).expires_at
    scene.memory["tags"] = expiries(scene)
    assert_whole(scene)
    # So late that what a listing does not show counts as gone.
    scene.clock.advance("10m")


def refresh(scene: Scene) -> object:
    return scene.memory["cluster"].refresh()


def judge_refresh(scene: Scene, happened: Happened, trouble: Trouble, once: bool) -> str:
    if happened.error is None and _believed(scene, trouble, ClusterState.TERMINATED):
        return "ended"
    assert_whole(scene)
    if happened.error is None:
        return "ok"
    assert not (once and trouble.passes)
    return assert_told(happened, trouble, scene)


def _believed(scene: Scene, trouble: Trouble, state: ClusterState) -> bool:
    """Whether the cloud was believed when it said that what holds the cluster does not exist: then nothing may be left."""
    if trouble.column != "not found" or record_of(scene).state.is_live:
        return False
    assert_gone(scene, state)
    return True


def extend(scene: Scene) -> object:
    return scene.memory["cluster"].extend("1h")


def judge_extend(scene: Scene, happened: Happened, trouble: Trouble, once: bool) -> str:
    assert_whole(scene)
    old, now = scene.memory["expires_at"], record_of(scene).expires_at
    if happened.error is None:
        assert now is not None and now > old
        assert expiries(scene) == {expiry_tag(now)}
        return "ok"
    assert not (once and trouble.passes)
    assert now == old
    told = assert_told(happened, trouble, scene)
    if expiries(scene) == scene.memory["tags"]:
        return told
    # What moved it could not move it back either, and that is said.
    assert not once
    assert any("later end" in note for note in happened.error.__notes__)
    scene.cloud.faults.clear()
    extend(scene)
    assert expiries(scene) == {expiry_tag(record_of(scene).expires_at)}
    return f"{told} half moved"


def terminate(scene: Scene) -> object:
    return scene.memory["cluster"].terminate()


def judge_terminate(scene: Scene, happened: Happened, trouble: Trouble, once: bool) -> str:
    if happened.error is None:
        assert_gone(scene, ClusterState.TERMINATED)
        return "ok"
    assert not (once and trouble.passes)
    if STILL_THERE in happened.error.message:
        assert isinstance(happened.error, errors.ProviderError) and not once
        told = "ProviderError"
    else:
        told = assert_told(happened, trouble, scene)
    return f"{told} {_going_on(scene)}"


def _going_on(scene: Scene) -> str:
    record = record_of(scene)
    assert record.state is ClusterState.TERMINATING, f"{record.state}: {record.reason}"
    assert record.reason
    assert_owned(scene)
    return "held up"


def let_expire(scene: Scene) -> None:
    have_one(scene)
    scene.clock.advance("3h")


def do_reap(scene: Scene) -> object:
    return reap(scene.session)


def judge_reap(scene: Scene, happened: Happened, trouble: Trouble, once: bool) -> str:
    assert happened.error is None, happened.error
    report = happened.value
    if report.terminated == [NAME]:
        assert_gone(scene, ClusterState.TERMINATED)
        for note in report.notes:
            assert_mentioned(note, trouble)
        return "ok with a note" if report.notes else "ok"
    assert not (once and trouble.passes)
    assert list(report.failed) == [NAME]
    assert_mentioned(report.failed[NAME], trouble)
    return _going_on(scene)


# --- a cluster whose process died -------------------------------------------------------------------------------------


def leave_one(scene: Scene) -> None:
    Cluster.request(name=NAME, wait=False, **scene.world.spec)
    assert record_of(scene).state is ClusterState.PROVISIONING


def do_reconcile(scene: Scene) -> object:
    return reconcile(scene.session)


def judge_reconcile(scene: Scene, happened: Happened, trouble: Trouble, once: bool) -> str:
    assert happened.error is None, happened.error
    report = happened.value
    for note in report.notes:
        assert_mentioned(note, trouble)
    assert report.orphans == []
    if report.adopted == [NAME]:
        assert_whole(scene)
        return "ok with a note" if report.notes else "ok"
    assert not (once and trouble.passes)
    if report.terminated == [NAME] and _believed(scene, trouble, ClusterState.FAILED):
        return "ended"
    assert report.notes
    assert record_of(scene).state is ClusterState.PROVISIONING
    assert_owned(scene)
    scene.cloud.faults.clear()
    assert reconcile(scene.session).adopted == [NAME]
    assert_whole(scene)
    return "noted"


OPERATIONS: Mapping[str, Operation] = {
    "request": Operation(nothing, request, judge_request),
    "refresh": Operation(have_one, refresh, judge_refresh),
    "extend": Operation(have_one, extend, judge_extend),
    "terminate": Operation(have_one, terminate, judge_terminate),
    "reconcile": Operation(leave_one, do_reconcile, judge_reconcile),
    "reap": Operation(let_expire, do_reap, judge_reap),
}
