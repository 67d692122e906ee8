"""Pieces of the seam's methods that every adapter needs alike."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from multicompute.errors import AccessDeniedError, MulticomputeError, ThrottledError, TransientError, message_of
from multicompute.node import Node, NodeState, Sample
from multicompute.provider import Check, Quota, Quotas, Reservation, Selector, Teardown
from multicompute.provider_kit.vendor_errors import Place, invalid_request, not_rolled_back


def require_selection(selector: Selector, *, provider: str) -> None:
    """Refuse to terminate with a selector that names neither a cluster nor an attempt.

    Raises:
        InvalidRequestError: It would select the resources of every user of the account.
    """
    if selector.cluster_id is None and selector.token is None:
        text = (
            "terminate: the selector names neither a cluster nor an attempt, so it would select every user's resources"
        )
        raise invalid_request(text, code="NoSelection", place=Place(provider), hint="name a cluster")


@contextmanager
def all_or_nothing(place: Place, roll_back: Callable[[], None]) -> Iterator[None]:
    """Roll back a launch if the body of the `with` is refused, because a gang is launched completely or not at all (I4).

    Args:
        place: The place of the launch.
        roll_back: Deletes what the body has launched so far.

    Raises:
        MulticomputeError: The refusal; nothing of the launch exists.
        TransientError: The outcome of a call is not known, or the roll-back failed, so nodes may exist. The engine repeats the launch with
            the same token, which finds them.
    """
    try:
        yield
    except (ThrottledError, TransientError):
        raise
    except MulticomputeError as refusal:
        try:
            roll_back()
        except MulticomputeError as failure:
            raise not_rolled_back(refusal, failure, place=place) from refusal
        raise


def unlisted(selector: Selector, listed: Collection[str]) -> list[str]:
    """Return the ids in `selector.node_ids` that a listing did not show: not listed yet, so not proven to be gone (I4)."""
    return [node_id for node_id in selector.node_ids if node_id not in listed]


def merge_teardowns(steps: Iterable[Teardown]) -> Teardown:
    """Return several regions' or services' steps of one teardown as one step."""
    steps = list(steps)
    remaining = tuple(resource for step in steps for resource in step.remaining)
    waiting_for = "; ".join(step.waiting_for for step in steps if step.waiting_for)
    return Teardown(remaining, waiting_for, "; ".join(step.blocked_by for step in steps if step.blocked_by))


def mark_impaired(nodes: Iterable[Node], reasons: Mapping[str, str]) -> list[Node]:
    """Return `nodes`, with those that run and whose id is in `reasons` marked as IMPAIRED for that reason."""
    return [
        replace(node, state=NodeState.IMPAIRED, reason=reasons[node.id])
        if node.state is NodeState.RUNNING and node.id in reasons
        else node
        for node in nodes
    ]


def sorted_samples(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Return `samples` as `Provider.metrics` promises them, oldest first; those of one instant in a stable order."""
    return tuple(sorted(samples, key=lambda one: (one.at, one.node, one.metric, one.accelerator or 0)))


def read_quotas(
    place: Place,
    *,
    quotas: Callable[[], Iterable[Quota]],
    reservation: Callable[[str], Iterable[Reservation]],
    reservations: Sequence[str],
) -> Quotas:
    """Return the answer of `Provider.quotas`: a part that can't be read becomes a note, not an error.

    Args:
        place: The region.
        quotas: Reads the quotas of the region; those that it yields before an error are kept.
        reservation: Reads one reservation by its id; empty where it is in another region.
        reservations: The ids of the reservations to read.
    """
    notes: list[str] = []
    found: list[Quota] = []
    try:
        for quota in quotas():
            found.append(quota)  # noqa: PERF402 - one by one, so an error loses none of those before it
        if not found:
            notes.append(f"{place}: the cloud reports no quota for accelerators here; quotas are not compared")
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises: the cloud itself refuses what exceeds a quota
        notes.append(f"{place}: quotas could not be read and are not compared: {message_of(error)}")
    held: list[Reservation] = []
    unreadable: list[str] = []
    for reservation_id in reservations:
        try:
            held += reservation(reservation_id)
        except MulticomputeError as error:
            notes.append(f"{place}: reservation {reservation_id} could not be read: {error.message}")
            unreadable += [reservation_id] if isinstance(error, AccessDeniedError) else []
    return Quotas(tuple(found), tuple(held), tuple(notes), tuple(unreadable))


def finding(name: str, call: Callable[[], str]) -> Check:
    """Return a finding of `Provider.check`.

    Args:
        name: What is checked.
        call: Calls the cloud and returns the detail to show; if it raises an error, the check has failed with it.
    """
    try:
        return Check(name, ok=True, detail=call())
    except MulticomputeError as error:
        return Check(name, ok=False, detail=error.message, hint=error.hint or "")


def optional_finding(name: str, call: Callable[[], str], *, otherwise: str) -> Check:
    """Return a finding about a permission that is not needed: without it the check passes, and its detail has the consequence.

    Args:
        name: What is checked.
        call: See `finding`.
        otherwise: The consequence, "not readable, so quotas are not compared".
    """
    found = finding(name, call)
    return found if found.ok else Check(name, ok=True, detail=f"{otherwise}: {found.detail}")
