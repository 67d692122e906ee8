"""The operations of the campaign: how to prepare and run each, and which outcomes are acceptable."""

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
NOT_DELETED = "not deleted after"
"""The error of a teardown whose deletes were accepted or postponed, and not carried out."""


@dataclass(frozen=True)
class Result:
    """The result of an operation: what it returned, or the error that it raised."""

    value: Any
    error: errors.MulticomputeError | None


@dataclass(frozen=True)
class Operation:
    """An operation of users.

    Attributes:
        prepare: what happens before, without trouble.
        act: the operation.
        judge: returns the outcome in words; raises AssertionError if it is not acceptable.
    """

    prepare: Callable[[Scene], None]
    act: Callable[[Scene], Any]
    judge: Callable[[Scene, Result, Trouble, bool], str]


# --- checks of clusters and clouds ------------------------------------------------------------------------------


def record_of(scene: Scene) -> ClusterRecord:
    return scene.session.ledger.find(NAME)


def assert_complete(scene: Scene) -> None:
    """Check that the cluster is READY with the requested nodes, and that the cloud runs no others."""
    record, ledger = record_of(scene), scene.session.ledger
    assert record.state is ClusterState.READY, f"{record.state}: {record.reason}"
    nodes = [node for node in ledger.nodes(record.id) if node.ended_at is None]
    assert {node.state for node in nodes} == {NodeState.RUNNING}
    assert sum(node.accelerators for node in nodes) == scene.harness.accelerators
    assert sorted(node.id for node in nodes) == sorted(scene.cloud.running_ids())
    assert_owned(scene)


def assert_owned(scene: Scene) -> None:
    """Check that every resource belongs to the cluster, and every billable one to one of its open attempts."""
    record, ledger = record_of(scene), scene.session.ledger
    tokens = {attempt.token for attempt in ledger.attempts(record.id) if attempt.is_open}
    for item in scene.cloud.alive():
        assert item.tags.get(TAG_ID) == record.id, item
        assert not item.billable or item.tags.get(TAG_ATTEMPT) in tokens, item


def assert_gone(scene: Scene, state: ClusterState) -> None:
    record = record_of(scene)
    assert record.state is state, f"{record.state}: {record.reason}"
    assert scene.cloud.alive() == []


def assert_reported(result: Result, trouble: Trouble, scene: Scene) -> str:
    """Check that the error has what the cloud answered, and return the name of its class."""
    error = result.error
    if isinstance(error, errors.ProvisionTimeout) and trouble.column == "not found":
        # A node that is never found never runs.
        return "ProvisionTimeout"
    if isinstance(error, errors.NoOfferError) and errors.AccessDeniedError in trouble.kinds:
        # What the account can use is read before anything is planned: a region that refuses it has no offer.
        assert "region not available to the account" in str(error), error
        return "NoOfferError"
    assert isinstance(error, trouble.kinds), f"{type(error).__name__}: {error}"
    assert error.provider == scene.harness.provider
    has_code = error.code == trouble.code if trouble.code and trouble.column != "conflict" else error.code
    assert has_code, f"{error.code}: {error}"
    return type(error).__name__


def assert_mentioned(message: str, trouble: Trouble) -> None:
    """Check that a message has the cloud's code, if there is one, or lists what is not deleted."""
    assert message
    assert not trouble.code or trouble.code in message or NOT_DELETED in message, message


def expiries(scene: Scene) -> set[str | None]:
    """Return the expiry tags of the nodes, without those of their parts."""
    nodes = [item for item in scene.cloud.alive() if item.kind in NODE_KINDS]
    assert nodes
    return {item.tags.get(TAG_EXPIRES_AT) for item in nodes}


# --- request ----------------------------------------------------------------------------------------------------------


def nothing(scene: Scene) -> None:
    """Prepare nothing."""


def request(scene: Scene) -> Cluster:
    return Cluster.request(name=NAME, **scene.harness.spec)


def judge_request(scene: Scene, result: Result, trouble: Trouble, once: bool) -> str:
    if result.error is None:
        assert_complete(scene)
        return _placed(scene, trouble)
    error_name = assert_reported(result, trouble, scene)
    assert not (once and trouble.passes), f"one {trouble.name} should not end a request: {result.error}"
    if record_of(scene).state is ClusterState.FAILED:
        assert_gone(scene, ClusterState.FAILED)
        return error_name
    return f"{error_name} {_held_up(scene, trouble, once=once)}"


def _placed(scene: Scene, trouble: Trouble) -> str:
    """Return whether the request took more than one try, and check that its outages are remembered."""
    ledger = scene.session.ledger
    attempts = ledger.attempts(record_of(scene).id)
    if all(attempt.is_open for attempt in attempts):
        return "ok"
    if trouble.kinds in ((errors.CapacityError,), (errors.QuotaError,)):
        outages = ledger.outages(now=scene.clock.now())
        assert {outage.provider for outage in outages} == {scene.harness.provider}
    places = [(attempt.region, attempt.parts[0].offer.zone) for attempt in attempts]
    assert places[-1] not in places[:-1]
    return "failover"


def _held_up(scene: Scene, trouble: Trouble, *, once: bool) -> str:
    """Check that a teardown that is not complete has a reason, and is left for `reap`."""
    record = record_of(scene)
    assert not once, f"one {trouble.name} should not block a teardown: {record.state}: {record.reason}"
    assert record.state is ClusterState.TERMINATING, f"{record.state}: {record.reason}"
    assert record.reason
    assert_owned(scene)
    return "held up"


