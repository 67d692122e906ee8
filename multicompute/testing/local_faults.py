"""What a fault does to a call of a local cloud, the same in all of them."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from multicompute.clock import Clock
from multicompute.testing.local_server import Cut, Response

if TYPE_CHECKING:
    from multicompute.testing.faults import Fault


def disturbed(
    fault: "Fault", clock: Clock, *, answer: Callable[[], Response], refuse: Callable[["Fault"], Response]
) -> Response | None:
    """The answer to a call that meets `fault`; None breaks the connection.

    Args:
        answer: does what was asked for, and answers.
        refuse: the cloud's own refusal for a fault of the kinds FAIL and THROTTLE.
    """
    if fault.kind == "drop":
        return None
    if fault.kind in ("fail", "throttle"):
        return refuse(fault) if fault.code or fault.kind == "throttle" else _page(fault)
    if fault.kind == "delay":
        clock.sleep(fault.duration)
        return answer()
    answered = answer()
    if fault.kind == "truncate":
        return replace(answered, body=answered.body[: len(answered.body) // 2])
    if fault.kind == "lose_answer":
        return None
    return replace(answered, cut=Cut.RESET if fault.kind == "reset" else Cut.SILENCE)


def _page(fault: "Fault") -> Response:
    """What a proxy or a load balancer says when the service behind it does not."""
    headers = {}
    if fault.retry_after is not None:
        headers["Retry-After"] = str(int(fault.retry_after.total_seconds()))
    text = f"<html><body><h1>{fault.status}</h1></body></html>"
    return Response(fault.status, text.encode(), "text/html", headers)