# --- with a cluster that is up ----------------------------------------------------------------------------------------


def bring_up(scene: Scene) -> None:
    scene.memory["cluster"] = request(scene)
    scene.memory["expires_at"] = record_of(scene).expires_at
    scene.memory["tags"] = expiries(scene)
    assert_complete(scene)
    # After the consistency window, so that a node that is not listed counts as gone.
    scene.clock.advance("10m")


def refresh(scene: Scene) -> object:
    return scene.memory["cluster"].refresh()


def judge_refresh(scene: Scene, result: Result, trouble: Trouble, once: bool) -> str:
    if result.error is None and _believed(scene, trouble, ClusterState.TERMINATED):
        return "ended"
    assert_complete(scene)
    if result.error is None:
        return "ok"
    assert not (once and trouble.passes)
    return assert_reported(result, trouble, scene)


def _believed(scene: Scene, trouble: Trouble, state: ClusterState) -> bool:
    """Return whether the cluster was closed since the cloud did not find what contains it; then nothing may be left."""
    if trouble.column != "not found" or record_of(scene).state.is_live:
        return False
    assert_gone(scene, state)
    return True


def extend(scene: Scene) -> object:
    return scene.memory["cluster"].extend("1h")


def judge_extend(scene: Scene, result: Result, trouble: Trouble, once: bool) -> str:
    assert_complete(scene)
    old, now = scene.memory["expires_at"], record_of(scene).expires_at
    if result.error is None:
        assert now is not None and now > old
        assert expiries(scene) == {expiry_tag(now)}
        return "ok"
    assert not (once and trouble.passes)
    assert now == old
    error_name = assert_reported(result, trouble, scene)
    if expiries(scene) == scene.memory["tags"]:
        return error_name
    # The expiry could not be restored either, and a note says so.
    assert not once
    assert any("later expiry" in note for note in result.error.__notes__)
    scene.cloud.faults.clear()
    extend(scene)
    assert expiries(scene) == {expiry_tag(record_of(scene).expires_at)}
    return f"{error_name} half moved"


def terminate(scene: Scene) -> object:
    return scene.memory["cluster"].terminate()


def judge_terminate(scene: Scene, result: Result, trouble: Trouble, once: bool) -> str:
    if result.error is None:
        assert_gone(scene, ClusterState.TERMINATED)
        return "ok"
    assert not (once and trouble.passes)
    if NOT_DELETED in result.error.message:
        assert isinstance(result.error, errors.ProviderError) and not once
        error_name = "ProviderError"
    else:
        error_name = assert_reported(result, trouble, scene)
    return f"{error_name} {_left_for_reap(scene)}"


def _left_for_reap(scene: Scene) -> str:
    record = record_of(scene)
    assert record.state is ClusterState.TERMINATING, f"{record.state}: {record.reason}"
    assert record.reason
    assert_owned(scene)
    return "held up"


def let_expire(scene: Scene) -> None:
    bring_up(scene)
    scene.clock.advance("3h")


def do_reap(scene: Scene) -> object:
    return reap(scene.session)


def remarks(report: Any) -> list[str]:
    """Return the notes of a report, and what it could not ask or learn."""
    return [*report.notes, *report.coverage.problems(), *getattr(report, "unknown", {}).values()]


def judge_reap(scene: Scene, result: Result, trouble: Trouble, once: bool) -> str:
    assert result.error is None, result.error
    report = result.value
    if report.terminated == [NAME]:
        assert_gone(scene, ClusterState.TERMINATED)
        for remark in remarks(report):
            assert_mentioned(remark, trouble)
        return "ok with a note" if remarks(report) else "ok"
    assert not (once and trouble.passes)
    assert list(report.failed) == [NAME]
    assert_mentioned(report.failed[NAME], trouble)
    return _left_for_reap(scene)


# --- a cluster whose process died -------------------------------------------------------------------------------------


def submit(scene: Scene) -> None:
    Cluster.request(name=NAME, wait=False, **scene.harness.spec)
    assert record_of(scene).state is ClusterState.PROVISIONING


def do_reconcile(scene: Scene) -> object:
    return reconcile(scene.session)


def judge_reconcile(scene: Scene, result: Result, trouble: Trouble, once: bool) -> str:
    assert result.error is None, result.error
    report = result.value
    for remark in remarks(report):
        assert_mentioned(remark, trouble)
    assert report.orphans == []
    if report.adopted == [NAME]:
        assert_complete(scene)
        return "ok with a note" if remarks(report) else "ok"
    assert not (once and trouble.passes)
    if report.terminated == [NAME] and _believed(scene, trouble, ClusterState.FAILED):
        return "ended"
    assert remarks(report)
    assert record_of(scene).state is ClusterState.PROVISIONING
    assert_owned(scene)
    scene.cloud.faults.clear()
    assert reconcile(scene.session).adopted == [NAME]
    assert_complete(scene)
    return "noted"


OPERATIONS: Mapping[str, Operation] = {
    "request": Operation(nothing, request, judge_request),
    "refresh": Operation(bring_up, refresh, judge_refresh),
    "extend": Operation(bring_up, extend, judge_extend),
    "terminate": Operation(bring_up, terminate, judge_terminate),
    "reconcile": Operation(submit, do_reconcile, judge_reconcile),
    "reap": Operation(let_expire, do_reap, judge_reap),
}
